//! `captured_at`: wall-clock time that never steps back within a session.

use super::UnixMicros;

/// How far the wall clock may drift from a session's anchor before a new session is opened, microseconds.
pub const MAX_CLOCK_DRIFT_MICROS: i64 = 500_000;

/// One pairing of the wall clock with the monotonic clock, taken when a session starts.
///
/// Every frame of the session is dated by the monotonic clock from here on, so that a step of the wall clock moves no
/// frame before its predecessor; a step is noticed with [`ClockAnchor::drift_micros`] and opens a new session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockAnchor {
    wall: UnixMicros,
    monotonic_ns: u64,
}

impl ClockAnchor {
    /// Pairs the two clocks; both must have been read together. `monotonic_ns` is `CLOCK_MONOTONIC` in nanoseconds,
    /// which all processes of one machine share.
    pub fn new(wall: UnixMicros, monotonic_ns: u64) -> Self {
        Self { wall, monotonic_ns }
    }

    /// The wall-clock time of an instant of the monotonic clock.
    pub fn date(&self, monotonic_ns: u64) -> UnixMicros {
        let since_ns = i128::from(monotonic_ns) - i128::from(self.monotonic_ns);
        UnixMicros(self.wall.0 + (since_ns / 1_000) as i64)
    }

    /// How far the wall clock has moved away from this anchor: positive where it was set forward.
    pub fn drift_micros(&self, wall: UnixMicros, monotonic_ns: u64) -> i64 {
        wall.0 - self.date(monotonic_ns).0
    }

    /// Whether the wall clock has stepped so far that a new session must be opened.
    pub fn is_stale(&self, wall: UnixMicros, monotonic_ns: u64) -> bool {
        self.drift_micros(wall, monotonic_ns).abs() > MAX_CLOCK_DRIFT_MICROS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_follow_the_monotonic_clock_whatever_the_wall_clock_does() {
        let anchor = ClockAnchor::new(UnixMicros(1_000_000_000), 5_000_000_000);
        assert_eq!(anchor.date(5_040_000_000), UnixMicros(1_000_040_000));
        assert_eq!(anchor.date(4_999_000_000), UnixMicros(999_999_000));
        assert!(!anchor.is_stale(UnixMicros(1_000_500_000), 5_000_000_000));
        assert!(anchor.is_stale(UnixMicros(1_000_500_001), 5_000_000_000));
        assert!(anchor.is_stale(UnixMicros(999_499_999), 5_000_000_000));
    }
}
