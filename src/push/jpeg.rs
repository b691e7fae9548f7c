//! JPEGs as they are: where one ends and how large its picture is (ITU-T T.81, annex B). Nothing is decoded.

use std::io::{self, Read};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};

use crate::model::UnixMicros;

/// The longest JPEG, bytes: what a capture process may send, too.
const MAX_BYTES: usize = 64 << 20;
/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;

/// A picture to be stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Picture {
    /// The JPEG file.
    pub jpeg: Bytes,
    /// When it was captured, or read where nobody knows more.
    pub captured_at: UnixMicros,
    /// Its presentation time in a file, from the beginning of its pictures.
    pub position: Option<Duration>,
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
}

/// What is wrong with bytes that should be a JPEG.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no whole JPEG: {0}")]
pub struct NoJpeg(&'static str);

impl Picture {
    /// A picture of now. Its headers are looked at, not what they hold.
    ///
    /// # Errors
    ///
    /// When it is no whole JPEG.
    pub fn new(jpeg: Bytes) -> Result<Self, NoJpeg> {
        let found = find(&jpeg)?.ok_or(NoJpeg("it ends too early"))?;
        let (width, height) = found.size;
        let behind = &jpeg[found.end..];
        let filling = filling(behind);
        // Other things may follow on a picture, as phones write them; what begins at once is the next picture of a film.
        if behind[filling..].starts_with(&[0xff, SOI, 0xff])
            && !jpeg[..found.end].windows(4).any(|four| four == b"MPF\0")
        {
            return Err(NoJpeg("others follow on it: give them on standard input"));
        }
        Ok(Self { jpeg, captured_at: UnixMicros::now(), position: None, width, height })
    }
}

/// JPEGs that follow on each other in a stream of bytes, as `ffmpeg -f image2pipe -c:v mjpeg -` writes them.
#[derive(Debug)]
pub struct Jpegs<R> {
    from: R,
    /// What is read and not yet given.
    read: BytesMut,
    /// At how many bytes it is worth looking again even where they do not end as a JPEG does. It doubles, so that looking
    /// costs what reading does.
    look_at: usize,
    /// Whether the reader has come to its end.
    ended: bool,
    failed: bool,
}

impl<R: Read> Jpegs<R> {
    /// Those of a reader.
    pub fn new(from: R) -> Self {
        Self { from, read: BytesMut::new(), look_at: 0, ended: false, failed: false }
    }

    fn read_next(&mut self) -> io::Result<Option<Picture>> {
        let wrong = |why: NoJpeg| io::Error::new(io::ErrorKind::InvalidData, why);
        loop {
            // Line ends and zeros that fill up behind a picture are none of the next.
            self.read.advance(filling(&self.read));
            if (self.read.len() >= self.look_at || self.read.ends_with(&[0xff, EOI]))
                && let Some(found) = find(&self.read).map_err(wrong)?
            {
                // A copy, so that a small picture does not keep all that was read with it.
                let jpeg = Bytes::copy_from_slice(&self.read[..found.end]);
                self.read.advance(found.end);
                self.look_at = 0;
                let (width, height) = found.size;
                return Ok(Some(Picture { jpeg, captured_at: UnixMicros::now(), position: None, width, height }));
            }
            if self.read.len() > MAX_BYTES {
                return Err(wrong(NoJpeg("it is longer than 64 MiB")));
            }
            self.look_at = self.look_at.max(2 * self.read.len()).min(MAX_BYTES);
            let before = self.read.len();
            self.read.resize(before + PIECE, 0);
            let got = self.from.read(&mut self.read[before..]);
            self.read.truncate(before + got.as_ref().map_or(0, |got| *got));
            match got {
                Ok(0) if self.read.is_empty() => return Ok(None),
                Ok(0) if self.ended => return Err(wrong(NoJpeg("it ends too early"))),
                // Now it is worth looking, however little it is.
                Ok(0) => (self.ended, self.look_at) = (true, 0),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Ends with an error where the reader fails, or gives what is no JPEG.
impl<R: Read> Iterator for Jpegs<R> {
    type Item = io::Result<Picture>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = if self.failed { Ok(None) } else { self.read_next() };
        self.failed |= next.is_err();
        next.transpose()
    }
}

/// How many bytes do nothing but fill up between two pictures.
fn filling(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, 0 | b'\r' | b'\n')).count()
}

/// Where a JPEG ends, and its size.
struct Found {
    end: usize,
    size: (u32, u32),
}

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;

/// Finds the end of the JPEG with which these bytes begin; `None` where there is more of it.
fn find(bytes: &[u8]) -> Result<Option<Found>, NoJpeg> {
    match bytes {
        [0xff, SOI, ..] => {}
        [] | [0xff] => return Ok(None),
        _ => return Err(NoJpeg("it does not begin as one")),
    }
    let (mut at, mut size) = (2, None);
    loop {
        // What stands between two segments is coded data, and ends at a marker that is neither stuffed nor a restart.
        let Some(marker) = marker(bytes, &mut at) else { return Ok(None) };
        match marker {
            EOI => {
                let size = size.ok_or(NoJpeg("it has no frame header"))?;
                return Ok(Some(Found { end: at, size }));
            }
            SOI => return Err(NoJpeg("another begins in it")),
            0x01 => continue,
            _ => {}
        }
        let Some(length) = bytes.get(at..at + 2) else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length < 2 {
            return Err(NoJpeg("a segment has no length"));
        }
        let is_frame = matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc);
        if is_frame {
            let Some(header) = bytes.get(at + 3..at + 7) else { return Ok(None) };
            let side = |from: usize| u32::from(u16::from_be_bytes([header[from], header[from + 1]]));
            let (height, width) = (side(0), side(2));
            if width == 0 || height == 0 {
                return Err(NoJpeg("its picture has no size"));
            }
            size = Some((width, height));
        }
        at += length;
        if marker != SOS && at < bytes.len() && bytes[at] != 0xff {
            return Err(NoJpeg("a segment has another length than it says"));
        }
    }
}

/// The next marker that says something, with `at` behind it.
fn marker(bytes: &[u8], at: &mut usize) -> Option<u8> {
    loop {
        let next = *at + bytes.get(*at..)?.iter().position(|byte| *byte == 0xff)?;
        match bytes.get(next + 1)? {
            // A stuffed byte, a restart marker.
            0x00 | 0xd0..=0xd7 => *at = next + 2,
            // Filling.
            0xff => *at = next + 1,
            marker => {
                *at = next + 2;
                return Some(*marker);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of 4 x 3 pixels, with a thumbnail in its header, restart markers, a stuffed byte and filling.
    const JPEG: [u8; 48] = [
        0xff, 0xd8, 0xff, 0xe1, 0, 8, 0xff, 0xd8, 1, 2, 0xff, 0xd9, 0xff, 0xff, 0xc0, 0, 11, 8, 0, 3, 0, 4, 1, 1, 0x11,
        0, 0xff, 0xda, 0, 8, 1, 1, 0, 0, 63, 0, 0xaa, 0xff, 0, 0xff, 0xd0, 0xbb, 0xff, 0xff, 0xff, 0xff, 0xff, 0xd9,
    ];

    /// Gives so many bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(into.len());
            into[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn all(bytes: &[u8], at_once: usize) -> io::Result<Vec<Bytes>> {
        Jpegs::new(Slow(bytes, at_once)).map(|picture| picture.map(|picture| picture.jpeg)).collect()
    }

    #[test]
    fn pictures_are_told_apart_however_they_come() {
        let stream = [&JPEG[..], &JPEG, b"\r\n", &JPEG, &[0; 5]].concat();
        for at_once in [1, 2, 7, 47, 48, 49, 1_000] {
            let found = all(&stream, at_once).unwrap();
            assert!(found.len() == 3 && found.iter().all(|jpeg| **jpeg == JPEG), "{at_once}: {found:?}");
        }
        let picture = Picture::new(Bytes::from_static(&JPEG)).unwrap();
        assert_eq!((picture.width, picture.height), (4, 3));
        // Stored as it is, with what a phone has written behind it.
        let more = Bytes::from([&JPEG[..], b"\0\0\0\x18ftypmp42"].concat());
        assert_eq!(Picture::new(more.clone()).unwrap().jpeg, more);
        let film = Picture::new(Bytes::from(stream)).unwrap_err().to_string();
        assert!(film.contains("standard input"), "{film}");
    }

    #[test]
    fn a_large_picture_is_not_looked_through_again_and_again() {
        // One byte at a time this would be 10^10 steps.
        let coded = vec![0x55; 100_000];
        let large = [&JPEG[..36], &coded, &JPEG[36..]].concat();
        assert_eq!(all(&large, 1).unwrap(), [Bytes::from(large)]);
    }

    #[test]
    fn what_is_no_whole_jpeg_is_refused() {
        assert_eq!(all(&[], 10).unwrap(), Vec::<Bytes>::new());
        for end in 1..JPEG.len() {
            assert!(all(&JPEG[..end], 10).is_err(), "{end}");
            assert!(Picture::new(Bytes::from_static(&JPEG[..end])).is_err(), "{end}");
        }
        let with = |at: usize, byte: u8| {
            let mut jpeg = JPEG;
            jpeg[at] = byte;
            jpeg.to_vec()
        };
        let no_frame = [&JPEG[..12], &JPEG[26..]].concat();
        for (wrong, why) in [
            (b"GIF89a".to_vec(), "begin"),
            (with(5, 1), "no length"),
            (with(5, 7), "another length"),
            (with(19, 0), "no size"),
            (no_frame, "frame header"),
        ] {
            let error = all(&wrong, 10).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..20_000 {
            let mut jpeg = JPEG;
            for _ in 0..rng.usize(1..4) {
                jpeg[rng.usize(..JPEG.len())] = rng.u8(..);
            }
            let _ = all(&jpeg[..rng.usize(..=JPEG.len())], rng.usize(1..50));
        }
    }
}
