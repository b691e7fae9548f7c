//! Many cameras into a slow and failing bucket: the lists are complete and in order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use super::stage::{add, bucket, cameras, counter, examine};
use super::{Outcome, Problems, Stage};
use crate::daemon::Daemon;
use crate::gcs::Knobs;
use crate::oracle::{Entry, List};

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Order {
    /// How many cameras.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: u32,
    /// Frames of all cameras together after which it ends.
    pub frames: u64,
    /// Median of the bucket's lognormal latency, milliseconds.
    pub latency_ms: f64,
    /// Its sigma.
    pub sigma: f64,
    /// Share of requests answered 503.
    pub rate_503: f64,
    /// Share of uploads that are stored and answered 503 all the same.
    pub rate_lost_answer: f64,
    /// Seed of the bucket's dice.
    pub seed: u64,
}

/// How often the lists are read while the cameras stream.
const READ_EVERY: Duration = Duration::from_millis(200);

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn order(stage: &Stage, plan: &Order) -> anyhow::Result<Outcome> {
    let knobs = Knobs {
        latency_median_ms: plan.latency_ms,
        latency_sigma: plan.sigma,
        rate_503: plan.rate_503,
        rate_lost_answer: plan.rate_lost_answer,
        seed: plan.seed,
        ..Knobs::default()
    };
    let (gcs, storage) = bucket(stage, knobs)?;
    let server = cameras("cam", plan.cameras, plan.fps)?;
    let daemon = stage.daemon(&storage, "")?;
    let ids = add(&daemon, &server)?;
    let share = plan.frames.div_ceil(plan.cameras as u64);
    let patience = Duration::from_secs(60 + 2 * share / u64::from(plan.fps));
    let mut problems = Problems::default();
    let mut growing = Growing::default();
    let deadline = Instant::now() + patience;
    loop {
        let statuses = daemon.statuses()?;
        for (id, status) in &statuses {
            growing.read(&daemon, id, status.totals.in_flight > 0, &mut problems)?;
        }
        if statuses.len() == ids.len() && statuses.iter().all(|(_, status)| status.totals.captured >= share) {
            break;
        }
        anyhow::ensure!(Instant::now() < deadline, "not {share} frames of each camera within {patience:?}");
        std::thread::sleep(READ_EVERY);
    }
    daemon.quiesce(Duration::from_secs(60))?;
    let injected = gcs.stats().injected;
    // The oracle's own reading is not what is tested.
    gcs.change_knobs(|knobs| *knobs = Knobs::default())?;

    let (mut frames, mut repeats, mut missing, mut lost) = (0, 0, 0, 0);
    for id in &ids {
        let (verdict, entries) = examine(&daemon, &storage, id, &mut problems)?;
        growing.read(&daemon, id, false, &mut problems)?;
        problems.check(verdict.sessions == 1, || format!("camera {id}: {} sessions", verdict.sessions));
        for limit in [7, 100] {
            let same = daemon.list(id, limit)?.entries == entries;
            problems.check(same, || format!("camera {id}: pages of {limit} give another list than pages of 1000"));
        }
        frames += verdict.frames;
        repeats += verdict.repeats;
        missing += verdict.gaps + verdict.missing + verdict.seq_holes;
        lost += verdict.tombstoned;
    }
    problems.check(injected.status_503 > 0 || plan.rate_503 == 0.0, || "no 503 was injected".to_owned());
    problems.check(injected.lost_answers > 0 || plan.rate_lost_answer == 0.0, || "no answer was lost".to_owned());
    let conflicts = counter(&daemon, "framehaul_upload_conflicts_total", &[])?;
    problems.check(conflicts == 0, || format!("{conflicts} frames met another object under their key"));
    let stats = gcs.stats();
    problems.check(stats.duplicates_refused >= injected.lost_answers, || {
        format!("{} answers were lost, only {} puts were repeated", injected.lost_answers, stats.duplicates_refused)
    });
    problems.check(stats.precondition_failures == stats.duplicates_refused, || {
        "a put met other content under its key".to_owned()
    });
    problems.check(growing.while_unresolved > 0, || "no list was read while a frame was on its way".to_owned());
    problems.check(lost == 0, || format!("{lost} frames were lost"));
    problems.check(frames >= plan.frames, || format!("only {frames} of {} frames", plan.frames));
    let bound = format!(
        "{} frames of {} cameras: seqs +1, pixels rise, 0 repeats, 0 missing, 0 lost; pages of 7, 100 and 1000 \
         agree; every list read on the way has no hole and is a prefix of all later ones",
        plan.frames, plan.cameras
    );
    let figure = json!({
        "frames": frames,
        "repeats": repeats,
        "missing": missing,
        "lost": lost,
        "answers_503": injected.status_503,
        "lost_answers": injected.lost_answers,
        "lists_read_on_the_way": growing.reads,
        "of_them_with_frames_in_flight": growing.while_unresolved,
    });
    Ok(problems.outcome(bound, figure, injected.status_503 + injected.lost_answers))
}

/// Lists that are read while they grow.
#[derive(Default)]
struct Growing {
    /// What was read last of each camera.
    last: BTreeMap<String, Vec<Entry>>,
    reads: u64,
    while_unresolved: u64,
}

impl Growing {
    /// Reads a camera's list once more and notes where it has a hole or contradicts what was read before.
    fn read(&mut self, daemon: &Daemon, id: &str, unresolved: bool, problems: &mut Problems) -> anyhow::Result<()> {
        let List { watermark, mut entries } = daemon.list(id, 1_000)?;
        let mut next = 1;
        for entry in &mut entries {
            let (first, last) = match entry {
                Entry::Frame(frame) => (frame.seq, frame.seq),
                Entry::Tombstone { seq, last, .. } => (*seq, *last),
                // All else in a list is final; a session's end is told when it comes.
                Entry::Session { closed, why, .. } => {
                    (*closed, *why) = (None, None);
                    continue;
                }
            };
            problems.check(first == next && first <= last, || {
                format!("camera {id}: after seq {} the growing list goes on with {first} to {last}", next - 1)
            });
            next = last + 1;
        }
        problems.check(next == watermark + 1, || {
            format!("camera {id}: the growing list ends at seq {}, its watermark is {watermark}", next - 1)
        });
        let before = self.last.entry(id.to_owned()).or_default();
        problems.check(entries.starts_with(before), || {
            format!("camera {id}: what was read up to entry {} is not how the list begins now", before.len())
        });
        *before = entries;
        self.reads += 1;
        self.while_unresolved += u64::from(unresolved);
        Ok(())
    }
}
