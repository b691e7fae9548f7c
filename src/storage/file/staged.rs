//! Objects that are written while they come in.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::{FileBucket, NEXT, failed};
use crate::storage::pieces::{Piece, Pieces};
use crate::storage::{BucketError, Created, Incoming, ObjectInfo, Patience, StreamError, Streamed};

/// So much is written or read at once, bytes.
const PIECE: usize = 1 << 20;

/// So much is written before it is synced, bytes: a disk that gets gigabytes at the end would be taken for one that
/// hangs. As much again is written meanwhile, so that neither the disk nor the source waits for the other.
const SYNC_EVERY: u64 = 32 << 20;

/// Puts an object below a name that nobody looks for, and links it when it is whole and on disk. What is in the file is
/// not read again: the checksum is that of what came.
pub(super) async fn put(bucket: &FileBucket, key: &str, incoming: Incoming) -> Result<Streamed, StreamError> {
    let Incoming { content_type: _, size_hint: _, body, patience } = incoming;
    if let Some(there) = sum(bucket, key, patience).await? {
        return Ok(Streamed::Exists { there, came: None });
    }
    let mut pieces = Pieces::of(body, PIECE);
    // The directory is not touched before something has come.
    let mut piece = pieces.next().await.map_err(StreamError::Body)?;
    let path = bucket.0.dir.join(key);
    let staged = bucket.0.staging.join(NEXT.fetch_add(1, Relaxed).to_string());
    let object = path.clone();
    let open = move |inner: &super::Inner| {
        let parent = object.parent().expect("a key always lies in the bucket's directory");
        let opened = inner
            .make_durable(parent)
            .and_then(|()| OpenOptions::new().write(true).create_new(true).open(&staged))
            .map_err(|error| inner.not_written(&object, &error))?;
        Ok(Staged { file: Arc::new(opened), path: staged, gone: false, unsynced: 0, syncing: None })
    };
    let mut staged = patience.within("file", 0, bucket.blocking(open)).await?;
    loop {
        if let Err(failure) = staged.write(bucket, &path, &piece, patience).await {
            staged.remove(bucket, patience).await;
            return Err(failure.into());
        }
        if piece.last {
            break;
        }
        piece = match pieces.next().await {
            Ok(piece) => piece,
            Err(error) => {
                staged.remove(bucket, patience).await;
                return Err(StreamError::Body(error));
            }
        };
    }
    let came = piece.to_here;
    let (from, object) = (staged.path.clone(), path.clone());
    let link = bucket.blocking(move |inner| {
        let parent = object.parent().expect("a key always lies in the bucket's directory");
        inner.link(&from, parent, &object)
    });
    let linked = patience.within("file", 0, link).await;
    staged.remove(bucket, patience).await;
    match linked? {
        Created::New => Ok(Streamed::New(came)),
        Created::Exists => {
            let there = sum(bucket, key, patience).await?;
            let gone = || failed("cannot read", &path, &std::io::ErrorKind::NotFound.into(), false);
            Ok(Streamed::Exists { there: there.ok_or_else(gone)?, came: Some(came) })
        }
    }
}

/// A file that is none of the bucket's objects yet.
struct Staged {
    file: Arc<File>,
    path: PathBuf,
    gone: bool,
    /// Bytes that were written since the last sync began.
    unsynced: u64,
    /// A sync that is on its way, and how many bytes it is for.
    syncing: Option<(u64, AbortOnDropHandle<Result<(), BucketError>>)>,
}

impl Staged {
    /// Appends a piece. When it is the last, the disk has all of them.
    async fn write(
        &mut self,
        bucket: &FileBucket,
        object: &Path,
        piece: &Piece,
        patience: Patience,
    ) -> Result<(), BucketError> {
        let bytes = piece.content.len() as u64;
        let (file, path, content) = (self.file.clone(), object.to_owned(), piece.content.clone());
        let write = bucket
            .blocking(move |inner| (&*file).write_all(&content).map_err(|error| inner.not_written(&path, &error)));
        // A disk that is busy with what was written before takes its time for this as well.
        patience.within("file", self.owed() + bytes, write).await?;
        self.unsynced += bytes;
        if piece.last || self.unsynced >= SYNC_EVERY {
            self.synced(patience).await?;
            self.sync(bucket, object, piece.last);
        }
        if piece.last { self.synced(patience).await } else { Ok(()) }
    }

