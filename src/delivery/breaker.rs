//! Whether a destination answers at all.

use std::time::{Duration, Instant};

/// So many failures in a row,
const FAILURES: u32 = 5;
/// over so long, with nothing that worked in between, and it is down.
const OVER: Duration = Duration::from_secs(1);
/// Then it is tried so often, and up to a tenth more seldom, so that many daemons do not do it together.
const PROBE: Duration = Duration::from_secs(1);
/// So many probes may wait for an answer that never comes; while more do, each doubles the time to the next. So with a
/// deadline of ten seconds five of them hang and not ten, and a destination that is back is noticed within four seconds.
const HANGING: usize = 2;
/// The longest time between two probes, as a power of two of the shortest.
const MOST_DOUBLINGS: u32 = 5;

/// Counts failures in a row, and says when to try again.
#[derive(Debug)]
pub(super) struct Breaker {
    failures: u32,
    /// Since when nothing works: the first of these failures had begun then.
    failing_since: Option<Instant>,
    /// When it worked last.
    worked: Option<Instant>,
    down: Option<Down>,
}

#[derive(Debug)]
struct Down {
    /// When the last probe went.
    tried: Instant,
    /// When the next may go after it.
    wait: Duration,
    /// Before which it has asked us not to come.
    not_before: Instant,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { failures: 0, failing_since: None, worked: None, down: None }
    }

    /// While it is down, when the next probe may go, where so many are on their way.
    pub(super) fn next_probe(&self, on_their_way: usize) -> Option<Instant> {
        let down = self.down.as_ref()?;
        let too_many = u32::try_from(on_their_way.saturating_sub(HANGING)).unwrap_or(u32::MAX);
        let wait = down.wait * (1 << too_many.min(MOST_DOUBLINGS));
        Some(down.not_before.max(down.tried + wait))
    }

    pub(super) fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// A probe goes.
    pub(super) fn begin_probe(&mut self, now: Instant, rng: &mut fastrand::Rng) {
        if let Some(down) = &mut self.down {
            (down.tried, down.wait) = (now, PROBE.mul_f64(1.0 + rng.f64() / 10.0));
        }
    }

    /// The destination asks not to be tried before.
    pub(super) fn wait_until(&mut self, at: Instant) {
        if let Some(down) = &mut self.down {
            down.not_before = down.not_before.max(at);
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
        if down && self.down.is_none() {
            self.down = Some(Down { tried: now, wait: PROBE, not_before: now });
        }
    }

    /// The destination has answered. Returns whether it was down.
    pub(super) fn answered(&mut self, now: Instant) -> bool {
        (self.failures, self.failing_since, self.worked) = (0, None, Some(now));
        self.down.take().is_some()
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
        assert_eq!(breaker.next_probe(0), None);
        breaker.failed(start + 1_000 * MS, start + 999 * MS);
        assert_eq!(breaker.next_probe(0), Some(start + 2_000 * MS));
    }

    #[test]
    fn four_failures_are_not_enough_however_long_they_take() {
        let (mut breaker, start) = (Breaker::new(), Instant::now());
        for n in 1..=4 {
            breaker.failed(start + n * 60_000 * MS, start);
        }
        assert_eq!(breaker.next_probe(0), None);
        assert!(!breaker.answered(start + 240_001 * MS));
        for n in 0..4 {
            // They had begun before it answered.
            breaker.failed(start + (240_100 + n) * MS, start);
        }
        breaker.failed(start + 240_900 * MS, start);
        assert_eq!(breaker.next_probe(0), None, "it has answered less than a second ago");
        breaker.failed(start + 241_001 * MS, start);
        assert!(breaker.next_probe(0).is_some());
    }

    #[test]
    fn attempts_that_ran_into_their_deadline_together_make_it_down() {
        let (mut breaker, start) = (Breaker::new(), Instant::now());
        for _ in 0..5 {
            breaker.failed(start + 10_000 * MS, start);
        }
        assert!(breaker.next_probe(0).is_some());
        assert!(breaker.answered(start + 10_001 * MS));
        assert_eq!(breaker.next_probe(0), None);
    }

    #[test]
    fn probes_that_hang_make_the_next_ones_rarer_and_do_not_stop_them() {
        let (mut breaker, mut rng, start) = (Breaker::new(), fastrand::Rng::with_seed(1), Instant::now());
        (0..5).for_each(|_| breaker.failed(start, start - OVER));
        let deadline = 10_000 * MS;
        let (mut now, mut hanging, mut most, mut rarest) = (start, Vec::<Instant>::new(), 0, Duration::ZERO);
        while now < start + 600_000 * MS {
            hanging.retain(|begun| *begun + deadline > now);
            let ends = hanging.first().map(|begun| *begun + deadline);
            let next = breaker.next_probe(hanging.len()).unwrap();
            if next > now {
                now = ends.map_or(next, |ends| ends.min(next));
                continue;
            }
            rarest = hanging.last().map_or(rarest, |last| rarest.max(now - *last));
            breaker.begin_probe(now, &mut rng);
            hanging.push(now);
            most = most.max(hanging.len());
        }
        assert!(most <= 5 && rarest < 4_500 * MS, "{most} at once, {rarest:?} apart");
        // However many there are, it is tried.
        assert!(breaker.next_probe(usize::MAX).unwrap() < now + 36_000 * MS);
    }
}
