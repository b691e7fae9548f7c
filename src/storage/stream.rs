//! Objects that are put while they come in: recordings, of a MiB or of many GiB.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;

use super::{BucketError, ContentType, ObjectInfo};

/// What comes in. It is asked for the next piece when there is room for it, so that whoever sends is held up by whoever
/// stores. A piece may be of any size, but all of it is in memory.
pub type Body = BoxStream<'static, Result<Bytes, BodyError>>;

/// Why what comes in has broken off: whatever its source says, for whoever made it to look into.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// An object that comes in.
pub struct Incoming {
    /// What it is.
    pub content_type: ContentType,
    /// The size that it is expected to have, bytes. Another one is no error here: a source that is to have a certain size
    /// has to end with an error of its own where it does not. It says how the object is put, and lets one be refused at
    /// once that no store takes.
    pub size_hint: Option<u64>,
    /// What is in it.
    pub body: Body,
    /// How long the bucket is waited for.
    pub patience: Patience,
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { content_type, size_hint, body: _, patience } = self;
        f.debug_struct("Incoming")
            .field("content_type", content_type)
            .field("size_hint", size_hint)
            .field("patience", patience)
            .finish_non_exhaustive()
    }
}

/// How long a bucket is waited for. All of it is by progress: no object is too large to be put, and whoever waits for the
/// source waits as long as it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// How long an answer may take, beside the time that its bytes are on their way.
    pub answer: Duration,
    /// The bytes a second that a bucket must take to be waited for.
    pub slowest: u64,
    /// How long a piece is sent again of which nothing is taken, from its first failure.
    pub retries_within: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            slowest: 64 << 10,
            // As long as a bucket's refusals last in most cases; whoever gave up would have to fetch all of it again.
            retries_within: Duration::from_secs(300),
        }
    }
}

/// How a put that did not fail went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Streamed {
    /// All that came is there now, and was not before. The store has said that it has as much; where it tells a checksum
    /// as well, it is this one.
    New(ObjectInfo),
    /// An object was there already.
    Exists {
        /// What it is.
        there: ObjectInfo,
        /// What came, where all of it was read before the other was met. The same as what is there: it is ours.
        came: Option<ObjectInfo>,
    },
}

/// Why there is no object.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// What came in broke off. Nothing is stored, and what had been sent is cleared away.
    #[error("what came in broke off: {0}")]
    Body(#[source] BodyError),
    /// The bucket did not take it.
    #[error(transparent)]
    Bucket(#[from] BucketError),
}
