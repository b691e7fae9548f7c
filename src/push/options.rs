//! Where pictures go, and how.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::{Entries, Entry, Picture, Pictures, driver};
use crate::config::{Destination, Problem, UploadSettings};
use crate::storage::{BucketError, BucketErrorKind};

/// Pictures that are on their way at the same time: enough for a burst of 500, and half of the files that most systems
/// let a process open.
const CONCURRENCY: NonZeroUsize = NonZeroUsize::new(512).expect("it is not 0");
/// JPEG bytes in memory, waiting or on their way.
const MEMORY: u64 = 128 << 20;
/// How often a picture is tried again.
const RETRIES: u32 = 10;
/// How long a destination may be away.
const PATIENCE: Duration = Duration::from_secs(60);

/// Pictures into a bucket: where they go, and how. See the [module](super).
#[derive(Clone, Debug)]
pub struct Push {
    pub(super) destination: Destination,
    pub(super) upload: UploadSettings,
    pub(super) memory: u64,
    pub(super) retries: u32,
    pub(super) patience: Duration,
    pub(super) resume: bool,
}

impl Push {
    /// To `gs://bucket/prefix`, `s3://bucket/prefix`, `az://container/prefix` or `file:///directory`, with the credentials
    /// that the machine has.
    ///
    /// # Errors
    ///
    /// When the URL names no destination.
    pub fn to(url: &str) -> Result<Self, PushError> {
        Destination::at(url).map(Self::new).map_err(PushError::Destination)
    }

    /// To a destination with credentials or an endpoint of its own.
    pub fn new(destination: Destination) -> Self {
        let upload = UploadSettings { workers: CONCURRENCY, ..UploadSettings::default() };
        Self { destination, upload, memory: MEMORY, retries: RETRIES, patience: PATIENCE, resume: false }
    }

    /// With so many pictures on their way at the same time, 512 unless it is said; 0 counts as 1.
    #[must_use]
    pub fn concurrency(mut self, pictures: usize) -> Self {
        self.upload.workers = NonZeroUsize::new(pictures).unwrap_or(NonZeroUsize::MIN);
        self
    }

    /// With deadlines and waits other than the daemon's. How many go at the same time is [`concurrency`](Self::concurrency)'s
    /// to say.
    #[must_use]
    pub fn upload(mut self, upload: UploadSettings) -> Self {
        self.upload = UploadSettings { workers: self.upload.workers, ..upload };
        self
    }

    /// With so many JPEG bytes in memory, waiting or on their way, 128 MiB unless it is said. One picture is always let in.
    #[must_use]
    pub fn memory(self, bytes: u64) -> Self {
        Self { memory: bytes, ..self }
    }

    /// With so many attempts for each picture after the first, 10 unless it is said.
    #[must_use]
    pub fn retries(self, retries: u32) -> Self {
        Self { retries, ..self }
    }

    /// With so much time for a destination that does not answer, or answers with nothing but errors, 60 s unless it is said.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Goes on where an earlier push of the same pictures to the same place was cut off: what is there is compared by size
    /// and checksum, and not sent again.
    #[must_use]
    pub fn resume(self, resume: bool) -> Self {
        Self { resume, ..self }
    }

    /// Opens the bucket and begins. To be called within a tokio runtime, which has to last until the end.
    ///
    /// # Errors
    ///
    /// When the bucket cannot be opened, or, to resume, not be listed.
    pub async fn start(self) -> Result<(Pictures, Entries), PushError> {
        driver::start(self).await
    }

    /// Stores pictures that are there already, and returns the list of them all.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and when the destination will not have any of them. That it will not have one stands in
    /// its [`Entry`].
    pub async fn all(self, pictures: impl IntoIterator<Item = Picture>) -> Result<Vec<Entry>, PushError> {
        let (given, mut entries) = self.start().await?;
        let mut list = Vec::new();
        for picture in pictures {
            tokio::select! {
                // An error means that it has ended: the reason is told below.
                sent = given.send(picture) => if sent.is_err() { break },
                () = async { while let Some(entry) = entries.next().await { list.push(entry) } } => break,
            }
        }
        drop(given);
        while let Some(entry) = entries.next().await {
            list.push(entry);
        }
        entries.finish().await.map(|_| list)
    }
}

/// Why a push cannot begin, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The destination's URL cannot be used.
    #[error("the destination's URL {}", .0.iter().map(|problem| problem.detail.as_str()).collect::<Vec<_>>().join("; "))]
    Destination(Vec<Problem>),
    /// The bucket cannot be opened, is not there, or does not let us in.
    #[error("{0}")]
    Bucket(BucketError),
    /// Something else has the name of a picture.
    #[error(
        "{url} is there already and differs: push to another place, or give the same pictures with the same options"
    )]
    Conflict {
        /// What is there.
        url: String,
    },
    /// The destination was away for longer than it may be.
    #[error("given up after {:.0} s without an answer that helps: {error}", .patience.as_secs_f64())]
    Away {
        /// How long it may be.
        patience: Duration,
        /// How it failed last.
        kind: BucketErrorKind,
        /// What it said last.
        error: String,
    },
    /// An attempt has panicked, which is a fault of ours.
    #[error("an upload broke off: {0}")]
    Broken(String),
}

impl PushError {
    /// What kind of failure of the destination it is, if it is one.
    pub fn bucket_kind(&self) -> Option<BucketErrorKind> {
        match self {
            Self::Bucket(error) => Some(error.kind),
            Self::Away { kind, .. } => Some(*kind),
            Self::Destination(_) | Self::Conflict { .. } | Self::Broken(_) => None,
        }
    }
}
