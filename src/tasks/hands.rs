//! What workers ask of the desk: a task, and to be heard on it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::info;

use super::desk::{Desk, State, name};
use super::queue::{Beat, Failure, GIVEN_BACK, LeaseLost, Now, Taken, TextBefore};
use super::{Lease, TasksError};
use crate::journal::{ListedTask, TaskOrder};
use crate::model::{LeaseNo, TaskChange, TaskFault, TaskProgress, TaskResult, UnixMicros};
use crate::process::Scrubber;

/// Characters of a reason in a sentence, at most.
const MAX_MESSAGE: usize = 1_000;

/// A lease on its way to its holder. One that is dropped before [`arrived`](Self::arrived) is given back: whoever asked for
/// it is gone, and that is no failed attempt.
#[derive(Debug)]
pub struct Handed {
    desk: Desk,
    id: String,
    number: LeaseNo,
    arrived: bool,
}

impl Handed {
    /// It has been written to whoever asked for it.
    pub fn arrived(mut self) {
        self.arrived = true;
        self.desk.lock().queue.handed(self.number, Now::read());
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        if self.arrived {
            return;
        }
        let message = "whoever asked for it was gone before it came".to_owned();
        let fault = TaskFault { kind: GIVEN_BACK.to_owned(), message };
        let failure = Failure { fault, retry: true, after: Some(Duration::ZERO), result: None };
        let mut state = self.desk.lock();
        if let Ok(changes) = state.queue.fail(&self.id, self.number, failure, Now::read()) {
            // Nobody waits for it.
            drop(self.desk.give(&mut state, changes));
            info!(lease = self.number, "a task goes back: whoever asked for it is gone");
        }
    }
}

impl Desk {
    /// Gives the next task to a worker; `None` where there is none now.
    ///
    /// # Errors
    ///
    /// When that cannot be written down.
    pub async fn take(&self, worker: &str) -> Result<Option<(Lease, Handed)>, TasksError> {
        self.give_out(worker, None).await
    }

    /// Gives the next task that a line of text can say to somebody who will say nothing of it but by asking for the next
    /// one. What the same caller has got before it asked, at `since`, is done by this; what an earlier run of the daemon gave
    /// it, and has perhaps not come, it gets again.
    ///
    /// # Errors
    ///
    /// When that cannot be written down.
    pub async fn next_as_text(&self, caller: &str, since: Instant) -> Result<Option<(Lease, Handed)>, TasksError> {
        self.give_out(caller, Some(since)).await
    }

    async fn give_out(&self, worker: &str, text: Option<Instant>) -> Result<Option<(Lease, Handed)>, TasksError> {
        self.check_room()?;
        let id = random_id()?;
        let worker: Arc<str> = worker.into();
        let (taken, written) = {
            let mut state = self.lock();
            let now = Now::read();
            let mut changes = Vec::new();
            let before = text.map(|since| state.queue.text_before(&worker, since, now));
            let taken = match before.unwrap_or(TextBefore::Nothing) {
                TextBefore::Again(taken) => Some(taken),
                TextBefore::Elsewhere => None,
                before => {
                    changes.extend(if let TextBefore::Done(change) = before { Some(change) } else { None });
                    let taken = state.queue.take(worker, id, text.is_some(), now);
                    changes.extend(taken.as_ref().map(|taken| taken.change.clone()));
                    taken
                }
            };
            let job = taken.as_ref().and_then(|taken| state.jobs.get(&taken.change.job)).cloned();
            let written = self.give(&mut state, changes);
            let taken = taken.zip(job).and_then(|(taken, job)| {
                let id = taken.change.standing.hold.as_ref()?.id.clone();
                // From here on it goes back wherever this ends.
                let handed = Handed { desk: self.clone(), id, number: taken.number, arrived: false };
                Some((taken, job, handed))
            });
            (taken, written)
        };
        let Some((taken, job, handed)) = taken else {
            self.all_durable(written).await?;
            return Ok(None);
        };
        let Taken { number, lives, change } = taken;
        let (expires_at, reader, task) = (UnixMicros::now().after(lives), self.0.reader.clone(), change.task);
        // What it asks for does not change: it is read while the rest is written.
        let read = tokio::task::spawn_blocking(move || reader.tasks(task, task + 1, 1));
        self.all_durable(written).await?;
        let listed = read.await.map_err(|_| TasksError::Stopping)??;
        let Some(ListedTask { form, .. }) = listed.into_iter().next() else { return Err(TasksError::Stopping) };
        self.0.metrics.lease_given();
        let password = form.secret.and_then(|secret| self.0.secrets.get(job.job, secret));
        let attempt = change.standing.attempts;
        let (id, task) = (handed.id.clone(), name(&job, task));
        let asked_at = job.created;
        let lease = Lease { id, number, expires_at, lives, task, job: job.id, attempt, asked_at, form, password };
        Ok(Some((lease, handed)))
    }

