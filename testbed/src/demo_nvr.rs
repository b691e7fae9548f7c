//! The demo of recordings: two recorders with different clocks, a sheet of 20 tasks, three workers, and a judgement of what
//! lies in the bucket at the end.
//!
//! Everything for people goes to standard error; standard output gets one line, the report.

mod board;
mod crew;
mod recorders;
mod sheet;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use hyper::Method;
use serde::Serialize;
use serde_json::Value;
use url::Url;

use self::board::Board;
use self::crew::Crew;
use self::recorders::Recorders;
use self::verdict::Verdict;
use crate::daemon::{Daemon, Process, Storage, TOKEN_FILE};
use crate::demo::interrupt::Interrupt;
use crate::demo::screen::Screen;
use crate::demo::{fresh, program, seconds_from_environment};
use crate::private::write_private;

/// Tasks in the sheet.
const TASKS: usize = 20;
/// What workers are called.
const WORKERS: [&str; 3] = ["north", "south", "west"];
/// How long it takes if nobody says, in seconds.
const SECONDS: u64 = 60;
/// Where recordings go, in the data directory.
const OUT: &str = "recordings";
/// What an Excel workbook is sent as.
const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
/// A lease is over sooner than it is by default, for nobody here is far away.
const LEASES: &str = "[tasks]\nlease = \"10s\"\n";

/// `testbed demo-nvr`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Take about half so long, and give up after three times as long [default: the environment's DEMO_SECONDS, or else 60]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(5..=3_600))]
    seconds: Option<u64>,
    /// Where the sheet, configuration, state, logs and recordings go; removed and made anew by each demo
    #[arg(long, value_name = "DIR", default_value = "./demo-nvr-data")]
    data_dir: PathBuf,
    /// The daemon's program, which is the workers' too [default: framehaul beside this one]
    #[arg(long, value_name = "PATH")]
    framehaul: Option<PathBuf>,
}

/// What came out.
#[derive(Debug, Serialize)]
struct Report {
    tasks: u64,
    done: u64,
    failed: u64,
    files: u64,
    bytes: u64,
    /// Recordings that are there more than once.
    duplicates: u64,
    /// Recordings that are missing or differ from the recorder's, and files that are none of them.
    mismatched: u64,
}

/// Runs the demo; success only if every task is done and every recording there once, byte for byte.
///
/// # Errors
///
/// When something cannot be started, or the daemon ends.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let seconds = args.seconds.or(seconds_from_environment()?).unwrap_or(SECONDS).max(5);
    let program = program(args.framehaul)?;
    let dir = fresh(&args.data_dir)?;
    let mut daemon = Daemon::prepare(&program, &dir, &Storage::Directory, LEASES)?.in_own_group();
    let workers: Vec<Process> = WORKERS.iter().map(|_| Process::default()).collect();
    let interrupt = Interrupt::listen(daemon.process(), workers.clone())?;
    let mut screen = Screen::new();

    let recorders = Recorders::start(seconds, &mut screen)?;
    daemon.run()?;
    let token = dir.join("worker.token");
    write_private(&token, &daemon.new_token("demo", "worker")?).context("cannot write the workers' token")?;
    let job = ask(&daemon, &recorders, &dir)?;
    let address = daemon.address();
    screen.say(&format!(
        "{TASKS} tasks of {} are the export {job} on {address}",
        args.data_dir.join("tasks.xlsx").display()
    ));
    let crew = Crew::start(&program, &daemon, &token, &dir.join(OUT), &dir, workers)?;
    screen.say(&hints(&daemon, &args.data_dir, &job));
    interrupt.hauling();
    let watched = watch(&daemon, &recorders, &job, seconds, &mut screen, &interrupt);
    // Also when something failed: nothing is left behind.
    let ended = crew.end();
    let result = watched.and_then(|is_over| judged(&daemon, &recorders, &job, &dir, is_over));
    let result = result.map_err(|error| daemon.explain(error));
    let stopped = daemon.stop();
    drop(recorders);
    let (report, mut faults) = result?;
    faults.extend(ended);
    let status = stopped?;
    ensure!(status.success(), "framehaul ended with {status}; its log is {}", daemon.log().display());

    for fault in &faults {
        screen.say(&format!("FAULT: {fault}"));
    }
    if faults.is_empty() {
        screen.say(
            "every recording is there once and byte for byte; sheet, logs and recordings stay in the data directory",
        );
    }
    println!("{}", serde_json::to_string(&report).context("cannot print the report")?);
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks for what stands in a sheet, and returns the job's id.
fn ask(daemon: &Daemon, recorders: &Recorders, dir: &Path) -> anyhow::Result<String> {
    let sheet = sheet::workbook(recorders)?;
    fs::write(dir.join("tasks.xlsx"), &sheet).context("cannot write the sheet")?;
    let url = format!("{}/api/v1/exports", daemon.address());
    let body = Some((XLSX, Bytes::from(sheet)));
    let (status, _, answer) = daemon.http().send_body(Method::POST, &url, Some(daemon.token()), body, &[])?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    ensure!(status.is_success(), "the sheet is refused: {status}: {text}");
    let answer: Value = serde_json::from_str(&text).context("the answer to the sheet is no JSON")?;
    ensure!(answer["tasks"] == TASKS, "the sheet has {TASKS} tasks, and not {}", answer["tasks"]);
    answer["id"].as_str().map(str::to_owned).context("the export has no id")
}

