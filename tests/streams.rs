//! Consumers of the ordered lists, over HTTP.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};
use testbed::cameras::{CameraServer, CameraSpec, default_cache_dir};
use testbed::daemon::{Daemon, Storage, wait};
use testbed::events::{Event, Events, Received};
use testbed::scenario::{self, Stage, Stream};

const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");
const PATIENCE: Duration = Duration::from_secs(30);
const ALL: &str = "/api/v1/frames/stream";
const GATE: &str = "/api/v1/cameras/gate/frames/stream";

#[test]
fn consumers_that_are_cut_see_exactly_the_lists_and_silent_ones_cost_nothing() {
    let plan = Stream {
        cameras: 3,
        fps: 25,
        cuts: 20,
        restarts: 1,
        silent: 50,
        flow: Duration::from_secs(3),
        silent_kib: 3 * 8 * 1_024,
        seed: 1,
    };
    let stage = Stage::new(Path::new(PROGRAM)).expect("a stage");
    let outcome = scenario::stream(&stage, &plan).unwrap_or_else(|error| panic!("the scenario broke off: {error:#}"));
    assert!(outcome.pass, "{}\nfigure: {}\n{}", outcome.bound, outcome.figure, outcome.problems.join("\n"));
}

/// A daemon with the camera `gate`, which has captured some frames.
fn gate(stage: &Stage, more: &str) -> anyhow::Result<(CameraServer, Daemon)> {
    let server = CameraServer::start(&[CameraSpec::new("gate").size(320, 240).rate(10, 10)], 0, default_cache_dir())?;
    let daemon = stage.daemon(&Storage::Directory, more)?;
    daemon.put_camera("gate", &server.request(&server.specs()[0]))?;
    daemon.wait_for("gate", PATIENCE, |status| status.watermark >= 25)?;
    Ok((server, daemon))
}

fn open(daemon: &Daemon, path: &str, last_id: Option<&str>) -> anyhow::Result<Events> {
    Events::ask(daemon.address(), daemon.token(), path, last_id, None)
}

/// Waits for the first block, which sets the id alone.
fn hello(events: &mut Events) -> anyhow::Result<String> {
    let deadline = Instant::now() + PATIENCE;
    let first = loop {
        if let Some(first) = events.take().into_iter().next() {
            break first;
        }
        anyhow::ensure!(Instant::now() < deadline, "no block within {PATIENCE:?}");
        // In small pieces: what follows it is for whoever reads on.
        events.receive(16, Duration::from_millis(100))?;
    };
    anyhow::ensure!(first.data.is_empty() && first.kind.is_empty(), "{first:?}");
    Ok(first.id)
}

fn seq(event: &Event) -> Option<u64> {
    serde_json::from_str::<Value>(&event.data).ok()?["seq"].as_u64()
}

/// The answer to a stream that is refused: its head and its problem.
fn refusal(daemon: &Daemon, path: &str, last_id: Option<&str>) -> anyhow::Result<String> {
    let mut events = open(daemon, path, last_id)?;
    loop {
        match events.receive(64 * 1_024, Duration::from_secs(5)) {
            Ok(_) if events.head().is_some() => anyhow::bail!("{path} with {last_id:?} was not refused"),
            Ok(Received::Nothing) => anyhow::bail!("no answer"),
            Ok(_) => {}
            Err(error) => return Ok(error.to_string()),
        }
    }
}

