//! Sixteen cameras of one host with a wrong password must not lock it.

use std::time::{Duration, Instant};

use serde_json::json;

use super::stage::until_streaming;
use super::{Outcome, Problems, Stage};
use crate::cameras::{CameraServer, CameraSpec, default_cache_dir};
use crate::daemon::{Storage, wait};

/// How many, and for how long.
#[derive(Debug, Clone)]
pub struct Logins {
    /// Cameras of the one host.
    pub cameras: usize,
    /// How long the wrong password stays.
    pub wrong_for: Duration,
    /// How many attempts the host may see in that time.
    pub most: u64,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn logins(stage: &Stage, plan: &Logins) -> anyhow::Result<Outcome> {
    let patience = Duration::from_secs(60 + 2 * plan.cameras as u64);
    let specs: Vec<CameraSpec> = (0..plan.cameras)
        .map(|i| CameraSpec::new(&format!("ch{i}")).size(320, 240).rate(5, 5).login("viewer", "right"))
        .collect();
    let server = CameraServer::start(&specs, 0, default_cache_dir())?;
    let mut daemon = stage.daemon(&Storage::Directory, "")?;
    let ids: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    let begun = Instant::now();
    for id in &ids {
        daemon.put_camera(id, &json!({ "url": server.url(id), "user": "viewer", "password": "wrong" }))?;
    }
    for id in &ids {
        daemon.wait_for(id, patience, |status| status.state == "auth_failed")?;
    }
    let at_first = server.refused_logins()?;
    // What is known of a login outlives the daemon.
    daemon.stop()?;
    daemon.run()?;
    for id in &ids {
        daemon.wait_for(id, patience, |status| status.state == "auth_failed")?;
    }
    let after_restart = server.refused_logins()?;
    // A trial is one more question, and is told to wait.
    let (status, answer) = daemon.call(
        hyper::Method::POST,
        "/api/v1/cameras:probe",
        Some(&json!({ "url": server.url(&ids[0]), "user": "viewer", "password": "wrong" })),
    )?;

    let mut problems = Problems::default();
    problems.check(at_first == 1, || format!("{at_first} attempts at first, where one would tell"));
    problems.check(after_restart == at_first, || format!("{after_restart} attempts after a restart"));
    problems.check(status.as_u16() == 429, || format!("a trial meanwhile was answered {status}: {answer}"));
    let mut seen = Vec::new();
    wait(plan.wrong_for + Duration::from_secs(10), || {
        let refused = server.refused_logins()?;
        if seen.last().is_none_or(|(_, count)| *count != refused) {
            seen.push((begun.elapsed().as_secs(), refused));
        }
        Ok((begun.elapsed() >= plan.wrong_for).then_some(()))
    })?;
    let refused = server.refused_logins()?;
    problems.check(refused <= plan.most, || format!("{refused} attempts in {:?}", plan.wrong_for));

    // The right password is tried at once, and not sixteen times before it is known to be right.
    for id in &ids {
        daemon.put_camera(id, &json!({ "url": server.url(id), "user": "viewer", "password": "right" }))?;
    }
    let changed = Instant::now();
    until_streaming(&daemon, &ids, patience)?;
    let mended = changed.elapsed().as_secs_f64();
    let at_the_end = server.refused_logins()?;
    problems.check(at_the_end == refused, || format!("{} attempts with the right password", at_the_end - refused));
    daemon.quiesce(patience)?;
    daemon.stop()?;
    let figure = json!({ "cameras": plan.cameras, "seconds": plan.wrong_for.as_secs(), "attempts": refused,
        "attempts_at": seen, "streaming_after_mending_s": (mended * 10.0).round() / 10.0 });
    let bound = format!(
        "{} cameras of one host with a wrong password: at most {} attempts in {:?}, none more for a restart of the daemon or a \
         trial; all stream after the password is right",
        plan.cameras, plan.most, plan.wrong_for
    );
    Ok(problems.outcome(bound, figure, refused))
}
