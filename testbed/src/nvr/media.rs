//! The bytes of recordings.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use turbojpeg::{Compressor, Image, PixelFormat, Subsamp};

use super::program_stream;
use super::sound::Law;
use crate::clip::{ClipSpec, Codec};
use crate::mark::{MIN_SIZE, Mark};

/// How recordings are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Container {
    /// A program stream behind a head of 40 bytes, as most recorders have it.
    #[default]
    Ps,
    /// MP4, as some cameras have it.
    Mp4,
}

/// The bytes of one recording: parts in their order, each so many times.
#[derive(Clone, Debug)]
pub(super) struct Media {
    parts: Vec<(Bytes, u64)>,
    size: u64,
}

impl Media {
    fn new(parts: Vec<(Bytes, u64)>) -> Media {
        let size = parts.iter().map(|(part, times)| part.len() as u64 * times).sum();
        Media { parts, size }
    }

    /// A picture that is a file of its own, in JPEG.
    pub(super) fn photo(mark: Mark) -> anyhow::Result<Media> {
        let (width, height) = MIN_SIZE;
        let mut luma = vec![128; width * height];
        mark.draw(&mut luma, width, height);
        let mut compressor = Compressor::new().context("cannot start an encoder")?;
        compressor.set_quality(85).context("cannot set the encoder")?;
        compressor.set_subsamp(Subsamp::Gray).context("cannot set the encoder")?;
        let image = Image { pixels: &luma[..], width, pitch: width, height, format: PixelFormat::GRAY };
        let jpeg = compressor.compress_to_vec(image).context("cannot encode a picture")?;
        Ok(Media::new(vec![(jpeg.into(), 1)]))
    }

    /// Other pictures behind its own head, which a program stream has.
    pub(super) fn behind_head(&self, pictures: Bytes) -> Media {
        Media::new(self.parts.iter().take(1).cloned().chain([(pictures, 1)]).collect())
    }

    /// Several of them, one after the other.
    pub(super) fn chain<'a>(media: impl Iterator<Item = &'a Media>) -> Media {
        Media::new(media.flat_map(|media| media.parts.iter().cloned()).collect())
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// As much as lies in one piece from there on; nothing behind the end.
    pub(super) fn from(&self, mut offset: u64) -> Bytes {
        for (part, times) in &self.parts {
            let len = part.len() as u64;
            if offset < len * times {
                return part.slice((offset % len) as usize..);
            }
            offset -= len * times;
        }
        Bytes::new()
    }

    /// All of it.
    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.size as usize);
        while (bytes.len() as u64) < self.size {
            bytes.extend_from_slice(&self.from(bytes.len() as u64));
        }
        bytes
    }
}

/// What recordings of one track are made of: the pictures of a clip, so many for each.
#[derive(Debug)]
pub(super) struct Reel {
    codec: Codec,
    container: Container,
    pieces: Vec<Bytes>,
    /// The pictures in each piece.
    pictures: Vec<Arc<[Bytes]>>,
}

