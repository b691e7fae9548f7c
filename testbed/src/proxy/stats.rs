//! What the proxy has done.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Counts since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Connections accepted.
    pub connections: u64,
    /// Those that are open.
    pub open: u64,
    /// Those for which the target could not be reached.
    pub unreachable: u64,
    /// Bytes passed on to the target.
    pub bytes_to_server: u64,
    /// Bytes passed on to clients.
    pub bytes_to_client: u64,
    /// Clients that went away while they waited for an answer, or for the rest of it.
    pub unanswered: u64,
    /// What the script did.
    pub injected: Injected,
}

/// Faults by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injected {
    /// Waits because of a latency.
    pub latencies: u64,
    /// Connections that had to wait because of a bandwidth.
    pub slowed: u64,
    /// Connections that were cut.
    pub cuts: u64,
    /// Connections that were reset.
    pub resets: u64,
    /// Connections that were closed in one direction.
    pub half_closes: u64,
    /// Connections of which something was swallowed.
    pub blackholed: u64,
    /// Connections whose ClientHello was not answered.
    pub tls_stalls: u64,
    /// Bytes of bodies that were changed.
    pub flips: u64,
}

impl Injected {
    /// Faults of all kinds.
    pub fn total(&self) -> u64 {
        let Self { latencies, slowed, cuts, resets, half_closes, blackholed, tls_stalls, flips } = self;
        latencies + slowed + cuts + resets + half_closes + blackholed + tls_stalls + flips
    }
}

/// A client that got no answer, or not all of it, and went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// When its first byte came that nothing answered.
    pub since: Instant,
    /// How long it then waited.
    pub waited: Duration,
}
