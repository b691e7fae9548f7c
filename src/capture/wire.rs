//! What a capture process and the daemon say to each other.
//!
//! Daemon to child, on its standard input: one line of JSON ([`ChildSettings`]), later the line `stop`. Child to
//! daemon, on its standard output: [`Message`]s, each a little-endian `u32` length, a tag byte and a body; the length
//! counts tag and body.

use std::io::{self, Write};

use bytes::{Buf as _, Bytes};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::ffmpeg_options;
use crate::model::{CameraSpec, Damaged, Extent, Pace, Sampling, SourceKind};
use crate::process::{expose, with_credentials};

/// The longest message the daemon accepts, bytes: far above any JPEG, far below what would hurt.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// The word that asks a child to end in good order.
pub const STOP: &str = "stop";

/// What a child needs to know of its camera.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChildSettings {
    /// What kind of source it is.
    pub kind: Kind,
    /// Where it is, without credentials: a URL, or the path of a file or device.
    pub location: String,
    /// Who to authenticate as.
    pub user: Option<String>,
    /// The password; this pipe is the only way it takes between the two processes.
    #[serde(serialize_with = "expose")]
    pub password: Option<SecretString>,
    /// Whether a file begins again at its end.
    pub repeat: bool,
    /// How fast a file plays.
    pub pace: Pace,
    /// Which frames are wanted.
    pub sampling: Sampling,
    /// Which of those; all of them where it does not say.
    #[serde(default)]
    pub extent: Extent,
    /// What becomes of damaged pictures.
    pub damaged: Damaged,
    /// JPEG quality, 1 to 100.
    pub jpeg_quality: u8,
    /// Wider pictures are scaled down to this, pixels.
    pub max_width: Option<u32>,
    /// Time the stream gets to open, milliseconds.
    pub open_timeout_ms: u64,
    /// Time the stream may be silent, milliseconds.
    pub read_timeout_ms: u64,
    /// FFmpeg's options, by name: what it may read and reach, and how long it may take.
    pub options: Vec<(String, String)>,
}

/// The kinds of sources that a capture program treats differently.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A stream with presentation times.
    Rtsp,
    /// Pictures over HTTP, which say nothing of their times.
    Http,
    /// A video file.
    File,
    /// A video device.
    V4l2,
}

impl From<SourceKind> for Kind {
    fn from(kind: SourceKind) -> Self {
        match kind {
            SourceKind::Rtsp | SourceKind::Rtsps => Self::Rtsp,
            SourceKind::Http | SourceKind::Https => Self::Http,
            SourceKind::File => Self::File,
            SourceKind::V4l2 => Self::V4l2,
        }
    }
}

impl ChildSettings {
    /// The settings for this part of what a camera shows, whose source is at `location`.
    pub fn new(
        spec: &CameraSpec,
        extent: Extent,
        location: String,
        open_timeout_ms: u64,
        read_timeout_ms: u64,
    ) -> Self {
        Self {
            kind: spec.url.kind().into(),
            location,
            user: spec.user.clone(),
            password: spec.password.clone(),
            repeat: spec.repeat,
            pace: spec.pace,
            sampling: spec.sampling,
            extent,
            damaged: spec.damaged,
            jpeg_quality: spec.jpeg_quality,
            max_width: spec.max_width,
            open_timeout_ms,
            read_timeout_ms,
            options: ffmpeg_options::options(spec, read_timeout_ms),
        }
    }

    /// Where the source is, with user and password in it: media libraries know them only as part of a URL, so they are
    /// put together here, in the child's memory.
    pub fn location_with_credentials(&self) -> String {
        with_credentials(&self.location, self.user.as_deref(), self.password.as_ref())
    }
}

/// What a stream says of itself when it is open.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamInfo {
    /// Frames a second as the stream declares them; 0 where it does not say.
    pub fps: f64,
    /// Width of its pictures, pixels; 0 where it does not say.
    pub width: u32,
    /// Height of its pictures, pixels; 0 where it does not say.
    pub height: u32,
    /// Its codec, in lower case as FFmpeg names it: `h264`, `hevc`, `mjpeg`; empty where it is not known.
    pub codec: String,
}

