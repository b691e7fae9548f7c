//! Several destinations: cameras that are moved between them while they stream, over a kill, and over a destination that
//! is taken out of the configuration and put back. What is listed is read from where its URL says, by readers that share
//! no code with the daemon.

#![allow(clippy::unwrap_used, reason = "a test fails that way")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use testbed::daemon::{Credentials, Daemon, Storage};
use testbed::gcs::{GcsServer, Knobs, ObjectInfo, Options};
use testbed::scenario::Stage;
use testbed::synthetic::Synthetic;

const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");
const PATIENCE: Duration = Duration::from_secs(120);
const CAMERAS: [&str; 2] = ["gate", "hall"];

/// A daemon whose default destination is a bucket, `cloud` another one of the same server, and `nas` a directory.
struct Bench {
    stage: Stage,
    gcs: GcsServer,
    daemon: Daemon,
    /// The configuration with all destinations.
    whole: String,
}

impl Bench {
    fn start() -> Self {
        let stage = Stage::new(Path::new(PROGRAM)).unwrap();
        let buckets = ["frames", "cloud", "moved"].map(str::to_owned).to_vec();
        let gcs = GcsServer::start(Options { buckets, ..Options::default() }).unwrap();
        let (endpoint, credentials) = (gcs.endpoint(), Credentials::Anonymous);
        let more = format!(
            "{}[upload]\nretry_max = \"500ms\"\n[destinations.nas]\nurl = {}\n[destinations.cloud]\nurl = \"gs://cloud\"\n\
             endpoint = \"{endpoint}\"\ncredentials = \"anonymous\"\n",
            stage.synthetic().unwrap(),
            json!(format!("file://{}", stage.dir().join("nas").display())),
        );
        let storage = Storage::Gcs { endpoint, bucket: "frames".to_owned(), credentials };
        let daemon = stage.daemon(&storage, &more).unwrap();
        let whole = fs::read_to_string(stage.dir().join("framehaul.toml")).unwrap();
        Self { stage, gcs, daemon, whole }
    }

    fn put(&self, camera: &str, destination: &str) {
        let mut request = Synthetic::new(camera).fps(40.0).bytes(6_000).request();
        request["destination"] = json!(destination);
        self.daemon.put_camera(camera, &request).unwrap();
    }

    /// Waits until a camera has captured so many frames more.
    fn capture(&self, camera: &str, more: u64) {
        let captured = self.daemon.status(camera).unwrap().totals.captured;
        self.daemon.wait_for(camera, PATIENCE, |status| status.totals.captured >= captured + more).unwrap();
    }

    fn bucket_is_down(&self, down: bool) {
        self.gcs.change_knobs(|knobs| knobs.refuse_status = down.then_some(503)).unwrap();
    }

    fn destination(&self, name: &str) -> Value {
        serde_json::from_str(&self.daemon.get(&format!("/api/v1/destinations/{name}")).unwrap()).unwrap()
    }

    fn waiting(&self, name: &str) -> u64 {
        self.destination(name)["spool"]["frames"].as_u64().unwrap()
    }

    fn wait_until(&self, what: &str, condition: impl Fn() -> bool) {
        let done = testbed::daemon::wait(PATIENCE, || Ok(condition().then_some(())));
        done.unwrap_or_else(|error| panic!("{what}: {error:#}"));
    }

    fn run_with(&mut self, configuration: &str) {
        fs::write(self.stage.dir().join("framehaul.toml"), configuration).unwrap();
        self.daemon.run().unwrap();
    }

    /// A camera's whole list as the API has it.
    fn list(&self, camera: &str) -> Vec<Value> {
        let (mut entries, mut after) = (Vec::new(), 0);
        loop {
            let path = format!("/api/v1/cameras/{camera}/frames?after={after}&limit=100");
            let page: Value = serde_json::from_str(&self.daemon.get(&path).unwrap()).unwrap();
            entries.extend(page["entries"].as_array().unwrap().iter().cloned());
            if page["more"] == false {
                return entries;
            }
            after = page["next"].as_u64().unwrap();
        }
    }

