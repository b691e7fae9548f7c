//! A bucket that need not be open yet.
//!
//! A disk that is not mounted, a directory that hangs, a key that is just being written: each of them is one
//! destination's trouble. So the daemon starts without it, and whoever wants something of the bucket opens it, or hears
//! why that cannot be done.

use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::{
    After, Bucket, BucketError, BucketErrorKind, ContentType, Created, Incoming, ObjectInfo, Page, StreamError,
    Streamed, file,
};
use crate::config::Destination;
use crate::model::Origin;

type Opened = Result<Arc<dyn Bucket>, BucketError>;

/// A bucket that is opened when it is needed, and can be.
pub struct Later {
    open: Box<dyn Fn() -> JoinHandle<Opened> + Send + Sync>,
    opened: OnceLock<Arc<dyn Bucket>>,
    /// There is one at a time, which outlives whoever waits for it: a directory that hangs is not asked again.
    under_way: Mutex<Option<JoinHandle<Opened>>>,
    base_url: String,
    label: String,
}

impl Later {
    /// The bucket of a destination, which is opened on this runtime; keep it alive: clients refresh their tokens there.
    /// `known` when it has been opened before, by an earlier run.
    pub fn new(destination: Destination, origin: Origin, known: bool, runtime: Handle) -> Self {
        let (base_url, label) = place(&destination);
        let open = move || {
            let (destination, origin) = (destination.clone(), origin.clone());
            runtime.spawn(async move {
                match known {
                    true => super::reopen(&destination, &origin).await,
                    false => super::open(&destination, &origin).await,
                }
            })
        };
        Self::with(Box::new(open), base_url, label)
    }

    fn with(open: Box<dyn Fn() -> JoinHandle<Opened> + Send + Sync>, base_url: String, label: String) -> Self {
        Self { open, opened: OnceLock::new(), under_way: Mutex::default(), base_url, label }
    }

    /// Opens it, unless it is open.
    ///
    /// # Errors
    ///
    /// When it cannot be; the next call tries again.
    pub async fn open(&self) -> Result<&Arc<dyn Bucket>, BucketError> {
        if let Some(bucket) = self.opened.get() {
            return Ok(bucket);
        }
        let mut under_way = self.under_way.lock().await;
        if let Some(bucket) = self.opened.get() {
            return Ok(bucket);
        }
        let opened = under_way.get_or_insert_with(|| (self.open)()).await;
        *under_way = None;
        let bucket = opened.unwrap_or_else(|error| {
            Err(BucketError {
                kind: BucketErrorKind::Transient,
                maybe_stored: false,
                retry_after: None,
                message: format!("{}: opening it broke off: {error}", self.label),
            })
        })?;
        Ok(self.opened.get_or_init(|| bucket))
    }
}

/// What stands before every key in the URLs of a destination's objects.
pub fn base_url(destination: &Destination) -> String {
    place(destination).0
}

/// The same, and the name in messages.
fn place(destination: &Destination) -> (String, String) {
    let remote = |scheme: &str, bucket: &str, prefix: &str| {
        (format!("{scheme}://{bucket}/{prefix}"), format!("{scheme}://{bucket}"))
    };
    match destination {
        Destination::File { dir } => (file::base_url(dir), "file".to_owned()),
        Destination::Gcs { bucket, prefix, .. } => remote("gs", bucket, prefix),
        Destination::S3 { bucket, prefix, .. } => remote("s3", bucket, prefix),
        Destination::Azure { container, prefix, .. } => remote("az", container, prefix),
    }
}

impl fmt::Debug for Later {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_open = self.opened.get().is_some();
        f.debug_struct("Later").field("base_url", &self.base_url).field("is_open", &is_open).finish_non_exhaustive()
    }
}

#[async_trait]
impl Bucket for Later {
    async fn create(
        &self,
        key: &str,
        content: Bytes,
        crc32c: u32,
        content_type: ContentType,
    ) -> Result<Created, BucketError> {
        self.open().await?.create(key, content, crc32c, content_type).await
    }

    async fn create_stream(&self, key: &str, incoming: Incoming) -> Result<Streamed, StreamError> {
        self.open().await?.create_stream(key, incoming).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, BucketError> {
        self.open().await?.head(key).await
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Option<Bytes>, BucketError> {
        self.open().await?.get(key, limit).await
    }

    async fn list(&self, prefix: &str, after: Option<&After>) -> Result<Page, BucketError> {
        self.open().await?.list(prefix, after).await
    }

    fn base_url(&self) -> &str {
        &self.base_url
    }

    fn label(&self) -> &str {
        &self.label
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::time::Duration;

    use tokio::sync::Semaphore;
    use tokio::time::timeout;

    use super::*;
    use crate::config::Credentials;
    use crate::storage::look;

    #[tokio::test]
    async fn what_hangs_is_asked_once_and_what_fails_again() {
        let (asked, let_go, dir) =
            (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)), tempfile::tempdir().unwrap());
        let (count, gate, destination) =
            (asked.clone(), let_go.clone(), Destination::File { dir: dir.path().to_owned() });
        let open = move || {
            let (nth, gate, destination) = (count.fetch_add(1, Relaxed), gate.clone(), destination.clone());
            tokio::spawn(async move {
                gate.acquire().await.unwrap().forget();
                let refused = BucketErrorKind::NotFound;
                let error =
                    BucketError { kind: refused, maybe_stored: false, retry_after: None, message: "no".to_owned() };
                if nth == 0 { Err(error) } else { look(&destination).await }
            })
        };
        let bucket = Arc::new(Later::with(Box::new(open), "file:///".to_owned(), "file".to_owned()));
        for _ in 0..3 {
            timeout(Duration::from_millis(10), bucket.head("key")).await.unwrap_err();
        }
        assert_eq!(asked.load(Relaxed), 1);
        let_go.add_permits(1);
        assert_eq!(bucket.head("key").await.unwrap_err().kind, BucketErrorKind::NotFound);
        let_go.add_permits(1);
        let all = (0..8).map(|_| bucket.head("key"));
        assert!(futures_util::future::join_all(all).await.into_iter().all(|found| found.unwrap().is_none()));
        assert_eq!(asked.load(Relaxed), 2);
    }

    #[tokio::test]
    async fn it_is_called_as_what_it_opens() {
        let (endpoint, credentials) = (Some("http://127.0.0.1:1/account".to_owned()), Credentials::Anonymous);
        let (bucket, prefix) = ("b".to_owned(), "some/where/".to_owned());
        for destination in [
            Destination::File { dir: "/some/dir where".into() },
            Destination::Gcs {
                bucket: bucket.clone(),
                prefix: prefix.clone(),
                endpoint: endpoint.clone(),
                credentials: credentials.clone(),
            },
            Destination::S3 {
                bucket: bucket.clone(),
                prefix: prefix.clone(),
                endpoint: endpoint.clone(),
                region: None,
                credentials: credentials.clone(),
            },
            Destination::Azure { container: bucket, prefix, endpoint, credentials },
        ] {
            let opened = look(&destination).await.unwrap();
            assert_eq!(place(&destination), (opened.base_url().to_owned(), opened.label().to_owned()));
        }
    }
}