#[test]
fn a_stream_begins_where_it_is_asked_to_and_ends_when_the_daemon_does() -> anyhow::Result<()> {
    let stage = Stage::new(Path::new(PROGRAM))?;
    let (server, mut daemon) = gate(&stage, "")?;

    places_are_kept(&daemon)?;
    bad_places_are_refused(&daemon)?;

    // A deleted camera's list is still there, and goes on when the id comes back.
    let path = format!("{GATE}?after=latest");
    let mut events = open(&daemon, &path, None)?;
    daemon.quiesce(PATIENCE)?;
    let end = daemon.status("gate")?.watermark.to_string();
    wait(PATIENCE, || {
        events.receive(64 * 1_024, Duration::from_millis(100))?;
        Ok(events.take().iter().any(|event| event.id == end).then_some(()))
    })?;
    // One stream is open. Nothing is written to any, and yet the places of those that have gone are free soon.
    for _ in 0..2 {
        drop(fill(&daemon, &path)?);
    }
    // While nothing happens a comment comes, every 15 s.
    events.receive(64 * 1_024, Duration::from_secs(45))?;
    let silent_since = Instant::now();
    assert!(matches!(events.receive(64 * 1_024, Duration::from_secs(45))?, Received::Bytes(_)));
    assert!(silent_since.elapsed() > Duration::from_secs(10), "after {:?}", silent_since.elapsed());
    assert!(events.take().iter().all(|event| event.id == end && event.data.is_empty()));
    daemon.put_camera("gate", &server.request(&server.specs()[0]))?;
    let again = events.wait_for(2, PATIENCE)?;
    assert_eq!(again[0].id, format!("{end}/2"));
    assert_eq!(seq(&again[1]), Some(end.parse::<u64>()? + 1));

    let mut many = fill(&daemon, &path)?;
    let refused = refusal(&daemon, ALL, None)?;
    assert!(refused.contains("503") && refused.contains("256"), "{refused}");
    assert_eq!(daemon.call("GET".parse()?, "/readyz", None)?.0, 200);
    drop(many.split_off(100));

    // Streams end by themselves and hold nothing up.
    let begun = Instant::now();
    assert!(daemon.stop()?.success());
    assert!(begun.elapsed() < Duration::from_secs(15), "the end took {:?}", begun.elapsed());
    events.until_end(PATIENCE)?;
    for events in &mut many {
        events.until_end(PATIENCE)?;
    }
    Ok(())
}

fn places_are_kept(daemon: &Daemon) -> anyhow::Result<()> {
    // From the beginning: the session, then its frames, each with its place as id.
    let mut events = open(daemon, GATE, None)?;
    assert_eq!(hello(&mut events)?, "0");
    let head = events.head().context("no head")?.to_lowercase();
    for header in ["cache-control: no-store", "x-accel-buffering: no"] {
        assert!(head.contains(header), "{head}");
    }
    let first = events.wait_for(3, PATIENCE)?;
    let ids: Vec<(&str, &str)> = first[..3].iter().map(|event| (event.kind.as_str(), event.id.as_str())).collect();
    assert_eq!(ids, [("session", "0/1"), ("frame", "1"), ("frame", "2")]);
    let session: Value = serde_json::from_str(&first[0].data)?;
    assert_eq!((&session["width"], &session["height"]), (&json!(320), &json!(240)), "{session}");

    // From now: what was captured before is not told, and the first id says where that is.
    let path = format!("{GATE}?after=latest");
    let mut events = open(daemon, &path, None)?;
    let now: u64 = hello(&mut events)?.parse()?;
    assert!(now >= 25);
    assert_eq!(seq(&events.wait_for(1, PATIENCE)?[0]), Some(now + 1));
    // A browser that comes back sends both: it is further than its URL says.
    let mut events = open(daemon, &path, Some("7"))?;
    assert_eq!(seq(&events.wait_for(1, PATIENCE)?[0]), Some(8));
    let mut events = open(daemon, ALL, Some("3"))?;
    let event = &events.wait_for(1, PATIENCE)?[0];
    assert_eq!((event.id.as_str(), &serde_json::from_str::<Value>(&event.data)?["camera"]), ("4", &json!("gate")));
    Ok(())
}

/// Takes all places but one.
fn fill(daemon: &Daemon, path: &str) -> anyhow::Result<Vec<Events>> {
    // Less than the time between two comments.
    wait(Duration::from_secs(8), || {
        let mut many = (0..255).map(|_| open(daemon, path, None)).collect::<Result<Vec<_>, _>>()?;
        let all = many.iter_mut().map(hello).collect::<Result<Vec<_>, _>>();
        Ok(all.is_ok().then_some(many))
    })
}

