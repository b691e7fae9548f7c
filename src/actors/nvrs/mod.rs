//! Recorders: what follows from what their NvrActors find out, and what requests ask of them.
//!
//! A channel is a camera like any other: its record is the Supervisor's, its order the ledger's. What differs is who
//! changes it, and that it starts only while its recorder is there: a recorder that is away is one fault, told once.
//!
//! `actor` goes to a recorder, `record` is what is known of it, `control` answers requests, `recordings` searches it, page by
//! page from a `place` on; `messages` are what is said.

mod actor;
mod control;
pub(super) mod messages;
pub(super) mod place;
mod record;
mod recordings;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use actix::prelude::*;
use tracing::{error, info, warn};

use self::actor::{NvrActor, NvrRecipe};
use self::messages::*;
pub(super) use self::record::NvrRecord;
use self::record::Told;
use super::Supervisor;
use super::control::WithoutRoom;
use super::messages::{CameraState, LastError};
use crate::capture::{ErrorKind, Exit, Outage};
use crate::journal::CatalogChange;
use crate::metrics::ShownNvr;
use crate::model::{CameraId, Channels, ManagedBy, NvrId, NvrSpec, Presence};

/// A NvrActor that died is replaced after this.
const RESTART: Duration = Duration::from_secs(1);
/// The usual port of streams, for a recorder that was never reached.
const RTSP_PORT: u16 = 554;

/// How a camera's generation has failed.
pub(super) struct CameraFailure {
    pub exit: Exit,
    pub generation: u64,
    pub started: Instant,
    pub kind: ErrorKind,
    pub message: String,
    /// When it may log in again, where its login was refused.
    pub next_login: Option<Duration>,
}

impl CameraFailure {
    /// Whether a recorder that is away looks like this to each of its cameras.
    fn may_be_its_recorder(&self) -> bool {
        matches!(
            self.kind,
            ErrorKind::Refused
                | ErrorKind::UnknownHost
                | ErrorKind::Timeout
                | ErrorKind::Stall
                | ErrorKind::Eof
                | ErrorKind::Protocol
                | ErrorKind::NoVideo
        )
    }
}

impl Supervisor {
    /// The cameras that a recorder has, by their channels.
    fn cameras_of(&self, nvr: &NvrId) -> BTreeMap<u32, CameraId> {
        let all = self.cameras.iter();
        all.filter_map(|(id, record)| {
            let (of, channel) = record.nvr.as_ref()?;
            (of == nvr && record.exists()).then(|| (*channel, id.clone()))
        })
        .collect()
    }

    /// The port of a recorder's streams, as far as its cameras know.
    fn rtsp_port(&self, nvr: &NvrId) -> Option<u16> {
        if let Some((seen, _)) = self.nvrs.get(nvr).and_then(|record| record.seen.as_ref()) {
            return Some(seen.rtsp_port);
        }
        let cameras = self.cameras_of(nvr);
        let spec = cameras.values().find_map(|id| self.cameras.get(id)?.spec.as_ref());
        spec.map(|spec| spec.url.port())
    }

    /// Starts the next generation of a recorder's actor.
    pub(super) fn start_nvr(&mut self, id: &NvrId, ctx: &mut Context<Self>) {
        let rtsp_port = self.rtsp_port(id);
        let known = self.cameras_of(id).into_iter().map(|(channel, camera)| {
            let spec = self.cameras.get(&camera).and_then(|record| record.spec.as_ref());
            (channel, spec.and_then(|spec| spec.name.clone()).unwrap_or_default())
        });
        let known = known.collect();
        let Some(record) = self.nvrs.get_mut(id) else { return };
        let Some(spec) = record.spec.clone().filter(|_| !self.stopping) else { return };
        record.generation += 1;
        let recipe = NvrRecipe {
            nvr: id.clone(),
            generation: record.generation,
            spec,
            known,
            rtsp_port,
            reach: self.wiring.launcher.reach.clone(),
            common: self.wiring.recorders.clone(),
        };
        let addr = NvrActor::new(recipe, ctx.address()).start();
        if let Some(before) = record.running.replace(addr) {
            before.do_send(StopNvr);
        }
    }

    /// Brings a recorder's record and its actor to what the catalog has.
    pub(super) fn apply_nvr(&mut self, id: NvrId, spec: Option<NvrSpec>, revision: u64, ctx: &mut Context<Self>) {
        let record = self.nvrs.entry(id.clone()).or_insert_with(NvrRecord::new);
        let before = std::mem::replace(&mut record.spec, spec);
        record.unusable = None;
        record.revision = revision;
        match (&before, &record.spec) {
            (_, None) => {
                info!(nvr = %id, "recorder deleted");
                record.begin_anew();
                record.taken.clear();
                if let Some(running) = record.running.take() {
                    running.do_send(StopNvr);
                }
            }
            (Some(before), Some(spec)) if before.connects_as(spec) && record.running.is_some() => {
                info!(nvr = %id, revision, "recorder put");
                if let Some(running) = &record.running {
                    running.do_send(LookSoon);
                }
            }
            (_, Some(_)) => {
                info!(nvr = %id, revision, "recorder put");
                record.begin_anew();
                self.start_nvr(&id, ctx);
            }
        }
        self.count_nvrs();
    }

