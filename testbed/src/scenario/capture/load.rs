//! What a real camera's capture process takes of a processor and of memory, while it plays.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::super::{Outcome, Problems, Stage};
use super::request;
use crate::cameras::{CameraServer, CameraSpec, default_cache_dir};
use crate::clip::Film;
use crate::contest::{Contestant, Programs, Spread, round, trial};
use crate::daemon::{Daemon, Storage};

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Load {
    /// The engine that is judged.
    pub engine: &'static str,
    /// Cameras of which a frame a second is wanted.
    pub cameras: usize,
    /// Width and height of their pictures, pixels.
    pub size: (u32, u32),
    /// Their frames a second, and from one key frame to the next.
    pub fps: u32,
    /// Their bits a second, thousands.
    pub kbits: u32,
    /// Other bits a second at which the same is measured, for comparison.
    pub other_kbits: Vec<u32>,
    /// How long they are measured.
    pub lasts: Duration,
    /// How many of them a processor must be able to carry.
    pub least_per_core: f64,
    /// Cameras of which all frames are wanted, whose memory is measured.
    pub memory: Vec<Memory>,
    /// How long that is.
    pub memory_lasts: Duration,
}

/// A camera whose capture process has a bound to its memory.
#[derive(Debug, Clone)]
pub struct Memory {
    /// Width and height of its pictures, pixels.
    pub size: (u32, u32),
    /// Its bits a second, thousands.
    pub kbits: u32,
    /// Most private memory, MB (10^6 bytes).
    pub most_mb: f64,
}

/// How long a camera may take to its first frames.
const STREAMS_WITHIN: Duration = Duration::from_secs(60);
/// Length of their clips, seconds: short, as each camera has one of its own, and nobody asks for its marks.
const CLIP_SECONDS: u32 = 10;
/// How often the parts by themselves are measured.
const FLOOR_ROUNDS: usize = 5;
/// How often memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn load(stage: &Stage, plan: &Load) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    let daemon = stage.daemon(&Storage::Directory, "")?;
    let programs = Programs::new(stage.program(), None)?;
    let mut figure = processor(&daemon, &programs, plan, plan.kbits, &mut problems)?;
    let mut others = Map::new();
    for kbits in &plan.other_kbits {
        // What they are to reach is said of the one rate.
        let plan = Load { least_per_core: 0.0, ..plan.clone() };
        others.insert(kbits.to_string(), processor(&daemon, &programs, &plan, *kbits, &mut problems)?.into());
    }
    figure.insert("at_other_kbits".to_owned(), others.into());
    let memory = memory(&daemon, plan, plan.engine, Some(&mut problems))?;
    figure.insert("private_mb".to_owned(), memory);
    // For comparison, without a verdict.
    figure.insert("private_mb_with_opencv".to_owned(), self::memory(&daemon, plan, "opencv", None)?);
    let sizes: Vec<String> = plan
        .memory
        .iter()
        .map(|Memory { size: (width, height), most_mb, .. }| format!("{most_mb} MB at {width}x{height}"))
        .collect();
    let bound = format!(
        "{} cameras a core at 1 fps from {}x{} at {} fps and {} kbit/s; private memory of a capture process at most {}",
        plan.least_per_core,
        plan.size.0,
        plan.size.1,
        plan.fps,
        plan.kbits,
        sizes.join(", ")
    );
    Ok(problems.measured(bound, figure.into()))
}

