//! What requests talk to: the queue behind a lock, with the journal that makes its decisions durable.
//!
//! Decisions are made and given to the journal under one lock, so that the journal has them in their order; who asked is
//! answered when they are on disk. What a panic would leave half-done under the lock cannot be known: then the process
//! ends, to be started again from the journal.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot, watch};
use tracing::{error, warn};

use super::TasksError;
use super::line::is_word;
use super::queue::{GettingOn, Now, Queue, Rules};
use crate::journal::{Journal, KnownTasks, ListedTask, Reader, TaskOrder, TaskSecrets};
use crate::metrics::Metrics;
use crate::model::{Job, JobNo, TaskChange, TaskNo, TaskState};

/// Rows that are written or removed in one order, so that frames do not wait long behind them.
pub(super) const PIECE: usize = 2_000;

/// How long the desk sleeps where nothing is to be done at any time.
const IDLE: Duration = Duration::from_secs(3_600);

/// A task as it is shown.
#[derive(Clone, Debug)]
pub struct TaskView {
    /// Its name.
    pub id: String,
    /// Its place in its job, from 1.
    pub place: u64,
    /// What it asks for and how it stands.
    pub listed: ListedTask,
    /// How its holder is getting on, where somebody has it.
    pub getting_on: Option<GettingOn>,
}

/// All export jobs of one daemon. Cloning is cheap; all clones are one.
#[derive(Clone, Debug)]
pub struct Desk(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    state: Mutex<State>,
    pub(super) journal: Journal,
    pub(super) reader: Reader,
    pub(super) secrets: TaskSecrets,
    pub(super) metrics: Metrics,
    /// Told whenever a task may have become ready.
    pub(super) news: watch::Sender<()>,
    /// Told whenever something is to be done earlier than was known.
    earlier: Notify,
    /// Held by who changes jobs: one at a time.
    pub(super) turn: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) queue: Queue,
    pub(super) jobs: BTreeMap<JobNo, Job>,
    pub(super) ids: HashMap<String, JobNo>,
    pub(super) next_task: TaskNo,
    /// When it will be looked next whether something is to be done.
    wakes: Option<Instant>,
}

impl Desk {
    /// Goes on with what an earlier run has left.
    pub fn new(
        rules: Rules,
        known: KnownTasks,
        secrets: TaskSecrets,
        journal: Journal,
        reader: Reader,
        metrics: Metrics,
    ) -> Self {
        let KnownTasks { jobs, mut open, words, next_lease, next_task } = known;
        let (mut queue, now) = (Queue::new(rules, next_lease), Now::read());
        for task in open.iter_mut().filter(|task| task.plain) {
            let password = task.secret.and_then(|secret| secrets.get(task.job, secret));
            task.plain = password.is_some_and(|password| is_word(&password));
        }
        queue.restore(open, now);
        words.into_iter().for_each(|(number, id, word)| queue.remember(number, id, word));
        let ids = jobs.iter().map(|job| (job.id.clone(), job.job)).collect();
        let jobs = jobs.into_iter().map(|job| (job.job, job)).collect();
        let state = Mutex::new(State { queue, jobs, ids, next_task, wakes: None });
        let (news, _) = watch::channel(());
        let (earlier, turn) = (Notify::new(), tokio::sync::Mutex::new(()));
        Self(Arc::new(Inner { state, journal, reader, secrets, metrics, news, earlier, turn }))
    }

    /// Ends leases when their time is over, for as long as it is polled.
    pub async fn run(self) {
        loop {
            let wake = {
                let mut state = self.lock();
                let now = Now::read();
                let changes = state.queue.expire(now);
                for change in &changes {
                    let (task, state) = (change.task, change.standing.state.as_str());
                    warn!(
                        task,
                        worker = change.standing.worker.as_deref(),
                        state,
                        "the lease of an export task is over"
                    );
                }
                self.0.metrics.leases_expired(changes.len() as u64);
                let had_changes = !changes.is_empty();
                // Nobody waits for it.
                drop(self.give(&mut state, changes));
                if had_changes || state.queue.is_ready() {
                    self.0.news.send_replace(());
                }
                state.wakes = state.queue.next_wake();
                state.wakes
            };
            let sleep = wake.map_or(IDLE, |at| at.saturating_duration_since(Instant::now()));
            tokio::select! {
                () = tokio::time::sleep(sleep) => {}
                () = self.0.earlier.notified() => {}
            }
        }
    }

    /// Told whenever a task may have become ready.
    pub fn news(&self) -> watch::Receiver<()> {
        self.0.news.subscribe()
    }

    /// What the queue goes by.
    pub fn rules(&self) -> Rules {
        *self.lock().queue.rules()
    }

