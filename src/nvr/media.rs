//! What a recorder sends.

use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::{RecorderError, Span};

/// A segment on its way. Nothing is read ahead: what nobody takes stays with the recorder.
pub struct Media {
    /// The length that the head of the answer tells, bytes. A body that ends earlier is an error of it.
    pub length: Option<u64>,
    /// What its first bytes say that it is.
    pub container: Container,
    /// What it covers, where it was fetched by time and not by name: then its size is not the segment's.
    pub covers: Option<Span>,
    /// The bytes, in pieces of a few hundred KiB at most. It ends with an error where the connection breaks off, where
    /// it ends before [`length`](Self::length), and where it [stalls](super::Timeouts::stall).
    pub body: BoxStream<'static, Result<Bytes, RecorderError>>,
}

impl std::fmt::Debug for Media {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Media")
            .field("length", &self.length)
            .field("container", &self.container)
            .field("covers", &self.covers)
            .finish_non_exhaustive()
    }
}

/// How media are packed, as their first bytes tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Container {
    /// An MPEG program stream, with a head of Hikvision's or without.
    ProgramStream,
    /// MP4.
    Mp4,
    /// A JPEG.
    Jpeg,
    /// None of these: kept as it is.
    Unknown,
}

impl Container {
    /// What begins with these bytes; eight of them are enough.
    pub(super) fn sniff(head: &[u8]) -> Self {
        match head {
            [b'I', b'M', b'K', b'H', ..] | [b'4', b'H', b'K', b'H', ..] | [0, 0, 1, 0xba, ..] => Self::ProgramStream,
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => Self::Mp4,
            [0xff, 0xd8, 0xff, ..] => Self::Jpeg,
            _ => Self::Unknown,
        }
    }

    /// What files of this kind end in, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::ProgramStream => "mpg",
            Self::Mp4 => "mp4",
            Self::Jpeg => "jpg",
            Self::Unknown => "bin",
        }
    }
}
