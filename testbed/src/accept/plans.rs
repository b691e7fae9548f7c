//! What each piece of work has to show, line by line, in full.

mod damage;
mod delivery;
mod fast_capture;
mod push;
mod push_bounds;
mod recorders;
mod recorders_2;

use std::time::Duration;

use serde_json::{Value, json};

use super::Plan;
use super::commands::{Wanted, clean_clone, cold_ci, telling, telling_tests, tests, whole};
use crate::scenario::{
    self, Backlog, Cap, Changes, Churn, Crash, Credentials, DiskFull, Durability, Fairness, Footprint, Kills, Latency,
    Logins, Order, Outage, Outcome, Prometheus, Recovery, Reload, Service, Signals, Sources, Stage, Stream,
};

/// A piece of work's name, and what makes its lines.
type Named = (&'static str, fn() -> Vec<Plan>);

/// All of them. The Makefile's help names them as well.
pub(super) const ALL: [Named; 8] = [
    ("live-path-1", live_path_1),
    ("live-path-2", live_path_2),
    ("spool", spool),
    ("delivery", delivery::delivery),
    ("fast-capture", fast_capture::fast_capture),
    ("push", push::push),
    ("recorders-1", recorders::recorders_1),
    ("recorders-2", recorders_2::recorders_2),
];

fn live_path_1() -> Vec<Plan> {
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
    let footprint = Footprint { idle_mb: 25.0, idle_own_mb: 8.0, busy_mb: 60.0, cameras: 8, fps: 10, seconds: 20 };
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

fn live_path_2() -> Vec<Plan> {
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

fn spool() -> Vec<Plan> {
    const SEED: u64 = 20_261_122;
    let seconds = Duration::from_secs;
    let kills = Kills { rounds: 500, cameras: 6, real: 2, fps: 25.0, bytes: 6_000, ready: seconds(3), seed: SEED };
    let signals = Signals {
        rounds: 50,
        cameras: 8,
        fps: 25.0,
        bytes: 20_000,
        latency_ms: 700.0,
        deadline: seconds(1),
        seed: SEED,
    };
    let backlog = Backlog {
        small: 10_000,
        large: 1_000_000,
        bytes: 1_000,
        cameras: 8,
        fps: 500.0,
        most_mib: 8.0,
        ready: seconds(3),
    };
    let outage = Outage {
        cameras: 16,
        fps: 5.0,
        bytes: 4_000,
        lasts: seconds(30 * 60),
        latency_ms: 150,
        uploads_per_s: 400,
        share: 0.9,
        live_ms: 2_000.0,
        live: seconds(30),
        load: (&[8, 16, 32, 64, 128], seconds(10)),
    };
    let cap = Cap { cap_mib: 64, overfill: 3.0, cameras: 4, fps: 50.0, bytes: 15_000 };
    let disk_full = DiskFull {
        disk_mib: 128,
        times: 5,
        lasts: seconds(10),
        within: seconds(5),
        cameras: 8,
        fps: 25.0,
        bytes: 50_000,
    };
    let durability =
        Durability { cameras: 4, fps: 10.0, bytes: 150_000, lasts: seconds(60), latency_ms: 100, most_ms: 15.0 };
    let fairness = Fairness {
        others: 7,
        fps: 5.0,
        times: 10.0,
        bytes: 20_000,
        workers: 16,
        latency_ms: 200,
        lasts: seconds(60),
        factor: 2.0,
    };
    let bench =
        |parts: &'static [&str]| [&["bench", "--locked", "--profile", "dev", "--bench", "spool", "--"], parts].concat();
    vec![
        Plan::new(1, Some(SEED), move |program| {
            let killed = scenario::kills(&Stage::new(program)?, &kills)?;
            Ok(both(killed, scenario::signals(&Stage::new(program)?, &signals)?))
        }),
        Plan::new(2, None, |_| {
            let model = telling(
                "100,000 cases of the model, 0 violations",
                &[("PROPTEST_CASES", "100000")],
                &["test", "--locked", "--lib", "spool::tests::model", "--", "--nocapture"],
                &[Wanted { field: "model", figures: 1, judge: all_cases }],
            )?;
            let boundaries = telling(
                "cut at every boundary: all recover, 3 starts each",
                &[("ROUNDS", "500")],
                &["test", "--locked", "--test", "faults", "--", "--nocapture", "--test-threads=1", "boundaries"],
                // Cut: two starts, the spool at work and refusing, the journal and its reserve. Refused: syncs, writes,
                // room for both of each, and the journal's calls.
                &[
                    Wanted { field: "boundaries", figures: 6, judge: every_boundary },
                    Wanted { field: "refused", figures: 8, judge: some_fault },
                    Wanted { field: "durable_said", figures: 1, judge: |_| Ok(()) },
                ],
            )?;
            Ok(both(model, boundaries))
        }),
        Plan::new(3, None, move |program| {
            let memory = scenario::backlog(&Stage::new(program)?, &backlog)?;
            Ok(both(memory, scenario::outage(&Stage::new(program)?, &outage)?))
        }),
        Plan::new(4, None, move |program| {
            let capped = scenario::cap(&Stage::new(program)?, &cap)?;
            Ok(both(capped, scenario::disk_full(&Stage::new(program)?, &disk_full)?))
        }),
        Plan::new(5, None, |_| {
            let bound = "every bit flip and truncation of 100 records: 0 panics, open within 5 s, lost at most what was touched";
            let damage = ["test", "--locked", "--lib", "spool::tests::damage", "--", "--nocapture"];
            let files = telling(
                bound,
                &[("ROUNDS", "1")],
                &damage,
                &[
                    Wanted { field: "flips", figures: 1, judge: |figure| every_byte(figure, "flips", 8) },
                    Wanted { field: "cuts", figures: 1, judge: |figure| every_byte(figure, "cuts", 1) },
                    Wanted { field: "stretches", figures: 1, judge: some_fault },
                ],
            )?;
            let daemon = telling(
                "the daemon over damaged spools, and with syncs that fail: ready, each loss told, accounts exact",
                &[("ROUNDS", "100")],
                &["test", "--locked", "--test", "faults_damaged", "--", "--nocapture", "--test-threads=1"],
                &[Wanted { field: "figure", figures: 2, judge: some_fault }],
            )?;
            Ok(both(files, daemon))
        }),
        Plan::new(6, None, move |_| {
            let bound = "ready within 3 s with 200,000 records in 20 GiB, or the disk's room";
            telling(bound, &[], &bench(&["start"]), &[Wanted { field: "start", figures: 1, judge: within_bounds }])
        }),
        Plan::new(7, None, move |program| {
            let bound = "at most 0.15 ms of processor time per 150 KB frame; 80 % of dd or 300 MB/s sustained";
            let wanted = ["cost", "rate"].map(|field| Wanted { field, figures: 1, judge: within_bounds });
            let cost = telling(bound, &[], &bench(&["cost", "rate"]), &wanted)?;
            Ok(both(cost, scenario::durability(&Stage::new(program)?, &durability)?))
        }),
        Plan::new(8, None, move |program| scenario::fairness(&Stage::new(program)?, &fairness)),
    ]
}

fn holds(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn some_fault(figure: &Value) -> Result<(), String> {
    holds(whole(figure, "faults")? > 0, "no fault was injected")
}

fn all_cases(figure: &Value) -> Result<(), String> {
    some_fault(figure)?;
    holds(whole(figure, "cases")? >= 100_000, "fewer than 100,000 cases")?;
    holds(whole(figure, "violations")? == 0, "violations")
}

fn every_boundary(figure: &Value) -> Result<(), String> {
    some_fault(figure)?;
    holds(whole(figure, "tried")? == whole(figure, "boundaries")?, "not every boundary was tried")
}

/// So many cases for each byte: its bits flipped, or a cut there.
fn every_byte(figure: &Value, kind: &str, each: u64) -> Result<(), String> {
    some_fault(figure)?;
    holds(whole(figure, kind)? >= each * whole(figure, "bytes")?, "not every case was tried")
}

/// What the bench says of its bounds.
fn within_bounds(figure: &Value) -> Result<(), String> {
    holds(figure["pass"] == json!(true), "a bound was missed")
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
