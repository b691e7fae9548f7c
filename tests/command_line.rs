//! The API from the command line, against a running daemon.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testbed::cameras::{CameraServer, CameraSpec, default_cache_dir};
use testbed::daemon::{Daemon, Storage, TOKEN_FILE};
use testbed::scenario::Stage;

const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");
const PATIENCE: Duration = Duration::from_secs(30);
/// Where nobody listens.
const CLOSED: &str = "rtsp://127.0.0.1:1/main";

/// `framehaul camera` with the configuration of a stage.
fn camera(stage: &Stage) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(["camera", "--config"]).arg(stage.dir().join("framehaul.toml"));
    command
}

/// Runs it to its end.
#[track_caller]
fn run(stage: &Stage, arguments: &[&str], code: i32) -> (String, String) {
    let output = camera(stage).args(arguments).stdin(Stdio::null()).output().expect("framehaul starts");
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {out}{err}");
    assert!(code != 0 || !err.contains("error"), "{arguments:?}: {err}");
    assert!(code == 0 || (out.is_empty() && !err.is_empty()), "{arguments:?}: {out}{err}");
    (out, err)
}

/// A command that goes on, and its lines as they come. Dropping it ends it.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().context("no output")?);
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { child, lines })
    }

    fn until(&self, mut found: impl FnMut(&str) -> bool) -> anyhow::Result<String> {
        let (deadline, mut seen) = (Instant::now() + PATIENCE, Vec::new());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line =
                self.lines.recv_timeout(left).with_context(|| format!("it did not come; what came: {seen:#?}"))?;
            if found(&line) {
                return Ok(line);
            }
            seen.push(line);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn cameras_come_and_go() -> anyhow::Result<()> {
    let stage = Stage::new(Path::new(PROGRAM))?;
    let mut daemon = stage.daemon(&Storage::Directory, "")?;
    assert_eq!(run(&stage, &["ls"], 0).0.lines().count(), 1, "the heads alone");
    let password = stage.dir().join("password");
    fs::write(&password, "s3cret\n")?;
    let password = password.to_str().context("the path is no text")?;
    let (out, said) =
        run(&stage, &["add", "gate", CLOSED, "--user", "u", "--password-file", password, "--fps", "2.5"], 0);
    assert!(out.is_empty() && said.contains("`gate`"), "{out}{said}");
    let (out, _) = run(&stage, &["add", "hall", CLOSED, "--every", "3", "--jpeg-quality", "70", "--format", "json"], 0);
    assert_eq!(serde_json::from_str::<Value>(&out)?["spec"]["sampling"], json!({ "every": 3 }), "{out}");

    // What it prints as JSON is what the API says.
    let (out, _) = run(&stage, &["show", "gate", "--format", "json"], 0);
    let shown: Value = serde_json::from_str(&out)?;
    let answered: Value = serde_json::from_str(&daemon.get("/api/v1/cameras/gate")?)?;
    assert_eq!(shown["spec"], answered["spec"]);
    assert_eq!((&shown["spec"]["user"], &shown["spec"]["password_set"]), (&json!("u"), &json!(true)), "{shown}");
    assert_eq!(shown["spec"]["sampling"], json!({ "fps": 2.5 }));
    let listed: Value = serde_json::from_str(&run(&stage, &["ls", "--format", "json"], 0).0)?;
    assert_eq!(listed["cameras"].as_array().map(Vec::len), Some(2), "{listed}");

    let table = run(&stage, &["ls"], 0).0;
    let rows: Vec<&str> = table.lines().collect();
    assert!(
        rows[0].starts_with("ID    STATE") && rows[1].starts_with("gate") && rows[2].starts_with("hall"),
        "{table}"
    );
    let tree = run(&stage, &["show", "gate"], 0).0;
    assert!(tree.contains("url") && tree.contains(CLOSED) && tree.contains("captured"), "{tree}");
    assert!(!tree.contains("s3cret") && !table.contains("s3cret"));

    // A camera that is there is not changed by mistake.
    assert!(run(&stage, &["add", "hall", CLOSED], 65).1.contains("--replace"));
    run(&stage, &["add", "hall", "rtsp://127.0.0.1:2/other", "--replace"], 0);
    assert!(run(&stage, &["show", "hall"], 0).0.contains("127.0.0.1:2"));

    run(&stage, &["pause", "hall", "gate"], 0);
    daemon.wait_for("hall", PATIENCE, |status| status.state == "paused")?;
    run(&stage, &["resume", "hall"], 0);
    daemon.wait_for("hall", PATIENCE, |status| status.state == "backing_off")?;
    run(&stage, &["restart", "hall"], 0);

    // One that is not there keeps no other from being removed, and is not passed over.
    assert!(run(&stage, &["rm", "nobody", "hall", "gate"], 66).1.contains("`nobody`"));
    assert_eq!(run(&stage, &["ls"], 0).0.lines().count(), 1);
    assert_eq!(run(&stage, &["ls", "--deleted"], 0).0.lines().count(), 3);
    ensure!(daemon.stop()?.success());
    Ok(())
}

#[test]
fn the_exit_code_says_what_is_wrong() -> anyhow::Result<()> {
    let stage = Stage::new(Path::new(PROGRAM))?;
    let mut daemon = stage.daemon(&Storage::Directory, "")?;
    let state = |name: &str| stage.dir().join(name).display().to_string();
    let token = state(TOKEN_FILE);
    assert!(run(&stage, &["show", "gate"], 66).1.contains("`gate`"));
    let refused = run(&stage, &["add", "gate", "exec:ls", "--jpeg-quality", "0"], 65).1;
    assert!(refused.contains("url: ") && refused.contains("jpeg_quality: "), "{refused}");

    // Mistakes that need no daemon.
    for (arguments, words) in [
        (&["add", "GATE", CLOSED][..], "a-z"),
        (&["add", "gate"], "<URL>"),
        (&["add", "gate", CLOSED, "--fps", "1", "--every", "2"], "--every"),
        (&["add", "gate", CLOSED, "--password", "x"], "--password"),
        (&["add", "gate", CLOSED, "--password-stdin"], "--user"),
        (&["add", "gate", "rtsp://u:s3cret@h/a"], "--password-file"),
        (&["rm"], "<ID>"),
        (&["watch", "--after", "1"], "<ID>"),
        (&["ls", "--api", "http://127.0.0.1:1"], "--token-file"),
        (&["ls", "--api", "ftp://127.0.0.1", "--token-file", &token], "http://HOST:PORT"),
    ] {
        let said = run(&stage, arguments, 2).1;
        assert!(said.contains(words) && !said.contains("s3cret"), "{arguments:?}: {said}");
    }
    assert!(
        run(&stage, &["add", "gate", CLOSED, "--user", "u", "--password-file", "/no/such"], 78).1.contains("/no/such")
    );
    assert!(run(&stage, &["ls", "--token-file", "/no/such"], 78).1.contains("--token-file"));

    // Tokens that do not open.
    let looks = Command::new(PROGRAM)
        .args(["token", "new", "looks", "--scope", "read", "--config"])
        .arg(stage.dir().join("framehaul.toml"))
        .output()?;
    fs::write(state("looks"), looks.stdout)?;
    fs::write(state("stranger"), "fh_0123456789")?;
    assert!(run(&stage, &["rm", "gate", "--token-file", &state("looks")], 77).1.contains("operate"));
    let said = run(&stage, &["ls", "--token-file", &state("stranger")], 77).1;
    assert!(said.contains(&state("stranger")) && !said.contains("0123456789"), "{said}");
    run(&stage, &["ls", "--token-file", &state("looks")], 0);

    // Others that listen there, and nobody.
    let other = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}", other.local_addr()?);
    let server = thread::spawn(move || answer(&other, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"));
    assert!(run(&stage, &["ls", "--api", &address, "--token-file", &token], 69).1.contains("not as framehaul"));
    server.join().expect("the server does not panic")?;
    assert!(run(&stage, &["ls", "--api", &address, "--token-file", &token], 69).1.contains(&address));
    ensure!(daemon.stop()?.success());
    assert!(run(&stage, &["ls"], 69).1.contains("is the daemon running?"));
    fs::write(stage.dir().join("framehaul.toml"), "[uplaod]\n")?;
    assert!(run(&stage, &["ls"], 78).1.contains("uplaod"));
    Ok(())
}

/// Reads one request to its end and answers it.
fn answer(listener: &TcpListener, answer: &str) -> anyhow::Result<String> {
    let (mut stream, _) = listener.accept()?;
    let request = read_request(&mut stream)?;
    stream.write_all(answer.as_bytes())?;
    Ok(request)
}

fn read_request(stream: &mut TcpStream) -> anyhow::Result<String> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") {
        ensure!(stream.read(&mut byte)? == 1, "the request was cut off");
        request.push(byte[0]);
    }
    Ok(String::from_utf8(request)?)
}

