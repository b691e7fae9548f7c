//! Cameras without video beside a real one: the test bed's own tool, tried before anything is built on it.

use std::time::{Duration, Instant};

use serde_json::json;

use super::stage::{add, add_synthetic, bucket, cameras, examine};
use super::{Outcome, Problems, Stage};
use crate::gcs::Knobs;
use crate::oracle::Entry;
use crate::synthetic::Synthetic;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Pictures {
    /// How many synthetic cameras.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: f64,
    /// Bytes of each picture.
    pub bytes: usize,
    /// How many frames each has to give.
    pub frames: u64,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn pictures(stage: &Stage, plan: &Pictures) -> anyhow::Result<Outcome> {
    let (gcs, storage) = bucket(stage, Knobs { latency_ms: 20, ..Knobs::default() })?;
    let server = cameras("real", 1, 10)?;
    let daemon = stage.daemon(&storage, &stage.synthetic()?)?;
    let specs: Vec<Synthetic> = (0..plan.cameras)
        .map(|i| Synthetic::new(&format!("cam{i}")).fps(plan.fps).bytes(plan.bytes).missing(50, 70))
        .collect();
    let mut problems = Problems::default();
    let real = add(&daemon, &server)?;
    let begun = Instant::now();
    let ids = add_synthetic(&daemon, &specs)?;
    daemon.wait_for(&ids[0], Duration::from_secs(10), |status| status.totals.captured > 0)?;
    let first_frame = begun.elapsed();
    let patience = Duration::from_secs(60) + Duration::from_secs_f64(3.0 * plan.frames as f64 / plan.fps);
    for id in &ids {
        daemon.wait_for(id, patience, |status| status.totals.captured >= plan.frames)?;
    }
    daemon.wait_for(&real[0], Duration::from_secs(30), |status| status.totals.captured > 0)?;
    daemon.quiesce(Duration::from_secs(60))?;
    // The oracle's own reading is not what is tested.
    gcs.change_knobs(|knobs| *knobs = Knobs::default())?;

    let (mut frames, mut missed) = (0, 0);
    for (id, spec) in ids.iter().zip(&specs) {
        let (verdict, entries) = examine(&daemon, &storage, id, &mut problems)?;
        problems.check(verdict.number == Some(spec.number), || format!("camera {id}: number {:?}", verdict.number));
        problems.check(verdict.sessions == 1, || format!("camera {id}: {} sessions", verdict.sessions));
        for entry in &entries {
            match entry {
                Entry::Tombstone { seq, last, reason, maybe_stored: false, .. } => {
                    let expected = if reason == "corrupt" { 2 } else { 1 };
                    let known = matches!(reason.as_str(), "corrupt" | "overrun") && last - seq + 1 == expected;
                    problems.check(known, || format!("camera {id}: {seq} to {last} lost({reason})"));
                }
                Entry::Tombstone { seq, .. } => {
                    problems.check(false, || format!("camera {id}: seq {seq} may be stored, and nobody tried"));
                }
                Entry::Frame(frame) => {
                    problems.check(frame.bytes == plan.bytes as u64, || format!("{}: {}", frame.url, frame.bytes));
                }
                Entry::Session { .. } => {}
            }
        }
        frames += verdict.frames;
        missed += verdict.tombstoned;
    }
    let (verdict, _) = examine(&daemon, &storage, &real[0], &mut problems)?;
    problems.check(verdict.frames > 0 && verdict.tombstoned == 0, || format!("the real camera: {verdict:?}"));
    problems.check(frames >= plan.cameras as u64 * (plan.frames * 8 / 10), || format!("only {frames} frames"));
    let bound = format!("{} synthetic cameras: lists and pixels are right, what they missed is told", plan.cameras);
    let figure = json!({
        "frames": frames,
        "missed": missed,
        "frames_of_the_real_camera": verdict.frames,
        "first_frame_listed_after_ms": first_frame.as_millis() as u64,
    });
    Ok(problems.outcome(bound, figure, missed))
}
