//! Many cameras in one change: a file that is read again, and a whole set that is replaced. What did not change notices
//! nothing.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::Context;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::stage::{cameras, examine, until_streaming};
use super::{Outcome, Problems, Stage};
use crate::cameras::CameraServer;
use crate::daemon::{Daemon, Storage};

/// How many, and how fast.
#[derive(Debug, Clone)]
pub struct Reload {
    /// Cameras of the file.
    pub cameras: usize,
    /// How many of them change.
    pub changed: usize,
    /// Frames a second of each.
    pub fps: u32,
    /// Frames of each camera before and after the change, at least.
    pub frames: u64,
}

const SET: &str = "/api/v1/cameras";

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn reload(stage: &Stage, plan: &Reload) -> anyhow::Result<Outcome> {
    // Some take a while to open on a busy machine, when all do at once.
    let patience = Duration::from_secs(60 + 2 * plan.cameras as u64);
    let server = cameras("cam", plan.cameras, plan.fps)?;
    let file = stage.dir().join("cameras.toml");
    let write = |changed: usize| fs::write(&file, cameras_file(&server, changed)).context("cannot write the cameras");
    write(0)?;
    let more = format!("[cameras]\nfile = {}\n[capture]\nopen_timeout = \"60s\"", json!(file));
    let mut daemon = stage.daemon(&Storage::Directory, &more)?;
    let ids: Vec<String> = server.specs().iter().map(|spec| spec.name.clone()).collect();
    until_streaming(&daemon, &ids, patience)?;
    until_captured(&daemon, &ids, plan.frames, patience)?;

    let mut problems = Problems::default();
    // A file that cannot be used changes nothing.
    let before = generations(&daemon)?;
    let mut faults = 0;
    fs::write(&file, "[cam0]\nurl = \"exec:ls\"").context("cannot write the cameras")?;
    let refused = daemon.log_text().matches("nothing is changed").count();
    daemon.hang_up()?;
    crate::daemon::wait(patience, || {
        Ok((daemon.log_text().matches("nothing is changed").count() > refused).then_some(()))
    })
    .context("a bad file was not refused")?;
    faults += 1;
    problems.check(generations(&daemon)? == before, || "a bad file changed something".to_owned());

    write(plan.changed)?;
    daemon.reload(patience)?;
    let changed = &ids[..plan.changed];
    for id in changed {
        let session = Some(2);
        daemon.wait_for(id, patience, |status| status.state == "streaming" && status.session >= session)?;
    }
    until_captured(&daemon, &ids, 2 * plan.frames, patience)?;
    let sets = replaces_sets(&daemon, &server, &ids, &mut faults, &mut problems)?;

    // An empty file ends them all.
    fs::write(&file, "").context("cannot write the cameras")?;
    daemon.reload(patience)?;
    daemon.quiesce(patience)?;
    let (mut untouched_lost, mut frames) = (0, 0);
    for (place, id) in ids.iter().enumerate() {
        let (verdict, _) = examine(&daemon, &Storage::Directory, id, &mut problems)?;
        frames += verdict.frames;
        let sessions = if place < plan.changed { 2 } else { 1 };
        problems.check(verdict.sessions == sessions, || {
            format!("camera {id}: {} sessions, not {sessions}", verdict.sessions)
        });
        if place >= plan.changed {
            untouched_lost += verdict.tombstoned;
        }
    }
    problems.check(untouched_lost == 0, || format!("cameras that did not change lost {untouched_lost} frames"));
    daemon.stop()?;
    let figure = json!({ "cameras": plan.cameras, "changed": plan.changed, "frames": frames,
        "lost_by_unchanged": untouched_lost, "sets": sets });
    let bound = format!(
        "SIGHUP with {} cameras of {} fps, of which {} changed: the others go on in their one session and lose 0 frames by \
         their pixels; a set with a stale ETag: 412 and nothing changed",
        plan.cameras, plan.fps, plan.changed
    );
    Ok(problems.outcome(bound, figure, faults))
}

/// The file, with the first `changed` cameras asked for another quality.
fn cameras_file(server: &CameraServer, changed: usize) -> String {
    let mut text = String::new();
    for (place, spec) in server.specs().iter().enumerate() {
        let quality = if place < changed { 70 } else { 85 };
        let _ = writeln!(text, "[{}]\nurl = {}\njpeg_quality = {quality}", spec.name, json!(server.url(&spec.name)));
    }
    text
}

