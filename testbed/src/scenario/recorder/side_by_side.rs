//! The same recordings by hikload and by framehaul.

use std::fs;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::place::{DAY, PASSWORD, Place, Ran, channels, expected, files, whole};
use super::tools::{self, Tools};
use crate::contest::round;
use crate::nvr::{Channel, NvrServer, Options, Stats};
use crate::scenario::{Outcome, Problems, Stage};

/// Recordings of each channel: more than two pages, one, and none.
const RECORDINGS: [u32; 3] = [130, 1, 0];
const ALL: u64 = 131;
/// What hikload is known to need for them.
const THEIR_DOWNLOADS: u64 = 133;

/// Has hikload fetch a day from one recorder, and framehaul from another one like it; and framehaul once more.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn side_by_side(stage: &Stage, tools: &Tools) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    let recorder = || {
        let channels = channels(&RECORDINGS, &Channel::default());
        NvrServer::start(Options { channels, ..Options::default() })
    };
    let server = recorder()?;
    let wanted = expected(&server)?;
    problems.check(wanted.len() as u64 == ALL, || format!("the fixture has {} recordings", wanted.len()));
    let dir = stage.dir().join("hikload");
    fs::create_dir(&dir).context("cannot make a directory")?;
    let ran = Ran::other(&mut tools.hikload(&server, PASSWORD, &dir, &tools::DAY))?;
    let theirs = files(&dir.join("out"))?;
    let stats = server.stats();
    problems.check(ran.code == Some(0) && theirs == wanted, || format!("hikload: {:?}, {}", ran.code, ran.said));
    problems.check(stats.downloads.complete == THEIR_DOWNLOADS, || {
        format!("hikload has made {} downloads: what is known of it is out of date", stats.downloads.complete)
    });
    let hikload = told(&ran, theirs.len(), whole(&theirs, &wanted), &stats);

    let (server, place) = (recorder()?, Place::new(stage, "framehaul")?);
    let ran = Ran::export(place.export(&server, &[]).args(DAY))?;
    let (ours, stats) = (place.files()?, server.stats());
    problems.check(ran.code == Some(0) && ours == wanted, || format!("framehaul: {:?}, {}", ran.code, ran.said));
    problems
        .check(ran.outcomes("stored") as u64 == ALL, || format!("{} are said to be stored", ran.outcomes("stored")));
    let downloads = (stats.downloads.begun, stats.downloads.complete, stats.downloads.again);
    problems.check(downloads == (ALL, ALL, 0), || format!("begun, complete and again: {downloads:?}"));
    let framehaul = told(&ran, ours.len(), whole(&ours, &wanted), &stats);

    let again = Ran::export(place.export(&server, &[]).args(DAY))?;
    let fetched = server.stats().downloads.begun - stats.downloads.begun;
    let there = again.outcomes("there");
    problems.check((again.code, there as u64, fetched) == (Some(0), ALL, 0), || {
        format!("once more: {:?}, {there} there, {fetched} downloads: {}", again.code, again.said)
    });
    problems.check(place.files()? == wanted && place.is_tidy()?, || "more is left than what was fetched".to_owned());
    let figure = json!({
        "recordings": ALL,
        "hikload": hikload,
        "framehaul": framehaul,
        "framehaul once more": { "exit": again.code, "there": there, "downloads": fetched },
    });
    let bound = format!(
        "{ALL} of {ALL} recordings byte for byte, none fetched twice, under hikload's names; hikload: {THEIR_DOWNLOADS} downloads"
    );
    Ok(problems.measured(bound, figure))
}

fn told(ran: &Ran, files: usize, whole: usize, stats: &Stats) -> Value {
    json!({
        "exit": ran.code,
        "files": files,
        "byte_identical": whole,
        "downloads": stats.downloads.complete,
        "fetched_twice": stats.downloads.again,
        "searches": stats.calls.search,
        "connections": stats.connections,
        "requests": stats.requests,
        "most_sessions": stats.downloads.most_sessions,
        "seconds": round(ran.seconds),
    })
}
