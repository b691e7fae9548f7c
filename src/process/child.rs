//! The program's side of a process: what it may take of the machine, and its pipes to the daemon.

use std::fs::File;
use std::io::{BufRead, Read as _};
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde::de::DeserializeOwned;

/// Keeps what a hostile stream can do to the machine small: memory has a limit, and where it runs out all the same, the
/// kernel ends this process first. Neither needs a privilege; where one is refused, the stream is read without it.
pub fn limit(most_memory: u64) {
    let most = Rlimit { current: Some(most_memory), maximum: Some(most_memory) };
    let _ = setrlimit(Resource::Data, most);
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

/// Reads the settings, the first line of standard input, of so many bytes at most.
///
/// # Errors
///
/// The code to exit with where they are none; the reason stands on standard error.
pub fn settings<T: DeserializeOwned>(stdin: &mut impl BufRead, most_bytes: u64) -> Result<T, ExitCode> {
    let mut line = String::new();
    let settings = match stdin.take(most_bytes).read_line(&mut line) {
        Ok(n) if n > 0 => serde_json::from_str(&line),
        _ => return Err(ExitCode::from(64)),
    };
    settings.map_err(|_| {
        // The line holds a password, and serde's message may repeat a piece of it.
        eprintln!("the settings on standard input are not what this program expects: are both of one version?");
        ExitCode::from(64)
    })
}

/// The pipe to the daemon, for us alone: what a media library writes to standard output goes to standard error from
/// here on.
///
/// # Errors
///
/// When there is no standard output or error, or no room for another file.
pub fn take_stdout() -> std::io::Result<File> {
    let pipe = rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3)?;
    rustix::stdio::dup2_stdout(std::io::stderr())?;
    Ok(pipe.into())
}

/// Ends this process at once. Nobody is left to take what it makes, and it may be blocked in a media library for good.
pub fn end() {
    let _ = kill_process(getpid(), Signal::KILL);
}

/// `CLOCK_MONOTONIC`, nanoseconds: the clock that all processes of one machine share.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
