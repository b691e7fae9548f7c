//! A bucket that does not answer, in each way that a network knows: every attempt ends in time, the workers come back,
//! and another bucket does not feel it.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::super::spool::{Watch, delays_ms, percentile, round};
use super::super::stage::{BUCKET, add_synthetic, bucket, counter, examine};
use super::super::{Outcome, Problems, Stage};
use super::{Captured, synthetic, totals_of};
use crate::daemon::{Credentials, Daemon, Storage, wait};
use crate::gcs::{GcsServer, Knobs, Options};
use crate::proxy::{self, Fault, Proxy, Rule, Script, Way};

/// The other bucket, and its destination's name.
const OTHER: &str = "direct";

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Silent {
    /// Cameras whose frames go through the proxy.
    pub cameras: usize,
    /// Cameras whose frames go straight to another bucket.
    pub others: usize,
    /// Frames a second of each.
    pub fps: f64,
    /// Bytes of each.
    pub bytes: usize,
    /// The latency of both buckets, milliseconds.
    pub latency_ms: u64,
    /// `upload.deadline`.
    pub deadline: Duration,
    /// How much later than its deadline a client may be seen to go.
    pub slack: Duration,
    /// How long the others are measured while all is well.
    pub calm: Duration,
    /// How long each of the ways lasts.
    pub lasts: Duration,
    /// Attempts that may still be made on the silent bucket then: one probe a second, each up to its deadline.
    pub probes: u64,
    /// How soon after each way the workers must be back at work, and its backlog gone.
    pub recovers: Duration,
    /// How many times the others' p99 of the calm it may be at most.
    pub factor: f64,
}

/// `upload.min_rate`, as it is by default.
const MIN_RATE: f64 = 65_536.0;

/// So long before a silence what it meets on its way may have begun: where new connections pass, it may meet nothing else.
/// Every backlog before it is gone by then.
const IN_THE_AIR: Duration = Duration::from_secs(1);

/// A way in which a bucket is silent.
struct Silence {
    name: &'static str,
    script: Script,
    /// Until the script changes, whatever is tried.
    stays: bool,
}

/// Those that need no TLS.
fn silences() -> [Silence; 4] {
    let slow = |way| Rule { share: 1.0, fault: Fault::Bandwidth { way, bytes_per_s: 1 } };
    let both = Script { seed: 0, rules: vec![slow(Way::ToServer), slow(Way::ToClient)] };
    // What is asked is done, and its answer never comes to its end.
    let answers = Script { seed: 0, rules: vec![slow(Way::ToClient)] };
    let standing = Script::all(Fault::BlackholeStanding);
    [
        Silence { name: "no_answer", script: Script::all(Fault::Blackhole), stays: true },
        Silence { name: "one_byte_a_second", script: both, stays: true },
        Silence { name: "answers_at_one_byte_a_second", script: answers, stays: true },
        Silence { name: "standing_connections_swallowed", script: standing, stays: false },
    ]
}

/// What runs.
struct Bed {
    dir: &'static str,
    /// Both buckets, without the proxy.
    direct: Storage,
    other: Storage,
    proxy: Proxy,
    daemon: Daemon,
    /// Through the proxy.
    ids: Vec<String>,
    other_ids: Vec<String>,
    servers: [GcsServer; 2],
}

