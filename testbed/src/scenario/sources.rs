//! Every kind of source arrives: each codec over RTSP and HTTP, both over TLS, files, and a device.

use std::fs;
use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use url::Url;

use super::stage::{examine, judge_by};
use super::{Outcome, Problems, Stage};
use crate::cameras::{CameraServer, CameraSpec, HttpCameraServer, default_cache_dir};
use crate::clip::{ClipSpec, Codec};
use crate::daemon::{Daemon, Storage};
use crate::oracle::{Entry, Frame, Pattern};
use crate::tls::TlsFront;

/// How long it goes.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Frames a second of the streams.
    pub fps: u32,
    /// For how many seconds of each stream.
    pub seconds: u64,
    /// Frames of the file of which a frame a second is wanted. It has 25 a second.
    pub long: u32,
}

/// Frames a second of the long file.
const LONG_FPS: u32 = 25;
/// How far the number of frames kept of it may be off the seconds it has.
const OFF_BY: u64 = 1;
/// How long the files are that are played in real time, seconds; shorter than they are watched, so that they come
/// round.
const FILM_SECONDS: u32 = 4;
/// How far a played file's pace may be off its own, and the frames of a second and a half at most: the first come late.
const PACE_WITHIN: f64 = 0.2;
/// The cameras' password: letters that have a meaning in URLs, and some that no escaping changes.
const PASSWORD: &str = "p:a/s@s-Orinoco";
/// The part of it by which it is found in whatever form.
const PLAIN_PART: &str = "Orinoco";
/// Numbers of devices that no machine has so many cameras for.
const DEVICES: RangeInclusive<u32> = 50..=63;

/// A source: the camera's id, what is asked for, and what its sessions must say of the codec.
struct Asked {
    id: &'static str,
    request: Value,
    codec: &'static str,
}

