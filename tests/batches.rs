//! Batches: so many frames of one source in one request, over restarts as well, in order, or told.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use testbed::cameras::{CameraServer, CameraSpec, default_cache_dir};
use testbed::clip::{ClipSpec, Codec};
use testbed::daemon::{Credentials, Daemon, Storage, wait};
use testbed::gcs::{GcsServer, Knobs, Options};
use testbed::mark::Mark;
use testbed::oracle::decode;
use testbed::scenario::Stage;
use testbed::scenario::testing;

const BUCKET: &str = "batches";
const FILM: ClipSpec =
    ClipSpec { camera: 3, width: 320, height: 240, fps: 25, gop: 25, codec: Codec::H264, seconds: 4 };
const PATIENCE: Duration = Duration::from_secs(60);

fn bucket(stage: &Stage, latency_ms: u64) -> anyhow::Result<(GcsServer, Storage)> {
    let knobs = Knobs { latency_ms, ..Knobs::default() };
    let root = Some(stage.dir().join("bucket"));
    let gcs = GcsServer::start(Options { buckets: vec![BUCKET.into()], root, knobs, ..Options::default() })?;
    let storage = Storage::Gcs { endpoint: gcs.endpoint(), bucket: BUCKET.into(), credentials: Credentials::Anonymous };
    Ok((gcs, storage))
}

fn stage() -> Stage {
    testing::stage(env!("CARGO_BIN_EXE_framehaul"))
}

/// The film as a source, and what lets the daemon read it.
fn film() -> anyhow::Result<(Value, String)> {
    let film = FILM.mp4(&default_cache_dir())?.canonicalize()?;
    let dir = film.parent().context("it lies in a directory")?;
    let more = format!("[capture]\nfiles = {}\nopen_timeout = \"30s\"", json!(dir));
    Ok((json!(format!("file://{}", film.display())), more))
}

fn call(daemon: &Daemon, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<(StatusCode, Value)> {
    let (status, text) = daemon.call(method, path, body)?;
    let value = if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? };
    Ok((status, value))
}

/// Makes a batch and returns its path.
fn post(daemon: &Daemon, body: &Value) -> anyhow::Result<String> {
    let (status, batch) = call(daemon, Method::POST, "/api/v1/batches", Some(body))?;
    ensure!(status == StatusCode::CREATED, "{status}: {batch}");
    assert_eq!(batch["state"], "capturing");
    assert!(batch.get("entries").is_none(), "{batch}");
    Ok(format!("/api/v1/batches/{}", batch["id"].as_str().context("an id")?))
}

fn get(daemon: &Daemon, path: &str) -> anyhow::Result<Value> {
    let (status, batch) = call(daemon, Method::GET, path, None)?;
    ensure!(status == StatusCode::OK, "{path}: {status}: {batch}");
    Ok(batch)
}

/// Waits for the end of a batch as its users do.
fn over(daemon: &Daemon, path: &str) -> anyhow::Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let batch = get(daemon, &format!("{path}?wait=10s"))?;
        if !["capturing", "storing"].contains(&batch["state"].as_str().context("a state")?) {
            return Ok(batch);
        }
        ensure!(Instant::now() < deadline, "{batch:#}");
    }
}

/// The pictures' numbers in the list's order, each read from the picture in the bucket.
fn pictures(gcs: &GcsServer, batch: &Value) -> anyhow::Result<Vec<u32>> {
    let frames = batch["entries"].as_array().context("a list")?.iter().filter(|entry| entry["type"] == "frame");
    let mut seqs = Vec::new();
    let pictures = frames.map(|frame| {
        seqs.push(frame["seq"].as_u64().context("a seq")?);
        let url = frame["url"].as_str().context("a URL")?;
        let key = url.strip_prefix(&format!("gs://{BUCKET}/")).context("a URL of the bucket")?;
        let (luma, width, height) = decode(&gcs.read(BUCKET, key)?).map_err(anyhow::Error::msg)?;
        let mark = Mark::read(&luma, width, height).map_err(|error| anyhow::anyhow!("{key}: {error:?}"))?;
        Ok(mark.counter)
    });
    let pictures = pictures.collect::<anyhow::Result<_>>()?;
    assert!(seqs.is_sorted_by(|one, next| one < next), "{seqs:?}");
    Ok(pictures)
}

