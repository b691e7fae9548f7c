//! SIGHUP and SIGTERM in the midst of the work: what is on disk stays there, and the next run stores it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use super::super::stage::{bucket, examine};
use super::super::{Outcome, Problems, Stage};
use super::kills::{Seqs, remember};
use super::{Watch, round};
use crate::gcs::Knobs;
use crate::oracle::Entry;
use crate::synthetic::Synthetic;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Signals {
    /// How often it is told to end.
    pub rounds: u64,
    /// How many cameras.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: f64,
    /// Bytes of each.
    pub bytes: usize,
    /// Median of the bucket's latency, milliseconds.
    pub latency_ms: f64,
    /// What the daemon gives uploads at its end.
    pub deadline: Duration,
    /// Seed of the moments.
    pub seed: u64,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn signals(stage: &Stage, plan: &Signals) -> anyhow::Result<Outcome> {
    let slow = Knobs { latency_median_ms: plan.latency_ms, latency_sigma: 0.7, seed: plan.seed, ..Knobs::default() };
    let (gcs, storage) = bucket(stage, slow)?;
    let specs: Vec<Synthetic> = (0..plan.cameras)
        .map(|i| Synthetic::new(&format!("cam{i}")).bytes(plan.bytes).fps(plan.fps).missing(13, 0))
        .collect();
    let ids: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    let file = stage.dir().join("cameras.toml");
    let mut text = String::new();
    for spec in &specs {
        let _ = writeln!(text, "[{}]\nurl = {}", spec.name, json!(spec.url()));
    }
    std::fs::write(&file, text).context("cannot write the cameras")?;
    let config = format!(
        "{}[cameras]\nfile = {}\n[shutdown]\ndeadline = \"{}ms\"\n",
        stage.synthetic()?,
        json!(file),
        plan.deadline.as_millis()
    );
    let mut daemon = stage.daemon(&storage, &config)?;
    let mut rng = fastrand::Rng::with_seed(plan.seed);
    let mut problems = Problems::default();
    let mut watch = Watch::default();
    let spool = daemon.dir().join("state/spool");
    let mut on_disk = Seqs::new();
    let (mut left, mut rounds_with_frames_left, mut hang_ups, mut longest) = (0, 0, 0, Duration::ZERO);
    for round in 1..=plan.rounds {
        for id in &ids {
            // One session a run; it is there with the first frame on disk.
            daemon.wait_for(id, Duration::from_secs(30), |status| status.session.map(u64::from) == Some(round))?;
        }
        let sessions = |watch: &mut Watch, problems: &mut Problems| {
            let statuses = daemon.statuses()?;
            watch.judge(&statuses, problems);
            anyhow::Ok(statuses.into_iter().map(|(_, status)| status.session).collect::<Vec<_>>())
        };
        let before = sessions(&mut watch, &mut problems)?;
        for _ in 0..rng.u64(1..4) {
            daemon.hang_up()?;
            hang_ups += 1;
            std::thread::sleep(Duration::from_millis(rng.u64(0..200)));
        }
        std::thread::sleep(Duration::from_millis(rng.u64(200..1_200)));
        let after = sessions(&mut watch, &mut problems)?;
        problems.check(before == after, || format!("round {round}: SIGHUP changed sessions: {before:?}, {after:?}"));
        let begun = Instant::now();
        let status = daemon.stop()?;
        let took = begun.elapsed();
        longest = longest.max(took);
        problems.check(status.success(), || format!("round {round}: it ended with {status}"));
        // Capture, spool, journal and HTTP have their own time.
        problems.check(took <= plan.deadline + Duration::from_secs(5), || format!("round {round}: it took {took:.1?}"));
        // By the files, not by the next daemon's word.
        let found = remember(&gcs, &spool, &mut on_disk)?;
        left += found;
        rounds_with_frames_left += u64::from(found > 0);
        daemon.run()?;
        watch.look(&daemon, &mut problems)?;
    }
    gcs.change_knobs(|knobs| *knobs = Knobs::default())?;
    for id in &ids {
        let last = plan.rounds + 1;
        daemon.wait_for(id, Duration::from_secs(30), |status| status.session.map(u64::from) == Some(last))?;
    }
    std::fs::write(&file, "").context("cannot write the cameras")?;
    daemon.reload(Duration::from_secs(30))?;
    daemon.quiesce(Duration::from_secs(60)).map_err(|error| daemon.explain(error))?;
    let (mut stored, mut missed, mut missing) = (0, 0, 0);
    for id in &ids {
        let (verdict, entries) = examine(&daemon, &storage, id, &mut problems)?;
        stored += verdict.frames;
        missed += verdict.tombstoned;
        let sessions = u64::from(verdict.sessions == plan.rounds + 1);
        problems
            .check(sessions == 1, || format!("camera {id}: {} sessions in {} runs", verdict.sessions, plan.rounds + 1));
        let mut rest = on_disk.remove(id).unwrap_or_default();
        for entry in &entries {
            match entry {
                Entry::Tombstone { seq, last, reason, maybe_stored, .. } => {
                    problems.check(reason == "overrun" && seq == last && !maybe_stored, || {
                        format!("camera {id}: {seq} to {last} lost({reason}), maybe stored: {maybe_stored}")
                    });
                }
                Entry::Session { session, why, .. } => problems.check(why.as_deref() != Some("crash"), || {
                    format!("camera {id}: session {session} ended by a crash, and there was none")
                }),
                Entry::Frame(frame) => drop(rest.remove(&frame.seq)),
            }
        }
        missing += rest.len();
        problems.check(rest.is_empty(), || {
            let first: BTreeSet<_> = rest.iter().take(5).collect();
            format!(
                "camera {id}: {} frames were on disk between two runs and are not stored: {first:?} ...",
                rest.len()
            )
        });
    }
    problems.check(rounds_with_frames_left > 0, || "no frame was left to the next run".to_owned());
    let bound = format!(
        "{} times SIGTERM under load, after SIGHUPs: 0 lost, frames on disk stay and the next run stores them, an orderly end \
         within the deadline",
        plan.rounds
    );
    let figure = json!({
        "sigterms": plan.rounds,
        "sighups": hang_ups,
        "rounds_with_frames_left": rounds_with_frames_left,
        "frames_left": left,
        "of_them_missing": missing,
        "longest_end_s": round(longest.as_secs_f64()),
        "stored": stored,
        "overruns_told": missed,
        "looks_at_the_accounts": watch.looks,
    });
    Ok(problems.outcome(bound, figure, plan.rounds + hang_ups))
}
