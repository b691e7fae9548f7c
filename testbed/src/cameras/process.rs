//! The server's process: what it is told at its start and afterwards, and what it answers.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::CameraSpec;
use crate::clip::Film;

/// Debian's Python: GStreamer's bindings are packages of that one.
const PYTHON: &str = "/usr/bin/python3";

/// How long the server may take from its start until it listens. It reads all clips before; a busy machine may need a
/// while.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long it may take to answer an order.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// What the server reads on its standard input.
#[derive(Serialize)]
struct Config<'a> {
    port: u16,
    cameras: Vec<Mount<'a>>,
}

/// A camera as the server knows it.
#[derive(Serialize)]
pub(super) struct Mount<'a> {
    name: &'a str,
    clip: PathBuf,
    codec: &'static str,
    frames: u16,
    width: u32,
    height: u32,
    fps: u32,
    gop: u32,
    user: Option<&'a str>,
    password: Option<&'a str>,
}

impl<'a> Mount<'a> {
    /// Makes the camera's clip if it is missing.
    pub(super) fn new(spec: &'a CameraSpec, cache_dir: &Path) -> anyhow::Result<Self> {
        let name = &spec.name;
        let clip = spec.clip();
        let path = match spec.kbits {
            Some(kbits) => Film { clip, kbits }.cached(cache_dir),
            None => clip.cached(cache_dir),
        };
        let path = path.with_context(|| format!("camera `{name}`"))?;
        let (user, password) = spec.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str())).unzip();
        Ok(Self {
            name,
            clip: path,
            codec: clip.codec.name(),
            frames: clip.frames()?,
            width: clip.width,
            height: clip.height,
            fps: clip.fps,
            gop: clip.gop,
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

/// A server that has just been started.
pub(super) struct Launched {
    pub(super) child: Child,
    pub(super) port: u16,
    pub(super) orders: Orders,
    /// Gets its word when the server's standard output closes, which is when it ends.
    pub(super) ended: tokio::sync::oneshot::Receiver<()>,
}

/// Starts a server and waits until it listens.
pub(super) fn launch(specs: &[CameraSpec], port: u16, cache_dir: &Path) -> anyhow::Result<Launched> {
    let cameras = specs.iter().map(|spec| Mount::new(spec, cache_dir)).collect::<anyhow::Result<_>>()?;
    let config = line(&Config { port, cameras }).context("cannot write the camera server's configuration")?;

    let mut child = Command::new(PYTHON)
        .args(["-I", "-c", include_str!("../cameras.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {PYTHON}: is it installed (Debian: python3)?"))?;
    match hand_over(&mut child, &config) {
        Ok((port, orders, ended)) => Ok(Launched { child, port, orders, ended }),
        Err(error) => {
            let _ = child.kill();
            let status = child.wait().context("cannot wait for the camera server")?;
            Err(error.context(format!("camera server did not start ({status}); its own message is on standard error")))
        }
    }
}

/// Sends the configuration and waits for the word that the server listens.
fn hand_over(child: &mut Child, config: &[u8]) -> anyhow::Result<(u16, Orders, tokio::sync::oneshot::Receiver<()>)> {
    let mut stdin = child.stdin.take().expect("standard input is piped");
    stdin.write_all(config).context("cannot send the configuration")?;
    let mut lines = BufReader::new(child.stdout.take().expect("standard output is piped")).lines();
    let (say, said) = mpsc::channel();
    let (say_ended, ended) = tokio::sync::oneshot::channel();
    // Ends with the server, which holds the other end of the pipe.
    thread::spawn(move || {
        for line in lines.by_ref().map_while(Result::ok) {
            let _ = say.send(line);
        }
        let _ = say_ended.send(());
    });
    let line = said.recv_timeout(READY_WITHIN).map_err(|error| match error {
        mpsc::RecvTimeoutError::Timeout => anyhow::anyhow!("no word from it within {READY_WITHIN:?}"),
        mpsc::RecvTimeoutError::Disconnected => {
            anyhow::anyhow!(
                "it ended at once: is the port taken, or one of Debian's python3-gi, gir1.2-gst-rtsp-server-1.0 and \
                 gstreamer1.0-plugins-good missing?"
            )
        }
    })?;
    let ready: Ready = serde_json::from_str(&line).with_context(|| format!("unexpected word `{line}`"))?;
    Ok((ready.port, Orders { stdin, said, last: 0 }, ended))
}

/// The way to a running server: lines of JSON on its standard input, each answered by one on its standard output.
#[derive(Debug)]
pub(super) struct Orders {
    /// Closing it is what ends the server.
    stdin: ChildStdin,
    said: mpsc::Receiver<String>,
    last: u64,
}

impl Orders {
    /// Gives an order and waits for its answer.
    pub(super) fn give<T: DeserializeOwned>(&mut self, mut order: Value) -> anyhow::Result<T> {
        self.last += 1;
        order["id"] = self.last.into();
        self.stdin.write_all(&line(&order)?).context("cannot send it an order: it has ended, restart it")?;
        let deadline = Instant::now() + ANSWERS_WITHIN;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let said = self.said.recv_timeout(left).with_context(|| format!("no answer within {ANSWERS_WITHIN:?}"))?;
            let answer: Value = serde_json::from_str(&said).with_context(|| format!("unexpected word `{said}`"))?;
            if answer["id"] != self.last {
                // Late, to an order that was given up.
                continue;
            }
            if let Some(error) = answer["error"].as_str() {
                bail!("it refused: {error}");
            }
            return serde_json::from_value(answer).with_context(|| format!("unexpected answer `{said}`"));
        }
    }
}

fn line(value: &impl Serialize) -> anyhow::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}
