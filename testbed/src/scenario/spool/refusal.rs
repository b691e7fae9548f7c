//! Frames that the bucket will never have: the accounts name them, and their pictures are kept for a person.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use hyper::Method;
use serde_json::{Value, json};

use super::super::stage::{BUCKET, add_synthetic, bucket, counter, examine};
use super::super::{Outcome, Problems, Stage};
use crate::daemon::{Daemon, wait};
use crate::gcs::Knobs;
use crate::oracle::Entry;
use crate::spooled::{Spooled, records};
use crate::synthetic::Synthetic;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// Frames a second of each of the two cameras.
    pub fps: f64,
    /// Bytes of each.
    pub bytes: usize,
    /// Frames of each camera, at the least; more than the 20 that must succeed before a refusal is believed.
    pub frames: u64,
}

/// Runs the scenario: the bucket takes one camera's frames but for one whose key somebody else has taken, and none of
/// the other camera's.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn refusal(stage: &Stage, plan: &Refusal) -> anyhow::Result<Outcome> {
    let (gcs, storage) = bucket(stage, Knobs { refuse_status: Some(503), ..Knobs::default() })?;
    let retries = "[upload]\nretry_min = \"50ms\"\nretry_max = \"500ms\"\n";
    let mut daemon = stage.daemon(&storage, &format!("{}{retries}", stage.synthetic()?))?;
    let specs: Vec<Synthetic> =
        ["taken", "refused"].iter().map(|name| Synthetic::new(name).bytes(plan.bytes).fps(plan.fps)).collect();
    let ids = add_synthetic(&daemon, &specs)?;
    for id in &ids {
        daemon.wait_for(id, Duration::from_secs(60), |status| status.totals.captured >= plan.frames)?;
        turn(&daemon, id, "pause")?;
    }
    let end = daemon.stop()?;
    ensure!(end.success(), "the daemon ended with {end}");

    let spooled = records(&daemon.dir().join("state/spool"))?;
    let conflicting = ("taken".to_owned(), plan.frames / 2);
    let key = &spooled.get(&conflicting).context("a frame of the spool")?.key;
    let url =
        format!("{}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={}", gcs.endpoint(), key.replace('/', "%2F"));
    gcs.change_knobs(|knobs| *knobs = Knobs::default())?;
    let foreign = json!("somebody else's").to_string();
    let (status, _) = daemon.http().send(Method::POST, &url, None, Some(foreign.clone()))?;
    ensure!(status.is_success(), "the foreign object: {status}");
    gcs.change_knobs(|knobs| knobs.refuse_status = Some(503))?;
    daemon.run()?;
    // First there is nowhere to keep them.
    let dir = daemon.dir().join("state/spool/quarantine");
    fs::remove_dir(&dir).and_then(|()| fs::write(&dir, "")).with_context(|| dir.display().to_string())?;
    gcs.change_knobs(|knobs| *knobs = Knobs { refuse_name: Some("refused/".to_owned()), ..Knobs::default() })?;
    // So that there is always something that the bucket does take.
    turn(&daemon, "taken", "resume")?;
    let mut problems = Problems::default();
    let in_spool = spooled.keys().filter(|(id, _)| id == "refused").count() as u64;
    // Each is refused oftener than has to be, while the bucket takes more than it has to.
    daemon.wait_for("taken", Duration::from_secs(60), |status| status.totals.stored > plan.frames + 60)?;
    wait(Duration::from_secs(60), || Ok((gcs.stats().injected.names_refused > 8 * in_spool).then_some(())))?;
    for (id, in_flight) in [("refused", in_spool), ("taken", 1)] {
        let totals = daemon.status(id)?.totals;
        problems.check(totals.lost == 0 && totals.in_flight >= in_flight, || {
            format!("camera {id}: lost with nowhere to keep it: {totals:?}")
        });
    }
    fs::remove_file(&dir).and_then(|()| fs::create_dir(&dir)).with_context(|| dir.display().to_string())?;
    daemon.wait_for("refused", Duration::from_secs(60), |status| status.totals.in_flight == 0)?;
    daemon.wait_for("taken", Duration::from_secs(60), |status| status.totals.lost == 1)?;
    for (result, expected) in [("conflict", 1), ("rejected", in_spool)] {
        let counted = counter(&daemon, "framehaul_uploads_total", &[&format!("result=\"{result}\"")])?;
        problems.check(counted == expected, || format!("{counted} {result} in the metrics, not {expected}"));
    }
    daemon.quiesce(Duration::from_secs(60)).map_err(|error| daemon.explain(error))?;

    let mut told: BTreeMap<(String, u64), String> = BTreeMap::new();
    let mut stored = 0;
    for id in &ids {
        let (verdict, entries) = examine(&daemon, &storage, id, &mut problems)?;
        stored += verdict.frames;
        for entry in entries {
            let Entry::Tombstone { seq, last, reason, .. } = entry else { continue };
            told.extend((seq..=last).map(|seq| ((id.clone(), seq), reason.clone())));
        }
    }
    let expected: BTreeMap<(String, u64), String> = spooled
        .keys()
        .filter(|frame| frame.0 == "refused")
        .map(|frame| (frame.clone(), "rejected".to_owned()))
        .chain([(conflicting.clone(), "conflict".to_owned())])
        .collect();
    problems.check(told == expected, || format!("tombstones {told:?}, not {expected:?}"));
    problems
        .check(gcs.read(BUCKET, key)?.as_ref() == foreign.as_bytes(), || "the foreign object was changed".to_owned());
    for frame in expected.keys() {
        let kept = kept(&dir, frame, &spooled[frame]);
        problems.check(kept.is_ok(), || format!("{frame:?}: {:#}", kept.as_ref().expect_err("it was asked")));
    }
    let files = fs::read_dir(&dir).with_context(|| dir.display().to_string())?.count();
    problems.check(files == 2 * expected.len(), || format!("{files} files in {}", dir.display()));
    let refused = gcs.stats().injected.names_refused;
    let bound =
        "frames that the bucket refuses for good, and one whose key is taken, get a tombstone with the reason, are kept as \
         files for their owner alone, wait where they cannot be, and hold up nothing"
            .to_owned();
    let figure = json!({ "stored": stored, "kept": expected.len(), "uploads_refused": refused });
    Ok(problems.outcome(bound, figure, refused + 1))
}

