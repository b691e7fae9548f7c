//! The ordered list, as a query.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rusqlite::{Connection, OptionalExtension as _, params};

use super::outcome::outcomes_in;
use super::ranges::{from, minus};
use super::state_dir::DATABASE;
use super::{JournalError, retention, schema};
use crate::model::{
    CameraId, CommitNo, Cursor, DestinationName, InvalidDestinationName, LostReason, Origin, Outcome, Seq, SeqRange,
    SessionNo, Stored, TimeSource, UnixMicros,
};

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
        /// The stream's codec, where it is known.
        codec: Option<String>,
        /// Its pictures' width, pixels, where it is known.
        width: Option<u32>,
        /// Their height.
        height: Option<u32>,
        /// What its frames' `captured_at` goes by.
        time_source: TimeSource,
    },
    /// A frame, or a run of lost ones.
    Frames {
        /// Which.
        seqs: SeqRange,
        /// The session they were captured in.
        session: Option<SessionNo>,
        /// How they ended.
        outcome: Outcome,
        /// What stands before the key in the URL of a stored one; `None` where that was not written down yet.
        base_url: Option<String>,
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

/// A piece of the order of commits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commits {
    /// Its entries, each with its number and its camera; no sessions.
    pub entries: Vec<(CommitNo, CameraId, Entry)>,
    /// Whether there is more now.
    pub more: bool,
}