    /// Begins to have the disk keep what was written.
    fn sync(&mut self, bucket: &FileBucket, object: &Path, is_last: bool) {
        let (bucket, file, object) = (FileBucket(bucket.0.clone()), self.file.clone(), object.to_owned());
        let sync = tokio::spawn(async move {
            let sync = move |inner: &super::Inner| {
                let synced = if is_last { file.sync_all() } else { file.sync_data() };
                synced.map_err(|error| inner.not_written(&object, &error))
            };
            bucket.blocking(sync).await
        });
        self.syncing = Some((std::mem::take(&mut self.unsynced), AbortOnDropHandle::new(sync)));
    }

    /// Waits for the sync that is on its way.
    async fn synced(&mut self, patience: Patience) -> Result<(), BucketError> {
        // What was written meanwhile may go to the disk with the rest.
        let owed = self.owed();
        let Some((_, sync)) = self.syncing.take() else { return Ok(()) };
        let broken = |error| Err(failed("cannot sync", &self.path, &std::io::Error::other(error), false));
        let sync = async { sync.await.unwrap_or_else(broken) };
        patience.within("file", owed, sync).await
    }

    /// Bytes that were written and that the disk may not have yet.
    fn owed(&self) -> u64 {
        self.unsynced + self.syncing.as_ref().map_or(0, |(bytes, _)| *bytes)
    }

    async fn remove(mut self, bucket: &FileBucket, patience: Patience) {
        self.gone = true;
        let path = self.path.clone();
        let remove = bucket.blocking(move |_| {
            // What cannot be removed is found by the next start.
            let _ = fs::remove_file(path);
            Ok(())
        });
        // A disk that hangs keeps it.
        let _ = patience.within("file", 0, remove).await;
    }
}

/// Whoever waited for the object is gone, and what there is of it goes too. On another thread: a disk may hang.
impl Drop for Staged {
    fn drop(&mut self) {
        if !self.gone
            && let Ok(runtime) = Handle::try_current()
        {
            let path = std::mem::take(&mut self.path);
            runtime.spawn_blocking(move || fs::remove_file(path));
        }
    }
}

/// Reads an object to its end, however long that takes, as long as something comes.
async fn sum(bucket: &FileBucket, key: &str, patience: Patience) -> Result<Option<ObjectInfo>, BucketError> {
    let path = bucket.0.dir.join(key);
    let open = {
        let path = path.clone();
        bucket.blocking(move |_| match File::open(&path) {
            Ok(file) => Ok(Some((file, vec![0; PIECE]))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("cannot read", &path, &error, true)),
        })
    };
    let Some((mut file, mut buffer)) = patience.within("file", 0, open).await? else { return Ok(None) };
    let mut info = ObjectInfo { bytes: 0, crc32c: 0 };
    loop {
        let path = path.clone();
        let read = bucket.blocking(move |_| {
            let n = file.read(&mut buffer).map_err(|error| failed("cannot read", &path, &error, true))?;
            let read =
                ObjectInfo { bytes: info.bytes + n as u64, crc32c: crc32c::crc32c_append(info.crc32c, &buffer[..n]) };
            Ok((file, buffer, read))
        });
        let (same_file, same_buffer, read) = patience.within("file", PIECE as u64, read).await?;
        if read.bytes == info.bytes {
            return Ok(Some(info));
        }
        (file, buffer, info) = (same_file, same_buffer, read);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::super::AT_ONCE;
    use super::*;
    use crate::model::Origin;

    #[tokio::test]
    async fn a_disk_that_is_busy_with_what_came_before_has_more_time_for_a_piece() {
        let dir = tempfile::tempdir().unwrap();
        let bucket = FileBucket::open(dir.path().to_owned(), &Origin::from_random([0; 5])).unwrap();
        let patience = Patience { answer: Duration::from_millis(100), slowest: 1 << 20, ..Patience::default() };
        let path = dir.path().join("staged");
        // No write begins for as long, as where the disk takes none before it has synced 32 MiB.
        let write = async |syncing: Option<u64>| {
            let file = Arc::new(OpenOptions::new().write(true).create(true).truncate(true).open(&path).unwrap());
            let never = || AbortOnDropHandle::new(tokio::spawn(std::future::pending()));
            let syncing = syncing.map(|bytes| (bytes, never()));
            let mut staged = Staged { file, path: path.clone(), gone: true, unsynced: 0, syncing };
            let busy = bucket.0.places.clone().acquire_many_owned(AT_ONCE as u32).await.unwrap();
            let release = async {
                sleep(Duration::from_millis(500)).await;
                drop(busy);
            };
            let to_here = ObjectInfo { bytes: 1, crc32c: 0 };
            let piece = Piece { content: bytes::Bytes::from_static(b"x"), to_here, last: false };
            tokio::join!(staged.write(&bucket, &path, &piece, patience), release).0
        };
        assert!(write(None).await.is_err());
        write(Some(32 << 20)).await.unwrap();
    }
}
