//! Every kind of source on real parts, and what becomes of a stream that falls silent, ends or changes. Each test is
//! the short form of a scenario that `make accept NAME=live-path-2` runs in full.
//!
//! Timings are asserted at three times their bound: this says that nothing hangs, not how fast it is.

use std::time::Duration;

use testbed::scenario::testing::{self, assert_passed};
use testbed::scenario::{self, Changes, Sources, Stage};

fn stage() -> Stage {
    testing::stage(env!("CARGO_BIN_EXE_framehaul"))
}

#[test]
fn every_kind_of_source_streams() {
    assert_passed(scenario::sources(&stage(), &Sources { fps: 10, seconds: 6, long: 15_000 }));
}

#[test]
fn silence_ends_and_changes_are_told_apart() {
    let plan =
        Changes { fps: 10, stall_after: Duration::from_secs(3), within: Duration::from_secs(30), in_stream: true };
    assert_passed(scenario::changes(&stage(), &plan));
}
