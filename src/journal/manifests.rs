//! Manifests in the journal: what each holds is committed before it is put, so that after a crash the same bytes are
//! put again. What is stored keeps a row; what is not keeps its bytes as well.

use std::collections::BTreeMap;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use tokio::sync::oneshot;

use super::handle::Command;
use super::outcome::Destinations;
use super::{Entry, Journal, JournalError, ReadError, Reader};
use crate::model::{CameraId, Cursor, DestinationName, Seq, SeqRange, SessionNo, UnixMicros};

/// `manifest` holds those that are stored; `manifest_pending` the one of each camera that is not, with its bytes. `place`
/// is the row of `destination` that says where it lies, whatever its destination's name leads to by now.
pub(super) const TABLES: &str = "
CREATE TABLE manifest (
    camera      INTEGER NOT NULL,
    first       INTEGER NOT NULL,
    last        INTEGER NOT NULL,
    entries     INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    crc32c      INTEGER NOT NULL,
    destination TEXT NOT NULL,
    place       INTEGER,
    stored_at   INTEGER NOT NULL,
    PRIMARY KEY (camera, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE manifest_pending (
    camera      INTEGER PRIMARY KEY,
    first       INTEGER NOT NULL,
    last        INTEGER NOT NULL,
    entries     INTEGER NOT NULL,
    crc32c      INTEGER NOT NULL,
    destination TEXT NOT NULL,
    content     BLOB NOT NULL
) STRICT;
";

/// A manifest on its way into the bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PendingManifest {
    /// Whose list.
    pub camera: CameraId,
    /// Which part of it.
    pub seqs: SeqRange,
    /// How many frames and runs of lost ones it tells of.
    pub entries: u64,
    /// The name of the destination that it goes to.
    pub destination: String,
    /// Its bytes.
    pub content: Bytes,
    /// Their CRC32C.
    pub crc32c: u32,
}

/// A manifest that is in the bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredManifest {
    /// Which part of the list it holds.
    pub seqs: SeqRange,
    /// The name of the destination that it was put to.
    pub destination: String,
    /// What stood before its key in its URL then; `None` where that was not written down.
    pub base_url: Option<String>,
}

/// How far a camera's manifests go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifested {
    /// Whose.
    pub camera: CameraId,
    /// The last seq that is in a stored manifest, or that retention has removed without one; 0 where there is none.
    pub through: Seq,
    /// Where its newest manifest went, or else its newest frame.
    pub place: Option<String>,
    /// When the first entry after `through` was recorded.
    pub since: Option<UnixMicros>,
    /// Where the next one goes, if it is committed already.
    pub pending: Option<String>,
}

/// The part of a list that the next manifest holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Its seqs.
    pub seqs: SeqRange,
    /// The first of the seqs before it that retention took while there were no manifests.
    pub missing_from: Option<Seq>,
    /// Its entries, in order.
    pub entries: Vec<Entry>,
    /// How the sessions ended before those that begin in it, by the one that begins.
    pub ends: BTreeMap<SessionNo, EndedSession>,
}

/// The end of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndedSession {
    /// Its number.
    pub session: SessionNo,
    /// When its last frame was captured.
    pub closed: Option<UnixMicros>,
    /// What ended it.
    pub why: Option<String>,
}

impl Journal {
    /// Writes down a manifest before it is put; returns once that is durable. `None` where the writer has ended,
    /// `false` where it does not begin where the last one ended, or that one is not stored yet: then nothing has
    /// changed.
    pub async fn commit_manifest(&self, manifest: PendingManifest) -> Option<bool> {
        let (done, answer) = oneshot::channel();
        self.send(Command::CommitManifest { manifest, done });
        answer.await.ok()
    }

    /// Writes down that the bucket has a camera's manifest that ends with `last`; its bytes are no longer kept. `None`
    /// where the writer has ended, `false` where no such manifest was on its way.
    pub async fn manifest_stored(&self, camera: CameraId, last: Seq) -> Option<bool> {
        let (done, answer) = oneshot::channel();
        self.send(Command::ManifestStored { camera, last, done });
        answer.await.ok()
    }
}

/// Writes a manifest into the transaction, and says whether it fits on those before it.
pub(super) fn commit(
    transaction: &Transaction<'_>,
    num: i64,
    manifest: &PendingManifest,
) -> Result<bool, JournalError> {
    let next = through(transaction, num)?.max(pruned_to(transaction, num)?) + 1;
    let pending = transaction.prepare_cached("SELECT 1 FROM manifest_pending WHERE camera = ?1")?.exists([num])?;
    if pending || manifest.seqs.first != next {
        return Ok(false);
    }
    transaction
        .prepare_cached(
            "INSERT INTO manifest_pending (camera, first, last, entries, crc32c, destination, content)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            num,
            manifest.seqs.first as i64,
            manifest.seqs.last as i64,
            manifest.entries as i64,
            manifest.crc32c,
            manifest.destination,
            &manifest.content[..]
        ])?;
    Ok(true)
}

