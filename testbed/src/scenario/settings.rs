//! What a camera's spec asks for is what arrives: transport, sampling, size.

use std::time::Duration;

use serde_json::json;

use super::stage::{cameras, judge_by};
use super::{Outcome, Problems, Stage};
use crate::daemon::Storage;
use crate::oracle::{Entry, Pattern};

/// How long it goes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Frames a second of the stream.
    pub fps: u32,
    /// For how many seconds of the stream.
    pub seconds: u64,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn settings(stage: &Stage, plan: &Settings) -> anyhow::Result<Outcome> {
    const WIDTH: u32 = 320;
    let server = cameras("cam", 1, plan.fps)?;
    let url = server.url("cam0");
    let daemon = stage.daemon(&Storage::Directory, "")?;
    let source = f64::from(plan.fps);
    let wanted = source / 10.0;
    // Name, spec, the pattern its pictures must show, and frames a second.
    let asked = [
        ("udp", json!({ "url": url, "transport": "udp" }), Pattern::Every(1), source),
        ("tenth", json!({ "url": url, "sampling": { "every": 10 } }), Pattern::Every(10), wanted),
        ("slow", json!({ "url": url, "sampling": { "fps": wanted } }), Pattern::Fps { source, wanted }, wanted),
        ("narrow", json!({ "url": url, "max_width": WIDTH, "jpeg_quality": 50 }), Pattern::Every(1), source),
    ];
    for (id, spec, ..) in &asked {
        daemon.put_camera(id, spec)?;
    }
    for (id, _, _, rate) in &asked {
        let frames = (plan.seconds as f64 * rate) as u64;
        daemon.wait_for(id, Duration::from_secs(plan.seconds * 2 + 30), |status| status.totals.stored >= frames)?;
    }
    daemon.quiesce(Duration::from_secs(30))?;

    let mut problems = Problems::default();
    let mut frames = serde_json::Map::new();
    for (id, _, pattern, _) in asked {
        let (verdict, entries) = judge_by(&daemon, &Storage::Directory, id, pattern, &mut problems)?;
        frames.insert(id.to_owned(), verdict.frames.into());
        let narrow = entries.iter().all(|entry| match entry {
            Entry::Frame(frame) => (frame.width, frame.height) == (WIDTH, WIDTH * 3 / 4),
            _ => true,
        });
        problems.check(narrow == (id == "narrow"), || format!("camera {id}: pictures of another size than asked for"));
    }
    let bound = "udp, every 10th, a tenth of the rate, a smaller width: each shows what was asked for, without a gap";
    Ok(problems.measured(bound, frames.into()))
}
