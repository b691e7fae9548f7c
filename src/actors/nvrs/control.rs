//! What the Supervisor answers of recorders: requests that look at one, or change what is asked of it.

use std::collections::BTreeMap;

use actix::prelude::*;

use super::messages::*;
use super::{NvrRecord, RTSP_PORT};
use crate::actors::Supervisor;
use crate::actors::control::{Answer, WithoutRoom, answer, check_precondition};
use crate::actors::messages::{ControlError, Precondition};
use crate::journal::CatalogChange;
use crate::model::{Channels, FieldProblem, ManagedBy, NvrId, NvrSpec, RawNvrSpec, is_plain};
use crate::nvr::Zone;

impl Supervisor {
    pub(super) fn nvr(&self, id: &NvrId) -> Result<&NvrRecord, ControlError> {
        let record = self.nvrs.get(id).filter(|record| record.exists());
        record.ok_or_else(|| ControlError::NoSuchNvr(id.clone()))
    }

    /// Checks a recorder's spec: its fields, and whether the configuration lets a recorder be there and its frames go
    /// where they shall.
    fn check_nvr(&self, raw: RawNvrSpec, before: Option<&NvrSpec>) -> Result<NvrSpec, Vec<FieldProblem>> {
        let written = raw.url().to_owned();
        let spec = raw.validate(before)?;
        let mut problems = Vec::new();
        if let Err(why) = self.wiring.launcher.reach.check(&spec.url) {
            problems.push(FieldProblem::new("url", Some(&written), why));
        }
        if spec.password.is_none() {
            let detail =
                "is missing: recorders let nobody in without; it is kept for the same user at the same host only";
            problems.push(FieldProblem::new("password", None, detail));
        }
        if let Some(zone) = &spec.zone
            && zone.parse::<Zone>().is_err()
        {
            let shown = Some(zone.as_str()).filter(|zone| is_plain(zone));
            problems.push(FieldProblem::new("zone", shown, "is no time zone: write a name as Europe/Berlin, or UTC"));
        }
        if self.wiring.hubs.of(&spec.destination).is_none() {
            let shown = Some(spec.destination.as_str()).filter(|name| is_plain(name));
            problems.push(FieldProblem::new("destination", shown, self.wiring.hubs.unknown()));
        }
        if problems.is_empty() { Ok(spec) } else { Err(problems) }
    }

    /// The change that a recorder's spec makes, with what it means for the cameras that it has.
    fn plan_nvr(&self, id: &NvrId, spec: NvrSpec) -> CatalogChange {
        let port = self.rtsp_port(id).unwrap_or(RTSP_PORT);
        let mut change = CatalogChange::default();
        for (channel, camera) in self.cameras_of(id) {
            if !spec.channels.contains(channel) {
                change.deletes.push(camera);
                continue;
            }
            let before = self.cameras.get(&camera).and_then(|record| record.spec.as_ref());
            let name = before.and_then(|before| before.name.clone()).unwrap_or_default();
            let asked = spec.camera(channel, &name, port);
            if !before.is_some_and(|before| before.same_as(&asked)) {
                change.channels.push((camera.clone(), (id.clone(), channel)));
                change.puts.push((camera, asked, ManagedBy::Nvr));
            }
        }
        change.nvrs.push((id.clone(), Some(spec)));
        change
    }

    fn view_nvr(&self, id: &NvrId) -> Result<NvrView, ControlError> {
        self.nvr(id).map(|record| self.show_nvr(id, record))
    }

