//! A segment whose footer cannot be read any more, or that is gone: what is left of it is looked up once, and kept in
//! memory.
//!
//! A bad place on the disk, or somebody who tidies up, costs the frames that it touches. They are not forgotten, but
//! read in their turn and found damaged, so that each has its outcome; and nothing else waits for them.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use rustix::io::Errno;
use tracing::{error, warn};

use super::disk::{Disk, DiskFile, is_unreadable};
use super::extent::Unread;
use super::footer::Part;
use super::format::{SEGMENT_HEADER, Salt, segment_name};
use super::index::Index;
use super::scan::{read_footer, scan};
use super::segment::Files;
use super::store::Store;

/// How often, a second apart, some of a segment may be unreadable before that is believed: a disk may come back.
const UNREADABLE: u32 = 8;

/// Segments that are asked whether the disk can be read at all.
const WITNESSES: usize = 4;

/// What a segment turns out to be in mid-run.
enum Left {
    /// It is not there any more.
    Nothing,
    /// All of it could be read.
    All(Vec<Part>),
    /// Some of it could not.
    Some(Vec<Part>),
}

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
            self.doubted.entry(segment).or_default();
            match self.what_is_left(segment) {
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
            // Copying the others elsewhere would not make it free. What the disk did not confirm is copied all the
            // same.
            if !self.unsound.contains(&segment) && self.index.lacks_some(segment) {
                self.unmovable.insert(segment);
            }
        }
        true
    }

    /// What a segment still holds, as far as that is certain.
    fn what_is_left(&mut self, segment: u64) -> io::Result<Vec<Part>> {
        let left = look_through(&self.files, Salt::new(&self.settings.origin, segment), segment);
        let parts = match left {
            Ok(Left::All(parts)) => return Ok(parts),
            Ok(Left::Nothing) => {
                error!(segment, "spool: somebody has removed a segment: its frames are lost");
                self.sizes.insert(segment, 0);
                return Ok(Vec::new());
            }
            Ok(Left::Some(parts)) => parts,
            Err(error) if is_unreadable(&error) => Vec::new(),
            Err(error) => return Err(error),
        };
        // Where nothing else can be read either it is not the segment, and to wait is all that can be done.
        if parts.is_empty() && !self.another_can_be_read(segment) {
            return Err(Errno::IO.into());
        }
        let tries = self.doubted.entry(segment).or_default();
        *tries += 1;
        if *tries < UNREADABLE {
            return Err(Errno::IO.into());
        }
        error!(segment, "spool: a segment cannot be read: what is missing of it is lost");
        Ok(parts)
    }

    /// Whether the disk gives another segment's first bytes.
    fn another_can_be_read(&self, segment: u64) -> bool {
        let active = self.active.as_ref().map(|active| active.number);
        let sealed = self.sizes.keys().rev().copied().filter(|number| Some(*number) != active);
        let others = active.into_iter().chain(sealed).filter(|number| *number != segment);
        let reads = |number: u64| {
            let file = self.files.disk.open(&segment_name(number))?;
            file.forget();
            file.read_at(&mut [0; SEGMENT_HEADER as usize], 0)
        };
        others.filter(|number| !self.doubted.contains_key(number)).take(WITNESSES).any(|number| reads(number).is_ok())
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

/// Reads what is there of a segment; an error that [`is_unreadable`] where it cannot even be opened.
fn look_through<D: Disk>(files: &Files<D>, salt: Salt, segment: u64) -> io::Result<Left> {
    files.forget(segment);
    let file = match files.disk.open(&segment_name(segment)) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) => {
            return Ok(Left::Nothing);
        }
        file => file?,
    };
    file.forget();
    match read_footer(&file, salt) {
        Ok(Some((parts, _))) => return Ok(Left::All(parts)),
        Ok(None) => {}
        Err(error) if is_unreadable(&error) || error.kind() == ErrorKind::UnexpectedEof => {}
        Err(error) => return Err(error),
    }
    let scanned = scan(&file, salt)?;
    Ok(if scanned.unreadable { Left::Some(scanned.parts) } else { Left::All(scanned.parts) })
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
    fn a_segment_that_is_gone_takes_no_room_and_is_not_copied() {
        let dir = tempfile::tempdir().unwrap();
        let (_, mut store) = spool(dir.path());
        let (size, first) = (store.status().size, store.sizes[&1]);
        fs::remove_file(dir.path().join(FIRST)).unwrap();
        assert_eq!(seqs(&mut store, "a").len(), 40);
        assert_eq!(store.status().size, size - first);
        // Of the second segment little lives.
        let in_second: Vec<Seq> = ["a", "b"]
            .iter()
            .flat_map(|name| (1..=40).map(move |seq| (name, seq)))
            .filter(|(name, seq)| store.locate(&camera(name), *seq).is_some_and(|place| place.segment == 2))
            .filter_map(|(name, seq)| (*name == "a").then_some(seq))
            .collect();
        in_second[1..].iter().for_each(|seq| store.settle(&camera("a"), range(*seq, *seq)));
        assert!(store.clean().unwrap());
        assert!(!dir.path().join("000000000002.segment").exists(), "the one that can be freed is");
        assert!(store.locate(&camera("a"), in_second[0]).unwrap().segment > 2);
        assert_eq!(damaged(&mut store, "a"), (1..in_second[0]).collect::<Vec<_>>());
    }

    #[test]
    fn a_segment_that_cannot_be_opened_is_given_up_while_another_can() {
        for errno in [Errno::IO, Errno::UCLEAN, Errno::BADMSG] {
            let dir = tempfile::tempdir().unwrap();
            let (disk, mut store) = spool(dir.path());
            // All of the disk: that may come to itself, however long it takes.
            disk.opens.store(errno.raw_os_error() as u32, Relaxed);
            for _ in 0..3 * UNREADABLE {
                assert_eq!(seqs(&mut store, "a"), [0; 0]);
                store.retry();
            }
            disk.opens.store(0, Relaxed);
            store.retry();
            assert_eq!((seqs(&mut store, "a").len(), damaged(&mut store, "a").len()), (40, 0));
        }
        let dir = tempfile::tempdir().unwrap();
        let (disk, mut store) = spool(dir.path());
        let second = (1..=40).find(|seq| store.locate(&camera("a"), *seq).unwrap().segment == 2).unwrap();
        store.files.forget(1);
        disk.shut.lock().unwrap().insert(FIRST.to_owned(), Errno::UCLEAN.raw_os_error());
        for _ in 1..UNREADABLE {
            assert_eq!(seqs(&mut store, "a"), [0; 0]);
            store.retry();
        }
        assert_eq!(seqs(&mut store, "a"), (1..=40).collect::<Vec<_>>());
        let entries = store.entries(&camera("a"), 0, 100).0;
        let lost = entries.iter().filter(|spooled| spooled.place.length == 0).map(|spooled| spooled.seq);
        assert_eq!(lost.collect::<Vec<_>>(), (1..second).collect::<Vec<_>>());
        ends(store);
    }

    #[test]
    fn a_doubted_segment_does_not_keep_others_from_being_copied_forward() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, mut store) = spool(dir.path());
        // Of the first less lives than of the second, and of the second little.
        let places: Vec<_> = (1..=40).map(|seq| (seq, store.locate(&camera("a"), seq).unwrap().segment)).collect();
        let of = |segment: u64| places.iter().filter(move |(_, number)| *number == segment).map(|(seq, _)| *seq);
        for seq in of(1).skip(1).chain(of(2).skip(2)) {
            store.settle(&camera("a"), range(seq, seq));
        }
        store.files.forget(1);
        disk.shut.lock().unwrap().insert(FIRST.to_owned(), Errno::IO.raw_os_error());
        assert_eq!(seqs(&mut store, "a"), [0; 0]);
        assert!(store.wants_retry() && store.clean().unwrap());
        assert!(!dir.path().join("000000000002.segment").exists() && dir.path().join(FIRST).exists());
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
