//! Consumers that are cut off again and again see exactly the lists, and consumers that never read cost next to
//! nothing.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::stage::{add, bucket, cameras, until_streaming};
use super::{Outcome, Problems, Stage};
use crate::daemon::{Daemon, wait};
use crate::events::{Events, Received};
use crate::gcs::Knobs;
use crate::signals;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Stream {
    /// How many cameras, each with its own consumer; one more follows all of them.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: u32,
    /// How often each consumer is cut off.
    pub cuts: u64,
    /// How often the camera server is killed, which makes new sessions.
    pub restarts: u64,
    /// Consumers that never read.
    pub silent: usize,
    /// How long frames flow past them.
    pub flow: Duration,
    /// Most resident memory that they may cost together, KiB.
    pub silent_kib: u64,
    /// Seed of the cuts.
    pub seed: u64,
}

/// The longest life of a connection that is cut.
const LIFE_MS: u64 = 2_000;
/// The most bytes of one that is cut at a byte: some dozen entries.
const BYTES: usize = 6_000;
/// What a silent consumer lets its kernel take.
const SILENT_BUFFER: u32 = 4_096;
/// How long a consumer listens for what should not come any more.
const LISTEN_ON: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn stream(stage: &Stage, plan: &Stream) -> anyhow::Result<Outcome> {
    let (gcs, storage) = bucket(stage, Knobs { latency_median_ms: 30.0, latency_sigma: 1.0, ..Knobs::default() })?;
    let mut server = cameras("cam", plan.cameras, plan.fps)?;
    // So little memory that a slow bucket makes tombstones.
    let settings = "[spool]\ndurability = \"memory\"\n[memory]\nframes = 32\n[upload]\nworkers = 8";
    let mut daemon = stage.daemon(&storage, settings)?;
    let ids = add(&daemon, &server)?;
    let paths: Vec<String> =
        ids.iter().map(|id| format!("/api/v1/cameras/{id}/frames/stream")).chain([ALL.to_owned()]).collect();
    let target = Mutex::new(Target::of(&daemon));
    let ends: OnceLock<BTreeMap<String, String>> = OnceLock::new();
    let mut problems = Problems::default();

    let (followed, silence) = std::thread::scope(|scope| {
        let followers: Vec<_> = (plan.seed..)
            .zip(&paths)
            .map(|(seed, path)| {
                let (target, ends) = (&target, &ends);
                scope.spawn(move || follow(target, path, plan.cuts, seed, ends))
            })
            .collect();
        let silence = upset(&mut daemon, &mut server, &gcs, &ids, plan, &target).and_then(|()| {
            let silence = never_read(&daemon, &ids, plan, &mut problems)?;
            daemon.quiesce(PATIENCE)?;
            let (mut known, mut all) = (BTreeMap::new(), 0);
            for (id, path) in ids.iter().zip(&paths) {
                known.insert(path.clone(), daemon.status(id)?.watermark.to_string());
                all += raw_list(&daemon, id)?.iter().filter(|entry| entry["type"] != "session").count();
            }
            known.insert(ALL.to_owned(), all.to_string());
            ends.set(known).expect("nobody else sets it");
            Ok(silence)
        });
        // The followers wait for their ends, also where all is lost.
        ends.get_or_init(BTreeMap::new);
        let followed: anyhow::Result<Vec<Followed>> =
            followers.into_iter().map(|thread| thread.join().expect("a follower does not panic")).collect();
        let silence = silence.map_err(|error| daemon.explain(error))?;
        anyhow::Ok((followed?, silence))
    })?;

    let mut lists = BTreeMap::new();
    let (mut sessions, mut tombstones, mut entries) = (0, 0, 0);
    for (id, followed) in ids.iter().zip(&followed) {
        let list = raw_list(&daemon, id)?;
        let count = |kind: &str| list.iter().filter(|entry| entry["type"] == kind).count();
        (sessions, tombstones, entries) =
            (sessions + count("session"), tombstones + count("tombstone"), entries + list.len());
        compare(id, &list, &followed.told, &mut problems);
        lists.insert(id.clone(), list);
    }
    let everything = followed.last().context("nobody followed all cameras")?;
    compare_all(&lists, &everything.told, &mut problems);

    let cuts: u64 = followed.iter().map(|one| one.cuts).sum();
    let after_sessions: u64 = followed.iter().map(|one| one.cuts_after_sessions).sum();
    for (path, one) in paths.iter().zip(&followed) {
        problems.check(one.cuts >= plan.cuts, || format!("{path} was cut {} times, not {}", one.cuts, plan.cuts));
    }
    let least = (plan.restarts as usize + 3) * ids.len();
    problems.check(sessions >= least, || format!("only {sessions} sessions, {least} were wanted"));
    problems.check(tombstones > ids.len(), || format!("only {tombstones} tombstones"));
    problems.check(after_sessions > 0, || "no consumer was cut right after a session's entry".to_owned());
    problems.check(silence.growth_kib <= plan.silent_kib, || {
        format!("{} consumers that never read cost {} KiB", plan.silent, silence.growth_kib)
    });
    let bound = format!(
        "{} consumers, each cut {} times at random, one daemon's death among it, see exactly the lists, sessions and \
         tombstones included; {} that never read cost at most {} KiB resident together while frames flow and none is lost",
        paths.len(),
        plan.cuts,
        plan.silent,
        plan.silent_kib
    );
    let figure = json!({
        "consumers": paths.len(),
        "cuts": cuts,
        "cuts_right_after_a_session": after_sessions,
        "entries": entries,
        "sessions": sessions,
        "tombstones": tombstones,
        "events_of_all_cameras": everything.told.len(),
        "silent_consumers": plan.silent,
        "resident_kib_before": silence.before_kib,
        "resident_kib_with_them": silence.before_kib + silence.growth_kib,
        "growth_kib": silence.growth_kib,
        "kernel_bytes_unread_each": silence.unread,
        "frames_past_them": silence.frames,
    });
    // The camera server's deaths, a slow bucket, capture processes killed, the daemon's death.
    let faults = cuts + plan.restarts + 1 + ids.len() as u64 + 1;
    Ok(problems.outcome(bound, figure, faults))
}

