//! Sustained work at 50 ms latency: pictures a second, processor time, memory. Of ourselves the library, and the daemon
//! with its journal and the order kept, its capture processes counted.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use testbed::contest::Tree;
use testbed::daemon::{Credentials, Daemon, Storage};
use testbed::oracle::Entry;
use testbed::synthetic::{self, Synthetic};

use crate::contestant::{Arena, Contestant, Running};
use crate::cost::{self, Cost, LOOK_EVERY, Run};
use crate::machine::Machine;
use crate::report::Section;
use crate::server::{BUCKET, Object};
use crate::setting::Setting;

const LATENCY_MS: u64 = 50;
/// Requests at the same time, of everybody.
const AT_ONCE: usize = 50;
const ROUNDS: usize = 5;
/// Those of a run that has to be quick.
const FEW_ROUNDS: usize = 3;
/// The daemon's cameras, and frames a second of each. Cameras do not wait: together it is less than the requests carry
/// that it makes at the same time.
const CAMERAS: usize = 4;
const FPS: f64 = 225.0;
const WORKERS: usize = 64;
/// How long the daemon may take to store what it has taken.
const PATIENCE: Duration = Duration::from_secs(60);

/// What keeps a frame of the daemon until it is stored.
const DURABILITIES: [(&str, &str); 2] = [("memory", "frames in memory"), ("disk", "frames in the spool")];

/// Measures all contestants, in turn.
///
/// # Errors
///
/// When one fails, or does not store all.
pub fn run(setting: &Setting, machine: &mut Machine) -> anyhow::Result<Section> {
    let arena = Arena::new(setting, machine)?;
    arena.server.latency(LATENCY_MS)?;
    let mut costs: Vec<Cost> = arena.contestants().map(|one| Cost::new(one.name(), one.key(), one.is_peer())).collect();
    let daemons: Vec<(&str, &str)> =
        DURABILITIES.into_iter().filter(|(key, _)| setting.takes_part(&format!("daemon_{key}"))).collect();
    let daemon =
        |(key, what): (&str, &str)| Cost::new(format!("framehaul daemon, {what}"), format!("daemon_{key}"), false);
    // Beside the library.
    let place = costs.len().min(2);
    costs.splice(place..place, daemons.iter().copied().map(daemon));
    let mut running = arena.start_all(arena.contestants(), false)?;
    for one in &mut running {
        // As warm as it gets: twice its connections and processes.
        one.open(AT_ONCE)?;
        one.burst(2 * AT_ONCE)?;
    }
    let rounds = if setting.quick { FEW_ROUNDS } else { ROUNDS };
    for round in 0..rounds {
        for turn in 0..running.len() {
            let who = (turn + round) % running.len();
            let one = &mut running[who];
            let run = peer(one, frames(one.contestant(), setting.quick))?;
            costs.iter_mut().find(|cost| cost.key == one.contestant().key()).context("it is there")?.runs.push(run);
        }
        for (key, _) in &daemons {
            let run = self::daemon(setting, &arena, key, round, frames(Contestant::Ours, setting.quick))?;
            costs.iter_mut().find(|cost| cost.key == format!("daemon_{key}")).context("it is there")?.runs.push(run);
        }
        eprintln!("  round {}", round + 1);
    }
    running.into_iter().try_for_each(Running::end)?;
    Ok(Section {
        name: "sustained",
        title: "Sustained work".to_owned(),
        text: format!(
            "As many pictures as stand in the table, one after the other with at most {AT_ONCE} requests at the same \
             time, latency {LATENCY_MS} ms, plain, connections warm. Processor time and memory are those of all processes \
             of a contestant: workers, Redis, the daemon, its capture processes; what several processes share counts once \
             (PSS). The server counts for nobody.\n\n\
             The daemon gives each frame a seq, keeps a journal and the order, and takes its frames from {CAMERAS} \
             capture processes that have pictures of {} KB ready, {FPS} a second each: its rate is theirs. It makes up to \
             {WORKERS} requests at the same time, as its configuration has it.",
            picture_bytes(&arena) / 1_000,
        ),
        tables: vec![cost::table("Medians (least to most)", &costs)?],
        plots: cost::plots(&costs)?,
        figures: json!({ "latency_ms": LATENCY_MS, "at_once": AT_ONCE, "contestants": cost::figures(&costs)? }),
    })
}