#[test]
fn a_password_comes_through_standard_input() -> anyhow::Result<()> {
    let stage = Stage::new(Path::new(PROGRAM))?;
    let mut daemon = stage.daemon(&Storage::Directory, "")?;
    let mut add = camera(&stage)
        .args(["add", "gate", CLOSED, "--user", "u", "--password-stdin"])
        .stdin(Stdio::piped())
        .spawn()?;
    // It waits for the password: now everybody could see how it was called.
    let seen = fs::read(format!("/proc/{}/cmdline", add.id()))?;
    add.stdin.take().context("no input")?.write_all(b"p%40:/#w\n")?;
    assert!(add.wait()?.success());
    assert!(!String::from_utf8_lossy(&seen).contains("p%40"));
    let secrets = fs::read_to_string(stage.dir().join("state/secrets.json"))?;
    let passwords: Value = serde_json::from_str(&secrets)?;
    let passwords: Vec<&Value> = passwords.as_object().into_iter().flatten().map(|(_, password)| password).collect();
    assert_eq!(passwords, [&json!("p%40:/#w")]);
    ensure!(daemon.stop()?.success());
    Ok(())
}

#[test]
fn a_reader_that_has_enough_is_no_failure() -> anyhow::Result<()> {
    let stage = Stage::new(Path::new(PROGRAM))?;
    let mut daemon = stage.daemon(&Storage::Directory, "")?;
    for arguments in [&["ls"][..], &["ls", "--format", "json"], &["watch"]] {
        let mut child = camera(&stage).args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        drop(child.stdout.take());
        let Output { status, stderr, .. } = child.wait_with_output()?;
        assert_eq!((status.code(), &*String::from_utf8_lossy(&stderr)), (Some(0), ""), "{arguments:?}");
    }
    ensure!(daemon.stop()?.success());
    Ok(())
}

