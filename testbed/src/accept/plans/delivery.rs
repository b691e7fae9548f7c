//! The delivery engine, manifests, verify, and every bucket.

use std::time::Duration;

use serde_json::Value;

use super::{both, holds, some_fault};
use crate::accept::Plan;
use crate::accept::commands::{Wanted, telling, whole};
use crate::scenario::{self, Flips, LostAnswers, Outcome, Refused, Silent, Stage, Storm};

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
        rate_reset: 0.1,
        taken: 20,
        manifest_entries: 1_000,
        seed: SEED,
    };
    let flips = Flips { cameras: 16, fps: 25.0, bytes: 8_000, flips: 1_000, share: 0.01, found: 0.8, seed: SEED };
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
        forbidden: seconds(300),
        wrong_key: seconds(300),
        settles: seconds(2),
        apart: seconds(30),
        flows: seconds(60),
        drains: seconds(60),
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
            let told = telling(
                "conformance of all back ends; of 50 concurrent puts of one key exactly one wins and the others learn it",
                &[],
                &["test", "--locked", "--test", "buckets", "--", "--nocapture", "--test-threads=1"],
                &[
                    Wanted { field: "conformance", figures: BACK_ENDS.len(), judge: |_| Ok(()) },
                    Wanted { field: "race", figures: RACES.len(), judge: raced },
                ],
            )?;
            let told = each_told(told, &BACK_ENDS, conforms);
            Ok(each_told(told, &RACES, |figure, name| figure["backend"] == name))
        }),
        Plan::new(6, None, |_| {
            let cut = telling(
                "the writer of manifests cut at every call: contiguous, each range once, bytes as committed",
                &[("ROUNDS", "1")],
                &["test", "--locked", "--test", "faults", "--", "--nocapture", "--test-threads=1", "manifests_may"],
                // What the journal's thread calls, and what the bucket's does.
                &[Wanted { field: "manifests", figures: 2, judge: cut_everywhere }],
            )?;
            let cut = each_told(cut, &["journal", "bucket"], |figure, thread| figure["of"] == thread);
            let killed = telling(
                "the daemon killed, its answers lost: the Python reader's list equals the API's",
                &[("ROUNDS", "40")],
                &["test", "--locked", "--test", "manifests", "--", "--nocapture", "--test-threads=1"],
                &[Wanted { field: "manifests", figures: 1, judge: manifested }],
            )?;
            Ok(both(cut, killed))
        }),
        Plan::new(7, None, |_| {
            let told = telling(
                "verify finds each kind of damage, and a bucket of 100,000 frames OK with less than 100 MB of memory",
                &[("FRAMES", "100000")],
                &["test", "--locked", "--test", "verify", "--", "--nocapture", "--test-threads=1"],
                &[
                    Wanted { field: "found", figures: 2 * DAMAGES.len(), judge: some_fault },
                    Wanted { field: "verify", figures: 2, judge: little_memory },
                ],
            )?;
            let of = |bucket: &'static str| {
                move |figure: &Value, damage: &str| figure["found"] == damage && figure["bucket"] == bucket
            };
            Ok(each_told(each_told(told, &DAMAGES, of("Directory")), &DAMAGES, of("Gcs")))
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

/// The back ends that must conform, by how their objects' addresses begin.
const BACK_ENDS: [&str; 5] = ["file://", "memory://", "gs://", "s3://", "az://"];

fn conforms(figure: &Value, back_end: &str) -> bool {
    figure["conformance"].as_str().is_some_and(|url| url.starts_with(back_end))
}

/// Where puts race: the last one as it comes, which is not atomic.
const RACES: [&str; 6] = ["file", "memory", "testbed gcs", "azurite", "moto, one request at a time", "moto"];

/// Each of these must have been told of: so many figures may be of the same one.
fn each_told(mut told: Outcome, names: &[&str], is_of: impl Fn(&Value, &str) -> bool) -> Outcome {
    for name in names {
        if !told.figure.as_array().is_some_and(|figures| figures.iter().any(|figure| is_of(figure, name))) {
            told.problems.push(format!("nothing was told of `{name}`"));
            told.pass = false;
        }
    }
    told
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

/// What verify must find, each in a directory and on gs://.
const DAMAGES: [&str; 7] = ["deleted", "swapped", "truncated", "foreign", "unlisted", "edited manifest", "missing row"];

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
    holds(whole(figure, "replayed")? >= 100, "fewer than 100 seeds were run twice")?;
    holds(whole(figure, "violations")? == 0, "violations")
}

/// The test itself fails at a hole, a seq in two manifests, or other bytes than the journal had.
fn manifested(figure: &Value) -> Result<(), String> {
    some_fault(figure)?;
    holds(whole(figure, "manifests")? > 0, "no manifest")
}

/// The same where the writer was cut at each of its calls.
fn cut_everywhere(figure: &Value) -> Result<(), String> {
    manifested(figure)?;
    holds(whole(figure, "tried")? == whole(figure, "boundaries")?, "not every boundary was tried")?;
    holds(figure["unreached"].as_array().is_some_and(Vec::is_empty), "not every call was cut")
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
        assert_eq!(manifested(&json!({ "manifests": 1, "faults": 1 })), Ok(()));
        assert!(manifested(&json!({ "manifests": 0, "faults": 1 })).is_err());
        assert!(manifested(&json!({ "manifests": 1, "faults": 0 })).is_err());
        let cut = |tried: u64, unreached: Value| json!({ "manifests": 1, "faults": 1, "tried": tried, "boundaries": 4, "unreached": unreached });
        assert_eq!(cut_everywhere(&cut(4, json!([]))), Ok(()));
        for short in [cut(3, json!([])), cut(4, json!(["fsync 3"])), cut(4, Value::Null)] {
            assert!(cut_everywhere(&short).is_err(), "{short}");
        }
        assert!(cut_everywhere(&json!({ "manifests": 1, "faults": 1, "unreached": [] })).is_err());
    }

    #[test]
    fn what_nothing_was_told_of_is_named() {
        let told = |figures: Value| {
            let told = Outcome { bound: String::new(), figure: figures, faults: 0, pass: true, problems: Vec::new() };
            each_told(told, &BACK_ENDS, conforms)
        };
        let of = |kinds: &[&str]| json!(kinds.iter().map(|kind| json!({"conformance": kind})).collect::<Vec<_>>());
        let all = told(of(&["file:///tmp/a/", "gs://a/", "memory:///", "az://b/", "s3://c/"]));
        assert!(all.pass && all.problems.is_empty(), "{all:?}");
        // As many figures, and one of them twice.
        let some = told(of(&["file:///tmp/a/", "gs://a/", "memory:///", "gs://b/", "s3://c/"]));
        assert!(!some.pass);
        assert_eq!(some.problems, ["nothing was told of `az://`"]);
    }

    #[test]
    fn a_simulation_must_be_long_and_without_violations() {
        let days = |seeds: u64, hours: u64, replayed: u64, violations: u64| {
            let of =
                json!({ "faults": 1, "seeds": seeds, "hours": hours, "replayed": replayed, "violations": violations });
            simulated(&of)
        };
        assert_eq!(days(10_000, 240_000, 100, 0), Ok(()));
        for short in [
            days(9_999, 240_000, 100, 0),
            days(10_000, 239_999, 100, 0),
            days(10_000, 240_000, 99, 0),
            days(10_000, 240_000, 100, 1),
        ] {
            assert!(short.is_err());
        }
    }
}
