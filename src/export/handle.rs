//! An export that goes on, and what it says of itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Entry, ExportError, Survey};

/// How far an export is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Whether it still searches.
    pub searching: bool,
    /// Recordings found.
    pub found: u64,
    /// Their sizes together, as far as the recorder tells them, bytes.
    pub found_bytes: u64,
    /// Of the recordings, fetched and stored.
    pub stored: u64,
    /// Of them, stored before.
    pub there: u64,
    /// Of them, not stored, or not all of it.
    pub failed: u64,
    /// Of those that were stored now, not in the form that was asked for.
    pub noted: u64,
    /// Bytes that have come from the recorder and were verified.
    pub bytes: u64,
    /// The listed sizes of those with an outcome, bytes.
    pub settled_bytes: u64,
    /// Attempts that have failed and were followed by another one.
    pub retries: u64,
    /// What is on its way.
    pub now: Vec<Current>,
    /// What is waited for, in a word or two, where nothing is on its way.
    pub waiting: Option<&'static str>,
}

/// A recording on its way.
#[derive(Clone, Debug)]
pub struct Current {
    /// Its number in the list.
    pub number: u64,
    /// What its object is called.
    pub name: String,
    /// Its size as the recorder tells it, bytes.
    pub of: Option<u64>,
    /// Whether it has come, and is brought into another form.
    pub making: bool,
    pub(super) came: Arc<AtomicU64>,
}

impl Current {
    /// Bytes that have come by now.
    pub fn came(&self) -> u64 {
        self.came.load(Relaxed)
    }
}

/// How an export has ended.
#[derive(Clone, Debug)]
pub struct Summary {
    /// How far it came.
    pub progress: Progress,
    /// What the recorder has; `None` where it was stopped before it was known.
    pub survey: Option<Survey>,
    /// Whether it was [stopped](Running::stop).
    pub stopped: bool,
    /// What kept it from going on, if something did.
    pub ended: Option<ExportError>,
    /// Where its manifest is, if there is one.
    pub manifest: Option<String>,
    /// Other recorders, by the names of their lists, whose recordings lie at the same place under names that do not tell
    /// recorders apart: what is there may be one of theirs.
    pub beside: Vec<String>,
}

impl Summary {
    /// Whether all that there is of what was asked for is in the bucket.
    pub fn is_complete(&self) -> bool {
        let Progress { found, stored, there, .. } = self.progress;
        let searched = self.survey.as_ref().is_some_and(|survey| survey.failed.is_empty());
        searched && !self.stopped && self.ended.is_none() && found == stored + there
    }
}

/// An export that goes on. Dropped, it ends at once; nothing half is left under any name.
#[derive(Debug)]
pub struct Running {
    entries: mpsc::UnboundedReceiver<Entry>,
    stop: Option<oneshot::Sender<()>>,
    cut: CancellationToken,
    progress: watch::Receiver<Progress>,
    driver: AbortOnDropHandle<Result<Summary, ExportError>>,
}

impl Running {
    pub(super) fn new(
        entries: mpsc::UnboundedReceiver<Entry>,
        stop: oneshot::Sender<()>,
        cut: CancellationToken,
        progress: watch::Receiver<Progress>,
        driver: AbortOnDropHandle<Result<Summary, ExportError>>,
    ) -> Self {
        Self { entries, stop: Some(stop), cut, progress, driver }
    }

    /// What became of the next recording, in the order in which that is known; `None` at the end. Loses nothing when it
    /// is dropped while it waits.
    pub async fn next(&mut self) -> Option<Entry> {
        self.entries.recv().await
    }

    /// Lets what is on its way come to its end and begins nothing more.
    pub fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // An error means that it has ended.
            let _ = stop.send(());
        }
    }

    /// Ends what is on its way. What lies there half-done is cleared away by the time at which it has
    /// [finished](Self::finish), which is soon.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// How far it is, now and whenever that changes.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Waits for the end. Entries that were not read are gone. Loses nothing when it is dropped while it waits; to be asked
    /// once.
    ///
    /// # Errors
    ///
    /// What kept it from beginning: what keeps it from going on stands in the summary.
    pub async fn finish(&mut self) -> Result<Summary, ExportError> {
        self.entries.close();
        (&mut self.driver).await.unwrap_or_else(|error| Err(ExportError::Broken(error.to_string())))
    }
}
