//! A disk in memory that forgets what was not synced, as disks may.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};

use fastrand::Rng;
use rustix::io::Errno;

use crate::spool::{Disk, DiskFile};

/// What a disk writes as a whole or not at all.
const SECTOR: usize = 512;

/// What is asked of a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    Create,
    Open,
    Read,
    Write,
    Sync,
    Truncate,
    Remove,
    SyncDir,
}

/// How the program ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Crash {
    /// The process is killed: what it wrote is in the system's memory, and goes to the disk some time.
    Killed,
    /// The power goes: of what was not synced, anything may be there, and anything may not.
    PowerCut,
}

/// A handle on the disk; all clones are one.
#[derive(Clone, Debug)]
pub(super) struct ModelDisk(Arc<Mutex<Inner>>);

/// A handle on a file. It is of no use after a crash.
#[derive(Debug)]
pub(super) struct ModelFile {
    disk: Arc<Mutex<Inner>>,
    inode: usize,
    run: u64,
}

#[derive(Debug)]
struct Inner {
    rng: Rng,
    /// The directory as the process sees it, and as it is on the disk for certain.
    entries: BTreeMap<String, usize>,
    safe_entries: BTreeMap<String, usize>,
    /// What became of names since the directory was synced last, in order.
    unsynced_entries: Vec<(String, Option<usize>)>,
    inodes: BTreeMap<usize, Inode>,
    next_inode: usize,
    /// The most bytes that all files may take.
    capacity: u64,
    /// Counts starts: files that were opened before a crash are of no use after it.
    run: u64,
    /// The process dies in place of so many operations from now.
    dies_in: Option<u64>,
    dead: bool,
    /// These fail once each.
    failing: Vec<(Op, Errno)>,
    operations: u64,
    refused: u64,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    seen: Vec<u8>,
    /// What is on the disk for certain.
    safe: Vec<u8>,
    /// Sectors that were written since the last sync.
    dirty: BTreeSet<usize>,
    /// Sectors whose writing failed: seen as they were written, never to be written again.
    forgotten: BTreeSet<usize>,
    removed: bool,
}

impl Inode {
    fn sector(bytes: &[u8], sector: usize) -> &[u8] {
        &bytes[(sector * SECTOR).min(bytes.len())..((sector + 1) * SECTOR).min(bytes.len())]
    }

    /// Puts a sector as it is seen onto the disk; where the file is shorter there, what is beyond waits for its length.
    fn write_back(&mut self, sector: usize) {
        let now = Self::sector(&self.seen, sector);
        let at = sector * SECTOR;
        if self.safe.len() < at + now.len() {
            self.safe.resize(at + now.len(), 0);
        }
        self.safe[at..at + now.len()].copy_from_slice(now);
    }

    fn write(&mut self, part: &[u8], at: usize) {
        if self.seen.len() < at + part.len() {
            self.seen.resize(at + part.len(), 0);
        }
        self.seen[at..at + part.len()].copy_from_slice(part);
        let sectors = at / SECTOR..(at + part.len()).div_ceil(SECTOR);
        self.forgotten.retain(|sector| !sectors.contains(sector));
        self.dirty.extend(sectors);
    }

    fn synced(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.write_back(sector);
        }
        self.safe.resize(self.seen.len(), 0);
    }

    /// A sync that failed: any of it may have reached the disk, and the rest counts as clean from now on.
    fn sync_failed(&mut self, rng: &mut Rng) {
        for sector in std::mem::take(&mut self.dirty) {
            if rng.bool() {
                self.write_back(sector);
            } else {
                self.forgotten.insert(sector);
            }
        }
        if rng.bool() {
            self.safe.resize(self.seen.len(), 0);
        }
    }

    /// What a memory without the sectors that failed shows: what the disk has of them.
    fn evict_forgotten(&mut self) {
        for sector in std::mem::take(&mut self.forgotten) {
            let at = sector * SECTOR;
            let end = (at + SECTOR).min(self.seen.len());
            for place in at..end {
                self.seen[place] = self.safe.get(place).copied().unwrap_or_default();
            }
        }
    }

    /// The power goes: each unsynced sector, and the length, is as it was or as it was to be.
    fn power_cut(&mut self, rng: &mut Rng) {
        self.evict_forgotten();
        let dirty: Vec<usize> = std::mem::take(&mut self.dirty).into_iter().collect();
        let len = if rng.bool() { self.seen.len() } else { self.safe.len() };
        // All, none, a beginning, or any of them.
        let manner = rng.u8(0..4);
        let until = rng.usize(0..=dirty.len());
        for (nth, sector) in dirty.into_iter().enumerate() {
            let kept = match manner {
                0 => true,
                1 => false,
                2 => nth < until,
                _ => rng.bool(),
            };
            if kept {
                self.write_back(sector);
            }
        }
        self.safe.resize(len, 0);
        self.seen.clone_from(&self.safe);
    }
}

