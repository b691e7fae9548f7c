//! A planted password, and everywhere it could show.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use testbed::daemon::Storage;

use super::responder::Responder;
use super::vocabulary::{
    PATIENCE, Request, USER, assert_sound, cameras, children_of, files_below, get, leave, put, stage, until_streaming,
};

/// Made to break whoever takes it for a URL, for percent-encoded, or for a path.
const CANARY: &str = "p%40:/#w";

/// How the canary would look in a text, whatever has encoded it. The short forms are in all percent-encodings of it.
fn canary_forms() -> Vec<String> {
    let unpadded = |text: &str| BASE64_STANDARD.encode(text).trim_end_matches('=').to_owned();
    let mut forms = vec![
        CANARY.to_owned(),
        "p%40".to_owned(),
        "p@:/#w".to_owned(),
        "p%2540".to_owned(),
        "p%2540%3A%2F%23w".to_owned(),
        "p%2540%3a%2f%23w".to_owned(),
    ];
    // The last character of unpadded base64 depends on what follows.
    for text in [CANARY.to_owned(), format!("{USER}:{CANARY}")] {
        let mut encoded = unpadded(&text);
        encoded.pop();
        forms.push(encoded);
    }
    forms
}

/// The first form of the canary in these bytes.
fn find_canary(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    canary_forms().into_iter().find(|form| text.contains(form))
}

#[track_caller]
fn assert_clean(what: &str, bytes: &[u8]) {
    if let Some(form) = find_canary(bytes) {
        let text = String::from_utf8_lossy(bytes);
        let line = text.lines().find(|line| line.contains(&form)).unwrap_or_default();
        panic!("{what} holds the password as `{form}`: {line}");
    }
}

#[test]
fn a_password_shows_nowhere_with_everything_logged() -> anyhow::Result<()> {
    plant_the_canary("debug")
}

#[test]
fn a_password_shows_nowhere_with_our_own_traces() -> anyhow::Result<()> {
    plant_the_canary("info,framehaul=trace")
}

