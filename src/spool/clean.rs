//! Copying forward: the few live frames of segments that are mostly dead go into the newest one, and their room is free.

use std::io;

use tracing::{info, warn};

use crate::model::UnixMicros;

use super::disk::Disk;
use super::footer::{EMPTY, ENTRY, Entry, camera_length};
use super::format::{RecordHeader, SEGMENT_HEADER, Salt, lengths};
use super::index::Holds;
use super::store::{AppendError, Store};

impl<D: Disk> Store<D> {
    /// Copies the live frames of the segments that hold least of them forward, and removes these segments once the copies
    /// are on disk. False where there is nothing that is worth it: a segment more than three quarters alive is not.
    ///
    /// # Errors
    ///
    /// When there is no room for the copies, or the disk refuses. Nothing is lost then.
    pub fn clean(&mut self) -> Result<bool, AppendError> {
        match self.flush() {
            // What is not written yet is what needs the room.
            Err(AppendError::NoRoom) if self.written.is_empty() => {}
            flushed => flushed?,
        }
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
            cleaned |= self.evacuate(number)?;
        }
        self.reap();
        Ok(cleaned)
    }

    /// Copies what the disk did not confirm to where it does. Where something of it has to stay, that may lie in an older
    /// segment as it should be: so these are kept until it has its outcome.
    pub(super) fn rescue(&mut self) {
        for number in self.to_rescue().collect::<Vec<_>>() {
            match self.evacuate(number) {
                Ok(true) => {
                    self.unsound.remove(&number);
                }
                Ok(false) => {}
                Err(error) => {
                    warn!(segment = number, %error, "spool: a segment that the disk did not confirm stays where it is")
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
            Some(*number) != active && holds.left == 0 && holds.live > 0 && !self.unmovable.contains(number)
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

    /// Copies a segment's live frames into the newest one, and commits them there. False where something of it had to stay.
    fn evacuate(&mut self, number: u64) -> Result<bool, AppendError> {
        let Some(live) = self.ask(|index, files| index.live_in(number, files)).flatten() else { return Ok(false) };
        let needed = live.iter().filter(|(_, entries)| !entries.is_empty()).map(|(camera, entries)| {
            let records: u64 = entries.iter().map(|entry| u64::from(entry.length)).sum();
            records + camera_length(camera) + entries.len() as u64 * ENTRY
        });
        self.make_room(needed.sum())?;
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
    fn make_room(&mut self, bytes: u64) -> Result<(), AppendError> {
        if self.active.as_ref().is_some_and(|active| active.has_room(bytes)) {
            return Ok(());
        }
        self.seal();
        let allocate = self.settings.segment_bytes.max((SEGMENT_HEADER + bytes + EMPTY).next_multiple_of(8));
        // What is freed by this is what is kept free for this.
        self.begin(allocate, self.settings.max_bytes, UnixMicros::default())
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
mod tests {
    use std::fs;

    use super::super::testing::*;
    use super::super::{RealDisk, Store, StoreSettings};

    fn nearly_dead(dir: &std::path::Path) -> Store<RealDisk> {
        let (mut store, _) = open(dir);
        fill(&mut store, "a", 1..=45, 1000);
        for seq in (1..=45).filter(|seq| seq % 10 != 5) {
            store.settle(&camera("a"), range(seq, seq));
        }
        store
    }

    #[test]
    fn what_lives_is_copied_forward_and_the_rest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = nearly_dead(dir.path());
        let before = store.status();
        assert!(store.clean().unwrap());
        assert!(store.clean().unwrap());
        let after = store.status();
        assert_eq!((after.frames, after.bytes), (before.frames, before.bytes));
        assert_eq!(after.segments, before.segments - 2);
        assert_eq!(live(&mut store, "a", 1000), [5, 15, 25, 35, 45]);
        fill(&mut store, "a", 46..=50, 1000);
        drop(store);
        let (mut store, _) = Store::open(RealDisk::open(dir.path()).unwrap(), settings(16)).unwrap();
        store.resolve(
            &[(camera("a"), resolved(4, &[range(6, 14), range(16, 24), range(26, 34), range(36, 44)]))].into(),
        );
        assert_eq!(live(&mut store, "a", 1000), [5, 15, 25, 35, 45, 46, 47, 48, 49, 50]);
        store.settle(&camera("a"), range(1, 50));
        assert_eq!((store.status().frames, store.status().segments), (0, 0));
    }

    #[test]
    fn a_frame_that_lies_twice_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = nearly_dead(dir.path());
        // A crash between the copies' commit and the removal.
        let kept: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        let kept: Vec<_> = kept.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        assert!(store.clean().unwrap());
        drop(store);
        for (path, content) in kept.iter().filter(|(path, _)| !path.exists()) {
            fs::write(path, content).unwrap();
        }
        let dead = resolved(4, &[range(6, 14), range(16, 24), range(26, 34), range(36, 44)]);
        let (mut store, found) = Store::open(RealDisk::open(dir.path()).unwrap(), settings(16)).unwrap();
        assert_eq!(found.cameras[&camera("a")].seqs, [range(1, 45)]);
        store.resolve(&[(camera("a"), dead)].into());
        assert_eq!(store.status().frames, 5);
        assert_eq!(live(&mut store, "a", 1000), [5, 15, 25, 35, 45]);
        store.settle(&camera("a"), range(1, 45));
        assert_eq!((store.status().frames, store.status().bytes, store.status().segments), (0, 0, 0));
    }

    #[test]
    fn near_the_cap_cleaning_makes_room_without_exceeding_it() {
        let dir = tempfile::tempdir().unwrap();
        let max = 6;
        let (mut store, _) = Store::open(RealDisk::open(dir.path()).unwrap(), settings(max)).unwrap();
        let mut seq = 0;
        let mut alive = std::collections::BTreeSet::new();
        let mut cleaned = 0;
        while seq < 500 {
            match store.append(&record("a", seq + 1, 1000)) {
                Ok(()) => {
                    seq += 1;
                    alive.insert(seq);
                    store.commit().unwrap();
                    if seq % 16 != 0 {
                        store.settle(&camera("a"), range(seq, seq));
                        alive.remove(&seq);
                    }
                    // The oldest of the few that stay go, too, in time.
                    if alive.len() > 20 {
                        let oldest = alive.pop_first().unwrap();
                        store.settle(&camera("a"), range(oldest, oldest));
                    }
                }
                Err(_) => {
                    assert!(store.clean().unwrap(), "at {seq}");
                    cleaned += 1;
                }
            }
            let size: u64 =
                fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
            assert_eq!(size, store.status().size);
            assert!(size <= max * SEGMENT);
            assert_eq!(store.status().frames, alive.len() as u64);
        }
        assert!(cleaned > 0);
        assert_eq!(live(&mut store, "a", 1000), alive.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_damaged_frame_stays_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = nearly_dead(dir.path());
        let place = store.locate(&camera("a"), 25).unwrap();
        assert_eq!(store.locate(&camera("a"), 15).unwrap().segment, place.segment);
        let path = dir.path().join(super::super::format::segment_name(place.segment));
        let mut content = fs::read(&path).unwrap();
        content[place.offset as usize + 500] ^= 1;
        fs::write(&path, content).unwrap();
        while store.clean().unwrap() {}
        assert_eq!(store.locate(&camera("a"), 25), Some(place));
        assert_ne!(store.locate(&camera("a"), 15).unwrap().segment, place.segment);
        assert!(path.exists());
        assert_eq!(store.status().frames, 5);
        store.settle(&camera("a"), range(25, 25));
        assert!(!path.exists());
        assert_eq!(live(&mut store, "a", 1000), [5, 15, 35, 45]);
    }

    #[test]
    fn what_could_not_be_rescued_keeps_what_lies_before_it() {
        use std::sync::atomic::Ordering::Relaxed;
        for damaged in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (mut store, _) = open(dir.path());
            fill(&mut store, "a", 1..=18, 1000);
            let places: Vec<_> = (1..=18).map(|seq| store.locate(&camera("a"), seq).unwrap()).collect();
            let first = places.iter().position(|place| place.segment == 2).unwrap() as u64 + 1;
            drop(store);
            let disk = Moody::open(dir.path());
            disk.syncs.store(1, Relaxed);
            let (mut store, _) = Store::open(disk.clone(), settings(16)).unwrap();
            if damaged {
                let place = places[17];
                let bad = place.offset.into()..u64::from(place.offset + place.length);
                disk.bad.lock().unwrap().insert("000000000002.segment".to_owned(), bad);
            } else {
                disk.creations.store(1, Relaxed);
            }
            store.resolve(&[(camera("a"), resolved(first - 1, &[]))].into());
            assert!(dir.path().join("000000000001.segment").exists(), "{damaged}");
            assert_eq!((store.keeps_below(), store.wants_retry()), (2, !damaged));
            let moved = if damaged { 17 } else { 18 };
            store.retry();
            assert_eq!(store.locate(&camera("a"), moved).unwrap().segment, 3, "{damaged}");
            if damaged {
                assert_eq!(store.locate(&camera("a"), 18).unwrap().segment, 2);
                store.settle(&camera("a"), range(18, 18));
            }
            store.retry();
            assert_eq!((store.keeps_below(), store.status().segments), (0, 1), "{damaged}");
            assert_eq!(live(&mut store, "a", 1000), (first..=moved).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_waits_for_room_does_not_keep_it_from_being_made() {
        let fill_up = |dir: &std::path::Path, most: u64| {
            let disk = Moody::open(dir);
            let (mut store, _) = Store::open(disk.clone(), settings(4)).unwrap();
            let mut seq = 0;
            while seq < most && store.append(&record("a", seq + 1, 1000)).is_ok() {
                store.commit().unwrap();
                seq += 1;
            }
            (store, disk, seq)
        };
        let (_, _, last) = fill_up(tempfile::tempdir().unwrap().path(), u64::MAX);
        let dir = tempfile::tempdir().unwrap();
        let (mut store, disk, _) = fill_up(dir.path(), last - 1);
        for seq in (1..last).filter(|seq| seq % 8 != 0) {
            store.settle(&camera("a"), range(seq, seq));
        }
        store.append(&record("a", last, 1000)).unwrap();
        disk.syncs.store(1, std::sync::atomic::Ordering::Relaxed);
        assert!(matches!(store.commit(), Err(super::AppendError::NoRoom)));
        assert!(store.clean().unwrap());
        assert_eq!(store.commit().unwrap().len(), 1);
        assert_eq!(
            live(&mut store, "a", 1000),
            (1..=last).filter(|seq| seq % 8 == 0 || *seq == last).collect::<Vec<_>>()
        );
    }

    #[test]
    fn what_the_disk_did_not_confirm_at_the_start_is_copied_to_where_it_does() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path());
        fill(&mut store, "a", 1..=5, 1000);
        drop(store);
        let disk = Moody::open(dir.path());
        disk.syncs.store(1, std::sync::atomic::Ordering::Relaxed);
        let (mut store, found) = Store::open(disk, StoreSettings { ..settings(16) }).unwrap();
        assert_eq!(found.cameras[&camera("a")].seqs, [range(1, 5)]);
        store.resolve(&[(camera("a"), resolved(2, &[]))].into());
        assert_eq!(store.locate(&camera("a"), 3).unwrap().segment, 2);
        assert_eq!((store.status().frames, store.status().segments), (3, 1));
        assert_eq!(live(&mut store, "a", 1000), [3, 4, 5]);
    }
}
