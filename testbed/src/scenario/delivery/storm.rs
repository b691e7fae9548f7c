//! A bucket that refuses half of what it is asked: it is asked much less, nobody comes back at the same moment as all
//! the others, and nothing is lost.

use std::time::{Duration, Instant};

use serde_json::json;

use super::super::spool::{Watch, kept_up, round};
use super::super::stage::{add_synthetic, bucket, counter, examine};
use super::super::{Outcome, Problems, Stage};
use super::{Captured, per_s, synthetic};
use crate::gcs::{Arrival, Knobs};

/// The width of the bins in which retries are counted.
const BIN: Duration = Duration::from_millis(100);

/// So long each the rate is looked at.
const STEP: Duration = Duration::from_secs(5);

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Storm {
    /// How many cameras.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: f64,
    /// Bytes of each.
    pub bytes: usize,
    /// The bucket's latency, milliseconds.
    pub latency_ms: u64,
    /// Share of calls that are answered with 429.
    pub rate_429: f64,
    /// Share of calls that are answered with 503.
    pub rate_503: f64,
    /// The longest `Retry-After`, seconds; each is drawn from 1 to it.
    pub retry_after_s: u32,
    /// How long is measured before.
    pub calm: Duration,
    /// How long it storms.
    pub lasts: Duration,
    /// By when the rate of calls must have fallen, and to which share of that before.
    pub within: Duration,
    /// See `within`.
    pub falls_to: f64,
    /// The largest share of all retries that may come in one bin.
    pub bin_share: f64,
    /// How soon after the storm its last frame must be stored.
    pub recovers: Duration,
    /// Decides which calls fail.
    pub seed: u64,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn storm(stage: &Stage, plan: &Storm) -> anyhow::Result<Outcome> {
    let calm = Knobs { latency_ms: plan.latency_ms, seed: plan.seed, ..Knobs::default() };
    let (gcs, storage) = bucket(stage, calm.clone())?;
    let daemon = stage.daemon(&storage, &stage.synthetic()?)?;
    let ids = add_synthetic(&daemon, &synthetic("cam", plan.cameras, plan.fps, plan.bytes))?;
    let (mut problems, mut watch) = (Problems::default(), Watch::default());
    let each = plan.cameras as u64;
    watch.until(&daemon, Duration::from_secs(60), &mut problems, |totals| totals.stored > 5 * each)?;

    gcs.log_arrivals();
    let calm_from = Instant::now();
    watch.during(&daemon, plan.calm, &mut problems)?;
    let before = gcs.stats().injected;
    let start = watch.look(&daemon, &mut problems)?;
    let begun = Instant::now();
    gcs.change_knobs(|knobs| {
        (knobs.rate_429, knobs.rate_503) = (plan.rate_429, plan.rate_503);
        (knobs.retry_after_s, knobs.retry_after_max_s) = (Some(1), Some(plan.retry_after_s));
    })?;
    let end = watch.during(&daemon, plan.lasts, &mut problems)?;
    let over = Instant::now();
    gcs.change_knobs(|knobs| *knobs = calm)?;
    let injected = gcs.stats().injected;
    kept_up(
        &mut problems,
        "during the storm",
        end.captured - start.captured,
        plan.cameras,
        plan.fps,
        (over - begun).as_secs_f64(),
    );
    let recovered = Captured::now(&daemon, &ids)?.until_settled(&daemon, plan.recovers, &mut watch, &mut problems);
    let settled = Instant::now();
    let recovered_s = (settled - over).as_secs_f64();
    problems
        .check(recovered.is_ok(), || format!("{:?} after the storm not all of its frames are stored", plan.recovers));
    daemon.quiesce(Duration::from_secs(120)).map_err(|error| daemon.explain(error))?;
    let probes = counter(&daemon, "framehaul_destination_probes_total", &[])?;
    // The oracle's own reading is not what is tested.
    gcs.change_knobs(|knobs| *knobs = Knobs::default())?;

    let arrivals = gcs.arrivals();
    let rate_before = per_s(&arrivals, calm_from, begun);
    let rate_after = per_s(&arrivals, begun + plan.within, over);
    problems.check(rate_after <= plan.falls_to * rate_before, || {
        format!("{rate_after:.1} calls a second after {:?} of the storm, {rate_before:.1} before it", plan.within)
    });
    // Wherever it happens to stand: a rate that falls late, or comes back, is not down.
    let steps = (over - begun).saturating_sub(plan.within).div_duration_f64(STEP) as u32;
    for step in 0..steps {
        let from = begun + plan.within + step * STEP;
        let rate = per_s(&arrivals, from, from + STEP);
        problems.check(rate <= plan.falls_to * rate_before, || {
            format!("{rate:.1} calls a second {:?} into the storm, {rate_before:.1} before it", from - begun)
        });
    }
    let told = arrivals.iter().filter(|one| one.not_before.is_some()).count();
    let early: Vec<Duration> = arrivals.iter().map(Arrival::early).filter(|early| !early.is_zero()).collect();
    // Should chance make it look down, with not one answer in a second, a probe takes the frame that has waited longest.
    problems.check(told > 0 && early.len() as u64 <= probes, || {
        format!(
            "{} of {told} calls that were told to wait came too soon, {:?} at most",
            early.len(),
            early.iter().max()
        )
    });
    // To the backlog's end: those that are told to wait, or have failed often, come after the storm.
    let retries = bins(&arrivals, begun, settled);
    let (all, most) = (retries.iter().sum::<u64>(), retries.iter().copied().max().unwrap_or(0));
    // One by itself is no crowd, however few there are.
    let allowed = ((plan.bin_share * all as f64) as u64).max(1);
    problems.check(most <= allowed, || format!("{most} of {all} retries came in the same {BIN:?}, {allowed} may"));
    problems.check(all > 0, || "there were no retries".to_owned());
    let mut stored = 0;
    for id in &ids {
        let (verdict, _) = examine(&daemon, &storage, id, &mut problems)?;
        stored += verdict.frames;
        problems.check(verdict.tombstoned == 0, || format!("camera {id}: {} lost", verdict.tombstoned));
        problems.check(verdict.sessions == 1, || format!("camera {id}: {} sessions", verdict.sessions));
    }
    let (answers_429, answers_503) = (injected.status_429 - before.status_429, injected.status_503 - before.status_503);
    problems.check(answers_429 > 0 && answers_503 > 0, || format!("{answers_429} answers 429, {answers_503} 503"));
    let by_second: Vec<u64> = (0..plan.lasts.as_secs())
        .map(|second| {
            let from = begun + Duration::from_secs(second);
            per_s(&arrivals, from, from + Duration::from_secs(1)) as u64
        })
        .collect();
    let bound = format!(
        "{} cameras at {} fps, then {:?} of {} % 429 and {} % 503 with a Retry-After of 1 to {} s: after {:?} at most {} of the \
         calls a second of before in all and in each {STEP:?}, no call before its Retry-After, no 100 ms with more than {} % of \
         the retries until all are stored, {:?} after it, 0 lost",
        plan.cameras,
        plan.fps,
        plan.lasts,
        100.0 * plan.rate_429,
        100.0 * plan.rate_503,
        plan.retry_after_s,
        plan.within,
        plan.falls_to,
        100.0 * plan.bin_share,
        plan.recovers
    );
    let figure = json!({
        "calls_per_s_before": round(rate_before),
        "calls_per_s_after_it_fell": round(rate_after),
        "calls_in_each_second_of_the_storm": by_second,
        "retries": all,
        "most_retries_in_100_ms": most,
        "most_retries_in_100_ms_after_it": bins(&arrivals, over, settled).into_iter().max().unwrap_or(0),
        "calls_told_to_wait": told,
        "probes": probes,
        "answers_429": answers_429,
        "answers_503": answers_503,
        "in_flight_at_its_end": end.in_flight,
        "recovered_after_s": round(recovered_s),
        "stored": stored,
        "lost": end.lost,
        "looks_at_the_accounts": watch.looks,
    });
    Ok(problems.outcome(bound, figure, answers_429 + answers_503))
}

/// Uploads that came again from one moment to another, counted in bins.
fn bins(arrivals: &[Arrival], from: Instant, to: Instant) -> Vec<u64> {
    let mut bins = vec![0; (to - from).div_duration_f64(BIN).ceil() as usize];
    for arrival in arrivals.iter().filter(|one| one.upload && one.again && (from..to).contains(&one.at)) {
        bins[((arrival.at - from).as_nanos() / BIN.as_nanos()) as usize] += 1;
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_counted_where_they_come() {
        let from = Instant::now();
        let at =
            |ms: u64, upload, again| Arrival { at: from + Duration::from_millis(ms), upload, again, not_before: None };
        let log =
            [at(0, true, true), at(99, true, true), at(100, true, true), at(150, true, false), at(160, false, true)];
        assert_eq!(bins(&log, from, from + Duration::from_millis(250)), [2, 1, 0]);
        assert_eq!(bins(&log, from + Duration::from_millis(99), from + Duration::from_millis(100)), [1]);
        assert_eq!(per_s(&log, from, from + Duration::from_millis(200)), 25.0);
    }
}
