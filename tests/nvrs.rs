//! Recorders as a whole: one request makes cameras of their channels; a recorder that is away is one fault; channels come
//! and go; what was recorded is a timeline. The recorder is the test bed's, which speaks ISAPI and streams live.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use testbed::daemon::{Daemon, Storage, wait};
use testbed::nvr::{Channel, Knobs, NvrServer, Options};
use testbed::scenario::Stage;
use testbed::scenario::testing;

const PATIENCE: Duration = Duration::from_secs(60);
/// Within so much time all is as it was, once the recorder is back; three times that here.
const BACK_WITHIN: Duration = Duration::from_secs(10);
/// Made to break whoever takes it for a URL or for percent-encoded.
const CANARY: &str = "p%40:w#x";

fn stage() -> Stage {
    testing::stage(env!("CARGO_BIN_EXE_framehaul"))
}

/// A recorder with so many channels, each of which shows a minute of pictures again and again.
fn recorder(channels: u16, knobs: Knobs) -> anyhow::Result<NvrServer> {
    let channel =
        |number| Channel { name: format!("Camera {number}"), recordings: 6, pictures: 50, ..Channel::default() };
    let channels = (1..=channels).map(channel).collect();
    NvrServer::start(Options { channels, knobs, password: CANARY.into(), ..Options::default() })
}

fn spec(recorder: &NvrServer) -> Value {
    json!({ "url": recorder.endpoint(), "user": "admin", "password": CANARY, "sampling": { "fps": 1 } })
}

fn call(daemon: &Daemon, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<(StatusCode, Value)> {
    let (status, text) = daemon.call(method, path, body)?;
    ensure!(!text.contains(CANARY), "{path} shows the password: {text}");
    let value = if text.is_empty() { Value::Null } else { serde_json::from_str(&text)? };
    Ok((status, value))
}

fn get(daemon: &Daemon, path: &str) -> anyhow::Result<Value> {
    let (status, value) = call(daemon, Method::GET, path, None)?;
    ensure!(status == StatusCode::OK, "{path}: {status}: {value}");
    Ok(value)
}

fn put(daemon: &Daemon, id: &str, spec: &Value) -> anyhow::Result<()> {
    let (status, value) = call(daemon, Method::PUT, &format!("/api/v1/nvrs/{id}"), Some(spec))?;
    ensure!(status.is_success(), "{status}: {value}");
    Ok(())
}

/// What the cameras that are there are doing.
fn states(daemon: &Daemon) -> anyhow::Result<BTreeMap<String, String>> {
    let cameras = get(daemon, "/api/v1/cameras")?;
    let of = |camera: &Value| Some((camera["id"].as_str()?.to_owned(), camera["status"]["state"].as_str()?.to_owned()));
    Ok(cameras["cameras"].as_array().context("cameras")?.iter().filter_map(of).collect())
}

/// Waits until these cameras and no others stream.
fn until_streaming(daemon: &Daemon, ids: &[String], patience: Duration) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    let mut last = BTreeMap::new();
    let streaming = wait(patience, || {
        last = states(daemon)?;
        let all = last.keys().eq(ids) && last.values().all(|state| state == "streaming");
        Ok(all.then(|| begin.elapsed()))
    });
    streaming.with_context(|| format!("not all of them stream: {last:?}"))
}

fn ids(channels: impl IntoIterator<Item = u16>) -> Vec<String> {
    channels.into_iter().map(|channel| format!("hall-ch{channel:02}")).collect()
}

fn until_state(daemon: &Daemon, wanted: &str, patience: Duration) -> anyhow::Result<()> {
    let mut last = Value::Null;
    let found = wait(patience, || {
        last = get(daemon, "/api/v1/nvrs/hall/status")?;
        Ok((last["state"] == wanted).then_some(()))
    });
    found.with_context(|| format!("the recorder did not become {wanted}: {last}"))
}

/// The value of a metric.
fn metric(daemon: &Daemon, name: &str) -> anyhow::Result<Option<f64>> {
    let text = daemon.get("/metrics")?;
    ensure!(!text.contains(CANARY), "metrics show the password");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.parse().context("a number")).transpose()
}

