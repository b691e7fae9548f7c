//! What each piece of work has to show, line by line, in full.

use std::time::Duration;

use serde_json::json;

use super::Plan;
use super::commands::{clean_clone, cold_ci, telling_tests, tests};
use crate::scenario::{
    self, Changes, Churn, Crash, Credentials, Footprint, Latency, Logins, Order, Outcome, Prometheus, Recovery, Reload,
    Service, Sources, Stage, Stream,
};

pub(super) fn live_path_1() -> Vec<Plan> {
    const SEED: u64 = 20_261_120;
    let order = Order {
        cameras: 8,
        fps: 10,
        frames: 2_000,
        latency_ms: 80.0,
        sigma: 1.0,
        rate_503: 0.05,
        rate_lost_answer: 0.02,
        seed: SEED,
    };
    let recovery = Recovery {
        bystanders: 3,
        fps: 10,
        dead: Duration::from_secs(20),
        frozen: Duration::from_secs(30),
        within: Duration::from_secs(5),
    };
    let crash = Crash { rounds: 20, cameras: 3, fps: 30, seed: SEED };
    let latency = Latency { frames: 50, fps: 25, latency_ms: 1_050, factor: 1.10 };
    let footprint = Footprint { idle_mb: 25.0, busy_mb: 60.0, cameras: 8, fps: 10, seconds: 20 };
    vec![
        Plan::new(7, None, |_| cold_ci()),
        Plan::new(1, None, |_| clean_clone()),
        Plan::new(2, Some(SEED), move |program| scenario::order(&Stage::new(program)?, &order)),
        Plan::new(3, None, move |program| scenario::recovery(&Stage::new(program)?, &recovery)),
        Plan::new(4, Some(SEED), move |program| scenario::crash(&Stage::new(program)?, &crash)),
        Plan::new(5, None, move |program| scenario::latency(&Stage::new(program)?, &latency)),
        Plan::new(6, None, move |program| scenario::footprint(&Stage::new(program)?, program, &footprint)),
    ]
}

pub(super) fn live_path_2() -> Vec<Plan> {
    const SEED: u64 = 20_261_121;
    let seconds = Duration::from_secs;
    let sources = Sources { fps: 10, seconds: 20, long: 15_000 };
    let changes = Changes { fps: 10, stall_after: seconds(3), within: seconds(10), in_stream: true };
    let churn = Churn { bystanders: 4, fps: 10, cameras: 100, at_once: 20 };
    let logins = Logins { cameras: 16, wrong_for: seconds(600), most: 3 };
    let stream = Stream {
        cameras: 4,
        fps: 25,
        cuts: 20,
        restarts: 5,
        silent: 50,
        flow: seconds(10),
        silent_kib: 8 * 1_024,
        seed: SEED,
    };
    let reload = Reload { cameras: 50, changed: 3, fps: 2, frames: 20 };
    let prometheus = Prometheus { cameras: 8, fps: 10, latency_ms: 80 };
    let service = Service { period: seconds(2), hang: seconds(10) };
    let credentials = Credentials {
        cameras: 2,
        fps: 10,
        expire_every: seconds(10),
        lasts: seconds(120),
        outage: seconds(10),
        latency_ms: 100,
    };
    vec![
        Plan::new(1, None, move |program| {
            let streams = scenario::sources(&Stage::new(program)?, &sources)?;
            Ok(both(streams, scenario::changes(&Stage::new(program)?, &changes)?))
        }),
        Plan::new(2, None, move |program| scenario::churn(&Stage::new(program)?, &churn)),
        Plan::new(3, None, move |program| scenario::logins(&Stage::new(program)?, &logins)),
        Plan::new(4, Some(SEED), move |program| scenario::stream(&Stage::new(program)?, &stream)),
        Plan::new(5, None, move |program| scenario::reload(&Stage::new(program)?, &reload)),
        Plan::new(6, None, move |program| scenario::prometheus(&Stage::new(program)?, &prometheus)),
        Plan::new(7, None, move |program| scenario::service(&Stage::new(program)?, program, &service)),
        Plan::new(8, None, move |program| {
            let uploads = scenario::credentials(&Stage::new(program)?, &credentials)?;
            Ok(both(uploads, tests("the official Python client", &["-p", "testbed", "--test", "google_client"])?))
        }),
        Plan::new(9, None, move |program| {
            let hostile = scenario::hostile(&Stage::new(program)?, program)?;
            let canary = telling_tests(CANARY, &["--test", "bad_input", "canary"])?;
            Ok(both(hostile, canary))
        }),
    ]
}

/// What the tests of a planted password are to show; which kinds, how many routes and how many texts they tell.
const CANARY: &str =
    "a canary password through every kind of a camera's error, a kill -9 and every route, with debug logs on: 0 hits";

/// One line that two programs have to show.
fn both(one: Outcome, other: Outcome) -> Outcome {
    Outcome {
        bound: format!("{}; {}", one.bound, other.bound),
        figure: json!([one.figure, other.figure]),
        faults: one.faults + other.faults,
        pass: one.pass && other.pass,
        problems: one.problems.into_iter().chain(other.problems).collect(),
    }
}
