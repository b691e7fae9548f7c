//! Everything that can break under a camera breaks: it comes back in a new session, and the others notice nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::Signal;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::stage::{add, bucket, cameras, counter, examine, until_streaming};
use super::{Outcome, Problems, Stage};
use crate::daemon::{Daemon, wait};
use crate::gcs::Knobs;
use crate::signals;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// Cameras that are left alone.
    pub bystanders: usize,
    /// Frames a second of each camera.
    pub fps: u32,
    /// How long the camera server is dead.
    pub dead: Duration,
    /// How long the camera server is frozen.
    pub frozen: Duration,
    /// How long a camera may take to stream again, from the end of the cause or the try that followed it.
    pub within: Duration,
}

/// Longest wait between two tries in the first five minutes of an outage.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Upload workers there are, by default.
const UPLOAD_WORKERS: usize = 64;

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn recovery(stage: &Stage, plan: &Recovery) -> anyhow::Result<Outcome> {
    let (gcs, storage) = bucket(stage, Knobs { latency_ms: 20, ..Knobs::default() })?;
    let calm = cameras("calm", plan.bystanders, plan.fps)?;
    let mut hit = cameras("hit", 1, plan.fps)?;
    let mut daemon = stage.daemon(&storage, "[debug]\nfault_injection = true")?;
    let bystanders = add(&daemon, &calm)?;
    let victim = add(&daemon, &hit)?.remove(0);
    until_streaming(&daemon, &bystanders, Duration::from_secs(30))?;
    until_streaming(&daemon, std::slice::from_ref(&victim), Duration::from_secs(30))?;

    let mut problems = Problems::default();
    let mut took: BTreeMap<&str, f64> = BTreeMap::new();
    let mut faults = 0;
    // `kind` is what the status must show between the end of the cause and the next stream.
    let mut hurt = |cause: &'static str,
                    kind: Option<&str>,
                    problems: &mut Problems,
                    injure: &mut dyn FnMut() -> anyhow::Result<()>| {
        let before = daemon.status(&victim)?;
        injure()?;
        faults += 1;
        let Outage { seconds, kinds } = streams_again(&daemon, &victim, before.session, plan.within)?;
        if let Some(kind) = kind {
            problems.check(kinds.contains(kind), || format!("{cause}: its status showed {kinds:?}, never `{kind}`"));
        }
        problems.check(seconds <= plan.within.as_secs_f64(), || {
            format!("{cause}: streamed again only {seconds:.1} s after the cause and its backoff")
        });
        took.insert(cause, (seconds * 100.0).round() / 100.0);
        anyhow::Ok(())
    };

    hurt("capture process killed", Some("capture_crash"), &mut problems, &mut || {
        let pid = daemon.status(&victim)?.pid.context("no capture process")?;
        signals::send(pid, Signal::KILL)
    })?;
    hurt("camera actor panicked", Some("panic"), &mut problems, &mut || {
        daemon.inject_panic(&format!("actor=camera&id={victim}"))
    })?;
    hurt("camera server killed", None, &mut problems, &mut || {
        hit.kill();
        std::thread::sleep(plan.dead);
        hit.restart()
    })?;
    let stalls = || {
        let labels = [&format!("camera=\"{victim}\"") as &str, "reason=\"stall\""];
        counter(&daemon, "framehaul_camera_reconnects_total", &labels)
    };
    let stalls_before = stalls()?;
    hurt("camera server frozen", None, &mut problems, &mut || {
        hit.freeze()?;
        std::thread::sleep(plan.frozen);
        hit.thaw()
    })?;
    let stalled = stalls()? - stalls_before;
    problems.check(stalled == 1, || format!("a frozen camera server was taken for a stall {stalled} times, not once"));

    // Panics that no camera may notice: neither a new session nor a lost frame.
    let before = daemon.status(&victim)?;
    // Every upload worker dies, with a frame in the hands of as many as a slow bucket keeps busy.
    gcs.change_knobs(|knobs| knobs.latency_ms = 1_000)?;
    let everyone = || bystanders.iter().chain([&victim]);
    let mut held_by_workers = 0;
    for id in everyone() {
        let wanted = u64::from(plan.fps).div_ceil(2);
        held_by_workers += daemon
            .wait_for(id, Duration::from_secs(10), |status| status.totals.in_flight >= wanted)
            .context("with a slow bucket")?
            .totals
            .in_flight;
    }
    for place in 0..UPLOAD_WORKERS {
        daemon.inject_panic(&format!("actor=upload&id={place}"))?;
        faults += 1;
    }
    for id in everyone() {
        let captured = daemon.status(id)?.totals.captured;
        daemon
            .wait_for(id, Duration::from_secs(30), |status| status.watermark >= captured)
            .context("after the panics of all upload workers")?;
    }
    gcs.change_knobs(|knobs| knobs.latency_ms = 20)?;
    for id in everyone() {
        daemon.inject_panic(&format!("actor=sequencer&id={id}"))?;
        faults += 1;
    }
    for id in everyone() {
        let watermark = daemon.status(id)?.watermark;
        daemon
            .wait_for(id, Duration::from_secs(10), |status| status.watermark > watermark + 2 * u64::from(plan.fps))
            .context("after the panics of upload workers and sequencers")?;
    }
    let after = daemon.status(&victim)?;
    problems.check(before.session == after.session && before.generation == after.generation, || {
        "a panic of an upload worker or a sequencer restarted the camera".to_owned()
    });
    let panics = daemon.log_text().matches("panicked at").count() as u64;
    problems.check(after.totals.lost == before.totals.lost, || {
        format!("panics of upload workers or sequencers lost frames: {:?}, then {:?}", before.totals, after.totals)
    });
    let injected = 1 + UPLOAD_WORKERS as u64 + everyone().count() as u64;
    problems.check(panics == injected, || format!("{panics} panics in the log, {injected} were injected"));

    // The bystanders up to here: one session, nothing lost. Read before the supervisor's death ends every session.
    for id in &bystanders {
        let list = daemon.list(id, 1_000)?;
        let sessions =
            list.entries.iter().filter(|entry| matches!(entry, crate::oracle::Entry::Session { .. })).count();
        problems.check(sessions == 1, || format!("bystander {id} has {sessions} sessions"));
        let totals = daemon.status(id)?.totals;
        problems.check(totals.lost == 0, || format!("bystander {id} lost frames: {totals:?}"));
    }

    // Nothing is above the supervisor but whoever starts the process.
    let _ = daemon.inject_panic("actor=supervisor");
    faults += 1;
    let status = daemon.wait_for_end()?;
    problems
        .check(status.code() == Some(70), || format!("after the supervisor's panic the process ended with {status}"));
    let restarted = Instant::now();
    daemon.run()?;
    until_streaming_anew(&daemon, &bystanders)?;
    let seconds = restarted.elapsed().as_secs_f64();
    took.insert("supervisor panicked, process started again", (seconds * 100.0).round() / 100.0);
    problems.check(seconds <= plan.within.as_secs_f64(), || {
        format!("after a restart cameras streamed only after {seconds:.1} s")
    });

    daemon.quiesce(Duration::from_secs(60))?;
    // The oracle's own reading is not what is tested.
    gcs.change_knobs(|knobs| knobs.latency_ms = 0)?;
    let mut lost_by_others = 0;
    for id in &bystanders {
        let (verdict, entries) = examine(&daemon, &storage, id, &mut problems)?;
        for entry in &entries {
            if let crate::oracle::Entry::Tombstone { seq, last, reason, .. } = entry {
                // The supervisor's death is the process's; what it leaves unknown stands as lost(crash).
                problems
                    .check(reason == "crash", || format!("bystander {id}: seqs {seq} to {last} are lost({reason})"));
            }
        }
        lost_by_others += verdict.gaps + verdict.missing;
    }
    let (verdict, _) = examine(&daemon, &storage, &victim, &mut problems)?;
    let bound = format!(
        "streams again within {} s after the cause and its backoff, in a new session; the others lose 0 frames",
        plan.within.as_secs()
    );
    let figure = json!({
        "seconds": took,
        "victim_sessions": verdict.sessions,
        "lost_by_others": lost_by_others,
        "in_flight_when_upload_workers_panicked": held_by_workers,
    });
    Ok(problems.outcome(bound, figure, faults))
}

