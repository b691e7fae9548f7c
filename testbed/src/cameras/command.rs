//! `testbed cameras`

use std::io::Write;
use std::path::PathBuf;
use std::pin::pin;

use anyhow::{Context, bail};
use serde::Serialize;

use super::{CameraServer, CameraSpec, HttpCameraServer, default_cache_dir};
use crate::clip::Codec;
use crate::signals::told_to_end;

/// `testbed cameras`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TCP port on 127.0.0.1; 0 takes any free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// name=a,codec=h264,size=640x480,fps=25,gop=25,user=u,password=p,number=7,seconds=64 (all but the name optional;
    /// codecs are h264, h265 and mjpeg); may be repeated
    #[arg(long = "camera", required_unless_present = "http_cameras", value_name = "SETTINGS")]
    cameras: Vec<CameraSpec>,
    /// The same for a camera that sends JPEGs over HTTP (its codec is mjpeg), with auth=digest or auth=basic beside its
    /// login
    #[arg(long = "http-camera", value_name = "SETTINGS")]
    http_cameras: Vec<CameraSpec>,
    /// TCP port of the HTTP cameras on 127.0.0.1; 0 takes any free one
    #[arg(long, default_value_t = 0)]
    http_port: u16,
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
    /// Of the RTSP server, if there is one.
    port: Option<u16>,
    pid: Option<u32>,
    cameras: Vec<Announced<'a>>,
}

#[derive(Serialize)]
struct Announced<'a> {
    name: &'a str,
    url: String,
    codec: &'static str,
    width: u32,
    height: u32,
    fps: u32,
    user: Option<&'a str>,
    number: u16,
}

impl<'a> Announced<'a> {
    fn new(spec: &'a CameraSpec, url: String) -> Self {
        let CameraSpec { name, codec, width, height, fps, login, number, .. } = spec;
        let user = login.as_ref().map(|(user, _)| user.as_str());
        Self { name, url, codec: codec.name(), width: *width, height: *height, fps: *fps, user, number: *number }
    }
}

/// Serves the cameras until a signal (SIGTERM, SIGINT) or, if asked for, the end of standard input. Fails when the
/// server ends.
pub async fn run(mut args: Args) -> anyhow::Result<()> {
    if let Some(seconds) = args.clip_seconds {
        args.cameras.iter_mut().chain(&mut args.http_cameras).for_each(|spec| spec.clip_seconds = seconds);
    }
    args.http_cameras.iter_mut().for_each(|spec| spec.codec = Codec::Mjpeg);
    let cache_dir = args.cache_dir.take().unwrap_or_else(default_cache_dir);
    // Listening for the signals comes first: one that arrives while clips are made must not leave a server behind.
    let mut stop = pin!(told_to_end(args.until_stdin_closes)?);
    let Args { cameras, http_cameras, port, http_port, .. } = args;
    let starting = tokio::task::spawn_blocking(move || {
        let start = || CameraServer::start(&cameras, port, &cache_dir);
        let rtsp = (!cameras.is_empty()).then(start).transpose()?;
        let start = || HttpCameraServer::start(&http_cameras, http_port, &cache_dir);
        let http = (!http_cameras.is_empty()).then(start).transpose()?;
        anyhow::Ok((rtsp, http))
    });
    let (mut rtsp, http) = tokio::select! {
        () = &mut stop => return Ok(()),
        started = starting => started.context("starting the camera server panicked")??,
    };
    announce(rtsp.as_ref(), http.as_ref()).context("cannot announce the cameras")?;
    let ended = async {
        match &mut rtsp {
            Some(server) => server.wait().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = &mut stop => Ok(()),
        status = ended => bail!("camera server ended by itself ({})", status?),
    }
}

fn announce(rtsp: Option<&CameraServer>, http: Option<&HttpCameraServer>) -> anyhow::Result<()> {
    let mut cameras = Vec::new();
    if let Some(server) = rtsp {
        cameras.extend(server.specs().iter().map(|spec| Announced::new(spec, server.url(&spec.name))));
    }
    if let Some(server) = http {
        cameras.extend(server.specs().iter().map(|spec| Announced::new(spec, server.url(&spec.name))));
    }
    let announcement = Announcement { port: rtsp.map(CameraServer::port), pid: rtsp.map(CameraServer::pid), cameras };
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", serde_json::to_string(&announcement)?)?;
    Ok(stdout.flush()?)
}
