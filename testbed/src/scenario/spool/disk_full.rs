//! The disk with state and spool is full, first by somebody else's doing, then by the spool's own: the daemon stays,
//! tells each frame that found no room, and goes on by itself.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use super::super::stage::{add_synthetic, bucket, examine};
use super::super::{Outcome, Problems, Stage};
use super::tmpfs::Tmpfs;
use super::{Watch, journal, kept_up, round};
use crate::daemon::{Daemon, Status, wait};
use crate::gcs::Knobs;
use crate::oracle::Entry;
use crate::synthetic::Synthetic;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct DiskFull {
    /// The disk's size, MiB.
    pub disk_mib: u64,
    /// How often somebody else fills it.
    pub times: u64,
    /// How long it stays full each time.
    pub lasts: Duration,
    /// In what time after that a new frame of each camera must be stored.
    pub within: Duration,
    /// How many cameras.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: f64,
    /// Bytes of each.
    pub bytes: usize,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer, or nothing may be mounted.
pub fn disk_full(stage: &Stage, plan: &DiskFull) -> anyhow::Result<Outcome> {
    let (gcs, storage) = bucket(stage, Knobs { latency_ms: 20, ..Knobs::default() })?;
    let config = format!("{}[spool]\nsegment = \"1MiB\"\n[upload]\nretry_max = \"2s\"\n", stage.synthetic()?);
    let mut daemon = stage.prepare_in("small", &storage, &config)?;
    let disk = Tmpfs::mount(&daemon.dir().join("state"), plan.disk_mib)?;
    daemon.run()?;
    let pid = daemon.pid();
    let specs: Vec<Synthetic> =
        (0..plan.cameras).map(|i| Synthetic::new(&format!("cam{i}")).bytes(plan.bytes).fps(plan.fps)).collect();
    let ids = add_synthetic(&daemon, &specs)?;
    let mut problems = Problems::default();
    let mut watch = Watch::default();
    let patience = Duration::from_secs(60);
    let each = plan.cameras as u64;
    let start = watch.until(&daemon, patience, &mut problems, |totals| totals.stored > 5 * each)?;
    let begun = Instant::now();

    let mut back: Vec<f64> = Vec::new();
    let (mut taken, mut filled) = (0, 0);
    for time in 1..=plan.times {
        let before = watch.look(&daemon, &mut problems)?;
        let end = Instant::now() + plan.lasts;
        let taken_before = taken;
        while Instant::now() < end {
            // What the daemon gives up is taken as well.
            taken += disk.fill()?;
            watch.look(&daemon, &mut problems).map_err(|error| daemon.explain(error))?;
            std::thread::sleep(Duration::from_millis(50));
        }
        filled += u64::from(taken > taken_before);
        disk.empty()?;
        let took = stored_again(&daemon, &ids, patience)?;
        problems.check(took <= plan.within, || {
            format!("time {time}: frames were stored again {took:.1?} after there was room")
        });
        back.push(round(took.as_secs_f64()));
        // What found no room is told as soon as the journal has some.
        watch
            .until(&daemon, patience, &mut problems, |totals| totals.lost > before.lost)
            .with_context(|| format!("time {time}: the disk was full, and all frames had room"))?;
    }

    // The cloud's turn: the spool itself fills the disk.
    gcs.change_knobs(|knobs| knobs.refuse_status = Some(503))?;
    let lost = watch.look(&daemon, &mut problems)?.lost;
    let rate = plan.fps * plan.cameras as f64 * plan.bytes as f64;
    let time = Duration::from_secs_f64(5.0 * (plan.disk_mib << 20) as f64 / rate) + patience;
    watch.until(&daemon, time, &mut problems, |totals| totals.lost > lost + 2 * each)?;
    let refused = gcs.stats().injected.refused;
    watch.during(&daemon, plan.lasts, &mut problems)?;
    let full = daemon.statuses()?;
    let backlog = full.iter().map(|(_, status)| status.totals.in_flight).sum::<u64>();
    gcs.change_knobs(|knobs| *knobs = Knobs::default())?;
    let returned = Instant::now();
    // More than found room by chance: what a camera gives in a second.
    wait(patience, || {
        let kept = |(_, status): &(String, Status)| status.totals.stored + status.totals.in_flight;
        let statuses = daemon.statuses()?;
        let back = statuses.iter().zip(&full).all(|(now, before)| kept(now) >= kept(before) + plan.fps as u64);
        Ok(back.then_some(()))
    })
    .map_err(|error| daemon.explain(error))
    .context("the bucket is back, and no new frame has room")?;
    let room = returned.elapsed();
    problems.check(room <= plan.within, || format!("new frames had room {room:.1?} after the bucket was back"));
    stored_again(&daemon, &ids, patience)?;
    let own = returned.elapsed();
    let captured = watch.look(&daemon, &mut problems)?.captured - start.captured;
    let seconds = begun.elapsed().as_secs_f64();
    let share = kept_up(&mut problems, "stored or lost", captured, plan.cameras, plan.fps, seconds);
    problems.check(daemon.pid() == pid, || "the daemon was started again".to_owned());

    daemon.quiesce(patience).map_err(|error| daemon.explain(error))?;
    let (mut stored, mut told) = (0, 0);
    let judge_all = |daemon: &Daemon, problems: &mut Problems| {
        let mut entries = Vec::new();
        for id in &ids {
            entries.push(examine(daemon, &storage, id, problems)?);
        }
        anyhow::Ok(entries)
    };
    let lists = judge_all(&daemon, &mut problems)?;
    for (id, (verdict, entries)) in ids.iter().zip(&lists) {
        stored += verdict.frames;
        told += verdict.tombstoned;
        problems.check(verdict.sessions == 1, || format!("camera {id}: {} sessions", verdict.sessions));
        for entry in entries {
            let Entry::Tombstone { seq, last, reason, maybe_stored, .. } = entry else { continue };
            problems.check(reason == "spool_full" && !maybe_stored, || {
                format!("camera {id}: {seq} to {last} lost({reason}), maybe stored: {maybe_stored}")
            });
        }
    }
    let status = daemon.stop()?;
    problems.check(status.success(), || format!("it ended with {status}"));
    let found = journal::integrity(&daemon.dir().join("state"))?;
    problems.check(found == "ok", || format!("the journal's integrity check says: {found}"));
    // The lists are the same for whoever asks the next daemon.
    daemon.run()?;
    watch.look(&daemon, &mut problems)?;
    for (id, (_, entries)) in ids.iter().zip(&lists) {
        let same = daemon.list(id, 1_000)?.entries == *entries;
        problems.check(same, || format!("camera {id}: another list after a start"));
    }
    let bound = format!(
        "a disk of {} MiB full {} times and then by the spool itself: no exit, each frame without room a tombstone, new frames \
         stored within {:?} of room; after the bucket's return, new frames on disk within that (they are stored after the \
         backlog, in order, which takes the time that the bucket needs for it); the journal intact",
        plan.disk_mib, plan.times, plan.within
    );
    let figure = json!({
        "stored_again_after_s": back,
        "on_disk_again_after_the_bucket_came_back_s": round(room.as_secs_f64()),
        "stored_again_after_the_bucket_came_back_s": round(own.as_secs_f64()),
        "backlog_then": backlog,
        "captured_share_of_given": share,
        "stored": stored,
        "lost_spool_full": told,
        "mib_taken_by_others": taken >> 20,
        "answers_503": refused,
        "looks_at_the_accounts": watch.looks,
    });
    Ok(problems.outcome(bound, figure, filled + refused))
}

/// How long it takes until each camera has a stored frame whose seq was not known yet.
fn stored_again(daemon: &Daemon, ids: &[String], patience: Duration) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    for id in ids {
        let known = daemon.status(id)?.totals.captured;
        wait(patience, || {
            let page: Page =
                serde_json::from_str(&daemon.get(&format!("/api/v1/cameras/{id}/frames?after={known}&limit=500"))?)?;
            Ok(page.entries.iter().any(|entry| matches!(entry, Entry::Frame(_))).then_some(()))
        })
        .map_err(|error| daemon.explain(error))
        .with_context(|| format!("camera {id}: no new frame stored"))?;
    }
    Ok(begun.elapsed())
}

#[derive(serde::Deserialize)]
struct Page {
    entries: Vec<Entry>,
}
