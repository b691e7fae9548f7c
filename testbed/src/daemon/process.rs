//! The daemon's process, as several threads may see it.

use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::process::Signal;

use super::wait;
use crate::signals;

/// A process that runs, or does not. All clones are of the same one.
///
/// It is waited for under the lock only, so that its id is its own whenever a signal is sent.
#[derive(Debug, Clone, Default)]
pub struct Process(Arc<Mutex<Option<Child>>>);

impl Process {
    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        // There is no half-done change that a panic could leave behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts it, after `before`; it must not be running.
    pub(crate) fn start(&self, command: &mut Command, before: impl FnOnce()) -> anyhow::Result<()> {
        let mut child = self.lock();
        ensure!(child.is_none(), "framehaul is running already");
        before();
        let program = command.get_program().to_owned();
        *child = Some(command.spawn().with_context(|| format!("cannot start {}", program.display()))?);
        Ok(())
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.lock().as_ref().map(Child::id)
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let child = self.lock();
        signals::send(child.as_ref().context("framehaul does not run")?.id(), signal)
    }

    /// Its status, if it has ended by now. It counts as running until [`wait_for_end`](Self::wait_for_end) has seen it.
    pub(crate) fn ended(&self) -> anyhow::Result<Option<ExitStatus>> {
        self.lock().as_mut().context("framehaul does not run")?.try_wait().context("cannot look after framehaul")
    }

    /// Waits for its end; kills it when that does not come in time, which is an error.
    pub(crate) fn wait_for_end(&self, patience: Duration) -> anyhow::Result<ExitStatus> {
        ensure!(self.id().is_some(), "framehaul does not run");
        let ended = wait(patience, || self.ended());
        self.kill();
        ended.context("framehaul did not end and was killed")
    }

    /// Kills it, unless it has ended, and collects its status.
    pub(crate) fn kill(&self) {
        Self::end(&mut self.lock());
    }

    fn end(child: &mut Option<Child>) {
        if let Some(mut child) = child.take() {
            // An error means that it is gone.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Kills it and ends this process, both at once: no other thread sees the one without the other, or starts it
    /// again.
    pub fn kill_and_exit(&self, code: i32) -> ! {
        let mut child = self.lock();
        Self::end(&mut child);
        std::process::exit(code)
    }
}
