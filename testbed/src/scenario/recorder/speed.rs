//! How fast recordings come, and what that takes: beside curl, which throws away what comes, writes it into a file or sends
//! it on, and hikload.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::fs::Mode;
use serde_json::{Value, json};

use super::place::{DAY, PASSWORD, Place, channels};
use super::tools::{self, Tools};
use crate::contest::{Alone, Spread, Started, round};
use crate::gcs::GcsServer;
use crate::nvr::{Channel, NvrServer, Options};
use crate::scenario::stage::BUCKET;
use crate::scenario::{Outcome, Problems, Stage};

/// Pictures of a recording: so many that what is sent at a time is no smaller than what a server would send.
const PICTURES: u16 = 500;
/// What dd writes.
const ZEROS: &str = "zeros";
/// What curl writes.
const FETCHED: &str = "fetched";
/// The pipe between two of them.
const PIPE: &str = "pipe";
const NOWHERE: &str = "/dev/null";
const CURL: &str = "curl, thrown away";
const DISK: &str = "dd, onto the disk";
const CURL_FILES: &str = "curl, into a file, synced";
const CURL_BUCKETS: &str = "curl to curl, into Cloud Storage";
const FILES: &str = "framehaul, into a directory";
const BUCKETS: &str = "framehaul, into Cloud Storage";
const HIKLOAD: &str = "hikload";

/// Exports beside other programs that fetch the same.
#[derive(Debug, Clone)]
pub struct ExportSpeed {
    /// The size of the recording, bytes.
    pub bytes: u64,
    /// How often each has its turn.
    pub rounds: usize,
    /// The rate of a recorder behind a wire, bytes per second.
    pub wire: u64,
    /// Recorders that are exported from at once.
    pub at_once: usize,
    /// The size of their recordings, and of those that come over a wire, bytes.
    pub small: u64,
    /// The least share of curl's rate, or of the disk's where that is slower.
    pub share: f64,
    /// The most memory that an export may have resident, MB.
    pub most_mb: f64,
}

/// What a program took for a recording.
#[derive(Debug, Clone, Copy)]
struct Took {
    /// Bytes per second.
    rate: f64,
    /// Seconds of processor time per GB.
    processor: f64,
    resident: u64,
}

impl Took {
    fn of(alone: Alone, bytes: u64) -> Self {
        let processor = alone.processor.as_secs_f64() / (bytes as f64 / 1e9);
        Self { rate: bytes as f64 / alone.took.as_secs_f64(), processor, resident: alone.resident }
    }
}

/// Two programs that make one: after each other, or at once.
fn both(one: Alone, other: Alone, took: Duration) -> Alone {
    Alone { took, processor: one.processor + other.processor, resident: one.resident + other.resident }
}

