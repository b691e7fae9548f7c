//! The gate before a destination: whether an attempt may be made now.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use super::breaker::Breaker;
use super::limiter::{Ended, Limiter};
use super::pause::Refusals;
use crate::model::CameraId;

/// So much later than a frame another object may be a probe if the last one was such an object's.
const FRAMES_FIRST: Duration = Duration::from_secs(1);

/// How a destination stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum DestinationState {
    /// It takes what it is given.
    Open,
    /// It asks for fewer requests, or has just come back: the rate is limited.
    Limited,
    /// It does not answer, or nothing but failures: it is tried once a second.
    Down,
    /// It does not let us in, or is not there: it is tried once in 30 s.
    Paused,
}

impl DestinationState {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Open, Self::Limited, Self::Down, Self::Paused];

    /// The state as it stands in metrics and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Limited => "limited",
            Self::Down => "down",
            Self::Paused => "paused",
        }
    }

    /// Whether nothing goes there but probes.
    pub fn is_shut(self) -> bool {
        matches!(self, Self::Down | Self::Paused)
    }
}

/// What an attempt tells of its destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It works: it has stored the object, or had an answer that concerns this object alone.
    Answered,
    /// It is overloaded or limits us, or has not answered in time.
    Throttled,
    /// It failed in another way, or could not be reached.
    Failed,
    /// It does not let us in, or there is no such bucket.
    Refused,
}

/// What may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Errand {
    /// A frame.
    Frame,
    /// Another object. There are few of them: one goes before the frames that wait for the rate.
    Object,
}

/// The answer to [`Gate::ask`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// An attempt may begin.
    Go,
    /// An attempt may begin, to see whether the destination is back.
    Probe,
    /// None may before this instant, unless the gate is told of how another ended.
    NotBefore(Instant),
}

/// An attempt that has begun.
#[derive(Debug)]
#[must_use = "the gate has to be told how an attempt ended"]
pub struct Ticket {
    begun: Instant,
    probe: bool,
    patient: bool,
    errand: Errand,
}

impl Ticket {
    /// Whether it was let through a gate that is shut.
    pub fn is_probe(&self) -> bool {
        self.probe
    }

    /// Whether it may take as long as its size allows. While the destination is down, one frame's attempt at a time may:
    /// or large ones that hang would leave nobody free to notice that it is back.
    pub fn is_patient(&self) -> bool {
        self.patient
    }
}

/// A state that has ended, and the one that follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// The state before.
    pub from: DestinationState,
    /// The state now.
    pub to: DestinationState,
}

/// Limiter, breaker and pause of one destination. Asked before each attempt, told after each.
#[derive(Debug)]
pub struct Gate {
    limiter: Limiter,
    breaker: Breaker,
    refusals: Refusals,
    rng: fastrand::Rng,
    in_flight: usize,
    probes: u64,
    /// Of those in flight.
    probing: usize,
    /// Whether a patient one is among them.
    patient: bool,
    /// What it was asked for last, and what the last probe was.
    asked: Errand,
    probed: Errand,
    state: DestinationState,
    since: Instant,
    /// What it said last that was wrong.
    error: Option<String>,
}

impl Gate {
    /// An open gate.
    pub fn new(now: Instant, rng: fastrand::Rng) -> Self {
        Self {
            limiter: Limiter::new(now),
            breaker: Breaker::new(),
            refusals: Refusals::default(),
            rng,
            in_flight: 0,
            probes: 0,
            probing: 0,
            patient: false,
            asked: Errand::Frame,
            probed: Errand::Frame,
            state: DestinationState::Open,
            since: now,
            error: None,
        }
    }

    /// Whether an attempt may begin.
    pub fn ask(&mut self, now: Instant, errand: Errand) -> Answer {
        self.asked = errand;
        // Where only such objects are refused they must not take every turn.
        let behind = errand == Errand::Object && self.probed == Errand::Object;
        let until = match self.next_probe().map(|at| if behind { at + FRAMES_FIRST } else { at }) {
            Some(at) if at <= now => return Answer::Probe,
            Some(at) => Some(at),
            None => self.limiter.ask(now, if errand == Errand::Frame { 1.0 } else { 0.0 }),
        };
        until.map_or(Answer::Go, Answer::NotBefore)
    }

