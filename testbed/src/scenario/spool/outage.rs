//! The bucket is away for long while cameras stream: everything is stored afterwards, in order, at the bucket's own
//! pace.

use std::time::{Duration, Instant};

use serde_json::json;
use time::OffsetDateTime;

use super::super::stage::{BUCKET, add_synthetic, examine};
use super::super::{Outcome, Problems, Stage};
use super::{Watch, compare_stored_at, created, delays_ms, kept_up, percentile, round};
use crate::daemon::{Credentials, Storage};
use crate::gcs::{GcsServer, Knobs, Options};
use crate::load::uploads_per_s;
use crate::synthetic::Synthetic;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Outage {
    /// How many cameras.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: f64,
    /// Bytes of each.
    pub bytes: usize,
    /// How long the bucket is away: half of the time it answers 503, half of it never.
    pub lasts: Duration,
    /// The bucket's latency, milliseconds.
    pub latency_ms: u64,
    /// What it takes in a second, from all clients together.
    pub uploads_per_s: u64,
    /// The share of a load generator's best rate at which the backlog must go.
    pub share: f64,
    /// How late live frames may be once it is gone, milliseconds.
    pub live_ms: f64,
    /// How long they are looked at.
    pub live: Duration,
    /// Connections that the load generator tries, one after the other, and for how long each.
    pub load: (&'static [usize], Duration),
}

/// Where its objects go.
const LOAD: &str = "load";

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn outage(stage: &Stage, plan: &Outage) -> anyhow::Result<Outcome> {
    let knobs = Knobs { latency_ms: plan.latency_ms, uploads_per_s: Some(plan.uploads_per_s), ..Knobs::default() };
    let gcs = GcsServer::start(Options {
        buckets: vec![BUCKET.to_owned(), LOAD.to_owned()],
        root: Some(stage.dir().join("bucket")),
        knobs,
        ..Options::default()
    })?;
    let storage =
        Storage::Gcs { endpoint: gcs.endpoint(), bucket: BUCKET.to_owned(), credentials: Credentials::Anonymous };
    let daemon = stage.daemon(&storage, &stage.synthetic()?)?;
    let specs: Vec<Synthetic> =
        (0..plan.cameras).map(|i| Synthetic::new(&format!("cam{i}")).bytes(plan.bytes).fps(plan.fps)).collect();
    let ids = add_synthetic(&daemon, &specs)?;
    let mut problems = Problems::default();
    let mut watch = Watch::default();
    let each = plan.cameras as u64;
    let start = watch.until(&daemon, Duration::from_secs(60), &mut problems, |totals| totals.stored > 5 * each)?;
    let begun = Instant::now();

    gcs.change_knobs(|knobs| knobs.refuse_status = Some(503))?;
    watch.during(&daemon, plan.lasts / 2, &mut problems)?;
    gcs.change_knobs(|knobs| (knobs.refuse_status, knobs.rate_hang) = (None, 1.0))?;
    let away = watch.during(&daemon, plan.lasts / 2, &mut problems)?;
    let in_outage = (away.captured - start.captured, begun.elapsed().as_secs_f64());
    kept_up(&mut problems, "during the outage", in_outage.0, plan.cameras, plan.fps, in_outage.1);
    let resident = daemon.resident_kib()? as f64 / 1_024.0;
    gcs.change_knobs(|knobs| knobs.rate_hang = 0.0)?;
    let returned = Instant::now();
    let before = gcs.stats();
    // What cameras give and the bucket takes in its latency is always on its way.
    let live_backlog = (plan.fps * plan.cameras as f64 * (1.0 + 2.0 * plan.latency_ms as f64 / 1e3)) as u64;
    let frames = away.in_flight as f64;
    let spare = plan.uploads_per_s as f64 - plan.fps * plan.cameras as f64;
    let patience = Duration::from_secs_f64(120.0 + 4.0 * frames / spare);
    let (mut first, mut half) = (None, None);
    watch.until(&daemon, patience, &mut problems, |totals| {
        let stored = gcs.stats().puts_stored;
        if stored > before.puts_stored {
            first.get_or_insert((Instant::now(), stored));
        }
        if totals.in_flight < away.in_flight / 2 {
            half.get_or_insert((Instant::now(), stored));
        }
        totals.in_flight <= live_backlog
    })?;
    let gone = Instant::now();
    let end = gcs.stats().puts_stored;
    let (first_at, first_stored) = first.unwrap_or((returned, before.puts_stored));
    let drained = (end - first_stored) as f64 / (gone - first_at).as_secs_f64();
    let second_half = half.map_or(f64::NAN, |(at, stored)| (end - stored) as f64 / (gone - at).as_secs_f64());

    let live_from = OffsetDateTime::now_utc();
    let end_of_live = watch.during(&daemon, plan.live, &mut problems)?;
    let given = (end_of_live.captured - start.captured, begun.elapsed().as_secs_f64());
    let share_given = kept_up(&mut problems, "from the outage on", given.0, plan.cameras, plan.fps, given.1);
    let live_to = OffsetDateTime::now_utc();
    daemon.quiesce(Duration::from_secs(60)).map_err(|error| daemon.explain(error))?;

    let mut rates = Vec::new();
    for &connections in plan.load.0 {
        let rate = uploads_per_s(&gcs.endpoint(), LOAD, plan.bytes, connections, plan.load.1)?;
        rates.push((connections, rate));
    }
    let (best_connections, best) =
        rates.iter().copied().fold((0, 0.0), |best, one| if one.1 > best.1 { one } else { best });
    problems.check(drained >= plan.share * best, || {
        format!(
            "the backlog went at {drained:.0} frames a second; {best:.0} can be had with {best_connections} connections"
        )
    });

    gcs.change_knobs(|knobs| *knobs = Knobs::default())?;
    let (mut delays, mut apart) = (Vec::new(), 0.0_f64);
    let mut stored = 0;
    let created = created(&gcs);
    for id in &ids {
        let (verdict, entries) = examine(&daemon, &storage, id, &mut problems)?;
        stored += verdict.frames;
        problems.check(verdict.tombstoned == 0, || format!("camera {id}: {} lost", verdict.tombstoned));
        problems.check(verdict.sessions == 1, || format!("camera {id}: {} sessions", verdict.sessions));
        delays.extend(delays_ms(&entries, live_from, live_to)?);
        let live = (live_from, live_to);
        apart = apart.max(compare_stored_at(id, &entries, &created, live, plan.latency_ms, &mut problems)?);
    }
    let latest = percentile(&mut delays, 1.0)?;
    problems.check(latest <= plan.live_ms, || format!("a live frame was stored {latest:.0} ms after its capture"));
    let injected = before.injected;
    problems.check(injected.refused > 0 && injected.hangs > 0, || {
        format!("the bucket has answered 503 {} times and {} times not at all", injected.refused, injected.hangs)
    });
    let bound = format!(
        "{} cameras at {} fps for {:?} without a bucket: all stored afterwards, in order, at {} or more of a load generator's \
         best rate at a bucket that takes {} uploads a second, each for {} ms or more; live frames at most {} ms late after that",
        plan.cameras, plan.fps, plan.lasts, plan.share, plan.uploads_per_s, plan.latency_ms, plan.live_ms
    );
    let figure = json!({
        "backlog": away.in_flight,
        "resident_with_the_backlog_mib": round(resident),
        "stored": stored,
        "first_stored_after_s": round((first_at - returned).as_secs_f64()),
        "drained_in_s": round((gone - returned).as_secs_f64()),
        "drained_per_s": round(drained),
        "drained_per_s_from_the_return": round((end - before.puts_stored) as f64 / (gone - returned).as_secs_f64()),
        "second_half_per_s": round(second_half),
        "load_generator_per_s": round(best),
        "load_generator_connections": best_connections,
        "latest_live_frame_ms": round(latest),
        "live_frames": delays.len(),
        "stored_at_after_the_buckets_own_at_most_ms": round(apart),
        "captured_share_of_given": share_given,
        "answers_503": injected.refused,
        "hangs": injected.hangs,
        "looks_at_the_accounts": watch.looks,
    });
    Ok(problems.outcome(bound, figure, injected.refused + injected.hangs))
}
