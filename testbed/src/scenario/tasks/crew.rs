//! Workers as processes that fall: they are killed, or stand still.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::Signal;

use super::place::Place;
use crate::daemon::{Process, wait};
use crate::signals::{is_stopped, send_to_group};

/// How long a signal may take to have its effect, and a worker to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// A worker that runs, or stands still. Dropped, it is killed with all that it has started.
#[derive(Debug)]
pub(super) struct Member {
    /// What it tells the server that it is called.
    pub(super) name: String,
    process: Process,
    /// When it goes on, while it stands still.
    pub(super) until: Option<Instant>,
}

impl Member {
    /// Starts it in a group of its own; what it says goes into a file of its name.
    pub(super) fn start(name: String, command: &mut Command, logs: &Path) -> anyhow::Result<Self> {
        let path = logs.join(format!("{}.log", name.replace(' ', "-")));
        let log = File::options().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("cannot make {}", path.display()))?;
        command.stdout(log.try_clone().context("cannot share a log")?).stderr(log).process_group(0);
        let process = Process::default();
        process.start(command, || {})?;
        Ok(Self { name, process, until: None })
    }

    /// A worker of framehaul's.
    pub(super) fn worker(place: &Place, name: String, to: &str, endpoint: &str) -> anyhow::Result<Self> {
        Self::start(name.clone(), &mut place.worker(&name, to, endpoint), place.dir())
    }

    /// Whether it has ended by itself.
    pub(super) fn has_ended(&self) -> anyhow::Result<bool> {
        Ok(self.process.ended()?.is_some())
    }

    /// Has all of it stand still until then.
    pub(super) fn stop(&mut self, until: Instant) -> anyhow::Result<()> {
        let id = self.process.id().context("a worker is gone")?;
        send_to_group(id, Signal::STOP)?;
        wait(PATIENCE, || Ok(is_stopped(id)?.then_some(()))).context("a worker does not stand still")?;
        self.until = Some(until);
        Ok(())
    }

    /// Has it go on.
    pub(super) fn go_on(&mut self) -> anyhow::Result<()> {
        self.until = None;
        send_to_group(self.process.id().context("a worker is gone")?, Signal::CONT)
    }

    /// Kills it, as nothing can be done against.
    pub(super) fn kill(&self) {
        if let Some(id) = self.process.id() {
            // An error means that all of it is gone.
            let _ = send_to_group(id, Signal::KILL);
        }
        self.process.kill();
    }

    /// Tells it to end, and says whether it did so in good order.
    pub(super) fn end(&mut self) -> anyhow::Result<bool> {
        self.process.signal(Signal::TERM)?;
        Ok(self.process.wait_for_end(PATIENCE)?.success())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}
