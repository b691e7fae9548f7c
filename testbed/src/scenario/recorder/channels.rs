//! The channels of a recorder as cameras: there by one request, away and back with it, and others when it has others.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::place::{PASSWORD, channels};
use super::running::PATIENCE;
use crate::contest::round;
use crate::daemon::{Daemon, Storage, Totals, wait};
use crate::mark::Mark;
use crate::nvr::{Channel, Knobs, NvrServer, Options};
use crate::oracle::{Entry, Fetcher, decode};
use crate::scenario::stage::counter_in;
use crate::scenario::{Outcome, Problems, Stage};

/// What the recorder is called.
const ID: &str = "hall";
/// How often metrics are looked at while it is away.
const EVERY: Duration = Duration::from_secs(1);

/// A recorder whose channels are cameras.
#[derive(Debug, Clone)]
pub struct LiveChannels {
    /// So many, and one more that comes later.
    pub channels: u16,
    /// How long the recorder is off.
    pub off: Duration,
    /// How long the cameras may take until all of them stream again.
    pub back: Duration,
    /// How far apart two attempts to reach it have to be, at least.
    pub apart: Duration,
    /// How long after it went its cameras may still count as down, one by one.
    pub settles: Duration,
    /// How long a channel that comes or goes may take.
    pub follow: Duration,
}

/// Puts a recorder, switches it off and on, and changes its channels.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn live_channels(stage: &Stage, plan: &LiveChannels) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    let all = vec![6; usize::from(plan.channels) + 1];
    let channels = channels(&all, &Channel { pictures: 50, ..Channel::default() });
    let knobs = Knobs { gone: vec![u32::from(plan.channels) + 1], ..Knobs::default() };
    let recorder = NvrServer::start(Options { channels, knobs, ..Options::default() })?;
    let mut daemon = stage.daemon(&Storage::Directory, "")?;

    let begun = Instant::now();
    let spec = json!({ "url": recorder.endpoint(), "user": "admin", "password": PASSWORD, "sampling": { "fps": 1 } });
    let (status, answer) = daemon.call(Method::PUT, &format!("/api/v1/nvrs/{ID}"), Some(&spec))?;
    if status != StatusCode::CREATED {
        bail!("the recorder is refused: {status}: {answer}");
    }
    let first: Vec<u16> = (1..=plan.channels).collect();
    until_only(&daemon, &first, &BTreeMap::new())?;
    let there = begun.elapsed();
    for channel in &first {
        daemon.wait_for(&camera(*channel), PATIENCE, |status| status.totals.stored >= 2)?;
    }
    let shown = show_their_own(&daemon, &first, &mut problems)?;

    let away = away(&daemon, &recorder, plan, &first, &mut problems)?;

    // One comes and one goes, both at once.
    let before = captured(&daemon)?;
    let begun = Instant::now();
    recorder.change_knobs(|knobs| knobs.gone = vec![1])?;
    let then: Vec<u16> = (2..=plan.channels + 1).collect();
    until_only(&daemon, &then, &before).context("its cameras do not follow")?;
    let followed = begun.elapsed();
    problems.check(followed <= plan.follow, || format!("a channel that came and one that went took {followed:?}"));
    let new = plan.channels + 1;
    daemon.wait_for(&camera(new), PATIENCE, |status| status.totals.stored >= 2)?;
    show_their_own(&daemon, &[new], &mut problems)?;

    let (status, answer) = daemon.call(Method::DELETE, &format!("/api/v1/nvrs/{ID}"), None)?;
    problems.check(status == StatusCode::NO_CONTENT, || format!("it cannot be removed: {status}: {answer}"));
    daemon.quiesce(PATIENCE)?;
    let statuses = daemon.statuses()?;
    problems.check(statuses.iter().all(|(_, status)| status.totals.add_up()), || format!("accounts: {statuses:?}"));
    daemon.stop()?;
    let bound = format!(
        "{} channels are cameras by one PUT and stream, each its own; off for {:?}: one fault, no two attempts within {:?}, \
         all back within {:?}; a channel that comes and one that goes within {:?}",
        plan.channels, plan.off, plan.apart, plan.back, plan.follow
    );
    let figure = json!({
        "cameras_by_one_put": first.len(),
        "streaming_after_s": round(there.as_secs_f64()),
        "show_their_own_channel": shown,
        "away": away,
        "followed_within_s": round(followed.as_secs_f64()),
    });
    // It was switched off once, and two channels changed.
    Ok(problems.outcome(bound, figure, 3))
}