/// A child's word.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// The stream is open.
    Opened(StreamInfo),
    /// A frame.
    Frame(CapturedFrame),
    /// So many wanted frames before the next one were not handed over, because the pipe was full.
    Overrun(u32),
    /// So many wanted frames before the next one could not be decoded or encoded.
    Corrupt(u32),
    /// Counters since the start; sent once a second.
    Stats(Stats),
    /// Nothing more will come.
    Ended {
        /// How it came to that.
        how: End,
        /// Why, in the media library's words, without secrets.
        detail: String,
    },
}

/// How a child's messages come to their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The stream could not be opened.
    NotOpened,
    /// The stream is over or was cut.
    Over,
    /// The stream's pictures have another size or format from here on.
    Changed,
}

impl End {
    /// All there are, each in the place of the number that stands for it.
    const ALL: [Self; 3] = [Self::NotOpened, Self::Over, Self::Changed];
}

/// A frame as it leaves its capture process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedFrame {
    /// `CLOCK_MONOTONIC` right after the grab, nanoseconds.
    pub monotonic_ns: u64,
    /// Presentation time, microseconds from an arbitrary start.
    pub pts_micros: i64,
    /// The same instant by the camera's own clock, Unix microseconds; `None` where it tells nothing.
    pub wall_micros: Option<i64>,
    /// Whether a part of the picture is missing or made up.
    pub damaged: bool,
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// The JPEG file.
    pub jpeg: Bytes,
}

/// A child's counters since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Pictures reached, wanted or not. A stall shows here and nowhere else.
    pub grabbed: u64,
    /// Frames handed over.
    pub delivered: u64,
    /// Wanted frames that found the pipe full.
    pub overrun: u64,
    /// Wanted frames that could not be decoded or encoded.
    pub corrupt: u64,
    /// Presentation time of the last picture, microseconds.
    pub last_pts_micros: i64,
    /// For how long the pictures that came have shown the same, milliseconds; 0 where the engine does not know.
    pub still_ms: u64,
}

const OPENED: u8 = 1;
const FRAME: u8 = 2;
const OVERRUN: u8 = 3;
const STATS: u8 = 4;
const ENDED: u8 = 5;
const CORRUPT: u8 = 6;
/// More frames than a child can have missed between two messages: at 240 fps, seven minutes.
const MAX_MISSED: u32 = 100_000;
/// The largest width or height of a JPEG, which has 16 bits for it (ITU-T T.81, B.2.2), pixels.
const MAX_JPEG_SIDE: u32 = 65_535;
const MAX_CODEC_BYTES: usize = 16;
const FRAME_HEADER: usize = 8 + 8 + 1 + 8 + 4 + 4;
/// Flags of a frame: the picture is damaged; the camera's own time is told, and does not only stand there as 0.
const DAMAGED: u8 = 1;
const TIMED: u8 = 2;

