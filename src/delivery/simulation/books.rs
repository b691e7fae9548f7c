//! What outlives the process, in the simulation: spool and journal.

use std::collections::BTreeMap;

use crate::delivery::WINDOW;
use crate::model::{LostReason, Seq};

/// A frame on disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) bytes: u64,
    pub(super) content: u64,
    /// Whether it was dropped: it is not given to anybody any more.
    left: bool,
}

/// How a frame has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Stored,
    Lost(LostReason, bool),
}

/// One camera's records and outcomes.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) records: BTreeMap<Seq, Record>,
    pub(super) bytes: u64,
    /// What every seq that was ever on disk held.
    pub(super) contents: BTreeMap<Seq, u64>,
    /// By seq, from the first.
    ends: Vec<Option<End>>,
}

impl Book {
    pub(super) fn write(&mut self, seq: Seq, bytes: u64, content: u64) {
        self.records.insert(seq, Record { bytes, content, left: false });
        self.bytes += bytes;
        self.contents.insert(seq, content);
    }

    /// Frames after a seq, and whether there are more.
    pub(super) fn load(&self, after: Seq, limit: usize) -> (Vec<(Seq, u64)>, bool) {
        let mut live = self.records.range(after + 1..).filter(|(_, record)| !record.left);
        let found: Vec<(Seq, u64)> = live.by_ref().take(limit).map(|(seq, record)| (*seq, record.bytes)).collect();
        let more = live.next().is_some();
        (found, more)
    }

    /// The oldest frames that nobody has taken, of so many bytes together: they are dropped.
    pub(super) fn leave_beyond(&mut self, taken_up_to: Seq, wanted: u64) -> Vec<Seq> {
        // After a start as many as a window holds may have been carried.
        let after = match taken_up_to {
            0 => {
                let mut live = self.records.iter().filter(|(_, record)| !record.left);
                live.nth(WINDOW - 1).map_or(Seq::MAX - 1, |(seq, _)| *seq)
            }
            taken => taken,
        };
        let (mut seqs, mut freed) = (Vec::new(), 0);
        for (seq, record) in self.records.range(after + 1..).filter(|(_, record)| !record.left) {
            if freed >= wanted {
                break;
            }
            freed += record.bytes;
            seqs.push(*seq);
        }
        seqs.iter().for_each(|seq| self.leave(*seq));
        seqs
    }

    pub(super) fn leave(&mut self, seq: Seq) {
        if let Some(record) = self.records.get_mut(&seq) {
            record.left = true;
        }
    }

    pub(super) fn has_left(&self) -> bool {
        self.records.values().any(|record| record.left)
    }

    pub(super) fn end(&self, seq: Seq) -> Option<End> {
        *self.ends.get(seq as usize - 1)?
    }

    /// Commits an outcome, and forgets the record. False where the seq has one.
    pub(super) fn commit(&mut self, seq: Seq, end: End) -> bool {
        let at = seq as usize - 1;
        if self.ends.len() <= at {
            self.ends.resize(at + 1, None);
        }
        let is_first = self.ends[at].is_none();
        if is_first {
            self.ends[at] = Some(end);
        }
        if let Some(record) = self.records.remove(&seq) {
            self.bytes -= record.bytes;
        }
        is_first
    }

    /// The highest seq that anything is known of.
    pub(super) fn highest(&self) -> Seq {
        let spooled = self.records.last_key_value().map_or(0, |(seq, _)| *seq);
        spooled.max(self.ends.len() as Seq)
    }

    /// Seqs without an outcome and without a record.
    pub(super) fn holes(&self) -> Vec<Seq> {
        let open = |seq: &Seq| self.end(*seq).is_none() && !self.records.contains_key(seq);
        (1..=self.highest()).filter(open).collect()
    }
}
