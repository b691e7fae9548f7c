//! The answer that a task goes out with.
//!
//! A worker that is gone must not hold a task, and a client that reads lines is through with one only if it has come. So an
//! answer counts once its beginning was written out without an error; its last byte follows then, and who has all of it is
//! never called one who has not.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use actix_web::web::Bytes;

use crate::tasks::Handed;

/// The body of such an answer. Where it is dropped before it was written, the task goes back.
pub struct HandedBody {
    text: Bytes,
    stage: Stage,
    handed: Option<Handed>,
}

/// What has been done of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begun,
    /// All but its last byte is with the server.
    AllButOne,
    /// The server was asked to write that.
    Flushed,
    Over,
}

impl HandedBody {
    /// An answer with this text, which is not empty.
    pub fn new(text: Vec<u8>, handed: Handed) -> Self {
        Self { text: text.into(), stage: Stage::Begun, handed: Some(handed) }
    }
}

impl MessageBody for HandedBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.text.len() as u64)
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let this = self.get_mut();
        let last = this.text.len().saturating_sub(1);
        match this.stage {
            Stage::Begun => {
                this.stage = Stage::AllButOne;
                Poll::Ready(Some(Ok(this.text.slice(..last))))
            }
            Stage::AllButOne => {
                // The server writes what it has when there is no more for the moment, and ends where that fails.
                this.stage = Stage::Flushed;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Stage::Flushed => {
                this.stage = Stage::Over;
                if let Some(handed) = this.handed.take() {
                    handed.arrived();
                }
                Poll::Ready(Some(Ok(this.text.slice(last..))))
            }
            Stage::Over => Poll::Ready(None),
        }
    }
}
