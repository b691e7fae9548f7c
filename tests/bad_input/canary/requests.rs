//! The password in requests, right ones and wrong ones.

use std::collections::BTreeSet;

use anyhow::Context as _;
use framehaul::http::{Access, ROUTES};
use serde_json::{Map, Value, json};
use testbed::daemon::{Daemon, wait};
use testbed::nvr::{Channel, NvrServer, Options};

use super::CANARY;
use super::search::{search, search_answer};
use crate::vocabulary::{Answer, PATIENCE, Request, USER, get, put, until_streaming};

pub fn post(daemon: &Daemon, path: &str, body: &Value) -> anyhow::Result<Answer> {
    let answer = Request::new("POST", path).body("application/json", body.to_string()).send(daemon)?;
    search_answer(&format!("POST {path}"), &answer);
    Ok(answer)
}

/// What is asked for wrongly is not said again.
pub fn wrong_bodies_are_not_repeated(daemon: &Daemon, url: &str) -> anyhow::Result<()> {
    for body in [
        json!({ "url": url, "password": CANARY }),
        json!({ "url": url, "user": "", "password": CANARY }),
        json!({ "url": url, "user": USER, "password": [CANARY] }),
        json!({ "url": url, "user": USER, "password": { "text": CANARY } }),
        json!({ "url": url, "user": USER, "password": CANARY.repeat(100) }),
        json!({ "url": url, "user": USER, "password": format!("{CANARY}\n") }),
        json!({ "url": url, "user": USER, "Password": CANARY }),
        json!({ "url": url, "user": USER, "password": CANARY, "transport": CANARY }),
        json!({ "url": url, "user": USER, "password": CANARY, "tls": CANARY }),
        json!({ "url": url, "user": USER, "password": CANARY, "pace": CANARY }),
        json!({ "url": url, "user": USER, "password": CANARY, "loop": CANARY }),
        json!({ "url": url, "user": USER, "password": CANARY, "sampling": { "fps": CANARY } }),
        json!({ "url": url, "user": USER, "password": CANARY, "jpeg_quality": CANARY }),
        json!({ "url": url, "user": [CANARY], "password": CANARY }),
        json!({ "url": CANARY, "user": USER, "password": CANARY }),
        json!({ "url": "file:///etc/passwd", "user": USER, "password": CANARY }),
        json!({ "url": format!("rtsp://{USER}:{CANARY}@127.0.0.1/main") }),
        json!({ "url": format!("rtsp://{USER}:p%2540%3A%2F%23w@127.0.0.1/main") }),
        json!({ "url": format!("rtsp://{USER}:p%2540%3A%2F%23w%40127.0.0.1/main") }),
        json!({ "url": format!("http://{USER}:p%2540%3a%2f%23w@127.0.0.1/main"), "password": CANARY }),
        json!({ CANARY: url }),
        json!([url, USER, CANARY, 7]),
        json!(CANARY),
    ] {
        for (method, path) in [
            ("PUT", "/api/v1/cameras/wrong"),
            ("POST", "/api/v1/cameras"),
            ("PUT", "/api/v1/cameras"),
            ("POST", "/api/v1/cameras:probe"),
            ("POST", "/api/v1/batches"),
        ] {
            let sent = match (method, path) {
                ("PUT", "/api/v1/cameras") => json!({ "cameras": { "wrong": body } }),
                ("POST", "/api/v1/cameras") if body.is_object() => {
                    let mut named = body.clone();
                    named["name"] = json!("wrong");
                    named
                }
                ("POST", "/api/v1/batches") if body.is_object() => {
                    let mut counted = body.clone();
                    counted["frames"] = json!(1);
                    counted
                }
                _ => body.clone(),
            };
            let answer = Request::new(method, path).body("application/json", sent.to_string()).send(daemon)?;
            assert!(matches!(answer.status, 400 | 422), "{method} {path} {sent}: {answer:?}");
            search_answer(&format!("{method} {path} {sent}"), &answer);
            answer.problem();
        }
    }
    let cut_off = format!("{{\"url\":\"{url}\",\"user\":\"{USER}\",\"password\":\"{CANARY}");
    for (method, path) in
        [("PUT", "/api/v1/cameras/wrong"), ("PUT", "/api/v1/cameras"), ("POST", "/api/v1/cameras:probe")]
    {
        let answer = Request::new(method, path).body("application/json", cut_off.as_str()).send(daemon)?;
        answer.refuses_with(400, "a body that is cut off");
        search_answer("a body that is cut off", &answer);
    }
    Ok(())
}

