//! How fast a destination is asked: as fast as frames come until it refuses, then by a rate that follows what it takes.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

/// What is judged together.
const ROUND: Duration = Duration::from_secs(1);
/// What is added to the rate in each round, as a share of what the destination took at best.
const STEP: f64 = 1.0 / 16.0;
/// The least that is added in a round, and the least that a rate can be: requests a second.
const LEAST: f64 = 1.0;
/// Where more than this share is refused, what it took once tells nothing of what it takes now.
const MOST_REFUSED: f64 = 0.75;
/// After so many rounds in a row without a refusal it takes more than it did: what is added doubles with each more.
const CLEAN: u32 = 5;
/// So long nothing must have been refused before there is no limit any more.
const QUIET: Duration = Duration::from_secs(60);
/// The share of a second's requests that may go at once.
const BURST: f64 = 0.05;
/// Requests a second with which a destination is begun that was away. Half of the last time's, where that is not long ago:
/// whoever takes next to nothing refuses a second's requests, is down for it, and is back with the next one that it takes.
const START: f64 = 32.0;

/// How an attempt ended, as far as the rate is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// The destination did what it was asked, or had an answer of its own.
    Taken,
    /// It asks for fewer requests, or did not answer in time.
    Refused,
    /// It failed in another way, which tells nothing of the rate.
    Failed,
}

/// Adds a little to the rate in each round of a second, and takes off half of the share that was refused, as DCTCP does
/// (RFC 8257, 3.3): many refusals weigh more than one, and a constant few do not starve it. Below one refusal in eight
/// what is added outweighs what is taken off, so that a server which loses a request now and then is not limited at
/// all. Where all beyond a quota is refused, it settles an eighth above the quota; where every second request is refused
/// whatever the rate, at an eighth of what was taken before.
///
/// After an outage it begins slowly and doubles (RFC 5681, 3.1), until the destination refuses or nobody asks for more.
#[derive(Debug)]
pub(super) struct Limiter {
    limit: Option<Limit>,
    round: Round,
    refused_at: Instant,
    /// When it was begun slowly last, and with how many requests a second.
    started: Option<(Instant, f64)>,
}

#[derive(Debug)]
struct Limit {
    /// Requests a second.
    rate: f64,
    /// Requests a second that the destination took at best since it is limited.
    carried: f64,
    /// Rounds in a row without a refusal.
    clean: u32,
    /// Whether it has not been refused anything since it came back.
    starting: bool,
    /// Requests that may go now.
    tokens: f64,
    filled: Instant,
}

#[derive(Debug)]
struct Round {
    began: Instant,
    begun: u32,
    taken: u32,
    refused: u32,
    failed: u32,
}

impl Round {
    fn new(began: Instant) -> Self {
        Self { began, begun: 0, taken: 0, refused: 0, failed: 0 }
    }

    /// Requests in it. Some may have begun in the one before.
    fn rate(&self) -> f64 {
        f64::from(self.begun.max(self.ended()))
    }

    fn ended(&self) -> u32 {
        self.taken + self.refused + self.failed
    }
}

impl Limit {
    fn new(rate: f64, carried: f64, starting: bool, now: Instant) -> Self {
        Self { rate, carried, clean: 0, starting, tokens: 0.0, filled: now }
    }

    fn step(&self) -> f64 {
        (self.carried * STEP).max(LEAST)
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        // Never less than one, or none would ever go.
        let most = (self.rate * BURST).max(1.0);
        self.tokens = (self.tokens + self.rate * passed).min(most);
        self.filled = now;
    }
}

impl Limiter {
    pub(super) fn new(now: Instant) -> Self {
        Self { limit: None, round: Round::new(now), refused_at: now, started: None }
    }

    /// Requests a second that may be made; `None` while there is no limit.
    pub(super) fn rate(&self) -> Option<f64> {
        self.limit.as_ref().map(|limit| limit.rate)
    }

    /// When a request may go that needs so many tokens; `None` where it may go now.
    pub(super) fn ask(&mut self, now: Instant, tokens: f64) -> Option<Instant> {
        self.look(now);
        let limit = self.limit.as_mut()?;
        limit.fill(now);
        let missing = tokens - limit.tokens;
        // A little more, so that whoever waits so long does not find a rounding error.
        (missing > 0.0).then(|| now + Duration::from_secs_f64(missing / limit.rate) + Duration::from_micros(1))
    }

    /// A request goes.
    pub(super) fn begin(&mut self, now: Instant) {
        self.look(now);
        self.round.begun += 1;
        if let Some(limit) = &mut self.limit {
            limit.fill(now);
            limit.tokens -= 1.0;
        }
    }

    /// A request has ended.
    pub(super) fn ended(&mut self, now: Instant, how: Ended) {
        self.look(now);
        match how {
            Ended::Taken => self.round.taken += 1,
            Ended::Failed => self.round.failed += 1,
            Ended::Refused => {
                self.round.refused += 1;
                self.refused_at = now;
            }
        }
    }

    /// The destination is back: it is not asked for all that has gathered at once.
    pub(super) fn start_slowly(&mut self, now: Instant) {
        let start = match self.started {
            Some((at, rate)) if now.saturating_duration_since(at) < QUIET => (rate / 2.0).max(LEAST),
            _ => START,
        };
        self.started = Some((now, start));
        self.round = Round::new(now);
        self.limit = Some(Limit::new(start, start, true, now));
    }

    /// Takes note of the time: a round may be over.
    pub(super) fn look(&mut self, now: Instant) {
        if now.saturating_duration_since(self.round.began) < ROUND {
            return;
        }
        // Whatever happened in it happened in its first second: what comes later begins the next.
        let round = std::mem::replace(&mut self.round, Round::new(now));
        if round.refused > 0 {
            self.slow_down(&round, now);
        } else {
            self.speed_up(&round, now);
        }
    }

    fn slow_down(&mut self, round: &Round, now: Instant) {
        let (measured, taken) = (round.rate(), f64::from(round.taken));
        let share = f64::from(round.refused) / f64::from(round.ended());
        let limit = self.limit.get_or_insert_with(|| Limit::new(f64::INFINITY, taken, false, now));
        // Reckoned with what went so far, not with what might have gone.
        limit.fill(now);
        limit.starting = false;
        limit.clean = 0;
        limit.carried = limit.carried.max(taken);
        if share > MOST_REFUSED {
            limit.carried = taken.max(limit.carried / 2.0);
        }
        limit.rate = (limit.rate.min(measured) * (1.0 - share / 2.0) + limit.step()).max(LEAST);
        limit.tokens = limit.tokens.min((limit.rate * BURST).max(1.0));
    }

    fn speed_up(&mut self, round: &Round, now: Instant) {
        let Some(limit) = &mut self.limit else { return };
        let measured = round.rate();
        limit.fill(now);
        if limit.rate > 2.0 * measured {
            // Nobody asks for more.
            let proven = limit.starting && round.taken > 0;
            if proven || now.saturating_duration_since(self.refused_at) >= QUIET {
                self.limit = None;
            }
            return;
        }
        if round.taken == 0 {
            return;
        }
        limit.clean += 1;
        limit.carried = limit.carried.max(f64::from(round.taken));
        let more = if limit.starting {
            limit.rate
        } else {
            limit.step() * f64::from(1 << limit.clean.saturating_sub(CLEAN).min(16))
        };
        limit.rate += more.min(limit.rate.max(LEAST));
    }
}
