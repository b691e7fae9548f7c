//! Export jobs and their tasks as the journal keeps them: what is asked for good, and how each task stands.
//!
//! The rows of a job are written piece by piece, since there may be very many, and count from the moment at which the
//! job is opened; what a crash leaves of one that is not open is removed at the next start.

use std::sync::Arc;

use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::{JournalError, Reader};
use crate::model::{
    Hold, Job, JobNo, LastWord, LeaseNo, NewJob, OpenTask, Standing, TaskChange, TaskFault, TaskForm, TaskNo,
    TaskResult, TaskState, UnixMicros, WORDS_REMEMBERED,
};

/// `export_job.first` is the number of its first task; those of one job follow each other. `open` is 0 while it is being
/// written, or removed. `secret` counts the job's passwords, which lie in a file of their own. `asks` is a JSON object.
///
/// `export_word` tells how the newest leases were ended by their holders. `export_lease` holds one row: the number of the
/// next lease, which only grows.
pub(super) const TABLES: &str = "
CREATE TABLE export_job (
    num             INTEGER PRIMARY KEY AUTOINCREMENT,
    id              TEXT NOT NULL UNIQUE,
    created         INTEGER NOT NULL,
    goes_to         TEXT,
    first           INTEGER NOT NULL,
    tasks           INTEGER NOT NULL,
    open            INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE export_task (
    num             INTEGER PRIMARY KEY,
    job             INTEGER NOT NULL,
    row             INTEGER NOT NULL,
    recorder        TEXT NOT NULL,
    user            TEXT NOT NULL,
    channel         TEXT NOT NULL,
    begins          TEXT,
    ends            TEXT,
    goes_to         TEXT,
    asks            TEXT NOT NULL,
    sessions        INTEGER NOT NULL,
    secret          INTEGER,
    state           TEXT NOT NULL DEFAULT 'queued',
    attempts        INTEGER NOT NULL DEFAULT 0,
    ready_at        INTEGER,
    number          INTEGER,
    lease           TEXT,
    as_text         INTEGER NOT NULL DEFAULT 0,
    worker          TEXT,
    cancelling      INTEGER NOT NULL DEFAULT 0,
    taken_at        INTEGER,
    ended_at        INTEGER,
    found           INTEGER,
    downloaded      INTEGER,
    there           INTEGER,
    failed          INTEGER,
    bytes           INTEGER,
    kind            TEXT,
    message         TEXT
) STRICT;
CREATE TABLE export_word (
    number          INTEGER PRIMARY KEY,
    lease           TEXT NOT NULL,
    word            TEXT NOT NULL
) STRICT;
CREATE TABLE export_lease (
    one             INTEGER PRIMARY KEY CHECK (one = 1),
    next            INTEGER NOT NULL
) STRICT;
INSERT INTO export_lease (one, next) VALUES (1, 1);
";

/// What the writer is asked to do with jobs and tasks.
#[derive(Clone, Debug)]
pub enum TaskOrder {
    /// Begins a job; the answer is its number.
    Begin {
        /// What is asked for.
        job: NewJob,
        /// The number of its first task.
        first: TaskNo,
    },
    /// Adds tasks to a job that is not open.
    Add {
        /// The job.
        job: JobNo,
        /// The number of the first of these tasks.
        first: TaskNo,
        /// What is asked for.
        tasks: Vec<TaskForm>,
    },
    /// Opens a job: from here on it is there.
    Open(JobNo),
    /// Writes down how tasks stand.
    Stand(Vec<TaskChange>),
    /// Closes a job: from here on it is gone.
    Shut(JobNo),
    /// Removes tasks of a closed job, from its first on, at most so many; the answer is how many there were. With the last
    /// goes the job.
    Remove(JobNo, u64),
}

/// A task as it is listed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListedTask {
    /// Which.
    pub task: TaskNo,
    /// What it asks for.
    pub form: TaskForm,
    /// How it stands.
    pub standing: Standing,
}

/// All that an earlier run has left.
#[derive(Debug, Default)]
pub struct KnownTasks {
    /// The jobs, in the order in which they were asked for.
    pub jobs: Vec<Job>,
    /// The tasks of which something may still become.
    pub open: Vec<OpenTask>,
    /// The last words of the newest leases.
    pub words: Vec<(LeaseNo, String, LastWord)>,
    /// The number of the next lease.
    pub next_lease: LeaseNo,
    /// The number of the next task.
    pub next_task: TaskNo,
}

