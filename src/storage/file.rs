//! A directory as a bucket.

mod staged;
mod walk;

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::model::Origin;

use super::bucket::too_large;
use super::{
    After, Bucket, BucketError, BucketErrorKind, ContentType, Created, Incoming, ObjectInfo, Page, StreamError,
    Streamed,
};

/// Directories remembered as durable.
const MAX_KNOWN_DIRECTORIES: usize = 10_000;

/// Where objects lie until they are whole, inside the bucket's directory, because a hard link cannot cross file
/// systems. Below it is a directory for each origin: daemons that share a bucket must not touch each other's halves.
const STAGING: &str = ".framehaul-staging";

/// Where an origin's objects lie in a bucket's directory until they are whole.
pub fn staging(dir: &Path, origin: &Origin) -> PathBuf {
    dir.join(STAGING).join(origin.as_str())
}

/// Pieces of work on the directory under way, at most. Where the disk hangs each keeps a thread, and what it was to
/// write; whoever comes then waits where his deadline ends him and frees his frame, which in the queue of a pool of
/// threads it would not.
const AT_ONCE: usize = 64;

/// Counts the files that are being written, of all directories: two of them may be one, by a link.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Objects as files. An object is written under a temporary name, synced, and hard-linked to its own name, which fails
/// where that exists: so an object is whole or absent, also after a power cut, and is never overwritten.
#[derive(Clone, Debug)]
pub struct FileBucket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    staging: PathBuf,
    base_url: String,
    places: Arc<Semaphore>,
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
        let staging = staging(&dir, origin);
        let prepare = || {
            make_all(&staging)?;
            for entry in fs::read_dir(&staging)? {
                fs::remove_file(entry?.path())?;
            }
            // Whoever made it may not have come to that.
            sync_dir(&dir)?;
            dir.parent().map_or(Ok(()), sync_dir)
        };
        prepare().map_err(|error| failed("cannot use directory", &dir, &error, false))?;
        Ok(Self::new(dir, staging))
    }

    /// Opens a directory that has been opened before, and makes none: where it is not there its disk is not, and what
    /// was put into another one in its place would be hidden as soon as that is mounted.
    ///
    /// # Errors
    ///
    /// [`BucketErrorKind::NotFound`] when it is not there; others when it cannot be written.
    pub fn reopen(dir: PathBuf, origin: &Origin) -> Result<Self, BucketError> {
        let halves = dir.join(STAGING);
        match fs::metadata(&halves) {
            Ok(_) => Self::open(dir, origin),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(gone(&halves)),
            Err(error) => Err(failed("cannot use directory", &dir, &error, false)),
        }
    }

    /// Clears away what opening the directory has made beside objects, as far as nobody else uses it.
    pub fn leave(dir: &Path, origin: &Origin) {
        let halves = dir.join(STAGING);
        if fs::remove_dir_all(halves.join(origin.as_str())).is_ok() {
            // Fails where another origin has a place in it.
            let _ = fs::remove_dir(halves);
        }
    }

    /// Opens a directory to read what is in it. It makes nothing and clears nothing away; puts into it fail.
    pub fn look(dir: PathBuf) -> Self {
        let staging = dir.join(STAGING).join("nobody");
        Self::new(dir, staging)
    }

    fn new(dir: PathBuf, staging: PathBuf) -> Self {
        let (base_url, places) = (base_url(&dir), Arc::new(Semaphore::new(AT_ONCE)));
        Self(Arc::new(Inner { dir, staging, base_url, places, durable: Mutex::default() }))
    }

    /// Does something in the directory, on a thread that may hang.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, BucketError> + Send + 'static,
    ) -> Result<T, BucketError> {
        let inner = self.0.clone();
        let place = inner.places.clone().acquire_owned().await.expect("nobody closes it");
        let task = tokio::task::spawn_blocking(move || {
            let result = work(&inner);
            drop(place);
            result
        });
        task.await.unwrap_or_else(|error| {
            let message = format!("work in the directory broke off: {error}");
            Err(BucketError { kind: BucketErrorKind::Transient, maybe_stored: true, retry_after: None, message })
        })
    }
}