#[test]
fn a_batch_goes_on_over_restarts_where_it_was_and_takes_no_picture_twice() -> anyhow::Result<()> {
    let stage = stage();
    let (gcs, storage) = bucket(&stage, 300)?;
    let (url, more) = film()?;
    let mut daemon = stage.daemon(&storage, &more)?;
    let body = json!({ "url": url, "frames": 80, "from": "400ms", "pace": "realtime" });
    let path = post(&daemon, &body)?;
    let mut cut = Vec::new();
    for at in [15, 30, 45] {
        cut.push(wait(PATIENCE, || {
            let batch = get(&daemon, &path)?;
            assert_eq!(batch["state"], "capturing", "{batch:#}");
            Ok(batch["totals"]["captured"].as_u64().filter(|captured| *captured >= at))
        })?);
        if at == 30 {
            daemon.stop()?
        } else {
            daemon.kill()?
        };
        daemon.run()?;
    }
    assert!(cut.is_sorted() && cut[2] < 80, "{cut:?}");
    let batch = over(&daemon, &path)?;
    assert_eq!(batch["state"], "complete", "{batch:#}");
    assert_eq!((&batch["totals"]["stored"], &batch["totals"]["lost"]), (&json!(80), &json!(0)));
    assert_eq!((&batch["more"], &batch["watermark"], &batch["from"]), (&json!(false), &json!(80), &json!("400ms")));
    assert_eq!(pictures(&gcs, &batch)?, (10..90).collect::<Vec<_>>());
    let sessions = batch["entries"].as_array().unwrap().iter().filter(|entry| entry["type"] == "session");
    assert_eq!(sessions.count(), 4, "one more than there were ends");

    // Over is over: a start captures nothing of it.
    daemon.kill()?;
    daemon.run()?;
    let again = get(&daemon, &format!("{path}?after=78&wait=1m"))?;
    assert_eq!((&again["state"], again["entries"].as_array().map(Vec::len)), (&json!("complete"), Some(2)));
    assert_eq!((&again["source"]["state"], &again["totals"]), (&json!("ended"), &batch["totals"]));
    assert_eq!(gcs.objects(BUCKET).iter().filter(|object| object.name.ends_with(".jpg")).count(), 80);
    Ok(())
}

#[test]
fn a_camera_gives_as_many_frames_as_are_asked_for_and_no_more() -> anyhow::Result<()> {
    let stage = stage();
    let (gcs, storage) = bucket(&stage, 20)?;
    let cameras = [CameraSpec::new("cam").size(320, 240).rate(25, 25).login("viewer", "p%40:/#w")];
    let cameras = CameraServer::start(&cameras, 0, default_cache_dir())?;
    let daemon = stage.daemon(&storage, "")?;
    let mut body = cameras.request(&cameras.specs()[0]);
    body["frames"] = json!(30);
    let (one, two) = (post(&daemon, &body)?, post(&daemon, &body)?);
    let secrets = || std::fs::read_to_string(daemon.dir().join("state/secrets.json"));
    assert!(secrets()?.contains("p%40"));
    assert_ne!(one, two);
    for path in [&one, &two] {
        let batch = over(&daemon, path)?;
        assert_eq!((&batch["state"], &batch["totals"]["stored"]), (&json!("complete"), &json!(30)), "{batch:#}");
        // Nobody needs it any more.
        assert_eq!(batch["spec"]["password_set"], false);
        let pictures = pictures(&gcs, &batch)?;
        let rising = pictures.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
        assert!(
            pictures.len() == 30 && rising >= 28,
            "one after the other, but for the clip's beginning: {pictures:?}"
        );
        let process = batch["source"]["state"].as_str();
        assert_eq!(process, Some("ended"));
    }
    assert!(!secrets()?.contains("p%40"));

    // A batch that is over is no camera, and metrics know nothing of it.
    let (_, listed) = call(&daemon, Method::GET, "/api/v1/batches", None)?;
    assert_eq!(listed["batches"].as_array().map(Vec::len), Some(2));
    let (_, cameras) = call(&daemon, Method::GET, "/api/v1/cameras", None)?;
    assert_eq!(cameras["cameras"], json!([]));
    let id = one.rsplit('/').next().unwrap();
    let metrics = daemon.get("/metrics")?;
    assert!(metrics.contains("framehaul_build_info") && !metrics.contains(id), "{metrics}");

    assert_eq!(call(&daemon, Method::DELETE, &one, None)?.0, StatusCode::NO_CONTENT);
    assert_eq!(call(&daemon, Method::GET, &one, None)?.0, StatusCode::NOT_FOUND);
    let list = get(&daemon, &format!("/api/v1/cameras/{id}/frames"))?;
    assert_eq!(list["watermark"], 30);
    Ok(())
}

