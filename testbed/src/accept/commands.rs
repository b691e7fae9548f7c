//! Lines that are shown by running commands, as whoever has just cloned the project would.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::text;
use crate::scenario::Outcome;

/// The clean clone. Line 7 makes it anew and builds it cold; line 1 goes on with it, as its own build would be the
/// same.
const CLONE: &str = "target/acceptance-clone";
/// What `.ci/run` may take from a cold target directory.
const CI_MINUTES: f64 = 40.0;

/// The README's two commands in a clean clone.
pub(super) fn clean_clone() -> anyhow::Result<Outcome> {
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
    let passed = tests_passed(&results);
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

/// The demo of recordings in a clean clone, for so many seconds; `judge` looks at the line that it ends with.
pub(super) fn demo_of_recordings(seconds: u64, judge: fn(&Value) -> Result<(), String>) -> anyhow::Result<Outcome> {
    fresh_clone()?;
    // What others have made is compiled by now. Cargo makes what is ours anew: it lies elsewhere.
    let (ours, theirs) = (Path::new("target/debug"), Path::new(CLONE).join("target/debug"));
    std::fs::create_dir_all(&theirs).with_context(|| format!("cannot make {}", theirs.display()))?;
    for part in [".fingerprint", "build", "deps"] {
        text(Command::new("cp").arg("-al").arg(ours.join(part)).arg(&theirs))?;
    }
    let demo =
        quietly(Command::new("make").arg("demo-nvr").env("DEMO_SECONDS", seconds.to_string()).current_dir(CLONE))?;
    let last = demo.output.lines().last().unwrap_or_default();
    let figure: Value = serde_json::from_str(last).unwrap_or(Value::Null);
    let mut problems = Vec::new();
    if !demo.success {
        problems
            .push(format!("`DEMO_SECONDS={seconds} make demo-nvr` failed; its output ends with: {}", demo.tail(20)));
    }
    problems.extend(judge(&figure).err());
    Ok(Outcome {
        bound: format!(
            "from a clean clone `DEMO_SECONDS={seconds} make demo-nvr` ends with all tasks done, failed = 0, and every \
             recording there once"
        ),
        figure: json!({ "demo": figure }),
        faults: 0,
        pass: problems.is_empty(),
        problems,
    })
}

/// `.ci/run` from a cold target directory.
pub(super) fn cold_ci() -> anyhow::Result<Outcome> {
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

/// Tests of this tree, which must be some and pass.
pub(super) fn tests(what: &str, arguments: &[&str]) -> anyhow::Result<Outcome> {
    run_tests(what, arguments).map(|(outcome, _)| outcome)
}

/// The same for tests that tell what they have seen, each on a line of JSON after `figure: `, with the number of
/// `faults` they have injected.
pub(super) fn telling_tests(what: &str, arguments: &[&str]) -> anyhow::Result<Outcome> {
    let (mut outcome, output) = run_tests(what, &[arguments, &["--", "--nocapture"]].concat())?;
    let figures = figures(&output)?;
    if figures.is_empty() {
        outcome.problems.push("no test has told a figure".to_owned());
        outcome.pass = false;
    }
    outcome.faults = figures.iter().filter_map(|figure| figure["faults"].as_u64()).sum();
    outcome.figure["told"] = figures.into();
    Ok(outcome)
}

/// What the tests have told.
fn figures(output: &str) -> anyhow::Result<Vec<Value>> {
    let told = output.lines().filter_map(|line| line.strip_prefix("figure: "));
    told.map(|figure| serde_json::from_str(figure).with_context(|| format!("no figure: {figure}"))).collect()
}

fn run_tests(what: &str, arguments: &[&str]) -> anyhow::Result<(Outcome, String)> {
    let test = quietly(Command::new("cargo").args(["test", "--locked", "--no-fail-fast"]).args(arguments))?;
    let passed = tests_passed(&test.output);
    let mut problems = Vec::new();
    if !test.success || passed == 0 {
        problems.push(format!("{passed} tests passed; the output ends with: {}", test.tail(20)));
    }
    let outcome = Outcome {
        bound: format!("tests pass: {what}"),
        figure: json!({ "tests_passed": passed }),
        faults: 0,
        pass: problems.is_empty(),
        problems,
    };
    Ok((outcome, test.output))
}

/// Figures that a command has to tell: so many, with a field of this name, and nothing wrong with any.
pub(super) struct Wanted {
    pub(super) field: &'static str,
    pub(super) figures: usize,
    pub(super) judge: fn(&Value) -> Result<(), String>,
}

/// A command of cargo's that has to succeed, with this in its environment, and that tells its figures as JSON, one a
/// line.
pub(super) fn telling(
    bound: &str,
    environment: &[(&str, &str)],
    arguments: &[&str],
    wanted: &[Wanted],
) -> anyhow::Result<Outcome> {
    let run = quietly(Command::new("cargo").args(arguments).envs(environment.iter().copied()))?;
    let command = format!("cargo {}", arguments.join(" "));
    let mut problems = Vec::new();
    if !run.success {
        problems.push(format!("{command} failed; its output ends with: {}", run.tail(20)));
    }
    let (figures, wrong) = judge_told(&run.output, wanted);
    problems.extend(wrong.into_iter().map(|wrong| format!("{command}: {wrong}")));
    Ok(Outcome {
        bound: bound.to_owned(),
        faults: figures.iter().filter_map(|figure| figure["faults"].as_u64()).sum(),
        figure: figures.into(),
        pass: problems.is_empty(),
        problems,
    })
}

/// What was told, and what is wrong with it: a test that was renamed, or whose figures lack what is judged, is no
/// proof.
fn judge_told(output: &str, wanted: &[Wanted]) -> (Vec<Value>, Vec<String>) {
    let (mut figures, mut wrong) = (Vec::new(), Vec::new());
    for line in output.lines().map(without_name) {
        // A field's name may also stand before its figure.
        let named = wanted.iter().find_map(|Wanted { field, .. }| {
            let told = line.strip_prefix(field)?.strip_prefix(' ')?;
            told.starts_with('{').then_some((*field, told))
        });
        let told = named.map_or(line, |(_, told)| told);
        if !told.starts_with('{') {
            continue;
        }
        match serde_json::from_str::<Value>(told) {
            Ok(mut figure) => {
                if let Some((field, _)) = named {
                    figure[field] = true.into();
                }
                figures.push(figure);
            }
            Err(error) => wrong.push(format!("it has told no JSON: {error}: {line}")),
        }
    }
    for Wanted { field, figures: least, judge } in wanted {
        let of_field: Vec<&Value> = figures.iter().filter(|figure| !figure[field].is_null()).collect();
        if of_field.len() < *least {
            wrong.push(format!("it has told {} figures with `{field}`, {least} are wanted", of_field.len()));
        }
        wrong.extend(
            of_field.into_iter().filter_map(|figure| judge(figure).err().map(|why| format!("{why}: {figure}"))),
        );
    }
    (figures, wrong)
}

/// What a test prints first stands behind its name, where tests run one after the other.
fn without_name(line: &str) -> &str {
    let told = line.strip_prefix("test ").and_then(|line| line.split_once(" ... "));
    told.map_or(line, |(_, told)| told)
}

/// A whole number of a figure, which must be there.
pub(super) fn whole(figure: &Value, field: &str) -> Result<u64, String> {
    figure[field].as_u64().ok_or_else(|| format!("no whole number `{field}`"))
}

/// The sum of what cargo's summaries say.
fn tests_passed(output: &str) -> u64 {
    let summaries = output.lines().filter_map(|line| line.strip_prefix("test result: ")?.split_once(". "));
    summaries.filter_map(|(_, counts)| counts.split_once(" passed")?.0.parse::<u64>().ok()).sum()
}

/// Figures of a part of the benchmark: of a whole run, where `BENCH` names the file that it has written, else of a run now.
pub(super) fn bench(part: &str) -> anyhow::Result<Value> {
    if let Some(file) = std::env::var_os("BENCH") {
        return whole_run(Path::new(&file), part);
    }
    let file = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
    let run = ["bench", "--locked", "--profile", "dev", "-p", "framehaul", "--bench", "push", "--", part, "--json"];
    let ended = quietly(Command::new("cargo").args(run).arg(file.path()))?;
    ensure!(ended.success, "the benchmark's part `{part}` failed; its output ends with: {}", ended.tail(20));
    let report: Value = serde_json::from_slice(&std::fs::read(file.path())?).context("its report is no JSON")?;
    Ok(report["parts"][part].clone())
}

/// Of `make bench JSON=FILE`, if that has measured this code, and in full.
fn whole_run(file: &Path, part: &str) -> anyhow::Result<Value> {
    let name = file.display();
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {name}"))?;
    let report: Value = serde_json::from_slice(&bytes).with_context(|| format!("{name} is no JSON"))?;
    ensure!(report["quick"] == false, "{name} is of a short run: run `make bench` without QUICK");
    let commit =
        report["machine"]["commit"].as_str().with_context(|| format!("{name} does not say of which commit"))?;
    // What was measured is written into these.
    let besides = ["--", ":/", ":(top,exclude)docs", ":(top,exclude)README.md"];
    let same = quietly(Command::new("git").args(["diff", "--quiet", commit, "HEAD"]).args(besides))?;
    ensure!(same.success, "{name} is of commit {commit}, which is not this code: run `make bench JSON={name}` again");
    let mut figures = report["parts"][part].clone();
    ensure!(figures.is_object(), "{name} has no part `{part}`");
    figures["run"] = json!({ "command": report["command"], "commit": commit, "date": report["machine"]["date"] });
    Ok(figures)
}

/// The benchmark's page and the README's headline, made anew in a clean clone, and those that are committed.
pub(super) fn regenerated() -> anyhow::Result<Outcome> {
    const PAGE: &str = "docs/benchmarks.md";
    let mut problems = Vec::new();
    // Where it is said by which command, and when.
    let told = |text: &str| text.contains("make bench") && text.contains(" UTC");
    let headline = |readme: &str| {
        let place = readme.split_once("<!-- bench -->").and_then(|(_, rest)| rest.split_once("<!-- /bench -->"));
        place.map(|(headline, _)| headline.trim().to_owned()).filter(|headline| told(headline))
    };
    let readme = std::fs::read_to_string("README.md").context("cannot read README.md")?;
    let ours = headline(&readme);
    if ours.is_none() {
        problems.push("the README has no headline with its date and command".to_owned());
    }
    if !std::fs::read_to_string(PAGE).is_ok_and(|page| told(&page)) {
        problems.push(format!("there is no {PAGE} with its date and command"));
    }
    fresh_clone()?;
    // As the clone has them they are those of an earlier run.
    let place = |file: &str| Path::new(CLONE).join(file);
    for file in [PAGE, "docs/benchmarks"] {
        let path = place(file);
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        if removed.is_err() {
            problems.push(format!("the clone has no {file}"));
        }
    }
    let begun = Instant::now();
    let bench = quietly(Command::new("make").args(["bench", "QUICK=1"]).current_dir(CLONE))?;
    let minutes = (begun.elapsed().as_secs_f64() / 6.0).round() / 10.0;
    if !bench.success {
        problems.push(format!("`make bench QUICK=1` failed; its output ends with: {}", bench.tail(20)));
    }
    let page = std::fs::read_to_string(place(PAGE)).unwrap_or_default();
    let plots = std::fs::read_dir(place("docs/benchmarks")).map_or(0, Iterator::count);
    let theirs = headline(&std::fs::read_to_string(place("README.md"))?);
    if !told(&page) || plots == 0 || theirs.is_none() || theirs == ours {
        problems.push(format!("page, {plots} plots and headline were not made anew"));
    }
    Ok(Outcome {
        bound: "`make bench` makes docs/benchmarks.md anew in a clean clone; the README shows the headline with its date and command"
            .into(),
        figure: json!({ "headline": ours, "sections": page.matches("\n## ").count(), "plots": plots, "build_and_bench_minutes": minutes }),
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

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "test one ... \nfigure: {\"hits\":0}\nok\nfigure: {\"hits\":1}\ntest result: ok. 2 passed; 0 failed\n\
                          test result: ok. 1 passed; 0 failed\n";

    #[test]
    fn told_figures_are_counted_and_judged() {
        let enough = |figure: &Value| (whole(figure, "cases")? >= 5).then_some(()).ok_or("too few".to_owned());
        let wanted = |figures| [Wanted { field: "model", figures, judge: enough }];
        let wrong = |output: &str, figures| judge_told(output, &wanted(figures)).1;
        let good = "{\"model\":\"a\",\"cases\":5}\n";
        assert_eq!(wrong(&format!("test a ... \n{good}{{\"other\":1}}\n{good}ok\n"), 2), [""; 0]);
        assert_eq!(wrong(&format!("test a ... {good}ok\ntest b ... seed\n{good}ok\n"), 2), [""; 0]);
        assert_eq!(wrong("test a ... model {\"cases\":5}\nmodel {\"cases\":6}\nmodel T {\nother {\n", 2), [""; 0]);
        for (output, figures, named) in [
            (good, 2, "1 figures with `model`, 2 are wanted"),
            ("{\"model\":\"a\",\"cases\":4}", 1, "too few"),
            ("{\"model\":\"a\",\"case\":9}", 1, "no whole number `cases`"),
            ("model {\"cases\":4}", 1, "too few"),
            ("{\"model\":\"a\",\"cases\":", 0, "no JSON"),
        ] {
            let wrong = wrong(output, figures).join("; ");
            assert!(wrong.contains(named), "{output}: {wrong}");
        }
    }

    #[test]
    fn passed_tests_and_their_figures_are_read() {
        assert_eq!(tests_passed(OUTPUT), 3);
        assert_eq!(figures(OUTPUT).unwrap(), [json!({ "hits": 0 }), json!({ "hits": 1 })]);
        assert!(figures("figure: none").is_err());
    }
}