impl Inner {
    fn create_blocking(&self, key: &str, content: &[u8]) -> Result<Created, BucketError> {
        let path = self.dir.join(key);
        let parent = path.parent().expect("a key always lies in the bucket's directory");
        if path.exists() {
            return self.exists(parent, &path);
        }
        let staged = self.staging.join(NEXT.fetch_add(1, Relaxed).to_string());
        let created = self.write_and_link(&staged, content, parent, &path);
        let _ = fs::remove_file(&staged);
        created
    }

    fn write_and_link(
        &self,
        staged: &Path,
        content: &[u8],
        parent: &Path,
        path: &Path,
    ) -> Result<Created, BucketError> {
        let written = write_whole(staged, content).and_then(|()| self.make_durable(parent));
        written.map_err(|error| self.not_written(path, &error))?;
        self.link(staged, parent, path)
    }

    /// Gives what is whole and on disk its own name.
    fn link(&self, staged: &Path, parent: &Path, path: &Path) -> Result<Created, BucketError> {
        match fs::hard_link(staged, path) {
            // From here on there is an object, though it may not survive a power cut yet.
            Ok(()) => sync_dir(parent)
                .map(|()| Created::New)
                .map_err(|error| failed("cannot sync the directory of", path, &error, true)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.exists(parent, path),
            Err(error) => Err(self.not_written(path, &error)),
        }
    }

    /// Where something is not there, a directory that was is gone: a camera's, or all of ours.
    fn not_written(&self, path: &Path, error: &std::io::Error) -> BucketError {
        if error.kind() != ErrorKind::NotFound {
            return failed("cannot write", path, error, false);
        }
        self.durable.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
        let halves = self.dir.join(STAGING);
        if !halves.is_dir() {
            return gone(&halves);
        }
        // Somebody may have made it anew. What fails here fails again at the next attempt.
        let _ = fs::create_dir(&self.staging);
        failed("cannot write", path, error, false)
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

/// Makes a directory and those above it, each synced into its parent.
fn make_all(dir: &Path) -> std::io::Result<()> {
    let made = match (fs::create_dir(dir), dir.parent()) {
        (Err(error), Some(parent)) if error.kind() == ErrorKind::NotFound => {
            make_all(parent)?;
            fs::create_dir(dir)
        }
        (made, _) => made,
    };
    match made {
        Ok(()) => dir.parent().map_or(Ok(()), sync_dir),
        Err(_) if dir.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// What stands before every key in the URLs of a directory's objects.
pub(super) fn base_url(dir: &Path) -> String {
    url::Url::from_directory_path(dir).map_or_else(|()| String::new(), String::from)
}

/// What is said of a directory that was there before.
fn gone(halves: &Path) -> BucketError {
    BucketError {
        kind: BucketErrorKind::NotFound,
        maybe_stored: false,
        retry_after: None,
        message: format!(
            "{0} is gone: is its disk mounted? Where the directory was emptied, make {0} again",
            halves.display()
        ),
    }
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
        let key = key.to_owned();
        self.blocking(move |bucket| bucket.create_blocking(&key, &content)).await
    }

    async fn create_stream(&self, key: &str, incoming: Incoming) -> Result<Streamed, StreamError> {
        staged::put(self, key, incoming).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, BucketError> {
        let key = key.to_owned();
        self.blocking(move |bucket| bucket.head_blocking(&key)).await
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Option<Bytes>, BucketError> {
        let path = self.0.dir.join(key);
        self.blocking(move |_| read_whole(&path, limit)).await
    }

    async fn list(&self, prefix: &str, after: Option<&After>) -> Result<Page, BucketError> {
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        self.blocking(move |bucket| list_blocking(&bucket.dir, &prefix, after.as_ref())).await
    }

    fn base_url(&self) -> &str {
        &self.0.base_url
    }

    fn label(&self) -> &str {
        "file"
    }
}