    /// Lets a lease live on.
    ///
    /// # Errors
    ///
    /// When it is over, or the number is another's; or when it cannot be written down.
    pub async fn heartbeat(
        &self,
        id: &str,
        number: LeaseNo,
        progress: Option<TaskProgress>,
    ) -> Result<Beat, TasksError> {
        let (beat, written) = {
            let mut state = self.lock();
            let mut beat = self.fenced(state.queue.heartbeat(id, number, progress, Now::read()))?;
            let change = beat.change.take();
            // Where it shows that somebody has got in, others may have a try.
            if progress.is_some() && state.queue.is_ready() {
                self.0.news.send_replace(());
            }
            (beat, self.give(&mut state, change.into_iter().collect()))
        };
        self.all_durable(written).await?;
        Ok(beat)
    }

    /// Takes a worker's word that its task is done.
    ///
    /// # Errors
    ///
    /// When its lease is over, or the number is another's; or when it cannot be written down.
    pub async fn complete(&self, id: &str, number: LeaseNo, result: Option<TaskResult>) -> Result<(), TasksError> {
        self.check_room()?;
        let written = {
            let mut state = self.lock();
            let change = self.fenced(state.queue.complete(id, number, result, Now::read()))?;
            self.give_or_wait(&mut state, change.into_iter().collect())
        };
        self.all_durable(written).await
    }

    /// Takes a worker's word that its task came to nothing.
    ///
    /// # Errors
    ///
    /// When its lease is over, or the number is another's; or when it cannot be written down.
    pub async fn fail(&self, id: &str, number: LeaseNo, mut failure: Failure) -> Result<(), TasksError> {
        self.check_room()?;
        let message = self.without_password(number, failure.fault.message).await?;
        // Cut last: half a password would not be known for one.
        failure.fault.message = message.chars().take(MAX_MESSAGE).collect();
        let written = {
            let mut state = self.lock();
            let changes = self.fenced(state.queue.fail(id, number, failure, Now::read()))?;
            self.give_or_wait(&mut state, changes)
        };
        self.all_durable(written).await
    }

    /// Gives changes to the journal. A word that is said once more changes nothing, and is not answered before the first is
    /// durable.
    fn give_or_wait(&self, state: &mut State, changes: Vec<TaskChange>) -> Vec<oneshot::Receiver<u64>> {
        if changes.is_empty() {
            return vec![self.0.journal.tasks(TaskOrder::Stand(changes))];
        }
        self.give(state, changes)
    }

    fn fenced<T>(&self, word: Result<T, LeaseLost>) -> Result<T, TasksError> {
        word.map_err(|lost| {
            self.0.metrics.word_refused();
            lost.into()
        })
    }

    /// Takes the recorder's password out of what a worker says: it is shown to others than the worker.
    async fn without_password(&self, number: LeaseNo, message: String) -> Result<String, TasksError> {
        let Some((job, task)) = self.lock().queue.of(number) else { return Ok(message) };
        let reader = self.0.reader.clone();
        let read = tokio::task::spawn_blocking(move || reader.tasks(task, task + 1, 1)).await;
        let listed = read.map_err(|_| TasksError::Stopping)??;
        let Some(ListedTask { form, .. }) = listed.into_iter().next() else { return Ok(message) };
        let password = form.secret.and_then(|secret| self.0.secrets.get(job, secret));
        Ok(Scrubber::new(Some(&form.user), password.as_ref()).scrub(&message))
    }
}

fn random_id() -> Result<String, TasksError> {
    let mut bytes = [0; 16];
    // A system without random bytes cannot have started us.
    getrandom::fill(&mut bytes).map_err(|_| TasksError::Stopping)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
