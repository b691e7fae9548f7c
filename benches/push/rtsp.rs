//! Cameras over RTSP, from the picture to its object.

use std::time::Duration;

use testbed::scenario::{Rtsp, Stage, rtsp};

use crate::machine::Machine;
use crate::report::{Section, Table, spread};
use crate::setting::Setting;
use crate::svg::{Axis, Plot, Point, Series};

/// Measures it.
///
/// # Errors
///
/// When the daemon or a camera does not start.
pub fn run(setting: &Setting, _: &mut Machine) -> anyhow::Result<Section> {
    let plan = Rtsp {
        engine: "ffmpeg",
        cameras: vec![1, 4, 16],
        size: (1280, 720),
        fps: 10,
        kbits: 2_000,
        lasts: Duration::from_secs(if setting.quick { 5 } else { 15 }),
        rounds: if setting.quick { 1 } else { 5 },
    };
    let hauled = rtsp(&Stage::new_in(&setting.program, &setting.cache)?, &plan)?;
    let headings = [
        "cameras",
        "given, frames/s",
        "stored, frames/s",
        "capture to stored, p50 ms",
        "p99 ms",
        "daemon, processor s per 1,000",
        "capture processes, processor s per 1,000",
        "lost",
    ];
    let mut table = Table::new("From capture to stored, and what it takes", headings);
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for of in &hauled {
        table.row([
            of.cameras.to_string(),
            format!("{:.0}", of.given_per_s),
            spread(of.frames_per_s, 1),
            spread(of.p50_ms, 1),
            spread(of.p99_ms, 1),
            spread(of.daemon_s, 2),
            spread(of.captures_s, 2),
            of.lost.to_string(),
        ]);
        for (points, figure) in [(&mut p50, of.p50_ms), (&mut p99, of.p99_ms)] {
            points.push(Point { x: of.cameras as f64, y: figure.median, min: figure.min, max: figure.max });
        }
    }
    let series = [("p50", p50), ("p99", p99)].map(|(name, points)| Series { name: name.to_owned(), points });
    let (width, height) = plan.size;
    Ok(Section {
        name: "rtsp",
        title: "RTSP to stored".to_owned(),
        text: format!(
            "Real streams of a GStreamer RTSP server on the same machine, H.264 of {width}x{height} at {} frames a second and \
             {} kbit/s, each frame decoded, made a JPEG, spooled, stored and journaled; the bucket answers at once. {} times \
             {} s of each number of cameras, in turn. The time runs from when the capture process has the picture's data to \
             when the bucket has confirmed its object, by the list itself.",
            plan.fps,
            plan.kbits,
            plan.rounds,
            plan.lasts.as_secs()
        ),
        tables: vec![table],
        plots: vec![Plot {
            name: "delay".to_owned(),
            title: "From capture to stored".to_owned(),
            x: Axis::log("cameras"),
            y: Axis::linear("ms"),
            series: series.into(),
        }],
        figures: plan.json(&hauled),
    })
}
