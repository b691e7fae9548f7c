//! Exports that are killed, again and again.

use std::collections::BTreeMap;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::place::{DAY, Place, Ran, Sum, channels, expected};
use super::running::{PATIENCE, Running};
use crate::contest::round;
use crate::daemon::wait;
use crate::gcs::GcsServer;
use crate::nvr::{Channel, Knobs, NvrServer, Options};
use crate::scenario::stage::BUCKET;
use crate::scenario::{Outcome, Problems, Stage};

/// Exports that are killed, and started again.
#[derive(Debug, Clone)]
pub struct ExportKills {
    /// Recordings on each of two channels.
    pub recordings: u32,
    /// How often it is killed, in as many parts of the whole.
    pub kills: u32,
    /// How fast recordings come, so that it is killed within one, bytes per second.
    pub bytes_per_s: u64,
    /// What the choice of the moments begins with.
    pub seed: u64,
}

/// Kills an export into a directory, and one into Cloud Storage.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn export_kills(stage: &Stage, plan: &ExportKills) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    let place = Place::new(stage, "file")?;
    let files = || place.files();
    let to = format!("file://{}", place.out().display());
    let into_files = killed(plan, &place, (&to, ""), files, &mut problems)?;
    problems.check(place.is_tidy()?, || "file: halves are left".to_owned());

    let place = Place::new(stage, "gs")?;
    let gcs =
        GcsServer::start(crate::gcs::Options { buckets: vec![BUCKET.to_owned()], ..crate::gcs::Options::default() })?;
    let objects = || {
        let all = gcs.objects(BUCKET).into_iter().filter(|object| !object.name.starts_with("_export/"));
        Ok(all.map(|object| (object.name, (object.size, object.crc32c))).collect())
    };
    let into_bucket = killed(plan, &place, (&format!("gs://{BUCKET}"), &gcs.endpoint()), objects, &mut problems)?;
    let all = 2 * plan.recordings;
    let bound = format!(
        "an export of {all} recordings killed {} times by SIGKILL within a file and started again: complete, nothing fetched \
         twice but the file at hand",
        plan.kills
    );
    let figure = json!({ "file": into_files, "gs": into_bucket });
    Ok(problems.outcome(bound, figure, 2 * u64::from(plan.kills)))
}

/// Kills exports to a place and storage endpoint, until the last one is left to its end.
fn killed(
    plan: &ExportKills,
    place: &Place,
    (to, endpoint): (&str, &str),
    found: impl Fn() -> anyhow::Result<BTreeMap<String, Sum>>,
    problems: &mut Problems,
) -> anyhow::Result<Value> {
    let all = u64::from(2 * plan.recordings);
    let knobs = Knobs { bytes_per_s: Some(plan.bytes_per_s), ..Knobs::default() };
    let channels = channels(&[plan.recordings; 2], &Channel::default());
    let server = NvrServer::start(Options { channels, knobs, ..Options::default() })?;
    let export = || {
        let mut command = place.export_to(to, &server, &[]);
        command.args(DAY);
        if !endpoint.is_empty() {
            command.env("FRAMEHAUL__STORAGE__ENDPOINT", endpoint);
        }
        command
    };
    let mut rng = fastrand::Rng::with_seed(plan.seed);
    // One in each part of the whole, so that all of them come before its end.
    let part = all / u64::from(plan.kills + 1);
    let at: Vec<u64> = (0..u64::from(plan.kills)).map(|nth| nth * part + rng.u64(0..part)).collect();
    let mut stored = Vec::new();
    for done in &at {
        let before = server.stats().downloads;
        let mut child = Running::start(&mut export())?;
        // Each gets further than the one before, and is within a file.
        let far = (*done).max(before.complete + 1);
        let within = || {
            let now = server.stats().downloads;
            Ok((now.complete >= far && now.sessions > 0).then_some(()))
        };
        wait(PATIENCE, within).context("it does not go on")?;
        child.kill()?;
        let files = found()?.len();
        problems.check((files as u64) < all, || format!("{to}: it had ended before it was killed"));
        stored.push(files);
        // The recorder notices that its client is gone when it sends.
        let ended = || Ok((server.stats().downloads.sessions == 0).then_some(()));
        wait(PATIENCE, ended).context("a session outlives its client")?;
    }
    server.change_knobs(|knobs| knobs.bytes_per_s = None)?;
    let ran = Ran::export(&mut export())?;
    let (files, stats) = (found()?, server.stats());
    let wanted = expected(&server)?;
    problems.check(ran.code == Some(0), || format!("{to}: the last one ended with {:?}: {}", ran.code, ran.said));
    problems.check(files == wanted, || format!("{to}: {} files for {all} recordings, or others", files.len()));
    let there = ran.outcomes("there");
    problems.check(there + ran.outcomes("stored") == wanted.len(), || format!("{to}: {} entries", ran.entries.len()));
    problems.check(there >= *stored.last().unwrap_or(&0), || format!("{to}: {there} there of {stored:?}"));
    // One that had come to its last byte may not have been stored when the signal came.
    let twice = stats.downloads.begun.saturating_sub(all);
    problems.check(twice <= u64::from(plan.kills), || format!("{to}: {} downloads", stats.downloads.begun));
    let most = server.recordings().iter().map(|of| of.fetched).max().unwrap_or_default();
    problems.check(most <= 2, || format!("{to}: a recording came whole {most} times"));
    Ok(json!({
        "recordings": all,
        "kills": plan.kills,
        "stored_at_each": stored,
        "stored_by_the_last_one": ran.outcomes("stored"),
        "byte_identical": super::place::whole(&files, &wanted),
        "downloads": stats.downloads.begun,
        "begun_again": twice,
        "came_whole_twice": stats.downloads.again,
        "seconds_of_the_last_one": round(ran.seconds),
    }))
}
