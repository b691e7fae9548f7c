//! Cameras without video: a capture program that makes up its pictures, as many and as fast as its camera's URL says.
//!
//! A capture process of the real kind needs a second and a core for what a test of the spool wants at once: the first
//! frame within a tenth of a second, thousands of frames, of any size. The daemon starts `framehaul-capture-ffmpeg`
//! or `framehaul-capture-opencv` from its `capture.engine_dir`; [`engines`] makes such a directory, in which both names
//! are links to the test bed's own binary. Called by one of them, the binary is [`engine`] instead. Cameras of other URLs
//! get the real program of that name, so that both kinds can stand side by side. The pictures carry the mark that [`oracle`](crate::oracle) reads.

pub mod engine;
mod picture;
mod wire;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use url::Url;

use crate::mark::{MIN_SIZE, crc16};

/// The names under which the daemon starts its capture programs.
pub const CAPTURES: [&str; 2] = ["framehaul-capture-ffmpeg", "framehaul-capture-opencv"];
/// What stands before the names of the real ones, beside the links of those names.
const REAL: &str = "real-";
/// Where synthetic cameras are said to be. Nothing is sent there: port 9 discards.
const PLACE: &str = "rtsp://127.0.0.1:9/synthetic";

/// A synthetic camera, as its URL tells its capture process.
#[derive(Debug, Clone, PartialEq)]
pub struct Synthetic {
    /// Its name, by which it is asked of the daemon.
    pub name: String,
    /// The number in its pictures.
    pub number: u16,
    /// Frames a second; 0 gives them as fast as they are taken.
    pub fps: f64,
    /// How long after its start its first frame comes, milliseconds: cameras that start together need not stay together.
    pub late_ms: u64,
    /// Bytes of each picture.
    pub bytes: usize,
    /// Width of the pictures, pixels: blocks of the mark must be whole blocks of the JPEG, so a multiple of 160.
    pub width: u16,
    /// Their height, the same.
    pub height: u16,
    /// How many frames it gives after each start; 0 goes on for ever.
    pub frames: u64,
    /// After so many frames it says that one found the pipe full; 0 never.
    pub overrun_every: u64,
    /// After so many frames it says that two were damaged; 0 never.
    pub corrupt_every: u64,
    /// One frame in so many is marked as damaged; 0 none.
    pub damaged_every: u64,
    /// Whether it says that its pictures have shown the same since its start.
    pub frozen: bool,
    /// How far its own clock is ahead of this machine's, milliseconds; `None` tells no time.
    pub clock_ms: Option<i64>,
}

impl Synthetic {
    /// A camera of 25 frames a second, 160x160 pixels and 8,000 bytes each, that loses none.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            number: crc16(name.as_bytes()),
            fps: 25.0,
            late_ms: 0,
            bytes: 8_000,
            width: 160,
            height: 160,
            frames: 0,
            overrun_every: 0,
            corrupt_every: 0,
            damaged_every: 0,
            frozen: false,
            clock_ms: None,
        }
    }

    /// With another rate.
    pub fn fps(self, fps: f64) -> Self {
        Self { fps, ..self }
    }

    /// With pictures of so many bytes.
    pub fn bytes(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }

    /// Ending its pictures after so many.
    pub fn frames(self, frames: u64) -> Self {
        Self { frames, ..self }
    }

    /// Missing a frame after so many, and two after so many others.
    pub fn missing(self, overrun_every: u64, corrupt_every: u64) -> Self {
        Self { overrun_every, corrupt_every, ..self }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let Self { name, number, fps, bytes, width, height, frames, overrun_every, corrupt_every, .. } = self;
        let Self { late_ms, damaged_every, frozen, clock_ms, .. } = self;
        let clock = clock_ms.map(|ms| format!("&clock_ms={ms}")).unwrap_or_default();
        format!(
            "{PLACE}/{name}?number={number}&fps={fps}&late_ms={late_ms}&bytes={bytes}&width={width}&height={height}\
             &frames={frames}&overrun_every={overrun_every}&corrupt_every={corrupt_every}&damaged_every={damaged_every}&frozen={frozen}{clock}"
        )
    }

    /// What is asked of the daemon.
    pub fn request(&self) -> Value {
        json!({ "url": self.url() })
    }
}