/// A time to be looked at, by both clocks.
struct Window {
    name: &'static str,
    from: (OffsetDateTime, Instant),
    to: (OffsetDateTime, Instant),
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn silent(stage: &Stage, plan: &Silent) -> anyhow::Result<Outcome> {
    let (mut problems, mut figures) = (Problems::default(), Map::new());
    let (mut faults, calm) = over_http(stage, plan, &mut problems, &mut figures)?;
    faults += over_tls(stage, plan, calm, &mut problems, &mut figures)?;
    let bound = format!(
        "a bucket that does not answer, takes 1 byte a second, gives 1 byte a second of its answers, swallows what goes over \
         standing connections, or does not answer a ClientHello, for {:?} each: every attempt ends within {:?} and its size's \
         share, at most {} are made at its end, its backlog is gone {:?} later, 0 lost; another bucket's p99 at most {} times \
         that without it",
        plan.lasts, plan.deadline, plan.probes, plan.recovers, plan.factor
    );
    Ok(problems.outcome(bound, Value::Object(figures), faults))
}

/// All that can be done on plain HTTP, one after the other. Returns how many faults there were, and the other bucket's
/// p99 while all was well.
fn over_http(
    stage: &Stage,
    plan: &Silent,
    problems: &mut Problems,
    figures: &mut Map<String, Value>,
) -> anyhow::Result<(u64, Option<f64>)> {
    let bed = Bed::start(stage, plan, "http")?;
    let mut watch = Watch::default();
    let all = (plan.cameras + plan.others) as u64;
    watch.until(&bed.daemon, Duration::from_secs(60), problems, |totals| totals.stored > 5 * all)?;
    let mut windows = vec![bed.calm(plan, &mut watch, problems)?];
    for silence in silences() {
        let mut figure = Map::new();
        let window = bed.hush(&silence, plan, &mut watch, problems, &mut figure)?;
        let captured = Captured::now(&bed.daemon, &bed.ids)?;
        let gone = captured.until_settled(&bed.daemon, plan.recovers, &mut watch, problems);
        problems.check(gone.is_ok(), || format!("{}: {:?} later its backlog is not gone", window.name, plan.recovers));
        figure.insert("backlog_gone_after_s".to_owned(), json!(round(window.to.1.elapsed().as_secs_f64())));
        bed.check_attempts(&window, plan, problems, &mut figure);
        figures.insert(window.name.to_owned(), figure.into());
        windows.push(window);
    }
    let calm = bed.judge(plan, &windows, None, problems, figures)?;
    Ok((bed.proxy.stats().injected.total(), calm))
}

/// A daemon that speaks TLS to the proxy and hears nothing, from its first connection on: what is `calm` for the other
/// bucket was measured without. It trusts no certificate of ours, so that its frames are stored by the next one, which is
/// told another endpoint.
fn over_tls(
    stage: &Stage,
    plan: &Silent,
    calm: Option<f64>,
    problems: &mut Problems,
    figures: &mut Map<String, Value>,
) -> anyhow::Result<u64> {
    let mut bed = Bed::start(stage, plan, "https")?;
    let mut watch = Watch::default();
    if plan.others > 0 {
        let others = plan.others as u64;
        watch.until(&bed.daemon, Duration::from_secs(60), problems, |totals| totals.stored > 5 * others)?;
    }
    let silence = Silence { name: "tls_stall", script: Script::all(Fault::TlsStall), stays: true };
    let mut figure = Map::new();
    let window = bed.hush(&silence, plan, &mut watch, problems, &mut figure)?;
    // Now it is answered, by somebody who speaks no TLS: what hung ends in time, and no attempt hangs any more.
    let back = wait(plan.deadline + plan.slack + Duration::from_secs(1), || {
        watch.look(&bed.daemon, problems)?;
        Ok((in_flight(&bed.daemon)? == 0).then_some(()))
    });
    problems.check(back.is_ok(), || format!("{}: attempts are still being made after their deadline", window.name));
    let end = bed.daemon.stop()?;
    ensure!(end.success(), "the daemon ended with {end}");
    bed.check_attempts(&window, plan, problems, &mut figure);
    let stalls = bed.proxy.stats().injected.total();
    bed.daemon = prepare(stage, plan, bed.dir, &bed.endpoint("http"), &bed.other)?;
    bed.daemon.run()?;
    bed.judge(plan, &[window], calm, problems, &mut figure)?;
    figures.insert(silence.name.to_owned(), figure.into());
    Ok(stalls)
}

/// A daemon with both destinations: the first is at `endpoint`.
fn prepare(stage: &Stage, plan: &Silent, dir: &str, endpoint: &str, other: &Storage) -> anyhow::Result<Daemon> {
    let storage =
        Storage::Gcs { endpoint: endpoint.to_owned(), bucket: BUCKET.to_owned(), credentials: Credentials::Anonymous };
    // At its end nobody waits for attempts that nothing will answer.
    // A manifest that has gathered in a silence may be many times a frame's size, and its deadline longer: here every
    // attempt's is to be a frame's.
    let mut more = format!(
        "{}[manifests]\nenabled = false\n[shutdown]\ndeadline = \"1s\"\n[upload]\ndeadline = \"{}ms\"\n",
        stage.synthetic()?,
        plan.deadline.as_millis()
    );
    if let (Storage::Gcs { endpoint, bucket, .. }, 1..) = (other, plan.others) {
        let (url, endpoint) = (json!(format!("gs://{bucket}")), json!(endpoint));
        more += &format!("[destinations.{OTHER}]\nurl = {url}\nendpoint = {endpoint}\ncredentials = \"anonymous\"\n");
    }
    stage.prepare_in(dir, &storage, &more)
}

impl Bed {
    /// With its cameras streaming. `scheme` is what the daemon speaks to the proxy.
    fn start(stage: &Stage, plan: &Silent, scheme: &'static str) -> anyhow::Result<Bed> {
        let knobs = Knobs { latency_ms: plan.latency_ms, ..Knobs::default() };
        let (server, direct) = bucket(stage, knobs.clone())?;
        let root = Some(stage.dir().join(OTHER));
        let other = GcsServer::start(Options { buckets: vec![OTHER.to_owned()], root, knobs, ..Options::default() })?;
        let other_storage =
            Storage::Gcs { endpoint: other.endpoint(), bucket: OTHER.to_owned(), credentials: Credentials::Anonymous };
        let target = server.endpoint().trim_start_matches("http://").to_owned();
        // With TLS nothing comes through from the beginning: nobody is there who could answer.
        let script = if scheme == "https" { Script::all(Fault::TlsStall) } else { Script::default() };
        let proxy = Proxy::start(proxy::Options { port: 0, target, script })?;
        let endpoint = format!("{scheme}://127.0.0.1:{}", proxy.port());
        let mut daemon = prepare(stage, plan, scheme, &endpoint, &other_storage)?;
        daemon.run()?;
        let ids = add_synthetic(&daemon, &synthetic("cam", plan.cameras, plan.fps, plan.bytes))?;
        let mut other_ids = Vec::new();
        for camera in synthetic("other", plan.others, plan.fps, plan.bytes) {
            let mut request = camera.request();
            request["destination"] = json!(OTHER);
            daemon.put_camera(&camera.name, &request)?;
            other_ids.push(camera.name);
        }
        let servers = [server, other];
        Ok(Bed { dir: scheme, direct, other: other_storage, proxy, daemon, ids, other_ids, servers })
    }

