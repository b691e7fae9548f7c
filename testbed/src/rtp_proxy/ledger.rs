//! What became of the packets, in all and picture by picture.

use std::collections::BTreeMap;

use serde::Serialize;

use super::packet::Header;

/// A picture as the server has sent it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// Its RTP timestamp.
    pub timestamp: u32,
    /// Packets that came from the server.
    pub packets: u32,
    /// Of them, those that did not pass as they were; and those that did not come although they should have.
    pub spoiled: u32,
}

/// What passed, since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Control connections.
    pub connections: u64,
    /// Of them, those that asked for a stream and were given it.
    pub plays: u64,
    /// RTP packets from the server.
    pub packets: u64,
    /// Of them, those that were lost by the script.
    pub lost: u64,
    /// Those that should have come, by their numbers, and did not.
    pub missing: u64,
    /// Of the packets, those from which bytes were cut, with their lengths left as they were.
    pub cut: u64,
    /// Mutations, by kind.
    pub mutations: BTreeMap<&'static str, u64>,
}

impl Stats {
    /// All faults that were injected.
    pub fn faults(&self) -> u64 {
        self.lost + self.cut + self.mutations.values().sum::<u64>()
    }
}

/// The account of one stream.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pictures: Vec<Sent>,
    /// Sequence number of the packet before.
    last: Option<u16>,
}

/// Gaps in the numbers beyond this are none: the server has begun anew.
const MOST_MISSING: u16 = 1_000;

impl Ledger {
    /// Notes a packet from the server; returns how many are missing before it.
    pub(super) fn note(&mut self, header: &Header) -> u16 {
        let gap = self.last.map_or(0, |last| header.sequence.wrapping_sub(last).wrapping_sub(1));
        let missing = if gap < MOST_MISSING { gap } else { 0 };
        self.last = Some(header.sequence);
        // Whose they were is not known: the picture's before the gap or this one's.
        if missing > 0 {
            self.spoil();
        }
        if self.pictures.last().is_none_or(|picture| picture.timestamp != header.timestamp) {
            self.pictures.push(Sent { timestamp: header.timestamp, ..Sent::default() });
        }
        if missing > 0 {
            self.spoil();
        }
        if let Some(picture) = self.pictures.last_mut() {
            picture.packets += 1;
        }
        missing
    }

    /// Notes that the packet noted last does not pass as it is.
    pub(super) fn spoil(&mut self) {
        if let Some(picture) = self.pictures.last_mut() {
            picture.spoiled += 1;
        }
    }

    /// The pictures in the order in which they came.
    pub(super) fn pictures(&self) -> &[Sent] {
        &self.pictures
    }
}
