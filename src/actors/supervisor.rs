//! Keeps what the catalog asks for running: a CameraActor per camera, a SequencerActor per camera id, the UploadActors.
//!
//! It keeps the recipe, never the corpse: a restart is a new actor of a new generation, and messages of older ones are
//! ignored. Should it die itself, the process ends and is started again from the catalog.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::Hub;
use super::camera::{CameraActor, Recipe};
use super::messages::*;
use super::sequencer::{SequencerActor, Sequencers};
use super::upload::{UploadActor, UploadRecipe};
use crate::capture::{Deadlines, ErrorKind, Exit, Outage, Verdict};
use crate::journal::{Journal, Ledger, Ledgers, Reader};
use crate::metrics::{Metrics, ShownCamera};
use crate::model::{CameraId, CameraSpec, SessionNo, UnixMicros};

/// An UploadActor that died is replaced after this.
const UPLOAD_RESTART: Duration = Duration::from_millis(100);

/// What the Supervisor is given to work with.
#[derive(Clone)]
pub struct Wiring {
    /// Where frames wait.
    pub hub: Hub,
    /// The writing side of the journal.
    pub journal: Journal,
    /// The reading side.
    pub reader: Reader,
    /// All cameras' accounts.
    pub ledgers: Ledgers,
    /// Where the journal finds the SequencerActors.
    pub sequencers: Sequencers,
    /// What all UploadActors share.
    pub upload: UploadRecipe,
    /// The capture program.
    pub engine: PathBuf,
    /// How long it may take.
    pub deadlines: Deadlines,
    /// The daemon's metrics.
    pub metrics: Metrics,
}

/// The root of the actors.
pub struct Supervisor {
    wiring: Wiring,
    cameras: BTreeMap<CameraId, Camera>,
    uploads: Vec<Addr<UploadActor>>,
    rng: fastrand::Rng,
    stopping: bool,
    /// Who waits for the last capture process to end.
    stopped: Vec<oneshot::Sender<()>>,
    _death: oneshot::Sender<()>,
}

/// A camera id as the Supervisor knows it.
struct Camera {
    spec: Option<CameraSpec>,
    revision: u64,
    ledger: Arc<Ledger>,
    state: CameraState,
    since: UnixMicros,
    generation: u64,
    running: Option<Running>,
    next_try: Option<(SpawnHandle, UnixMicros)>,
    outage: Outage,
    session: Option<SessionNo>,
    fps: f64,
    capture_error: Option<LastError>,
    upload_error: Option<LastError>,
}

struct Running {
    addr: Addr<CameraActor>,
    /// Of the spec it was started with.
    revision: u64,
    started: Instant,
    pid: Option<u32>,
}

impl Camera {
    fn new(spec: Option<CameraSpec>, revision: u64, ledger: Arc<Ledger>) -> Self {
        let state = if spec.is_some() { CameraState::Connecting } else { CameraState::Deleted };
        Self {
            spec,
            revision,
            ledger,
            state,
            since: UnixMicros::now(),
            generation: 0,
            running: None,
            next_try: None,
            outage: Outage::default(),
            session: None,
            fps: 0.0,
            capture_error: None,
            upload_error: None,
        }
    }

    fn enter(&mut self, state: CameraState) {
        if self.state != state {
            self.state = state;
            self.since = UnixMicros::now();
        }
        if state != CameraState::Streaming {
            self.fps = 0.0;
        }
    }

    fn shown(&self) -> ShownCamera {
        ShownCamera {
            ledger: self.ledger.clone(),
            up: self.state == CameraState::Streaming,
            wanted: !matches!(self.state, CameraState::Paused | CameraState::Ended),
            auth_failed: self.capture_error.as_ref().is_some_and(|error| error.kind == ErrorKind::Auth.as_str()),
        }
    }

