//! Cameras come and go by the hundred, most of them broken. Those that stay notice nothing, and nothing is left of the
//! others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};
use url::Url;

use super::stage::{add, bucket, cameras, examine, until_streaming};
use super::{Outcome, Problems, Stage};
use crate::cameras::{CameraServer, CameraSpec, default_cache_dir};
use crate::daemon::{Daemon, wait};
use crate::gcs::Knobs;

/// How many.
#[derive(Debug, Clone)]
pub struct Churn {
    /// Cameras that stay.
    pub bystanders: usize,
    /// Frames a second of these.
    pub fps: u32,
    /// Cameras that come and go.
    pub cameras: usize,
    /// How many of them at a time.
    pub at_once: usize,
}

/// Files that the journal's connections hold: one connection that writes and a pool of four that read, which fills when
/// two read at once. Each has the database and its log; the log's index is there once.
const JOURNAL_FILES: usize = 11;

/// What a process has of the system, and of the list of metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Holdings {
    children: usize,
    /// What they are of; a socket or a pipe without its number. Connections to the bucket are left out: its client
    /// keeps them for later, and their number goes with the frames, not with the cameras.
    descriptors: Vec<String>,
    /// How many more are of the journal's files.
    journal: usize,
    threads: usize,
    series: BTreeSet<String>,
}

impl Holdings {
    fn of(daemon: &Daemon, bucket: u16) -> anyhow::Result<Self> {
        let pid = daemon.pid();
        let threads = fs::read_dir(format!("/proc/{pid}/task")).context("cannot look at framehaul")?.count();
        let to_bucket = sockets_to(bucket)?;
        let (mut descriptors, mut journal) = (Vec::new(), 0);
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).context("cannot look at framehaul")? {
            // One that was closed meanwhile is none.
            let Ok(of) = fs::read_link(entry?.path()) else { continue };
            let of = of.to_string_lossy().into_owned();
            if to_bucket.contains(&of) {
                continue;
            }
            if of.contains("/journal.sqlite") {
                journal += 1;
                continue;
            }
            descriptors.push(of.split_once(':').map_or(of.clone(), |(kind, _)| kind.to_owned()));
        }
        descriptors.sort();
        let mut children = 0;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            let list = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
            children += list.split_whitespace().count();
        }
        let metrics = daemon.get("/metrics")?;
        let series = metrics.lines().filter(|line| !line.starts_with('#'));
        // What counts requests grows with the kinds of requests there have been, not with the cameras.
        let series = series.filter(|line| !line.starts_with("framehaul_http_"));
        let series = series.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect();
        Ok(Self { children, descriptors, journal, threads, series })
    }
}

/// A camera that comes and goes.
struct Visitor {
    id: String,
    spec: Value,
    /// The kind of error it has; none if it streams.
    fails: Option<&'static str>,
}