impl FromStr for Synthetic {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let url = Url::parse(text).with_context(|| format!("`{text}` is no URL"))?;
        let name = text.strip_prefix(PLACE).map(|_| url.path_segments().and_then(|mut path| path.nth(1)));
        let mut camera = Self::new(name.flatten().with_context(|| format!("`{text}` is no synthetic camera"))?);
        for (key, value) in url.query_pairs() {
            let wrong = || format!("`{key}={value}` of a synthetic camera");
            match &*key {
                "number" => camera.number = value.parse().with_context(wrong)?,
                "fps" => camera.fps = value.parse().with_context(wrong)?,
                "late_ms" => camera.late_ms = value.parse().with_context(wrong)?,
                "bytes" => camera.bytes = value.parse().with_context(wrong)?,
                "width" => camera.width = value.parse().with_context(wrong)?,
                "height" => camera.height = value.parse().with_context(wrong)?,
                "frames" => camera.frames = value.parse().with_context(wrong)?,
                "overrun_every" => camera.overrun_every = value.parse().with_context(wrong)?,
                "corrupt_every" => camera.corrupt_every = value.parse().with_context(wrong)?,
                "damaged_every" => camera.damaged_every = value.parse().with_context(wrong)?,
                "frozen" => camera.frozen = value.parse().with_context(wrong)?,
                "clock_ms" => camera.clock_ms = Some(value.parse().with_context(wrong)?),
                _ => anyhow::bail!("{}: it is not known", wrong()),
            }
        }
        ensure!(camera.fps >= 0.0 && camera.fps <= 1e6, "`fps={}` of a synthetic camera: 0 to 1000000", camera.fps);
        let side = |pixels: u16| pixels > 0 && pixels.is_multiple_of(160) && usize::from(pixels) >= MIN_SIZE.0;
        ensure!(
            side(camera.width) && side(camera.height),
            "a synthetic picture of {}x{}: both must be multiples of 160",
            camera.width,
            camera.height
        );
        Ok(camera)
    }
}

/// Whether a camera's location is that of a synthetic one.
fn is_synthetic(location: &str) -> bool {
    location.starts_with(PLACE)
}

/// Makes a directory of capture programs for `program`, the daemon, whose `capture.engine_dir` it is to be.
///
/// # Errors
///
/// When the test bed's binary is not beside `program`.
pub fn engines(dir: &Path, program: &Path) -> anyhow::Result<PathBuf> {
    let ours = program.with_file_name("testbed");
    ensure!(ours.is_file(), "there is no {}: run cargo build --workspace --bins", ours.display());
    let engines = dir.join("engines");
    fs::create_dir_all(&engines).with_context(|| format!("cannot make {}", engines.display()))?;
    for name in CAPTURES {
        for (link, target) in [(name.to_owned(), ours.clone()), (format!("{REAL}{name}"), program.with_file_name(name))]
        {
            let link = engines.join(link);
            if !link.is_symlink() {
                symlink(&target, &link).with_context(|| format!("cannot link {}", link.display()))?;
            }
        }
    }
    Ok(engines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_camera_reads_back_from_its_url() {
        let camera = Synthetic::new("a-1").fps(12.5).bytes(150_000).frames(7).missing(50, 70);
        let odd = Synthetic { late_ms: 40, damaged_every: 3, frozen: true, clock_ms: Some(-300), ..camera.clone() };
        for camera in [&camera, &odd] {
            assert_eq!(camera.url().parse::<Synthetic>().unwrap(), *camera);
        }
        assert!(is_synthetic(&camera.url()));
    }

    #[test]
    fn what_makes_no_camera_is_refused() {
        for (text, named) in [
            ("rtsp://127.0.0.1:8554/a", "no synthetic camera"),
            ("rtsp://127.0.0.1:9/synthetic", "no synthetic camera"),
            ("rtsp://127.0.0.1:9/synthetic/a?speed=1", "speed=1"),
            ("rtsp://127.0.0.1:9/synthetic/a?width=320&height=240", "320x240"),
            ("rtsp://127.0.0.1:9/synthetic/a?fps=-1", "fps=-1"),
        ] {
            let error = text.parse::<Synthetic>().unwrap_err();
            assert!(format!("{error:#}").contains(named), "{text}: {error:#}");
        }
    }
}