    /// The object at a URL.
    fn read(&self, url: &str) -> Vec<u8> {
        if let Some(path) = url.strip_prefix("file://") {
            return fs::read(path).unwrap_or_else(|error| panic!("{url}: {error}"));
        }
        let (bucket, name) = url.strip_prefix("gs://").unwrap().split_once('/').unwrap();
        self.gcs.read(bucket, name).unwrap_or_else(|error| panic!("{url}: {error:#}")).to_vec()
    }

    /// Judges a camera's list: no hole, each frame where its URL says, no tombstone but those of the kill. Answers the
    /// destinations in their order, each with how many frames in a row went there, and all URLs.
    fn judge(&self, camera: &str) -> (Vec<(String, u64)>, BTreeSet<String>) {
        let (mut next, mut runs, mut urls) = (1, Vec::<(String, u64)>::new(), BTreeSet::new());
        for entry in self.list(camera) {
            if entry["type"] == "session" {
                continue;
            }
            assert_eq!(entry["seq"], next, "{camera}: {entry}");
            next = entry["last"].as_u64().unwrap_or(next) + 1;
            if entry["type"] == "tombstone" {
                assert_eq!((&entry["reason"], &entry["maybe_stored"]), (&json!("crash"), &json!(true)), "{entry}");
                continue;
            }
            let (url, name) = (entry["url"].as_str().unwrap(), entry["destination"].as_str().unwrap());
            let place = match name {
                "default" => "gs://frames/".to_owned(),
                "cloud" => "gs://cloud/".to_owned(),
                _ => format!("file://{}/", self.stage.dir().join("nas").display()),
            };
            assert!(url.starts_with(&format!("{place}{camera}/")), "{entry}");
            let object = self.read(url);
            assert_eq!(entry["bytes"], object.len() as u64, "{entry}");
            let crc32c = BASE64_STANDARD.encode(crc32c::crc32c(&object).to_be_bytes());
            assert_eq!(entry["crc32c"], json!(crc32c), "{entry}");
            assert!(urls.insert(url.to_owned()), "{url} is listed twice");
            match runs.last_mut() {
                Some((last, count)) if last == name => *count += 1,
                _ => runs.push((name.to_owned(), 1)),
            }
        }
        assert_eq!(next - 1, self.daemon.status(camera).unwrap().totals.captured, "{camera}: the list is complete");
        (runs, urls)
    }

    /// How many objects there are in all places.
    fn objects(&self) -> usize {
        fn files(dir: &Path) -> usize {
            let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
            let kept = entries
                .filter(|entry| ![".framehaul-staging", "_manifest"].contains(&&*entry.file_name().to_string_lossy()));
            kept.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
        }
        let frames =
            |objects: Vec<ObjectInfo>| objects.iter().filter(|object| !object.name.starts_with("_manifest/")).count();
        let stored: usize = ["frames", "cloud", "moved"].iter().map(|bucket| frames(self.gcs.objects(bucket))).sum();
        stored + files(&self.stage.dir().join("nas"))
    }

    fn identity(&self) {
        for camera in CAMERAS {
            let totals = self.daemon.status(camera).unwrap().totals;
            assert!(totals.add_up(), "{camera}: {totals:?}");
        }
    }
}

