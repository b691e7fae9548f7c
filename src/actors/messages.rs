//! What the actors say to each other, by direction.

use std::collections::BTreeMap;
use std::time::Duration;

use actix::Message;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::capture::wire::{CapturedFrame, StreamInfo};
use crate::capture::{Diagnosis, ErrorKind, Exit};
use crate::journal::Totals;
use crate::model::{
    Batch, CameraId, CameraSpec, FieldProblem, ManagedBy, NvrId, Program, RawCameraSpec, Seq, SeqRange, SessionNo,
    UnixMicros,
};
use crate::nvr::RecorderError;

// ---- control, down: from HTTP to the Supervisor ----

/// Adds or changes a camera.
#[derive(Debug, Message)]
#[rtype(result = "Result<PutAnswer, ControlError>")]
pub struct PutCamera {
    /// Which.
    pub camera: CameraId,
    /// What is asked of it.
    pub spec: RawCameraSpec,
    /// What must hold of it before.
    pub when: Precondition,
}

/// Adds a camera whose id is made from its name.
#[derive(Debug, Message)]
#[rtype(result = "Result<PutAnswer, ControlError>")]
pub struct CreateCamera(pub RawCameraSpec);

/// What must hold of a camera before it is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Precondition {
    /// Nothing.
    #[default]
    None,
    /// It is there, at one of these revisions.
    Revision(Vec<u64>),
    /// It is there.
    Present,
    /// It is not there.
    Absent,
}

/// Replaces all cameras that requests manage, all or nothing.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<CameraView>, ControlError>")]
pub struct PutCameras {
    /// The cameras there shall be.
    pub cameras: BTreeMap<CameraId, RawCameraSpec>,
    /// The tag of the set that is to be replaced, as [`set_tag`] makes it; any where it is left out.
    pub if_match: Option<Vec<String>>,
}

/// Replaces all cameras that the file of cameras manages, all or nothing.
#[derive(Debug, Message)]
#[rtype(result = "Result<Changed, ControlError>")]
pub struct SetFileCameras(pub BTreeMap<CameraId, RawCameraSpec>);

/// How many cameras a change of many has touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Changed {
    /// Added or changed.
    pub put: usize,
    /// Removed.
    pub deleted: usize,
}

/// Makes a batch: a camera with a number of frames, whose id is made by the Supervisor.
#[derive(Debug, Message)]
#[rtype(result = "Result<CameraView, ControlError>")]
pub struct CreateBatch {
    /// Its source.
    pub spec: RawCameraSpec,
    /// What is asked beside it.
    pub batch: Batch,
}

/// Ends the capture of a batch; what it has captured is still delivered and listed.
#[derive(Debug, Message)]
#[rtype(result = "Result<CameraView, ControlError>")]
pub struct CancelBatch(pub CameraId);

/// Removes a batch that is over; its list is kept.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), ControlError>")]
pub struct DeleteBatch(pub CameraId);

/// Asks for one batch, and for word of its end.
#[derive(Debug, Message)]
#[rtype(result = "Result<(CameraView, watch::Receiver<bool>), ControlError>")]
pub struct GetBatch(pub CameraId);

/// Asks for all batches.
#[derive(Debug, Message)]
#[rtype(result = "Vec<CameraView>")]
pub struct ListBatches;

/// Does something with a camera that leaves its spec as it is.
#[derive(Debug, Message)]
#[rtype(result = "Result<CameraView, ControlError>")]
pub struct Operate {
    /// Which.
    pub camera: CameraId,
    /// What.
    pub operation: Operation,
}

/// What can be done with a camera.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Ends its capture until it is resumed, over restarts of the daemon as well.
    Pause,
    /// Starts it again.
    Resume,
    /// Ends its capture and starts it anew, at once where it was waiting.
    Restart,
}

/// Tries a source without adding a camera.
#[derive(Debug, Message)]
#[rtype(result = "Result<Probed, ControlError>")]
pub struct Probe(pub RawCameraSpec);

/// What a trial has found.
#[derive(Debug)]
pub enum Probed {
    /// A picture.
    Seen {
        /// What the stream says of itself.
        info: StreamInfo,
        /// Its first picture.
        picture: CapturedFrame,
        /// How long that took from the start.
        after: Duration,
    },
    /// None.
    Failed(Diagnosis),
}

/// A camera as it was put.
#[derive(Debug)]
pub struct PutAnswer {
    /// Whether there was none of this id before.
    pub created: bool,
    /// The camera now.
    pub camera: CameraView,
}

/// Removes a camera. What it has captured is still delivered and listed.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), ControlError>")]
pub struct DeleteCamera(pub CameraId, pub Precondition);

