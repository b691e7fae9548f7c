//! An export that goes on.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::daemon::wait;

/// How long a program may take to do what is waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// A program that goes on, and is killed when nobody waits for it.
#[derive(Debug)]
pub(super) struct Running(Child);

impl Running {
    /// Starts it; what it tells and says is not kept.
    pub(super) fn start(command: &mut Command) -> anyhow::Result<Self> {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Self).context("cannot start framehaul")
    }

    /// Kills it, as nothing can be done against.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.0.kill().context("cannot kill framehaul")?;
        self.0.wait().map(drop).context("cannot wait for framehaul")
    }

    /// Waits for its end: its exit status.
    pub(super) fn ended(&mut self) -> anyhow::Result<Option<i32>> {
        let look = || self.0.try_wait().context("cannot look after framehaul");
        wait(PATIENCE, look).map(|status| status.code()).context("framehaul does not end")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Errors mean that it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
