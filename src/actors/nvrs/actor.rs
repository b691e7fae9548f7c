//! One recorder: looks at it every half minute, and knocks while it may be away, also while a look takes its time.
//!
//! It owns nothing but its client. The Supervisor starts it, is told of all that it finds out, and learns of its death
//! from a guard; then it starts another. [`Rounds`] says what comes next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use futures_util::future::OptionFuture;
use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep_until, timeout};
use tracing::{Instrument as _, info_span};
use url::Url;

use super::messages::{DoubtNvr, LookSoon, NvrExited, NvrNews, NvrNotice, Seen, StopNvr};
use crate::actors::Supervisor;
use crate::actors::messages::Panic;
use crate::capture::{ErrorKind, Reach};
use crate::model::{Errand, Looked, NvrId, NvrSpec, Presence, Rounds, SourceKind, SourceUrl};
use crate::nvr::{
    Channel, Common, Recorder, RecorderError, RecorderErrorKind, RecorderSettings, Scheme, Timeouts, knock, open,
};

/// How long a look may take, from its first request to its last answer.
const LOOK_WITHIN: Duration = Duration::from_secs(60);
/// How long a knock waits for an answer.
const KNOCK_WITHIN: Duration = Duration::from_secs(2);
/// How long the recorder's name may take to be found.
const RESOLVE_WITHIN: Duration = Duration::from_secs(5);
/// How long it may take over one request.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(5),
    answer: Duration::from_secs(15),
    stall: Duration::from_secs(30),
    stall_bytes: 1,
};

/// What a NvrActor is made of.
pub(super) struct NvrRecipe {
    pub nvr: NvrId,
    pub generation: u64,
    pub spec: NvrSpec,
    /// The channels that are cameras, and what they are called.
    pub known: BTreeMap<u32, String>,
    /// The port of its streams, where it is known.
    pub rtsp_port: Option<u16>,
    /// Where it may be.
    pub reach: Reach,
    pub common: Arc<Common>,
}

/// Looks after one recorder.
pub struct NvrActor {
    recipe: Option<NvrRecipe>,
    supervisor: Addr<Supervisor>,
    calls: Arc<Calls>,
    stop: Option<oneshot::Sender<()>>,
    _guard: ExitGuard,
}

/// What the Supervisor wants to have done before it is due.
#[derive(Default)]
struct Calls {
    doubt: Notify,
    look: Notify,
}

/// Tells the Supervisor when the actor is dropped: after a normal end, and after a panic as well.
struct ExitGuard {
    supervisor: Addr<Supervisor>,
    nvr: NvrId,
    generation: u64,
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        self.supervisor.do_send(NvrExited { nvr: self.nvr.clone(), generation: self.generation });
    }
}

impl NvrActor {
    pub(super) fn new(recipe: NvrRecipe, supervisor: Addr<Supervisor>) -> Self {
        let guard =
            ExitGuard { supervisor: supervisor.clone(), nvr: recipe.nvr.clone(), generation: recipe.generation };
        Self { recipe: Some(recipe), supervisor, calls: Arc::default(), stop: None, _guard: guard }
    }
}

impl Actor for NvrActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(recipe) = self.recipe.take() else { return };
        let (stop, stopped) = oneshot::channel();
        self.stop = Some(stop);
        let span = info_span!("nvr", nvr = %recipe.nvr, generation = recipe.generation);
        let rounds = go_round(recipe, self.supervisor.clone(), self.calls.clone());
        let run = async move {
            tokio::select! {
                _ = stopped => {}
                () = rounds => {}
            }
        };
        ctx.spawn(run.instrument(span).into_actor(self).map(|(), _, ctx| ctx.stop()));
    }
}

impl Handler<StopNvr> for NvrActor {
    type Result = ();

    fn handle(&mut self, _: StopNvr, _: &mut Self::Context) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
    }
}

impl Handler<DoubtNvr> for NvrActor {
    type Result = ();