/// Pauses or resumes a camera.
fn turn(daemon: &Daemon, id: &str, what: &str) -> anyhow::Result<()> {
    let (status, answer) = daemon.call(Method::POST, &format!("/api/v1/cameras/{id}/{what}"), None)?;
    ensure!(status.is_success(), "cannot {what} camera {id}: {status}: {answer}");
    Ok(())
}

/// Whether a frame's picture and its note are in the quarantine, as they were spooled.
fn kept(dir: &Path, (camera, seq): &(String, u64), spooled: &Spooled) -> anyhow::Result<()> {
    let picture = dir.join(format!("{camera}-{seq:012}.jpg"));
    let bytes = fs::read(&picture).with_context(|| picture.display().to_string())?;
    ensure!(crc32c::crc32c(&bytes) == spooled.crc32c, "the picture is another");
    let note = picture.with_extension("json");
    let text = fs::read_to_string(&note).with_context(|| note.display().to_string())?;
    let said: Value = serde_json::from_str(&text).context("the note is no JSON")?;
    ensure!(said["key"] == spooled.key.as_str() && said["session"] == spooled.session, "the note says {said}");
    ensure!(said["why"].as_str().is_some_and(|why| !why.is_empty()), "the note gives no reason: {said}");
    for file in [picture, note] {
        let mode = fs::metadata(&file)?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "{} has mode {mode:o}", file.display());
    }
    Ok(())
}
