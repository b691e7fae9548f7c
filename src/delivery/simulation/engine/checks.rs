//! What must hold at every step.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::LARGEST;
use super::super::books::End;
use super::super::server::Weather;
use super::{Engine, World};
use crate::delivery::{Budget, DestinationState, WINDOW};
use crate::model::{LostReason, Seq};

/// So long what a destination takes may be looked for,
const SETTLES: Duration = Duration::from_secs(30);
/// and so long attempts are then counted together.
const COUNTED: Duration = Duration::from_secs(60);

/// The server's view of its weather.
#[derive(Debug, Default)]
pub(super) struct Watched {
    since: Option<Instant>,
    first: Option<Instant>,
    last: Option<Instant>,
    /// The attempts of the last minute.
    counted: VecDeque<Instant>,
}

impl Engine {
    /// What is said of a frame is what the bucket holds.
    pub(super) fn check_end(&self, world: &mut World, camera: usize, seq: Seq, end: End) {
        let content = world.books[camera].contents.get(&seq).copied();
        let stored = content.is_some_and(|content| world.server.holds(camera, seq, content));
        let foreign = world.server.is_foreign(camera, seq);
        let holds = match end {
            End::Stored => stored,
            End::Lost(LostReason::Conflict, maybe) => foreign && !maybe,
            End::Lost(LostReason::SpoolFull | LostReason::MemoryFull, maybe) => !stored && !maybe,
            End::Lost(..) => false,
        };
        if !holds {
            world.violated(format!("camera {camera}, seq {seq}: {end:?}, stored {stored}, foreign {foreign}"));
        }
    }

    /// While the gate is shut, attempts are a second or 30 s apart.
    pub(super) fn check_gate(&mut self, world: &mut World, now: Instant) {
        let (state, since) = self.gate.state();
        let apart = match state {
            DestinationState::Open | DestinationState::Limited => return self.through = None,
            DestinationState::Down => Duration::from_secs(1),
            DestinationState::Paused => Duration::from_secs(30),
        };
        let before = self.through.filter(|(shut, _)| *shut == since).map_or(since, |(_, at)| at);
        if now < before + apart {
            world.violated(format!("{state:?}, and attempts are {:?} apart", now - before));
        }
        self.through = Some((since, now));
    }

    /// The weather has changed.
    pub(in super::super) fn weather_changed(&mut self, now: Instant) {
        self.watched = Watched { since: Some(now), ..Watched::default() };
    }

    /// When it changed last, if it did in this life.
    pub(in super::super) fn weather_since(&self) -> Option<Instant> {
        self.watched.since
    }

    /// As seen by the server, without asking the gate: two minutes after the first attempt of an outage, and half a minute
    /// into what it takes no more than so many of.
    pub(super) fn watch(&mut self, world: &mut World, now: Instant) {
        let weather = world.server.weather;
        if let Weather::Quota(rate) = weather {
            self.count(world, rate, now);
        }
        if !weather.is_outage() {
            return;
        }
        let first = *self.watched.first.get_or_insert(now);
        let apart = if weather == Weather::Locked { 30 } else { 1 };
        let last = self.watched.last.replace(now);
        if now > first + Duration::from_secs(120)
            && let Some(last) = last
            && now < last + Duration::from_secs(apart)
        {
            world.violated(format!("{weather:?}: attempts are {:?} apart", now - last));
        }
    }

    /// Half more than it takes may be asked, and three a second: where a second adds one to the rate, and half of the share
    /// that is refused is taken off, it comes to rest two above what is taken.
    fn count(&mut self, world: &mut World, rate: f64, now: Instant) {
        let counted = &mut self.watched.counted;
        counted.push_back(now);
        while counted.front().is_some_and(|first| *first + COUNTED < now) {
            counted.pop_front();
        }
        let settled = self.watched.since.is_some_and(|since| now >= since + SETTLES + COUNTED);
        let most = COUNTED.as_secs_f64() * (1.5 * rate + 3.0);
        if settled && counted.len() as f64 > most {
            world.violated(format!(
                "{rate:.1} a second are taken, and {} attempts are made in {COUNTED:?}",
                counted.len()
            ));
        }
    }

    pub(super) fn check_memory(&self, world: &mut World) {
        let Budget { bytes, frames } = self.plan.budget;
        // One may always be on its way.
        let over = self.dispatcher.bytes() > bytes + LARGEST || self.dispatcher.frames() > frames + 1;
        let held = world.cameras.iter().any(|id| self.dispatcher.held_by(id) > 2 * WINDOW + self.pending.len());
        let waiting = self.orders.iter().any(|order| order.waiting() > 2 * WINDOW);
        if over || held || waiting {
            let (bytes, frames) = (self.dispatcher.bytes(), self.dispatcher.frames());
            world.violated(format!("memory: {bytes} bytes, {frames} frames"));
        }
    }
}
