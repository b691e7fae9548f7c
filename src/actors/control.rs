//! What the Supervisor answers: requests that look, change the catalog, or do something with a camera.

use std::collections::BTreeMap;

use actix::prelude::*;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::Supervisor;
use super::batches::BatchRecord;
use super::messages::*;
use super::record::Record;
use crate::capture::Outage;
use crate::journal::CatalogChange;
use crate::model::{Batch, CameraId, CameraSpec, FieldProblem, Login, ManagedBy, NvrId, RawCameraSpec, is_plain};

/// Ids that are tried for one name before giving up.
const MOST_OF_A_NAME: usize = 1_000;

pub(super) type Answer<T> = ResponseFuture<Result<T, ControlError>>;

pub(super) fn answer<T: 'static>(result: Result<T, ControlError>) -> Answer<T> {
    Box::pin(std::future::ready(result))
}

/// Refuses where what is there is not what a request supposes.
pub(super) fn check_precondition(
    revision: Option<u64>,
    when: &Precondition,
    what: &str,
    id: &str,
) -> Result<(), ControlError> {
    let holds = match when {
        Precondition::None => true,
        Precondition::Present => revision.is_some(),
        Precondition::Absent => revision.is_none(),
        Precondition::Revision(wanted) => revision.is_some_and(|revision| wanted.contains(&revision)),
    };
    if holds {
        return Ok(());
    }
    Err(ControlError::Stale(match revision {
        Some(revision) => format!("{what} `{id}` is at revision {revision} by now: read it again"),
        None => format!("there is no {what} `{id}`"),
    }))
}

/// Whether who asks for a change waits while the disk has no room for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WithoutRoom {
    /// For as long as it takes: there is nobody else who would ask again.
    Wait,
    /// Not at all.
    Refuse,
}

impl Supervisor {
    /// Checks a camera's spec: its fields, and whether the configuration lets a camera be there and its frames go where
    /// they shall.
    pub(super) fn check(
        &self,
        raw: RawCameraSpec,
        before: Option<&CameraSpec>,
    ) -> Result<CameraSpec, Vec<FieldProblem>> {
        let written = raw.url().to_owned();
        let spec = raw.validate(before)?;
        let mut problems = Vec::new();
        if let Err(why) = self.wiring.launcher.reach.check(&spec.url) {
            problems.push(FieldProblem::new("url", Some(&written), why));
        }
        if self.wiring.hubs.of(&spec.destination).is_none() {
            let shown = Some(spec.destination.as_str()).filter(|name| is_plain(name));
            problems.push(FieldProblem::new("destination", shown, self.wiring.hubs.unknown()));
        }
        if problems.is_empty() { Ok(spec) } else { Err(problems) }
    }

    fn spec_of(&self, id: &CameraId) -> Option<&CameraSpec> {
        self.cameras.get(id).and_then(|record| record.spec.as_ref())
    }

    /// Refuses to let requests change what the file of cameras manages.
    fn check_manager(&self, id: &CameraId) -> Result<(), ControlError> {
        match self.cameras.get(id) {
            Some(record) if record.exists() => match record.managed_by {
                ManagedBy::Api => Ok(()),
                ManagedBy::File => Err(ControlError::Conflict(format!(
                    "camera `{id}` is managed by the file that `cameras.file` names: change it there and send SIGHUP"
                ))),
                ManagedBy::Batch => Err(ControlError::Conflict(format!(
                    "`{id}` is a batch, and no camera to change: see /api/v1/batches/{id}"
                ))),
                ManagedBy::Nvr => Err(ControlError::Conflict(match &record.nvr {
                    Some((nvr, channel)) => {
                        format!("camera `{id}` is channel {channel} of a recorder: change that, at /api/v1/nvrs/{nvr}")
                    }
                    None => format!("camera `{id}` is a channel of a recorder that is no more: delete it there"),
                })),
            },
            _ => Ok(()),
        }
    }

    fn check_precondition(&self, id: &CameraId, when: &Precondition) -> Result<(), ControlError> {
        let revision = self.cameras.get(id).filter(|record| record.exists()).map(|record| record.revision);
        check_precondition(revision, when, "camera", id.as_str())
    }