const ALL: &str = "/api/v1/frames/stream";

/// Where the daemon is; it moves when it is started again.
struct Target {
    address: String,
    token: String,
}

impl Target {
    fn of(daemon: &Daemon) -> Self {
        Self { address: daemon.address().to_owned(), token: daemon.token().to_owned() }
    }
}

/// Makes sessions and tombstones.
fn upset(
    daemon: &mut Daemon,
    server: &mut crate::cameras::CameraServer,
    gcs: &crate::gcs::GcsServer,
    ids: &[String],
    plan: &Stream,
    target: &Mutex<Target>,
) -> anyhow::Result<()> {
    until_streaming(daemon, ids, PATIENCE)?;
    for _ in 0..plan.restarts {
        let before: Vec<_> = ids.iter().map(|id| daemon.status(id)).collect::<Result<_, _>>()?;
        server.kill();
        server.restart()?;
        streams_anew(daemon, ids, &before, plan.fps)?;
    }
    // Frames pile up until some have no room.
    let before: Vec<_> = ids.iter().map(|id| daemon.status(id)).collect::<Result<_, _>>()?;
    gcs.change_knobs(|knobs| knobs.latency_ms = 2_000)?;
    for (id, before) in ids.iter().zip(&before) {
        daemon.wait_for(id, PATIENCE, |status| status.totals.lost > before.totals.lost)?;
    }
    gcs.change_knobs(|knobs| knobs.latency_ms = 0)?;

    let before: Vec<_> = ids.iter().map(|id| daemon.status(id)).collect::<Result<_, _>>()?;
    for status in &before {
        signals::send(status.pid.context("no capture process")?, Signal::KILL)?;
    }
    streams_anew(daemon, ids, &before, plan.fps)?;

    let before: Vec<_> = ids.iter().map(|id| daemon.status(id)).collect::<Result<_, _>>()?;
    daemon.kill()?;
    daemon.run()?;
    *target.lock().unwrap_or_else(PoisonError::into_inner) = Target::of(daemon);
    streams_anew(daemon, ids, &before, plan.fps)
}

