//! How fast a recorder is read.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What may come at once after a pause.
const BURST: Duration = Duration::from_millis(100);

/// A cap on bytes per second over all downloads of a recorder. Each byte has its time; whoever has read bytes waits until
/// theirs has come before it reads more.
#[derive(Debug)]
pub(super) struct Bandwidth {
    per_s: Option<u64>,
    /// When all that was read has had its time.
    due: Mutex<Instant>,
}

impl Bandwidth {
    /// So many bytes a second, or any number.
    pub(super) fn new(per_s: Option<u64>, now: Instant) -> Self {
        Self { per_s, due: Mutex::new(now) }
    }

    /// Counts bytes that were read, and says how long to wait before the next ones.
    pub(super) fn take(&self, now: Instant, bytes: usize) -> Duration {
        let Some(per_s) = self.per_s else { return Duration::ZERO };
        let mut due = self.due.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let begin = now.checked_sub(BURST).map_or(*due, |earliest| (*due).max(earliest));
        *due = begin + Duration::from_secs_f64(bytes as f64 / per_s as f64);
        due.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_at_the_rate_that_is_asked_for_over_all_downloads() {
        let begin = Instant::now();
        let bandwidth = Bandwidth::new(Some(1_000_000), begin);
        let (mut now, mut taken) = (begin, 0);
        while now < begin + Duration::from_secs(10) {
            now += bandwidth.take(now, 50_000);
            taken += 50_000;
        }
        assert!((9_900_000..=10_200_000).contains(&taken), "{taken}");
        // A pause earns no more than a tenth of a second's worth.
        now += Duration::from_secs(60);
        assert_eq!(bandwidth.take(now, 100_000), Duration::ZERO);
        assert_eq!(bandwidth.take(now, 500_000), Duration::from_millis(500));
    }

    #[test]
    fn without_a_cap_nobody_waits() {
        let bandwidth = Bandwidth::new(None, Instant::now());
        assert_eq!(bandwidth.take(Instant::now(), usize::MAX), Duration::ZERO);
    }
}
