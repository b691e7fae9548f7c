//! What a media process and the daemon say to each other.
//!
//! Daemon to child, on its standard input: one line of JSON, the [`Job`](super::Job). The pipe stays open; when it is
//! closed, the child ends. Child to daemon, on its standard output: [`Message`]s, each a line of JSON.

use serde::{Deserialize, Serialize};

use super::{MediaError, Outcome, Progress};

/// The longest job, bytes: the names of some thousand inputs.
pub const MAX_JOB_BYTES: usize = 4 << 20;

/// The longest line that the daemon accepts, bytes: room for the names of a day's pictures.
pub const MAX_LINE_BYTES: usize = 16 << 20;

/// A child's word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// How far it is, once a second.
    Progress(Progress),
    /// It is done. Nothing follows.
    Done(Outcome),
    /// It cannot be done. Nothing follows.
    Failed(MediaError),
}
