//! What a backlog costs in memory, where there is no bucket at all.

use std::time::{Duration, Instant};

use anyhow::ensure;
use hyper::Method;
use serde_json::json;

use super::super::stage::add_synthetic;
use super::super::{Outcome, Problems, Stage};
use super::{Watch, round};
use crate::daemon::{Credentials, Daemon, Storage};
use crate::spooled::records;
use crate::synthetic::Synthetic;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Backlog {
    /// Frames of the backlog that is the measure.
    pub small: u64,
    /// Frames of the other.
    pub large: u64,
    /// Bytes of each.
    pub bytes: usize,
    /// How many cameras.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: f64,
    /// How much more memory the large one may take, MiB.
    pub most_mib: f64,
    /// How long a start may take with it.
    pub ready: Duration,
}

/// Looks at the resident memory, of which the middle one counts.
const LOOKS: usize = 21;
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn backlog(stage: &Stage, plan: &Backlog) -> anyhow::Result<Outcome> {
    // Nothing listens at port 9.
    let storage = Storage::Gcs {
        endpoint: "http://127.0.0.1:9".to_owned(),
        bucket: "frames".to_owned(),
        credentials: Credentials::Anonymous,
    };
    let room = plan.large * (plan.bytes as u64 + 512) * 2;
    let config = format!("{}[spool]\nmax_bytes = \"{}MiB\"\n", stage.synthetic()?, (room >> 20).max(1_024));
    let mut daemon = stage.daemon(&storage, &config)?;
    let mut problems = Problems::default();
    let mut watch = Watch::default();
    let mut resident: Vec<(u64, f64, f64)> = Vec::new();
    let mut ready = Duration::ZERO;
    for frames in [plan.small, plan.large] {
        let share = (frames - resident.last().map_or(0, |(frames, ..)| *frames)).div_ceil(plan.cameras as u64);
        let specs: Vec<Synthetic> = (0..plan.cameras)
            .map(|i| Synthetic::new(&format!("cam{i}")).fps(plan.fps).bytes(plan.bytes).frames(share))
            .collect();
        let ids = add_synthetic(&daemon, &specs)?;
        let patience = Duration::from_secs(60) + Duration::from_secs_f64(10.0 * share as f64 / plan.fps);
        let totals =
            watch.until(&daemon, patience, &mut problems, |totals| totals.in_flight + totals.lost >= frames)?;
        problems.check(totals.lost == 0 && totals.stored == 0, || format!("{frames} frames on disk: {totals:?}"));
        let running = resident_mib(&daemon)?;
        for id in &ids {
            let (status, answer) = daemon.call(Method::POST, &format!("/api/v1/cameras/{id}/pause"), None)?;
            ensure!(status.is_success(), "cannot pause camera {id}: {status}: {answer}");
        }
        daemon.stop()?;
        let on_disk = records(&daemon.dir().join("state/spool"))?.len() as u64;
        problems
            .check(on_disk == totals.in_flight, || format!("{on_disk} records are in the spool's files: {totals:?}"));
        let begun = Instant::now();
        daemon.run()?;
        ready = begun.elapsed();
        let after = watch.look(&daemon, &mut problems)?;
        problems.check(after.in_flight == totals.in_flight, || format!("{after:?} after a start, {totals:?} before"));
        let restarted = resident_mib(&daemon)?;
        resident.push((frames, running, restarted));
        for id in &ids {
            // Made anew, it gives its frames once more.
            daemon.delete_camera(id)?;
        }
    }
    let [(_, small_running, small_restarted), (_, large_running, large_restarted)] = resident[..] else {
        unreachable!("two backlogs were measured")
    };
    for (when, small, large) in
        [("running", small_running, large_running), ("restarted", small_restarted, large_restarted)]
    {
        let more = large - small;
        problems.check(more <= plan.most_mib, || {
            format!("{when}: {large:.1} MiB with {} frames, {more:.1} MiB more than with {}", plan.large, plan.small)
        });
    }
    problems.check(ready <= plan.ready, || format!("ready after {ready:.1?} with {} frames", plan.large));
    let bound = format!(
        "resident memory with a backlog of {} frames of {} bytes at most {} MiB above that with {}",
        plan.large, plan.bytes, plan.most_mib, plan.small
    );
    let figure = json!({
        "small_running_mib": round(small_running),
        "large_running_mib": round(large_running),
        "small_restarted_mib": round(small_restarted),
        "large_restarted_mib": round(large_restarted),
        "ready_with_the_large_s": round(ready.as_secs_f64()),
        "looks_at_the_accounts": watch.looks,
    });
    Ok(problems.measured(bound, figure))
}

fn resident_mib(daemon: &Daemon) -> anyhow::Result<f64> {
    let mut looks = Vec::new();
    for _ in 0..LOOKS {
        std::thread::sleep(LOOK_EVERY);
        looks.push(daemon.resident_kib()?);
    }
    looks.sort_unstable();
    Ok(looks[LOOKS / 2] as f64 / 1_024.0)
}
