//! What spooling costs, and how fast it is: `make bench`. The last line is JSON, with every figure beside its bound.
//!
//! `cost`: processor time of a frame of 150 KB, sustained and at 80 frames a second. `rate`: sustained spooling,
//! against `dd` with the same number of bytes in the same directory and in turn with it. `start`: how long the daemon
//! takes to be ready (`/readyz`) over a spool of 200,000 records after a kill, with nothing of it in the system's
//! memory; of 20 GiB where the disk has room. What of that opening the spool takes by itself stands beside it.
//! `BENCH_DIR` says on which disk (default: the target directory's), and the parts can be named as arguments.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use framehaul::config::{Durability, SpoolSettings, WhenFull};
use framehaul::journal::{CatalogChange, StateDir};
use framehaul::model::{CameraId, Frame, LostReason, ManagedBy, RawCameraSpec, Seq, SeqRange, UnixMicros};
use framehaul::spool::{self, Place, Record, Sink, Spool, Spooled};
use rustix::fs::{Advice, fadvise, statvfs};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use testbed::daemon::{Credentials, Daemon, Storage};

const FRAME: usize = 150_000;
const CAMERAS: u64 = 16;
/// What one run writes.
const RUN: u64 = 1 << 30;
const RUNS: usize = 5;
/// What may be on its way to the disk, as in the daemon.
const IN_MEMORY: u64 = 64 << 20;
const RECORDS: u64 = 200_000;
const START_BYTES: u64 = 20 << 30;

/// The bounds of issue 4.
const COST_MS: f64 = 0.15;
const RATE_MB: f64 = 300.0;
const RATE_OF_DD: f64 = 0.8;
const START: Duration = Duration::from_secs(3);

