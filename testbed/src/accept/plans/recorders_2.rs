//! Recorders: their channels as cameras, export tasks from sheets, and workers on many machines.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::holds;
use crate::accept::Plan;
use crate::accept::commands::{Wanted, demo_of_recordings, telling, telling_tests, whole};
use crate::scenario::{self, LiveChannels, Outcome, QueueChaos, Sheets, Stage};

const SEED: u64 = 20_261_125;
/// Where Python gets its environment; the tests of sheets use the same. `make clean` removes it.
const SHEETS: &str = "target/tmp/sheets-python";
/// Tasks of the demo's sheet, and of each client's queue.
const TASKS: u64 = 20;
/// Lines that the shell script may have.
const SCRIPT_LINES: usize = 15;

pub(in crate::accept) fn recorders_2() -> Vec<Plan> {
    vec![
        Plan::new(1, None, channels),
        Plan::new(2, Some(SEED), chaos),
        Plan::new(3, None, |_| clients()),
        Plan::new(4, None, sheets),
        Plan::new(5, None, |_| takes()),
        Plan::new(6, None, |_| demo_of_recordings(60, demonstrated)),
        Plan::new(7, None, |program| scenario::recorder_canary(&Stage::new(program)?)),
    ]
}

fn channels(program: &Path) -> anyhow::Result<Outcome> {
    let plan = LiveChannels {
        channels: 16,
        off: Duration::from_secs(60),
        back: Duration::from_secs(10),
        // Both the recorder's thread and the daemon's may be late by a little.
        apart: Duration::from_millis(950),
        settles: Duration::from_secs(5),
        follow: Duration::from_secs(60),
    };
    scenario::live_channels(&Stage::new(program)?, &plan)
}

fn chaos(program: &Path) -> anyhow::Result<Outcome> {
    let plan = QueueChaos {
        recorders: 4,
        channels: 5,
        tasks: 25,
        workers: 5,
        kills: 12,
        pauses: 8,
        script_pauses: 3,
        late: 4,
        server_kills: 2,
        lease: Duration::from_secs(20),
        again: Duration::from_secs(30),
        bytes_per_s: 60_000,
        seed: SEED,
    };
    scenario::queue_chaos(&Stage::new(program)?, &plan)
}

fn clients() -> anyhow::Result<Outcome> {
    let what =
        "the article's client and docs/worker.sh, of 15 lines, each drain a queue of 20 tasks, results byte for byte";
    let mut outcome = telling_tests(what, &["-p", "framehaul", "--test", "worker", "clients::"])?;
    for client in ["the article's", "docs/worker.sh"] {
        let told = outcome.figure["told"].as_array();
        let has_drained = |figure: &Value| {
            figure["client"] == client
                && figure["tasks_done"] == TASKS
                && figure["byte_identical"].as_u64() >= Some(TASKS)
        };
        if !told.is_some_and(|figures| figures.iter().any(has_drained)) {
            outcome.problems.push(format!("nothing was told of a queue that {client} has drained"));
            outcome.pass = false;
        }
    }
    let lines = std::fs::read_to_string("docs/worker.sh")?.lines().count();
    outcome.figure["script_lines"] = lines.into();
    if lines > SCRIPT_LINES {
        outcome.problems.push(format!("docs/worker.sh has {lines} lines, where {SCRIPT_LINES} are asked for"));
        outcome.pass = false;
    }
    Ok(outcome)
}

fn sheets(program: &Path) -> anyhow::Result<Outcome> {
    let plan = Sheets {
        environment: SHEETS.into(),
        broken: 30,
        rows: 100_000,
        within: Duration::from_secs(10),
        memory: 200_000_000,
    };
    scenario::sheets(&Stage::new(program)?, &plan)
}

/// Ways to take tasks: of the queue itself, and as workers do.
const WAYS: [&str; 2] = ["the queue alone", "the daemon over HTTP"];

fn takes() -> anyhow::Result<Outcome> {
    let mut outcome = telling(
        "1,000 takes a second of 100,000 tasks in SQLite, p99 of a take less than 20 ms, by the queue alone and over HTTP",
        &[],
        &[
            "test",
            "--locked",
            "-p",
            "framehaul",
            "--test",
            "exports",
            "a_thousand_tasks",
            "--",
            "--nocapture",
            "--test-threads=1",
        ],
        &[Wanted { field: "takes_of", figures: WAYS.len(), judge: soon_enough }],
    )?;
    for way in WAYS {
        if !outcome.figure.as_array().is_some_and(|figures| figures.iter().any(|figure| figure["takes_of"] == way)) {
            outcome.problems.push(format!("nothing was told of {way}"));
            outcome.pass = false;
        }
    }
    Ok(outcome)
}

fn soon_enough(figure: &Value) -> Result<(), String> {
    holds(whole(figure, "waiting")? >= 100_000, "fewer than 100,000 tasks")?;
    holds(whole(figure, "takes")? >= 10_000, "fewer than 10,000 takes")?;
    let number = |field: &str| figure[field].as_f64().ok_or(format!("no number `{field}`"));
    holds(number("a_second")? >= 1_000.0, "fewer than 1,000 a second")?;
    holds(number("p99_ms")? < 20.0, "a p99 of 20 ms or more")
}

/// What the demo says at its end.
fn demonstrated(report: &Value) -> Result<(), String> {
    let counts = [("tasks", TASKS), ("done", TASKS), ("failed", 0), ("duplicates", 0), ("mismatched", 0)];
    for (field, count) in counts {
        let is = whole(report, field)?;
        holds(is == count, &format!("{field} is {is}"))?;
    }
    holds(whole(report, "files")? > 0 && whole(report, "bytes")? > 0, "no recording was stored")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn takes_must_be_many_and_soon() {
        let takes = |a_second: f64, p99: f64| json!({ "waiting": 100_000, "takes": 10_000, "a_second": a_second, "p99_ms": p99 });
        assert_eq!(soon_enough(&takes(1_000.0, 19.9)), Ok(()));
        assert!(soon_enough(&takes(999.0, 19.9)).is_err() && soon_enough(&takes(1_000.0, 20.0)).is_err());
        assert!(soon_enough(&json!({ "waiting": 100_000, "takes": 10_000, "a_second": 2_000.0 })).is_err());
    }

    #[test]
    fn a_demo_must_have_done_all_of_it_and_stored_something() {
        let report = |done: u64, files: u64| json!({ "tasks": 20, "done": done, "failed": 0, "duplicates": 0, "mismatched": 0, "files": files, "bytes": files });
        assert_eq!(demonstrated(&report(20, 120)), Ok(()));
        assert!(demonstrated(&report(19, 120)).is_err() && demonstrated(&report(20, 0)).is_err());
        assert!(demonstrated(&Value::Null).is_err());
    }
}
