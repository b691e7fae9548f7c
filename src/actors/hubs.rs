//! All destinations: each has a hub and a spool of its own, so that what one bucket does touches no other's frames.
//!
//! A camera's seqs, accounts and list are its own, whatever destinations its frames have gone to: so each commit is told
//! to all, since any of them may hold the frames.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures_util::future::join_all;

use super::{Hub, Newest};
use crate::config::Durability;
use crate::model::{DestinationName, Settled};
use crate::spool::Spool;

/// One destination.
#[derive(Clone, Debug)]
pub struct Way {
    /// Where its frames wait.
    pub hub: Hub,
    /// Where they lie on disk.
    pub spool: Spool,
    /// What stands before every key in the URLs of its objects; `None` where the configuration has it no more: its
    /// frames stay where they are, and nobody carries them.
    pub base_url: Option<String>,
}

impl Way {
    /// What it is called.
    pub fn name(&self) -> &DestinationName {
        self.hub.name()
    }
}

/// All destinations. Cloning is cheap; all clones are one.
#[derive(Clone, Debug)]
pub struct Hubs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// By name.
    ways: Vec<Way>,
    newest: Newest,
    durability: Durability,
}

impl Hubs {
    /// These destinations, whose hubs share `newest`.
    pub fn new(mut ways: Vec<Way>, newest: Newest, durability: Durability) -> Self {
        ways.sort_by(|one, other| one.name().cmp(other.name()));
        Self(Arc::new(Inner { ways, newest, durability }))
    }

    /// Every destination, by name: those of the configuration, and those that it has no more while frames wait for them.
    pub fn all(&self) -> &[Way] {
        &self.0.ways
    }

    /// Those of the configuration.
    pub fn configured(&self) -> impl Iterator<Item = &Way> {
        self.0.ways.iter().filter(|way| way.base_url.is_some())
    }

    /// Where a camera's frames go that names this destination; `None` where the configuration does not have it.
    pub fn of(&self, name: &DestinationName) -> Option<&Hub> {
        self.configured().find(|way| way.name() == name).map(|way| &way.hub)
    }

    /// What is wrong with a destination that cannot be had.
    pub fn unknown(&self) -> String {
        DestinationName::unknown(self.configured().map(Way::name))
    }

    /// Each camera's newest frame.
    pub fn newest(&self) -> &Newest {
        &self.0.newest
    }

    /// What a frame survives once it is admitted.
    pub fn durability(&self) -> Durability {
        self.0.durability
    }

    /// Takes note that outcomes are committed.
    pub fn committed(&self, settled: &Settled) {
        for way in &self.0.ways {
            // First the spool: what the hub asks it for next must not hold these frames.
            way.spool.settled(&settled.camera, settled.seqs);
            way.hub.committed(settled);
        }
    }

    /// Frames that are being uploaded.
    pub fn on_their_way(&self) -> usize {
        self.0.ways.iter().map(|way| way.hub.on_their_way()).sum()
    }

    /// Frames that lie in the spools, as far as these have said.
    pub fn spooled(&self) -> u64 {
        self.0.ways.iter().map(|way| way.spool.status().frames).sum()
    }

    /// As [`Hub::load`], of all of them.
    pub fn load(&self) -> (usize, u64) {
        let loads = self.0.ways.iter().map(|way| way.hub.load());
        loads.fold((0, 0), |(frames, bytes), (more_frames, more_bytes)| (frames + more_frames, bytes + more_bytes))
    }

    /// Waits until all that was admitted is on disk, or refused.
    pub async fn written(&self) {
        join_all(self.0.ways.iter().map(|way| way.spool.barrier())).await;
    }

    /// Waits until no frame is left that lives in memory alone.
    pub async fn emptied(&self) {
        join_all(self.0.ways.iter().map(|way| way.hub.emptied())).await;
    }

    /// Waits until no lease is out.
    pub async fn returned(&self) {
        join_all(self.0.ways.iter().map(|way| way.hub.returned())).await;
    }

    /// Whether they hand out nothing more.
    pub fn is_closed(&self) -> bool {
        self.0.ways.iter().all(|way| way.hub.is_closed())
    }

    /// Hands out nothing more.
    pub fn close(&self) {
        self.0.ways.iter().for_each(|way| way.hub.close());
    }

    /// As [`Hub::give_up`], for all of them.
    pub fn give_up(&self) -> usize {
        self.0.ways.iter().map(|way| way.hub.give_up()).sum()
    }
}
