//! Batches as the journal keeps them: beside the row of the camera that each of them is.

use std::time::Duration;

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::JournalError;
use crate::model::{Batch, BatchEnd, CameraId, Ended, UnixMicros};

/// Times in microseconds; `begins_at` is one of a file's own. `how` is NULL for a batch whose capture goes on.
pub(super) const TABLES: &str = "
CREATE TABLE batch (
    camera          INTEGER PRIMARY KEY,
    frames          INTEGER NOT NULL,
    begins_at       INTEGER NOT NULL,
    give_up_after   INTEGER NOT NULL,
    created         INTEGER NOT NULL,
    ended           INTEGER,
    how             TEXT,
    message         TEXT
) STRICT;
";

/// Writes down a new batch.
pub(super) fn add(transaction: &Transaction<'_>, num: i64, batch: &Batch) -> Result<(), JournalError> {
    transaction.execute(
        "INSERT INTO batch (camera, frames, begins_at, give_up_after, created) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![num, batch.frames as i64, micros(batch.from), micros(batch.give_up_after), batch.created.0],
    )?;
    Ok(())
}

/// Writes down how the capture of a batch has ended, and returns the camera's revision from there on: its password is one
/// of the revision before, which nobody needs any more. The first end counts.
pub(super) fn end(transaction: &Transaction<'_>, num: i64, end: &BatchEnd) -> Result<u64, JournalError> {
    let ended = transaction.execute(
        "UPDATE batch SET ended = ?2, how = ?3, message = ?4 WHERE camera = ?1 AND how IS NULL",
        params![num, end.at.0, end.how.as_str(), end.message],
    )?;
    let revision: i64 = transaction.query_row(
        "UPDATE camera SET revision = revision + ?2 WHERE num = ?1 RETURNING revision",
        [num, ended as i64],
        |row| row.get(0),
    )?;
    Ok(revision as u64)
}

/// Forgets that a camera was a batch.
pub(super) fn remove(transaction: &Transaction<'_>, camera: &CameraId) -> Result<(), JournalError> {
    let num = "SELECT num FROM camera WHERE id = ?1";
    transaction.execute(&format!("DELETE FROM batch WHERE camera = ({num})"), [camera.as_str()])?;
    Ok(())
}

/// The batch that a camera is, if it is one.
pub(super) fn read(transaction: &Transaction<'_>, num: i64) -> Result<Option<Batch>, JournalError> {
    let found = transaction
        .prepare_cached(
            "SELECT frames, begins_at, give_up_after, created, ended, how, message FROM batch WHERE camera = ?1",
        )?
        .query_row([num], |row| {
            let span = |index| row.get::<_, i64>(index).map(|micros| Duration::from_micros(micros as u64));
            let how = row.get::<_, Option<String>>(5)?;
            let end = match how {
                None => None,
                Some(word) => Some(BatchEnd {
                    at: UnixMicros(row.get(4)?),
                    how: Ended::parse(&word).ok_or_else(|| unknown(&word))?,
                    message: row.get(6)?,
                }),
            };
            Ok(Batch {
                frames: row.get::<_, i64>(0)? as u64,
                from: span(1)?,
                give_up_after: span(2)?,
                created: UnixMicros(row.get(3)?),
                end,
            })
        })
        .optional()?;
    Ok(found)
}

fn unknown(word: &str) -> rusqlite::Error {
    let detail = format!("`{}` is no end of a batch this program knows", word.escape_debug());
    rusqlite::Error::FromSqlConversionFailure(5, rusqlite::types::Type::Text, detail.into())
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
