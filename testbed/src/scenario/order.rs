//! Many cameras into a slow and failing bucket: the lists are complete and in order.

use std::time::Duration;

use serde_json::json;

use super::stage::{add, bucket, cameras, examine};
use super::{Outcome, Problems, Stage};
use crate::gcs::Knobs;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Order {
    /// How many cameras.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: u32,
    /// Frames of all cameras together after which it ends.
    pub frames: u64,
    /// Median of the bucket's lognormal latency, milliseconds.
    pub latency_ms: f64,
    /// Its sigma.
    pub sigma: f64,
    /// Share of requests answered 503.
    pub rate_503: f64,
    /// Seed of the bucket's dice.
    pub seed: u64,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn order(stage: &Stage, plan: &Order) -> anyhow::Result<Outcome> {
    let knobs = Knobs {
        latency_median_ms: plan.latency_ms,
        latency_sigma: plan.sigma,
        rate_503: plan.rate_503,
        seed: plan.seed,
        ..Knobs::default()
    };
    let (gcs, storage) = bucket(stage, knobs)?;
    let server = cameras("cam", plan.cameras, plan.fps)?;
    let daemon = stage.daemon(&storage, "")?;
    let ids = add(&daemon, &server)?;
    let share = plan.frames.div_ceil(plan.cameras as u64);
    let patience = Duration::from_secs(60 + 2 * share / u64::from(plan.fps));
    for id in &ids {
        daemon.wait_for(id, patience, |status| status.totals.captured >= share)?;
    }
    daemon.quiesce(Duration::from_secs(60))?;
    let faults = gcs.stats().injected.status_503;
    // The oracle's own reading is not what is tested.
    gcs.change_knobs(|knobs| knobs.rate_503 = 0.0)?;

    let mut problems = Problems::default();
    let (mut frames, mut repeats, mut missing, mut lost) = (0, 0, 0, 0);
    for id in &ids {
        let (verdict, entries) = examine(&daemon, &storage, id, &mut problems)?;
        problems.check(verdict.sessions == 1, || format!("camera {id}: {} sessions", verdict.sessions));
        for limit in [7, 100] {
            let same = daemon.list(id, limit)?.entries == entries;
            problems.check(same, || format!("camera {id}: pages of {limit} give another list than pages of 1000"));
        }
        frames += verdict.frames;
        repeats += verdict.repeats;
        missing += verdict.gaps + verdict.missing + verdict.seq_holes;
        lost += verdict.tombstoned;
    }
    problems.check(faults > 0 || plan.rate_503 == 0.0, || "no 503 was injected".to_owned());
    problems.check(lost == 0, || format!("{lost} frames were lost"));
    problems.check(frames >= plan.frames, || format!("only {frames} of {} frames", plan.frames));
    let bound = format!(
        "{} frames of {} cameras: seqs +1, pixels rise, 0 repeats, 0 missing, 0 lost; pages of 7, 100 and 1000 agree",
        plan.frames, plan.cameras
    );
    let figure = json!({ "frames": frames, "repeats": repeats, "missing": missing, "lost": lost });
    Ok(problems.outcome(bound, figure, faults))
}
