//! A directory as a bucket.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;
use bytes::Bytes;

use super::{Bucket, BucketError, BucketErrorKind, Created, ObjectInfo};

/// Where objects lie until they are whole, inside the bucket's directory: a hard link cannot cross file systems.
const STAGING: &str = ".framehaul-staging";

/// Objects as files. An object is written under a temporary name, synced, and hard-linked to its own name, which fails
/// where that exists: so an object is whole or absent, also after a power cut, and is never overwritten.
#[derive(Clone, Debug)]
pub struct FileBucket {
    dir: Arc<Path>,
    next: Arc<AtomicU64>,
}

impl FileBucket {
    /// Opens a directory, making it where there is none, and clears what a crash left half-written.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made or written.
    pub fn open(dir: PathBuf) -> Result<Self, BucketError> {
        let staging = dir.join(STAGING);
        let prepare = || {
            fs::create_dir_all(&staging)?;
            for entry in fs::read_dir(&staging)? {
                fs::remove_file(entry?.path())?;
            }
            Ok(())
        };
        prepare().map_err(|error: std::io::Error| failed("cannot use directory", &dir, &error))?;
        Ok(Self { dir: dir.into(), next: Arc::default() })
    }

    fn create_blocking(&self, key: &str, content: &[u8]) -> Result<Created, BucketError> {
        let path = self.dir.join(key);
        if path.exists() {
            return Ok(Created::Exists);
        }
        let staged = self.dir.join(STAGING).join(self.next.fetch_add(1, Relaxed).to_string());
        let result = write_and_link(&staged, &path, content);
        let _ = fs::remove_file(&staged);
        result.map_err(|error| failed("cannot write", &path, &error))
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
        read().map_err(|error| failed("cannot read", &path, &error))
    }
}

fn write_and_link(staged: &Path, path: &Path, content: &[u8]) -> std::io::Result<Created> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(staged)?;
    file.write_all(content)?;
    file.sync_all()?;
    let dir = path.parent().expect("a key always lies in the bucket's directory");
    make_durable_dir(dir)?;
    match fs::hard_link(staged, path) {
        Ok(()) => {
            File::open(dir)?.sync_all()?;
            Ok(Created::New)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Created::Exists),
        Err(error) => Err(error),
    }
}

/// Makes a directory and those above it, each synced into its parent.
fn make_durable_dir(dir: &Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().unwrap_or(Path::new("/"));
    make_durable_dir(parent)?;
    match fs::create_dir(dir) {
        Ok(()) => File::open(parent)?.sync_all(),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> BucketError {
    let kind = match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => BucketErrorKind::Auth,
        ErrorKind::NotADirectory | ErrorKind::InvalidFilename => BucketErrorKind::Permanent,
        _ => BucketErrorKind::Transient,
    };
    // The link is the last step: where anything before it fails there is no object.
    let message = format!("{what} {}: {error}", path.display());
    BucketError { kind, maybe_stored: false, retry_after: None, message }
}

#[async_trait]
impl Bucket for FileBucket {
    async fn create(&self, key: &str, content: Bytes, _crc32c: u32) -> Result<Created, BucketError> {
        let (bucket, key) = (self.clone(), key.to_owned());
        blocking(move || bucket.create_blocking(&key, &content)).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, BucketError> {
        let (bucket, key) = (self.clone(), key.to_owned());
        blocking(move || bucket.head_blocking(&key)).await
    }

    fn url(&self, key: &str) -> String {
        url::Url::from_file_path(self.dir.join(key)).map_or_else(|()| key.to_owned(), String::from)
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
