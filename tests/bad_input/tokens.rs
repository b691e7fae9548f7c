//! Tokens that come and go while the daemon runs, what is written down about their owners, and where they must not
//! show.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use testbed::daemon::{Daemon, Storage};

use super::vocabulary::{PROGRAM, Request, files_below, leave, new_token, stage, token_command};

fn ask(daemon: &Daemon, method: &str, path: &str, token: &str) -> anyhow::Result<u16> {
    Request::new(method, path).header("Authorization", format!("Bearer {token}")).status(daemon)
}

#[test]
fn a_token_opens_until_it_is_removed() -> anyhow::Result<()> {
    let stage = stage()?;
    let mut daemon = stage.daemon(&Storage::Directory, "[log]\nformat = \"json\"")?;
    let gate = "/api/v1/cameras/gate";
    let (looks, works) = (new_token(&stage, "looks", "read")?, new_token(&stage, "works", "operate")?);
    assert!(looks.starts_with("fh_") && looks.len() == 67, "a scanner for leaks must know it");
    assert_eq!([ask(&daemon, "GET", "/metrics", &looks)?, ask(&daemon, "GET", "/metrics", &works)?], [200, 200]);
    assert_eq!([ask(&daemon, "DELETE", gate, &looks)?, ask(&daemon, "DELETE", gate, &works)?], [403, 404]);
    let scope = Request::new("DELETE", gate).header("Authorization", format!("Bearer {looks}")).send_bare(&daemon)?;
    assert!(scope.head.contains("insufficient_scope") && scope.body.contains("`operate`"), "{scope:?}");

    let listed: Value = serde_json::from_slice(&token_command(&stage, &["ls", "--format", "json"])?.stdout)?;
    let named = |n: usize| [&listed["tokens"][n]["name"], &listed["tokens"][n]["scope"]].map(Value::to_string);
    assert_eq!([named(0), named(1)], [["\"looks\"", "\"read\""], ["\"works\"", "\"operate\""]], "{listed}");
    let table = String::from_utf8(token_command(&stage, &["ls"])?.stdout)?;
    assert!(table.starts_with("NAME") && table.contains("looks  read"), "{table}");

    let follow = Request::new("GET", "/api/v1/frames/stream").header("Authorization", format!("Bearer {looks}"));
    let mut stream = BufReader::new(follow.open(&daemon)?);
    let mut line = String::new();
    stream.read_line(&mut line)?;
    assert!(line.contains(" 200 "), "{line}");

    // Removed means removed: from the next request on, for a stream that is open, and for the next daemon as well.
    assert!(token_command(&stage, &["rm", "looks"])?.status.success());
    assert_eq!([ask(&daemon, "GET", "/metrics", &looks)?, ask(&daemon, "GET", "/metrics", &works)?], [401, 200]);
    let mut rest = String::new();
    stream.read_to_string(&mut rest).context("the stream goes on")?;
    assert!(rest.contains("text/event-stream") && rest.ends_with("\r\n0\r\n\r\n"), "{rest}");
    daemon.stop()?;
    let later = new_token(&stage, "later", "read")?;
    daemon.run()?;
    assert_eq!(
        [&looks, &works, &later].map(|token| ask(&daemon, "GET", "/metrics", token).ok()),
        [Some(401), Some(200), Some(200)]
    );

    for (arguments, code, words) in [
        (vec!["rm", "looks"], 66, "`looks`"),
        (vec!["new", "works", "--scope", "read"], 1, "`works`"),
        (vec!["new", "admin", "--scope", "read"], 2, "admin"),
        (vec!["new", "../works", "--scope", "read"], 2, "../works"),
        (vec!["new", "other"], 2, "--scope"),
        (vec!["new", "other", "--scope", "root"], 2, "`operate`"),
    ] {
        let output = token_command(&stage, &arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        assert!(said.contains(words) && output.stdout.is_empty(), "{arguments:?}: {output:?}");
    }
    assert_eq!(ask(&daemon, "GET", "/metrics", &works)?, 200);
    leave(daemon)
}

/// The records of the log's target `framehaul::audit`.
fn records(daemon: &Daemon) -> Vec<Value> {
    let log = daemon.log_text();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["target"] == "framehaul::audit").map(|mut line| line["fields"].take()).collect()
}

