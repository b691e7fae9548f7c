//! For tests that run scenarios in short.

use std::path::Path;

use super::{Outcome, Stage};

/// A stage for the program under test.
pub fn stage(program: &str) -> Stage {
    Stage::new(Path::new(program)).expect("a stage")
}

/// Fails the test where a promise was broken, and prints the figures, one JSON object a line, where none was.
#[track_caller]
pub fn assert_passed(outcome: anyhow::Result<Outcome>) {
    let outcome = outcome.unwrap_or_else(|error| panic!("the scenario broke off: {error:#}"));
    assert!(outcome.pass, "{}\nfigure: {}\n{}", outcome.bound, outcome.figure, outcome.problems.join("\n"));
    println!("{{\"figure\":{},\"faults\":{}}}", outcome.figure, outcome.faults);
}

/// The number in a variable of the environment; none where that is not set, or empty.
pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Runs with the seed that `SEED` asks for, or with those that failed once and then another one at each run.
pub fn seeded(failed_once: &[u64], run: impl Fn(u64)) {
    let seeds = match number("SEED") {
        Some(seed) => vec![seed],
        None => failed_once.iter().copied().chain([fastrand::u64(..1 << 32)]).collect(),
    };
    for seed in seeds {
        println!("SEED={seed}");
        run(seed);
    }
}