/// The TCP sockets of this machine whose other end has this port, as `/proc/PID/fd` shows them.
fn sockets_to(port: u16) -> anyhow::Result<BTreeSet<String>> {
    let table = fs::read_to_string("/proc/net/tcp").context("cannot read the table of connections")?;
    let remote = format!(":{port:04X}");
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(2)?.ends_with(&remote).then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))?
    };
    Ok(table.lines().filter_map(inode).collect())
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn churn(stage: &Stage, plan: &Churn) -> anyhow::Result<Outcome> {
    let patience = Duration::from_secs(120);
    let (gcs, storage) = bucket(stage, Knobs::default())?;
    let bucket = Url::parse(&gcs.endpoint())?.port().context("the bucket has a port")?;
    let calm = cameras("calm", plan.bystanders, plan.fps)?;
    let small = |name: &str| CameraSpec::new(name).size(320, 240).rate(5, 5);
    let specs = [small("come0"), small("come1"), small("shut").login("viewer", "right")];
    let coming = CameraServer::start(&specs, 0, default_cache_dir())?;
    // Whoever connects waits in its queue for ever.
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen")?;
    let silent = format!("rtsp://{}/main", listener.local_addr()?);
    let mut daemon = stage.daemon(&storage, "[capture]\nopen_timeout = \"2s\"")?;
    let bystanders = add(&daemon, &calm)?;
    until_streaming(&daemon, &bystanders, patience)?;

    let visitors = |round: usize| -> Vec<Visitor> {
        let visitor = |i: usize| {
            let (spec, fails) = match i % 5 {
                0 => (json!({ "url": coming.url("come0") }), None),
                1 => (json!({ "url": "rtsp://127.0.0.1:1/main" }), Some("refused")),
                2 => (json!({ "url": silent }), Some("timeout")),
                // Each has a login of its own: of one that many share, the daemon tries the first and spares the camera
                // the rest.
                3 => {
                    let user = format!("viewer-{round}-{i}");
                    (json!({ "url": coming.url("shut"), "user": user, "password": "wrong" }), Some("auth"))
                }
                _ => (json!({ "url": coming.url("come1") }), None),
            };
            Visitor { id: format!("churn-{round}-{i}"), spec, fails }
        };
        (0..plan.at_once).map(visitor).collect()
    };
    let come_and_go = |round: usize, came: &mut BTreeMap<&'static str, u64>| -> anyhow::Result<()> {
        let visitors = visitors(round);
        for Visitor { id, spec, .. } in &visitors {
            daemon.put_camera(id, spec)?;
        }
        for Visitor { id, fails, .. } in &visitors {
            match fails {
                None => daemon.wait_for(id, patience, |status| status.totals.captured > 0)?,
                Some(kind) => daemon
                    .wait_for(id, patience, |status| {
                        status.last_error.as_ref().is_some_and(|error| error["kind"] == *kind)
                    })
                    .with_context(|| format!("it should have failed for {kind}"))?,
            };
            *came.entry(fails.unwrap_or("streamed")).or_default() += 1;
        }
        for Visitor { id, .. } in &visitors {
            daemon.delete_camera(id)?;
        }
        for Visitor { id, .. } in &visitors {
            daemon.wait_for(id, patience, |status| status.state == "deleted" && status.totals.in_flight == 0)?;
        }
        Ok(())
    };

    // Pools fill up with the first ones.
    come_and_go(0, &mut BTreeMap::new())?;
    let settled = |like: Option<&Holdings>| -> anyhow::Result<Holdings> {
        let mut last = None;
        let looked = wait(Duration::from_secs(30), || {
            let now = Holdings::of(&daemon, bucket)?;
            let same = match like {
                Some(like) => {
                    now.children == like.children
                        && now.descriptors.len() <= like.descriptors.len()
                        && now.journal <= JOURNAL_FILES
                        && now.threads <= like.threads
                        && now.series == like.series
                }
                None => now.children == plan.bystanders,
            };
            last = Some(now);
            Ok(last.clone().filter(|_| same))
        });
        looked.or_else(|error| last.ok_or(error))
    };
    let before = settled(None)?;
    let refused_before = coming.refused_logins()?;
    let mut came = BTreeMap::new();
    for round in 1..=plan.cameras.div_ceil(plan.at_once) {
        come_and_go(round, &mut came)?;
    }
    let refused_logins = coming.refused_logins()? - refused_before;
    let after = settled(Some(&before))?;

    let mut problems = Problems::default();
    let kinds: BTreeSet<&str> = came.keys().copied().collect();
    problems.check(kinds == BTreeSet::from(["auth", "refused", "streamed", "timeout"]), || {
        format!("not every kind of camera came: {came:?}")
    });
    let of = |kind: &str| came.get(kind).copied().unwrap_or_default();
    // A daemon that takes it to be wrong without asking the camera has started nothing that could be left.
    problems.check(refused_logins >= of("auth"), || {
        format!("{refused_logins} logins were refused by the camera, of {} with a wrong password", of("auth"))
    });
    problems.check(before.children == plan.bystanders, || format!("{} children before", before.children));
    problems.check(after.children == before.children, || {
        format!("{} children, before {}", after.children, before.children)
    });
    problems.check(after.descriptors.len() <= before.descriptors.len(), || {
        format!("descriptors {:?}, before {:?}", after.descriptors, before.descriptors)
    });
    problems.check((1..=JOURNAL_FILES).contains(&after.journal), || format!("{} files of the journal", after.journal));
    problems.check(after.threads <= before.threads, || format!("{} threads, before {}", after.threads, before.threads));
    let left: Vec<&String> = after.series.difference(&before.series).collect();
    problems.check(left.is_empty(), || format!("{} series are left, for example {}", left.len(), left[0]));
    problems.check(!after.series.iter().any(|series| series.contains("churn-")), || {
        "a removed camera has series".to_owned()
    });
    let generations: Vec<u64> =
        bystanders.iter().map(|id| Ok(daemon.status(id)?.generation)).collect::<anyhow::Result<_>>()?;
    problems.check(generations.iter().all(|generation| *generation == 1), || format!("generations {generations:?}"));
    daemon.quiesce(patience)?;
    let (mut frames, mut lost) = (0, 0);
    for id in &bystanders {
        let (verdict, _) = examine(&daemon, &storage, id, &mut problems)?;
        frames += verdict.frames;
        lost += verdict.tombstoned;
        problems.check(verdict.sessions == 1, || format!("camera {id}: {} sessions", verdict.sessions));
    }
    problems.check(lost == 0 && frames > 0, || format!("the others stored {frames} and lost {lost} frames"));
    daemon.stop()?;
    let holds = |holdings: &Holdings| {
        json!({ "children": holdings.children, "descriptors": holdings.descriptors.len(), "journal": holdings.journal, "threads": holdings.threads,
            "series": holdings.series.len() })
    };
    let figure = json!({ "came_and_went": came.values().sum::<u64>(), "of_them": came, "logins_refused": refused_logins,
        "others": { "frames": frames, "lost": lost }, "before": holds(&before), "after": holds(&after) });
    let bound = format!(
        "{} cameras come and go while {} others stream, each with a stream or the error of its kind, wrong passwords refused by \
         the camera itself: those others lose 0 frames by their pixels; no process, descriptor, thread or metric series is left",
        plan.cameras, plan.bystanders
    );
    Ok(problems.outcome(bound, figure, of("refused") + of("timeout") + refused_logins))
}
