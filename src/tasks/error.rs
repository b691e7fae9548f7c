//! What can go wrong at the desk.

use super::queue::LeaseLost;
use crate::journal::JournalError;

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum TasksError {
    /// There is no job of this id.
    #[error("there is no export `{0}`")]
    NoSuchJob(String),
    /// The job is not over.
    #[error("export `{0}` is not over: cancel it first, and wait until no worker is at it")]
    NotOver(String),
    /// A word on a lease that is over, or that is another's.
    #[error(transparent)]
    LeaseLost(#[from] LeaseLost),
    /// There are too many jobs or tasks.
    #[error("there are as many {0} as may be kept: remove exports that are over")]
    TooMany(&'static str),
    /// The disk is full.
    #[error("the disk of `state.dir` is full, and nothing can be written down: make room there")]
    NoRoom,
    /// The daemon is stopping.
    #[error("the daemon is stopping")]
    Stopping,
    /// The journal, or a file beside it, cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
}
