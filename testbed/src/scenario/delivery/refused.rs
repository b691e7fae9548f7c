//! Credentials that are refused for long: the bucket is asked hardly ever, nothing is lost, and all flows again soon
//! after they are right.

use std::time::{Duration, Instant};

use serde_json::json;

use super::super::spool::{Watch, kept_up, round};
use super::super::stage::{add_synthetic, bucket, examine};
use super::super::{Outcome, Problems, Stage};
use super::{Captured, per_s, synthetic};
use crate::daemon::wait;
use crate::gcs::{Arrival, Knobs};

/// Calls this close together are one attempt: one that is refused for its token is repeated at once with a new one, and
/// one that finds an object asks what it is.
const ONE_ATTEMPT: Duration = Duration::from_secs(1);

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Refused {
    /// How many cameras.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: f64,
    /// Bytes of each.
    pub bytes: usize,
    /// How every call is answered, one after the other, each for its part of the time.
    pub statuses: &'static [u16],
    /// How long in all.
    pub lasts: Duration,
    /// How long what is on its way may still arrive.
    pub settles: Duration,
    /// Between two attempts after that, at the least.
    pub apart: Duration,
    /// How soon every camera's frames must be stored again.
    pub flows: Duration,
    /// How soon the last frame of that time must be stored.
    pub drains: Duration,
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn refused(stage: &Stage, plan: &Refused) -> anyhow::Result<Outcome> {
    let (gcs, storage) = bucket(stage, Knobs { latency_ms: 20, ..Knobs::default() })?;
    let daemon = stage.daemon(&storage, &stage.synthetic()?)?;
    let ids = add_synthetic(&daemon, &synthetic("cam", plan.cameras, plan.fps, plan.bytes))?;
    let (mut problems, mut watch) = (Problems::default(), Watch::default());
    let each = plan.cameras as u64;
    let start = watch.until(&daemon, Duration::from_secs(60), &mut problems, |totals| totals.stored > 5 * each)?;
    let calm = gcs.stats().requests.total();

    gcs.log_arrivals();
    let begun = Instant::now();
    for status in plan.statuses {
        gcs.change_knobs(|knobs| knobs.refuse_status = Some(*status))?;
        watch.during(&daemon, plan.lasts / plan.statuses.len() as u32, &mut problems)?;
        problems.check(daemon.get("/livez").is_ok(), || format!("not alive while the bucket answers {status}"));
    }
    let over = Instant::now();
    let away = watch.look(&daemon, &mut problems)?;
    gcs.change_knobs(|knobs| knobs.refuse_status = None)?;
    let in_outage = (over - begun).as_secs_f64();
    kept_up(&mut problems, "meanwhile", away.captured - start.captured, plan.cameras, plan.fps, in_outage);
    let refusals = gcs.stats().injected.refused;

    let (stored_before, captured) = (daemon.statuses()?, Captured::now(&daemon, &ids)?);
    let flows = wait(plan.flows, || {
        watch.look(&daemon, &mut problems)?;
        let now = daemon.statuses()?;
        let all = stored_before.iter().all(|(id, before)| {
            now.iter().any(|(other, status)| other == id && status.totals.stored > before.totals.stored)
        });
        Ok(all.then_some(()))
    });
    let flows_after = over.elapsed().as_secs_f64();
    problems.check(flows.is_ok(), || format!("{:?} later some camera has no frame stored", plan.flows));
    let drained = captured.until_settled(&daemon, plan.drains, &mut watch, &mut problems);
    let drained_after = over.elapsed().as_secs_f64();
    problems.check(drained.is_ok(), || format!("{:?} later the backlog is not gone", plan.drains));
    daemon.quiesce(Duration::from_secs(120)).map_err(|error| daemon.explain(error))?;
    // The oracle's own reading is not what is tested.
    gcs.change_knobs(|knobs| *knobs = Knobs::default())?;

    let arrivals = gcs.arrivals();
    let pause = begun + plan.settles;
    let attempts = attempts(&arrivals, pause, over);
    let closest = attempts.windows(2).map(|two| two[1] - two[0]).min();
    problems.check(closest.is_none_or(|closest| closest >= plan.apart), || {
        format!("two attempts are only {closest:?} apart, of {} in the pause", attempts.len())
    });
    let least = ((over - pause).as_secs_f64() / (2.0 * plan.apart.as_secs_f64())) as usize;
    problems.check(attempts.len() >= least, || format!("only {} attempts in the pause", attempts.len()));
    let mut stored = 0;
    for id in &ids {
        let (verdict, _) = examine(&daemon, &storage, id, &mut problems)?;
        stored += verdict.frames;
        problems.check(verdict.tombstoned == 0, || format!("camera {id}: {} lost", verdict.tombstoned));
        problems.check(verdict.sessions == 1, || format!("camera {id}: {} sessions", verdict.sessions));
    }
    let bound = format!(
        "credentials refused ({:?}) for {:?}: once it pauses at most one attempt in {:?}, 0 lost, every camera's frames are \
         stored again within {:?}",
        plan.statuses, plan.lasts, plan.apart, plan.flows
    );
    let figure = json!({
        "refusals": refusals,
        "attempts_in_the_pause": attempts.len(),
        "closest_attempts_s": closest.map(|closest| round(closest.as_secs_f64())),
        "calls_per_s_in_the_pause": (1e3 * per_s(&arrivals, pause, over)).round() / 1e3,
        "calls_before": calm,
        "backlog": away.in_flight,
        "every_camera_flows_after_s": round(flows_after),
        "backlog_gone_after_s": round(drained_after),
        "stored": stored,
        "looks_at_the_accounts": watch.looks,
    });
    Ok(problems.outcome(bound, figure, refusals))
}

/// When attempts began from one moment to another.
fn attempts(arrivals: &[Arrival], from: Instant, to: Instant) -> Vec<Instant> {
    let mut begun: Vec<Instant> = Vec::new();
    for arrival in arrivals.iter().filter(|arrival| (from..to).contains(&arrival.at)) {
        if begun.last().is_none_or(|last| arrival.at - *last >= ONE_ATTEMPT) {
            begun.push(arrival.at);
        }
    }
    begun
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_close_together_are_one_attempt() {
        let from = Instant::now();
        let at = |ms: u64| Arrival { at: from + Duration::from_millis(ms), upload: true, again: true };
        let log = [at(0), at(2_000), at(2_900), at(3_100), at(40_000)];
        let seen = attempts(&log, from + Duration::from_millis(1), from + Duration::from_secs(60));
        assert_eq!(seen, [at(2_000).at, at(3_100).at, at(40_000).at]);
    }
}