/// Takes a manifest from those on their way to those that are stored, where its destination is now.
pub(super) fn stored(
    transaction: &Transaction<'_>,
    num: i64,
    last: Seq,
    destinations: &Destinations,
) -> Result<bool, JournalError> {
    let name: Option<String> = transaction
        .prepare_cached("SELECT destination FROM manifest_pending WHERE camera = ?1 AND last = ?2")?
        .query_row(params![num, last as i64], |row| row.get(0))
        .optional()?;
    let place = name.and_then(|name| destinations.get(&name.parse::<DestinationName>().ok()?).copied());
    let kept = transaction
        .prepare_cached(
            "INSERT INTO manifest (camera, first, last, entries, bytes, crc32c, destination, place, stored_at)
             SELECT camera, first, last, entries, length(content), crc32c, destination, ?3, ?4
             FROM manifest_pending WHERE camera = ?1 AND last = ?2",
        )?
        .execute(params![num, last as i64, place, UnixMicros::now().0])?;
    transaction
        .prepare_cached("DELETE FROM manifest_pending WHERE camera = ?1 AND last = ?2")?
        .execute(params![num, last as i64])?;
    Ok(kept > 0)
}

/// The last seq of a camera that is in a stored manifest; 0 where there is none.
pub(super) fn through(connection: &Connection, num: i64) -> rusqlite::Result<Seq> {
    let last: Option<i64> = connection
        .prepare_cached("SELECT last FROM manifest WHERE camera = ?1 ORDER BY first DESC LIMIT 1")?
        .query_row([num], |row| row.get(0))
        .optional()?;
    Ok(last.unwrap_or(0) as Seq)
}

/// When the first entry after a seq was recorded.
fn listed_at(connection: &Connection, num: i64, after: Seq) -> rusqlite::Result<Option<UnixMicros>> {
    let at: Option<Option<i64>> = connection
        .prepare_cached("SELECT stored_at FROM frame WHERE camera = ?1 AND seq > ?2 ORDER BY seq LIMIT 1")?
        .query_row(params![num, after as i64], |row| row.get(0))
        .optional()?;
    Ok(at.flatten().map(UnixMicros))
}

fn pruned_to(connection: &Connection, num: i64) -> rusqlite::Result<Seq> {
    connection
        .prepare_cached("SELECT pruned_to FROM camera WHERE num = ?1")?
        .query_row([num], |row| Ok(row.get::<_, i64>(0)? as Seq))
}

fn num_of(connection: &Connection, camera: &CameraId) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT num FROM camera WHERE id = ?1")?
        .query_row([camera.as_str()], |row| row.get(0))
        .optional()
}

