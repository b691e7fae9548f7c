//! What spool and journal tell each other of a camera at the start.

use super::{Seq, SeqRange, SessionNo, UnixMicros};

/// A camera's frames that lie in the spool, whether their outcome is known or not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SpooledCamera {
    /// Their seqs: rising, apart from each other, never empty.
    pub seqs: Vec<SeqRange>,
    /// The session of the newest.
    pub session: SessionNo,
    /// When the newest was captured.
    pub newest: UnixMicros,
}

/// Which of a camera's seqs have their outcome in the journal.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resolved {
    /// All up to this one.
    pub watermark: Seq,
    /// Of those above it, these: rising, apart from each other.
    pub above: Vec<SeqRange>,
}
