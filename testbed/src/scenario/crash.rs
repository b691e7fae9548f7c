//! The daemon is killed in the middle of its work, again and again: no seq is used twice, and no account is off.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use super::stage::{BUCKET, add, bucket, examine, until_streaming};
use super::{Outcome, Problems, Stage};
use crate::cameras::{CameraServer, CameraSpec, default_cache_dir};
use crate::daemon::Daemon;
use crate::gcs::Knobs;
use crate::oracle::Entry;
use crate::signals;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Crash {
    /// How often the daemon is killed.
    pub rounds: u64,
    /// How many cameras stream.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: u32,
    /// Seed of the moments.
    pub seed: u64,
}

/// Seqs that a camera reserves at a time; the next block is asked for when half of one is left.
const BLOCK: u64 = 1_024;

/// When in the daemon's life it is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Right after its start, most likely before a camera streams.
    Early,
    /// While its cameras stream.
    Streaming,
    /// While they stream, out of their second block of seqs.
    SecondBlock,
    /// Right after SIGTERM.
    Ending,
}

impl Moment {
    /// Of round 1, 2 and so on: three rounds have all moments but the plain one.
    fn of(round: u64, rounds: u64) -> Self {
        match round {
            _ if round % 10 == 1 => Self::SecondBlock,
            _ if round % 5 == 2 => Self::Early,
            _ if round % 8 == 3 || round == rounds => Self::Ending,
            _ => Self::Streaming,
        }
    }

