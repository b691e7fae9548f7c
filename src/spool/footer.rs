//! What a sealed segment ends in: which frames it holds, and where. So a start needs to read no picture.
//!
//! ```text
//! footer  = magic, number of cameras, {camera, first and last seq, count, bytes, captured_at of both, session, position}...,
//!           entries {seq, offset, length}, camera by camera, each camera's by seq
//! trailer = magic, footer's offset, footer's length, CRC32C of the footer, CRC32C of the trailer: the file's last 32 bytes
//! ```

use crate::model::{CameraId, Seq, SessionNo, UnixMicros};

use super::format::{Fields, SEGMENT_HEADER, Salt};

/// Bytes of the trailer.
pub(super) const TRAILER: u64 = 32;

/// Bytes of an entry.
pub(super) const ENTRY: u64 = 16;

/// Bytes of a footer beside its cameras and entries.
pub(super) const EMPTY: u64 = 8 + TRAILER;

const FOOTER_MAGIC: [u8; 4] = *b"FHF\x01";
const TRAILER_MAGIC: [u8; 8] = *b"FHSEALED";
/// Bytes of a camera beside its name.
const CAMERA: u64 = 1 + 8 + 8 + 4 + 8 + 8 + 8 + 4 + 4;

/// Where a frame's record lies in its segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) seq: Seq,
    pub(super) offset: u32,
    pub(super) length: u32,
}

impl Entry {
    fn encode(self) -> [u8; ENTRY as usize] {
        let mut bytes = [0; ENTRY as usize];
        bytes[..8].copy_from_slice(&self.seq.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.offset.to_le_bytes());
        bytes[12..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    pub(super) fn parse_all(bytes: &[u8]) -> Vec<Self> {
        let entry = |chunk: &[u8]| {
            let mut rest = Fields(chunk);
            Some(Self { seq: rest.u64()?, offset: rest.u32()?, length: rest.u32()? })
        };
        bytes.chunks_exact(ENTRY as usize).filter_map(entry).collect()
    }
}

/// A camera's frames in one segment, in short.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Summary {
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) count: u32,
    /// Of whole records.
    pub(super) bytes: u64,
    /// When the frame of the lowest seq was captured.
    pub(super) oldest: UnixMicros,
    /// When that of the highest was.
    pub(super) newest: UnixMicros,
    /// Its session.
    pub(super) session: SessionNo,
}

impl Summary {
    pub(super) fn add(&mut self, entry: Entry, captured_at: UnixMicros, session: SessionNo) {
        if self.count == 0 || entry.seq < self.first {
            (self.first, self.oldest) = (entry.seq, captured_at);
        }
        if self.count == 0 || entry.seq > self.last {
            (self.last, self.newest, self.session) = (entry.seq, captured_at, session);
        }
        self.count += 1;
        self.bytes += u64::from(entry.length);
    }
}

/// A camera's part of a segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Part {
    pub(super) camera: CameraId,
    pub(super) summary: Summary,
    /// By seq, each once.
    pub(super) entries: Vec<Entry>,
}

/// Bytes that a camera takes in a footer, without its entries.
pub(super) fn camera_length(camera: &CameraId) -> u64 {
    CAMERA + camera.as_str().len() as u64
}

/// The bytes of a footer that begins at `start` with its trailer, and where each camera's entries begin.
pub(super) fn encode<'a>(
    parts: impl Iterator<Item = (&'a CameraId, &'a Summary, &'a [Entry])> + Clone,
    salt: Salt,
    start: u64,
) -> (Vec<u8>, Vec<u64>) {
    let head: u64 = 8 + parts.clone().map(|(camera, ..)| camera_length(camera)).sum::<u64>();
    let entries: u64 = parts.clone().map(|(_, _, entries)| entries.len() as u64 * ENTRY).sum();
    let mut bytes = Vec::with_capacity((head + entries + TRAILER) as usize);
    let mut positions = Vec::new();
    let mut position = start + head;
    bytes.extend(FOOTER_MAGIC);
    bytes.extend((parts.clone().count() as u32).to_le_bytes());
    for (camera, summary, entries) in parts.clone() {
        bytes.push(camera.as_str().len() as u8);
        bytes.extend(camera.as_str().as_bytes());
        bytes.extend(summary.first.to_le_bytes());
        bytes.extend(summary.last.to_le_bytes());
        bytes.extend(summary.count.to_le_bytes());
        bytes.extend(summary.bytes.to_le_bytes());
        bytes.extend(summary.oldest.0.to_le_bytes());
        bytes.extend(summary.newest.0.to_le_bytes());
        bytes.extend(summary.session.to_le_bytes());
        bytes.extend((position as u32).to_le_bytes());
        positions.push(position);
        position += entries.len() as u64 * ENTRY;
    }
    for (_, _, entries) in parts {
        bytes.extend(entries.iter().flat_map(|entry| entry.encode()));
    }
    let length = bytes.len() as u64;
    let crc = salt.crc32c(start, &[&bytes]);
    let trailer = bytes.len();
    bytes.extend(TRAILER_MAGIC);
    bytes.extend(start.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend(crc.to_le_bytes());
    let crc = salt.crc32c(start + length, &[&bytes[trailer..]]);
    bytes.extend(crc.to_le_bytes());
    (bytes, positions)
}

/// What a trailer says of its footer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Trailer {
    pub(super) start: u64,
    pub(super) length: u64,
    crc32c: u32,
}

