//! `framehaul push`: cut off and resumed, against a bucket that is overloaded, and to one that is not there.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::stage::{BUCKET, bucket};
use super::{Outcome, Problems, Stage};
use crate::cameras::default_cache_dir;
use crate::clip::ClipSpec;
use crate::contest::round;
use crate::gcs::{GcsServer, Knobs};
use crate::mark::Mark;
use crate::oracle::decode;

/// Where in the bucket the pictures go.
const PREFIX: &str = "clip";
/// Pictures that a push which is cut off has on their way.
const AT_ONCE: u64 = 16;

/// Pushes a film that is cut off again and again.
#[derive(Debug, Clone)]
pub struct PushCut {
    /// The film, of which every picture is pushed.
    pub clip: ClipSpec,
    /// How often it is cut off, by SIGKILL.
    pub cuts: u32,
    /// What each answer of the bucket takes, so that some are on their way at each cut.
    pub latency_ms: u64,
}

/// Pushes a film into a bucket that refuses some of it for the moment.
#[derive(Debug, Clone)]
pub struct PushStorm {
    /// The film, of which every picture is pushed.
    pub clip: ClipSpec,
    /// The share of calls that are answered with 503.
    pub rate_503: f64,
    /// How often each picture may be tried again.
    pub retries: u32,
    /// What the choice of those calls begins with.
    pub seed: u64,
}

/// Pushes, is killed, and resumes until it is complete.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn push_cut(stage: &Stage, plan: &PushCut) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    let film = plan.clip.mp4(&default_cache_dir())?;
    let frames = u64::from(plan.clip.frames()?);
    let (gcs, _storage) = bucket(stage, Knobs { latency_ms: plan.latency_ms, ..Knobs::default() })?;
    let mut listed = Vec::new();
    for cut in 1..=plan.cuts {
        let until = frames * u64::from(cut) / u64::from(plan.cuts + 1);
        let mut command = push(stage, &gcs, &film, BUCKET);
        command.args(["--concurrency", &AT_ONCE.to_string(), "--resume"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("cannot start framehaul")?;
        let lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        // The list says what is stored for certain; more is on its way.
        let read: Vec<String> = lines.map_while(Result::ok).take(usize::try_from(until)?).collect();
        child.kill().context("cannot kill it")?;
        let status = child.wait().context("cannot wait for it")?;
        problems.check(status.code().is_none(), || format!("cut {cut}: it had ended before"));
        listed.push(read.len() as u64);
        let stored = gcs.objects(BUCKET).len() as u64;
        problems.check(stored >= read.len() as u64, || format!("{} listed, {stored} stored", read.len()));
    }
    let before = gcs.stats();
    let output = push(stage, &gcs, &film, BUCKET).arg("--resume").output().context("cannot start framehaul")?;
    let stats = gcs.stats();
    let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    problems.check(output.status.success(), || format!("the last one ended with {}: {told}", output.status));
    let entries = list(&output)?;
    judge(&gcs, &entries, frames, &mut problems)?;
    // What a killed push had sent in full may arrive after these were counted, and be stored after the list was asked for.
    let sent = stats.requests.upload_multipart - before.requests.upload_multipart;
    let late = stats.duplicates_refused;
    problems.check(stats.puts_stored == frames, || format!("{} puts for {frames} pictures", stats.puts_stored));
    let (stored, there) = (number(&told, "stored")?, number(&told, "there already")?);
    problems.check(stored + there == frames && (stored..=stored + AT_ONCE).contains(&sent), || {
        format!("{sent} were sent: {told}")
    });
    let bound =
        format!("{frames} pictures cut by SIGKILL {} times and resumed: complete, in order, none twice", plan.cuts);
    let figure = json!({
        "pictures": frames,
        "cuts_after": listed,
        "stored_by_the_last_one": stored,
        "there_already": there,
        "duplicates": stats.puts_stored.saturating_sub(frames),
        "refused_as_there_already": late,
    });
    Ok(Outcome { faults: plan.cuts.into(), ..problems.measured(bound, figure) })
}

/// Pushes to a bucket that is overloaded.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn push_storm(stage: &Stage, plan: &PushStorm) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    let film = plan.clip.mp4(&default_cache_dir())?;
    let frames = u64::from(plan.clip.frames()?);
    let knobs = Knobs { rate_503: plan.rate_503, seed: plan.seed, ..Knobs::default() };
    let (gcs, _storage) = bucket(stage, knobs)?;
    let begun = Instant::now();
    let mut command = push(stage, &gcs, &film, BUCKET);
    let output = command.args(["--retries", &plan.retries.to_string()]).output().context("cannot start framehaul")?;
    let seconds = begun.elapsed().as_secs_f64();
    let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    problems.check(output.status.success(), || format!("it ended with {}: {told}", output.status));
    judge(&gcs, &list(&output)?, frames, &mut problems)?;
    let stats = gcs.stats();
    let refused = stats.injected.status_503;
    let least = plan.rate_503 / 2.0 * frames as f64;
    problems.check(refused as f64 >= least, || format!("only {refused} answers of 503"));
    problems.check(stats.puts_stored == frames, || format!("{} puts for {frames} pictures", stats.puts_stored));
    let bound = format!(
        "{frames} pictures, {:.0} % of the answers 503, {} retries: complete",
        plan.rate_503 * 1e2,
        plan.retries
    );
    let figure = json!({ "pictures": frames, "answers_of_503": refused, "seconds": round(seconds) });
    Ok(Outcome { faults: refused, ..problems.measured(bound, figure) })
}

