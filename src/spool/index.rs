//! Which frames the spool holds, and which of them still matter. Pure: what lies in footers is asked for.
//!
//! Of a segment that is written no more it knows each camera's first and last seq and how many of its frames are live,
//! and nothing of any one frame: a backlog of a million frames costs what one of a thousand does.

mod mended;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{CameraId, Seq, SeqRange, SessionNo, UnixMicros};

use super::extent::{CHUNK, Entries, Extent, Footers, Unread};
use super::footer::{Entry, Summary};
use super::ranges::Ranges;
use super::{Place, Spooled};

#[derive(Debug, Default)]
struct Camera {
    /// Seqs whose outcome the journal has.
    settled: Ranges,
    /// Seqs that were given up, but of which the journal has not said so yet.
    left: Ranges,
    extents: BTreeMap<u64, Extent>,
    live: u64,
    live_bytes: u64,
}

/// Live frames of one segment, for each camera that it counts.
pub(super) type LiveIn = Vec<(CameraId, Vec<Entry>)>;

/// What a segment still holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Holds {
    /// Frames whose outcome is not known.
    pub(super) live: u64,
    /// Bytes of their records.
    pub(super) live_bytes: u64,
    /// Frames that were given up, but of which the journal has not said so yet.
    pub(super) left: u64,
}

impl Holds {
    fn nothing(&self) -> bool {
        self.live == 0 && self.left == 0
    }
}

/// The spool's index.
#[derive(Debug, Default)]
pub(super) struct Index {
    cameras: BTreeMap<CameraId, Camera>,
    segments: BTreeMap<u64, Holds>,
    /// Segments that hold nothing, but for the one that is being written.
    dead: BTreeSet<u64>,
    open: Option<u64>,
    /// Live frames of all cameras, and bytes of their records: asked for at each commit, however many cameras there are.
    live: u64,
    live_bytes: u64,
}

impl Camera {
    fn is_live(&self, seq: Seq) -> bool {
        !self.settled.contains(seq) && !self.left.contains(seq)
    }

    /// The first seq from `from` on that may be live.
    fn next_live(&self, mut from: Seq) -> Seq {
        while let Some(range) = self.settled.around(from).or_else(|| self.left.around(from)) {
            match range.last.checked_add(1) {
                Some(next) => from = next,
                None => break,
            }
        }
        from
    }
}

impl Index {
    /// Takes note of a segment, which holds nothing yet.
    pub(super) fn segment(&mut self, number: u64) {
        self.segments.insert(number, Holds::default());
        self.dead.insert(number);
    }

    /// Takes note of a segment that is going to be written.
    pub(super) fn open(&mut self, number: u64) {
        self.segments.insert(number, Holds::default());
        self.open = Some(number);
    }

    /// Takes note of a camera's part of a segment that is written no more: all of it counts as live.
    pub(super) fn part(&mut self, camera: &CameraId, segment: u64, summary: Summary, position: u64) {
        let live = u64::from(summary.count);
        let extent = Extent { summary, entries: Entries::OnDisk(position), live, live_bytes: summary.bytes, left: 0 };
        self.extent(camera, segment, extent);
    }