impl Inner {
    /// Counts an operation, and refuses it where it is to fail.
    fn begin(&mut self, op: Op) -> io::Result<()> {
        if !self.dead {
            self.dead = self.dies_in == Some(0);
            self.dies_in = self.dies_in.map(|left| left.saturating_sub(1));
        }
        if self.dead {
            return Err(Errno::IO.into());
        }
        self.operations += 1;
        let Some(place) = self.failing.iter().position(|(failing, _)| *failing == op) else { return Ok(()) };
        self.refused += 1;
        Err(self.failing.remove(place).1.into())
    }

    fn size(&self) -> u64 {
        self.inodes.values().filter(|inode| !inode.removed).map(|inode| inode.seen.len() as u64).sum()
    }

    /// Now and then the system writes of itself.
    fn write_back_some(&mut self, inode: usize) {
        if self.rng.u8(0..4) > 0 {
            return;
        }
        let file = self.inodes.get_mut(&inode).expect("it is open");
        let some: Vec<usize> = file.dirty.iter().copied().filter(|_| self.rng.bool()).collect();
        for sector in some {
            file.write_back(sector);
        }
    }
}

impl ModelDisk {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            rng: Rng::with_seed(seed),
            entries: BTreeMap::new(),
            safe_entries: BTreeMap::new(),
            unsynced_entries: Vec::new(),
            inodes: BTreeMap::new(),
            next_inode: 0,
            capacity: u64::MAX,
            run: 0,
            dies_in: None,
            dead: false,
            failing: Vec::new(),
            operations: 0,
            refused: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// The process dies in place of the operation that comes after `operations` more.
    pub(super) fn die_in(&self, operations: u64) {
        self.lock().dies_in = Some(operations);
    }

    /// The process dies no more, if it has not died yet.
    pub(super) fn live_on(&self) {
        self.lock().dies_in = None;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// The next `op` fails.
    pub(super) fn fail(&self, op: Op, error: Errno) {
        self.lock().failing.push((op, error));
    }

    /// Nothing fails any more.
    pub(super) fn heal(&self) {
        self.lock().failing.clear();
    }

    /// How many operations were refused.
    pub(super) fn refused(&self) -> u64 {
        self.lock().refused
    }

    /// How many were done.
    pub(super) fn operations(&self) -> u64 {
        self.lock().operations
    }

    pub(super) fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = bytes;
    }

    /// Bytes that all files take.
    pub(super) fn size(&self) -> u64 {
        self.lock().size()
    }

    /// The process ends, and the disk is as it is found at the next start.
    pub(super) fn crash(&self, crash: Crash) {
        let inner = &mut *self.lock();
        inner.run += 1;
        (inner.dead, inner.dies_in) = (false, None);
        inner.failing.clear();
        if crash == Crash::Killed {
            inner.inodes.values_mut().for_each(Inode::evict_forgotten);
            return;
        }
        // Of each name, any number of its first changes has reached the disk.
        let mut stopped = BTreeSet::new();
        for (name, inode) in std::mem::take(&mut inner.unsynced_entries) {
            if stopped.contains(&name) || inner.rng.bool() {
                stopped.insert(name);
                continue;
            }
            match inode {
                Some(inode) => inner.safe_entries.insert(name, inode),
                None => inner.safe_entries.remove(&name),
            };
        }
        inner.entries = inner.safe_entries.clone();
        let there: BTreeSet<usize> = inner.entries.values().copied().collect();
        inner.inodes.retain(|inode, _| there.contains(inode));
        for inode in inner.inodes.values_mut() {
            inode.removed = false;
            inode.power_cut(&mut inner.rng);
        }
    }

