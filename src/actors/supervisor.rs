//! Keeps what the catalog asks for running: a CameraActor per camera, a SequencerActor per camera id, a NvrActor per
//! recorder, the UploadActors.
//!
//! It keeps the recipe, never the corpse: a restart is a new actor of a new generation, and messages of older ones are
//! ignored. Should it die itself, the process ends and is started again from the catalog.
//!
//! `record` is what it knows of one camera; `control` answers requests, `notices` what its actors tell it. `nvrs` is all of
//! that for recorders.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::oneshot;
use tracing::error;

use super::Hubs;
use super::camera::{CameraActor, Recipe};
use super::messages::*;
use super::nvrs::NvrRecord;
use super::record::{Record, Running};
use super::sequencer::{SequencerActor, Sequencers};
use super::upload::{UploadActor, UploadRecipe};
use crate::capture::{ErrorKind, Launcher};
use crate::journal::{Journal, KnownCamera, KnownNvr, Ledgers, Reader};
use crate::metrics::Metrics;
use crate::model::{
    CameraId, CameraSpec, Login, Logins, ManagedBy, NvrId, Origin, Permit, Refusal, TRIAL, UnixMicros, fingerprint,
};
use crate::nvr::Common;

/// The kind of error of a camera that waits for a place among the capture processes.
const NO_PLACE: &str = "no_place";

/// What the Supervisor is given to work with.
#[derive(Clone)]
pub struct Wiring {
    /// Where frames wait.
    pub hubs: Hubs,
    /// The writing side of the journal.
    pub journal: Journal,
    /// The reading side.
    pub reader: Reader,
    /// All cameras' accounts.
    pub ledgers: Ledgers,
    /// Where the journal finds the SequencerActors.
    pub sequencers: Sequencers,
    /// What the UploadActors of each destination share.
    pub uploads: Vec<UploadRecipe>,
    /// How many UploadActors a destination has.
    pub workers: usize,
    /// This state directory's origin.
    pub origin: Origin,
    /// Starts capture processes.
    pub launcher: Launcher,
    /// How many may run at the same time, if not as many as there are cameras.
    pub max_processes: Option<NonZeroUsize>,
    /// For how long a camera's pictures may all show the same; for ever without it.
    pub frozen_after: Option<Duration>,
    /// How far a camera's clock may be from the arrival of its pictures to be believed.
    pub clock_within: Duration,
    /// What is known of recorders, whoever asks them.
    pub recorders: Arc<Common>,
    /// The daemon's metrics.
    pub metrics: Metrics,
}

/// The root of the actors.
pub struct Supervisor {
    pub(super) wiring: Wiring,
    pub(super) cameras: BTreeMap<CameraId, Record>,
    pub(super) nvrs: BTreeMap<NvrId, NvrRecord>,
    /// Those of one destination stand together.
    pub(super) uploads: Vec<Addr<UploadActor>>,
    pub(super) logins: Logins,
    pub(super) probes: Probes,
    pub(super) rng: fastrand::Rng,
    pub(super) stopping: bool,
    /// Whether a change is given to the journal and not in effect yet: there is one at a time.
    pub(super) writing: bool,
    /// Who waits for the last capture process to end.
    pub(super) stopped: Vec<oneshot::Sender<()>>,
    _death: oneshot::Sender<()>,
}

/// Trials of sources.
#[derive(Debug, Default)]
pub(super) struct Probes {
    /// How many are running.
    pub running: usize,
    /// How many there have been.
    pub total: u64,
}

impl Supervisor {
    /// A Supervisor for the cameras and recorders the journal knows. `death` is dropped with the Supervisor,
    /// whatever the reason.
    pub fn new(
        wiring: Wiring,
        known: impl IntoIterator<Item = KnownCamera>,
        nvrs: impl IntoIterator<Item = KnownNvr>,
        refusals: impl IntoIterator<Item = Refusal>,
        death: oneshot::Sender<()>,
    ) -> Self {
        let cameras = known.into_iter().map(|camera| (camera.ledger.camera().clone(), Record::known(camera))).collect();
        Self {
            wiring,
            cameras,
            nvrs: nvrs.into_iter().map(|nvr| (nvr.id.clone(), NvrRecord::known(nvr))).collect(),
            uploads: Vec::new(),
            logins: Logins::new(refusals),
            probes: Probes::default(),
            rng: fastrand::Rng::new(),
            stopping: false,
            writing: false,
            stopped: Vec::new(),
            _death: death,
        }
    }

