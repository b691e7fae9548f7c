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

/// A list that is read page by page.
pub(super) struct Listing {
    place: usize,
    prefix: String,
    after: Option<After>,
    /// The last key of the page before.
    last: Option<String>,
    over: bool,
}

impl Listing {
    /// The objects of a place whose keys begin with `prefix`, behind a key.
    pub fn new(place: usize, prefix: String, behind: Option<String>) -> Self {
        Self { place, prefix, after: behind.map(After::Key), last: None, over: false }
    }
}

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
    async fn list(&self, place: usize, prefix: &str, after: Option<&After>) -> Result<Page, BucketError> {
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

    /// The next page of a list; `None` after the last one.
    pub async fn next(&self, listing: &mut Listing) -> Result<Option<Page>, BucketError> {
        if listing.over {
            return Ok(None);
        }
        let page = self.list(listing.place, &listing.prefix, listing.after.as_ref()).await?;
        let goes_on = match page.objects.first() {
            Some(first) => listing.last.as_ref().is_none_or(|last| *last < first.key),
            None => page.next.is_none() || page.next != listing.after,
        };
        if !goes_on {
            return Err(self.repeats(listing.place));
        }
        if let Some(last) = page.objects.last() {
            listing.last = Some(last.key.clone());
        }
        (listing.after, listing.over) = (page.next.clone(), page.next.is_none());
        Ok(Some(page))
    }

    fn repeats(&self, place: usize) -> BucketError {
        BucketError {
            kind: BucketErrorKind::Permanent,
            maybe_stored: true,
            retry_after: None,
            message: format!(
                "{}: its list does not go on from page to page: it has no end",
                self.places.get(place).bucket.label()
            ),
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
