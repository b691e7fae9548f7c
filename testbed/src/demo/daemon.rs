//! framehaul as the demo's child. Unlike [`crate::daemon`]'s it has a process group of its own: Ctrl-C is for the demo alone, which
//! asks the daemon for its lists afterwards.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use hyper::{Method, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use url::Url;

use crate::daemon::Status;
use crate::oracle::Http;

/// How long the daemon may take from its start until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long it may take from SIGTERM to its end; its own deadline for frames is 10 s.
const GONE_WITHIN: Duration = Duration::from_secs(20);
/// How many lines of its log are shown when it fails.
const LOG_LINES: usize = 15;

/// A running daemon. Dropping it kills the daemon; [`stop`](Self::stop) is the kind way.
pub(super) struct Daemon {
    child: Child,
    log: PathBuf,
    token_file: PathBuf,
    api: Api,
}

impl Daemon {
    /// Writes a configuration into `dir`, an absolute path, starts `program` with it and returns when it is ready. State, frames
    /// and log are in `dir` as well.
    pub(super) async fn start(program: &Path, dir: &Path) -> anyhow::Result<Self> {
        let (state, log, config) = (dir.join("state"), dir.join("framehaul.log"), dir.join("framehaul.toml"));
        std::fs::write(&config, configuration(&state, &dir.join("frames"))?)
            .with_context(|| format!("cannot write {}", config.display()))?;
        let output = std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = Command::new(program)
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("cannot share the log file")?)
            .stderr(output)
            // Ctrl-C reaches only us; the daemon goes on until we are done with it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!("cannot start {}: build it with `make build`, or name it with --framehaul", program.display())
            })?;
        let api = Api { http: Http::new()?, address: String::new(), token: String::new() };
        let mut daemon = Self { child, log, token_file: state.join("admin.token"), api };
        daemon.until_ready(&state.join("http.addr")).await?;
        Ok(daemon)
    }

    /// Its API.
    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// The file that holds the API's bearer token.
    pub(super) fn token_file(&self) -> &Path {
        &self.token_file
    }

    /// Adds to an error that the daemon has ended, if it has, and the end of its log.
    pub(super) fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        match self.child.try_wait() {
            Ok(Some(status)) => error.context(self.obituary(status)),
            _ => error,
        }
    }

    /// Sends SIGTERM and waits for the end. Kills a daemon that takes too long; that is an error, as is a failure of its own.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait().context("cannot look after framehaul")? {
            bail!(self.obituary(status));
        }
        let pid = self.child.id().and_then(|id| Pid::from_raw(id as i32)).context("framehaul has no process id")?;
        // Not waited for yet, so that the id is still its own.
        kill_process(pid, Signal::TERM).context("cannot send SIGTERM to framehaul")?;
        match timeout(GONE_WITHIN, self.child.wait()).await {
            Ok(status) => {
                let status = status.context("cannot wait for framehaul")?;
                ensure!(status.success(), self.obituary(status));
                Ok(())
            }
            Err(_) => {
                self.child.kill().await.context("cannot kill framehaul")?;
                bail!(
                    "framehaul did not end within {GONE_WITHIN:?} of SIGTERM and was killed; its log is {}",
                    self.log.display()
                )
            }
        }
    }

    async fn until_ready(&mut self, address_file: &Path) -> anyhow::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(status) = self.child.try_wait().context("cannot look after framehaul")? {
                bail!(self.obituary(status));
            }
            let why = match self.try_ready(address_file) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if Instant::now() > deadline {
                let what = format!("framehaul is not ready after {READY_WITHIN:?}; its log is {}", self.log.display());
                return Err(why.context(what));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    fn try_ready(&mut self, address_file: &Path) -> anyhow::Result<()> {
        let read = |path: &Path| {
            std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))
                .map(|text| text.trim().to_owned())
        };
        self.api.address = format!("http://{}", read(address_file)?);
        self.api.token = read(&self.token_file)?;
        let (status, answer) = self.api.send(Method::GET, "/readyz", None)?;
        ensure!(status.is_success(), "GET /readyz: {status}: {answer}");
        Ok(())
    }

    fn obituary(&self, status: ExitStatus) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.trim_end().lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        format!("framehaul has ended ({status}); the end of {}:\n{last}", self.log.display())
    }
}

/// The daemon's configuration: all defaults but its places and a free port.
fn configuration(state: &Path, frames: &Path) -> anyhow::Result<String> {
    let state = state.to_str().context("the data directory's path is not UTF-8: choose another with --data-dir")?;
    let Ok(frames) = Url::from_file_path(frames) else { bail!("no file:// URL for {}", frames.display()) };
    // A JSON text is a TOML text.
    let (state, frames) = (json!(state), json!(frames.as_str()));
    Ok(format!("[state]\ndir = {state}\n\n[http]\nlisten = \"127.0.0.1:0\"\n\n[storage]\nurl = {frames}\n"))
}

/// The part of the daemon's API that the demo needs. Its calls block, for some milliseconds.
#[derive(Debug)]
pub(super) struct Api {
    http: Http,
    address: String,
    token: String,
}

/// A camera as the API shows it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Camera {
    pub(super) id: String,
    pub(super) status: Status,
}

impl Api {
    /// `http://host:port`
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The bearer token.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Adds a camera, or changes it.
    pub(super) fn put_camera(&self, id: &str, spec: &Value) -> anyhow::Result<()> {
        let (status, answer) = self.send(Method::PUT, &format!("/api/v1/cameras/{id}"), Some(spec))?;
        ensure!(status.is_success(), "cannot add camera `{id}`: {status}: {answer}");
        Ok(())
    }

    /// Removes a camera. It may be gone already: people try the API while the demo runs.
    pub(super) fn delete_camera(&self, id: &str) -> anyhow::Result<()> {
        let (status, answer) = self.send(Method::DELETE, &format!("/api/v1/cameras/{id}"), None)?;
        ensure!(
            status.is_success() || status == StatusCode::NOT_FOUND,
            "cannot remove camera `{id}`: {status}: {answer}"
        );
        Ok(())
    }

    /// All cameras, the deleted ones as well.
    pub(super) fn cameras(&self) -> anyhow::Result<Vec<Camera>> {
        #[derive(Deserialize)]
        struct Cameras {
            cameras: Vec<Camera>,
        }
        let (status, answer) = self.send(Method::GET, "/api/v1/cameras?deleted=true", None)?;
        ensure!(status.is_success(), "cannot list the cameras: {status}: {answer}");
        Ok(serde_json::from_str::<Cameras>(&answer).context("cannot understand the list of cameras")?.cameras)
    }

    fn send(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<(StatusCode, String)> {
        let url = format!("{}{path}", self.address);
        let (status, answer) = self.http.send(method, &url, Some(&self.token), body.map(Value::to_string))?;
        Ok((status, String::from_utf8_lossy(&answer).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_keeps_odd_paths() {
        let text = configuration(Path::new("/tmp/a \"b\"/state"), Path::new("/tmp/a \"b\"/frames")).unwrap();
        assert!(text.contains(r#"dir = "/tmp/a \"b\"/state""#), "{text}");
        assert!(text.contains(r#"url = "file:///tmp/a%20%22b%22/frames""#), "{text}");
    }
}
