//! Whether a destination answers at all.

use std::time::{Duration, Instant};

/// So many failures in a row,
const FAILURES: u32 = 5;
/// over so long, with nothing that worked in between, and it is down.
const OVER: Duration = Duration::from_secs(1);
/// Then it is tried so often, and up to a tenth more seldom, so that many daemons do not do it together.
const PROBE: Duration = Duration::from_secs(1);

/// Counts failures in a row, and says when to try again.
#[derive(Debug)]
pub(super) struct Breaker {
    failures: u32,
    /// Since when nothing works: the first of these failures had begun then.
    failing_since: Option<Instant>,
    /// When it worked last.
    worked: Option<Instant>,
    /// When the next probe may go; `None` while it is not down.
    next: Option<Instant>,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { failures: 0, failing_since: None, worked: None, next: None }
    }

    /// While it is down, when the next probe may go.
    pub(super) fn next_probe(&self) -> Option<Instant> {
        self.next
    }

    /// A probe goes.
    pub(super) fn begin_probe(&mut self, now: Instant, rng: &mut fastrand::Rng) {
        if self.next.is_some() {
            self.next = Some(now + PROBE.mul_f64(1.0 + rng.f64() / 10.0));
        }
    }

    /// An attempt has failed that had begun then.
    pub(super) fn failed(&mut self, now: Instant, begun: Instant) {
        self.failures += 1;
        // One that has waited for its deadline tells of all that time, unless another was answered meanwhile.
        let from = self.worked.map_or(begun, |worked| worked.max(begun));
        let since = self.failing_since.map_or(from, |since| since.min(from));
        self.failing_since = Some(since);
        let down = self.failures >= FAILURES && now.saturating_duration_since(since) >= OVER;
        if down && self.next.is_none() {
            self.next = Some(now + PROBE);
        }
    }

    /// The destination has answered. Returns whether it was down.
    pub(super) fn answered(&mut self, now: Instant) -> bool {
        (self.failures, self.failing_since, self.worked) = (0, None, Some(now));
        self.next.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn many_failures_at_once_do_not_make_it_down_and_a_second_of_them_does() {
        let (mut breaker, start) = (Breaker::new(), Instant::now());
        for n in 0..1_000 {
            breaker.failed(start + n * MS, start + n * MS);
        }
        assert_eq!(breaker.next_probe(), None);
        breaker.failed(start + 1_000 * MS, start + 999 * MS);
        assert_eq!(breaker.next_probe(), Some(start + 2_000 * MS));
    }

    #[test]
    fn four_failures_are_not_enough_however_long_they_take() {
        let (mut breaker, start) = (Breaker::new(), Instant::now());
        for n in 1..=4 {
            breaker.failed(start + n * 60_000 * MS, start);
        }
        assert_eq!(breaker.next_probe(), None);
        assert!(!breaker.answered(start + 240_001 * MS));
        for n in 0..4 {
            // They had begun before it answered.
            breaker.failed(start + (240_100 + n) * MS, start);
        }
        breaker.failed(start + 240_900 * MS, start);
        assert_eq!(breaker.next_probe(), None, "it has answered less than a second ago");
        breaker.failed(start + 241_001 * MS, start);
        assert!(breaker.next_probe().is_some());
    }

    #[test]
    fn attempts_that_ran_into_their_deadline_together_make_it_down() {
        let (mut breaker, start) = (Breaker::new(), Instant::now());
        for _ in 0..5 {
            breaker.failed(start + 10_000 * MS, start);
        }
        assert!(breaker.next_probe().is_some());
        assert!(breaker.answered(start + 10_001 * MS));
        assert_eq!(breaker.next_probe(), None);
    }
}
