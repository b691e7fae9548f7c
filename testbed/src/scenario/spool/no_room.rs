//! The disk with the state is full, and somebody wants to change cameras: that is refused at once, everything else is
//! answered, and what was under way is made once there is room.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::super::stage::{add_synthetic, bucket};
use super::super::{Outcome, Problems, Stage};
use super::round;
use super::tmpfs::Tmpfs;
use crate::daemon::{Daemon, wait};
use crate::gcs::Knobs;
use crate::synthetic::Synthetic;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct NoRoom {
    /// The disk's size, MiB.
    pub disk_mib: u64,
    /// How long it stays full.
    pub lasts: Duration,
    /// In what time each request must be answered.
    pub answered: Duration,
}

const CAMERAS: &str = "/api/v1/cameras";
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer, or nothing may be mounted.
pub fn no_room(stage: &Stage, plan: &NoRoom) -> anyhow::Result<Outcome> {
    let (_gcs, storage) = bucket(stage, Knobs::default())?;
    let file = stage.dir().join("cameras.toml");
    let of_file = Synthetic::new("of-file").fps(1.0);
    fs::write(&file, "").context("cannot write the cameras")?;
    let config = format!("[cameras]\nfile = {}\n{}[spool]\nsegment = \"1MiB\"\n", json!(file), stage.synthetic()?);
    let mut daemon = stage.prepare_in("small", &storage, &config)?;
    let disk = Tmpfs::mount(&daemon.dir().join("state"), plan.disk_mib)?;
    daemon.run()?;
    let pid = daemon.pid();
    add_synthetic(&daemon, &[Synthetic::new("gate").fps(5.0)])?;
    let mut asked = Asked { slowest: Duration::ZERO, refused: 0, problems: Problems::default() };

    // The room that the journal has kept lasts for a while. What uses it up may be the camera's frames as well as a change:
    // then that one was refused before it began, and it is made full once more.
    let begun = Instant::now();
    let mut added = 0;
    let under_way = loop {
        ensure!(begun.elapsed() < Duration::from_secs(60), "the disk is full, and cameras can be added");
        disk.fill()?;
        let id = format!("more{added}");
        let path = format!("{CAMERAS}/{id}");
        let (status, answer) = asked.of(&daemon, Method::PUT, &path, Some(&camera(&id)))?;
        if status == StatusCode::SERVICE_UNAVAILABLE {
            asked.problems.check(answer.contains("`state.dir` is full"), || format!("the refusal says {answer}"));
            if answer.contains("is made once there is room") {
                break id;
            }
            disk.empty()?;
            wait(PATIENCE, || {
                Ok((daemon.call(Method::PUT, &path, Some(&camera(&id)))?.0 == StatusCode::CREATED).then_some(()))
            })
            .map_err(|error| daemon.explain(error))
            .with_context(|| format!("camera {id} was refused, and with room again it still is"))?;
        } else {
            ensure!(status == StatusCode::CREATED, "camera {id}: {status}: {answer}");
        }
        added += 1;
    };
    fs::write(&file, format!("[of-file]\nurl = {}\n", json!(of_file.url()))).context("cannot write the cameras")?;

    let begun = Instant::now();
    let mut looks = 0;
    while begun.elapsed() < plan.lasts {
        disk.fill()?;
        for (method, path, body) in [
            (Method::PUT, "/late", Some(camera("late"))),
            (Method::POST, "", Some(json!({ "name": "Late too", "url": Synthetic::new("late-too").url() }))),
            (Method::PUT, "", Some(json!({ "cameras": {} }))),
            (Method::DELETE, "/gate", None),
            (Method::POST, "/gate/pause", None),
        ] {
            let (status, answer) = asked.of(&daemon, method.clone(), &format!("{CAMERAS}{path}"), body.as_ref())?;
            asked.problems.check(status == StatusCode::SERVICE_UNAVAILABLE && answer.contains("`state.dir`"), || {
                format!("{method} {path}: {status}: {answer}")
            });
        }
        for path in [CAMERAS, "/api/v1/cameras/gate", "/livez", "/metrics"] {
            let (status, answer) = asked.of(&daemon, Method::GET, path, None)?;
            asked.problems.check(status == StatusCode::OK, || format!("GET {path}: {status}: {answer}"));
        }
        looks += 1;
    }
    let known = ids(&daemon)?;
    asked.problems.check(known.len() == added + 1 && !known.contains(&under_way), || {
        format!("with no room there are {known:?}, and {added} were added to `gate`")
    });
    // It is not answered, and holds up nothing either.
    daemon.hang_up()?;
    let (status, _) = asked.of(&daemon, Method::GET, CAMERAS, None)?;
    asked.problems.check(status == StatusCode::OK, || format!("after SIGHUP: {status}"));

    disk.empty()?;
    let freed = Instant::now();
    wait(PATIENCE, || Ok(ids(&daemon)?.contains(&under_way).then_some(())))
        .map_err(|error| daemon.explain(error))
        .with_context(|| format!("camera {under_way}, which was under way, was never added"))?;
    let made_after = freed.elapsed();
    // What SIGHUP asked for meanwhile is done as well, without being asked for again.
    wait(PATIENCE, || Ok(ids(&daemon)?.contains(&"of-file".to_owned()).then_some(())))
        .map_err(|error| daemon.explain(error))
        .context("the file of cameras was never read")?;
    let (status, answer) = asked.of(&daemon, Method::PUT, &format!("{CAMERAS}/late"), Some(&camera("late")))?;
    asked.problems.check(status == StatusCode::CREATED, || format!("with room again: {status}: {answer}"));
    let (status, answer) = asked.of(&daemon, Method::DELETE, &format!("{CAMERAS}/gate"), None)?;
    asked.problems.check(status == StatusCode::NO_CONTENT, || format!("with room again: {status}: {answer}"));
    let expected = |mut known: Vec<String>| {
        known.sort();
        let mut all: Vec<String> = (0..=added).map(|n| format!("more{n}")).collect();
        all.extend(["late".to_owned(), "of-file".to_owned()]);
        all.sort();
        known == all
    };
    let known = ids(&daemon)?;
    asked.problems.check(expected(known.clone()), || format!("in the end there are {known:?}"));
    asked.problems.check(daemon.pid() == pid, || "the daemon was started again".to_owned());
    let status = daemon.stop()?;
    asked.problems.check(status.success(), || format!("it ended with {status}"));
    daemon.run()?;
    let known = ids(&daemon)?;
    asked.problems.check(expected(known.clone()), || format!("after a start there are {known:?}"));

    asked.problems.check(asked.slowest <= plan.answered, || format!("an answer took {:.1?}", asked.slowest));
    let bound = format!(
        "with a full disk of {} MiB every change of the cameras is refused with 503 and every question answered, each within \
         {:?}; what was under way is made once there is room",
        plan.disk_mib, plan.answered
    );
    let figure = json!({
        "slowest_answer_s": round(asked.slowest.as_secs_f64()),
        "added_with_the_room_that_was_kept": added,
        "looks": looks,
        "made_after_s": round(made_after.as_secs_f64()),
    });
    let refused = asked.refused;
    Ok(asked.problems.outcome(bound, figure, refused))
}

/// What was asked, and what came of it.
struct Asked {
    slowest: Duration,
    refused: u64,
    problems: Problems,
}

impl Asked {
    fn of(
        &mut self,
        daemon: &Daemon,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(StatusCode, String)> {
        let begun = Instant::now();
        let (status, answer) = daemon.call(method, path, body).map_err(|error| daemon.explain(error))?;
        self.slowest = self.slowest.max(begun.elapsed());
        self.refused += u64::from(status == StatusCode::SERVICE_UNAVAILABLE);
        Ok((status, answer))
    }
}

fn camera(id: &str) -> Value {
    Synthetic::new(id).fps(0.2).request()
}

/// The cameras that there are.
fn ids(daemon: &Daemon) -> anyhow::Result<Vec<String>> {
    let set: Value = serde_json::from_str(&daemon.get(CAMERAS)?)?;
    let cameras = set["cameras"].as_array().context("there is no list of cameras")?;
    cameras.iter().map(|camera| Ok(camera["id"].as_str().context("a camera has no id")?.to_owned())).collect()
}
