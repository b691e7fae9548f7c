//! When calls came, for those who judge a client by its pace.

use std::collections::HashSet;
use std::time::Instant;

/// A call of the storage API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When its body had arrived.
    pub at: Instant,
    /// Whether it is an upload.
    pub upload: bool,
    /// Whether one about the same object had come before, since the log was begun.
    pub again: bool,
}

/// The log of calls, and the names that it has seen.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    names: HashSet<String>,
    log: Vec<Arrival>,
}

impl Arrivals {
    /// Takes note of a call about this object, or about none.
    pub(super) fn note(&mut self, upload: bool, name: Option<&str>) {
        let again = name.is_some_and(|name| !self.names.insert(name.to_owned()));
        self.log.push(Arrival { at: Instant::now(), upload, again });
    }

    pub(super) fn log(&self) -> &[Arrival] {
        &self.log
    }
}
