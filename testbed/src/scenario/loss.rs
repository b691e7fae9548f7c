//! Lost packets: what is damaged is never delivered as good, what is whole is not thrown away, and pictures come again
//! from the next key frame on.
//!
//! A capture program is asked for all pictures, the damaged ones marked, of a stream from which a proxy takes packets.
//! The same program has decoded the same clip without a fault before. So both rates
//! come from one run, and neither from what the program thinks of itself.

mod judge;
mod match_up;

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use self::judge::{Bounds, Confusion};
use self::match_up::{Clean, match_up};
use super::{Outcome, Problems, Stage};
use crate::cameras::{CameraServer, CameraSpec, default_cache_dir};
use crate::captured::Capture;
use crate::clip::Codec;
use crate::rtp_proxy::{RtpProxy, Script, Spoil};

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Losses {
    /// The capture program's name; it lies beside the daemon.
    pub engine: &'static str,
    /// What happens to the streams.
    pub cases: Vec<LossCase>,
    /// How long each stream is captured.
    pub lasts: Duration,
    /// How many streams at a time.
    pub at_once: usize,
    /// Least share of the pictures unlike what they should be that are dropped or marked.
    pub caught: f64,
    /// Most of the clean pictures that are dropped or marked.
    pub false_alarms: f64,
    /// Least share of the whole key frames after a loss from which on pictures come again.
    pub recovered: f64,
    /// The longest time without a good picture after bytes were cut from inside an interleaved stream.
    pub deaf: Duration,
    /// Least number of pictures unlike what they should be, in all cases together.
    pub unlike: u64,
    /// Where the random numbers start.
    pub seed: u64,
}

/// One stream and its fault.
#[derive(Debug, Clone, Copy)]
pub struct LossCase {
    /// Its compression.
    pub codec: Codec,
    /// `tcp` or `udp`.
    pub transport: &'static str,
    /// What happens to its packets.
    pub spoil: Spoil,
}

impl LossCase {
    fn name(&self) -> String {
        let what = match self.spoil {
            Spoil::Nothing => "nothing".to_owned(),
            Spoil::Lose { share, burst } if burst > 1.0 => format!("{} % lost in rows of {burst}", share * 100.0),
            Spoil::Lose { share, .. } => format!("{} % lost", share * 100.0),
            Spoil::Cut { share, most } => format!("{} % cut by up to {most} bytes", share * 100.0),
            Spoil::Mutate { share, .. } => format!("{} % mutated", share * 100.0),
        };
        format!("{}, {}, {what}", self.codec, self.transport)
    }
}

