//! The two ends of a push, and what it says of itself.

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::{Entry, Picture, PushError};
use crate::delivery::DestinationState;
use crate::model::LostReason;

/// What is given to a push.
pub(super) enum Given {
    Picture(Picture),
    Missed(u64, LostReason),
}

/// Where the pictures of a push are given. Dropped, it says that there are no more.
#[derive(Debug)]
pub struct Pictures(mpsc::Sender<Given>);

/// The push has ended before all was given; [`Entries::finish`] says why.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the push has ended")]
pub struct Ended;

impl Pictures {
    pub(super) fn new(given: mpsc::Sender<Given>) -> Self {
        Self(given)
    }

    /// Gives the next picture, and waits until there is room for it: on its way, and in a list that nobody reads.
    ///
    /// # Errors
    ///
    /// When the push has ended.
    pub async fn send(&self, picture: Picture) -> Result<(), Ended> {
        self.0.send(Given::Picture(picture)).await.map_err(|_| Ended)
    }

    /// Says that so many pictures were wanted here and are not there: they have places in the order.
    ///
    /// # Errors
    ///
    /// When the push has ended.
    pub async fn missed(&self, count: u64, why: LostReason) -> Result<(), Ended> {
        self.0.send(Given::Missed(count, why)).await.map_err(|_| Ended)
    }
}

/// How far a push is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Pictures that were given, those that were missed among them.
    pub given: u64,
    /// Of them, stored in this push, or found where they were to be.
    pub stored: u64,
    /// Of them, there already: with [`Push::resume`](super::Push::resume) they were not sent.
    pub there: u64,
    /// Of them, lost.
    pub lost: u64,
    /// Of them, on their way.
    pub in_flight: u64,
    /// Bytes that were stored in this push.
    pub bytes: u64,
    /// How the destination stands.
    pub state: Option<DestinationState>,
}

/// How a push has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// How far it came.
    pub progress: Progress,
    /// Whether it was [stopped](Entries::stop).
    pub stopped: bool,
}

impl Summary {
    /// Whether all that was given is in the bucket.
    pub fn is_complete(&self) -> bool {
        let Progress { given, stored, there, .. } = self.progress;
        !self.stopped && given == stored + there
    }
}

/// The list of a push, entry by entry. Dropped, it ends the push at once.
#[derive(Debug)]
pub struct Entries {
    entries: mpsc::Receiver<Entry>,
    stop: Option<oneshot::Sender<()>>,
    progress: watch::Receiver<Progress>,
    driver: AbortOnDropHandle<Result<Summary, PushError>>,
}

impl Entries {
    pub(super) fn new(
        entries: mpsc::Receiver<Entry>,
        stop: oneshot::Sender<()>,
        progress: watch::Receiver<Progress>,
        driver: AbortOnDropHandle<Result<Summary, PushError>>,
    ) -> Self {
        Self { entries, stop: Some(stop), progress, driver }
    }

    /// The next entry; `None` at the end. Loses nothing when it is dropped while it waits.
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

    /// How far it is, now and whenever that changes.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Waits for the end, which does not come while [`Pictures`] are there to give more. Entries that were not read are
    /// gone.
    ///
    /// # Errors
    ///
    /// What kept the push from going on.
    pub async fn finish(mut self) -> Result<Summary, PushError> {
        self.entries.close();
        while self.entries.recv().await.is_some() {}
        self.driver.await.unwrap_or_else(|error| Err(broken(&error)))
    }
}

pub(super) fn broken(error: &JoinError) -> PushError {
    PushError::Broken(error.to_string())
}
