//! A directory as a bucket.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::Origin;

use super::{Bucket, BucketError, BucketErrorKind, ContentType, Created, ObjectInfo};

/// Directories remembered as durable.
const MAX_KNOWN_DIRECTORIES: usize = 10_000;

/// Where objects lie until they are whole, inside the bucket's directory, because a hard link cannot cross file
/// systems. Below it is a directory for each origin: daemons that share a bucket must not touch each other's halves.
const STAGING: &str = ".framehaul-staging";

/// Objects as files. An object is written under a temporary name, synced, and hard-linked to its own name, which fails
/// where that exists: so an object is whole or absent, also after a power cut, and is never overwritten.
#[derive(Clone, Debug)]
pub struct FileBucket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    staging: PathBuf,
    next: AtomicU64,
    /// Directories that are known to be on disk, with all those above them up to `dir`'s parent.
    durable: Mutex<HashSet<PathBuf>>,
}

impl FileBucket {
    /// Opens a directory, making it where there is none, and clears what a crash of this origin's daemon left
    /// half-written.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made or written.
    pub fn open(dir: PathBuf, origin: &Origin) -> Result<Self, BucketError> {
        let staging = dir.join(STAGING).join(origin.as_str());
        let prepare = || {
            fs::create_dir_all(&staging)?;
            for entry in fs::read_dir(&staging)? {
                fs::remove_file(entry?.path())?;
            }
            dir.parent().map_or(Ok(()), sync_dir)
        };
        prepare().map_err(|error| failed("cannot use directory", &dir, &error, false))?;
        Ok(Self(Arc::new(Inner { dir, staging, next: AtomicU64::new(0), durable: Mutex::default() })))
    }
}

impl Inner {
    fn create_blocking(&self, key: &str, content: &[u8]) -> Result<Created, BucketError> {
        let path = self.dir.join(key);
        let parent = path.parent().expect("a key always lies in the bucket's directory");
        if path.exists() {
            return self.exists(parent, &path);
        }
        let staged = self.staging.join(self.next.fetch_add(1, Relaxed).to_string());
        let written = write_whole(&staged, content).and_then(|()| self.make_durable(parent));
        let linked = written.and_then(|()| fs::hard_link(&staged, &path));
        let _ = fs::remove_file(&staged);
        match linked {
            // From here on there is an object, though it may not survive a power cut yet.
            Ok(()) => sync_dir(parent)
                .map(|()| Created::New)
                .map_err(|error| failed("cannot sync the directory of", &path, &error, true)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.exists(parent, &path),
            Err(error) => Err(failed("cannot write", &path, &error, false)),
        }
    }

    /// Whoever linked the object may not have got to sync its directory.
    fn exists(&self, parent: &Path, path: &Path) -> Result<Created, BucketError> {
        let synced = self.make_durable(parent).and_then(|()| sync_dir(parent));
        synced.map(|()| Created::Exists).map_err(|error| failed("cannot sync the directory of", path, &error, true))
    }

    /// Makes a directory and those above it, up to the bucket's own, and syncs each into its parent, once.
    fn make_durable(&self, dir: &Path) -> std::io::Result<()> {
        let known = || self.durable.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if dir == self.dir || known().contains(dir) {
            return Ok(());
        }
        let parent = dir.parent().expect("it lies in the bucket's directory");
        self.make_durable(parent)?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            // Whoever made it may not have synced it yet.
            _ => sync_dir(parent)?,
        }
        let mut durable = known();
        // A new directory an hour and camera adds up over years; knowing one again costs one sync.
        if durable.len() >= MAX_KNOWN_DIRECTORIES {
            durable.clear();
        }
        durable.insert(dir.to_owned());
        Ok(())
    }

    fn head_blocking(&self, key: &str) -> Result<Option<ObjectInfo>, BucketError> {
        let path = self.dir.join(key);
        let read = || -> std::io::Result<Option<ObjectInfo>> {
            let mut file = match File::open(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                other => other?,
            };
            let mut buffer = vec![0; 256 * 1024];
            let (mut bytes, mut crc32c) = (0, 0);
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(Some(ObjectInfo { bytes, crc32c })),
                    n => {
                        bytes += n as u64;
                        crc32c = crc32c::crc32c_append(crc32c, &buffer[..n]);
                    }
                }
            }
        };
        read().map_err(|error| failed("cannot read", &path, &error, true))
    }
}

fn write_whole(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn sync_dir(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}

fn failed(what: &str, path: &Path, error: &std::io::Error, maybe_stored: bool) -> BucketError {
    let kind = match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => BucketErrorKind::Auth,
        ErrorKind::NotADirectory | ErrorKind::InvalidFilename => BucketErrorKind::Permanent,
        _ => BucketErrorKind::Transient,
    };
    let message = format!("{what} {}: {error}", path.display());
    BucketError { kind, maybe_stored, retry_after: None, message }
}

#[async_trait]
impl Bucket for FileBucket {
    async fn create(
        &self,
        key: &str,
        content: Bytes,
        _crc32c: u32,
        _content_type: ContentType,
    ) -> Result<Created, BucketError> {
        let (bucket, key) = (self.0.clone(), key.to_owned());
        blocking(move || bucket.create_blocking(&key, &content)).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, BucketError> {
        let (bucket, key) = (self.0.clone(), key.to_owned());
        blocking(move || bucket.head_blocking(&key)).await
    }

    fn url(&self, key: &str) -> String {
        url::Url::from_file_path(self.0.dir.join(key)).map_or_else(|()| key.to_owned(), String::from)
    }

    fn label(&self) -> &str {
        "file"
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BucketError> + Send + 'static,
) -> Result<T, BucketError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        let message = format!("writing to the directory broke off: {error}");
        Err(BucketError { kind: BucketErrorKind::Transient, maybe_stored: true, retry_after: None, message })
    })
}