    /// Commits a change of the catalog and applies it.
    pub(super) fn commit<T: 'static>(
        &mut self,
        change: CatalogChange,
        without_room: WithoutRoom,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, &mut Context<Self>) -> Result<T, ControlError> + 'static,
    ) -> Answer<T> {
        if change.is_empty() {
            let may = self.check_turn();
            return answer(may.and_then(|()| then(self, ctx)));
        }
        let (journal, committing) = (self.wiring.journal.clone(), change.clone());
        let committed = async move { journal.change_catalog(committing).await };
        self.write(committed, without_room, ctx, move |actor, revisions, ctx| {
            let revisions = revisions.map_err(|error| ControlError::Internal(error.to_string()))?;
            let (of_cameras, of_nvrs) = revisions.split_at(change.puts.len());
            // First: their cameras start by what is known of them.
            for ((id, spec), revision) in change.nvrs.into_iter().zip(of_nvrs) {
                actor.apply_nvr(id, spec, *revision, ctx);
            }
            for ((id, spec, managed_by), revision) in change.puts.into_iter().zip(of_cameras) {
                let batch = change.batches.iter().find(|(batch, _)| *batch == id).map(|(_, batch)| batch.clone());
                let channel = change.channels.iter().find(|(of, _)| *of == id).map(|(_, channel)| channel.clone());
                actor.apply(id, (spec, managed_by, channel), *revision, batch, ctx);
            }
            for id in &change.deletes {
                actor.remove(id, ctx);
            }
            actor.count_states();
            then(actor, ctx)
        })
    }

    /// Whether a change may begin.
    fn check_turn(&self) -> Result<(), ControlError> {
        if self.stopping {
            return Err(ControlError::Stopping);
        }
        if self.writing {
            let message = "an earlier change waits until there is room on the disk of `state.dir`: make room there, then \
                           try again";
            return Err(ControlError::NoRoom(message.to_owned()));
        }
        Ok(())
    }

    /// Waits for a change that the journal writes, then lets it take effect.
    ///
    /// The next message waits meanwhile, so that two changes cannot overtake each other: a commit takes milliseconds.
    /// On a full disk it may take days. Then no change begins, and one that is under way is left to itself, since it
    /// cannot be taken back: it takes effect when the journal has found room, and until then there is no other.
    pub(super) fn write<W: 'static, T: 'static>(
        &mut self,
        written: impl Future<Output = W> + 'static,
        without_room: WithoutRoom,
        ctx: &mut Context<Self>,
        effect: impl FnOnce(&mut Self, W, &mut Context<Self>) -> Result<T, ControlError> + 'static,
    ) -> Answer<T> {
        if let Err(error) = self.check_turn() {
            return answer(Err(error));
        }
        let mut stuck = self.wiring.journal.stuck();
        if without_room == WithoutRoom::Refuse && *stuck.borrow() {
            let message = "the disk of `state.dir` is full, and nothing can be changed: make room there";
            return answer(Err(ControlError::NoRoom(message.to_owned())));
        }
        self.writing = true;
        let (done, result) = oneshot::channel();
        let mut written = Box::pin(written);
        let first = async move {
            tokio::select! {
                biased;
                written = &mut written => Ok(written),
                _ = stuck.wait_for(|stuck| *stuck) => Err(written),
            }
        };
        ctx.wait(first.into_actor(self).map(move |first, actor: &mut Self, ctx: &mut Context<Self>| {
            let mut done = Some(done);
            let mut tell = move |result| match (done.take(), result) {
                // Who asked may have gone.
                (Some(done), result) => drop(done.send(result)),
                (None, Err(error)) => error!(%error, "the change that waited for room is not made"),
                (None, Ok(_)) => info!("the change that waited for room is made"),
            };
            match first {
                Ok(written) => {
                    actor.writing = false;
                    tell(effect(actor, written, ctx));
                }
                Err(written) => {
                    warn!("the disk is full: a change of the cameras waits for room on it");
                    if without_room == WithoutRoom::Refuse {
                        let message = "the disk of `state.dir` is full: the change is made once there is room, unless the daemon \
                                       ends before; make room there and see what became of it";
                        tell(Err(ControlError::NoRoom(message.to_owned())));
                    }
                    ctx.spawn(written.into_actor(actor).map(move |written, actor: &mut Self, ctx| {
                        actor.writing = false;
                        tell(effect(actor, written, ctx));
                    }));
                }
            }
        }));
        Box::pin(async move { result.await.unwrap_or(Err(ControlError::Stopping)) })
    }

    /// Brings a camera's record and its capture to what the catalog has.
    fn apply(
        &mut self,
        id: CameraId,
        (spec, managed_by, channel): (CameraSpec, ManagedBy, Option<(NvrId, u32)>),
        revision: u64,
        batch: Option<Batch>,
        ctx: &mut Context<Self>,
    ) {
        info!(camera = %id, revision, managed_by = managed_by.as_str(), "camera put");
        let ledger = self.wiring.ledgers.of(&id);
        if self.wiring.sequencers.find(&id).is_none_or(|addr| !addr.connected()) {
            self.start_sequencer(&id, ctx);
        }
        let record = self.cameras.entry(id.clone()).or_insert_with(|| Record::new(ledger));
        let same_capture = record.spec.as_ref().is_some_and(|before| before.captures_as(&spec));
        let before = record.spec.replace(spec);
        record.unusable = false;
        record.revision = revision;
        record.managed_by = managed_by;
        record.nvr = channel;
        record.batch = batch.map(BatchRecord::new);
        if same_capture {
            return;
        }
        record.outage = Outage::default();
        record.capture_error = None;
        if let Some((login, _)) = before.and_then(|spec| self.login_of(&spec)) {
            self.forget_unused(&login);
        }
        let Some(record) = self.cameras.get_mut(&id) else { return };
        // The next generation starts when the one that runs is gone: two would fight over the camera.
        if !record.stop("changed") {
            if record.paused {
                record.enter(CameraState::Paused);
            }
            self.start_camera(&id, ctx);
        }
    }

    /// Ends what belongs to a camera that the catalog no longer has.
    fn remove(&mut self, id: &CameraId, ctx: &mut Context<Self>) {
        info!(camera = %id, "camera deleted");
        self.cancel_next_try(id, ctx);
        self.wiring.hubs.newest().forget(id);
        let login = self.spec_of(id).and_then(|spec| self.login_of(spec));
        let Some(record) = self.cameras.get_mut(id) else { return };
        record.spec = None;
        record.unusable = false;
        record.paused = false;
        record.batch = None;
        record.nvr = None;
        record.revision += 1;
        record.stream = None;
        record.capture_error = None;
        record.upload_error = None;
        if !record.stop("removed") {
            record.enter(CameraState::Deleted);
        }
        if let Some((login, _)) = login {
            self.forget_unused(&login);
        }
    }

    /// Forgets a login that no camera has any more.
    pub(super) fn forget_unused(&mut self, login: &Login) {
        let mut used = self.cameras.values().filter_map(|record| record.spec.as_ref().and_then(Login::of));
        if !used.any(|other| other == *login) {
            self.logins.forget(login);
        }
    }

    /// The change that makes `wanted` the whole set of cameras of one manager.
    fn plan_set(
        &self,
        wanted: BTreeMap<CameraId, RawCameraSpec>,
        managed_by: ManagedBy,
    ) -> Result<CatalogChange, ControlError> {
        let mut change = CatalogChange::default();
        let mut problems = Vec::new();
        let gone = self
            .cameras
            .iter()
            .filter(|(id, record)| record.exists() && record.managed_by == managed_by && !wanted.contains_key(*id));
        change.deletes = gone.map(|(id, _)| id.clone()).collect();
        for (id, raw) in wanted {
            let before = self.cameras.get(&id).filter(|record| record.exists());
            let is_batch = before.is_some_and(|record| record.batch.is_some());
            if is_batch || (before.is_some() && managed_by == ManagedBy::Api) {
                self.check_manager(&id)?;
            }
            match self.check(raw, before.and_then(|record| record.spec.as_ref())) {
                Ok(spec) => {
                    let same = before.is_some_and(|record| {
                        record.managed_by == managed_by && record.spec.as_ref().is_some_and(|b| b.same_as(&spec))
                    });
                    if !same {
                        change.puts.push((id, spec, managed_by));
                    }
                }
                Err(found) => {
                    problems.extend(found.into_iter().map(|problem| problem.within(&format!("cameras.{id}"))))
                }
            }
        }
        if problems.is_empty() { Ok(change) } else { Err(ControlError::Invalid(problems)) }
    }

    fn views(&self, deleted: bool) -> Vec<CameraView> {
        let cameras = self.cameras.values().filter(|record| (deleted || record.exists()) && record.batch.is_none());
        cameras.map(Record::view).collect()
    }
}

