//! A frame, and how it can end.

use bytes::Bytes;

use super::{CameraId, DestinationName, UnixMicros};

/// A frame's place in its camera's order: 1, 2, 3 and so on, for as long as the camera id lives.
pub type Seq = u64;

/// An entry's place in the order of commits, over all cameras: 1, 2, 3 and so on, without holes.
pub type CommitNo = u64;

/// A camera's sessions, counted from 1.
pub type SessionNo = u32;

/// Consecutive seqs, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SeqRange {
    /// The first seq of the range.
    pub first: Seq,
    /// The last seq of the range, at least `first`.
    pub last: Seq,
}

impl SeqRange {
    /// The range that holds one seq.
    pub fn one(seq: Seq) -> Self {
        Self { first: seq, last: seq }
    }

    /// How many seqs the range holds, at least 1.
    pub fn len(&self) -> u64 {
        self.last - self.first + 1
    }

    /// Never true; it stands beside `len` because readers expect it there.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// An admitted frame: it has a seq and will end as stored or as lost.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Whose frame it is.
    pub camera: CameraId,
    /// Its place in the camera's order.
    pub seq: Seq,
    /// The session it was captured in.
    pub session: SessionNo,
    /// When the picture was grabbed, before it was encoded.
    pub captured_at: UnixMicros,
    /// Picture width, pixels.
    pub width: u32,
    /// Picture height, pixels.
    pub height: u32,
    /// Whether a part of the picture is missing or made up.
    pub damaged: bool,
    /// The JPEG file.
    pub jpeg: Bytes,
    /// CRC32C (Castagnoli, RFC 3720 appendix B.4) of `jpeg`.
    pub crc32c: u32,
}

/// Why a frame was lost. The words stand in the list, so they only ever grow in number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum LostReason {
    /// The capture process could not hand it over in time.
    Overrun,
    /// The capture process could not decode or encode it.
    Corrupt,
    /// The memory budget had no room for it.
    MemoryFull,
    /// The daemon ended without a word while the seq was reserved or the frame was on its way.
    Crash,
    /// The daemon was stopped and the frame was not stored within the deadline.
    Shutdown,
    /// An object with other bytes stands under the frame's key.
    Conflict,
    /// The spool had no room for it: its cap was reached, or the disk was full.
    SpoolFull,
    /// Its record in the spool was damaged.
    Damaged,
    /// The bucket refused it for good while it took others.
    Rejected,
}

impl LostReason {
    /// Every reason, in the order of their declaration.
    pub const ALL: [Self; 9] = [
        Self::Overrun,
        Self::Corrupt,
        Self::MemoryFull,
        Self::Crash,
        Self::Shutdown,
        Self::Conflict,
        Self::SpoolFull,
        Self::Damaged,
        Self::Rejected,
    ];

    /// The reason as it stands in the list and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overrun => "overrun",
            Self::Corrupt => "corrupt",
            Self::MemoryFull => "memory_full",
            Self::Crash => "crash",
            Self::Shutdown => "shutdown",
            Self::Conflict => "conflict",
            Self::SpoolFull => "spool_full",
            Self::Damaged => "damaged",
            Self::Rejected => "rejected",
        }
    }

    /// The reason a word stands for.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// What the list says of a frame that is in the bucket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Where it is.
    pub destination: DestinationName,
    /// The object's key, below the bucket's prefix.
    pub key: String,
    /// When it was grabbed.
    pub captured_at: UnixMicros,
    /// When the bucket had confirmed it.
    pub stored_at: UnixMicros,
    /// Size of the object, bytes.
    pub bytes: u64,
    /// CRC32C of the object.
    pub crc32c: u32,
    /// Picture width, pixels.
    pub width: u32,
    /// Picture height, pixels.
    pub height: u32,
    /// Whether a part of the picture is missing or made up.
    pub damaged: bool,
}

/// The one of two ways in which a frame ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is in the bucket.
    Stored(Stored),
    /// It is not kept.
    Lost {
        /// Why.
        reason: LostReason,
        /// True where an attempt may have carried it to the bucket and nobody has looked since.
        maybe_stored: bool,
    },
}

/// An outcome together with the seqs it is for: one for a stored frame, any number for lost ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settled {
    /// Whose frames.
    pub camera: CameraId,
    /// Which of them.
    pub seqs: SeqRange,
    /// The session they were captured in; `None` where a crash left that unknown.
    pub session: Option<SessionNo>,
    /// How they ended.
    pub outcome: Outcome,
    /// Whether the accounts count these seqs as captured already. With a spool a frame counts once it is on disk; what
    /// ends before that is counted with its outcome.
    pub counted: bool,
}
