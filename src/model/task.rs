//! An export task: one channel of one recorder and one span, as far as what becomes of it goes.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::UnixMicros;

/// Counts the jobs of a state directory, from 1.
pub type JobNo = u64;
/// Counts the tasks of a state directory, from 1, in the order in which they were asked for.
pub type TaskNo = u64;
/// Counts the leases of a state directory, from 1: a later lease has a higher number, whatever it is on. None is given
/// twice.
pub type LeaseNo = u64;

/// The newest leases whose last words are remembered, so that one that is said twice, since its answer was lost, is heard
/// twice: far more than workers can have lost answers of.
pub const WORDS_REMEMBERED: u64 = 10_000;

/// What a task is doing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// It waits for a worker.
    Queued,
    /// A worker has taken it and said nothing since.
    Leased,
    /// A worker is at it.
    Running,
    /// All of it is where it belongs.
    Done,
    /// It came to nothing, and is not tried again by itself.
    Failed,
    /// Somebody has called it off.
    Cancelled,
}

impl TaskState {
    /// Every state, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::Queued, Self::Leased, Self::Running, Self::Done, Self::Failed, Self::Cancelled];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Leased => "leased",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// What the word means.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether nothing more becomes of it by itself.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// What a worker has made of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskResult {
    /// Recordings that the recorder has of it.
    pub found: u64,
    /// Those of them that were fetched.
    pub downloaded: u64,
    /// Those that were in the bucket before.
    pub there: u64,
    /// Those that could not be had.
    pub failed: u64,
    /// What was fetched, in bytes.
    pub bytes: u64,
}

/// How far a worker has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskProgress {
    /// Recordings that are through.
    pub files: u64,
    /// Of how many, where that is known.
    pub of: Option<u64>,
    /// Bytes that are through.
    pub bytes: u64,
    /// Of how many, where that is known.
    pub of_bytes: Option<u64>,
}

/// Why a task came to nothing, or will be tried again.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TaskFault {
    /// In a word: `auth`, `unreachable`, `lease_lost`.
    pub kind: String,
    /// In a sentence. No password is in it.
    pub message: String,
}

/// A worker's hold on a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hold {
    /// Its fencing number.
    pub number: LeaseNo,
    /// What it is called, which nobody can guess.
    pub id: String,
    /// Whether it was given as a line of text, to somebody who will say nothing until it is over.
    pub as_text: bool,
}

/// All that changes about a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// What it is doing.
    pub state: TaskState,
    /// How often it was taken.
    pub attempts: u32,
    /// Not to be taken before.
    pub ready_at: Option<UnixMicros>,
    /// Who has it; `None` while nobody does.
    pub hold: Option<Box<Hold>>,
    /// Who had it last.
    pub worker: Option<Arc<str>>,
    /// Whether it is called off while somebody has it.
    pub cancelling: bool,
    /// When it was last taken.
    pub taken_at: Option<UnixMicros>,
    /// When it came to its end.
    pub ended_at: Option<UnixMicros>,
    /// What the last attempt has made of it, as far as its worker said so.
    pub result: Option<Box<TaskResult>>,
    /// Why the last attempt came to nothing.
    pub fault: Option<Box<TaskFault>>,
}

impl Standing {
    /// That of a task nobody has taken yet.
    pub fn queued() -> Self {
        Self {
            state: TaskState::Queued,
            attempts: 0,
            ready_at: None,
            hold: None,
            worker: None,
            cancelling: false,
            taken_at: None,
            ended_at: None,
            result: None,
            fault: None,
        }
    }
}

/// A task of which something may still become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenTask {
    /// Which.
    pub task: TaskNo,
    /// The job that it is a part of.
    pub job: JobNo,
    /// The recorder, by scheme, host and port: `http://10.0.0.5:80`.
    pub recorder: Arc<str>,
    /// Who it logs in as.
    pub user: Arc<str>,
    /// Which of the job's passwords is its own; `None` where a file on the worker's machine holds it.
    pub secret: Option<u32>,
    /// Whether a line of text says all of it.
    pub plain: bool,
    /// Tasks of that recorder that may be in hands at once, at most, while this one is.
    pub sessions: u32,
    /// Since when it waits.
    pub since: UnixMicros,
    /// What it is doing.
    pub standing: Standing,
}

/// What became of a task, and of a lease on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskChange {
    /// Which task.
    pub task: TaskNo,
    /// The job that it is a part of.
    pub job: JobNo,
    /// What it was doing before.
    pub before: TaskState,
    /// How it stands now.
    pub standing: Standing,
    /// The lease that its holder has ended by this, and with which word.
    pub said: Option<(LeaseNo, String, LastWord)>,
}

/// The word with which a holder ends a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LastWord {
    /// The task is done.
    Complete,
    /// It came to nothing.
    Fail,
}

impl LastWord {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Fail => "fail",
        }
    }

    /// What the word means.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Complete, Self::Fail].into_iter().find(|known| known.as_str() == word)
    }
}

/// A job that is about to be: a set of tasks that were asked for at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewJob {
    /// What it is called.
    pub id: String,
    /// When it was asked for.
    pub created: UnixMicros,
    /// Where results go, for tasks that do not say.
    pub to: Option<String>,
    /// How many tasks it has.
    pub tasks: u64,
}

