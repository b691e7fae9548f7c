//! Where frames wait: the [`Dispatcher`] behind a lock, and the wake-up of whoever waits for work.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::delivery::{Budget, Dispatcher, Job, Pulled};
use crate::journal::{Journal, Ledger, Ledgers};
use crate::model::{CameraId, Frame, LostReason, Outcome, SeqRange, Settled, Stored};

/// How long a frame waits whose upload ended without a word.
const AFTER_PANIC: Duration = Duration::from_millis(250);

/// Frames that a camera holds which loses nothing by waiting: enough to keep uploads busy.
const PATIENT: usize = 64;

/// The one way of a frame from admission to its outcome. Cloning is cheap; all clones are one.
#[derive(Clone, Debug)]
pub struct Hub(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dispatcher: Mutex<Dispatcher>,
    /// Each camera's newest frame, for those who want to look: one JPEG a camera.
    newest: Mutex<HashMap<CameraId, Frame>>,
    work: Notify,
    /// Told whenever a frame has left the hub or come back to it.
    moved: Notify,
    closed: AtomicBool,
    journal: Journal,
    ledgers: Ledgers,
}

impl Hub {
    /// An empty hub.
    pub fn new(budget: Budget, journal: Journal, ledgers: Ledgers) -> Self {
        let dispatcher = Mutex::new(Dispatcher::new(budget));
        Self(Arc::new(Inner {
            dispatcher,
            newest: Mutex::new(HashMap::new()),
            work: Notify::new(),
            moved: Notify::new(),
            closed: AtomicBool::new(false),
            journal,
            ledgers,
        }))
    }

    fn dispatcher(&self) -> MutexGuard<'_, Dispatcher> {
        self.0.dispatcher.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn newest_frames(&self) -> MutexGuard<'_, HashMap<CameraId, Frame>> {
        self.0.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A camera's newest frame, stored or not.
    pub fn newest(&self, camera: &CameraId) -> Option<Frame> {
        self.newest_frames().get(camera).cloned()
    }

    /// Forgets a camera's newest frame.
    pub fn forget_newest(&self, camera: &CameraId) {
        self.newest_frames().remove(camera);
    }

    /// Waits until a camera that loses nothing by waiting may go on.
    pub async fn room(&self, camera: &CameraId) {
        self.until(|dispatcher| dispatcher.held_by(camera) <= PATIENT / 2).await;
    }

    /// Whether such a camera should wait: it holds few frames, so that others, which hold more, make room first when memory
    /// is short.
    pub fn is_held(&self, camera: &CameraId) -> bool {
        self.dispatcher().held_by(camera) > PATIENT
    }

    /// Takes a frame in. What has to go for it is recorded as lost.
    pub fn admit(&self, frame: Frame) {
        self.newest_frames().insert(frame.camera.clone(), frame.clone());
        let dropped = self.dispatcher().admit(frame);
        for frame in dropped {
            self.record(&frame, Outcome::Lost { reason: LostReason::MemoryFull, maybe_stored: false });
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

    /// Waits for the next frame to upload; `None` once the hub is closed.
    pub async fn next(&self) -> Option<Lease> {
        loop {
            if self.0.closed.load(Relaxed) {
                // Passed on, so that one word reaches all who wait.
                self.0.work.notify_one();
                return None;
            }
            let work = self.0.work.notified();
            let (pulled, more) = {
                let mut dispatcher = self.dispatcher();
                (dispatcher.pull(Instant::now()), dispatcher.is_waiting())
            };
            match pulled {
                Pulled::Job(job) => {
                    if more {
                        // Whoever takes a frame wakes the next: it was perhaps the only one that knew when a retry is due.
                        self.0.work.notify_one();
                    }
                    return Some(Lease { job: Some(job), hub: self.clone() });
                }
                Pulled::Empty => work.await,
                Pulled::NotBefore(at) => {
                    tokio::select! {
                        () = work => {}
                        () = tokio::time::sleep_until(at.into()) => {}
                    }
                }
            }
        }
    }

    /// Frames waiting or on their way, and their bytes.
    pub fn load(&self) -> (usize, u64) {
        let dispatcher = self.dispatcher();
        (dispatcher.frames(), dispatcher.bytes())
    }

    /// Waits until no frame is left.
    pub async fn emptied(&self) {
        self.until(|dispatcher| dispatcher.frames() == 0).await;
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

    /// Whether it has been closed.
    pub fn is_closed(&self) -> bool {
        self.0.closed.load(Relaxed)
    }

    /// Hands out nothing more.
    pub fn close(&self) {
        self.0.closed.store(true, Relaxed);
        self.0.work.notify_one();
    }

    /// Gives up what still waits, and returns how much that was. For the end of a shutdown: the hub must be closed, and
    /// no lease be out any more.
    pub fn give_up(&self) -> usize {
        let waiting = self.dispatcher().drain_waiting();
        for job in &waiting {
            self.record(&job.frame, Outcome::Lost { reason: LostReason::Shutdown, maybe_stored: job.carried });
        }
        waiting.len()
    }

    fn put_back(&self, job: Job, at: Instant) {
        self.dispatcher().put_back(job, at);
        self.0.work.notify_one();
        self.0.moved.notify_waiters();
    }

    fn record(&self, frame: &Frame, outcome: Outcome) {
        let (camera, seqs) = (frame.camera.clone(), SeqRange::one(frame.seq));
        self.settle(Settled { camera, seqs, session: Some(frame.session), outcome, counted: true });
    }
}

/// A frame that somebody is uploading. It ends with its outcome or goes back; dropped without a word, by a panic or at
/// the end, it goes back as well, and then it may be in the bucket already.
#[derive(Debug)]
pub struct Lease {
    job: Option<Job>,
    hub: Hub,
}

impl Lease {
    /// The frame and its history.
    pub fn job(&self) -> &Job {
        self.job.as_ref().expect("it is taken only by what consumes the lease")
    }

    /// The frame is in the bucket.
    pub fn stored(mut self, stored: Stored) {
        self.end(Outcome::Stored(stored));
    }

    /// The frame will never be in the bucket.
    pub fn lost(mut self, reason: LostReason) {
        self.end(Outcome::Lost { reason, maybe_stored: false });
    }

    /// An attempt has failed: not again before `at`.
    pub fn retry(mut self, at: Instant, maybe_stored: bool) {
        let mut job = self.take();
        job.failures += 1;
        job.carried |= maybe_stored;
        self.hub.put_back(job, at);
    }

    fn end(&mut self, outcome: Outcome) {
        let job = self.take();
        self.hub.record(&job.frame, outcome);
        self.hub.dispatcher().settled(&job.frame);
        self.hub.0.moved.notify_waiters();
    }

    fn take(&mut self) -> Job {
        self.job.take().expect("a lease is consumed once")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(mut job) = self.job.take() {
            job.carried = true;
            job.failures += 1;
            // Not at once: a frame that kills its worker would kill them all in a row.
            self.hub.put_back(job, Instant::now() + AFTER_PANIC);
        }
    }
}
