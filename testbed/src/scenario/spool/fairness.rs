//! One camera gives ten times its share: the others wait hardly longer for it.

use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;

use super::super::stage::{add_synthetic, bucket, counter_in, examine};
use super::super::{Outcome, Problems, Stage};
use super::{Watch, compare_stored_at, created, delays_ms, kept_up, percentile, round};
use crate::daemon::Daemon;
use crate::gcs::Knobs;
use crate::synthetic::Synthetic;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Fairness {
    /// Cameras beside the one that floods.
    pub others: usize,
    /// Frames a second of each of them: below their share.
    pub fps: f64,
    /// How many times its share the flooding one gives.
    pub times: f64,
    /// Bytes of a frame.
    pub bytes: usize,
    /// Uploads at the same time.
    pub workers: u64,
    /// The bucket's latency, milliseconds, with which the number of workers bounds what can be uploaded.
    pub latency_ms: u64,
    /// How long is measured, without the flood and with it.
    pub lasts: Duration,
    /// How many times the others' p99 without the flood it may be with it.
    pub factor: f64,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn fairness(stage: &Stage, plan: &Fairness) -> anyhow::Result<Outcome> {
    let (gcs, storage) = bucket(stage, Knobs { latency_ms: plan.latency_ms, ..Knobs::default() })?;
    let config = format!("{}[upload]\nworkers = {}\n", stage.synthetic()?, plan.workers);
    let daemon = stage.daemon(&storage, &config)?;
    let specs: Vec<Synthetic> =
        (0..plan.others).map(|i| Synthetic::new(&format!("cam{i}")).bytes(plan.bytes).fps(plan.fps)).collect();
    let ids = add_synthetic(&daemon, &specs)?;
    for id in &ids {
        daemon.wait_for(id, Duration::from_secs(30), |status| status.totals.stored > 5)?;
    }
    let mut problems = Problems::default();
    let mut watch = Watch::default();
    let (calm, slow_before) = (OffsetDateTime::now_utc(), slow_syncs(&daemon)?);
    watch.during(&daemon, plan.lasts, &mut problems)?;
    let slow_without = slow_syncs(&daemon)? - slow_before;
    let share = plan.workers as f64 * 1e3 / plan.latency_ms as f64 / (plan.others + 1) as f64;
    let flood = Synthetic::new("flood").bytes(plan.bytes).fps(plan.times * share);
    let flood_id = add_synthetic(&daemon, std::slice::from_ref(&flood))?.remove(0);
    // Until the flood has all that it can get.
    let busy =
        daemon.wait_for(&flood_id, Duration::from_secs(60), |status| status.totals.in_flight > 4 * plan.workers)?;
    let (flooded, slow_before) = (OffsetDateTime::now_utc(), slow_syncs(&daemon)?);
    watch.during(&daemon, plan.lasts, &mut problems)?;
    let (over, slow_with) = (OffsetDateTime::now_utc(), slow_syncs(&daemon)? - slow_before);
    let flood_now = daemon.status(&flood_id)?.totals;
    let stored = flood_now.stored - busy.totals.stored;
    let share_got = stored as f64 / (over - flooded).as_seconds_f64() / share;
    let share_given = (flood_now.captured - busy.totals.captured) as f64 / (over - flooded).as_seconds_f64() / share;
    problems.check(share_given >= 0.9 * plan.times, || {
        format!("the flood was {share_given:.1} times its share, {} times was to be", plan.times)
    });
    // The rest of the flood is of no interest, and would take long.
    gcs.change_knobs(|knobs| *knobs = Knobs::default())?;
    daemon.quiesce(Duration::from_secs(120)).map_err(|error| daemon.explain(error))?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let (created, mut apart) = (created(&gcs), 0.0_f64);
    let calm_to = flooded.min(calm + plan.lasts);
    for id in &ids {
        let (verdict, entries) = examine(&daemon, &storage, id, &mut problems)?;
        problems.check(verdict.tombstoned == 0, || format!("camera {id}: {} lost", verdict.tombstoned));
        without.extend(delays_ms(&entries, calm, calm_to)?);
        with.extend(delays_ms(&entries, flooded, over)?);
        apart = apart.max(compare_stored_at(id, &entries, &created, (calm, over), plan.latency_ms, &mut problems)?);
    }
    for (what, frames, seconds) in [
        ("without the flood", without.len(), (calm_to - calm).as_seconds_f64()),
        ("with the flood", with.len(), (over - flooded).as_seconds_f64()),
    ] {
        kept_up(&mut problems, what, frames as u64, plan.others, plan.fps, seconds);
    }
    examine(&daemon, &storage, &flood_id, &mut problems)?;
    let (calm_p99, flood_p99) = (percentile(&mut without, 0.99)?, percentile(&mut with, 0.99)?);
    problems.check(flood_p99 <= plan.factor * calm_p99, || {
        format!("the others' p99 is {flood_p99:.0} ms with the flood, {calm_p99:.0} ms without")
    });
    let bound = format!(
        "one camera at {} times its share: the others' capture to stored p99 at most {} times theirs without it",
        plan.times, plan.factor
    );
    let figure = json!({
        "p99_without_ms": round(calm_p99),
        "p99_with_ms": round(flood_p99),
        "p50_without_ms": round(percentile(&mut without, 0.5)?),
        "p50_with_ms": round(percentile(&mut with, 0.5)?),
        "frames_without": without.len(),
        "frames_with": with.len(),
        "share_per_s": round(share),
        "flood_gave_shares": round(share_given),
        "flood_got_shares": round(share_got),
        "syncs_over_250_ms_without": slow_without,
        "syncs_over_250_ms_with": slow_with,
        "stored_at_after_the_buckets_own_at_most_ms": round(apart),
    });
    Ok(problems.measured(bound, figure))
}

/// Commits of the spool so far for which the disk took long. A disk that stands still for a second holds up all cameras,
/// with the flood and without, and a percentile of one minute tells that of the disk, not of the turns.
fn slow_syncs(daemon: &Daemon) -> anyhow::Result<u64> {
    let name = "framehaul_spool_fsync_duration_seconds";
    let metrics = daemon.get("/metrics")?;
    let quick = counter_in(&metrics, &format!("{name}_bucket"), &["le=\"0.25\""])?;
    Ok(counter_in(&metrics, &format!("{name}_count"), &[])? - quick)
}
