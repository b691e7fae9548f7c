//! What lies in the bucket, and what the journal had committed when the daemon was killed.

use std::path::Path;

use anyhow::{Context as _, ensure};
use framehaul::manifest;
use rusqlite::Connection;
use serde_json::Value;
use testbed::gcs::GcsServer;

use crate::reader;

pub const BUCKET: &str = "frames";

/// The keys of a camera's manifests, in order: they must be whole, hold what their keys say, and follow on one another.
pub fn manifests(gcs: &GcsServer, camera: &str) -> anyhow::Result<Vec<String>> {
    let prefix = format!("_manifest/{camera}/");
    let (mut names, mut next) = (Vec::new(), 1);
    for object in gcs.objects(BUCKET) {
        let Some(rest) = object.name.strip_prefix(&prefix) else { continue };
        let (origin, file) = rest.split_once('/').context("there is no origin in it")?;
        let content = gcs.read(BUCKET, &object.name)?;
        let manifest = manifest::read(&content).with_context(|| object.name.clone())?;
        let header = &manifest.header;
        ensure!(header.camera.as_str() == camera && header.origin.as_str() == origin, "{} is of another", object.name);
        ensure!(manifest::parse_file_name(file) == Some(header.seqs), "{} holds {:?}", object.name, header.seqs);
        ensure!(header.seqs.first == next, "{} begins with {}, {next} is next", object.name, header.seqs.first);
        ensure!(object.content_type == "application/x-ndjson", "{} is {}", object.name, object.content_type);
        next = header.seqs.last + 1;
        names.push(object.name);
    }
    Ok(names)
}

/// What the reader finds of a camera in a copy of the bucket that holds its manifests and nothing else.
pub fn read(gcs: &GcsServer, camera: &str) -> anyhow::Result<Vec<Value>> {
    let copy = tempfile::tempdir()?;
    let mut origin = None;
    for object in gcs.objects(BUCKET) {
        let Some(rest) = object.name.strip_prefix(&format!("_manifest/{camera}/")) else { continue };
        origin = rest.split_once('/').map(|(origin, _)| origin.to_owned());
        let path = copy.path().join(&object.name);
        std::fs::create_dir_all(path.parent().context("a key has parts")?)?;
        std::fs::write(path, gcs.read(BUCKET, &object.name)?)?;
    }
    let origin = origin.with_context(|| format!("camera {camera} has no manifest"))?;
    reader::in_directory(copy.path(), camera, &origin)
}

/// A manifest that was committed and not confirmed.
pub struct Committed {
    pub key: String,
    pub content: Vec<u8>,
}

/// Those that a daemon that has ended has left, read from a copy: the next start is to find what it has left.
pub fn committed(state: &Path) -> anyhow::Result<Vec<Committed>> {
    let copy = tempfile::tempdir()?;
    for file in ["journal.sqlite", "journal.sqlite-wal"] {
        if state.join(file).exists() {
            std::fs::copy(state.join(file), copy.path().join(file))?;
        }
    }
    let journal = Connection::open(copy.path().join("journal.sqlite"))?;
    let mut statement = journal.prepare(
        "SELECT '_manifest/' || id || '/' || value || printf('/%012d-%012d.ndjson', first, last), content
         FROM manifest_pending JOIN camera ON camera.num = manifest_pending.camera, meta WHERE meta.key = 'origin'",
    )?;
    let rows = statement.query_map([], |row| Ok(Committed { key: row.get(0)?, content: row.get(1)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
