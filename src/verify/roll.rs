//! A camera's manifests, in order: those that the journal knows and those that lists tell of. There may be more of them
//! than memory holds, so they are in a temporary database as the objects are.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::VerifyError;
use super::index::temporary;
use crate::journal::ManifestRow;
use crate::model::SeqRange;

/// A manifest that the journal has, or that a bucket has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Known {
    /// What it holds, by its name.
    pub seqs: SeqRange,
    /// Its length and its CRC32C; `None` where the journal does not know it.
    pub row: Option<(u64, u32)>,
    /// What stood before its key in its URL, as far as the journal knows.
    pub base_url: Option<String>,
    /// Where it is; `None` where the configuration does not say.
    pub place: Option<usize>,
    /// Its length, as far as a list told it.
    pub listed: Option<u64>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Roll(Connection);

impl Roll {
    pub fn new() -> Result<Self, VerifyError> {
        let connection = temporary()?;
        connection.execute_batch(
            "CREATE TABLE roll (
                 first INTEGER NOT NULL, last INTEGER NOT NULL, bytes INTEGER, crc32c INTEGER, base_url TEXT,
                 place INTEGER, listed INTEGER, PRIMARY KEY (first, last)) WITHOUT ROWID;",
        )?;
        Ok(Self(connection))
    }

    /// Adds one that the journal knows.
    pub fn know(&self, row: &ManifestRow, place: Option<usize>) -> Result<(), VerifyError> {
        self.0.prepare_cached("INSERT OR REPLACE INTO roll VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL)")?.execute(
            params![
                row.seqs.first as i64,
                row.seqs.last as i64,
                row.bytes as i64,
                row.crc32c,
                row.base_url,
                place.map(|place| place as i64)
            ],
        )?;
        Ok(())
    }

    /// Takes note that a place's list has one of so many bytes, and adds it where it is not known.
    pub fn listed(&self, place: usize, seqs: SeqRange, bytes: u64) -> Result<(), VerifyError> {
        let (first, last, place, bytes) = (seqs.first as i64, seqs.last as i64, place as i64, bytes as i64);
        self.0
            .prepare_cached(
                "INSERT INTO roll (first, last, place, listed) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (first, last) DO UPDATE SET listed = ?4 WHERE place = ?3",
            )?
            .execute(params![first, last, place, bytes])?;
        Ok(())
    }

    /// Takes one away.
    pub fn remove(&self, seqs: SeqRange) -> Result<(), VerifyError> {
        let mut statement = self.0.prepare_cached("DELETE FROM roll WHERE first = ?1 AND last = ?2")?;
        statement.execute([seqs.first as i64, seqs.last as i64])?;
        Ok(())
    }

    /// Those after `after`, in order, not more than `limit`; with `unknown` only those that the journal does not know.
    pub fn page(&self, after: SeqRange, unknown: bool, limit: usize) -> Result<Vec<Known>, VerifyError> {
        let mut statement = self.0.prepare_cached(
            "SELECT first, last, bytes, crc32c, base_url, place, listed FROM roll
             WHERE (first, last) > (?1, ?2) AND (NOT ?3 OR bytes IS NULL) ORDER BY first, last LIMIT ?4",
        )?;
        let rows =
            statement.query_map(params![after.first as i64, after.last as i64, unknown, limit as i64], |row| {
                let number = |column| row.get::<_, Option<i64>>(column).map(|value| value.map(|value| value as u64));
                Ok(Known {
                    seqs: SeqRange { first: row.get::<_, i64>(0)? as u64, last: row.get::<_, i64>(1)? as u64 },
                    row: number(2)?.zip(row.get(3)?),
                    base_url: row.get(4)?,
                    place: number(5)?.map(|place| place as usize),
                    listed: number(6)?,
                })
            })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Where they are.
    pub fn places(&self) -> Result<BTreeSet<usize>, VerifyError> {
        let mut statement = self.0.prepare("SELECT DISTINCT place FROM roll WHERE place IS NOT NULL")?;
        let rows = statement.query_map([], |row| row.get::<_, i64>(0).map(|place| place as usize))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many there are.
    pub fn len(&self) -> Result<u64, VerifyError> {
        Ok(self.0.query_row("SELECT count(*) FROM roll", [], |row| row.get::<_, i64>(0))? as u64)
    }
}
