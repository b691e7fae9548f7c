//! What operators ask of the desk: jobs that begin, are called off, are tried again, and go.

use std::collections::HashMap;

use secrecy::{ExposeSecret as _, SecretString};
use tracing::info;

use super::desk::{Desk, PIECE};
use super::line::is_word;
use super::queue::Now;
use super::{MOST_JOBS, MOST_TASKS, TasksError};
use crate::journal::{ListedTask, TaskOrder};
use crate::model::{Job, JobNo, NewJob, OpenTask, Standing, TaskChange, TaskForm, TaskNo, UnixMicros};

impl Desk {
    /// Makes a job of these tasks, all or none; the answer comes once it is durable. What is in `keep` is let go of then,
    /// also where nobody waits for the answer any more.
    ///
    /// # Errors
    ///
    /// When there are too many already, or it cannot be written down; then there is no such job.
    pub async fn add(
        &self,
        to: Option<String>,
        tasks: Vec<(TaskForm, Option<SecretString>)>,
        keep: impl Sized + 'static,
    ) -> Result<Job, TasksError> {
        let desk = self.clone();
        // Who asks may go away in the middle of it.
        let added = actix_rt::spawn(async move {
            let added = desk.add_all(to, tasks).await;
            drop(keep);
            added
        });
        added.await.unwrap_or(Err(TasksError::Stopping))
    }

    async fn add_all(
        &self,
        to: Option<String>,
        tasks: Vec<(TaskForm, Option<SecretString>)>,
    ) -> Result<Job, TasksError> {
        let _turn = self.0.turn.lock().await;
        self.check_room()?;
        let (mut tasks, passwords) = part(tasks);
        let created = UnixMicros::now();
        let (new, first) = {
            let mut state = self.lock();
            let kept: u64 = state.jobs.values().map(|job| job.tasks).sum();
            if state.jobs.len() >= MOST_JOBS {
                return Err(TasksError::TooMany("exports"));
            }
            if kept + tasks.len() as u64 > MOST_TASKS {
                return Err(TasksError::TooMany("tasks"));
            }
            let first = state.next_task;
            state.next_task += tasks.len() as u64;
            let id = (0..).map(|n| new_id(created, n)).find(|id| !state.ids.contains_key(id));
            let id = id.expect("one of so many is free");
            (NewJob { id, created, to, tasks: tasks.len() as u64 }, first)
        };
        let begun = self.0.journal.tasks(TaskOrder::Begin { job: new.clone(), first });
        let job = self.durable(begun).await?;
        let are_words: Vec<bool> = passwords.iter().map(is_word).collect();
        let written = self.write_all(job, first, &mut tasks, passwords).await;
        if let Err(error) = written {
            self.take_back(job);
            return Err(error);
        }
        let job = Job::new(job, new, first);
        let mut state = self.lock();
        let now = Now::read();
        for (task, form) in (first..).zip(tasks) {
            let has_word = form.secret.is_some_and(|secret| are_words.get(secret as usize) == Some(&true));
            let plain = has_word && form.is_plain();
            state.queue.add(open(task, job.job, form, plain, created, Standing::queued()), now);
        }
        state.ids.insert(job.id.clone(), job.job);
        state.jobs.insert(job.job, job.clone());
        drop(state);
        self.0.news.send_replace(());
        info!(export = job.id, tasks = job.tasks, "an export was asked for");
        Ok(job)
    }

    /// Takes back what was written of a job that was refused.
    pub(super) fn take_back(&self, job: JobNo) {
        // In their turn, whenever there is room: that it is open may be written before. Nobody waits for it.
        drop(self.0.journal.tasks(TaskOrder::Shut(job)));
        drop(self.0.journal.tasks(TaskOrder::Remove(job, u64::MAX)));
        self.0.secrets.forget(job);
    }

    async fn write_all(
        &self,
        job: JobNo,
        first: TaskNo,
        tasks: &mut [TaskForm],
        passwords: Vec<SecretString>,
    ) -> Result<(), TasksError> {
        let secrets = self.0.secrets.clone();
        let kept = tokio::task::spawn_blocking(move || secrets.add(job, passwords)).await;
        kept.map_err(|_| TasksError::Stopping)??;
        for (begin, piece) in (first..).step_by(PIECE).zip(tasks.chunks(PIECE)) {
            let added = self.0.journal.tasks(TaskOrder::Add { job, first: begin, tasks: piece.to_vec() });
            self.durable(added).await?;
        }
        let opened = self.0.journal.tasks(TaskOrder::Open(job));
        self.durable(opened).await.map(drop)
    }

    /// Calls off what is left of a job.
    ///
    /// # Errors
    ///
    /// When there is none of this id, or it cannot be written down.
    pub async fn cancel(&self, id: &str) -> Result<Job, TasksError> {
        let _turn = self.0.turn.lock().await;
        self.check_room()?;
        let written = {
            let mut state = self.lock();
            let job = state.job(id)?.job;
            let changes = state.queue.cancel(job, Now::read());
            self.give(&mut state, changes)
        };
        self.all_durable(written).await?;
        info!(export = id, "an export was called off");
        self.job(id)
    }

