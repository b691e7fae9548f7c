//! Destinations that could not be used when the daemon started.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Hub;
use crate::delivery::Verdict;
use crate::storage::{Bucket as _, BucketError, BucketErrorKind, Later};

/// The least time between two trials. The gate makes it longer when it is shut.
const AGAIN: Duration = Duration::from_secs(1);

/// Tries to open a bucket until that is done, as often as the gate lets an attempt go. So its destination says what is
/// wrong before the first frame wants to go there, and is taken up when it is mended though there are none.
pub async fn knock(hub: Hub, bucket: Arc<Later>, deadline: Duration) {
    loop {
        let permit = hub.permit().await;
        let (verdict, error) = match timeout(deadline, bucket.open()).await {
            Ok(Ok(_)) => (Verdict::Answered, None),
            Ok(Err(error)) => (error.kind.into(), Some(error)),
            Err(_) => {
                let message = format!("{}: it is not open after {:.1} s", bucket.url(""), deadline.as_secs_f64());
                let kind = BucketErrorKind::Transient;
                (Verdict::Throttled, Some(BucketError { kind, maybe_stored: false, retry_after: None, message }))
            }
        };
        permit.ended(None, verdict, error.as_ref());
        if error.is_none() {
            return;
        }
        sleep(AGAIN).await;
    }
}
