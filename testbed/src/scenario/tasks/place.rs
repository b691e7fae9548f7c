//! A daemon with tasks, a token for its workers, and what its API says of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Storage};
use crate::private::write_private;
use crate::scenario::Stage;

/// A daemon whose tasks workers do.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) daemon: Daemon,
    program: PathBuf,
    dir: PathBuf,
}

/// A task as it is listed.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Task {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) attempts: u32,
    pub(super) worker: Option<String>,
    /// What its worker told of it, if anything.
    result: Option<Value>,
    /// Why its last attempt failed, if it did.
    pub(super) error: Option<Value>,
}

impl Task {
    /// Whether this worker has it, or what it does beside it: these have a number behind its name.
    pub(super) fn is_held_by(&self, name: &str) -> bool {
        let is_its = |rest: &str| rest.is_empty() || rest.starts_with('-');
        let is_its = self.worker.as_deref().and_then(|worker| worker.strip_prefix(name)).is_some_and(is_its);
        is_its && matches!(self.state.as_str(), "leased" | "running")
    }

    /// So much of what its worker told; nothing where it told nothing.
    pub(super) fn told(&self, field: &str) -> Option<u64> {
        self.result.as_ref()?[field].as_u64()
    }
}

impl Place {
    /// Starts a daemon, with `more` in its configuration, that comes back to the same address whenever it is started again.
    pub(super) fn new(stage: &Stage, name: &str, more: &str) -> anyhow::Result<Self> {
        let mut daemon = stage.daemon_in(name, &Storage::Directory, more)?;
        let address = daemon.address().trim_start_matches("http://").to_owned();
        daemon.env("FRAMEHAUL__HTTP__LISTEN", address);
        let dir = stage.dir().join(format!("{name}-workers"));
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let place = Self { daemon, program: stage.program().to_owned(), dir };
        write_private(&place.token_file(), &place.daemon.new_token("workers", "worker")?)
            .context("cannot write a token")?;
        Ok(place)
    }

    /// Where workers may write what they say.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn token_file(&self) -> PathBuf {
        self.dir.join("worker.token")
    }

    /// Asks for exports, all of which must be accepted, one task each.
    pub(super) fn job(&self, rows: &[Value]) -> anyhow::Result<String> {
        let (status, text) = self.daemon.call(Method::POST, "/api/v1/exports", Some(&json!(rows)))?;
        ensure!(status.is_success(), "the tasks are refused: {status}: {text}");
        let answer: Value = serde_json::from_str(&text).context("an answer that is no JSON")?;
        ensure!(answer["tasks"] == rows.len(), "{} rows are {} tasks", rows.len(), answer["tasks"]);
        answer["id"].as_str().map(str::to_owned).context("the export has no id")
    }

    /// How an export stands.
    pub(super) fn state(&self, job: &str) -> anyhow::Result<Value> {
        serde_json::from_str(&self.daemon.get(&format!("/api/v1/exports/{job}"))?)
            .context("an export is told otherwise")
    }

    /// All of its tasks, of which there may be a thousand.
    pub(super) fn tasks(&self, job: &str) -> anyhow::Result<Vec<Task>> {
        #[derive(Deserialize)]
        struct List {
            tasks: Vec<Task>,
            more: bool,
        }
        let text = self.daemon.get(&format!("/api/v1/exports/{job}/tasks?limit=1000"))?;
        let List { tasks, more } = serde_json::from_str(&text).context("tasks are told otherwise")?;
        ensure!(!more, "more than a thousand tasks");
        Ok(tasks)
    }

    /// A worker of this name that stores below `to`.
    pub(super) fn worker(&self, name: &str, to: &str, endpoint: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["worker", "--verbose", "--server", self.daemon.address(), "--name", name, "--to", to]);
        command.arg("--token-file").arg(self.token_file());
        with_storage(&mut command, endpoint);
        command
    }

    /// All recordings of a recorder into a directory, without a server.
    pub(super) fn export(&self, recorder: &str, user: &str, password_file: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["export", "--all", "--server", recorder, "--username", user, "--password-file"]);
        command.arg(password_file).arg("--to").arg(format!("file://{}", self.dir.join("by-hand").display()));
        command.env("NO_PROXY", "127.0.0.1").stdin(Stdio::null());
        command
    }

    /// The shell script that does the same without them.
    pub(super) fn script(&self, to: &str, endpoint: &str) -> anyhow::Result<Command> {
        let script = std::path::absolute("docs/worker.sh").context("there is no directory that we are in")?;
        ensure!(script.is_file(), "there is no {}", script.display());
        let mut command = Command::new(script);
        command.arg(self.daemon.address()).arg(self.token_file()).arg(to).current_dir(&self.dir);
        let others = std::env::var_os("PATH").unwrap_or_default();
        let first = self.program.parent().context("the program lies in a directory")?.to_owned();
        let path = std::env::join_paths([first].into_iter().chain(std::env::split_paths(&others)));
        command.env("PATH", path.context("a directory of programs has a colon in it")?);
        with_storage(&mut command, endpoint);
        Ok(command)
    }
}

/// Says where `gs://` is.
fn with_storage(command: &mut Command, endpoint: &str) {
    command.env("FRAMEHAUL__STORAGE__ENDPOINT", endpoint).env("FRAMEHAUL__STORAGE__CREDENTIALS", "anonymous");
    command.env("NO_PROXY", "127.0.0.1").stdin(Stdio::null());
}
