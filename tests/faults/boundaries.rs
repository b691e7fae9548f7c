//! Spool and journal are killed in place of every call by which they change a file, one call a run, and started again.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Context as _, ensure};
use serde_json::json;

use crate::child::{Player, Role, command};
use crate::extent::{Extent, scratch};
use crate::strace::{self, Call, Fault};
use crate::verdict::{Promises, judge};

/// Which calls are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Those of the thread that starts the others, and that opens both before it does.
    Start,
    /// Those of a thread while it works and ends.
    Thread(&'static str),
}

/// Has the program start, work and end with a fault in it.
fn run(phase: Phase, fault: &Fault, dir: &Path) -> anyhow::Result<(ExitStatus, Vec<String>)> {
    let log = strace::log(dir);
    let mut player = Player::start(command(Role::Work, dir))?;
    ensure!(player.until("waiting")?, "it says nothing: {:?}", player.said);
    let mut strace = match phase {
        Phase::Start => {
            let strace = strace::attach(player.thread(None)?, fault, &log)?;
            player.go();
            strace
        }
        Phase::Thread(name) => {
            player.go();
            ensure!(player.until("ready")?, "it does not start: {:?}", player.said);
            strace::attach(player.thread(Some(name))?, fault, &log)?
        }
    };
    let ended = player.end();
    strace.wait()?;
    ended
}

/// The calls of a run without a fault.
fn calls(phase: Phase, before: Option<&Path>) -> anyhow::Result<Vec<Call>> {
    let dir = scratch(before)?;
    let (status, said) = run(phase, &Fault::None, dir.path())?;
    ensure!(status.success(), "without a fault it ends with {status}: {said:#?}");
    let calls = strace::calls(&strace::log(dir.path()), dir.path())?;
    ensure!(calls.len() > 10, "strace saw no more than {calls:?}");
    Ok(calls)
}

/// Some of the calls, of each name the same number at most, spread over all of it.
fn some(calls: Vec<Call>, extent: &Extent, most: usize) -> Vec<Call> {
    if extent.long {
        return calls;
    }
    let mut by_name: BTreeMap<String, Vec<Call>> = BTreeMap::new();
    for call in calls {
        by_name.entry(call.name.clone()).or_default().push(call);
    }
    let mut rng = extent.rng();
    let mut chosen = Vec::new();
    for calls in by_name.into_values() {
        let stride = calls.len().div_ceil(most);
        let offset = rng.usize(0..stride);
        chosen.extend(calls.into_iter().skip(offset).step_by(stride));
    }
    chosen
}

/// Does `each` for every fault, four at a time, as they mostly wait for one another, and reports all that went wrong.
fn every(faults: &[Fault], each: impl Fn(&Fault) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    let (next, problems) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Relaxed)) {
                    if let Err(error) = each(fault) {
                        problems.lock().expect("no holder panics").push(format!("{fault:?}: {error:#}"));
                    }
                }
            });
        }
    });
    let problems = problems.into_inner()?;
    ensure!(problems.is_empty(), "{} of {} cases:\n{}", problems.len(), faults.len(), problems.join("\n"));
    Ok(())
}

/// Kills at the calls of a phase, and judges what three starts make of each.
fn killed(phase: Phase, before: Option<&Path>, most: usize) -> anyhow::Result<()> {
    let extent = Extent::given();
    let all = calls(phase, before)?;
    let boundaries = all.len();
    let faults: Vec<Fault> = some(all, &extent, most).into_iter().map(Fault::Kill).collect();
    let (reached, slowest) = (AtomicUsize::new(0), Mutex::new(0));
    every(&faults, |fault| {
        let dir = scratch(before)?;
        let (status, said) = run(phase, fault, dir.path())?;
        if status.signal() != Some(9) {
            // How calls fall together is not the same in every run: the last of a name may not come.
            return ensure_ended(status, &said);
        }
        reached.fetch_add(1, Relaxed);
        let found = judge(dir.path(), &Promises::of(&said)?)?;
        let mut slowest = slowest.lock().expect("no holder panics");
        *slowest = found.took.max(*slowest);
        Ok(())
    })
    .with_context(|| format!("{extent}"))?;
    let (reached, slowest) = (reached.into_inner(), slowest.into_inner()?);
    let figures = json!({
        "boundaries": boundaries, "of": format!("{phase:?}"), "after_a_crash": before.is_some(), "seed": extent.seed,
        "tried": faults.len(), "faults": reached, "starts": 3 * reached, "crash_loops": 0, "slowest_start_ms": slowest,
    });
    println!("\n{figures}");
    ensure!(reached * 10 >= faults.len() * 9, "only {reached} of {} boundaries were reached", faults.len());
    Ok(())
}

fn ensure_ended(status: ExitStatus, said: &[String]) -> anyhow::Result<()> {
    ensure!(status.success(), "it ends with {status}: {said:#?}");
    Ok(())
}

