//! How long recorder, bucket and this machine have failed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::fault::Fault;

/// Of one object a bucket may hold so many bytes on this machine before it has taken any.
const AHEAD: u64 = 32 << 20;
/// So much time may one of them ask for while nothing of it moves. Who asks for more, again and again, is away.
const ASKED_IN_ALL: Duration = Duration::from_secs(60 * 60);

/// Who may be away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    Recorder,
    Bucket,
    /// This machine, which keeps what is worked on.
    Machine,
}

impl Side {
    pub(super) const ALL: [Self; 3] = [Self::Recorder, Self::Bucket, Self::Machine];
}

/// Whether anything moves: counts that grow.
#[derive(Debug, Default)]
pub(super) struct Moved {
    from_recorder: AtomicU64,
    into_bucket: AtomicU64,
}

impl Moved {
    /// Something has come from the recorder.
    pub(super) fn came(&self) {
        self.from_recorder.fetch_add(1, Relaxed);
    }

    /// The bucket has asked for an object's bytes as far as this.
    pub(super) fn taken(&self, so_far: u64) {
        if so_far > AHEAD {
            self.into_bucket.fetch_add(1, Relaxed);
        }
    }

    /// How much has moved so far.
    pub(super) fn count(&self, side: Side) -> u64 {
        match side {
            Side::Recorder => self.from_recorder.load(Relaxed),
            Side::Bucket => self.into_bucket.load(Relaxed),
            // Only what has come whole counts for it.
            Side::Machine => 0,
        }
    }
}

/// Which of them fail, and since when nothing of them has moved or succeeded.
#[derive(Debug, Default)]
pub(super) struct Away([Option<Failing>; Side::ALL.len()]);

#[derive(Debug)]
struct Failing {
    /// Since when nothing of it has moved, and how far it had come by then.
    since: Instant,
    moved: u64,
    /// How much of the time since then, and of what is to come, is not its fault, and until when that goes.
    excused: Duration,
    excused_until: Instant,
    /// How much of that it has asked for itself.
    asked: Duration,
    /// What failed last, when, and how much had come from the recorder by then.
    fault: Fault,
    at: Instant,
    from_recorder: u64,
}

impl Away {
    /// One of them does what it is asked for.
    pub(super) fn is_there(&mut self, side: Side) {
        self.0[side as usize] = None;
    }

    /// One of them has failed. The time that it asks for is no fault of it.
    pub(super) fn failed(&mut self, side: Side, now: Instant, moved: &Moved, fault: Fault) {
        let (asked, from_recorder) = (fault.retry_after, moved.count(Side::Recorder));
        let failing = self.0[side as usize].get_or_insert_with(|| Failing {
            since: now,
            moved: moved.count(side),
            excused: Duration::ZERO,
            excused_until: now,
            asked: Duration::ZERO,
            fault: fault.clone(),
            at: now,
            from_recorder,
        });
        (failing.fault, failing.at, failing.from_recorder) = (fault, now, from_recorder);
        if let Some(asked) = asked {
            let granted = asked.min(ASKED_IN_ALL.saturating_sub(failing.asked));
            let more = failing.excuse(now, now + granted);
            failing.asked += more;
        }
    }

    /// Nothing is asked of one of them until then. Where it fails, that does not count.
    pub(super) fn excuse(&mut self, side: Side, now: Instant, until: Instant) {
        if let Some(failing) = &mut self.0[side as usize] {
            failing.excuse(now, until);
        }
    }

    /// What failed last, where for so long nothing of it has moved.
    pub(super) fn over(&mut self, now: Instant, moved: &Moved, patience: Duration) -> Option<Fault> {
        for side in Side::ALL {
            let Some(failing) = &mut self.0[side as usize] else { continue };
            let count = moved.count(side);
            if count != failing.moved {
                (failing.since, failing.moved) = (now, count);
                failing.excused = failing.excused_until.saturating_duration_since(now);
                failing.asked = Duration::ZERO;
            }
            // While a recording comes, a bucket may have nothing to do: its last failure is all that is known of it.
            let is_waited_for = side != Side::Bucket || moved.count(Side::Recorder) == failing.from_recorder;
            let known = if is_waited_for { now } else { failing.at };
            let excused = failing.excused.saturating_sub(failing.excused_until.saturating_duration_since(known));
            if known.saturating_duration_since(failing.since).saturating_sub(excused) >= patience {
                return Some(failing.fault.clone());
            }
        }
        None
    }
}

