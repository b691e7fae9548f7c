//! The spool under faults, with cameras and a bucket. Each test is the short form of a scenario that `make accept NAME=spool`
//! runs in full.

use std::path::Path;

use testbed::scenario::{self, Outcome, Pictures, Stage};

const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");

fn stage() -> Stage {
    Stage::new(Path::new(PROGRAM)).expect("a stage")
}

#[track_caller]
fn assert_passed(outcome: anyhow::Result<Outcome>) {
    let outcome = outcome.unwrap_or_else(|error| panic!("the scenario broke off: {error:#}"));
    assert!(outcome.pass, "{}\nfigure: {}\n{}", outcome.bound, outcome.figure, outcome.problems.join("\n"));
    println!("{}", outcome.figure);
}

#[test]
fn synthetic_cameras_give_what_they_say() {
    assert_passed(scenario::pictures(&stage(), &Pictures { cameras: 8, fps: 50.0, bytes: 8_000, frames: 300 }));
}
