//! Opening a spool for one daemon alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tracing::warn;

use super::disk::RealDisk;
use super::handle::stream;
use super::store::{Found, Store, StoreSettings};
use crate::config::SpoolSettings;
use crate::model::{DestinationName, Origin};

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
    /// Not all that lies there can be taken in.
    #[error("cannot open the spool {dir}: {error}")]
    Segments {
        /// The spool's directory.
        dir: PathBuf,
        /// Which file, and what about it.
        error: io::Error,
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

/// A destination's part of a spool.
#[derive(Debug)]
pub struct Stream {
    /// The destination.
    pub name: DestinationName,
    /// Its frames.
    pub store: Store<RealDisk>,
    /// What lay there.
    pub found: Found,
    /// The directory of its segments.
    pub dir: PathBuf,
}

/// Opens the spool of a daemon that has one destination, `default`.
///
/// # Errors
///
/// As [`open_all`].
pub fn open(settings: &SpoolSettings, origin: &Origin) -> Result<(Store<RealDisk>, Found), OpenError> {
    let mut streams = open_all(settings, origin, [&DestinationName::default()], [])?;
    let Stream { store, found, .. } = streams.remove(0);
    Ok((store, found))
}

/// Opens the spool of a daemon with this origin, making it where there is none: the parts of the destinations that are
/// `wanted`, and of the `former` ones those that hold frames; by name. What else lies in its directory is left alone.
///
/// # Errors
///
/// When another daemon has it, or it cannot be read and written.
pub fn open_all<'a>(
    settings: &SpoolSettings,
    origin: &Origin,
    wanted: impl IntoIterator<Item = &'a DestinationName>,
    former: impl IntoIterator<Item = &'a DestinationName>,
) -> Result<Vec<Stream>, OpenError> {
    let dir = &settings.dir;
    let failed = |error| OpenError::Io { dir: dir.clone(), error };
    RealDisk::open(dir).map_err(failed)?;
    let lock = lock(dir)?;
    let open = |name: &DestinationName| {
        let dir = stream(dir, name);
        let failed = |error| OpenError::Io { dir: dir.clone(), error };
        // The lock is let go with the last of them.
        let disk = lock.try_clone().and_then(|lock| Ok(RealDisk::open(&dir)?.locked(lock))).map_err(failed)?;
        let (segment_bytes, max_bytes) = (settings.segment, settings.max_bytes);
        let settings_of_store = StoreSettings { origin: origin.clone(), segment_bytes, max_bytes };
        let (mut store, found) =
            Store::open(disk, settings_of_store).map_err(|error| OpenError::Segments { dir: dir.clone(), error })?;
        store.when_full = settings.when_full;
        Ok(Stream { name: name.clone(), store, found, dir })
    };
    let mut streams = wanted.into_iter().map(open).collect::<Result<Vec<_>, OpenError>>()?;
    for name in former {
        // Not knowing what is there would be to tell its frames as lost.
        let there = stream(dir, name).try_exists().map_err(failed)?;
        if there && !streams.iter().any(|stream| stream.name == *name) {
            let stream = open(name)?;
            if !stream.found.cameras.is_empty() {
                streams.push(stream);
            }
        }
    }
    streams.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(streams)
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
            let pid = Some(pid.trim()).filter(|pid| !pid.is_empty()).unwrap_or("unknown").to_owned();
            return Err(OpenError::InUse { dir: dir.to_owned(), pid });
        }
        Err(error) => return Err(failed(error.into())),
    }
    // Only a help for people: the lock itself is the kernel's, and ends with the process. A full disk has no room for
    // it.
    let pid = format!("{}\n", std::process::id());
    if let Err(error) = file.write_all_at(pid.as_bytes(), 0).and_then(|()| file.set_len(pid.len() as u64)) {
        warn!(%error, "spool: the lock does not say whose it is");
    }
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
        // The other may not have come to that yet.
        let path = settings.dir.join("lock");
        std::fs::write(&path, "").unwrap();
        let other = File::open(&path).unwrap();
        flock(&other, FlockOperation::LockExclusive).unwrap();
        let error = open(&settings, &origin()).unwrap_err().to_string();
        assert!(error.contains("in use by process unknown"), "{error}");
    }

    #[test]
    fn a_full_disk_stops_nobody_from_locking() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.path().join("lock")).unwrap();
        lock(dir.path()).unwrap();
    }
}
