//! The daemon is killed, hundreds of times, at any moment of its life: what was on disk then is stored in the end, once and in
//! its place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::super::stage::{BUCKET, add, add_synthetic, bucket, cameras, examine, until_streaming};
use super::super::{Outcome, Problems, Stage};
use super::{Watch, percentile, round};
use crate::daemon::{Daemon, Storage};
use crate::gcs::{GcsServer, Knobs};
use crate::oracle::Entry;
use crate::signals;
use crate::spooled::records;
use crate::synthetic::Synthetic;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Kills {
    /// How many rounds have to count: with a frame on disk, at the kill, that is not in the bucket.
    pub rounds: u64,
    /// How many synthetic cameras.
    pub cameras: usize,
    /// How many real ones beside them.
    pub real: usize,
    /// Frames a second of each synthetic one.
    pub fps: f64,
    /// Bytes of a synthetic frame.
    pub bytes: usize,
    /// In what time it must be ready again.
    pub ready: Duration,
    /// Seed of the moments.
    pub seed: u64,
}

/// When in the daemon's life it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// Before it is ready, most likely.
    Starting,
    /// Right after it was ready.
    Early,
    /// While its cameras stream.
    Streaming,
    /// Right after SIGTERM.
    Ending,
}

impl Moment {
    fn any(rng: &mut fastrand::Rng) -> Self {
        match rng.u32(0..100) {
            0..10 => Self::Starting,
            10..25 => Self::Early,
            25..90 => Self::Streaming,
            _ => Self::Ending,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Early => "early",
            Self::Streaming => "streaming",
            Self::Ending => "ending",
        }
    }
}

