//! The segments of a store: begun, written, sealed or given up, removed.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::io::{self, IoSlice};

use tracing::{error, warn};

use super::Place;
use super::disk::{Disk, DiskFile};
use super::extent::Footers;
use super::footer::{self, ENTRY, Entry};
use super::format::{RecordHeader, SEGMENT_HEADER, Salt, SegmentHeader, aligned, segment_name};
use super::store::{AppendError, Store};
use crate::model::{CameraId, UnixMicros};

/// Files that are kept open for reading.
const OPEN_FILES: usize = 8;

/// Numbers that are passed over at a time because files of others have them.
const MOST_TAKEN: u32 = 4096;

/// The disk, and the files of it that were read last.
#[derive(Debug)]
pub(super) struct Files<D: Disk> {
    pub(super) disk: D,
    open: RefCell<VecDeque<(u64, D::File)>>,
}

impl<D: Disk> Files<D> {
    pub(super) fn new(disk: D) -> Self {
        Self { disk, open: RefCell::default() }
    }

    pub(super) fn read_at(&self, segment: u64, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut open = self.open.borrow_mut();
        let at = open.iter().position(|(number, _)| *number == segment);
        let file = match at.and_then(|at| open.remove(at)) {
            Some((_, file)) => file,
            None => self.disk.open(&segment_name(segment))?,
        };
        let read = file.read_at(buffer, offset);
        if read.is_ok() {
            open.truncate(OPEN_FILES - 1);
            open.push_front((segment, file));
        }
        read
    }

    pub(super) fn forget(&self, segment: u64) {
        self.open.borrow_mut().retain(|(number, _)| *number != segment);
    }
}

impl<D: Disk> Footers for Files<D> {
    fn entries(&self, segment: u64, position: u64, count: u32) -> io::Result<Vec<Entry>> {
        let mut bytes = vec![0; count as usize * ENTRY as usize];
        self.read_at(segment, &mut bytes, position)?;
        Ok(Entry::parse_all(&bytes))
    }
}

/// The segment that is being written.
#[derive(Debug)]
pub(super) struct Active<F> {
    pub(super) number: u64,
    file: F,
    salt: Salt,
    allocated: u64,
    /// Where the next record begins.
    end: u64,
    /// Bytes that a footer of all that was written takes.
    footer: u64,
    cameras: BTreeSet<CameraId>,
}

impl<F: DiskFile> Active<F> {
    /// Whether a record of this length fits, and the footer that tells of it.
    pub(super) fn fits(&self, camera: &CameraId, length: u64) -> bool {
        self.end + length + self.footer + self.entry(camera) <= self.allocated
    }

