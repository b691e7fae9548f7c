//! The workers of the demo, each a process with its own log.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::Signal;

use super::{WORKERS, url_of};
use crate::daemon::{Daemon, Process};

/// How long a worker may take to end: what is on its way has 5 s.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// Workers that run. Dropping them kills them.
#[derive(Debug)]
pub(super) struct Crew(Vec<Process>);

impl Crew {
    /// Starts one for each process.
    pub(super) fn start(
        program: &Path,
        daemon: &Daemon,
        token: &Path,
        out: &Path,
        logs: &Path,
        processes: Vec<Process>,
    ) -> anyhow::Result<Self> {
        let crew = Self(processes);
        for (name, process) in WORKERS.iter().zip(&crew.0) {
            let log = logs.join(format!("{name}.log"));
            let log = File::create(&log).with_context(|| format!("cannot make {}", log.display()))?;
            let mut command = Command::new(program);
            command.args(["worker", "--verbose", "--format", "json", "--name", name, "--server", daemon.address()]);
            command.args(["--to", &url_of(out)?]).arg("--token-file").arg(token).stdin(Stdio::null());
            command.stdout(log.try_clone().context("cannot share a log")?).stderr(log).process_group(0);
            process.start(&mut command, || {})?;
        }
        Ok(crew)
    }

    /// Tells all of them to end; what comes back is what is wrong with how they did.
    pub(super) fn end(self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, process) in WORKERS.iter().zip(&self.0) {
            if let Err(error) = process.signal(Signal::TERM) {
                faults.push(format!("worker {name}: {error:#}"));
            }
        }
        for (name, process) in WORKERS.iter().zip(&self.0) {
            match process.wait_for_end(GONE_WITHIN) {
                Ok(status) if status.success() => {}
                Ok(status) => faults.push(format!("worker {name} ended with {status}")),
                Err(error) => faults.push(format!("worker {name}: {error:#}")),
            }
        }
        faults
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.0.iter().for_each(Process::kill);
    }
}