/// So many that processor time can be told: the kernel counts hundredths of a second.
fn frames(contestant: Contestant, quick: bool) -> usize {
    let (many, few) = match contestant {
        Contestant::Ours | Contestant::Floor | Contestant::Aiohttp => (10_000, 2_000),
        Contestant::GcloudAio | Contestant::Threads => (3_000, 1_000),
        Contestant::Celery(_) => (1_000, 250),
    };
    if quick { few } else { many }
}

fn peer(one: &mut Running<'_>, frames: usize) -> anyhow::Result<Run> {
    one.open(AT_ONCE)?;
    one.burst(AT_ONCE)?;
    let tree = one.tree();
    let watch = tree.watch(LOOK_EVERY);
    let (before, alone) = (tree.processor()?, tree.alone()?);
    let ms = one.burst(frames)?;
    let (processor, alone) = (tree.processor()? - before, tree.alone()? - alone);
    Ok(Run { frames, seconds: ms / 1e3, processor, memory: watch.most(), alone })
}

fn picture_bytes(arena: &Arena<'_>) -> usize {
    arena.pictures.mean_bytes() as usize
}

/// The daemon with its capture processes, from the moment it gets its cameras until it has stored what they gave.
fn daemon(setting: &Setting, arena: &Arena<'_>, durability: &str, round: usize, frames: usize) -> anyhow::Result<Run> {
    let dir = setting.scratch()?;
    let engines = synthetic::engines(dir.path(), &setting.program)?;
    let prefix = format!("daemon-{durability}-{round}");
    let storage = Storage::Gcs {
        endpoint: arena.server.endpoint(false).to_owned(),
        bucket: format!("{BUCKET}/{prefix}"),
        credentials: Credentials::Anonymous,
    };
    let more = format!(
        "[capture]\nengine_dir = {}\n[spool]\ndurability = \"{durability}\"\n[upload]\nworkers = {WORKERS}\n",
        json!(engines)
    );
    let mut daemon = Daemon::start(&setting.program, dir.path(), &storage, &more)?;
    let tree = Tree::of(daemon.pid());
    let watch = tree.watch(LOOK_EVERY);
    let (before, alone, begun) = (tree.processor()?, tree.alone()?, Instant::now());
    let each = frames / CAMERAS;
    for nth in 0..CAMERAS {
        let camera = Synthetic::new(&format!("c{nth}")).fps(FPS).bytes(picture_bytes(arena)).frames(each as u64);
        daemon.put_camera(&camera.name, &camera.request())?;
    }
    // Questions cost it time, too: none before it can be through.
    std::thread::sleep(Duration::from_secs_f64(each as f64 / FPS));
    let mut statuses = daemon.statuses()?;
    let stored = |statuses: &[(String, testbed::daemon::Status)]| -> u64 {
        statuses.iter().map(|(_, status)| status.totals.stored + status.totals.lost).sum()
    };
    while stored(&statuses) < (each * CAMERAS) as u64 {
        ensure!(
            begun.elapsed() < Duration::from_secs_f64(each as f64 / FPS) + PATIENCE,
            "it is not through: {statuses:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
        statuses = daemon.statuses()?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let (processor, alone) = (tree.processor()? - before, tree.alone()? - alone);
    let memory = watch.most();
    let lost: u64 = statuses.iter().map(|(_, status)| status.totals.lost).sum();
    ensure!(lost == 0, "{lost} frames are lost");
    // What its lists say and what the server has are the same.
    let mut listed = Vec::new();
    for (id, _) in &statuses {
        for entry in daemon.list(id, 1_000)?.entries {
            if let Entry::Frame(frame) = entry {
                let crc32c = BASE64_STANDARD.decode(&frame.crc32c)?.try_into().ok().context("four bytes")?;
                listed.push(Object { bytes: frame.bytes, crc32c: u32::from_be_bytes(crc32c) });
            }
        }
    }
    let there =
        arena.server.objects(&prefix)?.into_iter().filter(|object| object.bytes as usize == picture_bytes(arena));
    let sorted = |mut objects: Vec<Object>| {
        objects.sort_unstable_by_key(|object| object.crc32c);
        objects
    };
    ensure!(
        listed.len() == each * CAMERAS && sorted(listed) == sorted(there.collect()),
        "the server has not what the lists say"
    );
    daemon.stop()?;
    Ok(Run { frames: each * CAMERAS, seconds, processor, memory, alone })
}
