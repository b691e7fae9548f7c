//! How long a bucket is waited for while an object of any size goes into it.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::attempt::{REFUSED_TIMES, looks};
use super::pieces::Piece;
use super::{Bucket, BucketError, BucketErrorKind, ContentType, Created, ObjectInfo, Patience, Streamed};
use crate::delivery::Backoff;

/// From a wait that nobody notices up to one at which a piece more or less does no harm to a bucket that is overloaded.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(250), max: Duration::from_secs(30) };

impl Patience {
    /// Waits for an answer to so many bytes.
    pub(super) async fn within<T>(
        &self,
        label: &str,
        bytes: u64,
        answer: impl Future<Output = Result<T, BucketError>>,
    ) -> Result<T, BucketError> {
        let deadline = self.answer + Duration::from_secs_f64(bytes as f64 / self.slowest.max(1) as f64);
        timeout(deadline, answer).await.unwrap_or_else(|_| {
            Err(BucketError {
                kind: BucketErrorKind::Transient,
                maybe_stored: true,
                retry_after: None,
                message: format!("{label}: no answer within {:.1} s", deadline.as_secs_f64()),
            })
        })
    }
}

/// The tries since something was taken last.
#[derive(Debug)]
pub(super) struct Tries {
    patience: Patience,
    failures: u32,
    refusals: u32,
    since: Option<Instant>,
    /// Whether the bucket has ever let us in.
    begun: bool,
}

impl Tries {
    pub(super) fn new(patience: Patience) -> Self {
        Self { patience, failures: 0, refusals: 0, since: None, begun: false }
    }

    /// The bucket has let us in, and taken nothing yet.
    pub(super) fn begun(&mut self) {
        self.begun = true;
    }

    /// Something was taken: all patience is there again.
    pub(super) fn progressed(&mut self) {
        *self = Self { begun: true, ..Self::new(self.patience) };
    }

    /// Waits until it is time to try again.
    ///
    /// # Errors
    ///
    /// The failure itself, when there is no use in that or patience has come to its end.
    pub(super) async fn again(&mut self, failure: BucketError) -> Result<(), BucketError> {
        sleep(self.wait(failure, Instant::now())?).await;
        Ok(())
    }

    /// How long to wait after a failure.
    fn wait(&mut self, failure: BucketError, now: Instant) -> Result<Duration, BucketError> {
        let worth_it = match failure.kind {
            BucketErrorKind::Transient | BucketErrorKind::Throttled => true,
            // Bytes that were damaged on the way are refused as well.
            BucketErrorKind::Permanent => {
                self.refusals += 1;
                self.refusals < REFUSED_TIMES
            }
            // Who was let in a moment ago has a token that has come to its end, and there will be others.
            BucketErrorKind::Auth => self.begun,
            BucketErrorKind::NotFound => false,
        };
        self.failures += 1;
        let wait = BACKOFF.delay(self.failures, failure.retry_after, &mut fastrand::Rng::new());
        let since = *self.since.get_or_insert(now);
        let in_time = now.saturating_duration_since(since) + wait <= self.patience.retries_within;
        if worth_it && in_time { Ok(wait) } else { Err(failure) }
    }
}

/// Puts an object that is one piece, by [`Bucket::create`].
///
/// # Errors
///
/// The last failure, when patience has come to its end or there is no use in trying again.
pub(super) async fn put_whole(
    bucket: &dyn Bucket,
    key: &str,
    piece: Piece,
    content_type: ContentType,
    patience: Patience,
) -> Result<Streamed, BucketError> {
    let ours = piece.to_here;
    let (mut tries, mut maybe_ours, mut stood) = (Tries::new(patience), false, false);
    loop {
        let put = async {
            match bucket.create(key, piece.content.clone(), ours.crc32c, content_type).await? {
                Created::New => Ok(Streamed::New(ours)),
                Created::Exists => {
                    stood = true;
                    Ok(met(looks(bucket, key, ours).await?, ours, maybe_ours))
                }
            }
        };
        let failure = match patience.within(bucket.label(), ours.bytes, put).await {
            Ok(streamed) => return Ok(streamed),
            Err(failure) => failure,
        };
        // What stood there before any answer was lost is not ours, whatever becomes of the looks at it.
        maybe_ours |= failure.maybe_stored && !stood;
        tries.again(failure).await?;
    }
}

