//! When calls came, for those who judge a client by its pace.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A call of the storage API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When its body had arrived.
    pub at: Instant,
    /// Whether it is an upload.
    pub upload: bool,
    /// Whether one about the same object had come before, since the log was begun.
    pub again: bool,
    /// Until when it was to wait, if the last one about this object was refused with a `Retry-After`.
    pub not_before: Option<Instant>,
}

impl Arrival {
    /// How much sooner it came than it was told to.
    pub fn early(&self) -> Duration {
        self.not_before.map_or(Duration::ZERO, |not_before| not_before.saturating_duration_since(self.at))
    }
}

/// The log of calls, and the names that it has seen.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    /// Until when the next call about each object is to wait.
    names: HashMap<String, Option<Instant>>,
    log: Vec<Arrival>,
}

impl Arrivals {
    /// Takes note of a call about this object, or about none.
    pub(super) fn note(&mut self, upload: bool, name: Option<&str>) {
        let before = name.and_then(|name| self.names.insert(name.to_owned(), None));
        let (at, again) = (Instant::now(), before.is_some());
        self.log.push(Arrival { at, upload, again, not_before: before.flatten() });
    }

    /// The last call about this object is refused, and is not to be repeated for so long.
    pub(super) fn refuse(&mut self, name: Option<&str>, retry_after: Duration) {
        if let Some(not_before) = name.and_then(|name| self.names.get_mut(name)) {
            *not_before = Some(Instant::now() + retry_after);
        }
    }

    pub(super) fn log(&self) -> &[Arrival] {
        &self.log
    }
}
