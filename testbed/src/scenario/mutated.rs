//! Cameras that send what no camera should: bits turned over, packets cut short, pictures that never end, parameter sets
//! of 16384x16384. They cost their own capture processes at most; the daemon and the cameras beside them notice nothing.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use super::stage::{cameras, examine, until_streaming};
use super::{Outcome, Problems, Stage};
use crate::cameras::{CameraServer, CameraSpec, default_cache_dir};
use crate::clip::Codec;
use crate::daemon::{Daemon, Status, Storage};
use crate::rtp_proxy::{RtpProxy, Script, Spoil, Stats};

/// How hard it is made.
#[derive(Debug, Clone)]
pub struct Mutated {
    /// All cameras' key `engine`; none where the daemon is to choose.
    pub engine: Option<&'static str>,
    /// How long each codec's streams are mutated, all at the same time.
    pub lasts: Duration,
    /// The share of packets that is.
    pub share: f64,
    /// Cameras beside them.
    pub bystanders: usize,
    /// Frames a second of all.
    pub fps: u32,
    /// The most that one of the hostile cameras' capture processes may be resident, MB (10^6 bytes). Beside it the
    /// limits hold that the process has of itself.
    pub resident_mb: f64,
    /// Where the random numbers start.
    pub seed: u64,
}

impl Mutated {
    fn with_engine(&self, mut spec: Value) -> Value {
        if let Some(engine) = self.engine {
            spec["engine"] = json!(engine);
        }
        spec
    }
}

/// How often the capture processes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(60);
/// Each of the hostile cameras' pictures is decoded, and one in so many is stored.
const EVERY: u32 = 3;

/// A hostile camera, and what was seen of its capture processes.
struct Hostile {
    id: String,
    spec: Value,
    proxy: RtpProxy,
    seen: Seen,
}

/// What was seen of one camera's capture processes.
#[derive(Debug, Default, Serialize)]
struct Seen {
    /// The daemon's number of the last of them.
    children: u64,
    /// The most that one was resident, KiB.
    resident_kib: u64,
    /// The most that one had of data, KiB.
    data_kib: u64,
    /// Looks at which one was beyond a limit of its own, or had none.
    beyond: u64,
    /// What ended them, by kind, as far as it was seen.
    ended: BTreeMap<String, u64>,
}

impl Seen {
    fn look(&mut self, status: &Status) -> anyhow::Result<()> {
        if status.generation != self.children {
            self.children = status.generation;
            if let Some(kind) = status.last_error.as_ref().and_then(|error| error["kind"].as_str()) {
                *self.ended.entry(kind.to_owned()).or_default() += 1;
            }
        }
        // One that has ended between the question and the look is not there any more.
        let Some(memory) = status.pid.map(Memory::of).transpose()?.flatten() else { return Ok(()) };
        self.resident_kib = self.resident_kib.max(memory.resident_kib);
        self.data_kib = self.data_kib.max(memory.data_kib);
        if !memory.within {
            self.beyond += 1;
        }
        Ok(())
    }
}

/// What a process has of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Memory {
    resident_kib: u64,
    data_kib: u64,
    /// Whether it is below a limit that it has, of data or of addresses.
    within: bool,
}

impl Memory {
    /// `None` where there is no such process, or it is not the capture program yet, or not any more.
    fn of(pid: u32) -> anyhow::Result<Option<Self>> {
        let read = |name| fs::read_to_string(format!("/proc/{pid}/{name}"));
        let (Ok(status), Ok(limits)) = (read("status"), read("limits")) else { return Ok(None) };
        Self::parse(&status, &limits)
    }

    fn parse(status: &str, limits: &str) -> anyhow::Result<Option<Self>> {
        let field = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
        };
        // A process that has just ended has no memory to speak of.
        let (Some(resident_kib), Some(data_kib), Some(addresses_kib)) =
            (field("VmHWM"), field("VmData"), field("VmPeak"))
        else {
            return Ok(None);
        };
        let limit = |name: &str| -> anyhow::Result<Option<u64>> {
            let line = limits.lines().find_map(|line| line.strip_prefix(name));
            let soft = line.and_then(|line| line.split_whitespace().next()).context("a limit without a value")?;
            Ok(if soft == "unlimited" {
                None
            } else {
                Some(soft.parse::<u64>().context("a limit is no number")? / 1_024)
            })
        };
        let (data, addresses) = (limit("Max data size")?, limit("Max address space")?);
        // The program has set its limits itself, a moment after its start: until then nothing is decoded.
        if data.is_none() && addresses.is_none() && field("Threads") == Some(1) {
            return Ok(None);
        }
        let below = |used: u64, limit: Option<u64>| limit.is_none_or(|limit| used <= limit);
        let limited = data.is_some() || addresses.is_some();
        let within = limited && below(data_kib, data) && below(addresses_kib, addresses);
        Ok(Some(Self { resident_kib, data_kib, within }))
    }
}

