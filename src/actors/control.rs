//! What the Supervisor answers: requests that look, change the catalog, or do something with a camera.

use std::collections::BTreeMap;

use actix::prelude::*;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Supervisor;
use super::messages::*;
use super::record::Record;
use crate::capture::Outage;
use crate::journal::CatalogChange;
use crate::model::{CameraId, CameraSpec, FieldProblem, Login, ManagedBy, RawCameraSpec};

/// Ids that are tried for one name before giving up.
const MOST_OF_A_NAME: usize = 1_000;

/// Atomic: the next message waits, so that two changes cannot overtake each other on the way to the catalog. A commit
/// takes milliseconds.
type Atomic<T> = AtomicResponse<Supervisor, Result<T, ControlError>>;

fn answer<T: 'static>(result: Result<T, ControlError>) -> Atomic<T> {
    AtomicResponse::new(Box::pin(fut::ready(result)))
}

impl Supervisor {
    /// Checks a camera's spec: its fields, and whether the configuration lets a camera be there.
    fn check(&self, raw: RawCameraSpec, before: Option<&CameraSpec>) -> Result<CameraSpec, Vec<FieldProblem>> {
        let written = raw.url().to_owned();
        let spec = raw.validate(before)?;
        match self.wiring.launcher.reach.check(&spec.url) {
            Ok(()) => Ok(spec),
            Err(why) => Err(vec![FieldProblem::new("url", Some(&written), why)]),
        }
    }

    fn spec_of(&self, id: &CameraId) -> Option<&CameraSpec> {
        self.cameras.get(id).and_then(|record| record.spec.as_ref())
    }

    /// Refuses to let requests change what the file of cameras manages.
    fn check_manager(&self, id: &CameraId) -> Result<(), ControlError> {
        match self.cameras.get(id) {
            Some(record) if record.exists() && record.managed_by == ManagedBy::File => {
                Err(ControlError::Conflict(format!(
                    "camera `{id}` is managed by the file that `cameras.file` names: change it there and send SIGHUP"
                )))
            }
            _ => Ok(()),
        }
    }

    fn check_precondition(&self, id: &CameraId, when: &Precondition) -> Result<(), ControlError> {
        let revision = self.cameras.get(id).filter(|record| record.exists()).map(|record| record.revision);
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
            Some(revision) => format!("camera `{id}` is at revision {revision} by now: read it again"),
            None => format!("there is no camera `{id}`"),
        }))
    }

    /// Commits a change of the catalog and applies it.
    fn commit<T: 'static>(
        &mut self,
        change: CatalogChange,
        then: impl FnOnce(&mut Self, &mut Context<Self>) -> Result<T, ControlError> + 'static,
    ) -> Atomic<T> {
        if self.stopping {
            return answer(Err(ControlError::Stopping));
        }
        let (journal, committing) = (self.wiring.journal.clone(), change.clone());
        let committed = async move {
            if committing.puts.is_empty() && committing.deletes.is_empty() {
                return Ok(Vec::new());
            }
            journal.change_catalog(committing).await
        };
        let committed = committed.into_actor(self);
        AtomicResponse::new(Box::pin(committed.map(move |revisions, actor: &mut Self, ctx| {
            let revisions = revisions.map_err(|error| ControlError::Internal(error.to_string()))?;
            for ((id, spec, managed_by), revision) in change.puts.into_iter().zip(revisions) {
                actor.apply(id, spec, managed_by, revision, ctx);
            }
            for id in &change.deletes {
                actor.remove(id, ctx);
            }
            actor.count_states();
            then(actor, ctx)
        })))
    }

    /// Brings a camera's record and its capture to what the catalog has.
    fn apply(&mut self, id: CameraId, spec: CameraSpec, managed_by: ManagedBy, revision: u64, ctx: &mut Context<Self>) {
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
        self.wiring.hub.forget_newest(id);
        let login = self.spec_of(id).and_then(|spec| self.login_of(spec));
        let Some(record) = self.cameras.get_mut(id) else { return };
        record.spec = None;
        record.unusable = false;
        record.paused = false;
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
            if before.is_some() && managed_by == ManagedBy::Api {
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
        self.cameras.values().filter(|record| deleted || record.exists()).map(Record::view).collect()
    }
}

