//! What answers look like.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use crate::actors::{CameraState, CameraView, LastError};
use crate::capture::Usage;
use crate::capture::wire::StreamInfo;
use crate::journal::{Entry, Totals};
use crate::model::{
    BatchState, CameraId, CameraSpec, DestinationName, Engine, ManagedBy, NvrId, Outcome, Program, Seq, SessionNo,
    TimeSource, UnixMicros,
};

/// A camera: what was asked of it, and what it is doing.
#[derive(Debug, Serialize)]
pub struct CameraDto {
    id: String,
    managed_by: ManagedBy,
    /// The recorder whose channel it is, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    nvr: Option<ChannelOf>,
    /// Counts the changes of the spec; its ETag.
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<SpecDto>,
    status: StatusDto,
}

/// A channel of a recorder.
#[derive(Debug, Serialize)]
struct ChannelOf {
    id: NvrId,
    channel: u32,
}

#[derive(Debug, Serialize)]
struct SpecDto {
    #[serde(flatten)]
    spec: CameraSpec,
    /// The password itself is write-only.
    password_set: bool,
}

impl SpecDto {
    fn new(spec: CameraSpec) -> Self {
        Self { password_set: spec.password.is_some(), spec }
    }
}

#[derive(Debug, Serialize)]
struct StatusDto {
    state: CameraState,
    since: UnixMicros,
    generation: u64,
    session: Option<SessionNo>,
    pid: Option<u32>,
    /// The capture process, where one camera is asked for and one runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<ProcessDto>,
    fps: f64,
    /// How far the camera's clock is ahead of the pictures' arrival, whether it is believed or not.
    rtcp_offset_ms: Option<i64>,
    /// Since when the pictures show the same, where that is for too long.
    frozen_since: Option<UnixMicros>,
    stream: Option<StreamDto>,
    /// Where its frames go; `null` for a deleted one.
    destination: Option<DestinationName>,
    next_try_at: Option<UnixMicros>,
    last_frame_age_ms: Option<u64>,
    totals: Totals,
    watermark: Seq,
    last_error: Option<ErrorDto>,
}

/// A capture process as it was found when it was asked for.
#[derive(Debug, Serialize)]
pub struct ProcessDto {
    pid: u32,
    engine: Engine,
    /// Processor time since its start, seconds.
    cpu_seconds: f64,
    /// Memory that is its own alone, bytes.
    private_bytes: Option<u64>,
    /// Where in /proc that was read.
    memory_from: &'static str,
}

impl ProcessDto {
    /// Asks the kernel about a camera's capture process; `None` where none runs.
    pub fn read(pid: u32, program: Program) -> Option<Self> {
        let Usage { cpu_seconds, private_bytes, memory_from } = Usage::of(pid)?;
        Some(Self { pid, engine: program.engine(), cpu_seconds, private_bytes, memory_from })
    }
}

/// What the stream said of itself when it opened last; `null` for what it did not say.
#[derive(Debug, Serialize)]
struct StreamDto {
    codec: Option<String>,
    width: Option<u32>,
    height: Option<u32>,
    fps: Option<f64>,
}

impl From<StreamInfo> for StreamDto {
    fn from(info: StreamInfo) -> Self {
        Self {
            codec: Some(info.codec).filter(|codec| !codec.is_empty()),
            width: Some(info.width).filter(|width| *width > 0),
            height: Some(info.height).filter(|height| *height > 0),
            fps: Some(info.fps).filter(|fps| *fps > 0.0),
        }
    }
}

#[derive(Debug, Serialize)]
struct ErrorDto {
    at: UnixMicros,
    source: &'static str,
    kind: &'static str,
    message: String,
}

impl From<LastError> for ErrorDto {
    fn from(error: LastError) -> Self {
        Self { at: error.at, source: error.source, kind: error.kind, message: error.message }
    }
}

impl From<CameraView> for CameraDto {
    fn from(view: CameraView) -> Self {
        let destination = view.spec.as_ref().map(|spec| spec.destination.clone());
        Self {
            id: view.camera.to_string(),
            managed_by: view.managed_by,
            nvr: view.nvr.map(|(id, channel)| ChannelOf { id, channel }),
            revision: view.revision,
            spec: view.spec.map(SpecDto::new),
            status: StatusDto {
                state: view.state,
                since: view.since,
                generation: view.generation,
                session: view.session,
                pid: view.pid,
                process: None,
                rtcp_offset_ms: view.clock_offset.map(|micros| micros / 1_000),
                frozen_since: view.frozen_since,
                fps: (view.fps * 100.0).round() / 100.0,
                stream: view.stream.map(StreamDto::from),
                destination,
                next_try_at: view.next_try_at,
                last_frame_age_ms: view.last_frame_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
                totals: view.totals,
                watermark: view.watermark,
                last_error: view.last_error.map(ErrorDto::from),
            },
        }
    }
}

impl CameraDto {
    /// With what was found of its capture process.
    pub fn with_process(mut self, process: Option<ProcessDto>) -> Self {
        self.status.process = process;
        self
    }
}

/// A batch: what was asked, how it stands, and a piece of its list.
#[derive(Debug, Serialize)]
pub struct BatchDto {
    id: CameraId,
    state: BatchState,
    /// How many frames were asked for.
    frames: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    give_up_after: String,
    created_at: UnixMicros,
    /// When its capture ended.
    ended_at: Option<UnixMicros>,
    /// Why there are not as many frames as were asked for, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    spec: Option<SpecDto>,
    source: SourceDto,
    totals: Totals,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    page: Option<PageDto>,
}

