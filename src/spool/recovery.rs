//! What a start finds, and makes of it.
//!
//! A sealed segment tells by its footer what it holds. Any other is read whole: it was being written when the daemon
//! ended, or it is damaged. What is sound in it counts, and it gets a footer. Whatever the bytes are that lie there, they do
//! not stop the start; what does is that nobody can tell: a file that may not be opened, or a later version's.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};

use rustix::io::Errno;
use tracing::{error, info, warn};

use super::disk::{Disk, DiskFile, is_unreadable};
use super::footer::{self, Entry, Part, Summary};
use super::format::{NoHeader, Salt, SegmentHeader, segment_name, segment_number};
use super::ranges::Ranges;
use super::scan::{read_footer, read_header, scan};
use super::store::{Found, Store, StoreSettings};
use crate::model::{CameraId, SeqRange, SpooledCamera, UnixMicros};

/// No run of the spool comes to this number. What cannot be read and has a higher one is hardly ours.
const FAR: u64 = 1_000_000_000_000_000;

/// What a file that is called a segment turns out to be.
enum Seen {
    /// A segment that was never used.
    Blank,
    /// None of ours.
    Foreign(String),
    /// One of ours.
    Segment(Segment),
}

struct Segment {
    parts: Vec<Part>,
    /// Where each part's entries begin in the footer, if it has one.
    positions: Option<Vec<u64>>,
    size: u64,
    /// Whether all of it is known to be on disk.
    sound: bool,
}

/// A camera's frames so far: their seqs, and what is known of the newest.
type Cameras = BTreeMap<CameraId, (Ranges, Summary)>;

impl<D: Disk> Store<D> {
    /// Opens a spool. Nothing is removed from it before [`Store::resolve`] has said what the journal knows, but for segments
    /// that were never used.
    ///
    /// # Errors
    ///
    /// When the directory cannot be listed, when a segment may not be opened or read, where it is not the place on the disk
    /// that is bad: its frames would be taken for lost; and for the same reason where a later version wrote one.
    pub fn open(disk: D, settings: StoreSettings) -> io::Result<(Self, Found)> {
        let mut store = Self::new(disk, settings);
        let mut found = Found::default();
        let mut numbers = Vec::new();
        let names = store.files.disk.list();
        for name in names.map_err(|error| io::Error::new(error.kind(), format!("cannot list its segments: {error}")))? {
            match segment_number(&name) {
                Some(number) => numbers.push(number),
                None => {
                    warn!(name, "spool: a file that is no segment is left alone");
                    found.foreign += 1;
                }
            }
        }
        // Of a frame that lies in two segments the one in the newer counts: it was copied forward, or written again.
        numbers.sort_unstable_by_key(|number| Reverse(*number));
        let mut cameras = Cameras::new();
        for number in numbers {
            store.take_in(number, &mut cameras, &mut found)?;
        }
        found.cameras = cameras
            .into_iter()
            .map(|(camera, (seqs, newest))| {
                let seqs = seqs.iter().collect();
                (camera, SpooledCamera { seqs, session: newest.session, newest: newest.newest })
            })
            .collect();
        // What the last run removed is gone for good before its seqs can be given again: a segment that it gave up may hold
        // frames that it never counted.
        let synced = store.files.disk.sync_dir();
        store.noted("sync", synced);
        Ok((store, found))
    }

