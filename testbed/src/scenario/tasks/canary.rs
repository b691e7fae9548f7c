//! A recorder's password through all that cameras and tasks do with it, and everywhere it could show.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::crew::Member;
use super::place::Place;
use super::search::{Search, Watch};
use crate::daemon::wait;
use crate::nvr::{Channel, Knobs, NvrServer, Options};
use crate::private::write_private;
use crate::scenario::recorder::place::channels;
use crate::scenario::stage::{BUCKET, bucket};
use crate::scenario::{Outcome, Problems, Stage};

const PATIENCE: Duration = Duration::from_secs(180);
const USER: &str = "admin";
/// Channels of the recorder.
const CHANNELS: u32 = 3;
/// Programs that must have been looked at.
const PROGRAMS: [&str; 5] =
    ["framehaul serve", "framehaul worker", "framehaul worker --lease", "framehaul export", "framehaul-capture-ffmpeg"];

/// Everything that talks about the password, or could.
struct Scene {
    place: Place,
    recorder: NvrServer,
    password: String,
    worker: String,
    search: Arc<Search>,
    /// Exports that were accepted.
    jobs: Vec<String>,
    answers: u64,
}

/// Plants a password and looks for it.
///
/// # Errors
///
/// When a part does not start or does not answer, or the search finds nothing where it has to.
pub fn recorder_canary(stage: &Stage) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    // Made to break whoever takes it for a URL or for percent-encoded; no other run on this machine has the same.
    let password = format!("p%40:/#w{}", std::process::id());
    finds_what_is_planted(&password)?;
    let (gcs, _) = bucket(stage, crate::gcs::Knobs::default())?;
    let like = Channel { pictures: 50, least_bytes: 60_000, ..Channel::default() };
    let recorder = NvrServer::start(Options {
        user: USER.to_owned(),
        password: password.clone(),
        channels: channels(&[4; CHANNELS as usize], &like),
        knobs: Knobs { bytes_per_s: Some(60_000), ..Knobs::default() },
        ..Options::default()
    })?;
    let search = Arc::new(Search::new(USER, &password));
    let watch = Watch::start(search.clone());
    let place = Place::new(stage, "server", "[log]\nfilter = \"trace\"\n[tasks]\nlease = \"5s\"\n")?;
    let worker = place.daemon.new_token("tester", "worker")?;
    let mut scene = Scene { place, recorder, password, worker, search, jobs: Vec::new(), answers: 0 };

    scene.cameras()?;
    let with_holders = scene.holders()?;
    scene.tasks(&gcs.endpoint())?;
    scene.wrong_from_now_on(&gcs.endpoint())?;
    scene.everything()?;

    let state = scene.place.daemon.dir().join("state");
    let secrets = [state.join("secrets.json"), state.join("export-secrets")];
    let secrets: Vec<&Path> = secrets.iter().map(std::path::PathBuf::as_path).collect();
    let with_secrets = scene.search.files(stage.dir(), &secrets)?;
    problems.check(with_secrets >= 2, || format!("{with_secrets} files of secrets hold it: the search finds nothing"));
    scene.remove()?;
    scene.place.daemon.stop()?;
    // Nothing of it is left with what needed it.
    scene.search.files(stage.dir(), &[])?;
    let programs = watch.end();
    for program in PROGRAMS {
        problems.check(programs.contains(program), || format!("no `{program}` was looked at: {programs:?}"));
    }
    let log = scene.place.daemon.log_text();
    problems.check(log.contains("TRACE"), || "not everything was logged".to_owned());
    let (hits, shown) = scene.search.hits();
    problems.check(hits == 0, || format!("the password shows {hits} times: {}", shown.join(" | ")));
    let bound = "a recorder's password through cameras, sheets, tasks, failures, a wrong login and a kill -9: 0 hits in logs \
                 (of everything), answers, metrics, arguments and environments of all processes, sheets written back and \
                 files; it is in the files of secrets, and with holders of leases";
    let figure = json!({
        "hits": hits,
        "texts_searched": scene.search.texts(),
        "answers_searched": scene.answers,
        "log_bytes": log.len(),
        "programs_seen": programs,
        "holders_that_got_it": with_holders,
        "files_of_secrets_with_it": with_secrets,
    });
    // It was killed once, and the password was changed once.
    Ok(problems.outcome(bound, figure, 2))
}

