//! The spool under faults, with cameras and a bucket. Each test is the short form of a scenario that `make accept
//! NAME=spool` runs in full; timings are asserted at three times their bound.
//!
//! Each prints its seed, with which the same moments come again: `SEED=1234`. `ROUNDS=N` makes the kills more.

use std::time::Duration;

use testbed::scenario::testing::{self, assert_passed, number, seeded};
use testbed::scenario::{
    self, Backlog, Cap, DiskFull, Durability, Fairness, Kills, Outage, Pictures, Refusal, Signals, Stage,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");

fn stage() -> Stage {
    testing::stage(PROGRAM)
}

/// Seeds with which something failed once: they are tried first.
const REGRESSIONS_OF_KILLS: &[u64] = &[];
const REGRESSIONS_OF_SIGNALS: &[u64] = &[];

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn synthetic_cameras_give_what_they_say() {
    assert_passed(scenario::pictures(&stage(), &Pictures { cameras: 8, fps: 40.0, bytes: 8_000, frames: 150 }));
}

#[test]
fn a_killed_daemon_loses_nothing_that_was_on_disk() {
    let rounds = number("ROUNDS").unwrap_or(10);
    seeded(REGRESSIONS_OF_KILLS, |seed| {
        let plan = Kills { rounds, cameras: 7, real: 1, fps: 25.0, bytes: 6_000, ready: seconds(9), seed };
        assert_passed(scenario::kills(&stage(), &plan));
    });
}

#[test]
fn a_backlog_costs_no_memory() {
    let plan = Backlog {
        small: 2_000,
        large: 40_000,
        bytes: 1_000,
        cameras: 4,
        fps: 1_000.0,
        most_mib: 24.0,
        ready: seconds(9),
    };
    assert_passed(scenario::backlog(&stage(), &plan));
}

#[test]
fn what_an_outage_left_is_stored_afterwards_in_order() {
    let plan = Outage {
        cameras: 8,
        fps: 5.0,
        bytes: 4_000,
        lasts: seconds(10),
        latency_ms: 100,
        uploads_per_s: 150,
        share: 0.3,
        live_ms: 6_000.0,
        live: seconds(3),
        load: (&[16, 64], seconds(2)),
    };
    assert_passed(scenario::outage(&stage(), &plan));
}

#[test]
fn a_spool_at_its_cap_drops_by_its_policy_and_tells_each_frame() {
    assert_passed(scenario::cap(&stage(), &Cap { cap_mib: 8, overfill: 2.0, cameras: 2, fps: 80.0, bytes: 6_000 }));
}

#[test]
fn what_the_bucket_will_never_have_is_kept_for_a_person() {
    assert_passed(scenario::refusal(&stage(), &Refusal { fps: 25.0, bytes: 6_000, frames: 40 }));
}

#[test]
fn a_full_disk_ends_nothing() {
    let plan = DiskFull {
        disk_mib: 48,
        times: 2,
        lasts: seconds(3),
        within: seconds(15),
        cameras: 4,
        fps: 25.0,
        bytes: 30_000,
    };
    assert_passed(scenario::disk_full(&stage(), &plan));
}

#[test]
fn an_orderly_end_leaves_frames_to_the_next_run() {
    seeded(REGRESSIONS_OF_SIGNALS, |seed| {
        let plan = Signals {
            rounds: 4,
            cameras: 4,
            fps: 25.0,
            bytes: 6_000,
            latency_ms: 700.0,
            deadline: Duration::from_millis(500),
            seed,
        };
        assert_passed(scenario::signals(&stage(), &plan));
    });
}

#[test]
fn the_disk_costs_little_time() {
    let plan = Durability { cameras: 2, fps: 10.0, bytes: 50_000, lasts: seconds(8), latency_ms: 50, most_ms: 45.0 };
    assert_passed(scenario::durability(&stage(), &plan));
}

#[test]
fn a_flooding_camera_hardly_delays_the_others() {
    let plan = Fairness {
        others: 7,
        fps: 5.0,
        times: 10.0,
        bytes: 10_000,
        workers: 16,
        latency_ms: 200,
        lasts: seconds(6),
        factor: 6.0,
    };
    assert_passed(scenario::fairness(&stage(), &plan));
}
