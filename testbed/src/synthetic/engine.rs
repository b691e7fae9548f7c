//! The capture process itself.
//!
//! Unlike a real one it waits where the pipe is full: it has no decoder that must not be held up, and every frame that
//! it lost would have to be told apart from those that the daemon lost. What it misses, it misses because its URL says
//! so.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;

use super::picture::Painter;
use super::wire::{self, Stats, Told};
use super::{CAPTURES, REAL, Synthetic, is_synthetic};
use crate::mark::Mark;

/// Numbers before the counter in the pictures begins anew: 40 minutes at 25 frames a second.
const CLIP: u16 = 60_000;
/// How often counters are reported.
const STATS_EVERY: Duration = Duration::from_secs(1);
/// The longest line of settings, bytes.
const MAX_SETTINGS: u64 = 64 * 1024;

/// What of the daemon's settings is of interest.
#[derive(Deserialize)]
struct Settings {
    location: String,
}

/// Runs as a capture process, if this binary was called by such a name.
pub fn if_called_by_name(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let path = PathBuf::from(arguments.into_iter().next()?);
    let name = CAPTURES.into_iter().find(|name| path.file_name().is_some_and(|called| called == *name))?;
    Some(run(&path.with_file_name(format!("{REAL}{name}"))).unwrap_or_else(|error| {
        eprintln!("synthetic camera: {error:#}");
        ExitCode::FAILURE
    }))
}

/// `program` is the real one, for cameras that are none of ours.
fn run(program: &Path) -> anyhow::Result<ExitCode> {
    let mut stdin = BufReader::new(std::io::stdin());
    let mut line = String::new();
    stdin.by_ref().take(MAX_SETTINGS).read_line(&mut line).context("cannot read the settings")?;
    let settings: Settings = serde_json::from_str(&line).context("the settings are not understood")?;
    if !is_synthetic(&settings.location) {
        return real(program, &line, stdin);
    }
    let camera: Synthetic = settings.location.parse()?;
    let told = Arc::new(AtomicBool::new(false));
    let (stop, main) = (told.clone(), thread::current());
    thread::spawn(move || listen(stdin, &stop, &main));
    let out = std::io::stdout().as_fd().try_clone_to_owned().context("cannot take standard output")?;
    // As a real capture process has it.
    let _ = rustix::pipe::fcntl_setpipe_size(&out, 1 << 20);
    stream(&camera, File::from(out), &told)?;
    Ok(ExitCode::SUCCESS)
}

/// Stands between the daemon and a real capture process, whose settings were read already. It writes to our standard
/// output and ends when its standard input closes, which our end sees to as well.
fn real(program: &Path, settings: &str, mut stdin: impl Read + Send + 'static) -> anyhow::Result<ExitCode> {
    let started = Command::new(program).stdin(Stdio::piped()).spawn();
    let mut child = started.with_context(|| format!("cannot start {}", program.display()))?;
    let mut to_child = child.stdin.take().expect("it was asked for");
    to_child.write_all(settings.as_bytes()).context("cannot pass the settings on")?;
    thread::spawn(move || {
        let mut word = [0; 64];
        // A child that is gone is waited for below.
        while let Ok(1..) = stdin.read(&mut word).and_then(|count| to_child.write_all(&word[..count]).map(|()| count)) {
        }
    });
    let status = child.wait().context("cannot wait for the capture process")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// Waits for the word to stop; ends the process when the daemon has closed the pipe.
fn listen(stdin: impl BufRead, stop: &AtomicBool, main: &Thread) {
    for line in stdin.lines() {
        if line.is_ok_and(|word| word.trim() == "stop") {
            stop.store(true, Ordering::Relaxed);
            main.unpark();
        }
    }
    // Nobody is left to take a frame, and the other thread may be waiting for room in the pipe.
    std::process::exit(0);
}

/// Gives frames until told to stop.
fn stream(camera: &Synthetic, mut out: impl Write, stop: &AtomicBool) -> anyhow::Result<()> {
    let mut painter = Painter::new(camera);
    let mut stats = Stats::default();
    let mut buffer = Vec::with_capacity(camera.bytes + 1_024);
    wire::opened(&mut buffer, camera.fps, camera.width, camera.height)?;
    let started = Instant::now();
    let begun = started + Duration::from_millis(camera.late_ms);
    // Another number at each start: a frame of one session that turns up in another is seen.
    let first = monotonic_ns() / 1_000_000;
    let mut unwanted = 0;
    let mut next_stats = started + STATS_EVERY;
    while !stop.load(Ordering::Relaxed) {
        let due = due(camera, begun, stats.grabbed);
        let now = Instant::now();
        if now >= next_stats {
            next_stats = now + STATS_EVERY;
            // Pictures come, and none is wanted, or few: a stream that stood still would be opened anew.
            if done(camera, &stats) || (camera.fps > 0.0 && camera.fps < 1.0) {
                unwanted += 1;
            }
            if camera.frozen {
                stats.still_ms = started.elapsed().as_millis() as u64;
            }
            wire::stats(&mut buffer, Stats { grabbed: stats.grabbed + unwanted, ..stats })?;
        }
        if done(camera, &stats) || now < due {
            out.write_all(&buffer).context("the daemon has gone")?;
            buffer.clear();
            let until = if done(camera, &stats) { next_stats } else { due.min(next_stats) };
            thread::park_timeout(until.saturating_duration_since(Instant::now()));
            continue;
        }
        miss(camera, &mut stats, &mut buffer)?;
        let counter = ((first + stats.grabbed) % u64::from(CLIP)) as u32;
        stats.grabbed += 1;
        stats.delivered += 1;
        stats.last_pts_micros = begun.elapsed().as_micros() as i64;
        let mark = Mark { camera: camera.number, counter, clip_frames: CLIP };
        let size = (camera.width, camera.height);
        let told = Told {
            wall_micros: camera.clock_ms.map(|ahead| unix_micros() + ahead * 1_000),
            damaged: camera.damaged_every > 0 && stats.delivered.is_multiple_of(camera.damaged_every),
        };
        wire::frame(&mut buffer, monotonic_ns(), stats.last_pts_micros, told, size, |out| painter.paint(mark, out))?;
        out.write_all(&buffer).context("the daemon has gone")?;
        buffer.clear();
    }
    wire::ended(&mut buffer, "stopped")?;
    out.write_all(&buffer).context("the daemon has gone")
}

/// Whether it has given all it has.
fn done(camera: &Synthetic, stats: &Stats) -> bool {
    camera.frames > 0 && stats.delivered >= camera.frames
}

/// When its next frame is to come.
fn due(camera: &Synthetic, begun: Instant, grabbed: u64) -> Instant {
    if camera.fps > 0.0 { begun + Duration::from_secs_f64(grabbed as f64 / camera.fps) } else { begun }
}

/// Says what was missed before the next frame, where it is time for that.
fn miss(camera: &Synthetic, stats: &mut Stats, out: &mut Vec<u8>) -> anyhow::Result<()> {
    let time = |every: u64| every > 0 && stats.delivered > 0 && stats.delivered.is_multiple_of(every);
    if time(camera.corrupt_every) {
        wire::corrupt(out, 2)?;
        stats.corrupt += 2;
        stats.grabbed += 2;
    }
    if time(camera.overrun_every) {
        wire::overrun(out, 1)?;
        stats.overrun += 1;
        stats.grabbed += 1;
    }
    Ok(())
}

/// The wall clock, Unix microseconds.
fn unix_micros() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_micros() as i64)
}

/// `CLOCK_MONOTONIC`, nanoseconds, which frames are stamped with.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
