//! Bursts: so many pictures at once, from memory to the last URL.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Map, Value, json};
use testbed::contest::Spread;

use crate::contestant::{Arena, Contestant, Running};
use crate::machine::Machine;
use crate::report::{Section, Table};
use crate::setting::Setting;
use crate::svg::{Axis, Plot, Point, Series};

/// Who has taken longer once is not asked again in that case: it has far fewer places than pictures, and its waves of one
/// latency each would make the benchmark last twice as long.
const ONCE_ABOVE_MS: f64 = 10_000.0;
/// How long a push is left alone before the burst that is to find its connections warm.
const SILENCE: Duration = Duration::from_secs(60);
/// Of so many pictures, and with this latency.
const AFTER_SILENCE: (usize, u64) = (50, 50);

/// A burst, in all that makes a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Case {
    tls: bool,
    latency_ms: u64,
    frames: usize,
    warm: bool,
}

impl Case {
    fn name(self) -> String {
        let Self { tls, latency_ms, frames, warm } = self;
        let (wire, lines) = (if tls { "tls" } else { "plain" }, if warm { "warm" } else { "cold" });
        format!("{wire}/{latency_ms}/{frames}/{lines}")
    }
}

/// What was measured, milliseconds: by case, then by contestant.
type Measured = BTreeMap<Case, Vec<(Contestant, Spread)>>;

/// What is to be measured.
struct Plan {
    rounds: usize,
    latencies: &'static [u64],
    frames: &'static [usize],
}

/// Measures bursts of all contestants, in turn.
///
/// # Errors
///
/// When one fails, or does not store all.
pub fn run(setting: &Setting, machine: &mut Machine) -> anyhow::Result<Section> {
    let arena = Arena::new(setting, machine)?;
    let mut measured = Measured::new();
    for tls in [false, true] {
        let plan = match (setting.quick, tls) {
            (false, _) => {
                Plan { rounds: 5, latencies: &[0, 50, 200, 1_050], frames: &[1, 5, 10, 15, 30, 50, 100, 500] }
            }
            (true, false) => Plan { rounds: 5, latencies: &[50, 1_050], frames: &[50] },
            (true, true) => Plan { rounds: 5, latencies: &[50], frames: &[50] },
        };
        let all = arena.contestants().filter(|one| !(setting.quick && tls && one.is_celery()));
        matrix(&arena, all.collect(), tls, &plan, &mut measured)?;
    }
    let silence = if setting.quick { Vec::new() } else { after_silence(&arena, 5)? };
    Ok(section(&arena, &measured, &silence))
}

/// All cases with or without TLS. Contestants take turns within each case.
fn matrix(
    arena: &Arena<'_>,
    contestants: Vec<Contestant>,
    tls: bool,
    plan: &Plan,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let mut running = arena.start_all(contestants, tls)?;
    // Programs that are read from disk, code that is compiled, forks that have not had a task.
    for one in &mut running {
        one.open(50)?;
        one.burst(100)?;
    }
    for &latency_ms in plan.latencies {
        arena.server.latency(latency_ms)?;
        for &frames in plan.frames {
            let mut figures = vec![[Vec::new(), Vec::new()]; running.len()];
            for round in 0..plan.rounds {
                for turn in 0..running.len() {
                    // Nobody always comes behind the same one.
                    let who = (turn + round) % figures.len();
                    if figures[who].iter().flatten().any(|ms| *ms > ONCE_ABOVE_MS) {
                        continue;
                    }
                    running[who].open(frames)?;
                    for lines in &mut figures[who] {
                        lines.push(running[who].burst(frames)?);
                    }
                }
            }
            for (lines, warm) in [false, true].into_iter().enumerate() {
                let of = |(one, figures): (&Running<'_>, &[Vec<f64>; 2])| {
                    Ok((one.contestant(), Spread::of(figures[lines].clone())?))
                };
                let spreads = running.iter().zip(&figures).map(of).collect::<anyhow::Result<Vec<_>>>()?;
                measured.insert(Case { tls, latency_ms, frames, warm }, spreads);
            }
            eprintln!("  {latency_ms} ms{}, {frames} pictures", if tls { ", TLS" } else { "" });
        }
    }
    running.into_iter().try_for_each(Running::end)
}

/// What a push takes with its connections warm, and again after it was silent for a minute.
#[derive(Debug)]
struct Silence {
    tls: bool,
    warm: Spread,
    after: Spread,
}

fn after_silence(arena: &Arena<'_>, rounds: usize) -> anyhow::Result<Vec<Silence>> {
    let (frames, latency_ms) = AFTER_SILENCE;
    arena.server.latency(latency_ms)?;
    let mut waiting = Vec::new();
    for tls in [false, true] {
        for _ in 0..rounds {
            let mut one = arena.start(Contestant::Ours, tls)?;
            one.open(frames)?;
            one.burst(frames)?;
            let warm = one.burst(frames)?;
            waiting.push((tls, one, warm));
        }
    }
    std::thread::sleep(SILENCE);
    let mut figures = BTreeMap::from([(false, (Vec::new(), Vec::new())), (true, (Vec::new(), Vec::new()))]);
    for (tls, mut one, warm) in waiting {
        let (before, after) = figures.get_mut(&tls).context("both are there")?;
        before.push(warm);
        after.push(one.burst(frames)?);
        one.end()?;
    }
    let of = |(tls, (warm, after))| Ok(Silence { tls, warm: Spread::of(warm)?, after: Spread::of(after)? });
    figures.into_iter().map(of).collect()
}

