//! The small parts that every frame passes, by a benchmark of their own: `benches/micro.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::machine::Machine;
use crate::report::{Section, Table};
use crate::setting::Setting;

/// The order of the page.
const GROUPS: [&str; 3] = ["reorder", "dispatcher", "journal"];

/// What criterion writes of a benchmark, in `benchmark.json`.
#[derive(Deserialize)]
struct About {
    group_id: String,
    function_id: String,
    value_str: Option<String>,
    throughput: Throughput,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Throughput {
    elements: u64,
}

/// What it writes of the measurement, in `estimates.json`: nanoseconds.
#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

/// Runs it.
///
/// # Errors
///
/// When it cannot be run, or something of it is missing.
pub fn run(setting: &Setting, machine: &mut Machine) -> anyhow::Result<Section> {
    let home = setting.scratch()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["bench", "--locked", "--profile", "dev", "-p", "framehaul", "--bench", "micro"]);
    command.env("CRITERION_HOME", home.path()).env_remove("QUICK");
    if setting.quick {
        command.env("QUICK", "1");
    }
    // What it tells people is told by the page.
    let output = command.output().context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "benches/micro.rs ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default()
    );
    machine.used("criterion", locked("criterion")?);

    let mut found = Vec::new();
    for dir in results(home.path())? {
        found.push((read::<About>(&dir.join("benchmark.json"))?, read::<Estimates>(&dir.join("estimates.json"))?));
    }
    let value = |about: &About| about.value_str.as_ref().and_then(|value| value.parse::<u64>().ok());
    found.sort_by_key(|(about, _)| (about.function_id.clone(), value(about)));
    let (mut tables, mut figures) = (Vec::new(), serde_json::Map::new());
    for group in GROUPS {
        let (what, of) = match group {
            "reorder" => ("The reorder window: outcomes of 10,000 frames", "an outcome"),
            "dispatcher" => ("The Dispatcher: from the spool's word to the committed outcome, by cameras", "a frame"),
            _ => ("The journal: outcomes committed together, durable", "an outcome"),
        };
        let mut table = Table::new(what, ["", of, "least to most (95 %)", "all of it"]);
        let mut told = Vec::new();
        for (about, estimates) in found.iter().filter(|(about, _)| about.group_id == group) {
            let name = [Some(&about.function_id), about.value_str.as_ref()];
            let name: Vec<&str> = name.into_iter().flatten().map(String::as_str).collect();
            let (elements, Estimate { point_estimate, confidence_interval }) =
                (about.throughput.elements, &estimates.median);
            let each = |ns: f64| ns / elements as f64;
            let Interval { lower_bound, upper_bound } = confidence_interval;
            table.row([
                name.join(", "),
                time(each(*point_estimate)),
                format!("{} to {}", time(each(*lower_bound)), time(each(*upper_bound))),
                time(*point_estimate),
            ]);
            told.push(json!({
                "name": name.join("/"),
                "elements": elements,
                "median_ns": point_estimate,
                "median_ns_95": [lower_bound, upper_bound],
            }));
        }
        ensure!(!told.is_empty(), "benches/micro.rs tells nothing of `{group}`");
        tables.push(table);
        figures.insert(group.to_owned(), Value::Array(told));
    }
    Ok(Section {
        name: "criterion",
        title: "The small parts alone".to_owned(),
        text: "Medians of Criterion.rs with their 95 % confidence intervals. The Dispatcher is measured with a frame of each \
               camera at a time, and with 255 frames of each waiting. The journal commits to SQLite on disk as the daemon \
               does, so that a batch holds at least one sync of the disk."
            .to_owned(),
        tables,
        plots: Vec::new(),
        figures: figures.into(),
    })
}

/// The directories of what was measured now.
fn results(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.ends_with("new") && path.join("estimates.json").is_file() {
            found.push(path);
        } else if path.is_dir() {
            found.extend(results(&path)?);
        }
    }
    Ok(found)
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// A time in the unit in which people read it.
fn time(ns: f64) -> String {
    match ns {
        ..1e3 => format!("{ns:.0} ns"),
        ..1e6 => format!("{:.2} µs", ns / 1e3),
        _ => format!("{:.2} ms", ns / 1e6),
    }
}

/// The version of a crate that is linked here.
fn locked(name: &str) -> anyhow::Result<String> {
    let lock: toml::Table = include_str!("../../Cargo.lock").parse()?;
    let packages = lock.get("package").and_then(toml::Value::as_array).context("Cargo.lock has no packages")?;
    let found = packages.iter().find(|package| package.get("name").and_then(toml::Value::as_str) == Some(name));
    let version = found.and_then(|package| package.get("version")?.as_str());
    Ok(version.with_context(|| format!("{name} is not in Cargo.lock"))?.to_owned())
}