    pub(super) fn start_sequencer(&self, camera: &CameraId, ctx: &Context<Self>) {
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

    pub(super) fn start_upload(&self, place: usize, ctx: &Context<Self>) -> Addr<UploadActor> {
        let recipe = self.wiring.uploads[place / self.wiring.workers].clone();
        UploadActor::new(place, recipe, ctx.address()).start()
    }

    /// Starts a camera's next generation, unless one is running, it is not wanted, its recorder is away, no capture process
    /// may be added, its login has to wait, or the daemon is stopping.
    pub(super) fn start_camera(&mut self, id: &CameraId, ctx: &mut Context<Self>) {
        let waited = self.cameras.get(id).is_some_and(|record| record.awaits_place);
        self.cancel_next_try(id, ctx);
        let Some(record) = self.cameras.get_mut(id) else { return };
        let wanted = record.running.is_none() && !record.paused && !record.has_ended() && !self.stopping;
        let Some(spec) = record.spec.clone().filter(|_| wanted) else { return };
        let Some(extent) = record.extent() else { return self.batch_captured(id, false, ctx) };
        let Some(hub) = self.wiring.hubs.of(&spec.destination).cloned() else { return self.go_nowhere(id) };
        if !self.recorder_lets(id) {
            return self.count_states();
        }
        // Before the login: a permission to try it would be waited for by others.
        if !self.has_place() {
            return self.await_place(id);
        }
        if let Some(record) = self.cameras.get_mut(id) {
            if record.generation == 0 || waited {
                record.begins_to_try();
            }
            if record.capture_error.as_ref().is_some_and(|error| error.kind == NO_PLACE) {
                record.capture_error = None;
            }
        }
        let login = self.login_of(&spec);
        if let Some((login, credentials)) = &login {
            match self.logins.ask(login, credentials, id.as_str(), UnixMicros::now()) {
                Permit::Go => {}
                Permit::AfterTrial => return self.await_login(id, login.clone(), ctx),
                Permit::NotBefore(at) => return self.hold_login_back(id, at, ctx),
            }
        }
        let Some(record) = self.cameras.get_mut(id) else { return };
        record.generation += 1;
        record.ledger.goes_to(spec.destination.clone());
        record.enter(CameraState::Connecting);
        let recipe = Recipe {
            camera: id.clone(),
            generation: record.generation,
            spec: spec.clone(),
            extent,
            launcher: self.wiring.launcher.clone(),
            ledger: record.ledger.clone(),
            hub,
            journal: self.wiring.journal.clone(),
            clock_within: self.wiring.clock_within,
        };
        let addr = CameraActor::new(recipe, ctx.address()).start();
        record.running = Some(Running { addr, spec, started: Instant::now(), pid: None, login });
        self.count_states();
    }

    /// Whether one more capture process may run. Who has one is counted and not remembered, so that no way in which one
    /// ends can keep its place.
    fn has_place(&self) -> bool {
        let Some(most) = self.wiring.max_processes else { return true };
        self.cameras.values().filter(|record| record.running.is_some()).take(most.get()).count() < most.get()
    }

    /// Lets a camera wait until a capture process has ended.
    fn await_place(&mut self, id: &CameraId) {
        let Some(most) = self.wiring.max_processes else { return };
        if let Some(record) = self.cameras.get_mut(id) {
            record.enter(CameraState::Queued);
            record.awaits_place = true;
            let message = format!(
                "as many capture processes run as `capture.max_processes` allows ({most}): it starts when one of them ends; \
                 raise that, or pause a camera"
            );
            record.capture_error = Some(LastError { at: record.since, source: "capture", kind: NO_PLACE, message });
        }
        self.count_states();
    }

    /// Starts the cameras that wait for a place, as far as there are places: who has waited longest comes first.
    pub(super) fn fill_places(&mut self, ctx: &mut Context<Self>) {
        if !self.has_place() {
            return;
        }
        let waiting = self.cameras.iter().filter(|(_, record)| record.awaits_place);
        let mut waiting: Vec<_> = waiting.map(|(id, record)| (record.since, id.clone())).collect();
        waiting.sort_unstable();
        for (_, id) in waiting {
            if !self.has_place() {
                break;
            }
            // Its login may have to wait; then the place is the next one's.
            self.start_camera(&id, ctx);
        }
    }

    /// Shows that a camera's frames have nowhere to go. What is asked of it stays as it is: where the destination is put
    /// back, the next start finds it.
    fn go_nowhere(&mut self, id: &CameraId) {
        let Some(record) = self.cameras.get_mut(id) else { return };
        let Some(name) = record.spec.as_ref().map(|spec| &spec.destination) else { return };
        let unknown = self.wiring.hubs.unknown();
        let message = format!("its destination `{name}` {unknown}: put that back, or give the camera another");
        error!(camera = %id, "{message}");
        record.capture_error = Some(LastError { at: UnixMicros::now(), source: "catalog", kind: "unusable", message });
        record.enter(CameraState::Failed);
        self.count_states();
    }

    /// What a camera logs in with, and its fingerprint. Without a user nothing is tried that a camera could lock out.
    pub(super) fn login_of(&self, spec: &CameraSpec) -> Option<(Login, String)> {
        let login = Login::of(spec).filter(|login| !login.user.is_empty())?;
        let credentials = fingerprint(self.wiring.origin.as_str(), &login, spec.password.as_ref());
        Some((login, credentials))
    }

    /// Lets a camera wait for what another one finds out about their common login.
    fn await_login(&mut self, id: &CameraId, login: Login, ctx: &mut Context<Self>) {
        if let Some(record) = self.cameras.get_mut(id) {
            record.enter(CameraState::Connecting);
            record.awaits_login = Some(login);
        }
        // Should the other one never say.
        self.start_later(id, TRIAL, ctx);
        self.count_states();
    }

    /// Lets a camera wait whose login was refused, to it or to another camera of the same host.
    fn hold_login_back(&mut self, id: &CameraId, at: UnixMicros, ctx: &mut Context<Self>) {
        let now = UnixMicros::now();
        if let Some(record) = self.cameras.get_mut(id) {
            let known = record.capture_error.as_ref().map(|error| error.kind);
            let busy = known == Some(ErrorKind::Busy.as_str());
            record.enter(if busy { CameraState::BackingOff } else { CameraState::AuthFailed });
            if !busy && known != Some(ErrorKind::Auth.as_str()) {
                let message = "the host has refused this user and password lately, to this camera or another: check `user` and \
                               `password`";
                record.capture_error = Some(LastError::capture(now, ErrorKind::Auth, message));
            }
        }
        let wait = at.since(now);
        let told = self.cameras.get(id).and_then(|record| record.capture_error.as_ref());
        let message = told.map(|error| error.message.clone()).unwrap_or_default();
        if !self.gives_up(id, wait, false, &message, ctx) {
            self.start_later(id, wait, ctx);
        }
        self.count_states();
    }

    /// Lets the cameras go on that waited for a login.
    pub(super) fn login_settled(&mut self, login: &Login, ctx: &mut Context<Self>) {
        let waiting = self.cameras.iter().filter(|(_, record)| record.awaits_login.as_ref() == Some(login));
        let mut waiting: Vec<_> = waiting.map(|(id, record)| (record.since, id.clone())).collect();
        // Who has waited longest comes first: two cameras that never answer would take turns before all others.
        waiting.sort_unstable();
        for (_, id) in waiting {
            self.start_camera(&id, ctx);
        }
    }

    /// Starts a camera after a wait, unless something else starts it before.
    pub(super) fn start_later(&mut self, id: &CameraId, wait: Duration, ctx: &mut Context<Self>) {
        let next = id.clone();
        let timer = ctx.run_later(wait, move |actor, ctx| actor.start_camera(&next, ctx));
        if let Some(record) = self.cameras.get_mut(id) {
            record.next_try = Some((timer, UnixMicros::now().after(wait)));
        }
    }

    pub(super) fn cancel_next_try(&mut self, id: &CameraId, ctx: &mut Context<Self>) {
        if let Some(record) = self.cameras.get_mut(id) {
            record.awaits_login = None;
            record.awaits_place = false;
            record.awaits_recorder = false;
            record.doubted = None;
            if let Some((timer, _)) = record.next_try.take() {
                ctx.cancel_future(timer);
            }
        }
    }

    pub(super) fn count_states(&self) {
        for state in CameraState::ALL {
            let records = self.cameras.values().filter(|record| record.state == state);
            let count = records.filter(|record| record.is_live() || !record.exists()).count();
            self.wiring.metrics.set_cameras(state.as_str(), count);
        }
        let live = self.cameras.values().filter(|record| record.is_live());
        self.wiring.metrics.show_cameras(live.map(Record::shown));
    }

    pub(super) fn view(&self, id: &CameraId) -> Result<CameraView, ControlError> {
        let record = self.cameras.get(id).filter(|record| record.exists());
        record.map(Record::view).ok_or_else(|| ControlError::NoSuchCamera(id.clone()))
    }

    pub(super) fn tell_if_stopped(&mut self) {
        if self.stopping && self.cameras.values().all(|record| record.running.is_none()) {
            for waiting in self.stopped.drain(..) {
                let _ = waiting.send(());
            }
        }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let recorders: Vec<NvrId> = self.nvrs.keys().cloned().collect();
        for id in &recorders {
            self.start_nvr(id, ctx);
        }
        let known: Vec<CameraId> = self.cameras.keys().cloned().collect();
        for id in &known {
            self.start_sequencer(id, ctx);
            // What the file of cameras says now is not known yet: see `SetFileCameras`.
            if self.cameras.get(id).is_some_and(|record| record.managed_by != ManagedBy::File) {
                self.start_camera(id, ctx);
            }
            self.end_unusable(id, ctx);
            self.await_outcomes(id, ctx);
        }
        let places = self.wiring.uploads.len() * self.wiring.workers;
        self.uploads = (0..places).map(|place| self.start_upload(place, ctx)).collect();
        self.count_states();
        self.count_nvrs();
    }
}
