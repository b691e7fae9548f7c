//! Wrong passwords, and a recorder that locks out.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::place::{DAY, Place, Ran, channels, expected};
use super::running::{PATIENCE, Running};
use super::tools::{self, Tools};
use crate::contest::round;
use crate::daemon::wait;
use crate::nvr::{Channel, Knobs, NvrServer, Options};
use crate::scenario::{Outcome, Problems, Stage};

/// Attempts after which recorders lock out.
const TRIES: u32 = 5;

/// Exports that are not let in.
#[derive(Debug, Clone)]
pub struct LockedOut {
    /// Channels of the recorder, which may all be asked for at a time.
    pub channels: u32,
    /// Recordings of each.
    pub recordings: u32,
    /// The most wrong passwords that may reach it.
    pub most: u64,
    /// How long it locks out.
    pub locked: Duration,
}

/// Exports with a wrong password from the begin, with one that is wrong from then on, and while somebody else is locked
/// out.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn locked_out(stage: &Stage, tools: &Tools, plan: &LockedOut) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    let (wrong, first) = never_let_in(stage, plan, &mut problems)?;
    let (changed, second) = not_any_more(stage, plan, &mut problems)?;
    let (locked, third) = left_alone(stage, tools, plan, &mut problems)?;
    let bound = format!(
        "{} channels with a wrong password, from the begin or from then on: at most {} reach the recorder; one that is \
         locked is sent nothing more until its time, and then the rest comes",
        plan.channels, plan.most
    );
    let figure = json!({ "wrong_from_the_begin": wrong, "changed_within": changed, "locked_within": locked });
    Ok(problems.outcome(bound, figure, first + second + third))
}

fn recorder(plan: &LockedOut, knobs: Knobs) -> anyhow::Result<NvrServer> {
    let channels = channels(&vec![plan.recordings; plan.channels as usize], &Channel::default());
    NvrServer::start(Options { channels, knobs, ..Options::default() })
}

fn never_let_in(stage: &Stage, plan: &LockedOut, problems: &mut Problems) -> anyhow::Result<(Value, u64)> {
    let server = recorder(plan, Knobs { lock_after: Some(TRIES), ..Knobs::default() })?;
    let place = Place::with_password(stage, "wrong", "wrong")?;
    let ran = Ran::export(place.export(&server, &["--sessions", &plan.channels.to_string()]).args(DAY))?;
    let logins = server.stats().logins;
    problems.check(ran.code == Some(77), || format!("wrong: it ended with {:?}: {}", ran.code, ran.said));
    problems.check((1..=plan.most).contains(&logins.wrong) && logins.locked == 0, || format!("wrong: {logins:?}"));
    let told =
        json!({ "exit": ran.code, "attempts": logins.wrong, "seconds": round(ran.seconds), "said": ran.last_words() });
    Ok((told, logins.wrong))
}

fn not_any_more(stage: &Stage, plan: &LockedOut, problems: &mut Problems) -> anyhow::Result<(Value, u64)> {
    let knobs = Knobs { lock_after: Some(TRIES), bytes_per_s: Some(100_000), ..Knobs::default() };
    let server = recorder(plan, knobs)?;
    let place = Place::new(stage, "changed")?;
    let mut child = Running::start(place.export(&server, &["--sessions", &plan.channels.to_string()]).args(DAY))?;
    let done = u64::from(plan.channels) * 2;
    wait(PATIENCE, || Ok((server.stats().downloads.complete >= done).then_some(()))).context("nothing came")?;
    server.change_password("another");
    let begun = Instant::now();
    let code = child.ended()?;
    let stats = server.stats();
    problems.check(code == Some(77), || format!("changed: it ended with {code:?}"));
    problems.check((1..=plan.most).contains(&stats.logins.wrong) && stats.logins.locked == 0, || {
        format!("changed: {:?}", stats.logins)
    });
    // What had begun may come to its end.
    let files = place.files()?.len() as u64;
    problems.check(files >= done, || format!("changed: {files} files of {} that had come", stats.downloads.complete));
    problems.check(place.is_tidy()?, || "changed: halves are left".to_owned());
    let seconds = round(begun.elapsed().as_secs_f64());
    let told = json!({ "exit": code, "attempts": stats.logins.wrong, "files": files, "ended_after_seconds": seconds });
    Ok((told, stats.logins.wrong))
}

fn left_alone(stage: &Stage, tools: &Tools, plan: &LockedOut, problems: &mut Problems) -> anyhow::Result<(Value, u64)> {
    let knobs = Knobs {
        lock_after: Some(1),
        lock_s: plan.locked.as_secs_f64(),
        bytes_per_s: Some(200_000),
        ..Knobs::default()
    };
    let server = recorder(plan, knobs)?;
    let place = Place::new(stage, "locked")?;
    let export = || {
        let mut command = place.export(&server, &[]);
        command.args(DAY);
        command
    };
    let mut child = Running::start(&mut export())?;
    wait(PATIENCE, || Ok((server.stats().downloads.complete >= 5).then_some(()))).context("nothing came")?;
    // Somebody else on this machine has it lock this address.
    let theirs = Ran::other(&mut tools.hikload(&server, "guessed", stage.dir(), &tools::DAY))?;
    let begun = Instant::now();
    let until = begun + plan.locked;
    let code = child.ended()?;
    let logins = server.stats().logins;
    problems.check(theirs.code == Some(1) && logins.wrong == 1, || format!("locked: nobody was: {logins:?}"));
    problems.check(code == Some(77), || format!("locked: it ended with {code:?}"));
    // That it is locked is found out by being told so.
    problems.check(logins.locked == 1, || format!("locked: {} requests reached it then", logins.locked));
    let (files, requests) = (place.files()?.len(), server.stats().requests);
    problems.check(Instant::now() < until, || "locked: the lock was over before the export was".to_owned());
    while Instant::now() < until {
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
    }
    let late = server.stats().requests - requests;
    problems.check(late == 0, || format!("locked: {late} more requests came until the end of the lock"));
    server.change_knobs(|knobs| knobs.bytes_per_s = None)?;
    let ran = Ran::export(&mut export())?;
    let (ours, stats) = (place.files()?, server.stats());
    problems
        .check(ran.code == Some(0) && ours == expected(&server)?, || format!("unlocked: {:?}: {}", ran.code, ran.said));
    problems.check(stats.downloads.again <= 1, || format!("unlocked: {:?}", stats.downloads));
    let told = json!({
        "exit": code,
        "requests_that_met_the_lock": logins.locked,
        "requests_until_its_end": late,
        "files_before": files,
        "files_after_it": ours.len(),
        "fetched_twice": stats.downloads.again,
    });
    Ok((told, logins.wrong))
}
