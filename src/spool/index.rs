//! Which frames the spool holds, and which of them still matter. Pure: what lies in footers is asked for.
//!
//! Of a segment that is written no more it knows each camera's first and last seq and how many of its frames are live, and
//! nothing of any one frame: a backlog of a million frames costs what one of a thousand does.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::model::{CameraId, Seq, SeqRange, SessionNo, UnixMicros};

use super::extent::{CHUNK, Entries, Extent, Footers};
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

/// Live frames of one segment, camera by camera.
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
        of.live += extent.live;
        of.live_bytes += extent.live_bytes;
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

    /// The segment that was being written has a footer now, with the entries of its [`Index::parts`] at these positions.
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

    /// The journal has these seqs' outcomes. An error leaves them settled, and only what their segments hold too high
    /// until the last of the camera's frames in there is settled.
    pub(super) fn settle(&mut self, camera: &CameraId, range: SeqRange, footers: &impl Footers) -> io::Result<()> {
        self.resolve(camera, range, footers, true)
    }

    /// These seqs are given up: they are live no more, but keep their segments until they are settled.
    pub(super) fn leave(&mut self, camera: &CameraId, range: SeqRange, footers: &impl Footers) -> io::Result<()> {
        self.resolve(camera, range, footers, false)
    }

    fn resolve(&mut self, camera: &CameraId, range: SeqRange, footers: &impl Footers, settle: bool) -> io::Result<()> {
        let of = self.cameras.entry(camera.clone()).or_default();
        let mut failed = None;
        let mut fresh = of.settled.missing(range);
        if !settle {
            fresh = fresh.into_iter().flat_map(|part| of.left.missing(part)).collect();
        }
        let (settled_before, left_before) = (&of.settled, &of.left);
        let mut gone = Vec::new();
        for (segment, extent) in &mut of.extents {
            let (mut live, mut bytes, mut left) = (0, 0, 0);
            for part in &fresh {
                let counted = extent.each(footers, *segment, *part, |entry| {
                    if left_before.contains(entry.seq) {
                        left += 1;
                    } else if !settled_before.contains(entry.seq) {
                        live += 1;
                        bytes += u64::from(entry.length);
                    }
                });
                failed = failed.or(counted.err());
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
        if failed.is_some() {
            // What could not be counted is known all the same where nothing of the extent is left.
            let covered = of
                .extents
                .iter()
                .filter(|(segment, extent)| self.open != Some(**segment) && of.settled.covers(extent.spans()));
            gone.extend(covered.map(|(segment, _)| *segment).collect::<Vec<_>>());
        }
        for segment in gone {
            let Some(extent) = of.extents.remove(&segment) else { continue };
            of.live -= extent.live;
            of.live_bytes -= extent.live_bytes;
            let holds = self.segments.entry(segment).or_default();
            holds.live -= extent.live;
            holds.live_bytes -= extent.live_bytes;
            holds.left -= extent.left;
            if holds.nothing() {
                self.dead.insert(segment);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// A camera's live frames after a seq, in order, `limit` at most, and whether there are more.
    pub(super) fn entries(
        &self,
        camera: &CameraId,
        after: Seq,
        limit: usize,
        footers: &impl Footers,
    ) -> io::Result<(Vec<Spooled>, bool)> {
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
    pub(super) fn locate(&self, camera: &CameraId, seq: Seq, footers: &impl Footers) -> io::Result<Option<Place>> {
        let Some(of) = self.cameras.get(camera).filter(|of| !of.settled.contains(seq)) else { return Ok(None) };
        for (segment, extent) in &of.extents {
            if let Some(entry) = extent.range(footers, *segment, (seq, seq), 1)?.first() {
                return Ok(Some(place(*segment, *entry)));
            }
        }
        Ok(None)
    }

    /// The live frames of a segment, camera by camera; `None` where one of its frames is left, also one that could not be
    /// counted when it was.
    pub(super) fn live_in(&self, segment: u64, footers: &impl Footers) -> io::Result<Option<LiveIn>> {
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
            if !entries.is_empty() {
                live.push((camera.clone(), entries));
            }
        }
        Ok((!left).then_some(live))
    }

    /// A camera's live frames have gone from a segment, but for `kept`. None of those in it may have been left.
    pub(super) fn moved_out(&mut self, camera: &CameraId, segment: u64, kept: Vec<Entry>) {
        let Some(of) = self.cameras.get_mut(camera) else { return };
        let Some(extent) = of.extents.remove(&segment) else { return };
        of.live -= extent.live;
        of.live_bytes -= extent.live_bytes;
        let holds = self.segments.entry(segment).or_default();
        holds.live -= extent.live;
        holds.live_bytes -= extent.live_bytes;
        holds.left -= extent.left;
        if holds.nothing() {
            self.dead.insert(segment);
        }
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

    /// Bytes of a camera's live frames.
    pub(super) fn live_bytes(&self, camera: &CameraId) -> u64 {
        self.cameras.get(camera).map_or(0, |of| of.live_bytes)
    }

    /// Frames that were given up, but of which the journal has not said so yet.
    pub(super) fn left(&self) -> u64 {
        self.segments.values().map(|holds| holds.left).sum()
    }
}

fn place(segment: u64, entry: Entry) -> Place {
    Place { segment, offset: entry.offset, length: entry.length }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Footers of segments in which entries begin at the segment's number times 100,000.
    #[derive(Default)]
    struct Shelf(BTreeMap<u64, Vec<Entry>>);

    impl Footers for Shelf {
        fn entries(&self, segment: u64, position: u64, count: u32) -> io::Result<Vec<Entry>> {
            let from = ((position - segment * 100_000) / 16) as usize;
            Ok(self.0[&segment][from..from + count as usize].to_vec())
        }
    }

    #[test]
    fn it_knows_of_every_frame_what_a_list_of_all_would() {
        let camera: CameraId = "a".parse().unwrap();
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut index, mut shelf) = (Index::default(), Shelf::default());
            // Some seqs lie nowhere, and the segments overlap.
            let mut seqs: Vec<Seq> = (1..=120).filter(|_| rng.u8(0..8) > 0).collect();
            if rng.bool() {
                rng.shuffle(&mut seqs);
            }
            let mut all: BTreeMap<Seq, (Place, bool)> = BTreeMap::new();
            for (number, part) in seqs.chunks(1 + seqs.len() / 4).enumerate() {
                let number = number as u64 + 1;
                index.open(number);
                for (nth, seq) in part.iter().enumerate() {
                    let entry = Entry { seq: *seq, offset: nth as u32 * 8, length: 8 + nth as u32 };
                    index.add(&camera, number, entry, UnixMicros(0), 1);
                    all.insert(*seq, (place(number, entry), true));
                }
                if rng.u8(0..4) > 0 {
                    let entries: Vec<_> = index.parts(number).flat_map(|(_, _, entries)| entries.to_vec()).collect();
                    shelf.0.insert(number, entries);
                    index.sealed(number, &[number * 100_000]);
                } else {
                    index.closed(number);
                }
            }
            let mut given_up = BTreeSet::new();
            for _ in 0..40 {
                let first = rng.u64(1..=125);
                let range = SeqRange { first, last: first + rng.u64(0..10) };
                let within = |seq: &Seq| (range.first..=range.last).contains(seq);
                if rng.u8(0..3) > 0 {
                    index.settle(&camera, range, &shelf).unwrap();
                    all.retain(|seq, _| !within(seq));
                    given_up.retain(|seq| !within(seq));
                } else {
                    index.leave(&camera, range, &shelf).unwrap();
                    for (seq, (_, live)) in all.iter_mut().filter(|(seq, _)| within(seq)) {
                        *live = false;
                        given_up.insert(*seq);
                    }
                }
                let live: Vec<Spooled> = all
                    .iter()
                    .filter(|(_, (_, live))| *live)
                    .map(|(seq, (place, _))| Spooled { seq: *seq, place: *place })
                    .collect();
                let (after, limit) = (rng.u64(0..125), rng.usize(0..20));
                let expected: Vec<_> = live.iter().copied().filter(|spooled| spooled.seq > after).collect();
                let (found, more) = index.entries(&camera, after, limit, &shelf).unwrap();
                assert_eq!(found, expected[..expected.len().min(limit)], "seed {seed}");
                assert_eq!(more, expected.len() > limit, "seed {seed}");
                let bytes: u64 = live.iter().map(|spooled| u64::from(spooled.place.length)).sum();
                let counts = index.live().next().map_or((0, 0), |(_, frames, bytes)| (frames, bytes));
                assert_eq!(counts, (live.len() as u64, bytes), "seed {seed}");
                assert_eq!(index.left(), given_up.len() as u64, "seed {seed}");
                let seq = rng.u64(1..=125);
                assert_eq!(index.locate(&camera, seq, &shelf).unwrap(), all.get(&seq).map(|(place, _)| *place));
                for (number, holds) in index.segments().collect::<Vec<_>>() {
                    let held = |alive| {
                        let here = all.values().filter(|(place, live)| (place.segment, *live) == (number, alive));
                        here.count() as u64
                    };
                    assert_eq!((holds.live, holds.left), (held(true), held(false)), "seed {seed}");
                    let dead = index.dead().any(|dead| dead == number);
                    assert_eq!(dead, held(true) + held(false) == 0, "seed {seed}");
                }
            }
        }
    }
}
