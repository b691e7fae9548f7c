//! The lists in the bucket: what manifests say is what the API says, whatever becomes of the daemon and of its puts.
//!
//! The reader is the one of `docs/manifest.md`, taken from that page and run by Python. `ROUNDS=N` makes the kills
//! more, `SEED=1234` has the same ones again.

mod bucket;
mod places;
mod reader;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testbed::daemon::{Credentials, Daemon, Storage, wait};
use testbed::gcs::{GcsServer, Knobs, Options};
use testbed::scenario::Stage;
use testbed::synthetic::Synthetic;

use crate::bucket::{BUCKET, Committed, committed, manifests, read};

const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");
const PATIENCE: Duration = Duration::from_secs(60);

/// The number in a variable of the environment, if it is set and not empty.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// A bucket with faults, and a daemon that writes a manifest a second.
fn prepare(stage: &Stage, knobs: Knobs, more: &str) -> anyhow::Result<(GcsServer, Daemon)> {
    let root = Some(stage.dir().join("bucket"));
    let gcs = GcsServer::start(Options { buckets: vec![BUCKET.to_owned()], root, knobs, ..Options::default() })?;
    let storage =
        Storage::Gcs { endpoint: gcs.endpoint(), bucket: BUCKET.to_owned(), credentials: Credentials::Anonymous };
    let more = format!(
        "[manifests]\nevery = \"1s\"\nentries = 40\n[upload]\nretry_max = \"500ms\"\ndeadline = \"2s\"\n{}{more}",
        stage.synthetic()?
    );
    let daemon = stage.prepare(&storage, &more)?;
    Ok((gcs, daemon))
}

fn add(daemon: &Daemon, cameras: &[Synthetic]) -> anyhow::Result<()> {
    cameras.iter().try_for_each(|camera| daemon.put_camera(&camera.name, &camera.request()))
}

/// The value of a metric.
fn metric(daemon: &Daemon, name: &str) -> anyhow::Result<f64> {
    let text = daemon.get("/metrics")?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.with_context(|| format!("no metric `{name}`"))?.trim().parse().with_context(|| name.to_owned())
}

/// Waits until all that is listed is in manifests.
fn until_written(daemon: &Daemon) -> anyhow::Result<()> {
    wait(PATIENCE, || {
        let listed: u64 = daemon.statuses()?.iter().map(|(_, status)| status.watermark).sum();
        let left = metric(daemon, "framehaul_manifest_pending_frames")?;
        // It counts what it has looked at, a moment ago.
        let again: u64 = daemon.statuses()?.iter().map(|(_, status)| status.watermark).sum();
        Ok((left == 0.0 && again == listed).then_some(()))
    })
    .map_err(|error| daemon.explain(error))
}

/// A camera's list from the API, each entry as it came.
fn list(daemon: &Daemon, camera: &str) -> anyhow::Result<Vec<Value>> {
    let (mut entries, mut after) = (Vec::new(), 0);
    loop {
        let answer = daemon.get(&format!("/api/v1/cameras/{camera}/frames?limit=1000&after={after}"))?;
        let page: Value = serde_json::from_str(&answer)?;
        entries.extend(page["entries"].as_array().context("no entries")?.iter().cloned());
        after = page["next"].as_u64().context("no next")?;
        if page["more"] != json!(true) {
            return Ok(entries);
        }
    }
}

/// What the reader has found must be what the API says, but for what a manifest cannot know yet: how the last session
/// ended.
#[track_caller]
fn assert_same(camera: &str, mut api: Vec<Value>, mut read: Vec<Value>) {
    for entry in &mut read {
        let entry = entry.as_object_mut().expect("an entry is an object");
        match entry["type"].as_str() {
            Some("frame") => {
                let key = entry.remove("key").expect("a frame has a key");
                let url = entry["url"].as_str().expect("a frame has a URL");
                assert_eq!(url, format!("gs://{BUCKET}/{}", key.as_str().expect("it is a text")));
            }
            Some("session") => {
                for field in ["closed", "why"] {
                    entry.entry(field).or_insert(Value::Null);
                }
            }
            _ => {}
        }
    }
    if let Some(last) = api.iter_mut().rev().find(|entry| entry["type"] == "session") {
        (last["closed"], last["why"]) = (Value::Null, Value::Null);
    }
    for (nth, (read, api)) in read.iter().zip(&api).enumerate() {
        assert_eq!(read, api, "camera {camera}, entry {nth}");
    }
    assert_eq!(read.len(), api.len(), "camera {camera}");
}

