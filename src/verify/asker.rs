//! Questions to buckets: each under a deadline, asked again where that may help.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;

use super::place::Places;
use crate::config::UploadSettings;
use crate::delivery::{Backoff, attempt_deadline};
use crate::storage::{After, BucketError, BucketErrorKind, ObjectInfo, Page};

/// How often a question is asked. With the waits of `upload` that is enough for a bucket that now and then says no;
/// one that is down is for a later run.
const ATTEMPTS: u32 = 5;

/// The longest wait before it is asked again: somebody sits before it.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// About what a page of a list or the head of an answer may take, bytes.
const ANSWER: u64 = 2 << 20;

/// Asks buckets.
pub(super) struct Asker {
    /// Which there are.
    pub places: Places,
    deadline: Duration,
    min_rate: NonZeroU32,
    backoff: Backoff,
}

impl Asker {
    pub fn new(places: Places, upload: &UploadSettings) -> Self {
        let backoff = Backoff { min: upload.retry_min, max: upload.retry_max.min(LONGEST_WAIT) };
        Self { places, deadline: upload.deadline, min_rate: upload.min_rate, backoff }
    }

    /// What is known of an object of about so many bytes. Most buckets have it read for that.
    pub async fn head(&self, place: usize, key: &str, bytes: u64) -> Result<Option<ObjectInfo>, BucketError> {
        let bucket = &self.places.get(place).bucket;
        self.ask(place, bytes, || bucket.head(key)).await
    }

    /// A whole object.
    pub async fn get(&self, place: usize, key: &str, limit: u64) -> Result<Option<Bytes>, BucketError> {
        let bucket = &self.places.get(place).bucket;
        self.ask(place, limit, || bucket.get(key, limit)).await
    }

    /// A page of a list.
    pub async fn list(&self, place: usize, prefix: &str, after: Option<&After>) -> Result<Page, BucketError> {
        let bucket = &self.places.get(place).bucket;
        self.ask(place, ANSWER, || bucket.list(prefix, after)).await
    }

    async fn ask<T, F>(&self, place: usize, bytes: u64, question: impl Fn() -> F) -> Result<T, BucketError>
    where
        F: Future<Output = Result<T, BucketError>>,
    {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let deadline = attempt_deadline(self.deadline, self.min_rate, bytes);
        let mut failures = 0;
        loop {
            let error = match tokio::time::timeout(deadline, question()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => self.silent(place, deadline),
            };
            failures += 1;
            let again = matches!(error.kind, BucketErrorKind::Transient | BucketErrorKind::Throttled);
            if !again || failures == ATTEMPTS {
                return Err(error);
            }
            let wait = self.backoff.delay(failures, error.retry_after, &mut fastrand::Rng::new());
            tokio::time::sleep(wait.min(LONGEST_WAIT)).await;
        }
    }

    fn silent(&self, place: usize, deadline: Duration) -> BucketError {
        BucketError {
            kind: BucketErrorKind::Transient,
            maybe_stored: true,
            retry_after: None,
            message: format!("{}: no answer within {deadline:?}", self.places.get(place).bucket.label()),
        }
    }
}
