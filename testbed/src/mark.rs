//! The mark: which camera and which frame, written into the picture itself.
//!
//! A grid of black and white blocks stands twice in every picture, in its upper and in its lower part. Each copy has
//! one row of alternating reference blocks and five rows of data: camera (16 bit), counter (32), clip length (16),
//! CRC-16 (16), most significant bit first. Blocks are fractions of the picture, 1/20 of its width and height, so that
//! a mark survives resizing as well as H.264 and JPEG.
//!
//! Two copies, because a picture with lost packets is often half old and half new: such a one is [`Unreadable::Torn`].

use std::ops::Range;

const COLUMNS: usize = 16;
const DATA_ROWS: usize = 5;
/// Blocks per picture side; the mark leaves two free at the left and right.
const GRID: usize = 20;
const LEFT: usize = 2;
/// First grid row of each copy (its reference row).
const TOPS: [usize; 2] = [1, 13];

/// Video black and white (limited range), as H.264 expects them.
const BLACK: u8 = 16;
const WHITE: u8 = 235;

/// Least distance between the reference row's white and black, out of 255.
const MIN_CONTRAST: i32 = 80;

/// Smallest picture a mark fits in, in pixels: blocks of 8 x 6.
pub const MIN_SIZE: (usize, usize) = (160, 120);

/// What a picture says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mark {
    /// The camera's number.
    pub camera: u16,
    /// The frame's place in the clip: 0 up to `clip_frames`, exclusive.
    pub counter: u32,
    /// Frames in the clip; the counter starts again at 0 after that many.
    pub clip_frames: u16,
}

/// Why a picture's mark cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// The picture is smaller than [`MIN_SIZE`], or its buffer shorter than width x height.
    TooSmall { width: usize, height: usize },
    /// Black and white of the reference row are too near (0 to 255), or the wrong way round: no mark here.
    LowContrast { contrast: i32 },
    /// A block is neither black nor white.
    Unclear { row: usize, column: usize },
    /// The blocks are clear, but the checksum does not fit them.
    Checksum,
    /// Both copies are sound and differ: a picture put together from two frames.
    Torn { upper: Mark, lower: Mark },
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooSmall { width, height } => {
                let (w, h) = MIN_SIZE;
                write!(f, "picture of {width}x{height} is smaller than {w}x{h} or cut short")
            }
            Self::LowContrast { contrast } => {
                write!(f, "no mark: contrast {contrast} of the reference blocks is below {MIN_CONTRAST}")
            }
            Self::Unclear { row, column } => {
                write!(f, "mark block in grid row {row}, column {column} is neither black nor white")
            }
            Self::Checksum => write!(f, "checksum of the mark does not fit"),
            Self::Torn { upper, lower } => {
                write!(f, "torn picture: frame {} above, frame {} below", upper.counter, lower.counter)
            }
        }
    }
}

impl std::error::Error for Unreadable {}

impl Mark {
    /// Draws the mark into a luma plane of `width` x `height` bytes without padding.
    ///
    /// # Panics
    /// If the picture is smaller than [`MIN_SIZE`] or the plane is not `width * height` long.
    pub fn draw(&self, luma: &mut [u8], width: usize, height: usize) {
        assert!(width >= MIN_SIZE.0 && height >= MIN_SIZE.1, "a mark does not fit {width}x{height}");
        assert_eq!(luma.len(), width * height, "luma plane of {width}x{height}");
        let bits = self.to_bits();
        for top in TOPS {
            for row in 0..=DATA_ROWS {
                for column in 0..COLUMNS {
                    let white = match row {
                        0 => column % 2 == 1,
                        _ => bits >> (DATA_ROWS * COLUMNS - 1 - ((row - 1) * COLUMNS + column)) & 1 == 1,
                    };
                    let xs = edges(LEFT + column, width);
                    for y in edges(top + row, height) {
                        luma[y * width..][xs.clone()].fill(if white { WHITE } else { BLACK });
                    }
                }
            }
        }
    }

