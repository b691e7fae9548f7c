//! What is said about recorders, by direction.

use std::sync::Arc;

use actix::Message;

use super::place::TimelinePlace;
use crate::actors::messages::{CameraState, ControlError, Precondition};
use crate::model::{CameraId, NvrId, NvrSpec, Presence, RawNvrSpec, UnixMicros};
use crate::nvr::{Channel, DeviceClock, DeviceTime, Health, Identity, Recorder, RecorderError};

// ---- control, down: from HTTP to the Supervisor ----

/// Adds or changes a recorder.
#[derive(Debug, Message)]
#[rtype(result = "Result<PutNvrAnswer, ControlError>")]
pub struct PutNvr {
    /// Which.
    pub nvr: NvrId,
    /// What is asked of it.
    pub spec: RawNvrSpec,
    /// What must hold of it before.
    pub when: Precondition,
}

/// A recorder as it was put.
#[derive(Debug)]
pub struct PutNvrAnswer {
    /// Whether there was none of this id before.
    pub created: bool,
    /// The recorder now.
    pub nvr: NvrView,
}

/// Removes a recorder and its cameras. What they have captured is still delivered and listed.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), ControlError>")]
pub struct DeleteNvr(pub NvrId, pub Precondition);

/// Asks for one recorder.
#[derive(Debug, Message)]
#[rtype(result = "Result<NvrView, ControlError>")]
pub struct GetNvr(pub NvrId);

/// Asks for all recorders.
#[derive(Debug, Message)]
#[rtype(result = "Vec<NvrView>")]
pub struct ListNvrs;

/// Asks a recorder what a channel has recorded.
#[derive(Debug, Message)]
#[rtype(result = "Result<Recordings, ControlError>")]
pub struct FindRecordings {
    /// Which recorder.
    pub nvr: NvrId,
    /// Which channel of it.
    pub channel: u32,
    /// From when on.
    pub from: UnixMicros,
    /// Until when.
    pub to: UnixMicros,
    /// Go on from there.
    pub after: Option<TimelinePlace>,
    /// Recordings, at most.
    pub limit: usize,
}

/// What a channel has recorded, in order, and where it has nothing.
#[derive(Debug)]
pub struct Recordings {
    /// The track that was searched.
    pub track: String,
    /// Recordings and gaps.
    pub entries: Vec<Recorded>,
    /// Where the next page goes on, where there is one.
    pub next: Option<TimelinePlace>,
}

/// A piece of a channel's timeline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recorded {
    /// A recording.
    Recording {
        /// When it begins.
        start: DeviceTime,
        /// When it ends.
        end: DeviceTime,
        /// The recorder's name for it.
        name: Option<String>,
        /// Its size as the recorder tells it, bytes.
        bytes: Option<u64>,
        /// Whether it is being recorded.
        open: bool,
        /// Whether it is kept from being written over.
        locked: Option<bool>,
    },
    /// Nothing was recorded, or it has been written over.
    Gap {
        /// From when on.
        start: UnixMicros,
        /// Until when.
        end: UnixMicros,
    },
}

// ---- control, down: from the Supervisor to a NvrActor ----

/// Ends it.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StopNvr;

/// One of its cameras has lost it: is it there?
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct DoubtNvr;

/// Something may have changed: look soon.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LookSoon;

// ---- notices, up: to the Supervisor ----

/// What a NvrActor has found out.
#[derive(Message)]
#[rtype(result = "()")]
pub struct NvrNotice {
    /// Of which recorder.
    pub nvr: NvrId,
    /// By which generation of its actor: older ones are ignored.
    pub generation: u64,
    /// Whether it is there.
    pub presence: Presence,
    /// What else.
    pub news: NvrNews,
}

/// What an errand has come to.
pub enum NvrNews {
    /// A look: what was seen, and the client that saw it.
    Looked(Box<Seen>, Arc<dyn Recorder>),
    /// A look that failed.
    Failed(RecorderError),
    /// A knock: why it was not answered, if it was not.
    Knocked(Result<(), String>),
}

/// What a look has seen.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Who it is.
    pub identity: Identity,
    /// How its clock is read.
    pub clock: DeviceClock,
    /// How it is.
    pub health: Health,
    /// Its channels; one that is missed for the first time is still among them.
    pub channels: Vec<Channel>,
    /// The port of its streams.
    pub rtsp_port: u16,
}

/// A NvrActor is gone. Sent when it is dropped, whatever the reason.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct NvrExited {
    /// Whose.
    pub nvr: NvrId,
    /// Which generation of it.
    pub generation: u64,
}

// ---- views ----

/// What a recorder is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NvrState {
    /// It is asked for the first time.
    Connecting,
    /// It answers.
    Online,
    /// It streams, and does not answer all that it is asked.
    Degraded,
    /// It does not answer; its cameras wait.
    Unreachable,
    /// It refuses user and password; its cameras wait.
    AuthFailed,
    /// It has locked us out for a while; its cameras wait.
    Locked,
    /// What is asked of it cannot be used.
    Failed,
    /// The daemon is stopping.
    Stopped,
}

impl NvrState {
    /// Every state, in the order of their declaration.
    pub const ALL: [Self; 8] = [
        Self::Connecting,
        Self::Online,
        Self::Degraded,
        Self::Unreachable,
        Self::AuthFailed,
        Self::Locked,
        Self::Failed,
        Self::Stopped,
    ];

    /// The state as it stands in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Online => "online",
            Self::Degraded => "degraded",
            Self::Unreachable => "unreachable",
            Self::AuthFailed => "auth_failed",
            Self::Locked => "locked",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// A recorder as an observer sees it.
#[derive(Clone, Debug)]
pub struct NvrView {
    /// Which.
    pub nvr: NvrId,
    /// What is asked of it; `None` where that cannot be used.
    pub spec: Option<NvrSpec>,
    /// Counts the changes of its spec.
    pub revision: u64,
    /// What it is doing.
    pub state: NvrState,
    /// Since when.
    pub since: UnixMicros,
    /// What the last look that was answered has seen, and when.
    pub seen: Option<(Arc<Seen>, UnixMicros)>,
    /// Its channels: those that were seen, and those that are asked for.
    pub channels: Vec<ChannelView>,
    /// What is wrong, until it is right again.
    pub error: Option<NvrError>,
}

/// A channel as an observer sees it.
#[derive(Clone, Debug)]
pub struct ChannelView {
    /// Its number.
    pub number: u32,
    /// What the recorder calls it.
    pub name: String,
    /// Whether the recorder has it.
    pub seen: bool,
    /// Whether the camera behind it is there; `None` where nothing tells.
    pub online: Option<bool>,
    /// Whether it shall be a camera.
    pub wanted: bool,
    /// The camera that it is.
    pub camera: Option<(CameraId, CameraState)>,
    /// Why it is none though it should be one.
    pub problem: Option<String>,
}

/// What is wrong with a recorder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NvrError {
    /// Since when.
    pub at: UnixMicros,
    /// What kind.
    pub kind: &'static str,
    /// The cause and the way out.
    pub message: String,
    /// Until when it has locked us out, if it has.
    pub locked_until: Option<UnixMicros>,
}
