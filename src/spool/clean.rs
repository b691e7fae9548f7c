//! Copying forward: the few live frames of segments that are mostly dead go into the newest one, and their room is
//! free.

use std::io;

use tracing::{info, warn};

use crate::model::UnixMicros;

use super::disk::Disk;
use super::footer::{EMPTY, ENTRY, Entry, camera_length};
use super::format::{RecordHeader, SEGMENT_HEADER, Salt, lengths};
use super::index::Holds;
use super::store::{AppendError, Store};

/// When the segment that is being written is sealed, where copies do not fit into it.
#[derive(Clone, Copy)]
enum Seal {
    /// Before the next is begun: that may need the room which this gives back.
    First,
    /// Once there is another: until then frames have room in it.
    Last,
}

impl<D: Disk> Store<D> {
    /// Copies the live frames of the segments that hold least of them forward, and removes these segments once the
    /// copies are on disk. False where there is nothing that is worth it: a segment more than three quarters alive is
    /// not.
    ///
    /// # Errors
    ///
    /// When there is no room for the copies, or the disk refuses. Nothing is lost then.
    pub fn clean(&mut self) -> Result<bool, AppendError> {
        self.flush_written()?;
        let segment = self.settings.segment_bytes;
        // Copies go into a segment that has room for what was refused as well, unless that is larger than a segment.
        let larger = if self.wanted > segment { self.wanted } else { 0 };
        let needed = (self.size() + segment + larger).saturating_sub(self.limit());
        let plan = self.plan(segment / 4 * 3, needed);
        if plan.is_empty() {
            return Ok(false);
        }
        let mut cleaned = false;
        for number in plan {
            cleaned |= self.evacuate(number, Seal::First)?;
        }
        self.reap();
        Ok(cleaned)
    }

    /// Commits what is written, so that its segment may be sealed. What is not written yet may be what needs the room.
    fn flush_written(&mut self) -> Result<(), AppendError> {
        match self.flush() {
            Err(AppendError::NoRoom) if self.written.is_empty() => Ok(()),
            flushed => flushed,
        }
    }

    /// Copies what the disk did not confirm to where it does. Where something of it has to stay, that may lie in an
    /// older segment as it should be: so these are kept until it has its outcome.
    pub(super) fn rescue(&mut self) {
        for number in self.to_rescue().collect::<Vec<_>>() {
            match self.flush_written().and_then(|()| self.evacuate(number, Seal::Last)) {
                Ok(true) => {
                    self.unsound.remove(&number);
                    self.unrescued.remove(&number);
                }
                Ok(false) => {}
                Err(error) => {
                    if self.unrescued.insert(number) {
                        warn!(segment = number, %error, "spool: a segment that the disk did not confirm stays where it is");
                    }
                }
            }
        }
    }

    /// Segments that [`Store::rescue`] can do something for.
    pub(super) fn to_rescue(&self) -> impl Iterator<Item = u64> {
        self.unsound.difference(&self.unmovable).copied()
    }

    /// Segments below this number stay, whatever becomes of their frames; 0 where there is nothing of the kind.
    pub(super) fn keeps_below(&self) -> u64 {
        self.unsound.last().copied().unwrap_or(0)
    }

    /// Segments, those with least live bytes first, of at most `most` live bytes together, whose removal frees `needed`
    /// bytes, at least one; none where there are no such.
    fn plan(&self, most: u64, needed: u64) -> Vec<u64> {
        let active = self.active.as_ref().map(|active| active.number);
        let movable = |(number, holds): &(u64, Holds)| {
            Some(*number) != active
                && holds.left == 0
                && holds.live > 0
                && !self.unmovable.contains(number)
                && !self.doubted.contains_key(number)
        };
        let mut candidates: Vec<_> = self.index.segments().filter(movable).collect();
        candidates.sort_by_key(|(number, holds)| (holds.live_bytes, *number));
        let (mut plan, mut live, mut freed) = (Vec::new(), 0, 0);
        for (number, holds) in candidates {
            live += holds.live_bytes;
            if live > most || (!plan.is_empty() && freed >= needed) {
                break;
            }
            freed += self.sizes.get(&number).copied().unwrap_or(0);
            plan.push(number);
        }
        if freed < needed { Vec::new() } else { plan }
    }

