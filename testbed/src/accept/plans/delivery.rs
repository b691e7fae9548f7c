//! The delivery engine, manifests, verify, and every bucket.

use std::time::Duration;

use serde_json::Value;

use super::{both, holds, some_fault};
use crate::accept::Plan;
use crate::accept::commands::{Wanted, telling, whole};
use crate::scenario::{self, Flips, LostAnswers, Refused, Silent, Stage, Storm};

pub(in crate::accept) fn delivery() -> Vec<Plan> {
    const SEED: u64 = 20_261_121;
    let seconds = Duration::from_secs;
    let storm = Storm {
        cameras: 16,
        fps: 10.0,
        bytes: 20_000,
        latency_ms: 50,
        rate_429: 0.3,
        rate_503: 0.2,
        retry_after_s: 5,
        calm: seconds(10),
        lasts: seconds(60),
        within: seconds(10),
        falls_to: 0.5,
        bin_share: 0.05,
        recovers: seconds(120),
        seed: SEED,
    };
    let lost_answers = LostAnswers {
        cameras: 16,
        fps: 25.0,
        bytes: 8_000,
        frames: 20_000,
        rate_lost_answer: 0.05,
        rate_reset: 0.05,
        taken: 20,
        seed: SEED,
    };
    let flips = Flips { cameras: 16, fps: 25.0, bytes: 8_000, flips: 1_000, share: 0.025, seed: SEED };
    let silent = Silent {
        cameras: 4,
        others: 4,
        fps: 10.0,
        bytes: 20_000,
        latency_ms: 100,
        deadline: seconds(10),
        slack: Duration::from_millis(500),
        calm: seconds(60),
        lasts: seconds(60),
        probes: 11,
        recovers: seconds(60),
        factor: 2.0,
    };
    let refused = Refused {
        cameras: 4,
        fps: 5.0,
        bytes: 8_000,
        statuses: &[401, 403],
        lasts: seconds(600),
        settles: seconds(10),
        apart: seconds(30),
        flows: seconds(60),
        drains: seconds(300),
    };
    vec![
        Plan::new(1, Some(SEED), move |program| scenario::storm(&Stage::new(program)?, &storm)),
        Plan::new(2, Some(SEED), move |program| {
            let lost = scenario::lost_answers(&Stage::new(program)?, &lost_answers)?;
            Ok(both(lost, scenario::flips(&Stage::new(program)?, &flips)?))
        }),
        Plan::new(3, None, move |program| scenario::silent(&Stage::new(program)?, &silent)),
        Plan::new(4, None, move |program| scenario::refused(&Stage::new(program)?, &refused)),
        Plan::new(5, None, |_| {
            telling(
                "conformance of all back ends; of 50 concurrent puts of one key exactly one wins and the others learn it",
                &[],
                &["test", "--locked", "--test", "buckets", "--", "--nocapture", "--test-threads=1"],
                // A directory, memory, Cloud Storage, S3 and Azure.
                &[Wanted { field: "race", figures: 5, judge: raced }],
            )
        }),
        Plan::new(6, None, |_| {
            let cut = telling(
                "the writer of manifests cut at every call: contiguous, each range once, bytes as committed",
                &[("ROUNDS", "1")],
                &["test", "--locked", "--test", "faults", "--", "--nocapture", "--test-threads=1", "manifests_may"],
                // What the journal's thread calls, and what the bucket's does.
                &[Wanted { field: "manifests", figures: 2, judge: manifested }],
            )?;
            let killed = telling(
                "the daemon killed, its answers lost: the Python reader's list equals the API's",
                &[("ROUNDS", "40")],
                &["test", "--locked", "--test", "manifests", "--", "--nocapture", "--test-threads=1"],
                &[Wanted { field: "manifests", figures: 1, judge: manifested }],
            )?;
            Ok(both(cut, killed))
        }),
        Plan::new(7, None, |_| {
            telling(
                "verify finds each kind of damage, and a bucket of 100,000 frames OK with less than 100 MB of memory",
                &[("FRAMES", "100000")],
                &["test", "--locked", "--test", "verify", "--", "--nocapture", "--test-threads=1"],
                &[
                    Wanted { field: "found", figures: DAMAGES, judge: some_fault },
                    Wanted { field: "verify", figures: 2, judge: little_memory },
                ],
            )
        }),
        Plan::new(8, None, |_| {
            telling(
                "24 hours of outage and storm simulated with 10,000 seeds: 0 violations; the seeds replay",
                &[("SEEDS", "10000")],
                &["test", "--locked", "--lib", "delivery::simulation", "--", "--nocapture", "--test-threads=1"],
                &[Wanted { field: "simulation", figures: 1, judge: simulated }],
            )
        }),
    ]
}

