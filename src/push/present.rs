//! What an earlier push of the same pictures has stored, as the bucket's list tells it.

use std::collections::HashMap;
use std::time::Instant;

use tokio::time::timeout;

use super::Push;
use crate::delivery::Backoff;
use crate::model::Seq;
use crate::storage::{After, Bucket, BucketError, BucketErrorKind, Page};

/// The name of a picture's object.
pub(super) fn key(seq: Seq) -> String {
    format!("{seq:012}.jpg")
}

/// Size and, where the store tells it, checksum of what has a picture's name.
pub(super) type Found = (u64, Option<u32>);

/// What an earlier push has stored.
pub(super) async fn of(push: &Push, bucket: &dyn Bucket) -> Result<HashMap<Seq, Found>, BucketError> {
    let (mut present, mut after) = (HashMap::new(), None);
    loop {
        let page = page(push, bucket, after.as_ref()).await?;
        for object in page.objects {
            // Others may have theirs below the same prefix.
            let seq = object.key.strip_suffix(".jpg").and_then(|seq| seq.parse().ok());
            if let Some(seq) = seq.filter(|seq| key(*seq) == object.key) {
                present.insert(seq, (object.bytes, object.crc32c));
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(present);
        }
    }
}

/// A page of the bucket's list, asked for until it comes or the destination was away for too long.
async fn page(push: &Push, bucket: &dyn Bucket, after: Option<&After>) -> Result<Page, BucketError> {
    let (begun, mut failures, mut rng) = (Instant::now(), 0, fastrand::Rng::new());
    let backoff = Backoff { min: push.upload.retry_min, max: push.upload.retry_max };
    loop {
        let error = match timeout(push.upload.deadline, bucket.list("", after)).await {
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
        if !passes || begun.elapsed() >= push.patience {
            return Err(error);
        }
        tokio::time::sleep(backoff.delay(failures, error.retry_after, &mut rng).min(push.patience)).await;
    }
}
