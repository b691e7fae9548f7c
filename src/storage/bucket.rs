//! What every bucket can do, and how it can fail.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Incoming, StreamError, Streamed};

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

    /// Puts what comes in unless there is an object under this key, whatever its size: no more than some MiB of it are in
    /// memory. Nothing shows under the key before all of it is there, and nothing is left of what breaks off. What that
    /// asks of a broken connection is done here: pieces are sent again as long as [`Patience`](super::Patience) says.
    ///
    /// # Errors
    ///
    /// [`StreamError::Body`] when what comes in breaks off, [`StreamError::Bucket`] when the store does not take it.
    async fn create_stream(&self, key: &str, incoming: Incoming) -> Result<Streamed, StreamError>;

    /// What is known of an object; `None` where there is none.
    ///
    /// # Errors
    ///
    /// When the store cannot say.
    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, BucketError>;

    /// The whole object, if it has no more than `limit` bytes; `None` where there is none.
    ///
    /// # Errors
    ///
    /// When the store cannot give it; [`BucketErrorKind::Permanent`] when it is larger.
    async fn get(&self, key: &str, limit: u64) -> Result<Option<Bytes>, BucketError>;

    /// One page of the objects whose keys begin with `prefix`, their keys rising byte by byte from page to page.
    /// A page may be empty and yet have a next one.
    ///
    /// # Errors
    ///
    /// When the store cannot tell; [`BucketErrorKind::NotFound`] when there is no such bucket.
    async fn list(&self, prefix: &str, after: Option<&After>) -> Result<Page, BucketError>;

    /// What stands before every key in the objects' URLs.
    fn base_url(&self) -> &str;

    /// The object's URL, as the list shows it.
    fn url(&self, key: &str) -> String {
        format!("{}{key}", self.base_url())
    }

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
    /// A film in MPEG's container for files.
    Mp4,
    /// A film in Matroska.
    Matroska,
    /// An MPEG program stream, as recorders write it.
    ProgramStream,
    /// Nothing that is known.
    Unknown,
}

impl ContentType {
    /// Its media type (RFC 6838).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Ndjson => "application/x-ndjson",
            Self::Mp4 => "video/mp4",
            Self::Matroska => "video/matroska",
            Self::ProgramStream => "video/mp2p",
            Self::Unknown => "application/octet-stream",
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

/// Where a listing begins, or goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum After {
    /// Behind this key, whether or not there is an object under it.
    Key(String),
    /// Where a page of the same prefix ended, as [`Page::next`] says.
    Page {
        /// In the store's own words.
        token: String,
        /// The key behind which the first page began, or nothing: not every server remembers it, or knew it at all.
        behind: String,
    },
}

impl After {
    /// The key behind which a listing began, or nothing.
    pub(super) fn behind(after: Option<&Self>) -> &str {
        match after {
            Some(Self::Key(key) | Self::Page { behind: key, .. }) => key,
            None => "",
        }
    }

    /// The token of the page before.
    pub(super) fn token(after: Option<&Self>) -> Option<&str> {
        match after {
            Some(Self::Page { token, .. }) => Some(token),
            Some(Self::Key(_)) | None => None,
        }
    }
}

/// Objects in the order of their keys.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Page {
    /// At most [`PAGE`] of them.
    pub objects: Vec<Listed>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<After>,
}

/// An object, as a listing tells of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Size, bytes.
    pub bytes: u64,
    /// CRC32C of the content, where the store keeps it.
    pub crc32c: Option<u32>,
}

/// Objects on a page, at most. What every store is willing to tell at once.
pub const PAGE: usize = 1_000;

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

/// The longest wait a server may ask for: a slip of its clock must not park a frame for days.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(300);

/// The wait that an answer asks for (RFC 9110, 10.2.3). A date instead of seconds is not understood: no store sends one.
pub(super) fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// What [`Bucket::get`] says of an object over its limit.
pub(super) fn too_large(name: &str, limit: u64) -> BucketError {
    BucketError {
        kind: BucketErrorKind::Permanent,
        maybe_stored: true,
        retry_after: None,
        message: format!("{name} has more than {limit} bytes"),
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
