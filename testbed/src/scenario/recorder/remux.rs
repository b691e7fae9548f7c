//! Recordings in another container: every picture of the fixture, in its order, and what is broken kept as it came.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::place::{DAY, Place, Ran, expected};
use crate::clip::Codec;
use crate::mark::Mark;
use crate::nvr::{Channel, Container, Knobs, NvrServer, Options};
use crate::scenario::{Outcome, Problems, Stage};

/// Of the simulated recorder's pictures.
const SIZE: (usize, usize) = (320, 240);

/// Exports into other containers.
#[derive(Debug, Clone)]
pub struct Remuxed {
    /// Recordings of each kind.
    pub recordings: u32,
    /// Pictures in each, 25 a second: whole seconds.
    pub pictures: u16,
    /// What the choice of the places begins with at which broken ones end.
    pub seed: u64,
}

/// Exports every kind of recording into every container, and joined; then such as end too early.
///
/// # Errors
///
/// When a part does not start, or what was made cannot be decoded at all.
pub fn remuxed(stage: &Stage, plan: &Remuxed) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    let (mut made, mut pictures, mut kept, mut faults) = (Vec::new(), 0, Vec::new(), 0);
    for codec in [Codec::H264, Codec::H265] {
        for container in [Container::Ps, Container::Mp4] {
            let from = format!("{codec} in {container:?}");
            let server = recorder(plan, codec, container, Knobs::default())?;
            for (to, joined) in [("mp4", false), ("mkv", false), ("mp4", true)] {
                let what = format!("{from} to {to}{}", if joined { ", joined" } else { "" });
                let place = Place::new(stage, &what.replace([' ', ','], "-"))?;
                let arguments = [&["--container", to][..], if joined { &["--concat"] } else { &[] }].concat();
                let ran = Ran::export(place.export(&server, &arguments).args(DAY))?;
                let as_asked = ran.code == Some(0) && ran.entries.iter().all(|entry| entry["note"].is_null());
                problems.check(as_asked, || format!("{what}: {:?}: {} {:?}", ran.code, ran.said, ran.entries));
                pictures += complete(&place, to, joined, plan, &what, &mut problems)?;
                made.push(what);
            }
            let knobs = Knobs { rate_short: 1.0, seed: plan.seed, ..Knobs::default() };
            let server = recorder(plan, codec, container, knobs)?;
            let place = Place::new(stage, &format!("broken-{}", from.replace(' ', "-")))?;
            let ran = Ran::export(place.export(&server, &["--container", "mp4", "--any-size"]).args(DAY))?;
            let short = server.stats().injected.short;
            let notes = originals(&server, &place, &ran, &from, &mut problems)?;
            problems.check(short >= u64::from(plan.recordings), || format!("{from}: only {short} were broken"));
            faults += short;
            kept.push(json!({ "from": from, "kept": notes.len(), "note": notes.first() }));
        }
    }
    let figure = json!({ "made": made, "pictures_in_order": pictures, "broken": kept });
    let bound = "H.264 and H.265, from program streams and MP4, into MP4 and Matroska and joined: every picture's counter in its \
                 order, and no word from ffprobe; of a broken one the original, and that said";
    Ok(problems.outcome(bound, figure, faults))
}

fn recorder(plan: &Remuxed, codec: Codec, container: Container, knobs: Knobs) -> anyhow::Result<NvrServer> {
    let each_s = u32::from(plan.pictures) / 25;
    let channel = Channel {
        recordings: plan.recordings,
        pictures: plan.pictures,
        fps: 25,
        each_s,
        codec,
        container,
        ..Channel::default()
    };
    NvrServer::start(Options { channels: vec![channel], knobs, ..Options::default() })
}

/// Whether the files hold all pictures, in order: how many.
fn complete(
    place: &Place,
    to: &str,
    joined: bool,
    plan: &Remuxed,
    what: &str,
    problems: &mut Problems,
) -> anyhow::Result<u32> {
    let files: Vec<PathBuf> = place.files()?.into_keys().map(|name| place.out().join(name)).collect();
    let named = files.iter().all(|file| file.extension().is_some_and(|extension| extension == to));
    let count = if joined { 1 } else { plan.recordings };
    problems.check(files.len() as u32 == count && named, || format!("{what}: {files:?}"));
    let mut all = Vec::new();
    for file in &files {
        let complaints = probe(file)?;
        problems.check(complaints.is_empty(), || format!("{what}: ffprobe says of {}: {complaints}", file.display()));
        all.extend(counters(file)?);
    }
    // Names begin with the time, so the files are in their order.
    let wanted: Vec<u32> = (0..plan.recordings * u32::from(plan.pictures)).collect();
    problems.check(all == wanted, || format!("{what}: {} of {} pictures, or not in order", all.len(), wanted.len()));
    problems.check(place.is_tidy()?, || format!("{what}: files that were worked on are left"));
    Ok(all.len() as u32)
}

/// Whether what ends too early is there as it came, and said to be: what is said.
fn originals(
    server: &NvrServer,
    place: &Place,
    ran: &Ran,
    what: &str,
    problems: &mut Problems,
) -> anyhow::Result<Vec<Value>> {
    problems.check(ran.code == Some(0), || format!("{what}, broken: {:?}: {}", ran.code, ran.said));
    let (mut notes, recordings) = (Vec::new(), server.recordings());
    problems.check(ran.entries.len() == recordings.len(), || format!("{what}, broken: {} entries", ran.entries.len()));
    for entry in &ran.entries {
        let note = entry["note"].as_str().unwrap_or_default();
        problems.check(note.starts_with("kept as it came"), || format!("{what}, broken: not said: {entry}"));
        notes.push(entry["note"].clone());
        let of = recordings.iter().find(|of| entry["source"] == of.name.as_str()).context("nobody has recorded it")?;
        let whole = server.read(of.track, &of.name)?;
        let path = place.out().join(entry["key"].as_str().unwrap_or_default());
        let kept = fs::read(&path).unwrap_or_default();
        problems.check(!kept.is_empty() && kept.len() < whole.len() && whole.starts_with(&kept), || {
            format!("{what}, broken: {} is not what came", path.display())
        });
    }
    problems.check(expected(server)?.len() == place.files()?.len(), || format!("{what}, broken: more is there"));
    Ok(notes)
}

/// What ffprobe complains of when it reads all of a file.
fn probe(file: &Path) -> anyhow::Result<String> {
    let reads = ["-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames", "-of", "csv=p=0"];
    let output = Command::new("ffprobe").args(reads).arg(file).output().context("cannot start ffprobe")?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Ok(if output.status.success() { said } else { format!("{}: {said}", output.status) })
}

/// The counters in all pictures of a file, as ffmpeg decodes them.
fn counters(file: &Path) -> anyhow::Result<Vec<u32>> {
    let raw = ["-map", "0:v", "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "gray", "-"];
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-i"]).arg(file).args(raw);
    let output = command.output().context("cannot start ffmpeg")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "ffmpeg says of {}: {said}", file.display());
    let (width, height) = SIZE;
    let pictures = output.stdout.chunks(width * height);
    pictures.map(|luma| Ok(Mark::read(luma, width, height)?.counter)).collect()
}