fn plant_the_canary(filter: &str) -> anyhow::Result<()> {
    let stage = stage()?;
    let server = cameras(CANARY)?;
    // A camera that asks for the password in the clear and says it again, in every way it knows.
    let echo =
        Responder::rtsp(|request| match request.lines().find_map(|line| line.strip_prefix("Authorization: ")) {
            None => b"401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n".to_vec(),
            Some(login) => format!("404 {login} {CANARY} rtsp://{USER}:p%2540%3a%2f%23w@h/\r\n\r\n").into_bytes(),
        })?;
    let more = format!("[capture]\nopen_timeout = \"2s\"\n[log]\nfilter = \"{filter}\"");
    let daemon = stage.daemon(&Storage::Directory, &more)?;
    let login = |url: &str| json!({ "url": url, "user": USER, "password": CANARY });
    for (id, url) in [
        ("good", server.url("shut")),
        ("closed", "rtsp://127.0.0.1:1/main".to_owned()),
        ("nowhere", server.url("shut").replace("/shut", "/nowhere")),
        ("unknown", "rtsp://no.such.host.invalid/main".to_owned()),
        ("echo", echo.url()),
    ] {
        let answer = put(&daemon, id, &login(&url))?;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert_clean("the answer to PUT", answer.body.as_bytes());
        assert!(answer.body.contains("\"password_set\":true"), "{answer:?}");
    }
    until_streaming(&daemon, "good")?;
    for id in ["closed", "nowhere", "unknown", "echo"] {
        daemon.wait_for(id, PATIENCE, |status| status.last_error.is_some())?;
    }

    // What is asked for wrongly is not said again either.
    let url = server.url("shut");
    for body in [
        json!({ "url": url, "password": CANARY }),
        json!({ "url": url, "user": "", "password": CANARY }),
        json!({ "url": url, "user": USER, "password": [CANARY] }),
        json!({ "url": url, "user": USER, "password": { "text": CANARY } }),
        json!({ "url": url, "user": USER, "password": CANARY.repeat(100) }),
        json!({ "url": url, "user": USER, "password": format!("{CANARY}\n") }),
        json!({ "url": url, "user": USER, "Password": CANARY }),
        json!({ "url": url, "user": USER, "password": CANARY, "transport": CANARY }),
        json!({ "url": url, "user": USER, "password": CANARY, "sampling": { "fps": CANARY } }),
        json!({ "url": url, "user": USER, "password": CANARY, "jpeg_quality": CANARY }),
        json!({ "url": url, "user": [CANARY], "password": CANARY }),
        json!({ "url": CANARY, "user": USER, "password": CANARY }),
        json!({ "url": format!("rtsp://{USER}:{CANARY}@127.0.0.1/main") }),
        json!({ "url": format!("rtsp://{USER}:p%2540%3A%2F%23w@127.0.0.1/main") }),
        json!({ "url": format!("rtsp://{USER}:p%2540%3A%2F%23w%40127.0.0.1/main") }),
        json!({ "url": format!("http://{USER}:p%2540%3a%2f%23w@127.0.0.1/main"), "password": CANARY }),
        json!({ CANARY: url }),
        json!([url, USER, CANARY, 7]),
        json!(CANARY),
    ] {
        let answer = put(&daemon, "wrong", &body)?;
        assert!(matches!(answer.status, 400 | 422), "{body}: {answer:?}");
        assert_clean(&format!("the answer to {body}"), answer.body.as_bytes());
        answer.problem();
    }
    let cut_off = format!("{{\"url\":\"{url}\",\"user\":\"{USER}\",\"password\":\"{CANARY}");
    let answer = Request::new("PUT", "/api/v1/cameras/wrong").body("application/json", cut_off).send(&daemon)?;
    answer.refuses_with(400, "a body that is cut off");
    assert_clean("the answer to a body that is cut off", answer.body.as_bytes());

    for path in [
        "/livez",
        "/readyz",
        "/metrics",
        "/api/v1/cameras",
        "/api/v1/cameras?deleted=true",
        "/api/v1/cameras/good",
        "/api/v1/cameras/closed",
        "/api/v1/cameras/nowhere",
        "/api/v1/cameras/unknown",
        "/api/v1/cameras/echo",
        "/api/v1/cameras/good/frames?limit=1000",
    ] {
        let answer = get(&daemon, path)?;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        assert_clean(path, answer.body.as_bytes());
    }

    let captures = children_of(daemon.pid())?;
    assert!(captures.contains(&daemon.status("good")?.pid.context("no capture process")?), "{captures:?}");
    assert!(!fs::read(format!("/proc/{}/environ", daemon.pid()))?.is_empty());
    for pid in captures.iter().chain([&daemon.pid()]) {
        for file in ["cmdline", "environ"] {
            // A camera that backs off has no process any more.
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            assert_clean(&format!("{file} of process {pid}"), &bytes);
        }
    }

    let secrets = stage.dir().join("state/secrets.json");
    assert_eq!(find_canary(&fs::read(&secrets)?).as_deref(), Some(CANARY), "the search finds nothing at all");
    let mode = |path: &Path| anyhow::Ok(fs::metadata(path)?.permissions().mode() & 0o777);
    assert_eq!(mode(&stage.dir().join("state"))?, 0o700);
    for name in ["secrets.json", "admin.token", "journal.sqlite"] {
        assert_eq!(mode(&stage.dir().join("state").join(name))?, 0o600, "{name}");
    }
    let log = daemon.log_text();
    assert!(log.contains("[secret]"), "no camera has made its capture process say the password:\n{log}");

    daemon.quiesce(PATIENCE)?;
    assert_sound(&daemon, "good", None)?;
    leave(daemon)?;
    let files = files_below(stage.dir())?;
    assert!(files.iter().any(|path| path.ends_with("framehaul.log")) && files.contains(&secrets), "{files:?}");
    // The cameras are gone, and their passwords with them: from here on the file is no exception.
    for path in files {
        assert_clean(&path.display().to_string(), &fs::read(&path)?);
    }
    Ok(())
}