/// What a task asks for, for good. The password is kept elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TaskForm {
    /// The row that it stood in.
    pub row: u32,
    /// The recorder: `http://10.0.0.5:80`.
    pub recorder: Arc<str>,
    /// Who to log in as.
    pub user: Arc<str>,
    /// A track's id as `101`, or `all`.
    pub channel: String,
    /// From when, as the sheet has it; `None` where the options say.
    pub from: Option<Arc<str>>,
    /// Until when, as the sheet has it.
    pub until: Option<Arc<str>>,
    /// Where its results go; `None` where whoever runs it says.
    pub to: Option<Arc<str>>,
    /// A JSON object of the sheet's columns, each with the text that stands there, but for the channel: all tasks of a row
    /// have one.
    pub options: Arc<str>,
    /// Tasks of the recorder that may be in hands at once.
    pub sessions: u32,
    /// Which of the job's passwords is its own; `None` where a file on the worker's machine holds it.
    pub secret: Option<u32>,
}

/// Columns that a line of text says, or that mean nothing for whoever does the task.
const PLAIN: [&str; 10] =
    ["id", "enabled", "host", "port", "scheme", "user", "channels", "tracks", "sessions", "notes"];

impl TaskForm {
    /// Whether user, password, address and channel are all of it, as far as it goes without the password.
    pub fn is_plain(&self) -> bool {
        let is_bare = self.from.is_none() && self.until.is_none() && self.to.is_none() && self.secret.is_some();
        let is_word = !self.user.is_empty() && !self.user.contains(char::is_whitespace);
        if !is_bare || !is_word {
            return false;
        }
        let Ok(options) = serde_json::from_str::<std::collections::HashMap<&str, serde_json::Value>>(&self.options)
        else {
            return false;
        };
        // Whoever says nothing of the time gets today, and so do most programs.
        let is_said = |name: &str, value: &serde_json::Value| match name {
            "range" => value == "today",
            "tls" => value == "verified",
            name => PLAIN.contains(&name),
        };
        options.iter().all(|(name, value)| is_said(name, value))
    }
}

/// What is known of a job's tasks together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// Which.
    pub job: JobNo,
    /// What it is called.
    pub id: String,
    /// When it was asked for.
    pub created: UnixMicros,
    /// Where results go, for tasks that do not say.
    pub to: Option<String>,
    /// Its first task; the others follow it.
    pub first: TaskNo,
    /// How many there are.
    pub tasks: u64,
    /// How many are in each state, in the order of [`TaskState::ALL`].
    pub counts: [u64; 6],
    /// What became of those that are over, in all.
    pub result: TaskResult,
    /// When the first was taken.
    pub began: Option<UnixMicros>,
    /// When the last that is over came to its end.
    pub ended: Option<UnixMicros>,
}

impl Job {
    /// One that begins.
    pub fn new(job: JobNo, new: NewJob, first: TaskNo) -> Self {
        let NewJob { id, created, to, tasks } = new;
        let counts = [tasks, 0, 0, 0, 0, 0];
        Self { job, id, created, to, first, tasks, counts, result: TaskResult::default(), began: None, ended: None }
    }

    /// How many tasks are in a state.
    pub fn count(&self, state: TaskState) -> u64 {
        self.counts[state as usize]
    }

    /// Whether nothing more becomes of any of its tasks by itself.
    pub fn is_over(&self) -> bool {
        TaskState::ALL.iter().all(|state| state.is_over() || self.count(*state) == 0)
    }

    /// What it is doing, in the words of its tasks.
    pub fn state(&self) -> TaskState {
        match () {
            () if !self.is_over() && self.began.is_none() => TaskState::Queued,
            () if !self.is_over() => TaskState::Running,
            () if self.count(TaskState::Failed) > 0 => TaskState::Failed,
            () if self.count(TaskState::Cancelled) > 0 => TaskState::Cancelled,
            () => TaskState::Done,
        }
    }

    /// Takes what became of one of its tasks into account.
    pub fn apply(&mut self, change: &TaskChange) {
        let standing = &change.standing;
        self.counts[change.before as usize] -= 1;
        self.counts[standing.state as usize] += 1;
        self.began = self.began.or(standing.taken_at);
        if standing.state.is_over() {
            self.ended = self.ended.max(standing.ended_at);
            self.add(standing.result.as_deref().copied().unwrap_or_default());
        }
    }

    /// Takes back what a task had come to that is tried anew.
    pub fn forget(&mut self, before: &Standing) {
        let TaskResult { found, downloaded, there, failed, bytes } =
            before.result.as_deref().copied().unwrap_or_default();
        let sum = &mut self.result;
        for (sum, part) in [
            (&mut sum.found, found),
            (&mut sum.downloaded, downloaded),
            (&mut sum.there, there),
            (&mut sum.failed, failed),
            (&mut sum.bytes, bytes),
        ] {
            *sum = sum.saturating_sub(part);
        }
    }

    /// Takes what became of tasks that are over into account.
    pub fn add(&mut self, part: TaskResult) {
        let sum = &mut self.result;
        sum.found = sum.found.saturating_add(part.found);
        sum.downloaded = sum.downloaded.saturating_add(part.downloaded);
        sum.there = sum.there.saturating_add(part.there);
        sum.failed = sum.failed.saturating_add(part.failed);
        sum.bytes = sum.bytes.saturating_add(part.bytes);
    }
}
