//! Answers that are lost after the bucket has stored what it was given, and a foreign object under a key of ours.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::super::spool::{Watch, round};
use super::super::stage::{BUCKET, add_synthetic, bucket, counter, examine};
use super::super::{Outcome, Problems, Stage};
use super::{by_frame, frames_and_manifests, least_share, synthetic, totals_of};
use crate::daemon::wait;
use crate::gcs::{self, Knobs};
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
    /// `manifests.entries`: a manifest's answer may be lost like a frame's.
    pub manifest_entries: u64,
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
    let more = format!("{}[manifests]\nentries = {}\n", stage.synthetic()?, plan.manifest_entries);
    let daemon = stage.daemon(&storage, &more)?;
    let ids = add_synthetic(&daemon, &synthetic("cam", plan.cameras, plan.fps, plan.bytes))?;
    let taken = add_synthetic(&daemon, &synthetic("taken", 1, plan.fps, plan.bytes))?;
    let (mut problems, mut watch) = (Problems::default(), Watch::default());
    let patience = Duration::from_secs_f64(60.0 + 3.0 * plan.frames as f64 / (plan.fps * plan.cameras as f64));
    daemon.wait_for(TAKEN, patience, |status| status.totals.captured >= plan.taken)?;
    daemon.delete_camera(TAKEN)?;
    wait(patience, || {
        watch.look(&daemon, &mut problems)?;
        Ok((totals_of(&daemon, &ids)?.captured >= plan.frames).then_some(()))
    })
    .map_err(|error| daemon.explain(error))?;
    daemon.quiesce(Duration::from_secs(300)).map_err(|error| daemon.explain(error))?;
    // In this order: a manifest that comes in between is an object, and no put that nothing came of.
    let stats = gcs.stats();
    let (objects, manifests) = frames_and_manifests(&gcs);
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
    let found = by_frame(&objects)?;
    let duplicates = found.values().filter(|count| **count > 1).count();
    problems.check(duplicates == 0, || format!("{duplicates} frames have several objects"));
    let ours = found.keys().filter(|(camera, _)| camera != TAKEN).count() as u64;
    problems.check(ours == stored, || format!("{ours} objects for {stored} stored frames"));
    let twice = stats.puts_stored.saturating_sub(ours + manifests);
    problems.check(twice == 0, || format!("{twice} uploads were stored over or beside another"));
    problems.check(manifests > 0, || "there are no manifests, whose answers might be lost".to_owned());
    let odd = counter(&daemon, "framehaul_manifests_total", &["result=\"conflict\""])?;
    problems.check(odd == 0, || format!("{odd} manifests are taken for somebody else's"));

    let (verdict, entries) = examine(&daemon, &storage, &taken[0], &mut problems)?;
    let conflicts = verdict.tombstoned;
    problems.check(conflicts >= plan.taken && verdict.frames == 0, || {
        format!("of {TAKEN}, whose keys are taken, {} are stored and {conflicts} are not", verdict.frames)
    });
    let other = entries.iter().find(|entry| matches!(entry, Entry::Tombstone { reason, .. } if reason != "conflict"));
    problems.check(other.is_none(), || format!("not lost(conflict): {other:?}"));
    let counted = counter(&daemon, "framehaul_upload_conflicts_total", &[])?;
    problems.check(counted == conflicts, || format!("the alarm counts {counted} conflicts, there are {conflicts}"));
    for object in objects.iter().filter(|object| object.name.starts_with(TAKEN)) {
        let bytes = gcs.read(BUCKET, &object.name)?;
        // Of the frame's own size: nothing but the checksum tells them apart.
        let untouched = bytes == gcs::foreign(bytes.len()) && bytes.len() > plan.bytes / 2;
        problems.check(untouched, || format!("the foreign object {} was overwritten", object.name));
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

    let share_of = |count: u64| count as f64 / stats.puts_stored.max(1) as f64;
    for (what, count, wanted) in [
        ("no answer at all", stats.injected.resets, plan.rate_reset),
        ("503 for an answer", stats.injected.lost_answers, plan.rate_lost_answer),
    ] {
        problems.check(count > 0 && share_of(count) >= least_share(wanted, stats.puts_stored), || {
            format!("only {:.3} of what was stored has got {what}, not {wanted}", share_of(count))
        });
    }
    let lost = stats.injected.lost_answers + stats.injected.resets;
    let bound = format!(
        "{} % of the answers lost with their connection and {} % turned into 503 over {} frames: 0 duplicates, 0 false conflicts, \
         0 lost; {} foreign objects of the frames' own size under our keys: lost(conflict), counted, kept in quarantine, never \
         overwritten",
        100.0 * plan.rate_reset,
        100.0 * plan.rate_lost_answer,
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
        "share_lost": (share_of(lost) * 1e3).round() / 1e3,
        "manifests": manifests,
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