/// Waits until all cameras have captured a second of frames in another session than `before`.
fn streams_anew(daemon: &Daemon, ids: &[String], before: &[crate::daemon::Status], fps: u32) -> anyhow::Result<()> {
    for (id, before) in ids.iter().zip(before) {
        let again = daemon.wait_for(id, PATIENCE, |status| {
            status.state == "streaming" && status.session.is_some() && status.session != before.session
        })?;
        daemon.wait_for(id, PATIENCE, |status| status.watermark >= again.totals.captured + u64::from(fps))?;
    }
    Ok(())
}

/// What a consumer was told.
#[derive(Default)]
struct Followed {
    /// Events with data: kind, id, entry.
    told: Vec<(String, String, Value)>,
    cuts: u64,
    cuts_after_sessions: u64,
}

/// Follows a stream over all cuts until it has come to its end and heard nothing for a while.
fn follow(
    target: &Mutex<Target>,
    path: &str,
    cuts: u64,
    seed: u64,
    ends: &OnceLock<BTreeMap<String, String>>,
) -> anyhow::Result<Followed> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut followed = Followed::default();
    let mut last_id: Option<String> = None;
    let mut quiet_since = Instant::now();
    let mut give_up: Option<Instant> = None;
    'connection: loop {
        let connected = {
            let target = target.lock().unwrap_or_else(PoisonError::into_inner);
            Events::ask(&target.address, &target.token, path, last_id.as_deref(), None)
        };
        let may_cut = followed.cuts < cuts;
        // Either at a byte, most likely within an event, or at a moment.
        let mut bytes = if may_cut && rng.bool() { rng.usize(0..BYTES) } else { usize::MAX };
        let life = if may_cut { Duration::from_millis(rng.u64(0..LIFE_MS)) } else { Duration::MAX };
        let begun = Instant::now();
        let mut events = match connected {
            Ok(events) => events,
            // The daemon is being started again.
            Err(error) => {
                if give_up.get_or_insert_with(|| begun + PATIENCE) < &mut Instant::now() {
                    return Err(error);
                }
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        loop {
            if may_cut && (bytes == 0 || begun.elapsed() >= life) {
                followed.cuts += 1;
                continue 'connection;
            }
            // In small pieces, so that what is cut off is not yet taken in.
            match events.receive(bytes.min(700), Duration::from_millis(20)) {
                Ok(Received::Bytes(count)) => bytes -= if bytes == usize::MAX { 0 } else { count },
                Ok(Received::Nothing) => {}
                Ok(Received::End) => continue 'connection,
                Err(error) => {
                    // Its death, unless it goes on like this.
                    let deadline = *give_up.get_or_insert_with(|| Instant::now() + PATIENCE);
                    ensure!(Instant::now() < deadline, "{path}: {error:#}");
                    std::thread::sleep(Duration::from_millis(20));
                    continue 'connection;
                }
            }
            for event in events.take() {
                (quiet_since, give_up) = (Instant::now(), None);
                last_id = Some(event.id.clone());
                if event.data.is_empty() {
                    continue;
                }
                let entry = serde_json::from_str(&event.data).context("an event's data is no JSON")?;
                let session = event.kind == "session";
                followed.told.push((event.kind, event.id, entry));
                if session && rng.u8(0..4) > 0 {
                    // As if the connection had broken right here: what else has come is dropped. Beyond the number of
                    // cuts as well: there are few such places.
                    followed.cuts += 1;
                    followed.cuts_after_sessions += 1;
                    continue 'connection;
                }
            }
            if let Some(ends) = ends.get() {
                let Some(end) = ends.get(path) else { return Ok(followed) };
                if !may_cut && last_id.as_ref() == Some(end) && quiet_since.elapsed() > LISTEN_ON {
                    return Ok(followed);
                }
                ensure!(quiet_since.elapsed() < PATIENCE, "{path} stands still at {last_id:?}, its end is {end}");
            }
        }
    }
}