/// Size, pixels. A key frame is some forty packets, another one some five: where the one loses, so does the other.
const SIZE: (u32, u32) = (640, 480);
const FPS: u32 = 25;
/// Key frames are so far apart that most losses leave pictures behind them which are damaged by what they refer to.
const GOP: u32 = 25;
/// GOPs that pass whole at the beginning: by them it is known which picture is which.
const WHOLE_GOPS: u32 = 2;

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start, or pictures cannot be told apart.
pub fn losses(stage: &Stage, plan: &Losses) -> anyhow::Result<Outcome> {
    let program = stage.program().with_file_name(plan.engine);
    ensure!(program.is_file(), "there is no {}", program.display());
    let codecs = Codec::ALL.into_iter().filter(|codec| plan.cases.iter().any(|case| case.codec == *codec));
    let specs: Vec<CameraSpec> = codecs.map(camera).collect();
    let server = CameraServer::start(&specs, 0, default_cache_dir())?;
    let clean: Vec<(Codec, Clean)> = specs
        .iter()
        .map(|spec| Ok((spec.codec, clean(&program, spec)?)))
        .collect::<anyhow::Result<_>>()
        .context("the clean decode")?;
    let clean_of = |codec| clean.iter().find(|(of, _)| *of == codec).map(|(_, clean)| clean);

    let bounds = Bounds { caught: plan.caught, false_alarms: plan.false_alarms, recovered: plan.recovered };
    let mut problems = Problems::default();
    let mut figures = serde_json::Map::new();
    let mut all = Confusion::default();
    let mut faults = 0;
    for some in plan.cases.chunks(plan.at_once.max(1)) {
        let results = std::thread::scope(|scope| {
            let run = |case: &LossCase| {
                let clean = clean_of(case.codec).context("each case's codec was decoded")?;
                run(&program, server.port(), *case, plan, clean)
            };
            let threads: Vec<_> = some.iter().map(|case| scope.spawn(move || run(case))).collect();
            threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        for (case, result) in some.iter().zip(results) {
            let name = case.name();
            let result = result.ok().with_context(|| format!("{name}: panicked"))?;
            let (confusion, proxy) = result.with_context(|| name.clone())?;
            for problem in bounds.judge(&confusion) {
                problems.check(false, || format!("{name}: {problem}"));
            }
            if matches!(case.spoil, Spoil::Cut { .. }) {
                let gap = Duration::from_secs(confusion.longest_gap) / FPS;
                problems.check(gap <= plan.deaf, || format!("{name}: no good picture for {} s", gap.as_secs()));
            }
            // Half an hour is long without a word.
            eprintln!("{name}: {}", confusion.summary());
            faults += proxy["faults"].as_u64().unwrap_or_default();
            all.add(&confusion);
            figures.insert(name, json!({ "pictures": confusion, "proxy": proxy }));
        }
    }
    problems.check(all.unlike >= plan.unlike, || {
        format!("{} pictures were unlike what they should be: {} are wanted for a rate", all.unlike, plan.unlike)
    });
    let bound = format!(
        "of pictures with SSIM below {} at least {} % dropped or marked, of clean ones at most {} %; at least {} % of whole key frames after a loss bring pictures again",
        judge::UNLIKE,
        plan.caught * 100.0,
        plan.false_alarms * 100.0,
        plan.recovered * 100.0
    );
    figures.insert("all".to_owned(), json!({ "pictures": all }));
    Ok(problems.outcome(bound, figures.into(), faults))
}

fn camera(codec: Codec) -> CameraSpec {
    // JPEG is the larger, so that it loses as often with fewer pixels.
    let (width, height) = if codec == Codec::Mjpeg { (SIZE.0 / 2, SIZE.1 / 2) } else { SIZE };
    CameraSpec::new(&format!("loss-{codec}")).size(width, height).rate(FPS, GOP).codec(codec)
}

/// What the program makes of a camera's clip as a file.
fn clean(program: &Path, spec: &CameraSpec) -> anyhow::Result<Clean> {
    let path = spec.clip().mp4(&default_cache_dir())?;
    // It ends by itself.
    let captured = Capture::file(program, &path).run(Duration::from_secs(600))?;
    Clean::new(&captured, spec.clip().frames()?)
}

fn run(
    program: &Path,
    server: u16,
    case: LossCase,
    plan: &Losses,
    clean: &Clean,
) -> anyhow::Result<(Confusion, Value)> {
    let gop = if case.codec == Codec::Mjpeg { 1 } else { GOP };
    let script = Script { seed: plan.seed, whole: u64::from(WHOLE_GOPS * GOP), spoil: case.spoil };
    let proxy = RtpProxy::start(server, script)?;
    let url = proxy.url(&camera(case.codec).name);
    // FFmpeg hardly finds back into an interleaved stream whose packets do not begin where they should. As the daemon
    // does, a stream that stalls is opened anew.
    let blind = matches!(case.spoil, Spoil::Cut { .. });
    let until = Instant::now() + plan.lasts;
    let mut confusion = Confusion::default();
    for opened in 1.. {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let captured = Capture::camera(program, url.clone(), case.transport).run(left)?;
        let sent = proxy.sent();
        ensure!(sent.len() == opened, "{} connections in place of {opened}; {}", sent.len(), captured.end());
        ensure!(blind || !captured.stalled, "no picture came any more; {}", captured.end());
        let sent = sent.last().context("there is a connection")?;
        confusion.add(&match_up(&captured, sent, clean, FPS, gop, blind)?);
    }
    let stats = proxy.stats();
    let proxy = json!({ "faults": stats.faults(), "connections": stats.connections, "packets": stats.packets, "lost": stats.lost, "missing": stats.missing, "cut": stats.cut });
    Ok((confusion, proxy))
}