impl Trailer {
    /// Takes the last bytes of a file of `size` bytes for what they say, if they are a trailer.
    pub(super) fn parse(bytes: &[u8; TRAILER as usize], salt: Salt, size: u64) -> Option<Self> {
        let mut rest = Fields(bytes);
        let magic = rest.take(8)?;
        let (start, length, crc32c, own) = (rest.u64()?, rest.u64()?, rest.u32()?, rest.u32()?);
        let sound = magic == TRAILER_MAGIC
            && own == salt.crc32c(size - TRAILER, &[&bytes[..28]])
            && start >= SEGMENT_HEADER
            && start.checked_add(length)?.checked_add(TRAILER)? == size;
        sound.then_some(Self { start, length, crc32c })
    }

    /// Takes the footer's bytes for what they say, if they are the ones that were written.
    pub(super) fn parts(&self, bytes: &[u8], salt: Salt) -> Option<(Vec<Part>, Vec<u64>)> {
        let mut rest = Fields(bytes);
        if self.crc32c != salt.crc32c(self.start, &[bytes]) || rest.take(4)? != FOOTER_MAGIC {
            return None;
        }
        let mut parts = Vec::new();
        let mut positions = Vec::new();
        for _ in 0..rest.u32()? {
            let camera = rest.u8().and_then(|length| rest.text(length.into()))?.parse().ok()?;
            let summary = Summary {
                first: rest.u64()?,
                last: rest.u64()?,
                count: rest.u32()?,
                bytes: rest.u64()?,
                oldest: UnixMicros(rest.i64()?),
                newest: UnixMicros(rest.i64()?),
                session: rest.u32()?,
            };
            let position = u64::from(rest.u32()?);
            let from = usize::try_from(position.checked_sub(self.start)?).ok()?;
            let to = from.checked_add(usize::try_from(summary.count).ok()?.checked_mul(ENTRY as usize)?)?;
            let entries = Entry::parse_all(bytes.get(from..to)?);
            let rises = entries.windows(2).all(|pair| pair[0].seq < pair[1].seq);
            if !rises || entries.first()?.seq != summary.first || entries.last()?.seq != summary.last {
                return None;
            }
            parts.push(Part { camera, summary, entries });
            positions.push(position);
        }
        Some((parts, positions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Origin;

    fn part(camera: &str, seqs: &[Seq]) -> Part {
        let mut summary = Summary::default();
        let entries: Vec<_> = seqs.iter().map(|seq| Entry { seq: *seq, offset: *seq as u32 * 8, length: 8 }).collect();
        entries.iter().for_each(|entry| summary.add(*entry, UnixMicros(entry.seq as i64), 1 + entry.seq as u32 / 10));
        Part { camera: camera.parse().unwrap(), summary, entries }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let salt = Salt::new(&Origin::from_random([1; 5]), 3);
        let parts = vec![part("a", &[1, 2, 3, 19]), part("bb", &[7])];
        assert_eq!(
            (parts[0].summary.session, parts[0].summary.newest, parts[0].summary.bytes),
            (2, UnixMicros(19), 32)
        );
        let (bytes, positions) =
            encode(parts.iter().map(|p| (&p.camera, &p.summary, p.entries.as_slice())), salt, 1000);
        let cameras: u64 = parts.iter().map(|part| camera_length(&part.camera)).sum();
        assert_eq!(bytes.len() as u64, EMPTY + cameras + 5 * ENTRY);
        let size = 1000 + bytes.len() as u64;
        let parse = |bytes: &[u8]| {
            let (footer, trailer) = bytes.split_at(bytes.len() - TRAILER as usize);
            Trailer::parse(trailer.try_into().unwrap(), salt, size)?.parts(footer, salt)
        };
        assert_eq!(parse(&bytes), Some((parts, positions.clone())));
        let at = (positions[1] - 1000) as usize;
        assert_eq!(Entry::parse_all(&bytes[at..at + 16])[0].seq, 7);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse(&flipped), None, "bit {bit}");
        }
    }
}
