//! What a start finds, and makes of it.
//!
//! A sealed segment tells by its footer what it holds. Any other is read whole: it was being written when the daemon
//! ended, or it is damaged. What is sound in it counts, and it gets a footer. Whatever the bytes are that lie there,
//! they do not stop the start; what does is that nobody can tell: a file that may not be opened, or a later version's.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tracing::{error, info, warn};

use super::disk::{Disk, DiskFile, is_unreadable};
use super::footer::{self, Entry, Part, Summary};
use super::format::{NoHeader, Salt, SegmentHeader, segment_name, segment_number};
use super::ranges::Ranges;
use super::scan::{Scanned, read_footer, read_header, scan};
use super::store::{Found, Store, StoreSettings};
use crate::model::{CameraId, SeqRange, SpooledCamera, UnixMicros};

/// No run of the spool comes to this number. What cannot be read and has a higher one is hardly ours.
const FAR: u64 = 1_000_000_000_000_000;

/// How often a segment is read before the start believes that some of it cannot be.
const LOOKS: u32 = 5;

/// How long it waits between two looks.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 1000 });

/// What all looks but the first may take together, for all segments: a dying disk must not keep cameras waiting.
const PATIENCE: Duration = Duration::from_secs(4);

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

/// What one look at a segment says.
struct Look {
    header: Result<SegmentHeader, NoHeader>,
    footer: Option<(Vec<Part>, Vec<u64>)>,
    /// All of it, where it has no footer.
    scanned: Option<Scanned>,
    /// Whether the disk refused some of what was asked.
    unreadable: bool,
}

/// A camera's frames so far: their seqs, and what is known of the newest.
type Cameras = BTreeMap<CameraId, (Ranges, Summary)>;

impl<D: Disk> Store<D> {
    /// Opens a spool. Nothing is removed from it before [`Store::resolve`] has said what the journal knows, but for
    /// segments that were never used.
    ///
    /// # Errors
    ///
    /// When the directory cannot be listed, when a segment may not be opened or read, where it is not the place on the
    /// disk that is bad: its frames would be taken for lost; and for the same reason where a later version wrote one.
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
        let mut patience = PATIENCE;
        for number in numbers {
            store.take_in(number, &mut cameras, &mut found, &mut patience)?;
        }
        found.cameras = cameras
            .into_iter()
            .map(|(camera, (seqs, newest))| {
                let seqs = seqs.iter().collect();
                (camera, SpooledCamera { seqs, session: newest.session, newest: newest.newest })
            })
            .collect();
        // What the last run removed is gone for good before its seqs can be given again: a segment that it gave up may
        // hold frames that it never counted.
        let synced = store.files.disk.sync_dir();
        store.noted("sync", synced);
        Ok((store, found))
    }

    fn take_in(
        &mut self,
        number: u64,
        cameras: &mut Cameras,
        found: &mut Found,
        patience: &mut Duration,
    ) -> io::Result<()> {
        let name = segment_name(number);
        let opened = self.files.disk.open(&name);
        let size = opened.as_ref().ok().and_then(|file| file.len().ok()).unwrap_or(0);
        let seen = match opened {
            Ok(file) => self.examine(&file, number, found, patience),
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

    /// Looks at a segment, again and again where the disk refuses some of it.
    fn look(&mut self, file: &D::File, number: u64, patience: &mut Duration) -> io::Result<(Look, bool)> {
        let mut sound = None;
        let mut looks = 1;
        loop {
            let begun = Instant::now();
            let look = self.look_once(file, number, &mut sound)?;
            if looks > 1 {
                *patience = patience.saturating_sub(begun.elapsed() + PAUSE);
            }
            if !look.unreadable || looks == LOOKS || patience.is_zero() {
                return Ok((look, sound.unwrap_or(true)));
            }
            if looks == 1 {
                warn!(segment = number, "spool: some of a segment cannot be read; it is tried again");
            }
            looks += 1;
            std::thread::sleep(PAUSE);
            file.forget();
        }
    }

    fn look_once(&mut self, file: &D::File, number: u64, sound: &mut Option<bool>) -> io::Result<Look> {
        let salt = Salt::new(&self.settings.origin, number);
        // What the last run wrote may look as if it were on disk although a sync has failed.
        file.forget();
        let header = self.readable(read_header(file))?;
        let mut unreadable = header.is_none();
        let header = header.unwrap_or(Err(NoHeader::Damaged));
        // Of what is none of ours no more is read.
        if header.as_ref().is_ok_and(|header| header.origin != self.settings.origin || header.number != number)
            || matches!(header, Err(NoHeader::Version(..)))
        {
            return Ok(Look { header, footer: None, scanned: None, unreadable: false });
        }
        let footer = self.readable(read_footer(file, salt))?;
        unreadable |= footer.is_none();
        let footer = footer.flatten();
        if footer.is_some() {
            return Ok(Look { header, footer, scanned: None, unreadable });
        }
        // What was written last may be in the kernel's memory alone, and there look as if it were on disk although a
        // sync of the last run has failed: that it is, and that it is what we read, must be the disk's word. A second
        // sync would not be.
        let _ = sound.get_or_insert_with(|| {
            file.sync().inspect_err(|error| error!(segment = number, %error, "spool: cannot sync")).is_ok()
        });
        file.forget();
        let scanned = scan(file, salt)?;
        if scanned.unreadable {
            self.io_errors.push("read");
        }
        unreadable |= scanned.unreadable;
        Ok(Look { header, footer, scanned: Some(scanned), unreadable })
    }

    fn examine(&mut self, file: &D::File, number: u64, found: &mut Found, patience: &mut Duration) -> io::Result<Seen> {
        let origin = self.settings.origin.clone();
        let salt = Salt::new(&origin, number);
        let (Look { header, footer, scanned, unreadable }, sound) = self.look(file, number, patience)?;
        match &header {
            Ok(header) if header.origin != origin => {
                return Ok(Seen::Foreign(format!("its origin is {}", header.origin.as_str())));
            }
            Ok(header) if header.number != number => {
                return Ok(Seen::Foreign(format!("it was segment {}", header.number)));
            }
            Err(NoHeader::Version(_, Some(other))) if *other != origin => {
                return Ok(Seen::Foreign(format!("its origin is {}", other.as_str())));
            }
            Err(NoHeader::Version(version, _)) => {
                let why =
                    format!("its format is version {version}: start the framehaul that wrote it, or move it away");
                return Err(io::Error::new(ErrorKind::Unsupported, why));
            }
            _ => {}
        }
        let nothing = scanned.as_ref().is_some_and(|scanned| scanned.parts.is_empty());
        match &header {
            Err(NoHeader::Blank) if nothing && scanned.as_ref().is_some_and(|scanned| !scanned.torn) => {
                return Ok(Seen::Blank);
            }
            _ if nothing && unreadable => return Err(Errno::IO.into()),
            Err(_) if nothing => return Ok(Seen::Foreign("it is no segment".to_owned())),
            // What the disk may give back some day is not written to.
            Err(_) if unreadable => {
                error!(segment = number, "spool: a segment's header cannot be read");
                found.damaged += 1;
            }
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
        if unreadable {
            // Its frames that can be read count; what cannot is told as lost. The file stays as it is.
            error!(segment = number, "spool: some of a segment cannot be read");
            found.damaged += u64::from(scanned.torn);
            return Ok(Seen::Segment(Segment { parts: scanned.parts, positions: None, size, sound }));
        }
        let whole = header.is_ok_and(|header| header.allocated == size);
        if scanned.torn && whole {
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
mod tests;
