//! The spool reaches its cap while the bucket is down: what goes, goes by the policy, and every frame of it is told.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use hyper::Method;
use serde_json::{Value, json};

use super::super::stage::{add_synthetic, bucket, counter, examine};
use super::super::{Outcome, Problems, Stage};
use super::{Watch, gauge, round};
use crate::gcs::Knobs;
use crate::oracle::Entry;
use crate::synthetic::Synthetic;

/// How hard it is made. The cap must hold far more than the oldest 256 frames of each camera: those may have been
/// carried away already, and are not dropped.
#[derive(Debug, Clone)]
pub struct Cap {
    /// The spool's cap, MiB.
    pub cap_mib: u64,
    /// How many caps full of frames are captured.
    pub overfill: f64,
    /// How many cameras.
    pub cameras: usize,
    /// Frames a second of each; the first gives three times as many.
    pub fps: f64,
    /// Bytes of each.
    pub bytes: usize,
}

/// Runs the scenario under both policies.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn cap(stage: &Stage, plan: &Cap) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    let (oldest, from_oldest) = one_policy(stage, plan, "drop_oldest", &mut problems)?;
    let (newest, from_newest) = one_policy(stage, plan, "drop_newest", &mut problems)?;
    let bound = format!(
        "{} caps full of frames while the bucket is down: the spool stays below its cap, captured = stored + lost + in \
         flight at each look, each drop is a tombstone, all else is stored in order; drop_oldest keeps the newest frames and \
         takes most from the camera that gives most, drop_newest keeps all that was there before the first refusal",
        plan.overfill
    );
    Ok(problems.outcome(bound, json!({ "drop_oldest": oldest, "drop_newest": newest }), from_oldest + from_newest))
}