    /// The same, of a segment whose footer does not say it; `entries` by seq and not empty.
    pub(super) fn part_here(&mut self, camera: &CameraId, segment: u64, mut summary: Summary, entries: Vec<Entry>) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        (summary.first, summary.last, summary.count) = (first.seq, last.seq, entries.len() as u32);
        let bytes = entries.iter().map(|entry| u64::from(entry.length)).sum();
        summary.bytes = bytes;
        let live = entries.len() as u64;
        self.extent(
            camera,
            segment,
            Extent { summary, entries: Entries::Here(entries), live, live_bytes: bytes, left: 0 },
        );
    }

    fn extent(&mut self, camera: &CameraId, segment: u64, extent: Extent) {
        let of = self.cameras.entry(camera.clone()).or_default();
        let holds = self.segments.entry(segment).or_default();
        holds.live += extent.live;
        holds.live_bytes += extent.live_bytes;
        holds.left += extent.left;
        of.live += extent.live;
        of.live_bytes += extent.live_bytes;
        self.live += extent.live;
        self.live_bytes += extent.live_bytes;
        of.extents.insert(segment, extent);
        if !holds.nothing() {
            self.dead.remove(&segment);
        }
    }

    /// Takes note of a frame in the segment that is being written.
    pub(super) fn add(
        &mut self,
        camera: &CameraId,
        segment: u64,
        entry: Entry,
        captured_at: UnixMicros,
        session: SessionNo,
    ) {
        let of = self.cameras.entry(camera.clone()).or_default();
        let live = of.is_live(entry.seq);
        let extent = of.extents.entry(segment).or_insert_with(|| Extent {
            summary: Summary::default(),
            entries: Entries::Here(Vec::new()),
            live: 0,
            live_bytes: 0,
            left: 0,
        });
        let Entries::Here(entries) = &mut extent.entries else { return };
        match entries.last() {
            Some(last) if last.seq >= entry.seq => {
                let at = entries.partition_point(|other| other.seq < entry.seq);
                if entries[at].seq == entry.seq {
                    // One seq is one frame: it is the same, written twice.
                    entries[at] = entry;
                    return;
                }
                entries.insert(at, entry);
            }
            _ => entries.push(entry),
        }
        extent.summary.add(entry, captured_at, session);
        if live {
            let bytes = u64::from(entry.length);
            let holds = self.segments.entry(segment).or_default();
            for (count, sum) in [
                (&mut extent.live, &mut extent.live_bytes),
                (&mut of.live, &mut of.live_bytes),
                (&mut holds.live, &mut holds.live_bytes),
                (&mut self.live, &mut self.live_bytes),
            ] {
                *count += 1;
                *sum += bytes;
            }
            self.dead.remove(&segment);
        }
    }

    /// The parts of the segment that is being written.
    pub(super) fn parts(&self, segment: u64) -> impl Iterator<Item = (&CameraId, &Summary, &[Entry])> + Clone {
        self.cameras.iter().filter_map(move |(camera, of)| match of.extents.get(&segment)? {
            Extent { summary, entries: Entries::Here(entries), .. } => Some((camera, summary, entries.as_slice())),
            _ => None,
        })
    }

    /// The segment that was being written has a footer now, with the entries of its [`Index::parts`] at these
    /// positions.
    pub(super) fn sealed(&mut self, segment: u64, positions: &[u64]) {
        let with_entries = self
            .cameras
            .values_mut()
            .filter_map(|of| of.extents.get_mut(&segment))
            .filter(|extent| matches!(extent.entries, Entries::Here(_)));
        for (extent, position) in with_entries.zip(positions) {
            extent.entries = Entries::OnDisk(*position);
        }
        self.closed(segment);
    }

    /// The segment that was being written is written no more.
    pub(super) fn closed(&mut self, segment: u64) {
        self.open = None;
        for of in self.cameras.values_mut() {
            if of.extents.get(&segment).is_some_and(|extent| extent.live == 0 && extent.left == 0) {
                of.extents.remove(&segment);
            }
        }
        if self.segments.get(&segment).is_some_and(Holds::nothing) {
            self.dead.insert(segment);
        }
    }

    /// Forgets a segment that is no more. It must hold nothing.
    pub(super) fn removed(&mut self, segment: u64) {
        self.segments.remove(&segment);
        self.dead.remove(&segment);
    }

    /// The journal has these seqs' outcomes. What cannot be read is returned: these segments hold too much until they
    /// are [`Index::mended`].
    pub(super) fn settle(&mut self, camera: &CameraId, range: SeqRange, footers: &impl Footers) -> Vec<Unread> {
        self.resolve(camera, range, footers, true)
    }

    /// These seqs are given up: they are live no more, but keep their segments until they are settled. What cannot be
    /// read is returned, as above.
    pub(super) fn leave(&mut self, camera: &CameraId, range: SeqRange, footers: &impl Footers) -> Vec<Unread> {
        self.resolve(camera, range, footers, false)
    }

    fn resolve(&mut self, camera: &CameraId, range: SeqRange, footers: &impl Footers, settle: bool) -> Vec<Unread> {
        let of = self.cameras.entry(camera.clone()).or_default();
        let mut unread = Vec::new();
        let mut fresh = of.settled.missing(range);
        if !settle {
            fresh = fresh.into_iter().flat_map(|part| of.left.missing(part)).collect();
        }
        let (settled_before, left_before) = (&of.settled, &of.left);
        let mut gone = Vec::new();
        for (segment, extent) in &mut of.extents {
            let span = extent.spans();
            if range.last < span.first || span.last < range.first {
                continue;
            }
            let (mut live, mut bytes, mut left) = (0, 0, 0);
            let within = |part: &SeqRange| range.first <= part.first && part.last <= range.last;
            if settle && settled_before.missing(span).iter().all(within) {
                // All of it: that needs no footer.
                (live, bytes, left) = (extent.live, extent.live_bytes, extent.left);
            } else {
                for part in &fresh {
                    let counted = extent.each(footers, *segment, *part, |entry| {
                        if left_before.contains(entry.seq) {
                            left += 1;
                        } else if !settled_before.contains(entry.seq) {
                            live += 1;
                            bytes += u64::from(entry.length);
                        }
                    });
                    if let Err(error) = counted {
                        unread.push(error);
                        break;
                    }
                }
            }
            let holds = self.segments.entry(*segment).or_default();
            let (live, bytes) = (extent.live.min(live), extent.live_bytes.min(bytes));
            if settle {
                let left = extent.left.min(left);
                extent.left -= left;
                holds.left -= left;
            } else {
                extent.left += live;
                holds.left += live;
            }
            for (count, sum) in [
                (&mut extent.live, &mut extent.live_bytes),
                (&mut of.live, &mut of.live_bytes),
                (&mut holds.live, &mut holds.live_bytes),
                (&mut self.live, &mut self.live_bytes),
            ] {
                *count -= live;
                *sum -= bytes;
            }
            if self.open != Some(*segment) && extent.live == 0 && extent.left == 0 {
                gone.push(*segment);
            }
        }
        if settle {
            fresh.iter().for_each(|part| of.left.remove(*part));
            of.settled.insert(range);
        } else {
            fresh.iter().for_each(|part| of.left.insert(*part));
        }
        for segment in gone {
            self.take_out(camera, segment);
        }
        unread
    }

    /// Takes out a camera's part of a segment that is written no more, with what it counts.
    fn take_out(&mut self, camera: &CameraId, segment: u64) -> Option<Extent> {
        let of = self.cameras.get_mut(camera)?;
        let extent = of.extents.remove(&segment)?;
        of.live -= extent.live;
        of.live_bytes -= extent.live_bytes;
        self.live -= extent.live;
        self.live_bytes -= extent.live_bytes;
        let holds = self.segments.entry(segment).or_default();
        holds.live -= extent.live;
        holds.live_bytes -= extent.live_bytes;
        holds.left -= extent.left;
        if holds.nothing() {
            self.dead.insert(segment);
        }
        Some(extent)
    }

    /// A camera's live frames after a seq, in order, `limit` at most, and whether there are more.
    pub(super) fn entries(
        &self,
        camera: &CameraId,
        after: Seq,
        limit: usize,
        footers: &impl Footers,
    ) -> Result<(Vec<Spooled>, bool), Unread> {
        let Some(of) = self.cameras.get(camera) else { return Ok((Vec::new(), false)) };
        let Some(after) = after.checked_add(1) else { return Ok((Vec::new(), false)) };
        let mut extents: Vec<_> =
            of.extents.iter().filter(|(_, extent)| extent.live > 0 && extent.summary.last >= after).collect();
        extents.sort_by_key(|(_, extent)| extent.summary.first);
        let mut found: Vec<Spooled> = Vec::new();
        for (segment, extent) in extents {
            // One more than asked for says whether there are more.
            if found.get(limit).is_some_and(|beyond| beyond.seq < extent.summary.first) {
                break;
            }
            let mut from = of.next_live(after);
            let mut missing = limit + 1;
            while missing > 0 {
                let entries = extent.range(footers, *segment, (from, Seq::MAX), CHUNK)?;
                let Some(last) = entries.last() else { break };
                from = of.next_live(last.seq + 1);
                for entry in entries.into_iter().filter(|entry| of.is_live(entry.seq)).take(missing) {
                    found.push(Spooled { seq: entry.seq, place: place(*segment, entry) });
                    missing -= 1;
                }
            }
            found.sort_unstable_by_key(|spooled| spooled.seq);
            found.truncate(limit + 1);
        }
        let more = found.len() > limit;
        found.truncate(limit);
        Ok((found, more))
    }

    /// Where a frame lies, if its outcome is not settled.
    pub(super) fn locate(&self, camera: &CameraId, seq: Seq, footers: &impl Footers) -> Result<Option<Place>, Unread> {
        let Some(of) = self.cameras.get(camera).filter(|of| !of.settled.contains(seq)) else { return Ok(None) };
        for (segment, extent) in &of.extents {
            if let Some(entry) = extent.range(footers, *segment, (seq, seq), 1)?.first() {
                return Ok(Some(place(*segment, *entry)));
            }
        }
        Ok(None)
    }

    /// The live frames of a segment, camera by camera; `None` where one of its frames is left, also one that could not
    /// be counted when it was.
    pub(super) fn live_in(&self, segment: u64, footers: &impl Footers) -> Result<Option<LiveIn>, Unread> {
        let (mut live, mut left) = (Vec::new(), false);
        for (camera, of) in &self.cameras {
            let Some(extent) = of.extents.get(&segment) else { continue };
            let mut entries = Vec::new();
            extent.each(footers, segment, extent.spans(), |entry| {
                left |= of.left.contains(entry.seq);
                if of.is_live(entry.seq) {
                    entries.push(entry);
                }
            })?;
            live.push((camera.clone(), entries));
        }
        Ok((!left).then_some(live))
    }

    /// A camera's live frames have gone from a segment, but for `kept`. None of those in it may have been left.
    pub(super) fn moved_out(&mut self, camera: &CameraId, segment: u64, kept: Vec<Entry>) {
        let Some(extent) = self.take_out(camera, segment) else { return };
        self.part_here(camera, segment, extent.summary, kept);
    }

    /// Segments that hold nothing and are not being written.
    pub(super) fn dead(&self) -> impl Iterator<Item = u64> {
        self.dead.iter().copied()
    }

    /// What each segment holds.
    pub(super) fn segments(&self) -> impl Iterator<Item = (u64, Holds)> {
        self.segments.iter().map(|(number, holds)| (*number, *holds))
    }

    /// What each camera has that is live: frames, and bytes of their records.
    pub(super) fn live(&self) -> impl Iterator<Item = (&CameraId, u64, u64)> {
        self.cameras.iter().map(|(camera, of)| (camera, of.live, of.live_bytes)).filter(|(_, live, _)| *live > 0)
    }

    /// The same of all cameras together.
    pub(super) fn all_live(&self) -> (u64, u64) {
        (self.live, self.live_bytes)
    }

    /// When a camera's oldest live frame was captured at the earliest.
    pub(super) fn oldest(&self, camera: &CameraId) -> Option<UnixMicros> {
        let extents = self.cameras.get(camera)?.extents.values();
        extents.filter(|extent| extent.live > 0).map(|extent| extent.summary.oldest).min()
    }

    /// Bytes of a camera's live frames.
    pub(super) fn live_bytes(&self, camera: &CameraId) -> u64 {
        self.cameras.get(camera).map_or(0, |of| of.live_bytes)
    }

    /// Frames that were given up, but of which the journal has not said so yet.
    pub(super) fn left(&self) -> u64 {
        self.segments.values().map(|holds| holds.left).sum()
    }

    /// Whether there are any, counted or not.
    pub(super) fn any_left(&self) -> bool {
        self.cameras.values().any(|of| of.left.iter().next().is_some())
    }

    /// The first seq after `after` that may be live in one of the segments from `number` on.
    pub(super) fn first_from_segment(&self, camera: &CameraId, number: u64, after: Seq) -> Option<Seq> {
        let extents = self.cameras.get(camera)?.extents.range(number..);
        let beyond = extents.filter(|(_, extent)| extent.live > 0 && extent.summary.last > after);
        beyond.map(|(_, extent)| extent.summary.first.max(after + 1)).min()
    }

    /// Whether a frame that should lie in a segment is not there any more.
    pub(super) fn lacks_some(&self, segment: u64) -> bool {
        let extents = self.cameras.values().filter_map(|of| of.extents.get(&segment));
        extents.into_iter().any(|extent| match &extent.entries {
            Entries::Here(entries) => entries.iter().any(|entry| entry.length == 0),
            Entries::OnDisk(_) => false,
        })
    }
}

fn place(segment: u64, entry: Entry) -> Place {
    Place { segment, offset: entry.offset, length: entry.length }
}

#[cfg(test)]
mod tests;
