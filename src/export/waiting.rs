//! What waits, and until when.

use std::collections::BTreeMap;
use std::time::Instant;

use super::attempt::Step;
use super::fault::Fault;
use crate::delivery::Backoff;

/// Steps that may not go on yet, and until when the recorder is left alone.
#[derive(Debug)]
pub(super) struct Waiting {
    /// By when they may go on; those of one moment in the order in which they came.
    steps: BTreeMap<(Instant, u64), Step>,
    /// Numbers them.
    added: u64,
    paused_until: Option<Instant>,
    /// How often in a row the recorder has failed.
    in_a_row: u32,
    backoff: Backoff,
    rng: fastrand::Rng,
}

impl Waiting {
    pub(super) fn new(backoff: Backoff) -> Self {
        let (steps, rng) = (BTreeMap::new(), fastrand::Rng::new());
        Self { steps, added: 0, paused_until: None, in_a_row: 0, backoff, rng }
    }

    /// Has a step wait until then.
    pub(super) fn add(&mut self, at: Instant, step: Step) {
        self.added += 1;
        self.steps.insert((at, self.added), step);
    }

    /// Takes out a step that may go on by now, that which might first.
    pub(super) fn due(&mut self, now: Instant) -> Option<Step> {
        self.steps.first_entry().filter(|first| first.key().0 <= now).map(|first| first.remove())
    }

    /// When the next one may go on.
    pub(super) fn next(&self) -> Option<Instant> {
        self.steps.keys().next().map(|(at, _)| *at)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether one of them is such.
    pub(super) fn any(&self, is_such: impl Fn(&Step) -> bool) -> bool {
        self.steps.values().any(is_such)
    }

    /// Forgets all others.
    pub(super) fn keep(&mut self, is_wanted: impl Fn(&Step) -> bool) {
        self.steps.retain(|_, step| is_wanted(step));
    }

    /// When something may be tried again that has failed so often.
    pub(super) fn after(&mut self, now: Instant, failures: u32, fault: &Fault) -> Instant {
        now + self.backoff.delay(failures, fault.retry_after, &mut self.rng)
    }

    /// The recorder has failed, once more: until when it is left alone for this.
    pub(super) fn pause(&mut self, now: Instant, fault: &Fault) -> Instant {
        self.in_a_row += 1;
        let until = self.after(now, self.in_a_row, fault);
        self.paused_until = self.paused_until.max(Some(until));
        until
    }

    /// The recorder does what it is asked for, and need not be left alone.
    pub(super) fn go_on(&mut self) {
        (self.in_a_row, self.paused_until) = (0, None);
    }

    /// Until when the recorder is left alone, if it is.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.paused_until.filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Reason;
    use super::super::fault::Next;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn waiting() -> Waiting {
        Waiting::new(Backoff { min: SECOND, max: 8 * SECOND })
    }

    #[test]
    fn what_waits_goes_on_in_its_time_and_order() {
        let (begin, mut waiting) = (Instant::now(), waiting());
        for (seconds, place) in [(2, 1), (1, 2), (2, 3), (3, 4)] {
            waiting.add(begin + seconds * SECOND, Step::Fetch(place));
        }
        assert_eq!((waiting.next(), waiting.due(begin)), (Some(begin + SECOND), None));
        waiting.keep(|step| *step != Step::Fetch(4));
        let due: Vec<_> = std::iter::from_fn(|| waiting.due(begin + 2 * SECOND)).collect();
        assert_eq!(due, [2, 1, 3].map(Step::Fetch));
        assert!(waiting.is_empty() && waiting.next().is_none());
    }

    #[test]
    fn a_recorder_that_fails_is_left_alone_for_longer_each_time_until_it_answers() {
        let (begin, mut waiting) = (Instant::now(), waiting());
        let asked =
            |seconds| Fault { retry_after: Some(seconds * SECOND), ..Fault::new(Reason::Busy, Next::Again, "no") };
        assert_eq!(waiting.paused_until(begin), None);
        let first = waiting.pause(begin, &asked(10));
        assert!((10 * SECOND..=11 * SECOND).contains(&(first - begin)));
        // One that wants less does not shorten what another was told.
        waiting.pause(begin, &asked(1));
        assert_eq!(waiting.paused_until(begin), Some(first));
        assert_eq!(waiting.paused_until(first), None);
        waiting.go_on();
        assert_eq!(waiting.paused_until(begin), None);
        let again = waiting.pause(begin, &asked(0));
        assert!(again - begin <= SECOND, "it is counted from the begin again");
    }
}
