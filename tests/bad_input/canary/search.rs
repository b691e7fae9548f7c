//! Looking for the password, in all its forms.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::process::Output;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use testbed::daemon::Daemon;

use super::{CANARY, TRIER};
use crate::vocabulary::{Answer, USER, children_of, files_below};

/// What a test has looked at, and what it has found. Each test has a thread of its own.
#[derive(Default)]
struct Tally {
    texts: u64,
    bytes: u64,
    hits: Vec<String>,
}

thread_local! {
    static TALLY: RefCell<Tally> = RefCell::default();
}

/// Runs a test that searches, and asserts that it found nothing. Prints its figure and what was looked at, on a line
/// that the acceptance picks up.
pub fn finds_nothing(test: impl FnOnce() -> anyhow::Result<Value>) -> anyhow::Result<()> {
    let mut figure = test()?;
    let Tally { texts, bytes, hits } = TALLY.take();
    figure["searched"] = json!({ "texts": texts, "bytes": bytes });
    figure["hits"] = json!(hits.len());
    // Its beginning may find the name of the test on its line.
    println!("\nfigure: {figure}");
    ensure!(texts > 0, "nothing was searched");
    ensure!(hits.is_empty(), "the password shows:\n{}", hits.join("\n"));
    Ok(())
}

/// How the canary would look in a text, whatever has encoded it. The short forms are in all percent-encodings of it.
fn canary_forms() -> Vec<String> {
    let unpadded = |text: &str| BASE64_STANDARD.encode(text).trim_end_matches('=').to_owned();
    let mut forms = vec![
        CANARY.to_owned(),
        "p%40".to_owned(),
        "p@:/#w".to_owned(),
        "p%2540".to_owned(),
        "p%2540%3A%2F%23w".to_owned(),
        "p%2540%3a%2f%23w".to_owned(),
    ];
    // The last character of unpadded base64 depends on what follows.
    for text in [CANARY.to_owned(), format!("{USER}:{CANARY}"), format!("{TRIER}:{CANARY}")] {
        let mut encoded = unpadded(&text);
        encoded.pop();
        forms.push(encoded);
    }
    forms
}

/// The first form of the canary in these bytes.
fn find_canary(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    canary_forms().into_iter().find(|form| text.contains(form))
}

/// Looks for the password in this; what is found is told by [`finds_nothing`].
pub fn search(what: &str, bytes: &[u8]) {
    let hit = find_canary(bytes).map(|form| {
        let text = String::from_utf8_lossy(bytes);
        let line = text.lines().find(|line| line.contains(&form)).unwrap_or_default();
        format!("{what} holds it as `{form}`: {line}")
    });
    if let Some(hit) = &hit {
        // At once as well: the test may come to another end.
        eprintln!("{hit}");
    }
    TALLY.with_borrow_mut(|tally| {
        tally.texts += 1;
        tally.bytes += bytes.len() as u64;
        tally.hits.extend(hit);
    });
}

pub fn search_answer(what: &str, answer: &Answer) {
    search(&format!("the answer's head to {what}"), answer.head.as_bytes());
    search(&format!("the answer to {what}"), answer.body.as_bytes());
}

/// All files below a directory, but for `secrets`, where the password has to be.
pub fn search_files(dir: &Path, secrets: Option<&Path>) -> anyhow::Result<()> {
    for path in files_below(dir)? {
        // The journal's own files come and go.
        let Ok(bytes) = fs::read(&path) else { continue };
        if secrets.is_some_and(|secrets| path == secrets) {
            assert_eq!(find_canary(&bytes).as_deref(), Some(CANARY), "the search finds nothing at all");
        } else {
            search(&path.display().to_string(), &bytes);
        }
    }
    Ok(())
}

/// The output of a command that has something to say.
#[track_caller]
pub fn search_output(what: &str, output: &Output) {
    assert!(!output.stderr.is_empty() || output.status.success(), "{what}: nothing said");
    search(&format!("what is printed for {what}"), &output.stdout);
    search(&format!("what is said for {what}"), &output.stderr);
}

/// The daemon's processes and those that it has started.
pub fn search_processes(daemon: &Daemon) -> anyhow::Result<()> {
    let captures = children_of(daemon.pid())?;
    assert!(captures.contains(&daemon.status("good")?.pid.context("no capture process")?), "{captures:?}");
    assert!(!fs::read(format!("/proc/{}/environ", daemon.pid()))?.is_empty());
    for pid in captures.iter().chain([&daemon.pid()]) {
        search_process(*pid);
    }
    Ok(())
}

pub fn search_process(pid: u32) {
    for file in ["cmdline", "environ"] {
        // A camera that backs off has no process any more.
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        search(&format!("{file} of process {pid}"), &bytes);
    }
}
