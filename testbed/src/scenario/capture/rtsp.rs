//! What hauling RTSP cameras takes: time from capture to bucket, and processor time of all that is ours.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::super::Stage;
use super::super::spool::{delays_ms, percentile};
use super::super::stage::{BUCKET, until_streaming};
use super::request;
use crate::cameras::{CameraServer, CameraSpec, default_cache_dir};
use crate::contest::{Spread, Tree, round, trial};
use crate::daemon::{Credentials, Storage};
use crate::gcs::{GcsServer, Options};
use crate::oracle::Entry;

/// What is hauled.
#[derive(Debug, Clone)]
pub struct Rtsp {
    /// The engine.
    pub engine: &'static str,
    /// The numbers of cameras, each measured by itself.
    pub cameras: Vec<usize>,
    /// Width and height of their pictures, pixels.
    pub size: (u32, u32),
    /// Their frames a second.
    pub fps: u32,
    /// Their bits a second, thousands.
    pub kbits: u32,
    /// How long it is measured.
    pub lasts: Duration,
    /// How often each number has its turn.
    pub rounds: usize,
}

/// What so many cameras took.
#[derive(Debug, Clone)]
pub struct Hauled {
    /// So many.
    pub cameras: usize,
    /// Frames stored, a second.
    pub frames_per_s: Spread,
    /// From capture to stored, milliseconds, of half of the frames.
    pub p50_ms: Spread,
    /// The same of 99 in a hundred.
    pub p99_ms: Spread,
    /// Processor time of the daemon's own process for 1,000 frames, seconds.
    pub daemon_s: Spread,
    /// The same of its capture processes.
    pub captures_s: Spread,
    /// Frames that were lost, in all rounds.
    pub lost: u64,
    /// What the cameras have given, a second.
    pub given_per_s: f64,
}

/// How long cameras may take to stream, and frames to be stored.
const WITHIN: Duration = Duration::from_secs(60);
/// A stream begins with what was buffered while it was opened.
const SETTLE: Duration = Duration::from_secs(3);
/// Of the cameras' film, which is the same for all, since nobody asks for its marks.
const CLIP_SECONDS: u32 = 10;

/// Measures it.
///
/// # Errors
///
/// When a part does not start or does not answer, or a camera does not stream all the time.
pub fn rtsp(stage: &Stage, plan: &Rtsp) -> anyhow::Result<Vec<Hauled>> {
    let mut looks: Vec<Vec<Look>> = plan.cameras.iter().map(|_| Vec::new()).collect();
    for nth in 0..plan.rounds {
        for (cameras, looks) in plan.cameras.iter().zip(&mut looks) {
            let look = look(stage, &format!("rtsp-{cameras}-{nth}"), plan, *cameras);
            looks.push(look.with_context(|| format!("{cameras} cameras, round {nth}"))?);
        }
    }
    let of = |looks: &[Look], figure: fn(&Look) -> f64| Spread::of(looks.iter().map(figure).collect());
    let hauled = |(cameras, looks): (&usize, &Vec<Look>)| {
        Ok(Hauled {
            cameras: *cameras,
            frames_per_s: of(looks, |look| look.frames as f64 / look.seconds)?,
            p50_ms: of(looks, |look| look.p50_ms)?,
            p99_ms: of(looks, |look| look.p99_ms)?,
            daemon_s: of(looks, |look| look.daemon.as_secs_f64() * 1e3 / look.frames as f64)?,
            captures_s: of(looks, |look| look.captures.as_secs_f64() * 1e3 / look.frames as f64)?,
            lost: looks.iter().map(|look| look.lost).sum(),
            given_per_s: (*cameras as u32 * plan.fps).into(),
        })
    };
    plan.cameras.iter().zip(&looks).map(hauled).collect()
}

