//! Room on the disk that is kept for the journal: it must be able to record what a full disk does to frames.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{ErrorCode, ffi};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;
use tracing::{info, warn};

use super::JournalError;

/// How much: several tens of thousands of entries, and SQLite's log of changes at its usual size.
const SIZE: u64 = 8 << 20;

/// What must be free besides before it is kept again: or it would be taken from the very next commit.
const BESIDES: u64 = SIZE;

/// A start with less than this gives it up at once: lock, side files and recovery want room as well.
const START: u64 = 4 << 20;

/// Below this a disk that refuses to write is taken for a full one.
const NEARLY_NOTHING: u64 = 256 << 10;

/// What SQLite writes at least.
const PAGE: u64 = 4096;

/// How often it is looked whether there is room to make it again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A file that takes up room until the journal needs it.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    held: bool,
    looked: Option<Instant>,
}

impl Reserve {
    /// The reserve of a state directory: made where there is room for it, given up where there is hardly any.
    pub fn open(dir: &Path) -> Self {
        let path = dir.join("journal.reserve");
        let held = std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() == SIZE);
        let mut reserve = Self { path, held, looked: None };
        if reserve.room() < START && reserve.give_up() {
            warn!(path = %reserve.path.display(), "the disk is full: starting with the room that was kept for the journal");
        } else {
            reserve.make_again();
            if !reserve.held {
                warn!(path = %reserve.path.display(), bytes = SIZE, "no room could be kept for the journal");
            }
        }
        reserve
    }

    /// Whether more room would help against this failure of the journal.
    pub fn is_for(&self, error: &JournalError) -> bool {
        let JournalError::Sqlite(rusqlite::Error::SqliteFailure(failure, _)) = error else { return false };
        match failure.code {
            ErrorCode::DiskFull => true,
            // What SQLite says where it could not extend the file that it shares with readers, or a quota stood against
            // it.
            ErrorCode::SystemIoFailure => {
                matches!(
                    failure.extended_code,
                    ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_IOERR_SHMMAP
                ) && (self.room() < NEARLY_NOTHING || self.refuses_a_page())
            }
            _ => false,
        }
    }

    /// Gives the room back to the disk; `false` where none is held.
    pub fn give_up(&mut self) -> bool {
        self.looked = Some(Instant::now());
        std::mem::take(&mut self.held) && std::fs::remove_file(&self.path).is_ok()
    }

    /// Takes it up again where there is enough by now.
    pub fn make_again(&mut self) {
        if self.held || self.looked.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        let again = self.looked.replace(Instant::now()).is_some();
        if self.room() < SIZE + BESIDES {
            return;
        }
        match self.make() {
            Ok(()) => {
                self.held = true;
                if again {
                    info!(path = %self.path.display(), "room is kept for the journal again");
                }
            }
            Err(error) => {
                let _ = std::fs::remove_file(&self.path);
                // Tried again, and perhaps for ever where the file system cannot do it.
                tracing::debug!(path = %self.path.display(), %error, "no room could be kept for the journal");
            }
        }
    }

    fn make(&self) -> std::io::Result<()> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&self.path)?;
        Ok(fallocate(&file, FallocateFlags::empty(), 0, SIZE)?)
    }

    /// Whether the disk has no room for one page more. A quota's is nothing that a disk tells.
    fn refuses_a_page(&self) -> bool {
        let path = self.path.with_extension("page");
        let file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path);
        let asked = file.and_then(|file| match fallocate(&file, FallocateFlags::empty(), 0, PAGE) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                (&file).write_all(&[0; PAGE as usize])?;
                file.sync_data()
            }
            done => Ok(done?),
        });
        let _ = std::fs::remove_file(&path);
        asked.is_err_and(|error| matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
    }

    /// Bytes that are free on its disk, for us.
    fn room(&self) -> u64 {
        let dir = self.path.parent().expect("it lies in the state directory");
        statvfs(dir).map_or(0, |disk| disk.f_bavail * disk.f_frsize)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// A disk that has bytes for everybody and nothing for us: here it is files that are all taken.
    #[test]
    fn a_disk_that_has_room_and_gives_none_is_a_full_one() {
        let dir = tempfile::tempdir().unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=64m,nr_inodes=8,mode=700", "framehaul-test"];
        let mounted = Command::new("mount").args(mount).arg(dir.path()).status().expect("there is a mount command");
        assert!(mounted.success(), "a tmpfs cannot be mounted: run the tests as root");
        let reserve = Reserve::open(dir.path());
        let failure = |code| JournalError::Sqlite(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        let said: Vec<bool> = std::iter::once(())
            .chain((0..8).map(|n| drop(std::fs::write(dir.path().join(n.to_string()), ""))))
            .map(|()| reserve.is_for(&failure(ffi::SQLITE_IOERR_WRITE)))
            .collect();
        let (room, read) = (reserve.room(), reserve.is_for(&failure(ffi::SQLITE_IOERR_READ)));
        let left_behind = dir.path().join("journal.page").exists();
        let unmounted = Command::new("umount").arg("--lazy").arg(dir.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
        assert_eq!((said.first(), said.last()), (Some(&false), Some(&true)), "{said:?}");
        assert!(room > NEARLY_NOTHING && !read && !left_behind);
    }
}
