//! A camera falls silent, ends its stream, or becomes another one: each is told apart, and nothing else is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
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
    /// Whether cameras also change their size in the midst of a stream that goes on.
    pub in_stream: bool,
}

/// Something that happens to one camera.
struct Change {
    id: &'static str,
    /// What the session that ends with it must say, and the camera's status meanwhile.
    why: &'static str,
    /// What it shows at first, and in the session that follows.
    from: Stream,
    to: Stream,
    /// Makes it happen; returns the counters of the last pictures, where the stream was ended.
    happen: fn(&mut CameraServer, &Change) -> anyhow::Result<Vec<Option<u32>>>,
}

/// What a session says of its stream.
#[derive(Debug, Clone, Copy)]
struct Stream {
    codec: Codec,
    size: (u32, u32),
}

/// Most cameras at first, and what some of them become.
const FIRST: Stream = Stream { codec: Codec::H264, size: (640, 480) };
const SMALL: Stream = Stream { size: (320, 240), ..FIRST };

const CHANGES: [Change; 10] = [
    Change { id: "silent", why: "stall", from: FIRST, to: FIRST, happen: fall_silent },
    Change { id: "ended", why: ENDED, from: FIRST, to: FIRST, happen: end },
    Change { id: "smaller", why: ENDED, from: FIRST, to: SMALL, happen: become_another },
    Change { id: "recoded", why: ENDED, from: FIRST, to: in_codec(Codec::H265, FIRST), happen: become_another },
    Change { id: "h264-shrinks", why: IN_STREAM, from: FIRST, to: SMALL, happen: resize },
    Change { id: "h264-grows", why: IN_STREAM, from: SMALL, to: FIRST, happen: resize },
    resized("h265-shrinks", Codec::H265, FIRST, SMALL),
    resized("h265-grows", Codec::H265, SMALL, FIRST),
    resized("mjpeg-shrinks", Codec::Mjpeg, FIRST, SMALL),
    resized("mjpeg-grows", Codec::Mjpeg, SMALL, FIRST),
];

/// Of a stream's end, also where another one follows.
const ENDED: &str = "eof";
/// Of a change of size in the midst of a stream that goes on.
const IN_STREAM: &str = "stream_changed";

const fn in_codec(codec: Codec, stream: Stream) -> Stream {
    Stream { codec, ..stream }
}

const fn resized(id: &'static str, codec: Codec, from: Stream, to: Stream) -> Change {
    Change { id, why: IN_STREAM, from: in_codec(codec, from), to: in_codec(codec, to), happen: resize }
}

fn fall_silent(server: &mut CameraServer, change: &Change) -> anyhow::Result<Vec<Option<u32>>> {
    ensure!(server.silence(change.id)? == 1, "camera {} has not one stream", change.id);
    Ok(vec![])
}

fn end(server: &mut CameraServer, change: &Change) -> anyhow::Result<Vec<Option<u32>>> {
    server.end(change.id)
}

fn become_another(server: &mut CameraServer, change: &Change) -> anyhow::Result<Vec<Option<u32>>> {
    server.replace(spec(change.id, change.to, spec_of(server, change.id)?.fps))
}

fn resize(server: &mut CameraServer, change: &Change) -> anyhow::Result<Vec<Option<u32>>> {
    let (width, height) = change.to.size;
    ensure!(server.resize(change.id, width, height)? == 1, "camera {} has not one stream", change.id);
    Ok(vec![])
}

