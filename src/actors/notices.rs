//! What the Supervisor is told by its actors, and what follows from it.

use std::time::{Duration, Instant};

use actix::prelude::*;
use tracing::{error, warn};

use super::Supervisor;
use super::messages::*;
use super::nvrs::CameraFailure;
use crate::capture::{ErrorKind, Exit, Verdict};
use crate::model::{CameraId, Login, Permit, Refusal, UnixMicros};

/// An UploadActor that died is replaced after this.
const UPLOAD_RESTART: Duration = Duration::from_millis(100);

impl Handler<CameraNotice> for Supervisor {
    type Result = ();

    fn handle(&mut self, notice: CameraNotice, ctx: &mut Self::Context) {
        let Some(record) = self.cameras.get_mut(&notice.camera) else { return };
        if notice.generation != record.generation {
            return;
        }
        let before = (record.state, record.frozen_since.is_some());
        let mut accepted = None;
        match notice.news {
            CameraNews::Capturing { pid } => {
                if let Some(running) = &mut record.running {
                    running.pid = pid;
                }
            }
            CameraNews::Opened(info) => {
                record.stream = Some(info);
                accepted = record.running.as_ref().and_then(|running| running.login.clone());
            }
            CameraNews::Streaming { session, fps, still, clock_offset } => {
                record.enter(CameraState::Streaming);
                record.session = Some(session).filter(|session| *session > 0).or(record.session);
                record.fps = fps;
                record.clock_offset = clock_offset;
                record.show_still(still, self.wiring.frozen_after);
                record.capture_error = None;
                if let Some((login, credentials)) = record.running.as_ref().and_then(|running| running.login.as_ref()) {
                    self.logins.streaming(login, credentials, UnixMicros::now());
                }
            }
            CameraNews::Stalled => record.enter(CameraState::Stalled),
        }
        let changed = before != (record.state, record.frozen_since.is_some());
        if let Some((login, credentials)) = accepted {
            self.login_accepted(&login, &credentials, ctx);
        }
        if changed {
            self.count_states();
        }
    }
}

impl Supervisor {
    /// Takes note that a login was accepted, and lets those go on that waited for it.
    pub(super) fn login_accepted(&mut self, login: &Login, credentials: &str, ctx: &mut Context<Self>) {
        if self.logins.accepted(login, credentials, UnixMicros::now()) {
            self.wiring.journal.login_accepted(login.clone(), credentials.to_owned());
        }
        self.login_settled(login, ctx);
    }

    /// Takes note that a login was refused, for good, and answers whether the camera is probably only busy.
    pub(super) fn login_refused(&mut self, login: &Login, credentials: &str) -> bool {
        let at = UnixMicros::now();
        let refusal = Refusal { login: login.clone(), credentials: credentials.to_owned(), at };
        self.wiring.journal.login_refused(refusal);
        self.logins.refused(login, credentials, at)
    }

    /// Takes note that an attempt to log in ended without a word on it.
    pub(super) fn login_unheard(&mut self, login: &Login, credentials: &str, who: &str, may_hide_a_refusal: bool) {
        let at = UnixMicros::now();
        if self.logins.ended(login, credentials, who, may_hide_a_refusal, at) {
            let refusal = Refusal { login: login.clone(), credentials: credentials.to_owned(), at };
            self.wiring.journal.login_refused(refusal);
        }
    }

    /// When a camera may log in again.
    fn next_login(&mut self, id: &CameraId, login: &Login, credentials: &str) -> Duration {
        let now = UnixMicros::now();
        match self.logins.ask(login, credentials, id.as_str(), now) {
            Permit::NotBefore(at) => at.since(now),
            Permit::Go | Permit::AfterTrial => Duration::ZERO,
        }
    }
}

impl Supervisor {
    /// What follows from a failure of a camera's own.
    pub(super) fn camera_failed(&mut self, id: &CameraId, failure: CameraFailure, ctx: &mut Context<Self>) {
        let CameraFailure { exit, generation, started, kind, message, next_login } = failure;
        let Some(record) = self.cameras.get_mut(id) else { return };
        let now = Instant::now();
        let (state, wait) = match next_login {
            Some(wait) if kind == ErrorKind::Busy => (CameraState::BackingOff, wait),
            Some(wait) => (CameraState::AuthFailed, wait),
            None => match record.outage.after(&exit, started, now, &mut self.rng) {
                Verdict::BackOff(at) => (CameraState::BackingOff, at.duration_since(now)),
                Verdict::Failed(at) if kind == ErrorKind::Auth => (CameraState::AuthFailed, at.duration_since(now)),
                Verdict::Failed(at) => (CameraState::Failed, at.duration_since(now)),
            },
        };
        record.enter(state);
        record.capture_error = Some(LastError::capture(UnixMicros::now(), kind, &message));
        if !self.gives_up(id, wait, kind.needs_a_person(), &message, ctx) {
            if kind == ErrorKind::Panic {
                error!(camera = %id, generation, "the camera's actor panicked; it starts again in {wait:.1?}");
            } else {
                warn!(camera = %id, kind = kind.as_str(), "{message}; next try in {wait:.1?}");
            }
            self.wiring.metrics.reconnect(id, kind.as_str());
            self.start_later(id, wait, ctx);
        }
    }
}

