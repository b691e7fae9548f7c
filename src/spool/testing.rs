//! What the tests of the spool's parts share.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{Disk, DiskFile, Found, RealDisk, Record, Store, StoreSettings};
use crate::model::{CameraId, Frame, Origin, Resolved, Seq, SeqRange, UnixMicros};

pub(super) const SEGMENT: u64 = 16 * 1024;

pub(super) fn camera(name: &str) -> CameraId {
    name.parse().unwrap()
}

/// A frame whose bytes nobody mistakes for another's.
pub(super) fn record(name: &str, seq: Seq, size: usize) -> Record {
    let mut rng = fastrand::Rng::with_seed(seq + size as u64 * 1_000_003);
    let jpeg: Bytes = (0..size).map(|_| rng.u8(..)).collect();
    let crc32c = crc32c::crc32c(&jpeg);
    let frame = Frame {
        camera: camera(name),
        seq,
        session: 1 + (seq / 100) as u32,
        captured_at: UnixMicros(1_000_000 + seq as i64 * 40_000),
        width: 64,
        height: 48,
        damaged: seq.is_multiple_of(3),
        jpeg,
        crc32c,
    };
    Record { frame, key: format!("{name}/{seq:012}.jpg") }
}

pub(super) fn origin() -> Origin {
    Origin::from_random([7; 5])
}

pub(super) fn settings(segments: u64) -> StoreSettings {
    StoreSettings { origin: origin(), segment_bytes: SEGMENT, max_bytes: segments * SEGMENT }
}

pub(super) fn open(dir: &Path) -> (Store<RealDisk>, Found) {
    let (mut store, found) = Store::open(RealDisk::open(dir).unwrap(), settings(16)).unwrap();
    store.resolve(&BTreeMap::new());
    (store, found)
}

/// Appends and commits, frame by frame.
pub(super) fn fill<D: Disk>(store: &mut Store<D>, name: &str, seqs: std::ops::RangeInclusive<Seq>, size: usize) {
    for seq in seqs {
        store.append(&record(name, seq, size)).unwrap();
        assert_eq!(store.commit().unwrap().len(), 1);
    }
}

/// The seqs of all of a camera's live frames; each must be read back as it was written.
pub(super) fn live<D: Disk>(store: &mut Store<D>, name: &str, size: usize) -> Vec<Seq> {
    let mut all = Vec::new();
    loop {
        let (entries, more) = store.entries(&camera(name), all.last().copied().unwrap_or(0), 3);
        for spooled in entries {
            let read = store.read(&camera(name), spooled).unwrap();
            let expected = record(name, spooled.seq, size);
            assert_eq!((read.frame.jpeg, read.key), (expected.frame.jpeg, expected.key));
            assert_eq!(store.locate(&camera(name), spooled.seq), Some(spooled.place));
            all.push(spooled.seq);
        }
        if !more {
            return all;
        }
    }
}

pub(super) fn range(first: Seq, last: Seq) -> SeqRange {
    SeqRange { first, last }
}

pub(super) fn resolved(watermark: Seq, above: &[SeqRange]) -> Resolved {
    Resolved { watermark, above: above.to_vec() }
}

/// A disk that refuses when it is told to.
#[derive(Clone, Debug)]
pub(super) struct Moody {
    pub(super) disk: RealDisk,
    /// So many of each are refused next.
    pub(super) syncs: Arc<AtomicU32>,
    pub(super) creations: Arc<AtomicU32>,
    pub(super) writes: Arc<AtomicU32>,
    pub(super) reads: Arc<AtomicU32>,
    pub(super) truncations: Arc<AtomicU32>,
    pub(super) removals: Arc<AtomicU32>,
    /// With this error files cannot be opened; 0 for none.
    pub(super) opens: Arc<AtomicU32>,
    /// Files that cannot be opened, and why.
    pub(super) shut: Arc<Mutex<BTreeMap<String, i32>>>,
    /// Bytes of files that cannot be read.
    pub(super) bad: Arc<Mutex<BTreeMap<String, Range<u64>>>>,
    pub(super) reads_done: Arc<AtomicU32>,
    pub(super) forgets: Arc<AtomicU32>,
}

#[derive(Debug)]
pub(super) struct MoodyFile(File, Moody, String);

fn refuse(count: &AtomicU32, errno: i32) -> io::Result<()> {
    match count.fetch_update(Relaxed, Relaxed, |count| count.checked_sub(1)) {
        Ok(_) => Err(io::Error::from_raw_os_error(errno)),
        Err(_) => Ok(()),
    }
}

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

impl Moody {
    pub(super) fn open(dir: &Path) -> Self {
        Self {
            disk: RealDisk::open(dir).unwrap(),
            syncs: Arc::default(),
            creations: Arc::default(),
            writes: Arc::default(),
            reads: Arc::default(),
            truncations: Arc::default(),
            removals: Arc::default(),
            opens: Arc::default(),
            shut: Arc::default(),
            bad: Arc::default(),
            reads_done: Arc::default(),
            forgets: Arc::default(),
        }
    }
}

impl Disk for Moody {
    type File = MoodyFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn create(&self, name: &str, allocate: u64) -> io::Result<MoodyFile> {
        refuse(&self.creations, ENOSPC)?;
        Ok(MoodyFile(self.disk.create(name, allocate)?, self.clone(), name.to_owned()))
    }

    fn open(&self, name: &str) -> io::Result<MoodyFile> {
        let shut = self.shut.lock().unwrap().get(name).map(|errno| *errno as u32);
        match shut.unwrap_or_else(|| self.opens.load(Relaxed)) {
            0 => Ok(MoodyFile(Disk::open(&self.disk, name)?, self.clone(), name.to_owned())),
            errno => Err(io::Error::from_raw_os_error(errno as i32)),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        refuse(&self.removals, EIO)?;
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn directory(&self) -> Option<Arc<File>> {
        self.disk.directory()
    }
}

impl DiskFile for MoodyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.1.reads_done.fetch_add(1, Relaxed);
        refuse(&self.1.reads, EIO)?;
        let bad = self.1.bad.lock().unwrap().get(&self.2).cloned().unwrap_or_default();
        if offset < bad.end && bad.start < offset + buffer.len() as u64 {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        DiskFile::read_at(&self.0, buffer, offset)
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        refuse(&self.1.writes, EIO)?;
        DiskFile::write_at(&self.0, parts, offset)
    }

    fn sync(&self) -> io::Result<()> {
        refuse(&self.1.syncs, EIO)?;
        self.0.sync()
    }

    fn forget(&self) {
        self.1.forgets.fetch_add(1, Relaxed);
        self.0.forget();
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        refuse(&self.1.truncations, EIO)?;
        self.0.truncate(len)
    }

    fn len(&self) -> io::Result<u64> {
        DiskFile::len(&self.0)
    }
}
