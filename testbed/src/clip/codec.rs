//! How a clip's pictures are compressed: what the encoder is told, and how its stream falls into pictures.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};

/// The compression of a clip.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// H.264, as most cameras send it.
    #[default]
    H264,
    /// H.265, also called HEVC.
    H265,
    /// One JPEG after the other.
    Mjpeg,
}

/// RTP gives a JPEG's width and height a byte each, in units of 8 pixels (RFC 2435).
const JPEG_UNIT: u32 = 8;
const MAX_JPEG_SIDE: u32 = 255 * JPEG_UNIT;

/// What each JPEG begins with. Nothing inside looks like it: a 0xff in the compressed data is followed by a zero.
const START_OF_IMAGE: [u8; 3] = [0xff, 0xd8, 0xff];

impl Codec {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::H264, Self::H265, Self::Mjpeg];

    /// The name in settings, tables and file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::H264 => "h264",
            Self::H265 => "h265",
            Self::Mjpeg => "mjpeg",
        }
    }

    /// FFmpeg's name of the bare stream.
    pub(super) fn format(self) -> &'static str {
        match self {
            Self::H265 => "hevc",
            other => other.name(),
        }
    }

    /// How FFmpeg must understand the pictures it is sent. JPEG knows no limited range, and converting would only cost
    /// time.
    pub(super) fn pixels(self) -> &'static str {
        if self == Self::Mjpeg { "yuvj420p" } else { "yuv420p" }
    }

    /// The encoder's options for key frames `gop` frames apart.
    pub(super) fn encoder(self, gop: u32) -> Vec<String> {
        let gop = format!("keyint={gop}:min-keyint={gop}:scenecut=0:bframes=0:aud=1:repeat-headers=1");
        let options = match self {
            // sliced-threads=0: one slice per picture, as cameras send it, and faster than what zerolatency asks for.
            Self::H264 => ["libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-crf", "25", "-x264-params"]
                .map(str::to_owned)
                .into_iter()
                .chain([format!("{gop}:sliced-threads=0")])
                .collect(),
            Self::H265 => ["libx265", "-preset", "ultrafast", "-tune", "zerolatency", "-crf", "25", "-x265-params"]
                .map(str::to_owned)
                .into_iter()
                .chain([format!("{gop}:open-gop=0:info=0:log-level=error")])
                .collect(),
            // The standard's Huffman tables: RTP does not carry others (RFC 2435).
            Self::Mjpeg => ["mjpeg", "-huffman", "default", "-q:v", "6"].map(str::to_owned).to_vec(),
        };
        ["-c:v".to_owned()].into_iter().chain(options).collect()
    }

    /// Fails when pictures of this size cannot be sent, or key frames cannot be so far apart.
    pub(super) fn validate(self, width: u32, height: u32, gop: u32) -> anyhow::Result<()> {
        if self == Self::Mjpeg {
            ensure!(
                [width, height].iter().all(|side| side % JPEG_UNIT == 0 && *side <= MAX_JPEG_SIDE),
                "picture size {width}x{height} does not go into RTP as JPEG: multiples of {JPEG_UNIT} up to {MAX_JPEG_SIDE} do"
            );
            ensure!(gop == 1, "every JPEG is a key frame: gop ({gop}) must be 1");
        }
        Ok(())
    }

    /// The pictures of a clip's stream, each with what belongs to it.
    pub(crate) fn units(self, stream: &[u8]) -> Vec<&[u8]> {
        // What each picture begins with and nothing within it contains: the access-unit delimiter, the start of a JPEG.
        let start: &[u8] = match self {
            Self::H264 => &[0, 0, 0, 1, 0x09],
            Self::H265 => &[0, 0, 0, 1, 0x46, 0x01],
            Self::Mjpeg => &START_OF_IMAGE,
        };
        let starts: Vec<usize> =
            stream.windows(start.len()).enumerate().filter(|(_, at)| *at == start).map(|(offset, _)| offset).collect();
        let ends = starts.iter().skip(1).copied().chain([stream.len()]);
        starts.iter().zip(ends).map(|(&start, end)| &stream[start..end]).collect()
    }

    /// For each picture of a stream, whether it is a key frame.
    pub(super) fn pictures(self, stream: &[u8]) -> anyhow::Result<Vec<bool>> {
        let mut keys = Vec::new();
        if self == Self::Mjpeg {
            keys.resize(jpegs(stream).len(), true);
            return Ok(keys);
        }
        for start in after_start_codes(stream) {
            let Some(&header) = stream.get(start) else { continue };
            let (delimiter, key) = match self {
                // ITU-T H.264, table 7-1: access unit delimiter, slice of an IDR picture.
                Self::H264 => (header & 0x1f == 9, header & 0x1f == 5),
                // ITU-T H.265, table 7-1: access unit delimiter, slices of IDR pictures.
                _ => (header >> 1 & 0x3f == 35, matches!(header >> 1 & 0x3f, 19 | 20)),
            };
            if delimiter {
                keys.push(false);
            } else if key {
                *keys.last_mut().context("a picture comes before the first access-unit delimiter")? = true;
            }
        }
        Ok(keys)
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Codec {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match Self::ALL.into_iter().find(|codec| codec.name() == text) {
            Some(codec) => Ok(codec),
            None => bail!("unknown codec `{text}`: known are {}", Self::ALL.map(Self::name).join(", ")),
        }
    }
}

/// Where the JPEGs of a stream lie.
pub(crate) fn jpegs(stream: &[u8]) -> Vec<Range<usize>> {
    let starts: Vec<usize> = stream
        .windows(START_OF_IMAGE.len())
        .enumerate()
        .filter(|(_, window)| *window == START_OF_IMAGE)
        .map(|(offset, _)| offset)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    starts.iter().zip(ends).map(|(&start, end)| start..end).collect()
}

/// Offsets of the first byte behind each start code.
fn after_start_codes(stream: &[u8]) -> impl Iterator<Item = usize> {
    stream.windows(3).enumerate().filter(|(_, window)| *window == [0, 0, 1]).map(|(offset, _)| offset + 3)
}