/// What a batch's source is doing.
#[derive(Debug, Serialize)]
struct SourceDto {
    state: CameraState,
    since: UnixMicros,
    stream: Option<StreamDto>,
    next_try_at: Option<UnixMicros>,
    last_error: Option<ErrorDto>,
}

impl BatchDto {
    /// A batch as it is seen, with a piece of its list.
    ///
    /// # Panics
    ///
    /// When it is none.
    pub fn new(view: CameraView, page: Option<PageDto>) -> Self {
        let (batch, over) = view.batch.expect("it is a batch");
        let span = |span| humantime::format_duration(span).to_string();
        let state = batch.state(view.totals.stored, over);
        let (ended_at, message) = batch.end.map(|end| (end.at, end.message)).unzip();
        Self {
            id: view.camera,
            state,
            frames: batch.frames,
            from: Some(batch.from).filter(|from| !from.is_zero()).map(span),
            give_up_after: span(batch.give_up_after),
            created_at: batch.created,
            ended_at,
            message: message.flatten(),
            spec: view.spec.map(SpecDto::new),
            source: SourceDto {
                state: view.state,
                since: view.since,
                stream: view.stream.map(StreamDto::from),
                next_try_at: view.next_try_at,
                last_error: view.last_error.map(ErrorDto::from),
            },
            totals: view.totals,
            page,
        }
    }
}

/// A piece of a camera's list.
#[derive(Debug, Serialize)]
pub struct PageDto {
    /// Whose list.
    pub camera: CameraId,
    /// The daemon's origin, which stands in every key.
    pub origin: String,
    /// The last seq of the list so far.
    pub watermark: Seq,
    /// The entries, in order.
    pub entries: Vec<EntryDto>,
    /// The cursor for the next page.
    pub next: Seq,
    /// Whether there is more now.
    pub more: bool,
}

/// One entry of a list.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum EntryDto {
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
        /// The destination it went to.
        destination: DestinationName,
        /// Where it is.
        url: String,
        /// Size, bytes.
        bytes: u64,
        /// CRC32C, as Cloud Storage writes it: base64 of the big-endian bytes.
        crc32c: String,
        /// Width, pixels.
        width: u32,
        /// Height, pixels.
        height: u32,
        /// Whether a part of the picture is missing or made up; left out where it is not.
        #[serde(skip_serializing_if = "is_false")]
        damaged: bool,
    },
    /// Frames that could not be kept.
    Tombstone {
        /// The session they were captured in, if it is known.
        session: Option<SessionNo>,
        /// The first of them.
        seq: Seq,
        /// The last of them.
        last: Seq,
        /// Why.
        reason: &'static str,
        /// Whether they may be in the bucket all the same.
        maybe_stored: bool,
    },
    /// A session begins with the next entry.
    Session {
        /// Its number.
        session: SessionNo,
        /// When its first frame was captured.
        opened: UnixMicros,
        /// When its last frame was captured; `null` while it lasts.
        closed: Option<UnixMicros>,
        /// What ended it.
        why: Option<String>,
        /// The stream's codec, where it is known.
        codec: Option<String>,
        /// Its pictures' width, pixels, where it is known.
        width: Option<u32>,
        /// Their height.
        height: Option<u32>,
        /// What its frames' `captured_at` goes by; left out where it is their arrival.
        #[serde(skip_serializing_if = "is_arrival")]
        time_source: TimeSource,
    },
}

fn is_arrival(source: &TimeSource) -> bool {
    *source == TimeSource::Arrival
}

fn is_false(value: &bool) -> bool {
    !value
}

/// One entry of the order of commits.
#[derive(Debug, Serialize)]
pub struct CommitDto {
    /// Whose entry.
    pub camera: CameraId,
    /// The entry, as the camera's own list has it.
    #[serde(flatten)]
    pub entry: EntryDto,
}

impl EntryDto {
    /// What kind of entry it is, in the word that stands in its `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Frame { .. } => "frame",
            Self::Tombstone { .. } => "tombstone",
            Self::Session { .. } => "session",
        }
    }

    /// An entry with its object's URL, which begins with `base_url` where the journal does not say how.
    pub fn new(entry: Entry, base_url: &str) -> Self {
        match entry {
            Entry::Session { session, opened, closed, why, codec, width, height, time_source } => {
                Self::Session { session, opened, closed, why, codec, width, height, time_source }
            }
            Entry::Frames { seqs, session, outcome: Outcome::Stored(stored), base_url: known } => Self::Frame {
                session,
                seq: seqs.first,
                captured_at: stored.captured_at,
                stored_at: stored.stored_at,
                destination: stored.destination,
                url: format!("{}{}", known.as_deref().unwrap_or(base_url), stored.key),
                bytes: stored.bytes,
                crc32c: BASE64_STANDARD.encode(stored.crc32c.to_be_bytes()),
                width: stored.width,
                height: stored.height,
                damaged: stored.damaged,
            },
            Entry::Frames { seqs, session, outcome: Outcome::Lost { reason, maybe_stored }, .. } => {
                Self::Tombstone { session, seq: seqs.first, last: seqs.last, reason: reason.as_str(), maybe_stored }
            }
        }
    }
}
