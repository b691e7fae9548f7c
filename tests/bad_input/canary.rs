//! A planted password, and everywhere it could show.

mod file;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use framehaul::http::ROUTES;
use serde_json::{Map, Value, json};
use testbed::daemon::{Credentials, Daemon, Storage, TOKEN_FILE};
use testbed::gcs::{GcsServer, Options};
use testbed::scenario::Stage;

use self::file::CamerasFile;
use super::responder::{Responder, read_request};
use super::vocabulary::{
    Answer, PATIENCE, PROGRAM, Request, USER, assert_sound, cameras, children_of, files_below, get, http_cameras,
    leave, put, stage, until_streaming,
};

/// Made to break whoever takes it for a URL, for percent-encoded, or for a path.
const CANARY: &str = "p%40:/#w";

/// Whose name stands beside it in trials.
const TRIER: &str = "someone";

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
    for text in [CANARY.to_owned(), format!("{USER}:{CANARY}"), format!("{TRIER}:{CANARY}")] {
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
    let (rtsp, http, other) = (cameras(CANARY)?, http_cameras(CANARY)?, http_cameras("another")?);
    let (echo, parrot) = (echo()?, parrot()?);
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let silent = silent.local_addr()?;
    let gcs = GcsServer::start(Options {
        buckets: vec!["frames".to_owned()],
        root: Some(stage.dir().join("bucket")),
        ..Options::default()
    })?;
    let storage =
        Storage::Gcs { endpoint: gcs.endpoint(), bucket: "frames".to_owned(), credentials: Credentials::Anonymous };
    let file = CamerasFile::new(&rtsp.url("shut"))?;
    let more = format!(
        "[cameras]\nfile = {}\n[capture]\nopen_timeout = \"2s\"\n[log]\nfilter = \"{filter}\"",
        json!(file.path)
    );
    let mut daemon = stage.prepare(&storage, &more)?;
    file.keeps_the_daemon_from_starting(&stage)?;
    daemon.run()?;

    let login = |url: String| json!({ "url": url, "user": USER, "password": CANARY });
    let unverified = |url: String| json!({ "url": url, "user": USER, "password": CANARY, "tls": "unverified" });
    // A login of their own: the cameras' may be in use just then, and trials wait for nobody.
    let trial = |url: String| json!({ "url": url, "user": TRIER, "password": CANARY });
    let good = ["good", "basic", "digest"];
    let specs = [
        ("good", login(rtsp.url("shut"))),
        ("basic", login(http.url("basic"))),
        ("digest", login(http.url("digest"))),
        ("closed", login("rtsp://127.0.0.1:1/main".to_owned())),
        ("nowhere", login(rtsp.url("shut").replace("/shut", "/nowhere"))),
        ("unknown", login("rtsp://no.such.host.invalid/main".to_owned())),
        ("silent", login(format!("http://{silent}/main"))),
        ("denied", login(other.url("basic"))),
        ("rtsps", unverified(rtsp.url("shut").replace("rtsp:", "rtsps:"))),
        ("https", unverified(http.url("basic").replace("http:", "https:"))),
        ("echo", login(echo.url())),
        ("status", login(parrot.http_url("status"))),
        ("location", login(parrot.http_url("location"))),
        ("kind", login(parrot.http_url("kind"))),
    ];
    for (id, spec) in &specs {
        let answer = put(&daemon, id, spec)?;
        assert_eq!(answer.status, 201, "{id}: {answer:?}");
        assert_answers_clean("PUT", &answer);
        assert!(answer.body.contains("\"password_set\":true"), "{answer:?}");
    }
    for (id, _) in &specs {
        if good.contains(id) {
            until_streaming(&daemon, id)?;
        } else {
            daemon.wait_for(id, PATIENCE, |status| status.last_error.is_some())?;
        }
    }
    until_streaming(&daemon, "filed")?;
    assert_processes_clean(&daemon)?;

    wrong_bodies_are_not_repeated(&daemon, &rtsp.url("shut"))?;
    let set: Map<String, Value> = specs.iter().map(|(id, spec)| ((*id).to_owned(), spec.clone())).collect();
    whole_sets_are_not_repeated(&daemon, &set)?;
    for (what, spec) in [
        ("good", login(http.url("digest"))),
        ("closed", trial("http://127.0.0.1:1/main".to_owned())),
        ("silent", trial(format!("rtsp://{silent}/main"))),
        ("echo", trial(echo.url())),
        ("status", trial(parrot.http_url("status"))),
        ("kind", trial(parrot.http_url("kind"))),
    ] {
        let answer = post(&daemon, "/api/v1/cameras:probe", &spec)?;
        assert_eq!(answer.status, 200, "the trial of {what}: {answer:?}");
        assert_eq!(answer.body.contains("\"ok\":true"), what == "good", "the trial of {what}: {answer:?}");
    }
    file.is_refused_again(&daemon)?;
    every_route_is_asked(&daemon, &set, &login(http.url("basic")))?;
    the_command_line_keeps_it(&stage, &daemon, &rtsp.url("shut"))?;
    // Another password takes the place of the first.
    let answer = put(&daemon, "denied", &json!({ "url": other.url("basic"), "user": USER, "password": "another" }))?;
    assert_eq!(answer.status, 200, "{answer:?}");
    until_streaming(&daemon, "denied")?;
    assert_processes_clean(&daemon)?;

    let state = stage.dir().join("state");
    let secrets = state.join("secrets.json");
    for path in files_below(&state)? {
        // The journal's own files come and go.
        let Ok(bytes) = fs::read(&path) else { continue };
        if path == secrets {
            assert_eq!(find_canary(&bytes).as_deref(), Some(CANARY), "the search finds nothing at all");
        } else {
            assert_clean(&path.display().to_string(), &bytes);
        }
    }
    let mode = |path: &Path| anyhow::Ok(fs::metadata(path)?.permissions().mode() & 0o777);
    assert_eq!(mode(&state)?, 0o700);
    for name in ["secrets.json", "admin.token", "journal.sqlite"] {
        assert_eq!(mode(&state.join(name))?, 0o600, "{name}");
    }
    let log = daemon.log_text();
    for id in ["echo", "status"] {
        let says = |line: &str| line.contains("[secret]") && line.contains(&format!("camera={id}"));
        assert!(log.lines().any(says), "camera {id} has not made its capture process say the password:\n{log}");
    }

    file.is_emptied(&daemon)?;
    daemon.quiesce(PATIENCE)?;
    for id in good {
        assert_sound(&daemon, id, Some(&gcs.endpoint()))?;
    }
    let objects = daemon.http().get(&format!("{}/storage/v1/b/frames/o", gcs.endpoint()), None)?;
    assert!(String::from_utf8_lossy(&objects).contains("metageneration"), "no metadata of objects");
    assert_clean("the metadata of objects", &objects);
    leave(daemon)?;
    let files = files_below(stage.dir())?;
    assert!(files.iter().any(|path| path.ends_with("framehaul.log")) && files.contains(&secrets), "{files:?}");
    // The cameras are gone, and their passwords with them: from here on the file is no exception.
    for path in files {
        assert_clean(&path.display().to_string(), &fs::read(&path)?);
    }
    Ok(())
}