/// The search finds a password that a process was given, or else that there is none says nothing.
fn finds_what_is_planted(password: &str) -> anyhow::Result<()> {
    for planted in ["argument", "environment"] {
        let search = Arc::new(Search::new(USER, password));
        let watch = Watch::start(search.clone());
        let mut command = Command::new("cat");
        match planted {
            "argument" => command.args(["-", password]),
            _ => command.env("PLANTED", password),
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let found = wait(PATIENCE, || Ok((search.hits().0 > 0).then_some(())));
        // It reads to the end of its input.
        drop(child.stdin.take());
        child.wait().context("cat does not end")?;
        watch.end();
        found.with_context(|| format!("a password in the {planted} of a process is not found"))?;
    }
    Ok(())
}

impl Scene {
    /// Asks as an operator; the password must not be in what is answered.
    fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let daemon = &self.place.daemon;
        let url = format!("{}{path}", daemon.address());
        let body = body.map(|(kind, body)| (kind, Bytes::from(body)));
        let what = format!("the answer to {method} {path}");
        let (status, head, answer) = daemon.http().send_body(method, &url, Some(daemon.token()), body, &[])?;
        self.search.look(&what, format!("{head:?}").as_bytes());
        match answer.starts_with(b"PK") {
            true => self.search.look_into(&what, &answer)?,
            false => self.search.look(&what, &answer),
        }
        self.answers += 1;
        Ok((status, answer))
    }

    fn json(&mut self, method: Method, path: &str, body: &Value, wanted: u16) -> anyhow::Result<Value> {
        let (status, answer) = self.ask(method, path, Some(("application/json", body.to_string().into_bytes())))?;
        let text = String::from_utf8_lossy(&answer);
        ensure!(status.as_u16() == wanted, "{path}: {status}: {text}");
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        let (status, answer) = self.ask(Method::GET, path, None)?;
        ensure!(status.is_success(), "{path}: {status}: {}", String::from_utf8_lossy(&answer));
        Ok(serde_json::from_slice(&answer).unwrap_or_default())
    }

    /// Asks as a worker, who may be told.
    fn work(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let daemon = &self.place.daemon;
        let url = format!("{}/api/v1/leases{path}", daemon.address());
        let (status, answer) = daemon.http().send(Method::POST, &url, Some(&self.worker), Some(body.to_string()))?;
        ensure!(status == StatusCode::OK, "{path}: {status}: {}", String::from_utf8_lossy(&answer));
        Ok(serde_json::from_slice(&answer)?)
    }

    fn row(&self, channel: u32) -> Value {
        json!({
            "host": self.recorder.host(), "user": USER, "password": self.password, "channels": channel.to_string(),
            "start": "2026-11-19 00:00", "end": "2026-11-19 23:59", "sessions": 2,
        })
    }

    fn export(&mut self, kind: &str, sheet: Vec<u8>) -> anyhow::Result<String> {
        let (status, answer) = self.ask(Method::POST, "/api/v1/exports", Some((kind, sheet)))?;
        let answer: Value = serde_json::from_slice(&answer)?;
        ensure!(status == StatusCode::CREATED, "{status}: {answer}");
        let id = answer["id"].as_str().context("an export has an id")?.to_owned();
        self.jobs.push(id.clone());
        Ok(id)
    }

    /// The recorder's channels as cameras.
    fn cameras(&mut self) -> anyhow::Result<()> {
        self.put(201)?;
        let streaming = || {
            let statuses = self.place.daemon.statuses()?;
            let all = statuses.iter().filter(|(_, status)| status.state == "streaming" && status.totals.stored > 0);
            Ok((all.count() == CHANNELS as usize).then_some(()))
        };
        wait(PATIENCE, streaming).context("its cameras do not stream")
    }

    fn put(&mut self, wanted: u16) -> anyhow::Result<()> {
        let spec = json!({
            "url": self.recorder.endpoint(), "user": USER, "password": self.password, "sampling": { "fps": 1 },
        });
        self.json(Method::PUT, "/api/v1/nvrs/hall", &spec, wanted).map(drop)
    }

    /// Those who hold a task get it: how many did. What they repeat of it is shown to nobody.
    fn holders(&mut self) -> anyhow::Result<usize> {
        // A line of text, which is over when the same one asks again.
        // It says no span.
        let mut row = self.row(1);
        row.as_object_mut().context("a row is an object")?.retain(|name, _| name != "start" && name != "end");
        self.export("application/json", json!([row]).to_string().into_bytes())?;
        let next = |scene: &Self| -> anyhow::Result<String> {
            let daemon = &scene.place.daemon;
            let url = format!("{}/api/v1/tasks/next?worker=reader&wait=0s", daemon.address());
            Ok(String::from_utf8_lossy(&daemon.http().get(&url, Some(&scene.worker))?).into_owned())
        };
        let line = next(self)?;
        ensure!(self.search.is_in(line.as_bytes()), "the line has no password: {line}");
        ensure!(next(self)? == "the end", "one task is all there was");
        let mut holders = 1;

        let mut wrong = self.row(1);
        wrong["start"] = json!(self.password);
        self.json(Method::POST, "/api/v1/exports", &json!([wrong]), 422)?;
        self.export("application/json", json!([self.row(1)]).to_string().into_bytes())?;
        let ask = json!({ "worker": "reader", "wait": "1s" });
        for word in ["fail", "complete"] {
            let lease = self.work("", &ask)?;
            ensure!(lease["task"]["password"] == self.password, "the lease has no password");
            holders += 1;
            let id = lease["id"].as_str().context("a lease has an id")?;
            let mut body = json!({ "number": lease["number"] });
            if word == "fail" {
                let message = format!("cannot open rtsp://{USER}:{}@10.0.0.5/", self.password);
                body = json!({ "number": lease["number"], "kind": "unreachable", "message": message, "retry": true, "after": "0s" });
            }
            let said = self.work(&format!("/{id}/{word}"), &body)?;
            self.search.look(word, said.to_string().as_bytes());
            self.everything()?;
        }
        Ok(holders)
    }

    /// Exports of every form of a sheet, by a worker and by the shell script; the server is killed meanwhile.
    fn tasks(&mut self, endpoint: &str) -> anyhow::Result<()> {
        let rows: Vec<Value> = (1..=CHANNELS).map(|channel| self.row(channel)).collect();
        self.export("application/json", json!(rows).to_string().into_bytes())?;
        let (host, password) = (self.recorder.host().to_owned(), self.password.clone());
        let bare = format!("{USER},\"{password}\",{host},101\n");
        self.export("text/csv", bare.into_bytes())?;
        let hikload = format!(
            "--server {host} --username {USER} --password '{password}' --cameras 201 --starttime 2026-11-19T00:00:00 \
             --endtime 2026-11-19T23:59:59"
        );
        self.export("application/json", json!([{ "args": hikload }]).to_string().into_bytes())?;
        let to = format!("gs://{BUCKET}");
        let mut worker = Member::worker(&self.place, "looked-at".to_owned(), &to, endpoint)?;
        let script = Member::start("script".to_owned(), &mut self.script(&to, endpoint)?, self.place.dir())?;
        self.until(|scene| Ok(scene.recorder.stats().downloads.sessions > 0))?;
        self.everything()?;
        self.place.daemon.kill()?;
        self.place.daemon.run()?;
        self.everything()?;
        self.until_over()?;
        wait(PATIENCE, || Ok(script.has_ended()?.then_some(()))).context("docs/worker.sh does not end")?;
        self.everything()?;
        ensure!(worker.end()?, "the worker did not end in good order");
        self.by_hand()
    }

    /// An export without a server, whose file of the password is there for as long as it runs.
    fn by_hand(&mut self) -> anyhow::Result<()> {
        let file = self.place.dir().join("by-hand.password");
        write_private(&file, &self.password).context("cannot write the password")?;
        let output = self.place.export(self.recorder.host(), USER, &file).output().context("cannot export")?;
        self.search.look("what an export says", &[output.stdout, output.stderr].concat());
        ensure!(output.status.success(), "an export by hand ended with {}", output.status);
        fs::remove_file(&file).context("cannot remove the password")
    }

    /// The script, with its files where they are looked at.
    fn script(&self, to: &str, endpoint: &str) -> anyhow::Result<Command> {
        let mut command = self.place.script(to, endpoint)?;
        command.env("TMPDIR", self.place.dir());
        Ok(command)
    }

    /// The recorder takes another password: what failed says why.
    fn wrong_from_now_on(&mut self, endpoint: &str) -> anyhow::Result<()> {
        self.recorder.change_password("another");
        let job = self.export("application/json", json!([self.row(1)]).to_string().into_bytes())?;
        let mut worker = Member::worker(&self.place, "refused".to_owned(), &format!("gs://{BUCKET}"), endpoint)?;
        self.until_over()?;
        ensure!(worker.end()?, "the worker did not end in good order");
        let state = self.get(&format!("/api/v1/exports/{job}"))?;
        ensure!(state["counts"]["failed"] == 1, "a wrong password fails: {state}");
        self.put(200)?;
        self.until(|scene| Ok(scene.get("/api/v1/nvrs/hall/status")?["state"] == "auth_failed"))
    }

    fn until(&mut self, mut so: impl FnMut(&mut Self) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        wait(PATIENCE, || Ok(so(self)?.then_some(())))
    }

    fn until_over(&mut self) -> anyhow::Result<()> {
        let jobs = self.jobs.clone();
        let over = |scene: &mut Self| {
            for job in &jobs {
                if scene.get(&format!("/api/v1/exports/{job}"))?["ended_at"].is_null() {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        self.until(over).context("not all tasks come to their end")
    }

    /// Every answer that there is for somebody who only looks.
    fn everything(&mut self) -> anyhow::Result<()> {
        let fixed = [
            "/livez",
            "/readyz",
            "/metrics",
            "/api/v1/cameras?deleted=true",
            "/api/v1/exports",
            "/api/v1/nvrs",
            "/api/v1/destinations",
            "/api/v1/batches",
            "/api/v1/nvrs/hall",
            "/api/v1/nvrs/hall/status",
            "/api/v1/nvrs/hall/channels",
            "/api/v1/nvrs/hall/recordings?channel=1",
        ];
        let mut paths: Vec<String> = fixed.map(str::to_owned).into();
        for camera in (1..=CHANNELS).map(|channel| format!("/api/v1/cameras/hall-ch{channel:02}")) {
            paths.extend(["", "/frames", "/snapshot.jpg"].map(|more| format!("{camera}{more}")));
        }
        for job in &self.jobs {
            let export = format!("/api/v1/exports/{job}");
            paths.extend(
                ["", "/tasks", "/tasks?format=csv", "/tasks?format=xlsx"].map(|more| format!("{export}{more}")),
            );
        }
        for path in paths {
            // Some of them say that it is not so now, which is an answer too.
            self.ask(Method::GET, &path, None)?;
        }
        Ok(())
    }

    /// Removes all that has the password.
    fn remove(&mut self) -> anyhow::Result<()> {
        for job in self.jobs.clone() {
            let (status, _) = self.ask(Method::DELETE, &format!("/api/v1/exports/{job}"), None)?;
            ensure!(status == StatusCode::NO_CONTENT, "export {job} cannot be removed: {status}");
        }
        self.jobs.clear();
        let (status, _) = self.ask(Method::DELETE, "/api/v1/nvrs/hall", None)?;
        ensure!(status == StatusCode::NO_CONTENT, "the recorder cannot be removed: {status}");
        Ok(())
    }
}
