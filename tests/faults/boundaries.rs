//! Spool and journal are killed in place of every call by which they change a file, one call a run, and started again.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use crate::child::{Player, Role, command};
use crate::extent::{Extent, scratch};
use crate::order;
use crate::strace::{self, Call, Fault};
use crate::verdict::{Promises, judge};

/// How often a boundary is tried: how calls fall together is not the same in every run, and the last of a name may not
/// come.
const TRIES: usize = 6;

/// Which calls are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Those of the thread that starts the others, and that opens both before it does.
    Start,
    /// Those of the spool's thread while it works and ends; the oldest frames go where there is no room.
    Spool,
    /// The same, but new frames are refused where there is no room.
    Refusing,
    /// Those of the journal's thread, while SQLite's log becomes full.
    Journal,
}

impl Phase {
    fn role(self) -> Role {
        match self {
            Self::Start | Self::Spool => Role::Work,
            Self::Refusing => Role::WorkRefusing,
            Self::Journal => Role::WorkLogged,
        }
    }

    fn thread(self) -> Option<&'static str> {
        match self {
            Self::Start => None,
            Self::Spool | Self::Refusing => Some("spool"),
            Self::Journal => Some("journal"),
        }
    }
}

/// The kinds of calls at which a kill must have been tried, by any of their names.
const WRITE: &[&str] = &["write", "pwrite64", "pwritev", "pwritev2"];
const SYNC: &[&str] = &["fsync", "fdatasync"];
const RENAME: &[&str] = &["rename", "renameat", "renameat2"];
const UNLINK: &[&str] = &["unlink", "unlinkat"];

/// Has the program start, work and end with a fault in it.
fn run(phase: Phase, fault: &Fault, dir: &Path) -> anyhow::Result<(ExitStatus, Vec<String>)> {
    let log = strace::log(dir);
    let mut player = Player::start(command(phase.role(), dir))?;
    ensure!(player.until("waiting")?, "it says nothing: {:?}", player.said);
    if phase != Phase::Start {
        player.go();
        ensure!(player.until("ready")?, "it does not start: {:?}", player.said);
    }
    let mut strace = strace::attach(player.thread(phase.thread())?, fault, &log)?;
    player.go();
    let ended = player.end();
    strace.wait()?;
    ended
}

/// The calls of a run without a kill.
fn calls(phase: Phase, fault: &Fault, before: Option<&Path>) -> anyhow::Result<Vec<Call>> {
    let dir = scratch(before)?;
    let (status, said) = run(phase, fault, dir.path())?;
    ensure!(status.success(), "without a kill it ends with {status}: {said:#?}");
    let calls = strace::calls(&strace::log(dir.path()), dir.path())?;
    ensure!(calls.len() > 10, "strace saw no more than {calls:?}");
    Ok(calls)
}

