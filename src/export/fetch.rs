//! One attempt to fetch a recording: it goes from the recorder into a bucket as it comes, and shows there only when all of
//! it has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use tokio::time::sleep;

use super::Reason;
use super::away::Moved;
use super::bandwidth::Bandwidth;
use super::fault::{Fault, Next};
use crate::nvr::{Container, Fetch, Media, Recorder, RecorderError, Segment};
use crate::storage::{Body, BodyError, Bucket, ContentType, Incoming, ObjectInfo, Patience, StreamError, Streamed};

/// What has come.
#[derive(Clone, Debug)]
pub(super) struct Came {
    /// Where it is in the bucket.
    pub key: String,
    /// Its size and checksum, as they came and as the bucket has them.
    pub info: ObjectInfo,
    /// How it is packed.
    pub container: Container,
    /// Whether it was there already.
    pub there: bool,
}

/// The keys that a recording may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys<'a> {
    /// The file that is listed.
    pub listed: &'a str,
    /// What was cut out by time where a size is listed: whoever compares it with that would find that it differs.
    pub by_time: &'a str,
}

/// The key of what the recorder has cut out of its files by time: it has not the size of the original.
pub(super) fn by_time(stem: &str) -> String {
    format!("{stem}.by-time.mp4")
}

/// How it is fetched.
#[derive(Clone, Debug)]
pub(super) struct How {
    pub bandwidth: Arc<Bandwidth>,
    /// Takes what comes whole although the list tells another size.
    pub any_size: bool,
    /// Bytes that have come of it.
    pub came: Arc<AtomicU64>,
    pub moved: Arc<Moved>,
    /// Whether it goes into the bucket where it stays, and not onto this machine.
    pub stays: bool,
}

/// Fetches a recording into a bucket.
pub(super) async fn fetch(
    recorder: &dyn Recorder,
    segment: &Segment,
    bucket: &dyn Bucket,
    keys: Keys<'_>,
    how: How,
) -> Result<Came, Fault> {
    how.came.store(0, Relaxed);
    let Media { length, container, body, covers } = recorder.open(Fetch::Segment(segment)).await?;
    // Cut out of the recorder's files by time, it is not the file that is listed.
    let by_time = covers.is_some();
    let listed = segment.size.filter(|_| !by_time);
    let expected = expected(listed, length, how.any_size)?;
    let is_other = by_time && segment.size.is_some() && !how.any_size;
    let key = if is_other { keys.by_time } else { keys.listed };
    let came = |info, there| Came { key: key.to_owned(), info, container, there };
    let incoming = Incoming {
        content_type: content_type(container),
        size_hint: expected,
        body: watched(body, expected, how),
        patience: Patience::default(),
    };
    let conflict = || {
        let url = bucket.url(key);
        let detail = format!("{url} is there already and differs: export to another place, or take it away");
        Fault::new(Reason::Conflict, Next::GiveUp, detail)
    };
    match bucket.create_stream(key, incoming).await {
        Ok(Streamed::New(info)) => Ok(came(info, false)),
        Ok(Streamed::Exists { there, came: Some(info) }) if there == info => Ok(came(there, true)),
        Ok(Streamed::Exists { there, came: None }) if Some(there.bytes) == expected => Ok(came(there, true)),
        // Of what is cut out by time nobody tells a size: what a run has stored is known by its key.
        Ok(Streamed::Exists { there, came: None }) if by_time && expected.is_none() => Ok(came(there, true)),
        Ok(Streamed::Exists { .. }) => Err(conflict()),
        Err(StreamError::Bucket(error)) => Err(error.into()),
        Err(StreamError::Body(error)) => Err(match error.downcast::<Fault>() {
            Ok(fault) => *fault,
            Err(error) => Fault::new(Reason::Cut, Next::Again, error.to_string()),
        }),
    }
}

/// What a bucket is told that it is.
pub(super) fn content_type(container: Container) -> ContentType {
    match container {
        Container::ProgramStream => ContentType::ProgramStream,
        Container::Mp4 => ContentType::Mp4,
        Container::Jpeg => ContentType::Jpeg,
        Container::Unknown => ContentType::Unknown,
    }
}