    /// Whether records and entries of so many bytes fit.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.end + bytes + self.footer <= self.allocated
    }

    fn entry(&self, camera: &CameraId) -> u64 {
        ENTRY + if self.cameras.contains(camera) { 0 } else { footer::camera_length(camera) }
    }

    /// Writes a record, which must fit.
    pub(super) fn write(&mut self, header: &RecordHeader, picture: &[u8]) -> io::Result<Place> {
        let head = header.encode(self.salt, self.end);
        let total = header.total();
        let pad = [0; 8];
        let pad = &pad[..(total as usize) - head.len() - picture.len()];
        self.file.write_at(&mut [IoSlice::new(&head), IoSlice::new(picture), IoSlice::new(pad)], self.end)?;
        let place = Place { segment: self.number, offset: self.end as u32, length: total as u32 };
        self.end += total;
        self.footer += self.entry(&header.camera);
        if !self.cameras.contains(&header.camera) {
            self.cameras.insert(header.camera.clone());
        }
        Ok(place)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

impl<D: Disk> Store<D> {
    /// Makes a segment to write to, if there is none.
    ///
    /// # Errors
    ///
    /// As [`Store::append`].
    pub fn make_ready(&mut self) -> Result<(), AppendError> {
        match self.active {
            Some(_) => Ok(()),
            None => self.begin(self.settings.segment_bytes, self.limit(), UnixMicros::default()),
        }
    }

    /// The most that segments may take when one is begun for new frames: room for one more is kept, to copy forward
    /// into.
    pub(super) fn limit(&self) -> u64 {
        self.settings.max_bytes.saturating_sub(self.settings.segment_bytes)
    }

    /// Bytes of all segments.
    pub(super) fn size(&self) -> u64 {
        self.sizes.values().sum()
    }

    /// Bytes of a segment for a record of this length alone.
    pub(super) fn alone(&self, camera: &CameraId, length: u64) -> u64 {
        let needed = SEGMENT_HEADER + length + footer::EMPTY + footer::camera_length(camera) + ENTRY;
        self.settings.segment_bytes.max(aligned(needed))
    }

    /// Begins a segment, if it fits into `limit` with those that are there.
    pub(super) fn begin(&mut self, allocate: u64, limit: u64, created: UnixMicros) -> Result<(), AppendError> {
        self.unremovable.clear();
        self.reap();
        if self.size() + allocate > limit {
            self.wanted = allocate;
            return Err(AppendError::NoRoom);
        }
        let begun = self.create(allocate);
        let number = self.next;
        let name = segment_name(number);
        let file = begun.map_err(|error| {
            let error = AppendError::of(error);
            match &error {
                AppendError::Io(error) => {
                    error!(op = "allocate", %error, segment = name, "spool: the disk refuses");
                    self.io_errors.push("allocate");
                }
                _ => self.disk_full = true,
            }
            error
        })?;
        self.next += 1;
        self.disk_full = false;
        self.sizes.insert(number, allocate);
        let origin = self.settings.origin.clone();
        let header = SegmentHeader { origin, number, created, allocated: allocate };
        // All of it is on disk before the first record is: so a segment without a header never held any.
        let begun = file
            .write_at(&mut [IoSlice::new(&header.encode())], 0)
            .and_then(|()| file.sync())
            .and_then(|()| self.files.disk.sync_dir());
        if let Err(error) = begun {
            self.io_errors.push("sync");
            error!(op = "sync", %error, segment = name, "spool: a segment cannot be begun");
            drop(file);
            if self.files.disk.remove(&name).is_ok() {
                self.sizes.remove(&number);
            } else {
                // It stands empty, and goes with the dead ones.
                self.index.segment(number);
            }
            return Err(AppendError::of(error));
        }
        self.index.open(number);
        let salt = Salt::new(&self.settings.origin, number);
        let (end, footer, cameras) = (SEGMENT_HEADER, footer::EMPTY, BTreeSet::new());
        self.active = Some(Active { number, file, salt, allocated: allocate, end, footer, cameras });
        Ok(())
    }

    /// Makes the next segment's file. Where one of its name is there, which is none of ours, the number after it is
    /// next.
    fn create(&mut self, allocate: u64) -> io::Result<D::File> {
        let mut tries = 0;
        loop {
            match self.files.disk.create(&segment_name(self.next), allocate) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < MOST_TAKEN => {
                    self.next += 1;
                    tries += 1;
                }
                created => return created,
            }
        }
    }

    /// Gives the segment that is being written its footer; all of it must be committed.
    pub(super) fn seal(&mut self) {
        let Some(active) = self.active.take() else { return };
        let parts = self.index.parts(active.number);
        let (footer, positions) = footer::encode(parts, active.salt, active.end);
        let size = active.end + footer.len() as u64;
        let sealed = active
            .file
            .write_at(&mut [IoSlice::new(&footer)], active.end)
            .and_then(|()| active.file.truncate(size))
            .and_then(|()| active.file.sync());
        match sealed {
            Ok(()) => {
                self.sizes.insert(active.number, size);
                self.index.sealed(active.number, &positions);
            }
            // Its records are on disk. The next start reads it whole.
            Err(error) => {
                self.io_errors.push("write");
                warn!(%error, segment = active.number, "spool: a segment stays without a footer");
                self.index.closed(active.number);
            }
        }
    }

    /// Writes no more to the active segment: what of it was not committed is written again elsewhere. Its end is not
    /// cut off: where that does not last, what no start has found comes back in a later one.
    pub(super) fn abandon(&mut self, op: &'static str, error: &io::Error) {
        let Some(active) = self.active.take() else { return };
        error!(op, %error, segment = active.number, "spool: the disk refuses; what was not committed goes elsewhere");
        self.written.clear();
        self.index.closed(active.number);
    }

    /// Removes segments that hold nothing.
    pub(super) fn reap(&mut self) {
        let keep_below = self.keeps_below();
        let dead: Vec<_> = self.index.dead().filter(|number| *number >= keep_below).collect();
        for number in dead.into_iter().filter(|number| !self.unremovable.contains(number)).collect::<Vec<_>>() {
            self.files.forget(number);
            match self.files.disk.remove(&segment_name(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.unremovable.insert(number);
                    self.noted::<()>("remove", Err(error));
                }
                _ => {
                    self.sizes.remove(&number);
                    self.unsound.remove(&number);
                    self.unmovable.remove(&number);
                    self.unrescued.remove(&number);
                    self.doubted.remove(&number);
                    self.index.removed(number);
                }
            }
        }
    }
}
