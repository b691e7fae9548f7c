//! What every bucket can do, and how it can fail.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// A place for objects that are written once and never changed.
#[async_trait]
pub trait Bucket: Send + Sync + 'static {
    /// Puts an object unless there is one under this key. `crc32c`, the content's, is checked by the store where it can.
    ///
    /// # Errors
    ///
    /// Any failure; [`BucketError::kind`] says what to do about it.
    async fn create(
        &self,
        key: &str,
        content: Bytes,
        crc32c: u32,
        content_type: ContentType,
    ) -> Result<Created, BucketError>;

    /// What is known of an object; `None` where there is none.
    ///
    /// # Errors
    ///
    /// When the store cannot say.
    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, BucketError>;

    /// The object's URL, as the list shows it.
    fn url(&self, key: &str) -> String;

    /// The destination's name in metrics.
    fn label(&self) -> &str;
}

/// What an object is, as the store tells those who read it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContentType {
    /// A picture.
    Jpeg,
    /// Lines of JSON.
    Ndjson,
}

impl ContentType {
    /// Its media type (RFC 6838).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Ndjson => "application/x-ndjson",
        }
    }
}

/// How a put that did not fail went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Created {
    /// The object is there now, and was not before.
    New,
    /// An object was there already. Whether it is ours is for [`Bucket::head`] to show.
    Exists,
}

/// Size and checksum of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ObjectInfo {
    /// Size, bytes.
    pub bytes: u64,
    /// CRC32C of the content.
    pub crc32c: u32,
}

/// What to do about a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum BucketErrorKind {
    /// Try again.
    Transient,
    /// Try again, later: the store is overloaded or limits us.
    Throttled,
    /// The credentials are missing, refused, or not enough.
    Auth,
    /// The bucket is not there.
    NotFound,
    /// The store refuses for good.
    Permanent,
}

impl BucketErrorKind {
    /// The kind as it stands in metrics and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Throttled => "throttled",
            Self::Auth => "auth",
            Self::NotFound => "not_found",
            Self::Permanent => "permanent",
        }
    }
}

/// A store's failure.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct BucketError {
    /// What to do about it.
    pub kind: BucketErrorKind,
    /// Whether the content may have arrived all the same: true unless the store said no, or was never reached.
    pub maybe_stored: bool,
    /// How long the store asks us to wait.
    pub retry_after: Option<Duration>,
    /// The destination, the cause, and the way out.
    pub message: String,
}