/// What to say of an object that was met when all of ours had been sent. `maybe_ours` where an answer was lost before.
pub(super) fn met(there: ObjectInfo, ours: ObjectInfo, maybe_ours: bool) -> Streamed {
    if maybe_ours && there == ours { Streamed::New(ours) } else { Streamed::Exists { there, came: Some(ours) } }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use bytes::Bytes;

    use super::*;
    use crate::storage::{After, Incoming, Page, StreamError};

    /// A bucket with an object, at which the first look fails; so many answers to puts are lost before.
    struct Full {
        there: ObjectInfo,
        lost: Mutex<u32>,
        looked: Mutex<bool>,
    }

    #[async_trait::async_trait]
    impl Bucket for Full {
        async fn create(&self, _: &str, _: Bytes, _: u32, _: ContentType) -> Result<Created, BucketError> {
            let mut lost = self.lost.lock().unwrap();
            if *lost == 0 {
                return Ok(Created::Exists);
            }
            *lost -= 1;
            Err(BucketError { maybe_stored: true, ..failure(BucketErrorKind::Transient) })
        }

        async fn create_stream(&self, _: &str, _: Incoming) -> Result<Streamed, StreamError> {
            unreachable!("it is put at once")
        }

        async fn head(&self, _: &str) -> Result<Option<ObjectInfo>, BucketError> {
            match std::mem::replace(&mut *self.looked.lock().unwrap(), true) {
                true => Ok(Some(self.there)),
                false => Err(failure(BucketErrorKind::Transient)),
            }
        }

        async fn get(&self, _: &str, _: u64) -> Result<Option<Bytes>, BucketError> {
            unreachable!("nobody reads it")
        }

        async fn list(&self, _: &str, _: Option<&After>) -> Result<Page, BucketError> {
            unreachable!("nobody lists it")
        }

        fn base_url(&self) -> &str {
            "memory:///"
        }

        fn label(&self) -> &str {
            "memory"
        }
    }

    #[tokio::test]
    async fn what_was_there_before_is_not_called_new_when_a_look_at_it_fails() {
        let content = Bytes::from_static(b"a recording");
        let ours = ObjectInfo { bytes: content.len() as u64, crc32c: crc32c::crc32c(&content) };
        let exists = Streamed::Exists { there: ours, came: Some(ours) };
        for (lost, expected) in [(0, exists), (1, Streamed::New(ours))] {
            let bucket = Full { there: ours, lost: Mutex::new(lost), looked: Mutex::new(false) };
            let piece = Piece { content: content.clone(), to_here: ours, last: true };
            let put = put_whole(&bucket, "key", piece, ContentType::Mp4, Patience::default()).await.unwrap();
            assert_eq!(put, expected, "{lost} answers lost");
        }
    }

    fn failure(kind: BucketErrorKind) -> BucketError {
        BucketError { kind, maybe_stored: false, retry_after: None, message: "no".to_owned() }
    }

    #[test]
    fn what_passes_is_tried_again_and_what_does_not_is_told_at_once() {
        use BucketErrorKind::{Auth, NotFound, Permanent, Throttled, Transient};
        let patience = Patience { retries_within: Duration::MAX, ..Patience::default() };
        for (kind, before, after) in [
            (Transient, 1_000, 1_000),
            (Throttled, 1_000, 1_000),
            (Permanent, REFUSED_TIMES - 1, REFUSED_TIMES - 1),
            (Auth, 0, 1_000),
            (NotFound, 0, 0),
        ] {
            for (begun, expected) in [(false, before), (true, after)] {
                let mut tries = Tries::new(patience);
                if begun {
                    tries.progressed();
                }
                let mut waits = 0;
                while waits < 1_000 && tries.wait(failure(kind), Instant::now()).is_ok() {
                    waits += 1;
                }
                assert_eq!(waits, expected, "{kind:?}, begun: {begun}");
            }
        }
    }

    #[test]
    fn patience_ends_and_is_there_again_when_something_was_taken() {
        let mut tries = Tries::new(Patience { retries_within: Duration::from_secs(60), ..Patience::default() });
        let begun = Instant::now();
        let fails_at =
            |tries: &mut Tries, s| tries.wait(failure(BucketErrorKind::Transient), begun + Duration::from_secs(s));
        // The second wait is half a second at the most.
        assert!(fails_at(&mut tries, 0).unwrap() <= Duration::from_millis(250));
        assert!(fails_at(&mut tries, 59).unwrap() <= Duration::from_millis(500));
        assert!(fails_at(&mut tries, 61).is_err());
        tries.progressed();
        assert!(fails_at(&mut tries, 61).is_ok());
        let long = BucketError { retry_after: Some(Duration::from_secs(61)), ..failure(BucketErrorKind::Throttled) };
        assert!(tries.wait(long, begun).is_err(), "nobody is waited for who asks for more than there is");
    }

    #[tokio::test]
    async fn an_answer_gets_the_time_that_its_bytes_need() {
        let patience = Patience { answer: Duration::from_millis(100), slowest: 1_000, ..Patience::default() };
        for (bytes, tenths) in [(0, 1), (300, 4)] {
            let begun = Instant::now();
            let answer = std::future::pending::<Result<(), BucketError>>();
            let error = patience.within("gs://frames", bytes, answer).await.unwrap_err();
            assert_eq!(error.message, format!("gs://frames: no answer within 0.{tenths} s"));
            assert!(error.maybe_stored);
            assert!(begun.elapsed() >= Duration::from_millis(tenths * 100));
        }
    }
}