fn section(arena: &Arena<'_>, measured: &Measured, silence: &[Silence]) -> Section {
    let mut tables: Vec<Table> = Vec::new();
    let mut by_latency: BTreeMap<(bool, bool, u64), Vec<Case>> = BTreeMap::new();
    for case in measured.keys() {
        by_latency.entry((case.tls, !case.warm, case.latency_ms)).or_default().push(*case);
    }
    for ((tls, cold, latency_ms), cases) in &by_latency {
        let caption = format!(
            "Latency {latency_ms} ms, {}, connections {}; ms, median (least to most)",
            if *tls { "TLS" } else { "plain" },
            if *cold { "cold" } else { "warm" }
        );
        let pictures = cases.iter().map(|case| format!("{} pictures", case.frames).replace("1 pictures", "1 picture"));
        let mut table = Table::new(caption, std::iter::once("contestant".to_owned()).chain(pictures));
        for contestant in arena.contestants() {
            let cells = cases.iter().map(|case| spread_of(measured, *case, contestant).map_or("-".into(), cell));
            table.row(std::iter::once(contestant.name()).chain(cells));
        }
        tables.push(table);
    }
    let mut table = Table::new(
        format!(
            "framehaul::push, {} pictures, latency {} ms, connections warm, and after {} s of silence; ms",
            AFTER_SILENCE.0,
            AFTER_SILENCE.1,
            SILENCE.as_secs()
        ),
        ["", "warm", "after silence"],
    );
    for Silence { tls, warm, after } in silence {
        table.row([if *tls { "TLS" } else { "plain" }.to_owned(), cell(*warm), cell(*after)]);
    }
    if !silence.is_empty() {
        tables.push(table);
    }
    Section {
        name: "burst",
        title: "Bursts".to_owned(),
        text: format!(
            "Pictures of 1080p, {} KB each on average, wait in the contestant's memory; the clock runs from the first \
             one to the last URL, in the contestant itself. The server answers each upload so many milliseconds after \
             its last byte. *Cold* is the first burst of a new client, *warm* the second one over the same connections. \
             Contestants take turns within each case. After each, the server's objects are compared with what was given: \
             number, order, CRC32C. A contestant whose first one takes more than {} s has no other in that case.\n\n\
             The *floor* is prepared requests over raw connections in one thread, without order, retry or checksum. *As \
             written* makes a client for each task; *tuned* keeps it, and sends bytes as they are.",
            arena.pictures.mean_bytes() / 1_000,
            ONCE_ABOVE_MS / 1e3,
        ),
        tables,
        plots: plots(arena, measured),
        figures: figures(measured, silence),
    }
}

fn spread_of(measured: &Measured, case: Case, contestant: Contestant) -> Option<Spread> {
    measured.get(&case)?.iter().find(|(one, _)| *one == contestant).map(|(_, spread)| *spread)
}

fn cell(Spread { median, min, max }: Spread) -> String {
    if median > ONCE_ABOVE_MS && min == max {
        return format!("{median:.0} (once)");
    }
    let digits = if median < 20.0 { 1 } else { 0 };
    format!("{median:.digits$} ({min:.digits$} to {max:.digits$})")
}

/// Over the number of pictures, for each latency, plain and warm.
fn plots(arena: &Arena<'_>, measured: &Measured) -> Vec<Plot> {
    let mut latencies: Vec<u64> = measured.keys().map(|case| case.latency_ms).collect();
    latencies.sort_unstable();
    latencies.dedup();
    let plot = |latency_ms: u64| {
        let series = arena.contestants().map(|contestant| {
            let cases = measured.keys().filter(|case| case.latency_ms == latency_ms && case.warm && !case.tls);
            let points = cases.filter_map(|case| {
                let Spread { median, min, max } = spread_of(measured, *case, contestant)?;
                Some(Point { x: case.frames as f64, y: median, min, max })
            });
            Series { name: contestant.name(), points: points.collect() }
        });
        Plot {
            name: format!("{latency_ms}ms"),
            title: format!("A burst at {latency_ms} ms latency, connections warm"),
            x: Axis::log("pictures"),
            y: Axis::log("milliseconds to the last URL"),
            series: series.collect(),
        }
    };
    latencies.into_iter().map(plot).collect()
}

fn figures(measured: &Measured, silence: &[Silence]) -> Value {
    let mut cases = Map::new();
    for (case, spreads) in measured {
        let all: Map<String, Value> = spreads.iter().map(|(one, spread)| (one.key(), spread.json())).collect();
        cases.insert(case.name(), all.into());
    }
    let silence: Map<String, Value> = silence
        .iter()
        .map(|Silence { tls, warm, after }| {
            let name = if *tls { "tls" } else { "plain" };
            (name.to_owned(), json!({ "warm_ms": warm.json(), "after_silence_ms": after.json() }))
        })
        .collect();
    json!({ "unit": "ms", "cases": cases, "silence": silence })
}
