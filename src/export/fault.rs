//! What went wrong with one recording, and what follows from it.

use std::time::Duration;

use super::Reason;
use crate::media::{MediaError, MediaErrorKind};
use crate::nvr::{RecorderError, RecorderErrorKind};
use crate::storage::{BucketError, BucketErrorKind};

/// What is done next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Try it again, later.
    Again,
    /// It will not get better: this one is given up, and the rest goes on.
    GiveUp,
    /// Nothing else will succeed either.
    EndAll,
}

/// Whose fault it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whose {
    /// This recording's.
    Its,
    /// The recorder's: others of it may fail alike.
    Recorders,
    /// The bucket's, and of which kind.
    Buckets(BucketErrorKind),
    /// This machine's, on which recordings are worked on: a full disk is so for all of them.
    Machines,
}

/// Why an attempt has failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Fault {
    pub reason: Reason,
    pub message: String,
    pub next: Next,
    pub whose: Whose,
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// A fault of this recording alone.
    pub(super) fn new(reason: Reason, next: Next, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), next, whose: Whose::Its, retry_after: None }
    }

    /// A fault of the connection once media are on their way.
    pub(super) fn on_the_way(error: RecorderError) -> Self {
        let fault = Self::from(error);
        // The recorder does answer.
        let whose = if fault.next == Next::Again { Whose::Its } else { fault.whose };
        let reason = if fault.reason == Reason::Recorder { Reason::Cut } else { fault.reason };
        Self { reason, whose, ..fault }
    }
}

impl From<RecorderError> for Fault {
    fn from(RecorderError { kind, message }: RecorderError) -> Self {
        use RecorderErrorKind as Kind;
        let (reason, whose) = match kind {
            Kind::Auth => (Reason::Auth, Whose::Recorders),
            Kind::Locked { .. } => (Reason::Locked, Whose::Recorders),
            Kind::Tls => (Reason::Tls, Whose::Recorders),
            // Of this password nothing was heard now: it may be another one that was refused.
            Kind::Busy { .. } | Kind::TooSoon { .. } => (Reason::Busy, Whose::Recorders),
            Kind::Timeout => (Reason::Silent, Whose::Recorders),
            Kind::Io => (Reason::Recorder, Whose::Recorders),
            // It does answer.
            Kind::Device => (Reason::Recorder, Whose::Its),
            Kind::Forbidden => (Reason::Forbidden, Whose::Its),
            Kind::Unsupported | Kind::Dialect => (Reason::Unsupported, Whose::Its),
            Kind::NotFound => (Reason::NotFound, Whose::Its),
            Kind::Gone => (Reason::Gone, Whose::Its),
            Kind::Protocol => (Reason::NotMedia, Whose::Its),
        };
        let next = match kind {
            kind if kind.ends_all() => Next::EndAll,
            // An error in place of media may have been one for the moment.
            Kind::Protocol => Next::Again,
            kind if kind.may_pass() => Next::Again,
            _ => Next::GiveUp,
        };
        let retry_after = if let Kind::Busy { retry_after } = kind { retry_after } else { None };
        Self { reason, message, next, whose, retry_after }
    }
}

impl From<BucketError> for Fault {
    fn from(BucketError { kind, retry_after, message, .. }: BucketError) -> Self {
        let next = match kind {
            BucketErrorKind::Auth | BucketErrorKind::NotFound => Next::EndAll,
            // What is refused for good may have been damaged on its way.
            BucketErrorKind::Transient | BucketErrorKind::Throttled | BucketErrorKind::Permanent => Next::Again,
        };
        Self { reason: Reason::Bucket, message, next, whose: Whose::Buckets(kind), retry_after }
    }
}

impl From<MediaError> for Fault {
    fn from(MediaError { kind, message }: MediaError) -> Self {
        use MediaErrorKind as Kind;
        let (reason, next, whose) = match kind {
            Kind::Missing => (Reason::Machine, Next::EndAll, Whose::Its),
            Kind::Output => (Reason::Machine, Next::Again, Whose::Machines),
            Kind::Auth => (Reason::Auth, Next::EndAll, Whose::Recorders),
            Kind::Forbidden => (Reason::Forbidden, Next::GiveUp, Whose::Its),
            Kind::Busy => (Reason::Busy, Next::Again, Whose::Recorders),
            Kind::Unreachable => (Reason::Recorder, Next::Again, Whose::Recorders),
            Kind::NotFound => (Reason::Gone, Next::GiveUp, Whose::Its),
            Kind::Hung | Kind::Crash => (Reason::Media, Next::Again, Whose::Its),
            Kind::Input | Kind::Container | Kind::Differ | Kind::Check => (Reason::Media, Next::GiveUp, Whose::Its),
        };
        Self { reason, message, next, whose, retry_after: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UnixMicros;

    #[test]
    fn a_wrong_login_ends_all_and_what_may_pass_is_tried_again() {
        use RecorderErrorKind as Kind;
        let wait = Some(Duration::from_secs(7));
        for (kind, reason, next) in [
            (Kind::Auth, Reason::Auth, Next::EndAll),
            (Kind::Locked { until: UnixMicros(0) }, Reason::Locked, Next::EndAll),
            (Kind::TooSoon { until: UnixMicros(0) }, Reason::Busy, Next::EndAll),
            (Kind::Tls, Reason::Tls, Next::EndAll),
            (Kind::Busy { retry_after: wait }, Reason::Busy, Next::Again),
            (Kind::Timeout, Reason::Silent, Next::Again),
            (Kind::Io, Reason::Recorder, Next::Again),
            (Kind::Device, Reason::Recorder, Next::Again),
            (Kind::Protocol, Reason::NotMedia, Next::Again),
            (Kind::Forbidden, Reason::Forbidden, Next::GiveUp),
            (Kind::Unsupported, Reason::Unsupported, Next::GiveUp),
            (Kind::Dialect, Reason::Unsupported, Next::GiveUp),
            (Kind::NotFound, Reason::NotFound, Next::GiveUp),
            (Kind::Gone, Reason::Gone, Next::GiveUp),
        ] {
            let fault = Fault::from(RecorderError::new(kind, "no"));
            assert_eq!((fault.reason, fault.next), (reason, next), "{kind:?}");
            assert_eq!(fault.retry_after.is_some(), matches!(kind, Kind::Busy { .. }));
        }
        // What one channel forbids is nothing against the others.
        let forbidden = Fault::from(MediaError::new(MediaErrorKind::Forbidden, "no"));
        assert_eq!((forbidden.reason, forbidden.next, forbidden.whose), (Reason::Forbidden, Next::GiveUp, Whose::Its));
        let cut = Fault::on_the_way(RecorderError::new(Kind::Io, "cut"));
        assert_eq!((cut.reason, cut.next, cut.whose), (Reason::Cut, Next::Again, Whose::Its));
    }
}