/// Runs the scenario.
///
/// # Errors
///
/// When a part does not start, or the daemon does not answer: a crash is the latter.
pub fn mutated(stage: &Stage, plan: &Mutated) -> anyhow::Result<Outcome> {
    let calm = cameras("calm", plan.bystanders, plan.fps)?;
    let specs: Vec<CameraSpec> = Codec::ALL
        .iter()
        .map(|&codec| CameraSpec::new(&format!("raw-{codec}")).size(320, 240).rate(plan.fps, plan.fps).codec(codec))
        .collect();
    let server = CameraServer::start(&specs, 0, default_cache_dir())?;
    let mut hostile = Vec::new();
    for spec in &specs {
        for transport in ["tcp", "udp"] {
            let spoil = Spoil::Mutate { codec: spec.codec, share: plan.share };
            let proxy = RtpProxy::start(server.port(), Script { seed: plan.seed, whole: 0, spoil })?;
            let body = json!({
                "url": proxy.url(&spec.name),
                "transport": transport,
                "sampling": { "every": EVERY },
            });
            let id = format!("hostile-{}-{transport}", spec.codec);
            hostile.push(Hostile { id, spec: plan.with_engine(body), proxy, seen: Seen::default() });
        }
    }

    let mut daemon = stage.daemon(&Storage::Directory, "")?;
    let mut bystanders = Vec::new();
    for spec in calm.specs() {
        daemon.put_camera(&spec.name, &plan.with_engine(calm.request(spec)))?;
        bystanders.push(spec.name.clone());
    }
    until_streaming(&daemon, &bystanders, PATIENCE)?;
    for camera in &hostile {
        daemon.put_camera(&camera.id, &camera.spec)?;
    }
    watch(&daemon, &mut hostile, plan.lasts).map_err(|error| daemon.explain(error))?;
    daemon.quiesce(PATIENCE)?;

    let mut problems = Problems::default();
    let wanted = (plan.lasts.as_secs_f64() * f64::from(plan.fps) * 0.9) as u64;
    let mut frames = 0;
    for id in &bystanders {
        let (verdict, _) = examine(&daemon, &Storage::Directory, id, &mut problems)?;
        problems.check(verdict.sessions == 1 && verdict.tombstoned == 0, || {
            format!("camera {id} noticed: {} sessions, {} frames lost", verdict.sessions, verdict.tombstoned)
        });
        problems.check(verdict.frames >= wanted, || format!("camera {id}: {} frames of {wanted}", verdict.frames));
        frames += verdict.frames;
    }
    let mut figures = serde_json::Map::new();
    let mut faults = 0;
    for Hostile { id, proxy, seen, .. } in &hostile {
        let stats = proxy.stats();
        let totals = daemon.status(id)?.totals;
        judge(id, seen, &stats, plan, &mut problems);
        problems.check(totals.add_up(), || format!("camera {id}: the accounts are off: {totals:?}"));
        faults += stats.faults();
        figures.insert(id.clone(), json!({ "processes": seen, "proxy": stats, "frames": totals.captured }));
    }
    let ended = daemon.stop()?;
    problems.check(ended.success(), || format!("the daemon ended with {ended}"));
    let panics = daemon.log_text().matches("panicked").count();
    problems.check(panics == 0, || format!("{panics} panics in the daemon's log"));
    let figure = json!({ "hostile": figures, "frames_of_the_others": frames, "panics": panics });
    let bound = format!(
        "{} s of mutated streams per codec: the daemon does not crash, other cameras lose nothing, capture processes stay within their limits and {} MB, at most one restart a connection",
        plan.lasts.as_secs(),
        plan.resident_mb
    );
    Ok(problems.outcome(bound, figure, faults))
}

