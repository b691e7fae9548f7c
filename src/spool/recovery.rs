//! What a start finds, and makes of it.
//!
//! A sealed segment tells by its footer what it holds. Any other is read whole: it was being written when the daemon
//! ended, or it is damaged. What is sound in it counts, and it gets a footer. Nothing that lies there stops the start.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};

use tracing::{error, info, warn};

use super::disk::{Disk, DiskFile};
use super::footer::{self, Entry, Part, Summary};
use super::format::{NoHeader, Salt, SegmentHeader, segment_name, segment_number};
use super::ranges::Ranges;
use super::scan::{read_footer, read_header, scan};
use super::store::{Found, Store, StoreSettings};
use crate::model::{CameraId, SeqRange, SpooledCamera, UnixMicros};

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
    /// When the directory cannot be listed, or a segment may not be opened: its frames would be taken for lost.
    pub fn open(disk: D, settings: StoreSettings) -> io::Result<(Self, Found)> {
        let mut store = Self::new(disk, settings);
        let mut found = Found::default();
        let mut numbers = Vec::new();
        for name in store.files.disk.list()? {
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
        store.next = numbers.first().map_or(1, |number| number + 1);
        let mut cameras = Cameras::new();
        for (at, number) in numbers.into_iter().enumerate() {
            store.take_in(number, at == 0, &mut cameras, &mut found)?;
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

    fn take_in(&mut self, number: u64, is_newest: bool, cameras: &mut Cameras, found: &mut Found) -> io::Result<()> {
        let name = segment_name(number);
        let file = match self.files.disk.open(&name) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) => {
                return Err(io::Error::new(error.kind(), format!("cannot open segment {name}: {error}")));
            }
            file => file,
        };
        let size = file.as_ref().ok().and_then(|file| file.len().ok()).unwrap_or(0);
        match file.and_then(|file| self.examine(&file, number, found)) {
            Ok(Seen::Blank) => {
                if !is_newest {
                    warn!(segment = number, "spool: a segment is empty");
                    found.damaged += 1;
                }
                if let Err(error) = self.files.disk.remove(&name) {
                    warn!(segment = number, %error, "spool: an empty segment cannot be removed");
                    self.sizes.insert(number, size);
                    self.index.segment(number);
                }
            }
            Ok(Seen::Foreign(what)) => {
                warn!(segment = number, what, "spool: a segment of somebody else is left alone");
                found.foreign += 1;
            }
            Ok(Seen::Segment(segment)) => self.take_in_segment(number, segment, cameras)?,
            Err(error) => {
                error!(segment = number, %error, "spool: a segment cannot be read, and is left alone");
                self.io_errors.push("read");
                self.sizes.insert(number, size);
                found.damaged += 1;
            }
        }
        Ok(())
    }

    fn take_in_segment(&mut self, number: u64, segment: Segment, cameras: &mut Cameras) -> io::Result<()> {
        let size = self.files.disk.open(&segment_name(number)).and_then(|file| file.len()).unwrap_or(0);
        self.sizes.insert(number, size);
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

    fn examine(&self, file: &D::File, number: u64, found: &mut Found) -> io::Result<Seen> {
        let origin = &self.settings.origin;
        let salt = Salt::new(origin, number);
        let header = read_header(file)?;
        match &header {
            Ok(header) if header.origin != *origin => {
                return Ok(Seen::Foreign(format!("its origin is {}", header.origin.as_str())));
            }
            Ok(header) if header.number != number => {
                return Ok(Seen::Foreign(format!("it was segment {}", header.number)));
            }
            Err(NoHeader::Version(version)) => return Ok(Seen::Foreign(format!("its format is version {version}"))),
            _ => {}
        }
        let footer = read_footer(file, salt)?;
        let scanned = if footer.is_some() { None } else { Some(scan(file, salt)?) };
        let nothing = scanned.as_ref().is_some_and(|scanned| scanned.parts.is_empty());
        match &header {
            Err(NoHeader::Blank) if nothing && scanned.as_ref().is_some_and(|scanned| !scanned.torn) => {
                return Ok(Seen::Blank);
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
            return Ok(Seen::Segment(Segment { parts, positions: Some(positions), sound: true }));
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
        if scanned.torn && whole {
            info!(segment = number, end = scanned.end, "spool: an unfinished end is cut off");
            found.torn += 1;
        } else if scanned.torn || !whole && scanned.end == size {
            // The end of a segment that was sealed, or one that has lost all that came after a record.
            warn!(segment = number, end = scanned.end, "spool: a damaged end is cut off");
            found.damaged += 1;
        }
        // What was read may be in the kernel's memory alone.
        let sound = file.sync().inspect_err(|error| error!(segment = number, %error, "spool: cannot sync")).is_ok();
        let positions = sound.then(|| finish(file, salt, scanned.end, &scanned.parts)).and_then(|positions| {
            positions
                .inspect_err(|error| warn!(segment = number, %error, "spool: a segment stays without a footer"))
                .ok()
        });
        Ok(Seen::Segment(Segment { parts: scanned.parts, positions, sound }))
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

    use super::super::testing::*;
    use super::super::{RealDisk, Store, StoreSettings};
    use crate::model::Origin;

    #[test]
    fn what_is_not_ours_is_left_alone_and_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let other = StoreSettings { origin: Origin::from_random([8; 5]), ..settings(16) };
        let (mut theirs, _) = Store::open(RealDisk::open(dir.path()).unwrap(), other).unwrap();
        fill(&mut theirs, "a", 1..=3, 1000);
        drop(theirs);
        fs::write(dir.path().join("notes.txt"), "x").unwrap();
        fs::write(dir.path().join("000000000007.segment"), "x".repeat(5000)).unwrap();
        fs::create_dir(dir.path().join("000000000008.segment")).unwrap();
        let before: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        for _ in 0..2 {
            let (store, found) = open(dir.path());
            assert_eq!((found.foreign, found.damaged, found.cameras.len()), (3, 1, 0));
            assert_eq!(store.status().frames, 0);
            assert!(before.iter().all(|path| path.exists()));
        }
        let (mut store, _) = open(dir.path());
        fill(&mut store, "a", 1..=3, 1000);
        assert_eq!(store.locate(&camera("a"), 1).unwrap().segment, 9);
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
        assert_eq!(store.locate(&camera("a"), 1).unwrap().segment, 4);
    }
}