/// Processor time of cameras of which a frame a second is wanted.
fn processor(
    daemon: &Daemon,
    programs: &Programs,
    plan: &Load,
    kbits: u32,
    problems: &mut Problems,
) -> anyhow::Result<Map<String, Value>> {
    let camera = |index| {
        let spec = CameraSpec::new(&format!("slow{index}")).size(plan.size.0, plan.size.1);
        numbered(spec.rate(plan.fps, plan.fps).film(kbits, CLIP_SECONDS), index)
    };
    let server = CameraServer::start(&(0..plan.cameras).map(camera).collect::<Vec<_>>(), 0, default_cache_dir())?;
    for spec in server.specs() {
        let mut request = request(&server, spec, plan.engine);
        request["sampling"] = json!({ "fps": 1 });
        daemon.put_camera(&spec.name, &request)?;
    }
    // The first frames come with what a start takes.
    let begun = look(daemon, &server, |captured| captured > 2)?;
    let (daemon_before, at) = (trial::processor_time(daemon.pid())?, Instant::now());
    std::thread::sleep(plan.lasts);
    let seconds = at.elapsed().as_secs_f64();
    let daemons = trial::processor_time(daemon.pid())? - daemon_before;
    let ended = look(daemon, &server, |_| true)?;
    let (mut shares, mut frames) = (Vec::new(), Vec::new());
    for ((spec, before), after) in server.specs().iter().zip(begun).zip(ended) {
        let captured = after.captured - before.captured;
        problems.check(before.pid == after.pid, || format!("camera {}: another capture process", spec.name));
        problems.check((captured as f64 - seconds).abs() <= 2.0, || {
            format!("camera {}: {captured} frames in {seconds:.1} s at 1 fps", spec.name)
        });
        shares.push((after.processor.saturating_sub(before.processor)).as_secs_f64() / seconds);
        frames.push(captured);
        daemon.delete_camera(&spec.name)?;
    }
    let most = shares.iter().copied().fold(0.0, f64::max);
    let share = shares.iter().sum::<f64>() / shares.len() as f64;
    let with_daemon = share + daemons.as_secs_f64() / seconds / plan.cameras as f64;
    let per_core = 1.0 / share;
    let film = Film { clip: server.specs().first().context("no camera")?.clip(), kbits }.mp4(&default_cache_dir())?;
    let [decode, encode] = [Contestant::FloorDecode, Contestant::FloorEncode].map(|part| floor(part, programs, &film));
    let (decode, encode) = (decode?, encode?);
    problems.check(per_core >= plan.least_per_core, || {
        format!(
            "{per_core:.1} cameras a core, {} are wanted: {:.1} ms a second each. Of one key frame libavcodec alone takes \
             {:.1} ms and libjpeg-turbo alone {:.1} ms, which leaves {:.1} cameras a core if nothing else costs anything",
            plan.least_per_core,
            share * 1e3,
            decode.median,
            encode.median,
            1e3 / (decode.median + encode.median)
        )
    });
    let figure = json!({
        "cameras": plan.cameras,
        "seconds": round(seconds),
        "frames": frames,
        "ms_a_second": round(share * 1e3),
        "most_ms_a_second": round(most * 1e3),
        "cameras_a_core": round(per_core),
        "cameras_a_core_with_the_daemons_part": round(1.0 / with_daemon),
        "libavcodec_alone_ms_a_key_frame": decode.json(),
        "libjpeg_turbo_alone_ms_a_key_frame": encode.json(),
        "cameras_a_core_if_nothing_else_cost": round(1e3 / (decode.median + encode.median)),
    });
    figure.as_object().cloned().context("an object")
}

/// What a part of the work takes by itself of each key frame, ms.
fn floor(part: Contestant, programs: &Programs, film: &Path) -> anyhow::Result<Spread> {
    let ms =
        |_| part.run_over_key_frames(programs, film).map(|run| run.processor.as_secs_f64() * 1e3 / run.frames as f64);
    Spread::of((0..FLOOR_ROUNDS).map(ms).collect::<anyhow::Result<_>>()?)
}

/// With the same number in its pictures whatever its name, so that a film once made serves every engine.
fn numbered(spec: CameraSpec, index: usize) -> CameraSpec {
    CameraSpec { number: u16::try_from(index).unwrap_or(u16::MAX), ..spec }
}

/// A camera at a moment.
struct Seen {
    pid: u32,
    captured: u64,
    processor: Duration,
}

/// Looks at each camera once it has come so far.
fn look(daemon: &Daemon, server: &CameraServer, far: impl Fn(u64) -> bool) -> anyhow::Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for spec in server.specs() {
        daemon.wait_for(&spec.name, STREAMS_WITHIN, |status| {
            status.state == "streaming" && far(status.totals.captured)
        })?;
    }
    // All at one time, as good as that is.
    for spec in server.specs() {
        let status = daemon.status(&spec.name)?;
        let pid = status.pid.with_context(|| format!("camera {} has no capture process", spec.name))?;
        seen.push(Seen { pid, captured: status.totals.captured, processor: trial::processor_time(pid)? });
    }
    Ok(seen)
}

/// Private memory of cameras of which all frames are wanted.
fn memory(daemon: &Daemon, plan: &Load, engine: &str, mut problems: Option<&mut Problems>) -> anyhow::Result<Value> {
    let name = |memory: &Memory| format!("{engine}-{}x{}", memory.size.0, memory.size.1);
    let spec = |(index, memory): (usize, &Memory)| {
        let spec = CameraSpec::new(&name(memory)).size(memory.size.0, memory.size.1);
        numbered(spec.rate(plan.fps, plan.fps).film(memory.kbits, CLIP_SECONDS), index)
    };
    let specs: Vec<CameraSpec> = plan.memory.iter().enumerate().map(spec).collect();
    let server = CameraServer::start(&specs, 0, default_cache_dir())?;
    for spec in server.specs() {
        daemon.put_camera(&spec.name, &request(&server, spec, engine))?;
    }
    let seen = look(daemon, &server, |captured| captured > u64::from(plan.fps))?;
    let mut most = vec![0; seen.len()];
    let until = Instant::now() + plan.memory_lasts;
    while Instant::now() < until {
        for (seen, most) in seen.iter().zip(&mut most) {
            *most = trial::private_bytes(seen.pid)?.max(*most);
        }
        std::thread::sleep(LOOK_EVERY);
    }
    let mut told = Map::new();
    for (memory, most) in plan.memory.iter().zip(most) {
        let (name, mb) = (name(memory), most as f64 / 1e6);
        if let Some(problems) = problems.as_deref_mut() {
            problems.check(mb <= memory.most_mb, || {
                format!("camera {name}: {mb:.1} MB private, allowed are {}", memory.most_mb)
            });
        }
        daemon.delete_camera(&name)?;
        told.insert(format!("{}x{}", memory.size.0, memory.size.1), json!(round(mb)));
    }
    Ok(told.into())
}
