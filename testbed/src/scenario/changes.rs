//! A camera falls silent, ends its stream, or becomes another one: each is told apart, and nothing else is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};

use super::stage::{add, examine, until_streaming};
use super::{Outcome, Problems, Stage};
use crate::cameras::{CameraServer, CameraSpec, default_cache_dir};
use crate::clip::Codec;
use crate::daemon::{Daemon, Storage, wait};
use crate::mark::Mark;
use crate::oracle::{Entry, Fetcher, decode};

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Changes {
    /// Frames a second of each camera.
    pub fps: u32,
    /// After how long without a picture a camera counts as stalled.
    pub stall_after: Duration,
    /// How long a camera may take to stream again, from the change or from when it counts as stalled.
    pub within: Duration,
    /// Whether a camera also changes its size in the midst of a stream that goes on.
    pub in_stream: bool,
}

/// Something that happens to one camera.
struct Change {
    id: &'static str,
    /// What the session that ends with it must say.
    why: &'static str,
    /// What the camera's status must show meanwhile; nothing where the stream goes on.
    kind: Option<&'static str>,
    /// The session that follows.
    then: Stream,
    /// Makes it happen; returns the counters of the last pictures, where the stream was ended.
    happen: fn(&mut CameraServer, &'static str) -> anyhow::Result<Vec<Option<u32>>>,
}

/// What a session says of its stream.
#[derive(Debug, Clone, Copy)]
struct Stream {
    codec: Codec,
    size: (u32, u32),
}

/// All cameras at first, and what some of them become.
const FIRST: Stream = Stream { codec: Codec::H264, size: (640, 480) };
const SMALLER: Stream = Stream { size: (320, 240), ..FIRST };
const RECODED: Stream = Stream { codec: Codec::H265, ..FIRST };

const CHANGES: [Change; 5] = [
    Change {
        id: "silent",
        why: "stall",
        kind: Some("stall"),
        then: FIRST,
        happen: |server, id| {
            ensure!(server.silence(id)? == 1, "camera {id} has not one stream");
            Ok(vec![])
        },
    },
    Change { id: "ended", why: "eof", kind: Some("eof"), then: FIRST, happen: |server, id| server.end(id) },
    Change {
        id: "smaller",
        why: "eof",
        kind: Some("eof"),
        then: SMALLER,
        happen: |server, id| become_another(server, id, SMALLER),
    },
    Change {
        id: "recoded",
        why: "eof",
        kind: Some("eof"),
        then: RECODED,
        happen: |server, id| become_another(server, id, RECODED),
    },
    Change {
        id: "smaller-in-stream",
        why: "the picture's size changed",
        kind: None,
        then: SMALLER,
        happen: |server, id| {
            let (width, height) = SMALLER.size;
            ensure!(server.resize(id, width, height)? == 1, "camera {id} has not one stream");
            Ok(vec![])
        },
    },
];

/// The camera that is left alone.
const BYSTANDER: &str = "bystander";

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn changes(stage: &Stage, plan: &Changes) -> anyhow::Result<Outcome> {
    let changes: Vec<&Change> = CHANGES.iter().filter(|change| change.kind.is_some() || plan.in_stream).collect();
    let specs: Vec<CameraSpec> = changes
        .iter()
        .map(|change| change.id)
        .chain([BYSTANDER])
        .map(|id| CameraSpec::new(id).size(FIRST.size.0, FIRST.size.1).rate(plan.fps, plan.fps))
        .collect();
    let mut server = CameraServer::start(&specs, 0, default_cache_dir())?;
    // Pictures that have yet to be drawn would make a change seem slow.
    for &change in &changes {
        let Stream { codec, size: (width, height) } = change.then;
        spec_of(&server, change.id)?.codec(codec).size(width, height).clip().cached(&default_cache_dir())?;
    }
    let stall_after = format!("[capture]\nstall_after = \"{}ms\"", plan.stall_after.as_millis());
    let daemon = stage.daemon(&Storage::Directory, &stall_after)?;
    let ids = add(&daemon, &server)?;
    until_streaming(&daemon, &ids, Duration::from_secs(30))?;

    let mut problems = Problems::default();
    let (mut figure, mut ended) = (Map::new(), BTreeMap::new());
    for &change in &changes {
        let Change { id, kind, .. } = change;
        let before = daemon.wait_for(id, Duration::from_secs(30), |status| {
            status.state == "streaming" && status.totals.captured >= u64::from(plan.fps) * 2
        })?;
        let last = (change.happen)(&mut server, id)?;
        let begun = Instant::now();
        let kinds = in_next_session(&daemon, id, before.session, plan.stall_after + plan.within * 3)?;
        let seconds = begun.elapsed().as_secs_f64();
        let bound = plan.within + if *kind == Some("stall") { plan.stall_after } else { Duration::ZERO };
        problems.check(seconds <= bound.as_secs_f64(), || format!("camera {id} streamed again after {seconds:.1} s"));
        problems.check(kinds.iter().map(String::as_str).eq(*kind), || {
            format!("camera {id}: its status showed the errors {kinds:?}, not {kind:?}")
        });
        let generation = daemon.status(id)?.generation;
        let restarted = generation != before.generation;
        problems.check(restarted == kind.is_some(), || {
            format!("camera {id}: generation {} before, {generation} after", before.generation)
        });
        if let [Some(last)] = last[..] {
            ended.insert(*id, last);
        }
        figure.insert((*id).to_owned(), json!({ "seconds": (seconds * 100.0).round() / 100.0, "errors": kinds }));
    }
    // A while of the new sessions, to be judged as well.
    for id in &ids {
        let captured = daemon.status(id)?.totals.captured + u64::from(plan.fps);
        daemon.wait_for(id, Duration::from_secs(30), |status| status.totals.captured >= captured)?;
    }
    daemon.quiesce(Duration::from_secs(30))?;

    for &change in &changes {
        let id = change.id;
        let (verdict, entries) = examine(&daemon, &Storage::Directory, id, &mut problems)?;
        problems.check(verdict.tombstoned == 0, || format!("camera {id} lost {} frames", verdict.tombstoned));
        let expected = [told(change.why, FIRST), told("removed", change.then)];
        let found = sessions(&entries);
        problems.check(found == expected, || format!("camera {id}: its sessions say {found:?}, not {expected:?}"));
        figure[id]["session"] = found.first().map_or(Value::Null, |session| session.clone());
        if let Some(sent) = ended.get(id) {
            let stored = last_of_first_session(&daemon, &entries).with_context(|| format!("camera {id}"))?;
            figure[id]["last_sent"] = json!(sent);
            figure[id]["last_stored"] = json!(stored);
            problems.check(stored == *sent, || {
                format!(
                    "camera {id}: frame {sent} was the last before the stream's end, frame {stored} the last stored"
                )
            });
        }
    }
    let (verdict, _) = examine(&daemon, &Storage::Directory, BYSTANDER, &mut problems)?;
    problems.check(verdict.sessions == 1 && verdict.tombstoned == 0, || {
        format!("the bystander has {} sessions and lost {} frames", verdict.sessions, verdict.tombstoned)
    });
    let within_it = if plan.in_stream { ", a change of size within the stream" } else { "" };
    let bound = format!(
        "a silent stream, its end, its end with a change of size or codec{within_it}: each has a session that says so, streams \
         again within {:.1} s (silence: {:.1} s later), and costs no frame of its own or of another camera",
        plan.within.as_secs_f64(),
        plan.stall_after.as_secs_f64()
    );
    Ok(problems.outcome(bound, figure.into(), changes.len() as u64))
}

fn spec_of(server: &CameraServer, id: &str) -> anyhow::Result<CameraSpec> {
    server.specs().iter().find(|spec| spec.name == id).cloned().with_context(|| format!("no camera {id}"))
}

fn become_another(server: &mut CameraServer, id: &str, stream: Stream) -> anyhow::Result<Vec<Option<u32>>> {
    let Stream { codec, size: (width, height) } = stream;
    let spec = spec_of(server, id)?.codec(codec).size(width, height);
    server.replace(spec)
}

/// Waits until the camera streams in another session than `before`, and returns the kinds of error its status showed until
/// then.
fn in_next_session(
    daemon: &Daemon,
    id: &str,
    before: Option<u32>,
    patience: Duration,
) -> anyhow::Result<BTreeSet<String>> {
    let mut kinds = BTreeSet::new();
    wait(patience, || {
        let status = daemon.status(id)?;
        if status.state == "streaming" && status.session > before {
            return Ok(Some(std::mem::take(&mut kinds)));
        }
        kinds.extend(status.last_error.and_then(|error| error["kind"].as_str().map(str::to_owned)));
        Ok(None)
    })
    .with_context(|| format!("camera `{id}` did not stream in a new session: {:?}", daemon.status(id)))
}

/// What a session's entry says.
fn told(why: &str, stream: Stream) -> Value {
    let codec = if stream.codec == Codec::H265 { "hevc" } else { stream.codec.name() };
    json!({ "why": why, "codec": codec, "width": stream.size.0, "height": stream.size.1 })
}

fn sessions(entries: &[Entry]) -> Vec<Value> {
    let told = |entry: &Entry| match entry {
        Entry::Session { why, codec, width, height, .. } => {
            Some(json!({ "why": why, "codec": codec, "width": width, "height": height }))
        }
        _ => None,
    };
    entries.iter().filter_map(told).collect()
}

/// The counter in the last picture of a list's first session.
fn last_of_first_session(daemon: &Daemon, entries: &[Entry]) -> anyhow::Result<u32> {
    let mut frames =
        entries.iter().filter_map(|entry| if let Entry::Frame(frame) = entry { Some(frame) } else { None });
    let first = frames.clone().next().context("no frame in the list")?.session;
    let last = frames.rfind(|frame| frame.session == first).context("no frame in the first session")?;
    let jpeg = Fetcher::new(daemon.http(), None).fetch(&last.url)?;
    let (luma, width, height) = decode(&jpeg).map_err(anyhow::Error::msg)?;
    Ok(Mark::read(&luma, width, height)?.counter)
}