/// Looks at the hostile cameras' processes until the time is over.
fn watch(daemon: &Daemon, hostile: &mut [Hostile], lasts: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + lasts;
    while Instant::now() < until {
        for (id, status) in daemon.statuses()? {
            if let Some(camera) = hostile.iter_mut().find(|camera| camera.id == id) {
                camera.seen.look(&status)?;
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    ensure!(hostile.iter().all(|camera| camera.seen.children > 0), "a hostile camera was never begun");
    Ok(())
}

fn judge(id: &str, seen: &Seen, stats: &Stats, plan: &Mutated, problems: &mut Problems) {
    let restarts = seen.children.saturating_sub(1);
    problems.check(restarts <= stats.connections, || {
        format!("camera {id}: {restarts} restarts of its capture process for {} connections", stats.connections)
    });
    problems.check(stats.plays > 0 && !stats.mutations.is_empty(), || format!("camera {id}: nothing was mutated"));
    problems.check(seen.resident_kib > 0, || format!("camera {id}: none of its capture processes was seen"));
    problems.check(seen.beyond == 0, || {
        format!("camera {id}: {} times beyond the limits of a capture process, or it has none", seen.beyond)
    });
    let resident_mb = seen.resident_kib as f64 * 1_024.0 / 1e6;
    problems.check(resident_mb <= plan.resident_mb, || {
        format!("camera {id}: {resident_mb:.0} MB resident, {} are allowed", plan.resident_mb)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tcapture\nVmPeak:\t  5000 kB\nVmHWM:\t  900 kB\nVmData:\t 2000 kB\nThreads:\t4\n";

    fn limits(data: &str, addresses: &str) -> String {
        format!(
            "Limit  Soft Limit  Hard Limit  Units\nMax data size  {data} {data} bytes\nMax address space {addresses} {addresses} bytes\n"
        )
    }

    #[test]
    fn a_process_is_within_the_limits_it_has() {
        for (data, addresses, within) in [
            ("2048000", "unlimited", true),
            ("2047999", "unlimited", false),
            ("unlimited", "5120000", true),
            ("unlimited", "5119999", false),
            ("2048000", "5119999", false),
            ("unlimited", "unlimited", false),
        ] {
            let memory = Memory::parse(STATUS, &limits(data, addresses)).unwrap();
            assert_eq!(memory, Some(Memory { resident_kib: 900, data_kib: 2000, within }), "{data} {addresses}");
        }
        let begun = STATUS.replace("Threads:\t4", "Threads:\t1");
        assert_eq!(Memory::parse(&begun, &limits("unlimited", "unlimited")).unwrap(), None);
        assert_eq!(Memory::parse("Name:\tgone\n", &limits("1", "1")).unwrap(), None);
        assert!(Memory::parse(STATUS, "Max data size\n").is_err());
    }

    #[test]
    fn what_a_hostile_camera_may_cost_is_judged() {
        let plan = Mutated {
            engine: None,
            lasts: Duration::from_secs(1),
            share: 0.01,
            bystanders: 1,
            fps: 5,
            resident_mb: 100.0,
            seed: 1,
        };
        let stats = Stats { connections: 3, plays: 3, mutations: [("bits", 5)].into(), ..Stats::default() };
        let seen = || Seen { children: 4, resident_kib: 90_000, ..Seen::default() };
        let broken = |seen: &Seen, stats: &Stats| {
            let mut problems = Problems::default();
            judge("h", seen, stats, &plan, &mut problems);
            problems.0.join("; ")
        };
        assert_eq!(broken(&seen(), &stats), "");
        assert!(broken(&Seen { children: 5, ..seen() }, &stats).contains("4 restarts"));
        assert!(broken(&Seen { beyond: 1, ..seen() }, &stats).contains("beyond the limits"));
        assert!(broken(&Seen { resident_kib: 100_000, ..seen() }, &stats).contains("102 MB"));
        assert!(broken(&Seen { resident_kib: 0, ..seen() }, &stats).contains("was seen"));
        assert!(
            broken(&seen(), &Stats { mutations: BTreeMap::new(), ..stats.clone() }).contains("nothing was mutated")
        );
    }
}
