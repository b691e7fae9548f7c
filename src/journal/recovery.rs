//! Opening a state directory, and settling what a crash left open.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use rustix::fs::{FlockOperation, flock};
use tracing::{error, info};

use super::secrets::SecretsFile;
use super::writer::{Paths, insert_outcome};
use super::{Journal, JournalError, Ledger, LostBy, Reader, catalog, retention, schema};
use crate::model::{
    CameraId, CameraSpec, CommitNo, FORGET_REFUSAL_AFTER, LostReason, ManagedBy, Origin, Outcome, RawCameraSpec,
    Refusal, Seq, SeqRange, SessionNo, Settled, UnixMicros,
};

/// A state directory that is ready for work.
#[derive(Debug)]
pub struct Opened {
    /// The writer's handle.
    pub journal: Journal,
    /// Joins the writer after [`Journal::close`].
    pub writer: JoinHandle<()>,
    /// The read-only side.
    pub reader: Reader,
    /// This state directory's origin.
    pub origin: Origin,
    /// Every camera id ever used here.
    pub cameras: Vec<KnownCamera>,
    /// Camera logins that were refused lately.
    pub refusals: Vec<Refusal>,
    /// Keeps other daemons out for as long as it is open.
    pub lock: File,
}

/// A camera as the journal knows it.
#[derive(Debug)]
pub struct KnownCamera {
    /// What is asked of it; `None` for a deleted camera.
    pub spec: Option<CameraSpec>,
    /// Why what is asked of it cannot be used, where it stands in the catalog and this program does not take it. It costs
    /// this camera alone, and what is asked stays in the catalog until somebody puts something else.
    pub unusable: Option<String>,
    /// Counts the changes of its spec.
    pub revision: u64,
    /// Who may change it.
    pub managed_by: ManagedBy,
    /// Whether a person has paused it.
    pub paused: bool,
    /// Its accounts.
    pub ledger: Arc<Ledger>,
}

/// Opens a state directory, making it where there is none: takes its lock, settles as `lost(crash)` whatever has no
/// outcome, and starts the writer, which tells `listener` of committed outcomes and `timer` how long each commit took.
///
/// # Errors
///
/// When another daemon holds the directory, a file cannot be read or written, or the journal is damaged.
pub fn open(
    dir: &Path,
    listener: impl Fn(Settled) + Send + 'static,
    timer: impl Fn(Duration) + Send + 'static,
) -> Result<Opened, JournalError> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| JournalError::File {
        what: "cannot make state directory",
        path: dir.to_owned(),
        error,
    })?;
    let paths =
        Paths { database: dir.join("journal.sqlite"), secrets: dir.join("secrets.json"), lock: dir.join("lock") };
    let lock = take_lock(dir, &paths.lock)?;
    // SQLite takes the database's mode for its side files as well.
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&paths.database)
        .map_err(|error| JournalError::File { what: "cannot open", path: paths.database.clone(), error })?;
    let mut connection = schema::open_writer(&paths.database)?;
    let origin = read_origin(&connection, &paths.database)?;
    let mut secrets = SecretsFile::open(paths.secrets)?;

    let transaction = connection.transaction()?;
    let mut next_commit = read_next_commit(&transaction)?;
    let mut cameras = Vec::new();
    let mut nums = HashMap::new();
    for row in read_cameras(&transaction)? {
        let id: CameraId = row.id.parse().map_err(|_| JournalError::Corrupt {
            path: paths.database.clone(),
            detail: format!("camera `{}` has an impossible id", row.id.escape_debug()),
        })?;
        settle_unknown(&transaction, &row, &id, &mut next_commit)?;
        let (stored, lost): (i64, i64) =
            transaction.query_row("SELECT stored, lost FROM camera WHERE num = ?1", [row.num], |r| {
                Ok((r.get(0)?, r.get(1)?))
            })?;
        let next_seq = row.reserved_until as Seq;
        let lost_by = read_lost(&transaction, row.num)?;
        if stored + lost != row.reserved_until - 1 || lost_by.iter().sum::<u64>() != lost as u64 {
            error!(camera = %id, stored, lost, captured = next_seq - 1, "the journal's accounts do not add up");
        }
        let corrupt = |detail: String| JournalError::Corrupt {
            path: paths.database.clone(),
            detail: format!("camera `{id}`: {detail}"),
        };
        let revision = row.revision as u64;
        let read = row.spec.as_deref().map(|json| read_spec(json, &id, revision, &secrets)).transpose();
        let (spec, unusable) = read.map_or_else(|why| (None, Some(why)), |spec| (spec, None));
        if let Some(why) = &unusable {
            error!(camera = %id, why, "what is asked of the camera cannot be used: put it anew");
        }
        let managed_by = ManagedBy::parse(&row.managed_by).ok_or_else(|| corrupt("has no known manager".to_owned()))?;
        nums.insert(id.clone(), row.num);
        let ledger = Ledger::new(id, next_seq, row.next_session, stored as u64, lost as u64).with_lost_by(lost_by);
        cameras.push(KnownCamera {
            spec,
            unusable,
            revision,
            managed_by,
            paused: row.paused,
            ledger: Arc::new(ledger),
        });
    }
    let refusals = catalog::refusals(&transaction, UnixMicros::now().before(FORGET_REFUSAL_AFTER))?;
    transaction.commit()?;
    let wanted = cameras.iter().filter(|camera| camera.spec.is_some() || camera.unusable.is_some());
    let wanted: Vec<_> = wanted.map(|camera| (camera.ledger.camera().clone(), camera.revision)).collect();
    secrets.keep_only(&wanted)?;

    let reader = Reader::open(&paths.database)?;
    let (journal, writer) = Journal::start(connection, nums, secrets, next_commit, listener, timer);
    Ok(Opened { journal, writer, reader, origin, cameras, refusals, lock })
}