    fn show_nvr(&self, id: &NvrId, record: &NvrRecord) -> NvrView {
        let cameras = self.cameras_of(id);
        let asked = match record.spec.as_ref().map(|spec| &spec.channels) {
            Some(Channels::These(channels)) => channels.iter().copied().collect(),
            Some(Channels::All) | None => Vec::new(),
        };
        let wanted = |number| record.spec.as_ref().is_some_and(|spec| spec.channels.contains(number));
        let bare = |number| ChannelView {
            number,
            name: String::new(),
            seen: false,
            online: None,
            wanted: wanted(number),
            camera: None,
            problem: None,
        };
        // Those that are asked for, those that are cameras, and those that were seen.
        let mut channels: BTreeMap<u32, ChannelView> =
            asked.into_iter().chain(cameras.keys().copied()).map(|number| (number, bare(number))).collect();
        let seen = record.seen.iter().flat_map(|(seen, _)| &seen.channels);
        for channel in seen.take(Channels::MOST) {
            let view = channels.entry(channel.number).or_insert_with(|| bare(channel.number));
            (view.seen, view.online) = (true, channel.online);
            view.name.clone_from(&channel.name);
        }
        for (number, view) in &mut channels {
            let camera = cameras.get(number).and_then(|camera| Some((camera, self.cameras.get(camera)?)));
            if let Some((camera, of)) = camera {
                view.camera = Some((camera.clone(), of.state));
                if let Some(name) = of.spec.as_ref().and_then(|spec| spec.name.as_ref()).filter(|_| !view.seen) {
                    view.name.clone_from(name);
                }
            }
            let missing = view.wanted && !view.seen && record.seen.is_some();
            view.problem = record.taken.get(number).cloned();
            if view.problem.is_none() && missing {
                view.problem = Some("the recorder has no such channel".to_owned());
            }
        }
        NvrView {
            nvr: id.clone(),
            spec: record.spec.clone(),
            revision: record.revision,
            state: record.state,
            since: record.since,
            seen: record.seen.clone(),
            channels: channels.into_values().collect(),
            error: record.error(),
        }
    }

    fn check_nvr_precondition(&self, id: &NvrId, when: &Precondition) -> Result<(), ControlError> {
        let revision = self.nvrs.get(id).filter(|record| record.exists()).map(|record| record.revision);
        check_precondition(revision, when, "recorder", id.as_str())
    }
}

impl Handler<PutNvr> for Supervisor {
    type Result = Answer<PutNvrAnswer>;

    fn handle(&mut self, put: PutNvr, ctx: &mut Self::Context) -> Self::Result {
        let id = put.nvr;
        let record = self.nvrs.get(&id).filter(|record| record.exists());
        let (created, before) = (record.is_none(), record.and_then(|record| record.spec.as_ref()));
        let checked = self.check_nvr_precondition(&id, &put.when);
        let spec = checked.and_then(|()| self.check_nvr(put.spec, before).map_err(ControlError::InvalidNvr));
        let spec = match spec {
            Ok(spec) => spec,
            Err(error) => return answer(Err(error)),
        };
        let same = before.is_some_and(|before| before.same_as(&spec));
        let change = if same { CatalogChange::default() } else { self.plan_nvr(&id, spec) };
        self.commit(change, WithoutRoom::Refuse, ctx, move |actor, _| {
            actor.view_nvr(&id).map(|nvr| PutNvrAnswer { created, nvr })
        })
    }
}

impl Handler<DeleteNvr> for Supervisor {
    type Result = Answer<()>;

    fn handle(&mut self, DeleteNvr(id, when): DeleteNvr, ctx: &mut Self::Context) -> Self::Result {
        let found = self.nvr(&id).map(drop);
        if let Err(error) = found.and_then(|()| self.check_nvr_precondition(&id, &when)) {
            return answer(Err(error));
        }
        let deletes = self.cameras_of(&id).into_values().collect();
        let change = CatalogChange { deletes, nvrs: vec![(id, None)], ..CatalogChange::default() };
        self.commit(change, WithoutRoom::Refuse, ctx, |_, _| Ok(()))
    }
}

impl Handler<GetNvr> for Supervisor {
    type Result = Result<NvrView, ControlError>;

    fn handle(&mut self, GetNvr(id): GetNvr, _: &mut Self::Context) -> Self::Result {
        self.view_nvr(&id)
    }
}

impl Handler<ListNvrs> for Supervisor {
    type Result = MessageResult<ListNvrs>;

    fn handle(&mut self, _: ListNvrs, _: &mut Self::Context) -> Self::Result {
        let live = self.nvrs.iter().filter(|(_, record)| record.exists());
        MessageResult(live.map(|(id, record)| self.show_nvr(id, record)).collect())
    }
}