/// Ends the daemon, and looks for the password everywhere but where it has to be.
fn leave(mut daemon: Daemon) -> anyhow::Result<()> {
    daemon.stop()?;
    let secrets = daemon.dir().join("state/secrets.json");
    let mut directories = vec![daemon.dir().to_owned()];
    let mut found = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.is_file() && path != secrets {
                let bytes = std::fs::read(&path)?;
                let holds = bytes.windows(CANARY.len()).any(|part| part == CANARY.as_bytes());
                found.extend(holds.then_some(path));
            }
        }
    }
    ensure!(found.is_empty(), "the password is in {found:?}");
    Ok(())
}

#[test]
fn sixteen_channels_stream_by_one_request_and_are_one_fault_when_their_recorder_is_away() -> anyhow::Result<()> {
    let stage = stage();
    let recorder = recorder(16, Knobs::default())?;
    let mut daemon = stage.daemon(&Storage::Directory, "[capture]\nopen_timeout = \"30s\"")?;
    put(&daemon, "hall", &spec(&recorder))?;
    let all = ids(1..=16);
    until_streaming(&daemon, &all, PATIENCE)?;
    for id in &all {
        daemon.wait_for(id, PATIENCE, |status| status.totals.stored >= 2)?;
    }
    until_state(&daemon, "online", PATIENCE)?;
    let status = get(&daemon, "/api/v1/nvrs/hall/status")?;
    assert_eq!(status["device"]["model"], "DS-7616NI-K2", "{status}");
    assert_eq!(status["disks"][0]["status"], "ok", "{status}");
    assert_eq!((&status["sessions"]["streaming"], &status["locked_until"]), (&json!(16), &Value::Null), "{status}");
    assert!(status["clock"]["offset_seconds"].as_f64().is_some_and(|offset| offset.abs() < 2.0), "{status}");
    // They are cameras like others, and belong to somebody.
    let camera = get(&daemon, "/api/v1/cameras/hall-ch03")?;
    assert_eq!((&camera["managed_by"], &camera["nvr"]), (&json!("nvr"), &json!({ "id": "hall", "channel": 3 })));
    assert_eq!((&camera["spec"]["name"], &camera["spec"]["sampling"]), (&json!("Camera 3"), &json!({ "fps": 1.0 })));
    for (method, body) in [(Method::PUT, Some(json!({ "url": "rtsp://127.0.0.1/x" }))), (Method::DELETE, None)] {
        let (status, problem) = call(&daemon, method, "/api/v1/cameras/hall-ch03", body.as_ref())?;
        assert_eq!(status, StatusCode::CONFLICT, "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("/api/v1/nvrs/hall")), "{problem}");
    }
    assert_eq!(metric(&daemon, "framehaul_nvr_up{nvr=\"hall\"}")?, Some(1.0));
    assert_eq!(metric(&daemon, "framehaul_nvr_cameras{nvr=\"hall\"}")?, Some(16.0));
    assert_eq!(metric(&daemon, "framehaul_nvrs{state=\"online\"}")?, Some(1.0));

    // Away: one state, one line, one metric, and one attempt a second.
    let before = daemon.log_text();
    recorder.change_knobs(|knobs| knobs.off = true)?;
    until_state(&daemon, "unreachable", PATIENCE)?;
    wait(PATIENCE, || Ok(states(&daemon)?.values().all(|state| state == "nvr_down").then_some(())))?;
    wait(PATIENCE, || Ok((recorder.hung_up().len() >= 12).then_some(())))?;
    let attempts = recorder.hung_up();
    let gaps: Vec<f64> = attempts.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    // The first may have been under way.
    assert!(gaps.iter().skip(1).all(|gap| *gap > 0.9), "more than one attempt a second: {gaps:?}");
    assert_eq!(metric(&daemon, "framehaul_nvr_up{nvr=\"hall\"}")?, Some(0.0));
    assert_eq!(metric(&daemon, "framehaul_camera_wanted{camera=\"hall-ch01\"}")?, Some(0.0));
    let log = daemon.log_text();
    let told: Vec<&str> =
        log[before.len()..].lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert!(told.len() == 1 && told[0].contains("the recorder is away"), "{told:#?}");
    let camera = get(&daemon, "/api/v1/cameras/hall-ch16")?;
    assert_eq!(camera["status"]["last_error"]["kind"], "nvr_down", "{camera}");
    let (status, problem) = call(&daemon, Method::GET, "/api/v1/nvrs/hall/recordings?channel=1", None)?;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");

    recorder.change_knobs(|knobs| knobs.off = false)?;
    let back = until_streaming(&daemon, &all, 3 * BACK_WITHIN)?;
    println!("{{\"faults\":1,\"figure\":{{\"back_s\":{:.1},\"attempts\":{}}}}}", back.as_secs_f64(), attempts.len());
    until_state(&daemon, "online", PATIENCE)?;

    // A restart finds all of it again.
    daemon.stop()?;
    daemon.run()?;
    until_streaming(&daemon, &all, PATIENCE)?;
    let (status, _) = call(&daemon, Method::DELETE, "/api/v1/nvrs/hall", None)?;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert!(states(&daemon)?.is_empty());
    daemon.quiesce(PATIENCE)?;
    for id in &all {
        let status = daemon.status(id)?;
        assert!(status.totals.add_up() && status.totals.stored > 2, "{id}: {status:?}");
    }
    assert!(!std::fs::read_to_string(daemon.dir().join("state/secrets.json"))?.contains("hall"));
    leave(daemon)
}

#[test]
fn channels_come_and_go_with_the_recorder_and_with_what_is_asked() -> anyhow::Result<()> {
    let stage = stage();
    let recorder = recorder(4, Knobs { gone: vec![4], ..Knobs::default() })?;
    let daemon = stage.daemon(&Storage::Directory, "")?;
    // The id of the second one is taken, and stays whose it is.
    daemon.put_camera("hall-ch02", &json!({ "url": "rtsp://127.0.0.1:1/main" }))?;
    put(&daemon, "hall", &spec(&recorder))?;
    wait(PATIENCE, || Ok((states(&daemon)?.len() == 3).then_some(())))?;
    let channels = get(&daemon, "/api/v1/nvrs/hall/channels")?;
    let problem = channels["channels"][1]["problem"].as_str().context("a problem")?;
    assert!(problem.contains("hall-ch02") && channels["channels"][1]["camera"].is_null(), "{channels}");
    assert_eq!(get(&daemon, "/api/v1/cameras/hall-ch02")?["managed_by"], "api");
    daemon.delete_camera("hall-ch02")?;

    // Within a minute each: what is new, what is free again, and what is gone.
    let begin = Instant::now();
    recorder.change_knobs(|knobs| knobs.gone = vec![1])?;
    until_streaming(&daemon, &ids([2, 3, 4]), PATIENCE)?;
    println!("{{\"figure\":{{\"followed_s\":{:.1}}}}}", begin.elapsed().as_secs_f64());
    // What is asked of the recorder is asked of its cameras at once.
    let mut asked = spec(&recorder);
    (asked["channels"], asked["stream"], asked["jpeg_quality"]) = (json!([2, 3, 7]), json!("sub"), json!(60));
    put(&daemon, "hall", &asked)?;
    until_streaming(&daemon, &ids([2, 3]), PATIENCE)?;
    let camera = get(&daemon, "/api/v1/cameras/hall-ch02")?;
    assert_eq!(camera["spec"]["jpeg_quality"], 60, "{camera}");
    assert!(camera["spec"]["url"].as_str().is_some_and(|url| url.ends_with("/Streaming/Channels/202")), "{camera}");
    let channels = get(&daemon, "/api/v1/nvrs/hall/channels")?;
    let missing = channels["channels"].as_array().context("channels")?.iter().find(|of| of["channel"] == 7);
    assert!(missing.is_some_and(|of| of["seen"] == false && of["problem"].is_string()), "{channels}");
    leave(daemon)
}

#[test]
fn a_recorder_that_tells_of_no_channels_at_all_keeps_its_cameras() -> anyhow::Result<()> {
    let stage = stage();
    let recorder = recorder(2, Knobs::default())?;
    let daemon = stage.daemon(&Storage::Directory, "")?;
    let mut asked = spec(&recorder);
    put(&daemon, "hall", &asked)?;
    until_streaming(&daemon, &ids([1, 2]), PATIENCE)?;
    recorder.change_knobs(|knobs| knobs.gone = vec![1, 2])?;
    // Each change of what is asked is a look. One that is missed would be gone with the second.
    for quality in [60, 61, 62] {
        let pages = recorder.stats().calls.pages;
        asked["jpeg_quality"] = json!(quality);
        put(&daemon, "hall", &asked)?;
        wait(PATIENCE, || Ok((recorder.stats().calls.pages > pages).then_some(())))?;
        until_state(&daemon, "degraded", PATIENCE)?;
    }
    let status = get(&daemon, "/api/v1/nvrs/hall/status")?;
    let told = status["last_error"]["message"].as_str().context("an error")?;
    assert!(told.contains("tells of no channels, where it had 2"), "{status}");
    assert!(states(&daemon)?.keys().eq(&ids([1, 2])), "{:?}", states(&daemon)?);
    // Whoever wants to be rid of one says so.
    asked["channels"] = json!([2]);
    put(&daemon, "hall", &asked)?;
    assert!(states(&daemon)?.keys().eq(&ids([2])), "{:?}", states(&daemon)?);
    recorder.change_knobs(|knobs| knobs.gone = Vec::new())?;
    until_streaming(&daemon, &ids([2]), PATIENCE)?;
    until_state(&daemon, "online", PATIENCE)?;
    leave(daemon)
}

#[test]
fn a_wrong_password_is_one_fault_and_does_not_lock_us_out() -> anyhow::Result<()> {
    let stage = stage();
    let recorder = recorder(4, Knobs { lock_after: Some(5), ..Knobs::default() })?;
    let mut daemon = stage.daemon(&Storage::Directory, "")?;
    let mut wrong = spec(&recorder);
    wrong["password"] = json!("wrong");
    let begin = Instant::now();
    put(&daemon, "hall", &wrong)?;
    until_state(&daemon, "auth_failed", PATIENCE)?;
    assert_eq!(metric(&daemon, "framehaul_nvr_auth_failed{nvr=\"hall\"}")?, Some(1.0));
    put(&daemon, "hall", &spec(&recorder))?;
    until_streaming(&daemon, &ids(1..=4), PATIENCE)?;
    // Changed to a wrong one: nobody but the look finds that out, also after a restart.
    put(&daemon, "hall", &wrong)?;
    until_state(&daemon, "auth_failed", PATIENCE)?;
    wait(PATIENCE, || Ok(states(&daemon)?.values().all(|state| state == "nvr_down").then_some(())))?;
    let tried = recorder.stats().logins.wrong;
    assert!(tried <= 2, "{tried} wrong logins");
    daemon.stop()?;
    daemon.run()?;
    until_state(&daemon, "auth_failed", PATIENCE)?;
    let logins = recorder.stats().logins;
    assert!(logins.wrong <= tried + 1 && logins.locked == 0, "{logins:?}");
    // A refused password may be tried again after a minute, and not before.
    assert!(
        logins.wrong == tried || begin.elapsed() > Duration::from_secs(60),
        "{logins:?} after {:?}",
        begin.elapsed()
    );
    put(&daemon, "hall", &spec(&recorder))?;
    until_streaming(&daemon, &ids(1..=4), PATIENCE)?;
    leave(daemon)
}

#[test]
fn what_was_recorded_is_a_timeline_in_pages_with_its_gaps() -> anyhow::Result<()> {
    let stage = stage();
    // Six recordings of ten minutes each, from midnight on.
    let recorder = recorder(1, Knobs { clock_stands: Some("2026-11-19T02:00:00".into()), ..Knobs::default() })?;
    let daemon = stage.daemon(&Storage::Directory, "")?;
    let mut asked = spec(&recorder);
    (asked["clock"], asked["zone"]) = (json!("device_local"), json!("UTC"));
    put(&daemon, "hall", &asked)?;
    until_state(&daemon, "online", PATIENCE)?;
    let span = "channel=1&from=2026-11-18T23:00:00Z&to=2026-11-19T01:30:00Z";
    let mut entries = Vec::new();
    let mut next = String::new();
    let mut pages = 0;
    loop {
        let page = get(&daemon, &format!("/api/v1/nvrs/hall/recordings?{span}&limit=4{next}"))?;
        assert_eq!((&page["track"], &page["channel"]), (&json!("101"), &json!(1)));
        entries.extend(page["entries"].as_array().context("entries")?.iter().cloned());
        pages += 1;
        match page["next"].as_str() {
            Some(cursor) => next = format!("&after={cursor}"),
            None => break,
        }
    }
    assert_eq!(pages, 2, "{entries:#?}");
    let times: Vec<_> = entries
        .iter()
        .map(|entry| (entry["type"].as_str().unwrap_or_default(), &entry["start"].as_str().unwrap_or_default()[11..16]))
        .collect();
    let recording = |start| ("recording", start);
    let expected = [
        ("gap", "23:00"),
        recording("00:00"),
        recording("00:10"),
        recording("00:20"),
        recording("00:30"),
        recording("00:40"),
        recording("00:50"),
        ("gap", "01:00"),
    ];
    assert_eq!(times, expected);
    assert_eq!((&entries[7]["seconds"], &entries[1]["seconds"]), (&json!(1_800.0), &json!(600.0)));
    assert!(entries[1]["bytes"].as_u64().is_some() && entries[1]["name"].is_string(), "{}", entries[1]);
    for (query, status) in [("", 400), ("channel=1&from=x", 400), ("channel=1&limit=0", 400)] {
        let (found, problem) = call(&daemon, Method::GET, &format!("/api/v1/nvrs/hall/recordings?{query}"), None)?;
        assert_eq!(found.as_u16(), status, "{query}: {problem}");
    }
    let (found, problem) = call(&daemon, Method::GET, "/api/v1/nvrs/yard/recordings?channel=1", None)?;
    assert_eq!(found, StatusCode::NOT_FOUND, "{problem}");
    leave(daemon)
}

#[test]
fn bad_requests_are_told_and_a_recorders_actor_that_panics_is_replaced() -> anyhow::Result<()> {
    let stage = stage();
    let recorder = recorder(1, Knobs::default())?;
    let daemon = stage.daemon(&Storage::Directory, "[debug]\nfault_injection = true")?;
    for (body, field) in [
        (json!({ "user": "u", "password": CANARY }), "url"),
        (json!({ "url": "rtsp://127.0.0.1/", "user": "u", "password": CANARY }), "url"),
        (json!({ "url": format!("http://u:{CANARY}@127.0.0.1/") }), "url"),
        (json!({ "url": "http://169.254.169.254/", "user": "u", "password": CANARY }), "url"),
        (json!({ "url": "http://127.0.0.1/", "user": "u" }), "password"),
        (json!({ "url": "http://127.0.0.1/", "user": "u", "password": [CANARY] }), "password"),
        (json!({ "url": "http://127.0.0.1/", "user": "u", "password": CANARY, "channels": CANARY }), "channels"),
        (json!({ "url": "http://127.0.0.1/", "user": "u", "password": CANARY, "zone": "Nowhere" }), "zone"),
        (json!({ "url": "http://127.0.0.1/", "user": "u", "password": CANARY, "destination": "nas" }), "destination"),
        (json!({ "url": "http://127.0.0.1/", "user": "u", "password": CANARY, "chanels": "all" }), "chanels"),
    ] {
        let (status, problem) = call(&daemon, Method::PUT, "/api/v1/nvrs/hall", Some(&body))?;
        assert!(matches!(status.as_u16(), 400 | 422), "{status}: {problem}");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    for path in ["/api/v1/nvrs/hall", "/api/v1/nvrs/hall/status", "/api/v1/nvrs/hall/channels"] {
        assert_eq!(call(&daemon, Method::GET, path, None)?.0, StatusCode::NOT_FOUND);
    }
    assert_eq!(call(&daemon, Method::GET, "/api/v1/nvrs/Hall", None)?.0, StatusCode::BAD_REQUEST);

    put(&daemon, "hall", &spec(&recorder))?;
    until_streaming(&daemon, &ids([1]), PATIENCE)?;
    let generation = daemon.status("hall-ch01")?.generation;
    daemon.inject_panic("actor=nvr&id=hall")?;
    wait(PATIENCE, || Ok(daemon.log_text().contains("the recorder's actor died").then_some(())))?;
    // What it looked after goes on, and what is new is found by the next one.
    assert_eq!(daemon.status("hall-ch01")?.generation, generation);
    recorder.change_knobs(|knobs| knobs.off = true)?;
    until_state(&daemon, "unreachable", PATIENCE)?;
    recorder.change_knobs(|knobs| knobs.off = false)?;
    until_streaming(&daemon, &ids([1]), PATIENCE)?;
    assert!(daemon.status("hall-ch01")?.generation > generation);
    until_state(&daemon, "online", PATIENCE)?;
    leave(daemon)
}