/// What consumers that never read cost.
struct Silence {
    before_kib: u64,
    growth_kib: u64,
    /// Bytes in the kernel for each of them, at most.
    unread: u64,
    frames: u64,
}

/// Opens streams and reads nothing, until the daemon cannot write to any of them any more; then lets frames flow.
fn never_read(daemon: &Daemon, ids: &[String], plan: &Stream, problems: &mut Problems) -> anyhow::Result<Silence> {
    let captured = || -> anyhow::Result<(u64, u64)> {
        let totals = daemon.statuses()?.into_iter().map(|(_, status)| status.totals);
        Ok(totals.fold((0, 0), |(captured, lost), totals| (captured + totals.captured, lost + totals.lost)))
    };
    let highest = |patience: Duration| -> anyhow::Result<u64> {
        let (mut highest, end) = (0, Instant::now() + patience);
        while Instant::now() < end {
            highest = highest.max(daemon.resident_kib()?);
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(highest)
    };
    // Enough that the buffers on the way cannot take all of it.
    let needed = 2_000;
    let patience = PATIENCE + Duration::from_secs(2 * needed / (u64::from(plan.fps) * ids.len() as u64));
    wait(patience, || Ok((captured()?.0 >= needed).then_some(())))?;
    let before_kib = highest(plan.flow)?;
    let mut silent = Vec::new();
    for _ in 0..plan.silent {
        let path = format!("{ALL}?after=0");
        silent.push(Events::ask(daemon.address(), daemon.token(), &path, None, Some(SILENT_BUFFER))?);
    }
    let ports: Vec<u16> = silent.iter().map(Events::port).collect::<Result<_, _>>()?;
    let mut last = Vec::new();
    let mut since = Instant::now();
    // Nothing has moved for a second, and everybody has something to read.
    let stuck = wait(PATIENCE, || {
        let queues = unsent(daemon, &ports)?;
        if queues != last || queues.contains(&0) || queues.len() < ports.len() {
            (last, since) = (queues, Instant::now());
        }
        Ok((since.elapsed() > Duration::from_secs(1)).then(|| last.clone()))
    })
    .context("the daemon does not stop writing to consumers that never read")?;

    let begun = captured()?;
    let with_them = highest(plan.flow)?;
    let ended = captured()?;
    let now = unsent(daemon, &ports)?;
    problems.check(now == stuck, || "the daemon went on writing to consumers that never read".to_owned());
    problems.check(ended.1 == begun.1, || format!("{} frames were lost meanwhile", ended.1 - begun.1));
    let frames = ended.0 - begun.0;
    let least = (plan.flow.as_secs_f64() * f64::from(plan.fps) * ids.len() as f64 * 0.7) as u64;
    problems.check(frames >= least, || format!("only {frames} frames were captured meanwhile, not {least}"));
    let growth_kib = with_them.saturating_sub(before_kib);
    Ok(Silence { before_kib, growth_kib, unread: now.into_iter().max().unwrap_or(0), frames })
}

/// What the daemon's kernel holds for each of these clients' ports, bytes.
fn unsent(daemon: &Daemon, ports: &[u16]) -> anyhow::Result<Vec<u64>> {
    let (_, own) = daemon.address().rsplit_once(':').context("an address without a port")?;
    let own: u16 = own.parse().context("a port that is no number")?;
    let text = fs::read_to_string("/proc/net/tcp").context("cannot see the system's connections")?;
    let mut queues = BTreeMap::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let port = |field: &str| u16::from_str_radix(field.rsplit_once(':')?.1, 16).ok();
        let [_, local, remote, _, queue, ..] = fields[..] else { continue };
        if port(local) == Some(own)
            && let Some(remote) = port(remote)
            && let Some((unsent, _)) = queue.split_once(':')
        {
            queues.insert(remote, u64::from_str_radix(unsent, 16).context("a queue that is no number")?);
        }
    }
    Ok(ports.iter().filter_map(|port| queues.get(port).copied()).collect())
}

