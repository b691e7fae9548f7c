//! Consumers of the ordered lists, over HTTP.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use testbed::cameras::{CameraServer, CameraSpec, default_cache_dir};
use testbed::daemon::{Daemon, Storage};
use testbed::events::{Event, Events};
use testbed::scenario::{self, Stage, Stream};

const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");
const PATIENCE: Duration = Duration::from_secs(30);
const ALL: &str = "/api/v1/frames/stream";

#[test]
fn consumers_that_are_cut_see_exactly_the_lists_and_silent_ones_cost_nothing() {
    let plan = Stream {
        cameras: 3,
        fps: 25,
        cuts: 20,
        restarts: 1,
        silent: 50,
        flow: Duration::from_secs(3),
        silent_kib: 3 * 8 * 1_024,
        seed: 1,
    };
    let stage = Stage::new(Path::new(PROGRAM)).expect("a stage");
    let outcome = scenario::stream(&stage, &plan).unwrap_or_else(|error| panic!("the scenario broke off: {error:#}"));
    println!("{}", outcome.figure);
    assert!(outcome.pass, "{}\nfigure: {}\n{}", outcome.bound, outcome.figure, outcome.problems.join("\n"));
}
