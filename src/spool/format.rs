//! The bytes of a segment: its header and its records. Little-endian throughout.
//!
//! ```text
//! segment = header (64 bytes), records, and once it is sealed a footer and a trailer
//! record  = header with camera and key, picture, zeros to the next multiple of 8
//! ```
//!
//! A record's header carries a CRC32C over the daemon's origin, the segment's number and the record's own place too. So
//! a record that was copied elsewhere, or a picture that holds a record, is none.

use crate::model::{CameraId, Origin, Seq, SessionNo, UnixMicros};

use super::Record;

/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER: u64 = 64;

/// Records begin at multiples of it.
pub(super) const ALIGN: u64 = 8;

/// Bytes of a record's header before the camera's name.
pub(super) const FIXED: usize = 52;

/// The longest key: a template has 256 characters at most, in which a camera's id of 63 can stand 32 times.
const LONGEST_KEY: usize = 2048;

/// The longest header of a record.
pub(super) const LONGEST_HEADER: usize = FIXED + 1 + 63 + 2 + LONGEST_KEY;

const SEGMENT_MAGIC: &[u8; 8] = b"FHSPOOL1";
const VERSION: u32 = 1;
pub(super) const RECORD_MAGIC: [u8; 4] = *b"FHR\x01";

/// Stands in a record's height where the picture is damaged: no JPEG is higher than 65,535 pixels. What wrote no such
/// records reads none, because it refuses the journal that belongs to them.
const DAMAGED: u32 = 1 << 31;

/// The next multiple of 8.
pub(super) fn aligned(length: u64) -> u64 {
    length.next_multiple_of(ALIGN)
}

/// A segment's file name.
pub(super) fn segment_name(number: u64) -> String {
    format!("{number:012}.segment")
}

/// The number in a segment's file name; `None` where it is no such name.
pub(super) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".segment")?;
    let number: u64 = digits.parse().ok()?;
    // Far beyond what a run comes to, and far from the end of the numbers: there is always a next one.
    (segment_name(number) == name && number <= u64::MAX / 2).then_some(number)
}

/// What every checksum of a segment begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Salt(u32);

impl Salt {
    pub(super) fn new(origin: &Origin, number: u64) -> Self {
        Self(crc32c::crc32c_append(crc32c::crc32c(origin.as_str().as_bytes()), &number.to_le_bytes()))
    }

    /// The CRC32C of `parts`, at `offset` of this segment.
    pub(super) fn crc32c(self, offset: u64, parts: &[&[u8]]) -> u32 {
        let at = crc32c::crc32c_append(self.0, &offset.to_le_bytes());
        parts.iter().fold(at, |crc, part| crc32c::crc32c_append(crc, part))
    }
}

/// The first bytes of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    pub(super) origin: Origin,
    pub(super) number: u64,
    /// When the frame was captured for which the segment was begun.
    pub(super) created: UnixMicros,
    /// The size it was given; a file of another size was sealed, or has lost its end.
    pub(super) allocated: u64,
}

/// Why bytes are no header of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum NoHeader {
    /// Zeros: the segment was made and never used.
    Blank,
    /// A later version of this program wrote it, for a daemon of this origin if that still stands where it did.
    Version(u32, Option<Origin>),
    /// Something else.
    Damaged,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER as usize] {
        let mut bytes = [0; SEGMENT_HEADER as usize];
        bytes[0..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(self.origin.as_str().as_bytes());
        bytes[20..28].copy_from_slice(&self.number.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.created.0.to_le_bytes());
        bytes[36..44].copy_from_slice(&self.allocated.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8; SEGMENT_HEADER as usize]) -> Result<Self, NoHeader> {
        let mut rest = Fields(bytes);
        let fields = (|| {
            let magic = rest.take(8)?;
            let version = rest.u32()?;
            let origin = Origin::parse(std::str::from_utf8(rest.take(8)?).ok()?);
            Some((magic, version, origin, rest.u64()?, rest.i64()?, rest.u64()?))
        })();
        let crc = u32::from_le_bytes(bytes[60..].try_into().expect("four bytes"));
        match fields {
            _ if bytes.iter().all(|b| *b == 0) => Err(NoHeader::Blank),
            Some((magic, version, origin, ..))
                if magic == SEGMENT_MAGIC && version != VERSION && crc == crc32c::crc32c(&bytes[..60]) =>
            {
                Err(NoHeader::Version(version, origin))
            }
            Some((magic, VERSION, Some(origin), number, created, allocated))
                if magic == SEGMENT_MAGIC && crc == crc32c::crc32c(&bytes[..60]) =>
            {
                Ok(Self { origin, number, created: UnixMicros(created), allocated })
            }
            _ => Err(NoHeader::Damaged),
        }
    }
}