    /// All files, as they are seen.
    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let inner = self.lock();
        inner.entries.iter().map(|(name, inode)| (name.clone(), inner.inodes[inode].seen.clone())).collect()
    }

    /// A disk on which these files lie, for good.
    pub(super) fn with_files(seed: u64, files: &BTreeMap<String, Vec<u8>>) -> Self {
        let disk = Self::new(seed);
        let mut inner = disk.lock();
        for (inode, (name, bytes)) in files.iter().enumerate() {
            inner.inodes.insert(inode, Inode { seen: bytes.clone(), safe: bytes.clone(), ..Inode::default() });
            inner.entries.insert(name.clone(), inode);
        }
        inner.next_inode = files.len();
        inner.safe_entries = inner.entries.clone();
        drop(inner);
        disk
    }
}

impl Disk for ModelDisk {
    type File = ModelFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().entries.keys().cloned().collect())
    }

    fn create(&self, name: &str, allocate: u64) -> io::Result<ModelFile> {
        let mut inner = self.lock();
        inner.begin(Op::Create)?;
        if inner.entries.contains_key(name) {
            return Err(Errno::EXIST.into());
        }
        if inner.size() + allocate > inner.capacity {
            inner.refused += 1;
            return Err(Errno::NOSPC.into());
        }
        let number = inner.next_inode;
        inner.next_inode += 1;
        inner.inodes.insert(number, Inode { seen: vec![0; allocate as usize], ..Inode::default() });
        inner.entries.insert(name.to_owned(), number);
        inner.unsynced_entries.push((name.to_owned(), Some(number)));
        Ok(ModelFile { disk: self.0.clone(), inode: number, run: inner.run })
    }

    fn open(&self, name: &str) -> io::Result<ModelFile> {
        let mut inner = self.lock();
        inner.begin(Op::Open)?;
        let inode = *inner.entries.get(name).ok_or(Errno::NOENT)?;
        Ok(ModelFile { disk: self.0.clone(), inode, run: inner.run })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.begin(Op::Remove)?;
        let inode = inner.entries.remove(name).ok_or(Errno::NOENT)?;
        inner.unsynced_entries.push((name.to_owned(), None));
        inner.inodes.get_mut(&inode).expect("it has an entry").removed = true;
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut inner = self.lock();
        inner.begin(Op::SyncDir)?;
        inner.unsynced_entries.clear();
        inner.safe_entries = inner.entries.clone();
        Ok(())
    }
}

impl ModelFile {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        let inner = self.disk.lock().unwrap();
        assert_eq!(inner.run, self.run, "a file that was opened before the crash is used after it");
        inner
    }
}

impl DiskFile for ModelFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut inner = self.lock();
        inner.begin(Op::Read)?;
        let seen = &inner.inodes[&self.inode].seen;
        let begin = usize::try_from(offset).map_err(|_| Errno::INVAL)?;
        let bytes = begin.checked_add(buffer.len()).and_then(|end| seen.get(begin..end));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let inner = &mut *self.lock();
        let mut begun = inner.begin(Op::Write);
        if inner.dead {
            return begun;
        }
        inner.write_back_some(self.inode);
        let mut bytes = Vec::new();
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        let growth = (offset + bytes.len() as u64).saturating_sub(inner.inodes[&self.inode].seen.len() as u64);
        if begun.is_ok() && growth > 0 && inner.size() + growth > inner.capacity {
            inner.refused += 1;
            begun = Err(Errno::NOSPC.into());
        }
        // Of a write that fails, any beginning may have happened.
        let done = if begun.is_ok() { bytes.len() } else { inner.rng.usize(0..=bytes.len()) };
        inner.inodes.get_mut(&self.inode).expect("it is open").write(&bytes[..done], offset as usize);
        begun
    }

    fn sync(&self) -> io::Result<()> {
        let inner = &mut *self.lock();
        let begun = inner.begin(Op::Sync);
        if inner.dead {
            return begun;
        }
        let file = inner.inodes.get_mut(&self.inode).expect("it is open");
        match begun {
            Ok(()) => file.synced(),
            Err(_) => file.sync_failed(&mut inner.rng),
        }
        begun
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let mut inner = self.lock();
        inner.begin(Op::Truncate)?;
        let file = inner.inodes.get_mut(&self.inode).expect("it is open");
        file.seen.resize(len as usize, 0);
        let sectors = (len as usize).div_ceil(SECTOR);
        file.dirty.retain(|sector| *sector < sectors);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().inodes[&self.inode].seen.len() as u64)
    }
}

