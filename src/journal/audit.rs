//! What a check of the bucket asks the journal. It only reads, and no transaction lasts longer than a page: a daemon may
//! be writing.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Entry, ReadError, Reader};
use crate::model::{CameraId, Cursor, KeyTemplate, Outcome, Seq, SeqRange, UnixMicros};

/// How far a camera's list goes at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Whose list.
    pub camera: CameraId,
    /// Everything up to here had its outcome. The journal hears of the watermark now and then only, so it may have been
    /// further; what is in a manifest had its outcome, too.
    pub watermark: Seq,
    /// The last seq that retention has removed.
    pub pruned_to: Seq,
    /// The last seq that has an outcome.
    pub head: Seq,
}

/// A manifest that is in the bucket, as the journal has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ManifestRow {
    /// Which part of the list it holds.
    pub seqs: SeqRange,
    /// Its length.
    pub bytes: u64,
    /// CRC32C of its bytes.
    pub crc32c: u32,
    /// The name of the destination that it was put to.
    pub destination: String,
    /// What stood before its key in its URL then; `None` where that was not written down.
    pub base_url: Option<String>,
}

/// Between which seqs a camera's list is, at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// The last seq that retention has removed.
    pub pruned_to: Seq,
    /// No seq from here on was given, as far as the journal was told. The spool tells it once a second.
    pub reserved_until: Seq,
}

/// How far apart the time of a frame's capture and that of its manifest may be the wrong way round: a session goes by the
/// clock as it was at its start.
const APART: Duration = Duration::from_secs(3_600);

/// What is read of each camera, all of it in one statement and so of one moment.
const MARKS: &str = "
SELECT id, pruned_to,
    max(watermark, pruned_to,
        coalesce((SELECT max(last) FROM manifest WHERE manifest.camera = camera.num), 0),
        coalesce((SELECT last FROM manifest_pending WHERE manifest_pending.camera = camera.num), 0)),
    coalesce((SELECT last FROM frame WHERE frame.camera = camera.num ORDER BY seq DESC LIMIT 1), 0)
FROM camera ORDER BY id";

