//! `testbed accept`: runs every "Done when" line of a piece of work and writes what it saw into `docs/acceptance`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::scenario::{self, Crash, Footprint, Latency, Order, Outcome, Recovery, Stage};

/// Runs the acceptance of a piece of work and writes docs/acceptance/NAME.json.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The piece of work: live-path-1
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
        "live-path-1" => live_path_1(),
        other => bail!("`{other}` is not known: known is live-path-1"),
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

fn live_path_1() -> Vec<Plan> {
    const SEED: u64 = 20_261_120;
    let order = Order {
        cameras: 8,
        fps: 10,
        frames: 2_000,
        latency_ms: 80.0,
        sigma: 1.0,
        rate_503: 0.05,
        rate_lost_answer: 0.02,
        seed: SEED,
    };
    let recovery = Recovery {
        bystanders: 3,
        fps: 10,
        dead: Duration::from_secs(20),
        frozen: Duration::from_secs(30),
        within: Duration::from_secs(5),
    };
    let crash = Crash { rounds: 20, cameras: 3, fps: 30, seed: SEED };
    let latency = Latency { frames: 50, fps: 25, latency_ms: 1_050, factor: 1.10 };
    let footprint = Footprint { idle_mb: 25.0, busy_mb: 60.0, cameras: 8, fps: 10, seconds: 20 };
    vec![
        Plan::new(7, None, |_| cold_ci()),
        Plan::new(1, None, |_| clean_clone()),
        Plan::new(2, Some(SEED), move |program| scenario::order(&Stage::new(program)?, &order)),
        Plan::new(3, None, move |program| scenario::recovery(&Stage::new(program)?, &recovery)),
        Plan::new(4, Some(SEED), move |program| scenario::crash(&Stage::new(program)?, &crash)),
        Plan::new(5, None, move |program| scenario::latency(&Stage::new(program)?, &latency)),
        Plan::new(6, None, move |program| scenario::footprint(&Stage::new(program)?, program, &footprint)),
    ]
}

/// The clean clone. Line 7 makes it anew and builds it cold; line 1 goes on with it, as its own build would be the same.
const CLONE: &str = "target/acceptance-clone";
/// What `.ci/run` may take from a cold target directory.
const CI_MINUTES: f64 = 40.0;

/// The README's two commands in a clean clone.
fn clean_clone() -> anyhow::Result<Outcome> {
    let head = |dir: &str| text(Command::new("git").args(["-C", dir, "rev-parse", "HEAD"]));
    if !Path::new(CLONE).exists() || head(CLONE)? != head(".")? {
        fresh_clone()?;
    }
    let test = quietly(Command::new("make").arg("test").current_dir(CLONE))?;
    let mut problems = Vec::new();
    if !test.success {
        problems.push(format!("`make test` failed; its output ends with: {}", test.tail(20)));
    }
    let demo = quietly(Command::new("make").arg("demo").env("DEMO_SECONDS", "30").current_dir(CLONE))?;
    let last = demo.output.lines().last().unwrap_or_default();
    let figure: Value = serde_json::from_str(last).unwrap_or(Value::Null);
    if !demo.success {
        problems.push(format!("`DEMO_SECONDS=30 make demo` failed; its output ends with: {}", demo.tail(20)));
    }
    for zero in ["lost", "in_flight", "inversions", "gaps", "repeats", "unreadable"] {
        if figure[zero] != json!(0) {
            problems.push(format!("the demo's {zero} is {}", figure[zero]));
        }
    }
    if figure["captured"] != figure["stored"] || figure["cameras"] != json!(4) {
        problems.push("the demo's captured and stored differ, or it had not four cameras".to_owned());
    }
    let results = std::fs::read_to_string(Path::new(CLONE).join("target/test.log")).unwrap_or_default();
    let passed: u64 = results
        .lines()
        .filter_map(|line| {
            line.strip_prefix("test result: ")?.split_once(". ")?.1.split_once(" passed")?.0.parse::<u64>().ok()
        })
        .sum();
    if passed == 0 {
        problems.push("no test ran".to_owned());
    }
    Ok(Outcome {
        bound: "from a clean clone `make test` passes and `DEMO_SECONDS=30 make demo` ends with lost = 0 and all integers right".into(),
        figure: json!({ "demo": figure, "tests_passed": passed }),
        faults: 0,
        pass: problems.is_empty(),
        problems,
    })
}

/// `.ci/run` from a cold target directory.
fn cold_ci() -> anyhow::Result<Outcome> {
    fresh_clone()?;
    let begun = Instant::now();
    let run = quietly(Command::new("bash").arg(".ci/run").env("CI", "true").current_dir(CLONE))?;
    let minutes = (begun.elapsed().as_secs_f64() / 6.0).round() / 10.0;
    let mut problems = Vec::new();
    if !run.success {
        problems.push(format!(".ci/run failed; its output ends with: {}", run.tail(20)));
    }
    if minutes >= CI_MINUTES {
        problems.push(format!("{minutes} minutes"));
    }
    Ok(Outcome {
        bound: format!(".ci/run from a cold target directory takes less than {CI_MINUTES} minutes"),
        figure: json!({ "minutes": minutes }),
        faults: 0,
        pass: problems.is_empty(),
        problems,
    })
}

fn fresh_clone() -> anyhow::Result<()> {
    if Path::new(CLONE).exists() {
        std::fs::remove_dir_all(CLONE).with_context(|| format!("cannot remove {CLONE}"))?;
    }
    text(Command::new("git").args(["clone", "--quiet", ".", CLONE])).map(drop)
}

struct Finished {
    success: bool,
    output: String,
}

impl Finished {
    fn tail(&self, lines: usize) -> String {
        let all: Vec<&str> = self.output.lines().collect();
        all[all.len().saturating_sub(lines)..].join(" | ")
    }
}

/// Runs a command to its end, its output kept. Cargo's own target directory is used, not one of the caller's.
fn quietly(command: &mut Command) -> anyhow::Result<Finished> {
    let output = command
        .env_remove("CARGO_TARGET_DIR")
        // We are run by make ourselves; told of that, a make below would add lines of its own to the output.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .env_remove("MFLAGS")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    Ok(Finished { success: output.status.success(), output: String::from_utf8_lossy(&output.stdout).into_owned() })
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
