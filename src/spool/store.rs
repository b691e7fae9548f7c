//! The spool without its thread: frames in, frames out, and what a crash may leave of it.
//!
//! A segment is made with all its room, its header and its name are on disk before its first record is, and a record
//! counts once a sync that covers it has succeeded. After a failed one nobody knows what the disk has, so the segment
//! is written no more, and what was not committed, which is still in memory, is written again elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::sync::Arc;

use tracing::error;

use super::disk::Disk;
use super::footer::Entry;
use super::format::{LONGEST_HEADER, RecordHeader, Salt};
use super::index::Index;
use super::segment::{Active, Files};
use super::{Place, Record, SpoolStatus, Spooled};
use crate::config::WhenFull;
use crate::model::{CameraId, Origin, Resolved, Seq, SeqRange, SpooledCamera, UnixMicros};

/// What a store is made with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreSettings {
    /// Whose frames these are.
    pub origin: Origin,
    /// Size of a segment; a frame that is larger gets a segment of its own size.
    pub segment_bytes: u64,
    /// The most that all segments may take.
    pub max_bytes: u64,
}

/// What lay in a spool when it was opened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// The frames in it, whether their outcome is known or not.
    pub cameras: BTreeMap<CameraId, SpooledCamera>,
    /// Stretches of segments, or whole segments, that could not be read as what they should be.
    pub damaged: u64,
    /// Segments whose last write a crash had cut off; no frame of it was ever counted.
    pub torn: u64,
    /// Files that are no segments of this daemon.
    pub foreign: u64,
}

/// Why a frame is not in the spool.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The segments take all they may, or the disk is full.
    #[error("spool: no room")]
    NoRoom,
    /// The frame would take more than the spool may.
    #[error("spool: the frame is larger than the spool")]
    TooLarge,
    /// The disk refused.
    #[error("spool: {0}")]
    Io(#[from] io::Error),
}

impl AppendError {
    pub(super) fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::NoRoom,
            _ => Self::Io(error),
        }
    }
}

/// Frames on disk.
#[derive(Debug)]
pub struct Store<D: Disk> {
    pub(super) files: Files<D>,
    pub(super) settings: StoreSettings,
    pub(super) index: Index,
    /// Bytes of each segment, also of those that cannot be read.
    pub(super) sizes: BTreeMap<u64, u64>,
    pub(super) active: Option<Active<D::File>>,
    /// The next segment's number.
    pub(super) next: u64,
    /// Segments whose content the disk did not confirm: nothing that lies before them goes until it lies elsewhere.
    pub(super) unsound: BTreeSet<u64>,
    /// Segments that copying forward has found damage in, or of which something is missing.
    pub(super) unmovable: BTreeSet<u64>,
    /// Segments of which it was told that the disk did not confirm them, and that they could not be copied.
    pub(super) unrescued: BTreeSet<u64>,
    /// Segments whose footer could not be read when it was needed, and how often they were looked through in vain: what
    /// they hold is not known.
    pub(super) doubted: BTreeMap<u64, u32>,
    /// Segments that hold nothing and could not be removed.
    pub(super) unremovable: BTreeSet<u64>,
    /// Appended and not committed, in their order.
    pending: VecDeque<Record>,
    /// Where the first of them were written.
    pub(super) written: Vec<Place>,
    done: Vec<(Record, Place)>,
    pub(super) io_errors: Vec<&'static str>,
    /// The size of the segment that was refused last.
    pub(super) wanted: u64,
    pub(super) disk_full: bool,
    /// What to do where there is no room, for the thread.
    pub(super) when_full: WhenFull,
    oldest: BTreeMap<CameraId, (Seq, UnixMicros)>,
}

impl<D: Disk> Store<D> {
    pub(super) fn new(disk: D, settings: StoreSettings) -> Self {
        Self {
            files: Files::new(disk),
            wanted: settings.segment_bytes,
            settings,
            index: Index::default(),
            sizes: BTreeMap::new(),
            active: None,
            next: 1,
            unsound: BTreeSet::new(),
            unmovable: BTreeSet::new(),
            unrescued: BTreeSet::new(),
            doubted: BTreeMap::new(),
            unremovable: BTreeSet::new(),
            pending: VecDeque::new(),
            written: Vec::new(),
            done: Vec::new(),
            io_errors: Vec::new(),
            disk_full: false,
            when_full: WhenFull::DropOldest,
            oldest: BTreeMap::new(),
        }
    }

    /// Writes a frame, which counts after the next [`Store::commit`]. Where an error comes back the store has not taken
    /// it.
    ///
    /// # Errors
    ///
    /// When there is no room, or the disk refuses twice.
    pub fn append(&mut self, record: &Record) -> Result<(), AppendError> {
        let length = RecordHeader::of(record).map(|header| self.alone(&header.camera, header.total()));
        // Beside the largest, there must be room for a segment to copy forward into.
        if length.is_none_or(|length| {
            length > u32::MAX.into() || length + self.settings.segment_bytes > self.settings.max_bytes
        }) {
            return Err(AppendError::TooLarge);
        }
        self.pending.push_back(record.clone());
        self.write_pending().inspect_err(|_| {
            if self.written.len() < self.pending.len() {
                self.pending.pop_back();
            }
        })
    }