#[test]
fn a_camera_is_moved_over_an_outage_and_a_kill_and_its_list_goes_on() {
    let mut bench = Bench::start();
    bench.put("gate", "default");
    bench.put("hall", "nas");
    bench.capture("gate", 60);
    bench.wait_until("frames are stored by the bucket", || bench.daemon.status("gate").unwrap().watermark >= 30);

    // Both buckets of the server are down, and gate is moved from one to the other: its frames wait for both.
    bench.bucket_is_down(true);
    bench.capture("gate", 40);
    bench.put("gate", "cloud");
    bench.capture("gate", 40);
    let hall = bench.daemon.status("hall").unwrap();
    bench
        .daemon
        .wait_for("hall", PATIENCE, |now| {
            now.totals.stored >= hall.totals.stored + 40 && now.watermark > hall.watermark
        })
        .unwrap();
    assert!(bench.waiting("default") >= 30 && bench.waiting("cloud") >= 30);
    bench.identity();
    bench.daemon.kill().unwrap();

    // One of them is taken out of the configuration while frames wait for it.
    let (first, second) = bench.whole.split_once("[destinations.cloud]").unwrap();
    assert!(!second.contains('['), "it is the last section");
    let without = first.to_owned();
    bench.run_with(&without);
    bench.identity();
    let cloud = bench.destination("cloud");
    assert_eq!(
        (&cloud["configured"], &cloud["url"], &cloud["status"]["state"]),
        (&json!(false), &Value::Null, &json!("unconfigured"))
    );
    let left = cloud["spool"]["frames"].as_u64().unwrap();
    assert!(left >= 30);
    let log = bench.daemon.log_text();
    let told = log.lines().find(|line| line.contains("put [destinations.cloud] back")).unwrap();
    assert!(told.contains("ERROR") && told.contains(&format!("frames={left}")), "{told}");
    // The camera that names it waits for a person; the other one streams.
    let gate = bench.daemon.status("gate").unwrap();
    assert_eq!(gate.state, "failed");
    bench.capture("hall", 40);

    bench.bucket_is_down(false);
    bench.wait_until("the default bucket has all", || bench.waiting("default") == 0);
    let gate = bench.daemon.status("gate").unwrap();
    assert_eq!(gate.totals.in_flight, left);
    // No trouble with uploads is newer any more.
    let said = gate.last_error.as_ref().unwrap()["message"].as_str().unwrap().to_owned();
    assert!(said.contains("`cloud`") && said.contains("there are default, nas"), "{said}");
    // Moved on, it goes on; its list waits for what is in the middle.
    bench.put("gate", "nas");
    bench.capture("gate", 40);
    bench.wait_until("the new frames are stored", || bench.daemon.status("gate").unwrap().totals.in_flight < left + 20);
    assert_eq!(bench.daemon.status("gate").unwrap().watermark, gate.watermark);
    assert_eq!(bench.waiting("cloud"), left);
    let mut nowhere = Synthetic::new("gate").request();
    nowhere["destination"] = json!("cloud");
    let (status, answer) = bench.daemon.call(http::Method::PUT, "/api/v1/cameras/gate", Some(&nowhere)).unwrap();
    assert_eq!(status, 422, "{answer}");
    assert!(answer.contains("\"field\":\"destination\"") && answer.contains("there are default, nas"), "{answer}");
    let (status, _) = bench.daemon.call(http::Method::GET, "/api/v1/destinations/other", None).unwrap();
    assert_eq!(status, 404);
    bench.identity();
    bench.daemon.stop().unwrap();

    // Put back, all of it arrives.
    let whole = bench.whole.clone();
    bench.run_with(&whole);
    bench.wait_until("what waited has arrived", || bench.waiting("cloud") == 0);
    let shown = Command::new(PROGRAM)
        .args(["destinations", "--config"])
        .arg(bench.stage.dir().join("framehaul.toml"))
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let names: Vec<&str> = shown.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["cloud", "default", "nas"], "{shown}");
    let metrics = bench.daemon.get("/metrics").unwrap();
    for name in names {
        assert!(metrics.contains(&format!("framehaul_spool_frames{{destination=\"{name}\"}} ")), "{name}");
        assert!(metrics.contains(&format!("framehaul_uploads_total{{destination=\"{name}\",result=\"stored\"}} ")));
    }
    bench.daemon.quiesce(PATIENCE).unwrap();
    let (runs, gate_urls) = bench.judge("gate");
    let went: Vec<&str> = runs.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(went, ["default", "cloud", "nas"], "{runs:?}");
    assert!(runs.iter().all(|(_, frames)| *frames >= 30), "{runs:?}");
    let (runs, hall_urls) = bench.judge("hall");
    assert!(matches!(runs.as_slice(), [(name, _)] if name == "nas"), "{runs:?}");
    assert_eq!(bench.objects(), gate_urls.len() + hall_urls.len(), "no object but the listed ones");

    // Another bucket by the same name changes nothing of what is listed.
    let before = bench.list("gate");
    bench.daemon.stop().unwrap();
    let moved = bench.whole.replace("\"gs://frames\"", "\"gs://moved\"");
    assert_ne!(moved, bench.whole);
    bench.run_with(&moved);
    assert_eq!(bench.list("gate"), before);
    bench.put("later", "default");
    bench.wait_until("a frame is listed", || bench.list("later").iter().any(|entry| entry["type"] == "frame"));
    let later = bench.list("later");
    let frame = later.iter().find(|entry| entry["type"] == "frame").unwrap();
    assert!(frame["url"].as_str().unwrap().starts_with("gs://moved/later/"), "{frame}");
    bench.daemon.stop().unwrap();
}

