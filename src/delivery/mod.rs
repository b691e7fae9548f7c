//! How frames leave: what waits, what goes next, when to try again, and how far the order is complete. Pure: no actor,
//! no I/O; the clock is passed in.

mod backoff;
mod dispatcher;
mod reorder;

pub use backoff::{Backoff, attempt_deadline};
pub use dispatcher::{Budget, Dispatcher, Job, Pulled, WINDOW};
pub use reorder::Reorder;