/// How a camera came back.
struct Outage {
    /// Seconds from the end of the cause, or from the first try that began after it: the wait for that try is its
    /// backoff.
    seconds: f64,
    /// The kinds of error its status showed until then.
    kinds: BTreeSet<String>,
}

/// Waits until the camera streams in another session than `before`. The cause ends now. Where the first try after that
/// fails, the tries and waits that follow it count.
fn streams_again(daemon: &Daemon, id: &str, before: Option<u32>, within: Duration) -> anyhow::Result<Outage> {
    let ended = OffsetDateTime::now_utc();
    let mut first_try = None;
    let mut kinds = BTreeSet::new();
    wait(within * 3 + MAX_BACKOFF, || {
        let status = daemon.status(id)?;
        if let (None, Some(at)) = (first_try, &status.next_try_at) {
            let at = OffsetDateTime::parse(at, &Rfc3339).context("next_try_at is no RFC 3339 time")?;
            first_try = Some(at).filter(|at| *at > ended);
        }
        if status.state == "streaming" && status.session > before {
            let seconds = (OffsetDateTime::now_utc() - first_try.unwrap_or(ended)).as_seconds_f64().max(0.0);
            return Ok(Some(Outage { seconds, kinds: std::mem::take(&mut kinds) }));
        }
        kinds.extend(status.last_error.and_then(|error| error["kind"].as_str().map(str::to_owned)));
        Ok(None)
    })
    .with_context(|| format!("camera `{id}` did not stream again: {:?}", daemon.status(id)))
}

fn until_streaming_anew(daemon: &Daemon, ids: &[String]) -> anyhow::Result<()> {
    for id in ids {
        daemon
            .wait_for(id, Duration::from_secs(30), |status| status.state == "streaming" && status.session.is_some())?;
    }
    Ok(())
}
