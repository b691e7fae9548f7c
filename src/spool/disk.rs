//! The disk as the store uses it: one directory of files. A seam, so that a model of a disk can lose, tear and refuse.

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FallocateFlags, FileType, Mode, OFlags};
use rustix::fs::{fallocate, fstatvfs, openat, statat, unlinkat};
use rustix::io::{Errno, retry_on_intr};
use rustix::path::Arg;

/// A directory of segments.
///
/// What is created or removed is there after a crash for certain only once [`Disk::sync_dir`] has returned, what is
/// written or cut only once [`DiskFile::sync`] has.
pub trait Disk: Send + 'static {
    /// A file of it.
    type File: DiskFile;

    /// The names of everything that lies in the directory, in any order.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes a file of `allocate` zero bytes, whose room on the disk is its own from now on.
    ///
    /// # Errors
    ///
    /// When it exists, or the disk has no room for it (ENOSPC, EDQUOT, EFBIG). Nothing is left of it then.
    fn create(&self, name: &str, allocate: u64) -> io::Result<Self::File>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    ///
    /// When there is none, `IsADirectory` where it is no regular file, or when it cannot be opened.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// When there is none, or it cannot be removed.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all that was created or removed before last.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    fn sync_dir(&self) -> io::Result<()>;

    /// The directory itself, for who reads files of it beside us; `None` where it is none of the file system's.
    fn directory(&self) -> Option<Arc<File>> {
        None
    }
}

