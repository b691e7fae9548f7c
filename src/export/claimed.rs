//! Directories that belong to one running export: for as long as it runs nobody takes them, and after it anybody clears
//! them away, however it ended.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;

use crate::model::Origin;
use crate::storage::staging;

/// Exports of one recorder into one directory at the same time, at most.
const AT_ONCE: u32 = 64;
/// How directories of workshops are called.
const WORKSHOP: &str = "framehaul-export-";

/// Makes a directory where there is none, and takes it; `None` where somebody else has it.
fn take(dir: &Path) -> io::Result<Option<File>> {
    loop {
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let held = match File::open(dir) {
            // Somebody has just cleared it away.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            opened => opened?,
        };
        match held.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // It may have been cleared away between the two, and another one stands in its place.
        let (ours, there) = (held.metadata()?, fs::metadata(dir));
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            return Ok(Some(held));
        }
    }
}

/// The origin by which objects of an export lie in a directory until they are whole. A later export of the same recorder
/// has the same, and so clears away what one that was killed has left half-written; one that runs at the same time has
/// another one. It is held for as long as the file is.
pub(super) fn origin(dir: &Path, server: &str) -> io::Result<(Origin, File)> {
    for slot in 0..AT_ONCE {
        let sum = Sha256::digest(format!("export\0{slot}\0{server}"));
        let origin = Origin::from_random(std::array::from_fn(|place| sum[place]));
        let staging = staging(dir, &origin);
        fs::create_dir_all(staging.parent().unwrap_or(dir))?;
        if let Some(held) = take(&staging)? {
            return Ok((origin, held));
        }
    }
    Err(io::Error::other(format!("{AT_ONCE} exports of this recorder into it go on at the same time")))
}

/// A private directory for files that are worked on. It goes with its owner.
#[derive(Debug)]
pub(super) struct Workshop {
    pub dir: PathBuf,
    /// Holds it.
    _held: File,
    gone: bool,
}

impl Workshop {
    /// Makes one below `base`, and clears away those that nobody has any more. Blocks for as long as the disk takes.
    pub(super) fn open(base: &Path) -> io::Result<Self> {
        for entry in fs::read_dir(base)? {
            let entry = entry?;
            let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(WORKSHOP));
            if ours && entry.file_type()?.is_dir() {
                // Others' may not be opened, and are theirs to clear away.
                if let Ok(Some(_held)) = take(&entry.path()) {
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
        }
        loop {
            let name = format!("{WORKSHOP}{:016x}", fastrand::u64(..));
            let dir = base.join(name);
            if let Some(held) = take(&dir)? {
                return Ok(Self { dir, _held: held, gone: false });
            }
        }
    }

    /// Takes it away with all that is in it. Blocks for as long as the disk takes.
    pub(super) fn leave(mut self) {
        // Once more, where somebody has taken a file away meanwhile.
        self.gone = fs::remove_dir_all(&self.dir).is_ok() || fs::remove_dir_all(&self.dir).is_ok();
    }
}

/// Whoever had it is gone, and it goes too: on another thread, because a disk may hang. What is left of it in the end the
/// next one clears away.
impl Drop for Workshop {
    fn drop(&mut self) {
        if self.gone {
            return;
        }
        let dir = std::mem::take(&mut self.dir);
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || fs::remove_dir_all(dir))),
            Err(_) => drop(fs::remove_dir_all(dir)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_exports_at_once_have_two_origins_and_a_later_one_the_first_again() {
        let dir = tempfile::tempdir().unwrap();
        let (first, held) = origin(dir.path(), "nvr:80").unwrap();
        let (second, other) = origin(dir.path(), "nvr:80").unwrap();
        assert_ne!(first, second);
        assert_ne!(origin(dir.path(), "other:80").unwrap().0, first);
        drop(held);
        assert_eq!(origin(dir.path(), "nvr:80").unwrap().0, first);
        drop(other);
    }

    #[test]
    fn a_workshop_goes_with_its_owner_and_what_was_left_by_one_that_was_killed_with_the_next() {
        let base = tempfile::tempdir().unwrap();
        let left = base.path().join(format!("{WORKSHOP}left"));
        fs::create_dir(&left).unwrap();
        fs::write(left.join("1"), b"half a recording").unwrap();
        let other = base.path().join("other");
        fs::create_dir(&other).unwrap();
        let running = Workshop::open(base.path()).unwrap();
        assert!(!left.exists() && other.exists());
        let second = Workshop::open(base.path()).unwrap();
        assert!(running.dir.exists());
        let dirs = [running.dir.clone(), second.dir.clone()];
        drop((running, second));
        assert!(dirs.iter().all(|dir| !dir.exists()));
    }
}