    fn take_in(&mut self, number: u64, cameras: &mut Cameras, found: &mut Found) -> io::Result<()> {
        let name = segment_name(number);
        let opened = self.files.disk.open(&name);
        let size = opened.as_ref().ok().and_then(|file| file.len().ok()).unwrap_or(0);
        let seen = match opened {
            Ok(file) => self.examine(&file, number, found),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == ErrorKind::IsADirectory => {
                Ok(Seen::Foreign("it is no regular file".to_owned()))
            }
            Err(error) => Err(error),
        };
        match seen {
            Ok(Seen::Blank) => {
                // Of the newest that is no wonder: it may have been made a moment before the end.
                if self.next > 1 {
                    warn!(segment = number, "spool: a segment is empty");
                    found.damaged += 1;
                }
                if let Err(error) = self.files.disk.remove(&name) {
                    warn!(segment = number, %error, "spool: an empty segment cannot be removed");
                    self.sizes.insert(number, size);
                    self.index.segment(number);
                    self.next = self.next.max(number + 1);
                }
            }
            Ok(Seen::Foreign(what)) => {
                warn!(segment = number, what, "spool: a segment of somebody else is left alone");
                found.foreign += 1;
            }
            Ok(Seen::Segment(segment)) => {
                self.next = self.next.max(number + 1);
                self.take_in_segment(number, segment, cameras)?;
            }
            Err(error) if is_unreadable(&error) => {
                error!(segment = number, %error, "spool: a segment cannot be read, and is left alone");
                self.io_errors.push("read");
                self.sizes.insert(number, size);
                found.damaged += 1;
                // If it is ours and can be read some day, what was written since is newer.
                if number < FAR {
                    self.next = self.next.max(number + 1);
                }
            }
            Err(error) => {
                let why = format!("cannot take in segment {name}, whose frames would be taken for lost: {error}");
                return Err(io::Error::new(error.kind(), why));
            }
        }
        Ok(())
    }

    fn take_in_segment(&mut self, number: u64, segment: Segment, cameras: &mut Cameras) -> io::Result<()> {
        self.sizes.insert(number, segment.size);
        self.index.segment(number);
        if !segment.sound {
            self.unsound.insert(number);
        }
        let mut positions = segment.positions.map(Vec::into_iter);
        for Part { camera, summary, mut entries } in segment.parts {
            let position = positions.as_mut().and_then(Iterator::next);
            let (seqs, newest) = cameras.entry(camera.clone()).or_default();
            if summary.last > newest.last {
                *newest = summary;
            }
            let all = entries.len();
            let runs = runs(&entries);
            if runs.iter().any(|run| seqs.missing(*run) != [*run]) {
                entries.retain(|entry| !seqs.contains(entry.seq));
            }
            runs.into_iter().for_each(|run| seqs.insert(run));
            match position {
                Some(position) if entries.len() == all => self.index.part(&camera, number, summary, position),
                _ => self.index.part_here(&camera, number, summary, entries),
            }
        }
        Ok(())
    }

    /// What was read; `None` where the place on the disk is bad.
    fn readable<T>(&mut self, read: io::Result<T>) -> io::Result<Option<T>> {
        match read {
            Err(error) if is_unreadable(&error) => Ok(self.noted("read", Err(error))),
            read => read.map(Some),
        }
    }