fn generations(daemon: &Daemon) -> anyhow::Result<Vec<(String, u64)>> {
    Ok(daemon.statuses()?.into_iter().map(|(id, status)| (id, status.generation)).collect())
}

fn until_captured(daemon: &Daemon, ids: &[String], frames: u64, patience: Duration) -> anyhow::Result<()> {
    for id in ids {
        daemon.wait_for(id, patience, |status| status.totals.captured >= frames)?;
    }
    Ok(())
}

/// Replaces the set that requests manage, beside the cameras of the file, rightly and wrongly; the latter are `faults`.
fn replaces_sets(
    daemon: &Daemon,
    server: &CameraServer,
    ids: &[String],
    faults: &mut u64,
    problems: &mut Problems,
) -> anyhow::Result<Value> {
    let url = server.url(&ids[0]);
    let before = catalog(daemon)?;
    let (status, tag) = put_set(daemon, &json!({ "extra": { "url": url } }), None)?;
    problems.check(status == StatusCode::OK, || format!("a set without a condition was answered {status}"));
    let stale = before.1;
    let after = catalog(daemon)?;
    problems
        .check(after.1 != stale && after.1 == tag, || "the set's ETag does not tell it from the one before".to_owned());
    let mut answers = vec![status.as_u16()];
    for (what, set, tag, wanted) in [
        ("a stale ETag", json!({ "other": { "url": url } }), Some(&stale), StatusCode::PRECONDITION_FAILED),
        ("a camera of the file", json!({ &ids[1]: { "url": url } }), Some(&tag), StatusCode::CONFLICT),
        (
            "one camera that cannot be used",
            json!({ "good": { "url": url }, "bad": { "url": "exec:ls" } }),
            Some(&tag),
            StatusCode::UNPROCESSABLE_ENTITY,
        ),
    ] {
        let (status, _) = put_set(daemon, &set, tag)?;
        *faults += 1;
        answers.push(status.as_u16());
        problems.check(status == wanted, || format!("{what}: {status}"));
        problems.check(catalog(daemon)? == after, || format!("{what}: something was changed"));
    }
    let (status, _) = put_set(daemon, &json!({}), Some(&tag))?;
    answers.push(status.as_u16());
    problems.check(status == StatusCode::OK, || format!("the empty set was answered {status}"));
    let left: Vec<String> = catalog(daemon)?.0.into_iter().map(|(id, ..)| id).collect();
    problems.check(left.iter().all(|id| ids.contains(id)) && left.len() == ids.len(), || {
        format!("the empty set left {} cameras", left.len())
    });
    Ok(json!({ "answers": answers }))
}

/// A camera with its manager and its revision.
type Known = (String, String, u64);

/// Every camera, and the set's ETag.
fn catalog(daemon: &Daemon) -> anyhow::Result<(Vec<Known>, String)> {
    let url = format!("{}{SET}", daemon.address());
    let (status, headers, body) = daemon.http().send_with(Method::GET, &url, Some(daemon.token()), None, &[])?;
    anyhow::ensure!(status == StatusCode::OK, "GET {SET}: {status}");
    let answer: Value = serde_json::from_slice(&body)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let cameras = answer["cameras"].as_array().context("no cameras")?.iter();
    let cameras = cameras.map(|camera| {
        (text(&camera["id"]), text(&camera["managed_by"]), camera["revision"].as_u64().unwrap_or_default())
    });
    Ok((cameras.collect(), etag(&headers)?))
}

fn put_set(daemon: &Daemon, cameras: &Value, if_match: Option<&String>) -> anyhow::Result<(StatusCode, String)> {
    let url = format!("{}{SET}", daemon.address());
    let headers: Vec<(&str, &str)> = if_match.iter().map(|tag| ("if-match", tag.as_str())).collect();
    let body = json!({ "cameras": cameras }).to_string();
    let (status, headers, _) =
        daemon.http().send_with(Method::PUT, &url, Some(daemon.token()), Some(body), &headers)?;
    Ok((status, if status.is_success() { etag(&headers)? } else { String::new() }))
}

fn etag(headers: &hyper::HeaderMap) -> anyhow::Result<String> {
    Ok(headers.get("etag").context("no ETag")?.to_str()?.to_owned())
}
