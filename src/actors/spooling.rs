//! What the hub does when the spool's thread speaks: frames are on disk, were found there, or had to go.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Hub;
use super::hub::Job;
use crate::model::{CameraId, Frame, LostReason, Outcome, Seq, SeqRange};
use crate::spool::{Place, Record, Sink, Spooled};

/// The hub's ear at the spool. Nothing in it waits.
#[derive(Debug)]
pub struct Spooling(pub(super) Hub);

impl Sink for Spooling {
    fn durable(&mut self, frames: Vec<(Record, Place)>) {
        let hub = &self.0;
        let mut newest: BTreeMap<&CameraId, (u64, &Frame)> = BTreeMap::new();
        for (record, _) in &frames {
            let (count, frame) = newest.entry(&record.frame.camera).or_insert((0, &record.frame));
            *count += 1;
            *frame = &record.frame;
        }
        // Counted before any of them can leave, and so before any of them can end.
        for (camera, (count, frame)) in newest {
            hub.ledger(camera).count(count);
            hub.set_newest(frame);
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
        self.0.dispatcher().refused(&frame.camera, frame.jpeg.len() as u64);
        self.0.never_durable(&frame, reason);
        self.0.wake();
    }

    fn loaded(&mut self, camera: &CameraId, frames: Vec<Spooled>, more: bool) {
        let job = |found: Spooled| {
            Job::new(camera.clone(), found.seq, u64::from(found.place.length), None, Some(found.place))
        };
        self.0.dispatcher().loaded(camera, frames.into_iter().map(job), more);
        // It may have been less than was asked for.
        self.0.load_more(camera);
        self.0.wake();
    }

    fn drop_oldest(&mut self, camera: &CameraId, bytes: u64) -> Vec<Seq> {
        let dropped = self.0.dispatcher().drop_oldest(camera, bytes);
        for job in &dropped {
            self.0.record(job, Outcome::Lost { reason: LostReason::SpoolFull, maybe_stored: false });
        }
        dropped.iter().map(|job| job.seq).collect()
    }

    fn taken_up_to(&mut self, camera: &CameraId) -> Seq {
        self.0.dispatcher().taken_up_to(camera)
    }

    fn dropped(&mut self, camera: &CameraId, seqs: SeqRange) {
        let outcome = Outcome::Lost { reason: LostReason::SpoolFull, maybe_stored: false };
        // Of several sessions, perhaps: the journal knows where each begins.
        self.0.record_range(camera, seqs, None, outcome);
    }

    fn committed(&mut self, _frames: usize, _bytes: u64, took: Duration) {
        self.0.metrics().spool_committed(took);
    }

    fn io_error(&mut self, op: &'static str) {
        self.0.metrics().spool_io_error(op);
    }
}
