//! What the actors say to each other, by direction.

use std::time::Duration;

use actix::Message;

use crate::capture::{ErrorKind, Exit};
use crate::journal::Totals;
use crate::model::{CameraId, CameraSpec, FieldProblem, RawCameraSpec, Seq, SeqRange, SessionNo, UnixMicros};

// ---- control, down: from HTTP to the Supervisor ----

/// Adds or changes a camera.
#[derive(Debug, Message)]
#[rtype(result = "Result<PutAnswer, ControlError>")]
pub struct PutCamera {
    /// Which.
    pub camera: CameraId,
    /// What is asked of it.
    pub spec: RawCameraSpec,
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
pub struct DeleteCamera(pub CameraId);

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
    /// Fields of the request are wrong.
    #[error("the camera cannot be used as it is written")]
    Invalid(Vec<FieldProblem>),
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
    /// Frames arrive, in this session, at this rate per second.
    Streaming {
        /// The session.
        session: SessionNo,
        /// Frames a second, over the last few seconds.
        fps: f64,
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
    pub const ALL: [Self; 10] = [
        Self::Connecting,
        Self::Streaming,
        Self::Stalled,
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
    /// Frames a second over the last few seconds; 0 unless streaming.
    pub fps: f64,
    /// When it is tried again, while backing off or failed.
    pub next_try_at: Option<UnixMicros>,
    /// How long ago its newest frame was captured.
    pub last_frame_age: Option<Duration>,
    /// Its totals.
    pub totals: Totals,
    /// The last seq of its list.
    pub watermark: Seq,
    /// What last went wrong, until it goes right again.
    pub last_error: Option<LastError>,
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
