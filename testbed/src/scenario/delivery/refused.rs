//! Credentials that are refused for long: the bucket is asked hardly ever, nothing is lost, and all flows again soon
//! after they are right.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;

use super::super::spool::{Watch, kept_up, round};
use super::super::stage::{BUCKET, add_synthetic, bucket, examine};
use super::super::{Outcome, Problems, Stage};
use super::{Captured, per_s, synthetic};
use crate::daemon::{Credentials, Storage, wait};
use crate::gcs::{Arrival, GcsServer, Knobs, Options};

/// Calls this close together are one attempt: one that is refused for its token is repeated at once with a new one.
const ONE_ATTEMPT: Duration = Duration::from_secs(1);
/// How many they may be.
const CALLS: usize = 2;

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Refused {
    /// How many cameras.
    pub cameras: usize,
    /// Frames a second of each.
    pub fps: f64,
    /// Bytes of each.
    pub bytes: usize,
    /// How long the account may not write: every call is answered 403.
    pub forbidden: Duration,
    /// How long its key file then is that of another account, and no token counts that was made before.
    pub wrong_key: Duration,
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
    let (gcs, _) = bucket(stage, Knobs { latency_ms: 20, require_auth: true, ..Knobs::default() })?;
    let (right, wrong) = (gcs.service_account_key(), GcsServer::start(Options::default())?.service_account_key());
    let key_file = stage.dir().join("key.json");
    put_key(&key_file, &right)?;
    let credentials = Credentials::KeyFile(key_file.clone());
    let storage = Storage::Gcs { endpoint: gcs.endpoint(), bucket: BUCKET.to_owned(), credentials };
    let daemon = stage.daemon(&storage, &stage.synthetic()?)?;
    let ids = add_synthetic(&daemon, &synthetic("cam", plan.cameras, plan.fps, plan.bytes))?;
    let (mut problems, mut watch) = (Problems::default(), Watch::default());
    let each = plan.cameras as u64;
    let start = watch.until(&daemon, Duration::from_secs(60), &mut problems, |totals| totals.stored > 5 * each)?;
    let calm = gcs.stats().requests.total();

    gcs.log_arrivals();
    let begun = Instant::now();
    gcs.change_knobs(|knobs| knobs.refuse_status = Some(403))?;
    watch.during(&daemon, plan.forbidden, &mut problems)?;
    problems.check(daemon.get("/livez").is_ok(), || "not alive while the bucket answers 403".to_owned());
    put_key(&key_file, &wrong)?;
    gcs.expire_tokens();
    let replaced = Instant::now();
    gcs.change_knobs(|knobs| knobs.refuse_status = None)?;
    watch.during(&daemon, plan.wrong_key, &mut problems)?;
    problems.check(daemon.get("/livez").is_ok(), || "not alive while the key is wrong".to_owned());
    let over = Instant::now();
    let away = watch.look(&daemon, &mut problems)?;
    put_key(&key_file, &right)?;
    let in_outage = (over - begun).as_secs_f64();
    kept_up(&mut problems, "meanwhile", away.captured - start.captured, plan.cameras, plan.fps, in_outage);
    let stats = gcs.stats();
    let (forbidden, unknown) = (stats.injected.refused, stats.auth.refused_expired + stats.auth.refused_invalid);
    problems.check(forbidden > 0 && stats.auth.refused_invalid > 0, || {
        format!("{forbidden} calls were answered 403, {} had a token of the wrong key", stats.auth.refused_invalid)
    });
    problems.check(stats.auth.refused_missing == 0, || "a call had no token at all".to_owned());

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
    let left = plan.drains.saturating_sub(over.elapsed());
    let drained = captured.until_settled(&daemon, left, &mut watch, &mut problems);
    let drained_after = over.elapsed().as_secs_f64();
    problems.check(drained.is_ok(), || format!("{:?} later the backlog is not gone", plan.drains));
    daemon.quiesce(Duration::from_secs(120)).map_err(|error| daemon.explain(error))?;
    // The oracle's own reading is not what is tested.
    gcs.change_knobs(|knobs| *knobs = Knobs::default())?;

    let arrivals = gcs.arrivals();
    let pause = begun + plan.settles;
    let attempts = attempts(&arrivals, pause, over);
    let closest = attempts.windows(2).map(|two| two[1].begun - two[0].begun).min();
    problems.check(closest.is_none_or(|closest| closest >= plan.apart), || {
        format!("two attempts are only {closest:?} apart, of {} in the pause", attempts.len())
    });
    // One that may not write is told so once; one whose token is refused has another one made, and tries that.
    let often = attempts.iter().find(|one| one.calls > if one.begun < replaced { 1 } else { CALLS });
    problems.check(often.is_none(), || format!("an attempt in the pause made too many calls: {often:?}"));
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
        "an account that may not write for {:?}, then another one's key for {:?}: {:?} later it pauses, with at most one attempt in \
         {:?}, of one call or of two where the token is refused; 0 lost; with the right key every camera's frames are stored \
         again within {:?}, and the backlog is within {:?}",
        plan.forbidden, plan.wrong_key, plan.settles, plan.apart, plan.flows, plan.drains
    );
    let figure = json!({
        "answers_403": forbidden,
        "tokens_refused": unknown,
        "attempts_in_the_pause": attempts.len(),
        "calls_in_the_pause": attempts.iter().map(|one| one.calls).sum::<usize>(),
        "closest_attempts_s": closest.map(|closest| (closest.as_secs_f64() * 1e3).round() / 1e3),
        "calls_per_s_in_the_pause": (1e3 * per_s(&arrivals, pause, over)).round() / 1e3,
        "calls_before": calm,
        "backlog": away.in_flight,
        "every_camera_flows_after_s": round(flows_after),
        "backlog_gone_after_s": round(drained_after),
        "stored": stored,
        "looks_at_the_accounts": watch.looks,
    });
    Ok(problems.outcome(bound, figure, forbidden + unknown))
}

/// Puts a key in place, at once: nobody reads half of it.
fn put_key(file: &Path, key: &str) -> anyhow::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, key).and_then(|()| fs::rename(&new, file)).context("cannot write the key file")
}

/// An attempt, by its first call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attempt {
    begun: Instant,
    calls: usize,
}

/// The attempts from one moment to another.
fn attempts(arrivals: &[Arrival], from: Instant, to: Instant) -> Vec<Attempt> {
    let mut seen: Vec<Attempt> = Vec::new();
    for arrival in arrivals.iter().filter(|arrival| (from..to).contains(&arrival.at)) {
        match seen.last_mut() {
            Some(last) if arrival.at - last.begun < ONE_ATTEMPT => last.calls += 1,
            _ => seen.push(Attempt { begun: arrival.at, calls: 1 }),
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_close_together_are_one_attempt() {
        let from = Instant::now();
        let at =
            |ms: u64| Arrival { at: from + Duration::from_millis(ms), upload: true, again: true, not_before: None };
        let log = [at(0), at(2_000), at(2_900), at(3_100), at(40_000)];
        let seen = attempts(&log, from + Duration::from_millis(1), from + Duration::from_secs(60));
        let attempt = |ms, calls| Attempt { begun: at(ms).at, calls };
        assert_eq!(seen, [attempt(2_000, 2), attempt(3_100, 1), attempt(40_000, 1)]);
    }
}