    fn view(&self) -> CameraView {
        let age = |at: UnixMicros| Duration::from_micros(u64::try_from(UnixMicros::now().0 - at.0).unwrap_or_default());
        let errors = self.capture_error.iter().chain(&self.upload_error);
        CameraView {
            camera: self.ledger.camera().clone(),
            spec: self.spec.clone(),
            revision: self.revision,
            state: self.state,
            since: self.since,
            generation: self.generation,
            session: self.session,
            pid: self.running.as_ref().and_then(|running| running.pid),
            fps: self.fps,
            next_try_at: self.next_try.map(|(_, at)| at),
            last_frame_age: self.ledger.last_captured_at().map(age),
            totals: self.ledger.totals(),
            watermark: self.ledger.watermark(),
            last_error: errors.max_by_key(|error| error.at).cloned(),
        }
    }
}

impl Supervisor {
    /// A Supervisor for the cameras the journal knows; each with its spec and revision unless it was deleted. `death` is
    /// dropped with the Supervisor, whatever the reason.
    pub fn new(
        wiring: Wiring,
        known: impl IntoIterator<Item = (CameraId, Option<(CameraSpec, u64)>)>,
        death: oneshot::Sender<()>,
    ) -> Self {
        let cameras = known
            .into_iter()
            .map(|(id, spec)| {
                let ledger = wiring.ledgers.of(&id);
                let (spec, revision) = spec.map_or((None, 0), |(spec, revision)| (Some(spec), revision));
                (id, Camera::new(spec, revision, ledger))
            })
            .collect();
        Self {
            wiring,
            cameras,
            uploads: Vec::new(),
            rng: fastrand::Rng::new(),
            stopping: false,
            stopped: Vec::new(),
            _death: death,
        }
    }

    fn start_sequencer(&self, camera: &CameraId, ctx: &Context<Self>) {
        let wiring = &self.wiring;
        SequencerActor::new(
            wiring.ledgers.of(camera),
            wiring.reader.clone(),
            wiring.journal.clone(),
            wiring.sequencers.clone(),
            ctx.address(),
        )
        .start();
    }

    fn start_upload(&self, place: usize, ctx: &Context<Self>) -> Addr<UploadActor> {
        UploadActor::new(place, self.wiring.upload.clone(), ctx.address()).start()
    }

    /// Starts a camera's next generation, unless one is running, it is not wanted, or the daemon is stopping.
    fn start_camera(&mut self, id: &CameraId, ctx: &mut Context<Self>) {
        let Some(camera) = self.cameras.get_mut(id) else { return };
        if let Some((timer, _)) = camera.next_try.take() {
            ctx.cancel_future(timer);
        }
        let Some(spec) = camera.spec.clone().filter(|_| camera.running.is_none() && !self.stopping) else { return };
        camera.generation += 1;
        camera.enter(CameraState::Connecting);
        let recipe = Recipe {
            camera: id.clone(),
            generation: camera.generation,
            spec,
            engine: self.wiring.engine.clone(),
            deadlines: self.wiring.deadlines,
            ledger: camera.ledger.clone(),
            hub: self.wiring.hub.clone(),
            journal: self.wiring.journal.clone(),
        };
        let addr = CameraActor::new(recipe, ctx.address()).start();
        camera.running = Some(Running { addr, revision: camera.revision, started: Instant::now(), pid: None });
        self.count_states();
    }

    fn count_states(&self) {
        for state in CameraState::ALL {
            let count = self.cameras.values().filter(|camera| camera.state == state).count();
            self.wiring.metrics.set_cameras(state.as_str(), count);
        }
        let live = self.cameras.values().filter(|camera| camera.spec.is_some());
        self.wiring.metrics.show_cameras(live.map(Camera::shown));
    }

    fn view(&self, id: &CameraId) -> Result<CameraView, ControlError> {
        let camera = self.cameras.get(id).filter(|camera| camera.spec.is_some());
        camera.map(Camera::view).ok_or_else(|| ControlError::NoSuchCamera(id.clone()))
    }