    fn handle(&mut self, _: DoubtNvr, _: &mut Self::Context) {
        self.calls.doubt.notify_one();
    }
}

impl Handler<LookSoon> for NvrActor {
    type Result = ();

    fn handle(&mut self, _: LookSoon, _: &mut Self::Context) {
        self.calls.look.notify_one();
    }
}

impl Handler<Panic> for NvrActor {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Self::Context) {
        panic!("injected into a recorder's actor");
    }
}

/// One errand after the other, each when it is due, without an end.
async fn go_round(recipe: NvrRecipe, supervisor: Addr<Supervisor>, calls: Arc<Calls>) {
    let (nvr, generation) = (recipe.nvr.clone(), recipe.generation);
    let mut visitor = Visitor { recipe, recorder: None };
    let mut rounds = Rounds::new(Instant::now());
    let mut rng = fastrand::Rng::new();
    let tell = |presence, news| supervisor.do_send(NvrNotice { nvr: nvr.clone(), generation, presence, news });
    loop {
        let door = visitor.recipe.door();
        let (errand, at) = rounds.next(door.is_some());
        tokio::select! {
            biased;
            () = calls.doubt.notified() => {
                rounds.doubt();
                continue;
            }
            () = calls.look.notified() => {
                rounds.look_soon(Instant::now());
                continue;
            }
            () = sleep_until(at.into()) => {}
        }
        rounds.begins(Instant::now(), &mut rng);
        if let (Errand::Knock, Some(door)) = (errand, &door) {
            let knocked = door.knock().await;
            rounds.knocked(Instant::now(), knocked.is_ok());
            if knocked.is_err() {
                visitor.recorder = None;
            }
            tell(rounds.presence(), NvrNews::Knocked(knocked));
            continue;
        }
        let looked = {
            let knocks = door.as_ref().map(|door| || door.knock());
            let told = |presence, knocked| tell(presence, NvrNews::Knocked(knocked));
            knocking_beside(visitor.look(), knocks, &mut rounds, &calls, &mut rng, told).await
        };
        let how = match &looked {
            Ok((_, _, missed)) => Looked::Well { missed: *missed },
            Err(error) => how(error.kind),
        };
        rounds.looked(Instant::now(), how, visitor.recipe.rtsp_port.is_some(), &mut rng);
        let news = match looked {
            Ok((seen, recorder, _)) => NvrNews::Looked(seen, recorder),
            Err(error) => NvrNews::Failed(error),
        };
        tell(rounds.presence(), news);
    }
}

/// Waits for a look, and knocks meanwhile where somebody doubts that the recorder is there, or waits for it to come back: a
/// look may take a minute where only the web server is slow, and the cameras must not wait for that.
async fn knocking_beside<T, K: Future<Output = Result<(), String>>>(
    looking: impl Future<Output = T>,
    knocks: Option<impl Fn() -> K>,
    rounds: &mut Rounds,
    calls: &Calls,
    rng: &mut fastrand::Rng,
    told: impl Fn(Presence, Result<(), String>),
) -> T {
    let (mut looking, mut knocking) = (std::pin::pin!(looking), std::pin::pin!(None::<K>));
    loop {
        let due = rounds.beside(knocks.is_some());
        tokio::select! {
            biased;
            looked = &mut looking => return looked,
            knocked = async { OptionFuture::from(knocking.as_mut().as_pin_mut()).await }, if knocking.is_some() => {
                knocking.set(None);
                if let Some(knocked) = knocked {
                    rounds.knocked(Instant::now(), knocked.is_ok());
                    told(rounds.presence(), knocked);
                }
            }
            () = calls.doubt.notified() => rounds.doubt(),
            () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() && knocking.is_none() => {
                rounds.begins(Instant::now(), rng);
                knocking.set(knocks.as_ref().map(|knock| knock()));
            }
        }
    }
}