    fn examine(&mut self, file: &D::File, number: u64, found: &mut Found) -> io::Result<Seen> {
        let origin = self.settings.origin.clone();
        let salt = Salt::new(&origin, number);
        let header = self.readable(read_header(file))?.unwrap_or(Err(NoHeader::Damaged));
        match &header {
            Ok(header) if header.origin != origin => {
                return Ok(Seen::Foreign(format!("its origin is {}", header.origin.as_str())));
            }
            Ok(header) if header.number != number => {
                return Ok(Seen::Foreign(format!("it was segment {}", header.number)));
            }
            Err(NoHeader::Version(version)) => {
                let why =
                    format!("its format is version {version}: start the framehaul that wrote it, or move it away");
                return Err(io::Error::new(ErrorKind::Unsupported, why));
            }
            _ => {}
        }
        let footer = self.readable(read_footer(file, salt))?.flatten();
        let mut sound = true;
        let scanned = if footer.is_some() {
            None
        } else {
            // What was written last may be in the kernel's memory alone, and there look as if it were on disk although a
            // sync of the last run has failed: that it is, and that it is what we read, must be the disk's word.
            sound = file.sync().inspect_err(|error| error!(segment = number, %error, "spool: cannot sync")).is_ok();
            file.forget();
            let scanned = scan(file, salt)?;
            if scanned.unreadable {
                error!(segment = number, "spool: some of a segment cannot be read");
                self.io_errors.push("read");
            }
            Some(scanned)
        };
        let nothing = scanned.as_ref().is_some_and(|scanned| scanned.parts.is_empty());
        match &header {
            Err(NoHeader::Blank) if nothing && scanned.as_ref().is_some_and(|scanned| !scanned.torn) => {
                return Ok(Seen::Blank);
            }
            Err(_) if nothing && scanned.as_ref().is_some_and(|scanned| scanned.unreadable) => {
                return Err(Errno::IO.into());
            }
            Err(_) if nothing => return Ok(Seen::Foreign("it is no segment".to_owned())),
            Err(_) => {
                warn!(segment = number, "spool: a segment's header is damaged");
                found.damaged += 1;
                let (origin, created) = (origin.clone(), UnixMicros::default());
                let mended = SegmentHeader { origin, number, created, allocated: file.len()? };
                let _ = file.write_at(&mut [IoSlice::new(&mended.encode())], 0);
            }
            Ok(_) => {}
        }
        let Some(scanned) = scanned else {
            let (parts, positions) = footer.unwrap_or_default();
            return Ok(Seen::Segment(Segment { parts, positions: Some(positions), size: file.len()?, sound: true }));
        };
        found.damaged += scanned.damaged;
        if scanned.damaged > 0 {
            warn!(
                segment = number,
                stretches = scanned.damaged,
                "spool: a segment is damaged; what is sound in it counts"
            );
        }
        let size = file.len()?;
        let whole = header.is_ok_and(|header| header.allocated == size);
        if scanned.torn && whole && !scanned.unreadable {
            info!(segment = number, end = scanned.end, "spool: an unfinished end is cut off");
            found.torn += 1;
        } else if scanned.torn || !whole && scanned.end == size {
            // The end of a segment that was sealed, or one that has lost all that came after a record.
            warn!(segment = number, end = scanned.end, "spool: a damaged end is cut off");
            found.damaged += 1;
        }
        let positions = sound.then(|| finish(file, salt, scanned.end, &scanned.parts)).and_then(|positions| {
            positions
                .inspect_err(|error| warn!(segment = number, %error, "spool: a segment stays without a footer"))
                .ok()
        });
        Ok(Seen::Segment(Segment { parts: scanned.parts, positions, size: file.len()?, sound }))
    }
}

/// Entries' seqs as ranges.
fn runs(entries: &[Entry]) -> Vec<SeqRange> {
    let parts = entries.chunk_by(|one, next| one.seq + 1 == next.seq);
    parts.map(|part| SeqRange { first: part[0].seq, last: part[part.len() - 1].seq }).collect()
}