    /// Copies a segment's live frames into the newest one, and commits them there. False where something of it had to
    /// stay.
    fn evacuate(&mut self, number: u64, seal: Seal) -> Result<bool, AppendError> {
        let Some(live) = self.ask(|index, files| index.live_in(number, files)).flatten() else { return Ok(false) };
        let needed = live.iter().filter(|(_, entries)| !entries.is_empty()).map(|(camera, entries)| {
            let records: u64 = entries.iter().map(|entry| u64::from(entry.length)).sum();
            records + camera_length(camera) + entries.len() as u64 * ENTRY
        });
        self.make_room(needed.sum(), seal)?;
        let mut moved = Vec::new();
        for (camera, entries) in live {
            let mut copies = Vec::new();
            let mut kept = Vec::new();
            for entry in entries {
                let read = self.read_record(number, entry);
                let Some((header, record)) = self.noted("read", read).flatten() else {
                    kept.push(entry);
                    continue;
                };
                let Some(active) = &mut self.active else { return Err(AppendError::NoRoom) };
                let picture = &record[header.length() as usize..][..header.jpeg_length as usize];
                match active.write(&header, picture) {
                    Ok(place) => {
                        let entry = Entry { seq: entry.seq, offset: place.offset, length: place.length };
                        copies.push((entry, header.captured_at, header.session));
                    }
                    Err(error) => {
                        self.io_errors.push("write");
                        self.abandon("write", &error);
                        return Err(AppendError::of(error));
                    }
                }
            }
            moved.push((camera, copies, kept));
        }
        let Some(active) = &mut self.active else { return Err(AppendError::NoRoom) };
        let to = active.number;
        if let Err(error) = active.sync() {
            self.io_errors.push("sync");
            self.abandon("sync", &error);
            return Err(error.into());
        }
        let mut all = true;
        for (camera, copies, kept) in moved {
            if !kept.is_empty() {
                // Whoever reads them will find out, and say so.
                warn!(segment = number, %camera, frames = kept.len(), "spool: damaged frames are left where they are");
                self.unmovable.insert(number);
                all = false;
            }
            self.index.moved_out(&camera, number, kept);
            for (entry, captured_at, session) in copies {
                self.index.add(&camera, to, entry, captured_at, session);
            }
        }
        info!(segment = number, to, "spool: copied forward");
        Ok(all)
    }

    /// Sees to it that records and entries of so many bytes fit into the active segment.
    fn make_room(&mut self, bytes: u64, seal: Seal) -> Result<(), AppendError> {
        if self.active.as_ref().is_some_and(|active| active.has_room(bytes)) {
            return Ok(());
        }
        let allocate = self.settings.segment_bytes.max((SEGMENT_HEADER + bytes + EMPTY).next_multiple_of(8));
        if let Seal::First = seal {
            self.seal();
        }
        let before = self.active.take();
        // What is freed by this is what is kept free for this.
        let begun = self.begin(allocate, self.settings.max_bytes, UnixMicros::default());
        let next = std::mem::replace(&mut self.active, before);
        begun?;
        self.seal();
        if let Some(next) = next {
            self.index.open(next.number);
            self.active = Some(next);
        }
        Ok(())
    }

    /// A record's header and all its bytes; `None` where they are not what was written.
    fn read_record(&self, segment: u64, entry: Entry) -> io::Result<Option<(RecordHeader, Vec<u8>)>> {
        if entry.length == 0 {
            return Ok(None);
        }
        let mut bytes = vec![0; entry.length as usize];
        self.files.read_at(segment, &mut bytes, entry.offset.into())?;
        let salt = Salt::new(&self.settings.origin, segment);
        let header = lengths(&bytes).and_then(|_| RecordHeader::parse(&bytes, salt, entry.offset.into()));
        Ok(header
            .filter(|header| {
                let picture =
                    bytes.get(header.length() as usize..).and_then(|rest| rest.get(..header.jpeg_length as usize));
                header.seq == entry.seq && picture.is_some_and(|picture| crc32c::crc32c(picture) == header.jpeg_crc32c)
            })
            .map(|header| (header, bytes)))
    }
}

#[cfg(test)]
mod tests;