    fn tell_if_stopped(&mut self) {
        if self.stopping && self.cameras.values().all(|camera| camera.running.is_none()) {
            for waiting in self.stopped.drain(..) {
                let _ = waiting.send(());
            }
        }
    }

    /// Writes a camera's spec into the running state: the catalog has it already.
    fn apply(&mut self, id: CameraId, spec: CameraSpec, revision: u64, ctx: &mut Context<Self>) {
        let ledger = self.wiring.ledgers.of(&id);
        if self.wiring.sequencers.find(&id).is_none_or(|addr| !addr.connected()) {
            self.start_sequencer(&id, ctx);
        }
        let camera = self.cameras.entry(id.clone()).or_insert_with(|| Camera::new(None, 0, ledger));
        camera.spec = Some(spec);
        camera.revision = revision;
        camera.outage = Outage::default();
        camera.capture_error = None;
        match &camera.running {
            // The next generation starts when this one is gone: two would fight over the camera.
            Some(running) => running.addr.do_send(Stop { why: "changed" }),
            None => self.start_camera(&id, ctx),
        }
        self.count_states();
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let known: Vec<CameraId> = self.cameras.keys().cloned().collect();
        for id in &known {
            self.start_sequencer(id, ctx);
            self.start_camera(id, ctx);
        }
        let workers = self.wiring.upload.settings.workers.get();
        self.uploads = (0..workers).map(|place| self.start_upload(place, ctx)).collect();
        self.count_states();
    }
}

// ---- control ----

impl Handler<PutCamera> for Supervisor {
    // Atomic: the next message waits, so that two changes of one camera cannot overtake each other on the way to the
    // catalog. A commit takes milliseconds.
    type Result = AtomicResponse<Self, Result<PutAnswer, ControlError>>;

    fn handle(&mut self, put: PutCamera, _: &mut Self::Context) -> Self::Result {
        let answer = |result| AtomicResponse::new(Box::pin(fut::ready(result)));
        if self.stopping {
            return answer(Err(ControlError::Stopping));
        }
        let id = put.camera;
        let before = self.cameras.get(&id).and_then(|camera| camera.spec.as_ref());
        let spec = match put.spec.validate(before) {
            Ok(spec) => spec,
            Err(problems) => return answer(Err(ControlError::Invalid(problems))),
        };
        if before.is_some_and(|before| before.same_as(&spec)) {
            return answer(self.view(&id).map(|camera| PutAnswer { created: false, camera }));
        }
        let created = before.is_none();
        let journal = self.wiring.journal.clone();
        let (key, stored) = (id.clone(), spec.clone());
        let committed = async move { journal.put_camera(key, stored).await }.into_actor(self);
        AtomicResponse::new(Box::pin(committed.map(move |revision, actor: &mut Self, ctx| {
            let revision = revision.map_err(|error| ControlError::Internal(error.to_string()))?;
            info!(camera = %id, revision, created, "camera put");
            actor.apply(id.clone(), spec, revision, ctx);
            actor.view(&id).map(|camera| PutAnswer { created, camera })
        })))
    }
}

impl Handler<DeleteCamera> for Supervisor {
    type Result = AtomicResponse<Self, Result<(), ControlError>>;

    fn handle(&mut self, DeleteCamera(id): DeleteCamera, _: &mut Self::Context) -> Self::Result {
        if let Err(error) = self.view(&id) {
            return AtomicResponse::new(Box::pin(fut::ready(Err(error))));
        }
        let (journal, key) = (self.wiring.journal.clone(), id.clone());
        let committed = async move { journal.delete_camera(key).await }.into_actor(self);
        AtomicResponse::new(Box::pin(committed.map(move |result, actor: &mut Self, ctx| {
            info!(camera = %id, "camera deleted");
            if let Some(camera) = actor.cameras.get_mut(&id) {
                camera.spec = None;
                camera.capture_error = None;
                camera.upload_error = None;
                if let Some((timer, _)) = camera.next_try.take() {
                    ctx.cancel_future(timer);
                }
                match &camera.running {
                    Some(running) => running.addr.do_send(Stop { why: "removed" }),
                    None => camera.enter(CameraState::Deleted),
                }
            }
            actor.count_states();
            result.map_err(|error| ControlError::Internal(error.to_string()))
        })))
    }
}

