//! What the recorder has seen and done.

use serde::{Deserialize, Serialize};

/// Counts since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Connections accepted, those that were hung up on among them.
    pub connections: u64,
    /// Connections that were hung up on, because it was `off`.
    pub hung_up: u64,
    /// Requests over HTTP whose body has arrived, whatever was answered; those under `/_testbed/` are not among them.
    pub requests: u64,
    /// Who was let in, and who was not.
    pub logins: Logins,
    /// Requests that were let in, by what they wanted.
    pub calls: Calls,
    /// What became of downloads.
    pub downloads: Downloads,
    /// What became of playbacks over RTSP.
    pub playbacks: Playbacks,
    /// What the knobs did.
    pub injected: Injected,
}

/// Counts of logins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logins {
    /// Requests without a login that counts here: they got a challenge.
    pub challenged: u64,
    /// Requests let in.
    pub accepted: u64,
    /// Good passwords with a nonce that was used up, or of another server.
    pub expired: u64,
    /// Wrong ones: what lock-out counts.
    pub wrong: u64,
    /// Requests from an address that is locked out.
    pub locked: u64,
}

/// Calls by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// Who are you.
    pub device_info: u64,
    /// Lists of streaming channels.
    pub channels: u64,
    /// Whatever else describes the recorder.
    pub pages: u64,
    /// Searches.
    pub search: u64,
    /// Downloads, and pictures.
    pub download: u64,
    /// What this recorder does not know.
    pub unknown: u64,
}

/// Counts of downloads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downloads {
    /// Answered with 200 and the beginning of a recording.
    pub begun: u64,
    /// Sent to the last byte that there was.
    pub complete: u64,
    /// Those of them whose recording had been sent completely before.
    pub again: u64,
    /// Bytes sent.
    pub bytes: u64,
    /// Going on now, playbacks among them.
    pub sessions: u32,
    /// The most that went on at a time.
    pub most_sessions: u32,
    /// Refused because `sessions` of them went on, playbacks among them.
    pub refused_busy: u64,
}

/// Counts of playbacks over RTSP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Playbacks {
    /// Set up.
    pub begun: u64,
    /// Pictures sent.
    pub pictures: u64,
    /// Sent to their last picture.
    pub complete: u64,
    /// Live streams set up.
    pub live: u64,
}

/// What was injected, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injected {
    /// Searches and downloads refused as busy by `busy_next`, `rate_busy` and `rate_search_busy`.
    pub busy: u64,
    /// Searches refused as busy by `searches_at_once`.
    pub searches_busy: u64,
    /// Downloads cut by `rate_cut`.
    pub cut: u64,
    /// Downloads ended early by `rate_short`.
    pub short: u64,
    /// Downloads that fell silent by `rate_stall`.
    pub stalled: u64,
    /// Downloads answered with an error and 200 by `rate_xml`.
    pub xml: u64,
    /// Downloads of what `vanished` has taken away.
    pub vanished: u64,
}