/// Runs the scenario. Needs the right to make a link in /dev.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn sources(stage: &Stage, plan: &Sources) -> anyhow::Result<Outcome> {
    let spec = |name: &str, codec| CameraSpec::new(name).codec(codec).rate(plan.fps, plan.fps);
    let rtsp = [
        spec("h264", Codec::H264),
        spec("h265", Codec::H265),
        spec("mjpeg", Codec::Mjpeg),
        spec("rtsps", Codec::H264).login("viewer", PASSWORD),
    ];
    let rtsp = CameraServer::start(&rtsp, 0, default_cache_dir())?;
    let http = [
        spec("http-open", Codec::Mjpeg),
        spec("http-basic", Codec::Mjpeg).basic_login("viewer", PASSWORD),
        spec("http-digest", Codec::Mjpeg).login("viewer", PASSWORD),
        spec("https", Codec::Mjpeg).basic_login("viewer", PASSWORD),
    ];
    let http = HttpCameraServer::start(&http, 0, default_cache_dir())?;
    let tls = Tls::new(&rtsp, &http)?;
    let films = Films::new(stage, plan)?;
    let device = StandIn::new(&films.short)?;

    let daemon = stage.daemon(&Storage::Directory, &format!("[capture]\nfiles = {}", json!(films.dir)))?;
    let mut problems = Problems::default();
    tls.refuse(&daemon, &http, &mut problems)?;
    let [h264, h265, mjpeg, _] = rtsp.specs() else { bail!("four cameras were started") };
    let over = |transport, spec| {
        let mut request = rtsp.request(spec);
        request["transport"] = json!(transport);
        request
    };
    let mut streams = vec![
        Asked { id: "rtsp-h264", request: over("tcp", h264), codec: "h264" },
        Asked { id: "rtsp-h265", request: over("tcp", h265), codec: "hevc" },
        Asked { id: "rtsp-mjpeg", request: over("tcp", mjpeg), codec: "mjpeg" },
        Asked { id: "rtsp-h265-udp", request: over("udp", h265), codec: "hevc" },
        Asked { id: "v4l2", request: json!({ "url": format!("v4l2://{}", device.device.display()) }), codec: "h264" },
    ];
    for (id, spec) in ["http", "http-basic", "http-digest"].into_iter().zip(http.specs()) {
        streams.push(Asked { id, request: http.request(spec), codec: "mjpeg" });
    }
    for (id, request, codec) in [(Tls::RTSPS, &tls.rtsps, "h264"), (Tls::HTTPS, &tls.https, "mjpeg")] {
        let mut request = request.clone();
        request["tls"] = json!("unverified");
        streams.push(Asked { id, request, codec });
    }
    let file = json!({ "url": url(&films.short)?, "loop": true, "pace": "realtime" });
    streams.push(Asked { id: "file", request: file, codec: "h264" });

    let mut figure = Map::new();
    for Asked { id, request, .. } in &streams {
        daemon.put_camera(id, request).with_context(|| format!("camera {id}"))?;
    }
    let wanted = plan.seconds * u64::from(plan.fps);
    for Asked { id, .. } in &streams {
        daemon.wait_for(id, Duration::from_secs(plan.seconds * 2 + 30), |status| status.totals.stored >= wanted)?;
    }
    for Asked { id, .. } in &streams {
        daemon.delete_camera(id)?;
    }
    let untrusted = tls.give_up(&daemon, &mut problems)?;
    figure.insert("https_self_signed".to_owned(), untrusted);
    films.ask(&daemon)?;
    films.wait(&daemon)?;
    daemon.quiesce(Duration::from_secs(60))?;
    let stands_for = format!("a file in the place of {}", device.device.display());
    drop(device);

    for Asked { id, codec, .. } in streams {
        let (verdict, entries) = examine(&daemon, &Storage::Directory, id, &mut problems)?;
        problems.check(verdict.tombstoned == 0, || format!("camera {id} lost {} frames", verdict.tombstoned));
        problems.check(verdict.frames >= wanted, || format!("camera {id}: {} frames", verdict.frames));
        check_sessions(id, codec, &entries, &mut problems);
        if id == "file" {
            let pace = pace(&entries)?;
            let off = (pace / f64::from(plan.fps) - 1.0).abs();
            problems.check(off <= PACE_WITHIN, || format!("camera {id} played at {pace:.1} frames a second"));
            figure.insert("file_fps".to_owned(), json!((pace * 10.0).round() / 10.0));
        }
        figure.insert(id.to_owned(), verdict.frames.into());
    }
    let refused = rtsp.refused_logins()? + http.refused_logins();
    problems.check(refused == 0, || format!("{refused} logins were refused"));
    films.judge(&daemon, &mut problems, &mut figure)?;
    let shown = daemon.log_text().matches(PLAIN_PART).count();
    problems.check(shown == 0, || format!("the log shows the password {shown} times"));
    figure.insert("v4l2_stands_for".to_owned(), json!(stands_for));
    let bound = format!(
        "H.264, H.265 and MJPEG over RTSP, H.264 over RTSPS, MJPEG over HTTP (open, basic, digest) and HTTPS, file and \
         v4l2 stream without a fault in their pixels; a certificate that nobody signed is refused unless the camera says \
         \"unverified\", and no password shows in the log; 1 fps of {} frames at {LONG_FPS} fps gives {} +- {OFF_BY}",
        plan.long,
        plan.long / LONG_FPS
    );
    Ok(problems.measured(bound, figure.into()))
}

/// What a camera's sessions say of the stream; a file that comes round, or stands in for a device, may have several.
fn check_sessions(id: &str, expected: &str, entries: &[Entry], problems: &mut Problems) {
    for entry in entries {
        if let Entry::Session { session, codec, width, height, .. } = entry {
            let size = frames(entries).find(|frame| frame.session == *session).map(|frame| (frame.width, frame.height));
            problems.check(codec.as_deref() == Some(expected), || {
                format!("camera {id}: session {session} says {codec:?} of its codec, not {expected}")
            });
            problems.check(width.zip(*height) == size, || {
                format!("camera {id}: session {session} says {width:?}x{height:?}, its first picture has {size:?}")
            });
        }
    }
}

fn frames(entries: &[Entry]) -> impl Iterator<Item = &Frame> {
    entries.iter().filter_map(|entry| if let Entry::Frame(frame) = entry { Some(frame) } else { None })
}

