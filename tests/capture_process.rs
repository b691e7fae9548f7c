//! What the daemon makes of its capture processes: how many there are, what they take, and what they say of their
//! pictures. The cameras are the test bed's synthetic ones.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use testbed::daemon::{Daemon, Storage, wait};
use testbed::scenario::{Stage, testing};
use testbed::synthetic::Synthetic;

const PATIENCE: Duration = Duration::from_secs(30);

fn stage() -> Stage {
    testing::stage(env!("CARGO_BIN_EXE_framehaul"))
}

fn states(daemon: &Daemon) -> anyhow::Result<Vec<String>> {
    Ok(daemon.statuses()?.into_iter().map(|(_, status)| status.state).collect())
}

fn count(daemon: &Daemon, state: &str) -> anyhow::Result<usize> {
    Ok(states(daemon)?.iter().filter(|found| *found == state).count())
}

/// Waits until so many cameras stream and so many wait for a place, and no others are there.
fn settled(daemon: &Daemon, streaming: usize, queued: usize) -> anyhow::Result<()> {
    let reached = wait(PATIENCE, || {
        let found = (count(daemon, "streaming")?, count(daemon, "queued")?);
        Ok((found == (streaming, queued)).then_some(()))
    });
    reached.with_context(|| format!("not {streaming} streaming and {queued} queued: {:?}", states(daemon)))
}

#[test]
fn a_place_is_free_however_its_capture_process_ends() -> anyhow::Result<()> {
    let stage = stage();
    let more = format!("{}max_processes = 2\n[debug]\nfault_injection = true\n", stage.synthetic()?);
    let daemon = stage.daemon(&Storage::Directory, &more)?;
    for id in ["a", "b", "c", "d", "e", "f"] {
        daemon.put_camera(id, &Synthetic::new(id).fps(10.0).request())?;
    }
    settled(&daemon, 2, 4)?;
    let waiting = daemon.status("c")?;
    let error = waiting.last_error.context("no word on why it waits")?;
    assert_eq!((waiting.state.as_str(), &error["kind"], waiting.pid), ("queued", &json!("no_place"), None));
    assert!(error["message"].as_str().is_some_and(|said| said.contains("`capture.max_processes`")), "{error}");

    // Paused: the place is c's, which has waited longest.
    daemon.call(http::Method::POST, "/api/v1/cameras/a/pause", None)?;
    daemon.wait_for("c", PATIENCE, |status| status.state == "streaming" && status.last_error.is_none())?;
    daemon.delete_camera("a")?;
    settled(&daemon, 2, 3)?;

    // Killed: it waits for its next try, and d begins.
    let pid = daemon.status("b")?.pid.context("no capture process")?;
    kill_process(Pid::from_raw(pid.try_into()?).context("no process id")?, Signal::KILL)?;
    daemon.wait_for("d", PATIENCE, |status| status.state == "streaming")?;
    settled(&daemon, 2, 3)?;

    // A panic of its actor.
    daemon.inject_panic("actor=camera&id=c")?;
    daemon.wait_for("e", PATIENCE, |status| status.state == "streaming")?;
    settled(&daemon, 2, 3)?;

    // With fewer cameras than places nobody waits.
    for id in ["d", "e", "f"] {
        daemon.delete_camera(id)?;
    }
    settled(&daemon, 2, 0)
}

#[test]
fn a_capture_process_shows_what_it_takes_and_says_of_its_pictures() -> anyhow::Result<()> {
    let stage = stage();
    let more = format!("{}frozen_after = \"2s\"\n", stage.synthetic()?);
    let daemon = stage.daemon(&Storage::Directory, &more)?;
    daemon.put_camera("plain", &Synthetic::new("plain").request())?;
    let odd = Synthetic { damaged_every: 3, frozen: true, clock_ms: Some(-700), ..Synthetic::new("odd") };
    daemon.put_camera("odd", &json!({ "url": odd.url(), "damaged": "mark", "sampling": "keyframes" }))?;
    let wrong = Synthetic { clock_ms: Some(-9_800_000), ..Synthetic::new("wrong") };
    daemon.put_camera("wrong", &wrong.request())?;
    for id in ["plain", "odd", "wrong"] {
        daemon.wait_for(id, PATIENCE, |status| status.state == "streaming" && status.totals.stored > 60)?;
    }
    let status = |id: &str| -> anyhow::Result<Value> {
        let camera: Value = serde_json::from_str(&daemon.get(&format!("/api/v1/cameras/{id}"))?)?;
        Ok(camera["status"].clone())
    };
    let frozen = wait(PATIENCE, || Ok(Some(status("odd")?).filter(|status| status["frozen_since"].is_string())))?;
    let process = &frozen["process"];
    assert_eq!((&process["engine"], &process["pid"]), (&json!("ffmpeg"), &frozen["pid"]));
    assert!(process["private_bytes"].as_u64().is_some_and(|bytes| bytes > 100_000), "{process}");
    assert!(process["cpu_seconds"].as_f64().is_some_and(|seconds| (0.0..60.0).contains(&seconds)), "{process}");
    let offset = frozen["rtcp_offset_ms"].as_i64().context("no offset")?;
    assert!((-1_200..=-600).contains(&offset), "{offset}");
    let plain = status("plain")?;
    assert_eq!((&plain["frozen_since"], &plain["rtcp_offset_ms"]), (&Value::Null, &Value::Null));
    assert!(status("wrong")?["rtcp_offset_ms"].as_i64().is_some_and(|offset| offset < -9_000_000));
    let metrics = daemon.get("/metrics")?;
    for (id, value) in [("odd", 1), ("plain", 0)] {
        let line = format!("framehaul_camera_frozen{{camera=\"{id}\"}} {value}");
        assert!(metrics.contains(&line), "{line} is not in the metrics");
    }

    for (id, source) in [("odd", json!("rtcp")), ("plain", Value::Null), ("wrong", Value::Null)] {
        let page: Value = serde_json::from_str(&daemon.get(&format!("/api/v1/cameras/{id}/frames?limit=60"))?)?;
        let entries = page["entries"].as_array().context("no entries")?;
        let of = |kind: &'static str| entries.iter().filter(move |entry| entry["type"] == kind);
        assert!(of("session").count() == 1 && of("session").all(|session| session["time_source"] == source), "{page}");
        ensure!(of("frame").count() > 50, "few frames: {page}");
        for frame in of("frame") {
            let seq = frame["seq"].as_u64().context("no seq")?;
            let expected = if id == "odd" && seq % 3 == 0 { json!(true) } else { Value::Null };
            assert_eq!(frame["damaged"], expected, "seq {seq} of {id}");
        }
    }
    daemon.delete_camera("odd")?;
    assert!(!daemon.get("/metrics")?.contains("framehaul_camera_frozen{camera=\"odd\"}"));
    Ok(())
}