/// Pushes to a bucket that is not there.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn push_nowhere(stage: &Stage, clip: ClipSpec, within: Duration) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    let film = clip.mp4(&default_cache_dir())?;
    let (gcs, _storage) = bucket(stage, Knobs::default())?;
    let begun = Instant::now();
    let output = push(stage, &gcs, &film, "nowhere").output().context("cannot start framehaul")?;
    let took = begun.elapsed();
    let told = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let errors = told.lines().filter(|line| line.starts_with("error: ")).count();
    problems.check(output.status.code() == Some(66), || format!("it ended with {}: {told}", output.status));
    problems.check(errors == 1 && told.contains("nowhere"), || format!("{errors} errors: {told}"));
    problems.check(took <= within, || format!("it took {took:?}"));
    problems.check(output.stdout.is_empty(), || "it has listed something".to_owned());
    let bound = format!("a bucket that is not there: one clear error within {} s", within.as_secs());
    let figure =
        json!({ "seconds": round(took.as_secs_f64()), "error": told.lines().last(), "exit": output.status.code() });
    Ok(Outcome { faults: 1, ..problems.measured(bound, figure) })
}

/// `framehaul push` of a whole film into a bucket of the emulator.
fn push(stage: &Stage, gcs: &GcsServer, film: &Path, bucket: &str) -> Command {
    let mut command = Command::new(stage.program());
    command
        .arg("push")
        .arg(film)
        .args(["--to", &format!("gs://{bucket}/{PREFIX}"), "--format", "ndjson"])
        .env("FRAMEHAUL__STORAGE__ENDPOINT", gcs.endpoint())
        .env("FRAMEHAUL__STORAGE__CREDENTIALS", "anonymous")
        // Where other tests run beside it, its capture process may be slow to begin.
        .env("FRAMEHAUL__CAPTURE__OPEN_TIMEOUT", "30s")
        .stdin(Stdio::null());
    command
}

fn list(output: &Output) -> anyhow::Result<Vec<Value>> {
    let text = std::str::from_utf8(&output.stdout).context("the list is no text")?;
    text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("no entry: `{line}`"))).collect()
}

/// The number before a word of the last sentence.
fn number(told: &str, word: &str) -> anyhow::Result<u64> {
    let Some((before, _)) = told.lines().last().unwrap_or_default().split_once(&format!(" {word}")) else {
        return Ok(0);
    };
    let number = before.rsplit(' ').next().unwrap_or_default().replace(',', "");
    number.parse().with_context(|| format!("no number of `{word}`: {told}"))
}

/// Whether the list has each picture of the film in its place, and the bucket what the list says and nothing else.
fn judge(gcs: &GcsServer, entries: &[Value], frames: u64, problems: &mut Problems) -> anyhow::Result<()> {
    problems.check(entries.len() as u64 == frames, || format!("{} entries for {frames} pictures", entries.len()));
    let objects = gcs.objects(BUCKET);
    problems.check(objects.len() as u64 == frames, || format!("{} objects for {frames} pictures", objects.len()));
    for (nth, (entry, object)) in entries.iter().zip(&objects).enumerate() {
        let name = format!("{PREFIX}/{:012}.jpg", nth + 1);
        let crc32c = BASE64_STANDARD.encode(object.crc32c.to_be_bytes());
        let expected =
            json!({ "seq": nth + 1, "url": format!("gs://{BUCKET}/{name}"), "bytes": object.size, "crc32c": crc32c });
        for (field, value) in expected.as_object().into_iter().flatten() {
            problems.check(entry[field] == *value, || {
                format!("entry {}: {field} is {}, not {value}", nth + 1, entry[field])
            });
        }
        ensure!(object.name == name, "an object is called {}, not {name}", object.name);
        let (luma, width, height) = decode(&gcs.read(BUCKET, &name)?).map_err(anyhow::Error::msg)?;
        let counter = Mark::read(&luma, width, height)?.counter;
        problems.check(counter as usize == nth, || format!("{name} shows picture {counter}, not {nth}"));
    }
    Ok(())
}
