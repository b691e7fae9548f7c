//! From a camera's picture to its object, over RTSP, with a bucket that answers at once.

use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;

use super::super::spool::{delays_ms, kept_up, percentile, round};
use super::super::stage::{bucket, examine, until_streaming};
use super::super::{Outcome, Problems, Stage};
use super::request;
use crate::cameras::{CameraServer, CameraSpec, default_cache_dir};
use crate::gcs::Knobs;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct EndToEnd {
    /// The engine.
    pub engine: &'static str,
    /// Cameras.
    pub cameras: usize,
    /// Width and height of their pictures, pixels.
    pub size: (u32, u32),
    /// Their frames a second.
    pub fps: u32,
    /// How long it is measured.
    pub lasts: Duration,
    /// From capture to stored, median, milliseconds.
    pub most_p50_ms: f64,
    /// The same of 99 in a hundred.
    pub most_p99_ms: f64,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn end_to_end(stage: &Stage, plan: &EndToEnd) -> anyhow::Result<Outcome> {
    let (_gcs, storage) = bucket(stage, Knobs::default())?;
    let camera = |index| {
        let spec = CameraSpec::new(&format!("cam{index}")).size(plan.size.0, plan.size.1);
        spec.rate(plan.fps, plan.fps)
    };
    let server = CameraServer::start(&(0..plan.cameras).map(camera).collect::<Vec<_>>(), 0, default_cache_dir())?;
    let daemon = stage.daemon(&storage, "")?;
    let mut ids = Vec::new();
    for spec in server.specs() {
        daemon.put_camera(&spec.name, &request(&server, spec, plan.engine))?;
        ids.push(spec.name.clone());
    }
    until_streaming(&daemon, &ids, Duration::from_secs(30))?;
    for id in &ids {
        // A stream begins with what was buffered while it was opened.
        daemon.wait_for(id, Duration::from_secs(30), |status| status.totals.stored > 2 * u64::from(plan.fps))?;
    }
    let from = OffsetDateTime::now_utc();
    std::thread::sleep(plan.lasts);
    let to = OffsetDateTime::now_utc();
    daemon.quiesce(Duration::from_secs(60))?;
    let mut problems = Problems::default();
    let mut delays = Vec::new();
    for id in &ids {
        let (verdict, entries) = examine(&daemon, &storage, id, &mut problems)?;
        problems.check(verdict.tombstoned == 0, || format!("camera {id}: {} lost", verdict.tombstoned));
        delays.extend(delays_ms(&entries, from, to)?);
    }
    let (frames, seconds) = (delays.len() as u64, (to - from).as_seconds_f64());
    kept_up(&mut problems, "the cameras", frames, plan.cameras, plan.fps.into(), seconds);
    let (p50, p99) = (percentile(&mut delays, 0.5)?, percentile(&mut delays, 0.99)?);
    let most = percentile(&mut delays, 1.0)?;
    problems.check(p50 <= plan.most_p50_ms, || format!("p50 {p50:.1} ms, allowed are {}", plan.most_p50_ms));
    problems.check(p99 <= plan.most_p99_ms, || format!("p99 {p99:.1} ms, allowed are {}", plan.most_p99_ms));
    let bound = format!(
        "{} cameras {}x{} at {} fps over RTSP, capture to stored: p50 at most {} ms, p99 at most {} ms",
        plan.cameras, plan.size.0, plan.size.1, plan.fps, plan.most_p50_ms, plan.most_p99_ms
    );
    let figure = json!({ "p50_ms": round(p50), "p99_ms": round(p99), "most_ms": round(most), "frames": frames });
    Ok(problems.measured(bound, figure))
}