impl Reader {
    /// How far the lists of all cameras go, also of deleted ones.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn marks(&self) -> Result<Vec<Mark>, ReadError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(MARKS)?;
            let mut rows = statement.query([])?;
            let mut marks = Vec::new();
            while let Some(row) = rows.next()? {
                let id: String = row.get(0)?;
                let camera = id.parse().map_err(|_| {
                    let detail = format!("camera `{}` has an impossible id", id.escape_debug());
                    self.corrupt(detail)
                })?;
                let seq = |column| row.get::<_, i64>(column).map(|seq| seq as Seq);
                let (pruned_to, watermark, head) = (seq(1)?, seq(2)?, seq(3)?);
                marks.push(Mark { camera, watermark, pruned_to, head: head.max(pruned_to) });
            }
            Ok(marks)
        })
    }

    /// A camera's manifests that are stored, in order, at most `limit` of those that begin after the seq `after` and do not
    /// end before `from`.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn stored_manifests(
        &self,
        camera: &CameraId,
        after: Seq,
        from: Seq,
        limit: usize,
    ) -> Result<Vec<ManifestRow>, ReadError> {
        let seq = |seq: Seq| i64::try_from(seq).unwrap_or(i64::MAX);
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT first, last, bytes, crc32c, destination, url FROM manifest LEFT JOIN destination ON num = place
                 WHERE camera = (SELECT num FROM camera WHERE id = ?1) AND first > ?2 AND last >= ?3
                 ORDER BY first LIMIT ?4",
            )?;
            let rows = statement.query_map(params![camera.as_str(), seq(after), seq(from), limit as i64], |row| {
                Ok(ManifestRow {
                    seqs: SeqRange { first: row.get::<_, i64>(0)? as Seq, last: row.get::<_, i64>(1)? as Seq },
                    bytes: row.get::<_, i64>(2)? as u64,
                    crc32c: row.get(3)?,
                    destination: row.get(4)?,
                    base_url: row.get(5)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// The seqs of a camera's last stored manifest that holds any of these.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn stored_over(&self, camera: &CameraId, seqs: SeqRange) -> Result<Option<SeqRange>, ReadError> {
        self.with(|connection| {
            let found = connection
                .prepare_cached(
                    "SELECT first, last FROM manifest WHERE camera = (SELECT num FROM camera WHERE id = ?1)
                     AND first <= ?2 ORDER BY first DESC LIMIT 1",
                )?
                .query_row(params![camera.as_str(), seqs.last as i64], |row| {
                    Ok(SeqRange { first: row.get::<_, i64>(0)? as Seq, last: row.get::<_, i64>(1)? as Seq })
                })
                .optional()?;
            Ok(found.filter(|found| found.last >= seqs.first))
        })
    }

    /// The templates by which keys were ever made, as far as they are written down.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn key_templates(&self) -> Result<Vec<KeyTemplate>, ReadError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT value FROM meta WHERE key GLOB 'template *'")?;
            let texts = statement.query_map([], |row| row.get::<_, String>(0))?;
            let texts = texts.collect::<Result<Vec<_>, _>>()?;
            // What is no template of ours made none of our keys.
            Ok(texts.iter().filter_map(|text| KeyTemplate::parse(text).ok()).collect())
        })
    }

    /// Between which seqs a camera's list is now.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn bounds(&self, camera: &CameraId) -> Result<Bounds, ReadError> {
        self.with(|connection| {
            let found = connection
                .prepare_cached("SELECT pruned_to, reserved_until FROM camera WHERE id = ?1")?
                .query_row([camera.as_str()], |row| {
                    let seq = |column| row.get::<_, i64>(column).map(|seq| seq as Seq);
                    Ok(Bounds { pruned_to: seq(0)?, reserved_until: seq(1)? })
                })
                .optional()?;
            Ok(found.unwrap_or(Bounds { pruned_to: 0, reserved_until: 1 }))
        })
    }

    /// A seq before which nothing of a camera was captured at `since` or later: within a session frames are in the
    /// order of their capture, so it is the first one of the first session that lasted until then, or of the lost ones
    /// that reach into it. Where retention has removed sessions that may have lasted until then as well, it is the one
    /// after all that were in manifests before: a frame is captured before its manifest is stored.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn first_since(&self, camera: &CameraId, since: UnixMicros) -> Result<Seq, ReadError> {
        self.with(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let first: Option<i64> = transaction
                .prepare_cached(
                    "SELECT min(first_seq) FROM session WHERE camera = (SELECT num FROM camera WHERE id = ?1)
                     AND (closed IS NULL OR closed >= ?2)",
                )?
                .query_row(params![camera.as_str(), since.0], |row| row.get(0))?;
            let first = match first.map(|seq| seq as Seq) {
                Some(first) => row_with(&transaction, camera, first)?.unwrap_or(first),
                None => Seq::MAX,
            };
            let older: Option<i64> = transaction
                .prepare_cached(
                    "SELECT (SELECT coalesce(max(last), 0) FROM manifest WHERE manifest.camera = num AND stored_at < ?3)
                     FROM camera WHERE id = ?1 AND pruned_to > 0
                     AND NOT EXISTS (SELECT 1 FROM session WHERE session.camera = num AND opened < ?2)",
                )?
                .query_row(params![camera.as_str(), since.0, since.before(APART).0], |row| row.get(0))
                .optional()?;
            Ok(older.map_or(first, |last| first.min(last as Seq + 1)))
        })
    }

    /// How a frame ended; `None` where the journal has nothing on it, or no longer.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn outcome_of(&self, camera: &CameraId, seq: Seq) -> Result<Option<Outcome>, ReadError> {
        let Some(begin) = self.with(|connection| row_with(connection, camera, seq))? else { return Ok(None) };
        match self.page(camera, Cursor::after(begin - 1), 1, Seq::MAX) {
            Ok(page) => Ok(page.entries.into_iter().find_map(|entry| match entry {
                Entry::Frames { seqs, outcome, .. } if (seqs.first..=seqs.last).contains(&seq) => Some(outcome),
                _ => None,
            })),
            Err(ReadError::Gone { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The first seq of the row that holds this one.
fn row_with(connection: &Connection, camera: &CameraId, seq: Seq) -> Result<Option<Seq>, ReadError> {
    let found = connection
        .prepare_cached(
            "SELECT seq, last FROM frame WHERE camera = (SELECT num FROM camera WHERE id = ?1) AND seq <= ?2
             ORDER BY seq DESC LIMIT 1",
        )?
        .query_row(params![camera.as_str(), i64::try_from(seq).unwrap_or(i64::MAX)], |row| {
            Ok((row.get::<_, i64>(0)? as Seq, row.get::<_, i64>(1)? as Seq))
        })
        .optional()?;
    Ok(found.filter(|(_, last)| *last >= seq).map(|(first, _)| first))
}