impl Handler<GetCamera> for Supervisor {
    type Result = Result<CameraView, ControlError>;

    fn handle(&mut self, GetCamera(id): GetCamera, _: &mut Self::Context) -> Self::Result {
        self.view(&id)
    }
}

impl Handler<ListCameras> for Supervisor {
    type Result = MessageResult<ListCameras>;

    fn handle(&mut self, list: ListCameras, _: &mut Self::Context) -> Self::Result {
        let wanted = self.cameras.values().filter(|camera| list.deleted || camera.spec.is_some());
        MessageResult(wanted.map(Camera::view).collect())
    }
}

impl Handler<Ping> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: Ping, _: &mut Self::Context) {}
}

impl Handler<StopCapture> for Supervisor {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, _: StopCapture, ctx: &mut Self::Context) -> Self::Result {
        self.stopping = true;
        for camera in self.cameras.values_mut() {
            if let Some((timer, _)) = camera.next_try.take() {
                ctx.cancel_future(timer);
            }
            match &camera.running {
                Some(running) => running.addr.do_send(Stop { why: "shutdown" }),
                None if camera.spec.is_some() => camera.enter(CameraState::Stopped),
                None => {}
            }
        }
        let (sender, stopped) = oneshot::channel();
        self.stopped.push(sender);
        self.tell_if_stopped();
        self.count_states();
        // The sender is dropped unused where the Supervisor dies.
        Box::pin(async move { stopped.await.is_ok() })
    }
}

impl Handler<StopUploads> for Supervisor {
    type Result = ();

    fn handle(&mut self, _: StopUploads, _: &mut Self::Context) {
        for upload in &self.uploads {
            upload.do_send(StopUpload);
        }
    }
}

impl Handler<InjectPanic> for Supervisor {
    type Result = Result<(), ControlError>;

    fn handle(&mut self, target: InjectPanic, _: &mut Self::Context) -> Self::Result {
        warn!(?target, "a panic is injected");
        let missing = |id: &CameraId| ControlError::NoSuchCamera(id.clone());
        match &target {
            InjectPanic::Supervisor => panic!("injected into the supervisor"),
            InjectPanic::Camera(id) => {
                let running = self.cameras.get(id).and_then(|camera| camera.running.as_ref());
                running.ok_or_else(|| missing(id))?.addr.do_send(Panic);
            }
            InjectPanic::Sequencer(id) => self.wiring.sequencers.find(id).ok_or_else(|| missing(id))?.do_send(Panic),
            InjectPanic::Upload(place) => self
                .uploads
                .get(*place)
                .ok_or_else(|| ControlError::Internal(format!("there is no upload worker {place}")))?
                .do_send(Panic),
        }
        Ok(())
    }
}

impl Handler<Hang> for Supervisor {
    type Result = ();

    fn handle(&mut self, Hang(time): Hang, _: &mut Self::Context) {
        warn!(?time, "a hang is injected");
        std::thread::sleep(time);
    }
}

// ---- notices ----

impl Handler<CameraNotice> for Supervisor {
    type Result = ();

    fn handle(&mut self, notice: CameraNotice, _: &mut Self::Context) {
        let Some(camera) = self.cameras.get_mut(&notice.camera) else { return };
        if notice.generation != camera.generation {
            return;
        }
        let before = camera.state;
        match notice.news {
            CameraNews::Capturing { pid } => {
                if let Some(running) = &mut camera.running {
                    running.pid = pid;
                }
            }
            CameraNews::Streaming { session, fps } => {
                camera.enter(CameraState::Streaming);
                camera.session = Some(session).filter(|session| *session > 0).or(camera.session);
                camera.fps = fps;
                camera.capture_error = None;
            }
            CameraNews::Stalled => camera.enter(CameraState::Stalled),
        }
        if before != camera.state {
            self.count_states();
        }
    }
}

