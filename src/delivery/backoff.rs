//! Waiting times between attempts.

use std::num::NonZeroU32;
use std::time::Duration;

/// Exponential backoff with full jitter: the n-th wait is drawn evenly from zero to `min * 2^n`, at most `max`.
///
/// Full jitter spreads retries of frames that failed together ("Exponential Backoff And Jitter", AWS Architecture Blog,
/// 2015).
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// Upper end of the first wait.
    pub min: Duration,
    /// Upper end of every wait.
    pub max: Duration,
}

impl Backoff {
    /// The wait after `failures` failed attempts (at least 1). A server's `retry_after` is a floor below it.
    pub fn delay(&self, failures: u32, retry_after: Option<Duration>, rng: &mut fastrand::Rng) -> Duration {
        let doublings = failures.saturating_sub(1).min(30);
        let ceiling = self.min.saturating_mul(1 << doublings).min(self.max);
        // Jitter is added to what the server asked for, so that its clients do not come back all at once.
        retry_after.unwrap_or_default() + ceiling.mul_f64(rng.f64())
    }
}

/// How long one attempt may take: a base, and the time the bytes need at the slowest rate that still counts as working.
pub fn attempt_deadline(base: Duration, min_rate: NonZeroU32, bytes: usize) -> Duration {
    base + Duration::from_secs_f64(bytes as f64 / f64::from(min_rate.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_stay_below_a_doubling_ceiling_and_fill_it() {
        let backoff = Backoff { min: Duration::from_millis(250), max: Duration::from_secs(60) };
        let mut rng = fastrand::Rng::with_seed(1);
        for (failures, ceiling) in [(1, 0.25), (2, 0.5), (5, 4.0), (9, 60.0), (1_000, 60.0)] {
            let waits: Vec<f64> = (0..1_000).map(|_| backoff.delay(failures, None, &mut rng).as_secs_f64()).collect();
            assert!(waits.iter().all(|w| *w <= ceiling), "{failures}");
            let mean = waits.iter().sum::<f64>() / 1_000.0;
            assert!((mean - ceiling / 2.0).abs() < ceiling * 0.05, "{failures}: mean {mean} of {ceiling}");
        }
    }

    #[test]
    fn a_server_that_asks_for_time_gets_it() {
        let backoff = Backoff { min: Duration::from_millis(250), max: Duration::from_secs(60) };
        let mut rng = fastrand::Rng::with_seed(1);
        let asked = Duration::from_secs(7);
        assert!((0..100).all(|_| backoff.delay(1, Some(asked), &mut rng) >= asked));
    }

    #[test]
    fn big_frames_get_more_time() {
        let rate = NonZeroU32::new(64 * 1024).unwrap();
        let base = Duration::from_secs(10);
        assert_eq!(attempt_deadline(base, rate, 0), base);
        assert_eq!(attempt_deadline(base, rate, 640 * 1024), Duration::from_secs(20));
    }
}