/// A camera that asks for the password in the clear and says it again, in every way it knows.
fn echo() -> anyhow::Result<Responder> {
    Responder::rtsp(|request| match request.lines().find_map(|line| line.strip_prefix("Authorization: ")) {
        None => b"401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n\r\n".to_vec(),
        Some(login) => format!("404 {login} {CANARY} rtsp://{USER}:p%2540%3a%2f%23w@h/\r\n\r\n").into_bytes(),
    })
}

/// The same over HTTP: in the status line, as another place, or as what it shows.
fn parrot() -> anyhow::Result<Responder> {
    Responder::start(|stream| {
        let Some(request) = read_request(stream)? else { return Ok(()) };
        let answer = match request.lines().find_map(|line| line.strip_prefix("Authorization: ")) {
            None => "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\n".to_owned(),
            Some(login) if request.starts_with("GET /status ") => {
                format!("404 {login} {CANARY}\r\nX-Login: {login}\r\n")
            }
            Some(login) if request.starts_with("GET /location ") => {
                format!("302 {login}\r\nLocation: http://{USER}:p%2540%3a%2f%23w@127.0.0.1:1/{login}\r\n")
            }
            Some(login) => format!("200 {login}\r\nContent-Type: {login}{CANARY}; boundary={CANARY}\r\n"),
        };
        let login = request.lines().find(|line| line.starts_with("Authorization: ")).unwrap_or_default();
        let body = format!("{login} {CANARY} http://{USER}:{CANARY}@h/");
        let length = body.len();
        stream.write_all(
            format!("HTTP/1.1 {answer}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}").as_bytes(),
        )
    })
}

