//! Cameras on 127.0.0.1 that play clips with marks. [`CameraServer`] is GStreamer's RTSP server in a process of its
//! own, [`HttpCameraServer`] sends JPEGs over HTTP.
//!
//! The RTSP server is the child `cameras.py`. It gets its configuration, passwords included, on standard input, and it
//! leaves when that closes, so that it does not outlive this process however this one ends. It has its own process
//! group: Ctrl-C reaches only us, and a frozen server whose parent dies is woken and hung up by the kernel instead of
//! lying there stopped for ever.

use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::signals;

mod command;
mod http;
mod process;
mod spec;
#[cfg(test)]
mod tests;

pub use command::{Args, run};
pub use http::{HttpCameraServer, HttpCounts};
pub use spec::{CameraSpec, Challenge};

use self::process::{Launched, Mount, Orders, launch};

/// How long SIGSTOP may take to reach all threads of the server.
const FROZEN_WITHIN: Duration = Duration::from_secs(5);

/// Requests that came with a login, since the server's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct Logins {
    /// Those that were let in: several for each client, which repeats its login with every request.
    pub accepted: u64,
    /// Those that were not: each is what a recorder counts before it locks an address out.
    pub refused: u64,
}

/// A running RTSP server. Dropping it kills the server and waits for its end.
#[derive(Debug)]
pub struct CameraServer {
    specs: Vec<CameraSpec>,
    cache_dir: PathBuf,
    port: u16,
    child: Child,
    /// False once the child has been waited for: its process id may be somebody else's then.
    ours: bool,
    orders: Mutex<Orders>,
    ended: Option<tokio::sync::oneshot::Receiver<()>>,
}

impl CameraServer {
    /// Makes the clips that are missing in `cache_dir`, starts the server on `port` of 127.0.0.1 (0: any free one) and
    /// returns when it accepts connections. Blocks: 10 s and more for new clips, well under a second otherwise.
    pub fn start(specs: &[CameraSpec], port: u16, cache_dir: impl AsRef<Path>) -> anyhow::Result<Self> {
        validate(specs)?;
        let cache_dir = cache_dir.as_ref();
        let Launched { child, port, orders, ended } = launch(specs, port, cache_dir)?;
        Ok(Self {
            specs: specs.to_vec(),
            cache_dir: cache_dir.to_owned(),
            port,
            child,
            ours: true,
            orders: Mutex::new(orders),
            ended: Some(ended),
        })
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
        spec.request(self.url(&spec.name))
    }

    /// The logins it has seen, of all cameras.
    pub fn logins(&self) -> anyhow::Result<Logins> {
        self.order(json!({ "do": "logins" }))
    }

    /// How many requests came with a login and were refused, of all cameras.
    pub fn refused_logins(&self) -> anyhow::Result<u64> {
        Ok(self.logins()?.refused)
    }

    /// Lets the streams fall silent that clients have of a camera; returns how many. Nothing else ends: the connections
    /// stay, keep-alives are answered, RTCP reports come. A client that connects anew gets a stream.
    pub fn silence(&self, name: &str) -> anyhow::Result<usize> {
        let Streams { streams } = self.order(json!({ "do": "silence", "name": name }))?;
        Ok(streams)
    }

    /// Ends the streams that clients have of a camera in good order, with everything sent before; returns the counter
    /// of the last picture of each. A client that connects anew gets a stream.
    pub fn end(&self, name: &str) -> anyhow::Result<Vec<Option<u32>>> {
        let Ended { last } = self.order(json!({ "do": "end", "name": name }))?;
        Ok(last)
    }

    /// Makes the camera of that name another one: other size, other codec, other rate; its name and its login stay.
    /// Clients' streams [`end`](Self::end); they find the new one when they connect anew. Blocks while a new clip is
    /// made.
    pub fn replace(&mut self, spec: CameraSpec) -> anyhow::Result<Vec<Option<u32>>> {
        let index = self.index(&spec)?;
        let mount = Mount::new(&spec, &self.cache_dir)?;
        let Ended { last } = self.order(json!({ "do": "show", "name": spec.name, "mount": mount }))?;
        self.specs[index] = spec;
        Ok(last)
    }

    /// Gives the camera of that name pictures of another size in the midst of its streams, which go on; returns how
    /// many. Blocks while a new clip is made.
    pub fn resize(&mut self, name: &str, width: u32, height: u32) -> anyhow::Result<usize> {
        let spec = self.specs.iter().find(|spec| spec.name == name).with_context(|| format!("no camera `{name}`"))?;
        let spec = spec.clone().size(width, height);
        let index = self.index(&spec)?;
        let mount = Mount::new(&spec, &self.cache_dir)?;
        let Streams { streams } = self.order(json!({ "do": "change", "name": name, "mount": mount }))?;
        self.specs[index] = spec;
        Ok(streams)
    }

    /// The place of the camera that this one can stand for.
    fn index(&self, spec: &CameraSpec) -> anyhow::Result<usize> {
        let name = &spec.name;
        let index =
            self.specs.iter().position(|old| old.name == *name).with_context(|| format!("no camera `{name}`"))?;
        ensure!(self.specs[index].login == spec.login, "the login of camera `{name}` cannot be changed");
        let mut specs = self.specs.clone();
        specs[index] = spec.clone();
        validate(&specs)?;
        Ok(index)
    }

    fn order<T: DeserializeOwned>(&self, order: Value) -> anyhow::Result<T> {
        let what = format!("cannot order the camera server to {}", order["do"]);
        // A panic in the midst of an order leaves at most an answer behind that nobody waits for.
        self.orders.lock().unwrap_or_else(PoisonError::into_inner).give(order).context(what)
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
        let Launched { child, orders, ended, .. } = launch(&self.specs, self.port, &self.cache_dir)?;
        (self.child, self.ours, self.orders, self.ended) = (child, true, Mutex::new(orders), Some(ended));
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

#[derive(Deserialize)]
struct Streams {
    streams: usize,
}

#[derive(Deserialize)]
struct Ended {
    last: Vec<Option<u32>>,
}

/// Finds what would make an RTSP server of these cameras impossible or ambiguous.
fn validate(specs: &[CameraSpec]) -> anyhow::Result<()> {
    spec::validate(specs)?;
    for CameraSpec { name, login, challenge, .. } in specs {
        ensure!(
            login.is_none() || *challenge == Challenge::Digest,
            "camera `{name}` asks for a basic login, which only HTTP cameras do here"
        );
    }
    Ok(())
}
