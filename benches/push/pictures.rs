//! What is uploaded: a film of 1080p, and JPEGs of its first pictures.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, ensure};
use testbed::cameras::default_cache_dir;
use testbed::clip::{ClipSpec, Codec, Film};

use crate::server::Object;
use crate::setting::Setting;

/// Pictures that there are; more are the same again.
const COUNT: usize = 50;
/// On ffmpeg's scale: some 150 KB a picture.
const QUALITY: &str = "3";
/// 1080p of a camera with 4 Mbit/s.
const FILM: Film = Film {
    clip: ClipSpec { camera: 1, width: 1920, height: 1080, fps: 25, gop: 25, codec: Codec::H264, seconds: 40 },
    kbits: 4_000,
};

/// JPEGs of the film's beginning.
#[derive(Debug)]
pub struct PicturesDir {
    /// Where they lie, a file each.
    pub dir: PathBuf,
    all: Vec<Object>,
}

/// The film, made now if it is not there yet.
///
/// # Errors
///
/// When it cannot be made.
pub fn film() -> anyhow::Result<PathBuf> {
    FILM.mp4(&default_cache_dir())
}

impl PicturesDir {
    /// Those that are kept, or new ones.
    ///
    /// # Errors
    ///
    /// When they cannot be made.
    pub fn prepare(setting: &Setting) -> anyhow::Result<Self> {
        let dir = setting.kept("pictures");
        if !dir.is_dir() {
            let unfinished = setting.kept("pictures.unfinished");
            // What an earlier run may have left.
            let _ = fs::remove_dir_all(&unfinished);
            fs::create_dir_all(&unfinished)?;
            let mut ffmpeg = Command::new("ffmpeg");
            ffmpeg.args(["-v", "error", "-i"]).arg(film()?).args(["-frames:v", &COUNT.to_string(), "-q:v", QUALITY]);
            let made = ffmpeg.arg(unfinished.join("%03d.jpg")).status().context("cannot start ffmpeg")?;
            ensure!(made.success(), "ffmpeg made no pictures: {made}");
            fs::rename(&unfinished, &dir)?;
        }
        let mut paths = fs::read_dir(&dir)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
        paths.sort();
        ensure!(paths.len() == COUNT, "there are {} pictures in {}", paths.len(), dir.display());
        let all = paths.iter().map(|path| {
            let jpeg = fs::read(path)?;
            Ok(Object { bytes: jpeg.len() as u64, crc32c: crc32c::crc32c(&jpeg) })
        });
        let all = all.collect::<anyhow::Result<_>>()?;
        Ok(Self { dir, all })
    }

    /// What has to be in the bucket after a burst of so many.
    pub fn burst(&self, frames: usize) -> impl Iterator<Item = Object> {
        self.all.iter().copied().cycle().take(frames)
    }

    /// Bytes of a picture, on average.
    pub fn mean_bytes(&self) -> u64 {
        self.all.iter().map(|picture| picture.bytes).sum::<u64>() / self.all.len() as u64
    }
}
