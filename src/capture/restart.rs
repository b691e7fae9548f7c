//! When to start a camera again. Pure: the clock is passed in.

use std::time::{Duration, Instant};

use super::{Diagnosis, ErrorKind};

/// How one generation of a camera ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Exit {
    /// It was asked to end.
    Stopped,
    /// Its capture failed.
    Failed {
        /// Why.
        diagnosis: Diagnosis,
        /// Whether it had delivered at least one frame.
        streamed: bool,
    },
    /// Its source is a file, and it has come to its end; or there are as many frames as were asked for.
    Finished {
        /// Whether the file goes on, with pictures of another size or format.
        changed: bool,
    },
    /// Its actor panicked: no other ending was set.
    Panicked,
}

/// What to do after an ending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Start again at this instant; the camera will probably come back by itself.
    BackOff(Instant),
    /// Look again at this instant, though a person will probably have to change something first.
    Failed(Instant),
}

impl Verdict {
    /// When to start again.
    pub fn at(self) -> Instant {
        match self {
            Self::BackOff(at) | Self::Failed(at) => at,
        }
    }
}

/// The shortest wait, so that a camera that refuses at once is not asked a hundred times a second.
const MIN: Duration = Duration::from_millis(500);
/// The longest wait in the first [`EARLY`] of an outage.
const MAX_EARLY: Duration = Duration::from_secs(5);
/// The longest wait after that.
const MAX_LATE: Duration = Duration::from_secs(30);
/// How long an outage counts as young.
const EARLY: Duration = Duration::from_secs(300);
/// A camera that has streamed this long is well again: the next outage starts from the shortest wait.
const WELL: Duration = Duration::from_secs(10);
/// Waits after failures that need a person: few and far between.
const NEEDS_A_PERSON: [Duration; 3] = [Duration::from_secs(60), Duration::from_secs(300), Duration::from_secs(300)];

/// One camera's outage: how long it has lasted and how often it was tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outage {
    began: Option<Instant>,
    failures: u32,
}

impl Outage {
    /// Decides what follows the ending of a generation that began at `started`. Waits are drawn with full jitter
    /// between 0.5 s and a ceiling that doubles up to 5 s in the first five minutes of an outage, up to 30 s after
    /// that.
    pub fn after(&mut self, exit: &Exit, started: Instant, now: Instant, rng: &mut fastrand::Rng) -> Verdict {
        let (kind, streamed) = match exit {
            Exit::Failed { diagnosis, streamed } => (diagnosis.kind, *streamed),
            Exit::Stopped | Exit::Finished { .. } | Exit::Panicked => (ErrorKind::Panic, false),
        };
        if streamed && now.duration_since(started) >= WELL {
            *self = Self::default();
        }
        let began = *self.began.get_or_insert(now);
        let failures = self.failures;
        self.failures = failures.saturating_add(1);
        if kind.needs_a_person() {
            let wait = NEEDS_A_PERSON[(failures as usize).min(NEEDS_A_PERSON.len() - 1)];
            return Verdict::Failed(now + wait.mul_f64(1.0 + 0.1 * rng.f64()));
        }
        let most = if now.duration_since(began) < EARLY { MAX_EARLY } else { MAX_LATE };
        let ceiling = MIN.saturating_mul(2 << failures.min(16)).min(most);
        Verdict::BackOff(now + MIN + (ceiling - MIN).mul_f64(rng.f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(kind: ErrorKind, streamed: bool) -> Exit {
        Exit::Failed { diagnosis: Diagnosis { kind, message: "x".into() }, streamed }
    }

    #[test]
    fn waits_grow_to_five_seconds_then_after_five_minutes_to_thirty() {
        let start = Instant::now();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut outage = Outage::default();
        let mut now = start;
        let (mut early, mut late) = (Vec::new(), Vec::new());
        while now.duration_since(start) < Duration::from_secs(3_600) {
            let Verdict::BackOff(at) = outage.after(&failed(ErrorKind::Refused, false), now, now, &mut rng) else {
                panic!("a refused connection is tried again");
            };
            let wait = at.duration_since(now).as_secs_f64();
            if now.duration_since(start) < EARLY {
                early.push(wait)
            } else {
                late.push(wait)
            }
            now = at;
        }
        assert!(early[0] <= 1.0, "{}", early[0]);
        assert!(early.iter().all(|w| (0.5..=5.0).contains(w)), "{early:?}");
        assert!(late.iter().all(|w| (0.5..=30.0).contains(w)), "{late:?}");
        assert!(early.iter().cloned().fold(0.0, f64::max) > 4.0);
        assert!(late.iter().cloned().fold(0.0, f64::max) > 25.0);
    }

    #[test]
    fn a_camera_that_streamed_well_starts_over() {
        let now = Instant::now();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut outage = Outage::default();
        for _ in 0..20 {
            outage.after(&failed(ErrorKind::Refused, false), now, now, &mut rng);
        }
        let later = now + Duration::from_secs(60);
        let verdict = outage.after(&failed(ErrorKind::Stall, true), now, later, &mut rng);
        assert!(verdict.at() <= later + Duration::from_secs(1));
    }

    #[test]
    fn a_wrong_path_is_not_tried_like_a_timeout() {
        let start = Instant::now();
        let mut rng = fastrand::Rng::with_seed(1);
        let mut outage = Outage::default();
        let mut now = start;
        let mut attempts = 1;
        while now.duration_since(start) < Duration::from_secs(600) {
            let verdict = outage.after(&failed(ErrorKind::NotFound, false), now, now, &mut rng);
            assert!(matches!(verdict, Verdict::Failed(_)));
            now = verdict.at();
            attempts += usize::from(now.duration_since(start) < Duration::from_secs(600));
        }
        assert!(attempts <= 3, "{attempts} attempts in ten minutes");
    }
}
