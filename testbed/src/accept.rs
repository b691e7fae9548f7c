//! `testbed accept`: runs every "Done when" line of a piece of work and writes what it saw into `docs/acceptance`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::scenario::Outcome;

mod commands;
mod plans;

/// Runs the acceptance of a piece of work and writes docs/acceptance/NAME.json.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The piece of work: live-path-1 or live-path-2
    #[arg(long)]
    name: String,
    /// Only these lines, by number; the others stay in the file as they are. From a tree with changes that are not committed
    /// the report is printed and not written
    #[arg(long, value_delimiter = ',')]
    only: Vec<u32>,
    /// The framehaul binary; by default the one beside this program
    #[arg(long, value_name = "FILE")]
    framehaul: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Report {
    name: String,
    commit: String,
    machine: Value,
    pass: bool,
    lines: Vec<Line>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    line: u32,
    /// At which it was run.
    commit: String,
    /// What to run to see it again.
    command: String,
    seed: Option<u64>,
    seconds: f64,
    #[serde(flatten)]
    outcome: Outcome,
}

/// A "Done when" line: its number, its seed, and how it is run.
struct Plan {
    line: u32,
    seed: Option<u64>,
    run: Run,
}

/// Runs a line against the `framehaul` binary it is given.
type Run = Box<dyn Fn(&Path) -> anyhow::Result<Outcome>>;

impl Plan {
    fn new(line: u32, seed: Option<u64>, run: impl Fn(&Path) -> anyhow::Result<Outcome> + 'static) -> Self {
        Self { line, seed, run: Box::new(run) }
    }
}

/// Runs the command.
///
/// # Errors
///
/// When the name is not known, or a line cannot be run at all.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let own = std::env::current_exe().context("cannot find our own binary: give --framehaul")?;
    let program = args.framehaul.clone().unwrap_or_else(|| own.with_file_name("framehaul"));
    ensure!(program.is_file(), "there is no {}: run `make build`, or give --framehaul", program.display());
    let plans = match args.name.as_str() {
        "live-path-1" => plans::live_path_1(),
        "live-path-2" => plans::live_path_2(),
        "spool" => plans::spool(),
        other => bail!("`{other}` is not known: known are live-path-1, live-path-2 and spool"),
    };
    let commit = text(Command::new("git").args(["rev-parse", "HEAD"]))?;
    let changed = !text(Command::new("git").args(["status", "--porcelain"]))?.is_empty();
    ensure!(!changed || !args.only.is_empty(), "the tree has changes that are not committed: commit them first");

    let mut lines = Vec::new();
    for plan in plans.iter().filter(|plan| args.only.is_empty() || args.only.contains(&plan.line)) {
        eprintln!("line {} ...", plan.line);
        let begun = Instant::now();
        let outcome = (plan.run)(&program).unwrap_or_else(|error| Outcome {
            bound: "the line can be run".to_owned(),
            figure: Value::Null,
            faults: 0,
            pass: false,
            problems: vec![format!("{error:#}")],
        });
        let verdict = if outcome.pass { "pass" } else { "FAIL" };
        eprintln!(
            "line {}: {verdict}: {} (faults {}) {}",
            plan.line,
            outcome.figure,
            outcome.faults,
            outcome.problems.join("; ")
        );
        let command = format!("make accept NAME={} LINES={}", args.name, plan.line);
        let seconds = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        lines.push(Line { line: plan.line, commit: commit.clone(), command, seed: plan.seed, seconds, outcome });
    }
    let path = Path::new("docs/acceptance").join(format!("{}.json", args.name));
    if !args.only.is_empty() {
        lines.extend(earlier(&path)?.into_iter().filter(|line| !args.only.contains(&line.line)));
    }
    lines.sort_by_key(|line| line.line);
    let report = Report {
        pass: lines.len() == plans.len() && lines.iter().all(|line| line.outcome.pass),
        name: args.name.clone(),
        commit,
        machine: machine()?,
        lines,
    };
    let json = serde_json::to_string_pretty(&report).context("the report is plain data")?;
    if changed {
        println!("{json}");
    } else {
        std::fs::create_dir_all("docs/acceptance").context("cannot make docs/acceptance")?;
        std::fs::write(&path, json + "\n").with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(if report.pass { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The lines of an earlier report, which keep the commit at which they were run.
fn earlier(path: &Path) -> anyhow::Result<Vec<Line>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let report: Report = serde_json::from_str(&text).with_context(|| format!("{} is no report", path.display()))?;
    Ok(report.lines)
}

fn text(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What the figures were measured on.
fn machine() -> anyhow::Result<Value> {
    let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once([':', '=']).map_or("", |(_, value)| value).trim().trim_matches('"').to_owned()
    };
    let cores = std::thread::available_parallelism().context("cannot count processors")?;
    Ok(json!({
        "cores": cores.get(),
        "processor": field(&read("/proc/cpuinfo")?, "model name"),
        "memory": field(&read("/proc/meminfo")?, "MemTotal"),
        "system": field(&read("/etc/os-release")?, "PRETTY_NAME"),
        "rust": text(Command::new("rustc").arg("--version"))?,
    }))
}
