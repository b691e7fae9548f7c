//! How soon frames are listed when the bucket is slow.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::stage::{add, bucket, cameras, until_streaming};
use super::{Outcome, Problems, Stage};
use crate::gcs::Knobs;
use crate::oracle::Entry;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Latency {
    /// Frames in the burst.
    pub frames: u64,
    /// The camera's frames a second.
    pub fps: u32,
    /// The bucket's latency, milliseconds.
    pub latency_ms: u64,
    /// How many times the latency it may take from the last capture until all are listed.
    pub factor: f64,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn latency(stage: &Stage, plan: &Latency) -> anyhow::Result<Outcome> {
    let (_gcs, storage) = bucket(stage, Knobs { latency_ms: plan.latency_ms, ..Knobs::default() })?;
    let server = cameras("burst", 1, plan.fps)?;
    let daemon = stage.daemon(&storage, "")?;
    let ids = add(&daemon, &server)?;
    until_streaming(&daemon, &ids, Duration::from_secs(30))?;
    // The stream begins with what was buffered while it was opened; the burst is taken after that.
    let settled =
        daemon.wait_for(&ids[0], Duration::from_secs(30), |status| status.totals.captured > u64::from(plan.fps) * 2)?;
    let last_seq = settled.totals.captured + plan.frames;
    let path = format!("/api/v1/cameras/{}/frames?after={}&limit=1", ids[0], last_seq - 1);
    let deadline = Instant::now() + Duration::from_secs(60);
    let entry = loop {
        let page: Page = serde_json::from_str(&daemon.get(&path)?)?;
        if let Some(entry) = page.entries.into_iter().find(|entry| matches!(entry, Entry::Frame(_))) {
            break entry;
        }
        anyhow::ensure!(Instant::now() < deadline, "seq {last_seq} was not listed within 60 s");
        // Short against what is measured, long against what asking costs.
        std::thread::sleep(Duration::from_millis(2));
    };
    let listed_at = OffsetDateTime::now_utc();
    let Entry::Frame(frame) = entry else { unreachable!("it was looked for") };
    let captured_at = OffsetDateTime::parse(&frame.captured_at, &Rfc3339).context("captured_at is no RFC 3339 time")?;
    let took_ms = (listed_at - captured_at).as_seconds_f64() * 1e3;
    let most_ms = plan.latency_ms as f64 * plan.factor;

    let mut problems = Problems::default();
    problems.check(took_ms <= most_ms, || format!("{took_ms:.0} ms, allowed are {most_ms:.0} ms"));
    let burst: Vec<Entry> = daemon
        .list(&ids[0], 1_000)?
        .entries
        .into_iter()
        .filter(|entry| matches!(entry, Entry::Frame(f) if f.seq > last_seq - plan.frames && f.seq <= last_seq))
        .collect();
    problems.check(burst.len() as u64 == plan.frames, || format!("{} of {} frames listed", burst.len(), plan.frames));
    let bound = format!(
        "{} frames stored, ordered and listed at most {most_ms:.0} ms after the last was captured, at {} ms latency",
        plan.frames, plan.latency_ms
    );
    Ok(problems.measured(bound, json!({ "listed_after_ms": took_ms.round() })))
}

#[derive(serde::Deserialize)]
struct Page {
    entries: Vec<Entry>,
}
