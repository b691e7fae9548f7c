//! What has come of a job.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A job that was done. What it wrote was read again from its begin to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What was written: the output, or the JPEGs in their order.
    pub files: Vec<PathBuf>,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Pictures: taken from the inputs, and found in what was written.
    pub pictures: Count,
    /// Packets of sound: taken from the inputs (or, where it was encoded anew, made of them), and found in what was written.
    pub packets_of_sound: Count,
    /// What became of the sound.
    pub sound: Sound,
    /// What was kept of the inputs' joint time.
    pub kept: Span,
    /// Times at which the inputs' clock jumped within a file; the output goes on without a gap.
    pub jumps: u64,
    /// Why this is not all that the inputs should hold: something is broken or missing. The original has to be kept then.
    pub incomplete: Option<String>,
}

impl Outcome {
    /// Whether everything that the inputs hold, as far as it was wanted, is in what was written.
    pub fn is_complete(&self) -> bool {
        self.incomplete.is_none()
    }
}

/// How many went in, and how many were found when the output was read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Taken from the inputs.
    pub read: u64,
    /// Found in what was written.
    pub written: u64,
}

/// What became of the sound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sound {
    /// There is none, or nobody asked for it.
    None,
    /// It is as it was.
    Copied,
    /// It was encoded as AAC, because the container does not hold what it was.
    Encoded {
        /// What it was, as FFmpeg calls it.
        from: String,
    },
    /// It was left out.
    Dropped {
        /// Why.
        reason: String,
    },
}

/// A part of the inputs' joint time, from the first picture of the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Where it begins.
    pub from: Duration,
    /// Where it ends: when the last picture is over.
    pub until: Duration,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Bytes read of the inputs, or received.
    pub read: u64,
    /// Bytes of the inputs in all; 0 for what is received.
    pub of: u64,
    /// Bytes written.
    pub written: u64,
    /// Bytes of program streams that were counted off, and of the output that were read again.
    pub checked: u64,
    /// Pictures so far.
    pub pictures: u64,
}

/// Why a job was not done. Nothing of it is left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct MediaError {
    /// What kind of failure it was.
    pub kind: MediaErrorKind,
    /// A sentence for the operator, without secrets.
    pub message: String,
}

impl MediaError {
    /// A failure.
    pub fn new(kind: MediaErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// What kind of failure it was: this alone decides what comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaErrorKind {
    /// The media program cannot be started.
    Missing,
    /// An input is no recording, or holds no pictures that can be used: the original is all there is.
    Input,
    /// The container cannot hold this: the original is all there is.
    Container,
    /// The inputs differ in their codec, or in what a container says once for all of it: they cannot be joined.
    Differ,
    /// What was written is not what was to be written.
    Check,
    /// The output cannot be written.
    Output,
    /// Nobody answers, the name is not known, or the connection was cut: another time, perhaps.
    Unreachable,
    /// The recorder has no session left (453).
    Busy,
    /// The recorder does not accept user and password.
    Auth,
    /// The recorder forbids this user the playback: of this channel, perhaps, and not of others.
    Forbidden,
    /// The recorder has no such recording.
    NotFound,
    /// It did nothing for too long, or took too long in all, and was killed.
    Hung,
    /// The media process crashed, was killed, ran out of memory, or sent garbage.
    Crash,
}
