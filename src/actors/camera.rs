//! One generation of a camera: from the start of its capture process to its end.
//!
//! The Supervisor starts it with everything it needs and learns of its death from a guard, whatever the reason. It does
//! not restart anything: a new generation is a new actor. Its frames do not depend on it: once admitted they are the
//! hub's, and the order is the ledger's.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tracing::{Instrument as _, debug, info, info_span, warn};

use super::intake::Intake;
use super::messages::{CameraExited, CameraNews, CameraNotice, Panic, Stop};
use super::{Hub, Supervisor};
use crate::capture::{Ending, ErrorKind, Exit, Launcher, ProcessEvent};
use crate::journal::{Journal, Ledger};
use crate::model::{CameraClock, CameraId, CameraSpec, Extent, LostReason, SourceKind};

/// Time the journal gets to take the last pictures of a generation.
const LAST_PICTURES: Duration = Duration::from_secs(2);
/// The span over which frames per second are averaged.
const RATE_SPAN: Duration = Duration::from_secs(5);

/// What a generation is made of.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub camera: CameraId,
    pub generation: u64,
    pub spec: CameraSpec,
    /// Which part of it is wanted.
    pub extent: Extent,
    pub launcher: Launcher,
    pub ledger: Arc<Ledger>,
    pub hub: Hub,
    pub journal: Journal,
    /// How far the camera's clock may be from the arrival of its pictures to be believed.
    pub clock_within: Duration,
}

/// Runs one generation of a camera.
pub struct CameraActor {
    recipe: Recipe,
    supervisor: Addr<Supervisor>,
    guard: ExitGuard,
    stop: Option<oneshot::Sender<&'static str>>,
}

/// Tells the Supervisor when the actor is dropped: after a normal end, and after a panic as well.
struct ExitGuard {
    supervisor: Addr<Supervisor>,
    camera: CameraId,
    generation: u64,
    /// Not set by a panic.
    exit: Option<Exit>,
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        self.supervisor.do_send(CameraExited {
            camera: self.camera.clone(),
            generation: self.generation,
            exit: self.exit.take().unwrap_or(Exit::Panicked),
        });
    }
}

impl CameraActor {
    /// A generation that will begin when the actor is started.
    pub fn new(recipe: Recipe, supervisor: Addr<Supervisor>) -> Self {
        let guard = ExitGuard {
            supervisor: supervisor.clone(),
            camera: recipe.camera.clone(),
            generation: recipe.generation,
            exit: None,
        };
        Self { recipe, supervisor, guard, stop: None }
    }
}

impl Actor for CameraActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (stop, stopped) = oneshot::channel();
        self.stop = Some(stop);
        let span = info_span!("camera", camera = %self.recipe.camera, generation = self.recipe.generation);
        let run = run(self.recipe.clone(), self.supervisor.clone(), stopped).instrument(span);
        let ended = run.into_actor(self).map(|exit, actor, ctx| {
            actor.guard.exit = Some(exit);
            ctx.stop();
        });
        ctx.spawn(ended);
    }
}

impl Handler<Stop> for CameraActor {
    type Result = ();

    fn handle(&mut self, stop: Stop, _: &mut Self::Context) {
        if let Some(sender) = self.stop.take() {
            // The run may be over already; then its end is on its way.
            let _ = sender.send(stop.why);
        }
    }
}

impl Handler<Panic> for CameraActor {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Self::Context) {
        panic!("injected into camera {}", self.recipe.camera);
    }
}

