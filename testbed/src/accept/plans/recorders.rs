//! Recorders: an exporter that is complete, verified and gentle, beside the tools that others have.

use std::path::Path;
use std::time::Duration;

use super::both;
use crate::accept::Plan;
use crate::accept::commands::tests;
use crate::scenario::{self, ExportKills, ExportSpeed, LockedOut, ManyRecordings, Outcome, Remuxed, Stage, Tools};

const SEED: u64 = 20_261_124;
/// Where Python gets its environment; the tests of those tools use the same. `make clean` removes it.
const TOOLS: &str = "target/tmp/recorder-clients";

pub(in crate::accept) fn recorders_1() -> Vec<Plan> {
    vec![
        Plan::new(1, None, fixture),
        Plan::new(2, Some(SEED), many),
        Plan::new(3, None, broken),
        Plan::new(4, None, locked),
        Plan::new(5, None, speed),
        Plan::new(6, Some(SEED), remux),
        Plan::new(7, Some(SEED), kills),
    ]
}

fn tools() -> anyhow::Result<Tools> {
    Tools::install(Path::new(TOOLS))
}

fn fixture(program: &Path) -> anyhow::Result<Outcome> {
    let compared = scenario::side_by_side(&Stage::new(program)?, &tools()?)?;
    let theirs = tests(
        "hikload 1.1.4 and hikvisionapi 0.3.2 against the simulator",
        &["-p", "testbed", "--test", "recorder_clients"],
    )?;
    Ok(both(compared, theirs))
}

fn many(program: &Path) -> anyhow::Result<Outcome> {
    let plan = ManyRecordings { channels: 2, recordings: 500, rate_cut: 0.1, rate_busy: 0.05, seed: SEED };
    scenario::many_recordings(&Stage::new(program)?, &plan)
}

fn broken(program: &Path) -> anyhow::Result<Outcome> {
    scenario::broken_recordings(&Stage::new(program)?, &tools()?)
}

fn locked(program: &Path) -> anyhow::Result<Outcome> {
    let plan = LockedOut { channels: 16, recordings: 6, most: 3, locked: Duration::from_secs(10) };
    let alone = scenario::locked_out(&Stage::new(program)?, &tools()?, &plan)?;
    let within = tests(
        "sixteen clients of one process, and a lock until its time",
        &["-p", "framehaul", "--test", "recorder", "quirk_04"],
    )?;
    Ok(both(alone, within))
}

fn speed(program: &Path) -> anyhow::Result<Outcome> {
    let plan = ExportSpeed {
        bytes: 2_000_000_000,
        rounds: 5,
        wire: 125_000_000,
        at_once: 4,
        small: 500_000_000,
        share: 0.9,
        most_mb: 100.0,
    };
    scenario::export_speed(&Stage::new(program)?, &tools()?, &plan)
}

fn remux(program: &Path) -> anyhow::Result<Outcome> {
    scenario::remuxed(&Stage::new(program)?, &Remuxed { recordings: 4, pictures: 50, seed: SEED })
}

fn kills(program: &Path) -> anyhow::Result<Outcome> {
    let plan = ExportKills { recordings: 100, kills: 8, bytes_per_s: 400_000, seed: SEED };
    scenario::export_kills(&Stage::new(program)?, &plan)
}
