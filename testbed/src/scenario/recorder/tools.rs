//! What others fetch recordings with: hikload and hikvisionapi, as they come from PyPI.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;

use crate::contest::python;
use crate::nvr::NvrServer;

/// All of it, with what they need, pinned.
const REQUIREMENTS: &str = include_str!("../../../tests/recorder_clients/requirements.txt");
/// The day of the recordings, as hikload is asked for it.
pub(super) const DAY: [&str; 4] = ["--starttime", "2026-11-19T00:00:00", "--endtime", "2026-11-19T23:59:59"];

/// An environment of Python's with both of them.
#[derive(Debug, Clone)]
pub struct Tools {
    programs: PathBuf,
}

impl Tools {
    /// In a directory, into which they are installed where they are not there yet.
    ///
    /// # Errors
    ///
    /// When they cannot be installed.
    pub fn install(environment: &Path) -> anyhow::Result<Self> {
        // They are run elsewhere.
        let environment = std::path::absolute(environment).context("there is no directory that we are in")?;
        let python = python::environment(&environment, REQUIREMENTS).context("cannot install hikload")?;
        let programs = python.parent().context("Python lies in a directory")?.to_owned();
        Ok(Self { programs })
    }

    /// hikload in a directory that it may fill; what it fetches comes to lie in `out` there.
    pub(super) fn hikload(&self, server: &NvrServer, password: &str, dir: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("hikload"));
        command.args(["--server", server.host(), "--username", "admin", "--password", password]);
        command.args(["--downloads", "out"]).args(arguments).current_dir(dir).stdin(Stdio::null());
        command.env("NO_PROXY", "127.0.0.1").env("HOME", dir).env_remove("RUNNING_IN_DOCKER");
        command
    }
}