/// What is known of a camera's frames by their records.
type Seqs = BTreeMap<String, BTreeSet<u64>>;

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn kills(stage: &Stage, plan: &Kills) -> anyhow::Result<Outcome> {
    let calm = Knobs { seed: plan.seed, ..Knobs::default() };
    // Slow enough that there is always something on its way.
    let slow = Knobs {
        latency_median_ms: 150.0,
        latency_sigma: 1.0,
        rate_503: 0.05,
        rate_lost_answer: 0.02,
        rate_reset: 0.01,
        ..calm.clone()
    };
    let (gcs, storage) = bucket(stage, slow.clone())?;
    // Small segments, so that they are sealed and unlinked all the time.
    let spool = "[spool]\nsegment = \"1MiB\"\nmax_bytes = \"1GiB\"\n[upload]\nretry_max = \"1s\"\n";
    let mut daemon = stage.daemon(&storage, &format!("{}{spool}", stage.synthetic()?))?;
    let dir = daemon.dir().join("state/spool");
    let specs: Vec<Synthetic> = (0..plan.cameras)
        .map(|i| Synthetic::new(&format!("cam{i}")).fps(plan.fps).bytes(plan.bytes).missing(17, 23))
        .collect();
    let mut ids = add_synthetic(&daemon, &specs)?;
    let server = (plan.real > 0).then(|| cameras("real", plan.real, 10)).transpose()?;
    if let Some(server) = &server {
        ids.extend(add(&daemon, server)?);
    }
    until_streaming(&daemon, &ids, Duration::from_secs(30))?;

    let mut rng = fastrand::Rng::with_seed(plan.seed);
    let mut problems = Problems::default();
    let mut watch = Watch::default();
    let mut durable = Seqs::new();
    let mut ready = Vec::new();
    let mut counted = BTreeMap::<Moment, u64>::new();
    let (mut kills, mut outages, mut at_kills) = (0, 0, 0);
    while counted.values().sum::<u64>() < plan.rounds {
        kills += 1;
        anyhow::ensure!(kills <= 2 * plan.rounds + 10, "of {kills} kills only {counted:?} count");
        let moment = Moment::any(&mut rng);
        // In some lives nothing can be stored, so that the next ones have a backlog.
        let away = rng.u32(0..4) == 0;
        outages += u64::from(away);
        gcs.change_knobs(|knobs| *knobs = Knobs { refuse_status: away.then_some(503), ..slow.clone() })?;
        let shown = match moment {
            Moment::Starting => {
                daemon.kill()?;
                remember(&gcs, &dir, &mut durable)?;
                daemon.launch()?;
                std::thread::sleep(Duration::from_millis(rng.u64(0..250)));
                None
            }
            Moment::Early => {
                std::thread::sleep(Duration::from_millis(rng.u64(0..150)));
                Some(look(&daemon, &mut watch, &mut rng, &ids, &mut problems)?)
            }
            Moment::Streaming | Moment::Ending => {
                std::thread::sleep(Duration::from_millis(rng.u64(100..1_500)));
                let shown = look(&daemon, &mut watch, &mut rng, &ids, &mut problems)?;
                if moment == Moment::Ending {
                    signals::send(daemon.pid(), Signal::TERM)?;
                    std::thread::sleep(Duration::from_millis(rng.u64(0..300)));
                }
                Some(shown)
            }
        };
        daemon.kill()?;
        let unresolved = remember(&gcs, &dir, &mut durable)?;
        at_kills += unresolved;
        *counted.entry(moment).or_default() += u64::from(unresolved > 0);

        let begun = Instant::now();
        daemon.run()?;
        ready.push(begun.elapsed().as_secs_f64());
        watch.look(&daemon, &mut problems)?;
        if let Some((id, after, before)) = shown {
            let now = page(&daemon, &id, after)?;
            problems.check(now.starts_with(&before), || {
                format!("kill {kills}: what camera {id} showed after seq {after} is not what it shows now")
            });
        }
    }
    // At the last kill as well, all of it has to come.
    gcs.change_knobs(|knobs| *knobs = calm)?;
    until_streaming(&daemon, &ids, Duration::from_secs(60))?;
    daemon.quiesce(Duration::from_secs(120)).map_err(|error| daemon.explain(error))?;
    let judged = judge(&daemon, &gcs, &storage, &ids, &durable, &mut problems)?;

    let slowest = percentile(&mut ready, 0.99)?;
    problems.check(slowest <= plan.ready.as_secs_f64(), || format!("ready again after {slowest:.1} s (p99)"));
    let frames: usize = durable.values().map(BTreeSet::len).sum();
    problems.check(at_kills > 0, || "nothing was on disk and unresolved at any kill".to_owned());
    let bound = format!(
        "{} counted kills with {} cameras: of the frames on disk at a kill 0 missing, 0 stored twice, 0 out of order; accounts \
         exact after each; ready again within {:?} (p99)",
        plan.rounds,
        ids.len(),
        plan.ready
    );
    let figure = json!({
        "kills": kills,
        "counted": counted.iter().map(|(moment, count)| (moment.name(), *count)).collect::<BTreeMap<_, _>>(),
        "lives_without_a_bucket": outages,
        "frames_on_disk_at_a_kill": frames,
        "of_them_unresolved": at_kills,
        "frames_stored": judged.stored,
        "missing": judged.missing,
        "objects_twice": judged.twice,
        "inversions": judged.inversions,
        "seqs_lost_to_crashes": judged.crashed,
        "overruns_and_damages_told": judged.missed,
        "ready_p50_s": round(percentile(&mut ready, 0.5)?),
        "ready_p99_s": round(slowest),
        "ready_max_s": round(percentile(&mut ready, 1.0)?),
        "looks_at_the_accounts": watch.looks,
    });
    Ok(problems.outcome(bound, figure, kills))
}

/// Looks at the accounts and at the end of one camera's list: its id, the seq before it, and the entries.
fn look(
    daemon: &Daemon,
    watch: &mut Watch,
    rng: &mut fastrand::Rng,
    ids: &[String],
    problems: &mut Problems,
) -> anyhow::Result<(String, u64, Vec<Entry>)> {
    watch.look(daemon, problems)?;
    let id = ids[rng.usize(0..ids.len())].clone();
    let after = daemon.status(&id)?.watermark.saturating_sub(50);
    let shown = page(daemon, &id, after)?;
    Ok((id, after, shown))
}