fn take_lock(dir: &Path, path: &Path) -> Result<File, JournalError> {
    let failed = |error| JournalError::File { what: "cannot lock", path: path.to_owned(), error };
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        let _ = file.read_to_string(&mut pid);
        let pid = if pid.trim().is_empty() { "unknown".to_owned() } else { pid.trim().to_owned() };
        return Err(JournalError::InUse { path: dir.to_owned(), pid });
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

fn read_origin(connection: &Connection, database: &Path) -> Result<Origin, JournalError> {
    let found: Option<String> =
        connection.query_row("SELECT value FROM meta WHERE key = 'origin'", [], |row| row.get(0)).optional()?;
    if let Some(text) = found {
        let corrupt =
            || JournalError::Corrupt { path: database.to_owned(), detail: "has an impossible origin".to_owned() };
        return Origin::parse(&text).ok_or_else(corrupt);
    }
    let mut bytes = [0; 5];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    let origin = Origin::from_random(bytes);
    connection.execute("INSERT INTO meta (key, value) VALUES ('origin', ?1)", [origin.as_str()])?;
    Ok(origin)
}

/// The number after the last that was given. Retention may have taken the row that had it.
fn read_next_commit(transaction: &Transaction<'_>) -> Result<CommitNo, JournalError> {
    let newest: i64 = transaction.query_row("SELECT coalesce(max(commit_no), 0) FROM frame", [], |row| row.get(0))?;
    Ok(retention::pruned_commit(transaction)?.max(newest as CommitNo) + 1)
}

struct CameraRow {
    num: i64,
    id: String,
    spec: Option<String>,
    revision: i64,
    reserved_until: i64,
    next_session: SessionNo,
    watermark: i64,
    managed_by: String,
    paused: bool,
}

fn read_cameras(transaction: &Transaction<'_>) -> Result<Vec<CameraRow>, JournalError> {
    let mut statement = transaction.prepare(
        "SELECT num, id, spec, revision, reserved_until, next_session, watermark, managed_by, paused
             FROM camera ORDER BY id",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(CameraRow {
            num: row.get(0)?,
            id: row.get(1)?,
            spec: row.get(2)?,
            revision: row.get(3)?,
            reserved_until: row.get(4)?,
            next_session: row.get(5)?,
            watermark: row.get(6)?,
            managed_by: row.get(7)?,
            paused: row.get(8)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// A camera's lost frames by reason.
fn read_lost(transaction: &Transaction<'_>, num: i64) -> Result<LostBy, JournalError> {
    let mut statement = transaction.prepare_cached("SELECT reason, frames FROM lost WHERE camera = ?1")?;
    let mut rows = statement.query([num])?;
    let mut lost_by = LostBy::default();
    while let Some(row) = rows.next()? {
        // A word that is not known is an account that does not add up, which is for the caller to see.
        if let Some(reason) = LostReason::parse(&row.get::<_, String>(0)?) {
            lost_by[reason as usize] = row.get::<_, i64>(1)? as u64;
        }
    }
    Ok(lost_by)
}

fn read_spec(json: &str, camera: &CameraId, revision: u64, secrets: &SecretsFile) -> Result<CameraSpec, String> {
    let raw: RawCameraSpec = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let mut spec = raw.validate(None).map_err(|problems| {
        problems.iter().map(|p| format!("{} {}", p.field, p.detail)).collect::<Vec<_>>().join("; ")
    })?;
    spec.password = secrets.get(camera, revision).cloned();
    Ok(spec)
}

/// Gives every seq that was reserved and has no outcome the outcome `lost(crash)`: one range for each run of them,
/// parted where a session begins. Whether they reached the bucket is not known, and the list says so.
fn settle_unknown(
    transaction: &Transaction<'_>,
    row: &CameraRow,
    camera: &CameraId,
    next_commit: &mut CommitNo,
) -> Result<(), JournalError> {
    let sessions: Vec<(SessionNo, Seq)> = transaction
        .prepare("SELECT session, first_seq FROM session WHERE camera = ?1 ORDER BY first_seq")?
        .query_map([row.num], |r| Ok((r.get(0)?, r.get::<_, i64>(1)? as Seq)))?
        .collect::<Result<_, _>>()?;
    let resolved: Vec<SeqRange> = transaction
        .prepare("SELECT seq, last FROM frame WHERE camera = ?1 AND seq > ?2 ORDER BY seq")?
        .query_map([row.num, row.watermark], |r| {
            Ok(SeqRange { first: r.get::<_, i64>(0)? as Seq, last: r.get::<_, i64>(1)? as Seq })
        })?
        .collect::<Result<_, _>>()?;
    let end = row.reserved_until as Seq;
    for run in unknown_runs(row.watermark as Seq + 1, end, &resolved, &sessions) {
        info!(%camera, first = run.first, last = run.last, "settled as lost(crash)");
        let session = sessions.iter().rev().find(|(_, first)| *first <= run.first).map(|(session, _)| *session);
        let outcome = Outcome::Lost { reason: LostReason::Crash, maybe_stored: true };
        let settled = Settled { camera: camera.clone(), seqs: run, session, outcome, counted: true };
        insert_outcome(transaction, row.num, &settled, next_commit)?;
    }
    transaction.execute(
        "UPDATE session SET why = 'crash', closed = coalesce(
             (SELECT max(captured_at) FROM frame WHERE frame.camera = session.camera AND frame.session = session.session
              AND frame.seq >= session.first_seq),
             opened)
         WHERE camera = ?1 AND closed IS NULL",
        [row.num],
    )?;
    transaction.execute("UPDATE camera SET watermark = ?2 WHERE num = ?1", params![row.num, (end - 1) as i64])?;
    Ok(())
}

/// The runs of seqs in `first..end` that are in none of the `resolved` ranges, parted where a session begins.
fn unknown_runs(first: Seq, end: Seq, resolved: &[SeqRange], sessions: &[(SessionNo, Seq)]) -> Vec<SeqRange> {
    let mut runs = Vec::new();
    let mut next = first;
    let stops = resolved.iter().copied().chain([SeqRange { first: end, last: end }]);
    for stop in stops {
        while next < stop.first {
            let border = sessions.iter().map(|(_, first)| *first).find(|first| *first > next);
            let until = border.unwrap_or(Seq::MAX).min(stop.first);
            runs.push(SeqRange { first: next, last: until - 1 });
            next = until;
        }
        next = next.max(stop.last + 1);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: Seq, last: Seq) -> SeqRange {
        SeqRange { first, last }
    }

    #[test]
    fn unknown_runs_are_the_holes_parted_at_sessions() {
        let resolved = [range(3, 3), range(5, 6)];
        assert_eq!(unknown_runs(3, 12, &resolved, &[(1, 1)]), [range(4, 4), range(7, 11)]);
        assert_eq!(
            unknown_runs(1, 12, &resolved, &[(1, 1), (2, 9)]),
            [range(1, 2), range(4, 4), range(7, 8), range(9, 11)]
        );
        assert_eq!(unknown_runs(7, 7, &[], &[]), []);
    }
}