    /// The jobs that follow one, in the order in which they were asked for.
    pub fn jobs(&self, after: Option<&str>, limit: usize) -> Vec<Job> {
        let state = self.lock();
        // Ids sort by their time, also those that are gone.
        let begin = after.map_or(0, |after| match state.ids.get(after) {
            Some(job) => job + 1,
            None => state.jobs.values().find(|job| job.id.as_str() > after).map_or(JobNo::MAX, |job| job.job),
        });
        state.jobs.range(begin..).map(|(_, job)| job.clone()).take(limit).collect()
    }

    /// A job.
    ///
    /// # Errors
    ///
    /// When there is none of this id.
    pub fn job(&self, id: &str) -> Result<Job, TasksError> {
        self.lock().job(id).cloned()
    }

    /// How those of a job's tasks are getting on that workers have.
    pub fn getting_on(&self, job: JobNo) -> Vec<GettingOn> {
        self.lock().queue.all_getting_on(job, Now::read())
    }

    /// A job's tasks after the one at this place, at most `limit`. It reads from the disk: not for the event loop.
    ///
    /// # Errors
    ///
    /// When there is no such job, or the journal cannot be read.
    pub fn tasks(&self, id: &str, after: u64, limit: usize) -> Result<Vec<TaskView>, TasksError> {
        let job = self.job(id)?;
        let listed = self.0.reader.tasks(job.first.saturating_add(after), job.first + job.tasks, limit)?;
        let (state, now) = (self.lock(), Now::read());
        let view = |listed: ListedTask| TaskView {
            id: name(&job, listed.task),
            place: listed.task - job.first + 1,
            getting_on: state.queue.getting_on(listed.task, now),
            listed,
        };
        Ok(listed.into_iter().map(view).collect())
    }

    /// Whether any task may still become something, and whether any is in nobody's hands that a line of text can say.
    pub fn is_waited_for(&self) -> (bool, bool) {
        let state = self.lock();
        (!state.queue.is_empty(), state.queue.has_queued(true))
    }

    /// Tells the metrics how it all stands.
    pub fn show(&self) {
        let state = self.lock();
        for (place, name) in TaskState::ALL.into_iter().enumerate() {
            let count = state.jobs.values().map(|job| job.counts[place]).sum();
            self.0.metrics.set_tasks(name.as_str(), count);
        }
        self.0.metrics.set_oldest_task(state.queue.oldest_queued());
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(|_| {
            error!("the desk of export tasks panicked: the process ends, and goes on from the journal");
            std::process::exit(70);
        })
    }

    pub(super) fn check_room(&self) -> Result<(), TasksError> {
        if *self.0.journal.stuck().borrow() { Err(TasksError::NoRoom) } else { Ok(()) }
    }

    /// Lets changes count, and gives them to the journal in their order.
    pub(super) fn give(&self, state: &mut State, changes: Vec<TaskChange>) -> Vec<oneshot::Receiver<u64>> {
        for change in &changes {
            if let Some(job) = state.jobs.get_mut(&change.job) {
                job.apply(change);
            }
            if change.standing.state.is_over()
                && let (Some(taken), Some(ended)) = (change.standing.taken_at, change.standing.ended_at)
                && change.before != TaskState::Queued
            {
                self.0.metrics.task_ended(change.standing.state, ended.since(taken));
            }
        }
        if !changes.is_empty() && state.queue.is_ready() {
            self.0.news.send_replace(());
        }
        let wake = state.queue.next_wake();
        if wake.is_some_and(|at| state.wakes.is_none_or(|known| at < known)) {
            state.wakes = wake;
            self.0.earlier.notify_one();
        }
        let mut changes = changes.into_iter();
        let mut written = Vec::new();
        loop {
            let piece: Vec<_> = changes.by_ref().take(PIECE).collect();
            if piece.is_empty() {
                return written;
            }
            written.push(self.0.journal.tasks(TaskOrder::Stand(piece)));
        }
    }

    pub(super) async fn all_durable(&self, written: Vec<oneshot::Receiver<u64>>) -> Result<(), TasksError> {
        for answer in written {
            self.durable(answer).await?;
        }
        Ok(())
    }

    /// Waits until an order is durable, or the disk turns out to be full: then it is done when there is room.
    pub(super) async fn durable(&self, written: oneshot::Receiver<u64>) -> Result<u64, TasksError> {
        let mut stuck = self.0.journal.stuck();
        tokio::select! {
            biased;
            answer = written => answer.map_err(|_| TasksError::Stopping),
            Ok(_) = stuck.wait_for(|stuck| *stuck) => Err(TasksError::NoRoom),
        }
    }
}

impl State {
    pub(super) fn job(&self, id: &str) -> Result<&Job, TasksError> {
        let found = self.ids.get(id).and_then(|job| self.jobs.get(job));
        found.ok_or_else(|| TasksError::NoSuchJob(id.chars().take(80).collect()))
    }
}

/// A task's name: that of its job, and its place in it.
pub(super) fn name(job: &Job, task: TaskNo) -> String {
    format!("{}.{}", job.id, task - job.first + 1)
}