    /// Queues those of a job's tasks again that have failed or were called off.
    ///
    /// # Errors
    ///
    /// When there is none of this id, or it cannot be written down.
    pub async fn retry(&self, id: &str) -> Result<Job, TasksError> {
        let _turn = self.0.turn.lock().await;
        self.check_room()?;
        let (job, reader) = (self.job(id)?, self.0.reader.clone());
        let of = job.clone();
        let read = tokio::task::spawn_blocking(move || reader.tasks_to_retry(&of)).await;
        let tasks = read.map_err(|_| TasksError::Stopping)??;
        let (count, written) = {
            let mut state = self.lock();
            let now = Now::read();
            let mut changes = Vec::new();
            for ListedTask { task, form, standing: before } in tasks {
                // One that is called off while a worker has it may have come to its end a moment ago.
                if state.queue.has(task) {
                    continue;
                }
                let standing = Standing { worker: before.worker.clone(), ..Standing::queued() };
                if let Some(job) = state.jobs.get_mut(&job.job) {
                    job.forget(&before);
                }
                let password = form.secret.and_then(|secret| self.0.secrets.get(job.job, secret));
                let plain = password.is_some_and(|password| is_word(&password)) && form.is_plain();
                state.queue.add(open(task, job.job, form, plain, now.wall, standing.clone()), now);
                changes.push(TaskChange { task, job: job.job, before: before.state, standing, said: None });
            }
            (changes.len(), self.give(&mut state, changes))
        };
        self.all_durable(written).await?;
        info!(export = id, tasks = count, "tasks of an export are tried again");
        self.job(id)
    }

    /// Removes a job that is over, with all that is known of it.
    ///
    /// # Errors
    ///
    /// When there is none of this id, it is not over, or that cannot be written down.
    pub async fn delete(&self, id: &str) -> Result<(), TasksError> {
        let desk = self.clone();
        let id = id.to_owned();
        // Who asks may go away in the middle of it.
        let deleted = actix_rt::spawn(async move { desk.delete_all(&id).await });
        deleted.await.unwrap_or(Err(TasksError::Stopping))
    }

    async fn delete_all(&self, id: &str) -> Result<(), TasksError> {
        let _turn = self.0.turn.lock().await;
        self.check_room()?;
        let job = self.job(id)?;
        if !job.is_over() {
            return Err(TasksError::NotOver(id.to_owned()));
        }
        let shut = self.0.journal.tasks(TaskOrder::Shut(job.job));
        if let Err(error) = self.durable(shut).await {
            // It was not done, and is not to be done when there is room: whoever retries it meanwhile keeps it.
            drop(self.0.journal.tasks(TaskOrder::Open(job.job)));
            return Err(error);
        }
        {
            let mut state = self.lock();
            state.jobs.remove(&job.job);
            state.ids.remove(id);
        }
        let (secrets, no) = (self.0.secrets.clone(), job.job);
        let forgotten = tokio::task::spawn_blocking(move || secrets.forget(no)).await;
        forgotten.map_err(|_| TasksError::Stopping)?;
        info!(export = id, "an export was removed");
        loop {
            let removed = self.0.journal.tasks(TaskOrder::Remove(job.job, PIECE as u64));
            if self.durable(removed).await? < PIECE as u64 {
                return Ok(());
            }
        }
    }
}

/// A task of which something may still become.
fn open(task: TaskNo, job: JobNo, form: TaskForm, plain: bool, since: UnixMicros, standing: Standing) -> OpenTask {
    let TaskForm { recorder, user, secret, sessions, .. } = form;
    OpenTask { task, job, recorder, user, secret, plain, sessions, since, standing }
}

/// Parts what tasks ask for from their passwords, each of which is kept once.
fn part(tasks: Vec<(TaskForm, Option<SecretString>)>) -> (Vec<TaskForm>, Vec<SecretString>) {
    let (mut forms, mut passwords) = (Vec::with_capacity(tasks.len()), Vec::<SecretString>::new());
    let mut known = HashMap::<[u8; 32], u32>::new();
    for (mut form, password) in tasks {
        form.secret = password.map(|password| {
            let digest = <sha2::Sha256 as sha2::Digest>::digest(password.expose_secret());
            *known.entry(digest.into()).or_insert_with(|| {
                passwords.push(password);
                u32::try_from(passwords.len() - 1).expect("a job has fewer")
            })
        });
        forms.push(form);
    }
    (forms, passwords)
}

/// `export-20260102t030405-006`, then `export-20260102t030405-006-1` and so on: ids that sort by their time.
fn new_id(created: UnixMicros, n: u32) -> String {
    let at = created.to_utc();
    let (date, time) = (at.date(), at.time());
    let mut id = format!(
        "export-{:04}{:02}{:02}t{:02}{:02}{:02}-{:03}",
        date.year().clamp(0, 9_999),
        u8::from(date.month()),
        date.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    );
    if n > 0 {
        id.push_str(&format!("-{n}"));
    }
    id
}
