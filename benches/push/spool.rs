//! The spool, by a benchmark of its own: `benches/spool.rs`.

use std::process::{Command, Stdio};

use anyhow::Context;
use serde_json::Value;

use crate::machine::Machine;
use crate::report::{Section, Table};
use crate::setting::Setting;

/// Runs it. That a bound is missed shows in its table, and does not end the others.
///
/// # Errors
///
/// When it cannot be run.
pub fn run(setting: &Setting, _: &mut Machine) -> anyhow::Result<Section> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["bench", "--locked", "--profile", "dev", "-p", "framehaul", "--bench", "spool", "--"]);
    if setting.quick {
        command.arg("cost");
    }
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or_default();
    let figures: Value = serde_json::from_str(last).with_context(|| format!("it ends with `{last}`"))?;
    let mut table = Table::new("Figures beside their bounds", ["", "figure", "bound"]);
    for (part, name, bound, what) in [
        ("cost", "processor_ms_per_frame", "bound_ms", "processor time of a frame of 150 KB, ms, at most"),
        ("rate", "mb_per_s", "bound_mb_per_s", "sustained, MB/s, at least"),
        ("start", "daemon_ready_ms", "bound_ms", "daemon ready over 200,000 records, ms, at most"),
    ] {
        let number = |field: &str| figures[part][field].as_f64();
        if let (Some(figure), Some(bound)) = (number(name), number(bound)) {
            let cell = |figure: f64| if figure < 10.0 { format!("{figure:.3}") } else { format!("{figure:.0}") };
            table.row([what.to_owned(), cell(figure), cell(bound)]);
        }
    }
    Ok(Section {
        name: "spool",
        title: "The spool".to_owned(),
        text: "What it costs to have each frame on disk before it is sent, and how soon the daemon is back over a full one."
            .to_owned(),
        tables: vec![table],
        plots: Vec::new(),
        figures,
    })
}