impl Handler<PutCamera> for Supervisor {
    type Result = Answer<PutAnswer>;

    fn handle(&mut self, put: PutCamera, ctx: &mut Self::Context) -> Self::Result {
        let id = put.camera;
        let before = self.spec_of(&id);
        let created = !self.cameras.get(&id).is_some_and(Record::exists);
        let checked = self.check_manager(&id).and_then(|()| self.check_precondition(&id, &put.when));
        let spec = match checked.and_then(|()| self.check(put.spec, before).map_err(ControlError::Invalid)) {
            Ok(spec) => spec,
            Err(error) => return answer(Err(error)),
        };
        let same = before.is_some_and(|before| before.same_as(&spec));
        let puts = if same { Vec::new() } else { vec![(id.clone(), spec, ManagedBy::Api)] };
        let change = CatalogChange { puts, ..CatalogChange::default() };
        self.commit(change, WithoutRoom::Refuse, ctx, move |actor, _| {
            actor.view(&id).map(|camera| PutAnswer { created, camera })
        })
    }
}

impl Handler<CreateCamera> for Supervisor {
    type Result = Answer<PutAnswer>;

    fn handle(&mut self, CreateCamera(raw): CreateCamera, ctx: &mut Self::Context) -> Self::Result {
        let Some(name) = raw.name().map(str::to_owned) else {
            let detail = "is missing: the camera's id is made from it";
            return answer(Err(ControlError::Invalid(vec![FieldProblem::new("name", None, detail)])));
        };
        // An id that was used before has a list of its own, which this camera is not meant to go on with.
        let mut free = CameraId::from_name(&name).take(MOST_OF_A_NAME).filter(|id| !self.cameras.contains_key(id));
        let Some(id) = free.next() else {
            let detail = "makes an id that is taken, with any number behind it: use another, or PUT with an id";
            return answer(Err(ControlError::Invalid(vec![FieldProblem::new("name", Some(&name), detail)])));
        };
        let spec = match self.check(raw, None) {
            Ok(spec) => spec,
            Err(problems) => return answer(Err(ControlError::Invalid(problems))),
        };
        let change = CatalogChange { puts: vec![(id.clone(), spec, ManagedBy::Api)], ..CatalogChange::default() };
        self.commit(change, WithoutRoom::Refuse, ctx, move |actor, _| {
            actor.view(&id).map(|camera| PutAnswer { created: true, camera })
        })
    }
}

