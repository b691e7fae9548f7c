//! When credentials are had anew.

use std::time::{Duration, Instant};

/// When credentials may be replaced: those that are refused at once, a second after they were made at the earliest;
/// where that does not help, after twice the wait each time.
///
/// A second, because JWTs that are signed within the same one are the same, and one of them was refused. Half a minute
/// at the most, because a wrong key must not have us ask for tokens all day, and a mended one should be found soon.
#[derive(Debug)]
pub(super) struct Pace {
    /// Counts the credentials made.
    pub(super) number: u64,
    /// When the last ones were made, or were to be.
    made: Instant,
    /// How long they may not be replaced.
    pub(super) wait: Duration,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Make new ones. `first` is false when those before were never accepted either.
    Renew { first: bool },
    /// Somebody has made new ones.
    Done,
    /// Those that were refused are new themselves.
    TooSoon,
}

impl Pace {
    const SHORTEST: Duration = Duration::from_secs(1);
    const LONGEST: Duration = Duration::from_secs(30);

    pub(super) fn new(now: Instant) -> Self {
        Self { number: 0, made: now, wait: Self::SHORTEST }
    }

    pub(super) fn verdict(&mut self, refused: u64, now: Instant) -> Verdict {
        if refused != self.number {
            return Verdict::Done;
        }
        if now.saturating_duration_since(self.made) < self.wait {
            return Verdict::TooSoon;
        }
        let first = self.wait == Self::SHORTEST;
        self.number += 1;
        self.made = now;
        self.wait = (self.wait * 2).min(Self::LONGEST);
        Verdict::Renew { first }
    }

    pub(super) fn accepted(&mut self, number: u64) {
        if number == self.number {
            self.wait = Self::SHORTEST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENEW: Verdict = Verdict::Renew { first: true };

    #[test]
    fn of_many_that_are_refused_at_once_one_renews() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        let later = begun + Duration::from_secs(10);
        assert_eq!(pace.verdict(0, later), RENEW);
        for _ in 0..63 {
            assert_eq!(pace.verdict(0, later), Verdict::Done);
        }
        assert_eq!(pace.number, 1);
        assert_eq!(pace.verdict(1, later), Verdict::TooSoon);
    }

    #[test]
    fn credentials_that_are_accepted_are_renewed_a_second_later_at_the_earliest() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        let mut now = begun;
        for number in 0..5 {
            pace.accepted(number);
            assert_eq!(pace.verdict(number, now + Duration::from_millis(999)), Verdict::TooSoon);
            now += Duration::from_secs(1);
            assert_eq!(pace.verdict(number, now), RENEW);
        }
    }

    #[test]
    fn a_key_that_is_wrong_for_a_day_is_read_every_half_minute() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun);
        let mut renewed = Vec::new();
        // Somebody is refused every 100 ms.
        for tenth in 0..864_000_u64 {
            let number = pace.number;
            if let Verdict::Renew { .. } = pace.verdict(number, begun + Duration::from_millis(tenth * 100)) {
                renewed.push(tenth / 10);
            }
        }
        assert_eq!(renewed[..6], [1, 3, 7, 15, 31, 61]);
        assert_eq!(renewed.len(), 5 + (86_400 - 31_usize).div_ceil(30) - 1);
        // A word of the ones before does not count for those of now.
        pace.accepted(pace.number - 1);
        assert_eq!(pace.wait, Pace::LONGEST);
        pace.accepted(pace.number);
        assert_eq!(pace.wait, Pace::SHORTEST);
    }
}