#[track_caller]
fn assert_answers_clean(what: &str, answer: &Answer) {
    assert_clean(&format!("the answer's head to {what}"), answer.head.as_bytes());
    assert_clean(&format!("the answer to {what}"), answer.body.as_bytes());
}

fn post(daemon: &Daemon, path: &str, body: &Value) -> anyhow::Result<Answer> {
    let answer = Request::new("POST", path).body("application/json", body.to_string()).send(daemon)?;
    assert_answers_clean(&format!("POST {path}"), &answer);
    Ok(answer)
}

/// The daemon's processes and those that it has started.
fn assert_processes_clean(daemon: &Daemon) -> anyhow::Result<()> {
    let captures = children_of(daemon.pid())?;
    assert!(captures.contains(&daemon.status("good")?.pid.context("no capture process")?), "{captures:?}");
    assert!(!fs::read(format!("/proc/{}/environ", daemon.pid()))?.is_empty());
    for pid in captures.iter().chain([&daemon.pid()]) {
        assert_process_clean(*pid);
    }
    Ok(())
}

fn assert_process_clean(pid: u32) {
    for file in ["cmdline", "environ"] {
        // A camera that backs off has no process any more.
        let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        assert_clean(&format!("{file} of process {pid}"), &bytes);
    }
}

/// What is asked for wrongly is not said again.
fn wrong_bodies_are_not_repeated(daemon: &Daemon, url: &str) -> anyhow::Result<()> {
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
        ] {
            let sent = match (method, path) {
                ("PUT", "/api/v1/cameras") => json!({ "cameras": { "wrong": body } }),
                ("POST", "/api/v1/cameras") if body.is_object() => {
                    let mut named = body.clone();
                    named["name"] = json!("wrong");
                    named
                }
                _ => body.clone(),
            };
            let answer = Request::new(method, path).body("application/json", sent.to_string()).send(daemon)?;
            assert!(matches!(answer.status, 400 | 422), "{method} {path} {sent}: {answer:?}");
            assert_answers_clean(&format!("{method} {path} {sent}"), &answer);
            answer.problem();
        }
    }
    let cut_off = format!("{{\"url\":\"{url}\",\"user\":\"{USER}\",\"password\":\"{CANARY}");
    for (method, path) in
        [("PUT", "/api/v1/cameras/wrong"), ("PUT", "/api/v1/cameras"), ("POST", "/api/v1/cameras:probe")]
    {
        let answer = Request::new(method, path).body("application/json", cut_off.as_str()).send(daemon)?;
        answer.refuses_with(400, "a body that is cut off");
        assert_answers_clean("a body that is cut off", &answer);
    }
    Ok(())
}