/// Asks for one camera.
#[derive(Debug, Message)]
#[rtype(result = "Result<CameraView, ControlError>")]
pub struct GetCamera(pub CameraId);

/// Asks for all cameras.
#[derive(Debug, Message)]
#[rtype(result = "Vec<CameraView>")]
pub struct ListCameras {
    /// Deleted ones as well.
    pub deleted: bool,
}

/// Asks whether the Supervisor makes progress.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Ping;

/// Ends all capture; answered once every capture process is gone, `false` where that will never be known.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
pub struct StopCapture;

/// Ends all uploads where they are; what was on its way goes back to the hub.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StopUploads;

/// Makes an actor panic, to prove that it does no harm.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), ControlError>")]
pub enum InjectPanic {
    /// The Supervisor itself.
    Supervisor,
    /// A camera's actor.
    Camera(CameraId),
    /// A camera's sequencer.
    Sequencer(CameraId),
    /// A recorder's actor.
    Nvr(NvrId),
    /// An UploadActor, by its place.
    Upload(usize),
}

/// Stops the Supervisor's thread for so long, to prove that it is noticed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Hang(pub Duration);

/// Why a request was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no such camera.
    #[error("there is no camera `{0}`")]
    NoSuchCamera(CameraId),
    /// There is no such batch.
    #[error("there is no batch `{0}`")]
    NoSuchBatch(CameraId),
    /// There is no such recorder.
    #[error("there is no recorder `{0}`")]
    NoSuchNvr(NvrId),
    /// Fields of the request are wrong.
    #[error("the camera cannot be used as it is written")]
    Invalid(Vec<FieldProblem>),
    /// Fields of the request are wrong, of one about a recorder.
    #[error("the recorder cannot be used as it is written")]
    InvalidNvr(Vec<FieldProblem>),
    /// What it is about cannot be had at the moment.
    #[error("{0}")]
    Unavailable(String),
    /// A recorder has refused, or did not answer.
    #[error(transparent)]
    Recorder(RecorderError),
    /// It is not as the request supposes it to be.
    #[error("{0}")]
    Stale(String),
    /// It may not be changed this way.
    #[error("{0}")]
    Conflict(String),
    /// Too much of this was asked for lately.
    #[error("{message}")]
    TooMany {
        /// Why, and the way out.
        message: String,
        /// When to come again.
        retry_after: Duration,
    },
    /// It cannot be written at the moment.
    #[error("{0}")]
    NoRoom(String),
    /// The daemon is on its way out.
    #[error("the daemon is stopping: try again when it is back")]
    Stopping,
    /// Something of ours failed.
    #[error("{0}")]
    Internal(String),
}

// ---- control, down: from the Supervisor to its actors ----

/// Ends a camera's generation.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Stop {
    /// What its session's entry will say.
    pub why: &'static str,
}

/// Ends an UploadActor where it is.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StopUpload;

/// Makes the actor that receives it panic.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Panic;

// ---- data, along: from the journal to a SequencerActor ----

/// Outcomes of these seqs are committed.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Resolved(pub SeqRange);

// ---- notices, up: to the Supervisor ----

/// Something about a camera's generation that observers want to know.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CameraNotice {
    /// Which camera.
    pub camera: CameraId,
    /// Which generation of it: older ones are ignored.
    pub generation: u64,
    /// What.
    pub news: CameraNews,
}

/// What a camera's generation has to tell.
#[derive(Debug)]
pub enum CameraNews {
    /// Its capture process runs.
    Capturing {
        /// The process's id.
        pid: Option<u32>,
    },
    /// Its stream is open: user and password were accepted.
    Opened(StreamInfo),
    /// Frames arrive, in this session, at this rate per second.
    Streaming {
        /// The session.
        session: SessionNo,
        /// Frames a second, over the last few seconds.
        fps: f64,
        /// For how long its pictures have shown the same.
        still: Duration,
        /// How far the camera's clock is ahead of the pictures' arrival, microseconds; `None` where it tells no time.
        clock_offset: Option<i64>,
    },
    /// Pictures have stopped arriving.
    Stalled,
}

/// A camera's generation is over. Sent when its actor is dropped, whatever the reason.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct CameraExited {
    /// Which camera.
    pub camera: CameraId,
    /// Which generation of it.
    pub generation: u64,
    /// How it ended.
    pub exit: Exit,
}

/// An UploadActor is gone.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct UploadExited {
    /// Its place among the workers.
    pub place: usize,
}

/// A camera's SequencerActor is gone.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SequencerExited {
    /// Whose.
    pub camera: CameraId,
}

