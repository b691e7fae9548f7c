//! What must be in a bucket, by key: the journal has it by seq, a bucket lists it by key, and both may be larger than
//! memory. So they meet in a temporary database.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::VerifyError;
use crate::model::{Seq, SeqRange};

/// What SQLite may keep of a temporary database in memory, KiB.
const CACHE: i64 = 8 * 1_024;

/// Opens a database that has no name: SQLite makes its file when it outgrows memory, in the directory that `TMPDIR` names
/// or else in `/var/tmp`, and unlinks it at once, so that nothing is left of it however this process ends.
pub(super) fn temporary() -> Result<Connection, VerifyError> {
    let connection = Connection::open("")?;
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{CACHE};"
    ))?;
    // One transaction for all of its life: nobody else reads it, and nothing has to be on disk.
    connection.execute_batch("BEGIN;")?;
    Ok(connection)
}

/// An object that must be there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Expected {
    /// Its key.
    pub key: String,
    /// Whose frame it is: a place in the group that is checked together.
    pub camera: usize,
    /// The frame's seq.
    pub seq: Seq,
    /// Its size.
    pub bytes: u64,
    /// CRC32C of its content.
    pub crc32c: u32,
}

/// An object of ours whose seq nobody has given, as far as the journal knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Ahead {
    /// Whose frame it says it is: a place in the group that is checked together.
    pub camera: usize,
    /// The seq in its key.
    pub seq: Seq,
    /// Its key.
    pub key: String,
}

/// A piece of the keys of a bucket: `after` does not belong to it, `to` does. `None` is the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span<'a> {
    pub after: &'a str,
    pub to: Option<&'a str>,
}

/// All objects that must be there, and what manifests say of frames that are no longer in the journal.
#[derive(Debug)]
pub(super) struct Index(Connection);

impl Index {
    pub fn new() -> Result<Self, VerifyError> {
        let connection = temporary()?;
        connection.execute_batch(
            "CREATE TABLE object (
                 place INTEGER NOT NULL, key TEXT NOT NULL, camera INTEGER NOT NULL, seq INTEGER NOT NULL,
                 bytes INTEGER NOT NULL, crc32c INTEGER NOT NULL, PRIMARY KEY (place, key)) WITHOUT ROWID;
             CREATE TABLE told (
                 camera INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL, maybe_stored INTEGER NOT NULL,
                 PRIMARY KEY (camera, first)) WITHOUT ROWID;
             CREATE TABLE ahead (camera INTEGER NOT NULL, seq INTEGER NOT NULL, key TEXT NOT NULL);",
        )?;
        Ok(Self(connection))
    }

    /// Adds an object that must be in a place. False where another frame has the same key there.
    pub fn expect(&self, place: usize, expected: &Expected) -> Result<bool, VerifyError> {
        let Expected { key, camera, seq, bytes, crc32c } = expected;
        let added = self
            .0
            .prepare_cached("INSERT OR IGNORE INTO object VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![place as i64, key, *camera as i64, *seq as i64, *bytes as i64, crc32c])?;
        Ok(added > 0)
    }

    /// Some of the objects that must be in a place, by key: not more than `limit`.
    pub fn span(&self, place: usize, span: Span<'_>, limit: usize) -> Result<Vec<Expected>, VerifyError> {
        let mut statement = self.0.prepare_cached(
            "SELECT key, camera, seq, bytes, crc32c FROM object
             WHERE place = ?1 AND key > ?2 AND (?3 IS NULL OR key <= ?3) ORDER BY key LIMIT ?4",
        )?;
        let rows = statement.query_map(params![place as i64, span.after, span.to, limit as i64], |row| {
            Ok(Expected {
                key: row.get(0)?,
                camera: row.get::<_, i64>(1)? as usize,
                seq: row.get::<_, i64>(2)? as Seq,
                bytes: row.get::<_, i64>(3)? as u64,
                crc32c: row.get(4)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many objects of each camera must be in a piece of a place.
    pub fn count(&self, place: usize, span: Span<'_>) -> Result<Vec<(usize, u64)>, VerifyError> {
        let mut statement = self.0.prepare_cached(
            "SELECT camera, count(*) FROM object
             WHERE place = ?1 AND key > ?2 AND (?3 IS NULL OR key <= ?3) GROUP BY camera",
        )?;
        let rows = statement.query_map(params![place as i64, span.after, span.to], |row| {
            Ok((row.get::<_, i64>(0)? as usize, row.get::<_, i64>(1)? as u64))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Remembers that a manifest tells how these frames ended, of which the journal has no row.
    pub fn tell(&self, camera: usize, seqs: SeqRange, maybe_stored: bool) -> Result<(), VerifyError> {
        self.0.prepare_cached("INSERT OR IGNORE INTO told VALUES (?1, ?2, ?3, ?4)")?.execute(params![
            camera as i64,
            seqs.first as i64,
            seqs.last as i64,
            maybe_stored
        ])?;
        Ok(())
    }

    /// Keeps an object for later, whose seq is beyond those that the journal knows of.
    pub fn put_ahead(&self, ahead: &Ahead) -> Result<(), VerifyError> {
        let mut statement = self.0.prepare_cached("INSERT INTO ahead VALUES (?1, ?2, ?3)")?;
        statement.execute(params![ahead.camera as i64, ahead.seq as i64, ahead.key])?;
        Ok(())
    }

    /// Some of them, not more than `limit`, and under which numbers they are kept.
    pub fn ahead(&self, after: i64, limit: usize) -> Result<Vec<(i64, Ahead)>, VerifyError> {
        let mut statement = self
            .0
            .prepare_cached("SELECT rowid, camera, seq, key FROM ahead WHERE rowid > ?1 ORDER BY rowid LIMIT ?2")?;
        let rows = statement.query_map(params![after, limit as i64], |row| {
            let (camera, seq) = (row.get::<_, i64>(1)? as usize, row.get::<_, i64>(2)? as Seq);
            Ok((row.get(0)?, Ahead { camera, seq, key: row.get(3)? }))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What a manifest tells of such a frame: whether it may be in the bucket.
    pub fn told(&self, camera: usize, seq: Seq) -> Result<Option<bool>, VerifyError> {
        let found = self
            .0
            .prepare_cached(
                "SELECT last, maybe_stored FROM told WHERE camera = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1",
            )?
            .query_row(params![camera as i64, seq as i64], |row| Ok((row.get::<_, i64>(0)? as Seq, row.get(1)?)))
            .optional()?;
        Ok(found.filter(|(last, _)| *last >= seq).map(|(_, maybe_stored)| maybe_stored))
    }
}
