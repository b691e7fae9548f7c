//! One camera's running accounts, in memory.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use tokio::sync::{Notify, watch};

use super::NewSession;
use crate::model::{
    CameraId, DestinationName, LostReason, Outcome, Seq, SeqRange, SessionNo, Settled, TimeSource, UnixMicros,
};

/// Seqs reserved at a time. With no spool, the unknown rest of a block becomes one tombstone after a crash.
pub const BLOCK: u64 = 1_024;

/// What became of a camera's frames. `captured = stored + lost + in_flight`, exactly, in every snapshot; each of the
/// four is counted for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Totals {
    /// Frames since the camera id was first used: with a spool those that were on disk or have ended before that,
    /// without one the seqs issued.
    pub captured: u64,
    /// Frames in the bucket.
    pub stored: u64,
    /// Frames that ended otherwise.
    pub lost: u64,
    /// Frames whose outcome is not known yet.
    pub in_flight: u64,
}

/// Lost frames by reason, in the order of [`LostReason::ALL`]; they sum up to [`Totals::lost`].
pub type LostBy = [u64; LostReason::ALL.len()];

/// What the journal, together with the spool, knows of a camera's past.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Past {
    /// The seq of the next frame.
    pub next_seq: Seq,
    /// The number of the next session.
    pub next_session: SessionNo,
    /// What became of its frames; in flight are those that lie in the spool and have no outcome.
    pub totals: Totals,
    /// What became of the lost ones.
    pub lost_by: LostBy,
    /// Everything up to here is resolved.
    pub watermark: Seq,
}

impl Past {
    /// None at all.
    const NONE: Self = Self {
        next_seq: 1,
        next_session: 1,
        totals: Totals { captured: 0, stored: 0, lost: 0, in_flight: 0 },
        lost_by: [0; LostReason::ALL.len()],
        watermark: 0,
    };
}

/// Everything a scrape wants to know of a camera's accounts, from one snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accounts {
    /// What became of its frames.
    pub totals: Totals,
    /// What became of the lost ones.
    pub lost_by: LostBy,
    /// When the newest frame was captured, in this run of the daemon.
    pub last_captured_at: Option<UnixMicros>,
}

/// Issues a camera's seqs and keeps its totals and its watermark.
///
/// It belongs to the camera id, not to one generation of its actor, and lives as long as the process. One lock guards
/// all of it, so that whoever looks sees the four totals agree.
#[derive(Debug)]
pub struct Ledger {
    camera: CameraId,
    inner: Mutex<Inner>,
    /// The last seq of the list so far. Consumers of the list wait for it to move.
    watermark: watch::Sender<Seq>,
    /// Told when a block of seqs has arrived.
    refilled: Notify,
    /// Set while the last that was heard of an upload of this camera's frames was a failure.
    upload_trouble: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    next_seq: Seq,
    reserved_until: Seq,
    reserving: bool,
    next_session: SessionNo,
    totals: Totals,
    lost_by: LostBy,
    last_captured_at: Option<UnixMicros>,
    /// Where what it captures goes.
    destination: Option<DestinationName>,
    /// How many frames have ended, and why, for which no seq could be had: the camera's next generation tells them.
    untold: Vec<(LostReason, u64)>,
}

impl Ledger {
    /// The accounts of a camera whose id was never used.
    pub fn new(camera: CameraId) -> Self {
        Self::with_past(camera, Past::NONE)
    }

    /// The accounts of a camera that go on from its past.
    pub fn with_past(camera: CameraId, past: Past) -> Self {
        let inner = Inner {
            next_seq: past.next_seq,
            reserved_until: past.next_seq,
            reserving: false,
            next_session: past.next_session,
            totals: past.totals,
            lost_by: past.lost_by,
            last_captured_at: None,
            destination: None,
            untold: Vec::new(),
        };
        Self {
            camera,
            inner: Mutex::new(inner),
            watermark: watch::Sender::new(past.watermark),
            refilled: Notify::new(),
            upload_trouble: AtomicBool::new(false),
        }
    }