    /// Whether a camera may start as far as its recorder goes. Where it may not it waits, and shows why.
    pub(super) fn recorder_lets(&mut self, id: &CameraId) -> bool {
        let Some(record) = self.cameras.get_mut(id) else { return false };
        let Some((nvr, _)) = &record.nvr else { return true };
        let of = self.nvrs.get(nvr).filter(|of| of.spec.is_some());
        let Some(presence) = of.map(|of| of.presence) else { return true };
        match presence {
            Presence::There => return true,
            Presence::Unknown | Presence::Doubtful => record.enter(CameraState::Connecting),
            Presence::Away | Presence::Refused => {
                let what = if presence == Presence::Away { "does not answer" } else { "lets nobody in" };
                let message = format!("its recorder `{nvr}` {what}: see /api/v1/nvrs/{nvr}");
                record.enter(CameraState::NvrDown);
                record.capture_error =
                    Some(LastError { at: record.since, source: "capture", kind: "nvr_down", message });
            }
        }
        record.awaits_recorder = true;
        false
    }

    /// Lets a failure wait that may be its recorder's, until that is known; what is its own comes back.
    pub(super) fn ask_recorder(&mut self, id: &CameraId, failure: CameraFailure) -> Option<CameraFailure> {
        let nvr = self.cameras.get(id).and_then(|record| record.nvr.clone());
        let Some(of) = nvr.and_then(|(nvr, _)| self.nvrs.get(&nvr)).filter(|of| of.spec.is_some()) else {
            return Some(failure);
        };
        let Some(actor) = &of.running else { return Some(failure) };
        if failure.kind == ErrorKind::Auth {
            // One that refuses all of us is found out with one more attempt, and not with sixteen.
            actor.do_send(LookSoon);
            return Some(failure);
        }
        if !failure.may_be_its_recorder() {
            return Some(failure);
        }
        if matches!(of.presence, Presence::Away | Presence::Refused) {
            self.recorder_lets(id);
            return None;
        }
        actor.do_send(DoubtNvr);
        let record = self.cameras.get_mut(id)?;
        record.enter(CameraState::Connecting);
        record.doubted = Some(failure);
        None
    }

    /// What is known of a recorder by now takes effect on its cameras.
    fn tell_cameras(&mut self, nvr: &NvrId, presence: Presence, is_back: bool, ctx: &mut Context<Self>) {
        let cameras = self.cameras_of(nvr);
        match presence {
            Presence::Unknown | Presence::Doubtful => {}
            Presence::There => {
                for id in cameras.values() {
                    let Some(record) = self.cameras.get_mut(id) else { continue };
                    if let Some(failure) = record.doubted.take() {
                        self.camera_failed(id, failure, ctx);
                    } else if record.awaits_recorder {
                        if is_back {
                            (record.outage, record.capture_error) = (Outage::default(), None);
                        }
                        self.start_camera(id, ctx);
                    }
                }
            }
            Presence::Away | Presence::Refused => {
                for id in cameras.values() {
                    let Some(record) = self.cameras.get_mut(id) else { continue };
                    let doubted = record.doubted.take().is_some();
                    // Those whose own wait is not over find out when it is.
                    if doubted || record.awaits_recorder {
                        self.recorder_lets(id);
                    }
                }
            }
        }
        self.count_states();
    }

    /// Brings a recorder's cameras to the channels that it has and that are asked for.
    fn reconcile(&mut self, nvr: &NvrId, ctx: &mut Context<Self>) {
        let Some(record) = self.nvrs.get(nvr) else { return };
        let (Some(spec), Some((seen, _))) = (&record.spec, &record.seen) else { return };
        let wanted = seen.channels.iter().filter(|channel| {
            (1..=NvrId::HIGHEST_CHANNEL).contains(&channel.number) && spec.channels.contains(channel.number)
        });
        let mut change = CatalogChange::default();
        let (mut kept, mut taken) = (BTreeSet::new(), BTreeMap::new());
        for channel in wanted.take(Channels::MOST) {
            let id = nvr.camera(channel.number);
            let owner = Some((nvr.clone(), channel.number));
            let before = self.cameras.get(&id).filter(|record| record.exists());
            if let Some(other) = before.filter(|before| before.nvr != owner) {
                let manager = other.managed_by.as_str();
                let why =
                    format!("the id `{id}` is that of another camera ({manager}): remove that, or rename the recorder");
                taken.insert(channel.number, why);
                continue;
            }
            kept.insert(channel.number);
            let asked = spec.camera(channel.number, &channel.name, seen.rtsp_port);
            // One that is missed for the first time tells no name.
            if !before.and_then(|before| before.spec.as_ref()).is_some_and(|before| before.same_as(&asked)) {
                change.channels.push((id.clone(), (nvr.clone(), channel.number)));
                change.puts.push((id, asked, ManagedBy::Nvr));
            }
        }
        let cameras = self.cameras_of(nvr).into_iter();
        change.deletes = cameras.filter(|(channel, _)| !kept.contains(channel)).map(|(_, id)| id).collect();
        if let Some(record) = self.nvrs.get_mut(nvr) {
            for (channel, why) in taken.iter().filter(|(channel, _)| !record.taken.contains_key(channel)) {
                warn!(%nvr, channel, "a channel is no camera: {why}");
            }
            record.taken = taken;
        }
        if change.is_empty() {
            return;
        }
        info!(%nvr, put = change.puts.len(), removed = change.deletes.len(), "the recorder's channels have changed");
        // Where there is no room for it, the next look brings it again.
        drop(self.commit(change, WithoutRoom::Refuse, ctx, |actor, _| {
            actor.count_nvrs();
            Ok(())
        }));
    }

