//! The body of a stream: each picture at its time.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use hyper::body::{Body, Bytes, Frame};
use tokio::time::{Instant, Sleep, sleep_until};

/// What stands between pictures. The first line of each part is this with two dashes before it.
pub(super) const BOUNDARY: &str = "picture";

/// A clip's pictures, each as a part of the body.
#[derive(Debug, Clone)]
pub(super) struct Pictures {
    parts: Arc<[Bytes]>,
    fps: u32,
}

impl Pictures {
    pub(super) fn new<'a>(jpegs: impl Iterator<Item = &'a [u8]>, fps: u32) -> Self {
        let part = |jpeg: &[u8]| {
            let head = format!("--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", jpeg.len());
            Bytes::from([head.as_bytes(), jpeg, b"\r\n"].concat())
        };
        Self { parts: jpegs.map(part).collect(), fps }
    }

    /// When picture number `count` comes, counted from the first.
    fn after(&self, count: u64) -> Duration {
        Duration::from_nanos((u128::from(count) * 1_000_000_000 / u128::from(self.fps)) as u64)
    }
}

/// Counts a stream while it lives.
#[derive(Debug)]
pub(super) struct Watching(Arc<AtomicU64>);

impl Watching {
    pub(super) fn new(streams: Arc<AtomicU64>) -> Self {
        streams.fetch_add(1, Ordering::Relaxed);
        Self(streams)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One client's walk through a clip.
#[derive(Debug)]
pub(super) struct Play {
    pictures: Pictures,
    /// Pictures since 1970, as the wall clock saw them, when the stream began, and the time when the last of them came.
    first: u64,
    begun: Instant,
    sent: u64,
    due: Pin<Box<Sleep>>,
    _watching: Watching,
}

impl Play {
    pub(super) fn new(pictures: Pictures, watching: Watching) -> Self {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let first = (since_1970.as_nanos() * u128::from(pictures.fps) / 1_000_000_000) as u64;
        let now = Instant::now();
        let begun = now.checked_sub(since_1970.saturating_sub(pictures.after(first))).unwrap_or(now);
        Self { pictures, first, begun, sent: 0, due: Box::pin(sleep_until(begun)), _watching: watching }
    }
}

impl Body for Play {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let play = self.get_mut();
        ready!(play.due.as_mut().poll(cx));
        let parts = &play.pictures.parts;
        let part = parts[((play.first + play.sent) % parts.len() as u64) as usize].clone();
        play.sent += 1;
        play.due.as_mut().reset(play.begun + play.pictures.after(play.sent));
        Poll::Ready(Some(Ok(Frame::data(part))))
    }
}