/// An open file.
#[allow(clippy::len_without_is_empty, reason = "nobody asks")]
pub trait DiskFile: Send + 'static {
    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` where the file ends before, or what the disk says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `parts`, one after the other, from `offset`. It consumes the slices.
    ///
    /// # Errors
    ///
    /// What the disk says; any part of it may have been written then.
    fn write_at(&self, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Makes all that was written or cut before last (fdatasync). Once it has failed, nobody knows what of it is on
    /// disk, whatever a second call says.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    fn sync(&self) -> io::Result<()>;

    /// Forgets what of the file the system keeps in memory and the disk has as well: what is read from now on is what
    /// the disk has.
    fn forget(&self) {}

    /// Cuts the file to `len` bytes.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Its size, bytes.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    fn len(&self) -> io::Result<u64>;
}

/// Whether an error says that these very bytes cannot be read, and not that nothing can be just now: what a medium and
/// a file system with checksums say of a bad place.
pub(super) fn is_unreadable(error: &io::Error) -> bool {
    let known = [Errno::IO, Errno::NODATA, Errno::ILSEQ, Errno::REMOTEIO, Errno::BADMSG, Errno::UCLEAN];
    error.raw_os_error().is_some_and(|code| known.iter().any(|errno| errno.raw_os_error() == code))
}

/// Opens a file of a directory that may be anything. A pipe or a device of a segment's name must not stop us, nor hear
/// from us, and a link must not lead elsewhere.
///
/// # Errors
///
/// `IsADirectory` where it is no regular file, or what the disk says.
pub(super) fn open_regular(dir: impl AsFd, name: impl Arg + Copy, access: OFlags) -> io::Result<File> {
    let stat = retry_on_intr(|| statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW))?;
    let opened = if FileType::from_raw_mode(stat.st_mode).is_file() {
        let flags = access | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        retry_on_intr(|| openat(&dir, name, flags, Mode::empty()))
    } else {
        Err(Errno::LOOP)
    };
    match opened {
        // A link may have come just now.
        Err(Errno::LOOP) => Err(io::Error::new(io::ErrorKind::IsADirectory, "it is no regular file")),
        opened => Ok(opened?.into()),
    }
}

/// A directory of the file system, which is held open: what becomes of its name, or of those above it, is nothing to
/// us.
#[derive(Clone, Debug)]
pub struct RealDisk {
    dir: PathBuf,
    open: Arc<File>,
    /// What keeps others off, for as long as this lives.
    _lock: Option<Arc<File>>,
}

impl RealDisk {
    /// Opens a directory, making it (mode 0700) with those above it where there is none.
    ///
    /// # Errors
    ///
    /// When it cannot be made or is not a directory.
    pub fn open(dir: &Path) -> io::Result<Self> {
        if !dir.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            // Of what was above it before, nobody knows how much is new; nothing is beyond the root of its file system.
            let device = fs::metadata(dir)?.dev();
            for above in dir.ancestors().skip(1).take_while(|above| !above.as_os_str().is_empty()) {
                let above = match File::open(above) {
                    // It may be passed and not looked at: so it is not ours, and was there before.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
                    opened => opened?,
                };
                if above.metadata()?.dev() != device {
                    break;
                }
                above.sync_all()?;
            }
        }
        Ok(Self { dir: dir.to_owned(), open: Arc::new(File::open(dir)?), _lock: None })
    }

    /// The same, keeping a file locked.
    pub(super) fn locked(self, lock: File) -> Self {
        Self { _lock: Some(Arc::new(lock)), ..self }
    }

    /// Where the directory was when it was opened.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Bytes that are left free on the disk, for what the journal writes: no outcome could be recorded where the spool took
/// the room that the journal gives up, and without outcomes no segment is ever free again.
pub(super) const LEFT_FREE: u64 = 16 << 20;

impl Disk for RealDisk {
    type File = File;

    fn list(&self) -> io::Result<Vec<String>> {
        let names = Dir::read_from(&self.open)?
            .map(|entry| Ok(entry.map_err(io::Error::from)?.file_name().to_string_lossy().into_owned()));
        names.filter(|name| !matches!(name.as_deref(), Ok("." | ".."))).collect()
    }

    fn create(&self, name: &str, allocate: u64) -> io::Result<File> {
        // A disk that cannot tell is asked by the allocation itself.
        let free = fstatvfs(&self.open).map_or(u64::MAX, |disk| disk.f_bavail * disk.f_frsize);
        if free < allocate + LEFT_FREE {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file: File = retry_on_intr(|| openat(&self.open, name, flags, Mode::from_raw_mode(0o600)))?.into();
        let allocated = match retry_on_intr(|| fallocate(&file, FallocateFlags::empty(), 0, allocate)) {
            // A file system without reservations: the room is found, or not, when it is written.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(allocate),
            done => done.map_err(io::Error::from),
        };
        if let Err(error) = allocated {
            // Where it stays all the same it takes no room, and the next start removes it.
            let _ = file.set_len(0);
            let _ = self.remove(name);
            return Err(error);
        }
        Ok(file)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        open_regular(&self.open, name, OFlags::RDWR)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(retry_on_intr(|| unlinkat(&self.open, name, AtFlags::empty()))?)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.open.sync_all()
    }

    fn directory(&self) -> Option<Arc<File>> {
        Some(Arc::clone(&self.open))
    }
}

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&self, mut parts: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            match rustix::io::pwritev(self, parts, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    IoSlice::advance_slices(&mut parts, written);
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn forget(&self) {
        // After a sync that failed, too, the system takes what was not written for written.
        let _ = rustix::fs::fadvise(self, 0, None, rustix::fs::Advice::DontNeed);
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_ours_alone_and_hold_what_was_written() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("spool/default");
        let disk = RealDisk::open(&dir).unwrap();
        let file = disk.create("a", 4096).unwrap();
        assert_eq!(DiskFile::len(&file).unwrap(), 4096);
        DiskFile::write_at(&file, &mut [IoSlice::new(b""), IoSlice::new(b"ab"), IoSlice::new(b"cd")], 10).unwrap();
        file.sync().unwrap();
        disk.sync_dir().unwrap();
        file.truncate(16).unwrap();
        let mut read = [1; 6];
        DiskFile::read_at(&disk.open("a").unwrap(), &mut read, 9).unwrap();
        assert_eq!(&read, b"\0abcd\0");
        let end = DiskFile::read_at(&file, &mut read, 12).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(disk.create("a", 1).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&dir), mode(&dir.join("a"))), (0o700, 0o600));
        assert_eq!(disk.list().unwrap(), ["a"]);
        disk.remove("a").unwrap();
        assert_eq!(disk.list().unwrap(), [""; 0]);
    }

    #[test]
    fn nothing_is_left_of_a_file_that_has_no_room() {
        let dir = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(dir.path()).unwrap();
        assert!(disk.create("a", 1 << 60).is_err());
        assert_eq!(disk.list().unwrap(), [""; 0]);
    }
}
