//! Tokens that expire long before their time, of a key file and of a metadata server: no frame is lost for it.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use super::stage::{BUCKET, add, cameras, counter, examine, until_streaming};
use super::{Outcome, Problems, Stage};
use crate::cameras::CameraServer;
use crate::daemon::{self, Daemon, Storage};
use crate::gcs::{AuthStats, GcsServer, Knobs, Options};

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// How many cameras stream to each of the two daemons.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: u32,
    /// How old a token gets. Each claims to live for an hour.
    pub expire_every: Duration,
    /// How long the cameras stream.
    pub lasts: Duration,
    /// How long the metadata server answers 404 half-way. A client may take that for final: it must not.
    pub outage: Duration,
    /// How long each upload takes, milliseconds: the more are under way, the more are refused at once.
    pub latency_ms: u64,
}

/// How often the accounts are looked at on the way.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long it may take from the end of an outage until an upload is let in again.
const RECOVERED_WITHIN: Duration = Duration::from_secs(60);
/// How long the frames in flight may take at the end. After an outage credentials are renewed within half a minute, and
/// a frame that failed often waits for up to a minute.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

/// A daemon, and the bucket that wants tokens of it.
struct Run {
    kind: &'static str,
    gcs: GcsServer,
    storage: Storage,
    daemon: Daemon,
    ids: Vec<String>,
    most_in_flight: u64,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn credentials(stage: &Stage, plan: &Credentials) -> anyhow::Result<Outcome> {
    let server = cameras("cam", plan.cameras, plan.fps)?;
    let mut key_file = start(stage, plan, "key-file", &server, |gcs, dir| {
        let path = dir.join("key.json");
        fs::write(&path, gcs.service_account_key()).context("cannot write the key file")?;
        Ok(daemon::Credentials::KeyFile(path))
    })?;
    let mut metadata =
        start(stage, plan, "metadata", &server, |gcs, _| Ok(daemon::Credentials::Metadata(gcs.metadata_host())))?;
    for run in [&key_file, &metadata] {
        until_streaming(&run.daemon, &run.ids, Duration::from_secs(30))?;
    }

    let mut problems = Problems::default();
    let begun = Instant::now();
    let mut outage = Outage::default();
    while begun.elapsed() < plan.lasts {
        outage.go_on(begun.elapsed(), plan, &metadata.gcs)?;
        for run in [&mut key_file, &mut metadata] {
            run.look(&mut problems)?;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let mended = outage.mended.context("the outage did not end while the cameras streamed: make it shorter")?;
    let recovered = daemon::wait(RECOVERED_WITHIN, || {
        outage.go_on(begun.elapsed(), plan, &metadata.gcs)?;
        Ok(outage.recovered)
    })
    .context("no upload was let in after the metadata server's outage")?;
    problems.check(recovered - mended < RECOVERED_WITHIN, || {
        format!("after the metadata server's outage the first upload was let in after {:?}", recovered - mended)
    });

    let mut faults = 0;
    let mut figure = serde_json::Map::new();
    for run in [&key_file, &metadata] {
        run.daemon.quiesce(SETTLED_WITHIN).with_context(|| format!("with credentials of kind {}", run.kind))?;
        let auth = run.gcs.stats().auth;
        let refused_tokens = run.gcs.stats().injected.tokens_refused;
        faults += auth.refused_expired + refused_tokens;
        problems.check(refused_tokens > 0 || run.kind == "key-file", || {
            "nobody asked the metadata server in its outage".to_owned()
        });
        run.check_tokens(plan, &auth, &mut problems);
        // The oracle has no token, and its own reading is not what is tested.
        run.gcs.change_knobs(|knobs| *knobs = Knobs::default())?;
        figure.insert(run.kind.to_owned(), run.judge(plan, &auth, refused_tokens, &mut problems)?);
    }
    let seconds = (recovered - mended).as_secs_f64();
    figure.insert("seconds_from_outage_to_first_upload".to_owned(), json!((seconds * 10.0).round() / 10.0));
    let bound = format!(
        "tokens of a key file and of a metadata server expire every {} s for {} s, the latter's server is out for {} s: \
         0 lost, pixels rise, uploads go on within {} s of the outage, renewals are few, no token in a log",
        plan.expire_every.as_secs_f64(),
        plan.lasts.as_secs(),
        plan.outage.as_secs(),
        RECOVERED_WITHIN.as_secs()
    );
    Ok(problems.outcome(bound, Value::Object(figure), faults))
}

/// The metadata server's outage, half-way. No token that was handed out before is good any more when it begins.
#[derive(Default)]
struct Outage {
    begun: bool,
    /// When it ended, and how many uploads had been let in until then.
    mended: Option<Duration>,
    accepted: u64,
    /// When the next one was let in.
    recovered: Option<Duration>,
}

impl Outage {
    fn go_on(&mut self, now: Duration, plan: &Credentials, gcs: &GcsServer) -> anyhow::Result<()> {
        let from = plan.lasts / 2;
        if !self.begun && now >= from {
            self.begun = true;
            gcs.change_knobs(|knobs| knobs.refuse_tokens_status = Some(404))?;
            gcs.expire_tokens();
        } else if self.mended.is_none() && now >= from + plan.outage {
            self.accepted = gcs.stats().auth.accepted;
            gcs.change_knobs(|knobs| knobs.refuse_tokens_status = None)?;
            self.mended = Some(now);
        } else if self.mended.is_some() && self.recovered.is_none() && gcs.stats().auth.accepted > self.accepted {
            self.recovered = Some(now);
        }
        Ok(())
    }
}

fn start(
    stage: &Stage,
    plan: &Credentials,
    kind: &'static str,
    cameras: &CameraServer,
    credentials: impl FnOnce(&GcsServer, &Path) -> anyhow::Result<daemon::Credentials>,
) -> anyhow::Result<Run> {
    let dir = stage.dir().join(kind);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let knobs = Knobs {
        require_auth: true,
        expire_tokens_after_s: Some(plan.expire_every.as_secs_f64()),
        latency_ms: plan.latency_ms,
        ..Knobs::default()
    };
    let root = Some(dir.join("bucket"));
    let gcs = GcsServer::start(Options { buckets: vec![BUCKET.to_owned()], root, knobs, ..Options::default() })?;
    let credentials = credentials(&gcs, &dir)?;
    let storage = Storage::Gcs { endpoint: gcs.endpoint(), bucket: BUCKET.to_owned(), credentials };
    let daemon = stage.daemon_in(kind, &storage, "")?;
    let ids = add(&daemon, cameras)?;
    Ok(Run { kind, gcs, storage, daemon, ids, most_in_flight: 0 })
}

impl Run {
    /// Looks at the accounts while the cameras stream.
    fn look(&mut self, problems: &mut Problems) -> anyhow::Result<()> {
        let mut in_flight = 0;
        for (id, status) in self.daemon.statuses()? {
            problems.check(status.totals.add_up() && status.totals.lost == 0, || {
                format!("{}: camera {id}: {:?}", self.kind, status.totals)
            });
            in_flight += status.totals.in_flight;
        }
        self.most_in_flight = self.most_in_flight.max(in_flight);
        Ok(())
    }

    /// Whether tokens were refused for their age and for nothing else, and no more were made than had to be.
    fn check_tokens(&self, plan: &Credentials, auth: &AuthStats, problems: &mut Problems) {
        let kind = self.kind;
        let expiries = (plan.lasts.as_secs_f64() / plan.expire_every.as_secs_f64()) as u64;
        let expected = expiries.saturating_sub(2).max(1);
        problems.check(auth.refused_expired >= expected, || {
            format!("{kind}: only {} expired tokens were refused, of {expected} or more", auth.refused_expired)
        });
        problems.check(auth.refused_missing == 0 && auth.refused_invalid == 0, || {
            format!("{kind}: refused for other reasons than age: {auth:?}")
        });
        // While the last frames settle some more may expire.
        let made = auth.tokens_issued + auth.jwts_met;
        problems.check(made <= 2 * (expiries + 3), || format!("{kind}: {made} tokens for {expiries} expiries"));
        let log = self.daemon.log_text();
        for secret in ["ya29.", "eyJ", "PRIVATE KEY"] {
            problems.check(!log.contains(secret), || format!("{kind}: `{secret}` stands in the log"));
        }
    }

    /// Judges what was stored.
    fn judge(
        &self,
        plan: &Credentials,
        auth: &AuthStats,
        refused_tokens: u64,
        problems: &mut Problems,
    ) -> anyhow::Result<Value> {
        let kind = self.kind;
        let (mut frames, mut lost, mut missing) = (0, 0, 0);
        for id in &self.ids {
            let (verdict, _) = examine(&self.daemon, &self.storage, id, problems)?;
            problems.check(verdict.sessions == 1, || format!("{kind}: camera {id}: {} sessions", verdict.sessions));
            frames += verdict.frames;
            lost += verdict.tombstoned;
            missing += verdict.gaps + verdict.missing + verdict.seq_holes;
        }
        problems.check(lost == 0, || format!("{kind}: {lost} frames were lost"));
        let wanted = plan.lasts.as_secs() * u64::from(plan.fps) * plan.cameras as u64 * 9 / 10;
        problems.check(frames >= wanted, || format!("{kind}: only {frames} frames, not {wanted}"));
        let conflicts = counter(&self.daemon, "framehaul_upload_conflicts_total", &[])?;
        problems.check(conflicts == 0, || format!("{kind}: {conflicts} frames met another object under their key"));
        Ok(json!({
            "frames": frames,
            "lost": lost,
            "missing": missing,
            "refused_expired": auth.refused_expired,
            "tokens_made": auth.tokens_issued + auth.jwts_met,
            "tokens_refused_in_the_outage": refused_tokens,
            "most_in_flight": self.most_in_flight,
        }))
    }
}