/// Fetches by all of them in turns, at full speed and over a wire, then from several recorders at once.
///
/// # Errors
///
/// When a part does not start or does not answer, or a program fails.
pub fn export_speed(stage: &Stage, tools: &Tools, plan: &ExportSpeed) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    let full = turns(stage, tools, plan, plan.bytes, None)?;
    let wire = turns(stage, tools, plan, plan.small, Some(plan.wire))?;
    let median = |of: &BTreeMap<&str, Vec<Took>>, who: &str| {
        Spread::of(of[who].iter().map(|took| took.rate).collect()).map(|spread| spread.median)
    };
    for (speed, of) in [("full speed", &full), ("over a wire", &wire)] {
        let curl = median(of, CURL)?;
        let slower = curl.min(median(of, DISK)?);
        for (who, measure, peer) in [(FILES, slower, CURL_FILES), (BUCKETS, curl, CURL_BUCKETS)] {
            let (share, of_peer) = (median(of, who)? / measure, median(of, who)? / median(of, peer)?);
            let took = |who: &str| Spread::of(of[who].iter().map(|took| took.processor).collect());
            let (ours, peers) = (took(who)?.median, took(peer)?.median);
            problems.check(share >= plan.share, || {
                format!(
                    "{speed}: {who}: {:.0} % of the measure, and {:.0} % of `{peer}`, which checks nothing: a GB takes {ours:.2} \
                     s of processor time here and {peers:.2} there, and whoever sends and stores it runs on the same cores",
                    share * 1e2,
                    of_peer * 1e2
                )
            });
        }
        for who in [FILES, BUCKETS] {
            let most = of[who].iter().map(|took| took.resident).max().unwrap_or_default() as f64 / 1e6;
            problems.check(most > 0.0 && most < plan.most_mb, || format!("{speed}: {who}: {most:.0} MB resident"));
        }
    }
    let (at_once, scales) = at_once(stage, plan)?;
    problems.check(scales >= plan.share, || {
        format!("{} recorders at once come at {:.0} % of what loopback and disk allow", plan.at_once, scales * 1e2)
    });
    let figure = json!({
        "bytes": plan.bytes,
        "full_speed": table(&full)?,
        "over_a_wire": { "bytes_per_s": plan.wire, "bytes": plan.small, "who": table(&wire)? },
        "at_once": at_once,
    });
    let bound = format!(
        "one stream of {:.1} GB: at least {:.0} % of curl's rate into /dev/null, or of the disk's where that is slower; less \
         than {} MB resident; processor seconds per GB beside curl's and hikload's; {} recorders at once: {:.0} % of {} times \
         one, or of what curl gets of them at once onto the disk",
        plan.bytes as f64 / 1e9,
        plan.share * 1e2,
        plan.most_mb,
        plan.at_once,
        plan.share * 1e2,
        plan.at_once,
    );
    Ok(problems.measured(bound, figure))
}

fn recorder(bytes: u64, bytes_per_s: Option<u64>) -> anyhow::Result<NvrServer> {
    let like = Channel { pictures: PICTURES, least_bytes: bytes, ..Channel::default() };
    let server = NvrServer::start(Options { channels: channels(&[1, 0], &like), ..Options::default() })?;
    server.change_knobs(|knobs| knobs.bytes_per_s = bytes_per_s)?;
    Ok(server)
}

/// Each has its turn, again and again.
fn turns(
    stage: &Stage,
    tools: &Tools,
    plan: &ExportSpeed,
    bytes: u64,
    bytes_per_s: Option<u64>,
) -> anyhow::Result<BTreeMap<&'static str, Vec<Took>>> {
    let server = recorder(bytes, bytes_per_s)?;
    let bytes = server.recordings()[0].size;
    let gcs = GcsServer::start(crate::gcs::Options {
        buckets: vec![BUCKET.to_owned()],
        discard: true,
        ..crate::gcs::Options::default()
    })?;
    let mut all: BTreeMap<&'static str, Vec<Took>> = BTreeMap::new();
    let place = Place::new(stage, "speed")?;
    warm(&place, bytes)?;
    for turn in 0..plan.rounds {
        let mut measured = |who: &'static str, run: &mut dyn FnMut() -> anyhow::Result<Alone>| -> anyhow::Result<()> {
            // What another one has left to be written back would hold this one up.
            rustix::fs::sync();
            let alone = run().with_context(|| format!("{who}, turn {}", turn + 1))?;
            all.entry(who).or_default().push(Took::of(alone, bytes));
            Ok(())
        };
        measured(CURL_FILES, &mut || curl_into_a_file(&server, place.dir()))?;
        clear(&place)?;
        let key = format!("curl/{turn}");
        measured(CURL_BUCKETS, &mut || curl_to_curl(&server, place.dir(), &gcs, &key))?;
        ensure!(gcs.has(BUCKET, &key), "curl has stored nothing");
        let mut run = |who, command: &mut Command| measured(who, &mut || Alone::run(command));
        run(CURL, &mut curl(&server, place.dir(), NOWHERE)?)?;
        run(DISK, &mut dd(place.dir(), bytes))?;
        clear(&place)?;
        run(FILES, place.export(&server, &[]).args(DAY))?;
        let found: u64 = place.files()?.values().map(|(size, _)| size).sum();
        ensure!(found == bytes, "{found} of {bytes} bytes are there");
        clear(&place)?;
        let to = format!("gs://{BUCKET}/{turn}");
        let mut export = place.export_to(&to, &server, &[]);
        run(BUCKETS, export.args(DAY).env("FRAMEHAUL__STORAGE__ENDPOINT", gcs.endpoint()))?;
        let stored = gcs.objects(BUCKET).into_iter().filter(|of| of.size == bytes).count();
        ensure!(stored == 2 * (turn + 1), "{stored} objects are there");
        // It holds all of a recording in memory, and its rate is nobody's measure.
        if turn == 0 && bytes_per_s.is_none() {
            run(HIKLOAD, &mut tools.hikload(&server, PASSWORD, place.dir(), &tools::DAY))?;
            clear(&place)?;
        }
    }
    Ok(all)
}