    /// Reads the mark back from the luma plane (`width` x `height` bytes, no padding) of a decoded picture.
    pub fn read(luma: &[u8], width: usize, height: usize) -> Result<Self, Unreadable> {
        if width < MIN_SIZE.0 || height < MIN_SIZE.1 || luma.len() < width * height {
            return Err(Unreadable::TooSmall { width, height });
        }
        let [upper, lower] = TOPS.map(|top| Self::read_copy(luma, width, height, top));
        let (upper, lower) = (upper?, lower?);
        if upper != lower {
            return Err(Unreadable::Torn { upper, lower });
        }
        Ok(upper)
    }

    fn read_copy(luma: &[u8], width: usize, height: usize, top: usize) -> Result<Self, Unreadable> {
        let level = |row: usize, column: usize| {
            mean_of_centre(luma, width, edges(LEFT + column, width), edges(top + row, height))
        };
        let half = (COLUMNS / 2) as i32;
        let black = (0..COLUMNS).step_by(2).map(|column| level(0, column)).sum::<i32>() / half;
        let white = (1..COLUMNS).step_by(2).map(|column| level(0, column)).sum::<i32>() / half;
        let contrast = white - black;
        if contrast < MIN_CONTRAST {
            return Err(Unreadable::LowContrast { contrast });
        }
        let mut bits = 0u128;
        for row in 0..DATA_ROWS {
            for column in 0..COLUMNS {
                let distance = level(row + 1, column) - (black + white) / 2;
                // The middle quarter of the range belongs to nobody: a block there is half one frame, half another.
                if distance.abs() < contrast / 8 {
                    return Err(Unreadable::Unclear { row: top + row + 1, column });
                }
                bits = bits << 1 | u128::from(distance > 0);
            }
        }
        Self::from_bits(bits).ok_or(Unreadable::Checksum)
    }

    fn to_bits(self) -> u128 {
        let payload = u64::from(self.camera) << 48 | u64::from(self.counter) << 16 | u64::from(self.clip_frames);
        u128::from(payload) << 16 | u128::from(crc16(&payload.to_be_bytes()))
    }

    fn from_bits(bits: u128) -> Option<Self> {
        let payload = (bits >> 16) as u64;
        (crc16(&payload.to_be_bytes()) == bits as u16).then_some(Self {
            camera: (payload >> 48) as u16,
            counter: (payload >> 16) as u32,
            clip_frames: payload as u16,
        })
    }
}

/// The pixels of one grid line or column of a side `size` pixels long.
fn edges(index: usize, size: usize) -> Range<usize> {
    index * size / GRID..(index + 1) * size / GRID
}

/// Mean over the inner half of a block in each direction: its rim belongs to the codec.
fn mean_of_centre(luma: &[u8], width: usize, xs: Range<usize>, ys: Range<usize>) -> i32 {
    let inner = |range: Range<usize>| range.start + range.len() / 4..range.end - range.len() / 4;
    let (xs, ys) = (inner(xs), inner(ys));
    let pixels = (xs.len() * ys.len()) as u64;
    let sum: u64 = ys.map(|y| luma[y * width..][xs.clone()].iter().map(|&pixel| u64::from(pixel)).sum::<u64>()).sum();
    (sum / pixels) as i32
}

