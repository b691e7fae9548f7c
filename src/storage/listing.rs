//! A bucket's list, asked for until it comes.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::{After, Bucket, BucketError, BucketErrorKind, Page};
use crate::delivery::Backoff;

/// So much time may a bucket ask for before it counts as away: an hour.
const ASKED_IN_ALL: Duration = Duration::from_secs(60 * 60);

/// How often and how long a bucket is asked.
#[derive(Clone, Copy, Debug)]
pub struct Persistence {
    /// How long an answer may take.
    pub deadline: Duration,
    /// How long to wait before the next question.
    pub backoff: Backoff,
    /// How long to ask.
    pub patience: Duration,
}

/// A page of a bucket's list, asked for until it comes or the bucket was away for too long.
///
/// # Errors
///
/// The last failure.
pub async fn page(
    bucket: &dyn Bucket,
    prefix: &str,
    after: Option<&After>,
    how: Persistence,
) -> Result<Page, BucketError> {
    let (begun, mut failures, mut rng) = (Instant::now(), 0, fastrand::Rng::new());
    let mut asked = Duration::ZERO;
    loop {
        let error = match timeout(how.deadline, bucket.list(prefix, after)).await {
            Ok(Ok(page)) => return Ok(page),
            Ok(Err(error)) => error,
            Err(_) => BucketError {
                kind: BucketErrorKind::Transient,
                maybe_stored: false,
                retry_after: None,
                message: format!("{}: no answer to a question for its list", bucket.label()),
            },
        };
        failures += 1;
        let passes = matches!(error.kind, BucketErrorKind::Transient | BucketErrorKind::Throttled);
        // While a store has asked for time it is not away.
        if !passes || begun.elapsed().saturating_sub(asked.min(ASKED_IN_ALL)) >= how.patience {
            return Err(error);
        }
        let wait = error.retry_after.unwrap_or_default();
        asked += wait;
        tokio::time::sleep(wait + how.backoff.delay(failures, None, &mut rng).min(how.patience)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use async_trait::async_trait;
    use bytes::Bytes;

    use super::*;
    use crate::storage::{ContentType, Created, Incoming, ObjectInfo, StreamError, Streamed};

    /// A bucket that asks for so much time before it lists what it has, as often as this.
    struct Busy(Duration, AtomicU32);

    #[async_trait]
    impl Bucket for Busy {
        async fn create(&self, _: &str, _: Bytes, _: u32, _: ContentType) -> Result<Created, BucketError> {
            unreachable!("only its list is asked for")
        }

        async fn create_stream(&self, _: &str, _: Incoming) -> Result<Streamed, StreamError> {
            unreachable!("only its list is asked for")
        }

        async fn head(&self, _: &str) -> Result<Option<ObjectInfo>, BucketError> {
            unreachable!("only its list is asked for")
        }

        async fn get(&self, _: &str, _: u64) -> Result<Option<Bytes>, BucketError> {
            unreachable!("only its list is asked for")
        }

        async fn list(&self, _: &str, _: Option<&After>) -> Result<Page, BucketError> {
            if self.1.load(Relaxed) == 0 {
                return Ok(Page::default());
            }
            self.1.fetch_sub(1, Relaxed);
            let (kind, retry_after) = (BucketErrorKind::Throttled, Some(self.0));
            Err(BucketError { kind, maybe_stored: false, retry_after, message: "busy".to_owned() })
        }

        fn base_url(&self) -> &str {
            "memory:///"
        }

        fn label(&self) -> &str {
            "memory"
        }
    }

    #[tokio::test]
    async fn a_store_that_asks_for_time_is_not_away() {
        let asked = Duration::from_millis(600);
        let backoff = Backoff { min: Duration::from_millis(1), max: Duration::from_millis(1) };
        let how = Persistence { deadline: Duration::from_secs(30), backoff, patience: asked / 2 };
        let begun = Instant::now();
        page(&Busy(asked, AtomicU32::new(2)), "", None, how).await.unwrap();
        assert!(begun.elapsed() >= 2 * asked);
        // One that fails without asking for time is.
        let failing = Busy(Duration::ZERO, AtomicU32::new(u32::MAX));
        assert_eq!(page(&failing, "", None, how).await.unwrap_err().kind, BucketErrorKind::Throttled);
    }
}
