//! H.264 clips with a mark in every picture, made once and kept as files.
//!
//! A clip is an Annex-B stream with access-unit delimiters, one GOP after the other of exactly the same length, without
//! B frames, parameter sets before each key frame: what a player needs to start at any GOP and to go round without a
//! seam.

use std::fs;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

use crate::mark::{MIN_SIZE, Mark};

/// Part of every file name: raise it when the mark, the background or the encoding changes.
const FORMAT_VERSION: u32 = 1;

/// Seconds a clip lasts at least if nobody says otherwise; outages shorter than that are unambiguous.
pub const DEFAULT_SECONDS: u32 = 64;

/// What is in a clip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipSpec {
    /// The camera's number in the mark.
    pub camera: u16,
    /// Width in pixels, even.
    pub width: u32,
    /// Height in pixels, even.
    pub height: u32,
    /// Frames per second.
    pub fps: u32,
    /// Frames from one key frame to the next.
    pub gop: u32,
    /// Least length in seconds; the clip is rounded up to whole GOPs.
    pub seconds: u32,
}

impl ClipSpec {
    /// Frames in the clip: a whole number of GOPs.
    ///
    /// Fails when one of the parameters makes no clip; the message names it.
    pub fn frames(&self) -> anyhow::Result<u16> {
        let Self { width, height, fps, gop, seconds, .. } = *self;
        ensure!(width % 2 == 0 && height % 2 == 0, "picture size {width}x{height} must be even in both directions");
        let (least_width, least_height) = MIN_SIZE;
        ensure!(
            width as usize >= least_width && height as usize >= least_height,
            "picture size {width}x{height} is too small for a mark: at least {least_width}x{least_height}"
        );
        ensure!(
            fps > 0 && gop > 0 && seconds > 0,
            "fps ({fps}), gop ({gop}) and seconds ({seconds}) must be at least 1"
        );
        let frames = (u64::from(fps) * u64::from(seconds)).next_multiple_of(u64::from(gop));
        u16::try_from(frames).ok().with_context(|| {
            format!("a clip of {frames} frames is too long: at most {}, lower seconds, fps or gop", u16::MAX)
        })
    }

    /// The clip's path in `cache_dir`, made now if it is not there yet.
    ///
    /// Takes some 10 s the first time for a minute of 1080p. Needs `ffmpeg` with libx264. Several processes may ask for
    /// the same clip at once: each writes its own file, and the last rename wins.
    pub fn cached(&self, cache_dir: &Path) -> anyhow::Result<PathBuf> {
        let (frames, path) = (self.frames()?, self.path(cache_dir)?);
        if path.exists() {
            return Ok(path);
        }
        fs::create_dir_all(cache_dir)
            .with_context(|| format!("cannot make the clip directory {}", cache_dir.display()))?;
        let unfinished = path.with_extension(format!("{}-{:08x}.part", std::process::id(), fastrand::u32(..)));
        let made = self.encode(frames, &unfinished).and_then(|()| check(&unfinished, frames, self.gop));
        if let Err(error) = made {
            // Best effort: the error is what matters, and a stray part file is never taken for a clip.
            let _ = fs::remove_file(&unfinished);
            return Err(error.context(format!("cannot make the clip {}", path.display())));
        }
        fs::rename(&unfinished, &path).with_context(|| format!("cannot rename {} into place", unfinished.display()))?;
        Ok(path)
    }

    /// Whether [`cached`](Self::cached) has nothing to make.
    pub fn is_cached(&self, cache_dir: &Path) -> anyhow::Result<bool> {
        Ok(self.path(cache_dir)?.exists())
    }

    fn path(&self, cache_dir: &Path) -> anyhow::Result<PathBuf> {
        let frames = self.frames()?;
        let Self { camera, width, height, fps, gop, .. } = self;
        let name = format!("v{FORMAT_VERSION}-n{camera}-{width}x{height}-{fps}fps-gop{gop}-{frames}frames.h264");
        Ok(cache_dir.join(name))
    }