fn bad_places_are_refused(daemon: &Daemon) -> anyhow::Result<()> {
    for (path, id, status, named) in [
        (GATE, "x", 400, "`Last-Event-ID` is `x`"),
        (GATE, "-1", 400, "after=0"),
        (GATE, "1/", 400, "after=0"),
        (GATE, "1/x", 400, "after=latest"),
        (GATE, "99999999999999999999", 400, "after=latest"),
        (GATE, "9999999", 400, "another state directory"),
        (GATE, "3/9", 400, "`3/9`"),
        (GATE, "3/1", 400, "`3/1`"),
        (ALL, "1/1", 400, "`1/1`"),
        (ALL, "9999999", 400, "another state directory"),
        ("/api/v1/cameras/nobody/frames/stream", "1", 404, "`nobody`"),
        ("/api/v1/cameras/NOBODY/frames/stream", "1", 400, "NOBODY"),
    ] {
        let answer = refusal(daemon, path, Some(id))?;
        let right = answer.contains(&format!("HTTP/1.1 {status} ")) && answer.contains("application/problem+json");
        assert!(right && answer.contains(named), "{path} with `{id}`: {answer}");
        let (by_query, _) = daemon.call("GET".parse()?, &format!("{path}?after={id}"), None)?;
        assert_eq!(by_query, status, "{path}?after={id}");
    }
    let (status, answer) = daemon.call("GET".parse()?, &format!("{GATE}?before=1"), None)?;
    assert!(status == 400 && answer.contains("before"), "{answer}");
    assert_eq!(daemon.call("POST".parse()?, GATE, None)?.0, 405);
    Ok(())
}

#[test]
fn what_retention_has_taken_is_answered_with_the_place_to_go_on_from() -> anyhow::Result<()> {
    let stage = Stage::new(Path::new(PROGRAM))?;
    let (_server, mut daemon) = gate(&stage, "[list]\nkeep = \"1h\"")?;
    daemon.quiesce(PATIENCE)?;
    let before = daemon.list("gate", 100)?.entries;
    let totals = daemon.status("gate")?.totals;
    assert!(daemon.stop()?.success());
    let age = |seq: u64| -> anyhow::Result<()> {
        let journal = rusqlite::Connection::open(stage.dir().join("state/journal.sqlite"))?;
        journal.execute("UPDATE frame SET stored_at = stored_at - 7200000000 WHERE seq <= ?1", [seq as i64])?;
        Ok(())
    };
    age(20)?;

    daemon.run()?;
    let page = |after: u64| -> anyhow::Result<_> {
        daemon.call("GET".parse()?, &format!("/api/v1/cameras/gate/frames?after={after}"), None)
    };
    let gone = wait(PATIENCE, || Ok(Some(page(0)?).filter(|(status, _)| *status == 410)))?.1;
    let problem: Value = serde_json::from_str(&gone)?;
    assert_eq!((&problem["oldest"], &problem["status"]), (&json!(20), &json!(410)), "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("after 20")), "{problem}");
    assert_eq!(page(19)?.0, 410);
    let rest: Value = serde_json::from_str(&page(20)?.1)?;
    assert_eq!(rest["entries"][0]["seq"], 21);
    assert_eq!(rest["entries"].as_array().map(Vec::len), Some(before.len() - 21));

    for (path, oldest) in [(GATE, Some("20")), (ALL, None)] {
        for last_id in [None, Some("0"), Some("1")] {
            let answer = refusal(&daemon, path, last_id)?;
            assert!(answer.contains("HTTP/1.1 410 "), "{path}: {answer}");
            let problem: Value = serde_json::from_str(&answer[answer.find('{').context("no problem")?..])?;
            let found = problem["oldest"].as_u64().context("no oldest cursor")?.to_string();
            assert_eq!(found, oldest.unwrap_or(&found));
            let mut events = open(&daemon, path, Some(&found))?;
            let count = before.len() - 21;
            assert_eq!(events.wait_for(count, PATIENCE)?.len(), count);
        }
    }
    assert_eq!(daemon.status("gate")?.totals, totals);

    // A kill and a recovery neither bring them back nor make them lost.
    daemon.kill()?;
    daemon.run()?;
    assert_eq!(daemon.status("gate")?.totals, totals);
    let answer = daemon.get("/api/v1/cameras/gate/frames?after=20")?;
    assert_eq!(serde_json::from_str::<Value>(&answer)?["entries"], rest["entries"]);
    Ok(())
}
