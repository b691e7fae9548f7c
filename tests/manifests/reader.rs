//! The reader of `docs/manifest.md`, run by Python as it stands there.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::Value;

const PAGE: &str = include_str!("../../docs/manifest.md");

/// The page's programs: the reader, and how it is used on a directory.
fn blocks() -> anyhow::Result<(&'static str, &'static str)> {
    let mut blocks =
        PAGE.split("```python\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(block, _)| block);
    Ok((blocks.next().context("there is no reader")?, blocks.next().context("there is no use of it")?))
}

/// What it finds of a camera in a directory that holds a bucket, or the manifests of one.
pub fn in_directory(bucket: &Path, camera: &str, origin: &str) -> anyhow::Result<Vec<Value>> {
    let (reader, used) = blocks()?;
    let program = format!("{reader}\n{used}");
    let python = Command::new("/usr/bin/python3")
        .args(["-c", &program])
        .arg(bucket)
        .args([camera, origin])
        .output()
        .context("cannot run python3")?;
    ensure!(python.status.success(), "the reader fails: {}", String::from_utf8_lossy(&python.stderr));
    let said = String::from_utf8(python.stdout)?;
    said.lines().map(|line| serde_json::from_str(line).context("it prints no JSON")).collect()
}

#[test]
fn the_reader_is_short() {
    let (reader, _) = blocks().unwrap();
    let lines = reader.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 20, "{lines} lines");
}
