//! A frame in the hands of an UploadActor.

use std::time::{Duration, Instant};

use tracing::{error, warn};

use super::hub::Job;
use super::{Hub, Permit};
use crate::delivery::Verdict;
use crate::model::{LostReason, Outcome, SeqRange, Stored};
use crate::spool::{ReadError, Record, Spooled};
use crate::storage::BucketError;

/// How long a frame waits whose upload ended without a word.
const AFTER_PANIC: Duration = Duration::from_millis(250);
/// How long a frame waits that could not be read.
const READ_AGAIN: Duration = Duration::from_secs(2);
/// How often the disk may say that it cannot read a record before that is believed.
const UNREADABLE: u32 = 8;

/// A frame that somebody is uploading. It ends with its outcome or goes back; dropped without a word, by a panic or at
/// the end, it goes back as well, and then it may be in the bucket already.
#[derive(Debug)]
pub struct Lease {
    job: Option<Job>,
    /// Until the gate was told how the attempt has ended.
    permit: Option<Permit>,
    hub: Hub,
}

impl Lease {
    pub(super) fn new(job: Job, permit: Permit, hub: Hub) -> Self {
        Self { job: Some(job), permit: Some(permit), hub }
    }

    /// The frame's history.
    pub(super) fn job(&self) -> &Job {
        self.job.as_ref().expect("it is taken only by what consumes the lease")
    }

    /// Whether the frame is in memory.
    pub(super) fn is_read(&self) -> bool {
        self.job().body.is_some()
    }

    /// The frame and its key, read from the disk where memory did not keep them. Where that fails the lease has ended:
    /// `None`.
    pub async fn read(mut self) -> Option<(Self, Record)> {
        let job = self.job();
        let (Some(place), None) = (job.place, &job.body) else {
            let record = job.body.clone().expect("what has no place on disk has its body");
            return Some((self, record));
        };
        match self.hub.read(&job.camera, Spooled { seq: job.seq, place }).await {
            Ok(record) => {
                let job = self.job.as_mut().expect("it was there a moment ago");
                job.body = Some(record.clone());
                Some((self, record))
            }
            Err(failure) => {
                self.unreadable(&failure);
                None
            }
        }
    }

    fn unreadable(mut self, failure: &ReadError) {
        if let Some(permit) = self.permit.take() {
            permit.unused();
        }
        let job = self.job.as_mut().expect("the lease has not ended");
        let (camera, seq) = (&job.camera, job.seq);
        match failure {
            ReadError::Damaged { .. } => {
                error!(%camera, seq, error = %failure, "a frame is damaged on disk: it is lost");
                self.hub.metrics().spool_corrupt(self.hub.name(), 1);
                // It was missed where its segment was looked through, and never lay there, perhaps.
                if job.place.is_some_and(|place| place.length == 0) { self.gone() } else { self.damaged() }
            }
            ReadError::Gone { .. } => {
                error!(%camera, seq, error = %failure, "a frame is gone from the disk: it is lost");
                self.gone();
            }
            ReadError::Io { .. } => {
                self.hub.metrics().spool_io_error(self.hub.name(), "read");
                job.unreadable += 1;
                if job.unreadable >= UNREADABLE && failure.is_bad_place() {
                    error!(%camera, seq, error = %failure, "a frame cannot be read from the disk: it is lost");
                    self.damaged();
                } else {
                    warn!(%camera, seq, error = %failure, "a frame cannot be read from the disk yet");
                    let job = self.take();
                    self.hub.put_back(job, Instant::now() + READ_AGAIN);
                }
            }
        }
    }

    /// With no record there is nothing for which a place would have to be kept; the journal may know its outcome
    /// already and say nothing more.
    fn gone(self) {
        let (camera, seq) = (self.job().camera.clone(), self.job().seq);
        let hub = self.hub.clone();
        self.damaged();
        hub.dispatcher().committed(&camera, SeqRange::one(seq));
    }

    fn damaged(self) {
        let maybe_stored = self.job().carried;
        self.lost(LostReason::Damaged, maybe_stored);
    }

    /// Tells the gate what the attempt told of the destination, and returns whether that it failed says nothing of the frame.
    pub fn tell(&mut self, verdict: Verdict, failure: Option<&BucketError>) -> bool {
        let Some(permit) = self.permit.take() else { return false };
        let camera = &self.job().camera;
        permit.ended(Some(camera), verdict, failure)
    }

    /// Whether the attempt may take as long as the frame's size allows.
    pub(super) fn is_patient(&self) -> bool {
        self.permit.as_ref().is_none_or(Permit::is_patient)
    }

    /// The frame is in the bucket.
    pub fn stored(mut self, stored: Stored) {
        self.hub.count_stored();
        self.end(Outcome::Stored(stored));
    }

    /// The frame will never be in the bucket; `maybe_stored` unless that is certain.
    pub fn lost(mut self, reason: LostReason, maybe_stored: bool) {
        self.end(Outcome::Lost { reason, maybe_stored });
    }

    /// An attempt has failed: not again before `at`.
    pub fn retry(mut self, at: Instant, maybe_stored: bool) {
        let mut job = self.take();
        job.failures += 1;
        job.carried |= maybe_stored;
        self.hub.put_back(job, at);
    }

    /// An attempt has failed for its destination's sake, where now nothing but probes goes: as soon as the gate lets it,
    /// and not the later for this.
    pub fn again(mut self, maybe_stored: bool) {
        let mut job = self.take();
        job.carried |= maybe_stored;
        self.hub.put_back(job, Instant::now());
    }

    /// Takes note that the bucket refuses the frame for good, and answers how often it has, and how many other frames
    /// it has taken since it first did.
    pub fn refused(&mut self) -> (u32, u64) {
        let stored = self.hub.stored();
        let job = self.job.as_mut().expect("the lease has not ended");
        job.refusals += 1;
        (job.refusals, stored - *job.refused_at.get_or_insert(stored))
    }

    fn end(&mut self, outcome: Outcome) {
        let job = self.take();
        // First: the commit may be told of before we come to the next line.
        self.hub.dispatcher().ends(&job);
        self.hub.record(&job, outcome);
        self.hub.settled(&job);
    }

    fn take(&mut self) -> Job {
        self.job.take().expect("a lease is consumed once")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(mut job) = self.job.take() {
            // What has not been read has not been sent either.
            job.carried |= job.body.is_some();
            job.failures += 1;
            // Not at once: a frame that kills its worker would kill them all in a row.
            self.hub.put_back(job, Instant::now() + AFTER_PANIC);
        }
    }
}