/// What stands before a picture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RecordHeader {
    pub(super) camera: CameraId,
    pub(super) seq: Seq,
    pub(super) session: SessionNo,
    pub(super) captured_at: UnixMicros,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Whether a part of the picture is missing or made up.
    pub(super) damaged: bool,
    pub(super) key: String,
    pub(super) jpeg_length: u32,
    pub(super) jpeg_crc32c: u32,
}

/// Where a record's parts end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Lengths {
    /// From the record's beginning to the picture.
    pub(super) header: u32,
    /// To the next record.
    pub(super) total: u32,
}

/// The lengths that the first bytes of a record tell, where they are possible; [`FIXED`] bytes are enough.
pub(super) fn lengths(bytes: &[u8]) -> Option<Lengths> {
    let mut rest = Fields(bytes);
    let magic = rest.take(4)?;
    let (header, total) = (rest.u32()?, rest.u32()?);
    let possible = magic == RECORD_MAGIC
        && (FIXED + 4..=LONGEST_HEADER).contains(&(header as usize))
        && u64::from(total).is_multiple_of(ALIGN)
        && total >= header;
    possible.then_some(Lengths { header, total })
}

impl RecordHeader {
    /// A record's header; `None` where a record cannot be so large.
    pub(super) fn of(record: &Record) -> Option<Self> {
        let frame = &record.frame;
        let header = Self {
            camera: frame.camera.clone(),
            seq: frame.seq,
            session: frame.session,
            captured_at: frame.captured_at,
            width: frame.width,
            height: frame.height,
            damaged: frame.damaged,
            key: record.key.clone(),
            jpeg_length: u32::try_from(frame.jpeg.len()).ok()?,
            jpeg_crc32c: frame.crc32c,
        };
        u32::try_from(header.total()).ok()?;
        (record.key.len() <= LONGEST_KEY && frame.height < DAMAGED).then_some(header)
    }

    /// Bytes before the picture.
    pub(super) fn length(&self) -> u64 {
        (FIXED + 1 + self.camera.as_str().len() + 2 + self.key.len()) as u64
    }

    /// Bytes of the whole record.
    pub(super) fn total(&self) -> u64 {
        aligned(self.length() + u64::from(self.jpeg_length))
    }

    /// The bytes that stand before the picture, at `offset` of the segment with that salt.
    pub(super) fn encode(&self, salt: Salt, offset: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.length() as usize);
        bytes.extend(RECORD_MAGIC);
        bytes.extend((self.length() as u32).to_le_bytes());
        bytes.extend((self.total() as u32).to_le_bytes());
        bytes.extend([0; 4]);
        bytes.extend(self.seq.to_le_bytes());
        bytes.extend(self.session.to_le_bytes());
        bytes.extend(self.captured_at.0.to_le_bytes());
        bytes.extend(self.width.to_le_bytes());
        let flag = if self.damaged { DAMAGED } else { 0 };
        bytes.extend((self.height | flag).to_le_bytes());
        bytes.extend(self.jpeg_length.to_le_bytes());
        bytes.extend(self.jpeg_crc32c.to_le_bytes());
        bytes.push(self.camera.as_str().len() as u8);
        bytes.extend(self.camera.as_str().as_bytes());
        bytes.extend((self.key.len() as u16).to_le_bytes());
        bytes.extend(self.key.as_bytes());
        let crc = salt.crc32c(offset, &[&bytes[..12], &bytes[16..]]);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Takes a header of [`Lengths::header`] bytes for what it says, if all of it is as it was written here.
    pub(super) fn parse(bytes: &[u8], salt: Salt, offset: u64) -> Option<Self> {
        let lengths = lengths(bytes)?;
        let bytes = bytes.get(..lengths.header as usize)?;
        let mut rest = Fields(&bytes[12..]);
        if rest.u32()? != salt.crc32c(offset, &[&bytes[..12], &bytes[16..]]) {
            return None;
        }
        let (seq, session, captured_at) = (rest.u64()?, rest.u32()?, UnixMicros(rest.i64()?));
        let (width, height, jpeg_length, jpeg_crc32c) = (rest.u32()?, rest.u32()?, rest.u32()?, rest.u32()?);
        let (height, damaged) = (height & !DAMAGED, height & DAMAGED != 0);
        let camera = rest.u8().and_then(|length| rest.text(length.into()))?.parse().ok()?;
        let key = rest.u16().and_then(|length| rest.text(length.into()))?.to_owned();
        let header = Self { camera, seq, session, captured_at, width, height, damaged, key, jpeg_length, jpeg_crc32c };
        let fits = rest.0.is_empty() && header.total() == u64::from(lengths.total);
        fits.then_some(header)
    }
}