    fn endpoint(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.proxy.port())
    }

    /// Measures how it is while all is well.
    fn calm(&self, plan: &Silent, watch: &mut Watch, problems: &mut Problems) -> anyhow::Result<Window> {
        let from = now();
        watch.during(&self.daemon, plan.calm, problems)?;
        Ok(Window { name: "calm", from, to: now() })
    }

    /// Has the proxy silent for a while.
    fn hush(
        &self,
        silence: &Silence,
        plan: &Silent,
        watch: &mut Watch,
        problems: &mut Problems,
        figure: &mut Map<String, Value>,
    ) -> anyhow::Result<Window> {
        let name = silence.name;
        let from = now();
        self.proxy.set_script(silence.script.clone())?;
        watch.during(&self.daemon, plan.lasts, problems)?;
        if silence.stays {
            let (mut most, until) = (0, Instant::now() + Duration::from_secs(2));
            while Instant::now() < until {
                watch.look(&self.daemon, problems)?;
                most = most.max(in_flight(&self.daemon)?);
            }
            // There is always one, or nothing was counted.
            problems.check((1..=plan.probes).contains(&most), || {
                format!("{name}: {most} attempts are made at the end of {:?}, 1 to {} may", plan.lasts, plan.probes)
            });
            figure.insert("attempts_made_at_its_end".to_owned(), json!(most));
        }
        let backlog = totals_of(&self.daemon, &self.ids)?.in_flight;
        figure.insert("backlog".to_owned(), json!(backlog));
        let to = now();
        self.proxy.set_script(Script::default())?;
        Ok(Window { name, from, to })
    }

