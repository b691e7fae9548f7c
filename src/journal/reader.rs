//! The ordered list, as a query.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, params};

use super::{JournalError, schema};
use crate::model::{CameraId, LostReason, Outcome, Seq, SeqRange, SessionNo, Stored, UnixMicros};

/// One entry of a camera's list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// A session begins with the next entry.
    Session {
        /// Its number.
        session: SessionNo,
        /// When its first frame was captured.
        opened: UnixMicros,
        /// When its last frame was captured; `None` while it lasts.
        closed: Option<UnixMicros>,
        /// What ended it.
        why: Option<String>,
    },
    /// A frame, or a run of lost ones.
    Frames {
        /// Which.
        seqs: SeqRange,
        /// The session they were captured in.
        session: Option<SessionNo>,
        /// How they ended.
        outcome: Outcome,
    },
}

/// A piece of a camera's list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page {
    /// Its entries, in order.
    pub entries: Vec<Entry>,
    /// The cursor with which the next page begins.
    pub next: Seq,
    /// Whether there is more now.
    pub more: bool,
}

/// A small pool of connections that cannot write. Queries block: call them off the event loop.
#[derive(Clone, Debug)]
pub struct Reader {
    path: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
}

/// Connections kept open between queries.
const POOL: usize = 4;

impl Reader {
    /// Opens the pool.
    ///
    /// # Errors
    ///
    /// When the database cannot be opened.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let first = schema::open_reader(path)?;
        Ok(Self { path: path.to_owned(), idle: Arc::new(Mutex::new(vec![first])) })
    }

    fn with<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, JournalError> {
        let idle = || self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let taken = idle().pop();
        let connection = match taken {
            Some(connection) => connection,
            None => schema::open_reader(&self.path)?,
        };
        let result = query(&connection);
        let mut pool = idle();
        if pool.len() < POOL {
            pool.push(connection);
        }
        Ok(result?)
    }

    /// The entries after the cursor `after` (0 is the beginning), at most `limit` frames or runs of lost ones, and none
    /// past `watermark`. A session's entry stands before the first entry that reaches into it, so that pages of any size
    /// put together give the same list.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn page(&self, camera: &CameraId, after: Seq, limit: usize, watermark: Seq) -> Result<Page, JournalError> {
        let cursor = |seq: Seq| i64::try_from(seq).unwrap_or(i64::MAX);
        self.with(|connection| {
            // One transaction, so that frames and sessions are of the same moment.
            let transaction = connection.unchecked_transaction()?;
            let mut frames = transaction.prepare_cached(
                "SELECT seq, last, session, lost, maybe_stored, key, captured_at, stored_at, bytes, crc32c, width, height
                 FROM frame WHERE camera = (SELECT num FROM camera WHERE id = ?1) AND seq > ?2 AND last <= ?3
                 ORDER BY seq LIMIT ?4",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX - 1);
            let rows = frames.query_map(
                params![camera.as_str(), cursor(after), cursor(watermark), limit + 1],
                |row| Ok((read_seqs(row)?, row.get(2)?, read_outcome(row)?)),
            )?;
            let mut frames: Vec<(SeqRange, Option<SessionNo>, Outcome)> = rows.collect::<Result<_, _>>()?;
            let more = frames.len() as i64 > limit;
            frames.truncate(limit as usize);
            let next = frames.last().map_or(after, |(seqs, ..)| seqs.last);

            let mut sessions = transaction.prepare_cached(
                "SELECT first_seq, session, opened, closed, why FROM session
                 WHERE camera = (SELECT num FROM camera WHERE id = ?1) AND first_seq > ?2 AND first_seq <= ?3
                 ORDER BY session",
            )?;
            let rows = sessions.query_map(params![camera.as_str(), cursor(after), cursor(next)], |row| {
                let entry = Entry::Session {
                    session: row.get(1)?,
                    opened: UnixMicros(row.get(2)?),
                    closed: row.get::<_, Option<i64>>(3)?.map(UnixMicros),
                    why: row.get(4)?,
                };
                Ok((row.get::<_, i64>(0)? as Seq, entry))
            })?;
            let mut sessions: VecDeque<(Seq, Entry)> = rows.collect::<Result<_, _>>()?;

            let mut entries = Vec::with_capacity(frames.len() + sessions.len());
            for (seqs, session, outcome) in frames {
                while sessions.front().is_some_and(|(first, _)| *first <= seqs.last) {
                    entries.extend(sessions.pop_front().map(|(_, entry)| entry));
                }
                entries.push(Entry::Frames { seqs, session, outcome });
            }
            Ok(Page { entries, next, more })
        })
    }

    /// Every resolved range above `watermark`, for a watermark that has to be found anew.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn resolved_above(&self, camera: &CameraId, watermark: Seq) -> Result<Vec<SeqRange>, JournalError> {
        self.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT seq, last FROM frame WHERE camera = (SELECT num FROM camera WHERE id = ?1) AND seq > ?2",
                )?
                .query_map(params![camera.as_str(), watermark as i64], read_seqs)?
                .collect()
        })
    }
}

fn read_seqs(row: &rusqlite::Row<'_>) -> rusqlite::Result<SeqRange> {
    Ok(SeqRange { first: row.get::<_, i64>(0)? as Seq, last: row.get::<_, i64>(1)? as Seq })
}

fn read_outcome(row: &rusqlite::Row<'_>) -> rusqlite::Result<Outcome> {
    if let Some(word) = row.get::<_, Option<String>>(3)? {
        let reason = LostReason::parse(&word).ok_or_else(|| {
            let detail = format!("`{}` is no reason this program knows", word.escape_debug());
            rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, detail.into())
        })?;
        return Ok(Outcome::Lost { reason, maybe_stored: row.get(4)? });
    }
    Ok(Outcome::Stored(Stored {
        key: row.get(5)?,
        captured_at: UnixMicros(row.get(6)?),
        stored_at: UnixMicros(row.get(7)?),
        bytes: row.get::<_, i64>(8)? as u64,
        crc32c: row.get(9)?,
        width: row.get(10)?,
        height: row.get(11)?,
    }))
}
