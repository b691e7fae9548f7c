//! Reading a segment that may be anything: unfinished, damaged, or not ours.

use std::collections::BTreeMap;
use std::io;

use crate::model::{CameraId, Seq, SeqRange};

use super::disk::{DiskFile, is_unreadable};
use super::footer::{Entry, Part, Summary, TRAILER, Trailer};
use super::format::{ALIGN, FIXED, LONGEST_HEADER, NoHeader, RECORD_MAGIC, RecordHeader, SEGMENT_HEADER, Salt};
use super::format::{SegmentHeader, lengths};
use super::ranges::Ranges;

/// Bytes that are read at a time.
const CHUNK: usize = 256 * 1024;

/// Bytes that are read at a time where the disk refuses a chunk.
const STEP: usize = 4096;

/// Steps that may fail before chunks are given up as a whole: on a dying disk each takes seconds.
const MOST_STEPS: usize = 256;

/// What a scan found.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// Its frames, by camera and seq.
    pub(super) parts: Vec<Part>,
    /// Where the last record ends.
    pub(super) end: u64,
    /// Stretches before it that are no records.
    pub(super) damaged: u64,
    /// Whether something that is no record lies behind it.
    pub(super) torn: bool,
    /// Whether the disk refused to read some of it.
    pub(super) unreadable: bool,
}

/// Reads a segment's header; `NoHeader::Damaged` also where the file is shorter than one.
pub(super) fn read_header(file: &impl DiskFile) -> io::Result<Result<SegmentHeader, NoHeader>> {
    let mut bytes = [0; SEGMENT_HEADER as usize];
    if file.len()? == 0 {
        return Ok(Err(NoHeader::Blank));
    }
    match file.read_at(&mut bytes, 0) {
        Ok(()) => Ok(SegmentHeader::parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Err(NoHeader::Damaged)),
        Err(error) => Err(error),
    }
}

/// Reads a segment's footer; `None` where it has none that is sound.
pub(super) fn read_footer(file: &impl DiskFile, salt: Salt) -> io::Result<Option<(Vec<Part>, Vec<u64>)>> {
    let size = file.len()?;
    let mut bytes = [0; TRAILER as usize];
    let Some(at) = size.checked_sub(TRAILER) else { return Ok(None) };
    file.read_at(&mut bytes, at)?;
    let Some(trailer) = Trailer::parse(&bytes, salt, size) else { return Ok(None) };
    let mut footer = vec![0; usize::try_from(trailer.length).unwrap_or_default()];
    file.read_at(&mut footer, trailer.start)?;
    Ok(trailer.parts(&footer, salt))
}

/// Reads a whole segment, record by record, skipping what is damaged and what cannot be read. Every checksum is
/// checked.
pub(super) fn scan(file: &impl DiskFile, salt: Salt) -> io::Result<Scanned> {
    let mut records = Records::new(file, salt)?;
    let mut parts: BTreeMap<CameraId, (Summary, BTreeMap<Seq, Entry>)> = BTreeMap::new();
    while let Some((entry, header)) = records.next()? {
        let (summary, entries) = parts.entry(header.camera).or_default();
        if entries.insert(entry.seq, entry).is_none() {
            summary.add(entry, header.captured_at, header.session);
        }
    }
    let parts = parts.into_iter().map(|(camera, (summary, entries))| {
        let entries = entries.into_values().collect();
        Part { camera, summary, entries }
    });
    let unreadable = records.unreadable_steps > 0;
    Ok(Scanned { parts: parts.collect(), end: records.end, damaged: records.damaged, torn: records.torn, unreadable })
}

/// The records of a file, one after the other.
pub(super) struct Records<'a, F> {
    file: &'a F,
    salt: Salt,
    size: u64,
    at: u64,
    /// Where the last sound record ends.
    pub(super) end: u64,
    /// Stretches between sound records that are none.
    pub(super) damaged: u64,
    /// Whether something that is no record lies behind the last sound one.
    pub(super) torn: bool,
    buffer: Vec<u8>,
    buffered: u64,
    /// Bytes that the disk refused to read, and that are taken for zeros.
    unreadable: Ranges,
    unreadable_steps: usize,
}

impl<'a, F: DiskFile> Records<'a, F> {
    pub(super) fn new(file: &'a F, salt: Salt) -> io::Result<Self> {
        let size = file.len()?;
        let (at, end) = (SEGMENT_HEADER, SEGMENT_HEADER);
        let (buffer, unreadable) = (Vec::new(), Ranges::default());
        let (damaged, torn, buffered, unreadable_steps) = (0, false, 0, 0);
        Ok(Self { file, salt, size, at, end, damaged, torn, buffer, buffered, unreadable, unreadable_steps })
    }

