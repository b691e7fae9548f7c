//! How a recorder can fail.

use std::time::Duration;

use crate::model::UnixMicros;

/// What to do about a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecorderErrorKind {
    /// User and password are refused, or wanted in a way that is not ours: nothing more of this recorder will succeed
    /// until a person has changed something.
    Auth,
    /// It has refused this login a while ago, and would count another try against us: nothing was sent, and nothing is known
    /// but that.
    TooSoon {
        /// When it may be tried again.
        until: UnixMicros,
    },
    /// The recorder has locked us out, or we would be if we tried again now. Nothing is sent to it before that time.
    Locked {
        /// When it may be asked again.
        until: UnixMicros,
    },
    /// The user may not do this, or the service is off.
    Forbidden,
    /// The recorder cannot do this at all, or not in this way: another one may do.
    Unsupported,
    /// The recorder does not understand the words of the request, and we know no other ones.
    Dialect,
    /// It has no room for another session, or says that it is busy: try again, with fewer sessions.
    Busy {
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
    },
    /// There is no such track or no such call.
    NotFound,
    /// The segment was there when it was searched for and is not there any more: written over, as a rule.
    Gone,
    /// No answer, or not enough of it, in time: try again.
    Timeout,
    /// No secure connection: the certificate is not trusted, or there is no common version.
    Tls,
    /// It answers what it may not: not XML where XML is due, an error where media are due, too much of anything.
    Protocol,
    /// The recorder is there, and tells of a fault of its own in place of what it was asked for: try again.
    Device,
    /// The connection cannot be made, or breaks off: try again.
    Io,
}

impl RecorderErrorKind {
    /// The kind as it stands in manifests, metrics and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            // The state that it is in is the same.
            Self::Auth | Self::TooSoon { .. } => "auth",
            Self::Locked { .. } => "locked",
            Self::Forbidden => "forbidden",
            Self::Unsupported => "unsupported",
            Self::Dialect => "dialect",
            Self::Busy { .. } => "busy",
            Self::NotFound => "not_found",
            Self::Gone => "gone",
            Self::Timeout => "timeout",
            Self::Tls => "tls",
            Self::Protocol => "protocol",
            Self::Device | Self::Io => "io",
        }
    }

    /// Whether the same request may succeed in a while.
    pub fn may_pass(self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Timeout | Self::Device | Self::Io)
    }

    /// Whether all other work on this recorder is as pointless until a person, or the time, has changed something.
    pub fn ends_all(self) -> bool {
        matches!(self, Self::Auth | Self::TooSoon { .. } | Self::Locked { .. } | Self::Tls)
    }
}

/// A recorder's failure.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{message}")]
pub struct RecorderError {
    /// What to do about it.
    pub kind: RecorderErrorKind,
    /// The recorder, the cause, and the way out; without secrets.
    pub message: String,
}

impl RecorderError {
    /// An error of that kind.
    pub fn new(kind: RecorderErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