impl Handler<PutCamera> for Supervisor {
    type Result = Atomic<PutAnswer>;

    fn handle(&mut self, put: PutCamera, _: &mut Self::Context) -> Self::Result {
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
        self.commit(CatalogChange { puts, deletes: Vec::new() }, move |actor, _| {
            actor.view(&id).map(|camera| PutAnswer { created, camera })
        })
    }
}

impl Handler<CreateCamera> for Supervisor {
    type Result = Atomic<PutAnswer>;

    fn handle(&mut self, CreateCamera(raw): CreateCamera, _: &mut Self::Context) -> Self::Result {
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
        let change = CatalogChange { puts: vec![(id.clone(), spec, ManagedBy::Api)], deletes: Vec::new() };
        self.commit(change, move |actor, _| actor.view(&id).map(|camera| PutAnswer { created: true, camera }))
    }
}

impl Handler<PutCameras> for Supervisor {
    type Result = Atomic<Vec<CameraView>>;

    fn handle(&mut self, put: PutCameras, _: &mut Self::Context) -> Self::Result {
        let tag = set_tag(&self.views(false));
        if put.if_match.is_some_and(|wanted| !wanted.contains(&tag)) {
            let message = "the cameras were changed since you read them: read them again".to_owned();
            return answer(Err(ControlError::Stale(message)));
        }
        match self.plan_set(put.cameras, ManagedBy::Api) {
            Ok(change) => self.commit(change, |actor, _| Ok(actor.views(false))),
            Err(error) => answer(Err(error)),
        }
    }
}

impl Handler<SetFileCameras> for Supervisor {
    type Result = Atomic<Changed>;

    fn handle(&mut self, SetFileCameras(cameras): SetFileCameras, _: &mut Self::Context) -> Self::Result {
        let change = match self.plan_set(cameras, ManagedBy::File) {
            Ok(change) => change,
            Err(error) => return answer(Err(error)),
        };
        for (id, ..) in &change.puts {
            if self.cameras.get(id).is_some_and(|record| record.exists() && record.managed_by == ManagedBy::Api) {
                warn!(camera = %id, "the file of cameras takes over a camera that requests managed");
            }
        }
        let changed = Changed { put: change.puts.len(), deleted: change.deletes.len() };
        self.commit(change, move |actor, ctx| {
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
    type Result = Atomic<()>;

    fn handle(&mut self, DeleteCamera(id, when): DeleteCamera, _: &mut Self::Context) -> Self::Result {
        let checked = self.view(&id).map(drop).and_then(|()| self.check_manager(&id));
        if let Err(error) = checked.and_then(|()| self.check_precondition(&id, &when)) {
            return answer(Err(error));
        }
        self.commit(CatalogChange { puts: Vec::new(), deletes: vec![id] }, |_, _| Ok(()))
    }
}

impl Handler<Operate> for Supervisor {
    type Result = Atomic<CameraView>;

    fn handle(&mut self, Operate { camera: id, operation }: Operate, ctx: &mut Self::Context) -> Self::Result {
        if self.stopping {
            return answer(Err(ControlError::Stopping));
        }
        let Some(record) = self.cameras.get_mut(&id).filter(|record| record.spec.is_some()) else {
            return answer(Err(ControlError::NoSuchCamera(id)));
        };
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
            return answer(self.view(&id));
        }
        let (journal, key) = (self.wiring.journal.clone(), id.clone());
        let committed = async move { journal.pause(key, paused).await }.into_actor(self);
        AtomicResponse::new(Box::pin(committed.map(move |(), actor: &mut Self, ctx| {
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
