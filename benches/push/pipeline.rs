//! Whole pipelines: from a film of 1080p to objects in the bucket.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use testbed::contest::Whole;

use crate::contestant::{Arena, Contestant, Running};
use crate::cost::{self, Cost, LOOK_EVERY, Run};
use crate::machine::Machine;
use crate::pictures;
use crate::report::Section;
use crate::server::BUCKET;
use crate::setting::Setting;

const LATENCY_MS: u64 = 50;
/// Pictures of a run, and of one that has to be quick.
const FRAMES: usize = 500;
const FEW: usize = 200;
/// Requests at the same time, of everybody.
const AT_ONCE: usize = 50;
/// As the peers have it.
const FFMPEG_QUALITY: &str = "2";
const JPEG_QUALITY: &str = "85";

/// A way from a film to objects.
enum Pipeline<'a> {
    /// `framehaul push FILE`, from its start to its end.
    Push,
    /// ffmpeg's command line into `framehaul push -`, both from start to end.
    FfmpegPush,
    /// A peer that is running already. By OpenCV in its own process, or ffmpeg's command line as its child.
    Peer(&'static str, Box<Running<'a>>),
}

/// Measures all, in turn.
///
/// # Errors
///
/// When one fails, or does not store all.
pub fn run(setting: &Setting, machine: &mut Machine) -> anyhow::Result<Section> {
    let (film, frames) = (pictures::film()?, if setting.quick { FEW } else { FRAMES });
    let arena = Arena::new(setting, machine)?;
    arena.server.latency(LATENCY_MS)?;
    machine.used("ffmpeg", ffmpeg_version()?);
    let mut pipelines = vec![
        (Cost::new("framehaul push FILE", "ours", false), Pipeline::Push),
        (Cost::new("ffmpeg into framehaul push -", "ffmpeg_ours", false), Pipeline::FfmpegPush),
    ];
    for contestant in arena.contestants().filter(|one| one.is_peer()) {
        let mut sources = vec!["opencv"];
        sources.extend((contestant == Contestant::Aiohttp).then_some("ffmpeg"));
        for source in sources {
            let name = if source == "opencv" { "python opencv" } else { "ffmpeg" };
            let mut one = arena.start(contestant, false)?;
            // Modules, codecs and processes are there before the clock runs.
            one.open(AT_ONCE)?;
            one.film(source, &film, AT_ONCE)?;
            let cost =
                Cost::new(format!("{name}, {}", contestant.name()), format!("{source}_{}", contestant.key()), true);
            pipelines.push((cost, Pipeline::Peer(source, Box::new(one))));
        }
    }
    for round in 0..5 {
        let count = pipelines.len();
        for turn in 0..count {
            let (cost, pipeline) = &mut pipelines[(turn + round) % count];
            let run = match pipeline {
                Pipeline::Push => push(setting, &arena, &film, frames, &format!("push-{round}"), false),
                Pipeline::FfmpegPush => push(setting, &arena, &film, frames, &format!("push-ffmpeg-{round}"), true),
                Pipeline::Peer(source, one) => peer(one, source, &film, frames),
            };
            cost.runs.push(run.with_context(|| cost.name.clone())?);
        }
        eprintln!("  round {}", round + 1);
    }
    let mut costs = Vec::new();
    for (cost, pipeline) in pipelines {
        costs.push(cost);
        if let Pipeline::Peer(_, one) = pipeline {
            one.end()?;
        }
    }
    Ok(Section {
        name: "pipeline",
        title: "Whole pipelines".to_owned(),
        text: format!(
            "The first {frames} pictures of a 1080p H.264 film of 4 Mbit/s, each as a JPEG of quality {JPEG_QUALITY} \
             (ffmpeg: -q:v {FFMPEG_QUALITY}), into the bucket; latency {LATENCY_MS} ms, at most {AT_ONCE} requests at \
             the same time. framehaul is measured from the start of its command to its end. Python's processes are warm: \
             their start counts for nobody."
        ),
        tables: vec![cost::table("Medians (least to most)", &costs)?],
        plots: cost::plots(&costs)?,
        figures: json!({ "latency_ms": LATENCY_MS, "frames": frames, "contestants": cost::figures(&costs)? }),
    })
}

fn peer(one: &mut Running<'_>, source: &str, film: &Path, frames: usize) -> anyhow::Result<Run> {
    one.open(AT_ONCE)?;
    let tree = one.tree();
    let watch = tree.watch(LOOK_EVERY);
    let (before, alone) = (tree.processor()?, tree.alone()?);
    let ms = one.film(source, film, frames)?;
    let (processor, alone) = (tree.processor()? - before, tree.alone()? - alone);
    Ok(Run { frames, seconds: ms / 1e3, processor, memory: watch.most(), alone })
}

fn push(
    setting: &Setting,
    arena: &Arena<'_>,
    film: &Path,
    frames: usize,
    prefix: &str,
    ffmpeg: bool,
) -> anyhow::Result<Run> {
    // A shell only where there is a pipe.
    let mut command = match ffmpeg {
        false => {
            let mut command = Command::new(&setting.program);
            command.arg("push").arg(film).args(["--frames", &frames.to_string(), "--quality", JPEG_QUALITY]);
            command
        }
        true => {
            let mut command = Command::new("sh");
            let pipe = "ffmpeg -v error -i \"$1\" -frames:v \"$2\" -f image2pipe -c:v mjpeg -q:v \"$3\" - </dev/null | \
                        { shift 3; \"$@\"; }";
            command.args(["-c", pipe, "sh"]).arg(film).args([&frames.to_string(), FFMPEG_QUALITY]);
            command.arg(&setting.program).args(["push", "-"]);
            command
        }
    };
    command
        .args(["--to", &format!("gs://{BUCKET}/{prefix}"), "--format", "ndjson"])
        .args(["--concurrency", &AT_ONCE.to_string()])
        .env("FRAMEHAUL__STORAGE__ENDPOINT", arena.server.endpoint(false))
        .env("FRAMEHAUL__STORAGE__CREDENTIALS", "anonymous")
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let Whole { told, took, processor, alone, memory } = Whole::run(&mut command, LOOK_EVERY)?;
    let entries: Vec<Value> =
        String::from_utf8(told)?.lines().map(serde_json::from_str).collect::<Result<_, _>>().context("the list")?;
    let there = arena.server.objects(prefix)?;
    ensure!(entries.len() == frames && there.len() == frames, "{} of {frames} are there", there.len());
    let same = entries.iter().zip(&there).all(|(entry, object)| entry["crc32c"] == json!(object.crc32c_text()));
    ensure!(same, "the server has not what the list says");
    Ok(Run { frames, seconds: took.as_secs_f64(), processor, memory, alone })
}

fn ffmpeg_version() -> anyhow::Result<String> {
    let line = crate::machine::told("ffmpeg", &["-version"])?;
    line.split(' ').nth(2).map(str::to_owned).context("ffmpeg tells no version")
}