mod proofs {
    use super::*;

    fn write(file: &ModelFile, bytes: &[u8], at: u64) -> io::Result<()> {
        file.write_at(&mut [IoSlice::new(bytes)], at)
    }

    /// What is found of one file after a crash, over many seeds.
    fn outcomes(work: impl Fn(&ModelDisk), crash: Crash) -> BTreeSet<Option<Vec<u8>>> {
        let found = (0..300).map(|seed| {
            let disk = ModelDisk::new(seed);
            work(&disk);
            disk.crash(crash);
            disk.files().remove("a")
        });
        found.collect()
    }

    #[test]
    fn only_what_was_synced_is_certain() {
        let synced = |disk: &ModelDisk| {
            let file = disk.create("a", 1024).unwrap();
            write(&file, &[1; 1024], 0).unwrap();
            file.sync().unwrap();
            disk.sync_dir().unwrap();
        };
        assert_eq!(outcomes(synced, Crash::PowerCut), [Some(vec![1; 1024])].into());
        let rewritten = |disk: &ModelDisk| {
            synced(disk);
            write(&disk.open("a").unwrap(), &[2; 1024], 0).unwrap();
        };
        let half = |first: u8, second: u8| Some([[first; 512], [second; 512]].concat());
        assert_eq!(
            outcomes(rewritten, Crash::PowerCut),
            [half(1, 1), half(1, 2), half(2, 1), half(2, 2)].into(),
            "each sector is old or new"
        );
        assert_eq!(outcomes(rewritten, Crash::Killed), [half(2, 2)].into(), "the system's memory outlives the process");
        let removed = |disk: &ModelDisk| {
            synced(disk);
            disk.remove("a").unwrap();
        };
        assert_eq!(outcomes(removed, Crash::PowerCut), [None, half(1, 1)].into());
        assert_eq!(outcomes(removed, Crash::Killed), [None].into());
        let made = |disk: &ModelDisk| drop(disk.create("a", 512).unwrap());
        assert_eq!(outcomes(made, Crash::PowerCut), [None, Some(vec![]), Some(vec![0; 512])].into());
        let cut = |disk: &ModelDisk| {
            synced(disk);
            disk.open("a").unwrap().truncate(512).unwrap();
        };
        assert_eq!(outcomes(cut, Crash::PowerCut), [half(1, 1), Some(vec![1; 512])].into());
    }

    #[test]
    fn a_second_sync_does_not_bring_back_what_the_first_one_lost() {
        let failed = |disk: &ModelDisk| {
            let file = disk.create("a", 512).unwrap();
            disk.sync_dir().unwrap();
            file.sync().unwrap();
            write(&file, &[1; 512], 0).unwrap();
            disk.fail(Op::Sync, Errno::IO);
            assert!(file.sync().is_err());
            assert!(file.sync().is_ok());
            let mut read = [0; 512];
            file.read_at(&mut read, 0).unwrap();
            assert_eq!(read, [1; 512], "it still looks as if it were there");
        };
        assert_eq!(outcomes(failed, Crash::PowerCut), [Some(vec![0; 512]), Some(vec![1; 512])].into());
    }

    #[test]
    fn what_is_asked_of_a_dead_process_does_not_happen() {
        let disk = ModelDisk::new(1);
        let file = disk.create("a", 512).unwrap();
        disk.die_in(1);
        write(&file, &[1; 100], 0).unwrap();
        assert!(write(&file, &[2; 100], 0).is_err() && disk.is_dead());
        assert!(file.sync().is_err() && disk.sync_dir().is_err());
        disk.crash(Crash::Killed);
        assert_eq!(&disk.files()["a"][..100], &[1; 100]);
    }

    #[test]
    fn a_full_disk_says_so_and_keeps_what_it_has() {
        let disk = ModelDisk::new(1);
        disk.set_capacity(1024);
        drop(disk.create("a", 1000).unwrap());
        let error = disk.create("b", 100).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
        assert_eq!((disk.list().unwrap(), disk.size(), disk.refused()), (vec!["a".to_owned()], 1000, 1));
    }
}
