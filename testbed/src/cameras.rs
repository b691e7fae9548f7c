//! RTSP cameras on 127.0.0.1: GStreamer's RTSP server in a process of its own, playing clips with marks.
//!
//! The server is the child `cameras.py`. It gets its configuration, passwords included, on standard input, and it
//! leaves when that closes, so that it does not outlive this process however this one ends. It has its own process
//! group: Ctrl-C reaches only us, and a frozen server whose parent dies is woken and hung up by the kernel instead of
//! lying there stopped for ever.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::signals;

mod command;
mod spec;
#[cfg(test)]
mod tests;

pub use command::{Args, run};
pub use spec::CameraSpec;

/// Debian's Python: GStreamer's bindings are packages of that one.
const PYTHON: &str = "/usr/bin/python3";

/// How long the server may take from its start until it listens. It reads all clips before; a busy machine may need a
/// while.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long SIGSTOP may take to reach all threads of the server.
const FROZEN_WITHIN: Duration = Duration::from_secs(5);

/// A running RTSP server. Dropping it kills the server and waits for its end.
#[derive(Debug)]
pub struct CameraServer {
    specs: Vec<CameraSpec>,
    cache_dir: PathBuf,
    port: u16,
    child: Child,
    /// False once the child has been waited for: its process id may be somebody else's then.
    ours: bool,
    /// Gets its word when the server's standard output closes, which is when it ends.
    ended: Option<tokio::sync::oneshot::Receiver<()>>,
}

impl CameraServer {
    /// Makes the clips that are missing in `cache_dir`, starts the server on `port` of 127.0.0.1 (0: any free one) and
    /// returns when it accepts connections. Blocks: 10 s and more for new clips, well under a second otherwise.
    pub fn start(specs: &[CameraSpec], port: u16, cache_dir: impl AsRef<Path>) -> anyhow::Result<Self> {
        spec::validate(specs)?;
        let cache_dir = cache_dir.as_ref();
        let (child, port, ended) = launch(specs, port, cache_dir)?;
        Ok(Self { specs: specs.to_vec(), cache_dir: cache_dir.to_owned(), port, child, ours: true, ended: Some(ended) })
    }

    /// The cameras it was started with.
    pub fn specs(&self) -> &[CameraSpec] {
        &self.specs
    }

    /// The URL of a camera, without its login.
    ///
    /// # Panics
    /// If there is no camera of that name.
    pub fn url(&self, name: &str) -> String {
        assert!(self.specs.iter().any(|spec| spec.name == name), "no camera `{name}` on this server");
        format!("rtsp://127.0.0.1:{}/{name}", self.port)
    }

    /// What a PUT says that adds a camera to framehaul.
    ///
    /// # Panics
    /// If there is no camera of that name.
    pub fn request(&self, spec: &CameraSpec) -> Value {
        let mut body = json!({ "url": self.url(&spec.name) });
        if let Some((user, password)) = &spec.login {
            body["user"] = json!(user);
            body["password"] = json!(password);
        }
        body
    }

    /// The TCP port it listens on; stays the same over [`restart`](Self::restart).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's process id. Changes with a restart.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the server with SIGKILL: connections are cut off in mid-stream. Does nothing if it has ended already.
    pub fn kill(&mut self) {
        // An error means that it is gone; then there is only its status left to collect.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.ours = false;
    }

    /// Stops the server with SIGSTOP: connections stay open and fall silent. On return all its threads stand still.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)?;
        let deadline = Instant::now() + FROZEN_WITHIN;
        while !signals::is_stopped(self.pid())? {
            ensure!(Instant::now() < deadline, "the camera server did not stop within {FROZEN_WITHIN:?} of SIGSTOP");
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Lets a frozen server go on. It sends what it has missed in one burst.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    /// Kills the server if it still runs and starts it again on the same port.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.kill();
        let (child, _, ended) = launch(&self.specs, self.port, &self.cache_dir)?;
        (self.child, self.ours, self.ended) = (child, true, Some(ended));
        Ok(())
    }

