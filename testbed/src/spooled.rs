//! What lies in a spool, read from its files by nothing but the description of their format.
//!
//! ```text
//! segment = {number:012}.segment: magic, version, origin, number ... CRC32C: 64 bytes; records; perhaps a footer
//! record  = magic, bytes to the picture, bytes in all, CRC32C of the header; seq, session, captured_at, width, height,
//!           picture's length and CRC32C; camera, key; the picture; zeros to the next multiple of 8
//! ```
//!
//! All numbers are little-endian. The CRC32C of a record's header covers origin, segment's number and offset as well.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};
use crc32c::{crc32c, crc32c_append};

const SEGMENT_HEADER: usize = 64;
const RECORD_MAGIC: [u8; 4] = *b"FHR\x01";
/// Bytes of a record before the camera's name.
const FIXED: usize = 52;

/// A whole record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    /// The session its frame was captured in.
    pub session: u32,
    /// Its object's key.
    pub key: String,
    /// The picture's size.
    pub bytes: u32,
    /// Its CRC32C.
    pub crc32c: u32,
}

/// All sound records of a spool by camera and seq, of whatever became of their frames. No daemon may be writing.
///
/// # Errors
///
/// When the directory cannot be read, or a segment's header is not sound.
pub fn records(dir: &Path) -> anyhow::Result<BTreeMap<(String, u64), Spooled>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir.join("default")).with_context(|| format!("cannot list {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "segment") {
            let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            segment(&bytes, &mut found).with_context(|| format!("{}", path.display()))?;
        }
    }
    Ok(found)
}

fn segment(bytes: &[u8], found: &mut BTreeMap<(String, u64), Spooled>) -> anyhow::Result<()> {
    // Killed before its header was written, it is as it was allocated.
    if bytes.iter().take(SEGMENT_HEADER).all(|byte| *byte == 0) {
        return Ok(());
    }
    let head = bytes.get(..SEGMENT_HEADER).context("the segment is shorter than its header")?;
    ensure!(head.starts_with(b"FHSPOOL1"), "the segment begins with {:?}", &head[..8]);
    ensure!(number(head, 60) == crc32c(&head[..60]), "the checksum of the segment's header does not fit");
    // Origin and number, as they stand there.
    let salt = crc32c(&head[12..28]);
    let mut offset = SEGMENT_HEADER;
    while let Some((length, name, record)) = record(bytes, offset, salt) {
        found.insert(name, record);
        offset += length;
    }
    Ok(())
}

/// The record at `offset`: its length, what it is of, and what it says. None where there is none, or not the whole of
/// it.
fn record(bytes: &[u8], offset: usize, salt: u32) -> Option<(usize, (String, u64), Spooled)> {
    let bytes = bytes.get(offset..)?;
    if bytes.len() < FIXED || bytes[..4] != RECORD_MAGIC {
        return None;
    }
    let (to_picture, total) = (number(bytes, 4) as usize, number(bytes, 8) as usize);
    let head = bytes.get(..to_picture)?;
    let place = crc32c_append(salt, &(offset as u64).to_le_bytes());
    if crc32c_append(crc32c_append(place, &head[..12]), head.get(16..)?) != number(head, 12) {
        return None;
    }
    let (seq, session, length) = (long(head, 16), number(head, 24), number(head, 44));
    let (camera, rest) =
        head[FIXED..].split_first().and_then(|(length, rest)| rest.split_at_checked((*length).into()))?;
    let key = rest.get(2..)?;
    let picture = bytes.get(to_picture..to_picture + length as usize)?;
    if crc32c(picture) != number(head, 48) {
        return None;
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    Some((total, (text(camera)?, seq), Spooled { session, key: text(key)?, bytes: length, crc32c: crc32c(picture) }))
}

/// The number of four bytes at `at`, which are there.
fn number(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(number(bytes, at + 4)) << 32 | u64::from(number(bytes, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment with one record of this picture.
    fn written(picture: &[u8]) -> Vec<u8> {
        let mut bytes = b"FHSPOOL1\x01\0\0\0abcdefgh".to_vec();
        bytes.extend(7u64.to_le_bytes());
        bytes.resize(60, 0);
        bytes.extend(crc32c(&bytes).to_le_bytes());
        let mut head = RECORD_MAGIC.to_vec();
        let to_picture = FIXED + 1 + 3 + 2 + 5;
        head.extend((to_picture as u32).to_le_bytes());
        head.extend(((to_picture + picture.len()).next_multiple_of(8) as u32).to_le_bytes());
        head.extend([0; 4]);
        head.extend(9u64.to_le_bytes());
        head.extend(2u32.to_le_bytes());
        head.extend(1i64.to_le_bytes());
        for number in [160, 160, picture.len() as u32, crc32c(picture)] {
            head.extend(number.to_le_bytes());
        }
        head.extend(b"\x03cam\x05\0a/key");
        assert_eq!(head.len(), to_picture);
        let covered = [b"abcdefgh".as_slice(), &7u64.to_le_bytes(), &64u64.to_le_bytes(), &head[..12], &head[16..]];
        let crc = crc32c(&covered.concat());
        head[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes.extend(head);
        bytes.extend(picture);
        bytes.resize(bytes.len().next_multiple_of(8) + 64, 0);
        bytes
    }

    fn read(bytes: &[u8]) -> Vec<((String, u64), Spooled)> {
        let mut found = BTreeMap::new();
        segment(bytes, &mut found).unwrap();
        found.into_iter().collect()
    }

    #[test]
    fn a_record_is_read_as_it_is_described() {
        let record = Spooled { session: 2, key: "a/key".to_owned(), bytes: 5, crc32c: crc32c(b"hello") };
        assert_eq!(read(&written(b"hello")), [(("cam".to_owned(), 9), record)]);
        assert!(read(&[0; 64]).is_empty());
    }

    #[test]
    fn a_record_with_a_flipped_bit_is_none() {
        let whole = written(b"hello");
        for at in SEGMENT_HEADER..SEGMENT_HEADER + FIXED + 16 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            assert!(read(&flipped).is_empty(), "byte {at}");
        }
    }
}
