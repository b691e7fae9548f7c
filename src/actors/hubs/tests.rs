//! Cameras that change their destination, over several spools and one journal on a real disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Duration;

use super::*;
use crate::actors::Admission;
use crate::config::{SpoolSettings, WhenFull};
use crate::delivery::{Budget, WINDOW};
use crate::journal::{Journal, Ledger, Ledgers, Reader, StateDir};
use crate::metrics::Metrics;
use crate::model::{
    CameraId, Cursor, Frame, KeyTemplate, LostReason, Outcome, Seq, SeqRange, SpooledCamera, Stored, UnixMicros,
};
use crate::spool::{self, Stream};

const FRAME: usize = 3_000;

/// One run of a daemon with these destinations, no cameras and no buckets.
struct Run {
    hubs: Hubs,
    ledger: Arc<Ledger>,
    journal: Journal,
    reader: Reader,
    writer: JoinHandle<()>,
    spoolers: Vec<JoinHandle<()>>,
}

fn camera() -> CameraId {
    "gate".parse().unwrap()
}

fn dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    drop(StateDir::open(dir.path()).unwrap());
    let database = rusqlite::Connection::open(dir.path().join("journal.sqlite")).unwrap();
    database.execute("INSERT INTO camera (id) VALUES ('gate')", []).unwrap();
    dir
}

impl Run {
    fn start(dir: &Path, names: &[&str], max_bytes: u64) -> Self {
        let settings = SpoolSettings {
            durability: Durability::Disk,
            dir: dir.join("spool"),
            max_bytes,
            segment: 1 << 20,
            when_full: WhenFull::DropOldest,
        };
        let mut state = StateDir::open(dir).unwrap();
        let configured: BTreeMap<DestinationName, String> =
            names.iter().map(|name| (name.parse().unwrap(), format!("gs://{name}/"))).collect();
        let former = state.destinations().unwrap();
        let streams = spool::open_all(&settings, state.origin(), configured.keys(), &former).unwrap();
        let mut spooled = BTreeMap::<CameraId, SpooledCamera>::new();
        for stream in &streams {
            for (camera, found) in &stream.found.cameras {
                spooled.entry(camera.clone()).or_default().join(found.clone());
            }
        }
        state.register(&configured).unwrap();
        let to_come = Arc::new(OnceLock::<Hubs>::new());
        let waiting = to_come.clone();
        let told = move |settled: Settled| waiting.get().unwrap().committed(&settled);
        let opened = state.recover(&spooled, told, |_| ()).unwrap();
        let ledgers = Ledgers::new(opened.cameras.into_iter().map(|camera| camera.ledger));
        let (newest, metrics) = (Newest::default(), Metrics::new().unwrap());
        let (mut ways, mut to_start) = (Vec::new(), Vec::new());
        for Stream { name, store, found, dir } in streams {
            let (spool, inbox) = spool::channel(dir);
            let admission = Admission {
                name: name.clone(),
                newest: newest.clone(),
                budget: Budget { bytes: 4 << 20, frames: 1_000 },
                durability: Durability::Disk,
                template: KeyTemplate::parse("{camera}/{origin}-{seq}.jpg").unwrap(),
                origin: opened.origin.clone(),
            };
            let hub = Hub::new(admission, spool.clone(), opened.journal.clone(), ledgers.clone(), metrics.clone());
            ways.push(Way { hub: hub.clone(), spool, base_url: configured.get(&name).cloned() });
            to_start.push((hub, store, inbox, found));
        }
        let hubs = Hubs::new(ways, newest, Durability::Disk);
        to_come.set(hubs.clone()).unwrap();
        let spoolers = to_start.into_iter().map(|(hub, store, inbox, found)| {
            let spooler = spool::start(store, &opened.resolved, inbox, hub.sink());
            hub.recover(found.cameras.keys());
            spooler
        });
        let spoolers = spoolers.collect();
        let ledger = ledgers.of(&camera());
        Self { hubs, ledger, journal: opened.journal, reader: opened.reader, writer: opened.writer, spoolers }
    }

    fn way(&self, name: &str) -> &Way {
        self.hubs.all().iter().find(|way| way.name().as_str() == name).unwrap()
    }