    /// An attempt begins, for what was [asked](Gate::ask) last and allowed.
    pub fn begin(&mut self, now: Instant) -> Ticket {
        let probe = self.next_probe().is_some();
        let patient = !probe || self.asked == Errand::Object || !self.patient;
        if probe {
            self.probes += 1;
            self.probing += 1;
            self.probed = self.asked;
            self.patient |= patient && self.asked == Errand::Frame;
            self.breaker.begin_probe(now, &mut self.rng);
            self.refusals.begin_probe(now, &mut self.rng);
        }
        self.limiter.begin(now);
        self.in_flight += 1;
        Ticket { begun: now, probe, patient, errand: self.asked }
    }

    /// An attempt has ended: for which camera's frame it was, if any, and what was wrong. Returns whether that it failed says
    /// nothing of what it carried: while the gate is shut, or for a probe, though another one has opened it meanwhile.
    pub fn ended(
        &mut self,
        now: Instant,
        ticket: Ticket,
        camera: Option<&CameraId>,
        verdict: Verdict,
        error: Option<&str>,
    ) -> bool {
        self.come_back(&ticket);
        let how = match verdict {
            Verdict::Answered => Ended::Taken,
            Verdict::Throttled => Ended::Refused,
            Verdict::Failed | Verdict::Refused => Ended::Failed,
        };
        self.limiter.ended(now, how);
        match verdict {
            Verdict::Answered => {
                let was_down = self.breaker.answered(now);
                let was_paused = self.refusals.let_in(now, ticket.begun, camera);
                if was_down || was_paused {
                    self.limiter.start_slowly(now);
                }
            }
            Verdict::Throttled | Verdict::Failed => self.breaker.failed(now, ticket.begun),
            Verdict::Refused => self.refusals.refused(now, ticket.begun, camera),
        }
        // What is wrong with an object alone is not the destination's error.
        if let Some(error) = error.filter(|_| verdict != Verdict::Answered) {
            self.error = Some(error.to_owned());
        }
        self.is_shut() || ticket.probe && verdict != Verdict::Answered
    }

    /// The destination has answered with the wish not to be asked for so long. The limiter follows what it refuses, and
    /// frames wait by themselves; but a probe goes whatever its frame was told.
    pub fn asks_to_wait(&mut self, now: Instant, wait: Duration) {
        self.breaker.wait_until(now + wait);
    }

    /// An attempt was not made: its frame could not be read.
    pub fn unused(&mut self, now: Instant, ticket: Ticket) {
        self.come_back(&ticket);
        if ticket.probe {
            self.refusals.probe_unused(now, ticket.begun);
        }
    }

    /// An attempt has ended, nobody knows how.
    pub fn abandoned(&mut self, ticket: Ticket) {
        self.come_back(&ticket);
    }

    fn come_back(&mut self, ticket: &Ticket) {
        self.in_flight -= 1;
        if ticket.probe {
            self.probing -= 1;
            self.patient &= !(ticket.patient && ticket.errand == Errand::Frame);
        }
    }

    /// Takes note of the time, and tells whether the state has changed since this was asked last.
    pub fn look(&mut self, now: Instant) -> Option<Change> {
        self.limiter.look(now);
        let (from, to) = (self.state, self.stands());
        if from == to {
            return None;
        }
        (self.state, self.since) = (to, now);
        Some(Change { from, to })
    }

    /// How the destination stands, since when, as of the last [look](Gate::look).
    pub fn state(&self) -> (DestinationState, Instant) {
        (self.state, self.since)
    }

    /// Whether nothing goes there but probes.
    pub fn is_shut(&self) -> bool {
        self.stands().is_shut()
    }

    /// What the destination said last that was wrong.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Requests a second that may be made; `None` where nothing limits them.
    pub fn rate(&self) -> Option<f64> {
        self.limiter.rate()
    }

    /// Attempts that are being made.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Probes that were made.
    pub fn probes(&self) -> u64 {
        self.probes
    }

    fn next_probe(&self) -> Option<Instant> {
        // Who is not let in may be locked out for asking: so the longer wait counts.
        self.refusals.next_probe().or(self.breaker.next_probe(self.probing))
    }

    fn stands(&self) -> DestinationState {
        if self.refusals.next_probe().is_some() {
            DestinationState::Paused
        } else if self.breaker.is_down() {
            DestinationState::Down
        } else if self.limiter.rate().is_some() {
            DestinationState::Limited
        } else {
            DestinationState::Open
        }
    }
}
