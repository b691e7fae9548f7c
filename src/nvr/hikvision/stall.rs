//! Telling slow from stalled. Pure.

use std::time::Duration;

/// Watches what comes over spans of waiting. The time that the reader takes for itself is not the recorder's, and does not
/// count.
#[derive(Debug)]
pub(super) struct Stall {
    span: Duration,
    /// The bytes that have to come in a span.
    least: u64,
    waited: Duration,
    came: u64,
}

impl Stall {
    pub(super) fn new(span: Duration, least: u64) -> Self {
        Self { span, least: least.max(1), waited: Duration::ZERO, came: 0 }
    }

    /// How long to wait for the next piece: to the end of the span.
    pub(super) fn left(&self) -> Duration {
        self.span.saturating_sub(self.waited)
    }

    /// It was waited so long, and so many bytes came: whether it has stalled.
    pub(super) fn waited(&mut self, wait: Duration, bytes: u64) -> bool {
        self.waited += wait;
        self.came += bytes;
        if self.waited < self.span {
            return false;
        }
        let stalled = self.came < self.least;
        (self.waited, self.came) = (Duration::ZERO, 0);
        stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quirk_20_slow_is_not_stalled() {
        let second = Duration::from_secs(1);
        let mut slow = Stall::new(10 * second, 1_000);
        assert!((0..1_000).all(|_| !slow.waited(second, 100)));
        let mut trickle = Stall::new(10 * second, 1_000);
        assert_eq!((0..1_000).position(|_| trickle.waited(second, 99)), Some(9));
        let mut silent = Stall::new(10 * second, 1_000);
        assert!(!silent.waited(9 * second, 999));
        assert_eq!(silent.left(), second);
        assert!(silent.waited(second, 0));
        // A full span begins a new one.
        let mut bursts = Stall::new(10 * second, 1_000);
        assert!(!bursts.waited(10 * second, 5_000));
        assert!(bursts.waited(10 * second, 0));
    }
}
