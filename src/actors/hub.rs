//! Where frames wait: the [`Dispatcher`] behind a lock, and the wake-up of whoever waits for work.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::Newest;
use super::lease::Lease;
use super::spooling::Spooling;
use crate::config::Durability;
use crate::delivery::{self, Answer, Budget, Errand, Gate, Pulled, Ticket};
use crate::journal::{Journal, Ledger, Ledgers};
use crate::metrics::Metrics;
use crate::model::{
    CameraId, DestinationName, Frame, KeyTemplate, LostReason, Origin, Outcome, SeqRange, SessionNo, Settled,
};
use crate::spool::{Place, ReadError, Record, Spool, Spooled};

/// Frames that a camera holds which loses nothing by waiting: enough to keep uploads busy.
const PATIENT: usize = 64;

pub(super) type Job = delivery::Job<Record, Place>;
pub(super) type Dispatcher = delivery::Dispatcher<Record, Place>;

/// What a hub is told at the start.
#[derive(Clone, Debug)]
pub struct Admission {
    /// Where the frames go.
    pub name: DestinationName,
    /// Where each camera's newest frame is kept.
    pub newest: Newest,
    /// What may be in memory.
    pub budget: Budget,
    /// What a frame survives.
    pub durability: Durability,
    /// What objects are called.
    pub template: KeyTemplate,
    /// This state directory's origin, which stands in every name.
    pub origin: Origin,
}

/// The one way of a frame from admission to its outcome. Cloning is cheap; all clones are one.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Never locked while the dispatcher is.
    gate: Mutex<Gate>,
    dispatcher: Mutex<Dispatcher>,
    admission: Admission,
    /// Whoever holds it waits for work; the others wait for their turn, and need not all wake for one frame.
    turn: tokio::sync::Mutex<()>,
    work: Notify,
    /// Told whenever a frame has left the hub or come back to it.
    moved: Notify,
    closed: AtomicBool,
    /// Frames stored in this run.
    stored: AtomicU64,
    spool: Spool,
    journal: Journal,
    ledgers: Ledgers,
    metrics: Metrics,
}

/// What a worker may do.
enum Next {
    Go(Box<Job>, Ticket),
    NotBefore(Instant),
    NotYet,
}

