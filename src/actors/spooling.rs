//! What the hub does when the spool's thread speaks: frames are on disk, were found there, or had to go.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Hub;
use super::hub::Job;
use crate::model::{CameraId, Frame, LostReason, Outcome, Seq, SeqRange};
use crate::spool::{Place, Record, Sink, Spooled};

/// How often the journal is told how far the spool is: a commit for all cameras together.
const MARK: Duration = Duration::from_secs(1);

/// The hub's ear at the spool. Nothing in it waits.
#[derive(Debug)]
pub struct Spooling {
    hub: Hub,
    /// The highest seqs on disk that the journal was not told yet.
    highest: BTreeMap<CameraId, Seq>,
    /// When it was told last.
    marked: Option<Instant>,
}

impl Spooling {
    pub(super) fn new(hub: Hub) -> Self {
        Self { hub, highest: BTreeMap::new(), marked: None }
    }

    /// Tells the journal how far the spool is, now and then.
    fn mark(&mut self) {
        if !self.highest.is_empty() && self.marked.is_none_or(|at| at.elapsed() >= MARK) {
            self.hub.journal().spooled(std::mem::take(&mut self.highest));
            self.marked = Some(Instant::now());
        }
    }
}

impl Sink for Spooling {
    fn durable(&mut self, frames: Vec<(Record, Place)>) {
        let hub = self.hub.clone();
        let mut newest: BTreeMap<&CameraId, (u64, &Frame)> = BTreeMap::new();
        for (record, _) in &frames {
            let (count, frame) = newest.entry(&record.frame.camera).or_insert((0, &record.frame));
            *count += 1;
            *frame = &record.frame;
        }
        self.highest.extend(newest.iter().map(|(camera, (_, frame))| ((*camera).clone(), frame.seq)));
        self.mark();
        // Counted before any of them can leave, and so before any of them can end.
        for (camera, (count, frame)) in newest {
            hub.ledger(camera).count(count);
            hub.newest().set(frame);
        }
        let pending = hub.pending();
        {
            let mut dispatcher = hub.dispatcher();
            for (record, place) in frames {
                let (camera, seq) = (record.frame.camera.clone(), record.frame.seq);
                let bytes = record.frame.jpeg.len() as u64;
                dispatcher.durable(Job::new(camera, seq, bytes, Some(record), Some(place)), pending);
            }
        }
        hub.wake();
    }

    fn refused(&mut self, frame: Frame, reason: LostReason) {
        self.hub.dispatcher().refused(&frame.camera, frame.jpeg.len() as u64);
        self.hub.never_durable(&frame, reason);
        self.hub.wake();
    }

    fn loaded(&mut self, camera: &CameraId, frames: Vec<Spooled>, more: bool) {
        let job = |found: Spooled| {
            Job::new(camera.clone(), found.seq, u64::from(found.place.length), None, Some(found.place))
        };
        self.hub.dispatcher().loaded(camera, frames.into_iter().map(job), more);
        // It may have been less than was asked for.
        self.hub.load_more(camera);
        self.hub.wake();
    }

    fn drop_oldest(&mut self, camera: &CameraId, bytes: u64) -> Vec<Seq> {
        let dropped = self.hub.dispatcher().drop_oldest(camera, bytes);
        for job in &dropped {
            self.hub.record(job, Outcome::Lost { reason: LostReason::SpoolFull, maybe_stored: false });
            // What was missed in the spool, and never lay there, perhaps: the journal may say nothing more of it.
            if job.place.is_some_and(|place| place.length == 0) {
                self.hub.dispatcher().committed(camera, SeqRange::one(job.seq));
            }
        }
        dropped.iter().map(|job| job.seq).collect()
    }

    fn taken_up_to(&mut self, camera: &CameraId) -> Seq {
        self.hub.dispatcher().taken_up_to(camera)
    }

    fn dropped(&mut self, camera: &CameraId, seqs: SeqRange) {
        let outcome = Outcome::Lost { reason: LostReason::SpoolFull, maybe_stored: false };
        // Of several sessions, perhaps: the journal knows where each begins.
        self.hub.record_range(camera, seqs, None, outcome);
    }

    fn committed(&mut self, _frames: usize, _bytes: u64, took: Duration) {
        self.hub.metrics().spool_committed(self.hub.name(), took);
    }

    fn io_error(&mut self, op: &'static str) {
        self.hub.metrics().spool_io_error(self.hub.name(), op);
    }
}
