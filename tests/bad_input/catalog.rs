//! A catalog that another version wrote, and changes that fall together with a death.

use anyhow::Context as _;
use serde_json::json;
use testbed::daemon::{Storage, wait};

use super::vocabulary::{PATIENCE, Request, cameras, get, leave, stage, until_streaming};

#[test]
fn a_camera_that_this_version_cannot_use_costs_itself_alone() -> anyhow::Result<()> {
    let (stage, server) = (stage()?, cameras("right")?);
    let mut daemon = stage.daemon(&Storage::Directory, "")?;
    for id in ["good", "odd"] {
        daemon.put_camera(id, &json!({ "url": server.url("open") }))?;
        until_streaming(&daemon, id)?;
    }
    daemon.stop()?;
    let journal = stage.dir().join("state/journal.sqlite");
    let written = rusqlite::Connection::open(&journal)?
        .execute("UPDATE camera SET spec = json_set(spec, '$.url', 'teleport://h/a') WHERE id = 'odd'", [])?;
    assert_eq!(written, 1);

    daemon.run()?;
    until_streaming(&daemon, "good")?;
    let odd = daemon.status("odd")?;
    let error = odd.last_error.clone().context("it has an error")?;
    assert_eq!((&*odd.state, &error["kind"]), ("failed", &json!("unusable")), "{odd:?}");
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.contains("scheme `teleport`") && message.contains("put it anew"), "{message}");
    // It is in the list, what was asked of it is still in the catalog, and nothing can be done with it but to put
    // another.
    assert_eq!(get(&daemon, "/api/v1/cameras/odd")?.status, 200);
    assert_eq!(Request::new("POST", "/api/v1/cameras/odd/restart").send(&daemon)?.status, 404);
    let kept: String =
        rusqlite::Connection::open(&journal)?
            .query_row("SELECT spec FROM camera WHERE id = 'odd'", [], |row| row.get(0))?;
    assert!(kept.contains("teleport"), "{kept}");

    daemon.put_camera("odd", &json!({ "url": server.url("open") }))?;
    until_streaming(&daemon, "odd")?;
    leave(daemon)
}

#[test]
fn a_change_that_meets_a_dead_sequencer_starts_one_not_two() -> anyhow::Result<()> {
    let (stage, server) = (stage()?, cameras("right")?);
    let daemon = stage.daemon(&Storage::Directory, "[debug]\nfault_injection = true")?;
    let spec = |quality| json!({ "url": server.url("open"), "jpeg_quality": quality });
    daemon.put_camera("a", &spec(85))?;
    until_streaming(&daemon, "a")?;
    // What is asked while the supervisor hangs is all there when it goes on: the panic, then the change, then the
    // death.
    let hang = Request::new("POST", "/api/v1/debug/hang?what=supervisor&seconds=2").send(&daemon)?;
    assert_eq!(hang.status, 202, "{hang:?}");
    let panic = Request::new("POST", "/api/v1/debug/panic?actor=sequencer&id=a")
        .header("Authorization", format!("Bearer {}", daemon.token()))
        .open(&daemon)?;
    daemon.put_camera("a", &spec(80))?;
    let before = daemon.status("a")?.watermark;
    wait(PATIENCE, || Ok((daemon.status("a")?.watermark > before + 20).then_some(())))?;
    drop(panic);
    let deaths = daemon.log_text().matches("the camera's sequencer died").count();
    assert!(deaths <= 1, "{deaths} deaths");
    leave(daemon)
}
