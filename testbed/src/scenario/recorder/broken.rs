//! Recordings that cannot be had as they are listed: told, where hikload takes them for good.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::place::{DAY, PASSWORD, Place, Ran, Sum, channels, expected, files, whole};
use super::tools::{self, Tools};
use crate::nvr::{Channel, Knobs, NvrServer, Options};
use crate::scenario::{Outcome, Problems, Stage};

/// Recordings of each channel. What befalls one befalls that of the last.
const RECORDINGS: [u32; 2] = [3, 1];
const LAST: &str = "ch02";
/// What hikload says is worth showing, bytes.
const WORDS: usize = 160;

/// Something that is wrong, and what framehaul calls it.
struct Case {
    what: &'static str,
    knobs: Knobs,
    reason: &'static str,
    /// Whether it befalls all recordings, and not only the last.
    all: bool,
}

/// What is wrong by turns.
fn cases() -> Vec<Case> {
    let last = || Knobs { faulty_file: Some(LAST.into()), ..Knobs::default() };
    let case = |what, knobs, reason| Case { what, knobs, reason, all: false };
    vec![
        case("connection cut within it", Knobs { rate_cut: 1.0, ..last() }, "cut"),
        case("ends early in good order", Knobs { rate_short: 1.0, ..last() }, "wrong_size"),
        case("an error in XML with status 200", Knobs { rate_xml: 1.0, ..last() }, "recorder"),
        case("written over since it was listed", Knobs { vanished: Some(LAST.into()), ..Knobs::default() }, "gone"),
        Case { all: true, ..case("503 with a body", Knobs { rate_busy: 1.0, ..Knobs::default() }, "busy") },
        Case { all: true, ..case("another size is listed", Knobs { size_off: 1, ..Knobs::default() }, "wrong_size") },
    ]
}

/// Has both fetch from a recorder where something is wrong, for each thing that may be.
///
/// # Errors
///
/// When a part does not start or does not answer.
pub fn broken_recordings(stage: &Stage, tools: &Tools) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    let (mut told, mut faults) = (serde_json::Map::new(), 0);
    for (nth, Case { what, knobs, reason, all }) in cases().into_iter().enumerate() {
        let recorder = || {
            let channels = channels(&RECORDINGS, &Channel::default());
            NvrServer::start(Options { channels, knobs: knobs.clone(), ..Options::default() })
        };
        let server = recorder()?;
        let mut wanted = expected(&server)?;
        let dir = stage.dir().join(format!("hikload-{nth}"));
        fs::create_dir(&dir).context("cannot make a directory")?;
        let ran = Ran::other(&mut tools.hikload(&server, PASSWORD, &dir, &tools::DAY))?;
        let theirs = files(&dir.join("out"))?;
        problems.check(ran.code == Some(0), || format!("{what}: hikload ended with {:?}: {}", ran.code, ran.said));
        let hikload = self::told(&ran, &theirs, &wanted, None);

        let (server, place) = (recorder()?, Place::new(stage, &format!("framehaul-{nth}"))?);
        let patience = ["--retries", "1", "--retry-max", "200ms", "--timeout", "5s"];
        let ran = Ran::export(place.export(&server, &patience).args(DAY))?;
        let (ours, stats) = (place.files()?, server.stats());
        let failed: Vec<&Value> = ran.entries.iter().filter(|entry| entry["outcome"] == "failed").collect();
        let framehaul = self::told(&ran, &ours, &wanted, failed.first().copied());
        wanted.retain(|name, _| !all && !name.ends_with("-201.mp4"));
        let expected: u32 = if all { RECORDINGS.iter().sum() } else { 1 };
        problems.check(ran.code == Some(65), || format!("{what}: framehaul ended with {:?}: {}", ran.code, ran.said));
        problems.check(failed.len() == expected as usize && ran.reasons() == [reason], || {
            format!("{what}: {} failed, for {:?}", failed.len(), ran.reasons())
        });
        problems.check(failed.iter().all(|entry| entry["error"].as_str().is_some_and(|why| !why.is_empty())), || {
            format!("{what}: not said why")
        });
        problems
            .check(ours == wanted, || format!("{what}: {} files are there, {} are whole", ours.len(), wanted.len()));
        problems.check(place.is_tidy()?, || format!("{what}: halves are left"));
        let crate::nvr::Injected { busy, cut, short, xml, vanished, .. } = stats.injected;
        let wrong_sizes = if knobs.size_off == 0 { 0 } else { u64::from(expected) };
        let injected = busy + cut + short + xml + vanished + wrong_sizes;
        problems.check(injected > 0, || format!("{what}: it has not happened"));
        faults += injected;
        told.insert(what.to_owned(), json!({ "hikload": hikload, "framehaul": framehaul }));
    }
    let bound = "cut, short, XML with 200, 503, vanished, another size: framehaul fails that recording with its reason, fetches the \
                 rest and exits with 65, where hikload exits with 0";
    Ok(problems.outcome(bound, told.into(), faults))
}

/// What one of them made of it.
fn told(ran: &Ran, found: &BTreeMap<String, Sum>, wanted: &BTreeMap<String, Sum>, failed: Option<&Value>) -> Value {
    let words: String = ran.last_words().chars().take(WORDS).collect();
    let mut told =
        json!({ "exit": ran.code, "files": found.len(), "of_them_whole": whole(found, wanted), "said": words });
    if let Some(failed) = failed {
        told["failed"] = json!({ "source": failed["source"], "reason": failed["reason"], "error": failed["error"] });
    }
    told
}
