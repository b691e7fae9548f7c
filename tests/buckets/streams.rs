//! Objects of any size, over every bucket.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use framehaul::storage::{Body, BodyError, Bucket, ContentType, Incoming, ObjectInfo, Patience, StreamError, Streamed};
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::Semaphore;

use super::conformance::{listed, noise};

/// One part of an object that goes into a bucket in several.
pub const PIECE: usize = 8 << 20;

/// So much comes at once: no piece ends where a part of what comes does.
const PART: usize = 100_003;

/// Why a body of a test breaks off.
#[derive(Debug, thiserror::Error)]
#[error("the recorder has hung up")]
pub struct HungUp;

pub fn parts(content: &Bytes) -> impl Iterator<Item = Result<Bytes, BodyError>> + Send + use<> {
    let content = content.clone();
    (0..content.len().div_ceil(PART))
        .map(move |number| Ok(content.slice(number * PART..content.len().min((number + 1) * PART))))
}

pub fn incoming(body: Body) -> Incoming {
    Incoming { content_type: ContentType::Mp4, size_hint: None, body, patience: Patience::default() }
}

pub fn of(content: &Bytes) -> Incoming {
    Incoming { size_hint: Some(content.len() as u64), ..incoming(stream::iter(parts(content)).boxed()) }
}

/// What ends with an error where it should go on.
pub fn cut(content: &Bytes) -> Incoming {
    incoming(stream::iter(parts(content)).chain(stream::once(async { Err(HungUp.into()) })).boxed())
}

/// What comes and then stays away for ever; a permit when it does.
pub fn stalled(content: &Bytes) -> (Incoming, Arc<Semaphore>) {
    let stalls = Arc::new(Semaphore::new(0));
    let told = stalls.clone();
    let silence = stream::once(async move {
        told.add_permits(1);
        std::future::pending().await
    });
    (incoming(stream::iter(parts(content)).chain(silence).boxed()), stalls)
}

pub fn info(content: &Bytes) -> ObjectInfo {
    ObjectInfo { bytes: content.len() as u64, crc32c: crc32c::crc32c(content) }
}

/// All of it, below `streams/`.
pub async fn conforms(bucket: &dyn Bucket) {
    sizes(bucket).await;
    nothing_is_overwritten(bucket).await;
    what_breaks_off_is_nowhere(bucket).await;
    let of_many_one_wins = (0..4).map(|seed| {
        let content = noise(seed, PIECE + 1);
        async move { (bucket.create_stream("streams/race.mp4", of(&content)).await, content) }
    });
    let ended = futures_util::future::join_all(of_many_one_wins).await;
    let there = bucket.head("streams/race.mp4").await.unwrap().unwrap();
    let won: Vec<_> = ended.iter().filter(|(put, _)| matches!(put, Ok(Streamed::New(_)))).collect();
    assert_eq!(won.len(), 1, "{:?}", ended.iter().map(|(put, _)| put).collect::<Vec<_>>());
    assert_eq!(there, info(&won[0].1));
    for (put, content) in ended.iter().filter(|(_, content)| info(content) != there) {
        match put {
            Ok(Streamed::Exists { there: told, came }) => {
                assert_eq!(*told, there);
                assert!(came.is_none_or(|came| came == info(content)));
            }
            // Somebody else was just about to: Azure, of the blocks that another put has taken away.
            other => assert!(matches!(other, Err(StreamError::Bucket(_))), "{other:?}"),
        }
    }
}

async fn sizes(bucket: &dyn Bucket) {
    for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 40 << 20] {
        let (key, content) = (format!("streams/{size}.mp4"), noise(size as u64, size));
        let put = bucket.create_stream(&key, of(&content)).await;
        assert_eq!(put.unwrap(), Streamed::New(info(&content)), "{size}");
        assert_eq!(bucket.head(&key).await.unwrap(), Some(info(&content)), "{size}");
        assert!(bucket.get(&key, size as u64).await.unwrap().unwrap() == content, "{size}");
    }
}

async fn nothing_is_overwritten(bucket: &dyn Bucket) {
    for size in [1, PIECE + 1] {
        let key = format!("streams/{size}.mp4");
        let there = bucket.head(&key).await.unwrap().unwrap();
        for content in [noise(size as u64, size), noise(99, size), noise(98, 3), noise(97, PIECE + 7)] {
            match bucket.create_stream(&key, of(&content)).await.unwrap() {
                Streamed::Exists { there: told, came } => {
                    assert_eq!(told, there);
                    assert!(came.is_none_or(|came| came == info(&content)));
                }
                Streamed::New(_) => panic!("{key} was there"),
            }
            assert_eq!(bucket.head(&key).await.unwrap(), Some(there), "{key}");
        }
    }
}

async fn what_breaks_off_is_nowhere(bucket: &dyn Bucket) {
    let key = "streams/broken/off.mp4";
    for size in [0, 1_000_000, 20 << 20] {
        let content = noise(3, size);
        match bucket.create_stream(key, cut(&content)).await.unwrap_err() {
            StreamError::Body(error) => assert!(error.is::<HungUp>(), "{error}"),
            StreamError::Bucket(error) => panic!("it is not the bucket's: {error}"),
        }
        assert_eq!(bucket.head(key).await.unwrap(), None, "{size}");
    }
    let (body, stalls) = stalled(&noise(4, 20 << 20));
    {
        let mut put = bucket.create_stream(key, body);
        tokio::select! {
            ended = &mut put => panic!("it does not end: {ended:?}"),
            _ = stalls.acquire() => {}
        }
        // What came is on its way, and the put waits for more.
        assert!(put.as_mut().now_or_never().is_none());
    }
    assert_eq!(bucket.head(key).await.unwrap(), None);
    assert_eq!(listed(bucket, "streams/broken/", None).await.0, []);
    // It takes the place of what is not there.
    let content = noise(5, PIECE + 100);
    assert_eq!(bucket.create_stream(key, of(&content)).await.unwrap(), Streamed::New(info(&content)));
}

/// Waits until something holds that happens on another task.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "it does not come to this: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
