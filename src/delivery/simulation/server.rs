//! A bucket whose weather changes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::delivery::{Backoff, Verdict};
use crate::model::Seq;

/// What an attempt gets before it is given up.
const DEADLINE: Duration = Duration::from_secs(10);
/// An object that is none of ours.
const FOREIGN: u64 = u64::MAX;

/// How the server behaves for a while.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Weather {
    Fair,
    Slow,
    /// Connections are refused.
    Away,
    /// Nothing is answered.
    Silent,
    /// So many of a hundred are answered 429 and 503, with a `Retry-After` of up to so many seconds.
    Storm {
        throttled: u8,
        unavailable: u8,
        retry_after: u64,
    },
    /// Nobody is let in.
    Locked,
    /// One camera is not let in.
    Forbids(usize),
    /// So many of a hundred are stored and not answered.
    Forgetful(u8),
    /// So many are taken in a second.
    Quota(f64),
}

impl Weather {
    pub(super) fn draw(rng: &mut fastrand::Rng, cameras: usize) -> Self {
        match rng.u8(0..9) {
            0 => Self::Slow,
            1 | 2 => Self::Away,
            3 => Self::Silent,
            4 => Self::Storm { throttled: rng.u8(5..50), unavailable: rng.u8(5..45), retry_after: rng.u64(0..20) },
            5 => Self::Locked,
            6 => Self::Forbids(rng.usize(0..cameras)),
            7 => Self::Forgetful(rng.u8(5..80)),
            _ => Self::Quota(0.5 + 20.0 * rng.f64()),
        }
    }

    /// Whether no attempt succeeds.
    pub(super) fn is_outage(self) -> bool {
        matches!(self, Self::Away | Self::Silent | Self::Locked)
    }
}

/// What whoever made an attempt hears of it.
#[derive(Debug)]
pub(super) enum Told {
    Stored,
    Conflict,
    Failed { verdict: Verdict, maybe_stored: bool, retry_after: Option<Duration> },
}

fn failed(verdict: Verdict, maybe_stored: bool) -> Told {
    Told::Failed { verdict, maybe_stored, retry_after: None }
}

#[derive(Debug)]
pub(super) struct Server {
    pub(super) weather: Weather,
    objects: HashMap<(usize, Seq), u64>,
    room: f64,
    filled: Instant,
    /// Attempts that were not simply stored.
    pub(super) faults: u64,
}

impl Server {
    pub(super) fn new(now: Instant) -> Self {
        Self { weather: Weather::Fair, objects: HashMap::new(), room: 0.0, filled: now, faults: 0 }
    }

    /// Somebody else puts an object where one of ours will be.
    pub(super) fn occupy(&mut self, camera: usize, seq: Seq) {
        self.objects.entry((camera, seq)).or_insert(FOREIGN);
    }

    pub(super) fn holds(&self, camera: usize, seq: Seq, content: u64) -> bool {
        self.objects.get(&(camera, seq)) == Some(&content)
    }

    pub(super) fn is_foreign(&self, camera: usize, seq: Seq) -> bool {
        self.holds(camera, seq, FOREIGN)
    }

    /// An attempt, and after how long it is told of what.
    pub(super) fn attempt(
        &mut self,
        now: Instant,
        (camera, seq): (usize, Seq),
        content: u64,
        rng: &mut fastrand::Rng,
    ) -> (Duration, Told) {
        let latency = Duration::from_millis(match self.weather {
            Weather::Slow => rng.u64(500..8_000),
            Weather::Away => rng.u64(1..50),
            _ => rng.u64(20..300),
        });
        let percent = rng.u8(0..100);
        let weather = self.weather;
        let told = match weather {
            Weather::Away => failed(Verdict::Failed, false),
            Weather::Silent => {
                self.faults += 1;
                if percent < 20 {
                    self.put(camera, seq, content);
                }
                return (DEADLINE, failed(Verdict::Throttled, true));
            }
            Weather::Locked => failed(Verdict::Refused, false),
            Weather::Forbids(other) if other == camera => failed(Verdict::Refused, false),
            Weather::Storm { throttled, unavailable, retry_after } if percent < throttled + unavailable => {
                let retry_after = rng.bool().then(|| Duration::from_secs(rng.u64(0..=retry_after)));
                Told::Failed { verdict: Verdict::Throttled, maybe_stored: percent >= throttled, retry_after }
            }
            Weather::Forgetful(lost) if percent < lost => {
                self.put(camera, seq, content);
                failed(Verdict::Failed, true)
            }
            Weather::Quota(rate) if !self.has_room(now, rate) => failed(Verdict::Throttled, false),
            // Now and then a request goes wrong in any weather but the best.
            Weather::Slow | Weather::Quota(_) if rng.u8(0..100) == 0 => failed(Verdict::Failed, true),
            _ => self.put(camera, seq, content),
        };
        self.faults += u64::from(!matches!(told, Told::Stored));
        (latency, told)
    }

    fn put(&mut self, camera: usize, seq: Seq, content: u64) -> Told {
        let found = *self.objects.entry((camera, seq)).or_insert(content);
        if found == content { Told::Stored } else { Told::Conflict }
    }

    fn has_room(&mut self, now: Instant, rate: f64) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.room = (self.room + passed * rate).min(rate.max(1.0));
        self.filled = now;
        let has_room = self.room >= 1.0;
        self.room -= f64::from(u8::from(has_room));
        has_room
    }
}

/// The wait before a frame is tried again, as an upload worker reckons it.
pub(super) fn delay(
    failures: u32,
    verdict: Verdict,
    retry_after: Option<Duration>,
    rng: &mut fastrand::Rng,
) -> Duration {
    let backoff = Backoff { min: Duration::from_millis(250), max: Duration::from_secs(60) };
    backoff.delay(failures + if verdict == Verdict::Refused { 5 } else { 0 }, retry_after, rng)
}