/// Captures until told to stop, the capture fails, or the future is dropped, which kills the capture process.
async fn run(recipe: Recipe, supervisor: Addr<Supervisor>, mut stopped: oneshot::Receiver<&'static str>) -> Exit {
    let notify = |news| {
        supervisor.do_send(CameraNotice { camera: recipe.camera.clone(), generation: recipe.generation, news });
    };
    let mut process = tokio::select! {
        biased;
        _ = &mut stopped => return Exit::Stopped,
        launched = recipe.launcher.launch(&recipe.camera, &recipe.spec, recipe.extent) => match launched {
            Ok(process) => process,
            Err(diagnosis) => return Exit::Failed { diagnosis, streamed: false },
        },
    };
    // A file loses nothing by waiting, so it waits where a camera would have to lose frames.
    let patient = recipe.spec.url.kind() == SourceKind::File;
    notify(CameraNews::Capturing { pid: process.pid() });
    let mut intake = Intake::new(recipe.ledger.clone(), recipe.hub.clone(), recipe.journal.clone())
        .with_clock(CameraClock::new(recipe.clock_within));
    let mut rate = Rate::default();
    let mut held = false;
    let mut left = recipe.extent.frames.unwrap_or(u64::MAX);
    let ended = loop {
        if left == 0 && !intake.is_waiting() {
            break Over::Enough;
        }
        tokio::select! {
            biased;
            why = &mut stopped => break Over::Stopped(why.unwrap_or("stopped")),
            () = intake.progress() => {
                if patient {
                    process.excuse();
                }
            }
            () = recipe.hub.room(&recipe.camera), if patient && held => {
                held = false;
                process.excuse();
            }
            event = process.next(), if left > 0 && !(patient && (held || intake.is_waiting())) => match event {
                ProcessEvent::Opened(stream) => {
                    info!(codec = stream.codec, width = stream.width, height = stream.height, "stream open");
                    intake.opened(&stream);
                    notify(CameraNews::Opened(stream));
                }
                ProcessEvent::Frame(picture) => {
                    left -= 1;
                    intake.picture(picture);
                    held = patient && recipe.hub.is_held(&recipe.camera);
                    // The first frame is news at once; the rest is told once a second.
                    if rate.count(Instant::now()) == 1 {
                        let session = intake.session().unwrap_or_default();
                        notify(CameraNews::Streaming { session, fps: 0.0, still: Duration::ZERO, clock_offset: None });
                    }
                }
                ProcessEvent::Overrun(count) => {
                    warn!(count, "the capture process found its pipe full");
                    let count = left.min(count.into());
                    left -= count;
                    intake.missed(count, LostReason::Overrun);
                }
                ProcessEvent::Corrupt(count) => {
                    debug!(count, "frames could not be decoded");
                    let count = left.min(count.into());
                    left -= count;
                    intake.missed(count, LostReason::Corrupt);
                }
                ProcessEvent::Stats(stats) if rate.total > 0 => {
                    let fps = rate.per_second(Instant::now());
                    let still = Duration::from_millis(stats.still_ms);
                    let (session, clock_offset) = (intake.session().unwrap_or_default(), intake.clock_offset_micros());
                    notify(CameraNews::Streaming { session, fps, still, clock_offset });
                }
                ProcessEvent::Stats(_) => {}
                ProcessEvent::Ended(ending) => break Over::Ended(ending),
            }
        }
    };
    // It may begin where the file has ended.
    let is_part = recipe.extent.skip > 0 || recipe.extent.from_micros.is_some();
    let (exit, why) = match ended {
        Over::Stopped(why) => (Exit::Stopped, why),
        Over::Enough => (Exit::Finished { changed: false }, "enough"),
        // A file that repeats ends only where it cannot be opened again.
        Over::Ended(Ending::StreamEnded) if patient && !recipe.spec.repeat && (rate.total > 0 || is_part) => {
            (Exit::Finished { changed: false }, "end of stream")
        }
        // A file would begin again from its start, and come to the same place.
        Over::Ended(Ending::StreamChanged) if patient && (rate.total > 0 || is_part) => {
            warn!("the size or the format of the pictures changes in the midst of the file: the rest is not read");
            (Exit::Finished { changed: true }, ErrorKind::StreamChanged.as_str())
        }
        Over::Ended(ending) => {
            // Not within the select: it waits for the process's last words.
            let diagnosis = process.diagnose(ending).await;
            let why = diagnosis.kind.as_str();
            if diagnosis.kind == ErrorKind::Stall {
                notify(CameraNews::Stalled);
            }
            (Exit::Failed { diagnosis, streamed: rate.total > 0 }, why)
        }
    };
    let _ = timeout(LAST_PICTURES, intake.settle()).await;
    intake.end(why);
    process.stop().await;
    exit
}

/// Why a generation captures nothing more.
enum Over {
    /// It was told so, for this reason.
    Stopped(&'static str),
    /// It has all that is wanted.
    Enough,
    /// Its capture process has ended, or ought to.
    Ended(Ending),
}

/// Counts frames over the last few seconds.
#[derive(Default)]
struct Rate {
    total: u64,
    recent: VecDeque<Instant>,
}

impl Rate {
    fn count(&mut self, now: Instant) -> u64 {
        self.total += 1;
        self.recent.push_back(now);
        self.total
    }

    fn per_second(&mut self, now: Instant) -> f64 {
        while self.recent.front().is_some_and(|at| now.duration_since(*at) > RATE_SPAN) {
            self.recent.pop_front();
        }
        let span = self.recent.front().map_or(RATE_SPAN, |at| now.duration_since(*at));
        // The oldest frame marks the beginning of the span and is not counted in it.
        let frames = self.recent.len().saturating_sub(1);
        if span < Duration::from_millis(500) { 0.0 } else { frames as f64 / span.as_secs_f64() }
    }
}