/// The frames and tombstones after a seq; sessions may change, which are told to have ended afterwards.
fn page(daemon: &Daemon, id: &str, after: u64) -> anyhow::Result<Vec<Entry>> {
    #[derive(serde::Deserialize)]
    struct Page {
        entries: Vec<Entry>,
    }
    let page: Page =
        serde_json::from_str(&daemon.get(&format!("/api/v1/cameras/{id}/frames?after={after}&limit=400"))?)?;
    Ok(page.entries.into_iter().filter(|entry| !matches!(entry, Entry::Session { .. })).collect())
}

/// Notes what is on disk after a kill, and returns how many frames of it are not in the bucket.
fn remember(gcs: &GcsServer, dir: &Path, durable: &mut Seqs) -> anyhow::Result<u64> {
    let mut unresolved = 0;
    for ((camera, seq), record) in records(dir)? {
        unresolved += u64::from(!gcs.has(BUCKET, &record.key));
        durable.entry(camera).or_default().insert(seq);
    }
    Ok(unresolved)
}

#[derive(Debug, Default)]
struct Judged {
    stored: u64,
    missing: u64,
    twice: u64,
    inversions: u64,
    crashed: u64,
    missed: u64,
}

/// Lists, bucket and what was on disk must agree.
fn judge(
    daemon: &Daemon,
    gcs: &GcsServer,
    storage: &Storage,
    ids: &[String],
    durable: &Seqs,
    problems: &mut Problems,
) -> anyhow::Result<Judged> {
    let mut judged = Judged::default();
    let mut listed = BTreeMap::new();
    let nothing = BTreeSet::new();
    for id in ids {
        let (verdict, entries) = examine(daemon, storage, id, problems)?;
        judged.stored += verdict.frames;
        judged.inversions += verdict.inversions;
        let durable = durable.get(id).unwrap_or(&nothing);
        let mut stored = BTreeSet::new();
        for entry in &entries {
            match entry {
                Entry::Frame(frame) => {
                    let fresh = listed.insert(frame.url.clone(), frame.bytes).is_none();
                    problems.check(fresh, || format!("camera {id}: {} is listed twice", frame.url));
                    stored.insert(frame.seq);
                }
                Entry::Tombstone { seq, last, reason, .. } => {
                    let known = matches!(reason.as_str(), "crash" | "overrun" | "corrupt");
                    problems.check(known, || format!("camera {id}: {seq} to {last} lost({reason})"));
                    let count = last - seq + 1;
                    if reason == "crash" { judged.crashed += count } else { judged.missed += count }
                }
                Entry::Session { .. } => {}
            }
        }
        let missing: Vec<u64> = durable.difference(&stored).copied().collect();
        judged.missing += missing.len() as u64;
        problems.check(missing.is_empty(), || {
            format!(
                "camera {id}: {} frames were on disk at a kill and are not stored: {:?} ...",
                missing.len(),
                &missing[..missing.len().min(5)]
            )
        });
    }
    let mut of_seq = BTreeMap::new();
    for object in gcs.objects(BUCKET) {
        // No byte of a frame leaves before its seq is on disk, so there is no object that nobody knows of.
        let url = format!("gs://{BUCKET}/{}", object.name);
        problems.check(listed.get(&url) == Some(&object.size), || format!("{url} is in the bucket, and not in a list"));
        if let Some(other) = place(&object.name).and_then(|place| of_seq.insert(place, object.name.clone())) {
            judged.twice += 1;
            problems.check(false, || format!("{other} and {} are of one camera and seq", object.name));
        }
    }
    Ok(judged)
}

/// The camera and the seq in an object's key.
fn place(name: &str) -> Option<(String, u64)> {
    let (camera, _) = name.split_once('/')?;
    let (_, seq) = name.strip_suffix(".jpg")?.rsplit_once('-')?;
    Some((camera.to_owned(), seq.parse().ok()?))
}
