//! A camera id as the Supervisor knows it: what is asked, what is running, what last went wrong.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Addr, SpawnHandle};

use super::batches::BatchRecord;
use super::camera::CameraActor;
use super::messages::{CameraState, CameraView, LastError, Stop};
use super::nvrs::CameraFailure;
use crate::capture::wire::StreamInfo;
use crate::capture::{ErrorKind, Outage};
use crate::journal::{KnownCamera, Ledger};
use crate::metrics::ShownCamera;
use crate::model::{CameraSpec, Login, ManagedBy, NvrId, SessionNo, UnixMicros};

/// One camera id.
pub(super) struct Record {
    pub spec: Option<CameraSpec>,
    /// Whether the catalog has a spec that this program cannot use; then `spec` is `None`.
    pub unusable: bool,
    pub revision: u64,
    pub managed_by: ManagedBy,
    pub paused: bool,
    /// The batch that it is, if it is one.
    pub batch: Option<BatchRecord>,
    /// The recorder and the channel of it that it is, if it is one.
    pub nvr: Option<(NvrId, u32)>,
    pub ledger: Arc<Ledger>,
    pub state: CameraState,
    pub since: UnixMicros,
    pub generation: u64,
    pub running: Option<Running>,
    /// When it starts by itself.
    pub next_try: Option<(SpawnHandle, UnixMicros)>,
    /// Set while another camera tries the same login: it starts when that is known.
    pub awaits_login: Option<Login>,
    /// Set while as many capture processes run as may: it starts when one of them has ended.
    pub awaits_place: bool,
    /// Set while its recorder is not there: it starts when that is.
    pub awaits_recorder: bool,
    /// How its last generation has failed, where that may be its recorder's fault: what follows waits for that to be known.
    pub doubted: Option<CameraFailure>,
    pub outage: Outage,
    pub session: Option<SessionNo>,
    pub fps: f64,
    /// How far the camera's clock is ahead of the pictures' arrival, microseconds.
    pub clock_offset: Option<i64>,
    /// Since when its pictures show the same, where that is longer than it should be.
    pub frozen_since: Option<UnixMicros>,
    pub stream: Option<StreamInfo>,
    pub capture_error: Option<LastError>,
    pub upload_error: Option<LastError>,
}

/// A generation that is not over.
pub(super) struct Running {
    pub addr: Addr<CameraActor>,
    /// What it was started with.
    pub spec: CameraSpec,
    pub started: Instant,
    pub pid: Option<u32>,
    /// What it logs in with, and the credentials' fingerprint.
    pub login: Option<(Login, String)>,
}

impl Record {
    /// A camera id without a spec.
    pub fn new(ledger: Arc<Ledger>) -> Self {
        Self {
            spec: None,
            unusable: false,
            revision: 0,
            managed_by: ManagedBy::default(),
            paused: false,
            batch: None,
            nvr: None,
            ledger,
            state: CameraState::Deleted,
            since: UnixMicros::now(),
            generation: 0,
            running: None,
            next_try: None,
            awaits_login: None,
            awaits_place: false,
            awaits_recorder: false,
            doubted: None,
            outage: Outage::default(),
            session: None,
            fps: 0.0,
            clock_offset: None,
            frozen_since: None,
            stream: None,
            capture_error: None,
            upload_error: None,
        }
    }

    /// A camera id as the journal knew it.
    pub fn known(camera: KnownCamera) -> Self {
        let state = match (&camera.spec, camera.paused) {
            (None, _) if camera.unusable.is_some() => CameraState::Failed,
            (None, _) => CameraState::Deleted,
            _ if camera.batch.as_ref().is_some_and(|batch| batch.end.is_some()) => CameraState::Ended,
            (Some(_), true) => CameraState::Paused,
            (Some(_), false) => CameraState::Connecting,
        };
        let error = camera.unusable.map(|why| LastError {
            at: UnixMicros::now(),
            source: "catalog",
            kind: "unusable",
            message: format!("what is asked of the camera cannot be used by this version: {why}; put it anew"),
        });
        Self {
            spec: camera.spec,
            unusable: error.is_some(),
            capture_error: error,
            revision: camera.revision,
            managed_by: camera.managed_by,
            paused: camera.paused,
            batch: camera.batch.map(BatchRecord::new),
            nvr: camera.channel,
            state,
            ..Self::new(camera.ledger)
        }
    }

    /// Whether the catalog has it.
    pub fn exists(&self) -> bool {
        self.spec.is_some() || self.unusable
    }

    /// Takes note of what it is doing now.
    pub fn enter(&mut self, state: CameraState) {
        if self.state != state {
            self.state = state;
            self.since = UnixMicros::now();
        }
        if state != CameraState::Streaming {
            self.fps = 0.0;
            self.frozen_since = None;
            self.clock_offset = None;
        }
    }

    /// Takes note of how long its pictures have shown the same. `after` is for how long they may; for ever without it.
    pub fn show_still(&mut self, still: Duration, after: Option<Duration>) {
        let is_frozen = after.is_some_and(|after| still > after);
        // A child is not trusted: it may say that it has stood still since before there was time.
        let since = || UnixMicros(UnixMicros::now().0.saturating_sub_unsigned(still.as_micros() as u64));
        self.frozen_since = is_frozen.then(|| self.frozen_since.unwrap_or_else(since));
    }

    /// Ends its generation, if one is running, for this reason.
    pub fn stop(&self, why: &'static str) -> bool {
        if let Some(running) = &self.running {
            running.addr.do_send(Stop { why });
        }
        self.running.is_some()
    }

    /// What metrics show of it.
    pub fn shown(&self) -> ShownCamera {
        ShownCamera {
            ledger: self.ledger.clone(),
            up: self.state == CameraState::Streaming,
            frozen: self.frozen_since.is_some(),
            wanted: !matches!(self.state, CameraState::Paused | CameraState::Ended | CameraState::NvrDown),
            auth_failed: self.capture_error.as_ref().is_some_and(|error| error.kind == ErrorKind::Auth.as_str()),
        }
    }

    /// What an observer sees.
    pub fn view(&self) -> CameraView {
        let errors = self.capture_error.iter().chain(&self.upload_error);
        CameraView {
            camera: self.ledger.camera().clone(),
            spec: self.spec.clone(),
            revision: self.revision,
            managed_by: self.managed_by,
            nvr: self.nvr.clone(),
            state: self.state,
            since: self.since,
            generation: self.generation,
            session: self.session,
            pid: self.running.as_ref().and_then(|running| running.pid),
            program: self.running.as_ref().map(|running| running.spec.program()),
            fps: self.fps,
            clock_offset: self.clock_offset,
            frozen_since: self.frozen_since,
            stream: self.stream.clone(),
            next_try_at: self.next_try.map(|(_, at)| at),
            last_frame_age: self.ledger.last_captured_at().map(|at| UnixMicros::now().since(at)),
            totals: self.ledger.totals(),
            watermark: self.ledger.watermark(),
            batch: self.batch.as_ref().map(|batch| (batch.batch.clone(), batch.is_over())),
            last_error: errors.max_by_key(|error| error.at).cloned(),
        }
    }
}
