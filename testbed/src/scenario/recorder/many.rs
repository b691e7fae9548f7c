//! A thousand recordings of a recorder with one session, over a change of the clock, cut off and refused on the way.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Context as _;
use serde_json::json;

use super::place::{Place, Ran, channels, sum_of};
use crate::contest::round;
use crate::nvr::{Channel, Knobs, NvrServer, Options};
use crate::scenario::{Outcome, Problems, Stage};

/// The clock of Berlin, as recorders write it.
const BERLIN: &str = "CST-1:00:00DST01:00:00,M3.5.0/02:00:00,M10.5.0/03:00:00";
/// When the first recording begins, in UTC; the clock is set back in the night to the 25th, at 01:00 in UTC.
const BEGIN: &str = "2026-10-23T12:00:00";
/// The recordings' days by the recorder's clock.
const SPAN: [&str; 4] = ["--start", "2026-10-23T00:00:00", "--end", "2026-11-05T00:00:00"];
/// Minutes of the hour that comes twice, in which recordings of ten minutes begin.
const TWICE: usize = 60;

/// Exports from a recorder that is slow to give.
#[derive(Debug, Clone)]
pub struct ManyRecordings {
    /// Channels of the recorder.
    pub channels: u32,
    /// Recordings of ten minutes on each, which must last until behind the change of the clock.
    pub recordings: u32,
    /// The share of downloads that are cut at a random byte.
    pub rate_cut: f64,
    /// The share of searches and of downloads that are refused as busy.
    pub rate_busy: f64,
    /// What the choice of those begins with.
    pub seed: u64,
}

/// Exports all, and once more.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn many_recordings(stage: &Stage, plan: &ManyRecordings) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    let all = u64::from(plan.channels * plan.recordings);
    let like = Channel { begin: BEGIN.into(), ..Channel::default() };
    let knobs = Knobs {
        zone: BERLIN.into(),
        sessions: Some(1),
        searches_at_once: Some(1),
        rate_cut: plan.rate_cut,
        rate_busy: plan.rate_busy,
        rate_search_busy: plan.rate_busy,
        seed: plan.seed,
        ..Knobs::default()
    };
    let channels = channels(&vec![plan.recordings; plan.channels as usize], &like);
    let server = NvrServer::start(Options { channels, knobs, ..Options::default() })?;
    let place = Place::new(stage, "framehaul")?;
    let export = || {
        let mut command = place.export(&server, &SPAN);
        command.args(["--retries", "50", "--retry-max", "2s"]);
        command
    };
    let ran = Ran::export(&mut export())?;
    let stats = server.stats();
    problems.check(ran.code == Some(0), || format!("it ended with {:?}: {}", ran.code, ran.last_words()));

    let known: HashMap<_, _> =
        server.recordings().into_iter().map(|of| ((of.track.to_string(), of.name.clone()), of)).collect();
    let (mut wanted, mut seen, mut wrong_times) = (BTreeMap::new(), BTreeSet::new(), 0);
    let mut literals: HashMap<(String, String), usize> = HashMap::new();
    for entry in &ran.entries {
        let text = |field: &str| entry[field].as_str().unwrap_or_default().to_owned();
        let identity = (text("track"), text("source"));
        let recording = known.get(&identity).with_context(|| format!("nobody has recorded {entry}"))?;
        problems.check(seen.insert(identity), || format!("listed twice: {entry}"));
        problems.check(entry["outcome"] == "stored", || format!("not stored: {entry}"));
        problems.check(entry["bytes"] == entry["listed_bytes"], || format!("another size: {entry}"));
        wrong_times += usize::from(!text("start_utc").starts_with(&recording.begin));
        *literals.entry((text("track"), text("start"))).or_default() += 1;
        wanted.insert(text("key"), sum_of(&server, recording)?);
    }
    let found = place.files()?;
    problems.check(seen.len() as u64 == all, || format!("{} of {all} are listed", seen.len()));
    problems.check(wanted.len() as u64 == all, || format!("{} keys for {all} recordings", wanted.len()));
    problems.check(found == wanted, || format!("{} files are there, not all as they are to be", found.len()));
    problems.check(wrong_times == 0, || format!("{wrong_times} are told with a wrong time"));
    // Two begin at the same time by the clock, in the hour that comes twice.
    let twice = literals.values().filter(|count| **count == 2).count();
    problems.check(twice == plan.channels as usize * TWICE / 10, || format!("{twice} times of the clock came twice"));

    let (downloads, injected) = (&stats.downloads, &stats.injected);
    problems.check((downloads.complete, downloads.again) == (all, 0), || {
        format!("{} came whole, {} of them again", downloads.complete, downloads.again)
    });
    problems.check(downloads.begun == all + injected.cut, || {
        format!("{} downloads for {all} recordings and {} cuts", downloads.begun, injected.cut)
    });
    problems.check(downloads.most_sessions == 1 && downloads.refused_busy == 0, || {
        format!("{} sessions at a time, and {} more were asked for", downloads.most_sessions, downloads.refused_busy)
    });
    problems.check(injected.searches_busy == 0, || format!("{} searches at once", injected.searches_busy));
    let least = |rate: f64| (rate * all as f64 / 2.0) as u64;
    problems.check(injected.cut >= least(plan.rate_cut) && injected.busy >= least(plan.rate_busy), || {
        format!("only {} cuts and {} refusals", injected.cut, injected.busy)
    });
    problems.check(stats.logins.wrong == 0, || format!("{} wrong logins", stats.logins.wrong));

    let again = Ran::export(&mut export())?;
    let fetched = server.stats().downloads.begun - downloads.begun;
    let there = again.outcomes("there");
    problems.check((again.code, there as u64, fetched) == (Some(0), all, 0), || {
        format!("once more: {:?}, {there} there, {fetched} downloads: {}", again.code, again.last_words())
    });
    problems.check(place.is_tidy()?, || "halves are left".to_owned());
    let figure = json!({
        "recordings": all,
        "stored": ran.outcomes("stored"),
        "byte_identical": super::place::whole(&found, &wanted),
        "begin_at_a_time_that_came_twice": 2 * twice,
        "wrong_times": wrong_times,
        "downloads": downloads.begun,
        "cuts": injected.cut,
        "fetched_again_per_cut": round((downloads.begun - all) as f64 / injected.cut.max(1) as f64),
        "refused_as_busy": injected.busy,
        "most_sessions": downloads.most_sessions,
        "sessions_too_many_asked_for": downloads.refused_busy,
        "pages": stats.calls.search,
        "seconds": round(ran.seconds),
        "once_more": { "there": there, "downloads": fetched, "seconds": round(again.seconds) },
    });
    let bound = format!(
        "{all} recordings of a recorder with one session, in pages of {}, with the clock set back within, {:.0} % of downloads \
         cut at a random byte, {:.0} % of searches and downloads refused as busy: all whole and verified, none twice, never \
         over one session, one file fetched again per cut, a second run fetches none",
        server.knobs().page,
        plan.rate_cut * 1e2,
        plan.rate_busy * 1e2
    );
    Ok(problems.outcome(bound, figure, injected.cut + injected.busy))
}
