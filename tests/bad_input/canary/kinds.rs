//! Every kind of error that a camera can have, and a daemon that is killed, each with the password in play.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, ensure};
use framehaul::capture::ErrorKind;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testbed::daemon::{Daemon, Storage};
use testbed::oracle::Entry;
use testbed::synthetic::CAPTURES;
use testbed::tls::TlsFront;

use super::parrots::refusing;
use super::requests::post;
use super::search::{finds_nothing, search_answer, search_files, search_processes};
use super::{CANARY, TRIER};
use crate::responder::{Responder, sdp};
use crate::vocabulary::{
    PATIENCE, PROGRAM, USER, cameras, cameras_at, get, http_cameras, leave, put, stage, until_streaming,
};

#[test]
fn a_password_shows_nowhere_whatever_goes_wrong() -> anyhow::Result<()> {
    finds_nothing(every_kind_of_error)
}

fn every_kind_of_error() -> anyhow::Result<Value> {
    let stage = stage()?;
    let (mut server, busy, stranger, http) =
        (cameras(CANARY)?, cameras(CANARY)?, cameras("another")?, http_cameras(CANARY)?);
    let tls = TlsFront::start(http.port())?;
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let no_room = refusing("453 Not Enough Bandwidth")?;
    let denied = refusing("403 Forbidden")?;
    let broken = refusing("500 Internal Server Error")?;
    let audio = Responder::rtsp(|_| sdp("m=audio 0 RTP/AVP 0\r\na=control:track1\r\n"))?;
    let engines = stage.dir().join("engines");
    fs::create_dir(&engines)?;
    let link_engines = || {
        CAPTURES.into_iter().try_for_each(|name| symlink(Path::new(PROGRAM).with_file_name(name), engines.join(name)))
    };
    link_engines()?;
    let mut daemon = stage.daemon(
        &Storage::Directory,
        &format!(
            "[capture]\nopen_timeout = \"2s\"\nstall_after = \"2s\"\nengine_dir = {}\n[log]\nfilter = \"debug\"\n\
             [debug]\nfault_injection = true\n[spool]\ndurability = \"memory\"",
            json!(engines)
        ),
    )?;

    let login = |url: String| json!({ "url": url, "user": USER, "password": CANARY });
    for (id, url) in [("good", server.url("shut")), ("busy", busy.url("shut"))] {
        assert_eq!(put(&daemon, id, &login(url))?.status, 201);
    }
    let hopeless = [
        ("refused", "rtsp://127.0.0.1:1/main".to_owned(), ErrorKind::Refused),
        ("unknown", "rtsp://no.such.host.invalid/main".to_owned(), ErrorKind::UnknownHost),
        ("silent", format!("rtsp://{}/main", silent.local_addr()?), ErrorKind::Timeout),
        ("stranger", stranger.url("shut"), ErrorKind::Auth),
        ("denied", denied.url(), ErrorKind::Denied),
        ("no-room", no_room.url(), ErrorKind::Busy),
        ("certificate", format!("https://localhost:{}/basic", tls.port()), ErrorKind::Certificate),
        ("nowhere", server.url("shut").replace("/shut", "/nowhere"), ErrorKind::NotFound),
        ("audio", audio.url(), ErrorKind::NoVideo),
        ("broken", broken.url(), ErrorKind::Protocol),
    ];
    let mut seen = BTreeSet::new();
    for (id, url, _) in &hopeless {
        let answer = put(&daemon, id, &login(url.clone()))?;
        assert_eq!(answer.status, 201, "{id}: {answer:?}");
        search_answer("PUT", &answer);
    }
    for (id, _, kind) in &hopeless {
        fails(&daemon, &mut seen, id, *kind)?;
    }
    for (id, url, _) in &hopeless {
        let trial = json!({ "url": url, "user": TRIER, "password": CANARY });
        let answer = post(&daemon, "/api/v1/cameras:probe", &trial)?;
        assert!(answer.status == 200 && answer.body.contains("\"ok\":false"), "the trial of {id}: {answer:?}");
    }
    until_streaming(&daemon, "busy")?;
    until_streaming(&daemon, "good")?;
    search_processes(&daemon)?;

    // A login that was good a moment ago.
    let port = busy.port();
    drop(busy);
    let _busy = cameras_at(port, "another")?;
    fails(&daemon, &mut seen, "busy", ErrorKind::Busy)?;

    for kind in [
        ErrorKind::CaptureCrash,
        ErrorKind::Panic,
        ErrorKind::Stall,
        ErrorKind::Eof,
        ErrorKind::StreamChanged,
        ErrorKind::CaptureMissing,
    ] {
        let status = until_streaming(&daemon, "good")?;
        match kind {
            ErrorKind::CaptureCrash => {
                let pid = Pid::from_raw(status.pid.context("no capture process")?.try_into()?);
                kill_process(pid.context("no process id")?, Signal::KILL)?;
            }
            ErrorKind::Panic => daemon.inject_panic("actor=camera&id=good")?,
            ErrorKind::Stall => ensure!(server.silence("shut")? == 1, "not one stream"),
            ErrorKind::Eof => ensure!(server.end("shut")?.len() == 1, "not one stream"),
            ErrorKind::StreamChanged => ensure!(server.resize("shut", 160, 120)? == 1, "not one stream"),
            _ => {
                CAPTURES.into_iter().try_for_each(|name| fs::remove_file(engines.join(name)))?;
                assert!(post(&daemon, "/api/v1/cameras/good/restart", &json!({}))?.status < 300);
            }
        }
        fails(&daemon, &mut seen, "good", kind)?;
    }
    link_engines()?;
    assert!(post(&daemon, "/api/v1/cameras/good/restart", &json!({}))?.status < 300);
    until_streaming(&daemon, "good")?;

    daemon.kill()?;
    let secrets = stage.dir().join("state/secrets.json");
    search_files(stage.dir(), Some(&secrets))?;
    daemon.run()?;
    until_streaming(&daemon, "good")?;
    search_processes(&daemon)?;
    let crashed = |entry: &Entry| matches!(entry, Entry::Tombstone { reason, .. } if reason == "crash");
    assert!(daemon.list("good", 1_000)?.entries.iter().any(crashed), "nothing was recovered");
    daemon.stop()?;
    daemon.env("FRAMEHAUL__CAPTURE__LOOPBACK", "false");
    daemon.run()?;
    fails(&daemon, &mut seen, "good", ErrorKind::Forbidden)?;
    search_files(stage.dir(), Some(&secrets))?;

    let log = daemon.log_text();
    assert!(log.contains("injected into camera good"), "no panic is logged");
    for id in ["denied", "no-room", "broken"] {
        let says = |line: &str| line.contains("[secret]") && line.contains(&format!("camera={id}"));
        assert!(log.lines().any(says), "camera {id} has not made its capture process say the password:\n{log}");
    }
    let kinds: BTreeSet<String> = ErrorKind::ALL.map(|kind| kind.as_str().to_owned()).into();
    assert_eq!(seen, kinds, "the kinds of error that were seen, and all that there are");
    daemon.quiesce(PATIENCE)?;
    leave(daemon)?;
    search_files(stage.dir(), None)?;
    Ok(json!({ "what": "every kind of error, and kill -9", "kinds": seen, "faults": kinds.len() + 1 }))
}

/// Waits until a camera has failed for this, notes the kinds it shows until then, and looks where they show.
fn fails(daemon: &Daemon, seen: &mut BTreeSet<String>, id: &str, kind: ErrorKind) -> anyhow::Result<()> {
    daemon
        .wait_for(id, PATIENCE, |status| {
            let error = status.last_error.as_ref().filter(|error| error["source"] == "capture");
            let told = error.and_then(|error| error["kind"].as_str());
            seen.extend(told.map(str::to_owned));
            told == Some(kind.as_str())
        })
        .with_context(|| format!("camera {id} has not failed for {kind:?}"))?;
    for path in [format!("/api/v1/cameras/{id}"), "/api/v1/cameras".to_owned(), "/metrics".to_owned()] {
        let answer = get(daemon, &path)?;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        search_answer(&path, &answer);
    }
    Ok(())
}
