//! The main job on real parts: RTSP cameras from GStreamer, a bucket that speaks HTTP, SQLite, child processes. Each
//! test is the short form of a scenario that `make accept NAME=live-path-1` runs in full.
//!
//! Timings are asserted at three times their bound: this says that nothing hangs, not how fast it is.

use std::path::Path;
use std::time::Duration;

use testbed::scenario::testing::{self, assert_passed};
use testbed::scenario::{self, Crash, Credentials, Footprint, Latency, Order, Recovery, Settings, Stage};

const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");

fn stage() -> Stage {
    testing::stage(PROGRAM)
}

#[test]
fn lists_are_complete_and_in_order_through_a_slow_and_failing_bucket() {
    let plan = Order {
        cameras: 8,
        fps: 10,
        frames: 600,
        latency_ms: 80.0,
        sigma: 1.0,
        rate_503: 0.05,
        rate_lost_answer: 0.02,
        seed: 1,
    };
    assert_passed(scenario::order(&stage(), &plan));
}

#[test]
fn what_breaks_under_a_camera_mends_and_the_others_notice_nothing() {
    let plan = Recovery {
        bystanders: 2,
        fps: 10,
        dead: Duration::from_secs(4),
        frozen: Duration::from_secs(13),
        within: Duration::from_secs(15),
    };
    assert_passed(scenario::recovery(&stage(), &plan));
}

#[test]
fn a_killed_daemon_uses_no_seq_twice_and_its_accounts_are_exact() {
    let plan = Crash { rounds: 3, cameras: 2, fps: 50, seed: 1 };
    assert_passed(scenario::crash(&stage(), &plan));
}

#[test]
fn frames_are_listed_soon_after_the_last_was_captured() {
    let plan = Latency { frames: 50, fps: 25, latency_ms: 1_050, factor: 3.0 };
    assert_passed(scenario::latency(&stage(), &plan));
}

#[test]
fn the_daemon_links_no_media_library_and_stays_small() {
    let plan = Footprint { idle_mb: 25.0, idle_own_mb: 8.0, busy_mb: 60.0, cameras: 2, fps: 10, seconds: 3 };
    assert_passed(scenario::footprint(&stage(), Path::new(PROGRAM), &plan));
}

#[test]
fn a_camera_gives_what_its_spec_asks_for() {
    assert_passed(scenario::settings(&stage(), &Settings { fps: 25, seconds: 6 }));
}

#[test]
fn a_capture_process_that_misbehaves_costs_its_own_camera_only() {
    assert_passed(scenario::garbage(&stage(), Path::new(PROGRAM)));
}

#[test]
fn tokens_that_expire_before_their_time_cost_no_frame() {
    let plan = Credentials {
        cameras: 2,
        fps: 10,
        expire_every: Duration::from_secs(3),
        // The outage begins half-way: not just when a token has been renewed, which is not done again at once.
        lasts: Duration::from_secs(15),
        outage: Duration::from_secs(2),
        latency_ms: 60,
    };
    assert_passed(scenario::credentials(&stage(), &plan));
}