/// An upload of a camera's frame has failed and will be tried again, or `None`: one has succeeded after that.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct UploadTrouble {
    /// Whose frame.
    pub camera: CameraId,
    /// What the store said, with the kind of its error.
    pub error: Option<(&'static str, String)>,
}

// ---- views ----

/// What a camera is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CameraState {
    /// Its stream is being opened.
    Connecting,
    /// Frames arrive.
    Streaming,
    /// Frames have stopped arriving; its capture is being ended.
    Stalled,
    /// As many capture processes run as may; it starts when one of them ends.
    Queued,
    /// Its recorder does not answer, or lets nobody in; it starts when that does.
    NvrDown,
    /// It failed and will be tried again soon.
    BackingOff,
    /// The camera refused user and password; tried again now and then, and at once when they change.
    AuthFailed,
    /// It failed in another way that a person will probably have to mend; it is tried again now and then.
    Failed,
    /// Its source has come to its end, and there is nothing more to capture.
    Ended,
    /// A person has paused it.
    Paused,
    /// It is not running, because the daemon is stopping.
    Stopped,
    /// It was removed; its list is kept.
    Deleted,
}

impl CameraState {
    /// Every state, in the order of their declaration.
    pub const ALL: [Self; 12] = [
        Self::Connecting,
        Self::Streaming,
        Self::Stalled,
        Self::Queued,
        Self::NvrDown,
        Self::BackingOff,
        Self::AuthFailed,
        Self::Failed,
        Self::Ended,
        Self::Paused,
        Self::Stopped,
        Self::Deleted,
    ];

    /// The state as it stands in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Streaming => "streaming",
            Self::Stalled => "stalled",
            Self::Queued => "queued",
            Self::NvrDown => "nvr_down",
            Self::BackingOff => "backing_off",
            Self::AuthFailed => "auth_failed",
            Self::Failed => "failed",
            Self::Ended => "ended",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Deleted => "deleted",
        }
    }
}

/// A camera as an observer sees it.
#[derive(Clone, Debug)]
pub struct CameraView {
    /// Which.
    pub camera: CameraId,
    /// What is asked of it; `None` for a deleted one.
    pub spec: Option<CameraSpec>,
    /// Counts the changes of its spec.
    pub revision: u64,
    /// Who may change it.
    pub managed_by: ManagedBy,
    /// The recorder and the channel of it that it is, if it is one.
    pub nvr: Option<(NvrId, u32)>,
    /// What it is doing.
    pub state: CameraState,
    /// Since when.
    pub since: UnixMicros,
    /// Counts its starts in this run of the daemon.
    pub generation: u64,
    /// The session that is open, or was last.
    pub session: Option<SessionNo>,
    /// Its capture process.
    pub pid: Option<u32>,
    /// The program which that process runs.
    pub program: Option<Program>,
    /// Frames a second over the last few seconds; 0 unless streaming.
    pub fps: f64,
    /// How far the camera's clock is ahead of the pictures' arrival, microseconds; `None` where it tells no time.
    pub clock_offset: Option<i64>,
    /// Since when its pictures show the same, where that is longer than it should be.
    pub frozen_since: Option<UnixMicros>,
    /// What its stream said of itself when it opened last.
    pub stream: Option<StreamInfo>,
    /// When it is tried again, while backing off or failed.
    pub next_try_at: Option<UnixMicros>,
    /// How long ago its newest frame was captured.
    pub last_frame_age: Option<Duration>,
    /// Its totals.
    pub totals: Totals,
    /// The last seq of its list.
    pub watermark: Seq,
    /// The batch that it is, if it is one, and whether nothing more will come of it.
    pub batch: Option<(Batch, bool)>,
    /// What last went wrong, until it goes right again.
    pub last_error: Option<LastError>,
}

/// Tells one state of the set of cameras that requests manage from all others.
pub fn set_tag(cameras: &[CameraView]) -> String {
    let mut hash = Sha256::new();
    for camera in cameras.iter().filter(|camera| camera.managed_by == ManagedBy::Api && camera.spec.is_some()) {
        hash.update(format!("{}:{}\n", camera.camera, camera.revision));
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What last went wrong with a camera.
#[derive(Clone, Debug)]
pub struct LastError {
    /// When.
    pub at: UnixMicros,
    /// Where: "capture" or "upload".
    pub source: &'static str,
    /// What kind.
    pub kind: &'static str,
    /// The cause and the way out.
    pub message: String,
}

impl LastError {
    /// An error of a camera's capture.
    pub fn capture(at: UnixMicros, kind: ErrorKind, message: &str) -> Self {
        Self { at, source: "capture", kind: kind.as_str(), message: message.to_owned() }
    }
}