    /// Whose accounts these are.
    pub fn camera(&self) -> &CameraId {
        &self.camera
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change below is complete before anything in it can panic, so a poisoned lock guards sound accounts.
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Issues the next `count` seqs, or none where fewer are reserved on disk: wait for [`Ledger::refilled`].
    pub fn issue(&self, count: u64, captured_at: Option<UnixMicros>) -> Option<SeqRange> {
        let mut inner = self.lock();
        let first = inner.next_seq;
        if count == 0 || inner.reserved_until - first < count {
            return None;
        }
        inner.next_seq += count;
        inner.totals.captured += count;
        inner.totals.in_flight += count;
        inner.last_captured_at = captured_at.or(inner.last_captured_at);
        Some(SeqRange { first, last: first + count - 1 })
    }

    /// Numbers the next `count` frames, at least one, without asking whether their seqs are reserved: for those that
    /// count only once they are in the spool ([`Ledger::count`]) or have ended ([`Settled::counted`]). Until then a
    /// crash takes the numbers back, and nobody has seen them.
    pub fn number(&self, count: u64, captured_at: Option<UnixMicros>) -> SeqRange {
        debug_assert!(count > 0, "a range holds at least one seq");
        let mut inner = self.lock();
        let first = inner.next_seq;
        inner.next_seq += count;
        // What is reserved never ends before what is used.
        inner.reserved_until = inner.reserved_until.max(inner.next_seq);
        inner.last_captured_at = captured_at.or(inner.last_captured_at);
        SeqRange { first, last: first + count - 1 }
    }

    /// Counts frames that were numbered and are in the spool now.
    pub fn count(&self, frames: u64) {
        let mut inner = self.lock();
        inner.totals.captured += frames;
        inner.totals.in_flight += frames;
    }

    /// How many seqs can be issued now.
    pub fn available(&self) -> u64 {
        let inner = self.lock();
        inner.reserved_until - inner.next_seq
    }

    /// Whether the next block should be asked for now. It answers yes once, until that block has arrived.
    pub fn wants_block(&self) -> bool {
        let mut inner = self.lock();
        let wants = !inner.reserving && inner.reserved_until - inner.next_seq < BLOCK / 2;
        inner.reserving |= wants;
        wants
    }

    /// Takes the next block of seqs; it must begin where the last one ended.
    pub fn refill(&self, block: SeqRange) {
        let mut inner = self.lock();
        debug_assert_eq!(block.first, inner.reserved_until, "seqs are reserved without holes");
        inner.reserved_until = block.last + 1;
        inner.reserving = false;
        drop(inner);
        self.refilled.notify_one();
    }

    /// Waits until a block has arrived since the last call.
    pub async fn refilled(&self) {
        self.refilled.notified().await;
    }

    /// The next session, which begins with the next seq. Nothing of it counts before the journal has it.
    pub fn next_session(&self, opened: UnixMicros, codec: Option<String>, size: (u32, u32)) -> NewSession {
        let mut inner = self.lock();
        let session = inner.next_session;
        inner.next_session += 1;
        let time_source = TimeSource::default();
        NewSession { camera: self.camera.clone(), session, first_seq: inner.next_seq, opened, codec, size, time_source }
    }

    /// Books outcomes that are committed.
    pub fn settle(&self, settled: &Settled) {
        let mut inner = self.lock();
        let count = settled.seqs.len();
        match settled.outcome {
            Outcome::Stored(_) => inner.totals.stored += count,
            Outcome::Lost { reason, .. } => {
                inner.totals.lost += count;
                inner.lost_by[reason as usize] += count;
            }
        }
        if settled.counted {
            inner.totals.in_flight -= count;
        } else {
            inner.totals.captured += count;
        }
    }

    /// Leaves it to the camera's next generation to tell that frames are lost.
    pub fn leave_untold(&self, why: LostReason, count: u64) {
        let untold = &mut self.lock().untold;
        match untold.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, more)) => *more += count,
            None => untold.push((why, count)),
        }
    }

    /// How many were left to it.
    pub fn untold(&self) -> u64 {
        self.lock().untold.iter().map(|(_, count)| count).sum()
    }

    /// What was left to it.
    pub fn take_untold(&self) -> Vec<(LostReason, u64)> {
        std::mem::take(&mut self.lock().untold)
    }

    /// One snapshot of the totals.
    pub fn totals(&self) -> Totals {
        self.lock().totals
    }

    /// One snapshot of everything that is counted.
    pub fn accounts(&self) -> Accounts {
        let inner = self.lock();
        Accounts { totals: inner.totals, lost_by: inner.lost_by, last_captured_at: inner.last_captured_at }
    }

    /// The last seq of the list so far: everything up to it is resolved.
    pub fn watermark(&self) -> Seq {
        *self.watermark.borrow()
    }

    /// Tells whoever holds it of every move of the watermark.
    pub fn watermark_moves(&self) -> watch::Receiver<Seq> {
        self.watermark.subscribe()
    }

    /// Moves the watermark; it never goes back.
    pub fn advance_watermark(&self, to: Seq) {
        self.watermark.send_if_modified(|watermark| {
            let moves = to > *watermark;
            *watermark = to.max(*watermark);
            moves
        });
    }

    /// When the newest frame was captured, in this run of the daemon.
    pub fn last_captured_at(&self) -> Option<UnixMicros> {
        self.lock().last_captured_at
    }

    /// Takes note of where the camera's frames go from now on.
    pub fn goes_to(&self, destination: DestinationName) {
        self.lock().destination = Some(destination);
    }

    /// Where they go, as the camera's spec has it; `None` where it had none in this run of the daemon.
    pub fn destination(&self) -> Option<DestinationName> {
        self.lock().destination.clone()
    }

    /// Takes note of how the last upload went, and returns whether the one before it had failed.
    pub fn note_upload(&self, failed: bool) -> bool {
        self.upload_trouble.swap(failed, Relaxed)
    }

    /// Keeps no seqs in reserve for a camera that captures nothing more, and returns the first one that was never issued;
    /// `None` where more are on their way to it.
    pub fn give_back(&self) -> Option<Seq> {
        let mut inner = self.lock();
        if inner.reserving {
            return None;
        }
        inner.reserved_until = inner.next_seq;
        Some(inner.next_seq)
    }

    /// The first seq that was never issued or numbered; what is reserved from there on can be given back at the end.
    pub fn next_seq(&self) -> Seq {
        self.lock().next_seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::LostReason;

    #[test]
    fn seqs_are_issued_only_where_reserved_and_the_identity_always_holds() {
        let mut lost_by = LostBy::default();
        lost_by[LostReason::Crash as usize] = 1;
        let totals = Totals { captured: 4, stored: 3, lost: 1, in_flight: 0 };
        let past = Past { next_seq: 5, next_session: 2, totals, lost_by, watermark: 4 };
        let ledger = Ledger::with_past("a".parse().unwrap(), past);
        assert!(ledger.issue(1, None).is_none());
        assert!(ledger.wants_block() && !ledger.wants_block());
        ledger.refill(SeqRange { first: 5, last: 8 });
        assert_eq!(ledger.issue(3, None), Some(SeqRange { first: 5, last: 7 }));
        assert_eq!(ledger.issue(2, None), None);
        assert_eq!(ledger.totals(), Totals { captured: 7, stored: 3, lost: 1, in_flight: 3 });
        ledger.settle(&Settled {
            camera: "a".parse().unwrap(),
            seqs: SeqRange { first: 5, last: 6 },
            session: Some(2),
            outcome: Outcome::Lost { reason: LostReason::Overrun, maybe_stored: false },
            counted: true,
        });
        assert_eq!(ledger.totals(), Totals { captured: 7, stored: 3, lost: 3, in_flight: 1 });
        let lost_by = ledger.accounts().lost_by;
        assert_eq!((lost_by[LostReason::Overrun as usize], lost_by.iter().sum::<u64>()), (2, 3));
        let session = ledger.next_session(UnixMicros(1), None, (640, 480));
        assert_eq!((session.session, session.first_seq), (2, 8));
    }

    #[test]
    fn what_is_numbered_counts_once_it_is_in_the_spool_or_has_ended() {
        let totals = Totals { captured: 9, stored: 2, lost: 0, in_flight: 7 };
        let past = Past { next_seq: 10, next_session: 2, totals, watermark: 2, ..Past::NONE };
        let ledger = Ledger::with_past("a".parse().unwrap(), past);
        assert_eq!(ledger.watermark(), 2);
        assert_eq!(ledger.number(1, Some(UnixMicros(5))), SeqRange::one(10));
        assert_eq!(ledger.number(3, None), SeqRange { first: 11, last: 13 });
        assert_eq!((ledger.totals(), ledger.next_seq(), ledger.available()), (totals, 14, 0));
        assert_eq!(ledger.last_captured_at(), Some(UnixMicros(5)));
        // 11 to 13 end before they are on disk, and 10 after 3, which lay in the spool.
        let settled = |first, last, counted| Settled {
            camera: "a".parse().unwrap(),
            seqs: SeqRange { first, last },
            session: Some(1),
            outcome: Outcome::Lost { reason: LostReason::SpoolFull, maybe_stored: false },
            counted,
        };
        ledger.settle(&settled(11, 13, false));
        assert_eq!(ledger.totals(), Totals { captured: 12, stored: 2, lost: 3, in_flight: 7 });
        ledger.count(1);
        assert_eq!(ledger.totals(), Totals { captured: 13, stored: 2, lost: 3, in_flight: 8 });
        ledger.settle(&settled(3, 3, true));
        assert_eq!(ledger.totals(), Totals { captured: 13, stored: 2, lost: 4, in_flight: 7 });
        assert_eq!(ledger.next_session(UnixMicros(1), None, (1, 1)).first_seq, 14);
    }

    #[test]
    fn the_watermark_wakes_when_it_moves_and_only_then() {
        let ledger = Ledger::with_past("a".parse().unwrap(), Past { watermark: 4, ..Past::NONE });
        let mut moves = ledger.watermark_moves();
        for to in [3, 4] {
            ledger.advance_watermark(to);
            assert!(!moves.has_changed().unwrap(), "{to} is no move");
        }
        ledger.advance_watermark(6);
        assert!(moves.has_changed().unwrap());
        assert_eq!((*moves.borrow_and_update(), ledger.watermark()), (6, 6));
    }
}