/// Why there is no such piece of a list.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Retention has removed what follows the cursor.
    #[error("the entries that follow have been removed, as `list.keep` has it")]
    Gone {
        /// The first cursor from which the list is complete.
        oldest: u64,
    },
    /// The cursor names a session that is not there.
    #[error("`{0}` is no place in this list")]
    NoSuchPlace(Cursor),
    /// The database cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Journal(error.into())
    }
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

    /// Looks into the journal of a state directory, whether a daemon works on it or not.
    ///
    /// # Errors
    ///
    /// When there is none, it is of another version, or it cannot be read.
    pub fn of(dir: &Path) -> Result<Self, JournalError> {
        let reader = Self::open(&dir.join(DATABASE))?;
        reader.with(|connection| schema::expect_version(connection, &reader.path))?;
        Ok(reader)
    }

    /// The state directory's origin.
    ///
    /// # Errors
    ///
    /// When the database cannot be read, or has none.
    pub fn origin(&self) -> Result<Origin, JournalError> {
        self.with(|connection| {
            schema::read_origin(connection, &self.path)?.ok_or_else(|| self.corrupt("has no origin".to_owned()))
        })
    }

    pub(super) fn corrupt(&self, detail: String) -> JournalError {
        JournalError::Corrupt { path: self.path.clone(), detail }
    }

    pub(super) fn with<T, E: From<JournalError>>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
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
        result
    }

    /// The entries after the cursor `after`, at most `limit` frames or runs of lost ones, and none past `watermark`. A
    /// session's entry stands before the first entry that reaches into it, so that pages of any size put together give
    /// the same list.
    ///
    /// # Errors
    ///
    /// When the list is not complete from there on, or the database cannot be read.
    pub fn page(&self, camera: &CameraId, after: Cursor, limit: usize, watermark: Seq) -> Result<Page, ReadError> {
        let cursor = |seq: Seq| i64::try_from(seq).unwrap_or(i64::MAX);
        self.with(|connection| {
            // One transaction, so that frames and sessions are of the same moment.
            let transaction = connection.unchecked_transaction()?;
            let Cursor { seq: after, session: told } = after;
            let pruned_to = transaction
                .prepare_cached("SELECT pruned_to FROM camera WHERE id = ?1")?
                .query_row([camera.as_str()], |row| row.get::<_, i64>(0))
                .optional()?;
            let oldest = pruned_to.unwrap_or(0) as Seq;
            if after < oldest {
                return Err(ReadError::Gone { oldest });
            }
            if told > 0 {
                let known = transaction
                    .prepare_cached(
                        "SELECT 1 FROM session WHERE camera = (SELECT num FROM camera WHERE id = ?1) AND session = ?2
                         AND first_seq > ?3",
                    )?
                    .exists(params![camera.as_str(), told, cursor(after)])?;
                if !known {
                    return Err(ReadError::NoSuchPlace(Cursor { seq: after, session: told }));
                }
            }
            let mut frames = transaction.prepare_cached(
                "SELECT seq, last, session, lost, maybe_stored, key, captured_at, stored_at, bytes, crc32c, width, height,
                 name, url, damaged FROM frame LEFT JOIN destination ON destination.num = frame.destination WHERE camera = (SELECT num FROM camera WHERE id = ?1) AND seq > ?2 AND last <= ?3
                 ORDER BY seq LIMIT ?4",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX - 1);
            let rows = frames.query_map(
                params![camera.as_str(), cursor(after), cursor(watermark), limit + 1],
                |row| Ok((read_seqs(row)?, read_frames(row)?)),
            )?;
            let mut frames: Vec<(SeqRange, Entry)> = rows.collect::<Result<_, _>>()?;
            let more = frames.len() as i64 > limit;
            frames.truncate(limit as usize);
            let next = frames.last().map_or(after, |(seqs, ..)| seqs.last);

            let mut sessions = transaction.prepare_cached(
                "SELECT first_seq, session, opened, closed, why, codec, width, height, time_source FROM session
                 WHERE camera = (SELECT num FROM camera WHERE id = ?1) AND first_seq > ?2 AND first_seq <= ?3
                 AND session > ?4 ORDER BY session",
            )?;
            let rows = sessions.query_map(params![camera.as_str(), cursor(after), cursor(next), told], |row| {
                let entry = Entry::Session {
                    session: row.get(1)?,
                    opened: UnixMicros(row.get(2)?),
                    closed: row.get::<_, Option<i64>>(3)?.map(UnixMicros),
                    why: row.get(4)?,
                    codec: row.get(5)?,
                    width: row.get(6)?,
                    height: row.get(7)?,
                    time_source: read_time_source(row)?,
                };
                Ok((row.get::<_, i64>(0)? as Seq, entry))
            })?;
            let mut sessions: VecDeque<(Seq, Entry)> = rows.collect::<Result<_, _>>()?;

            let mut entries = Vec::with_capacity(frames.len() + sessions.len());
            for (seqs, entry) in frames {
                while sessions.front().is_some_and(|(first, _)| *first <= seqs.last) {
                    entries.extend(sessions.pop_front().map(|(_, entry)| entry));
                }
                entries.push(entry);
            }
            Ok(Page { entries, next, more })
        })
    }

    /// When the newest entry was recorded; `None` where there is none.
    ///
    /// # Errors
    ///
    /// When the journal cannot be read.
    pub fn newest_entry(&self) -> Result<Option<UnixMicros>, ReadError> {
        self.with(|connection| {
            let newest = connection
                .prepare_cached("SELECT stored_at FROM frame ORDER BY commit_no DESC LIMIT 1")?
                .query_row([], |row| row.get::<_, Option<i64>>(0))
                .optional()?;
            Ok(newest.flatten().map(UnixMicros))
        })
    }

    /// The entries of all cameras after the commit number `after`, at most `limit`, in the order of their commits.
    ///
    /// # Errors
    ///
    /// When the order is not complete from there on, or the database cannot be read.
    pub fn commits(&self, after: CommitNo, limit: usize) -> Result<Commits, ReadError> {
        self.with(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let oldest = retention::pruned_commit(&transaction)?;
            if after < oldest {
                return Err(ReadError::Gone { oldest });
            }
            let mut frames = transaction.prepare_cached(
                "SELECT seq, last, session, frame.lost, maybe_stored, key, captured_at, stored_at, bytes, crc32c, width,
                 height, destination.name, destination.url, damaged, commit_no, camera.id
                 FROM frame JOIN camera ON camera.num = frame.camera
                 LEFT JOIN destination ON destination.num = frame.destination
                 WHERE commit_no > ?1 ORDER BY commit_no LIMIT ?2",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX - 1);
            let rows = frames.query_map([i64::try_from(after).unwrap_or(i64::MAX), limit + 1], |row| {
                let camera = row.get::<_, String>(16)?.parse().map_err(|error| {
                    rusqlite::Error::FromSqlConversionFailure(16, rusqlite::types::Type::Text, Box::new(error))
                })?;
                Ok((row.get::<_, i64>(15)? as CommitNo, camera, read_frames(row)?))
            })?;
            let mut entries: Vec<(CommitNo, CameraId, Entry)> = rows.collect::<Result<_, _>>()?;
            let more = entries.len() as i64 > limit;
            entries.truncate(limit as usize);
            Ok(Commits { entries, more })
        })
    }

    /// Which of these seqs, which rise, have no outcome.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn unresolved(&self, camera: &CameraId, seqs: &[SeqRange]) -> Result<Vec<SeqRange>, JournalError> {
        let (Some(first), Some(last)) = (seqs.first(), seqs.last()) else { return Ok(Vec::new()) };
        let all = SeqRange { first: first.first, last: last.last };
        self.with(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let found = transaction
                .prepare_cached("SELECT num, watermark FROM camera WHERE id = ?1")?
                .query_row([camera.as_str()], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)? as Seq)))
                .optional()?;
            let Some((num, watermark)) = found else { return Ok(seqs.to_vec()) };
            let outcomes = outcomes_in(&transaction, num, all)?;
            Ok(minus(from(seqs.iter().copied(), watermark + 1), outcomes))
        })
    }

    /// Every resolved range above `watermark`, for a watermark that has to be found anew.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn resolved_above(&self, camera: &CameraId, watermark: Seq) -> Result<Vec<SeqRange>, JournalError> {
        self.with(|connection| {
            let ranges = connection
                .prepare_cached(
                    "SELECT seq, last FROM frame WHERE camera = (SELECT num FROM camera WHERE id = ?1) AND seq > ?2",
                )?
                .query_map(params![camera.as_str(), watermark as i64], read_seqs)?
                .collect::<Result<_, _>>()?;
            Ok(ranges)
        })
    }
}

