//! What a manifest says, line by line. The words and texts are those of the API's list.

use crate::model::{CameraId, DestinationName, LostReason, Origin, Seq, SeqRange, SessionNo, TimeSource, UnixMicros};

/// A manifest: consecutive seqs of one camera, and how each of them ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Manifest {
    /// Its first line.
    pub header: Header,
    /// All lines between the first and the last, in order.
    pub lines: Vec<Line>,
}

/// Whose list it is, and which part of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Whose list.
    pub camera: CameraId,
    /// The state directory in which these seqs count.
    pub origin: Origin,
    /// The seqs it holds.
    pub seqs: SeqRange,
    /// How many frames and runs of lost ones it has: lines, not seqs.
    pub entries: u64,
    /// Where seqs right before `seqs` are in no manifest, the first of them: retention removed them from the list while
    /// no manifests were written.
    pub missing_from: Option<Seq>,
    /// When it was made.
    pub written_at: UnixMicros,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line {
    /// A session begins with the next frame.
    Session {
        /// Its number.
        session: SessionNo,
        /// When its first frame was captured.
        opened: UnixMicros,
        /// The stream's codec, where it is known.
        codec: Option<String>,
        /// Its pictures' width, pixels, where it is known.
        width: Option<u32>,
        /// Their height.
        height: Option<u32>,
        /// What its frames' `captured_at` goes by.
        time_source: TimeSource,
    },
    /// A session is over. It stands right before the begin of the next one, when nothing about it can change any more.
    SessionEnd {
        /// Its number.
        session: SessionNo,
        /// When its last frame was captured.
        closed: Option<UnixMicros>,
        /// What ended it.
        why: Option<String>,
    },
    /// A stored frame.
    Frame {
        /// The session it was captured in.
        session: Option<SessionNo>,
        /// Its place in the order.
        seq: Seq,
        /// When it was grabbed.
        captured_at: UnixMicros,
        /// When the bucket had confirmed it.
        stored_at: UnixMicros,
        /// The name of its destination.
        destination: DestinationName,
        /// Where it is.
        url: String,
        /// Its key, below the bucket's prefix: the end of `url`, as it stands in a copy of the bucket.
        key: String,
        /// Size, bytes.
        bytes: u64,
        /// CRC32C of the object.
        crc32c: u32,
        /// Width, pixels.
        width: u32,
        /// Height, pixels.
        height: u32,
        /// Whether a part of the picture is missing or made up.
        damaged: bool,
    },
    /// Frames that could not be kept.
    Tombstone {
        /// The session they were captured in, if it is known.
        session: Option<SessionNo>,
        /// Which.
        seqs: SeqRange,
        /// Why.
        reason: LostReason,
        /// Whether they may be in the bucket all the same.
        maybe_stored: bool,
    },
}

impl Line {
    /// The seqs it accounts for; none for what is said of sessions.
    pub fn seqs(&self) -> Option<SeqRange> {
        match self {
            Self::Frame { seq, .. } => Some(SeqRange::one(*seq)),
            Self::Tombstone { seqs, .. } => Some(*seqs),
            Self::Session { .. } | Self::SessionEnd { .. } => None,
        }
    }
}

/// A line as it is written and read. Both ways go through this one type, so that they cannot drift apart.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum RawLine {
    Session {
        session: SessionNo,
        opened: String,
        codec: Option<String>,
        width: Option<u32>,
        height: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time_source: Option<String>,
    },
    SessionEnd {
        session: SessionNo,
        closed: Option<String>,
        why: Option<String>,
    },
    Frame {
        session: Option<SessionNo>,
        seq: Seq,
        captured_at: String,
        stored_at: String,
        destination: String,
        url: String,
        key: String,
        bytes: u64,
        crc32c: String,
        width: u32,
        height: u32,
        #[serde(default, skip_serializing_if = "is_false")]
        damaged: bool,
    },
    Tombstone {
        session: Option<SessionNo>,
        seq: Seq,
        last: Seq,
        reason: String,
        maybe_stored: bool,
    },
    End {
        crc32c: String,
    },
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The first line as it is written and read.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct RawHeader {
    pub format: String,
    pub version: u32,
    pub camera: String,
    pub origin: String,
    pub first: Seq,
    pub last: Seq,
    pub entries: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_from: Option<Seq>,
    pub written_at: String,
}