/// Measures something in a directory; whether it is within its bound.
type Part = fn(&Path) -> anyhow::Result<(Value, bool)>;

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    if let [word, dir, bytes] = &arguments[..]
        && word == "fill"
    {
        fill(Path::new(dir), bytes.parse()?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let place = std::env::var_os("BENCH_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let dir = tempfile::tempdir_in(&place).with_context(|| format!("cannot write to {}", place.display()))?;
    let (mut figures, mut pass) = (serde_json::Map::new(), true);
    let parts: [(&str, Part); 3] = [("cost", cost), ("rate", rate), ("start", start)];
    for (name, part) in
        parts.into_iter().filter(|(name, _)| arguments.is_empty() || arguments.iter().any(|word| word == name))
    {
        let (figure, held) = part(dir.path())?;
        println!("{name}: {}: {figure}", if held { "within its bound" } else { "MISSED" });
        figures.insert(name.to_owned(), figure);
        pass &= held;
    }
    ensure!(!figures.is_empty(), "there is no part {arguments:?}: use cost, rate, start");
    figures.insert("pass".to_owned(), pass.into());
    println!("{}", Value::Object(figures));
    Ok(if pass { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Counts what is on disk.
#[derive(Default)]
struct Durable {
    frames: Mutex<(u64, u64)>,
    moved: Condvar,
}

impl Durable {
    fn wait(&self, frames: u64) {
        let held = self.frames.lock().expect("no holder panics");
        let _held = self.moved.wait_while(held, |(there, _)| *there < frames).expect("no holder panics");
    }
}

struct Counter(Arc<Durable>);

impl Sink for Counter {
    fn durable(&mut self, frames: Vec<(Record, Place)>) {
        self.0.frames.lock().expect("no holder panics").0 += frames.len() as u64;
        self.0.moved.notify_all();
    }

    fn refused(&mut self, frame: Frame, _: LostReason) {
        panic!("there is room, and {} {} is refused", frame.camera, frame.seq);
    }

    fn loaded(&mut self, _: &CameraId, _: Vec<Spooled>, _: bool) {}

    fn drop_oldest(&mut self, camera: &CameraId, _: u64) -> Vec<Seq> {
        panic!("there is room, and frames of {camera} have to go");
    }

    fn taken_up_to(&mut self, _: &CameraId) -> Seq {
        0
    }

    fn dropped(&mut self, camera: &CameraId, _: SeqRange) {
        panic!("there is room, and frames of {camera} have gone");
    }

    fn committed(&mut self, _: usize, _: u64, _: Duration) {
        self.0.frames.lock().expect("no holder panics").1 += 1;
    }

    fn io_error(&mut self, op: &'static str) {
        panic!("the disk refuses to {op}");
    }
}

fn camera(nth: u64) -> CameraId {
    format!("camera-{nth}").parse().expect("a plain id")
}

/// A spool at work, and frames for it.
struct Bench {
    spool: Spool,
    thread: JoinHandle<()>,
    durable: Arc<Durable>,
    picture: Bytes,
    crc32c: u32,
    appended: u64,
    _lock: std::fs::File,
}

/// As the daemon has them that has `dir` for its own.
fn settings(dir: &Path) -> SpoolSettings {
    SpoolSettings {
        durability: Durability::Disk,
        dir: dir.join("state/spool"),
        max_bytes: 1 << 40,
        segment: 64 << 20,
        when_full: WhenFull::DropOldest,
    }
}

impl Bench {
    fn open(dir: &Path, frame: usize) -> anyhow::Result<Self> {
        let settings = settings(dir);
        let state = StateDir::open(&dir.join("state"))?;
        let (store, found) = spool::open(&settings, state.origin())?;
        let opened = state.recover(&found.cameras, |_| {}, |_| {})?;
        let (spool, inbox) = spool::channel(settings.dir.clone());
        let durable = Arc::new(Durable::default());
        let thread = spool::start(store, &opened.resolved, inbox, Counter(durable.clone()));
        // Bytes that no disk packs.
        let mut noise = vec![0; frame];
        fastrand::Rng::with_seed(1).fill(&mut noise);
        let crc32c = crc32c::crc32c(&noise);
        Ok(Self { spool, thread, durable, picture: noise.into(), crc32c, appended: 0, _lock: opened.lock })
    }

    fn append(&mut self) {
        let nth = self.appended / CAMERAS;
        let camera = camera(self.appended % CAMERAS);
        let key = format!("bench/{camera}/{nth:012}.jpg");
        let frame = Frame {
            camera,
            seq: nth + 1,
            session: 1,
            captured_at: UnixMicros::now(),
            width: 1920,
            height: 1080,
            damaged: false,
            jpeg: self.picture.clone(),
            crc32c: self.crc32c,
        };
        self.spool.append(Record { frame, key });
        self.appended += 1;
    }

    /// Appends so many bytes, never more of them in memory than the daemon would have, and waits until all are on disk.
    fn sustain(&mut self, bytes: u64) {
        let size = self.picture.len() as u64;
        let in_memory = IN_MEMORY / size;
        for _ in 0..bytes.div_ceil(size) {
            self.append();
            self.durable.wait(self.appended.saturating_sub(in_memory));
        }
        self.durable.wait(self.appended);
    }

    /// How often frames were made last together.
    fn commits(&self) -> u64 {
        self.durable.frames.lock().expect("no holder panics").1
    }

    fn end(self) -> anyhow::Result<()> {
        self.spool.close();
        self.thread.join().ok().context("the spool's thread panicked")
    }
}

/// Processor time of this process, all threads.
fn processor() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

fn cost(dir: &Path) -> anyhow::Result<(Value, bool)> {
    let per_frame = |spent: Duration, frames: u64| spent.as_secs_f64() * 1000.0 / frames as f64;
    let at = dir.join("cost");
    let mut bench = Bench::open(&at, FRAME)?;
    bench.sustain(RUN / 8);
    let mut rounds = Vec::new();
    let begun_with = (bench.commits(), bench.appended);
    for _ in 0..RUNS {
        let (before, appended) = (processor(), bench.appended);
        bench.sustain(RUN / 4);
        rounds.push(per_frame(processor() - before, bench.appended - appended));
    }
    let sustained = median(&mut rounds);
    let (syncs, sustained_frames) = (bench.commits() - begun_with.0, bench.appended - begun_with.1);

    // As sixteen cameras at five frames a second: hardly ever two frames to a sync.
    let (before, begun, frames) = (processor(), Instant::now(), 80 * 5);
    let commits = bench.commits();
    for nth in 0..frames {
        std::thread::sleep((begun + Duration::from_millis(12) * nth).saturating_duration_since(Instant::now()));
        bench.append();
    }
    bench.durable.wait(bench.appended);
    let paced = per_frame(processor() - before, frames.into());
    let commits = bench.commits() - commits;
    bench.end()?;
    std::fs::remove_dir_all(&at)?;
    let figure = json!({
        "processor_ms_per_frame": sustained, "bound_ms": COST_MS, "frame_bytes": FRAME, "rounds": rounds,
        "frames": sustained_frames, "syncs": syncs,
        "paced": { "processor_ms_per_frame": paced, "frames": frames, "syncs": commits },
    });
    Ok((figure, sustained <= COST_MS))
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn megabytes(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / 1e6 / took.as_secs_f64()
}

fn rate(dir: &Path) -> anyhow::Result<(Value, bool)> {
    let (mut dd, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let file = dir.join("dd");
        let begun = Instant::now();
        let status = Command::new("dd")
            .args(["if=/dev/zero", "bs=4M", "oflag=direct", "status=none"])
            .arg(format!("count={}", RUN >> 22))
            .arg(format!("of={}", file.display()))
            .status()
            .context("cannot start dd")?;
        ensure!(status.success(), "dd ends with {status}");
        dd.push(megabytes(RUN, begun.elapsed()));
        std::fs::remove_file(&file)?;

        let at = dir.join("rate");
        let mut bench = Bench::open(&at, FRAME)?;
        let begun = Instant::now();
        bench.sustain(RUN);
        ours.push(megabytes(RUN, begun.elapsed()));
        bench.end()?;
        std::fs::remove_dir_all(&at)?;
    }
    let runs: Vec<_> = ours.iter().zip(&dd).map(|(ours, dd)| json!({ "ours": ours, "dd": dd })).collect();
    let (dd, ours) = (median(&mut dd), median(&mut ours));
    let bound = (RATE_OF_DD * dd).min(RATE_MB);
    let figure =
        json!({ "mb_per_s": ours, "bound_mb_per_s": bound, "dd_mb_per_s": dd, "bytes_per_run": RUN, "runs": runs });
    Ok((figure, ours >= bound))
}

/// Puts the cameras into the catalog of a new state directory, so that a daemon knows them.
fn put_cameras(dir: &Path) -> anyhow::Result<()> {
    let state = StateDir::open(&dir.join("state"))?;
    let opened = state.recover(&Default::default(), |_| {}, |_| {})?;
    let raw = json!({ "url": "rtsp://127.0.0.1:9/none" });
    let mut puts = Vec::new();
    for nth in 0..CAMERAS {
        let raw: RawCameraSpec = serde_json::from_value(raw.clone())?;
        let spec = raw.validate(None).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
        puts.push((camera(nth), spec, ManagedBy::Api));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(opened.journal.change_catalog(CatalogChange { puts, ..CatalogChange::default() }))?;
    for nth in 0..CAMERAS {
        runtime.block_on(opened.journal.pause(camera(nth), true));
    }
    opened.journal.close();
    opened.writer.join().ok().context("the journal's thread panicked")
}

/// Fills a spool, says so, and waits to be killed.
fn fill(dir: &Path, bytes: u64) -> anyhow::Result<()> {
    put_cameras(dir)?;
    let mut bench = Bench::open(dir, usize::try_from(bytes / RECORDS)?)?;
    bench.sustain(bytes / RECORDS * RECORDS);
    println!("{}", bench.appended);
    std::io::stdout().flush()?;
    let mut word = String::new();
    std::io::stdin().read_line(&mut word)?;
    Ok(())
}

/// Has the system forget what it has read or written of a spool; returns the spool's size.
fn forget(spool: &Path) -> anyhow::Result<u64> {
    let mut size = 0;
    for entry in std::fs::read_dir(spool)? {
        let file = std::fs::File::open(entry?.path())?;
        size += file.metadata()?.len();
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(size)
}

/// How long the daemon takes until `/readyz` says 200, over what lies in `dir`. It finds no bucket.
fn daemon_start(dir: &Path, records: u64) -> anyhow::Result<Duration> {
    let storage = Storage::Gcs {
        endpoint: "http://127.0.0.1:9".to_owned(),
        bucket: "none".to_owned(),
        credentials: Credentials::Anonymous,
    };
    let program = Path::new(env!("CARGO_BIN_EXE_framehaul"));
    let mut daemon = Daemon::prepare(program, dir, &storage, "[spool]\nmax_bytes = \"1TiB\"\n")?;
    let begun = Instant::now();
    daemon.run()?;
    let took = begun.elapsed();
    let statuses = daemon.statuses()?;
    let frames: u64 = statuses.iter().map(|(_, status)| status.totals.in_flight).sum();
    ensure!(frames == records, "of {records} records the daemon knows {frames}");
    daemon.kill()?;
    Ok(took)
}

fn start(dir: &Path) -> anyhow::Result<(Value, bool)> {
    let room = statvfs(dir)?;
    // Half of what there is stays for others.
    let bytes = START_BYTES.min(room.f_bavail * room.f_frsize / 2);
    let at = dir.join("start");
    std::fs::create_dir(&at)?;
    let mut filling = Command::new(std::env::current_exe()?)
        .arg("fill")
        .arg(&at)
        .arg(bytes.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    BufReader::new(filling.stdout.take().context("it is piped")?).read_line(&mut said)?;
    filling.kill()?;
    filling.wait()?;
    let records: u64 = said.trim().parse().with_context(|| format!("the spool was not filled: `{said}`"))?;

    let spool = at.join("state/spool/default");
    // The segment that was being written is finished by the first start, and is there as it was for the second.
    let newest = std::fs::read_dir(&spool)?.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    let newest = newest.into_iter().max().context("there is no segment")?;
    let kept = at.join("newest");
    std::fs::copy(&newest, &kept)?;
    let size = forget(&spool)?;
    let daemon = daemon_start(&at, records)?;
    std::fs::copy(&kept, &newest)?;
    std::fs::File::open(&newest)?.sync_all()?;
    forget(&spool)?;
    let begun = Instant::now();
    let bench = Bench::open(&at, 1)?;
    let library = begun.elapsed();
    let status = bench.spool.status();
    ensure!(status.frames == records, "of {records} records there are {}", status.frames);
    bench.end()?;
    forget(&spool)?;
    let after_an_end = daemon_start(&at, records)?;
    std::fs::remove_dir_all(&at)?;
    let asked = if bytes < START_BYTES { "half of the disk's room: less than 20 GiB" } else { "20 GiB" };
    let figure = json!({
        "daemon_ready_ms": daemon.as_millis() as u64, "bound_ms": START.as_millis() as u64,
        "spool_open_ms": library.as_millis() as u64, "records": records, "cameras": CAMERAS, "bytes": size, "asked": asked,
        "daemon_ready_after_an_orderly_end_ms": after_an_end.as_millis() as u64,
    });
    Ok((figure, daemon <= START))
}