/// What is wrong with a message that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the capture process sent garbage: {0}")]
pub struct Garbage(&'static str);

impl Message {
    /// Writes the message with its length.
    ///
    /// # Errors
    ///
    /// When the pipe is closed.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut body = Vec::with_capacity(64);
        let mut tail: &[u8] = &[];
        match self {
            Self::Opened(info) => {
                body.push(OPENED);
                body.extend(info.fps.to_le_bytes());
                body.extend(info.width.to_le_bytes());
                body.extend(info.height.to_le_bytes());
                body.extend(info.codec.as_bytes());
            }
            Self::Frame(frame) => {
                body.push(FRAME);
                body.extend(frame.monotonic_ns.to_le_bytes());
                body.extend(frame.pts_micros.to_le_bytes());
                let timed = if frame.wall_micros.is_some() { TIMED } else { 0 };
                body.push(timed | if frame.damaged { DAMAGED } else { 0 });
                body.extend(frame.wall_micros.unwrap_or_default().to_le_bytes());
                body.extend(frame.width.to_le_bytes());
                body.extend(frame.height.to_le_bytes());
                tail = &frame.jpeg;
            }
            Self::Overrun(count) => {
                body.push(OVERRUN);
                body.extend(count.to_le_bytes());
            }
            Self::Corrupt(count) => {
                body.push(CORRUPT);
                body.extend(count.to_le_bytes());
            }
            Self::Stats(stats) => {
                body.push(STATS);
                for n in [stats.grabbed, stats.delivered, stats.overrun, stats.corrupt] {
                    body.extend(n.to_le_bytes());
                }
                body.extend(stats.last_pts_micros.to_le_bytes());
                body.extend(stats.still_ms.to_le_bytes());
            }
            Self::Ended { how, detail } => {
                body.push(ENDED);
                body.push(*how as u8);
                body.extend(detail.as_bytes());
            }
        }
        let length = u32::try_from(body.len() + tail.len()).map_err(io::Error::other)?;
        out.write_all(&length.to_le_bytes())?;
        out.write_all(&body)?;
        out.write_all(tail)?;
        out.flush()
    }

    /// Reads a message without its length. A JPEG keeps all of its message's memory, and nothing copies it.
    ///
    /// # Errors
    ///
    /// When it is no message of ours. A child is not trusted: it decodes hostile streams.
    pub fn read(mut body: Bytes) -> Result<Self, Garbage> {
        let tag = body.try_get_u8().map_err(|_| Garbage("an empty message"))?;
        let short = |_| Garbage("a message that is too short");
        let message = match tag {
            OPENED => {
                let fps = body.try_get_f64_le().map_err(short)?;
                let (width, height) = (body.try_get_u32_le().map_err(short)?, body.try_get_u32_le().map_err(short)?);
                let codec = String::from_utf8_lossy(&body).into_owned();
                body.clear();
                if codec.len() > MAX_CODEC_BYTES || !codec.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
                {
                    return Err(Garbage("an impossible codec"));
                }
                Self::Opened(StreamInfo { fps, width, height, codec })
            }
            FRAME => {
                if body.len() < FRAME_HEADER {
                    return Err(Garbage("a message that is too short"));
                }
                let (monotonic_ns, pts_micros) = (body.get_u64_le(), body.get_i64_le());
                let (flags, wall_micros) = (body.get_u8(), body.get_i64_le());
                if flags & !(DAMAGED | TIMED) != 0 {
                    return Err(Garbage("a frame with an unknown flag"));
                }
                let wall_micros = (flags & TIMED != 0).then_some(wall_micros);
                let damaged = flags & DAMAGED != 0;
                let (width, height) = (body.get_u32_le(), body.get_u32_le());
                if width > MAX_JPEG_SIDE || height > MAX_JPEG_SIDE {
                    return Err(Garbage("a frame of an impossible size"));
                }
                if !body.starts_with(&[0xff, 0xd8]) {
                    return Err(Garbage("a frame that is no JPEG"));
                }
                let jpeg = std::mem::take(&mut body);
                Self::Frame(CapturedFrame { monotonic_ns, pts_micros, wall_micros, damaged, width, height, jpeg })
            }
            OVERRUN | CORRUPT => match body.try_get_u32_le().map_err(short)? {
                count @ 1..=MAX_MISSED if tag == OVERRUN => Self::Overrun(count),
                count @ 1..=MAX_MISSED => Self::Corrupt(count),
                _ => return Err(Garbage("an impossible number of missed frames")),
            },
            STATS => {
                let mut next = || body.try_get_u64_le().map_err(short);
                Self::Stats(Stats {
                    grabbed: next()?,
                    delivered: next()?,
                    overrun: next()?,
                    corrupt: next()?,
                    last_pts_micros: next()? as i64,
                    still_ms: next()?,
                })
            }
            ENDED => {
                let number = body.try_get_u8().map_err(short)?;
                let how = *End::ALL.get(usize::from(number)).ok_or(Garbage("an end of an unknown kind"))?;
                let detail = String::from_utf8_lossy(&body).chars().take(1_000).collect();
                body.clear();
                Self::Ended { how, detail }
            }
            _ => return Err(Garbage("a message of an unknown kind")),
        };
        if body.is_empty() { Ok(message) } else { Err(Garbage("a message that is too long")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(wall_micros: Option<i64>, damaged: bool) -> Message {
        Message::Frame(CapturedFrame {
            monotonic_ns: 7,
            pts_micros: -5,
            wall_micros,
            damaged,
            width: 640,
            height: 480,
            jpeg: Bytes::from_static(&[0xff, 0xd8, 1, 2, 3]),
        })
    }

    fn samples() -> Vec<Message> {
        [
            Message::Opened(StreamInfo { fps: 25.0, width: 640, height: 480, codec: "h264".into() }),
            frame(None, false),
            frame(Some(0), false),
            frame(Some(-1), true),
            frame(None, true),
            Message::Overrun(3),
            Message::Corrupt(4),
            Message::Stats(Stats {
                grabbed: 1,
                delivered: 2,
                overrun: 3,
                corrupt: 4,
                last_pts_micros: -5,
                still_ms: 6,
            }),
        ]
        .into_iter()
        .chain(End::ALL.map(|how| Message::Ended { how, detail: "over".into() }))
        .collect()
    }

    #[test]
    fn what_is_written_reads_back() {
        for message in samples() {
            let mut bytes = Vec::new();
            message.write(&mut bytes).unwrap();
            let (length, body) = bytes.split_at(4);
            assert_eq!(u32::from_le_bytes(length.try_into().unwrap()) as usize, body.len());
            assert_eq!(Message::read(Bytes::copy_from_slice(body)), Ok(message));
        }
    }

    #[test]
    fn a_number_of_missed_frames_must_be_possible() {
        for count in [0, MAX_MISSED + 1, u32::MAX] {
            let mut bytes = Vec::new();
            Message::Overrun(count).write(&mut bytes).unwrap();
            assert!(Message::read(Bytes::copy_from_slice(&bytes[4..])).is_err(), "{count}");
        }
    }

    #[test]
    fn a_flag_that_is_not_known_is_no_frame() {
        let mut bytes = Vec::new();
        frame(Some(1), true).write(&mut bytes).unwrap();
        let flags = 4 + 1 + 8 + 8;
        assert_eq!(bytes[flags], DAMAGED | TIMED);
        bytes[flags] |= 4;
        assert_eq!(Message::read(Bytes::copy_from_slice(&bytes[4..])), Err(Garbage("a frame with an unknown flag")));
    }

    #[test]
    fn a_size_that_no_jpeg_has_is_no_frame() {
        for place in [0, 4] {
            let mut bytes = Vec::new();
            frame(None, false).write(&mut bytes).unwrap();
            let side = 4 + 1 + 8 + 8 + 1 + 8 + place;
            bytes[side..side + 4].copy_from_slice(&65_536u32.to_le_bytes());
            assert_eq!(
                Message::read(Bytes::copy_from_slice(&bytes[4..])),
                Err(Garbage("a frame of an impossible size"))
            );
        }
    }

    #[test]
    fn no_truncation_and_no_random_bytes_are_taken_for_anything_else_or_panic() {
        for message in samples() {
            let mut bytes = Vec::new();
            message.write(&mut bytes).unwrap();
            for cut in 0..bytes.len() - 4 {
                // A shorter text or JPEG is still one; everything else must be refused.
                let read = Message::read(Bytes::copy_from_slice(&bytes[4..4 + cut]));
                assert!(read.as_ref() != Ok(&message), "{cut}");
            }
        }
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..10_000 {
            let noise: Vec<u8> = (0..rng.usize(0..60)).map(|_| rng.u8(..)).collect();
            let _ = Message::read(Bytes::from(noise));
        }
    }
}