    /// Cameras that have failed while their recorder did not answer as it should are tried at once when it does: what was
    /// wrong with it may have been what was wrong with them.
    fn try_failed(&mut self, nvr: &NvrId, ctx: &mut Context<Self>) {
        for id in self.cameras_of(nvr).values() {
            let Some(record) = self.cameras.get_mut(id).filter(|record| record.state == CameraState::Failed) else {
                continue;
            };
            record.outage = Outage::default();
            self.start_camera(id, ctx);
        }
    }

    /// What metrics show of the recorders.
    pub(super) fn count_nvrs(&self) {
        let mut cameras: BTreeMap<&NvrId, usize> = BTreeMap::new();
        for (nvr, _) in self.cameras.values().filter(|record| record.exists()).filter_map(|record| record.nvr.as_ref())
        {
            *cameras.entry(nvr).or_default() += 1;
        }
        let live = self.nvrs.iter().filter(|(_, record)| record.exists());
        let states = NvrState::ALL
            .map(|state| (state.as_str(), live.clone().filter(|(_, record)| record.state == state).count()));
        let shown = live.map(|(nvr, record)| {
            let seen = record.seen.as_ref();
            let health = seen.map(|(seen, _)| &seen.health);
            ShownNvr {
                nvr: nvr.clone(),
                up: matches!(record.presence, Presence::There | Presence::Doubtful),
                auth_failed: record.presence == Presence::Refused,
                cameras: cameras.get(nvr).copied().unwrap_or_default(),
                seen_at: seen.map(|(_, at)| *at),
                ahead: health.and_then(|health| health.ahead).map(time::Duration::as_seconds_f64),
                disks_unwell: health.map(|health| health.disks.iter().filter(|disk| !disk.is_well()).count()),
            }
        });
        self.wiring.metrics.show_nvrs(shown, states);
    }

    /// Ends the actors of all recorders.
    pub(super) fn stop_nvrs(&mut self) {
        for record in self.nvrs.values_mut() {
            if let Some(running) = record.running.take() {
                running.do_send(StopNvr);
            }
            record.settle(true);
        }
        self.count_nvrs();
    }
}

impl Handler<NvrNotice> for Supervisor {
    type Result = ();

    fn handle(&mut self, notice: NvrNotice, ctx: &mut Self::Context) {
        let NvrNotice { nvr, generation, presence, news } = notice;
        let Some(record) = self.nvrs.get_mut(&nvr).filter(|record| record.generation == generation) else { return };
        if record.spec.is_none() || self.stopping {
            return;
        }
        let looked = matches!(news, NvrNews::Looked(..));
        let mended = looked && record.not_seen.is_some();
        record.hear(presence, news);
        let told = record.tell();
        let message = record.error().map(|error| error.message).unwrap_or_default();
        let cameras = self.cameras_of(&nvr).len();
        // Each fault once, whatever the number of cameras.
        match told {
            None => {}
            Some(Told::Away) => warn!(%nvr, cameras, "the recorder is away, and its cameras wait: {message}"),
            Some(Told::Refused) => warn!(%nvr, cameras, "the recorder lets nobody in, and its cameras wait: {message}"),
            Some(Told::Partly) => warn!(%nvr, "the recorder does not answer all that it is asked: {message}"),
            Some(Told::Well) => info!(%nvr, cameras, "the recorder is there"),
        }
        let is_back = matches!(told, Some(Told::Well | Told::Partly));
        self.tell_cameras(&nvr, presence, is_back, ctx);
        if looked {
            self.reconcile(&nvr, ctx);
        }
        if mended {
            self.try_failed(&nvr, ctx);
        }
        self.count_nvrs();
    }
}

impl Handler<NvrExited> for Supervisor {
    type Result = ();

    fn handle(&mut self, exited: NvrExited, ctx: &mut Self::Context) {
        let Some(record) = self.nvrs.get_mut(&exited.nvr) else { return };
        if record.generation != exited.generation || record.running.is_none() || self.stopping {
            return;
        }
        error!(nvr = %exited.nvr, "the recorder's actor died; it is started anew");
        record.running = None;
        ctx.run_later(RESTART, move |actor, ctx| {
            if actor.nvrs.get(&exited.nvr).is_some_and(|record| record.running.is_none()) {
                actor.start_nvr(&exited.nvr, ctx);
            }
        });
    }
}
