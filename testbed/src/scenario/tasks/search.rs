//! Looking for a password where it has no business, in all of its forms.

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use zip::ZipArchive;

/// How often all processes are looked at.
const EVERY: Duration = Duration::from_millis(20);
/// Hits that are told one by one, at most.
const SHOWN: usize = 10;

/// A password that is looked for.
#[derive(Debug)]
pub(super) struct Search {
    forms: Vec<String>,
    texts: AtomicU64,
    hits: Mutex<Vec<String>>,
}

impl Search {
    /// Looks for this password, and for the login that a user makes of it.
    pub(super) fn new(user: &str, password: &str) -> Self {
        let percent = utf8_percent_encode(password, NON_ALPHANUMERIC).to_string();
        let json = password.replace('/', "\\/");
        // The last character of unpadded base64 depends on what follows.
        let base64 = |text: &str| {
            let mut encoded = BASE64_STANDARD.encode(text).trim_end_matches('=').to_owned();
            encoded.pop();
            encoded
        };
        let login = base64(&format!("{user}:{password}"));
        let forms = vec![password.to_owned(), json, percent.to_lowercase(), percent, base64(password), login];
        Self { forms, texts: AtomicU64::new(0), hits: Mutex::default() }
    }

    /// Whether it is in there.
    pub(super) fn is_in(&self, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        self.forms.iter().any(|form| text.contains(form))
    }

    /// Looks at something in which it must not be.
    pub(super) fn look(&self, what: &str, bytes: &[u8]) {
        self.texts.fetch_add(1, Ordering::Relaxed);
        if self.is_in(bytes) {
            let text = String::from_utf8_lossy(bytes);
            let line = text.lines().find(|line| self.forms.iter().any(|form| line.contains(form))).unwrap_or_default();
            let line: String = line.chars().take(300).collect();
            self.hits.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{what}: {line}"));
        }
    }

    /// The same of a workbook, and of all of its parts.
    pub(super) fn look_into(&self, what: &str, bytes: &[u8]) -> anyhow::Result<()> {
        self.look(what, bytes);
        let mut archive = ZipArchive::new(Cursor::new(bytes)).with_context(|| format!("{what} is no workbook"))?;
        for place in 0..archive.len() {
            let mut part = Vec::new();
            std::io::copy(&mut archive.by_index(place)?, &mut part)?;
            self.look(what, &part);
        }
        Ok(())
    }

    /// How many texts were looked at.
    pub(super) fn texts(&self) -> u64 {
        self.texts.load(Ordering::Relaxed)
    }

    /// What was found: how often, and the first of it.
    pub(super) fn hits(&self) -> (usize, Vec<String>) {
        let hits = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        (hits.len(), hits.iter().take(SHOWN).cloned().collect())
    }

    /// Looks at all files below a directory; how many of them hold it where they may, which are those below `allowed`.
    pub(super) fn files(&self, dir: &Path, allowed: &[&Path]) -> anyhow::Result<usize> {
        let (mut dirs, mut there) = (vec![dir.to_owned()], 0);
        while let Some(inside) = dirs.pop() {
            for entry in fs::read_dir(&inside).with_context(|| format!("cannot look into {}", inside.display()))? {
                let path = entry?.path();
                if path.is_dir() {
                    dirs.push(path);
                    continue;
                }
                // The journal's own files come and go.
                let Ok(bytes) = fs::read(&path) else { continue };
                match allowed.iter().any(|allowed| path.starts_with(allowed)) {
                    true => there += usize::from(self.is_in(&bytes)),
                    false => self.look(&path.display().to_string(), &bytes),
                }
            }
        }
        Ok(there)
    }
}

/// Looks at the arguments and the environment of every process of this machine, again and again.
#[derive(Debug)]
pub(super) struct Watch {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<BTreeSet<String>>>,
}

impl Watch {
    /// Begins to look.
    pub(super) fn start(search: Arc<Search>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let told = over.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !told.load(Ordering::Relaxed) {
                seen.extend(look_at_all(&search));
                std::thread::sleep(EVERY);
            }
            seen
        });
        Self { over, thread: Some(thread) }
    }

    /// Ends it: the programs of framehaul's that were seen, each with its first argument, and `--lease` where that is next.
    pub(super) fn end(mut self) -> BTreeSet<String> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn look_at_all(search: &Search) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // One that has ended meanwhile has neither.
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let arguments = read("cmdline");
        search.look(&format!("the arguments of process {pid}"), &arguments);
        search.look(&format!("the environment of process {pid}"), &read("environ"));
        let mut words = arguments.split(|byte| *byte == 0).map(String::from_utf8_lossy);
        let program = words.next().unwrap_or_default();
        let program = program.rsplit('/').next().unwrap_or_default();
        if program.starts_with("framehaul") {
            let said = [words.next(), words.next().filter(|word| word == "--lease")];
            let said: String = said.into_iter().flatten().map(|word| format!(" {word}")).collect();
            seen.insert(format!("{program}{said}").trim().to_owned());
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_in_each_of_its_forms_and_told_where() {
        let search = Search::new("admin", "p%40:/#w");
        let login = BASE64_STANDARD.encode("admin:p%40:/#w");
        for text in ["a p%40:/#w b", "p%40:\\/#w", "p%2540%3A%2F%23w", "p%2540%3a%2f%23w", &login] {
            assert!(search.is_in(text.as_bytes()), "{text}");
        }
        search.look("here", b"nothing");
        search.look("there", b"a line\nwith p%40:/#w in it\n");
        assert_eq!((search.texts(), search.hits()), (2, (1, vec!["there: with p%40:/#w in it".to_owned()])));
    }
}