/// Sets that are right, and such that are wrong as sets.
pub fn whole_sets_are_not_repeated(daemon: &Daemon, set: &Map<String, Value>) -> anyhow::Result<()> {
    let send = |body: &Value| {
        let answer = Request::new("PUT", "/api/v1/cameras").body("application/json", body.to_string()).send(daemon)?;
        search_answer(&format!("a set, {body}"), &answer);
        anyhow::Ok(answer)
    };
    assert_eq!(send(&json!({ "cameras": set }))?.status, 200);
    let mut taken = set.clone();
    taken.insert("filed".to_owned(), set["good"].clone());
    assert_eq!(send(&json!({ "cameras": taken }))?.status, 409);
    for body in [
        json!({ "cameras": set, CANARY: 1 }),
        json!({ "cameras": { CANARY: set["good"] } }),
        json!({ "cameras": { "wrong": CANARY } }),
        json!({ "cameras": [CANARY] }),
        json!({ CANARY: set }),
    ] {
        let answer = send(&body)?;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        answer.problem();
    }
    Ok(())
}

/// A recorder that has the password, with one channel that streams.
fn recorder(daemon: &Daemon) -> anyhow::Result<(NvrServer, Value)> {
    let channels = vec![Channel { recordings: 6, pictures: 50, ..Channel::default() }];
    let options = Options { user: USER.into(), password: CANARY.into(), channels, ..Options::default() };
    let recorder = NvrServer::start(options)?;
    let spec = json!({ "url": recorder.endpoint(), "user": USER, "password": CANARY });
    let path = "/api/v1/nvrs/recorded";
    let answer = Request::new("PUT", path).body("application/json", spec.to_string()).send(daemon)?;
    search_answer("PUT of a recorder", &answer);
    assert_eq!(answer.status, 201, "{answer:?}");
    wait(PATIENCE, || Ok((get(daemon, "/api/v1/cameras/recorded-ch01")?.status == 200).then_some(())))?;
    until_streaming(daemon, "recorded-ch01")?;
    for body in [
        json!({ "url": recorder.endpoint(), "user": USER, "Password": CANARY }),
        json!({ "url": format!("http://{USER}:{CANARY}@127.0.0.1/"), "password": CANARY }),
        json!({ "url": CANARY, "user": USER, "password": [CANARY] }),
        json!({ "url": recorder.endpoint(), "user": USER, "password": CANARY, "channels": CANARY, "zone": CANARY }),
        json!({ "url": recorder.endpoint(), "user": USER, "password": CANARY, "zone": CANARY }),
        json!({ CANARY: recorder.endpoint() }),
    ] {
        let answer = Request::new("PUT", path).body("application/json", body.to_string()).send(daemon)?;
        search_answer(&format!("{body}"), &answer);
        assert!(matches!(answer.status, 400 | 422), "{body}: {answer:?}");
    }
    Ok((recorder, spec))
}

