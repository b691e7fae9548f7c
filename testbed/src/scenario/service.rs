//! The daemon under a service manager: what it says, and that it falls silent when a part of it hangs.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hyper::{Method, StatusCode};
use rustix::process::Signal;
use serde_json::{Map, Value, json};

use super::stage::{add, cameras, until_streaming};
use super::{Outcome, Problems, Stage};
use crate::daemon::{Daemon, Storage, wait};
use crate::service_manager::ServiceManager;
use crate::signals;

/// The unit that is shipped.
const UNIT: &str = include_str!("../../../deploy/framehaul.service");
/// The most that `systemd-analyze security` may say of it, in tenths.
const MOST_EXPOSURE: &str = "20";
/// Parts that can be made to hang, and the name under which the log must complain of each.
const PARTS: [(&str, &str); 5] = [
    ("supervisor", "the supervisor"),
    ("journal", "the journal"),
    ("spool", "the spool"),
    ("http", "HTTP worker"),
    ("upload", "the upload runtime"),
];
/// How long the daemon asks before it calls a part dead at `/livez`.
const LIVEZ_PATIENCE: Duration = Duration::from_secs(5);
/// For how long what it found is told to others, and a little more.
const LIVEZ_STANDS: Duration = Duration::from_millis(1_200);

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Service {
    /// The watchdog's period: `WatchdogSec=`.
    pub period: Duration,
    /// For how long each part hangs; longer than 5 s and than two periods.
    pub hang: Duration,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn service(stage: &Stage, program: &Path, plan: &Service) -> anyhow::Result<Outcome> {
    ensure!(plan.hang > LIVEZ_PATIENCE + LIVEZ_STANDS && plan.hang >= plan.period * 2, "too short a hang");
    let mut problems = Problems::default();
    let exposure = unit(stage, program, &mut problems)?;

    // A killed daemon leaves something to recover.
    let server = cameras("cam", 1, 10)?;
    let settings = "[debug]\nfault_injection = true\n[spool]\ndurability = \"memory\"";
    let mut daemon = stage.prepare(&Storage::Directory, settings)?;
    daemon.run()?;
    let ids = add(&daemon, &server)?;
    until_streaming(&daemon, &ids, Duration::from_secs(30))?;
    daemon.kill()?;
    let earlier = daemon.log_text().len();

    // Looked at the moment the word arrives, not when we come to it.
    let at_ready = Arc::new(Mutex::new(None));
    let (seen, log, address) = (at_ready.clone(), daemon.log(), stage.dir().join("state/http.addr"));
    let manager = ServiceManager::start(stage.dir(), move |line| {
        if line == "READY=1" {
            let recovered = fs::read(&log).is_ok_and(|log| has(&log[earlier..], "settled as lost(crash)"));
            let listens = fs::read_to_string(&address).is_ok_and(|address| TcpStream::connect(address.trim()).is_ok());
            // The first word counts.
            seen.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert((recovered, listens));
        }
    })?;
    daemon.env("NOTIFY_SOCKET", manager.socket());
    daemon.env("WATCHDOG_USEC", plan.period.as_micros().to_string());
    let started = Instant::now();
    daemon.run()?;
    let ready = manager.wait_for("READY=1", started, Duration::from_secs(10))?;
    let (recovered, listens) = at_ready.lock().unwrap_or_else(PoisonError::into_inner).context("READY was not seen")?;
    problems.check(recovered, || "READY came before the recovery was over".to_owned());
    problems.check(listens, || "READY came before it could be reached".to_owned());
    until_streaming(&daemon, &ids, Duration::from_secs(30))?;
    environment(&daemon, &ids[0], &mut problems)?;

    let longest = undisturbed(&manager, plan);
    problems.check(longest <= plan.period / 2, || format!("{longest:?} between two pings"));
    let mut hangs = Map::new();
    for (what, name) in PARTS {
        hangs.insert(what.to_owned(), hang(&daemon, &manager, plan, what, name, &mut problems)?);
    }
    until_streaming(&daemon, &ids, Duration::from_secs(30))?;
    let reloaded = reload(&daemon, &manager)?;
    stop(&mut daemon, &manager, &mut problems)?;

    let bound = format!(
        "READY after recovery, a ping at least every {:?}, none from a period after a hang until its end, RELOADING, \
         STOPPING; the unit is valid and its exposure at most 2.0",
        plan.period / 2
    );
    let figure = json!({
        "ready_after_ms": ready.at.duration_since(started).as_millis(),
        "longest_between_pings_ms": longest.as_millis(),
        "reloaded_after_ms": reloaded.as_millis(),
        "hangs": hangs,
        "exposure": exposure,
    });
    Ok(problems.outcome(bound, figure, PARTS.len() as u64))
}

fn has(text: &[u8], part: &str) -> bool {
    text.windows(part.len()).any(|window| window == part.as_bytes())
}

/// The longest time between two pings of a daemon that nothing hinders.
fn undisturbed(manager: &ServiceManager, plan: &Service) -> Duration {
    let since = Instant::now();
    std::thread::sleep(plan.period * 3);
    let mut times = vec![since];
    times.extend(manager.pings(since));
    times.push(Instant::now());
    times.windows(2).map(|pair| pair[1].duration_since(pair[0])).max().unwrap_or_default()
}

/// Makes a part hang and looks when the pings stop and when they come back.
fn hang(
    daemon: &Daemon,
    manager: &ServiceManager,
    plan: &Service,
    what: &str,
    name: &str,
    problems: &mut Problems,
) -> anyhow::Result<Value> {
    let earlier = daemon.log_text().len();
    let path = format!("/api/v1/debug/hang?what={what}&seconds={}", plan.hang.as_secs());
    let begun = Instant::now();
    let (status, answer) = daemon.call(Method::POST, &path, None)?;
    ensure!(status == StatusCode::ACCEPTED, "POST {path}: {status}: {answer}");
    // The worker that hangs may be the one that would answer.
    if what != "http" {
        // What was found for another request stands for a second.
        let asked = Instant::now();
        let (status, answer) = wait(plan.hang, || {
            let told = daemon.call(Method::GET, "/livez", None)?;
            Ok((told.0 != StatusCode::OK || asked.elapsed() > LIVEZ_STANDS).then_some(told))
        })?;
        let told = status == StatusCode::SERVICE_UNAVAILABLE && answer.contains(name);
        problems.check(told, || format!("/livez while {what} hung: {status}: {answer}"));
    }
    std::thread::sleep(plan.hang.saturating_sub(begun.elapsed()));
    let over = begun + plan.hang;
    let back = manager.wait_for("WATCHDOG=1", over, plan.period * 3);
    let back = back.with_context(|| format!("after {what} hung"))?.at;
    let silent: Vec<Instant> = manager.pings(begun + plan.period).into_iter().filter(|at| *at < over).collect();
    problems.check(silent.is_empty(), || format!("{} pings while {what} hung", silent.len()));
    // From the last ping before it: this is what the service manager judges by.
    let last = manager.pings(begun).into_iter().filter(|at| *at < over).max().unwrap_or(begun);
    let without = back.duration_since(last);
    problems.check(without > plan.period, || format!("{what} hung and only {without:?} passed without a ping"));
    let log = daemon.log_text();
    let named = log[earlier..].lines().any(|line| line.contains("no progress") && line.contains(name));
    problems.check(named, || format!("the log does not name {name} after {what} hung"));
    Ok(json!({
        "pings_in_the_hang": silent.len(),
        "without_a_ping_ms": without.as_millis(),
        "back_after_ms": back.saturating_duration_since(over).as_millis(),
    }))
}

/// A capture process must not be able to speak for the daemon.
fn environment(daemon: &Daemon, camera: &str, problems: &mut Problems) -> anyhow::Result<()> {
    let pid = daemon.status(camera)?.pid.context("no capture process")?;
    let environment = fs::read(format!("/proc/{pid}/environ")).context("cannot read its environment")?;
    for name in ["NOTIFY_SOCKET", "WATCHDOG_"] {
        problems.check(!has(&environment, name), || format!("{name} is in the environment of a capture process"));
    }
    Ok(())
}

/// SIGHUP: it says when the reload begins, by the clock that systemd asks for, and when it is over.
fn reload(daemon: &Daemon, manager: &ServiceManager) -> anyhow::Result<Duration> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let told = Instant::now();
    signals::send(daemon.pid(), Signal::HUP)?;
    let begun = manager.wait_for("RELOADING=1", told, PATIENCE)?;
    manager.wait_for("MONOTONIC_USEC=", told, PATIENCE)?;
    let over = manager.wait_for("READY=1", begun.at, PATIENCE).context("after RELOADING=1")?;
    Ok(over.at.duration_since(told))
}

