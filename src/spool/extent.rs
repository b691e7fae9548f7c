//! A camera's frames in one segment.

use std::io;

use super::footer::{ENTRY, Entry, Summary};
use super::format::SEGMENT_HEADER;
use crate::model::{Seq, SeqRange};

/// Entries that are read from a footer at a time.
pub(super) const CHUNK: u32 = 256;

/// A segment whose footer cannot be read, or does not say what it should.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) segment: u64,
    pub(super) error: io::Error,
}

/// Reads footers.
pub(super) trait Footers {
    /// `count` entries of a segment's footer, from `position` of the file on.
    fn entries(&self, segment: u64, position: u64, count: u32) -> io::Result<Vec<Entry>>;
}

#[derive(Debug)]
pub(super) enum Entries {
    /// In the segment's footer, from this position on.
    OnDisk(u64),
    /// The segment has no footer, or not one that can be trusted. What has no bytes is not there any more.
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
    ) -> Result<Vec<Entry>, Unread> {
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
        let read = |at: u32, count: u32| {
            let read = footers.entries(segment, position + u64::from(at) * ENTRY, count);
            match read {
                Ok(entries) if entries.len() == count as usize && self.can_be(at, position, &entries) => Ok(entries),
                Ok(_) => {
                    Err(Unread { segment, error: io::Error::new(io::ErrorKind::InvalidData, "its footer is damaged") })
                }
                Err(error) => Err(Unread { segment, error }),
            }
        };
        let start = if self.has_holes() {
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
        } else {
            (from - first) as u32
        };
        let wanted = limit.min(count - start).min(u32::try_from(to - from + 1).unwrap_or(u32::MAX));
        if wanted == 0 {
            return Ok(Vec::new());
        }
        // One more, which would give away that the last one is not what was written.
        let mut entries = read(start, (wanted + 1).min(count - start))?;
        entries.truncate(wanted as usize);
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
    ) -> Result<(), Unread> {
        let mut from = range.first;
        loop {
            let entries = self.range(footers, segment, (from, range.last), CHUNK)?;
            let Some(last) = entries.last() else { return Ok(()) };
            from = last.seq + 1;
            entries.into_iter().for_each(&mut found);
        }
    }

    /// Whether entries can be those that stand `at` in the footer and after it: one that says something else would make
    /// others disappear.
    fn can_be(&self, at: u32, footer: u64, entries: &[Entry]) -> bool {
        let Summary { first, last, count, .. } = self.summary;
        let mut place = (u64::from(at), u64::from(count - 1 - at));
        let mut possible = |entry: &Entry| {
            // Before it and after it there is a seq for each of the others.
            let (before, after) = place;
            place = (before + 1, after.saturating_sub(1));
            let end = u64::from(entry.offset) + u64::from(entry.length);
            (first + before..=last - after).contains(&entry.seq)
                && u64::from(entry.offset) >= SEGMENT_HEADER
                && end <= footer
        };
        entries.iter().all(&mut possible) && entries.windows(2).all(|two| two[0].seq < two[1].seq)
    }

    /// Whether it lacks a seq between its first and its last.
    pub(super) fn has_holes(&self) -> bool {
        self.summary.last - self.summary.first + 1 != u64::from(self.summary.count)
    }

    pub(super) fn spans(&self) -> SeqRange {
        SeqRange { first: self.summary.first, last: self.summary.last }
    }
}
