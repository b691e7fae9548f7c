//! What the tests of an export stand on: a recorder and a bucket that do what they are told.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tempfile::TempDir;
use time::macros::datetime;

use super::Export;
use super::attempt::Context;
use super::bandwidth::Bandwidth;
use crate::config::Destination;
use crate::model::{Origin, UnixMicros};
use crate::nvr::{
    Abilities, Admission, Channel, Container, Days, DeviceClock, DeviceTime, Fetch, Health, Identity, Media, Month,
    Playback, Query, Recorder, RecorderError, RecorderErrorKind, RecorderSettings, Segment, SegmentKind, Span, Track,
    Zone,
};
use crate::storage::{
    After, Bucket, BucketError, BucketErrorKind, ContentType, Created, FileBucket, Incoming, ObjectInfo, Page,
    StreamError, Streamed,
};

/// What a recorder sends.
const FILM: &[u8] = b"\0\0\x01\xba a film";

/// What a recorder fails with for this recording, if it does, when it is asked for the n-th time from 0.
type Failing = Box<dyn Fn(&str, u32) -> Option<RecorderErrorKind> + Send + Sync>;

/// A recorder that sends recordings, and fails as it is told.
pub(super) struct Scripted {
    failing: Failing,
    asked: AtomicU32,
}

impl Scripted {
    pub(super) fn new(failing: impl Fn(&str, u32) -> Option<RecorderErrorKind> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { failing: Box::new(failing), asked: AtomicU32::new(0) })
    }

    /// How often it was asked for a recording.
    pub(super) fn asked(&self) -> u32 {
        self.asked.load(Relaxed)
    }
}

#[async_trait]
impl Recorder for Scripted {
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

    async fn open(&self, fetch: Fetch<'_>) -> Result<Media, RecorderError> {
        let Fetch::Segment(segment) = fetch else { unreachable!("recordings are asked for by name") };
        let turn = self.asked.fetch_add(1, Relaxed);
        if let Some(kind) = (self.failing)(segment.key.as_deref().unwrap_or_default(), turn) {
            return Err(RecorderError::new(kind, "no"));
        }
        let body = stream::iter([Ok(Bytes::from_static(FILM))]).boxed();
        Ok(Media { length: Some(FILM.len() as u64), container: Container::ProgramStream, covers: None, body })
    }

    async fn playback(&self, _: Fetch<'_>) -> Result<Playback, RecorderError> {
        unreachable!("it is only fetched from")
    }

    async fn admit(&self) -> Result<Admission<'_>, RecorderError> {
        unreachable!("it is only fetched from")
    }
}

/// A directory that may take nothing.
#[derive(Debug)]
pub(super) struct Told {
    bucket: FileBucket,
    /// What each put fails with, if it does.
    fails: Option<BucketErrorKind>,
    /// Whether it never tells what it has.
    is_silent: bool,
}

impl Told {
    pub(super) fn new(dir: &TempDir) -> Self {
        let bucket = FileBucket::open(dir.path().to_owned(), &Origin::from_random([0; 5])).unwrap();
        Self { bucket, fails: None, is_silent: false }
    }

    /// One of which each put fails.
    pub(super) fn failing(dir: &TempDir, kind: BucketErrorKind) -> Self {
        Self { fails: Some(kind), ..Self::new(dir) }
    }

    /// One that never tells what it has.
    pub(super) fn silent(dir: &TempDir) -> Self {
        Self { is_silent: true, ..Self::new(dir) }
    }

    fn puts(&self) -> Result<(), BucketError> {
        match self.fails {
            Some(kind) => Err(BucketError {
                kind,
                maybe_stored: false,
                retry_after: None,
                message: "there is no room".to_owned(),
            }),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Bucket for Told {
    async fn create(&self, key: &str, content: Bytes, crc: u32, of: ContentType) -> Result<Created, BucketError> {
        self.puts()?;
        self.bucket.create(key, content, crc, of).await
    }

    async fn create_stream(&self, key: &str, incoming: Incoming) -> Result<Streamed, StreamError> {
        self.puts()?;
        self.bucket.create_stream(key, incoming).await
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, BucketError> {
        self.bucket.head(key).await
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Option<Bytes>, BucketError> {
        self.bucket.get(key, limit).await
    }

    async fn list(&self, prefix: &str, after: Option<&After>) -> Result<Page, BucketError> {
        if self.is_silent {
            pending::<()>().await;
        }
        self.bucket.list(prefix, after).await
    }

    fn base_url(&self) -> &str {
        self.bucket.base_url()
    }

    fn label(&self) -> &str {
        self.bucket.label()
    }
}

/// A recording of ten minutes of track 101 that is long over.
pub(super) fn recording(name: &str, number: i64) -> Segment {
    let at = |minute: i64| {
        let literal = datetime!(2020-11-19 00:00) + time::Duration::minutes(minute);
        let utc = UnixMicros(literal.assume_utc().unix_timestamp() * 1_000_000);
        DeviceTime { literal, utc, ambiguous: false }
    };
    Segment {
        track: "101".into(),
        start: at(10 * number),
        end: at(10 * number + 10),
        clipped: (false, false),
        key: Some(name.into()),
        size: Some(FILM.len() as u64),
        kind: SegmentKind::Video,
        codec: None,
        locked: None,
        open: false,
        locator: serde_json::from_str("\"here\"").unwrap(),
    }
}

/// An export of the recorder's into a bucket, with a patience of ten minutes, that does not wait long before it tries again.
pub(super) fn export(dir: &TempDir) -> Export {
    let recorder = RecorderSettings::new("nvr", "admin", "secret".to_owned().into());
    let destination = Destination::File { dir: dir.path().to_owned() };
    Export { retry_max: Duration::from_millis(1), ..Export::new(recorder, destination) }
}

/// What an attempt needs.
pub(super) fn context(export: Export, recorder: Arc<Scripted>, bucket: Told) -> Context {
    let clock = DeviceClock::new(Zone::utc(), false, time::Duration::ZERO);
    let span = Span { from: UnixMicros(0), to: UnixMicros::now() };
    let bandwidth = Arc::new(Bandwidth::new(None, Instant::now()));
    let bucket = Arc::new(bucket);
    Context { export, recorder, clock, span, bucket, bandwidth, moved: Arc::default(), workshop: None }
}
