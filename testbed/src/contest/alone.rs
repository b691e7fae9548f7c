//! What a program takes that starts no others, from its start to its end.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::trial::processor_time;

/// How often memory is looked at: the kernel remembers the most there was.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a program took.
#[derive(Debug, Clone, Copy)]
pub struct Alone {
    /// How long it ran.
    pub took: Duration,
    /// Processor time of all its threads, in user and kernel mode.
    pub processor: Duration,
    /// The most memory that it had resident, bytes, but for what came in its last moments.
    pub resident: u64,
}

impl Alone {
    /// Starts a program, which may say something as it likes and tells nothing.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> anyhow::Result<Started> {
        let what = command.get_program().display().to_string();
        let begun = Instant::now();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Started { child: child.with_context(|| format!("cannot start {what}"))?, what, begun })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn run(command: &mut Command) -> anyhow::Result<Self> {
        Self::start(command)?.ended()
    }
}

/// A program that runs. It is killed when nobody wants it any more.
#[derive(Debug)]
pub struct Started {
    child: Child,
    what: String,
    begun: Instant,
}

impl Started {
    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn ended(mut self) -> anyhow::Result<Alone> {
        let pid = self.child.id();
        let id = i32::try_from(pid).ok().and_then(Pid::from_raw).context("a process has a number")?;
        let (over, told) = channel::<()>();
        let (waited, took, resident) = thread::scope(|scope| {
            let watch = scope.spawn(move || {
                let mut most = 0;
                while let Err(RecvTimeoutError::Timeout) = told.recv_timeout(LOOK_EVERY) {
                    most = most_resident(pid).unwrap_or(most);
                }
                most
            });
            // It is left to be waited for: its accounts are complete, and still there.
            let waited = waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            let took = self.begun.elapsed();
            drop(over);
            (waited, took, watch.join())
        });
        waited.context("cannot look after a child")?;
        let resident = resident.ok().context("who looked at its memory has panicked")?;
        let processor = processor_time(pid)?;
        let status = self.child.wait().with_context(|| format!("cannot wait for {}", self.what))?;
        ensure!(status.success(), "{} ended with {status}", self.what);
        Ok(Alone { took, processor, resident })
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Errors mean that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The most memory that a process has had resident, bytes; none where it has ended.
pub(crate) fn most_resident(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_measured_to_its_end() {
        let script = "import time\nh = bytearray(64 << 20)\ndel h\nfor i in range(5_000_000): pass\ntime.sleep(0.2)";
        let alone = Alone::run(Command::new("/usr/bin/python3").args(["-c", script])).unwrap();
        assert!(alone.processor >= Duration::from_millis(50) && alone.took >= alone.processor, "{alone:?}");
        assert!((64 << 20..256 << 20).contains(&alone.resident), "{alone:?}");
        assert!(Alone::run(&mut Command::new("/bin/false")).is_err());
    }
}
