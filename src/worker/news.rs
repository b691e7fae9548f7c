//! What a worker has to tell.

use std::time::Instant;

use tokio::sync::watch;

use super::lease::Counts;
use crate::export::Progress;

/// What has happened.
#[derive(Clone, Debug)]
pub enum News {
    /// The server cannot be reached, or has no time. Told once until it is back.
    Away {
        /// Why.
        why: String,
    },
    /// The server is back.
    Back,
    /// A task was taken.
    Taken(Task),
    /// A task has ended, as far as this worker is concerned.
    Ended {
        /// Which.
        task: Task,
        /// How.
        ending: Ending,
        /// What was stored.
        counts: Counts,
    },
}

/// A task, as it is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Task {
    /// What the server calls it: the same each time that it is handed out.
    pub id: String,
    /// The task in a few words.
    pub name: String,
    /// How often it was handed out, this time among them.
    pub attempt: u32,
}

/// How a task has ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    /// All that there is of it is stored.
    Done,
    /// It failed.
    Failed {
        /// Why, in a word.
        kind: &'static str,
        /// Why.
        message: String,
        /// Whether the server may hand it out again.
        retry: bool,
    },
    /// It was given back, because the worker was told to end.
    GivenBack,
    /// Somebody has cancelled it.
    Cancelled,
    /// It is another's by now, or may be.
    Lost(String),
}

/// What a slot does.
#[derive(Clone, Debug)]
pub enum Current {
    /// It asks for a task.
    Asking,
    /// There is none for it now.
    Idle,
    /// The server is away.
    Away,
    /// It works.
    Working {
        /// On which task.
        task: Task,
        /// Since when.
        since: Instant,
        /// How far it is.
        progress: watch::Receiver<Progress>,
    },
    /// It has ended.
    Over,
}
