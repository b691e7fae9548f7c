//! What a start makes of the last run's end: settles what a crash left open, and goes on with what lies in the spool.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::{Transaction, params};
use tracing::{error, info, warn};

use super::ledger::Past;
use super::outcome::{Destinations, record, sessions_in};
use super::ranges::{by_session, from, minus};
use super::secrets::SecretsFile;
use super::tasks::{self, KnownTasks};
use super::writer::{Nums, Writer};
use super::{
    Journal, JournalError, KnownNvr, Ledger, LostBy, Reader, StateDir, TaskSecrets, Totals, batches, catalog, nvrs,
    retention,
};
use crate::model::{
    Batch, CameraId, CameraSpec, CommitNo, FORGET_REFUSAL_AFTER, LostReason, ManagedBy, NvrId, Origin, Outcome,
    RawCameraSpec, Refusal, Resolved, Seq, SeqRange, SessionNo, Settled, SpooledCamera, UnixMicros,
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
    /// Every recorder ever asked for.
    pub nvrs: Vec<KnownNvr>,
    /// Which of each camera's seqs are resolved, for the spool.
    pub resolved: BTreeMap<CameraId, Resolved>,
    /// Camera logins that were refused lately.
    pub refusals: Vec<Refusal>,
    /// Export jobs and their tasks.
    pub tasks: KnownTasks,
    /// The recorders' passwords that belong to them.
    pub task_secrets: TaskSecrets,
    /// Keeps other daemons out for as long as it is open.
    pub lock: File,
}

/// A camera as the journal knows it.
#[derive(Debug)]
pub struct KnownCamera {
    /// What is asked of it; `None` for a deleted camera.
    pub spec: Option<CameraSpec>,
    /// Why what is asked of it cannot be used, where it stands in the catalog and this program does not take it. It
    /// costs this camera alone, and what is asked stays in the catalog until somebody puts something else.
    pub unusable: Option<String>,
    /// Counts the changes of its spec.
    pub revision: u64,
    /// Who may change it.
    pub managed_by: ManagedBy,
    /// Whether a person has paused it.
    pub paused: bool,
    /// The batch that it is, if it is one.
    pub batch: Option<Batch>,
    /// The recorder and the channel of it that it is, if it is one.
    pub channel: Option<(NvrId, u32)>,
    /// Its accounts.
    pub ledger: Arc<Ledger>,
}

