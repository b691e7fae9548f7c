//! Everything that can break under a camera breaks: it comes back in a new session, and the others notice nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::Signal;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::stage::{add, bucket, cameras, examine, until_streaming};
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

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn recovery(stage: &Stage, plan: &Recovery) -> anyhow::Result<Outcome> {
    let (_gcs, storage) = bucket(stage, Knobs { latency_ms: 20, ..Knobs::default() })?;
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
    let mut hurt = |cause: &'static str, problems: &mut Problems, injure: &mut dyn FnMut() -> anyhow::Result<()>| {
        let before = daemon.status(&victim)?;
        injure()?;
        faults += 1;
        let seconds = streams_again(&daemon, &victim, before.session, plan.within)?;
        problems.check(seconds <= plan.within.as_secs_f64(), || {
            format!("{cause}: streamed again only {seconds:.1} s after the cause and its backoff")
        });
        took.insert(cause, (seconds * 100.0).round() / 100.0);
        anyhow::Ok(())
    };

    hurt("capture process killed", &mut problems, &mut || {
        let pid = daemon.status(&victim)?.pid.context("no capture process")?;
        signals::send(pid, Signal::KILL)
    })?;
    hurt("camera actor panicked", &mut problems, &mut || daemon.inject_panic(&format!("actor=camera&id={victim}")))?;
    hurt("camera server killed", &mut problems, &mut || {
        hit.kill();
        std::thread::sleep(plan.dead);
        hit.restart()
    })?;
    hurt("camera server frozen", &mut problems, &mut || {
        hit.freeze()?;
        std::thread::sleep(plan.frozen);
        hit.thaw()
    })?;

    // Panics that no camera may notice: neither a new session nor a lost frame.
    let before = daemon.status(&victim)?;
    for query in
        ["actor=upload&id=0".to_owned(), "actor=upload&id=1".to_owned(), format!("actor=sequencer&id={victim}")]
    {
        daemon.inject_panic(&query)?;
        faults += 1;
    }
    for id in &bystanders {
        daemon.inject_panic(&format!("actor=sequencer&id={id}"))?;
        faults += 1;
    }
    let watermark = daemon.status(&victim)?.watermark;
    daemon
        .wait_for(&victim, Duration::from_secs(10), |status| status.watermark > watermark + 2 * u64::from(plan.fps))
        .context("after panics of upload workers and sequencers")?;
    let after = daemon.status(&victim)?;
    problems.check(before.session == after.session && before.generation == after.generation, || {
        "a panic of an upload worker or a sequencer restarted the camera".to_owned()
    });
    let panics = daemon.log_text().matches("panicked at").count() as u64;
    let injected = 3 + 1 + bystanders.len() as u64;
    problems.check(panics == injected, || format!("{panics} panics in the log, {injected} were injected"));

    // The bystanders up to here: one session, nothing lost. Read before the supervisor's death ends every session.
    for id in &bystanders {
        let list = daemon.list(id, 1_000)?;
        let sessions =
            list.entries.iter().filter(|entry| matches!(entry, crate::oracle::Entry::Session { .. })).count();
        problems.check(sessions == 1, || format!("bystander {id} has {sessions} sessions"));
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
    let figure = json!({ "seconds": took, "victim_sessions": verdict.sessions, "lost_by_others": lost_by_others });
    Ok(problems.outcome(bound, figure, faults))
}

/// Seconds until the camera streams in another session than `before`, counted from now or from the first try that begins
/// after now, whichever is later: the wait for that try is its backoff.
fn streams_again(daemon: &Daemon, id: &str, before: Option<u32>, within: Duration) -> anyhow::Result<f64> {
    let mut begins = OffsetDateTime::now_utc();
    wait(within * 3 + MAX_BACKOFF, || {
        let status = daemon.status(id)?;
        if let Some(at) = &status.next_try_at {
            begins = begins.max(OffsetDateTime::parse(at, &Rfc3339).context("next_try_at is no RFC 3339 time")?);
        }
        let back = status.state == "streaming" && status.session > before;
        Ok(back.then(|| (OffsetDateTime::now_utc() - begins).as_seconds_f64().max(0.0)))
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
