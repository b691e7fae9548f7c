//! Whether the bucket holds what the recorders have recorded: all of it, once, byte for byte.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use anyhow::Context as _;
use md5::{Digest as _, Md5};

use super::recorders::Recorders;

/// Faults that are told one by one, at most.
const SHOWN: usize = 10;

/// What is in the bucket.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Recordings that are as the recorder has them.
    pub(super) files: u64,
    /// Their sizes together.
    pub(super) bytes: u64,
    /// Files with the content of another one of the same recorder.
    pub(super) duplicates: u64,
    /// Recordings that are missing or differ, and files that are none.
    pub(super) mismatched: u64,
    /// What is wrong, in words.
    pub(super) faults: Vec<String>,
}

/// Compares what lies there with the recorders.
pub(super) fn of(dir: &Path, recorders: &Recorders) -> anyhow::Result<Verdict> {
    let mut wanted = BTreeMap::new();
    for recorder in &recorders.all {
        for recording in recorder.server.recordings() {
            let bytes = recorder.server.read(recording.track, &recording.name)?;
            wanted.insert(recorder.path(&recording)?, bytes);
        }
    }
    let mut found = BTreeMap::new();
    below(dir, "", &mut found)?;
    // Lists of what was exported lie there too.
    found.retain(|path, _| !path.split('/').any(|name| name == "_export"));
    Ok(compare(&wanted, &found))
}

fn compare(wanted: &BTreeMap<String, Vec<u8>>, found: &BTreeMap<String, Vec<u8>>) -> Verdict {
    let mut verdict = Verdict::default();
    let mut contents = HashSet::new();
    for (path, bytes) in found {
        // Cameras of two recorders may well show the same.
        let recorder = path.split('/').next().unwrap_or_default();
        if !contents.insert((recorder, Md5::digest(bytes))) {
            verdict.duplicates += 1;
            verdict.faults.push(format!("{path} is there under another name as well"));
        }
        match wanted.get(path) {
            Some(recorded) if recorded == bytes => {
                verdict.files += 1;
                verdict.bytes += bytes.len() as u64;
            }
            Some(recorded) => {
                let (has, should) = (bytes.len(), recorded.len());
                verdict.wrong(format!("{path} has {has} bytes and is not the recorder's of {should}"));
            }
            None => verdict.wrong(format!("{path} is no recording of any recorder")),
        }
    }
    for path in wanted.keys().filter(|path| !found.contains_key(*path)) {
        verdict.wrong(format!("{path} is missing"));
    }
    if verdict.faults.len() > SHOWN {
        let more = verdict.faults.split_off(SHOWN).len();
        verdict.faults.push(format!("and {more} more"));
    }
    verdict
}

impl Verdict {
    fn wrong(&mut self, fault: String) {
        self.mismatched += 1;
        self.faults.push(fault);
    }
}

/// All files, by their paths.
fn below(dir: &Path, inside: &str, files: &mut BTreeMap<String, Vec<u8>>) -> anyhow::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("cannot look into {}", dir.display()))?,
    };
    for entry in entries {
        let entry = entry?;
        let name = format!("{inside}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            below(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.insert(name, fs::read(entry.path())?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_other_foreign_or_there_twice_is_told() {
        let files = |list: &[(&str, &str)]| -> BTreeMap<String, Vec<u8>> {
            list.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.as_bytes().to_vec())).collect()
        };
        let wanted = files(&[("a/1", "one"), ("a/2", "two"), ("b/1", "one")]);
        let good = compare(&wanted, &wanted);
        assert_eq!((good.files, good.bytes, good.duplicates, good.mismatched), (3, 9, 0, 0));
        assert!(good.faults.is_empty());
        let bad = compare(&wanted, &files(&[("a/1", "one"), ("a/2", "twe"), ("a/3", "one")]));
        assert_eq!((bad.files, bad.bytes, bad.duplicates, bad.mismatched), (1, 3, 1, 3));
        assert_eq!(bad.faults.len(), 4);
    }
}