#[test]
fn a_destination_that_cannot_be_used_at_the_start_costs_its_own_cameras_alone_and_is_taken_up() {
    let stage = Stage::new(Path::new(PROGRAM)).unwrap();
    let knobs = Knobs { require_auth: true, ..Knobs::default() };
    let gcs = GcsServer::start(Options { buckets: vec!["cloud".to_owned()], knobs, ..Options::default() }).unwrap();
    let (nas, key_file) = (stage.dir().join("disk/frames"), stage.dir().join("key.json"));
    let more = format!(
        "{}[upload]\nretry_max = \"500ms\"\n[destinations.nas]\nurl = {}\n[destinations.cloud]\nurl = \"gs://cloud\"\n\
         endpoint = \"{}\"\ncredentials = \"key_file\"\nkey_file = {}\n",
        stage.synthetic().unwrap(),
        json!(format!("file://{}", nas.display())),
        gcs.endpoint(),
        json!(key_file),
    );
    let mut daemon = stage.daemon(&Storage::Directory, &more).unwrap();
    let put = |daemon: &Daemon, camera: &str, destination: &str| {
        let mut request = Synthetic::new(camera).fps(20.0).bytes(6_000).request();
        request["destination"] = json!(destination);
        daemon.put_camera(camera, &request).unwrap();
    };
    let status = |daemon: &Daemon, name: &str| -> (String, String) {
        let shown = daemon.get(&format!("/api/v1/destinations/{name}")).unwrap();
        let status = serde_json::from_str::<Value>(&shown).unwrap()["status"].take();
        (status["state"].as_str().unwrap().to_owned(), status["last_error"].as_str().unwrap_or_default().to_owned())
    };
    let is_told = |daemon: &Daemon, name: &str, what: &str| {
        let told = testbed::daemon::wait(PATIENCE, || {
            let (state, error) = status(daemon, name);
            Ok((state == "paused" && error.contains(what)).then_some(()))
        });
        told.unwrap_or_else(|error| panic!("{name} is {:?}: {error:#}", status(daemon, name)));
    };
    let stores = |daemon: &Daemon, camera: &str| {
        let before = daemon.status(camera).unwrap().totals.stored;
        daemon.wait_for(camera, PATIENCE, |now| now.totals.stored >= before + 20).unwrap();
    };

    // There is no key yet: that is told before any frame goes there.
    is_told(&daemon, "cloud", "cannot use key file");
    put(&daemon, "gate", "default");
    put(&daemon, "hall", "nas");
    put(&daemon, "yard", "cloud");
    stores(&daemon, "gate");
    stores(&daemon, "hall");
    daemon.wait_for("yard", PATIENCE, |now| now.totals.captured >= 20).unwrap();
    assert_eq!(daemon.status("yard").unwrap().totals.stored, 0);
    fs::write(&key_file, gcs.service_account_key()).unwrap();
    stores(&daemon, "yard");

    // The disk of the other is not mounted when the daemon starts again.
    daemon.stop().unwrap();
    fs::rename(stage.dir().join("disk"), stage.dir().join("unmounted")).unwrap();
    daemon.run().unwrap();
    is_told(&daemon, "nas", "is its disk mounted?");
    let stored = daemon.status("hall").unwrap().totals.stored;
    stores(&daemon, "gate");
    stores(&daemon, "yard");
    daemon.wait_for("hall", PATIENCE, |now| now.totals.in_flight >= 20).unwrap();
    let totals = daemon.status("hall").unwrap().totals;
    assert_eq!((totals.stored, totals.lost), (stored, 0));
    assert!(!stage.dir().join("disk").exists());
    fs::rename(stage.dir().join("unmounted"), stage.dir().join("disk")).unwrap();
    stores(&daemon, "hall");
    daemon.quiesce(PATIENCE).unwrap();
    for camera in ["gate", "hall", "yard"] {
        let totals = daemon.status(camera).unwrap().totals;
        assert_eq!((totals.stored, totals.lost), (totals.captured, 0), "{camera}");
    }
    daemon.stop().unwrap();
}
