//! What storing pictures costs: what the parts for sustained work and whole pipelines have in common.

use std::time::Duration;

use serde_json::{Value, json};
use testbed::contest::Spread;

use crate::report::Table;
use crate::svg::{Axis, Plot, Point, Series};

/// How often memory is looked at: it costs the kernel a walk through all pages.
pub const LOOK_EVERY: Duration = Duration::from_millis(200);

/// One run of a contestant.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// Pictures it has stored.
    pub frames: usize,
    /// How long that took.
    pub seconds: f64,
    /// Processor time of all its processes.
    pub processor: Duration,
    /// Memory of all its processes at most, bytes.
    pub memory: u64,
    /// Of the processor time, what its first process has used by itself.
    pub alone: Duration,
}

/// All runs of a contestant.
#[derive(Debug)]
pub struct Cost {
    /// Its name in tables.
    pub name: String,
    /// Its name in figures.
    pub key: String,
    /// Whether it is somebody else's.
    pub peer: bool,
    /// What it took.
    pub runs: Vec<Run>,
}

impl Cost {
    /// Of nobody's runs yet.
    pub fn new(name: impl Into<String>, key: impl Into<String>, peer: bool) -> Self {
        Self { name: name.into(), key: key.into(), peer, runs: Vec::new() }
    }

    fn of(&self, figure: impl Fn(&Run) -> f64) -> anyhow::Result<Spread> {
        Spread::of(self.runs.iter().map(figure).collect())
    }

    /// Pictures a second.
    fn rate(&self) -> anyhow::Result<Spread> {
        self.of(|run| run.frames as f64 / run.seconds)
    }

    /// Processor seconds of a thousand pictures, which is milliseconds of one.
    fn processor(&self) -> anyhow::Result<Spread> {
        self.of(|run| run.processor.as_secs_f64() * 1e3 / run.frames as f64)
    }

    /// Of that, its first process's alone.
    fn alone(&self) -> anyhow::Result<Spread> {
        self.of(|run| run.alone.as_secs_f64() * 1e3 / run.frames as f64)
    }

    fn memory_mb(&self) -> anyhow::Result<Spread> {
        self.of(|run| run.memory as f64 / 1e6)
    }

    fn frames_per_processor_second(&self) -> anyhow::Result<Spread> {
        self.of(|run| run.frames as f64 / run.processor.as_secs_f64())
    }

    fn json(&self) -> anyhow::Result<Value> {
        Ok(json!({
            "name": self.name,
            "peer": self.peer,
            "frames": self.runs.iter().map(|run| run.frames).max(),
            "rate_per_s": self.rate()?.json(),
            "processor_s_per_1000": self.processor()?.json(),
            "alone_processor_s_per_1000": self.alone()?.json(),
            "frames_per_processor_s": self.frames_per_processor_second()?.json(),
            "memory_mb": self.memory_mb()?.json(),
        }))
    }
}

/// A table of them.
///
/// # Errors
///
/// When one has no run.
pub fn table(caption: impl Into<String>, costs: &[Cost]) -> anyhow::Result<Table> {
    let headings = [
        "contestant",
        "pictures",
        "pictures/s",
        "processor s per 1,000",
        "of which its first process",
        "pictures per processor s",
        "memory, MB",
    ];
    let mut table = Table::new(caption, headings);
    for cost in costs {
        let cell = |Spread { median, min, max }: Spread, digits: usize| {
            format!("{median:.digits$} ({min:.digits$} to {max:.digits$})")
        };
        table.row([
            cost.name.clone(),
            cost.runs.first().map_or(0, |run| run.frames).to_string(),
            cell(cost.rate()?, 0),
            cell(cost.processor()?, 3),
            format!("{:.3}", cost.alone()?.median),
            cell(cost.frames_per_processor_second()?, 0),
            cell(cost.memory_mb()?, 0),
        ]);
    }
    Ok(table)
}

/// Bars of processor time and of memory, one for each.
///
/// # Errors
///
/// When one has no run.
pub fn plots(costs: &[Cost]) -> anyhow::Result<Vec<Plot>> {
    let plot = |name: &str, title: &str, unit: &str, figure: fn(&Cost) -> anyhow::Result<Spread>| {
        let series = costs.iter().map(|cost| {
            let Spread { median, min, max } = figure(cost)?;
            Ok(Series { name: cost.name.clone(), points: vec![Point { x: 0.0, y: median, min, max }] })
        });
        Ok::<_, anyhow::Error>(Plot {
            name: name.to_owned(),
            title: title.to_owned(),
            x: Axis::groups([""]),
            y: Axis::log(unit),
            series: series.collect::<anyhow::Result<_>>()?,
        })
    };
    Ok(vec![
        plot("processor", "Processor time of 1,000 pictures", "seconds, all processes", Cost::processor)?,
        plot("memory", "Memory at most", "MB, all processes", Cost::memory_mb)?,
    ])
}

/// All figures.
///
/// # Errors
///
/// When one has no run.
pub fn figures(costs: &[Cost]) -> anyhow::Result<Value> {
    let all = costs.iter().map(|cost| Ok((cost.key.clone(), cost.json()?)));
    Ok(Value::Object(all.collect::<anyhow::Result<_>>()?))
}