impl Reader {
    /// How far the manifests of all cameras go, also of deleted ones.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn manifested(&self) -> Result<Vec<Manifested>, ReadError> {
        self.with(|connection| {
            let transaction = connection.unchecked_transaction()?;
            let mut statement = transaction.prepare_cached(
                "SELECT num, id, pruned_to,
                     coalesce(
                         (SELECT destination FROM manifest WHERE manifest.camera = num ORDER BY first DESC LIMIT 1),
                         (SELECT name FROM frame JOIN destination ON destination.num = frame.destination
                          WHERE frame.camera = camera.num ORDER BY seq DESC LIMIT 1)),
                     (SELECT destination FROM manifest_pending WHERE manifest_pending.camera = num)
                 FROM camera",
            )?;
            let mut rows = statement.query([])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let id: String = row.get(1)?;
                let camera = id.parse().map_err(|_| {
                    let detail = format!("camera `{}` has an impossible id", id.escape_debug());
                    self.corrupt(detail)
                })?;
                let num = row.get(0)?;
                let through = through(&transaction, num)?.max(row.get::<_, i64>(2)? as Seq);
                let since = listed_at(&transaction, num, through)?;
                all.push(Manifested { camera, through, place: row.get(3)?, since, pending: row.get(4)? });
            }
            Ok(all)
        })
    }

    /// The last seq of a camera that is in a stored manifest; 0 where there is none.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn manifested_through(&self, camera: &CameraId) -> Result<Seq, ReadError> {
        self.with(|connection| {
            let num = num_of(connection, camera)?;
            Ok(num.map(|num| through(connection, num)).transpose()?.unwrap_or(0))
        })
    }

    /// When the first entry of a camera's list after `through` was recorded; `None` where there is none.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn listed_at(&self, camera: &CameraId, through: Seq) -> Result<Option<UnixMicros>, ReadError> {
        self.with(|connection| {
            let Some(num) = num_of(connection, camera)? else { return Ok(None) };
            Ok(listed_at(connection, num, through)?)
        })
    }

    /// The seqs of a camera's manifest that is committed and not known to be stored.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn pending_seqs(&self, camera: &CameraId) -> Result<Option<SeqRange>, ReadError> {
        self.with(|connection| {
            let found = connection
                .prepare_cached(
                    "SELECT first, last FROM manifest_pending
                     WHERE camera = (SELECT num FROM camera WHERE id = ?1)",
                )?
                .query_row([camera.as_str()], |row| {
                    Ok(SeqRange { first: row.get::<_, i64>(0)? as Seq, last: row.get::<_, i64>(1)? as Seq })
                })
                .optional()?;
            Ok(found)
        })
    }

    /// A camera's manifest that is committed and not known to be stored.
    ///
    /// # Errors
    ///
    /// When the database cannot be read, or the bytes are not those that were committed.
    pub fn pending_manifest(&self, camera: &CameraId) -> Result<Option<PendingManifest>, ReadError> {
        self.with(|connection| {
            let found = connection
                .prepare_cached(
                    "SELECT first, last, entries, crc32c, destination, content FROM manifest_pending
                     WHERE camera = (SELECT num FROM camera WHERE id = ?1)",
                )?
                .query_row([camera.as_str()], |row| {
                    Ok(PendingManifest {
                        camera: camera.clone(),
                        seqs: SeqRange { first: row.get::<_, i64>(0)? as Seq, last: row.get::<_, i64>(1)? as Seq },
                        entries: row.get::<_, i64>(2)? as u64,
                        crc32c: row.get(3)?,
                        destination: row.get(4)?,
                        content: row.get::<_, Vec<u8>>(5)?.into(),
                    })
                })
                .optional()?;
            if let Some(manifest) = &found
                && crc32c::crc32c(&manifest.content) != manifest.crc32c
            {
                let SeqRange { first, last } = manifest.seqs;
                return Err(self.corrupt(format!("camera {camera}: manifest {first} to {last} is damaged")).into());
            }
            Ok(found)
        })
    }

    /// The part of a camera's list that its next manifest holds: at most so many entries, none past `watermark`. `None`
    /// where there is nothing.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn part(&self, camera: &CameraId, limit: usize, watermark: Seq) -> Result<Option<Part>, ReadError> {
        let (through, pruned) = self.with(|connection| {
            let Some(num) = num_of(connection, camera)? else { return Ok((0, 0)) };
            Ok::<_, ReadError>((through(connection, num)?, pruned_to(connection, num)?))
        })?;
        let after = through.max(pruned);
        let page = self.page(camera, Cursor::after(after), limit, watermark)?;
        if page.next == after {
            return Ok(None);
        }
        let mut ends = BTreeMap::new();
        for entry in &page.entries {
            // Whoever opens a session has closed the one before it: what is read here does not change any more.
            if let Entry::Session { session, .. } = entry
                && let Some(end) = self.session_before(camera, *session)?
            {
                ends.insert(*session, end);
            }
        }
        Ok(Some(Part {
            seqs: SeqRange { first: after + 1, last: page.next },
            missing_from: (pruned > through).then_some(through + 1),
            entries: page.entries,
            ends,
        }))
    }

    fn session_before(&self, camera: &CameraId, session: SessionNo) -> Result<Option<EndedSession>, ReadError> {
        self.with(|connection| {
            let found = connection
                .prepare_cached(
                    "SELECT session, closed, why FROM session WHERE camera = (SELECT num FROM camera WHERE id = ?1)
                     AND session < ?2 ORDER BY session DESC LIMIT 1",
                )?
                .query_row(params![camera.as_str(), session], |row| {
                    let closed = row.get::<_, Option<i64>>(1)?.map(UnixMicros);
                    Ok(EndedSession { session: row.get(0)?, closed, why: row.get(2)? })
                })
                .optional()?;
            Ok(found)
        })
    }

    /// The stored manifest that holds a seq; where there is none, the first one after it.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn manifest_of(&self, camera: &CameraId, seq: Seq) -> Result<Option<StoredManifest>, ReadError> {
        self.with(|connection| {
            let Some(num) = num_of(connection, camera)? else { return Ok(None) };
            let seq = i64::try_from(seq).unwrap_or(i64::MAX);
            let read = |row: &rusqlite::Row<'_>| {
                let seqs = SeqRange { first: row.get::<_, i64>(0)? as Seq, last: row.get::<_, i64>(1)? as Seq };
                Ok(StoredManifest { seqs, destination: row.get(2)?, base_url: row.get(3)? })
            };
            let before = connection
                .prepare_cached(
                    "SELECT first, last, destination, url FROM manifest LEFT JOIN destination ON num = place
                     WHERE camera = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1",
                )?
                .query_row(params![num, seq], read)
                .optional()?;
            if let Some(manifest) = before.filter(|manifest| manifest.seqs.last as i64 >= seq) {
                return Ok(Some(manifest));
            }
            let after = connection
                .prepare_cached(
                    "SELECT first, last, destination, url FROM manifest LEFT JOIN destination ON num = place
                     WHERE camera = ?1 AND first > ?2 ORDER BY first LIMIT 1",
                )?
                .query_row(params![num, seq], read)
                .optional()?;
            Ok(after)
        })
    }
}