#[test]
fn watching_all_cameras_outlives_the_daemon() -> anyhow::Result<()> {
    let stage = Stage::new(Path::new(PROGRAM))?;
    let mut daemon = stage.daemon(&Storage::Directory, "")?;
    let mut command = camera(&stage);
    // Its next address is another one.
    command.arg("watch");
    let watch = Running::start(command)?;
    watch.until(|line| line.starts_with("ID\tSTATE"))?;
    run(&stage, &["add", "gate", CLOSED], 0);
    watch.until(|line| line.starts_with("gate\tbacking_off\t") && line.contains("nobody listens"))?;
    run(&stage, &["rm", "gate"], 0);
    watch.until(|line| line == "gate\tdeleted")?;
    ensure!(daemon.stop()?.success());
    Ok(())
}

/// A server of events that cuts its streams, wherever it is.
struct Cuts {
    address: String,
    requests: thread::JoinHandle<anyhow::Result<Vec<String>>>,
}

impl Cuts {
    /// Each connection gets one of `answers`, and then its end.
    fn start(answers: Vec<String>) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = format!("http://{}", listener.local_addr()?);
        let requests = thread::spawn(move || answers.iter().map(|text| answer(&listener, text)).collect());
        Ok(Self { address, requests })
    }
}

#[test]
fn watching_a_list_goes_on_where_it_was_cut() -> anyhow::Result<()> {
    const STREAM: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\nretry: 10\n\n";
    let event = |seq: u64| {
        let data = json!({ "type": "frame", "seq": seq, "url": "file:///frames/a.jpg" });
        format!("event: frame\nid: {seq}\ndata: {data}\n\n")
    };
    let problem = r#"{"title":"Gone","status":410,"detail":"older than the list is kept"}"#;
    let json = |status: &str, body: &str| {
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let half = event(9);
    let cuts = Cuts::start(vec![
        json("200 OK", r#"{"id":"gate","status":{"watermark":6}}"#),
        STREAM.to_owned(),
        format!("{STREAM}: comment\n\n{}{}{}", event(7), event(8), &half[..half.len() - 1]),
        json("503 Service Unavailable", r#"{"detail":"the daemon is stopping"}"#),
        format!("{STREAM}{}", event(9)),
        json("410 Gone", problem),
    ])?;
    let stage = Stage::new(Path::new(PROGRAM))?;
    let token: PathBuf = stage.dir().join("token");
    fs::write(&token, "fh_watcher\n")?;
    let output = Command::new(PROGRAM)
        .args(["camera", "watch", "gate", "--format", "json", "--api", &cuts.address, "--token-file"])
        .arg(&token)
        .output()?;
    let requests = cuts.requests.join().expect("the server does not panic")?;
    let lines: Vec<Value> =
        output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let seqs: Vec<u64> = lines.iter().filter_map(|line| line["seq"].as_u64()).collect();
    assert_eq!(seqs, [7, 8, 9], "each once and in order: {output:?}");
    assert_eq!(output.status.code(), Some(65), "{output:?}");
    let said = String::from_utf8(output.stderr)?;
    assert!(said.contains("older than the list is kept") && said.contains("the daemon is stopping"), "{said}");
    assert!(!said.contains("fh_watcher"), "{said}");

    let began = requests.iter().map(|request| {
        let lines = || request.lines();
        assert!(lines().any(|line| line.eq_ignore_ascii_case("authorization: bearer fh_watcher")), "{request}");
        let id = lines().find_map(|line| line.to_lowercase().strip_prefix("last-event-id: ").map(str::to_owned));
        (request.split(' ').nth(1).unwrap_or_default().to_owned(), id)
    });
    let stream = "/api/v1/cameras/gate/frames/stream";
    let after = |id: &str| (stream.to_owned(), Some(id.to_owned()));
    let first = (format!("{stream}?after=6"), None);
    let expected =
        [("/api/v1/cameras/gate".to_owned(), None), first.clone(), first, after("8"), after("8"), after("9")];
    assert_eq!(began.collect::<Vec<_>>(), expected);
    Ok(())
}

/// What is watched is the list, on the real daemon and with a real stream.
#[test]
fn what_is_watched_is_the_list() -> anyhow::Result<()> {
    let stage = Stage::new(Path::new(PROGRAM))?;
    let server = CameraServer::start(&[CameraSpec::new("open").size(320, 240).rate(10, 10)], 0, default_cache_dir())?;
    let mut daemon = stage.daemon(&Storage::Directory, "")?;
    let picture = stage.dir().join("picture.jpg");
    let found = camera(&stage).args(["probe", &server.url("open"), "--picture"]).arg(&picture).output()?;
    assert!(found.status.success() && String::from_utf8(found.stdout)?.contains("320"), "{:?}", found.stderr);
    assert!(fs::read(&picture)?.starts_with(&[0xff, 0xd8]), "no JPEG");
    assert!(run(&stage, &["probe", CLOSED], 1).1.contains("refused"));

    run(&stage, &["add", "gate", &server.url("open")], 0);
    let mut command = camera(&stage);
    command.args(["watch", "gate", "--after", "0", "--format", "json"]);
    let watch = Running::start(command)?;
    let mut watched = Vec::new();
    while watched.len() < 12 {
        watched.push(serde_json::from_str::<Value>(&watch.until(|_| true)?)?);
    }
    // A page counts frames: these are the session and eleven of them.
    let listed: Value = serde_json::from_str(&daemon.get("/api/v1/cameras/gate/frames?limit=11")?)?;
    let seqs =
        |entries: &[Value]| -> Vec<_> { entries.iter().map(|e| (e["type"].clone(), e["seq"].clone())).collect() };
    assert_eq!(seqs(&watched), seqs(listed["entries"].as_array().context("no entries")?));
    let mut command = camera(&stage);
    command.args(["watch", "gate"]);
    Running::start(command)?.until(|line| line.starts_with("frame ") && line.contains("file:///"))?;
    ensure!(daemon.stop()?.success());
    Ok(())
}

/// Whatever reads it gets nothing else between the lines.
#[test]
fn nothing_but_data_is_on_standard_output() -> anyhow::Result<()> {
    let stage = Stage::new(Path::new(PROGRAM))?;
    let mut daemon: Daemon = stage.daemon(&Storage::Directory, "")?;
    run(&stage, &["add", "gate", CLOSED], 0);
    let mut command = camera(&stage);
    command.args(["watch", "--format", "json"]);
    let watch = Running::start(command)?;
    for _ in 0..2 {
        let line = watch.until(|_| true)?;
        let answer: Value = serde_json::from_str(&line)?;
        assert_eq!(answer["cameras"][0]["id"], "gate", "{line}");
    }
    for command in [&["--help"][..], &["add", "--help"], &["watch", "--help"]] {
        let help = run(&stage, command, 0).0;
        assert!(help.contains("Usage:") && !help.contains("s3cret"), "{help}");
    }
    assert!(
        run(&stage, &["--help"], 0).0.contains("Exit codes:")
            && run(&stage, &["add", "--help"], 0).0.contains("Examples:")
    );
    ensure!(daemon.stop()?.success());
    Ok(())
}
