//! Counts the instructions of a program, by valgrind's callgrind.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, ensure};

/// The program that counts.
pub(super) const VALGRIND: &str = "valgrind";

/// A program under callgrind, which writes its count into a file.
#[derive(Debug)]
pub struct Counted {
    dir: tempfile::TempDir,
}

impl Counted {
    /// Prepares a count.
    ///
    /// # Errors
    ///
    /// When valgrind is not installed.
    pub fn new() -> anyhow::Result<Self> {
        let found = Command::new(VALGRIND).arg("--version").output();
        let found = found.context("cannot start valgrind: is it installed (Debian: valgrind)?")?;
        ensure!(found.status.success(), "`valgrind --version` failed");
        Ok(Self { dir: tempfile::tempdir().context("cannot make a temporary directory")? })
    }

    /// The same command under callgrind.
    pub fn wrap(&self, command: &Command) -> Command {
        let log = [OsString::from("--log-file="), self.dir.path().join("log").into()].into_iter().collect::<OsString>();
        let mut wrapped = Command::new(VALGRIND);
        wrapped.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(log);
        wrapped.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                wrapped.env(name, value);
            }
        }
        wrapped
    }

    /// Instructions of the command, once it has ended.
    ///
    /// # Errors
    ///
    /// When it was not counted.
    pub fn instructions(&self) -> anyhow::Result<u64> {
        let path = self.dir.path().join("log");
        let log = std::fs::read_to_string(&path).context("callgrind has told nothing")?;
        collected(&log).with_context(|| format!("callgrind has told no count: {}", log.trim()))
    }
}

/// What stands behind `Collected :` in the last line that has it.
fn collected(log: &str) -> Option<u64> {
    log.lines().rev().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_read() {
        let log = "==7== Callgrind, a call-graph generating cache profiler\n==7== Events    : Ir\n==7== Collected : 1234567\n";
        assert_eq!(collected(log), Some(1_234_567));
        assert_eq!(collected("==7== Events    : Ir\n"), None);
    }
}
