//! What it costs in time that frames are on disk before they leave.

use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;

use super::super::stage::{add_synthetic, bucket, examine};
use super::super::{Outcome, Problems, Stage};
use super::{compare_stored_at, created, delays_ms, kept_up, percentile, round};
use crate::gcs::Knobs;
use crate::synthetic::Synthetic;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Durability {
    /// Cameras of each of the two daemons.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: f64,
    /// Bytes of each.
    pub bytes: usize,
    /// How long it is measured.
    pub lasts: Duration,
    /// The bucket's latency, milliseconds.
    pub latency_ms: u64,
    /// How many milliseconds more the median with `durability = "disk"` may be.
    pub most_ms: f64,
}

/// Runs the scenario: two daemons at once, so that whatever else the machine does happens to both.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn durability(stage: &Stage, plan: &Durability) -> anyhow::Result<Outcome> {
    let (gcs, storage) = bucket(stage, Knobs { latency_ms: plan.latency_ms, ..Knobs::default() })?;
    let config = stage.synthetic()?;
    let mut problems = Problems::default();
    let mut daemons = Vec::new();
    for kind in ["disk", "memory"] {
        let daemon = stage.daemon_in(kind, &storage, &format!("{config}[spool]\ndurability = \"{kind}\"\n"))?;
        let specs: Vec<Synthetic> =
            (0..plan.cameras).map(|i| Synthetic::new(&format!("cam{i}")).bytes(plan.bytes).fps(plan.fps)).collect();
        let ids = add_synthetic(&daemon, &specs)?;
        daemons.push((daemon, ids));
    }
    for (daemon, ids) in &daemons {
        for id in ids {
            daemon.wait_for(id, Duration::from_secs(30), |status| status.totals.stored > 5)?;
        }
    }
    let from = OffsetDateTime::now_utc();
    std::thread::sleep(plan.lasts);
    let to = OffsetDateTime::now_utc();
    let mut measured = Vec::new();
    let mut frames = Vec::new();
    for (daemon, ids) in &daemons {
        daemon.quiesce(Duration::from_secs(60))?;
        let mut delays = Vec::new();
        for id in ids {
            delays.extend(delays_ms(&daemon.list(id, 1_000)?.entries, from, to)?);
        }
        let what = daemon.dir().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let seconds = (to - from).as_seconds_f64();
        kept_up(&mut problems, &what, delays.len() as u64, plan.cameras, plan.fps, seconds);
        frames.push(delays.len());
        measured.push((percentile(&mut delays, 0.5)?, percentile(&mut delays, 0.99)?));
    }
    gcs.change_knobs(|knobs| *knobs = Knobs::default())?;
    let (created, mut apart) = (created(&gcs), 0.0_f64);
    for (daemon, ids) in &daemons {
        for id in ids {
            let (verdict, entries) = examine(daemon, &storage, id, &mut problems)?;
            let measured = (from, to);
            apart = apart.max(compare_stored_at(id, &entries, &created, measured, plan.latency_ms, &mut problems)?);
            problems.check(verdict.tombstoned == 0, || format!("camera {id}: {} lost", verdict.tombstoned));
        }
    }
    let [(disk, disk_p99), (memory, memory_p99)] = measured[..] else { unreachable!("two daemons were measured") };
    problems.check(disk - memory <= plan.most_ms, || {
        format!("the median is {disk:.1} ms on disk, {memory:.1} ms in memory: {:.1} ms more", disk - memory)
    });
    let bound = format!("capture to stored, median: on disk at most {} ms above in memory", plan.most_ms);
    let figure = json!({
        "disk_p50_ms": round(disk),
        "memory_p50_ms": round(memory),
        "more_ms": round(disk - memory),
        "disk_p99_ms": round(disk_p99),
        "memory_p99_ms": round(memory_p99),
        "frames": frames,
        "stored_at_after_the_buckets_own_at_most_ms": round(apart),
    });
    Ok(problems.measured(bound, figure))
}
