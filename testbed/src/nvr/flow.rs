//! The body of an answer: at once, or a recording at its pace and to its end, which may come early.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::media::Media;
use super::session::Session;

/// The most that is handed over at a time: what is counted as sent was, but for this.
const SLICE: usize = 1 << 20;

/// How a download ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    InOrder,
    /// The connection breaks off.
    Cut,
    /// Nothing more comes, and nothing ends.
    Silence,
}

/// A body.
#[derive(Debug)]
pub(super) enum Flow {
    Text(Bytes),
    Recording(Box<Play>),
}

/// A recording on its way.
#[derive(Debug)]
pub(super) struct Play {
    media: Media,
    at: u64,
    /// Where it ends.
    until: u64,
    /// The length that the head of the answer tells.
    told: Option<u64>,
    end: End,
    per_s: Option<u64>,
    nap: Option<Pin<Box<Sleep>>>,
    /// Whether all that was handed over has had its chance to leave before the cut.
    flushed: bool,
    session: Session,
}

/// Why a body does not end.
#[derive(Debug)]
pub(super) struct WasCut;

impl Flow {
    pub(super) fn text(body: Bytes) -> Flow {
        Flow::Text(body)
    }

    /// The first `until` bytes of a recording.
    pub(super) fn recording(
        media: Media,
        until: u64,
        told: Option<u64>,
        end: End,
        per_s: Option<u64>,
        session: Session,
    ) -> Flow {
        Flow::Recording(Box::new(Play { media, at: 0, until, told, end, per_s, nap: None, flushed: false, session }))
    }
}

impl Play {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, WasCut>>> {
        if let Some(nap) = &mut self.nap {
            ready!(nap.as_mut().poll(cx));
            self.nap = None;
        }
        let rest = self.until - self.at;
        if rest == 0 {
            return match self.end {
                End::InOrder => Poll::Ready(None),
                End::Silence => Poll::Pending,
                // Whoever polls sends what it has before it polls again.
                End::Cut if !self.flushed => {
                    self.flushed = true;
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                End::Cut => Poll::Ready(Some(Err(WasCut))),
            };
        }
        let mut slice = self.media.from(self.at);
        let mut len = (slice.len().min(SLICE) as u64).min(rest);
        if let Some(per_s) = self.per_s {
            // A tenth of a second's worth, or one byte.
            len = len.min((per_s / 10).max(1));
            self.nap = Some(Box::pin(sleep(Duration::from_secs_f64(len as f64 / per_s as f64))));
        }
        slice.truncate(len as usize);
        self.at += len;
        self.session.sent(len);
        if self.at == self.until && self.end == End::InOrder {
            self.session.ended();
        }
        Poll::Ready(Some(Ok(Frame::data(slice))))
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = WasCut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, WasCut>>> {
        match self.get_mut() {
            Flow::Text(text) if text.is_empty() => Poll::Ready(None),
            Flow::Text(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Flow::Recording(play) => play.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Flow::Text(text) => text.is_empty(),
            Flow::Recording(play) => play.at == play.until && play.end == End::InOrder,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Flow::Text(text) => SizeHint::with_exact(text.len() as u64),
            Flow::Recording(play) => match play.told {
                Some(told) => SizeHint::with_exact(told - play.at),
                None => SizeHint::default(),
            },
        }
    }
}

impl std::fmt::Display for WasCut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is cut, as the knobs want it")
    }
}

impl std::error::Error for WasCut {}