#[test]
fn every_change_is_written_down_once_and_a_scanner_fills_no_disk() -> anyhow::Result<()> {
    let stage = stage()?;
    let daemon = stage.daemon(&Storage::Directory, "[log]\nformat = \"json\"")?;
    let works = new_token(&stage, "works", "operate")?;
    let (gate, spec) = ("/api/v1/cameras/gate", json!({ "url": "rtsp://127.0.0.1:1/main" }).to_string());
    let bearer = format!("Bearer {works}");
    let send = |method: &str, kind: &str, body: &str| {
        let request = Request::new(method, gate).header("Authorization", bearer.clone());
        if body.is_empty() { request } else { request.body(kind, body) }.status(&daemon)
    };
    let done = [
        ("PUT", send("PUT", "application/json", &spec)?),
        ("PUT", send("PUT", "application/json", "{}")?),
        ("PUT", send("PUT", "text/plain", &spec)?),
        ("DELETE", send("DELETE", "", "")?),
        ("DELETE", send("DELETE", "", "")?),
    ];
    assert_eq!(done.map(|(_, status)| status), [201, 400, 415, 204, 404]);
    // Whoever only looks is not written down.
    assert_eq!(ask(&daemon, "GET", gate, &works)?, 404);
    let calls: Vec<Value> = records(&daemon).into_iter().filter(|record| record["message"] == "call").collect();
    assert_eq!(calls.len(), done.len(), "{calls:?}");
    for (call, (method, status)) in calls.iter().zip(done) {
        let expected = [json!("works"), json!(method), json!(gate), json!(status)];
        assert_eq!([&call["token"], &call["method"], &call["route"], &call["status"]], expected.each_ref(), "{call}");
        assert!(call["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{call}");
    }

    let guesses = 300;
    for n in 0..guesses {
        let request = Request::new("GET", "/metrics");
        let request = if n % 2 == 0 { request } else { request.header("Authorization", format!("Bearer fh_guess{n}")) };
        assert_eq!(request.status(&daemon)?, 401);
    }
    let turned_away = records(&daemon).into_iter().filter(|record| record["message"] == "request turned away");
    let turned_away: Vec<Value> = turned_away.collect();
    // Twenty a minute; a slow machine may have come into the next one.
    assert!((20..=40).contains(&turned_away.len()), "{} lines", turned_away.len());
    for reason in ["no_token", "unknown_token"] {
        assert!(turned_away.iter().any(|record| record["reason"] == reason), "{reason}: {turned_away:?}");
    }
    let metrics = daemon.get("/metrics")?;
    for reason in ["missing", "wrong"] {
        let series = format!("framehaul_auth_failures_total{{reason=\"{reason}\"}} {}\n", guesses / 2);
        assert!(metrics.contains(&series), "no {series}");
    }
    assert!(turned_away.iter().all(|record| record["peer"].as_str().is_some()), "{turned_away:?}");
    assert!(!daemon.log_text().contains("fh_guess"), "what was guessed is in the log");
    leave(daemon)
}

/// How a token would look in a text, whatever has encoded it.
fn forms(token: &str) -> Vec<String> {
    let bare = &token[3..];
    let unpadded = |text: &str| {
        let mut text = BASE64_STANDARD.encode(text).trim_end_matches('=').to_owned();
        text.pop();
        text
    };
    let digest = Sha256::digest(token.as_bytes());
    let mut forms = vec![bare.to_owned(), bare.to_uppercase(), unpadded(token), unpadded(bare)];
    forms.push(digest.iter().map(|byte| format!("{byte:02x}")).collect());
    forms.extend([BASE64_STANDARD.encode(digest), BASE64_URL_SAFE.encode(digest)]);
    forms
}

#[test]
fn a_token_shows_nowhere() -> anyhow::Result<()> {
    let stage = stage()?;
    let daemon = stage.daemon(&Storage::Directory, "[log]\nfilter = \"trace\"")?;
    let (looks, works) = (new_token(&stage, "looks", "read")?, new_token(&stage, "works", "operate")?);
    let forms: Vec<String> = [&looks, &works, daemon.token()].into_iter().flat_map(forms).collect();
    let assert_clean = |what: &str, bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        if let Some(line) = text.lines().find(|line| forms.iter().any(|form| line.contains(form))) {
            panic!("{what} holds a token: {line}");
        }
    };
    for token in [&looks, &works, daemon.token()] {
        for (method, path) in [
            ("GET", "/metrics".to_owned()),
            ("GET", "/api/v1/cameras".to_owned()),
            ("DELETE", "/api/v1/cameras/gate".to_owned()),
            ("PUT", "/api/v1/cameras/gate".to_owned()),
            ("GET", "/no/such/route".to_owned()),
            ("GET", format!("/metrics?access_token={token}")),
            ("PUT", format!("/api/v1/cameras/gate?token={token}")),
        ] {
            let body = json!({ "url": "rtsp://h/a", "token": token }).to_string();
            for value in
                [format!("Bearer {token}"), format!("Basic {token}"), format!("Bearer {token}x"), token.to_owned()]
            {
                let request = Request::new(method, &path).header("Authorization", value);
                let answer = request.body("application/json", body.as_str()).send_bare(&daemon)?;
                assert_clean(&format!("the answer to {method} {}", &path[..8]), format!("{answer:?}").as_bytes());
            }
        }
    }

    // The command line reads its token from a file; where a command goes on, everybody can see how it was called.
    let file = stage.dir().join("works.token");
    fs::write(&file, &works)?;
    let mut watch = Command::new(PROGRAM)
        .args(["camera", "watch", "--api", daemon.address(), "--token-file"])
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // Its first line comes with the daemon's answer.
    let mut line = String::new();
    BufReader::new(watch.stdout.as_mut().context("no output")?).read_line(&mut line)?;
    assert!(line.starts_with("ID"), "{line}");
    for pid in [watch.id(), daemon.pid()] {
        for name in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{pid}/{name}"))?;
            assert!(!bytes.is_empty(), "{name} of process {pid}");
            assert_clean(&format!("{name} of process {pid}"), &bytes);
        }
    }
    watch.kill()?;
    let said = watch.wait_with_output()?;
    assert_clean("the watcher's output", &[said.stdout, said.stderr].concat());
    for arguments in [&["ls"][..], &["ls", "--format", "json"], &["rm", "looks"], &["new", "works", "--scope", "read"]]
    {
        let output = token_command(&stage, arguments)?;
        assert_clean(&format!("the output of {arguments:?}"), &[output.stdout, output.stderr].concat());
    }

    let log = daemon.log_text();
    assert!(log.contains("framehaul::audit") && log.contains("TRACE"), "not everything was logged");
    leave(daemon)?;
    let (own, digests) = (stage.dir().join("state/admin.token"), stage.dir().join("state/tokens.json"));
    let files = files_below(stage.dir())?;
    assert!([&own, &digests, &file].into_iter().all(|path| files.contains(path)), "{files:?}");
    for path in files.into_iter().filter(|path| ![&own, &file].contains(&path)) {
        let bytes = fs::read(&path)?;
        if path != digests {
            assert_clean(&path.display().to_string(), &bytes);
        } else if let Some(token) =
            [&looks, &works].into_iter().find(|t| String::from_utf8_lossy(&bytes).contains(&t[3..]))
        {
            panic!("{} holds a token of {} characters", path.display(), token.len());
        }
    }
    Ok(())
}
