//! Recorders as the journal keeps them: what is asked of each, and which cameras are its channels.

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::JournalError;
use super::secrets::SecretsFile;
use crate::model::{CameraId, NvrId, NvrSpec, RawNvrSpec};

/// `spec` is NULL for a deleted recorder, whose row stays so that its revision is never given twice. A camera has a row in
/// `nvr_camera` for as long as it is a channel.
pub(super) const TABLES: &str = "
CREATE TABLE nvr (
    id              TEXT PRIMARY KEY,
    spec            TEXT,
    revision        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE nvr_camera (
    camera          INTEGER PRIMARY KEY,
    nvr             TEXT NOT NULL,
    channel         INTEGER NOT NULL
) STRICT;
";

/// A recorder as the journal knows it.
#[derive(Debug)]
pub struct KnownNvr {
    /// Which.
    pub id: NvrId,
    /// What is asked of it; `None` for a deleted one.
    pub spec: Option<NvrSpec>,
    /// Why what is asked of it cannot be used, where it stands in the catalog and this program does not take it.
    pub unusable: Option<String>,
    /// Counts the changes of its spec.
    pub revision: u64,
}

/// Under what name its password lies in the file: no camera has a slash in its id.
pub(super) fn owner(nvr: &NvrId) -> String {
    format!("nvr/{nvr}")
}

/// The revision that the next change makes.
pub(super) fn next_revision(transaction: &Transaction<'_>, nvr: &NvrId) -> Result<u64, JournalError> {
    let found: Option<i64> =
        transaction.query_row("SELECT revision FROM nvr WHERE id = ?1", [nvr.as_str()], |row| row.get(0)).optional()?;
    Ok(found.unwrap_or_default() as u64 + 1)
}

/// Writes down what is asked of a recorder; nothing for one that is to be forgotten.
pub(super) fn put(
    transaction: &Transaction<'_>,
    nvr: &NvrId,
    spec: Option<&NvrSpec>,
    revision: u64,
) -> Result<(), JournalError> {
    let json = spec.map(|spec| serde_json::to_string(spec).expect("a spec is plain data"));
    transaction.execute(
        "INSERT INTO nvr (id, spec, revision) VALUES (?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET spec = excluded.spec, revision = excluded.revision",
        params![nvr.as_str(), json, revision as i64],
    )?;
    Ok(())
}

/// Writes down which channel a camera is, or that it is none.
pub(super) fn belongs(
    transaction: &Transaction<'_>,
    num: i64,
    channel: Option<&(NvrId, u32)>,
) -> Result<(), JournalError> {
    match channel {
        Some((nvr, channel)) => transaction.execute(
            "INSERT OR REPLACE INTO nvr_camera (camera, nvr, channel) VALUES (?1, ?2, ?3)",
            params![num, nvr.as_str(), channel],
        )?,
        None => transaction.execute("DELETE FROM nvr_camera WHERE camera = ?1", [num])?,
    };
    Ok(())
}

/// The same for a camera that is removed.
pub(super) fn leaves(transaction: &Transaction<'_>, camera: &CameraId) -> Result<(), JournalError> {
    let num = "SELECT num FROM camera WHERE id = ?1";
    transaction.execute(&format!("DELETE FROM nvr_camera WHERE camera = ({num})"), [camera.as_str()])?;
    Ok(())
}

/// The channel that a camera is, if it is one.
pub(super) fn channel(transaction: &Transaction<'_>, num: i64) -> Result<Option<(NvrId, u32)>, JournalError> {
    let found: Option<(String, u32)> = transaction
        .prepare_cached("SELECT nvr, channel FROM nvr_camera WHERE camera = ?1")?
        .query_row([num], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.and_then(|(nvr, channel)| Some((nvr.parse().ok()?, channel))))
}

/// Every recorder that was ever asked for, with the passwords of the others.
pub(super) fn read(transaction: &Transaction<'_>, secrets: &SecretsFile) -> Result<Vec<KnownNvr>, JournalError> {
    let mut statement = transaction.prepare("SELECT id, spec, revision FROM nvr ORDER BY id")?;
    let rows = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?, row.get::<_, i64>(2)?)))?;
    let mut nvrs = Vec::new();
    for row in rows {
        let (id, json, revision) = row?;
        // An id that no version could have written names nobody.
        let Ok(id) = id.parse::<NvrId>() else { continue };
        let revision = revision as u64;
        let password = secrets.get(&owner(&id), revision).cloned();
        let read = json.map(|json| read_spec(&json)).transpose();
        let (spec, unusable) = match read {
            Ok(spec) => (spec.map(|spec| NvrSpec { password, ..spec }), None),
            Err(why) => (None, Some(why)),
        };
        nvrs.push(KnownNvr { id, spec, unusable, revision });
    }
    Ok(nvrs)
}

fn read_spec(json: &str) -> Result<NvrSpec, String> {
    let raw: RawNvrSpec = serde_json::from_str(json).map_err(|error| error.to_string())?;
    raw.validate(None)
        .map_err(|problems| problems.iter().map(|p| format!("{} {}", p.field, p.detail)).collect::<Vec<_>>().join("; "))
}