/// Does what is asked.
pub(super) fn apply(transaction: &Transaction<'_>, order: &TaskOrder) -> Result<u64, JournalError> {
    match order {
        TaskOrder::Begin { job, first } => {
            let num: i64 = transaction.query_row(
                "INSERT INTO export_job (id, created, goes_to, first, tasks) VALUES (?1, ?2, ?3, ?4, ?5) RETURNING num",
                params![job.id, job.created.0, job.to, *first as i64, job.tasks as i64],
                |row| row.get(0),
            )?;
            Ok(num as u64)
        }
        TaskOrder::Add { job, first, tasks } => add(transaction, *job, *first, tasks),
        TaskOrder::Open(job) => {
            let opened = transaction.execute("UPDATE export_job SET open = 1 WHERE num = ?1", [*job as i64])?;
            Ok(opened as u64)
        }
        TaskOrder::Stand(changes) => stand(transaction, changes),
        TaskOrder::Shut(job) => {
            let shut = transaction.execute("UPDATE export_job SET open = 0 WHERE num = ?1", [*job as i64])?;
            Ok(shut as u64)
        }
        TaskOrder::Remove(job, most) => remove(transaction, *job, *most),
    }
}

fn add(transaction: &Transaction<'_>, job: JobNo, first: TaskNo, tasks: &[TaskForm]) -> Result<u64, JournalError> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO export_task (num, job, row, recorder, user, channel, begins, ends, goes_to, asks, sessions, secret)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    for (num, task) in (first..).zip(tasks) {
        insert.execute(params![
            num as i64,
            job as i64,
            task.row,
            &*task.recorder,
            &*task.user,
            task.channel,
            task.from.as_deref(),
            task.until.as_deref(),
            task.to.as_deref(),
            &*task.options,
            task.sessions,
            task.secret,
        ])?;
    }
    Ok(tasks.len() as u64)
}

fn stand(transaction: &Transaction<'_>, changes: &[TaskChange]) -> Result<u64, JournalError> {
    let mut update = transaction.prepare_cached(
        "UPDATE export_task SET state = ?2, attempts = ?3, ready_at = ?4, number = ?5, lease = ?6, as_text = ?7,
             worker = ?8, cancelling = ?9, taken_at = ?10, ended_at = ?11, found = ?12, downloaded = ?13, there = ?14,
             failed = ?15, bytes = ?16, kind = ?17, message = ?18
         WHERE num = ?1",
    )?;
    let mut word =
        transaction.prepare_cached("INSERT OR REPLACE INTO export_word (number, lease, word) VALUES (?1, ?2, ?3)")?;
    let (mut written, mut newest, mut said) = (0, 0, 0);
    for TaskChange { task, standing, said: last, .. } in changes {
        let (hold, result, fault) = (standing.hold.as_deref(), standing.result.as_deref(), standing.fault.as_deref());
        let part = |of: fn(&TaskResult) -> u64| result.map(|result| i64::try_from(of(result)).unwrap_or(i64::MAX));
        written += update.execute(params![
            *task as i64,
            standing.state.as_str(),
            standing.attempts,
            standing.ready_at.map(|at| at.0),
            hold.map(|hold| hold.number as i64),
            hold.map(|hold| &hold.id),
            hold.is_some_and(|hold| hold.as_text),
            standing.worker.as_deref(),
            standing.cancelling,
            standing.taken_at.map(|at| at.0),
            standing.ended_at.map(|at| at.0),
            part(|result| result.found),
            part(|result| result.downloaded),
            part(|result| result.there),
            part(|result| result.failed),
            part(|result| result.bytes),
            fault.map(|fault| &fault.kind),
            fault.map(|fault| &fault.message),
        ])?;
        newest = newest.max(hold.map_or(0, |hold| hold.number));
        if let Some((number, lease, last)) = last {
            word.execute(params![*number as i64, lease, last.as_str()])?;
            said = said.max(*number);
        }
    }
    if newest > 0 {
        transaction.prepare_cached("UPDATE export_lease SET next = max(next, ?1)")?.execute([newest as i64 + 1])?;
    }
    if said > WORDS_REMEMBERED {
        transaction
            .prepare_cached("DELETE FROM export_word WHERE number <= ?1")?
            .execute([(said - WORDS_REMEMBERED) as i64])?;
    }
    Ok(written as u64)
}