    /// Admits the camera's next frames to a destination, and waits until they are on disk.
    async fn admit(&self, name: &str, count: u64) {
        for _ in 0..count {
            let seq = self.ledger.number(1, None).first;
            let jpeg: Vec<u8> = seq.to_le_bytes().into_iter().cycle().take(FRAME).collect();
            self.way(name).hub.admit(Frame {
                camera: camera(),
                seq,
                session: 1,
                captured_at: UnixMicros(seq as i64),
                width: 4,
                height: 3,
                damaged: false,
                crc32c: crc32c::crc32c(&jpeg),
                jpeg: jpeg.into(),
            });
        }
        self.way(name).spool.barrier().await;
    }

    /// Stores the next frames of a destination; answers their seqs, and whether an attempt may have carried them.
    async fn store(&self, name: &str, count: usize) -> Vec<(Seq, bool)> {
        let mut stored = Vec::new();
        while stored.len() < count {
            let next = tokio::time::timeout(Duration::from_secs(30), self.way(name).hub.next()).await;
            let lease = next.expect("a frame waits").unwrap();
            let (seq, carried) = (lease.job().seq, lease.job().carried);
            let (lease, record) = lease.read().await.unwrap();
            assert_eq!((record.frame.seq, crc32c::crc32c(&record.frame.jpeg)), (seq, record.frame.crc32c));
            lease.stored(Stored {
                destination: name.parse().unwrap(),
                key: record.key.clone(),
                captured_at: record.frame.captured_at,
                stored_at: UnixMicros(1),
                bytes: FRAME as u64,
                crc32c: record.frame.crc32c,
                width: 4,
                height: 3,
                damaged: false,
            });
            stored.push((seq, carried));
        }
        self.journal.barrier().await;
        stored
    }

    fn frames(&self) -> Vec<(String, u64)> {
        self.hubs.all().iter().map(|way| (way.name().to_string(), way.spool.status().frames)).collect()
    }

    /// What the journal has, in the order of the seqs.
    fn outcomes(&self) -> Vec<(SeqRange, Outcome)> {
        let commits = self.reader.commits(0, 100_000).unwrap().entries;
        let mut outcomes: Vec<_> = commits
            .into_iter()
            .map(|(_, _, entry)| match entry {
                crate::journal::Entry::Frames { seqs, outcome, .. } => (seqs, outcome),
                crate::journal::Entry::Session { .. } => panic!("a session has no commit number"),
            })
            .collect();
        outcomes.sort_by_key(|(seqs, _)| seqs.first);
        outcomes
    }

    /// Ends without another word to the journal.
    async fn end(self) {
        self.hubs.written().await;
        self.hubs.close();
        self.journal.barrier().await;
        self.journal.close();
        self.writer.join().unwrap();
        self.hubs.all().iter().for_each(|way| way.spool.close());
        self.spoolers.into_iter().for_each(|spooler| spooler.join().unwrap());
    }
}