/// Gives a segment its footer, behind its last sound record; returns where each part's entries begin.
fn finish(file: &impl DiskFile, salt: Salt, end: u64, parts: &[Part]) -> io::Result<Vec<u64>> {
    let parts = parts.iter().map(|part| (&part.camera, &part.summary, part.entries.as_slice()));
    let (footer, positions) = footer::encode(parts, salt, end);
    file.write_at(&mut [IoSlice::new(&footer)], end)?;
    file.truncate(end + footer.len() as u64)?;
    file.sync()?;
    Ok(positions)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::atomic::Ordering::Relaxed;

    use super::super::testing::*;
    use super::super::{Place, RealDisk, Store, StoreSettings};
    use super::*;
    use crate::model::Origin;

    #[test]
    fn what_is_not_ours_is_left_alone_and_stops_nothing() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        let dir = tempfile::tempdir().unwrap();
        let other = StoreSettings { origin: Origin::from_random([8; 5]), ..settings(16) };
        let (mut theirs, _) = Store::open(RealDisk::open(dir.path()).unwrap(), other).unwrap();
        fill(&mut theirs, "a", 1..=3, 1000);
        drop(theirs);
        fs::write(dir.path().join("notes.txt"), "x").unwrap();
        fs::write(dir.path().join("000000000007.segment"), "x".repeat(5000)).unwrap();
        fs::create_dir(dir.path().join("000000000008.segment")).unwrap();
        let pipe = dir.path().join("000000000009.segment");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("000000000010.segment")).unwrap();
        // Beyond the numbers that any run comes to.
        fs::write(dir.path().join("999999999999999.segment"), "x".repeat(5000)).unwrap();
        let before: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        for _ in 0..2 {
            let (store, found) = open(dir.path());
            assert_eq!((found.foreign, found.damaged, found.cameras.len()), (7, 0, 0));
            assert_eq!(store.status().frames, 0);
            assert!(before.iter().all(|path| path.exists()));
        }
        let (mut store, _) = open(dir.path());
        fill(&mut store, "a", 1..=200, 1000);
        // Theirs have other numbers.
        assert_eq!(store.locate(&camera("a"), 1).unwrap().segment, 2);
        assert!(store.locate(&camera("a"), 200).unwrap().segment > 10);
        drop(store);
        let (mut store, _) = open(dir.path());
        assert_eq!(live(&mut store, "a", 1000), (1..=200).collect::<Vec<_>>());
        assert!(before.iter().all(|path| path.symlink_metadata().is_ok()));
    }

    #[test]
    fn a_bad_place_costs_the_frames_it_touches() {
        for sealed in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (mut store, _) = open(dir.path());
            fill(&mut store, "a", 1..=14, 1000);
            let places: Vec<_> = (1..=14).map(|seq| store.locate(&camera("a"), seq).unwrap()).collect();
            if sealed {
                store.close().unwrap();
            }
            drop(store);
            let path = dir.path().join("000000000001.segment");
            let content = fs::read(&path).unwrap();
            // Reads that are refused once cost nothing: of the header, of the footer, of what is scanned then.
            for reads in 0..=3 {
                let disk = Moody::open(dir.path());
                disk.reads.store(reads, Relaxed);
                let (mut store, found) = Store::open(disk, settings(16)).unwrap();
                assert_eq!(live(&mut store, "a", 1000), (1..=14).collect::<Vec<_>>(), "{sealed} {reads}");
                assert_eq!(store.take_io_errors().contains(&"read"), reads > 0, "{found:?}");
                fs::write(&path, &content).unwrap();
            }
            let size = content.len() as u64;
            for bad in [0..4096, 4096..8192, 4096..12288, size / 4096 * 4096 - 4096..size] {
                let disk = Moody::open(dir.path());
                disk.bad.lock().unwrap().insert("000000000001.segment".to_owned(), bad.clone());
                let (mut store, found) = Store::open(disk.clone(), settings(16)).unwrap();
                let in_footer = sealed && bad.end < size;
                let lost = |place: &Place| {
                    let (begin, end) = (u64::from(place.offset), u64::from(place.offset + place.length));
                    begin < bad.end && end > bad.start
                };
                let expected = (1..=14).filter(|seq| in_footer || !lost(&places[*seq as usize - 1]));
                let (entries, _) = store.entries(&camera("a"), 0, 100);
                assert_eq!(
                    entries.iter().map(|spooled| spooled.seq).collect::<Vec<_>>(),
                    expected.collect::<Vec<_>>(),
                    "{sealed} {bad:?}"
                );
                let refused = store.take_io_errors().contains(&"read");
                assert!(in_footer || refused && found.damaged > 0, "{sealed} {bad:?} {found:?}");
                assert_eq!(found.torn, 0, "{sealed} {bad:?}");
                disk.bad.lock().unwrap().clear();
                fs::write(&path, &content).unwrap();
            }
        }
    }

    #[test]
    fn nothing_readable_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path());
        fill(&mut store, "a", 1..=3, 1000);
        drop(store);
        let disk = Moody::open(dir.path());
        disk.bad.lock().unwrap().insert("000000000001.segment".to_owned(), 0..u64::MAX);
        let (mut store, found) = Store::open(disk.clone(), settings(16)).unwrap();
        store.resolve(&Default::default());
        assert_eq!((found.damaged, store.status().size), (1, SEGMENT));
        fill(&mut store, "a", 4..=4, 1000);
        assert_eq!(store.locate(&camera("a"), 4).unwrap().segment, 2);
        drop(store);
        disk.bad.lock().unwrap().clear();
        let (mut store, _) = open(dir.path());
        assert_eq!(live(&mut store, "a", 1000), [1, 2, 3, 4]);
    }

    #[test]
    fn what_nobody_can_tell_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path());
        fill(&mut store, "a", 1..=3, 1000);
        drop(store);
        let start = |disk| Store::open(disk, settings(16)).unwrap_err().to_string();
        for errno in [Errno::MFILE, Errno::NOMEM, Errno::STALE, Errno::ACCESS] {
            let disk = Moody::open(dir.path());
            disk.opens.store(errno.raw_os_error() as u32, Relaxed);
            let error = start(disk);
            assert!(error.starts_with("cannot take in segment 000000000001.segment"), "{error}");
        }
        let path = dir.path().join("000000000001.segment");
        let content = fs::read(&path).unwrap();
        let mut later = content.clone();
        later[8] = 2;
        let crc = crc32c::crc32c(&later[..60]);
        later[60..64].copy_from_slice(&crc.to_le_bytes());
        fs::write(&path, &later).unwrap();
        let error = start(Moody::open(dir.path()));
        assert!(error.contains("000000000001.segment") && error.contains("its format is version 2"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), later);
        fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        let error = start(Moody::open(dir.path()));
        assert!(error.contains("000000000001.segment"), "{error}");
    }

    #[test]
    fn a_file_of_any_size_is_read_no_further_than_a_segment_can_go() {
        let dir = tempfile::tempdir().unwrap();
        fs::File::create(dir.path().join("000000000003.segment")).unwrap().set_len(1 << 42).unwrap();
        let disk = Moody::open(dir.path());
        let (_, found) = Store::open(disk.clone(), settings(16)).unwrap();
        assert_eq!((found.foreign, found.damaged), (1, 0));
        let reads = disk.reads_done.load(Relaxed);
        assert!(reads < 20_000, "{reads}");
    }

    #[test]
    fn damage_costs_the_frames_it_touches_and_is_counted() {
        for sealed in [false, true] {
            for (at, header_too) in [(0, false), (2, false), (9, true)] {
                let dir = tempfile::tempdir().unwrap();
                let (mut store, _) = open(dir.path());
                fill(&mut store, "a", 1..=10, 1000);
                let places: Vec<_> = (1..=10).map(|seq| store.locate(&camera("a"), seq).unwrap()).collect();
                if sealed {
                    store.close().unwrap();
                }
                drop(store);
                let path = dir.path().join("000000000001.segment");
                let mut content = fs::read(&path).unwrap();
                content[places[at].offset as usize + 20] ^= 4;
                if sealed {
                    // The footer is damaged as well, so that it cannot tell.
                    let end = content.len() - 40;
                    content[end] ^= 1;
                }
                if header_too {
                    content[9] ^= 1;
                }
                fs::write(&path, content).unwrap();
                let (mut store, found) = open(dir.path());
                let expected: Vec<_> = (1..=10).filter(|seq| *seq != at as u64 + 1).collect();
                assert_eq!(live(&mut store, "a", 1000), expected, "{sealed} {at}");
                assert!(found.damaged + found.torn > 0, "{sealed} {at}: {found:?}");
                drop(store);
                // It is mended: what is gone is gone, and is not counted again.
                let (mut store, found) = open(dir.path());
                assert_eq!((found.damaged, found.torn), (0, 0), "{sealed} {at}");
                assert_eq!(live(&mut store, "a", 1000), expected);
            }
        }
    }

    #[test]
    fn an_unfinished_end_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = open(dir.path());
        fill(&mut store, "a", 1..=3, 1000);
        store.append(&record("a", 4, 1000)).unwrap();
        drop(store);
        let path = dir.path().join("000000000001.segment");
        let whole = fs::read(&path).unwrap();
        let end = whole.iter().rposition(|byte| *byte != 0).unwrap();
        for cut in [10, 500, 1000] {
            let mut torn = whole.clone();
            torn[end - cut..].fill(0);
            fs::write(&path, torn).unwrap();
            let (mut store, found) = open(dir.path());
            assert_eq!((found.torn, found.damaged), (1, 0), "{cut}");
            assert_eq!(live(&mut store, "a", 1000), [1, 2, 3], "{cut}");
            assert!(fs::metadata(&path).unwrap().len() < SEGMENT);
        }
    }

    #[test]
    fn segments_that_were_never_used_go() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("000000000003.segment"), [0; 4096]).unwrap();
        let (mut store, found) = open(dir.path());
        assert_eq!((found.damaged, found.foreign, fs::read_dir(dir.path()).unwrap().count()), (0, 0, 0));
        fill(&mut store, "a", 1..=1, 10);
        assert_eq!(store.locate(&camera("a"), 1).unwrap().segment, 1);
    }
}