#[test]
fn a_batch_that_is_called_off_stores_what_it_has() -> anyhow::Result<()> {
    let stage = stage();
    let (gcs, storage) = bucket(&stage, 700)?;
    let (url, more) = film()?;
    let mut daemon = stage.daemon(&storage, &more)?;
    let path = post(&daemon, &json!({ "url": url, "frames": 1_000_000, "loop": true, "pace": "realtime" }))?;
    let captured = |batch: &Value| batch["totals"]["captured"].as_u64().unwrap_or_default();
    wait(PATIENCE, || Ok(Some(get(&daemon, &path)?).filter(|batch| captured(batch) >= 10)))?;
    let (status, refused) = call(&daemon, Method::DELETE, &path, None)?;
    assert!(status == StatusCode::CONFLICT && refused.to_string().contains("cancel it first"), "{refused}");

    let (status, batch) = call(&daemon, Method::POST, &format!("{path}/cancel"), None)?;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(batch["state"], "storing", "{batch:#}");
    let batch = over(&daemon, &path)?;
    let stored = batch["totals"]["stored"].as_u64().unwrap();
    assert_eq!((&batch["state"], captured(&batch)), (&json!("cancelled"), stored), "{batch:#}");
    assert!(stored >= 10 && !batch["ended_at"].is_null());
    let pictures = pictures(&gcs, &batch)?;
    let expected: Vec<u32> = (0..100).cycle().take(pictures.len()).collect();
    assert_eq!((pictures.len() as u64, pictures), (stored, expected));
    // Twice is as good as once, and a start changes nothing.
    daemon.kill()?;
    daemon.run()?;
    let (status, batch) = call(&daemon, Method::POST, &format!("{path}/cancel"), None)?;
    assert_eq!(
        (status, &batch["state"], &batch["totals"]["stored"]),
        (StatusCode::OK, &json!("cancelled"), &json!(stored))
    );
    Ok(())
}

#[test]
fn the_last_picture_of_a_batch_waits_for_the_journal() -> anyhow::Result<()> {
    let stage = stage();
    let (gcs, storage) = bucket(&stage, 0)?;
    let (url, more) = film()?;
    let daemon = stage.daemon(&storage, &format!("{more}\n[debug]\nfault_injection = true"))?;
    // It cannot open a session before the journal answers, which is later than a camera's last pictures may wait.
    let path = post(&daemon, &json!({ "url": url, "frames": 1 }))?;
    let (status, _) = call(&daemon, Method::POST, "/api/v1/debug/hang?what=journal&seconds=4", None)?;
    assert!(status.is_success());
    let batch = over(&daemon, &path)?;
    assert_eq!((&batch["state"], pictures(&gcs, &batch)?), (&json!("complete"), vec![0]), "{batch:#}");
    Ok(())
}

