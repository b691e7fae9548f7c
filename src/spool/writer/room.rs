//! Where there is no room: which frames go for others, if any may.

use super::super::Sink;
use super::super::disk::Disk;
use super::{Offered, Writer};
use crate::config::WhenFull;
use crate::delivery::WINDOW;
use crate::model::{CameraId, Seq, SeqRange};
use tracing::warn;

/// Frames that are looked at together when some must go.
const CHUNK: usize = 1024;

impl<D: Disk, S: Sink> Writer<D, S> {
    pub(super) fn without_room(&mut self) -> Offered {
        // The segments of what was dropped go when the journal says that it knows.
        let oldest_go =
            self.store.when_full == WhenFull::DropOldest && (self.store.waits_for_outcomes() || self.drop_some());
        if oldest_go { Offered::Waits } else { Offered::Refused }
    }

    /// Drops the oldest frames of the camera that holds most, a quarter of a segment of them. False where nothing may
    /// go.
    fn drop_some(&mut self) -> bool {
        let wanted = self.store.segment_bytes() / 4;
        let mut cameras: Vec<_> = self.store.live().map(|(camera, _, bytes)| (bytes, camera.clone())).collect();
        cameras.sort_by(|one, other| other.cmp(one));
        for (held, camera) in cameras {
            // No room comes of those that lie in what has to be kept.
            let keeps = self.store.keeps_below() > 0;
            let mut seqs = if keeps { Vec::new() } else { self.sink.drop_oldest(&camera, wanted) };
            seqs.sort_unstable();
            in_ranges(&seqs).into_iter().for_each(|range| self.store.leave(&camera, range));
            let mut freed = held - self.store.live_bytes(&camera);
            if freed < wanted {
                freed += self.drop_beyond(&camera, wanted - freed);
            }
            // What a segment that cannot be read just now holds of them is not counted; they have gone all the same.
            if freed > 0 || !seqs.is_empty() {
                if !std::mem::replace(&mut self.dropping, true) {
                    warn!(%camera, disk_full = self.store.disk_is_full(), "spool: no room, the oldest frames are dropped");
                }
                return true;
            }
        }
        false
    }

    /// Drops frames that the sink never took; returns their bytes.
    fn drop_beyond(&mut self, camera: &CameraId, wanted: u64) -> u64 {
        let mut after = self.sink.taken_up_to(camera);
        if after == 0 {
            // After a start its oldest frames may have been carried by an attempt, as many as a window holds: they
            // stay.
            let (oldest, _) = self.store.entries(camera, 0, WINDOW);
            let Some(last) = oldest.last() else { return 0 };
            after = last.seq;
        }
        // What lies in segments that have to be kept is not even looked at.
        let Some(first) = self.store.first_from_segment(camera, self.store.keeps_below(), after) else { return 0 };
        after = first - 1;
        let (mut seqs, mut freed) = (Vec::new(), 0);
        loop {
            let (entries, more) = self.store.entries(camera, after, CHUNK);
            for spooled in entries {
                if freed >= wanted {
                    break;
                }
                after = spooled.seq;
                if spooled.place.segment < self.store.keeps_below() {
                    continue;
                }
                freed += u64::from(spooled.place.length);
                seqs.push(spooled.seq);
            }
            if freed >= wanted || !more {
                break;
            }
        }
        for range in in_ranges(&seqs) {
            self.store.leave(camera, range);
            self.sink.dropped(camera, range);
        }
        freed
    }

    /// Whether a segment could be had.
    pub(super) fn has_room(&mut self) -> bool {
        self.store.make_ready().is_ok() || matches!(self.store.clean(), Ok(true))
    }
}

/// Rising seqs as ranges.
fn in_ranges(seqs: &[Seq]) -> Vec<SeqRange> {
    let runs = seqs.chunk_by(|one, next| one + 1 == *next);
    runs.map(|run| SeqRange { first: run[0], last: run[run.len() - 1] }).collect()
}
