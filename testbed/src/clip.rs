//! Clips with a mark in every picture, made once and kept as files.
//!
//! A clip of H.264 or H.265 is an Annex-B stream with access-unit delimiters, one GOP after the other of exactly the
//! same length, without B frames, parameter sets before each key frame: what a player needs to start at any GOP and to
//! go round without a seam. One of JPEGs is just those, one after the other.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, bail, ensure};

use crate::mark::{MIN_SIZE, Mark};

mod codec;
mod film;

pub use codec::Codec;
pub(crate) use codec::jpegs;
pub use film::Film;

/// Part of every file name: raise it when the mark, the background or the encoding changes.
const FORMAT_VERSION: u32 = 1;

const NO_FFMPEG: &str = "cannot start ffmpeg: is it installed (Debian: ffmpeg)?";

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
    /// Frames from one key frame to the next; 1 with JPEGs.
    pub gop: u32,
    /// Its compression.
    pub codec: Codec,
    /// Least length in seconds; the clip is rounded up to whole GOPs.
    pub seconds: u32,
}

impl ClipSpec {
    /// Frames in the clip: a whole number of GOPs.
    ///
    /// Fails when one of the parameters makes no clip; the message names it.
    pub fn frames(&self) -> anyhow::Result<u16> {
        let Self { width, height, fps, gop, codec, seconds, .. } = *self;
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
        codec.validate(width, height, gop)?;
        let frames = (u64::from(fps) * u64::from(seconds)).next_multiple_of(u64::from(gop));
        u16::try_from(frames).ok().with_context(|| {
            format!("a clip of {frames} frames is too long: at most {}, lower seconds, fps or gop", u16::MAX)
        })
    }

    /// The path in `cache_dir` of the clip as a bare stream, made now if it is not there yet.
    ///
    /// Takes some 10 s the first time for a minute of 1080p H.264, H.265 thrice as long. Needs `ffmpeg` with libx264
    /// and libx265. Several processes may ask for the same clip at once: each writes its own file, and the last rename
    /// wins.
    pub fn cached(&self, cache_dir: &Path) -> anyhow::Result<PathBuf> {
        let (frames, path) = (self.frames()?, self.path(cache_dir)?);
        into_place(&path, |unfinished| {
            self.encode(frames, unfinished, &self.codec.encoder(self.gop), |_| ())?;
            check(unfinished, frames, self.gop, self.codec)
        })?;
        Ok(path)
    }

    /// The path in `cache_dir` of the clip as an MP4 file with time stamps, made now if it is not there yet.
    ///
    /// Ten minutes of H.264, 25 frames per second at 320x240, take some 5 s the first time.
    pub fn mp4(&self, cache_dir: &Path) -> anyhow::Result<PathBuf> {
        let stream = self.cached(cache_dir)?;
        let path = stream.with_extension(format!("{}.mp4", self.codec));
        self.wrap(&stream, &path, None)?;
        Ok(path)
    }

    /// The same of its first pictures alone.
    pub fn beginning(&self, cache_dir: &Path, frames: u32) -> anyhow::Result<PathBuf> {
        let stream = self.cached(cache_dir)?;
        let path = stream.with_extension(format!("{}.first{frames}.mp4", self.codec));
        self.wrap(&stream, &path, Some(frames))?;
        Ok(path)
    }

    /// Some of its pictures, from this one on and as the stream has them, as an MP4 file of their own.
    pub(crate) fn piece(&self, cache_dir: &Path, from: u32, stream: &[u8]) -> anyhow::Result<PathBuf> {
        let whole = self.path(cache_dir)?;
        let path = whole.with_extension(format!("{}.from{from}-{}b.mp4", self.codec, stream.len()));
        if path.exists() {
            return Ok(path);
        }
        let bare = tempfile::NamedTempFile::new().context("cannot make a file for a piece of a clip")?;
        fs::write(bare.path(), stream).context("cannot write a piece of a clip")?;
        self.wrap(bare.path(), &path, None)?;
        Ok(path)
    }