    fn encode(&self, frames: u16, path: &Path) -> anyhow::Result<()> {
        let Self { width, height, fps, gop, .. } = self;
        let mut ffmpeg = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "yuv420p"])
            .args(["-s", &format!("{width}x{height}"), "-r", &fps.to_string(), "-i", "pipe:0"])
            // sliced-threads=0: one slice per picture, as cameras send it, and faster than what zerolatency asks for.
            .args(["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-crf", "25", "-x264-params"])
            .arg(format!("keyint={gop}:min-keyint={gop}:scenecut=0:bframes=0:aud=1:repeat-headers=1:sliced-threads=0"))
            .args(["-f", "h264"])
            .arg(path)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start ffmpeg: is it installed (Debian: ffmpeg)?")?;
        let mut input = BufWriter::with_capacity(1 << 20, ffmpeg.stdin.take().expect("standard input is piped"));
        let mut painter = Painter::new(self);
        let drawn = (0..frames).try_for_each(|index| {
            input.write_all(painter.paint(Mark { camera: self.camera, counter: u32::from(index), clip_frames: frames }))
        });
        let drawn = drawn.and_then(|()| input.flush());
        drop(input);
        let output = ffmpeg.wait_with_output().context("cannot wait for ffmpeg")?;
        ensure!(
            output.status.success(),
            "ffmpeg failed ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        drawn.context("cannot send pictures to ffmpeg")
    }
}

/// Makes sure that the encoder kept to the promise: so many access units, a key frame at each GOP's start and nowhere
/// else.
fn check(path: &Path, frames: u16, gop: u32) -> anyhow::Result<()> {
    let mut stream = Vec::new();
    fs::File::open(path)?.read_to_end(&mut stream)?;
    const DELIMITER: u8 = 9;
    const KEY_SLICE: u8 = 5;
    let mut keys = Vec::new();
    for start in after_start_codes(&stream) {
        match stream.get(start).map(|header| header & 0x1f) {
            Some(DELIMITER) => keys.push(false),
            Some(KEY_SLICE) => {
                *keys.last_mut().context("a picture comes before the first access-unit delimiter")? = true
            }
            _ => {}
        }
    }
    if keys.len() != usize::from(frames) {
        bail!("the encoder made {} access units of {frames} pictures", keys.len());
    }
    match keys.iter().enumerate().find(|&(index, &key)| key != (index as u32).is_multiple_of(gop)) {
        Some((index, key)) => {
            bail!("access unit {index} is {}a key frame, with a GOP of {gop}", if *key { "" } else { "not " })
        }
        None => Ok(()),
    }
}

/// Offsets of the first byte behind each start code.
fn after_start_codes(stream: &[u8]) -> impl Iterator<Item = usize> {
    stream.windows(3).enumerate().filter(|(_, window)| *window == [0, 0, 1]).map(|(offset, _)| offset + 3)
}

/// Draws the pictures of one clip: a scrolling background and the mark on it.
pub(crate) struct Painter {
    width: usize,
    height: usize,
    /// Backgrounds of Y, U and V, each two pictures wide (the second repeats the first) so that a row is one copy.
    planes: [Vec<u8>; 3],
    /// One picture, planar 4:2:0.
    picture: Vec<u8>,
}

impl Painter {
    pub(crate) fn new(spec: &ClipSpec) -> Self {
        let (width, height) = (spec.width as usize, spec.height as usize);
        let mut random = fastrand::Rng::with_seed(u64::from(spec.camera));
        // Fine grain makes the JPEGs as big as those of a camera; colour is coarse, as it mostly is.
        let luma =
            background(width, height, &[(width / 4, 60), (width / 16, 36), (24, 24), (8, 22), (3, 14)], &mut random);
        let mut chroma = || background(width / 2, height / 2, &[(width / 6, 40), (width / 24, 16)], &mut random);
        let (u, v) = (chroma(), chroma());
        Self { width, height, planes: [luma, u, v], picture: vec![0; width * height * 3 / 2] }
    }

