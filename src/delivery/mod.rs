//! How frames leave: what waits, what goes next, whether its destination may be asked, when to try again, and how far
//! the order is complete. Pure: no actor, no I/O; the clock is passed in.

mod backoff;
mod breaker;
mod dispatcher;
mod gate;
mod limiter;
mod pause;
mod reorder;
#[cfg(test)]
mod simulation;

pub use backoff::{Backoff, attempt_deadline};
pub use dispatcher::{Budget, Dispatcher, Job, Pulled, WINDOW};
pub use gate::{Answer, Change, DestinationState, Errand, Gate, Ticket, Verdict};
pub use reorder::Reorder;