    /// Puts a bare stream, or so many of its first pictures, into an MP4 file, unless that is there already.
    fn wrap(&self, stream: &Path, path: &Path, first: Option<u32>) -> anyhow::Result<()> {
        into_place(path, |unfinished| {
            let mut command = Command::new("ffmpeg");
            command
                .args(["-v", "error", "-nostdin", "-y", "-f", self.codec.format(), "-framerate", &self.fps.to_string()])
                .arg("-i")
                .arg(stream);
            if let Some(first) = first {
                command.args(["-frames:v", &first.to_string()]);
            }
            command.args(["-c", "copy", "-movflags", "+faststart", "-f", "mp4"]).arg(unfinished);
            succeeded(command.output().context(NO_FFMPEG)?)
        })
    }

    /// Whether [`cached`](Self::cached) has nothing to make.
    pub fn is_cached(&self, cache_dir: &Path) -> anyhow::Result<bool> {
        Ok(self.path(cache_dir)?.exists())
    }

    fn path(&self, cache_dir: &Path) -> anyhow::Result<PathBuf> {
        let frames = self.frames()?;
        let Self { camera, width, height, fps, gop, codec, .. } = self;
        let name = format!("v{FORMAT_VERSION}-n{camera}-{width}x{height}-{fps}fps-gop{gop}-{frames}frames.{codec}");
        Ok(cache_dir.join(name))
    }

    /// Has the pictures encoded, each after `change` had it.
    fn encode(
        &self,
        frames: u16,
        path: &Path,
        encoder: &[String],
        mut change: impl FnMut(&mut [u8]),
    ) -> anyhow::Result<()> {
        let Self { width, height, fps, codec, .. } = self;
        let mut ffmpeg = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", codec.pixels()])
            .args(["-s", &format!("{width}x{height}"), "-r", &fps.to_string(), "-i", "pipe:0"])
            .args(encoder)
            .args(["-f", codec.format()])
            .arg(path)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(NO_FFMPEG)?;
        let mut input = BufWriter::with_capacity(1 << 20, ffmpeg.stdin.take().expect("standard input is piped"));
        let mut painter = Painter::new(self);
        let drawn = (0..frames).try_for_each(|index| {
            let mark = Mark { camera: self.camera, counter: u32::from(index), clip_frames: frames };
            let picture = painter.paint(mark);
            change(picture);
            input.write_all(picture)
        });
        let drawn = drawn.and_then(|()| input.flush());
        drop(input);
        succeeded(ffmpeg.wait_with_output().context("cannot wait for ffmpeg")?)?;
        drawn.context("cannot send pictures to ffmpeg")
    }
}

/// Has a file made under another name and renames it, unless it is there already.
fn into_place(path: &Path, make: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let dir = path.parent().context("a clip lies in a directory")?;
    fs::create_dir_all(dir).with_context(|| format!("cannot make the clip directory {}", dir.display()))?;
    let unfinished = path.with_extension(format!("{}-{:08x}.part", std::process::id(), fastrand::u32(..)));
    if let Err(error) = make(&unfinished) {
        // Best effort: the error is what matters, and a stray part file is never taken for a clip.
        let _ = fs::remove_file(&unfinished);
        return Err(error.context(format!("cannot make the clip {}", path.display())));
    }
    fs::rename(&unfinished, path).with_context(|| format!("cannot rename {} into place", unfinished.display()))
}

fn succeeded(ffmpeg: Output) -> anyhow::Result<()> {
    let Output { status, stderr, .. } = ffmpeg;
    ensure!(status.success(), "ffmpeg failed ({status}): {}", String::from_utf8_lossy(&stderr).trim());
    Ok(())
}