impl Handler<PutCameras> for Supervisor {
    type Result = Answer<Vec<CameraView>>;

    fn handle(&mut self, put: PutCameras, ctx: &mut Self::Context) -> Self::Result {
        let tag = set_tag(&self.views(false));
        if put.if_match.is_some_and(|wanted| !wanted.contains(&tag)) {
            let message = "the cameras were changed since you read them: read them again".to_owned();
            return answer(Err(ControlError::Stale(message)));
        }
        match self.plan_set(put.cameras, ManagedBy::Api) {
            Ok(change) => self.commit(change, WithoutRoom::Refuse, ctx, |actor, _| Ok(actor.views(false))),
            Err(error) => answer(Err(error)),
        }
    }
}

impl Handler<SetFileCameras> for Supervisor {
    type Result = Answer<Changed>;

    fn handle(&mut self, SetFileCameras(cameras): SetFileCameras, ctx: &mut Self::Context) -> Self::Result {
        let change = match self.plan_set(cameras, ManagedBy::File) {
            Ok(change) => change,
            Err(error) => return answer(Err(error)),
        };
        for (id, ..) in &change.puts {
            let before = self.cameras.get(id).filter(|record| record.exists());
            match before.map(|record| record.managed_by) {
                Some(ManagedBy::Api) => {
                    warn!(camera = %id, "the file of cameras takes over a camera that requests managed")
                }
                Some(ManagedBy::Nvr) => warn!(camera = %id, "the file of cameras takes over a channel of a recorder"),
                _ => {}
            }
        }
        let changed = Changed { put: change.puts.len(), deleted: change.deletes.len() };
        // A start waits for it, and so does whoever sent a SIGHUP, which is no question that could be refused.
        self.commit(change, WithoutRoom::Wait, ctx, move |actor, ctx| {
            // At the start of the daemon none of them runs yet.
            let files = actor.cameras.iter().filter(|(_, record)| record.managed_by == ManagedBy::File);
            let idle = files.filter(|(_, record)| record.generation == 0).map(|(id, _)| id.clone());
            for id in idle.collect::<Vec<_>>() {
                actor.start_camera(&id, ctx);
            }
            Ok(changed)
        })
    }
}

