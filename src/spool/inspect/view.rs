//! What is told of a spool that is looked at.

use std::io;
use std::path::PathBuf;

use super::super::Place;
use crate::model::{CameraId, DestinationName, Seq, SeqRange, SessionNo, UnixMicros};

/// What a file in a spool is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentState {
    /// A segment that is complete and says what it holds.
    Sealed,
    /// A segment that is being written, or was when the daemon ended.
    Open,
    /// A segment of which something cannot be read.
    Damaged,
    /// Something that this daemon has not written.
    Foreign,
}

impl SegmentState {
    /// The state as it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Open => "open",
            Self::Damaged => "damaged",
            Self::Foreign => "foreign",
        }
    }
}

/// A file in a spool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentView {
    /// Its name.
    pub name: String,
    /// Its number, where the name has one.
    pub number: Option<u64>,
    /// What it is.
    pub state: SegmentState,
    /// What is wrong with it.
    pub detail: Option<String>,
    /// Its size, bytes.
    pub size: u64,
    /// Its frames, by camera: their seqs, rising and apart from each other.
    pub cameras: Vec<(CameraId, Vec<SeqRange>)>,
    /// When the oldest and the newest of them were captured.
    pub captured: Option<(UnixMicros, UnixMicros)>,
}

impl SegmentView {
    /// How many frames it holds.
    pub fn frames(&self) -> u64 {
        self.cameras.iter().flat_map(|(_, seqs)| seqs).map(SeqRange::len).sum()
    }
}

/// A frame in a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordView {
    /// Whose it is.
    pub camera: CameraId,
    /// Its place in the camera's order.
    pub seq: Seq,
    /// Its session.
    pub session: SessionNo,
    /// When it was captured.
    pub captured_at: UnixMicros,
    /// Picture width and height, pixels.
    pub size: (u32, u32),
    /// Bytes of the JPEG file.
    pub bytes: u32,
    /// Its object's key.
    pub key: String,
    /// Where its record lies.
    pub place: Place,
}

/// What lies where records should.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Its first byte in the segment.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
    /// The frames that were there, as far as the segment's footer tells.
    pub frames: Vec<(CameraId, Seq)>,
}

/// What a segment's bytes are worth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// What it is.
    pub state: SegmentState,
    /// What is wrong with it as a whole.
    pub detail: Option<String>,
    /// Frames that are as they were written.
    pub frames: u64,
    /// Their JPEG bytes.
    pub bytes: u64,
    /// What is not.
    pub damage: Vec<Damage>,
}

/// Why a spool cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is none.
    #[error("there is no spool{} in {dir}: name its directory with --dir", of(.name))]
    NoSpool {
        /// Where it was looked for.
        dir: PathBuf,
        /// Of which destination.
        name: DestinationName,
    },
    /// There is no such segment.
    #[error("there is no segment {number} in {dir}: see `framehaul spool ls`")]
    NoSegment {
        /// Its number.
        number: u64,
        /// The spool's directory.
        dir: PathBuf,
    },
    /// The system refused.
    #[error("cannot read {path}: {error}")]
    Io {
        /// What.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Whose spool, where it is not that of all.
fn of(name: &DestinationName) -> String {
    if *name == DestinationName::default() { String::new() } else { format!(" of `{name}`") }
}