/// Makes sure that the encoder kept to the promise: so many pictures, a key frame at each GOP's start and nowhere else.
fn check(path: &Path, frames: u16, gop: u32, codec: Codec) -> anyhow::Result<()> {
    let keys = codec.pictures(&fs::read(path)?)?;
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
    pub(crate) fn paint(&mut self, mark: Mark) -> &mut [u8] {
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
        &mut self.picture
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

    const SPEC: ClipSpec =
        ClipSpec { camera: 1, width: 320, height: 240, fps: 10, gop: 15, codec: Codec::H264, seconds: 4 };

    #[test]
    fn a_clip_is_whole_gops_and_fits_its_mark() {
        assert_eq!(SPEC.frames().unwrap(), 45);
        assert_eq!(ClipSpec { gop: 10, ..SPEC }.frames().unwrap(), 40);
        for (spec, word) in [
            (ClipSpec { width: 321, ..SPEC }, "even"),
            (ClipSpec { height: 100, ..SPEC }, "too small"),
            (ClipSpec { fps: 0, ..SPEC }, "fps (0)"),
            (ClipSpec { seconds: 6554, ..SPEC }, "too long"),
            (ClipSpec { codec: Codec::Mjpeg, ..SPEC }, "gop (15) must be 1"),
            (ClipSpec { codec: Codec::Mjpeg, gop: 1, height: 236, ..SPEC }, "multiples of 8 up to 2040"),
            (ClipSpec { codec: Codec::Mjpeg, gop: 1, width: 2560, ..SPEC }, "multiples of 8 up to 2040"),
        ] {
            let message = spec.frames().unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn a_clip_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = SPEC.cached(dir.path()).unwrap();
        check(&path, 45, 15, Codec::H264).unwrap();
        // What is there is taken as it is, and nothing else lies beside it.
        fs::write(&path, b"kept").unwrap();
        assert_eq!(SPEC.cached(dir.path()).unwrap(), path);
        assert_eq!(fs::read(&path).unwrap(), b"kept");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        // Anything else asked for is another file.
        assert_ne!(ClipSpec { camera: 2, ..SPEC }.cached(dir.path()).unwrap(), path);
        assert_ne!(ClipSpec { codec: Codec::H265, ..SPEC }.cached(dir.path()).unwrap(), path);
    }

    #[test]
    fn a_clip_that_is_not_as_promised_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for codec in [Codec::H264, Codec::H265] {
            let path = ClipSpec { codec, ..SPEC }.cached(dir.path()).unwrap();
            for (frames, gop, word) in [
                (46, 15, "made 45 access units of 46"),
                (45, 5, "access unit 5 is not a key frame"),
                (45, 45, "access unit 15 is a key frame"),
            ] {
                let message = check(&path, frames, gop, codec).unwrap_err().to_string();
                assert!(message.contains(word), "{codec}: {message}");
            }
        }
        let path = ClipSpec { codec: Codec::Mjpeg, gop: 1, ..SPEC }.cached(dir.path()).unwrap();
        let message = check(&path, 41, 1, Codec::Mjpeg).unwrap_err().to_string();
        assert!(message.contains("made 40 access units of 41"), "{message}");
    }

    /// What ffprobe says of a file's video: codec, frames, frames a second, seconds.
    fn probe(path: &Path) -> String {
        let output = Command::new("ffprobe")
            .args(["-v", "error", "-count_packets", "-of", "csv=p=0", "-show_entries"])
            .arg("stream=codec_name,avg_frame_rate,duration,nb_read_packets")
            .arg(path)
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    #[test]
    fn a_file_has_the_clips_frames_with_their_times() {
        let dir = tempfile::tempdir().unwrap();
        for (codec, gop, expected) in [
            (Codec::H264, 15, "h264,10/1,4.500000,45"),
            (Codec::H265, 15, "hevc,10/1,4.500000,45"),
            (Codec::Mjpeg, 1, "mjpeg,10/1,4.000000,40"),
        ] {
            assert_eq!(probe(&ClipSpec { codec, gop, ..SPEC }.mp4(dir.path()).unwrap()), expected);
        }
    }
}
