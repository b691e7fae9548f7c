//! What an earlier push of the same pictures has stored, as the bucket's list tells it.

use std::collections::HashMap;

use super::Push;
use crate::delivery::Backoff;
use crate::model::Seq;
use crate::storage::{self, Bucket, BucketError, Persistence};

/// The name of a picture's object.
pub(super) fn key(seq: Seq) -> String {
    format!("{seq:012}.jpg")
}

/// Size and, where the store tells it, checksum of what has a picture's name.
pub(super) type Found = (u64, Option<u32>);

/// What an earlier push has stored.
pub(super) async fn of(push: &Push, bucket: &dyn Bucket) -> Result<HashMap<Seq, Found>, BucketError> {
    let backoff = Backoff { min: push.upload.retry_min, max: push.upload.retry_max };
    let how = Persistence { deadline: push.upload.deadline, backoff, patience: push.patience };
    let (mut present, mut after) = (HashMap::new(), None);
    loop {
        let page = storage::page(bucket, "", after.as_ref(), how).await?;
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