/// Frames a second of a list, by the times of capture.
fn pace(entries: &[Entry]) -> anyhow::Result<f64> {
    let times: Vec<OffsetDateTime> =
        frames(entries).map(|frame| OffsetDateTime::parse(&frame.captured_at, &Rfc3339)).collect::<Result<_, _>>()?;
    let [first, .., last] = times[..] else { bail!("a pace needs two frames at least") };
    Ok((times.len() - 1) as f64 / (last - first).as_seconds_f64())
}

fn url(path: &Path) -> anyhow::Result<String> {
    match Url::from_file_path(path) {
        Ok(url) => Ok(url.into()),
        Err(()) => bail!("no file:// URL for {}: it must be an absolute path", path.display()),
    }
}

/// Cameras behind TLS, with a certificate that nobody signed.
struct Tls {
    /// What a PUT says, but for `tls`.
    rtsps: Value,
    https: Value,
    _fronts: [TlsFront; 2],
}

impl Tls {
    const RTSPS: &str = "rtsps-h264";
    const HTTPS: &str = "https";
    /// The camera whose certificate is verified.
    const VERIFIED: &str = "https-verified";

    fn new(rtsp: &CameraServer, http: &HttpCameraServer) -> anyhow::Result<Self> {
        let (Some(over_rtsp), Some(over_http)) = (rtsp.specs().last(), http.specs().last()) else {
            bail!("each server has cameras")
        };
        let fronts = [TlsFront::start(rtsp.port())?, TlsFront::start(http.port())?];
        let (mut rtsps, mut https) = (rtsp.request(over_rtsp), http.request(over_http));
        rtsps["url"] = json!(format!("rtsps://127.0.0.1:{}/{}", fronts[0].port(), over_rtsp.name));
        https["url"] = json!(format!("https://localhost:{}/{}", fronts[1].port(), over_http.name));
        Ok(Self { rtsps, https, _fronts: fronts })
    }

    /// Asks for both without a word on TLS, before anybody has asked `http` for anything: RTSPS cannot be verified and
    /// is refused, HTTPS is verified before the camera hears of a login.
    fn refuse(&self, daemon: &Daemon, http: &HttpCameraServer, problems: &mut Problems) -> anyhow::Result<()> {
        let (status, answer) = daemon.call(Method::PUT, "/api/v1/cameras/rtsps-verified", Some(&self.rtsps))?;
        let told: Value = serde_json::from_str(&answer).context("a refusal is no JSON")?;
        let fields: Vec<&str> =
            told["errors"].as_array().into_iter().flatten().filter_map(|error| error["field"].as_str()).collect();
        problems.check(status == StatusCode::UNPROCESSABLE_ENTITY && fields == ["tls"], || {
            format!("rtsps:// without `tls` was answered {status}: {answer}")
        });
        daemon.put_camera(Self::VERIFIED, &self.https)?;
        daemon.wait_for(Self::VERIFIED, Duration::from_secs(30), |status| status.last_error.is_some())?;
        let requests = http.counts().requests;
        problems.check(requests == 0, || format!("{requests} requests went to a camera that was not verified"));
        Ok(())
    }

    /// Removes the camera whose certificate was verified, which must have come to nothing all the while; says why.
    fn give_up(&self, daemon: &Daemon, problems: &mut Problems) -> anyhow::Result<Value> {
        let status = daemon.status(Self::VERIFIED)?;
        let kind = status.last_error.as_ref().map_or(Value::Null, |error| error["kind"].clone());
        problems.check(kind == "certificate" && status.totals.captured == 0, || {
            format!("camera {}, whose certificate nobody signed: {status:?}", Self::VERIFIED)
        });
        daemon.delete_camera(Self::VERIFIED)?;
        Ok(kind)
    }
}

/// Files that end, in a directory that cameras may play from.
struct Films {
    dir: PathBuf,
    short: PathBuf,
    short_frames: u64,
    long: PathBuf,
    long_seconds: u64,
}