impl StateDir {
    /// Settles as `lost(crash)` whatever has no outcome and does not lie in the spool, and starts the writer, which
    /// tells `listener` of committed outcomes and `timer` how long each commit took. `spooled` is what the spool has
    /// found of each camera.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or written, or the journal is damaged.
    pub fn recover(
        mut self,
        spooled: &BTreeMap<CameraId, SpooledCamera>,
        listener: impl Fn(Settled) + Send + 'static,
        timer: impl Fn(Duration) + Send + 'static,
    ) -> Result<Opened, JournalError> {
        let mut secrets = SecretsFile::open(self.paths.secrets.clone())?;
        let transaction = self.connection.transaction()?;
        let mut next_commit = read_next_commit(&transaction)?;
        add_unknown(&transaction, spooled)?;
        let (mut cameras, mut nums, mut resolved) = (Vec::new(), HashMap::new(), BTreeMap::new());
        for row in read_cameras(&transaction)? {
            let id: CameraId = row.id.parse().map_err(|_| JournalError::Corrupt {
                path: self.paths.database.clone(),
                detail: format!("camera `{}` has an impossible id", row.id.escape_debug()),
            })?;
            let recovery = Recovery { transaction: &transaction, camera: &id, row: &row, spooled: spooled.get(&id) };
            let (past, settled) = recovery.run(&mut next_commit)?;
            let corrupt = |detail: String| JournalError::Corrupt {
                path: self.paths.database.clone(),
                detail: format!("camera `{id}`: {detail}"),
            };
            let revision = row.revision as u64;
            let read = row.spec.as_deref().map(|json| read_spec(json, &id, revision, &secrets)).transpose();
            let (spec, unusable) = read.map_or_else(|why| (None, Some(why)), |spec| (spec, None));
            if let Some(why) = &unusable {
                error!(camera = %id, why, "what is asked of the camera cannot be used: put it anew");
            }
            let managed_by =
                ManagedBy::parse(&row.managed_by).ok_or_else(|| corrupt("has no known manager".to_owned()))?;
            nums.insert(id.clone(), row.num);
            resolved.insert(id.clone(), settled);
            let ledger = Arc::new(Ledger::with_past(id, past));
            if let Some(spec) = &spec {
                ledger.goes_to(spec.destination.clone());
            }
            let batch = batches::read(&transaction, row.num)?;
            let channel = nvrs::channel(&transaction, row.num)?;
            let paused = row.paused;
            cameras.push(KnownCamera { spec, unusable, revision, managed_by, paused, batch, channel, ledger });
        }
        let nvrs = nvrs::read(&transaction, &secrets)?;
        let refusals = catalog::refusals(&transaction, UnixMicros::now().before(FORGET_REFUSAL_AFTER))?;
        let tasks = tasks::recover(&transaction)?;
        transaction.commit()?;
        let task_secrets = TaskSecrets::open(&self.paths.dir, tasks.jobs.iter().map(|job| job.job))?;
        let wanted = cameras.iter().filter(|camera| camera.spec.is_some() || camera.unusable.is_some());
        let wanted = wanted.map(|camera| (camera.ledger.camera().to_string(), camera.revision));
        let recorders = nvrs.iter().filter(|nvr| nvr.spec.is_some() || nvr.unusable.is_some());
        let recorders = recorders.map(|nvr| (nvrs::owner(&nvr.id), nvr.revision));
        let owners: Vec<_> = wanted.chain(recorders).collect();
        secrets.keep_only(&owners)?;

        let reader = Reader::open(&self.paths.database)?;
        let Self { lock, connection, origin, reserve, destinations, .. } = self;
        let nums = Nums { cameras: nums, destinations };
        let (journal, writer) = Writer::start(connection, nums, secrets, reserve, next_commit, listener, timer);
        Ok(Opened { journal, writer, reader, origin, cameras, nvrs, resolved, refusals, tasks, task_secrets, lock })
    }
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
    spec.password = secrets.get(camera.as_str(), revision).cloned();
    Ok(spec)
}

/// Makes rows for the cameras that only the spool knows: deleted ones, since nothing is asked of them.
fn add_unknown(transaction: &Transaction<'_>, spooled: &BTreeMap<CameraId, SpooledCamera>) -> Result<(), JournalError> {
    let mut statement = transaction.prepare("INSERT INTO camera (id) VALUES (?1) ON CONFLICT (id) DO NOTHING")?;
    for camera in spooled.keys() {
        if statement.execute([camera.as_str()])? > 0 {
            warn!(%camera, "the spool holds frames of a camera that the journal does not know: it counts as deleted");
        }
    }
    Ok(())
}

/// One camera's recovery.
struct Recovery<'a> {
    transaction: &'a Transaction<'a>,
    camera: &'a CameraId,
    row: &'a CameraRow,
    spooled: Option<&'a SpooledCamera>,
}