    /// Whether every attempt that was not answered has ended in time.
    fn check_attempts(&self, window: &Window, plan: &Silent, problems: &mut Problems, figure: &mut Map<String, Value>) {
        let all = self.proxy.unanswered();
        let from = window.from.1 - IN_THE_AIR;
        let waited: Vec<Duration> =
            all.iter().filter(|one| (from..window.to.1).contains(&one.since)).map(|one| one.waited).collect();
        let longest = waited.iter().copied().max().unwrap_or_default();
        let deadline = plan.deadline + Duration::from_secs_f64(plan.bytes as f64 / MIN_RATE);
        problems.check(longest <= deadline + plan.slack, || {
            format!("{}: an attempt took {longest:?}, its deadline is {deadline:?}", window.name)
        });
        // Where none came near it, it was not the deadline that ended them.
        problems.check(longest >= deadline.mul_f64(0.8), || {
            format!("{}: of {} attempts the longest took {longest:?}", window.name, waited.len())
        });
        figure.insert("attempts_without_an_answer".to_owned(), json!(waited.len()));
        figure.insert("longest_attempt_s".to_owned(), json!((longest.as_secs_f64() * 1e3).round() / 1e3));
    }

    /// Ends the cameras and looks at what was stored, and how late the others were: against their p99 of the calm, or that
    /// of the first window. Returns that.
    fn judge(
        &self,
        plan: &Silent,
        windows: &[Window],
        calm: Option<f64>,
        problems: &mut Problems,
        figures: &mut Map<String, Value>,
    ) -> anyhow::Result<Option<f64>> {
        self.daemon.quiesce(Duration::from_secs(120)).map_err(|error| self.daemon.explain(error))?;
        for server in &self.servers {
            // The oracle's own reading is not what is tested.
            server.change_knobs(|knobs| *knobs = Knobs::default())?;
        }
        let left = in_flight(&self.daemon)?;
        problems.check(left == 0, || format!("{left} attempts are still being made, and no frame is in flight"));
        let mut delays: Vec<Vec<f64>> = vec![Vec::new(); windows.len()];
        let mut stored = 0;
        for id in &self.ids {
            let (verdict, _) = examine(&self.daemon, &self.direct, id, problems)?;
            problems.check(verdict.tombstoned == 0, || format!("camera {id}: {} lost", verdict.tombstoned));
            stored += verdict.frames;
        }
        for id in &self.other_ids {
            let (verdict, entries) = examine(&self.daemon, &self.other, id, problems)?;
            problems.check(verdict.tombstoned == 0, || format!("camera {id}: {} lost", verdict.tombstoned));
            stored += verdict.frames;
            for (delays, window) in delays.iter_mut().zip(windows) {
                delays.extend(delays_ms(&entries, window.from.0, window.to.0)?);
            }
        }
        figures.insert("stored".to_owned(), json!(stored));
        if self.other_ids.is_empty() {
            return Ok(None);
        }
        let calm = calm.map_or_else(|| percentile(&mut delays[0], 0.99), Ok)?;
        let mut p99 = Map::new();
        for (delays, window) in delays.iter_mut().zip(windows) {
            let found = percentile(delays, 0.99)?;
            problems.check(found <= plan.factor * calm, || {
                format!("{}: the other bucket's p99 is {found:.0} ms, and {calm:.0} ms without", window.name)
            });
            p99.insert(window.name.to_owned(), json!({ "ms": round(found), "frames": delays.len() }));
        }
        figures.insert("p99_of_the_other_bucket".to_owned(), p99.into());
        Ok(Some(calm))
    }
}

fn now() -> (OffsetDateTime, Instant) {
    (OffsetDateTime::now_utc(), Instant::now())
}

/// Attempts that are being made to reach the first bucket.
fn in_flight(daemon: &Daemon) -> anyhow::Result<u64> {
    // By its destination's name, or by its bucket's.
    let of = |label: &str| counter(daemon, "framehaul_uploads_in_flight", &[&format!("destination=\"{label}\"")]);
    Ok(of("default")? + of(&format!("gs://{BUCKET}"))?)
}
