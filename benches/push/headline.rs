//! The README's headline: a paragraph between two markers, made of the figures.

use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::Value;

const BEGIN: &str = "<!-- bench -->";
const END: &str = "<!-- /bench -->";

/// Puts the headline of a report into a file, between its markers.
///
/// # Errors
///
/// When the markers or a figure are missing.
pub fn write(path: &Path, report: &Value) -> anyhow::Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = between(&text, &headline(report)?)?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn between(text: &str, headline: &str) -> anyhow::Result<String> {
    let (before, rest) = text.split_once(BEGIN).context("the README has no place for the headline")?;
    let (_, after) = rest.split_once(END).context("the headline's place in the README does not end")?;
    Ok(format!("{before}{BEGIN}\n{headline}\n{END}{after}"))
}

/// What is worth a first look: the burst that this began with, and what a picture costs.
fn headline(report: &Value) -> anyhow::Result<String> {
    let number =
        |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).with_context(|| format!("no {pointer}"));
    let burst =
        |latency: u32, who: &str| number(&format!("/parts/burst/cases/plain~1{latency}~150~1warm/{who}/median"));
    let cost = |who: &str, what: &str| number(&format!("/parts/sustained/contestants/{who}/{what}/median"));
    let date = report.pointer("/machine/date").and_then(Value::as_str).context("no date")?;
    let command = report.pointer("/command").and_then(Value::as_str).context("no command")?;
    let written = "celery_prefork_10";
    Ok(format!(
        "50 pictures of 1080p out of memory into a bucket that takes 1,050 ms for each: **{:.0} ms** by \
         `framehaul::push`,\n{:.0} ms by a Celery group as it is often written; at 50 ms {:.0} and {:.0} ms. Processor time of \
         a stored frame:\n{:.2} ms in the daemon, journal and order included, {:.2} ms with bare aiohttp, {:.1} ms with \
         google-cloud-storage in threads,\n{:.1} ms with that Celery group. {date}, `{command}`; [all \
         figures](docs/benchmarks.md).",
        burst(1_050, "ours")?,
        burst(1_050, written)?,
        burst(50, "ours")?,
        burst(50, written)?,
        cost("daemon_memory", "processor_s_per_1000")?,
        cost("aiohttp", "processor_s_per_1000")?,
        cost("threads", "processor_s_per_1000")?,
        cost(written, "processor_s_per_1000")?,
    ))
}
