//! Leave to make one attempt on a destination, and how the destination stands.

use std::time::Instant;

use tracing::{info, warn};

use super::Hub;
use crate::delivery::{Answer, Change, DestinationState, Errand, Gate, Ticket, Verdict};
use crate::model::{CameraId, UnixMicros};
use crate::storage::BucketError;

/// Leave to make one attempt. It has to be [ended](Permit::ended) with what the attempt told of the destination; dropped
/// without a word, by a panic or at the end, it tells nothing.
#[derive(Debug)]
pub struct Permit {
    ticket: Option<Ticket>,
    hub: Hub,
}

impl Permit {
    pub(super) fn new(ticket: Ticket, hub: Hub) -> Self {
        Self { ticket: Some(ticket), hub }
    }

    /// Whether the attempt may take as long as its size allows.
    pub(super) fn is_patient(&self) -> bool {
        self.ticket.as_ref().is_none_or(Ticket::is_patient)
    }

    /// The attempt has ended: for which camera's frame it was, if any, and what was wrong. Returns whether that it failed says
    /// nothing of what it carried, see [`Gate::ended`].
    pub fn ended(mut self, camera: Option<&CameraId>, verdict: Verdict, failure: Option<&BucketError>) -> bool {
        let Some(ticket) = self.ticket.take() else { return false };
        let now = Instant::now();
        let says_nothing = self.hub.at_gate(now, |gate| {
            let says_nothing =
                gate.ended(now, ticket, camera, verdict, failure.map(|failure| failure.message.as_str()));
            if let Some(wait) = failure.and_then(|failure| failure.retry_after) {
                gate.asks_to_wait(now, wait);
            }
            says_nothing
        });
        self.hub.wake();
        says_nothing
    }

    /// No attempt was made.
    pub(super) fn unused(mut self) {
        if let Some(ticket) = self.ticket.take() {
            let now = Instant::now();
            self.hub.at_gate(now, |gate| gate.unused(now, ticket));
            self.hub.wake();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.hub.at_gate(Instant::now(), |gate| gate.abandoned(ticket));
            self.hub.wake();
        }
    }
}

/// How a destination stands.
#[derive(Clone, PartialEq, Debug)]
pub struct DestinationStatus {
    /// What goes there.
    pub state: DestinationState,
    /// Since when.
    pub since: UnixMicros,
    /// What it said last that was wrong, however long ago; `None` where nothing ever was in this run.
    pub error: Option<String>,
    /// Requests a second that may be made; `None` where nothing limits them.
    pub rate: Option<f64>,
    /// Attempts that are being made.
    pub in_flight: usize,
    /// Frames that wait to be stored.
    pub waiting: u64,
}

impl Hub {
    /// Waits until an object other than a frame may be put, also when the hub is closed. It may be the probe of a
    /// destination that is down: whatever becomes of it, the permit has to be told.
    pub async fn permit(&self) -> Permit {
        loop {
            let moved = self.moved().notified();
            let now = Instant::now();
            let begun = self.at_gate(now, |gate| match gate.ask(now, Errand::Object) {
                Answer::Go | Answer::Probe => Ok(gate.begin(now)),
                Answer::NotBefore(at) => Err(at),
            });
            match begun {
                Ok(ticket) => return self.permitted(ticket),
                Err(at) => {
                    tokio::select! {
                        () = moved => {}
                        () = tokio::time::sleep_until(at.into()) => {}
                    }
                }
            }
        }
    }

    /// How its destination stands.
    pub fn destination_status(&self) -> DestinationStatus {
        let (now, wall) = (Instant::now(), UnixMicros::now());
        // Not with the gate in hand: the spool has a lock of its own.
        let waiting = self.waiting();
        self.at_gate(now, |gate| {
            gate.look(now).inspect(|change| self.say(*change, gate));
            let (state, since) = gate.state();
            let ago = i64::try_from(now.saturating_duration_since(since).as_micros()).unwrap_or(i64::MAX);
            DestinationStatus {
                state,
                since: UnixMicros(wall.0.saturating_sub(ago)),
                error: gate.error().map(str::to_owned),
                rate: gate.rate(),
                in_flight: gate.in_flight(),
                waiting: waiting.saturating_sub(gate.in_flight() as u64),
            }
        })
    }

    /// Brings the metrics of its destination up to date.
    pub fn show_destination(&self) {
        let now = Instant::now();
        self.at_gate(now, |gate| {
            gate.look(now).inspect(|change| self.say(*change, gate));
            self.metrics().set_destination(self.destination(), gate.state().0, gate.rate());
        });
    }

    pub(super) fn permitted(&self, ticket: Ticket) -> Permit {
        if ticket.is_probe() {
            self.metrics().destination_probe(self.destination());
        }
        Permit::new(ticket, self.clone())
    }

    /// Does something at the gate, and says so where the state has changed by it.
    pub(super) fn at_gate<T>(&self, now: Instant, act: impl FnOnce(&mut Gate) -> T) -> T {
        let mut gate = self.gate();
        let done = act(&mut gate);
        if let Some(change) = gate.look(now) {
            self.say(change, &gate);
        }
        done
    }

    fn say(&self, change: Change, gate: &Gate) {
        use DestinationState::{Down, Limited, Open, Paused};
        let destination = self.destination();
        let (state, was) = (change.to.as_str(), change.from.as_str());
        let error = gate.error().unwrap_or_default();
        self.metrics().set_destination(destination, change.to, gate.rate());
        match change.to {
            Paused => warn!(
                destination,
                state,
                was,
                error,
                "the destination does not let us in: it is asked once in 30 s \
                until it does, and its frames wait: mend the credentials, the rights, or the bucket's name"
            ),
            Down => warn!(
                destination,
                state,
                was,
                error,
                "the destination fails or does not answer: it is tried once a \
                second until it does, and its frames wait"
            ),
            Limited if change.from == Open => info!(
                destination,
                state,
                was,
                error,
                rate = gate.rate(),
                "the destination asks for fewer requests: they are limited to what it takes"
            ),
            Limited => info!(destination, state, was, "the destination is back: uploads begin slowly"),
            Open => info!(destination, state, was, "the destination takes what it is given"),
        }
    }
}