/// CRC-16/CCITT-FALSE; a number that is also handy to name a camera by.
pub(crate) fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 })
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::clip::{ClipSpec, Codec};
    use crate::fixtures::jpegs_of;
    use crate::oracle::decode;

    const MARK: Mark = Mark { camera: 0xa5c3, counter: 1_234_567_890, clip_frames: 0x8001 };

    fn drawn(mark: Mark, width: usize, height: usize) -> Vec<u8> {
        let mut luma = vec![128; width * height];
        mark.draw(&mut luma, width, height);
        luma
    }

    #[test]
    fn reads_what_it_drew_at_odd_sizes_too() {
        let extremes = [
            MARK,
            Mark { camera: 0, counter: 0, clip_frames: 0 },
            Mark { camera: u16::MAX, counter: u32::MAX, clip_frames: u16::MAX },
        ];
        for (width, height) in [MIN_SIZE, (176, 144), (320, 240), (321, 243), (1920, 1080), (2560, 1944)] {
            for mark in extremes {
                assert_eq!(Mark::read(&drawn(mark, width, height), width, height), Ok(mark), "{width}x{height}");
            }
        }
    }

    #[test]
    fn says_why_it_cannot_read() {
        let (width, height) = (320, 240);
        let block = |luma: &mut [u8], row: usize, column: usize, level: u8| {
            for y in edges(row, height) {
                luma[y * width..][edges(column, width)].fill(level);
            }
        };
        assert_eq!(Mark::read(&vec![128; width * height], width, height), Err(Unreadable::LowContrast { contrast: 0 }));
        assert_eq!(Mark::read(&[128; 10], width, height), Err(Unreadable::TooSmall { width, height }));

        let mut grey = drawn(MARK, width, height);
        block(&mut grey, 2, 5, 126);
        assert_eq!(Mark::read(&grey, width, height), Err(Unreadable::Unclear { row: 2, column: 3 }));

        // Any single block the other way round is noticed, in either copy.
        for top in TOPS {
            for row in 1..=DATA_ROWS {
                for column in 0..COLUMNS {
                    let mut wrong = drawn(MARK, width, height);
                    let was = wrong[(top + row) * height / GRID * width + (LEFT + column) * width / GRID];
                    block(&mut wrong, top + row, LEFT + column, BLACK + WHITE - was);
                    assert_eq!(Mark::read(&wrong, width, height), Err(Unreadable::Checksum), "{row} {column}");
                }
            }
        }

        let next = Mark { counter: MARK.counter + 1, ..MARK };
        let mut torn = drawn(MARK, width, height);
        torn[width * height / 2..].copy_from_slice(&drawn(next, width, height)[width * height / 2..]);
        assert_eq!(Mark::read(&torn, width, height), Err(Unreadable::Torn { upper: MARK, lower: next }));
    }

    /// Encodes a clip, encodes it once more with `again`, makes JPEGs of low quality, and reads all their marks.
    fn survives(spec: ClipSpec, again: &[&str], expected_size: (usize, usize)) {
        let dir = tempfile::tempdir().unwrap();
        let clip = spec.cached(dir.path()).unwrap();
        let worse = dir.path().join(format!("worse.{}", spec.codec));
        let status = Command::new("ffmpeg").args(["-v", "error", "-i"]).arg(&clip).args(again).arg(&worse).status();
        assert!(status.expect("ffmpeg is installed").success());
        let expected: Vec<_> = (0..spec.frames().unwrap())
            .map(|index| Ok(Mark { camera: spec.camera, counter: index.into(), clip_frames: spec.frames().unwrap() }))
            .collect();
        let read: Vec<_> = jpegs_of(&["-i", worse.to_str().unwrap()], 15)
            .iter()
            .map(|jpeg| {
                let (luma, width, height) = decode(jpeg).unwrap();
                assert_eq!((width, height), expected_size);
                Mark::read(&luma, width, height)
            })
            .collect();
        assert_eq!(read, expected);
    }

    const SMALL: ClipSpec =
        ClipSpec { camera: 7, width: 320, height: 240, fps: 10, gop: 10, codec: Codec::H264, seconds: 5 };

    #[test]
    fn survives_h264_and_jpeg_at_a_small_size() {
        survives(SMALL, &["-c", "copy"], (320, 240));
        survives(SMALL, &["-c:v", "libx264", "-b:v", "60k", "-maxrate", "60k", "-bufsize", "60k"], (320, 240));
    }

    #[test]
    fn survives_h265_and_motion_jpeg_at_a_small_size() {
        let h265 = ClipSpec { codec: Codec::H265, ..SMALL };
        survives(h265, &["-c", "copy"], (320, 240));
        survives(
            h265,
            &["-c:v", "libx265", "-preset", "ultrafast", "-b:v", "60k", "-x265-params", "log-level=error"],
            (320, 240),
        );
        let mjpeg = ClipSpec { codec: Codec::Mjpeg, gop: 1, ..SMALL };
        survives(mjpeg, &["-c", "copy"], (320, 240));
        survives(mjpeg, &["-c:v", "mjpeg", "-q:v", "25"], (320, 240));
    }

    #[test]
    fn survives_down_scaling() {
        let spec = ClipSpec { camera: 8, width: 1920, height: 1080, seconds: 2, ..SMALL };
        survives(spec, &["-vf", "scale=640:-2", "-c:v", "libx264", "-crf", "35"], (640, 360));
    }
}