/// Writes as much once before anything counts: memory that this machine has never used is slow to come by, and whoever
/// came first would wait for it.
fn warm(place: &Place, bytes: u64) -> anyhow::Result<()> {
    Alone::run(&mut dd(place.dir(), bytes))?;
    clear(place)
}

/// Removes what came, so that the next one writes into the same memory.
fn clear(place: &Place) -> anyhow::Result<()> {
    for written in [ZEROS, FETCHED].map(|name| place.dir().join(name)) {
        if written.exists() {
            fs::remove_file(&written).context("cannot clear away what was written")?;
        }
    }
    if place.out().exists() {
        fs::remove_dir_all(place.out()).context("cannot clear away what came")?;
    }
    Ok(())
}

/// curl, and a sync of its file as far as it is not on the disk yet.
fn curl_into_a_file(server: &NvrServer, dir: &Path) -> anyhow::Result<Alone> {
    let fetched = Alone::run(&mut curl(server, dir, FETCHED)?)?;
    let synced = Alone::run(Command::new("sync").arg(dir.join(FETCHED)))?;
    Ok(both(fetched, synced, fetched.took + synced.took))
}

/// One curl that fetches, and one that sends on what it gets, which tells no size ahead.
fn curl_to_curl(server: &NvrServer, dir: &Path, gcs: &GcsServer, key: &str) -> anyhow::Result<Alone> {
    let pipe = dir.join(PIPE);
    if !pipe.exists() {
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, Mode::RUSR | Mode::WUSR).context("cannot make a pipe")?;
    }
    let url = format!("{}/upload/storage/v1/b/{BUCKET}/o?uploadType=media&name={key}", gcs.endpoint());
    let mut command = Command::new("curl");
    command.args(["--silent", "--fail", "--request", "POST", "--header", "Expect:", "--upload-file"]).arg(&pipe);
    let sends = Alone::start(command.arg(url).env("NO_PROXY", "127.0.0.1"))?;
    let fetched = Alone::run(&mut curl(server, dir, PIPE)?)?;
    // It has begun right before the other, and ends after it.
    let sent = sends.ended()?;
    Ok(both(fetched, sent, sent.took))
}

/// curl, which writes what comes to there.
fn curl(server: &NvrServer, dir: &Path, to: &str) -> anyhow::Result<Command> {
    let recording = &server.recordings()[0];
    let compact = |time: &str| format!("{}Z", time.replace(['-', ':'], ""));
    let uri = format!(
        "rtsp://{}/Streaming/tracks/{}/?starttime={}&amp;endtime={}&amp;name={}&amp;size={}",
        server.host(),
        recording.track,
        compact(&recording.begin),
        compact(&recording.end),
        recording.name,
        recording.size
    );
    let body = dir.join("download.xml");
    let text = format!("<downloadRequest><playbackURI>{uri}</playbackURI></downloadRequest>");
    fs::write(&body, text).context("cannot write a request")?;
    let mut command = Command::new("curl");
    command.args(["--silent", "--fail", "--digest", "--user", &format!("admin:{PASSWORD}"), "--request", "GET"]);
    command.arg("--output").arg(dir.join(to)).arg("--data-binary").arg(format!("@{}", body.display()));
    command.arg(format!("{}/ISAPI/ContentMgmt/download", server.endpoint())).env("NO_PROXY", "127.0.0.1");
    Ok(command)
}

