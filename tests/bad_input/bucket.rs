//! A bucket that refuses.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use testbed::daemon::{Credentials, Daemon, Status, Storage};
use testbed::gcs::{GcsServer, Knobs, Options};
use testbed::oracle::Entry;

use super::vocabulary::{PATIENCE, assert_sound, cameras, get, leave, stage};

const BUCKET: &str = "frames";
const QUICK_RETRIES: &str = "[upload]\nretry_min = \"50ms\"\nretry_max = \"500ms\"\n";

/// A bucket that does not let us in is asked every 31.5 seconds at the latest, and every other time that may be for a
/// manifest, which no camera tells of.
const ASKED_AGAIN: Duration = Duration::from_secs(75);

/// Without a spool memory is all there is.
const MEMORY: &str = "[spool]\ndurability = \"memory\"\n";

fn bucket(refuse_status: Option<u16>) -> anyhow::Result<(GcsServer, Storage)> {
    let knobs = Knobs { refuse_status, ..Knobs::default() };
    let gcs = GcsServer::start(Options { buckets: vec![BUCKET.to_owned()], knobs, ..Options::default() })?;
    let storage =
        Storage::Gcs { endpoint: gcs.endpoint(), bucket: BUCKET.to_owned(), credentials: Credentials::Anonymous };
    Ok((gcs, storage))
}

fn refuse(gcs: &GcsServer, status: Option<u16>) -> anyhow::Result<()> {
    gcs.change_knobs(|knobs| knobs.refuse_status = status)
}

#[test]
fn nothing_is_lost_while_a_bucket_refuses_for_a_while() -> anyhow::Result<()> {
    let stage = stage()?;
    let server = cameras("right")?;
    let (gcs, storage) = bucket(None)?;
    let daemon = stage.daemon(&storage, QUICK_RETRIES)?;
    daemon.put_camera("gate", &json!({ "url": server.url("open") }))?;
    daemon.wait_for("gate", PATIENCE, |status| status.totals.stored > 0)?;

    for (status, kind, way_out) in [
        (403, "auth", "storage.objects.create"),
        (401, "auth", "storage.credentials"),
        (404, "not_found", "storage.url"),
    ] {
        refuse(&gcs, Some(status))?;
        let told = |seen: &Status| {
            seen.last_error.as_ref().is_some_and(|error| error.to_string().contains(&status.to_string()))
        };
        let seen = daemon.wait_for("gate", ASKED_AGAIN, told)?;
        let error = seen.last_error.unwrap_or_default();
        assert_eq!((&error["source"], &error["kind"]), (&json!("upload"), &json!(kind)), "{error}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains("gs://frames") && message.contains(way_out), "{message}");
        // Two more seconds of frames, none of which can go anywhere.
        let stored = seen.totals.stored;
        let later = daemon.wait_for("gate", PATIENCE, |later| later.totals.captured >= seen.totals.captured + 20)?;
        assert_eq!((&*later.state, later.totals.lost, later.totals.stored), ("streaming", 0, stored), "{later:?}");
        assert!(later.totals.in_flight >= 20 && later.totals.add_up(), "{later:?}");
        assert_eq!(get(&daemon, "/readyz")?.status, 200);
    }
    assert!(gcs.stats().injected.refused > 0);

    refuse(&gcs, None)?;
    daemon.wait_for("gate", ASKED_AGAIN, |status| status.last_error.is_none() && status.totals.in_flight <= 2)?;
    daemon.quiesce(PATIENCE)?;
    let totals = daemon.status("gate")?.totals;
    assert_eq!((totals.stored, totals.lost), (totals.captured, 0));
    assert_sound(&daemon, "gate", Some(&gcs.endpoint()))?;
    leave(daemon)
}

/// Frames in memory, waiting or on their way.
fn held(daemon: &Daemon) -> anyhow::Result<u64> {
    let metrics = daemon.get("/metrics")?;
    let series = metrics.lines().find_map(|line| line.strip_prefix("framehaul_memory_frames{")?.split_once("} "));
    Ok(series.context("no frames in memory are told")?.1.parse()?)
}

#[test]
fn what_memory_cannot_hold_is_dropped_oldest_first_and_listed() -> anyhow::Result<()> {
    let stage = stage()?;
    let server = cameras("right")?;
    let (gcs, storage) = bucket(Some(403))?;
    let daemon = stage.daemon(&storage, &format!("{QUICK_RETRIES}{MEMORY}[memory]\nframes = 32"))?;
    daemon.put_camera("gate", &json!({ "url": server.url("open") }))?;
    let mut looks = 0;
    let full = daemon.wait_for("gate", PATIENCE, |status| {
        assert!(status.totals.add_up(), "{status:?}");
        // Not by what is in flight: that is what the disk does not know to be lost yet, too.
        let held = held(&daemon).unwrap();
        assert!(held <= 32, "{held} frames in memory: {status:?}");
        looks += 1;
        status.totals.lost >= 20
    })?;
    assert!(looks > 10, "{looks}");
    assert_eq!((&*full.state, full.generation, full.totals.stored), ("streaming", 1, 0));

    refuse(&gcs, None)?;
    daemon.wait_for("gate", ASKED_AGAIN, |status| {
        assert!(status.totals.add_up(), "{status:?}");
        status.last_error.is_none() && status.totals.in_flight <= 2
    })?;
    daemon.quiesce(PATIENCE)?;
    let entries = assert_sound(&daemon, "gate", Some(&gcs.endpoint()))?;
    let lost: Vec<(u64, u64)> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Tombstone { seq, last, reason, maybe_stored, .. } => {
                assert_eq!((reason.as_str(), *maybe_stored), ("memory_full", false), "{entry:?}");
                Some((*seq, *last))
            }
            _ => None,
        })
        .collect();
    // Oldest first: all that was dropped lies before all that was kept, from the first frame on.
    let count: u64 = lost.iter().map(|(first, last)| last - first + 1).sum();
    assert!(count >= 20);
    assert_eq!((lost.first().map(|(first, _)| *first), lost.last().map(|(_, last)| *last)), (Some(1), Some(count)));
    leave(daemon)
}
