//! A segment whose footer cannot be read any more, or that is gone: what is left of it is looked up once, and kept in memory.
//!
//! A bad place on the disk, or somebody who tidies up, costs the frames that it touches. They are not forgotten, but read in
//! their turn and found damaged, so that each has its outcome; and nothing else waits for them.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use rustix::io::Errno;
use tracing::{error, warn};

use super::disk::{Disk, DiskFile, is_unreadable};
use super::extent::Unread;
use super::footer::Part;
use super::format::{Salt, segment_name};
use super::index::Index;
use super::scan::{read_footer, scan};
use super::segment::Files;
use super::store::Store;

/// How often, a second apart, some of a segment may be unreadable before that is believed: a disk may come back.
const UNREADABLE: u32 = 8;

impl<D: Disk> Store<D> {
    /// Asks the index. Where a footer keeps it from answering, that is mended first; `None` where the disk refuses.
    pub(super) fn ask<T>(&mut self, ask: impl Fn(&Index, &Files<D>) -> Result<T, Unread>) -> Option<T> {
        loop {
            match ask(&self.index, &self.files) {
                Ok(answer) => return Some(answer),
                Err(unread) => {
                    if !self.mend(unread) {
                        return None;
                    }
                }
            }
        }
    }

    /// Sees what a segment really holds. False where the disk refuses to tell: that is left to [`Store::retry`].
    pub(super) fn mend(&mut self, unread: Unread) -> bool {
        if self.doubted.contains_key(&unread.segment) {
            self.io_errors.push("read");
            return false;
        }
        self.look_into(unread)
    }

    fn look_into(&mut self, unread: Unread) -> bool {
        let mut next = Some(unread);
        let mut read: BTreeMap<u64, Vec<Part>> = BTreeMap::new();
        while let Some(Unread { segment, error }) = next {
            self.io_errors.push("read");
            let known = self.doubted.contains_key(&segment);
            if !known {
                error!(segment, %error, "spool: a segment does not say what it holds; it is looked through");
            }
            let tries = self.doubted.entry(segment).or_default();
            match look_through(&self.files, Salt::new(&self.settings.origin, segment), segment, tries) {
                Ok(parts) => read.insert(segment, parts),
                Err(error) => {
                    if !known {
                        warn!(segment, %error, "spool: a segment cannot be read yet");
                    }
                    return false;
                }
            };
            // Whether a frame is missing may be known only where others can be read.
            next = self.index.mended(&read, &self.files).err();
        }
        for segment in read.into_keys() {
            self.doubted.remove(&segment);
        }
        true
    }

    /// Tries again what the disk has refused.
    pub(super) fn retry(&mut self) {
        for segment in self.doubted.keys().copied().collect::<Vec<_>>() {
            self.look_into(Unread { segment, error: Errno::AGAIN.into() });
        }
        self.rescue();
        self.reap();
    }

    /// Whether there is anything of that kind.
    pub(super) fn wants_retry(&self) -> bool {
        !self.doubted.is_empty() || self.to_rescue().next().is_some()
    }
}