/// The size that a whole recording has, as far as anybody tells.
fn expected(listed: Option<u64>, length: Option<u64>, any_size: bool) -> Result<Option<u64>, Fault> {
    match (listed, length) {
        (Some(listed), Some(length)) if listed != length && !any_size => {
            let detail = format!(
                "the recorder lists {listed} bytes and sends {length}: what it sends is cut off, or its list is wrong; \
                 --any-size takes it all the same"
            );
            Err(Fault::new(Reason::WrongSize, Next::Again, detail))
        }
        (_, Some(length)) => Ok(Some(length)),
        (Some(listed), None) if !any_size => Ok(Some(listed)),
        (_, None) => Ok(None),
    }
}

/// A recording on its way, with a fault of ours at its end where it is not whole.
fn watched(body: BoxStream<'static, Result<Bytes, RecorderError>>, expected: Option<u64>, how: How) -> Body {
    struct Way {
        body: BoxStream<'static, Result<Bytes, RecorderError>>,
        came: u64,
        over: bool,
    }
    let way = Way { body, came: 0, over: false };
    unfold(way, move |mut way| {
        let how = how.clone();
        async move {
            if way.over {
                return None;
            }
            let piece = match way.body.next().await {
                Some(Ok(piece)) => {
                    way.came += piece.len() as u64;
                    how.came.store(way.came, Relaxed);
                    how.moved.came();
                    if how.stays {
                        how.moved.taken(way.came);
                    }
                    match expected {
                        Some(expected) if way.came > expected => Err(Fault::new(
                            Reason::WrongSize,
                            Next::Again,
                            format!("more than the {expected} bytes have come that the recorder tells of"),
                        )),
                        _ => {
                            let wait = how.bandwidth.take(Instant::now(), piece.len());
                            if !wait.is_zero() {
                                sleep(wait).await;
                            }
                            Ok(piece)
                        }
                    }
                }
                Some(Err(error)) => Err(Fault::on_the_way(error)),
                None => match expected {
                    Some(expected) if way.came < expected => Err(Fault::new(
                        Reason::Cut,
                        Next::Again,
                        format!("it ended after {} of {expected} bytes", way.came),
                    )),
                    None if way.came == 0 => {
                        Err(Fault::new(Reason::NotMedia, Next::Again, "nothing has come at all".to_owned()))
                    }
                    _ => return None,
                },
            };
            way.over = piece.is_err();
            Some((piece.map_err(|fault| Box::new(fault) as BodyError), way))
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use futures_util::stream;
    use time::macros::datetime;

    use super::*;
    use crate::model::{Origin, UnixMicros};
    use crate::nvr::{
        Abilities, Admission, Channel, Days, DeviceTime, Health, Identity, Month, Playback, Query, RecorderErrorKind,
        SegmentKind, Span, Track,
    };
    use crate::storage::FileBucket;

    const AT: DeviceTime =
        DeviceTime { literal: datetime!(2026-11-19 00:00), utc: UnixMicros(1_795_046_400_000_000), ambiguous: false };

    /// Sends nothing but spans of time.
    struct SpansOnly;

    #[async_trait]
    impl Recorder for SpansOnly {
        async fn identify(&self) -> Result<(Identity, Abilities), RecorderError> {
            unreachable!("it is only fetched from")
        }

        async fn tracks(&self) -> Result<Vec<Track>, RecorderError> {
            unreachable!("it is only fetched from")
        }

        async fn channels(&self) -> Result<Vec<Channel>, RecorderError> {
            unreachable!("it is only fetched from")
        }

        async fn rtsp_port(&self) -> Result<u16, RecorderError> {
            unreachable!("it is only fetched from")
        }

        async fn health(&self) -> Result<Health, RecorderError> {
            unreachable!("it is only fetched from")
        }

        async fn days(&self, _: &str, _: Month) -> Result<Option<Days>, RecorderError> {
            unreachable!("it is only fetched from")
        }

        fn search(&self, _: Query) -> BoxStream<'_, Result<Segment, RecorderError>> {
            unreachable!("it is only fetched from")
        }

        async fn open(&self, _: Fetch<'_>) -> Result<Media, RecorderError> {
            let body = stream::iter([Ok(Bytes::from_static(b"12345"))]).boxed();
            let covers = Some(Span { from: AT.utc, to: AT.utc });
            Ok(Media { length: None, container: Container::ProgramStream, covers, body })
        }

        async fn playback(&self, _: Fetch<'_>) -> Result<Playback, RecorderError> {
            unreachable!("it is only fetched from")
        }

        async fn admit(&self) -> Result<Admission<'_>, RecorderError> {
            unreachable!("it is only fetched from")
        }
    }

    #[tokio::test]
    async fn what_came_by_time_does_not_stand_where_the_listed_file_would() {
        let dir = tempfile::tempdir().unwrap();
        let bucket = FileBucket::open(dir.path().to_owned(), &Origin::from_random([0; 5])).unwrap();
        let keys = Keys { listed: "a.mp4", by_time: "a.by-time.mp4" };
        let get = async |size, any_size| {
            let segment = Segment {
                track: "101".into(),
                start: AT,
                end: AT,
                clipped: (false, false),
                key: Some("a".into()),
                size,
                kind: SegmentKind::Video,
                codec: None,
                locked: None,
                open: false,
                locator: serde_json::from_str("\"here\"").unwrap(),
            };
            let bandwidth = Arc::new(Bandwidth::new(None, Instant::now()));
            let how = How { bandwidth, any_size, came: Arc::default(), moved: Arc::default(), stays: true };
            let came = fetch(&SpansOnly, &segment, &bucket, keys, how).await.unwrap();
            (came.key, came.there)
        };
        assert_eq!(get(Some(9), false).await, ("a.by-time.mp4".into(), false));
        assert_eq!(get(Some(9), false).await, ("a.by-time.mp4".into(), true));
        assert!(!dir.path().join("a.mp4").exists());
        // Where nobody compares sizes it needs no name of its own.
        assert_eq!(get(None, false).await, ("a.mp4".into(), false));
        assert_eq!(get(Some(9), true).await, ("a.mp4".into(), true));
    }

    async fn over(pieces: Vec<Result<Bytes, RecorderError>>, expected: Option<u64>) -> Result<u64, Reason> {
        let came = Arc::new(AtomicU64::new(0));
        let bandwidth = Arc::new(Bandwidth::new(None, Instant::now()));
        let how = How { bandwidth, any_size: false, came: came.clone(), moved: Arc::default(), stays: true };
        let mut body = watched(stream::iter(pieces).boxed(), expected, how);
        let mut bytes = 0;
        while let Some(piece) = body.next().await {
            match piece {
                Ok(piece) => bytes += piece.len() as u64,
                Err(error) => {
                    assert!(body.next().await.is_none(), "an error is the last of it");
                    return Err(error.downcast::<Fault>().unwrap().reason);
                }
            }
        }
        assert_eq!(came.load(Relaxed), bytes);
        Ok(bytes)
    }

    #[tokio::test]
    async fn only_what_is_whole_ends_without_a_fault() {
        let piece = || Ok(Bytes::from_static(b"12345"));
        let cut = || Err(RecorderError::new(RecorderErrorKind::Io, "cut"));
        let stall = || Err(RecorderError::new(RecorderErrorKind::Timeout, "stall"));
        assert_eq!(over(vec![piece(), piece()], Some(10)).await, Ok(10));
        assert_eq!(over(vec![piece(), piece()], None).await, Ok(10));
        assert_eq!(over(vec![piece()], Some(10)).await, Err(Reason::Cut));
        assert_eq!(over(vec![piece(), piece(), piece()], Some(10)).await, Err(Reason::WrongSize));
        assert_eq!(over(vec![piece(), cut()], Some(10)).await, Err(Reason::Cut));
        assert_eq!(over(vec![piece(), stall()], None).await, Err(Reason::Silent));
        assert_eq!(over(vec![], None).await, Err(Reason::NotMedia));
    }

    #[test]
    fn a_size_that_differs_from_the_list_is_a_fault_unless_it_is_allowed() {
        let of = |listed, length, any| expected(listed, length, any).map_err(|fault| fault.reason);
        assert_eq!(of(Some(5), Some(5), false), Ok(Some(5)));
        assert_eq!(of(Some(5), Some(4), false), Err(Reason::WrongSize));
        assert_eq!(of(Some(5), Some(4), true), Ok(Some(4)));
        assert_eq!(of(Some(5), None, false), Ok(Some(5)));
        assert_eq!(of(Some(5), None, true), Ok(None));
        assert_eq!(of(None, Some(4), false), Ok(Some(4)));
        assert_eq!(of(None, None, false), Ok(None));
    }
}
