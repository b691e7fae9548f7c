//! Clips as a camera with a budget of bits would send them, to measure what reading them costs.

use std::path::{Path, PathBuf};

use anyhow::ensure;

use super::{ClipSpec, Codec, FORMAT_VERSION, check, into_place};

/// The most that a sensor's noise changes a level by.
const GRAIN: i16 = 5;
/// Pixels of noise there are; it is laid over each picture from another place on.
const GRAIN_PIXELS: usize = 1 << 20;

/// A clip of H.264 or H.265 at a constant bit rate.
///
/// Other clips are made to be encoded fast: what cameras use (CABAC, deblocking, transforms of 8x8) is switched off,
/// so that decoding them costs less. A film has all of it, noise in each picture that leaves no block unchanged, and
/// says of its colours what cameras say: BT.709, limited range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Film {
    /// Its pictures.
    pub clip: ClipSpec,
    /// Thousands of bits a second.
    pub kbits: u32,
}

impl Film {
    /// The path in `cache_dir` of the bare stream, made now if it is not there yet.
    ///
    /// 40 s of 1080p take some 30 s the first time, H.265 two minutes. May be called by several processes at once.
    pub fn cached(&self, cache_dir: &Path) -> anyhow::Result<PathBuf> {
        let (frames, path) = (self.clip.frames()?, self.path(cache_dir)?);
        into_place(&path, |unfinished| {
            let mut random = fastrand::Rng::with_seed(u64::from(self.clip.camera));
            let noise: Vec<i16> = (0..GRAIN_PIXELS).map(|_| random.i16(-GRAIN..=GRAIN)).collect();
            self.clip.encode(frames, unfinished, &self.encoder(), |picture| grain(picture, &noise, &mut random))?;
            check(unfinished, frames, self.clip.gop, self.clip.codec)
        })?;
        Ok(path)
    }

    /// The path in `cache_dir` of the film as an MP4 file, made now if it is not there yet.
    pub fn mp4(&self, cache_dir: &Path) -> anyhow::Result<PathBuf> {
        let stream = self.cached(cache_dir)?;
        let path = stream.with_extension(format!("{}.mp4", self.clip.codec));
        self.clip.wrap(&stream, &path, None)?;
        Ok(path)
    }

    /// The same of its first pictures alone.
    pub fn beginning(&self, cache_dir: &Path, frames: u32) -> anyhow::Result<PathBuf> {
        let stream = self.cached(cache_dir)?;
        let path = stream.with_extension(format!("{}.first{frames}.mp4", self.clip.codec));
        self.clip.wrap(&stream, &path, Some(frames))?;
        Ok(path)
    }

    fn path(&self, cache_dir: &Path) -> anyhow::Result<PathBuf> {
        ensure!(self.clip.codec != Codec::Mjpeg, "a film is H.264 or H.265: JPEGs have no bit rate to keep to");
        ensure!(self.kbits > 0, "a film needs bits");
        let (ClipSpec { camera, width, height, fps, gop, codec, .. }, kbits) = (self.clip, self.kbits);
        let frames = self.clip.frames()?;
        Ok(cache_dir.join(format!(
            "v{FORMAT_VERSION}-film-n{camera}-{width}x{height}-{fps}fps-gop{gop}-{frames}frames-{kbits}k.{codec}"
        )))
    }

    /// The encoder's options: as cameras encode, without B frames, one slice a picture, a second of bits to balance.
    fn encoder(&self) -> Vec<String> {
        let (ClipSpec { gop, codec, .. }, kbits) = (self.clip, self.kbits);
        let common = format!(
            "keyint={gop}:min-keyint={gop}:scenecut=0:bframes=0:aud=1:repeat-headers=1:\
             colorprim=bt709:transfer=bt709:colormatrix=bt709"
        );
        let (encoder, preset, option, more) = match codec {
            Codec::H265 => ("libx265", "superfast", "-x265-params", "range=limited:open-gop=0:info=0:log-level=error"),
            _ => ("libx264", "veryfast", "-x264-params", "fullrange=off:sliced-threads=0"),
        };
        let rate = format!("{kbits}k");
        let options = ["-c:v", encoder, "-preset", preset, "-tune", "zerolatency", option, &format!("{common}:{more}")];
        let rates = ["-b:v", &rate, "-maxrate", &rate, "-bufsize", &rate];
        options.into_iter().chain(rates).map(str::to_owned).collect()
    }
}

/// Lays noise over a picture, colours and all.
fn grain(picture: &mut [u8], noise: &[i16], random: &mut fastrand::Rng) {
    let (mut rest, mut from) = (picture, random.usize(..noise.len()));
    while !rest.is_empty() {
        let (now, later) = rest.split_at_mut(rest.len().min(noise.len() - from));
        for (level, change) in now.iter_mut().zip(&noise[from..]) {
            *level = (i16::from(*level) + change).clamp(16, 235) as u8;
        }
        (rest, from) = (later, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const FILM: Film = Film {
        clip: ClipSpec { camera: 1, width: 320, height: 240, fps: 10, gop: 10, codec: Codec::H264, seconds: 4 },
        kbits: 400,
    };

    fn probe(path: &Path, entries: &str) -> String {
        let output = Command::new("ffprobe")
            .args(["-v", "error", "-count_packets", "-of", "csv=p=0", "-show_entries", entries])
            .arg(path)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    #[test]
    fn a_film_keeps_to_its_rate_and_says_what_its_colours_are() {
        let dir = tempfile::tempdir().unwrap();
        for codec in [Codec::H264, Codec::H265] {
            let film = Film { clip: ClipSpec { codec, ..FILM.clip }, ..FILM };
            let path = film.mp4(dir.path()).unwrap();
            let told = probe(&path, "stream=has_b_frames,color_range,color_space,nb_read_packets");
            assert_eq!(told, "0,tv,bt709,40", "{codec}");
            let bits = probe(&path, "stream=bit_rate").parse::<f64>().unwrap();
            assert!((bits / 400e3 - 1.0).abs() < 0.15, "{codec}: {bits}");
            let beginning = film.beginning(dir.path(), 10).unwrap();
            assert_eq!(probe(&beginning, "stream=nb_read_packets"), "10");
        }
    }

    #[test]
    fn what_makes_no_film_is_refused() {
        for (film, word) in [
            (Film { clip: ClipSpec { codec: Codec::Mjpeg, gop: 1, ..FILM.clip }, ..FILM }, "no bit rate"),
            (Film { kbits: 0, ..FILM }, "needs bits"),
        ] {
            let message = format!("{:#}", film.cached(Path::new("/nowhere")).unwrap_err());
            assert!(message.contains(word), "{message}");
        }
    }
}