fn read_seqs(row: &rusqlite::Row<'_>) -> rusqlite::Result<SeqRange> {
    Ok(SeqRange { first: row.get::<_, i64>(0)? as Seq, last: row.get::<_, i64>(1)? as Seq })
}

fn read_frames(row: &rusqlite::Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry::Frames {
        seqs: read_seqs(row)?,
        session: row.get(2)?,
        outcome: read_outcome(row)?,
        base_url: row.get(13)?,
    })
}

/// What stands in the ninth column; nothing stands for the arrival.
fn read_time_source(row: &rusqlite::Row<'_>) -> rusqlite::Result<TimeSource> {
    let Some(word) = row.get::<_, Option<String>>(8)? else { return Ok(TimeSource::default()) };
    TimeSource::parse(&word).ok_or_else(|| {
        let detail = format!("`{}` is no source of time this program knows", word.escape_debug());
        rusqlite::Error::FromSqlConversionFailure(8, rusqlite::types::Type::Text, detail.into())
    })
}

fn read_outcome(row: &rusqlite::Row<'_>) -> rusqlite::Result<Outcome> {
    if let Some(word) = row.get::<_, Option<String>>(3)? {
        let reason = LostReason::parse(&word).ok_or_else(|| {
            let detail = format!("`{}` is no reason this program knows", word.escape_debug());
            rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Text, detail.into())
        })?;
        return Ok(Outcome::Lost { reason, maybe_stored: row.get(4)? });
    }
    let destination = match row.get::<_, Option<String>>(12)? {
        None => DestinationName::default(),
        Some(name) => name.parse().map_err(|error: InvalidDestinationName| {
            rusqlite::Error::FromSqlConversionFailure(12, rusqlite::types::Type::Text, Box::new(error))
        })?,
    };
    Ok(Outcome::Stored(Stored {
        destination,
        key: row.get(5)?,
        captured_at: UnixMicros(row.get(6)?),
        stored_at: UnixMicros(row.get(7)?),
        bytes: row.get::<_, i64>(8)? as u64,
        crc32c: row.get(9)?,
        width: row.get(10)?,
        height: row.get(11)?,
        damaged: row.get(14)?,
    }))
}