/// SIGTERM: it says that it stops before it does anything, and asks for the time that this takes.
fn stop(daemon: &mut Daemon, manager: &ServiceManager, problems: &mut Problems) -> anyhow::Result<()> {
    let told = Instant::now();
    signals::send(daemon.pid(), Signal::TERM)?;
    let stopping = manager.wait_for("STOPPING=1", told, Duration::from_secs(10))?;
    let status = daemon.wait_for_end()?;
    problems.check(status.success(), || format!("it ended with {status}"));
    let after: Vec<String> =
        manager.said().into_iter().filter(|said| said.at >= stopping.at).map(|said| said.line).collect();
    let extends = after.iter().any(|line| line.starts_with("EXTEND_TIMEOUT_USEC="));
    problems.check(extends, || "it did not ask for the time that the end takes".to_owned());
    problems.check(!after.contains(&"READY=1".to_owned()), || "it was ready again after STOPPING".to_owned());
    Ok(())
}

/// What systemd thinks of the unit: it is valid for this program, and how exposed it leaves it.
fn unit(stage: &Stage, program: &Path, problems: &mut Problems) -> anyhow::Result<Value> {
    let line = |text: &str| text.lines().find(|line| line.starts_with("ExecStart=")).map(str::to_owned);
    let shipped = line(UNIT).context("the unit has no ExecStart")?;
    // Where it will be installed there is nothing yet.
    let here = shipped.replace("/usr/bin/framehaul ", &format!("{} ", program.display()));
    ensure!(here != shipped, "the unit starts something else: {shipped}");
    let path = stage.dir().join("framehaul.service");
    fs::write(&path, UNIT.replace(&shipped, &here)).context("cannot write the unit")?;

    let analyze = |arguments: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        command.args(arguments).arg(&path).output().context("cannot run systemd-analyze: is systemd installed?")
    };
    let verify = analyze(&["verify", "--man=no"])?;
    let complaints = String::from_utf8_lossy(&verify.stderr).into_owned();
    let sound = verify.status.success() && !complaints.contains("framehaul.service");
    problems.check(sound, || format!("systemd-analyze verify: {}: {complaints}", verify.status));
    let security = analyze(&["security", "--offline=true", "--threshold", MOST_EXPOSURE, "--no-pager"])?;
    let text = String::from_utf8_lossy(&security.stdout).into_owned();
    let verdict = text.lines().find_map(|line| line.split_once("exposure level for framehaul.service: "));
    let exposure = verdict.and_then(|(_, rest)| rest.split(' ').next()?.parse::<f64>().ok());
    problems.check(security.status.success() && exposure.is_some(), || {
        format!("systemd-analyze security: {}: {}", security.status, text.lines().last().unwrap_or_default())
    });
    Ok(json!(exposure))
}