/// One of the puts has won each time. Where an emulator lets several win, plain HTTP without our code has to show that.
fn raced(figure: &Value) -> Result<(), String> {
    holds(whole(figure, "puts")? >= 50, "fewer than 50 puts")?;
    let rounds = whole(figure, "rounds")?;
    holds(rounds > 0, "no round")?;
    let several = |winners: &Vec<Value>| winners.iter().any(|winners| winners.as_u64() > Some(1));
    let shown = figure["plain_http_winners"].as_array().is_some_and(several);
    holds(whole(figure, "rounds_with_one_winner")? == rounds || shown, "several puts of one key have won")
}

/// Deleted, swapped, truncated, foreign object, edited manifest, missing journal row, and an object that no list has: each
/// in a directory and on gs://.
const DAMAGES: usize = 2 * 7;

/// What a check of 100,000 frames may take: 100 MB.
fn little_memory(figure: &Value) -> Result<(), String> {
    holds(whole(figure, "frames")? >= 100_000, "fewer than 100,000 frames")?;
    let peak = figure["peak_mib"].as_f64().ok_or("no number `peak_mib`")?;
    holds(peak * 1_048_576.0 < 100e6, "100 MB or more")
}

fn simulated(figure: &Value) -> Result<(), String> {
    some_fault(figure)?;
    holds(whole(figure, "seeds")? >= 10_000, "fewer than 10,000 seeds")?;
    holds(whole(figure, "hours")? >= 24 * whole(figure, "seeds")?, "less than 24 hours each")?;
    holds(whole(figure, "violations")? == 0, "violations")
}

/// The test itself fails at a hole, a seq in two manifests, or other bytes than the journal had.
fn manifested(figure: &Value) -> Result<(), String> {
    some_fault(figure)?;
    holds(whole(figure, "manifests")? > 0, "no manifest")?;
    holds(figure["tried"] == figure["boundaries"], "not every boundary was tried")?;
    holds(figure["unreached"].as_array().is_none_or(Vec::is_empty), "not every call was cut")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_race_with_several_winners_passes_only_where_plain_http_has_them_too() {
        let race = |with_one: u64, plain: Value| json!({ "puts": 50, "rounds": 3, "rounds_with_one_winner": with_one, "plain_http_winners": plain });
        assert_eq!(raced(&race(3, Value::Null)), Ok(()));
        assert!(raced(&race(2, Value::Null)).is_err());
        assert_eq!(raced(&race(2, json!([1, 4, 1]))), Ok(()));
        assert!(raced(&race(2, json!([1, 1, 1]))).is_err());
        assert!(raced(&json!({ "puts": 50, "rounds": 0, "rounds_with_one_winner": 0 })).is_err());
    }

    #[test]
    fn a_check_must_be_of_a_large_bucket_in_little_memory() {
        let check = |frames: u64, peak: f64| json!({ "verify": "gs", "frames": frames, "peak_mib": peak });
        assert_eq!(little_memory(&check(100_000, 95.0)), Ok(()));
        assert!(little_memory(&check(99_999, 95.0)).is_err() && little_memory(&check(100_000, 95.5)).is_err());
        assert!(little_memory(&json!({ "verify": "gs", "frames": 100_000 })).is_err());
    }

    #[test]
    fn manifests_must_have_been_in_danger_and_be_whole() {
        let cut = |faults: u64, unreached: Value| json!({ "manifests": 1, "faults": faults, "unreached": unreached });
        assert_eq!(manifested(&cut(1, json!([]))), Ok(()));
        assert_eq!(manifested(&json!({ "manifests": 1, "faults": 1 })), Ok(()));
        assert!(manifested(&cut(0, json!([]))).is_err() && manifested(&cut(1, json!(["fsync 3"]))).is_err());
        assert!(manifested(&json!({ "manifests": 0, "faults": 1 })).is_err());
        assert!(manifested(&json!({ "manifests": 1, "faults": 1, "tried": 3, "boundaries": 4 })).is_err());
    }

    #[test]
    fn a_simulation_must_be_long_and_without_violations() {
        let day = |seeds: u64, violations: u64| json!({ "faults": 1, "seeds": seeds, "hours": 24 * seeds, "violations": violations });
        assert_eq!(simulated(&day(10_000, 0)), Ok(()));
        assert!(simulated(&day(9_999, 0)).is_err() && simulated(&day(10_000, 1)).is_err());
    }
}
