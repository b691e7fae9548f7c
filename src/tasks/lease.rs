//! A lease as its holder gets it.

use std::time::Duration;

use secrecy::SecretString;

use crate::model::{LeaseNo, TaskForm, UnixMicros};

/// A worker's hold on a task, with all that the worker needs for it.
#[derive(Clone, Debug)]
pub struct Lease {
    /// What it is called, which nobody can guess.
    pub id: String,
    /// Its fencing number.
    pub number: LeaseNo,
    /// When it ends without a heartbeat, as far as the wall clock can be believed.
    pub expires_at: UnixMicros,
    /// How long it lives from each heartbeat.
    pub lives: Duration,
    /// The task, by its name.
    pub task: String,
    /// The job that it is a part of, by its name.
    pub job: String,
    /// How often the task was taken, this time among them.
    pub attempt: u32,
    /// When the job was asked for: `today` is the day of that.
    pub asked_at: UnixMicros,
    /// What it asks for.
    pub form: TaskForm,
    /// The recorder's password; `None` where a file on the worker's machine holds it.
    pub password: Option<SecretString>,
}
