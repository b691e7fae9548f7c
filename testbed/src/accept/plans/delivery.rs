//! The delivery engine, manifests, verify, and every bucket.

use std::time::Duration;

use anyhow::bail;
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
        probes: 1,
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
        Plan::new(5, None, |_| to_come("conformance of all back ends, and 50 concurrent puts of one key")),
        Plan::new(6, None, |_| to_come("a crash at every step of the manifest writer, and the Python reader")),
        Plan::new(7, None, |_| {
            telling(
                "verify finds each kind of damage, and a bucket of 100,000 frames OK with less than 100 MB of memory",
                &[("FRAMES", "100000")],
                &["test", "--locked", "--test", "verify", "--", "--nocapture", "--test-threads=1"],
                &[
                    // Each in a directory and on gs://.
                    Wanted { field: "found", figures: DAMAGES, judge: some_fault },
                    Wanted { field: "verify", figures: 2, judge: little_memory },
                ],
            )
        }),
        Plan::new(8, None, |_| to_come("24 hours of outage and storm simulated with 10,000 seeds")),
    ]
}

/// Deleted, swapped, truncated, foreign object, edited manifest, missing journal row; and those that nobody asked for.
const DAMAGES: usize = 2 * 7;

/// What a check of 100,000 frames may take.
fn little_memory(figure: &Value) -> Result<(), String> {
    holds(whole(figure, "frames")? >= 100_000, "fewer than 100,000 frames")?;
    let peak = figure["peak_mib"].as_f64().ok_or("no number `peak_mib`")?;
    // 100 MB.
    holds(peak * 1_048_576.0 < 100e6, "too much memory")
}

/// A line that nothing shows yet: it fails, and so does the whole.
fn to_come(what: &str) -> anyhow::Result<Outcome> {
    bail!("nothing shows this yet: {what}")
}
