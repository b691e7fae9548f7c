//! Trials of sources: is there a picture, and if not, why? Nothing is added, and nothing is kept.

use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::time::timeout;
use tracing::info;

use super::Supervisor;
use super::messages::{ControlError, Probe, Probed};
use crate::capture::wire::StreamInfo;
use crate::capture::{Diagnosis, ErrorKind, Launcher, ProcessEvent};
use crate::model::{CameraId, CameraSpec, Extent, FieldProblem, Permit, Sampling, UnixMicros};

/// Trials at the same time: each is a process that decodes.
const MOST: usize = 4;
/// Time an open stream gets to show a picture: longer than key frames of most cameras are apart.
const FIRST_PICTURE: Duration = Duration::from_secs(10);

impl Handler<Probe> for Supervisor {
    type Result = ResponseActFuture<Self, Result<Probed, ControlError>>;

    fn handle(&mut self, Probe(raw): Probe, _: &mut Self::Context) -> Self::Result {
        let refuse = |error| Box::pin(fut::ready(Err(error)));
        let spec = match raw.validate(None) {
            // The first picture there is; key frames alone are asked of the program that knows them.
            Ok(spec) if spec.sampling == Sampling::Keyframes => spec,
            Ok(spec) => CameraSpec { sampling: Sampling::All, ..spec },
            Err(problems) => return refuse(ControlError::Invalid(problems)),
        };
        if let Err(why) = self.wiring.launcher.reach.check(&spec.url) {
            let problem = FieldProblem::new("url", Some(spec.url.as_str()), why);
            return refuse(ControlError::Invalid(vec![problem]));
        }
        if self.stopping {
            return refuse(ControlError::Stopping);
        }
        if self.probes.running >= MOST {
            let message = format!("{MOST} sources are being tried: come again when one of these trials is over");
            return refuse(ControlError::TooMany { message, retry_after: FIRST_PICTURE });
        }
        self.probes.total += 1;
        let label: CameraId = format!("probe-{}", self.probes.total).parse().expect("a word and a number are an id");
        // No camera has such a name.
        let trial = format!("probe {}", self.probes.total);
        let login = self.login_of(&spec);
        if let Some((login, credentials)) = &login {
            let now = UnixMicros::now();
            let retry_after = match self.logins.ask(login, credentials, &trial, now) {
                Permit::Go => None,
                Permit::AfterTrial => Some(Duration::from_secs(5)),
                Permit::NotBefore(at) => Some(at.since(now)),
            };
            if let Some(retry_after) = retry_after {
                let message =
                    "the camera has refused this user's login lately, or is being asked: it may be tried again \
                               later, lest it lock the address"
                        .to_owned();
                return refuse(ControlError::TooMany { message, retry_after });
            }
        }
        self.probes.running += 1;
        let looked = look(self.wiring.launcher.clone(), label, spec).into_actor(self);
        Box::pin(looked.map(move |(opened, probed), actor: &mut Self, ctx| {
            actor.probes.running -= 1;
            if let Some((login, credentials)) = &login {
                match &probed {
                    _ if opened => actor.login_accepted(login, credentials, ctx),
                    Probed::Failed(diagnosis) if diagnosis.kind == ErrorKind::Auth => {
                        actor.login_refused(login, credentials);
                    }
                    Probed::Failed(diagnosis) => {
                        let may_hide_a_refusal = diagnosis.kind.may_hide_a_refusal();
                        actor.login_unheard(login, credentials, &trial, may_hide_a_refusal);
                    }
                    _ => actor.login_unheard(login, credentials, &trial, true),
                }
                actor.login_settled(login, ctx);
                actor.forget_unused(login);
            }
            Ok(probed)
        }))
    }
}

/// Opens the source and waits for its first picture. Says whether it opened, and what came of it.
async fn look(launcher: Launcher, label: CameraId, spec: CameraSpec) -> (bool, Probed) {
    // Not the URL: passwords stand in the queries of some.
    info!(source = %label, "a source is tried");
    let begun = Instant::now();
    let mut process = match launcher.launch(&label, &spec, Extent::default()).await {
        Ok(process) => process,
        Err(diagnosis) => return (false, Probed::Failed(diagnosis)),
    };
    let mut info: Option<StreamInfo> = None;
    let probed = loop {
        // The process itself keeps to the time it has to open.
        let patience = if info.is_some() { FIRST_PICTURE } else { Duration::MAX };
        match timeout(patience, process.next()).await {
            Ok(ProcessEvent::Opened(found)) => info = Some(found),
            Ok(ProcessEvent::Frame(picture)) => {
                let info = info.clone().unwrap_or_default();
                break Probed::Seen { info, picture, after: begun.elapsed() };
            }
            Ok(ProcessEvent::Ended(ending)) => break Probed::Failed(process.diagnose(ending).await),
            Ok(_) if begun.elapsed() < launcher.deadlines.open + FIRST_PICTURE => {}
            Ok(_) | Err(_) => {
                let message = format!("the stream is open and shows no picture within {} s", FIRST_PICTURE.as_secs());
                break Probed::Failed(Diagnosis { kind: ErrorKind::NoVideo, message: message.into() });
            }
        }
    };
    process.stop().await;
    (info.is_some(), probed)
}