    /// Makes what was appended before last, and returns it: each frame once, in the order in which they were appended.
    ///
    /// # Errors
    ///
    /// When that fails, also in another segment. The frames stay in memory, for the next commit.
    pub fn commit(&mut self) -> Result<Vec<(Record, Place)>, AppendError> {
        match self.flush() {
            Err(error) if self.done.is_empty() => Err(error),
            _ => Ok(std::mem::take(&mut self.done)),
        }
    }

    /// Frames that were appended and that no [`Store::commit`] has returned.
    pub fn uncommitted(&self) -> usize {
        self.pending.len() + self.done.len()
    }

    /// Whether some of them are on disk all the same, and live.
    pub fn has_untold(&self) -> bool {
        !self.done.is_empty()
    }

    /// Drops what the journal has outcomes of.
    pub fn resolve(&mut self, resolved: &BTreeMap<CameraId, Resolved>) {
        for (camera, resolved) in resolved {
            if resolved.watermark > 0 {
                self.settle(camera, SeqRange { first: 1, last: resolved.watermark });
            }
            resolved.above.iter().for_each(|seqs| self.settle(camera, *seqs));
        }
        self.rescue();
        self.reap();
    }

    /// Takes note that the journal has these seqs' outcomes; segments that hold nothing else go.
    pub fn settle(&mut self, camera: &CameraId, seqs: SeqRange) {
        for unread in self.index.settle(camera, seqs, &self.files) {
            self.mend(unread);
        }
        self.reap();
    }

    /// Takes note that these seqs are given up: they are live no more, but their segments stay until they are settled.
    pub fn leave(&mut self, camera: &CameraId, seqs: SeqRange) {
        for unread in self.index.leave(camera, seqs, &self.files) {
            self.mend(unread);
        }
    }

    /// A camera's live frames after a seq, in order, `limit` at most, and whether there are more. None where the disk
    /// refuses.
    pub fn entries(&mut self, camera: &CameraId, after: Seq, limit: usize) -> (Vec<Spooled>, bool) {
        self.try_entries(camera, after, limit).unwrap_or_default()
    }

    /// The same; `None` where the disk refuses.
    pub(super) fn try_entries(&mut self, camera: &CameraId, after: Seq, limit: usize) -> Option<(Vec<Spooled>, bool)> {
        self.ask(|index, files| index.entries(camera, after, limit, files))
    }

    /// Where a frame lies, if the journal does not have its outcome.
    pub fn locate(&mut self, camera: &CameraId, seq: Seq) -> Option<Place> {
        self.try_locate(camera, seq).flatten()
    }

    /// The same; `None` in its outer layer where the disk refuses.
    pub(super) fn try_locate(&mut self, camera: &CameraId, seq: Seq) -> Option<Option<Place>> {
        self.ask(|index, files| index.locate(camera, seq, files))
    }

    /// Frames that were given up, but are not settled.
    pub fn left(&self) -> u64 {
        self.index.left()
    }

    /// Whether there are any, also such as could not be counted because the disk refused.
    pub(super) fn waits_for_outcomes(&self) -> bool {
        self.index.any_left()
    }

    /// The first seq of the camera after `after` that may be live in a segment of this number or a higher one.
    pub(super) fn first_from_segment(&self, camera: &CameraId, number: u64, after: Seq) -> Option<Seq> {
        self.index.first_from_segment(camera, number, after)
    }

    /// What each camera has that is live: frames, and bytes of their records.
    pub fn live(&self) -> impl Iterator<Item = (&CameraId, u64, u64)> {
        self.index.live()
    }

    /// Bytes of a camera's live frames.
    pub(super) fn live_bytes(&self, camera: &CameraId) -> u64 {
        self.index.live_bytes(camera)
    }

    pub(super) fn segment_bytes(&self) -> u64 {
        self.settings.segment_bytes
    }

    /// How it stands; `full` and `oldest` are left open.
    pub fn status(&self) -> SpoolStatus {
        let (frames, bytes) = self.index.all_live();
        #[cfg(test)]
        assert_eq!((frames, bytes), self.live().fold((0, 0), |(frames, bytes), (_, f, b)| (frames + f, bytes + b)));
        SpoolStatus {
            frames,
            bytes,
            segments: self.sizes.len() as u64,
            size: self.size(),
            max_size: self.settings.max_bytes,
            oldest: None,
            full: false,
        }
    }