/// Commands to try, with paths as the caller would write them.
fn hints(daemon: &Daemon, shown_dir: &Path, job: &str) -> String {
    let address = daemon.address();
    let curl = format!("curl -s -H \"Authorization: Bearer $(cat '{}')\"", shown_dir.join(TOKEN_FILE).display());
    format!(
        "try:\n  {curl} {address}/api/v1/exports/{job}\n  {curl} '{address}/api/v1/exports/{job}/tasks?format=csv'\n\
         recordings are in {}, what each worker says in its .log beside it\n",
        shown_dir.join(OUT).display()
    )
}

/// Shows how far it is until all tasks are over, or the time is, or a signal comes; says whether they are.
fn watch(
    daemon: &Daemon,
    recorders: &Recorders,
    job: &str,
    seconds: u64,
    screen: &mut Screen,
    interrupt: &Interrupt,
) -> anyhow::Result<bool> {
    let begin = Instant::now();
    loop {
        let elapsed = begin.elapsed().as_secs();
        let board = Board::read(daemon, job)?;
        screen.show(elapsed, || board.table(recorders), || board.line());
        if board.is_over() || elapsed >= 3 * seconds {
            screen.keep();
            return Ok(board.is_over());
        }
        let next = Duration::from_secs(begin.elapsed().as_secs() + 1);
        if interrupt.came_within(next.saturating_sub(begin.elapsed()))? {
            screen.keep();
            return Ok(false);
        }
    }
}

/// Compares the bucket with the recorders; the second part of the answer is what is wrong.
fn judged(
    daemon: &Daemon,
    recorders: &Recorders,
    job: &str,
    dir: &Path,
    is_over: bool,
) -> anyhow::Result<(Report, Vec<String>)> {
    let board = Board::read(daemon, job)?;
    let Verdict { files, bytes, duplicates, mismatched, mut faults } = verdict::of(&dir.join(OUT), recorders)?;
    let report =
        Report { tasks: board.tasks, done: board.done, failed: board.failed, files, bytes, duplicates, mismatched };
    if !is_over {
        faults.insert(0, "it was ended before all tasks were over".to_owned());
    }
    if report.done != TASKS as u64 {
        faults.push(format!("{} of {TASKS} tasks are done, {} failed", report.done, report.failed));
    }
    faults.extend(board.faults());
    let told = board.downloaded + board.there;
    if is_over && files != told {
        faults.push(format!("{files} recordings are there, and {told} were told"));
    }
    Ok((report, faults))
}

/// A directory as a URL.
fn url_of(dir: &Path) -> anyhow::Result<String> {
    match Url::from_directory_path(dir) {
        Ok(url) => Ok(url.as_str().trim_end_matches('/').to_owned()),
        Err(()) => bail!("no file:// URL for {}: it must be an absolute path", dir.display()),
    }
}
