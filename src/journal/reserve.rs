//! Room on the disk that is kept for the journal: it must be able to record what a full disk does to frames.

use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{ErrorCode, ffi};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
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
            // What SQLite says where it could not extend the file that it shares with readers.
            ErrorCode::SystemIoFailure => {
                matches!(
                    failure.extended_code,
                    ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_IOERR_SHMMAP
                ) && self.room() < NEARLY_NOTHING
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

    /// Bytes that are free on its disk, for us.
    fn room(&self) -> u64 {
        let dir = self.path.parent().expect("it lies in the state directory");
        statvfs(dir).map_or(0, |disk| disk.f_bavail * disk.f_frsize)
    }
}