/// What is to be seen under one policy, and how many answers of the bucket were 503.
fn one_policy(stage: &Stage, plan: &Cap, policy: &str, problems: &mut Problems) -> anyhow::Result<(Value, u64)> {
    let (gcs, storage) = bucket(stage, Knobs { refuse_status: Some(503), ..Knobs::default() })?;
    let spool = format!("[spool]\nmax_bytes = \"{}MiB\"\nsegment = \"1MiB\"\nwhen_full = \"{policy}\"\n", plan.cap_mib);
    let retries = "[upload]\nretry_max = \"2s\"\n";
    let daemon = stage.daemon_in(policy, &storage, &format!("{}{spool}{retries}", stage.synthetic()?))?;
    let specs: Vec<Synthetic> = (0..plan.cameras)
        .map(|i| Synthetic::new(&format!("cam{i}")).bytes(plan.bytes).fps(if i == 0 { 3.0 } else { 1.0 } * plan.fps))
        .collect();
    let ids = add_synthetic(&daemon, &specs)?;
    let cap = plan.cap_mib << 20;
    let wanted = (cap as f64 * plan.overfill / plan.bytes as f64) as u64;
    let rate = plan.fps * (plan.cameras + 2) as f64;
    let mut watch = Watch::default();
    let (mut size, mut usage) = (0, 0);
    let dir = daemon.dir().join("state/spool/default");
    let patience = Duration::from_secs(60) + Duration::from_secs_f64(5.0 * wanted as f64 / rate);
    let full = watch.until(&daemon, patience, problems, |totals| {
        size = size.max(gauge(&daemon, "framehaul_spool_size_bytes").map_or(u64::MAX, |bytes| bytes as u64));
        usage = usage.max(on_disk(&dir).unwrap_or(u64::MAX));
        totals.captured >= wanted && totals.lost > 0
    })?;
    problems.check(size <= cap, || format!("{policy}: the spool says that it takes {size} bytes, its cap is {cap}"));
    problems.check(usage <= cap, || format!("{policy}: {usage} bytes are in {}, its cap is {cap}", dir.display()));
    problems.check(full.stored == 0, || format!("{policy}: {full:?} while the bucket was down"));
    let (before_full, at_full) = (watch.without_loss.clone(), watch.captured.clone());
    let refused = gcs.stats().injected.refused;

    // What is the newest of each camera now; the bucket is back before it could be dropped.
    gcs.change_knobs(|knobs| *knobs = Knobs::default())?;
    let newest: Vec<u64> =
        ids.iter().map(|id| Ok(daemon.status(id)?.totals.captured)).collect::<anyhow::Result<_>>()?;
    watch.during(&daemon, Duration::from_secs(1), problems)?;
    for id in &ids {
        let (status, answer) = daemon.call(Method::POST, &format!("/api/v1/cameras/{id}/pause"), None)?;
        ensure!(status.is_success(), "cannot pause camera {id}: {status}: {answer}");
    }
    let rest = watch.until(&daemon, Duration::from_secs(120), problems, |totals| totals.in_flight == 0)?;
    // A camera that is deleted has no metrics any more.
    let counted = counter(&daemon, "framehaul_camera_frames_lost_total", &["reason=\"spool_full\""])?;
    problems.check(counted == rest.lost, || format!("{policy}: {rest:?}, {counted} in the metrics"));
    daemon.quiesce(Duration::from_secs(60)).map_err(|error| daemon.explain(error))?;
    watch.look(&daemon, problems)?;

    let (mut stored, mut lost, mut first_drop) = (0, Vec::new(), u64::MAX);
    for ((id, spec), newest) in ids.iter().zip(&specs).zip(newest) {
        let (verdict, entries) = examine(&daemon, &storage, id, problems)?;
        stored += verdict.frames;
        lost.push(verdict.tombstoned);
        let tombstones = || {
            entries.iter().filter_map(|entry| match entry {
                Entry::Tombstone { seq, last, reason, maybe_stored, .. } => Some((*seq, *last, reason, *maybe_stored)),
                _ => None,
            })
        };
        for (seq, last, reason, maybe_stored) in tombstones() {
            problems.check(reason == "spool_full" && !maybe_stored, || {
                format!("{policy}: camera {id}: {seq} to {last} lost({reason}), maybe stored: {maybe_stored}")
            });
        }
        let first = tombstones().map(|(seq, ..)| seq).min().unwrap_or(u64::MAX);
        let last = tombstones().map(|(_, last, ..)| last).max().unwrap_or(0);
        first_drop = first_drop.min(first);
        match policy {
            "drop_oldest" => problems.check(last < newest || last == 0, || {
                format!("{policy}: camera {id}: {last} was dropped, and {newest} was its newest")
            }),
            // All that came before the first refusal stays, and nearly the newest when the bucket came back found no
            // room.
            _ => {
                let (before, at) = (before_full[id], at_full[id]);
                problems.check(before > 0 && first > before, || {
                    format!(
                        "{policy}: camera {id}: {first} was dropped, and {before} was on disk before there was no room"
                    )
                });
                problems.check(last + spec.fps as u64 >= at, || {
                    format!("{policy}: camera {id}: {last} was the last to be dropped, and {at} came to a full spool")
                });
            }
        }
    }
    // The first camera is the furthest over its share.
    let most = lost[1..].iter().max().copied().unwrap_or(0);
    problems.check(policy != "drop_oldest" || lost[0] > most, || format!("{policy}: lost by camera: {lost:?}"));
    // Segments that are being filled, and the footers' room, are all that the cap may leave unused.
    let least = (cap as f64 * 0.5 / plan.bytes as f64) as u64;
    problems.check(stored >= least, || format!("{policy}: only {stored} frames were kept, in {cap} bytes"));
    let figure = json!({
        "stored": stored,
        "lost_spool_full": lost.iter().sum::<u64>(),
        "lost_by_camera": lost,
        "answers_503": refused,
        "first_seq_dropped": first_drop,
        "cap_bytes": cap,
        "most_bytes_on_disk": usage,
        "mib_per_s": round(rate * plan.bytes as f64 / (1u64 << 20) as f64),
        "looks_at_the_accounts": watch.looks,
    });
    Ok((figure, refused))
}

/// What the files of a directory and below take.
fn on_disk(dir: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(dir).with_context(|| format!("{}", dir.display()))? {
        let entry = entry?;
        // A segment may go between the two calls.
        let Ok(found) = entry.metadata() else { continue };
        bytes += if found.is_dir() { on_disk(&entry.path())? } else { found.blocks() * 512 };
    }
    Ok(bytes)
}
