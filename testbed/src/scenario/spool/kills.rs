//! The daemon is killed, hundreds of times, at any moment of its life: what was on disk then is stored in the end, once
//! and in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::Signal;
use serde_json::json;

use super::super::stage::{BUCKET, add, add_synthetic, bucket, cameras, examine, until_streaming};
use super::super::{Outcome, Problems, Stage};
use super::{Watch, journal, percentile, round};
use crate::daemon::{Daemon, Storage, wait};
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
pub(super) type Seqs = BTreeMap<String, BTreeSet<u64>>;

/// Of how many kills one comes only when the real cameras have given frames: they need a second and more to start, and
/// most lives are shorter.
const LONG_LIFE: u64 = 10;
/// The most that a camera can lose at a kill, seconds of its frames: those on their way to the disk, whose numbers show
/// only because one that it missed after them was recorded before.
const ON_THE_WAY: f64 = 1.0;

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
    let real = &ids[plan.cameras..];
    let most_lost = (plan.fps * ON_THE_WAY) as u64;
    until_streaming(&daemon, &ids, Duration::from_secs(30))?;

    let mut rng = fastrand::Rng::with_seed(plan.seed);
    let mut problems = Problems::default();
    let mut watch = Watch::default();
    let mut durable = Seqs::new();
    let mut settled = Seqs::new();
    let mut audits = 0;
    let mut ready = Vec::new();
    let mut counted = BTreeMap::<Moment, u64>::new();
    let (mut kills, mut outages, mut at_kills) = (0, 0, 0);
    while counted.values().sum::<u64>() < plan.rounds {
        kills += 1;
        anyhow::ensure!(kills <= 2 * plan.rounds + 10, "of {kills} kills only {counted:?} count");
        // The dice are thrown all the same, so that a seed means the same moments.
        let thrown = Moment::any(&mut rng);
        let long = kills % LONG_LIFE == 5 && !real.is_empty();
        let moment = if long { Moment::Streaming } else { thrown };
        // In some lives nothing can be stored, so that the next ones have a backlog.
        let away = rng.u32(0..4) == 0;
        outages += u64::from(away);
        gcs.change_knobs(|knobs| *knobs = Knobs { refuse_status: away.then_some(503), ..slow.clone() })?;
        let shown = match moment {
            Moment::Starting => {
                daemon.kill()?;
                remember(&gcs, &dir, &mut durable)?;
                audit(&daemon, most_lost, &mut settled, &mut problems)?;
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
                if long {
                    until_captured(&daemon, real, &mut watch, &mut problems)?;
                }
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
        audit(&daemon, most_lost, &mut settled, &mut problems).with_context(|| format!("kill {kills}"))?;
        audits += 1 + u64::from(moment == Moment::Starting);
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
    let judged = judge(&daemon, &gcs, &storage, &ids, &Known { durable: &durable, settled: &settled }, &mut problems)?;
    for id in real {
        problems.check(durable.contains_key(id), || format!("no frame of {id} was on disk at any kill"));
    }
    let of_real: usize = real.iter().filter_map(|id| durable.get(id)).map(BTreeSet::len).sum();

    let slowest = percentile(&mut ready, 0.99)?;
    problems.check(slowest <= plan.ready.as_secs_f64(), || format!("ready again after {slowest:.1} s (p99)"));
    let frames: usize = durable.values().map(BTreeSet::len).sum();
    problems.check(at_kills > 0, || "nothing was on disk and unresolved at any kill".to_owned());
    let bound = format!(
        "{} counted kills with {} cameras: of the frames on disk at a kill 0 missing, 0 stored twice, 0 out of order; accounts \
         exact after each, by the API and by the journal's rows; lost(crash) only where recovery's rule has it; ready again \
         within {:?} (p99)",
        plan.rounds,
        ids.len(),
        plan.ready
    );
    let figure = json!({
        "kills": kills,
        "counted": counted.iter().map(|(moment, count)| (moment.name(), *count)).collect::<BTreeMap<_, _>>(),
        "lives_without_a_bucket": outages,
        "frames_on_disk_at_a_kill": frames,
        "of_them_of_real_cameras": of_real,
        "unresolved_at_kills": at_kills,
        "journals_read": audits,
        "frames_stored": judged.stored,
        "missing": judged.missing,
        "objects_twice": judged.twice,
        "objects_written_again": judged.again,
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

/// Waits until each of these cameras has given frames in this life of the daemon.
fn until_captured(daemon: &Daemon, ids: &[String], watch: &mut Watch, problems: &mut Problems) -> anyhow::Result<()> {
    let before: BTreeMap<String, u64> = ids.iter().map(|id| (id.clone(), watch.captured[id])).collect();
    let found = wait(Duration::from_secs(30), || {
        watch.look(daemon, problems)?;
        Ok(before.iter().all(|(id, before)| watch.captured[id] > *before).then_some(()))
    });
    found.map_err(|error| daemon.explain(error)).context("no frame of a real camera")
}

/// Judges the journal as the kill has left it, and notes which seqs the next start has to settle as `lost(crash)`:
/// those below the highest that spool or journal know of which neither knows. A spooled one is never among them.
fn audit(daemon: &Daemon, most: u64, settled: &mut Seqs, problems: &mut Problems) -> anyhow::Result<()> {
    let state = daemon.dir().join("state");
    let mut spooled = Seqs::new();
    for (camera, seq) in records(&state.join("spool"))?.into_keys() {
        spooled.entry(camera).or_default().insert(seq);
    }
    let journal = journal::read(&state)?;
    let unknown = spooled.keys().find(|id| !journal.contains_key(*id));
    problems
        .check(unknown.is_none(), || format!("the spool has frames of camera {unknown:?}, the journal not its row"));
    for (id, ledger) in journal {
        let wrong = ledger.wrong();
        problems.check(wrong.is_empty(), || format!("camera {id}: in the journal {}: {ledger:?}", wrong.join(", ")));
        let holes = ledger.holes(spooled.get(&id).unwrap_or(&BTreeSet::new()));
        problems.check(holes.len() as u64 <= most, || format!("camera {id}: {} frames go at one kill", holes.len()));
        settled.entry(id).or_default().extend(holes);
    }
    Ok(())
}

/// Notes what is on disk after an end, and returns how many frames of it are not in the bucket.
pub(super) fn remember(gcs: &GcsServer, dir: &Path, durable: &mut Seqs) -> anyhow::Result<u64> {
    let mut unresolved = 0;
    for ((camera, seq), record) in records(dir)? {
        unresolved += u64::from(!gcs.has(BUCKET, &record.key));
        durable.entry(camera).or_default().insert(seq);
    }
    Ok(unresolved)
}

/// What is known from the files as the kills left them.
struct Known<'a> {
    durable: &'a Seqs,
    /// Seqs that a start had to settle as lost.
    settled: &'a Seqs,
}

#[derive(Debug, Default)]
struct Judged {
    stored: u64,
    missing: u64,
    twice: u64,
    again: u64,
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
    known: &Known<'_>,
    problems: &mut Problems,
) -> anyhow::Result<Judged> {
    let mut judged = Judged::default();
    let mut listed = BTreeMap::new();
    let nothing = BTreeSet::new();
    for id in ids {
        let (verdict, entries) = examine(daemon, storage, id, problems)?;
        judged.stored += verdict.frames;
        judged.inversions += verdict.inversions;
        let durable = known.durable.get(id).unwrap_or(&nothing);
        let (mut stored, mut crashed) = (BTreeSet::new(), BTreeSet::new());
        for entry in &entries {
            match entry {
                Entry::Frame(frame) => {
                    let fresh = listed.insert(frame.url.clone(), frame.bytes).is_none();
                    problems.check(fresh, || format!("camera {id}: {} is listed twice", frame.url));
                    stored.insert(frame.seq);
                }
                Entry::Tombstone { seq, last, reason, .. } => {
                    let lawful = matches!(reason.as_str(), "crash" | "overrun" | "corrupt");
                    problems.check(lawful, || format!("camera {id}: {seq} to {last} lost({reason})"));
                    if reason == "crash" {
                        crashed.extend(*seq..=*last);
                    } else {
                        judged.missed += last - seq + 1;
                    }
                }
                Entry::Session { .. } => {}
            }
        }
        judged.crashed += crashed.len() as u64;
        let lawful = known.settled.get(id).unwrap_or(&nothing);
        problems.check(crashed == *lawful, || {
            let apart: Vec<_> = crashed.symmetric_difference(lawful).take(5).collect();
            format!("camera {id}: {} lost(crash), by the files it must be {}: {apart:?}", crashed.len(), lawful.len())
        });
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
    let objects = gcs.objects(BUCKET);
    // One that was written over under its own name is one object, and two writes.
    judged.again = gcs.stats().puts_stored - objects.len() as u64;
    problems.check(judged.again == 0, || format!("{} objects were written over", judged.again));
    let mut of_seq = BTreeMap::new();
    for object in objects {
        // No byte of a frame leaves before its seq is on disk, so there is no object that nobody knows of.
        // Manifests are none.
        if object.name.starts_with("_manifest/") {
            continue;
        }
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