impl Hub {
    /// An empty hub.
    pub fn new(admission: Admission, spool: Spool, journal: Journal, ledgers: Ledgers, metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            gate: Mutex::new(Gate::new(Instant::now(), fastrand::Rng::new())),
            dispatcher: Mutex::new(Dispatcher::new(admission.budget)),
            admission,
            turn: tokio::sync::Mutex::default(),
            work: Notify::new(),
            moved: Notify::new(),
            closed: AtomicBool::new(false),
            stored: AtomicU64::new(0),
            spool,
            journal,
            ledgers,
            metrics,
        }))
    }

    /// What its destination is called.
    pub fn name(&self) -> &DestinationName {
        &self.0.admission.name
    }

    /// Each camera's newest frame, of all destinations.
    pub(super) fn newest(&self) -> &Newest {
        &self.0.admission.newest
    }

    /// What hears of the frames on disk.
    pub fn sink(&self) -> Spooling {
        Spooling::new(self.clone())
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.0.journal
    }

    pub(super) fn dispatcher(&self) -> MutexGuard<'_, Dispatcher> {
        self.0.dispatcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn gate(&self) -> MutexGuard<'_, Gate> {
        self.0.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing but probes goes to its destination.
    pub(super) fn is_shut(&self) -> bool {
        self.gate().is_shut()
    }

    /// Waits until a camera that loses nothing by waiting may go on.
    pub async fn room(&self, camera: &CameraId) {
        self.until(|dispatcher| dispatcher.held_by(camera) <= PATIENT / 2).await;
    }

    /// Whether such a camera should wait: it holds few frames, so that others, which hold more, make room first when
    /// memory or the spool is short.
    pub fn is_held(&self, camera: &CameraId) -> bool {
        self.dispatcher().held_by(camera) > PATIENT
    }

    /// What a frame survives once it is admitted.
    pub fn durability(&self) -> Durability {
        self.0.admission.durability
    }

    /// Takes a frame in: into the spool, from which it comes back when it is on disk, or into memory. What has to go
    /// for it is recorded as lost.
    pub fn admit(&self, frame: Frame) {
        let Admission { template, origin, durability, .. } = &self.0.admission;
        let record = Record { key: template.render(&frame, origin), frame };
        match durability {
            Durability::Disk => self.spool(record),
            Durability::Memory => self.keep(record),
        }
    }

    fn spool(&self, record: Record) {
        let (camera, bytes) = (&record.frame.camera, record.frame.jpeg.len() as u64);
        if self.dispatcher().expect(camera, bytes, self.0.spool.pending()) {
            self.0.spool.append(record);
        } else {
            self.never_durable(&record.frame, LostReason::MemoryFull);
        }
    }

    fn keep(&self, record: Record) {
        self.newest().set(&record.frame);
        let (camera, bytes) = (record.frame.camera.clone(), record.frame.jpeg.len() as u64);
        let job = Job::new(camera, record.frame.seq, bytes, Some(record), None);
        let dropped = self.dispatcher().admit(job);
        for job in dropped {
            self.record(&job, Outcome::Lost { reason: LostReason::MemoryFull, maybe_stored: false });
        }
        self.0.work.notify_one();
    }

    /// A camera's accounts.
    pub fn ledger(&self, camera: &CameraId) -> Arc<Ledger> {
        self.0.ledgers.of(camera)
    }

    /// Records how frames ended.
    pub fn settle(&self, settled: Settled) {
        self.0.journal.settle(self.ledger(&settled.camera), settled);
    }

    /// Records how a frame ended that the accounts know.
    pub(super) fn record(&self, job: &Job, outcome: Outcome) {
        let session = job.body.as_ref().map(|record| record.frame.session);
        self.record_range(&job.camera, SeqRange::one(job.seq), session, outcome);
    }

    /// Records how frames ended that the accounts know.
    pub(super) fn record_range(&self, camera: &CameraId, seqs: SeqRange, session: Option<SessionNo>, outcome: Outcome) {
        self.settle(Settled { camera: camera.clone(), seqs, session, outcome, counted: true });
    }

    /// Records that a frame ended before it was on disk: the accounts hear of it with its outcome.
    pub(super) fn never_durable(&self, frame: &Frame, reason: LostReason) {
        self.settle(Settled {
            camera: frame.camera.clone(),
            seqs: SeqRange::one(frame.seq),
            session: Some(frame.session),
            outcome: Outcome::Lost { reason, maybe_stored: false },
            counted: false,
        });
    }

    /// Takes note that outcomes are committed. The spool must have been told before: what is loaded from now on must
    /// not hold these frames.
    pub fn committed(&self, settled: &Settled) {
        self.dispatcher().committed(&settled.camera, settled.seqs);
        self.load_more(&settled.camera);
        self.0.moved.notify_waiters();
    }

    /// Takes in what an earlier run left in the spool of these cameras. To be called once the spool has been started
    /// and before any picture comes.
    pub fn recover<'a>(&self, cameras: impl IntoIterator<Item = &'a CameraId>) {
        for camera in cameras {
            self.dispatcher().recovered(camera);
            self.load_more(camera);
        }
    }

    /// Asks the spool for a camera's next frames where the window has room for them.
    pub(super) fn load_more(&self, camera: &CameraId) {
        let wanted = self.dispatcher().load(camera);
        if let Some((after, limit)) = wanted {
            self.0.spool.load(camera, after, limit);
        }
    }

    pub(super) async fn read(&self, camera: &CameraId, spooled: Spooled) -> Result<Record, ReadError> {
        self.0.spool.read(camera, spooled).await
    }

    /// Waits for the next frame to upload, and for the gate to let it go; `None` once the hub is closed. While the
    /// journal cannot write, none leaves: what would be stored could not be told.
    pub async fn next(&self) -> Option<Lease> {
        let mut stuck = self.0.journal.stuck();
        let _turn = self.0.turn.lock().await;
        loop {
            if self.is_closed() {
                return None;
            }
            let work = self.0.work.notified();
            if *stuck.borrow_and_update() {
                tokio::select! {
                    () = work => {}
                    // An error means that the journal is gone, and the process with it.
                    changed = stuck.changed() => changed.ok()?,
                }
                continue;
            }
            match self.pull(Instant::now()) {
                Next::Go(job, ticket) => return Some(Lease::new(*job, self.permitted(ticket), self.clone())),
                Next::NotYet => work.await,
                Next::NotBefore(at) => {
                    tokio::select! {
                        () = work => {}
                        () = tokio::time::sleep_until(at.into()) => {}
                    }
                }
            }
        }
    }

    fn pull(&self, now: Instant) -> Next {
        self.at_gate(now, |gate| {
            let pulled = match gate.ask(now, Errand::Frame) {
                Answer::NotBefore(at) => return Next::NotBefore(at),
                Answer::Go => self.dispatcher().pull(now, self.0.spool.pending()),
                Answer::Probe => {
                    self.dispatcher().pull_probe(self.0.spool.pending()).map_or(Pulled::Empty, Pulled::Job)
                }
            };
            match pulled {
                Pulled::Job(job) => Next::Go(Box::new(job), gate.begin(now)),
                Pulled::NotBefore(at) => Next::NotBefore(at),
                Pulled::Empty => Next::NotYet,
            }
        })
    }

    /// Frames that memory cannot let go, because they lie nowhere else or are on their way to the bucket, and their
    /// bytes together with those on their way to the disk.
    pub fn load(&self) -> (usize, u64) {
        let (frames, bytes) = self.dispatcher().needed();
        (frames, bytes + self.0.spool.pending())
    }

    /// Frames that are not stored yet, in the spool or in memory alone.
    pub(super) fn waiting(&self) -> u64 {
        let in_memory = self.dispatcher().only_in_memory() as u64;
        self.0.spool.status().frames + in_memory
    }

    /// Frames that are being uploaded.
    pub fn on_their_way(&self) -> usize {
        self.dispatcher().on_their_way()
    }

    /// What is told whenever a frame has left, or an attempt has ended.
    pub(super) fn moved(&self) -> &Notify {
        &self.0.moved
    }

    /// Where frames go, as metrics and the log name it.
    pub(super) fn destination(&self) -> &str {
        self.name().as_str()
    }

    /// Counts a frame that was stored.
    pub(super) fn count_stored(&self) {
        self.0.stored.fetch_add(1, Relaxed);
    }

    /// Frames stored in this run.
    pub(super) fn stored(&self) -> u64 {
        self.0.stored.load(Relaxed)
    }

    /// The daemon's metrics.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Waits until no frame is left that lives in memory alone.
    pub async fn emptied(&self) {
        self.until(|dispatcher| dispatcher.only_in_memory() == 0).await;
    }

    /// Waits until no lease is out.
    pub async fn returned(&self) {
        self.until(|dispatcher| dispatcher.on_their_way() == 0).await;
    }

    async fn until(&self, condition: impl Fn(&Dispatcher) -> bool) {
        loop {
            let moved = self.0.moved.notified();
            if condition(&self.dispatcher()) {
                return;
            }
            moved.await;
        }
    }

    /// Tells those who wait that frames have come, gone or come back.
    pub(super) fn wake(&self) {
        self.0.work.notify_one();
        self.0.moved.notify_waiters();
    }

    /// Whether it has been closed.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Relaxed)
    }

    /// Hands out nothing more.
    pub fn close(&self) {
        self.0.closed.store(true, Relaxed);
        self.wake();
    }

    /// Gives up what still waits and lives in memory alone, and returns how much that was. For the end of a shutdown:
    /// the hub must be closed, and no lease be out any more.
    pub fn give_up(&self) -> usize {
        let waiting = self.dispatcher().drain_memory();
        for job in &waiting {
            self.record(job, Outcome::Lost { reason: LostReason::Shutdown, maybe_stored: job.carried });
        }
        waiting.len()
    }

    pub(super) fn put_back(&self, job: Job, at: Instant) {
        let camera = job.camera.clone();
        self.dispatcher().put_back(job, at, self.0.spool.pending());
        self.load_more(&camera);
        self.wake();
    }

    /// Forgets a frame whose outcome is recorded.
    pub(super) fn settled(&self, job: &Job) {
        self.dispatcher().settled(job);
        // Where its commit was faster, this is what frees its place.
        self.load_more(&job.camera);
        self.wake();
    }

    pub(super) fn pending(&self) -> u64 {
        self.0.spool.pending()
    }
}