/// Some of the calls, of each name the same number at most, spread over all of it.
pub fn some(calls: Vec<Call>, extent: &Extent, most: usize) -> Vec<Call> {
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
pub fn every(faults: &[Fault], each: impl Fn(&Fault) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
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

/// What became of all cases of a phase.
#[derive(Default)]
struct Tally {
    /// Boundaries, those tried and those at which it was killed, by the call's name.
    names: BTreeMap<String, [usize; 3]>,
    slowest: u64,
    /// Boundaries that did not come in any try, and why.
    unreached: Vec<String>,
}

impl Tally {
    fn count(&mut self, call: &Call, which: usize) {
        self.names.entry(call.name.clone()).or_default()[which] += 1;
    }

    fn sum(&self, which: usize) -> usize {
        self.names.values().map(|counts| counts[which]).sum()
    }

    fn killed_at(&self, kind: &[&str]) -> usize {
        kind.iter().filter_map(|name| self.names.get(*name)).map(|counts| counts[2]).sum()
    }
}

/// Kills at some calls of a phase, with `error` injected as well, and judges what three starts make of each. There must
/// be kills at calls of all these kinds.
fn killed(
    extent: &Extent,
    phase: Phase,
    error: &Fault,
    before: Option<&Path>,
    all: Vec<Call>,
    most: usize,
    kinds: &[&[&str]],
) -> anyhow::Result<()> {
    let mut tally = Tally::default();
    all.iter().for_each(|call| tally.count(call, 0));
    let chosen = some(all, extent, most);
    chosen.iter().for_each(|call| tally.count(call, 1));
    let faults: Vec<Fault> =
        chosen.into_iter().map(|call| Fault { kill: Some(call), error: error.error.clone() }).collect();
    let tally = Mutex::new(tally);
    every(&faults, |fault| {
        let call = fault.kill.as_ref().context("each has one")?;
        for left in (0..TRIES).rev() {
            let dir = scratch(before)?;
            let (status, said) = run(phase, fault, dir.path())?;
            let reached = status.signal() == Some(9);
            ensure!(reached || status.success(), "it ends with {status}: {said:#?}");
            let made = strace::count(&strace::log(dir.path()), &call.name)?;
            let found = judge(dir.path(), Promises::of(&said)?)?;
            let mut tally = tally.lock().expect("no holder panics");
            tally.slowest = found.took.max(tally.slowest);
            if reached {
                tally.count(call, 2);
                return Ok(());
            }
            ensure!(made < call.nth, "it made {made} such calls, and was not killed");
            if left == 0 {
                let Call { name, nth, file } = call;
                tally.unreached.push(format!("{name} {nth} ({file}): each run ended before, the last with {made}"));
            }
        }
        Ok(())
    })?;
    let tally = tally.into_inner()?;
    let reached = tally.sum(2);
    let names: BTreeMap<_, _> = tally
        .names
        .iter()
        .map(|(name, [all, tried, reached])| (name, json!({ "boundaries": all, "tried": tried, "killed": reached })))
        .collect();
    let figures = json!({
        "boundaries": tally.sum(0), "of": format!("{phase:?}"), "after_a_crash": before.is_some(), "seed": extent.seed,
        "with": error.error.as_ref().map(|(call, _, error)| format!("{error} of {} {}", call.name, call.nth)),
        "tried": faults.len(), "faults": reached, "starts": 3 * reached, "crash_loops": 0,
        "slowest_start_ms": tally.slowest, "calls": names, "unreached": tally.unreached,
    });
    println!("\n{figures}");
    for kind in kinds {
        ensure!(tally.killed_at(kind) > 0, "it was killed at no call of {kind:?}");
    }
    // The last of a name may not come; many that do not are another workload than the one that was looked at.
    let unreached = faults.len() - reached;
    ensure!(unreached == tally.unreached.len() && unreached * 50 <= faults.len().max(50), "{:#?}", tally.unreached);
    Ok(())
}

#[test]
fn the_first_start_may_be_cut_anywhere() -> anyhow::Result<()> {
    Extent::each(|extent| {
        let all = calls(Phase::Start, &Fault::default(), None)?;
        killed(extent, Phase::Start, &Fault::default(), None, all, 3, &[WRITE, SYNC, UNLINK])
    })
}

#[test]
fn a_start_after_a_crash_may_be_cut_anywhere() -> anyhow::Result<()> {
    Extent::each(|extent| {
        let dir = scratch(None)?;
        let writes: Vec<Call> = calls(Phase::Spool, &Fault::default(), None)?;
        let writes: Vec<&Call> = writes.iter().filter(|call| call.name.starts_with("pwrite")).collect();
        let cut = writes[extent.rng().usize(writes.len() / 2..writes.len() - 2)].clone();
        let (status, said) = run(Phase::Spool, &Fault::kill(cut), dir.path())?;
        ensure!(status.signal() == Some(9), "it was not killed: {status}: {said:#?}");
        let all = calls(Phase::Start, &Fault::default(), Some(dir.path()))?;
        killed(extent, Phase::Start, &Fault::default(), Some(dir.path()), all, 3, &[WRITE, SYNC])
    })
}

#[test]
fn the_spool_may_be_cut_anywhere() -> anyhow::Result<()> {
    Extent::each(|extent| {
        for phase in [Phase::Spool, Phase::Refusing] {
            let all = calls(phase, &Fault::default(), None)?;
            killed(extent, phase, &Fault::default(), None, all, 5, &[WRITE, SYNC, UNLINK])?;
        }
        Ok(())
    })
}

#[test]
fn the_journal_may_be_cut_anywhere() -> anyhow::Result<()> {
    Extent::each(|extent| {
        let phase = Phase::Journal;
        let all = calls(phase, &Fault::default(), None)?;
        let moved = all.iter().filter(|call| call.file == DATABASE && WRITE.contains(&&*call.name)).count();
        ensure!(moved > 0, "SQLite's log was not moved into the database while it worked");
        killed(extent, phase, &Fault::default(), None, all, 6, &[WRITE, SYNC, RENAME, UNLINK])
    })
}

const DATABASE: &str = "state/journal.sqlite";
const RESERVE: &str = "state/journal.reserve";

/// Room that the journal keeps is given up when the disk is full, and taken again.
#[test]
fn the_journals_reserve_may_be_cut_anywhere() -> anyhow::Result<()> {
    Extent::each(|extent| {
        let phase = Phase::Journal;
        let writes = calls(phase, &Fault::default(), None)?;
        // Not those to the database itself: SQLite tries them again some other time.
        let to_log = |call: &&Call| call.name == "pwrite64" && call.file.ends_with("-wal");
        let writes: Vec<&Call> = writes.iter().filter(to_log).collect();
        let full = writes[extent.rng().usize(writes.len() / 4..writes.len() / 2)].clone();
        let error = Fault::error(full, 1, "ENOSPC");
        let all: Vec<Call> = calls(phase, &error, None)?.into_iter().filter(|call| call.file == RESERVE).collect();
        let names: Vec<&str> = all.iter().map(|call| call.name.as_str()).collect();
        ensure!(names == ["unlink", "openat", "fallocate"], "with the disk full once the reserve has seen {names:?}");
        killed(extent, phase, &error, None, all, 3, &[UNLINK, &["openat"], &["fallocate"]])
    })
}

/// The disk refuses a call of a thread, once or for a while, and whatever was said before and after holds. Returns the
/// figures; `ended` says how the program may end, `look` judges what strace saw.
fn refused(
    extent: &Extent,
    phase: Phase,
    names: &[&str],
    (error, count, most): (&'static str, u64, usize),
    ended: impl Fn(ExitStatus) -> bool + Sync,
    look: impl Fn(&Path) -> anyhow::Result<usize> + Sync,
) -> anyhow::Result<()> {
    let all = calls(phase, &Fault::default(), None)?;
    let all = all.into_iter().filter(|call| names.contains(&call.name.as_str())).collect();
    let faults: Vec<_> = some(all, extent, most).into_iter().map(|call| Fault::error(call, count, error)).collect();
    ensure!(!faults.is_empty(), "it makes none of these calls: {names:?}");
    let [promised, injected, failed, looked] = [const { AtomicUsize::new(0) }; 4];
    every(&faults, |fault| {
        let dir = scratch(None)?;
        let (status, said) = run(phase, fault, dir.path())?;
        ensure!(ended(status), "it ends with {status}: {said:#?}");
        failed.fetch_add(usize::from(!status.success()), Relaxed);
        let log = strace::log(dir.path());
        injected.fetch_add(strace::injected(&log)?, Relaxed);
        looked.fetch_add(look(&log)?, Relaxed);
        let promises = Promises::of(&said)?;
        promised.fetch_add(promises.durable(), Relaxed);
        judge(dir.path(), promises).map(drop)
    })?;
    let injected = injected.into_inner();
    let figures = json!({
        "refused": names, "of": format!("{phase:?}"), "error": error, "at_a_time": count, "seed": extent.seed,
        "runs": faults.len(), "faults": injected, "ended_with_an_error": failed.into_inner(),
        "durable": promised.into_inner(), "missing": 0, "failed_syncs_followed": looked.into_inner(),
    });
    println!("\n{figures}");
    ensure!(injected > 0 && injected >= faults.len() / 2, "{injected} faults in {} runs", faults.len());
    Ok(())
}

/// Nothing that the spool's disk refuses may end the program.
fn goes_on(status: ExitStatus) -> bool {
    status.success()
}

#[test]
fn a_sync_that_fails_loses_nothing() -> anyhow::Result<()> {
    let followed = AtomicUsize::new(0);
    Extent::each(|extent| {
        refused(extent, Phase::Spool, SYNC, ("EIO", 1, 8), goes_on, |log| {
            let found = order::after_failed_syncs(&std::fs::read_to_string(log)?)?;
            followed.fetch_add(found, Relaxed);
            Ok(found)
        })
    })?;
    ensure!(followed.into_inner() > 0, "no sync of a segment failed");
    Ok(())
}

#[test]
fn a_write_that_fails_loses_nothing() -> anyhow::Result<()> {
    let names = ["pwrite64", "pwritev", "pwritev2", "ftruncate", "unlink", "unlinkat"];
    Extent::each(|extent| refused(extent, Phase::Spool, &names, ("EIO", 1, 4), goes_on, |_| Ok(0)))
}

#[test]
fn a_disk_that_is_full_for_a_while_loses_nothing_without_a_word() -> anyhow::Result<()> {
    Extent::each(|extent| {
        for phase in [Phase::Spool, Phase::Refusing] {
            refused(extent, phase, &["fallocate", "openat"], ("ENOSPC", 2, 3), goes_on, |_| Ok(0))?;
            refused(extent, phase, &["pwrite64", "pwritev", "pwritev2"], ("ENOSPC", 3, 3), goes_on, |_| Ok(0))?;
        }
        Ok(())
    })
}

/// Without its journal the daemon can promise nothing: it ends, or it goes on, and what it has said holds.
#[test]
fn a_journal_that_cannot_be_written_takes_nothing_back() -> anyhow::Result<()> {
    let ends = |status: ExitStatus| status.success() || status.code() == Some(74);
    Extent::each(|extent| {
        let names = ["fdatasync", "fsync", "pwrite64"];
        refused(extent, Phase::Journal, &names, ("EIO", 1, 6), ends, |_| Ok(0))?;
        refused(extent, Phase::Journal, &["pwrite64"], ("ENOSPC", 1, 6), goes_on, |_| Ok(0))
    })
}

/// What a kill cannot show, because the system keeps what was written: that it was on disk before it was relied on.
#[test]
fn nothing_is_said_or_removed_before_it_is_on_disk() -> anyhow::Result<()> {
    let dir = scratch(None)?;
    let log = strace::log(dir.path());
    let (status, said) = Player::start(strace::watched(&command(Role::Plain, dir.path()), &log))?.end()?;
    ensure!(status.success() && said.iter().any(|line| line == "done"), "it ends with {status}: {said:#?}");
    let seen = order::of_durability(&std::fs::read_to_string(&log)?)?;
    println!(
        "\n{}",
        json!({ "durable_said": seen.durable, "settled_said": seen.settled, "segments_removed": seen.removed })
    );
    if seen.durable < 20 || seen.settled < 20 || seen.removed < 3 {
        bail!("too little was seen: {seen:?}");
    }
    Ok(())
}
