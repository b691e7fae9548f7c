//! `testbed cameras`

use std::io::Write;
use std::path::PathBuf;
use std::pin::pin;

use anyhow::{Context, bail};
use serde::Serialize;

use super::{CameraServer, CameraSpec, default_cache_dir};
use crate::signals::told_to_end;

/// `testbed cameras`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TCP port on 127.0.0.1; 0 takes any free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// name=a,size=640x480,fps=25,gop=25,user=u,password=p,number=7,seconds=64 (all but the name optional); may be
    /// repeated
    #[arg(long = "camera", required = true, value_name = "SETTINGS")]
    cameras: Vec<CameraSpec>,
    /// Where the clips are kept [default: target/clips of the workspace]
    #[arg(long, value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    /// Least length of every clip in seconds (instead of `seconds` of each camera)
    #[arg(long, value_name = "SECONDS")]
    clip_seconds: Option<u32>,
    /// End when standard input closes
    #[arg(long)]
    until_stdin_closes: bool,
}

/// What `testbed cameras` prints, on one line, when the cameras can be reached.
#[derive(Serialize)]
struct Announcement<'a> {
    port: u16,
    pid: u32,
    cameras: Vec<Announced<'a>>,
}

#[derive(Serialize)]
struct Announced<'a> {
    name: &'a str,
    url: String,
    width: u32,
    height: u32,
    fps: u32,
    user: Option<&'a str>,
    number: u16,
}

/// Serves the cameras until a signal (SIGTERM, SIGINT) or, if asked for, the end of standard input. Fails when the
/// server ends.
pub async fn run(mut args: Args) -> anyhow::Result<()> {
    if let Some(seconds) = args.clip_seconds {
        args.cameras.iter_mut().for_each(|spec| spec.clip_seconds = seconds);
    }
    let cache_dir = args.cache_dir.unwrap_or_else(default_cache_dir);
    // Listening for the signals comes first: one that arrives while clips are made must not leave a server behind.
    let mut stop = pin!(told_to_end(args.until_stdin_closes)?);
    let (specs, port) = (args.cameras, args.port);
    let starting = tokio::task::spawn_blocking(move || CameraServer::start(&specs, port, cache_dir));
    let mut server = tokio::select! {
        () = &mut stop => return Ok(()),
        started = starting => started.context("starting the camera server panicked")??,
    };
    let cameras = server.specs().iter().map(|spec| Announced {
        name: &spec.name,
        url: server.url(&spec.name),
        width: spec.width,
        height: spec.height,
        fps: spec.fps,
        user: spec.login.as_ref().map(|(user, _)| user.as_str()),
        number: spec.number,
    });
    let announcement = Announcement { port: server.port(), pid: server.pid(), cameras: cameras.collect() };
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", serde_json::to_string(&announcement)?)
        .and_then(|()| stdout.flush())
        .context("cannot announce the cameras")?;
    tokio::select! {
        () = &mut stop => Ok(()),
        status = server.wait() => bail!("camera server ended by itself ({})", status?),
    }
}
