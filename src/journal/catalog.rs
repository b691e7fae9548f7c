//! Changes of the catalog: what is asked of cameras and recorders, and the logins that were refused.

use std::collections::HashMap;

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::secrets::SecretsFile;
use super::{JournalError, batches, nvrs};
use crate::model::{
    Batch, CameraId, CameraSpec, FORGET_REFUSAL_AFTER, Login, ManagedBy, NvrId, NvrSpec, Refusal, UnixMicros,
};

/// Cameras and recorders to add, change and remove, all or none.
#[derive(Clone, Debug, Default)]
pub struct CatalogChange {
    /// Added or changed.
    pub puts: Vec<(CameraId, CameraSpec, ManagedBy)>,
    /// Those of them that are new batches.
    pub batches: Vec<(CameraId, Batch)>,
    /// Those of them that are channels of recorders.
    pub channels: Vec<(CameraId, (NvrId, u32))>,
    /// Removed; their frames, next seqs and next sessions stay.
    pub deletes: Vec<CameraId>,
    /// Recorders added or changed; without a spec, removed.
    pub nvrs: Vec<(NvrId, Option<NvrSpec>)>,
}

impl CatalogChange {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.deletes.is_empty() && self.nvrs.is_empty()
    }
}

/// What a change needs once it is committed: the revisions of the cameras that were put, in their order, and behind them
/// those of the recorders.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub revisions: Vec<u64>,
    /// Each owner of a password whose earlier revisions are to be forgotten, and which revision stays.
    pub settled: Vec<(String, u64)>,
}

/// Writes a change into the transaction. Its passwords lie in their file, under the new revisions, before it is
/// committed: a crash in between leaves the old revision with its old password.
///
/// # Errors
///
/// The outer one when the database fails; the inner one when the file of passwords does, and then nothing has changed.
pub(super) fn apply(
    transaction: &Transaction<'_>,
    nums: &mut HashMap<CameraId, i64>,
    secrets: &mut SecretsFile,
    change: &CatalogChange,
) -> Result<Result<Applied, JournalError>, JournalError> {
    let mut applied = Applied::default();
    let revision_of = |camera: &CameraId| -> rusqlite::Result<u64> {
        let found: Option<i64> = transaction
            .query_row("SELECT revision FROM camera WHERE id = ?1", [camera.as_str()], |row| row.get(0))
            .optional()?;
        Ok(found.unwrap_or_default() as u64)
    };
    let mut passwords = Vec::new();
    for (camera, spec, _) in &change.puts {
        let revision = revision_of(camera)? + 1;
        applied.revisions.push(revision);
        applied.settled.push((camera.to_string(), revision));
        if let Some(password) = &spec.password {
            passwords.push((camera.to_string(), revision, password));
        }
    }
    for (nvr, spec) in &change.nvrs {
        let revision = nvrs::next_revision(transaction, nvr)?;
        applied.revisions.push(revision);
        applied.settled.push((nvrs::owner(nvr), revision));
        if let Some(password) = spec.as_ref().and_then(|spec| spec.password.as_ref()) {
            passwords.push((nvrs::owner(nvr), revision, password));
        }
    }
    if let Err(error) = secrets.add(&passwords) {
        return Ok(Err(error));
    }
    for ((camera, spec, managed_by), revision) in change.puts.iter().zip(&applied.revisions) {
        let json = serde_json::to_string(spec).expect("a spec is plain data");
        let num = transaction.query_row(
            "INSERT INTO camera (id, spec, revision, managed_by) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (id) DO UPDATE SET spec = excluded.spec, revision = excluded.revision,
                 managed_by = excluded.managed_by, paused = CASE WHEN camera.spec IS NULL THEN 0 ELSE camera.paused END
             RETURNING num",
            params![camera.as_str(), json, *revision as i64, managed_by.as_str()],
            |row| row.get(0),
        )?;
        nums.insert(camera.clone(), num);
        if let Some((_, batch)) = change.batches.iter().find(|(batch, _)| batch == camera) {
            batches::add(transaction, num, batch)?;
        }
        let channel = change.channels.iter().find(|(of, _)| of == camera).map(|(_, channel)| channel);
        nvrs::belongs(transaction, num, channel)?;
    }
    for ((nvr, spec), revision) in change.nvrs.iter().zip(&applied.revisions[change.puts.len()..]) {
        nvrs::put(transaction, nvr, spec.as_ref(), *revision)?;
    }
    for camera in &change.deletes {
        let revision = revision_of(camera)? + 1;
        transaction.execute(
            "UPDATE camera SET spec = NULL, revision = ?2, paused = 0 WHERE id = ?1",
            params![camera.as_str(), revision as i64],
        )?;
        batches::remove(transaction, camera)?;
        nvrs::leaves(transaction, camera)?;
        applied.settled.push((camera.to_string(), revision));
    }
    Ok(Ok(applied))
}

/// Writes down whether a camera is paused.
pub(super) fn set_paused(transaction: &Transaction<'_>, camera: &CameraId, paused: bool) -> Result<(), JournalError> {
    transaction.execute("UPDATE camera SET paused = ?2 WHERE id = ?1", params![camera.as_str(), paused])?;
    Ok(())
}

/// Remembers a refused login, and forgets those of long ago.
pub(super) fn login_refused(transaction: &Transaction<'_>, refusal: &Refusal) -> Result<(), JournalError> {
    let Refusal { login, credentials, at } = refusal;
    transaction.execute("DELETE FROM login WHERE refused_at < ?1", [at.before(FORGET_REFUSAL_AFTER).0])?;
    transaction.execute(
        "INSERT INTO login (host, port, user, credentials, refused_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![login.host, login.port, login.user, credentials, at.0],
    )?;
    Ok(())
}

/// Forgets the refusals of credentials that were accepted.
pub(super) fn login_accepted(
    transaction: &Transaction<'_>,
    login: &Login,
    credentials: &str,
) -> Result<(), JournalError> {
    transaction.execute(
        "DELETE FROM login WHERE host = ?1 AND port = ?2 AND user = ?3 AND credentials = ?4",
        params![login.host, login.port, login.user, credentials],
    )?;
    Ok(())
}

/// The refusals since `after`, oldest first; older ones are forgotten for good.
pub(super) fn refusals(transaction: &Transaction<'_>, after: UnixMicros) -> Result<Vec<Refusal>, JournalError> {
    transaction.execute("DELETE FROM login WHERE refused_at < ?1", [after.0])?;
    let mut statement =
        transaction.prepare("SELECT host, port, user, credentials, refused_at FROM login ORDER BY refused_at")?;
    let rows = statement.query_map([], |row| {
        let login = Login { host: row.get(0)?, port: row.get(1)?, user: row.get(2)? };
        Ok(Refusal { login, credentials: row.get(3)?, at: UnixMicros(row.get(4)?) })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