/// What a failed look says of the recorder.
fn how(kind: RecorderErrorKind) -> Looked {
    match kind {
        RecorderErrorKind::Timeout | RecorderErrorKind::Io => Looked::Silent,
        RecorderErrorKind::Auth | RecorderErrorKind::TooSoon { .. } | RecorderErrorKind::Locked { .. } => {
            Looked::Refused
        }
        _ => Looked::Odd,
    }
}

/// Who goes to the recorder.
struct Visitor {
    recipe: NvrRecipe,
    /// Made anew after each failure: the recorder may be another one by then, or of another firmware.
    recorder: Option<Arc<dyn Recorder>>,
}

impl Visitor {
    /// Asks all that is wanted to be known, and says whether a channel is missed.
    async fn look(&mut self) -> Result<(Box<Seen>, Arc<dyn Recorder>, bool), RecorderError> {
        let recorder = match self.recorder.take() {
            Some(recorder) => recorder,
            None => self.open().await?,
        };
        let late = || {
            let what = format!("it has not answered all questions within {} s", LOOK_WITHIN.as_secs());
            Err(RecorderError::new(RecorderErrorKind::Timeout, what))
        };
        let mut seen = timeout(LOOK_WITHIN, ask(&*recorder)).await.unwrap_or_else(|_| late())?;
        self.recorder = Some(recorder.clone());
        self.recipe.rtsp_port = Some(seen.rtsp_port);
        if let Some(fault) = no_channels(&self.recipe.known, &seen.channels) {
            return Err(fault);
        }
        let missed = self.keep_missed(&mut seen.channels);
        Ok((Box::new(seen), recorder, missed))
    }

    /// A channel that is missing for the first time may be there again in a moment: a recorder that starts tells of its
    /// channels one by one.
    fn keep_missed(&mut self, channels: &mut Vec<Channel>) -> bool {
        let listed: BTreeMap<u32, String> = channels.iter().map(|of| (of.number, of.name.clone())).collect();
        let before = std::mem::replace(&mut self.recipe.known, listed);
        let missing = before.into_iter().filter(|(number, _)| !self.recipe.known.contains_key(number));
        let missing: Vec<_> = missing.map(|(number, name)| Channel { number, name, online: Some(false) }).collect();
        let missed = !missing.is_empty();
        channels.extend(missing);
        channels.sort_by_key(|channel| channel.number);
        missed
    }

    /// Makes a client. The host is looked up here, so that it is no other than may be asked.
    async fn open(&self) -> Result<Arc<dyn Recorder>, RecorderError> {
        let NvrRecipe { spec, reach, common, .. } = &self.recipe;
        let located = reach.locate(&spec.url, spec.tls, RESOLVE_WITHIN).await.map_err(|diagnosis| {
            let kind = match diagnosis.kind {
                ErrorKind::Forbidden => RecorderErrorKind::Forbidden,
                _ => RecorderErrorKind::Io,
            };
            RecorderError::new(kind, diagnosis.message)
        })?;
        let url = Url::parse(&located).map_err(|_| RecorderError::new(RecorderErrorKind::Io, "its URL is none"))?;
        let scheme = match spec.url.kind() {
            SourceKind::Https => Scheme::Https { tls: spec.tls },
            _ => Scheme::Http,
        };
        // It was checked when it was put, by the same list.
        let zone = spec.zone.as_ref().and_then(|zone| zone.parse().ok());
        let password = spec.password.clone().unwrap_or_default();
        let settings = RecorderSettings {
            port: Some(spec.url.port()),
            scheme,
            timeouts: TIMEOUTS,
            clock: spec.clock,
            zone,
            ..RecorderSettings::new(url.host_str().unwrap_or_default(), spec.user.clone(), password)
        };
        open(settings, common)
    }
}

