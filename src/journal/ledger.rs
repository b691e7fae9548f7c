//! One camera's running accounts, in memory.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use tokio::sync::{Notify, watch};

use super::NewSession;
use crate::model::{CameraId, LostReason, Outcome, Seq, SeqRange, SessionNo, Settled, UnixMicros};

/// Seqs reserved at a time. With no spool, the unknown rest of a block becomes one tombstone after a crash.
pub const BLOCK: u64 = 1_024;

/// What became of a camera's frames. `captured = stored + lost + in_flight`, exactly, in every snapshot; each of the four
/// is counted for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct Totals {
    /// Seqs issued since the camera id was first used.
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
}

impl Ledger {
    /// The accounts of a camera as the journal has them: nothing in flight, everything below `next_seq` resolved.
    pub fn new(camera: CameraId, next_seq: Seq, next_session: SessionNo, stored: u64, lost: u64) -> Self {
        let captured = next_seq - 1;
        let inner = Inner {
            next_seq,
            reserved_until: next_seq,
            reserving: false,
            next_session,
            totals: Totals { captured, stored, lost, in_flight: 0 },
            lost_by: LostBy::default(),
            last_captured_at: None,
        };
        Self {
            camera,
            inner: Mutex::new(inner),
            watermark: watch::Sender::new(captured),
            refilled: Notify::new(),
            upload_trouble: AtomicBool::new(false),
        }
    }

    /// Tells the lost frames of earlier runs apart.
    pub fn with_lost_by(mut self, lost_by: LostBy) -> Self {
        self.inner.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner).lost_by = lost_by;
        self
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
        NewSession { camera: self.camera.clone(), session, first_seq: inner.next_seq, opened, codec, size }
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
        inner.totals.in_flight -= count;
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

    /// Takes note of how the last upload went, and returns whether the one before it had failed.
    pub fn note_upload(&self, failed: bool) -> bool {
        self.upload_trouble.swap(failed, Relaxed)
    }

    /// The first seq that was never issued; what is reserved from there on can be given back at the end.
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
        let ledger = Ledger::new("a".parse().unwrap(), 5, 2, 3, 1).with_lost_by(lost_by);
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
    fn the_watermark_wakes_when_it_moves_and_only_then() {
        let ledger = Ledger::new("a".parse().unwrap(), 5, 1, 4, 0);
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