fn remove(transaction: &Transaction<'_>, job: JobNo, most: u64) -> Result<u64, JournalError> {
    let bounds = transaction
        .prepare_cached("SELECT first, first + tasks FROM export_job WHERE num = ?1 AND open = 0")?
        .query_row([job as i64], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
        .optional()?;
    let Some((first, end)) = bounds else { return Ok(0) };
    let removed = transaction
        .prepare_cached(
            "DELETE FROM export_task WHERE num IN
                 (SELECT num FROM export_task WHERE num >= ?1 AND num < ?2 ORDER BY num LIMIT ?3)",
        )?
        .execute([first, end, i64::try_from(most).unwrap_or(i64::MAX)])?;
    if (removed as u64) < most {
        transaction.execute("DELETE FROM export_job WHERE num = ?1", [job as i64])?;
    }
    Ok(removed as u64)
}

/// Removes what is left of jobs that are not open, and reads the others.
pub(super) fn recover(transaction: &Transaction<'_>) -> Result<KnownTasks, JournalError> {
    // Before anything is removed: no number is given twice.
    let next_task: i64 = transaction.query_row(
        "SELECT max(coalesce((SELECT max(num) FROM export_task), 0),
                    coalesce((SELECT max(first + tasks - 1) FROM export_job), 0)) + 1",
        [],
        |row| row.get(0),
    )?;
    transaction.execute("DELETE FROM export_task WHERE job NOT IN (SELECT num FROM export_job WHERE open = 1)", [])?;
    transaction.execute("DELETE FROM export_job WHERE open = 0", [])?;
    let next_lease: i64 = transaction.query_row("SELECT next FROM export_lease", [], |row| row.get(0))?;
    let mut jobs = read_jobs(transaction)?;
    read_accounts(transaction, &mut jobs)?;
    let open = read_open(transaction)?;
    let words = read_words(transaction)?;
    Ok(KnownTasks { jobs, open, words, next_lease: next_lease as u64, next_task: next_task as u64 })
}

fn read_jobs(transaction: &Transaction<'_>) -> Result<Vec<Job>, JournalError> {
    let mut statement =
        transaction.prepare("SELECT num, id, created, goes_to, first, tasks FROM export_job ORDER BY num")?;
    let jobs = statement.query_map([], |row| {
        let tasks = row.get::<_, i64>(5)? as u64;
        let new = NewJob { id: row.get(1)?, created: UnixMicros(row.get(2)?), to: row.get(3)?, tasks };
        let job = Job::new(row.get::<_, i64>(0)? as u64, new, row.get::<_, i64>(4)? as u64);
        Ok(Job { counts: [0; 6], ..job })
    })?;
    Ok(jobs.collect::<Result<_, _>>()?)
}

fn read_accounts(transaction: &Transaction<'_>, jobs: &mut [Job]) -> Result<(), JournalError> {
    let mut statement = transaction.prepare(
        "SELECT job, state, count(*), total(found), total(downloaded), total(there), total(failed), total(bytes),
                min(taken_at), max(ended_at)
         FROM export_task GROUP BY job, state",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let num = row.get::<_, i64>(0)? as u64;
        let Ok(at) = jobs.binary_search_by_key(&num, |job| job.job) else { continue };
        let (job, state) = (&mut jobs[at], read_state(row, 1)?);
        job.counts[state as usize] = row.get::<_, i64>(2)? as u64;
        let began: Option<i64> = row.get(8)?;
        let before = job.began.map(|at| at.0);
        job.began = began.into_iter().chain(before).min().map(UnixMicros);
        if state.is_over() {
            let sum = |index| row.get::<_, f64>(index).map(|sum| sum as u64);
            job.add(TaskResult {
                found: sum(3)?,
                downloaded: sum(4)?,
                there: sum(5)?,
                failed: sum(6)?,
                bytes: sum(7)?,
            });
            job.ended = job.ended.max(row.get::<_, Option<i64>>(9)?.map(UnixMicros));
        }
    }
    Ok(())
}

fn read_open(transaction: &Transaction<'_>) -> Result<Vec<OpenTask>, JournalError> {
    let mut statement = transaction.prepare(&format!(
        "SELECT {COLUMNS}, job.created FROM export_task AS task JOIN export_job AS job ON job.num = task.job
         WHERE state IN ('queued', 'leased', 'running') ORDER BY task.num"
    ))?;
    // Most tasks of a job are of a few recorders, with a few users.
    let mut names = std::collections::HashSet::<Arc<str>>::new();
    let mut shared = |name: Arc<str>| match names.get(&name) {
        Some(known) => known.clone(),
        None => {
            names.insert(name.clone());
            name
        }
    };
    let mut rows = statement.query([])?;
    let mut open = Vec::new();
    while let Some(row) = rows.next()? {
        let ListedTask { task, form, standing } = read_task(row)?;
        let (job, since, plain) = (row.get::<_, i64>(1)? as u64, UnixMicros(row.get(29)?), form.is_plain());
        let (recorder, user) = (shared(form.recorder), shared(form.user));
        let TaskForm { secret, sessions, .. } = form;
        open.push(OpenTask { task, job, recorder, user, secret, plain, sessions, since, standing });
    }
    Ok(open)
}

