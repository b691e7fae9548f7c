//! Export tasks on their way to workers: which is next, who has which, and what became of it.
//!
//! A job is a set of tasks that were asked for at once, a task one channel of one recorder and one span, a lease a
//! worker's hold on a task. [`Queue`] decides and is plain state; [`Desk`] is what requests talk to: it lets the queue
//! decide, has the journal write each change down, and answers when that is durable. A later lease has a higher number,
//! and a word on a lease that is over changes nothing, however late it comes.

mod desk;
mod endings;
mod error;
mod few;
mod hands;
mod jobs;
mod lease;
mod line;
mod login;
mod queue;
mod recorders;
mod said;
#[cfg(test)]
mod tests;

pub use desk::{Desk, TaskView};
pub use error::TasksError;
pub use hands::Handed;
pub use lease::Lease;
pub use line::line;
pub use queue::{Beat, Failure, GIVEN_BACK, GettingOn, LeaseLost, Now, Queue, Rules, Taken, TextBefore};

/// Tasks of one job, at most.
pub const MOST_OF_A_JOB: usize = 100_000;
/// Tasks of all jobs that were not removed, at most.
const MOST_TASKS: u64 = 1_000_000;
/// Jobs that were not removed, at most.
const MOST_JOBS: usize = 10_000;