impl Reel {
    /// Cuts a clip into so many pieces of `pictures` each, which must be whole GOPs. Takes some seconds where the clip
    /// is not in `cache_dir` yet.
    pub(super) fn cut(
        clip: &ClipSpec,
        pieces: u16,
        pictures: u16,
        container: Container,
        sound: Option<Law>,
        cache_dir: &Path,
    ) -> anyhow::Result<Reel> {
        ensure!(u32::from(pictures).is_multiple_of(clip.gop), "a recording of {pictures} pictures is no whole GOPs");
        let path = clip.cached(cache_dir)?;
        let stream = fs::read(&path).with_context(|| format!("cannot read the clip {}", path.display()))?;
        let units = clip.codec.units(&stream);
        let all = units.chunks_exact(pictures.into()).take(pieces.into());
        let of_pieces = all.clone().map(|units| units.iter().map(|unit| Bytes::copy_from_slice(unit)).collect());
        let pieces = all
            .enumerate()
            .map(|(piece, units)| match container {
                Container::Ps => {
                    let keys = (0..clip.gop).cycle().map(|place| place == 0);
                    Ok(program_stream::mux(units.iter().copied().zip(keys), clip.codec, clip.fps, sound))
                }
                Container::Mp4 => {
                    let from = piece as u32 * u32::from(pictures);
                    let path = clip.piece(cache_dir, from, &units.concat())?;
                    Ok(Bytes::from(fs::read(path)?))
                }
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Reel { codec: clip.codec, container, pieces, pictures: of_pieces.collect() })
    }

    /// The pictures of the recording of that number.
    pub(super) fn pictures(&self, number: u64) -> Arc<[Bytes]> {
        self.pictures[(number % self.pictures.len() as u64) as usize].clone()
    }

    /// The recording of that number, at least so long: a program stream begins again, an MP4 has empty space behind it.
    pub(super) fn recording(&self, number: u64, least_bytes: u64) -> Media {
        let piece = self.pieces[(number % self.pieces.len() as u64) as usize].clone();
        let len = piece.len() as u64;
        match self.container {
            Container::Ps => {
                let times = least_bytes.div_ceil(len).max(1);
                Media::new(vec![(program_stream::head(self.codec, number), 1), (piece, times)])
            }
            Container::Mp4 => {
                // A box that players pass by; its number makes each recording's bytes its own.
                const ZEROS: u64 = 64 << 10;
                let times = least_bytes.saturating_sub(len).div_ceil(ZEROS);
                let mut free = BytesMut::with_capacity(24);
                free.put_u32(1);
                free.put_slice(b"free");
                free.put_u64(24 + times * ZEROS);
                free.put_u64(number);
                Media::new(vec![(piece, 1), (free.freeze(), 1), (vec![0; ZEROS as usize].into(), times)])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_are_read_from_any_place() {
        let media = Media::new(vec![(Bytes::from_static(b"head"), 1), (Bytes::from_static(b"abc"), 3)]);
        assert_eq!((media.size(), media.to_vec()), (13, b"headabcabcabc".to_vec()));
        for offset in 0..13 {
            let expected = &b"headabcabcabc"[offset as usize..];
            let piece = media.from(offset);
            assert!(!piece.is_empty() && expected.starts_with(&piece), "{offset}");
        }
        assert!(media.from(13).is_empty());
    }

    #[test]
    fn recordings_differ_and_are_as_long_as_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let clip = ClipSpec { camera: 1, width: 160, height: 120, fps: 5, gop: 5, codec: Codec::H264, seconds: 2 };
        assert!(Reel::cut(&clip, 2, 4, Container::Ps, None, dir.path()).is_err());
        for container in [Container::Ps, Container::Mp4] {
            let reel = Reel::cut(&clip, 2, 5, container, None, dir.path()).unwrap();
            assert_eq!(reel.pieces.len(), 2);
            // The third has the pictures of the first.
            let all = [0, 1, 2].map(|number| reel.recording(number, 0).to_vec());
            assert!(all[0] != all[1] && all[1] != all[2] && all[2] != all[0]);
            let large = reel.recording(1, 1_000_000);
            assert!((1_000_000..1_100_000).contains(&large.size()), "{}", large.size());
            for (name, media) in [("short", reel.recording(1, 0)), ("large", large)] {
                let path = dir.path().join(name);
                fs::write(&path, media.to_vec()).unwrap();
                let output = std::process::Command::new("ffprobe")
                    .args(["-v", "error", "-count_packets", "-show_entries", "stream=nb_read_packets"])
                    .args(["-of", "csv=p=0"])
                    .arg(&path)
                    .output()
                    .unwrap();
                let packets: u32 = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap();
                let again = container == Container::Ps && name == "large";
                assert!(if again { packets > 5 } else { packets == 5 }, "{container:?} {name} {packets}");
            }
        }
    }
}