impl Handler<CameraExited> for Supervisor {
    type Result = ();

    fn handle(&mut self, exited: CameraExited, ctx: &mut Self::Context) {
        let id = exited.camera;
        let Some(record) = self.cameras.get_mut(&id) else { return };
        if exited.generation != record.generation {
            return;
        }
        let running = record.running.take();
        let (wanted, paused) = (record.spec.clone(), record.paused);
        // A failure of the spec before is not charged to the one that was put since.
        let outdated = match (&running, &wanted) {
            (Some(running), Some(wanted)) => !running.spec.captures_as(wanted),
            _ => false,
        };
        let started = running.as_ref().map_or_else(Instant::now, |running| running.started);
        let login = running.and_then(|running| running.login);
        let mut failure = match &exited.exit {
            Exit::Stopped | Exit::Finished { .. } => None,
            Exit::Failed { diagnosis, .. } => Some((diagnosis.kind, diagnosis.message.to_string())),
            Exit::Panicked => Some((ErrorKind::Panic, "its actor panicked: please report this".to_owned())),
        };
        let mut next_login = None;
        if let Some((login, credentials)) = &login {
            match &mut failure {
                Some((kind, message)) if *kind == ErrorKind::Auth => {
                    if self.login_refused(login, credentials) {
                        *kind = ErrorKind::Busy;
                        *message = "the camera refuses a login that it accepted a moment ago: it probably has as many \
                                    clients as it takes"
                            .to_owned();
                    }
                    next_login = Some(self.next_login(&id, login, credentials));
                }
                Some((kind, _)) => self.login_unheard(login, credentials, id.as_str(), kind.may_hide_a_refusal()),
                None => self.login_unheard(login, credentials, id.as_str(), true),
            }
        }
        let Some(record) = self.cameras.get_mut(&id) else { return };
        if wanted.is_none() {
            // Its last pictures came after it was removed.
            self.wiring.hubs.newest().forget(&id);
            record.enter(CameraState::Deleted);
        } else if self.stopping {
            record.enter(CameraState::Stopped);
        } else if record.has_ended() {
            record.enter(CameraState::Ended);
            self.await_outcomes(&id, ctx);
        } else if paused {
            record.enter(CameraState::Paused);
        } else if let Some((kind, message)) = failure.filter(|_| !outdated) {
            let (exit, generation) = (exited.exit, exited.generation);
            let failure = CameraFailure { exit, generation, started, kind, message, next_login };
            if let Some(failure) = self.ask_recorder(&id, failure) {
                self.camera_failed(&id, failure, ctx);
            }
        } else if let Exit::Finished { changed } = exited.exit
            && !outdated
        {
            record.enter(CameraState::Ended);
            self.batch_captured(&id, changed, ctx);
        } else {
            // It was stopped to make room for what it is now, or to be started anew.
            self.start_camera(&id, ctx);
        }
        if let Some((login, _)) = login {
            self.login_settled(&login, ctx);
        }
        self.fill_places(ctx);
        self.tell_if_stopped();
        self.count_states();
    }
}

impl Handler<UploadExited> for Supervisor {
    type Result = ();

    fn handle(&mut self, exited: UploadExited, ctx: &mut Self::Context) {
        if self.wiring.hubs.is_closed() {
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
        // Somebody may have started another meanwhile; a second one would take its place, and so on without an end.
        let replaced = self.wiring.sequencers.find(&exited.camera).is_some_and(|addr| addr.connected());
        if System::try_current().is_some() && self.cameras.contains_key(&exited.camera) && !replaced {
            error!(camera = %exited.camera, "the camera's sequencer died; it is built anew from the journal");
            self.start_sequencer(&exited.camera, ctx);
        }
    }
}

impl Handler<UploadTrouble> for Supervisor {
    type Result = ();

    fn handle(&mut self, trouble: UploadTrouble, _: &mut Self::Context) {
        let Some(record) = self.cameras.get_mut(&trouble.camera) else { return };
        record.upload_error =
            trouble.error.map(|(kind, message)| LastError { at: UnixMicros::now(), source: "upload", kind, message });
    }
}
