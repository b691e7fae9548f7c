//! The small parts that every frame passes, each alone: `cargo bench --profile dev --bench micro [-- NAME]`, and as a part
//! of `make bench`.
//!
//! `reorder`: outcomes into the window, in several orders. `dispatcher`: a frame from the spool's word that it is on disk
//! to the journal's that its outcome is committed, with few cameras and many, with nothing behind it and with a backlog.
//! `journal`: a batch of outcomes committed to SQLite on disk, as the daemon does it (`synchronous=FULL`). `BENCH_DIR`
//! says on which disk (default: the target directory's). `QUICK=1` measures a tenth as long.

use std::collections::BTreeMap;
use std::fs::File;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use framehaul::delivery::{Budget, Dispatcher, Job, Pulled, Reorder, WINDOW};
use framehaul::journal::{CatalogChange, Journal, Ledger, Ledgers, NewSession, Opened, StateDir};
use framehaul::model::{
    CameraId, DestinationName, ManagedBy, Outcome, RawCameraSpec, Seq, SeqRange, SessionNo, Settled, Stored, UnixMicros,
};
use tokio::runtime::Runtime;

/// Bytes of each frame: they are only counted.
const FRAME: u64 = 20_000;
/// Cameras among which the journal's outcomes are spread.
const CAMERAS: u64 = 16;
const SEED: u64 = 1;