    /// Waits until the server ends by itself and returns its status. Safe to drop and call again.
    pub async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(ended) = &mut self.ended {
            // An error would mean that the reader is gone, which it is only after the end.
            let _ = ended.await;
            self.ended = None;
        }
        self.ours = false;
        self.child.wait().context("cannot wait for the camera server")
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        ensure!(self.ours, "cannot signal the camera server: it has ended, restart it");
        signals::send(self.pid(), signal).context("cannot signal the camera server")
    }
}

impl Drop for CameraServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where clips are kept unless somebody says otherwise: in the workspace's build directory.
pub fn default_cache_dir() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/clips"))
}

/// What the server reads on its standard input.
#[derive(Serialize)]
struct Config<'a> {
    port: u16,
    cameras: Vec<Mount<'a>>,
}

#[derive(Serialize)]
struct Mount<'a> {
    name: &'a str,
    clip: PathBuf,
    frames: u16,
    width: u32,
    height: u32,
    fps: u32,
    gop: u32,
    user: Option<&'a str>,
    password: Option<&'a str>,
}

impl<'a> Mount<'a> {
    fn new(spec: &'a CameraSpec, cache_dir: &Path) -> anyhow::Result<Self> {
        let CameraSpec { name, width, height, fps, gop, .. } = spec;
        let clip = spec.clip();
        let path = clip.cached(cache_dir).with_context(|| format!("camera `{name}`"))?;
        let (user, password) = spec.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str())).unzip();
        Ok(Self {
            name,
            clip: path,
            frames: clip.frames()?,
            width: *width,
            height: *height,
            fps: *fps,
            gop: *gop,
            user,
            password,
        })
    }
}

/// What the server says when it listens.
#[derive(Deserialize)]
struct Ready {
    port: u16,
}

type Launched = (Child, u16, tokio::sync::oneshot::Receiver<()>);

fn launch(specs: &[CameraSpec], port: u16, cache_dir: &Path) -> anyhow::Result<Launched> {
    let cameras = specs.iter().map(|spec| Mount::new(spec, cache_dir)).collect::<anyhow::Result<_>>()?;
    let mut config =
        serde_json::to_vec(&Config { port, cameras }).context("cannot write the camera server's configuration")?;
    config.push(b'\n');

    let mut child = Command::new(PYTHON)
        .args(["-I", "-c", include_str!("cameras.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {PYTHON}: is it installed (Debian: python3)?"))?;
    let ready = hand_over(&mut child, &config);
    match ready {
        Ok((port, ended)) => Ok((child, port, ended)),
        Err(error) => {
            let _ = child.kill();
            let status = child.wait().context("cannot wait for the camera server")?;
            Err(error.context(format!("camera server did not start ({status}); its own message is on standard error")))
        }
    }
}

/// Sends the configuration and waits for the word that the server listens.
fn hand_over(child: &mut Child, config: &[u8]) -> anyhow::Result<(u16, tokio::sync::oneshot::Receiver<()>)> {
    // Kept in the child afterwards: closing it is what ends the server.
    let stdin = child.stdin.as_mut().expect("standard input is piped");
    stdin.write_all(config).context("cannot send the configuration")?;
    let mut lines = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
    let (say_ready, ready) = mpsc::channel();
    let (say_ended, ended) = tokio::sync::oneshot::channel();
    // Ends with the server, which holds the other end of the pipe.
    thread::spawn(move || {
        for line in lines.by_ref().map_while(Result::ok) {
            let _ = say_ready.send(line);
        }
        let _ = say_ended.send(());
    });
    let line = ready.recv_timeout(READY_WITHIN).map_err(|error| match error {
        mpsc::RecvTimeoutError::Timeout => anyhow::anyhow!("no word from it within {READY_WITHIN:?}"),
        mpsc::RecvTimeoutError::Disconnected => {
            anyhow::anyhow!(
                "it ended at once: is the port taken, or one of Debian's python3-gi, gir1.2-gst-rtsp-server-1.0 and \
                 gstreamer1.0-plugins-good missing?"
            )
        }
    })?;
    let ready: Ready = serde_json::from_str(&line).with_context(|| format!("unexpected word `{line}`"))?;
    Ok((ready.port, ended))
}
