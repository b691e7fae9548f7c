//! Opening a spool for one daemon alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::disk::RealDisk;
use super::handle::stream;
use super::store::{Found, Store, StoreSettings};
use crate::config::SpoolSettings;
use crate::model::Origin;

/// Why a spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon has it.
    #[error("the spool {dir} is in use by process {pid}: stop that, or give this daemon another spool.dir")]
    InUse {
        /// The spool's directory.
        dir: PathBuf,
        /// The other's process id, as it wrote it.
        pid: String,
    },
    /// The disk does not let us.
    #[error("cannot open the spool {dir}: {error}; see that spool.dir belongs to this user and can be written")]
    Io {
        /// The spool's directory.
        dir: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Opens the spool of a daemon with this origin, making it where there is none.
///
/// # Errors
///
/// When another daemon has it, or it cannot be read and written.
pub fn open(settings: &SpoolSettings, origin: &Origin) -> Result<(Store<RealDisk>, Found), OpenError> {
    let dir = &settings.dir;
    let failed = |error| OpenError::Io { dir: dir.clone(), error };
    RealDisk::open(dir).map_err(failed)?;
    let lock = lock(dir)?;
    let disk = RealDisk::open(&stream(dir)).map_err(failed)?.locked(lock);
    let (segment_bytes, max_bytes) = (settings.segment, settings.max_bytes);
    let settings_of_store = StoreSettings { origin: origin.clone(), segment_bytes, max_bytes };
    let (mut store, found) = Store::open(disk, settings_of_store).map_err(failed)?;
    store.when_full = settings.when_full;
    Ok((store, found))
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let failed = |error| OpenError::Io { dir: dir.to_owned(), error };
    let path = dir.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            return Err(OpenError::InUse { dir: dir.to_owned(), pid: pid.trim().to_owned() });
        }
        Err(error) => return Err(failed(error.into())),
    }
    // Only a help for people: the lock itself is the kernel's, and ends with the process.
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Durability, WhenFull};
    use crate::spool::testing::origin;

    #[test]
    fn a_spool_has_one_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let settings = SpoolSettings {
            durability: Durability::Disk,
            dir: dir.path().join("spool"),
            max_bytes: 4 << 20,
            segment: 1 << 20,
            when_full: WhenFull::DropNewest,
        };
        let (store, _) = open(&settings, &origin()).unwrap();
        assert_eq!(store.when_full, WhenFull::DropNewest);
        let error = open(&settings, &origin()).unwrap_err();
        assert!(matches!(&error, OpenError::InUse { pid, .. } if *pid == std::process::id().to_string()), "{error}");
        drop(store);
        open(&settings, &origin()).unwrap();
    }
}