    /// Draws the picture of `mark`: width x height of Y, then U and V at half the size.
    pub(crate) fn paint(&mut self, mark: Mark) -> &[u8] {
        // One chroma pixel per frame is two luma pixels: whole-pixel motion, which costs the encoder almost nothing.
        let shift = mark.counter as usize;
        let mut rows = self.picture.as_mut_slice();
        for (plane, scale) in self.planes.iter().zip([1, 2, 2]) {
            let width = self.width / scale;
            let offset = shift * 2 / scale % width;
            for source in plane.chunks_exact(2 * width) {
                let (row, rest) = rows.split_at_mut(width);
                row.copy_from_slice(&source[offset..offset + width]);
                rows = rest;
            }
        }
        mark.draw(&mut self.picture[..self.width * self.height], self.width, self.height);
        &self.picture
    }
}

/// A plane twice `width` wide of random levels around 128: for each (cell, amplitude) a lattice of random heights
/// `cell` pixels apart, interpolated between them, periodic in x.
fn background(width: usize, height: usize, octaves: &[(usize, i32)], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut sums = vec![128i32; width * height];
    for &(cell, amplitude) in octaves {
        let cell = cell.max(2);
        let columns = width.div_ceil(cell);
        let lattice: Vec<i32> =
            (0..columns * (height / cell + 2)).map(|_| random.i32(-amplitude..=amplitude)).collect();
        let at = |column: usize, row: usize| lattice[row * columns + column % columns];
        let mix = |a: i32, b: i32, part: usize| a + (b - a) * part as i32 / cell as i32;
        for y in 0..height {
            let (row, down) = (y / cell, y % cell);
            for x in 0..width {
                let (column, right) = (x / cell, x % cell);
                let left = mix(at(column, row), at(column, row + 1), down);
                let next = mix(at(column + 1, row), at(column + 1, row + 1), down);
                sums[y * width + x] += mix(left, next, right);
            }
        }
    }
    let levels: Vec<u8> = sums.iter().map(|&sum| sum.clamp(16, 235) as u8).collect();
    levels.chunks_exact(width).flat_map(|row| row.iter().chain(row)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: ClipSpec = ClipSpec { camera: 1, width: 320, height: 240, fps: 10, gop: 15, seconds: 4 };

    #[test]
    fn a_clip_is_whole_gops_and_fits_its_mark() {
        assert_eq!(SPEC.frames().unwrap(), 45);
        assert_eq!(ClipSpec { gop: 10, ..SPEC }.frames().unwrap(), 40);
        for (spec, word) in [
            (ClipSpec { width: 321, ..SPEC }, "even"),
            (ClipSpec { height: 100, ..SPEC }, "too small"),
            (ClipSpec { fps: 0, ..SPEC }, "fps (0)"),
            (ClipSpec { seconds: 6554, ..SPEC }, "too long"),
        ] {
            let message = spec.frames().unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn a_clip_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = SPEC.cached(dir.path()).unwrap();
        check(&path, 45, 15).unwrap();
        // What is there is taken as it is, and nothing else lies beside it.
        fs::write(&path, b"kept").unwrap();
        assert_eq!(SPEC.cached(dir.path()).unwrap(), path);
        assert_eq!(fs::read(&path).unwrap(), b"kept");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        // Anything else asked for is another file.
        assert_ne!(ClipSpec { camera: 2, ..SPEC }.cached(dir.path()).unwrap(), path);
    }

    #[test]
    fn a_clip_that_is_not_as_promised_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = SPEC.cached(dir.path()).unwrap();
        assert!(check(&path, 46, 15).unwrap_err().to_string().contains("made 45 access units of 46"));
        assert!(check(&path, 45, 5).unwrap_err().to_string().contains("access unit 5 is not a key frame"));
        assert!(check(&path, 45, 45).unwrap_err().to_string().contains("access unit 15 is a key frame"));
    }
}