/// Switches the recorder off and on again.
fn away(
    daemon: &Daemon,
    recorder: &NvrServer,
    plan: &LiveChannels,
    all: &[u16],
    problems: &mut Problems,
) -> anyhow::Result<Value> {
    let logged = daemon.log_text().len();
    recorder.change_knobs(|knobs| knobs.off = true)?;
    let went = Instant::now();
    let (mut most_alarms, mut faults) = (0, 0);
    while went.elapsed() < plan.off {
        std::thread::sleep(EVERY.min(plan.off.saturating_sub(went.elapsed())));
        if went.elapsed() > plan.settles {
            let alarms = Alarms::read(daemon)?;
            most_alarms = most_alarms.max(alarms.cameras);
            faults = faults.max(alarms.recorders);
        }
    }
    let statuses = daemon.statuses()?;
    let down = statuses.iter().filter(|(_, status)| status.state == "nvr_down").count();
    let status: Value = serde_json::from_str(&daemon.get(&format!("/api/v1/nvrs/{ID}/status"))?)?;
    let attempts = recorder.hung_up();
    let log = daemon.log_text();
    let told: Vec<&str> =
        log[logged..].lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();

    let before = captured(daemon)?;
    recorder.change_knobs(|knobs| knobs.off = false)?;
    let came = Instant::now();
    until_only(daemon, all, &before).context("its cameras do not come back")?;
    let back = came.elapsed();

    problems.check(back <= plan.back, || format!("all were back after {back:?}"));
    problems.check(status["state"] == "unreachable" && down == all.len(), || {
        format!("it was {}, and {down} of its cameras waited for it", status["state"])
    });
    problems.check(faults == 1 && most_alarms == 0, || {
        format!("{faults} recorders and {most_alarms} cameras counted as down")
    });
    problems.check(told.len() == 1 && told[0].contains("the recorder is away"), || {
        format!("{} warnings and errors: {}", told.len(), told.join(" | "))
    });
    let closest = attempts.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or_default();
    // One that never tries would not be back.
    let (least, most) = (plan.off.as_secs() / 10, plan.off.as_secs() + 1);
    problems.check((least..=most).contains(&(attempts.len() as u64)), || format!("{} attempts", attempts.len()));
    problems.check(closest >= plan.apart, || {
        let apart = |at: &Instant| round((*at - went).as_secs_f64());
        let early: Vec<f64> = attempts.iter().take(10).map(apart).collect();
        format!("two attempts within {closest:?}; the first ones after {early:?} s")
    });
    Ok(json!({
        "off_s": plan.off.as_secs(),
        "attempts": attempts.len(),
        "closest_attempts_s": round(closest.as_secs_f64()),
        "recorders_down": faults,
        "cameras_down": most_alarms,
        "warnings_and_errors": told.len(),
        "back_within_s": round(back.as_secs_f64()),
    }))
}

/// Who counts as down, as the alerts count it.
struct Alarms {
    recorders: usize,
    cameras: usize,
}

impl Alarms {
    fn read(daemon: &Daemon) -> anyhow::Result<Self> {
        let metrics = daemon.get("/metrics")?;
        let ids = metrics.lines().filter_map(|line| {
            line.strip_prefix("framehaul_camera_up{camera=\"")?.split_once("\"}").map(|(id, _)| id.to_owned())
        });
        let mut cameras = 0;
        for id in ids {
            let label = format!("camera=\"{id}\"");
            let of = |name| counter_in(&metrics, name, &[&label]);
            cameras += usize::from(of("framehaul_camera_up")? == 0 && of("framehaul_camera_wanted")? == 1);
        }
        let is_down = |line: &&str| line.starts_with("framehaul_nvr_up{") && line.ends_with(" 0");
        Ok(Self { recorders: metrics.lines().filter(is_down).count(), cameras })
    }
}

/// The camera of a channel.
fn camera(channel: u16) -> String {
    format!("{ID}-ch{channel:02}")
}

/// How many frames each camera has captured.
fn captured(daemon: &Daemon) -> anyhow::Result<BTreeMap<String, u64>> {
    Ok(daemon.statuses()?.into_iter().map(|(id, status)| (id, status.totals.captured)).collect())
}

/// Waits until there are cameras of these channels and no others, and all of them stream and have captured more than
/// `before`.
fn until_only(daemon: &Daemon, channels: &[u16], before: &BTreeMap<String, u64>) -> anyhow::Result<()> {
    let wanted: Vec<String> = channels.iter().map(|channel| camera(*channel)).collect();
    let mut last = Vec::new();
    let streaming = wait(PATIENCE, || {
        last = daemon.statuses()?;
        last.retain(|(_, status)| status.state != "deleted");
        last.sort_by(|one, other| one.0.cmp(&other.0));
        let has_more = |id: &str, Totals { captured, .. }: Totals| captured > before.get(id).copied().unwrap_or(0);
        let all = last.iter().map(|(id, _)| id).eq(&wanted)
            && last.iter().all(|(id, status)| status.state == "streaming" && has_more(id, status.totals));
        Ok(all.then_some(()))
    });
    streaming.with_context(|| {
        let states: Vec<_> = last.iter().map(|(id, status)| format!("{id} {}", status.state)).collect();
        format!("not all of them stream: {}", states.join(", "))
    })
}

/// How many cameras have stored pictures of their own channel last, and not of another.
fn show_their_own(daemon: &Daemon, channels: &[u16], problems: &mut Problems) -> anyhow::Result<usize> {
    let mut own = 0;
    for channel in channels {
        let list = daemon.list(&camera(*channel), 1_000)?;
        let frames = list.entries.iter().rev().filter_map(|entry| match entry {
            Entry::Frame(frame) => Some(frame),
            _ => None,
        });
        let last = frames.take(1).last().context("a camera that has stored frames lists none")?;
        let bytes = Fetcher::new(daemon.http(), None).fetch(&last.url)?;
        let shows = decode(&bytes).and_then(|(luma, width, height)| {
            Mark::read(&luma, width, height).map(|mark| mark.camera).map_err(|error| format!("{error:?}"))
        });
        problems.check(shows == Ok(*channel), || format!("channel {channel} shows {shows:?}"));
        own += usize::from(shows == Ok(*channel));
    }
    Ok(own)
}