#[test]
fn the_first_start_may_be_cut_anywhere() -> anyhow::Result<()> {
    killed(Phase::Start, None, 3)
}

#[test]
fn a_start_after_a_crash_may_be_cut_anywhere() -> anyhow::Result<()> {
    let extent = Extent::given();
    let dir = scratch(None)?;
    let writes: Vec<Call> = calls(Phase::Thread("spool"), None)?;
    let writes: Vec<&Call> = writes.iter().filter(|call| call.name.starts_with("pwrite")).collect();
    let cut = writes[extent.rng().usize(writes.len() / 2..writes.len() - 2)].clone();
    let (status, said) = run(Phase::Thread("spool"), &Fault::Kill(cut), dir.path())?;
    ensure!(status.signal() == Some(9), "{extent}: it was not killed: {status}: {said:#?}");
    killed(Phase::Start, Some(dir.path()), 3)
}

#[test]
fn the_spool_may_be_cut_anywhere() -> anyhow::Result<()> {
    killed(Phase::Thread("spool"), None, 6)
}

#[test]
fn the_journal_may_be_cut_anywhere() -> anyhow::Result<()> {
    killed(Phase::Thread("journal"), None, 6)
}

/// The disk refuses a call of the spool's thread, once or for a while. Frames are written elsewhere, or they end with a
/// word; the program goes on to its end.
fn refused(names: &[&str], error: &'static str, count: u64, most: usize) -> anyhow::Result<()> {
    let extent = Extent::given();
    let phase = Phase::Thread("spool");
    let all = calls(phase, None)?.into_iter().filter(|call| names.contains(&call.name.as_str())).collect();
    let faults: Vec<_> = some(all, &extent, most).into_iter().map(|call| Fault::Error(call, count, error)).collect();
    ensure!(!faults.is_empty(), "the spool makes none of these calls: {names:?}");
    let promised = AtomicUsize::new(0);
    let injected = AtomicUsize::new(0);
    every(&faults, |fault| {
        let dir = scratch(None)?;
        let (status, said) = run(phase, fault, dir.path())?;
        ensure!(status.success(), "it ends with {status}: {said:#?}");
        let log = std::fs::read_to_string(strace::log(dir.path()))?;
        injected.fetch_add(log.matches("(INJECTED)").count(), Relaxed);
        let promises = Promises::of(&said)?;
        promised.fetch_add(promises.durable(), Relaxed);
        judge(dir.path(), &promises).map(drop)
    })
    .with_context(|| format!("{extent}"))?;
    let (promised, injected) = (promised.into_inner(), injected.into_inner());
    let figures = json!({
        "refused": names, "error": error, "at_a_time": count, "seed": extent.seed, "runs": faults.len(),
        "faults": injected, "durable": promised, "missing": 0,
    });
    println!("\n{figures}");
    ensure!(injected >= faults.len() / 2 && injected > 0, "{injected} faults in {} runs", faults.len());
    Ok(())
}

#[test]
fn a_sync_that_fails_loses_nothing() -> anyhow::Result<()> {
    refused(&["fdatasync", "fsync"], "EIO", 1, 5)
}

#[test]
fn a_write_that_fails_loses_nothing() -> anyhow::Result<()> {
    refused(&["pwrite64", "pwritev", "pwritev2", "ftruncate", "unlink", "unlinkat"], "EIO", 1, 4)
}

#[test]
fn a_disk_that_is_full_for_a_while_loses_nothing_without_a_word() -> anyhow::Result<()> {
    refused(&["fallocate", "openat"], "ENOSPC", 2, 4)?;
    refused(&["pwrite64", "pwritev", "pwritev2"], "ENOSPC", 3, 4)
}

/// Without its journal the daemon can promise nothing: it ends, or it goes on, and what it has said holds.
#[test]
fn a_journal_that_cannot_be_written_takes_nothing_back() -> anyhow::Result<()> {
    let extent = Extent::given();
    let phase = Phase::Thread("journal");
    let calls =
        calls(phase, None)?.into_iter().filter(|call| ["fdatasync", "fsync", "pwrite64"].contains(&call.name.as_str()));
    let faults: Vec<_> =
        some(calls.collect(), &extent, 6).into_iter().map(|call| Fault::Error(call, 1, "EIO")).collect();
    let ended = AtomicUsize::new(0);
    every(&faults, |fault| {
        let dir = scratch(None)?;
        let (status, said) = run(phase, fault, dir.path())?;
        ensure!(status.success() || status.code() == Some(74), "it ends with {status}: {said:#?}");
        ended.fetch_add(usize::from(!status.success()), Relaxed);
        judge(dir.path(), &Promises::of(&said)?).map(drop)
    })
    .with_context(|| format!("{extent}"))?;
    let figures = json!({
        "refused": "journal", "error": "EIO", "seed": extent.seed, "faults": faults.len(), "ended_with_74": ended.into_inner(),
        "broken_promises": 0,
    });
    println!("\n{figures}");
    Ok(())
}