impl Recovery<'_> {
    /// Finds what is unresolved, settles what is lost and makes up the accounts; for the spool, says what is resolved.
    fn run(&self, next_commit: &mut CommitNo) -> Result<(Past, Resolved), JournalError> {
        let begin = self.row.watermark as Seq + 1;
        let spooled = self.spooled.map_or(&[][..], |spooled| &spooled.seqs);
        // Up to the highest seq that anybody knows of: numbers beyond it were never seen outside.
        let next_seq = (self.row.reserved_until as Seq).max(spooled.last().map_or(0, |range| range.last + 1));
        let next_session = self.row.next_session.max(self.spooled.map_or(0, |spooled| spooled.session + 1));
        self.close_sessions(next_seq)?;

        let known = self.outcomes()?;
        let unresolved = minus(from(spooled.iter().copied(), begin), known.iter().copied());
        let all = (begin < next_seq).then(|| SeqRange { first: begin, last: next_seq - 1 });
        let holes = minus(minus(all, known), unresolved.iter().copied());
        self.settle(&holes, next_commit)?;

        let watermark = unresolved.first().map_or(next_seq, |range| range.first) - 1;
        self.transaction.execute(
            "UPDATE camera SET watermark = ?2, reserved_until = ?3, next_session = ?4 WHERE num = ?1",
            params![self.row.num, watermark as i64, next_seq as i64, next_session],
        )?;
        let above = minus(from(all, watermark + 1), unresolved.iter().copied());
        let in_flight = unresolved.iter().map(SeqRange::len).sum();
        let (totals, lost_by) = self.totals(next_seq, in_flight)?;
        let past = Past { next_seq, next_session, totals, lost_by, watermark };
        Ok((past, Resolved { watermark, above }))
    }

    /// Closes the sessions that were open: with the newest frame that is known of them.
    fn close_sessions(&self, next_seq: Seq) -> Result<(), JournalError> {
        // A session may have been opened for frames that never reached the disk. Their numbers are given again, to
        // frames of the next session, which must not begin before this one.
        self.transaction.execute(
            "UPDATE session SET first_seq = ?2 WHERE camera = ?1 AND first_seq > ?2",
            params![self.row.num, next_seq as i64],
        )?;
        let (session, newest) = self.spooled.map_or((0, 0), |spooled| (spooled.session, spooled.newest.0));
        self.transaction.execute(
            "UPDATE session SET why = 'crash', closed = max(
                 opened,
                 CASE WHEN session = ?2 THEN ?3 ELSE opened END,
                 coalesce(
                     (SELECT max(captured_at) FROM frame WHERE frame.camera = session.camera
                      AND frame.session = session.session AND frame.seq >= session.first_seq),
                     opened))
             WHERE camera = ?1 AND closed IS NULL",
            params![self.row.num, session, newest],
        )?;
        Ok(())
    }

    /// What is resolved above the stored watermark.
    fn outcomes(&self) -> Result<Vec<SeqRange>, JournalError> {
        let mut statement = self
            .transaction
            .prepare_cached("SELECT seq, last FROM frame WHERE camera = ?1 AND seq > ?2 ORDER BY seq")?;
        let rows = statement.query_map([self.row.num, self.row.watermark], |row| {
            Ok(SeqRange { first: row.get::<_, i64>(0)? as Seq, last: row.get::<_, i64>(1)? as Seq })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Gives every hole the outcome `lost(crash)`: one range for each, parted where a session begins. Whether they
    /// reached the bucket is not known, and the list says so.
    fn settle(&self, holes: &[SeqRange], next_commit: &mut CommitNo) -> Result<(), JournalError> {
        let (Some(first), Some(last)) = (holes.first(), holes.last()) else { return Ok(()) };
        let sessions = sessions_in(self.transaction, self.row.num, SeqRange { first: first.first, last: last.last })?;
        for (run, session) in holes.iter().flat_map(|hole| by_session(*hole, &sessions)) {
            info!(camera = %self.camera, first = run.first, last = run.last, "settled as lost(crash)");
            let outcome = Outcome::Lost { reason: LostReason::Crash, maybe_stored: true };
            let settled = Settled { camera: self.camera.clone(), seqs: run, session, outcome, counted: true };
            // What is lost is nowhere.
            record(self.transaction, self.row.num, &settled, &Destinations::new(), next_commit)?;
        }
        Ok(())
    }

    /// The totals, each counted for itself, and the lost frames by reason.
    fn totals(&self, next_seq: Seq, in_flight: u64) -> Result<(Totals, LostBy), JournalError> {
        let lost_by = read_lost(self.transaction, self.row.num)?;
        let totals =
            self.transaction.query_row("SELECT stored, lost FROM camera WHERE num = ?1", [self.row.num], |r| {
                let (stored, lost) = (r.get::<_, i64>(0)? as u64, r.get::<_, i64>(1)? as u64);
                Ok(Totals { captured: next_seq - 1, stored, lost, in_flight })
            })?;
        if totals.stored + totals.lost + in_flight != totals.captured || lost_by.iter().sum::<u64>() != totals.lost {
            error!(camera = %self.camera, ?totals, ?lost_by, "the journal's accounts do not add up");
        }
        Ok((totals, lost_by))
    }
}