/// What the kills have left in the journal, by key: those whose object was not there yet, and those whose was.
#[derive(Default)]
struct Kills {
    committed: BTreeMap<String, Vec<u8>>,
    before_the_put: u64,
    before_the_confirmation: u64,
}

impl Kills {
    fn look(&mut self, gcs: &GcsServer, state: &Path) -> anyhow::Result<()> {
        for Committed { key, content } in committed(state)? {
            match gcs.has(BUCKET, &key) {
                true => self.before_the_confirmation += 1,
                false => self.before_the_put += 1,
            }
            let before = self.committed.insert(key.clone(), content.clone());
            ensure!(before.is_none_or(|before| before == content), "{key} has other bytes after another kill");
        }
        Ok(())
    }
}

#[test]
fn kills_and_lost_answers_leave_every_seq_in_one_manifest() -> anyhow::Result<()> {
    let least = number("ROUNDS").unwrap_or(8);
    let seed = number("SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("SEED={seed}");
    let mut rng = fastrand::Rng::with_seed(seed);
    let stage = Stage::new(Path::new(PROGRAM))?;
    let knobs = Knobs {
        latency_median_ms: 60.0,
        latency_sigma: 1.0,
        rate_503: 0.04,
        rate_lost_answer: 0.06,
        rate_reset: 0.04,
        rate_hang: 0.01,
        seed,
        ..Knobs::default()
    };
    let (gcs, mut daemon) = prepare(&stage, knobs, "")?;
    let camera = |name: &str| Synthetic::new(name).bytes(3_000);
    let cameras = [camera("plain").fps(60.0), camera("missing").fps(40.0).missing(7, 11), camera("slow").fps(3.0)];
    daemon.run()?;
    add(&daemon, &cameras)?;
    let (mut kills, mut orderly, mut rounds) = (Kills::default(), 0, 0);
    // A kill may come while no manifest is on its way: it goes on until one of them has met one.
    while rounds < least || (kills.committed.is_empty() && rounds < 5 * least) {
        rounds += 1;
        std::thread::sleep(Duration::from_millis(rng.u64(700..2_500)));
        if rng.u8(..5) == 0 {
            ensure!(daemon.stop()?.success(), "it does not end well");
            orderly += 1;
        } else {
            daemon.kill()?;
        }
        kills.look(&gcs, &stage.dir().join("state"))?;
        daemon.run()?;
    }
    gcs.change_knobs(|knobs| *knobs = Knobs { seed, ..Knobs::default() })?;
    // The rest of cameras that are no longer there is written as well.
    daemon.quiesce(PATIENCE)?;
    until_written(&daemon)?;

    let mut frames = 0;
    let mut of_camera = BTreeMap::new();
    for camera in &cameras {
        let api = list(&daemon, &camera.name)?;
        let manifests = manifests(&gcs, &camera.name)?;
        let read = read(&gcs, &camera.name)?;
        frames += read.iter().filter(|entry| entry["type"] == "frame").count();
        ensure!(read.iter().any(|entry| entry["type"] == "session"), "camera {} has no session", camera.name);
        assert_same(&camera.name, api, read);
        of_camera.insert(camera.name.clone(), manifests);
    }
    let all: usize = of_camera.values().map(Vec::len).sum();
    // What was committed at a kill is what is there.
    for (key, content) in &kills.committed {
        ensure!(gcs.read(BUCKET, key)? == *content, "{key} has other bytes than were committed");
    }
    let stats = gcs.stats();
    ensure!(stats.puts_stored == gcs.objects(BUCKET).len() as u64, "an object was written over");
    ensure!(metric(&daemon, "framehaul_manifest_conflicts")? == 0.0, "there is a false conflict");
    let injected =
        stats.injected.status_503 + stats.injected.lost_answers + stats.injected.resets + stats.injected.hangs;
    let figure = json!({
        "manifests": all, "frames": frames, "seed": seed, "rounds": rounds, "orderly_ends": orderly,
        "kills_before_the_put": kills.before_the_put, "kills_before_the_confirmation": kills.before_the_confirmation,
        "faults": rounds + injected,
    });
    println!("{figure}");
    ensure!(all > 10 && injected > 0 && !kills.committed.is_empty(), "too little was tried: {figure}");
    ensure!(daemon.stop()?.success(), "it does not end well");
    Ok(())
}

#[test]
fn an_orderly_end_leaves_nothing_untold() -> anyhow::Result<()> {
    let stage = Stage::new(Path::new(PROGRAM))?;
    let (gcs, mut daemon) = prepare(&stage, Knobs::default(), "")?;
    let text = std::fs::read_to_string(stage.dir().join("framehaul.toml"))?;
    std::fs::write(stage.dir().join("framehaul.toml"), text.replace("every = \"1s\"", "every = \"1h\""))?;
    daemon.run()?;
    add(&daemon, &[Synthetic::new("gate").frames(30), Synthetic::new("hall").frames(25)])?;
    for (camera, frames) in [("gate", 30), ("hall", 25)] {
        daemon.wait_for(camera, PATIENCE, |status| status.watermark >= frames)?;
    }
    daemon.quiesce(PATIENCE)?;
    let lists = [list(&daemon, "gate")?, list(&daemon, "hall")?];
    ensure!(gcs.objects(BUCKET).iter().all(|object| !object.name.starts_with('_')), "none was due");
    ensure!(daemon.stop()?.success(), "it does not end well");
    for (camera, list) in ["gate", "hall"].into_iter().zip(lists) {
        assert_same(camera, list, read(&gcs, camera)?);
    }
    Ok(())
}

#[test]
fn nothing_leaves_a_list_before_the_bucket_has_it_and_the_answer_says_where_it_is() -> anyhow::Result<()> {
    let stage = Stage::new(Path::new(PROGRAM))?;
    let knobs = Knobs { refuse_name: Some("_manifest/".to_owned()), ..Knobs::default() };
    let (gcs, mut daemon) = prepare(&stage, knobs, "[list]\nkeep = \"1h\"\n")?;
    daemon.run()?;
    add(&daemon, &[Synthetic::new("gate").frames(90)])?;
    daemon.wait_for("gate", PATIENCE, |status| status.watermark >= 90)?;
    daemon.quiesce(PATIENCE)?;
    let before = list(&daemon, "gate")?;
    wait(PATIENCE, || Ok((metric(&daemon, "framehaul_manifests_total{result=\"permanent\"}")? > 0.0).then_some(())))?;
    daemon.stop()?;
    let journal = rusqlite::Connection::open(stage.dir().join("state/journal.sqlite"))?;
    journal.execute("UPDATE frame SET stored_at = stored_at - 7200000000", [])?;
    drop(journal);

    // All of it is old enough. Retention looks at the start.
    daemon.run()?;
    wait(PATIENCE, || Ok((metric(&daemon, "framehaul_manifests_total{result=\"permanent\"}")? > 1.0).then_some(())))?;
    let kept = list(&daemon, "gate")?;
    assert_eq!(kept.len(), before.len(), "nothing has gone");
    gcs.change_knobs(|knobs| knobs.refuse_name = None)?;
    until_written(&daemon)?;
    daemon.kill()?;
    daemon.run()?;
    let end = daemon.status("gate")?.watermark;
    let gone = |path: &str| -> anyhow::Result<Option<Value>> {
        let (status, answer) = daemon.call("GET".parse()?, path, None)?;
        Ok((status == 410).then(|| serde_json::from_str(&answer)).transpose()?)
    };
    let names: Vec<String> = manifests(&gcs, "gate")?;
    ensure!(names.len() > 1, "{names:?}");
    let prefix = names[0].rsplit_once('/').context("a key has parts")?.0;
    let file = names[0].rsplit_once('/').context("a key has parts")?.1;
    let last = framehaul::manifest::parse_file_name(file).context("it is none of ours")?.last;
    for (after, holds) in [(0, 0), (last - 1, 0), (last, 1)] {
        for path in ["frames", "frames/stream"] {
            let path = format!("/api/v1/cameras/gate/{path}?after={after}");
            let problem = wait(PATIENCE, || gone(&path))?;
            assert_eq!(problem["oldest"], end, "{problem}");
            assert_eq!(problem["manifests"]["prefix"], format!("gs://{BUCKET}/{prefix}/"), "{problem}");
            assert_eq!(problem["manifests"]["first"], format!("gs://{BUCKET}/{}", names[holds]), "{problem}");
        }
    }
    // What the list has no more is in the bucket.
    let mut read = read(&gcs, "gate")?;
    read.retain(|entry| entry["type"] == "frame");
    let seqs: BTreeSet<u64> = read.iter().filter_map(|entry| entry["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=90).collect());
    Ok(())
}

#[test]
fn a_manifest_never_takes_the_place_of_another_object() -> anyhow::Result<()> {
    let stage = Stage::new(Path::new(PROGRAM))?;
    let knobs = Knobs { refuse_name: Some("_manifest/gate/".to_owned()), ..Knobs::default() };
    let (gcs, mut daemon) = prepare(&stage, knobs, "")?;
    daemon.run()?;
    add(&daemon, &[Synthetic::new("gate").frames(60), Synthetic::new("hall").frames(60)])?;
    daemon.wait_for("gate", PATIENCE, |status| status.watermark >= 60)?;
    daemon.wait_for("hall", PATIENCE, |status| status.watermark >= 60)?;
    daemon.quiesce(PATIENCE)?;
    wait(PATIENCE, || Ok((metric(&daemon, "framehaul_manifests_total{result=\"permanent\"}")? > 0.0).then_some(())))?;
    daemon.kill()?;
    let pending = committed(&stage.dir().join("state"))?;
    let key = &pending.iter().find(|found| found.key.contains("/gate/")).context("none is on its way")?.key;
    let upload = format!("{}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={key}", gcs.endpoint());
    gcs.change_knobs(|knobs| knobs.refuse_name = None)?;
    let (status, _) = daemon.http().send("POST".parse()?, &upload, None, Some("\"foreign\"".to_owned()))?;
    ensure!(status.is_success(), "{status}");

    daemon.run()?;
    wait(PATIENCE, || Ok((metric(&daemon, "framehaul_manifest_conflicts")? == 1.0).then_some(())))?;
    // It waits, and the other camera does not.
    assert_same("hall", list(&daemon, "hall")?, {
        wait(PATIENCE, || {
            let left = metric(&daemon, "framehaul_manifest_pending_frames")?;
            Ok((left == 60.0).then_some(()))
        })?;
        read(&gcs, "hall")?
    });
    assert_eq!(gcs.read(BUCKET, key)?, "\"foreign\"");
    let said = daemon.log_text();
    ensure!(said.contains(&format!("gs://{BUCKET}/{key}")), "the log does not name it");

    let object = key.replace('/', "%2F");
    let url = format!("{}/storage/v1/b/{BUCKET}/o/{object}", gcs.endpoint());
    daemon.http().send("DELETE".parse()?, &url, None, None)?;
    until_written(&daemon)?;
    assert_eq!(metric(&daemon, "framehaul_manifest_conflicts")?, 0.0);
    assert_same("gate", list(&daemon, "gate")?, read(&gcs, "gate")?);
    Ok(())
}