impl Films {
    /// Of the long file, a frame a second.
    const LONG: &str = "file-1-fps";
    /// Of the short file, all.
    const WHOLE: &str = "file-unpaced";

    fn new(stage: &Stage, plan: &Sources) -> anyhow::Result<Self> {
        let film = ClipSpec {
            camera: 1,
            width: 320,
            height: 240,
            fps: plan.fps,
            gop: plan.fps,
            codec: Codec::H264,
            seconds: FILM_SECONDS,
        };
        let long_seconds = plan.long / LONG_FPS;
        let long = ClipSpec { camera: 2, fps: LONG_FPS, gop: LONG_FPS, seconds: long_seconds, ..film };
        let dir = stage.dir().join("films");
        fs::create_dir(&dir).context("cannot make the directory for films")?;
        let copy = |name: &str, film: &ClipSpec| {
            let path = dir.join(name);
            fs::copy(film.mp4(&default_cache_dir())?, &path).context("cannot copy a film")?;
            anyhow::Ok(path)
        };
        let (short, long) = (copy("short.mp4", &film)?, copy("long.mp4", &long)?);
        Ok(Self { short, short_frames: film.frames()?.into(), long, long_seconds: long_seconds.into(), dir })
    }

    fn ask(&self, daemon: &Daemon) -> anyhow::Result<()> {
        let long = json!({ "url": url(&self.long)?, "pace": "unpaced", "sampling": { "fps": 1 } });
        daemon.put_camera(Self::LONG, &long)?;
        daemon.put_camera(Self::WHOLE, &json!({ "url": url(&self.short)?, "pace": "unpaced" }))
    }

    fn wait(&self, daemon: &Daemon) -> anyhow::Result<()> {
        for id in [Self::LONG, Self::WHOLE] {
            daemon.wait_for(id, Duration::from_secs(120), |status| {
                status.state == "ended" && status.watermark == status.totals.captured && status.totals.in_flight == 0
            })?;
        }
        Ok(())
    }

    fn judge(&self, daemon: &Daemon, problems: &mut Problems, figure: &mut Map<String, Value>) -> anyhow::Result<()> {
        let sampled = Pattern::Fps { source: LONG_FPS.into(), wanted: 1.0 };
        for (id, pattern, expected, off_by) in
            [(Self::LONG, sampled, self.long_seconds, OFF_BY), (Self::WHOLE, Pattern::Every(1), self.short_frames, 0)]
        {
            let (verdict, entries) = judge_by(daemon, &Storage::Directory, id, pattern, problems)?;
            problems.check(verdict.frames.abs_diff(expected) <= off_by && verdict.tombstoned == 0, || {
                format!("camera {id}: {} frames of {expected}, {} lost", verdict.frames, verdict.tombstoned)
            });
            check_sessions(id, "h264", &entries, problems);
            let ends: Vec<_> = entries
                .iter()
                .filter_map(|entry| if let Entry::Session { why, .. } = entry { Some(why.as_deref()) } else { None })
                .collect();
            problems.check(ends == [Some("end of stream")], || format!("camera {id}: its sessions ended so: {ends:?}"));
            figure.insert(id.to_owned(), verdict.frames.into());
        }
        Ok(())
    }
}

/// A film under a device's name. Removed when dropped.
struct StandIn {
    device: PathBuf,
}

impl StandIn {
    /// Takes a name that is free: other runs may be going on.
    fn new(film: &Path) -> anyhow::Result<Self> {
        for number in DEVICES {
            let device = PathBuf::from(format!("/dev/video{number}"));
            if device.is_symlink() && !device.exists() {
                // Of a run that was killed, whose film is gone.
                fs::remove_file(&device).with_context(|| format!("cannot remove the link {}", device.display()))?;
            }
            match symlink(film, &device) {
                Ok(()) => return Ok(Self { device }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot make the link {}: only root may", device.display()));
                }
            }
        }
        bail!("/dev/video{} to /dev/video{} are all taken", DEVICES.start(), DEVICES.end())
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.device) {
            eprintln!("cannot remove the link {}: {error}", self.device.display());
        }
    }
}
