//! A camera's frames in one segment.

use std::io;

use super::footer::{ENTRY, Entry, Summary};
use crate::model::{Seq, SeqRange};

/// Entries that are read from a footer at a time.
pub(super) const CHUNK: u32 = 256;

/// Reads footers.
pub(super) trait Footers {
    /// `count` entries of a segment's footer, from `position` of the file on.
    fn entries(&self, segment: u64, position: u64, count: u32) -> io::Result<Vec<Entry>>;
}

#[derive(Debug)]
pub(super) enum Entries {
    /// In the segment's footer, from this position on.
    OnDisk(u64),
    /// The segment has no footer, or not one that could be trusted.
    Here(Vec<Entry>),
}

/// What the index knows of them.
#[derive(Debug)]
pub(super) struct Extent {
    pub(super) summary: Summary,
    pub(super) entries: Entries,
    /// Frames whose outcome is not known.
    pub(super) live: u64,
    /// Bytes of their records.
    pub(super) live_bytes: u64,
    /// Frames that were given up and are not settled.
    pub(super) left: u64,
}

impl Extent {
    /// Its entries from seq `from` to seq `to`, `limit` at most.
    pub(super) fn range(
        &self,
        footers: &impl Footers,
        segment: u64,
        (from, to): (Seq, Seq),
        limit: u32,
    ) -> io::Result<Vec<Entry>> {
        let Summary { first, last, count, .. } = self.summary;
        let (from, to) = (from.max(first), to.min(last));
        if from > to || limit == 0 {
            return Ok(Vec::new());
        }
        let position = match &self.entries {
            Entries::Here(entries) => {
                let found = entries.iter().skip(entries.partition_point(|entry| entry.seq < from));
                return Ok(found.take_while(|entry| entry.seq <= to).take(limit as usize).copied().collect());
            }
            Entries::OnDisk(position) => *position,
        };
        let read = |at: u32, count: u32| footers.entries(segment, position + u64::from(at) * ENTRY, count);
        let without_holes = last - first + 1 == u64::from(count);
        let start = if without_holes {
            (from - first) as u32
        } else {
            let (mut low, mut high) = (0, count);
            while low < high {
                let middle = low + (high - low) / 2;
                if read(middle, 1)?.first().is_some_and(|entry| entry.seq < from) {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            low
        };
        let wanted = limit.min(count - start).min(u32::try_from(to - from + 1).unwrap_or(u32::MAX));
        let mut entries = read(start, wanted)?;
        entries.retain(|entry| (from..=to).contains(&entry.seq));
        Ok(entries)
    }

    /// Calls `found` with all entries of a range.
    pub(super) fn each(
        &self,
        footers: &impl Footers,
        segment: u64,
        range: SeqRange,
        mut found: impl FnMut(Entry),
    ) -> io::Result<()> {
        let mut from = range.first;
        loop {
            let entries = self.range(footers, segment, (from, range.last), CHUNK)?;
            let Some(last) = entries.last() else { return Ok(()) };
            from = last.seq + 1;
            entries.into_iter().for_each(&mut found);
        }
    }

    pub(super) fn spans(&self) -> SeqRange {
        SeqRange { first: self.summary.first, last: self.summary.last }
    }
}
