//! What a check of the bucket asks the journal. It only reads, and no transaction lasts longer than a page: a daemon may
//! be writing.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Entry, ReadError, Reader};
use crate::model::{CameraId, Cursor, Outcome, Seq, SeqRange, UnixMicros};

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
    /// The name of the destination that it is in.
    pub destination: String,
}

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

    /// A camera's manifests that are stored, in order.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn stored_manifests(&self, camera: &CameraId) -> Result<Vec<ManifestRow>, ReadError> {
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT first, last, bytes, crc32c, destination FROM manifest
                 WHERE camera = (SELECT num FROM camera WHERE id = ?1) ORDER BY first",
            )?;
            let rows = statement.query_map([camera.as_str()], |row| {
                Ok(ManifestRow {
                    seqs: SeqRange { first: row.get::<_, i64>(0)? as Seq, last: row.get::<_, i64>(1)? as Seq },
                    bytes: row.get::<_, i64>(2)? as u64,
                    crc32c: row.get(3)?,
                    destination: row.get(4)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// A seq before which nothing of a camera was captured at `since` or later: within a session frames are in the
    /// order of their capture, so it is the first one of the first session that lasted until then, or of the lost ones
    /// that reach into it.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn first_since(&self, camera: &CameraId, since: UnixMicros) -> Result<Seq, ReadError> {
        self.with(|connection| {
            let first: Option<i64> = connection
                .prepare_cached(
                    "SELECT min(first_seq) FROM session WHERE camera = (SELECT num FROM camera WHERE id = ?1)
                     AND (closed IS NULL OR closed >= ?2)",
                )?
                .query_row(params![camera.as_str(), since.0], |row| row.get(0))?;
            let Some(first) = first.map(|seq| seq as Seq) else { return Ok(Seq::MAX) };
            Ok(row_with(connection, camera, first)?.unwrap_or(first))
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
