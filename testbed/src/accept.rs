//! `testbed accept`: runs every "Done when" line of a piece of work and writes what it saw into `docs/acceptance`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, ensure};
use clap::builder::PossibleValuesParser;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::scenario::Outcome;

mod commands;
mod plans;

/// Runs the acceptance of a piece of work and writes docs/acceptance/NAME.json.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The piece of work
    #[arg(long, value_parser = PossibleValuesParser::new(plans::ALL.map(|(name, _)| name)))]
    name: String,
    /// Only these lines, by number; the others stay in the file as they are. From a tree with changes that are not
    /// committed (those of docs/acceptance are none) the report is printed and not written
    #[arg(long, value_delimiter = ',')]
    only: Vec<u32>,
    /// The framehaul binary; by default the one beside this program
    #[arg(long, value_name = "FILE")]
    framehaul: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Report {
    name: String,
    /// At which a line was run last.
    commit: String,
    /// Whether there are lines that were run at another.
    #[serde(default)]
    commits_differ: bool,
    machine: Value,
    /// Whether all lines of the plan are there, and pass.
    pass: bool,
    lines: Vec<Line>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
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
    let plans = plans::ALL.iter().find(|(name, _)| *name == args.name).context("no such piece of work")?.1();
    let known: Vec<u32> = plans.iter().map(|plan| plan.line).collect();
    let unknown: Vec<&u32> = args.only.iter().filter(|line| !known.contains(line)).collect();
    ensure!(unknown.is_empty(), "`{}` has no lines {unknown:?}: it has {known:?}", args.name);
    let commit = text(Command::new("git").args(["rev-parse", "HEAD"]))?;
    let changes = ["status", "--porcelain", "--", ":/", ":(top,exclude)docs/acceptance/*.json*"];
    let changed = !text(Command::new("git").args(changes))?.is_empty();
    ensure!(!changed || !args.only.is_empty(), "the tree has changes that are not committed: commit them first");

    let empty = Report {
        name: args.name.clone(),
        commit: commit.clone(),
        commits_differ: false,
        machine: machine()?,
        pass: false,
        lines: Vec::new(),
    };
    let path = Path::new("docs/acceptance").join(format!("{}.json", args.name));
    let mut seen = Vec::new();
    for plan in plans.iter().filter(|plan| args.only.is_empty() || args.only.contains(&plan.line)) {
        eprintln!("line {} ...", plan.line);
        // What a build or an earlier line has left to be written back would hold up this one's syncs, for seconds.
        rustix::fs::sync();
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
        let line = Line { line: plan.line, commit: commit.clone(), command, seed: plan.seed, seconds, outcome };
        seen.push(line.clone());
        if !changed {
            // At once: what follows may take hours, and may be cut short.
            write(&path, &empty, line, &known)?;
        }
    }
    let all_pass = seen.iter().all(|line| line.outcome.pass);
    if changed {
        let report = seen.into_iter().fold(empty, |report, line| report.with(line, &known));
        println!("{}", json(&report)?);
    } else {
        println!("{}", path.display());
    }
    Ok(if all_pass { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Report {
    /// With a line in the place of that of its number. Lines that the plan has no more go.
    fn with(mut self, line: Line, plan: &[u32]) -> Self {
        self.commit.clone_from(&line.commit);
        self.lines.retain(|other| other.line != line.line && plan.contains(&other.line));
        self.lines.push(line);
        self.lines.sort_by_key(|line| line.line);
        self.commits_differ = self.lines.iter().any(|line| line.commit != self.commit);
        let passes = |number: &u32| self.lines.iter().any(|line| line.line == *number && line.outcome.pass);
        self.pass = plan.iter().all(passes);
        self
    }
}

/// Puts a line into the report on disk as it is now: another run may have written others meanwhile.
fn write(path: &Path, empty: &Report, line: Line, plan: &[u32]) -> anyhow::Result<()> {
    for dir in ["docs/acceptance", "target"] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {dir}"))?;
    }
    // Held until it is dropped. Not beside the report, where it would be a file to commit.
    let lock = File::create("target/acceptance.lock").context("cannot make target/acceptance.lock")?;
    lock.lock().context("cannot lock target/acceptance.lock")?;
    let lines = earlier(path)?;
    let earlier =
        Report { name: empty.name.clone(), commit: String::new(), machine: empty.machine.clone(), lines, ..*empty };
    let written = path.with_extension("json.new");
    fs::write(&written, json(&earlier.with(line, plan))? + "\n")
        .and_then(|()| fs::rename(&written, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn json(report: &Report) -> anyhow::Result<String> {
    serde_json::to_string_pretty(report).context("the report is plain data")
}

/// The lines of an earlier report, which keep the commit at which they were run.
fn earlier(path: &Path) -> anyhow::Result<Vec<Line>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
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
    Ok(serde_json::json!({
        "cores": cores.get(),
        "processor": field(&read("/proc/cpuinfo")?, "model name"),
        "memory": field(&read("/proc/meminfo")?, "MemTotal"),
        "system": field(&read("/etc/os-release")?, "PRETTY_NAME"),
        "rust": text(Command::new("rustc").arg("--version"))?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u32, commit: &str, pass: bool) -> Line {
        let outcome = Outcome { bound: String::new(), figure: Value::Null, faults: 0, pass, problems: Vec::new() };
        Line { line: number, commit: commit.to_owned(), command: String::new(), seed: None, seconds: 0.0, outcome }
    }

    fn empty() -> Report {
        Report {
            name: "spool".to_owned(),
            commit: String::new(),
            commits_differ: false,
            machine: Value::Null,
            pass: false,
            lines: Vec::new(),
        }
    }

    #[test]
    fn the_makefile_names_all_pieces_of_work() {
        let makefile = include_str!("../../Makefile");
        let lines: Vec<&str> = makefile.lines().filter(|line| line.contains("live-path-1")).collect();
        assert_eq!(lines.len(), 2, "its help, and its error");
        for (name, _) in plans::ALL {
            assert!(lines.iter().all(|line| line.contains(name)), "{name}: {lines:#?}");
        }
    }

    #[test]
    fn a_report_passes_when_all_lines_of_the_plan_do() {
        let half = empty().with(line(2, "a", true), &[1, 2]);
        assert!(!half.pass && !half.commits_differ);
        let red = half.with(line(1, "a", false), &[1, 2]);
        assert!(!red.pass);
        let whole = red.with(line(1, "b", true), &[1, 2]);
        assert!(whole.pass && whole.commits_differ);
        assert_eq!(whole.lines.iter().map(|line| line.line).collect::<Vec<_>>(), [1, 2]);
        let one = whole.with(line(1, "b", true), &[1]);
        assert!(one.pass && !one.commits_differ && one.lines.len() == 1);
    }
}