/// Bytes, taken from the front.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn text(&mut self, length: usize) -> Option<&'a str> {
        std::str::from_utf8(self.take(length)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(n: u8) -> Origin {
        Origin::from_random([n; 5])
    }

    fn header() -> RecordHeader {
        RecordHeader {
            camera: "gate-3".parse().unwrap(),
            seq: 7,
            session: 2,
            captured_at: UnixMicros(-5),
            width: 640,
            height: 480,
            damaged: false,
            key: "a/gate-3/7.jpg".into(),
            jpeg_length: 1001,
            jpeg_crc32c: 9,
        }
    }

    #[test]
    fn a_mark_of_damage_reads_back_and_changes_nothing_else() {
        let salt = Salt::new(&origin(1), 5);
        let (marked, plain) = (RecordHeader { damaged: true, ..header() }, header());
        assert_eq!(RecordHeader::parse(&marked.encode(salt, 64), salt, 64), Some(marked.clone()));
        assert_eq!(marked.encode(salt, 64).len(), plain.encode(salt, 64).len());
    }

    #[test]
    fn a_header_is_one_only_where_it_was_written() {
        let salt = Salt::new(&origin(1), 5);
        let bytes = header().encode(salt, 64);
        assert_eq!(RecordHeader::parse(&bytes, salt, 64), Some(header()));
        assert_eq!(header().total() % ALIGN, 0);
        assert_eq!(RecordHeader::parse(&bytes, salt, 72), None);
        assert_eq!(RecordHeader::parse(&bytes, Salt::new(&origin(1), 6), 64), None);
        assert_eq!(RecordHeader::parse(&bytes, Salt::new(&origin(2), 5), 64), None);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(RecordHeader::parse(&flipped, salt, 64), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(RecordHeader::parse(&bytes[..length], salt, 64), None, "{length} bytes");
        }
    }

    #[test]
    fn a_segment_says_whose_it_is() {
        let header = SegmentHeader { origin: origin(3), number: 9, created: UnixMicros(4), allocated: 1 << 20 };
        let bytes = header.encode();
        assert_eq!(SegmentHeader::parse(&bytes), Ok(header));
        assert_eq!(SegmentHeader::parse(&[0; 64]), Err(NoHeader::Blank));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::parse(&flipped), Err(NoHeader::Damaged), "bit {bit}");
        }
        let mut later = bytes;
        later[8] = 2;
        let crc = crc32c::crc32c(&later[..60]);
        later[60..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::parse(&later), Err(NoHeader::Version(2, Some(origin(3)))));
    }

    #[test]
    fn names_of_segments_are_numbers() {
        assert_eq!(segment_number(&segment_name(12)), Some(12));
        assert_eq!(segment_number("000000000012.segment"), Some(12));
        assert_eq!(segment_number("1000000000000.segment"), Some(1_000_000_000_000));
        for other in ["12.segment", "000000000012.segments", "+00000000012.segment", "0000000000x2.segment", ".segment"]
        {
            assert_eq!(segment_number(other), None, "{other}");
        }
        assert_eq!(segment_number("999999999999999999.segment"), Some(999_999_999_999_999_999));
        assert_eq!(segment_number("18446744073709551615.segment"), None);
    }
}