impl Handler<DeleteCamera> for Supervisor {
    type Result = Answer<()>;

    fn handle(&mut self, DeleteCamera(id, when): DeleteCamera, ctx: &mut Self::Context) -> Self::Result {
        let checked = self.view(&id).map(drop).and_then(|()| self.check_manager(&id));
        if let Err(error) = checked.and_then(|()| self.check_precondition(&id, &when)) {
            return answer(Err(error));
        }
        let change = CatalogChange { deletes: vec![id], ..CatalogChange::default() };
        self.commit(change, WithoutRoom::Refuse, ctx, |_, _| Ok(()))
    }
}

impl Handler<Operate> for Supervisor {
    type Result = Answer<CameraView>;

    fn handle(&mut self, Operate { camera: id, operation }: Operate, ctx: &mut Self::Context) -> Self::Result {
        if self.stopping {
            return answer(Err(ControlError::Stopping));
        }
        let Some(record) = self.cameras.get_mut(&id).filter(|record| record.spec.is_some()) else {
            return answer(Err(ControlError::NoSuchCamera(id)));
        };
        if record.batch.is_some() {
            return answer(self.check_manager(&id).and_then(|()| self.view(&id)));
        }
        let paused = match operation {
            Operation::Pause => true,
            Operation::Resume => false,
            Operation::Restart if record.paused => {
                let message = format!("camera `{id}` is paused: resume it");
                return answer(Err(ControlError::Conflict(message)));
            }
            Operation::Restart => {
                info!(camera = %id, "camera restarted by request");
                record.outage = Outage::default();
                record.capture_error = None;
                if !record.stop("restarted") {
                    self.start_camera(&id, ctx);
                }
                return answer(self.view(&id));
            }
        };
        if record.paused == paused {
            let may = self.check_turn();
            return answer(may.and_then(|()| self.view(&id)));
        }
        let (journal, key) = (self.wiring.journal.clone(), id.clone());
        let committed = async move { journal.pause(key, paused).await };
        self.write(committed, WithoutRoom::Refuse, ctx, move |actor, (), ctx| {
            info!(camera = %id, paused, "camera paused or resumed");
            actor.cancel_next_try(&id, ctx);
            if let Some(record) = actor.cameras.get_mut(&id) {
                record.paused = paused;
                record.outage = Outage::default();
                record.capture_error = None;
                if paused && !record.stop("paused") {
                    record.enter(CameraState::Paused);
                }
            }
            actor.start_camera(&id, ctx);
            actor.count_states();
            actor.view(&id)
        })
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
        MessageResult(self.views(list.deleted))
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
        self.stop_nvrs();
        let ids: Vec<CameraId> = self.cameras.keys().cloned().collect();
        for id in &ids {
            self.cancel_next_try(id, ctx);
        }
        for record in self.cameras.values_mut() {
            if !record.stop("shutdown") && record.spec.is_some() {
                record.enter(CameraState::Stopped);
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
                let running = self.cameras.get(id).and_then(|record| record.running.as_ref());
                running.ok_or_else(|| missing(id))?.addr.do_send(Panic);
            }
            InjectPanic::Nvr(id) => {
                let running = self.nvrs.get(id).and_then(|record| record.running.as_ref());
                running.ok_or_else(|| ControlError::NoSuchNvr(id.clone()))?.do_send(Panic);
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