impl Failing {
    /// Returns how much more is excused than was before.
    fn excuse(&mut self, now: Instant, until: Instant) -> Duration {
        // Two reasons may be for the same time.
        let more = until.saturating_duration_since(self.excused_until.max(now));
        self.excused += more;
        self.excused_until = self.excused_until.max(until);
        more
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reason;
    use super::super::fault::Next;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(600);

    fn fault() -> Fault {
        Fault::new(Reason::Bucket, Next::Again, "no")
    }

    #[test]
    fn patience_is_counted_from_what_has_moved_last() {
        let (begin, moved, mut away) = (Instant::now(), Moved::default(), Away::default());
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(away.over(at(1_000), &moved, PATIENCE).is_none());
        away.failed(Side::Recorder, at(0), &moved, fault());
        away.failed(Side::Recorder, at(300), &moved, fault());
        assert!(away.over(at(599), &moved, PATIENCE).is_none());
        moved.came();
        assert!(away.over(at(700), &moved, PATIENCE).is_none());
        assert!(away.over(at(1_299), &moved, PATIENCE).is_none());
        assert!(away.over(at(1_300), &moved, PATIENCE).is_some());
        away.is_there(Side::Recorder);
        assert!(away.over(at(9_000), &moved, PATIENCE).is_none());
    }

    #[test]
    fn what_a_bucket_holds_on_this_machine_it_has_not_taken() {
        let (begin, moved, mut away) = (Instant::now(), Moved::default(), Away::default());
        let at = |seconds| begin + Duration::from_secs(seconds);
        away.failed(Side::Bucket, at(0), &moved, fault());
        moved.came();
        moved.taken(AHEAD);
        away.failed(Side::Bucket, at(600), &moved, fault());
        assert!(away.over(at(600), &moved, PATIENCE).is_some());
        moved.taken(AHEAD + 1);
        assert!(away.over(at(600), &moved, PATIENCE).is_none());
        assert!(away.over(at(1_200), &moved, PATIENCE).is_some());
    }

    #[test]
    fn a_bucket_that_waits_for_a_long_recording_is_not_away() {
        let (begin, moved, mut away) = (Instant::now(), Moved::default(), Away::default());
        let at = |seconds| begin + Duration::from_secs(seconds);
        away.failed(Side::Bucket, at(0), &moved, fault());
        for seconds in 1..3_600 {
            moved.came();
            assert!(away.over(at(seconds), &moved, PATIENCE).is_none(), "{seconds}");
        }
        away.failed(Side::Bucket, at(3_600), &moved, fault());
        assert!(away.over(at(3_600), &moved, PATIENCE).is_some());
    }

    #[test]
    fn time_that_was_asked_for_or_lies_outside_the_hours_is_not_counted() {
        let (begin, moved, mut away) = (Instant::now(), Moved::default(), Away::default());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let asks = |seconds| Fault { retry_after: Some(Duration::from_secs(seconds)), ..fault() };
        away.failed(Side::Recorder, at(0), &moved, asks(3_000));
        // The same time twice is excused once.
        away.excuse(Side::Recorder, at(1_000), at(2_500));
        away.excuse(Side::Recorder, at(2_900), at(10_000));
        assert!(away.over(at(9_999), &moved, PATIENCE).is_none());
        assert!(away.over(at(10_599), &moved, PATIENCE).is_none());
        assert!(away.over(at(10_600), &moved, PATIENCE).is_some());
        // What has moved within such a time begins all of it anew.
        away.excuse(Side::Recorder, at(10_600), at(12_000));
        moved.came();
        assert!(away.over(at(11_000), &moved, PATIENCE).is_none());
        assert!(away.over(at(12_599), &moved, PATIENCE).is_none());
        assert!(away.over(at(12_600), &moved, PATIENCE).is_some());
        // One that does not fail has no excuse to keep.
        away.is_there(Side::Recorder);
        away.excuse(Side::Recorder, at(12_600), at(99_000));
        away.failed(Side::Recorder, at(13_000), &moved, fault());
        assert!(away.over(at(13_600), &moved, PATIENCE).is_some());
    }

    #[test]
    fn who_asks_for_time_again_and_again_is_away_in_the_end() {
        let (begin, moved, mut away) = (Instant::now(), Moved::default(), Away::default());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let asks = || Fault { retry_after: Some(Duration::from_secs(300)), ..fault() };
        let ends = |away: &mut Away, from: u64| {
            (from..from + 100_000).step_by(10).find(|seconds| {
                away.failed(Side::Bucket, at(*seconds), &moved, asks());
                away.over(at(*seconds), &moved, PATIENCE).is_some()
            })
        };
        let hour_and_patience = ASKED_IN_ALL + PATIENCE;
        assert_eq!(ends(&mut away, 0), Some(hour_and_patience.as_secs()));
        // What is taken in between has it begin anew.
        moved.taken(AHEAD + 1);
        assert!(away.over(at(5_000), &moved, PATIENCE).is_none());
        let end = ends(&mut away, 5_000).unwrap() - 5_000;
        assert!((hour_and_patience.as_secs() - 300..=hour_and_patience.as_secs()).contains(&end), "{end}");
    }
}
