//! What capturing costs: processor time and memory of the capture programs, and the time from capture to bucket.

mod cost;
mod end_to_end;
mod key_frames;
mod load;
mod pass_through;
mod rtsp;

use std::path::PathBuf;

use serde_json::Value;

use crate::cameras::{CameraServer, CameraSpec, default_cache_dir};
use crate::clip::{ClipSpec, Film};

pub use cost::{Cost, Counts, Medium, cost};
pub use end_to_end::{EndToEnd, end_to_end};
pub use key_frames::{KeyFrames, key_frames};
pub use load::{Load, Memory, load};
pub use pass_through::{PassThrough, pass_through};
pub use rtsp::{Hauled, Rtsp, rtsp};

/// A film as a file, and its first GOP as another: what a start alone costs.
struct Files {
    whole: PathBuf,
    frames: u64,
    start: PathBuf,
    start_frames: u64,
}

impl Files {
    fn of_film(film: &Film) -> anyhow::Result<Self> {
        let (dir, gop) = (default_cache_dir(), film.clip.gop);
        Ok(Self {
            whole: film.mp4(&dir)?,
            frames: film.clip.frames()?.into(),
            start: film.beginning(&dir, gop)?,
            start_frames: gop.into(),
        })
    }

    fn of_jpegs(clip: &ClipSpec) -> anyhow::Result<Self> {
        let (dir, second) = (default_cache_dir(), clip.fps);
        Ok(Self {
            whole: clip.mp4(&dir)?,
            frames: clip.frames()?.into(),
            start: clip.beginning(&dir, second)?,
            start_frames: second.into(),
        })
    }

    /// Milliseconds a frame of the film without the start, by what both files took.
    fn ms_per_frame(&self, whole: f64, start: f64) -> f64 {
        (whole - start) * 1e3 / (self.frames - self.start_frames) as f64
    }
}

/// What a PUT says that has a camera captured by an engine.
fn request(server: &CameraServer, spec: &CameraSpec, engine: &str) -> Value {
    let mut request = server.request(spec);
    request["engine"] = engine.into();
    request
}