/// What is left of a segment.
fn look_through<D: Disk>(files: &Files<D>, salt: Salt, segment: u64, tries: &mut u32) -> io::Result<Vec<Part>> {
    files.forget(segment);
    let file = match files.disk.open(&segment_name(segment)) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
            error!(segment, %error, "spool: somebody has removed a segment: its frames are lost");
            return Ok(Vec::new());
        }
        file => file?,
    };
    file.forget();
    match read_footer(&file, salt) {
        Ok(Some((parts, _))) => return Ok(parts),
        Ok(None) => {}
        Err(error) if is_unreadable(&error) || error.kind() == ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(error),
    }
    let scanned = scan(&file, salt)?;
    *tries += 1;
    if scanned.unreadable && *tries < UNREADABLE {
        return Err(Errno::IO.into());
    }
    Ok(scanned.parts)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::atomic::Ordering::Relaxed;

    use super::super::testing::*;
    use super::super::{ReadError, Store};
    use super::*;
    use crate::model::Seq;
    use crate::spool::footer::ENTRY;

    /// Frames 1 to 40 of two cameras, all of a in three segments, the first two sealed.
    fn spool(dir: &Path) -> (Moody, Store<Moody>) {
        let disk = Moody::open(dir);
        let (mut store, _) = Store::open(disk.clone(), settings(16)).unwrap();
        for seq in 1..=40 {
            fill(&mut store, "a", seq..=seq, 1000);
            fill(&mut store, "b", seq..=seq, 10);
        }
        (disk, store)
    }

    fn seqs(store: &mut Store<Moody>, name: &str) -> Vec<Seq> {
        store.entries(&camera(name), 0, 100).0.iter().map(|spooled| spooled.seq).collect()
    }

    fn damaged(store: &mut Store<Moody>, name: &str) -> Vec<Seq> {
        let entries = store.entries(&camera(name), 0, 100).0;
        let of = |spooled: &crate::spool::Spooled| match store.read(&camera(name), *spooled) {
            Ok(_) => None,
            Err(ReadError::Damaged { seq, .. }) => Some(seq),
            // As the reader's end has it, which asks where the frame is by now.
            Err(ReadError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => Some(spooled.seq),
            Err(error) => panic!("{error}"),
        };
        entries.iter().filter_map(of).collect()
    }

    /// Everything ends, and all room is free but that of the segment that is being written.
    fn ends(mut store: Store<Moody>) {
        assert_eq!(store.status().frames, 80);
        store.leave(&camera("a"), range(2, 3));
        assert_eq!((store.left(), store.status().frames), (2, 78));
        store.settle(&camera("a"), range(1, 40));
        store.settle(&camera("b"), range(1, 40));
        assert_eq!((store.left(), store.status().frames, store.status().bytes, store.status().segments), (0, 0, 0, 1));
    }

    const FIRST: &str = "000000000001.segment";

    #[test]
    fn a_footer_that_cannot_be_read_costs_what_lies_in_its_sector() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, mut store) = spool(dir.path());
        let all = ["a", "b"].map(|name| store.entries(&camera(name), 0, 100).0).concat();
        let places = all.iter().map(|spooled| spooled.place).filter(|place| place.segment == 1);
        let footer = places.map(|place| u64::from(place.offset + place.length)).max().unwrap();
        let sector = footer / 4096 * 4096;
        let lost = ["a", "b"].map(|name| -> Vec<Seq> {
            let in_it = |seq: &Seq| {
                let place = store.locate(&camera(name), *seq).unwrap();
                place.segment == 1 && u64::from(place.offset + place.length) > sector
            };
            (1..=40).filter(in_it).collect()
        });
        assert!((1..5).contains(&lost[0].len()));
        disk.bad.lock().unwrap().insert(FIRST.to_owned(), sector..u64::MAX);
        // The disk may come to itself.
        for _ in 1..UNREADABLE {
            assert_eq!(seqs(&mut store, "a"), [0; 0]);
            assert_eq!(seqs(&mut store, "a"), [0; 0]);
            assert!(store.wants_retry());
            store.retry();
        }
        assert_eq!(seqs(&mut store, "a"), (1..=40).collect::<Vec<_>>());
        assert_eq!(seqs(&mut store, "b"), (1..=40).collect::<Vec<_>>());
        assert_eq!([damaged(&mut store, "a"), damaged(&mut store, "b")], lost);
        assert!(!store.wants_retry() && store.take_io_errors().contains(&"read"));
        ends(store);
    }

    #[test]
    fn the_frames_of_a_segment_that_is_gone_are_damaged_and_the_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (_, mut store) = spool(dir.path());
        let second = (1..=40).find(|seq| store.locate(&camera("a"), *seq).unwrap().segment == 2).unwrap();
        store.files.forget(1);
        fs::remove_file(dir.path().join(FIRST)).unwrap();
        assert_eq!(seqs(&mut store, "a"), (1..=40).collect::<Vec<_>>());
        assert_eq!(damaged(&mut store, "a"), (1..second).collect::<Vec<_>>());
        assert_eq!(seqs(&mut store, "b"), (1..=40).collect::<Vec<_>>());
        assert_eq!(store.oldest(), Some(record("a", 1, 1).frame.captured_at));
        store.take_io_errors();
        assert!(store.oldest().is_some() && store.take_io_errors().is_empty(), "it is not looked up again");
        ends(store);
    }

    #[test]
    fn entries_that_are_not_what_was_written_are_not_believed() {
        // With the record itself, too.
        for spoil in [false, true] {
            for seq in [1, 7, 13] {
                let dir = tempfile::tempdir().unwrap();
                let (_, mut store) = spool(dir.path());
                let place = store.locate(&camera("a"), seq).unwrap();
                assert_eq!(place.segment, 1);
                let path = dir.path().join(FIRST);
                let mut content = fs::read(&path).unwrap();
                let entry: Vec<u8> = [&seq.to_le_bytes()[..], &place.offset.to_le_bytes()].concat();
                let at = content.windows(12).rposition(|bytes| *bytes == entry).unwrap();
                assert!(at > content.len() - 40 * ENTRY as usize);
                content[at] ^= 0x40;
                content[place.offset as usize + 500] ^= u8::from(spoil);
                fs::write(&path, content).unwrap();
                assert_eq!(seqs(&mut store, "a"), (1..=40).collect::<Vec<_>>());
                let expected = if spoil { vec![seq] } else { vec![] };
                assert_eq!(damaged(&mut store, "a"), expected);
                assert_eq!(damaged(&mut store, "b"), [0; 0]);
                ends(store);
            }
        }
    }

    #[test]
    fn what_could_not_be_counted_is_counted_when_the_disk_can_be_read() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, mut store) = spool(dir.path());
        disk.opens.store(Errno::MFILE.raw_os_error() as u32, Relaxed);
        store.leave(&camera("a"), range(5, 6));
        store.settle(&camera("a"), range(6, 6));
        store.retry();
        assert!(store.wants_retry());
        disk.opens.store(0, Relaxed);
        store.retry();
        assert!(!store.wants_retry());
        assert_eq!((store.left(), store.status().frames), (1, 78));
        store.settle(&camera("a"), range(1, 5));
        assert_eq!((store.left(), store.status().frames), (0, 74));
    }
}
