//! What answers about export jobs, tasks and leases look like.

use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::Value;

use crate::model::{Job, LeaseNo, TaskFault, TaskForm, TaskProgress, TaskResult, TaskState, UnixMicros};
use crate::sheet::Column;
use crate::tasks::{GettingOn, Lease, TaskView};

/// A worker asks for so many heartbeats in the life of a lease.
const BEATS: u32 = 4;

/// A job.
#[derive(Debug, Serialize)]
pub struct JobDto {
    id: String,
    state: TaskState,
    created_at: UnixMicros,
    began_at: Option<UnixMicros>,
    ended_at: Option<UnixMicros>,
    /// Where results go, for tasks that do not say.
    to: Option<String>,
    tasks: u64,
    counts: CountsDto,
    /// Of the tasks that are over.
    #[serde(flatten)]
    result: TaskResult,
    /// Of the tasks that workers have; left out of lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<ProgressDto>,
}

/// How many tasks are in each state.
#[derive(Debug, Serialize)]
struct CountsDto {
    queued: u64,
    leased: u64,
    running: u64,
    done: u64,
    failed: u64,
    cancelled: u64,
}

impl JobDto {
    /// A job; `running` is how the tasks are getting on that workers have.
    pub fn new(job: Job, running: Option<&[GettingOn]>) -> Self {
        let state = job.state();
        let [queued, leased, at_work, done, failed, cancelled] = job.counts;
        Self {
            state,
            created_at: job.created,
            began_at: job.began,
            ended_at: job.ended.filter(|_| job.is_over()),
            to: job.to,
            tasks: job.tasks,
            counts: CountsDto { queued, leased, running: at_work, done, failed, cancelled },
            result: job.result,
            running: running.map(ProgressDto::of_all),
            id: job.id,
        }
    }
}

/// How far work has come.
#[derive(Debug, Serialize)]
pub struct ProgressDto {
    #[serde(flatten)]
    progress: TaskProgress,
    bytes_per_second: u64,
    /// `null` where it is not known how much there is.
    seconds_left: Option<u64>,
}

impl ProgressDto {
    fn of(getting_on: &GettingOn) -> Self {
        let GettingOn { progress, elapsed } = getting_on;
        let rate = progress.bytes as f64 / elapsed.as_secs_f64().max(1.0);
        let left = progress.of_bytes.map(|all| all.saturating_sub(progress.bytes) as f64);
        let seconds_left = left.filter(|_| rate > 0.0).map(|left| (left / rate).ceil() as u64);
        Self { progress: *progress, bytes_per_second: rate as u64, seconds_left }
    }

    /// All of them together; the last of them says when they will be through.
    fn of_all(all: &[GettingOn]) -> Self {
        let parts: Vec<Self> = all.iter().map(Self::of).collect();
        let sum =
            |of: fn(&TaskProgress) -> u64| parts.iter().fold(0_u64, |sum, part| sum.saturating_add(of(&part.progress)));
        let all_known = |of: fn(&TaskProgress) -> Option<u64>| {
            parts.iter().try_fold(0_u64, |sum, part| of(&part.progress).map(|part| sum.saturating_add(part)))
        };
        let progress = TaskProgress {
            files: sum(|progress| progress.files),
            of: all_known(|progress| progress.of),
            bytes: sum(|progress| progress.bytes),
            of_bytes: all_known(|progress| progress.of_bytes),
        };
        let bytes_per_second = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.bytes_per_second));
        let left: Option<Vec<u64>> = parts.iter().map(|part| part.seconds_left).collect();
        Self { progress, bytes_per_second, seconds_left: left.and_then(|left| left.into_iter().max()) }
    }
}

/// A task.
#[derive(Debug, Serialize)]
pub struct TaskDto {
    id: String,
    row: u32,
    server: String,
    user: String,
    channel: String,
    from: Option<String>,
    until: Option<String>,
    to: Option<String>,
    state: TaskState,
    /// Whether it is called off while a worker has it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cancelling: bool,
    attempts: u32,
    worker: Option<String>,
    taken_at: Option<UnixMicros>,
    ended_at: Option<UnixMicros>,
    /// When it will be tried again, where it waits for that.
    retry_at: Option<UnixMicros>,
    /// `null` where nothing was said of it.
    result: Option<TaskResult>,
    error: Option<TaskFault>,
    progress: Option<ProgressDto>,
}

impl TaskDto {
    /// A task as it is listed.
    pub fn new(view: TaskView) -> Self {
        let (form, standing) = (view.listed.form, view.listed.standing);
        Self {
            id: view.id,
            row: form.row,
            server: form.recorder.to_string(),
            user: form.user.to_string(),
            channel: form.channel,
            from: form.from.map(|from| from.to_string()),
            until: form.until.map(|until| until.to_string()),
            to: form.to.map(|to| to.to_string()),
            state: standing.state,
            cancelling: standing.cancelling,
            attempts: standing.attempts,
            worker: standing.worker.map(|worker| worker.to_string()),
            taken_at: standing.taken_at,
            ended_at: standing.ended_at,
            retry_at: standing.ready_at,
            result: standing.result.map(|result| *result),
            error: standing.fault.map(|fault| *fault),
            progress: view.getting_on.as_ref().map(ProgressDto::of),
        }
    }
}

/// A lease, for its holder alone: the recorder's password is in it.
#[derive(Serialize)]
pub struct LeaseDto<'a> {
    id: &'a str,
    number: LeaseNo,
    expires_at: UnixMicros,
    lives: String,
    heartbeat: String,
    task: OrderDto<'a>,
}

#[derive(Serialize)]
struct OrderDto<'a> {
    id: &'a str,
    job: &'a str,
    row: u32,
    attempt: u32,
    server: &'a str,
    username: &'a str,
    password: Option<&'a str>,
    channel: &'a str,
    from: Option<&'a str>,
    until: Option<&'a str>,
    /// When it was asked for, which `today` in the options goes by, however late it is done.
    asked_at: UnixMicros,
    to: Option<&'a str>,
    /// What else the sheet says, by the names of its columns.
    options: Value,
}

impl<'a> LeaseDto<'a> {
    /// A lease.
    pub fn new(lease: &'a Lease) -> Self {
        let form = &lease.form;
        let shown = |time| humantime::format_duration(time).to_string();
        Self {
            id: &lease.id,
            number: lease.number,
            expires_at: lease.expires_at,
            lives: shown(lease.lives),
            heartbeat: shown(lease.lives / BEATS),
            task: OrderDto {
                id: &lease.task,
                job: &lease.job,
                row: form.row,
                attempt: lease.attempt,
                server: &form.recorder,
                username: &form.user,
                password: lease.password.as_ref().map(|password| password.expose_secret()),
                channel: &form.channel,
                from: form.from.as_deref(),
                until: form.until.as_deref(),
                asked_at: lease.asked_at,
                to: form.to.as_deref(),
                options: options(form),
            },
        }
    }
}

/// What the sheet says of a task, by the names of its columns.
fn options(form: &TaskForm) -> Value {
    let mut options: serde_json::Map<String, Value> = serde_json::from_str(&form.options).unwrap_or_default();
    let (column, channel) = channel(form);
    options.insert(column.name().to_owned(), channel.into());
    options.into()
}

/// The column that says the task's channel, and what stands there.
pub fn channel(form: &TaskForm) -> (Column, &str) {
    (if form.channel == "all" { Column::Channels } else { Column::Tracks }, &form.channel)
}