impl Hauled {
    /// For a report.
    pub fn json(&self) -> Value {
        json!({
            "cameras": self.cameras,
            "given_per_s": self.given_per_s,
            "frames_per_s": self.frames_per_s.json(),
            "p50_ms": self.p50_ms.json(),
            "p99_ms": self.p99_ms.json(),
            "daemon_processor_s_per_1000": self.daemon_s.json(),
            "captures_processor_s_per_1000": self.captures_s.json(),
            "lost": self.lost,
        })
    }
}

/// What was seen in one go.
struct Look {
    frames: usize,
    lost: u64,
    seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
    daemon: Duration,
    captures: Duration,
}

fn look(stage: &Stage, dir: &str, plan: &Rtsp, cameras: usize) -> anyhow::Result<Look> {
    let gcs = GcsServer::start(Options { buckets: vec![BUCKET.to_owned()], discard: true, ..Options::default() })?;
    let storage =
        Storage::Gcs { endpoint: gcs.endpoint(), bucket: BUCKET.to_owned(), credentials: Credentials::Anonymous };
    // Each client has a stream of its own, with its own beginning.
    let spec = CameraSpec::new("film").size(plan.size.0, plan.size.1).rate(plan.fps, plan.fps);
    let spec = spec.film(plan.kbits, CLIP_SECONDS);
    let server = CameraServer::start(std::slice::from_ref(&spec), 0, default_cache_dir())?;
    let mut daemon = stage.daemon_in(dir, &storage, "")?;
    let mut ids = Vec::new();
    for nth in 0..cameras {
        ids.push(format!("cam{nth}"));
        daemon.put_camera(&ids[nth], &request(&server, &spec, plan.engine))?;
    }
    until_streaming(&daemon, &ids, WITHIN)?;
    thread::sleep(SETTLE);

    // The daemon alone takes little, and is measured finely; its capture processes are what is left of all.
    let captures = |pid: u32| anyhow::Ok(Tree::of(pid).processor()?.saturating_sub(trial::processor_time(pid)?));
    let pids = |daemon: &crate::daemon::Daemon| -> anyhow::Result<Vec<Option<u32>>> {
        Ok(daemon.statuses()?.into_iter().map(|(_, status)| status.pid).collect())
    };
    let before = pids(&daemon)?;
    let (own, theirs) = (trial::Threads::of(daemon.pid())?, captures(daemon.pid())?);
    let (from, at) = (OffsetDateTime::now_utc(), Instant::now());
    thread::sleep(plan.lasts);
    let (to, seconds) = (OffsetDateTime::now_utc(), at.elapsed().as_secs_f64());
    let own = trial::Threads::of(daemon.pid())?.since(&own);
    let theirs = captures(daemon.pid())?.saturating_sub(theirs);
    ensure!(pids(&daemon)? == before, "a capture process was started anew while it was measured");
    daemon.quiesce(WITHIN)?;

    let (mut delays, mut lost) = (Vec::new(), 0);
    for id in &ids {
        let list = daemon.list(id, 1_000)?;
        delays.extend(delays_ms(&list.entries, from, to)?);
        lost += list.entries.iter().filter(|entry| matches!(entry, Entry::Tombstone { .. })).count() as u64;
    }
    let status = daemon.stop()?;
    ensure!(status.success(), "framehaul ended with {status}");
    Ok(Look {
        frames: delays.len(),
        lost,
        seconds,
        p50_ms: percentile(&mut delays, 0.5)?,
        p99_ms: percentile(&mut delays, 0.99)?,
        daemon: own,
        captures: theirs,
    })
}

impl Rtsp {
    /// All figures of a run.
    pub fn json(&self, hauled: &[Hauled]) -> Value {
        json!({
            "engine": self.engine,
            "width": self.size.0,
            "height": self.size.1,
            "fps": self.fps,
            "kbits": self.kbits,
            "rounds": self.rounds,
            "seconds": round(self.lasts.as_secs_f64()),
            "by_cameras": hauled.iter().map(Hauled::json).collect::<Value>(),
        })
    }
}
