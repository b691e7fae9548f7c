//! Capture processes that write garbage, fall silent, or end at once: their cameras are tried again, the others go on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::stage::{add, cameras, examine, until_streaming};
use super::{Outcome, Problems, Stage};
use crate::daemon::Storage;
use crate::synthetic::CAPTURES;

/// A capture program that behaves as the camera's URL says, and is the real one for all other cameras. It runs without
/// an environment, as every capture process does.
const PROGRAM: &str = r#"#!/bin/sh
read -r settings
case "$settings" in
    */noise*) exec head -c 1000000 /dev/urandom ;;
    */endless*) printf '\377\377\377\377'; exec cat /dev/zero ;;
    */short*) printf '\003\000\000\000\002ab'; exec sleep 60 ;;
    */mute*) exec sleep 60 ;;
    */gone*) exit 3 ;;
esac
{ printf '%s\n' "$settings"; exec cat; } | exec REAL
"#;

/// The behaviours, by path, and the kind of error each must show.
const BEHAVIOURS: [(&str, &str); 5] = [
    ("noise", "capture_crash"),
    ("endless", "capture_crash"),
    ("short", "capture_crash"),
    ("mute", "timeout"),
    ("gone", "capture_crash"),
];

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn garbage(stage: &Stage, program: &Path) -> anyhow::Result<Outcome> {
    let engines = stage.dir().join("engines");
    fs::create_dir(&engines).context("cannot make a directory for capture programs")?;
    for name in CAPTURES {
        let (fake, real) = (engines.join(name), program.with_file_name(name));
        fs::write(&fake, PROGRAM.replace("REAL", &real.display().to_string()))
            .context("cannot write the capture program")?;
        fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).context("cannot make it executable")?;
    }

    let server = cameras("good", 1, 10)?;
    let settings = format!("[capture]\nengine_dir = {}\nopen_timeout = \"1s\"", json!(engines));
    let daemon = stage.daemon(&Storage::Directory, &settings)?;
    let good = add(&daemon, &server)?;
    until_streaming(&daemon, &good, Duration::from_secs(30))?;
    for (path, _) in BEHAVIOURS {
        daemon.put_camera(path, &json!({ "url": format!("rtsp://127.0.0.1/{path}") }))?;
    }
    let mut problems = Problems::default();
    for (id, kind) in BEHAVIOURS {
        // The third start shows that the first failure did not stick.
        let status = daemon
            .wait_for(id, Duration::from_secs(40), |status| status.generation >= 3 && status.last_error.is_some())?;
        let found = status.last_error.map_or(json!(null), |error| error["kind"].clone());
        problems.check(found == kind, || format!("camera {id}: its error is {found}, not {kind}"));
    }
    daemon.quiesce(Duration::from_secs(30))?;
    let (verdict, _) = examine(&daemon, &Storage::Directory, &good[0], &mut problems)?;
    problems.check(verdict.sessions == 1 && verdict.tombstoned == 0, || "the good camera noticed".to_owned());
    let figure = json!({ "frames_of_the_good_camera": verdict.frames });
    Ok(problems.outcome("bad capture processes cost their own camera only", figure, BEHAVIOURS.len() as u64))
}