fn read_words(transaction: &Transaction<'_>) -> Result<Vec<(LeaseNo, String, LastWord)>, JournalError> {
    let mut statement = transaction.prepare("SELECT number, lease, word FROM export_word ORDER BY number")?;
    let words = statement.query_map([], |row| {
        let word: String = row.get(2)?;
        let known = LastWord::parse(&word).ok_or_else(|| unknown(2, &word, "last word"))?;
        Ok((row.get::<_, i64>(0)? as u64, row.get(1)?, known))
    })?;
    Ok(words.collect::<Result<_, _>>()?)
}

/// What [`read_task`] reads, of `export_task AS task`.
const COLUMNS: &str = "task.num, task.job, task.row, task.recorder, task.user, task.channel, task.begins, task.ends,
    task.goes_to, task.asks, task.sessions, task.secret, task.state, task.attempts, task.ready_at, task.number,
    task.lease, task.as_text, task.worker, task.cancelling, task.taken_at, task.ended_at, task.found, task.downloaded,
    task.there, task.failed, task.bytes, task.kind, task.message";

fn read_task(row: &Row<'_>) -> rusqlite::Result<ListedTask> {
    let at = |index| row.get::<_, Option<i64>>(index).map(|at| at.map(UnixMicros));
    let text = |index| row.get::<_, Option<String>>(index).map(|text| text.map(Arc::from));
    let whole = |index| row.get::<_, Option<i64>>(index).map(|number| number.map(|number| number as u64));
    let form = TaskForm {
        row: row.get(2)?,
        recorder: row.get::<_, String>(3)?.into(),
        user: row.get::<_, String>(4)?.into(),
        channel: row.get(5)?,
        from: text(6)?,
        until: text(7)?,
        to: text(8)?,
        options: row.get::<_, String>(9)?.into(),
        sessions: row.get(10)?,
        secret: row.get(11)?,
    };
    let as_text = row.get(17)?;
    let hold = whole(15)?.zip(row.get::<_, Option<String>>(16)?);
    let fault = row.get::<_, Option<String>>(27)?.zip(row.get::<_, Option<String>>(28)?);
    let result = whole(22)?.map(|found| {
        Ok::<_, rusqlite::Error>(TaskResult {
            found,
            downloaded: whole(23)?.unwrap_or_default(),
            there: whole(24)?.unwrap_or_default(),
            failed: whole(25)?.unwrap_or_default(),
            bytes: whole(26)?.unwrap_or_default(),
        })
    });
    let standing = Standing {
        state: read_state(row, 12)?,
        attempts: row.get(13)?,
        ready_at: at(14)?,
        hold: hold.map(|(number, id)| Box::new(Hold { number, id, as_text })),
        worker: row.get::<_, Option<String>>(18)?.map(Arc::from),
        cancelling: row.get(19)?,
        taken_at: at(20)?,
        ended_at: at(21)?,
        result: result.transpose()?.map(Box::new),
        fault: fault.map(|(kind, message)| Box::new(TaskFault { kind, message })),
    };
    Ok(ListedTask { task: row.get::<_, i64>(0)? as u64, form, standing })
}

fn read_state(row: &Row<'_>, index: usize) -> rusqlite::Result<TaskState> {
    let word: String = row.get(index)?;
    TaskState::parse(&word).ok_or_else(|| unknown(index, &word, "state of a task"))
}

fn unknown(index: usize, word: &str, what: &str) -> rusqlite::Error {
    let detail = format!("`{}` is no {what} this program knows", word.escape_debug());
    rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, detail.into())
}

impl Reader {
    /// Tasks from `first` on and before `end`, at most `limit`, in their order.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn tasks(&self, first: TaskNo, end: TaskNo, limit: usize) -> Result<Vec<ListedTask>, JournalError> {
        let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.with(|connection| {
            let query =
                format!("SELECT {COLUMNS} FROM export_task AS task WHERE num >= ?1 AND num < ?2 ORDER BY num LIMIT ?3");
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut statement = connection.prepare_cached(&query)?;
            let rows = statement.query_map([whole(first), whole(end), limit], read_task)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Those of a job's tasks that have failed or were called off.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub fn tasks_to_retry(&self, job: &Job) -> Result<Vec<ListedTask>, JournalError> {
        self.with(|connection| {
            let query = format!(
                "SELECT {COLUMNS} FROM export_task AS task
                 WHERE num >= ?1 AND num < ?2 AND state IN ('failed', 'cancelled') ORDER BY num"
            );
            let mut statement = connection.prepare_cached(&query)?;
            let rows = statement.query_map([job.first as i64, (job.first + job.tasks) as i64], read_task)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}