/// Walks the table of routes with a camera and a recorder that have the password; their removal comes last. Answers how
/// many there are.
pub fn every_route_is_asked(daemon: &Daemon, set: &Map<String, Value>, spec: &Value) -> anyhow::Result<usize> {
    assert_eq!(put(daemon, "walked", spec)?.status, 201);
    until_streaming(daemon, "walked")?;
    let (_recorder, recorder_spec) = recorder(daemon)?;
    let mut with_walked = set.clone();
    with_walked.insert("walked".to_owned(), spec.clone());
    let mut named = spec.clone();
    named["name"] = json!("Walked");
    let mut counted = spec.clone();
    counted["frames"] = json!(5);
    let (mut batch, mut export) = (String::new(), String::new());
    let mut endpoints: Vec<_> = ROUTES.iter().collect();
    endpoints.sort_by_key(|endpoint| endpoint.method == "DELETE");
    for endpoint in endpoints {
        let id = match endpoint.path {
            path if path.contains("/batches/") => &batch,
            path if path.contains("/exports/") => &export,
            path if path.contains("/nvrs/") => "recorded",
            _ => "walked",
        };
        let (method, path) = (endpoint.method.as_str(), endpoint.path.replace("{id}", id).replace("{name}", "default"));
        let path = if path.ends_with("/recordings") { format!("{path}?channel=1") } else { path };
        let what = format!("{method} {path}");
        if path.ends_with("/stream") {
            let head = read_events(daemon, &format!("{path}?after=0"))?;
            search(&what, &head);
            continue;
        }
        let body = match (method, endpoint.path) {
            ("PUT", "/api/v1/cameras") => json!({ "cameras": with_walked }),
            ("POST", "/api/v1/cameras") => named.clone(),
            ("POST", "/api/v1/batches") => counted.clone(),
            ("POST", "/api/v1/exports") => json!([{ "host": "192.0.2.1", "user": USER, "password": CANARY }]),
            // Called off, and queued again, which its removal has to be after.
            ("POST", "/api/v1/exports/{id}/retry") => continue,
            ("PUT", "/api/v1/nvrs/{id}") => recorder_spec.clone(),
            ("PUT", _) | ("POST", "/api/v1/cameras:probe") => spec.clone(),
            _ => Value::Null,
        };
        let request = Request::new(method, &path);
        let answer = match body {
            Value::Null => request.send(daemon)?,
            body => request.body("application/json", body.to_string()).send(daemon)?,
        };
        search_answer(&what, &answer);
        let is_closed = path.contains("/debug/") || matches!(endpoint.access, Access::Work | Access::Beat);
        let as_expected = if is_closed { answer.status == 403 || answer.status == 400 } else { answer.status < 300 };
        assert!(as_expected, "{what}: {answer:?}");
        if what == "POST /api/v1/batches" {
            let made: Value = serde_json::from_str(&answer.body)?;
            batch = made["id"].as_str().context("an id")?.to_owned();
        }
        if what == "POST /api/v1/exports" {
            let made: Value = serde_json::from_str(&answer.body)?;
            export = made["id"].as_str().context("an id")?.to_owned();
        }
    }
    let ids: BTreeSet<&str> = set.keys().map(String::as_str).chain(["filed"]).collect();
    for id in ids {
        for path in [format!("/api/v1/cameras/{id}"), format!("/api/v1/cameras/{id}/frames?limit=1000")] {
            let answer = get(daemon, &path)?;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            search_answer(&path, &answer);
        }
    }
    for path in ["/api/v1/cameras?deleted=true", "/api/v1/cameras", "/metrics"] {
        search_answer(path, &get(daemon, path)?);
    }
    Ok(ROUTES.len())
}

/// The head of a stream of events, and its first ones.
fn read_events(daemon: &Daemon, path: &str) -> anyhow::Result<Vec<u8>> {
    use std::io::Read as _;
    let token = format!("Bearer {}", daemon.token());
    let mut stream = Request::new("GET", path).header("Authorization", token).open(daemon)?;
    let (mut seen, mut piece) = (Vec::new(), [0; 4_096]);
    while seen.windows(5).filter(|five| five == b"data:").count() < 3 {
        let n = stream.read(&mut piece).with_context(|| format!("{path}: {}", String::from_utf8_lossy(&seen)))?;
        anyhow::ensure!(n > 0, "{path} ended: {}", String::from_utf8_lossy(&seen));
        seen.extend(&piece[..n]);
    }
    Ok(seen)
}