fn main() -> anyhow::Result<()> {
    let quick = std::env::var_os("QUICK").is_some_and(|quick| !quick.is_empty());
    let (warm_up, lasts) = if quick { (200, 500) } else { (1_000, 5_000) };
    let mut criterion = Criterion::default()
        .without_plots()
        .sample_size(if quick { 10 } else { 50 })
        .warm_up_time(Duration::from_millis(warm_up))
        .measurement_time(Duration::from_millis(lasts))
        .configure_from_args();
    reorder(&mut criterion);
    dispatcher(&mut criterion);
    let place = std::env::var_os("BENCH_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let dir = tempfile::tempdir_in(&place).with_context(|| format!("cannot write to {}", place.display()))?;
    journal(&mut criterion, dir.path())?;
    criterion.final_summary();
    Ok(())
}

fn reorder(criterion: &mut Criterion) {
    const SEQS: u64 = 10_000;
    let in_order: Vec<Seq> = (1..=SEQS).collect();
    // As so many workers end them that each takes the next.
    let by_workers = |workers: usize| {
        let (mut rng, mut seqs) = (fastrand::Rng::with_seed(SEED), in_order.clone());
        let mut order = Vec::new();
        let mut under_way: Vec<Seq> = seqs.drain(..workers).collect();
        for next in seqs {
            let ended = rng.usize(..workers);
            order.push(std::mem::replace(&mut under_way[ended], next));
        }
        order.extend(under_way);
        order
    };
    let mut first_comes_last = in_order.clone();
    first_comes_last.rotate_left(1);
    let odd_ones_first: Vec<Seq> = (1..=SEQS).step_by(2).chain((2..=SEQS).step_by(2)).collect();
    let mut group = criterion.benchmark_group("reorder");
    group.throughput(Throughput::Elements(SEQS));
    for (name, order) in [
        ("in order", &in_order),
        ("64 workers", &by_workers(64)),
        ("the first comes last", &first_comes_last),
        ("odd ones first", &odd_ones_first),
    ] {
        group.bench_function(name, |bencher| {
            let resolve = |mut reorder: Reorder| {
                for seq in order {
                    black_box(reorder.resolve(SeqRange::one(*seq)));
                }
                assert_eq!(reorder.watermark(), SEQS);
            };
            bencher.iter_batched(Reorder::default, resolve, BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn camera(nth: u64) -> CameraId {
    format!("camera-{nth}").parse().expect("a plain id")
}

/// A dispatcher, and cameras that number their own frames.
struct Queues {
    dispatcher: Dispatcher<(), ()>,
    cameras: Vec<(CameraId, Seq)>,
    now: Instant,
}

impl Queues {
    /// With so many frames of each camera on disk and waiting.
    fn new(cameras: u64, backlog: usize) -> Self {
        let dispatcher = Dispatcher::new(Budget { bytes: 1 << 30, frames: 1 << 20 });
        let cameras = (0..cameras).map(|nth| (camera(nth), 0)).collect();
        let mut queues = Self { dispatcher, cameras, now: Instant::now() };
        for _ in 0..backlog {
            for place in 0..queues.cameras.len() {
                queues.put(place);
            }
        }
        queues
    }

    /// A camera's next frame is offered and comes to be on disk.
    fn put(&mut self, place: usize) {
        let (camera, seq) = &mut self.cameras[place];
        *seq += 1;
        assert!(self.dispatcher.expect(camera, FRAME, 0), "there is room");
        self.dispatcher.durable(Job::new(camera.clone(), *seq, FRAME, Some(()), Some(())), 0);
    }

    /// A worker takes the next frame.
    fn pull(&mut self) -> Job<(), ()> {
        match self.dispatcher.pull(self.now, 0) {
            Pulled::Job(job) => job,
            other => panic!("frames wait, and it says {other:?}"),
        }
    }

    /// It was stored, and that is in the journal.
    fn end(&mut self, job: &Job<(), ()>) {
        self.dispatcher.ends(job);
        self.dispatcher.settled(job);
        self.dispatcher.committed(&job.camera, SeqRange::one(job.seq));
    }
}

fn dispatcher(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dispatcher");
    for cameras in [1, 50, 200] {
        group.throughput(Throughput::Elements(cameras));
        group.bench_function(BenchmarkId::new("a frame of each camera", cameras), |bencher| {
            let mut queues = Queues::new(cameras, 0);
            let mut under_way = Vec::new();
            bencher.iter(|| {
                (0..cameras as usize).for_each(|place| queues.put(place));
                under_way.extend((0..cameras).map(|_| queues.pull()));
                // The last one out ends first.
                while let Some(job) = under_way.pop() {
                    queues.end(&job);
                }
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    for cameras in [1, 50, 200] {
        group.bench_function(BenchmarkId::new("a frame before a backlog", cameras), |bencher| {
            let mut queues = Queues::new(cameras, WINDOW - 1);
            let places: BTreeMap<CameraId, usize> =
                (0..).zip(&queues.cameras).map(|(place, (id, _))| (id.clone(), place)).collect();
            bencher.iter(|| {
                let job = queues.pull();
                queues.end(&job);
                queues.put(places[&job.camera]);
            });
        });
    }
    group.finish();
}

/// A journal of its own, with cameras in it.
struct Book {
    journal: Journal,
    ledgers: Vec<Arc<Ledger>>,
    session: SessionNo,
    issued: u64,
    writer: JoinHandle<()>,
    _lock: File,
}

impl Book {
    fn open(dir: &Path, runtime: &Runtime) -> anyhow::Result<Self> {
        let mut state = StateDir::open(dir)?;
        state.register(&[(DestinationName::default(), "gs://bench".to_owned())].into())?;
        let opened = state.recover(&BTreeMap::new(), |_| {}, |_| {})?;
        let journal = opened.journal.clone();
        let ledgers = Ledgers::new([]);
        let ledgers: Vec<Arc<Ledger>> = (0..CAMERAS).map(|nth| ledgers.of(&camera(nth))).collect();
        let raw: RawCameraSpec = serde_json::from_value(serde_json::json!({ "url": "rtsp://127.0.0.1:9/none" }))?;
        let mut puts = Vec::new();
        for ledger in &ledgers {
            let spec = raw.clone().validate(None).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
            puts.push((ledger.camera().clone(), spec, ManagedBy::Api));
        }
        runtime.block_on(journal.change_catalog(CatalogChange { puts, ..CatalogChange::default() }))?;
        let mut session = 0;
        for ledger in &ledgers {
            let new: NewSession = ledger.next_session(UnixMicros::now(), Some("h264".to_owned()), (1_920, 1_080));
            session = new.session;
            runtime.block_on(journal.open_session(new)).context("the journal has ended")?;
        }
        let Opened { writer, lock, .. } = opened;
        Ok(Self { journal, ledgers, session, issued: 0, writer, _lock: lock })
    }

    /// The outcomes of so many frames, of all cameras in turn.
    fn outcomes(&mut self, count: u64) -> Vec<(Arc<Ledger>, Settled)> {
        let outcome = |nth: u64| {
            let ledger = self.ledgers[(nth % CAMERAS) as usize].clone();
            let at = UnixMicros::now();
            let seqs = ledger.number(1, Some(at));
            let camera = ledger.camera().clone();
            let stored = Stored {
                destination: DestinationName::default(),
                key: format!("{camera}/2026/11/22/15/20261122T154500.000Z-{:012}-abcdefgh.jpg", seqs.first),
                captured_at: at,
                stored_at: at,
                bytes: FRAME,
                crc32c: nth as u32,
                width: 1_920,
                height: 1_080,
                damaged: false,
            };
            let (session, outcome) = (Some(self.session), Outcome::Stored(stored));
            (ledger, Settled { camera, seqs, session, outcome, counted: false })
        };
        let outcomes = (self.issued..self.issued + count).map(outcome).collect();
        self.issued += count;
        outcomes
    }

    /// What was measured must have been done.
    fn end(self) -> anyhow::Result<()> {
        let stored: u64 = self.ledgers.iter().map(|ledger| ledger.totals().stored).sum();
        ensure!(stored == self.issued, "of {} outcomes {stored} are committed", self.issued);
        self.journal.close();
        self.writer.join().ok().context("the journal's thread panicked")
    }
}

fn journal(criterion: &mut Criterion, dir: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut group = criterion.benchmark_group("journal");
    for outcomes in [1, 16, 256, 1_024] {
        let mut book = Book::open(&dir.join(outcomes.to_string()), &runtime)?;
        group.throughput(Throughput::Elements(outcomes));
        group.bench_function(BenchmarkId::new("a batch of outcomes", outcomes), |bencher| {
            bencher.iter_custom(|batches| {
                let mut took = Duration::ZERO;
                for _ in 0..batches {
                    let outcomes = book.outcomes(outcomes);
                    let begun = Instant::now();
                    for (ledger, settled) in outcomes {
                        book.journal.settle(ledger, settled);
                    }
                    // It is committed at once with what was given before.
                    runtime.block_on(book.journal.barrier());
                    took += begun.elapsed();
                }
                took
            });
        });
        book.end()?;
    }
    group.finish();
    Ok(())
}