    /// When the oldest live frame was captured.
    pub fn oldest(&mut self) -> Option<UnixMicros> {
        let cameras: Vec<CameraId> = self.live().map(|(camera, ..)| camera.clone()).collect();
        let mut known = std::mem::take(&mut self.oldest);
        for camera in cameras {
            let Some(first) = self.entries(&camera, 0, 1).0.first().copied() else { continue };
            let captured_at = match known.remove(&camera) {
                Some((seq, captured_at)) if seq == first.seq => Some(captured_at),
                // Where nobody can tell, it is no older than those beside it.
                _ => {
                    let header = self.read_header(first.place);
                    header.map(|header| header.captured_at).or_else(|| self.index.oldest(&camera))
                }
            };
            self.oldest.extend(captured_at.map(|captured_at| (camera, (first.seq, captured_at))));
        }
        self.oldest.values().map(|(_, captured_at)| *captured_at).min()
    }

    /// What the disk refused since this was asked last: "write", "sync", "allocate", "read", "remove".
    pub fn take_io_errors(&mut self) -> Vec<&'static str> {
        std::mem::take(&mut self.io_errors)
    }

    /// Commits, and gives the segment that is being written its footer, so that the next start need not read it.
    ///
    /// # Errors
    ///
    /// As [`Store::commit`].
    pub fn close(&mut self) -> Result<Vec<(Record, Place)>, AppendError> {
        let committed = self.commit();
        if self.pending.is_empty() {
            self.seal();
            self.reap();
        }
        committed
    }

    /// Gives up what was appended and not committed.
    pub fn give_up(&mut self) -> Vec<Record> {
        self.written.clear();
        self.pending.drain(..).collect()
    }

    /// Whether the disk had no room for a segment when one was last wanted.
    pub fn disk_is_full(&self) -> bool {
        self.disk_full
    }

    /// Whose frames these are.
    pub fn origin(&self) -> &Origin {
        &self.settings.origin
    }

    /// The directory of its segments, as [`Disk::directory`].
    pub(super) fn directory(&self) -> Option<Arc<File>> {
        self.files.disk.directory()
    }

    /// Passes a result on as what there is of it, and counts and logs an error.
    pub(super) fn noted<T>(&mut self, op: &'static str, result: io::Result<T>) -> Option<T> {
        result
            .inspect_err(|error| {
                error!(op, %error, "spool: the disk refuses");
                self.io_errors.push(op);
            })
            .ok()
    }

    fn read_header(&mut self, place: Place) -> Option<RecordHeader> {
        let mut bytes = vec![0; LONGEST_HEADER.min(place.length as usize)];
        let read = self.files.read_at(place.segment, &mut bytes, place.offset.into());
        self.noted("read", read)?;
        RecordHeader::parse(&bytes, Salt::new(&self.settings.origin, place.segment), place.offset.into())
    }

    pub(super) fn flush(&mut self) -> Result<(), AppendError> {
        // A second segment that cannot be synced either is the disk's, not the segment's.
        let mut retried = false;
        loop {
            self.write_pending()?;
            match self.sync_written() {
                Ok(()) => return Ok(()),
                Err(error) if retried => return Err(error.into()),
                Err(_) => retried = true,
            }
        }
    }

    /// Writes those of the pending frames that are not written.
    fn write_pending(&mut self) -> Result<(), AppendError> {
        let mut failed = false;
        while let Some(record) = self.pending.get(self.written.len()).cloned() {
            let header = RecordHeader::of(&record).ok_or(AppendError::TooLarge)?;
            if !self.active.as_ref().is_some_and(|active| active.fits(&header.camera, header.total())) {
                self.sync_written()?;
                self.seal();
                self.begin(self.alone(&header.camera, header.total()), self.limit(), header.captured_at)?;
            }
            let Some(active) = &mut self.active else { return Err(AppendError::NoRoom) };
            match active.write(&header, &record.frame.jpeg) {
                Ok(place) => self.written.push(place),
                Err(error) => {
                    self.io_errors.push("write");
                    self.abandon("write", &error);
                    if std::mem::replace(&mut failed, true) {
                        return Err(AppendError::of(error));
                    }
                }
            }
        }
        Ok(())
    }

    /// Syncs what is written, and takes it into the index.
    fn sync_written(&mut self) -> io::Result<()> {
        let Some(active) = self.active.as_mut().filter(|_| !self.written.is_empty()) else { return Ok(()) };
        if let Err(error) = active.sync() {
            self.io_errors.push("sync");
            self.abandon("sync", &error);
            return Err(error);
        }
        let written = std::mem::take(&mut self.written);
        for (record, place) in self.pending.drain(..written.len()).zip(written) {
            let frame = &record.frame;
            let entry = Entry { seq: frame.seq, offset: place.offset, length: place.length };
            self.index.add(&frame.camera, place.segment, entry, frame.captured_at, frame.session);
            self.done.push((record, place));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
