//! One attempt to put an object where there may be one already: ours, from an attempt whose answer was lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{Bucket, BucketError, BucketErrorKind, ContentType, Created, ObjectInfo};
use crate::delivery::Verdict;

/// So often an object must have been refused for good before that is believed: bytes that are damaged on the way are
/// refused as well.
pub const REFUSED_TIMES: u32 = 4;

/// What became of one attempt.
#[derive(Debug)]
pub enum Attempt {
    /// The object is there.
    Stored,
    /// An object with other content is there.
    Conflict,
    /// It failed.
    Failed(BucketError),
    /// No answer within our own deadline.
    Late(BucketError),
}

impl Attempt {
    /// What it tells of the destination.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Stored | Self::Conflict => Verdict::Answered,
            Self::Failed(failure) => failure.kind.into(),
            // Whoever is overloaded is late before it refuses.
            Self::Late(_) => Verdict::Throttled,
        }
    }

    /// What was wrong.
    pub fn failure(&self) -> Option<&BucketError> {
        match self {
            Self::Stored | Self::Conflict => None,
            Self::Failed(failure) | Self::Late(failure) => Some(failure),
        }
    }
}

/// What an error tells of the destination. A refusal for good concerns the object; our own deadline, which no store
/// tells of, counts as [`Verdict::Throttled`].
impl From<BucketErrorKind> for Verdict {
    fn from(kind: BucketErrorKind) -> Self {
        match kind {
            BucketErrorKind::Transient => Self::Failed,
            BucketErrorKind::Throttled => Self::Throttled,
            BucketErrorKind::Auth | BucketErrorKind::NotFound => Self::Refused,
            BucketErrorKind::Permanent => Self::Answered,
        }
    }
}

/// An object to be put.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its name below the bucket's prefix.
    pub key: String,
    /// What is in it.
    pub content: Bytes,
    /// CRC32C of that.
    pub crc32c: u32,
    /// What that is.
    pub content_type: ContentType,
}

/// Puts an object, or finds it there, before `deadline` has passed.
pub async fn attempt(bucket: &dyn Bucket, object: Object, deadline: Duration) -> Attempt {
    let Object { key, content, crc32c, content_type } = object;
    let ours = ObjectInfo { bytes: content.len() as u64, crc32c };
    let put = async {
        match bucket.create(&key, content, crc32c, content_type).await? {
            Created::New => Ok(Attempt::Stored),
            // Ours, if an answer was lost on an earlier attempt: the same object always gets the same key.
            // Something stands there, whatever becomes of the question what it is.
            Created::Exists => what_stands_there(bucket, &key, ours).await,
        }
    };
    match timeout(deadline, put).await {
        Ok(Ok(attempt)) => attempt,
        Ok(Err(error)) => Attempt::Failed(error),
        Err(_) => {
            let message = format!("no answer within {:.1} s", deadline.as_secs_f64());
            Attempt::Late(broken_off(bucket, &message))
        }
    }
}

/// The same on the bucket's own runtime. It is broken off with whoever waits for it, so that nothing runs on unseen.
pub async fn attempt_on(runtime: &Handle, bucket: &Arc<dyn Bucket>, object: Object, deadline: Duration) -> Attempt {
    let on = bucket.clone();
    let task = runtime.spawn(async move { attempt(&*on, object, deadline).await });
    let ended = AbortOnDropHandle::new(task).await;
    ended.unwrap_or_else(|error| Attempt::Failed(broken_off(&**bucket, &format!("the upload broke off: {error}"))))
}

fn broken_off(bucket: &dyn Bucket, what: &str) -> BucketError {
    let message = format!("{}: {what}", bucket.label());
    BucketError { kind: BucketErrorKind::Transient, maybe_stored: true, retry_after: None, message }
}

/// Looks at what stands under our key. That it is not ours is believed when two looks agree: the answer to one may have
/// been damaged on its way, and a conflict is final.
///
/// # Errors
///
/// When nothing stands there any more, the looks do not agree, or the store cannot say.
pub async fn what_stands_there(bucket: &dyn Bucket, key: &str, ours: ObjectInfo) -> Result<Attempt, BucketError> {
    let there = looks(bucket, key, ours).await?;
    Ok(if there == ours { Attempt::Stored } else { Attempt::Conflict })
}

/// What stands there, by the same looks.
pub(super) async fn looks(bucket: &dyn Bucket, key: &str, ours: ObjectInfo) -> Result<ObjectInfo, BucketError> {
    let transient = |maybe_stored, what: &str| BucketError {
        kind: BucketErrorKind::Transient,
        maybe_stored,
        retry_after: None,
        message: format!("{}: {what}", bucket.url(key)),
    };
    let mut before = None;
    loop {
        let found = bucket.head(key).await.map_err(|error| BucketError { maybe_stored: true, ..error })?;
        let found = found.ok_or_else(|| transient(false, "it was there and is gone"))?;
        match before.replace(found) {
            _ if found == ours => return Ok(found),
            None => {}
            Some(before) if before == found => return Ok(found),
            Some(_) => return Err(transient(true, "two looks at it saw different contents")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use super::*;
    use crate::storage::{After, Incoming, Page, StreamError, Streamed};

    /// A bucket whose answers to looks are given.
    struct Looks(Mutex<VecDeque<Option<ObjectInfo>>>);

    #[async_trait::async_trait]
    impl Bucket for Looks {
        async fn create(&self, _: &str, _: Bytes, _: u32, _: ContentType) -> Result<Created, BucketError> {
            unreachable!("only looks are asked for")
        }

        async fn create_stream(&self, _: &str, _: Incoming) -> Result<Streamed, StreamError> {
            unreachable!("only looks are asked for")
        }

        async fn head(&self, _: &str) -> Result<Option<ObjectInfo>, BucketError> {
            Ok(self.0.lock().unwrap().pop_front().expect("there is no third look"))
        }

        async fn get(&self, _: &str, _: u64) -> Result<Option<Bytes>, BucketError> {
            unreachable!("only looks are asked for")
        }

        async fn list(&self, _: &str, _: Option<&After>) -> Result<Page, BucketError> {
            unreachable!("only looks are asked for")
        }

        fn base_url(&self) -> &str {
            "memory:///"
        }

        fn label(&self) -> &str {
            "memory"
        }
    }

    #[tokio::test]
    async fn one_damaged_look_at_what_stands_there_is_no_conflict() {
        let crc32c = crc32c::crc32c(b"a picture");
        let info = ObjectInfo { bytes: 9, crc32c };
        let ours = Some(info);
        let (other, third) =
            (ours.map(|info| ObjectInfo { crc32c: !crc32c, ..info }), Some(ObjectInfo { bytes: 8, crc32c }));
        for (looks, expected) in [
            (vec![ours], "stored"),
            (vec![other, ours], "stored"),
            (vec![other, other], "conflict"),
            (vec![third, third], "conflict"),
            (vec![other, third], "maybe stored"),
            (vec![None], "not stored"),
            (vec![other, None], "not stored"),
        ] {
            let bucket = Looks(Mutex::new(looks.clone().into()));
            let found = match what_stands_there(&bucket, "key", info).await {
                Ok(Attempt::Stored) => "stored",
                Ok(Attempt::Conflict) => "conflict",
                Err(error) if error.kind == BucketErrorKind::Transient && error.maybe_stored => "maybe stored",
                Err(error) if error.kind == BucketErrorKind::Transient => "not stored",
                _ => "something else",
            };
            assert_eq!(found, expected, "{looks:?}");
            assert!(bucket.0.lock().unwrap().is_empty(), "{looks:?}");
        }
    }
}