/// What the disk takes, synced.
fn dd(dir: &Path, bytes: u64) -> Command {
    let mut command = Command::new("dd");
    command.args(["if=/dev/zero", "bs=1M", "iflag=count_bytes", "conv=fsync", &format!("count={bytes}")]);
    command.arg(format!("of={}", dir.join(ZEROS).display()));
    command
}

/// From one recorder and from several at once: the table, and the share of what loopback and disk allow.
fn at_once(stage: &Stage, plan: &ExportSpeed) -> anyhow::Result<(Value, f64)> {
    let servers: Vec<NvrServer> =
        (0..plan.at_once).map(|_| recorder(plan.small, None)).collect::<anyhow::Result<_>>()?;
    let mut rates: BTreeMap<(&str, usize), Vec<f64>> = BTreeMap::new();
    let places = (0..plan.at_once).map(|nth| Place::new(stage, &format!("at-once-{nth}")));
    let places: Vec<Place> = places.collect::<anyhow::Result<_>>()?;
    warm(&places[0], plan.small * plan.at_once as u64)?;
    for _ in 0..plan.rounds {
        for count in [1, plan.at_once] {
            let of = || places.iter().zip(&servers).take(count);
            let curls =
                |to| of().map(move |(place, server)| curl(server, place.dir(), to)).collect::<anyhow::Result<_>>();
            let (curls, to_files) = (curls(NOWHERE)?, curls(FETCHED)?);
            let disks = of().map(|(place, server)| dd(place.dir(), server.recordings()[0].size)).collect();
            let exports = of().map(|(place, server)| {
                let mut command = place.export(server, &[]);
                command.args(DAY);
                command
            });
            let exports = exports.collect();
            let bytes: u64 = servers.iter().take(count).map(|server| server.recordings()[0].size).sum();
            for (who, commands) in [(CURL, curls), (CURL_FILES, to_files), (DISK, disks), (FILES, exports)] {
                // Who throws away what comes has nothing that the disk would have to keep.
                rates.entry((who, count)).or_default().push(together(commands, bytes, who != CURL_FILES)?);
                places.iter().try_for_each(clear)?;
            }
        }
    }
    let median = |who: &'static str, count: usize| Spread::of(rates[&(who, count)].clone()).map(|spread| spread.median);
    let (one, all) = (median(FILES, 1)?, median(FILES, plan.at_once)?);
    // Both full at once: alone, each would have the processors to itself.
    let allowed = (one * plan.at_once as f64).min(median(CURL_FILES, plan.at_once)?);
    let mut told = serde_json::Map::new();
    for who in [CURL, CURL_FILES, DISK, FILES] {
        let mb = |count| median(who, count).map(|rate| round(rate / 1e6));
        told.insert(who.to_owned(), json!({ "one_mb_per_s": mb(1)?, "together_mb_per_s": mb(plan.at_once)? }));
    }
    let share = all / allowed;
    let told = json!({ "recorders": plan.at_once, "bytes_each": plan.small, "who": told, "share": round(share) });
    Ok((told, share))
}

/// Runs them at once, and waits for the disk where they did not: bytes per second of all.
fn together(commands: Vec<Command>, bytes: u64, synced: bool) -> anyhow::Result<f64> {
    rustix::fs::sync();
    let begun = Instant::now();
    let started: Vec<Started> =
        commands.into_iter().map(|mut command| Alone::start(&mut command)).collect::<anyhow::Result<_>>()?;
    started.into_iter().try_for_each(|started| started.ended().map(drop))?;
    if !synced {
        rustix::fs::sync();
    }
    Ok(bytes as f64 / begun.elapsed().as_secs_f64())
}

/// What each took, for people.
fn table(all: &BTreeMap<&str, Vec<Took>>) -> anyhow::Result<Value> {
    let mut table = serde_json::Map::new();
    for (who, took) in all {
        let of = |field: fn(&Took) -> f64| Spread::of(took.iter().map(field).collect());
        let row = json!({
            "mb_per_s": of(|took| took.rate / 1e6)?.json(),
            "processor_s_per_gb": of(|took| took.processor)?.json(),
            "resident_mb": round(of(|took| took.resident as f64 / 1e6)?.max),
        });
        table.insert((*who).to_owned(), row);
    }
    Ok(table.into())
}
