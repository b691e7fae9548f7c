//! Delivery under faults of the bucket and of the way to it. Each test is the short form of a scenario that `make accept
//! NAME=delivery` runs in full; timings are asserted at three times their bound.
//!
//! Those with faults at random print their seed, with which the same ones come again: `SEED=1234`.

use std::time::Duration;

use testbed::scenario::testing::{self, assert_passed, seeded};
use testbed::scenario::{self, Flips, LostAnswers, Refused, Silent, Stage, Storm};

fn stage() -> Stage {
    testing::stage(env!("CARGO_BIN_EXE_framehaul"))
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_bucket_that_refuses_half_is_asked_much_less() {
    seeded(&[], |seed| {
        let plan = Storm {
            cameras: 16,
            fps: 5.0,
            bytes: 6_000,
            latency_ms: 50,
            rate_429: 0.3,
            rate_503: 0.2,
            retry_after_s: 5,
            calm: seconds(5),
            lasts: seconds(16),
            within: seconds(10),
            falls_to: 0.5,
            bin_share: 0.05,
            recovers: seconds(120),
            seed,
        };
        assert_passed(scenario::storm(&stage(), &plan));
    });
}

#[test]
fn an_answer_that_is_lost_makes_no_duplicate() {
    seeded(&[], |seed| {
        let plan = LostAnswers {
            cameras: 8,
            fps: 25.0,
            bytes: 6_000,
            frames: 1_500,
            rate_lost_answer: 0.05,
            rate_reset: 0.05,
            taken: 10,
            manifest_entries: 50,
            seed,
        };
        assert_passed(scenario::lost_answers(&stage(), &plan));
    });
}

#[test]
fn what_is_damaged_on_the_way_is_sent_again() {
    seeded(&[], |seed| {
        let plan = Flips { cameras: 8, fps: 25.0, bytes: 6_000, flips: 60, share: 0.03, found: 0.6, seed };
        assert_passed(scenario::flips(&stage(), &plan));
    });
}

#[test]
fn a_silent_bucket_holds_up_nobody() {
    let plan = Silent {
        cameras: 4,
        others: 4,
        fps: 10.0,
        bytes: 6_000,
        latency_ms: 100,
        deadline: seconds(2),
        slack: seconds(4),
        calm: seconds(4),
        lasts: seconds(7),
        probes: 3,
        recovers: seconds(180),
        factor: 6.0,
    };
    assert_passed(scenario::silent(&stage(), &plan));
}

#[test]
fn refused_credentials_are_hardly_tried_and_lose_nothing() {
    let plan = Refused {
        cameras: 4,
        fps: 5.0,
        bytes: 6_000,
        forbidden: seconds(33),
        wrong_key: seconds(33),
        settles: seconds(4),
        apart: seconds(30),
        flows: seconds(180),
        drains: seconds(180),
    };
    assert_passed(scenario::refused(&stage(), &plan));
}