fn seqs(stored: &[(Seq, bool)]) -> BTreeSet<Seq> {
    stored.iter().map(|(seq, _)| *seq).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_camera_has_one_order_and_each_spool_its_own_frames() {
    let dir = dir();
    let names = ["default", "nas"];
    let run = Run::start(dir.path(), &names, 64 << 20);
    run.admit("default", 10).await;
    run.admit("nas", 10).await;
    run.admit("default", 10).await;
    // Out of order: what one of them has stored is no hole of the other.
    assert_eq!(seqs(&run.store("nas", 5).await), (11..=15).collect());
    run.hubs.written().await;
    assert_eq!(run.ledger.totals().in_flight, 25);
    run.end().await;

    let run = Run::start(dir.path(), &names, 64 << 20);
    let totals = run.ledger.totals();
    assert_eq!((totals.captured, totals.stored, totals.lost, totals.in_flight), (30, 5, 0, 25));
    assert_eq!((run.ledger.next_seq(), run.ledger.watermark()), (31, 0));
    assert_eq!(run.frames(), [("default".to_owned(), 20), ("nas".to_owned(), 5)]);
    let (first, second) = (run.store("default", 20).await, run.store("nas", 5).await);
    assert_eq!(seqs(&first), (1..=10).chain(21..=30).collect());
    assert_eq!(seqs(&second), (16..=20).collect());
    // The oldest of each spool may have been carried, whatever lies in the other.
    assert!(first.iter().chain(&second).all(|(_, carried)| *carried));
    run.hubs.written().await;
    assert_eq!(run.frames(), [("default".to_owned(), 0), ("nas".to_owned(), 0)]);
    let totals = run.ledger.totals();
    assert_eq!((totals.captured, totals.stored, totals.in_flight), (30, 30, 0));
    let listed: Vec<Seq> = run.outcomes().iter().map(|(seqs, _)| seqs.first).collect();
    assert_eq!(listed, (1..=30).collect::<Vec<_>>());
    run.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_window_that_may_have_been_carried_is_of_each_spool() {
    let dir = dir();
    let names = ["default", "nas"];
    let run = Run::start(dir.path(), &names, 64 << 20);
    let many = WINDOW as u64 + 50;
    run.admit("default", many).await;
    run.admit("nas", many).await;
    run.end().await;
    let run = Run::start(dir.path(), &names, 64 << 20);
    for name in names {
        let stored = run.store(name, many as usize).await;
        assert_eq!(stored.iter().filter(|(_, carried)| *carried).count(), WINDOW, "{name}");
    }
    run.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_spool_drops_is_nothing_of_another() {
    let dir = dir();
    // Of 3 KB each, 1,300 fill the four segments.
    let run = Run::start(dir.path(), &["default", "nas"], 4 << 20);
    let mut on_nas = BTreeSet::new();
    for _ in 0..200 {
        run.admit("default", 9).await;
        on_nas.insert(run.ledger.next_seq());
        run.admit("nas", 1).await;
    }
    run.hubs.written().await;
    run.journal.barrier().await;
    run.hubs.written().await;
    let totals = run.ledger.totals();
    assert_eq!((totals.captured, totals.stored), (2_000, 0));
    let [(_, kept), (_, others)] = run.frames().try_into().unwrap();
    assert_eq!((others, kept + others, kept + totals.lost), (200, totals.in_flight, 1_800));
    assert!(totals.lost >= 300, "{totals:?}");
    for (seqs, outcome) in run.outcomes() {
        assert!(matches!(outcome, Outcome::Lost { reason: LostReason::SpoolFull, maybe_stored: false }));
        assert_eq!(on_nas.range(seqs.first..=seqs.last).next(), None, "{seqs:?}");
    }
    run.end().await;

    // A start finds the same.
    let run = Run::start(dir.path(), &["default", "nas"], 4 << 20);
    assert_eq!(run.ledger.totals(), totals);
    assert_eq!(seqs(&run.store("nas", 200).await), on_nas);
    run.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_wait_for_a_destination_that_is_configured_no_more() {
    let dir = dir();
    let run = Run::start(dir.path(), &["default", "nas"], 64 << 20);
    run.admit("default", 5).await;
    run.admit("nas", 5).await;
    run.end().await;
    // Directories of nobody's are nothing to a start.
    for name in ["other", "default-old"] {
        std::fs::create_dir(dir.path().join("spool").join(name)).unwrap();
    }

    let run = Run::start(dir.path(), &["default"], 64 << 20);
    assert_eq!(run.frames(), [("default".to_owned(), 5), ("nas".to_owned(), 5)]);
    assert_eq!(run.hubs.configured().count(), 1);
    assert!(run.hubs.of(&"nas".parse().unwrap()).is_none() && run.hubs.of(&DestinationName::default()).is_some());
    assert_eq!(seqs(&run.store("default", 5).await), (1..=5).collect());
    run.admit("default", 1).await;
    let totals = run.ledger.totals();
    assert_eq!((totals.captured, totals.stored, totals.lost, totals.in_flight), (11, 5, 0, 6));
    run.end().await;

    let run = Run::start(dir.path(), &["default", "nas"], 64 << 20);
    assert_eq!(run.ledger.totals(), totals);
    assert_eq!(seqs(&run.store("nas", 5).await), (6..=10).collect());
    run.store("default", 1).await;
    let page = run.reader.page(&camera(), Cursor::default(), 100, 11).unwrap();
    assert_eq!(page.entries.len(), 11);
    run.end().await;
    // With nothing in it, it is nothing that a start has to know of.
    let run = Run::start(dir.path(), &["default"], 64 << 20);
    assert_eq!(run.frames(), [("default".to_owned(), 0)]);
    run.end().await;
}