/// The camera that is left alone.
const BYSTANDER: &str = "bystander";

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn changes(stage: &Stage, plan: &Changes) -> anyhow::Result<Outcome> {
    let changes: Vec<&Change> = CHANGES.iter().filter(|change| change.why != IN_STREAM || plan.in_stream).collect();
    let specs: Vec<CameraSpec> = changes
        .iter()
        .map(|change| spec(change.id, change.from, plan.fps))
        .chain([spec(BYSTANDER, FIRST, plan.fps)])
        .collect();
    let mut server = CameraServer::start(&specs, 0, default_cache_dir())?;
    // Pictures that have yet to be drawn would make a change seem slow.
    for &change in &changes {
        spec(change.id, change.to, plan.fps).clip().cached(&default_cache_dir())?;
    }
    let stall_after = format!("[capture]\nstall_after = \"{}ms\"", plan.stall_after.as_millis());
    let daemon = stage.daemon(&Storage::Directory, &stall_after)?;
    let ids = add(&daemon, &server)?;
    until_streaming(&daemon, &ids, Duration::from_secs(30))?;

    let mut problems = Problems::default();
    let (mut figure, mut ended) = (Map::new(), BTreeMap::new());
    for &change in &changes {
        let Change { id, why, .. } = change;
        let before = daemon.wait_for(id, Duration::from_secs(30), |status| {
            status.state == "streaming" && status.totals.captured >= u64::from(plan.fps) * 2
        })?;
        let last = (change.happen)(&mut server, change)?;
        let begun = Instant::now();
        let kinds = in_next_session(&daemon, id, before.session, plan.stall_after + plan.within * 3)?;
        let seconds = begun.elapsed().as_secs_f64();
        let bound = plan.within + if *why == "stall" { plan.stall_after } else { Duration::ZERO };
        problems.check(seconds <= bound.as_secs_f64(), || format!("camera {id} streamed again after {seconds:.1} s"));
        problems.check(kinds.iter().map(String::as_str).eq([*why]), || {
            format!("camera {id}: its status showed the errors {kinds:?}, not {why:?}")
        });
        let generation = daemon.status(id)?.generation;
        problems.check(generation > before.generation, || {
            format!("camera {id}: generation {} before, {generation} after", before.generation)
        });
        if *why == ENDED {
            let [Some(last)] = last[..] else {
                bail!("camera {id} was ended, and its one stream's last picture is not known: {last:?}")
            };
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
        problems.check(verdict.tombstoned == 0, || format!("camera {id} lost frames: {}", lost(&entries).join(", ")));
        let expected = [told(change.why, change.from), told("removed", change.to)];
        let found = sessions(&entries);
        problems.check(found == expected, || format!("camera {id}: its sessions say {found:?}, not {expected:?}"));
        figure[id]["session"] = found.first().map_or(Value::Null, |session| session.clone());
        figure[id]["between_sessions"] = verdict.between_sessions.iter().map(|pause| pause.frames).collect();
        let odd = sizes(&entries).into_iter().find(|(session, size)| {
            let shown = if *session == 1 { change.from } else { change.to };
            *size != shown.size
        });
        problems
            .check(odd.is_none(), || format!("camera {id}: pictures of a wrong session and size are stored: {odd:?}"));
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
    let (verdict, entries) = examine(&daemon, &Storage::Directory, BYSTANDER, &mut problems)?;
    problems.check(verdict.sessions == 1 && verdict.tombstoned == 0, || {
        format!("the bystander has {} sessions and lost frames: {}", verdict.sessions, lost(&entries).join(", "))
    });
    let within_it = if plan.in_stream { ", changes of size within the stream of each codec" } else { "" };
    let bound = format!(
        "a silent stream, its end, its end with a change of size or codec{within_it}: each has a session that says so, streams \
         again within {:.1} s (silence: {:.1} s later), and costs another camera no frame. Where a stream ends, its last frame \
         is stored; within a stream, no picture of a size that its session does not have is stored; what passes between two \
         sessions is told in frames",
        plan.within.as_secs_f64(),
        plan.stall_after.as_secs_f64()
    );
    Ok(problems.outcome(bound, figure.into(), changes.len() as u64))
}

fn spec_of(server: &CameraServer, id: &str) -> anyhow::Result<CameraSpec> {
    server.specs().iter().find(|spec| spec.name == id).cloned().with_context(|| format!("no camera {id}"))
}

/// The camera `id` that shows this.
fn spec(id: &str, stream: Stream, fps: u32) -> CameraSpec {
    CameraSpec::new(id).codec(stream.codec).size(stream.size.0, stream.size.1).rate(fps, fps)
}

/// Waits until the camera streams in another session than `before`, and returns the kinds of error its status showed
/// until then.
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

/// Which frames are lost, and why.
fn lost(entries: &[Entry]) -> Vec<String> {
    let told = |entry: &Entry| match entry {
        Entry::Tombstone { seq, last, reason, .. } => Some(format!("{seq} to {last} ({reason})")),
        _ => None,
    };
    entries.iter().filter_map(told).collect()
}

/// The sizes of the pictures that are stored, by session, as the list has them; that it is right was judged with the
/// pixels.
fn sizes(entries: &[Entry]) -> BTreeSet<(u32, (u32, u32))> {
    let size = |entry: &Entry| match entry {
        Entry::Frame(frame) => Some((frame.session, (frame.width, frame.height))),
        _ => None,
    };
    entries.iter().filter_map(size).collect()
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
