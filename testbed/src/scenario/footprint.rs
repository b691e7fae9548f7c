//! What the daemon weighs, and what it is linked with.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;

use super::stage::{add, bucket, cameras, until_streaming};
use super::{Outcome, Problems, Stage};
use crate::gcs::Knobs;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Footprint {
    /// Most resident memory without cameras, MB (10^6 bytes).
    pub idle_mb: f64,
    /// Most of it that is the daemon's own: no pages of files, of which the kernel maps more or fewer.
    pub idle_own_mb: f64,
    /// Most resident memory with cameras, MB.
    pub busy_mb: f64,
    /// How many cameras.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: u32,
    /// How long they stream.
    pub seconds: u64,
}

/// Libraries that belong into capture processes only.
const MEDIA: [&str; 8] = ["opencv", "avcodec", "avformat", "avutil", "swscale", "gstreamer", "libgst", "turbojpeg"];

/// The media libraries that a binary is linked with.
///
/// # Errors
///
/// When `ldd` cannot tell.
pub fn media_libraries(binary: &Path) -> anyhow::Result<(Vec<String>, usize)> {
    let output = Command::new("ldd").arg(binary).output().context("cannot run ldd")?;
    ensure!(output.status.success(), "ldd cannot read {}", binary.display());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let media = text.lines().filter(|line| MEDIA.iter().any(|name| line.contains(name)));
    Ok((media.map(|line| line.trim().to_owned()).collect(), text.lines().count()))
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn footprint(stage: &Stage, program: &Path, plan: &Footprint) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    let (media, libraries) = media_libraries(program)?;
    problems.check(media.is_empty(), || format!("linked with {}", media.join(", ")));
    let capture = program.with_file_name("framehaul-capture-opencv");
    // Were ldd's answer not what we take it for, this would find nothing either.
    problems
        .check(!media_libraries(&capture)?.0.is_empty(), || "ldd finds no OpenCV in the capture program".to_owned());

    let (_gcs, storage) = bucket(stage, Knobs::default())?;
    let server = cameras("cam", plan.cameras, plan.fps)?;
    let daemon = stage.daemon(&storage, "")?;
    daemon.get("/metrics")?;
    let mb = |kib: u64| kib as f64 * 1024.0 / 1e6;
    let (idle, own) = (mb(daemon.resident_kib()?), mb(daemon.own_kib()?));
    let ids = add(&daemon, &server)?;
    until_streaming(&daemon, &ids, Duration::from_secs(30))?;
    let wanted = plan.seconds * u64::from(plan.fps);
    let mut busy: f64 = 0.0;
    for id in &ids {
        daemon.wait_for(id, Duration::from_secs(plan.seconds * 2 + 30), |status| {
            busy = busy.max(daemon.resident_kib().map_or(f64::MAX, mb));
            status.totals.stored >= wanted
        })?;
    }
    problems.check(idle < plan.idle_mb, || format!("{idle:.1} MB resident without cameras"));
    problems.check(own < plan.idle_own_mb, || format!("{own:.1} MB of its own without cameras"));
    problems.check(busy < plan.busy_mb, || format!("{busy:.1} MB resident with {} cameras", plan.cameras));
    let bound = format!(
        "no media library; idle under {} MB, {} of them its own, with {} cameras at {} fps under {} MB resident",
        plan.idle_mb, plan.idle_own_mb, plan.cameras, plan.fps, plan.busy_mb
    );
    let round = |mb: f64| (mb * 10.0).round() / 10.0;
    let figure = json!({
        "shared_libraries": libraries,
        "media_libraries": media.len(),
        "idle_mb": round(idle),
        "idle_own_mb": round(own),
        "busy_mb": round(busy),
    });
    Ok(problems.measured(bound, figure))
}
