//! The daemon is killed in the middle of its work, again and again: no seq is used twice, and no account is off.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde_json::json;

use super::stage::{BUCKET, add, bucket, cameras, examine, until_streaming};
use super::{Outcome, Problems, Stage};
use crate::gcs::Knobs;
use crate::oracle::Entry;

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

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn crash(stage: &Stage, plan: &Crash) -> anyhow::Result<Outcome> {
    // Slow enough that there is always something on its way.
    let knobs = Knobs { latency_median_ms: 80.0, latency_sigma: 1.0, seed: plan.seed, ..Knobs::default() };
    let (gcs, storage) = bucket(stage, knobs)?;
    let server = cameras("cam", plan.cameras, plan.fps)?;
    let mut daemon = stage.daemon(&storage, "")?;
    let ids = add(&daemon, &server)?;
    let mut rng = fastrand::Rng::with_seed(plan.seed);
    let mut problems = Problems::default();
    let mut in_flight_at_kills = 0;
    for round in 1..=plan.rounds {
        until_streaming(&daemon, &ids, Duration::from_secs(30))?;
        std::thread::sleep(Duration::from_millis(rng.u64(200..2_500)));
        for (id, status) in daemon.statuses()? {
            problems.check(status.totals.add_up(), || format!("round {round}: camera {id}: {:?}", status.totals));
            in_flight_at_kills += status.totals.in_flight;
        }
        daemon.kill()?;
        daemon.run()?;
        for (id, status) in daemon.statuses()? {
            problems.check(status.totals.add_up(), || {
                format!("round {round}, restarted: camera {id}: {:?}", status.totals)
            });
            problems.check(status.state != "deleted", || format!("round {round}: camera {id} is gone"));
        }
    }
    until_streaming(&daemon, &ids, Duration::from_secs(30))?;
    daemon.quiesce(Duration::from_secs(60))?;

    let mut accounted: BTreeMap<String, u64> = BTreeMap::new();
    let mut urls = HashSet::new();
    let mut seqs_lost_to_crashes = 0;
    let mut tails = 0;
    for id in &ids {
        let (_, entries) = examine(&daemon, &storage, id, &mut problems)?;
        // Every session but the last was ended by a kill, and its unknown rest is one range, the last of its entries.
        let mut ends_in_crash = false;
        let mut tails_here = 0;
        for entry in &entries {
            match entry {
                Entry::Frame(frame) => {
                    let fresh = urls.insert(frame.url.clone());
                    problems.check(fresh, || format!("camera {id}: {} is listed twice", frame.url));
                    accounted.insert(frame.url.clone(), frame.bytes);
                    ends_in_crash = false;
                }
                Entry::Tombstone { seq, last, reason, maybe_stored, .. } => {
                    problems
                        .check(reason == "crash" && *maybe_stored, || format!("camera {id}: lost({reason}) at {seq}"));
                    problems.check(!ends_in_crash, || {
                        format!("camera {id}: two tombstones where one range would do, at {seq}")
                    });
                    seqs_lost_to_crashes += last - seq + 1;
                    ends_in_crash = true;
                }
                Entry::Session { .. } => {
                    tails_here += u64::from(ends_in_crash);
                    ends_in_crash = false;
                }
            }
        }
        problems.check(tails_here == plan.rounds, || {
            format!("camera {id}: {tails_here} sessions end in a crash range, {} kills", plan.rounds)
        });
        tails += tails_here;
    }

    // The other direction: every object in the bucket is listed, or the list says that it may be there.
    let mut unlisted = 0;
    for object in gcs.objects(BUCKET) {
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
        "{} kills: cameras back, no seq twice, the unknown rest one range, identity exact, journal and bucket agree",
        plan.rounds
    );
    let figure = json!({
        "kills": plan.rounds,
        "in_flight_at_kills": in_flight_at_kills,
        "frames_listed": accounted.len(),
        "crash_ranges_at_block_ends": tails,
        "seqs_lost_to_crashes": seqs_lost_to_crashes,
        "objects_under_maybe_stored_tombstones": unlisted,
    });
    Ok(problems.outcome(bound, figure, plan.rounds))
}

/// Whether an object's seq lies under a tombstone of its camera that says so.
fn may_be_stored(daemon: &crate::daemon::Daemon, name: &str) -> anyhow::Result<bool> {
    let camera = name.split('/').next().unwrap_or_default();
    let digits = name.trim_end_matches(".jpg").rsplit('-').next().unwrap_or_default();
    let Ok(wanted) = digits.parse::<u64>() else { return Ok(false) };
    let page: Page = serde_json::from_str(&daemon.get(&format!("/api/v1/cameras/{camera}/frames?after=0&limit=1"))?)?;
    anyhow::ensure!(wanted <= page.watermark, "seq {wanted} is past the watermark");
    let list = daemon.list(camera, 1_000)?;
    Ok(list.entries.iter().any(|entry| {
        matches!(entry, Entry::Tombstone { seq, last, maybe_stored: true, .. } if (*seq..=*last).contains(&wanted))
    }))
}

#[derive(serde::Deserialize)]
struct Page {
    watermark: u64,
}
