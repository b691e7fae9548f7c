//! What one more camera costs the daemon itself, from one to 200.

use std::time::Duration;

use serde_json::Map;
use testbed::contest::Spread;
use testbed::scenario::{Slope, Slopes, Stage, Weighed, Weight, weigh};

use crate::machine::Machine;
use crate::report::{Section, Table, spread};
use crate::setting::Setting;
use crate::svg::{Axis, Plot, Point, Series};

/// Measures it: with few frames, where the slopes are judged, and with so many that they share wake-ups and commits.
///
/// # Errors
///
/// When the daemon does not start, or the cameras fall behind.
pub fn run(setting: &Setting, _: &mut Machine) -> anyhow::Result<Section> {
    let few = Slope {
        between: if setting.quick { vec![] } else { vec![10, 100] },
        rounds: if setting.quick { 1 } else { 5 },
        lasts: Duration::from_secs(if setting.quick { 10 } else { 20 }),
        ..Slope::small()
    };
    let many = Slope { fps: 1.0, between: vec![], ..few.clone() };
    let mut plans = vec![("few", few)];
    if !setting.quick {
        plans.push(("many", many));
    }
    let (mut tables, mut figures, mut weighed) = (Vec::new(), Map::new(), Vec::new());
    for (name, plan) in &plans {
        let found = weigh(&Stage::new_in(&setting.program, &setting.cache)?, plan)?;
        tables.extend([weights(plan, &found), slopes(plan, &found)]);
        figures.insert((*name).to_owned(), found.json(plan));
        weighed.push((plan.fps, found));
    }
    let (_, plan) = &plans[0];
    Ok(Section {
        name: "cameras",
        title: "From one camera to 200".to_owned(),
        text: format!(
            "Cameras that hand over prepared pictures of {} bytes each, so that what is seen is the daemon and not the \
             decoding; spool and journal on disk as by default, the bucket answers at once. Each number of cameras has a \
             daemon of its own, {} times {} s, in turn, with a processor to itself where there are several. Processor time \
             is that of all the daemon's threads, memory what it shares with no other process; neither counts the capture \
             processes. Frames that come together share wake-ups and commits, up to a hundred of these a second; so the \
             slopes are judged at a frame in five seconds of each camera, where hardly any do.",
            plan.bytes,
            plan.rounds,
            plan.lasts.as_secs()
        ),
        tables,
        plots: vec![
            plot("processor", "Processor time of the daemon", "ms a second", &weighed, |of| of.processor_ms_per_s),
            plot("memory", "Private memory of the daemon", "MB", &weighed, |of| of.private_mb),
        ],
        figures: figures.into(),
    })
}

fn weights(plan: &Slope, weighed: &Weighed) -> Table {
    let mut table = Table::new(
        format!("The daemon's own process, each camera at {} fps", plan.fps),
        ["cameras", "frames/s", "processor, ms a second", "private memory, MB", "resident memory, MB"],
    );
    for weight in &weighed.weights {
        let figures = [weight.frames_per_s, weight.processor_ms_per_s, weight.private_mb, weight.resident_mb];
        table.row([weight.cameras.to_string()].into_iter().chain(figures.map(|figure| spread(figure, 1))));
    }
    table
}

fn slopes(plan: &Slope, weighed: &Weighed) -> Table {
    let [first, second, third] = plan.ends;
    let mut table = Table::new(
        format!("One more camera at {} fps", plan.fps),
        ["".to_owned(), format!("{first} to {second}"), format!("{second} to {third}"), "change".to_owned()],
    );
    for (name, slopes, factor) in
        [("processor, ms a second", weighed.processor_ms_per_s, 1.0), ("private memory, kB", weighed.private_mb, 1e3)]
    {
        let Slopes { below, above } = slopes;
        table.row([
            name.to_owned(),
            format!("{:.3}", below * factor),
            format!("{:.3}", above * factor),
            format!("{:+.1} %", slopes.change() * 1e2),
        ]);
    }
    table
}

fn plot(name: &str, title: &str, unit: &str, weighed: &[(f64, Weighed)], figure: fn(&Weight) -> Spread) -> Plot {
    let series = weighed.iter().map(|(fps, weighed)| {
        let point = |weight: &Weight| {
            let Spread { median, min, max } = figure(weight);
            Point { x: weight.cameras as f64, y: median, min, max }
        };
        Series { name: format!("{fps} fps"), points: weighed.weights.iter().map(point).collect() }
    });
    Plot {
        name: name.to_owned(),
        title: title.to_owned(),
        x: Axis::linear("cameras"),
        y: Axis::linear(unit),
        series: series.collect(),
    }
}
