//! What answers on recorders look like.

use serde::Serialize;

use crate::actors::{CameraState, ChannelView, NvrState, NvrView, Recorded, Recordings, TimelinePlace};
use crate::model::{CameraId, NvrId, NvrSpec, UnixMicros};
use crate::nvr::{DeviceTime, Disk};

/// A recorder: what was asked of it, and what it is doing.
#[derive(Debug, Serialize)]
pub struct NvrDto {
    id: NvrId,
    /// Counts the changes of the spec; its ETag.
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec: Option<SpecDto>,
    status: NvrStatusDto,
}

#[derive(Debug, Serialize)]
struct SpecDto {
    #[serde(flatten)]
    spec: NvrSpec,
    /// The password itself is write-only.
    password_set: bool,
}

impl From<NvrView> for NvrDto {
    fn from(view: NvrView) -> Self {
        let status = NvrStatusDto::from(&view);
        let spec = view.spec.map(|spec| SpecDto { password_set: spec.password.is_some(), spec });
        Self { id: view.nvr, revision: view.revision, spec, status }
    }
}

/// What a recorder is doing, and what it says of itself.
#[derive(Debug, Serialize)]
pub struct NvrStatusDto {
    state: NvrState,
    since: UnixMicros,
    /// When it last answered all that it was asked; `null` before the first time.
    seen_at: Option<UnixMicros>,
    device: Option<DeviceDto>,
    clock: Option<ClockDto>,
    /// `null` until they are known.
    disks: Option<Vec<Disk>>,
    channels: CountsDto,
    sessions: SessionsDto,
    /// Until when it has locked us out.
    locked_until: Option<UnixMicros>,
    last_error: Option<ErrorDto>,
}

#[derive(Debug, Serialize)]
struct DeviceDto {
    name: String,
    model: String,
    firmware: String,
    serial: String,
}

#[derive(Debug, Serialize)]
struct ClockDto {
    /// How far it is ahead of this machine's; `null` where it does not tell the time.
    offset_seconds: Option<f64>,
    /// The zone on its wall, where that has a name.
    zone: Option<String>,
    /// Whether what it writes is UTC, and not what its wall shows.
    writes_utc: bool,
}

#[derive(Debug, Serialize)]
struct CountsDto {
    /// Those that it has.
    seen: usize,
    /// Those that are cameras.
    cameras: usize,
}

/// What of it is in use by us.
#[derive(Debug, Serialize)]
struct SessionsDto {
    /// Cameras whose streams arrive.
    streaming: usize,
    /// Cameras that are being opened.
    connecting: usize,
}

#[derive(Debug, Serialize)]
struct ErrorDto {
    at: UnixMicros,
    kind: &'static str,
    message: String,
}

impl From<&NvrView> for NvrStatusDto {
    fn from(view: &NvrView) -> Self {
        let seen = view.seen.as_ref().map(|(seen, _)| seen);
        let identity = seen.map(|seen| &seen.identity);
        let in_state = |wanted: CameraState| {
            let states = view.channels.iter().filter_map(|channel| channel.camera.as_ref());
            states.filter(|(_, state)| *state == wanted).count()
        };
        Self {
            state: view.state,
            since: view.since,
            seen_at: view.seen.as_ref().map(|(_, at)| *at),
            device: identity.map(|of| DeviceDto {
                name: of.name.clone(),
                model: of.model.clone(),
                firmware: of.firmware.clone(),
                serial: of.serial.clone(),
            }),
            clock: seen.map(|seen| ClockDto {
                offset_seconds: seen.health.ahead.map(time::Duration::as_seconds_f64),
                zone: seen.clock.zone().name().map(str::to_owned),
                writes_utc: seen.clock.writes_utc(),
            }),
            disks: seen.map(|seen| seen.health.disks.clone()),
            channels: CountsDto {
                seen: view.channels.iter().filter(|channel| channel.seen).count(),
                cameras: view.channels.iter().filter(|channel| channel.camera.is_some()).count(),
            },
            sessions: SessionsDto {
                streaming: in_state(CameraState::Streaming),
                connecting: in_state(CameraState::Connecting),
            },
            locked_until: view.error.as_ref().and_then(|error| error.locked_until),
            last_error: view.error.as_ref().map(|error| ErrorDto {
                at: error.at,
                kind: error.kind,
                message: error.message.clone(),
            }),
        }
    }
}

/// A channel of a recorder.
#[derive(Debug, Serialize)]
pub struct ChannelDto {
    channel: u32,
    name: String,
    /// Whether the recorder has it.
    seen: bool,
    /// Whether the camera behind it is there; `null` where the recorder does not tell.
    online: Option<bool>,
    /// Whether it is asked for.
    wanted: bool,
    /// The camera that it is.
    camera: Option<CameraId>,
    /// What that is doing.
    state: Option<CameraState>,
    /// Why it is none though it is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl From<ChannelView> for ChannelDto {
    fn from(view: ChannelView) -> Self {
        let (camera, state) = view.camera.unzip();
        Self {
            channel: view.number,
            name: view.name,
            seen: view.seen,
            online: view.online,
            wanted: view.wanted,
            camera,
            state,
            problem: view.problem,
        }
    }
}

/// A page of a channel's timeline.
#[derive(Debug, Serialize)]
pub struct RecordingsDto {
    nvr: NvrId,
    channel: u32,
    track: String,
    from: UnixMicros,
    to: UnixMicros,
    entries: Vec<EntryDto>,
    /// The cursor for the next page: `after` of the same request; `null` on the last one.
    next: Option<TimelinePlace>,
    more: bool,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum EntryDto {
    Recording {
        start: UnixMicros,
        end: UnixMicros,
        seconds: f64,
        /// The same begin as the recorder writes it.
        device_start: String,
        device_end: String,
        /// Whether the recorder's clock shows one of them twice, so that `start` and `end` may be an hour off.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        ambiguous: bool,
        name: Option<String>,
        bytes: Option<u64>,
        /// Whether it is being recorded.
        open: bool,
        locked: Option<bool>,
    },
    Gap {
        start: UnixMicros,
        end: UnixMicros,
        seconds: f64,
    },
}

impl RecordingsDto {
    /// What was found on a channel within a span.
    pub fn new(nvr: NvrId, channel: u32, (from, to): (UnixMicros, UnixMicros), found: Recordings) -> Self {
        let Recordings { track, entries, next } = found;
        let entries = entries.into_iter().map(EntryDto::from).collect();
        Self { nvr, channel, track, from, to, entries, more: next.is_some(), next }
    }
}

fn seconds(start: UnixMicros, end: UnixMicros) -> f64 {
    end.since(start).as_secs_f64()
}

impl From<Recorded> for EntryDto {
    fn from(entry: Recorded) -> Self {
        match entry {
            Recorded::Recording { start, end, name, bytes, open, locked } => {
                let shown = |time: DeviceTime| time.to_string();
                Self::Recording {
                    start: start.utc,
                    end: end.utc,
                    seconds: seconds(start.utc, end.utc),
                    device_start: shown(start),
                    device_end: shown(end),
                    ambiguous: start.ambiguous || end.ambiguous,
                    name,
                    bytes,
                    open,
                    locked,
                }
            }
            Recorded::Gap { start, end } => Self::Gap { start, end, seconds: seconds(start, end) },
        }
    }
}