#[test]
fn a_batch_says_why_it_is_not_complete() -> anyhow::Result<()> {
    let stage = stage();
    let (_gcs, storage) = bucket(&stage, 0)?;
    let (url, more) = film()?;
    let daemon = stage.daemon(&storage, &more)?;
    // As fast as it can be read, unless it is said.
    let short = post(&daemon, &json!({ "url": url, "frames": 101 }))?;
    let beyond = post(&daemon, &json!({ "url": url, "frames": 1, "from": "1h" }))?;
    let missing = post(&daemon, &json!({ "url": format!("{}x", url.as_str().unwrap()), "frames": 1 }))?;
    // Nobody listens there, and it is tried again and again.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let away = json!({ "url": format!("rtsp://{closed}/x"), "frames": 1, "give_up_after": "3s" });
    let away = post(&daemon, &away)?;
    for (path, state, stored, message) in [
        (&short, "incomplete", 100, "the source ended after 100 of the 101 frames"),
        (&beyond, "incomplete", 0, "the source ended after 0 of the 1 frames"),
        (&missing, "failed", 0, "no such file"),
        (&away, "failed", 0, "nobody listens"),
    ] {
        let batch = over(&daemon, path)?;
        assert_eq!((&batch["state"], &batch["totals"]["stored"]), (&json!(state), &json!(stored)), "{batch:#}");
        let told = batch["message"].as_str().unwrap_or_default();
        assert!(told.contains(message), "{batch:#}");
    }
    Ok(())
}

#[test]
fn what_is_no_batch_is_told_and_a_batch_is_no_camera_to_change() -> anyhow::Result<()> {
    let stage = stage();
    let (_gcs, storage) = bucket(&stage, 0)?;
    let (url, more) = film()?;
    let daemon = stage.daemon(&storage, &more)?;
    let refused = |body: Value, fields: &[&str]| -> anyhow::Result<()> {
        let (status, problem) = call(&daemon, Method::POST, "/api/v1/batches", Some(&body))?;
        assert!(status.is_client_error(), "{body}: {status}: {problem}");
        let errors = problem["errors"].as_array().context("errors")?;
        assert_eq!(
            errors.iter().map(|error| error["field"].as_str().unwrap()).collect::<Vec<_>>(),
            fields,
            "{problem}"
        );
        Ok(())
    };
    refused(json!({ "url": url }), &["frames"])?;
    refused(json!({ "url": url, "frames": 0 }), &["frames"])?;
    refused(
        json!({ "url": url, "frames": 2.5, "from": 3, "give_up_after": "30d", "jpeg_quality": "x" }),
        &["frames", "from", "give_up_after", "jpeg_quality"],
    )?;
    refused(json!({ "url": "rtsp://127.0.0.1/x", "frames": 1, "from": "1s" }), &["from"])?;
    refused(json!({ "url": "rtsp://u:p%40@127.0.0.1/x", "frames": 1 }), &["url"])?;

    let path = post(&daemon, &json!({ "url": url, "frames": 10_000, "loop": true, "pace": "realtime" }))?;
    let id = path.rsplit('/').next().unwrap();
    let camera = format!("/api/v1/cameras/{id}");
    let spec = json!({ "url": url });
    for (method, path, body) in [
        (Method::PUT, camera.clone(), Some(&spec)),
        (Method::DELETE, camera.clone(), None),
        (Method::POST, format!("{camera}/pause"), None),
    ] {
        let (status, problem) = call(&daemon, method, &path, body)?;
        assert!(
            status == StatusCode::CONFLICT && problem.to_string().contains("see /api/v1/batches/"),
            "{path}: {problem}"
        );
    }
    // The whole set of cameras is another one.
    let (status, _) = call(&daemon, Method::PUT, "/api/v1/cameras", Some(&json!({ "cameras": {} })))?;
    assert_eq!((status, &get(&daemon, &path)?["state"]), (StatusCode::OK, &json!("capturing")));
    // What a camera can show, a batch can.
    assert_eq!(get(&daemon, &camera)?["managed_by"], "batch");

    for query in ["wait=2h", "wait=soon", "limit=0", "limit=1001", "befor=1"] {
        assert_eq!(call(&daemon, Method::GET, &format!("{path}?{query}"), None)?.0, StatusCode::BAD_REQUEST, "{query}");
    }
    let begun = Instant::now();
    let batch = get(&daemon, &format!("{path}?wait=1s"))?;
    assert!(batch["state"] == "capturing" && begun.elapsed() >= Duration::from_secs(1), "{batch}");
    for (method, path) in [
        (Method::GET, "/api/v1/batches/batch-1"),
        (Method::DELETE, "/api/v1/batches/batch-1"),
        (Method::POST, "/api/v1/batches/batch-1/cancel"),
    ] {
        assert_eq!(call(&daemon, method, path, None)?.0, StatusCode::NOT_FOUND, "{path}");
    }
    Ok(())
}
