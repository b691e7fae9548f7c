//! Answers that are lost after the bucket has stored what it was given, and a foreign object under a key of ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::super::spool::{Watch, round};
use super::super::stage::{BUCKET, add_synthetic, bucket, counter, examine};
use super::super::{Outcome, Problems, Stage};
use super::{by_frame, synthetic};
use crate::gcs::{FOREIGN, Knobs};
use crate::oracle::Entry;

/// The camera whose keys are taken.
const TAKEN: &str = "taken0";

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct LostAnswers {
    /// How many cameras.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: f64,
    /// Bytes of each.
    pub bytes: usize,
    /// Frames of all of them together, at the least.
    pub frames: u64,
    /// Share of uploads that are stored and answered with 503.
    pub rate_lost_answer: f64,
    /// Share of uploads that are stored and whose connection is then reset.
    pub rate_reset: f64,
    /// Frames of one more camera, at the least, whose key is taken when they come.
    pub taken: u64,
    /// Decides which answers are lost.
    pub seed: u64,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn lost_answers(stage: &Stage, plan: &LostAnswers) -> anyhow::Result<Outcome> {
    let knobs = Knobs {
        rate_lost_answer: plan.rate_lost_answer,
        rate_reset: plan.rate_reset,
        foreign_name: Some(format!("{TAKEN}/")),
        seed: plan.seed,
        ..Knobs::default()
    };
    let (gcs, storage) = bucket(stage, knobs)?;
    let daemon = stage.daemon(&storage, &stage.synthetic()?)?;
    let ids = add_synthetic(&daemon, &synthetic("cam", plan.cameras, plan.fps, plan.bytes))?;
    let taken = add_synthetic(&daemon, &synthetic("taken", 1, plan.fps, plan.bytes))?;
    let (mut problems, mut watch) = (Problems::default(), Watch::default());
    let patience = Duration::from_secs_f64(60.0 + 3.0 * plan.frames as f64 / (plan.fps * plan.cameras as f64));
    daemon.wait_for(TAKEN, patience, |status| status.totals.captured >= plan.taken)?;
    daemon.delete_camera(TAKEN)?;
    watch.until(&daemon, patience, &mut problems, |totals| totals.captured >= plan.frames + plan.taken)?;
    daemon.quiesce(Duration::from_secs(300)).map_err(|error| daemon.explain(error))?;
    let stats = gcs.stats();
    gcs.change_knobs(|knobs| *knobs = Knobs::default())?;

    let (mut stored, mut captured) = (0, 0);
    for id in &ids {
        let (verdict, _) = examine(&daemon, &storage, id, &mut problems)?;
        stored += verdict.frames;
        captured += verdict.frames + verdict.tombstoned;
        problems.check(verdict.tombstoned == 0, || format!("camera {id}: {} lost", verdict.tombstoned));
        problems.check(verdict.sessions == 1, || format!("camera {id}: {} sessions", verdict.sessions));
    }
    problems.check(stored >= plan.frames, || format!("{stored} frames, {} were wanted", plan.frames));
    let found = by_frame(&gcs)?;
    let duplicates = found.values().filter(|count| **count > 1).count();
    problems.check(duplicates == 0, || format!("{duplicates} frames have several objects"));
    let ours = found.keys().filter(|(camera, _)| camera != TAKEN).count() as u64;
    problems.check(ours == stored, || format!("{ours} objects for {stored} stored frames"));
    let twice = stats.puts_stored - ours.min(stats.puts_stored);
    problems.check(twice == 0, || format!("{twice} uploads were stored over or beside another"));

    let (verdict, entries) = examine(&daemon, &storage, &taken[0], &mut problems)?;
    let conflicts = verdict.tombstoned;
    problems.check(conflicts >= plan.taken && verdict.frames == 0, || {
        format!("of {TAKEN}, whose keys are taken, {} are stored and {conflicts} are not", verdict.frames)
    });
    let other = entries.iter().find(|entry| matches!(entry, Entry::Tombstone { reason, .. } if reason != "conflict"));
    problems.check(other.is_none(), || format!("not lost(conflict): {other:?}"));
    let counted = counter(&daemon, "framehaul_upload_conflicts_total", &[])?;
    problems.check(counted == conflicts, || format!("the alarm counts {counted} conflicts, there are {conflicts}"));
    for object in gcs.objects(BUCKET).iter().filter(|object| object.name.starts_with(TAKEN)) {
        let bytes = gcs.read(BUCKET, &object.name)?;
        problems.check(bytes == FOREIGN, || format!("the foreign object {} was overwritten", object.name));
    }
    let foreign = found.keys().filter(|(camera, _)| camera == TAKEN).count() as u64;
    problems.check(foreign == conflicts && stats.injected.foreign == conflicts, || {
        format!("{foreign} foreign objects, {} were put there, {conflicts} conflicts", stats.injected.foreign)
    });
    let kept = pictures(&daemon.dir().join("state/spool"))?;
    let of_taken = kept.iter().filter(|file| file.file_name().is_some_and(|name| is_of(name, TAKEN))).count() as u64;
    problems.check(of_taken == conflicts && kept.len() as u64 == conflicts, || {
        format!("{} pictures in the quarantine, {of_taken} of {TAKEN}, for {conflicts} conflicts", kept.len())
    });

    let lost = stats.injected.lost_answers + stats.injected.resets;
    let share = lost as f64 / stats.puts_stored.max(1) as f64;
    let wanted = plan.rate_lost_answer + plan.rate_reset;
    problems.check(share >= 0.9 * wanted, || format!("only {share:.3} of the answers were lost, not {wanted}"));
    let bound = format!(
        "{} % of the answers lost over {} frames: 0 duplicates, 0 false conflicts, 0 lost; {} foreign objects under our keys: \
         lost(conflict), counted, kept in quarantine, never overwritten",
        100.0 * wanted,
        plan.frames,
        plan.taken
    );
    let figure = json!({
        "frames": captured,
        "stored": stored,
        "duplicates": duplicates,
        "stored_twice": twice,
        "false_conflicts": counted.abs_diff(conflicts),
        "answers_503": stats.injected.lost_answers,
        "resets": stats.injected.resets,
        "share_lost": (share * 1e3).round() / 1e3,
        "duplicates_refused": stats.duplicates_refused,
        "conflicts": conflicts,
        "foreign_objects": foreign,
        "in_quarantine": kept.len(),
        "calls_per_frame": round(stats.requests.total() as f64 / captured.max(1) as f64),
        "looks_at_the_accounts": watch.looks,
    });
    Ok(problems.outcome(bound, figure, lost + stats.injected.foreign))
}

fn is_of(file: &std::ffi::OsStr, camera: &str) -> bool {
    file.to_string_lossy().starts_with(&format!("{camera}-"))
}

/// The pictures in all quarantines below a spool's directory.
fn pictures(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(pictures(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "jpg") {
            found.push(path);
        }
    }
    Ok(found)
}