    /// The next sound record.
    pub(super) fn next(&mut self) -> io::Result<Option<(Entry, RecordHeader)>> {
        // Beyond that no entry can tell where a record begins: the file is none of ours, however large it is.
        while self.at < self.size && self.at <= u32::MAX.into() {
            let Some(header) = self.header()? else {
                // Zeros to the end are room that was never written, unless nobody knows what they are.
                let zeros = self.zeros()?;
                let passed = SeqRange { first: self.at, last: self.at + zeros.max(ALIGN) - 1 };
                self.torn |= zeros == 0 || self.unreadable.missing(passed) != [passed];
                self.at += zeros.max(ALIGN);
                continue;
            };
            let (offset, total) = (self.at, header.total());
            self.at += total;
            if self.picture_crc32c(&header, offset)? != header.jpeg_crc32c {
                self.torn = true;
                continue;
            }
            // What is skipped counts once something sound follows it; zeros in between as well.
            if self.torn || offset != self.end {
                self.damaged += 1;
                self.torn = false;
            }
            self.end = self.at;
            let entry = Entry { seq: header.seq, offset: offset as u32, length: total as u32 };
            return Ok(Some((entry, header)));
        }
        self.torn |= self.at < self.size;
        Ok(None)
    }

    /// The header that begins here, of a record that ends within the file.
    fn header(&mut self) -> io::Result<Option<RecordHeader>> {
        let (at, salt) = (self.at, self.salt);
        let first = self.bytes(at, FIXED)?;
        if !first.starts_with(&RECORD_MAGIC) {
            return Ok(None);
        }
        let Some(lengths) = lengths(first) else { return Ok(None) };
        if at + u64::from(lengths.total) > self.size {
            return Ok(None);
        }
        let whole = self.bytes(at, LONGEST_HEADER.min(lengths.header as usize))?;
        Ok(RecordHeader::parse(whole, salt, at))
    }

    /// How many zeros come next, in whole steps, as far as they are at hand.
    fn zeros(&mut self) -> io::Result<u64> {
        let (at, size) = (self.at, self.size);
        self.bytes(at, ALIGN as usize)?;
        let next = &self.buffer[(at - self.buffered) as usize..];
        let whole = next.chunks_exact(STEP).take_while(|step| *step == [0; STEP]).count() * STEP;
        let rest = &next[whole..];
        let zeros = (whole + rest.iter().position(|byte| *byte != 0).unwrap_or(rest.len())) as u64;
        Ok(if at + zeros == size { zeros } else { zeros / ALIGN * ALIGN })
    }

    fn picture_crc32c(&mut self, header: &RecordHeader, offset: u64) -> io::Result<u32> {
        let end = offset + header.length() + u64::from(header.jpeg_length);
        let mut at = offset + header.length();
        let mut crc = 0;
        while at < end {
            let piece = self.bytes(at, CHUNK.min((end - at) as usize))?;
            if piece.is_empty() {
                break;
            }
            crc = crc32c::crc32c_append(crc, piece);
            at += piece.len() as u64;
        }
        Ok(crc)
    }

    /// Bytes of the file, fewer at its end.
    fn bytes(&mut self, at: u64, count: usize) -> io::Result<&[u8]> {
        let count = count.min(usize::try_from(self.size.saturating_sub(at)).unwrap_or(usize::MAX));
        let held = self.buffered..self.buffered + self.buffer.len() as u64;
        if !(held.start <= at && at + count as u64 <= held.end) {
            let wanted = CHUNK.max(count).min(usize::try_from(self.size - at.min(self.size)).unwrap_or(usize::MAX));
            self.buffer.resize(wanted, 0);
            self.buffered = at;
            if let Err(error) = self.file.read_at(&mut self.buffer, at).or_else(|error| self.read_in_steps(error)) {
                self.buffer.clear();
                return Err(error);
            }
        }
        let from = (at - self.buffered) as usize;
        Ok(&self.buffer[from..from + count])
    }

    /// Fills the buffer step by step after the disk has refused to do so at once; what cannot be read is zeros.
    fn read_in_steps(&mut self, error: io::Error) -> io::Result<()> {
        if !is_unreadable(&error) {
            return Err(error);
        }
        let mut from = 0;
        while from < self.buffer.len() {
            let (at, rest) = (self.buffered + from as u64, self.buffer.len() - from);
            let step = if self.unreadable_steps < MOST_STEPS { STEP - at as usize % STEP } else { rest };
            let piece = &mut self.buffer[from..from + step.min(rest)];
            from += piece.len();
            let bytes = SeqRange { first: at, last: at + piece.len() as u64 - 1 };
            if !self.unreadable.covers(bytes) {
                match self.file.read_at(piece, at) {
                    Ok(()) => continue,
                    Err(error) if !is_unreadable(&error) => return Err(error),
                    Err(_) => {
                        self.unreadable.insert(bytes);
                        self.unreadable_steps += 1;
                    }
                }
            }
            piece.fill(0);
        }
        Ok(())
    }
}