/// A camera's whole list, entry by entry as the API has it.
fn raw_list(daemon: &Daemon, id: &str) -> anyhow::Result<Vec<Value>> {
    let (mut entries, mut after) = (Vec::new(), 0);
    loop {
        let text = daemon.get(&format!("/api/v1/cameras/{id}/frames?after={after}&limit=1000"))?;
        let mut page: Value = serde_json::from_str(&text).context("a page is no JSON")?;
        let Value::Array(some) = page["entries"].take() else { anyhow::bail!("a page without entries") };
        entries.extend(some);
        after = page["next"].as_u64().context("a page without a cursor")?;
        if page["more"] == false {
            return Ok(entries);
        }
    }
}

/// What of an entry is final when it is told: a session's end comes later.
fn lasting(entry: &Value) -> Value {
    let mut entry = entry.clone();
    if entry["type"] == "session"
        && let Some(fields) = entry.as_object_mut()
    {
        fields.remove("closed");
        fields.remove("why");
    }
    entry
}

/// Notes where a camera's stream was not exactly its list.
fn compare(id: &str, list: &[Value], told: &[(String, String, Value)], problems: &mut Problems) {
    problems.check(told.len() == list.len(), || format!("camera {id}: {} events, {} entries", told.len(), list.len()));
    let mut seq = 0;
    for (number, (entry, (kind, event_id, data))) in list.iter().zip(told).enumerate() {
        let expected_id = match entry["type"].as_str() {
            Some("session") => format!("{seq}/{}", entry["session"]),
            Some("frame") => entry["seq"].to_string(),
            _ => entry["last"].to_string(),
        };
        seq = entry["last"].as_u64().or(entry["seq"].as_u64()).unwrap_or(seq);
        let same = lasting(entry) == lasting(data) && entry["type"] == **kind && expected_id == *event_id;
        problems
            .check(same, || format!("camera {id}: entry {number} is {entry}, event {event_id} ({kind}) was {data}"));
        if !same {
            return;
        }
    }
}

/// Notes where the stream of all cameras was not exactly their frames and tombstones, numbered without holes.
fn compare_all(lists: &BTreeMap<String, Vec<Value>>, told: &[(String, String, Value)], problems: &mut Problems) {
    let mut of_camera: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (number, (kind, id, data)) in (1_u64..).zip(told) {
        problems.check(*id == number.to_string(), || format!("all cameras: event {number} has the id {id}"));
        problems.check(data["type"] == **kind, || format!("all cameras: event {id} is a {kind}, its data {data}"));
        let mut data = data.clone();
        let camera = data.as_object_mut().and_then(|fields| fields.remove("camera"));
        let camera = camera.as_ref().and_then(Value::as_str).unwrap_or("none").to_owned();
        of_camera.entry(camera).or_default().push(data);
    }
    for (id, list) in lists {
        let mut union = of_camera.remove(id).unwrap_or_default();
        union.sort_by_key(|entry| entry["seq"].as_u64());
        let list: Vec<&Value> = list.iter().filter(|entry| entry["type"] != "session").collect();
        problems.check(union.iter().eq(list.iter().copied()), || {
            format!("all cameras: {} events of camera {id} are not its {} entries", union.len(), list.len())
        });
    }
    problems.check(of_camera.is_empty(), || format!("all cameras: events of {:?}", of_camera.keys()));
}
