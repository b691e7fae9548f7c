//! The body of an answer, at once or at the pace of a bad line.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// Bytes that come as fast as they can, or so many per second. Its length is told beforehand in either case.
#[derive(Debug)]
pub(super) struct Paced {
    rest: Bytes,
    per_s: Option<u64>,
    nap: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    pub(super) fn new(body: Bytes, per_s: Option<u64>) -> Paced {
        Paced { rest: body, per_s, nap: None }
    }

    pub(super) fn at_once(body: Bytes) -> Paced {
        Paced::new(body, None)
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if let Some(nap) = &mut this.nap {
            ready!(nap.as_mut().poll(cx));
            this.nap = None;
        }
        if this.rest.is_empty() {
            return Poll::Ready(None);
        }
        let slice = match this.per_s {
            None => std::mem::take(&mut this.rest),
            Some(per_s) => {
                // A tenth of a second's worth, or one byte.
                let len = (per_s / 10).clamp(1, this.rest.len() as u64);
                this.nap = Some(Box::pin(sleep(Duration::from_secs_f64(len as f64 / per_s as f64))));
                this.rest.split_to(len as usize)
            }
        };
        Poll::Ready(Some(Ok(Frame::data(slice))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
