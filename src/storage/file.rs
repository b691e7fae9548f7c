//! A directory as a bucket.

mod walk;

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::Origin;

use super::bucket::too_large;
use super::{After, Bucket, BucketError, BucketErrorKind, ContentType, Created, ObjectInfo, Page};

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
    base_url: String,
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
        Ok(Self::new(dir, staging))
    }

    /// Opens a directory to read what is in it. It makes nothing and clears nothing away; puts into it fail.
    pub fn look(dir: PathBuf) -> Self {
        let staging = dir.join(STAGING).join("nobody");
        Self::new(dir, staging)
    }

    fn new(dir: PathBuf, staging: PathBuf) -> Self {
        let base_url = url::Url::from_directory_path(&dir).map_or_else(|()| String::new(), String::from);
        Self(Arc::new(Inner { dir, staging, base_url, next: AtomicU64::new(0), durable: Mutex::default() }))
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
            Err(error) => Err(self.not_written(&path, &error)),
        }
    }

    /// Where something is not there, a directory that was is gone: a camera's, or all of ours.
    fn not_written(&self, path: &Path, error: &std::io::Error) -> BucketError {
        if error.kind() != ErrorKind::NotFound {
            return failed("cannot write", path, error, false);
        }
        self.durable.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
        if self.staging.is_dir() {
            return failed("cannot write", path, error, false);
        }
        BucketError {
            kind: BucketErrorKind::NotFound,
            maybe_stored: false,
            retry_after: None,
            message: format!(
                "{} is gone: is its disk mounted? Where the directory was removed, start the daemon again",
                self.staging.display()
            ),
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

fn read_whole(path: &Path, limit: u64) -> Result<Option<Bytes>, BucketError> {
    let read = || -> std::io::Result<Option<Vec<u8>>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut content = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut content)?;
        Ok(Some(content))
    };
    match read().map_err(|error| failed("cannot read", path, &error, true))? {
        Some(content) if content.len() as u64 > limit => Err(too_large(&path.display().to_string(), limit)),
        content => Ok(content.map(Bytes::from)),
    }
}

fn list_blocking(dir: &Path, prefix: &str, after: Option<&After>) -> Result<Page, BucketError> {
    walk::page(dir, prefix, after).map_err(|error| {
        let gone = error.kind() == ErrorKind::NotFound;
        let error = failed("cannot list", dir, &error, true);
        if gone { BucketError { kind: BucketErrorKind::NotFound, ..error } } else { error }
    })
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

    async fn get(&self, key: &str, limit: u64) -> Result<Option<Bytes>, BucketError> {
        let path = self.0.dir.join(key);
        blocking(move || read_whole(&path, limit)).await
    }

    async fn list(&self, prefix: &str, after: Option<&After>) -> Result<Page, BucketError> {
        let (bucket, prefix, after) = (self.0.clone(), prefix.to_owned(), after.cloned());
        blocking(move || list_blocking(&bucket.dir, &prefix, after.as_ref())).await
    }

    fn base_url(&self) -> &str {
        &self.0.base_url
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