    /// Whether each camera has an open session then, for sure.
    fn streams(self) -> bool {
        matches!(self, Self::Streaming | Self::SecondBlock)
    }
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn crash(stage: &Stage, plan: &Crash) -> anyhow::Result<Outcome> {
    // Slow enough that there is always something on its way.
    let knobs = Knobs { latency_median_ms: 80.0, latency_sigma: 1.0, seed: plan.seed, ..Knobs::default() };
    let (gcs, storage) = bucket(stage, knobs)?;
    let small = |i| CameraSpec::new(&format!("cam{i}")).size(320, 240).rate(plan.fps, plan.fps);
    let specs: Vec<CameraSpec> = (0..plan.cameras).map(small).collect();
    let server = CameraServer::start(&specs, 0, default_cache_dir())?;
    // With a spool nothing is unknown after a kill: that is tried elsewhere.
    let mut daemon = stage.daemon(&storage, "[spool]\ndurability = \"memory\"")?;
    let ids = add(&daemon, &server)?;
    let mut rng = fastrand::Rng::with_seed(plan.seed);
    let mut problems = Problems::default();
    let mut in_flight_at_kills = 0;
    let mut captured: BTreeMap<String, u64> = BTreeMap::new();
    let moments: Vec<Moment> = (1..=plan.rounds).map(|round| Moment::of(round, plan.rounds)).collect();
    let count = |wanted: fn(Moment) -> bool| moments.iter().filter(|moment| wanted(**moment)).count() as u64;
    let certain = count(Moment::streams);
    for (round, moment) in (1..).zip(moments.iter().copied()) {
        let wait_ms = match moment {
            Moment::Early => rng.u64(0..300),
            _ => rng.u64(200..2_500),
        };
        if moment != Moment::Early {
            until_streaming(&daemon, &ids, Duration::from_secs(30))?;
        }
        if moment == Moment::SecondBlock {
            let patience = Duration::from_secs(60 + 2 * BLOCK / u64::from(plan.fps));
            for id in &ids {
                let wanted = captured.get(id).unwrap_or(&0) + BLOCK / 2 + 10;
                daemon.wait_for(id, patience, |status| status.totals.captured >= wanted)?;
            }
        }
        std::thread::sleep(Duration::from_millis(wait_ms));
        for (id, status) in daemon.statuses()? {
            problems.check(status.totals.add_up(), || format!("round {round}: camera {id}: {:?}", status.totals));
            in_flight_at_kills += status.totals.in_flight;
        }
        if moment == Moment::Ending {
            signals::send(daemon.pid(), Signal::TERM)?;
            std::thread::sleep(Duration::from_millis(rng.u64(0..100)));
        }
        daemon.kill()?;
        daemon.run()?;
        for (id, status) in daemon.statuses()? {
            problems.check(status.totals.add_up(), || {
                format!("round {round}, restarted: camera {id}: {:?}", status.totals)
            });
            let before = captured.insert(id.clone(), status.totals.captured).unwrap_or(0);
            let used = status.totals.captured - before;
            problems.check(moment != Moment::SecondBlock || used > BLOCK, || {
                format!("round {round}: camera {id} used {used} seqs, not more than a block")
            });
            problems.check(status.state != "deleted", || format!("round {round}: camera {id} is gone"));
        }
    }
    until_streaming(&daemon, &ids, Duration::from_secs(30))?;
    daemon.quiesce(Duration::from_secs(60))?;
    // The oracle's own reading is not what is tested.
    gcs.change_knobs(|knobs| knobs.latency_median_ms = 0.0)?;

    let mut accounted: BTreeMap<String, u64> = BTreeMap::new();
    let mut urls = HashSet::new();
    let mut seqs_lost_to_crashes = 0;
    let mut tails = 0;
    let mut crashed_sessions = 0;
    for id in &ids {
        let (_, entries) = examine(&daemon, &storage, id, &mut problems)?;
        // What a kill leaves unknown at the end of what was reserved is one range, a tail: the last entry before the
        // next session, or before the next tail where that life of the daemon reserved seqs and came to no session.
        let (mut tails_here, mut crashed, mut without_session) = (0, 0, 0);
        // Whether the session being read was ended by a kill, and whether its last entry so far is a tombstone.
        let (mut session_crashed, mut ends_in_range) = (false, false);
        let last_one = Entry::Session {
            session: 0,
            opened: String::new(),
            closed: None,
            why: None,
            codec: None,
            width: None,
            height: None,
        };
        for entry in entries.iter().chain([&last_one]) {
            match entry {
                Entry::Frame(frame) => {
                    let fresh = urls.insert(frame.url.clone());
                    problems.check(fresh, || format!("camera {id}: {} is listed twice", frame.url));
                    accounted.insert(frame.url.clone(), frame.bytes);
                    ends_in_range = false;
                }
                Entry::Tombstone { seq, last, reason, maybe_stored, .. } => {
                    problems
                        .check(reason == "crash" && *maybe_stored, || format!("camera {id}: lost({reason}) at {seq}"));
                    without_session += u64::from(ends_in_range);
                    seqs_lost_to_crashes += last - seq + 1;
                    ends_in_range = true;
                }
                Entry::Session { session, why, .. } => {
                    tails_here += u64::from(ends_in_range);
                    problems.check(ends_in_range || !session_crashed, || {
                        format!("camera {id}: the session before session {session} ends in no crash range")
                    });
                    session_crashed = why.as_deref() == Some("crash");
                    crashed += u64::from(session_crashed);
                    ends_in_range = false;
                }
            }
        }
        // A session whose daemon had just been told to end is closed already or not; one round's kill makes one at
        // most.
        problems.check((certain..=plan.rounds).contains(&crashed), || {
            format!("camera {id}: {crashed} sessions were ended by a crash, of {certain} to {}", plan.rounds)
        });
        let early = count(|moment| moment == Moment::Early);
        problems.check(without_session <= early, || {
            format!("camera {id}: {without_session} times two crash ranges where one would do, {early} early kills")
        });
        tails_here += without_session;
        problems.check((certain..=plan.rounds).contains(&tails_here), || {
            format!("camera {id}: {tails_here} crash ranges at the ends of blocks, of {certain} to {}", plan.rounds)
        });
        tails += tails_here;
        crashed_sessions += crashed;
    }

    // The other direction: every object in the bucket is listed, or the list says that it may be there.
    let mut unlisted = 0;
    let mut of_seq: HashMap<(String, u64), String> = HashMap::new();
    for object in gcs.objects(BUCKET).into_iter().filter(|object| !object.name.starts_with("_manifest/")) {
        match place(&object.name) {
            Some(place) => {
                if let Some(other) = of_seq.insert(place, object.name.clone()) {
                    problems.check(false, || format!("{other} and {} are of one camera and seq", object.name));
                }
            }
            None => problems.check(false, || format!("{} is no key of ours", object.name)),
        }
        let url = format!("gs://{BUCKET}/{}", object.name);
        match accounted.get(&url) {
            Some(bytes) => {
                problems.check(*bytes == object.size, || format!("{url}: {} bytes, listed {bytes}", object.size))
            }
            None => {
                unlisted += 1;
                problems.check(may_be_stored(&daemon, &object.name)?, || {
                    format!("{url} is in the bucket and not in a list")
                });
            }
        }
    }
    problems.check(in_flight_at_kills > 0, || "nothing was on its way at any kill".to_owned());
    let bound = format!(
        "{} kills, also before streams open, in second blocks and at the end: cameras back, no seq twice in lists or bucket, \
         the unknown rest one range, identity exact, journal and bucket agree",
        plan.rounds
    );
    let figure = json!({
        "kills": plan.rounds,
        "kills_early": count(|moment| moment == Moment::Early),
        "kills_in_second_blocks": count(|moment| moment == Moment::SecondBlock),
        "kills_after_sigterm": count(|moment| moment == Moment::Ending),
        "sessions_ended_by_a_crash": crashed_sessions,
        "in_flight_at_kills": in_flight_at_kills,
        "frames_listed": accounted.len(),
        "crash_ranges_at_block_ends": tails,
        "seqs_lost_to_crashes": seqs_lost_to_crashes,
        "objects_under_maybe_stored_tombstones": unlisted,
    });
    Ok(problems.outcome(bound, figure, plan.rounds))
}

/// The camera and the seq in an object's key.
fn place(name: &str) -> Option<(String, u64)> {
    let (camera, _) = name.split_once('/')?;
    let (_, seq) = name.strip_suffix(".jpg")?.rsplit_once('-')?;
    Some((camera.to_owned(), seq.parse().ok()?))
}

/// Whether an object's seq lies under a tombstone of its camera that says so.
fn may_be_stored(daemon: &Daemon, name: &str) -> anyhow::Result<bool> {
    let Some((camera, wanted)) = place(name) else { return Ok(false) };
    let page: Page = serde_json::from_str(&daemon.get(&format!("/api/v1/cameras/{camera}/frames?after=0&limit=1"))?)?;
    anyhow::ensure!(wanted <= page.watermark, "seq {wanted} is past the watermark");
    let list = daemon.list(&camera, 1_000)?;
    Ok(list.entries.iter().any(|entry| {
        matches!(entry, Entry::Tombstone { seq, last, maybe_stored: true, .. } if (*seq..=*last).contains(&wanted))
    }))
}

#[derive(serde::Deserialize)]
struct Page {
    watermark: u64,
}