impl Handler<CameraExited> for Supervisor {
    type Result = ();

    fn handle(&mut self, exited: CameraExited, ctx: &mut Self::Context) {
        let id = exited.camera;
        let Some(camera) = self.cameras.get_mut(&id) else { return };
        if exited.generation != camera.generation {
            return;
        }
        let running = camera.running.take();
        let started = running.as_ref().map_or_else(Instant::now, |running| running.started);
        // A failure of the spec before is not charged to the one that was put since.
        let outdated = running.is_some_and(|running| running.revision != camera.revision);
        let failure = match &exited.exit {
            _ if outdated => None,
            Exit::Stopped => None,
            Exit::Failed { diagnosis, .. } => Some((diagnosis.kind, diagnosis.message.to_string())),
            Exit::Panicked => Some((ErrorKind::Panic, "its actor panicked: please report this".to_owned())),
        };
        if camera.spec.is_none() {
            camera.enter(CameraState::Deleted);
        } else if self.stopping {
            camera.enter(CameraState::Stopped);
        } else if let Some((kind, message)) = failure {
            let now = Instant::now();
            let verdict = camera.outage.after(&exited.exit, started, now, &mut self.rng);
            let wait = verdict.at().duration_since(now);
            if kind == ErrorKind::Panic {
                error!(camera = %id, generation = exited.generation, "the camera's actor panicked; it starts again in {wait:.1?}");
            } else {
                warn!(camera = %id, kind = kind.as_str(), "{message}; next try in {wait:.1?}");
            }
            camera.enter(match verdict {
                Verdict::BackOff(_) => CameraState::BackingOff,
                Verdict::Failed(_) => CameraState::Failed,
            });
            let at = UnixMicros(UnixMicros::now().0 + i64::try_from(wait.as_micros()).unwrap_or(i64::MAX));
            camera.capture_error = Some(LastError::capture(UnixMicros::now(), kind, &message));
            self.wiring.metrics.reconnect(&id, kind.as_str());
            let next = id.clone();
            let timer = ctx.run_later(wait, move |actor, ctx| {
                if let Some(camera) = actor.cameras.get_mut(&next) {
                    camera.next_try = None;
                }
                actor.start_camera(&next, ctx);
            });
            camera.next_try = Some((timer, at));
        } else {
            // It was stopped to make room for a changed spec.
            self.start_camera(&id, ctx);
        }
        self.tell_if_stopped();
        self.count_states();
    }
}

impl Handler<UploadExited> for Supervisor {
    type Result = ();

    fn handle(&mut self, exited: UploadExited, ctx: &mut Self::Context) {
        if self.wiring.hub.is_closed() {
            return;
        }
        error!(place = exited.place, "an upload worker died; the frame it held goes back");
        ctx.run_later(UPLOAD_RESTART, move |actor, ctx| {
            let addr = actor.start_upload(exited.place, ctx);
            actor.uploads[exited.place] = addr;
        });
    }
}

impl Handler<SequencerExited> for Supervisor {
    type Result = ();

    fn handle(&mut self, exited: SequencerExited, ctx: &mut Self::Context) {
        if System::try_current().is_some() && self.cameras.contains_key(&exited.camera) {
            error!(camera = %exited.camera, "the camera's sequencer died; it is built anew from the journal");
            self.start_sequencer(&exited.camera, ctx);
        }
    }
}

impl Handler<UploadTrouble> for Supervisor {
    type Result = ();

    fn handle(&mut self, trouble: UploadTrouble, _: &mut Self::Context) {
        let Some(camera) = self.cameras.get_mut(&trouble.camera) else { return };
        camera.upload_error =
            trouble.error.map(|(kind, message)| LastError { at: UnixMicros::now(), source: "upload", kind, message });
    }
}
