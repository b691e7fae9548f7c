//! Signals, those we send and those that end us.

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

/// Sends a signal to a process. The caller makes sure that the id is still that process's.
pub(crate) fn send(pid: u32, signal: Signal) -> anyhow::Result<()> {
    kill_process(id(pid)?, signal).with_context(|| format!("cannot signal process {pid}"))
}

/// Sends a signal to the group of processes that a process leads, which must still be that process's.
pub(crate) fn send_to_group(leader: u32, signal: Signal) -> anyhow::Result<()> {
    kill_process_group(id(leader)?, signal).with_context(|| format!("cannot signal the processes of {leader}"))
}

fn id(pid: u32) -> anyhow::Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).with_context(|| format!("{pid} is no process id"))
}

/// Whether every thread of a process stands still after SIGSTOP, which takes effect some time after it was sent.
pub(crate) fn is_stopped(pid: u32) -> anyhow::Result<bool> {
    let tasks = format!("/proc/{pid}/task");
    for task in std::fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
        // A thread that has ended meanwhile does nothing any more.
        let Ok(stat) = std::fs::read_to_string(task?.path().join("stat")) else { continue };
        // The state is the first field after the name, which is in parentheses and may hold anything (proc(5)).
        let state = stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next());
        if state != Some('T') {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Listens for SIGTERM and SIGINT from now on; the future is ready when one came or, if asked for, standard input
/// closed.
///
/// The runtime must be shut down without waiting: the thread that reads standard input may never end.
pub(crate) fn told_to_end(until_stdin_closes: bool) -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let stdin_closed = async move {
        if !until_stdin_closes {
            std::future::pending::<()>().await;
        }
        // What comes in is of no interest, and an error is an end as well.
        let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut tokio::io::sink()).await;
    };
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = stdin_closed => {}
        }
    })
}