/// The fault of a recorder that tells of no channel at all, although it had some: it has forgotten what it records, or the
/// user may not see it any more. That is nothing to remove cameras for; whoever wants to be rid of them says so.
fn no_channels(known: &BTreeMap<u32, String>, told: &[Channel]) -> Option<RecorderError> {
    (told.is_empty() && !known.is_empty()).then(|| {
        let what = format!(
            "it tells of no channels, where it had {}: their cameras stay; if they are gone for good, name those that \
             are left in `channels`, or delete the recorder",
            known.len()
        );
        RecorderError::new(RecorderErrorKind::Protocol, what)
    })
}

/// The port of a recorder's streams, where one knocks.
struct Door {
    /// A camera's URL there; whose does not matter.
    url: SourceUrl,
    port: u16,
    reach: Reach,
}

impl NvrRecipe {
    /// Where to knock, if that is known.
    fn door(&self) -> Option<Door> {
        let port = self.rtsp_port?;
        Some(Door { url: self.spec.camera(1, "", port).url, port, reach: self.reach.clone() })
    }
}

impl Door {
    /// Asks for a sign of life; why there is none.
    async fn knock(&self) -> Result<(), String> {
        let located = self.reach.locate(&self.url, None, RESOLVE_WITHIN).await;
        let knocked = match located.map(|located| Url::parse(&located)) {
            Ok(Ok(url)) => knock(&url, KNOCK_WITHIN).await.map_err(|error| error.to_string()),
            Ok(Err(_)) => Err("its URL is none".to_owned()),
            Err(diagnosis) => Err(diagnosis.message.into_owned()),
        };
        let place = self.url.host().map(|host| format!("{host}:{}", self.port)).unwrap_or_default();
        knocked.map_err(|why| format!("nothing streams at {place}: {why}"))
    }
}

async fn ask(recorder: &dyn Recorder) -> Result<Seen, RecorderError> {
    let (identity, abilities) = recorder.identify().await?;
    let channels = recorder.channels().await?;
    let rtsp_port = recorder.rtsp_port().await?;
    let health = recorder.health().await?;
    Ok(Seen { identity, clock: abilities.clock, health, channels, rtsp_port })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn a_doubt_is_settled_while_a_look_takes_its_time() {
        let mut rng = fastrand::Rng::new();
        let mut rounds = Rounds::new(Instant::now());
        rounds.looked(Instant::now(), Looked::Well { missed: false }, true, &mut rng);
        rounds.begins(Instant::now(), &mut rng);
        let (calls, ended) = (Calls::default(), Notify::new());
        let (told, begun) = (Mutex::new(Vec::new()), Instant::now());
        // The look ends only when the recorder was found away, and then to be back.
        let knock = || async {
            let before = told.lock().unwrap().len();
            if before == 0 { Err("nobody".to_owned()) } else { Ok(()) }
        };
        let hear = |presence, knocked: Result<(), String>| {
            let mut told = told.lock().unwrap();
            told.push((presence, knocked.is_ok()));
            if told.len() == 2 {
                ended.notify_one();
            }
        };
        for _ in 0..16 {
            calls.doubt.notify_one();
        }
        knocking_beside(ended.notified(), Some(knock), &mut rounds, &calls, &mut rng, hear).await;
        assert_eq!(*told.lock().unwrap(), [(Presence::Away, false), (Presence::There, true)]);
        assert!(begun.elapsed() >= Duration::from_secs(2), "no more than one attempt a second: {:?}", begun.elapsed());
    }

    #[test]
    fn no_channel_at_all_is_a_fault_of_a_recorder_that_had_some() {
        let known: BTreeMap<u32, String> = [(1, "Gate".to_owned()), (2, "Yard".to_owned())].into();
        let channel = |number| Channel { number, name: String::new(), online: None };
        assert!(no_channels(&BTreeMap::new(), &[]).is_none(), "one without cameras may have none");
        assert!(no_channels(&known, &[channel(1)]).is_none(), "some may go");
        let fault = no_channels(&known, &[]).unwrap();
        assert!(fault.kind == RecorderErrorKind::Protocol && fault.message.contains("had 2"), "{fault}");
    }
}