/// Sets that are right, and such that are wrong as sets.
fn whole_sets_are_not_repeated(daemon: &Daemon, set: &Map<String, Value>) -> anyhow::Result<()> {
    let send = |body: &Value| {
        let answer = Request::new("PUT", "/api/v1/cameras").body("application/json", body.to_string()).send(daemon)?;
        assert_answers_clean(&format!("a set, {body}"), &answer);
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

/// Walks the table of routes with a camera that has the password; its removal comes last.
fn every_route_is_asked(daemon: &Daemon, set: &Map<String, Value>, spec: &Value) -> anyhow::Result<()> {
    assert_eq!(put(daemon, "walked", spec)?.status, 201);
    until_streaming(daemon, "walked")?;
    let mut with_walked = set.clone();
    with_walked.insert("walked".to_owned(), spec.clone());
    let mut named = spec.clone();
    named["name"] = json!("Walked");
    let mut endpoints: Vec<_> = ROUTES.iter().collect();
    endpoints.sort_by_key(|endpoint| endpoint.method == "DELETE");
    for endpoint in endpoints {
        let (method, path) = (endpoint.method.as_str(), endpoint.path.replace("{id}", "walked"));
        let what = format!("{method} {path}");
        if path.ends_with("/stream") {
            let head = read_events(daemon, &format!("{path}?after=0"))?;
            assert_clean(&what, &head);
            continue;
        }
        let body = match (method, endpoint.path) {
            ("PUT", "/api/v1/cameras") => json!({ "cameras": with_walked }),
            ("POST", "/api/v1/cameras") => named.clone(),
            ("PUT", _) | ("POST", "/api/v1/cameras:probe") => spec.clone(),
            _ => Value::Null,
        };
        let request = Request::new(method, &path);
        let answer = match body {
            Value::Null => request.send(daemon)?,
            body => request.body("application/json", body.to_string()).send(daemon)?,
        };
        assert_answers_clean(&what, &answer);
        let as_expected =
            if path.contains("/debug/") { answer.status == 403 || answer.status == 400 } else { answer.status < 300 };
        assert!(as_expected, "{what}: {answer:?}");
    }
    let ids: BTreeSet<&str> = set.keys().map(String::as_str).chain(["filed"]).collect();
    for id in ids {
        for path in [format!("/api/v1/cameras/{id}"), format!("/api/v1/cameras/{id}/frames?limit=1000")] {
            let answer = get(daemon, &path)?;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            assert_answers_clean(&path, &answer);
        }
    }
    for path in ["/api/v1/cameras?deleted=true", "/api/v1/cameras", "/metrics"] {
        assert_answers_clean(path, &get(daemon, path)?);
    }
    Ok(())
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

/// The output of a command that has something to say, and not that.
#[track_caller]
fn assert_said_clean(what: &str, output: &Output) {
    assert!(!output.stderr.is_empty() || output.status.success(), "{what}: nothing said");
    assert_clean(&format!("what is printed for {what}"), &output.stdout);
    assert_clean(&format!("what is said for {what}"), &output.stderr);
}

/// `framehaul camera` and its processes, with the password in a file and on standard input.
fn the_command_line_keeps_it(stage: &Stage, daemon: &Daemon, url: &str) -> anyhow::Result<()> {
    let private = tempfile::tempdir()?;
    let secret = private.path().join("secret");
    fs::write(&secret, format!("{CANARY}\n"))?;
    let secret = secret.to_str().context("the path is no text")?;
    let (config, token) = (stage.dir().join("framehaul.toml"), stage.dir().join(TOKEN_FILE));
    let (config, token) = (config.to_str().context("no text")?, token.to_str().context("no text")?);
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let silent_api = format!("http://{}", silent.local_addr()?);
    let with_login = ["--user", USER, "--password-file", secret];
    let here = ["--config", config];
    let nobody = ["--api", "http://127.0.0.1:1", "--token-file", token];
    let run = |place: &[&str], words: &[&str]| Command::new(PROGRAM).arg("camera").args(place).args(words).output();
    for (place, words, succeeds) in [
        (&here[..], [&["add", "told", url], &with_login[..]].concat(), true),
        (&here, [&["add", "told", url], &with_login[..]].concat(), false),
        (&here, [&["add", "told", url, "--replace", "--format", "json"], &with_login[..]].concat(), true),
        (&here, [&["probe", url], &with_login[..]].concat(), true),
        (&here, vec!["show", "told"], true),
        (&here, vec!["ls", "--format", "json"], true),
        (&here, [&["add", "TOLD", url], &with_login[..]].concat(), false),
        (&here, [&["add", "told-2", "exec:ls"], &with_login[..]].concat(), false),
        (&here, [&["add", "filed", url, "--replace"], &with_login[..]].concat(), false),
        (&here, [&["probe", "rtsp://127.0.0.1:1/main"], &with_login[..]].concat(), false),
        (&here, [&["add", "told-2", url, "--transport", "sctp"], &with_login[..]].concat(), false),
        (&nobody, [&["add", "told-2", url], &with_login[..]].concat(), false),
        (&here, vec!["rm", "told"], true),
    ] {
        let output = run(place, &words)?;
        assert_eq!(output.status.success(), succeeds, "{words:?}: {output:?}");
        assert_said_clean(&format!("{words:?}"), &output);
    }

    for (place, answered) in [(&here[..], true), (&["--api", &silent_api, "--token-file", token][..], false)] {
        let mut client = Command::new(PROGRAM)
            .arg("camera")
            .args(place)
            .args(["add", "piped", url, "--user", USER, "--password-stdin"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = client.stdin.take().context("no standard input")?;
        stdin.write_all(CANARY.as_bytes())?;
        drop(stdin);
        if !answered {
            // From here on the request is on its way.
            let (_connection, _) = silent.accept()?;
            let arguments = fs::read(format!("/proc/{}/cmdline", client.id()))?;
            assert!(String::from_utf8_lossy(&arguments).contains("--password-stdin"));
            assert_process_clean(client.id());
            client.kill()?;
        }
        let output = client.wait_with_output()?;
        assert_eq!(output.status.success(), answered, "{output:?}");
        assert_clean("what is printed", &output.stdout);
        assert_clean("what is said", &output.stderr);
    }
    daemon.delete_camera("piped")
}
