//! The hub between a spool and a journal on a real disk, with uploads that end in every way.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::Duration;

use super::super::intake::Intake;
use super::*;
use crate::capture::wire::CapturedFrame;
use crate::config::{SpoolSettings, WhenFull};
use crate::delivery::{DestinationState, Verdict};
use crate::journal::StateDir;
use crate::model::{CameraClock, DestinationName, Seq, Stored, UnixMicros};
use crate::spool;
use crate::storage::{BucketError, BucketErrorKind};

const CAMERAS: [&str; 3] = ["gate", "hall", "yard"];
const FRAME: usize = 3_000;

/// One run of a daemon that has no cameras and no bucket.
struct Run {
    hub: Hub,
    journal: Journal,
    writer: JoinHandle<()>,
    spooler: JoinHandle<()>,
}

impl Run {
    fn start(dir: &Path, durability: Durability) -> Self {
        let settings = SpoolSettings {
            durability,
            dir: dir.join("spool"),
            max_bytes: 64 << 20,
            segment: 1 << 20,
            when_full: WhenFull::DropOldest,
        };
        let state = StateDir::open(dir).unwrap();
        let (store, found) = spool::open(&settings, state.origin()).unwrap();
        let (spool, inbox) = spool::channel(settings.dir.clone());
        let to_come = Arc::new(OnceLock::<Hub>::new());
        let (freed, waiting) = (spool.clone(), to_come.clone());
        let told = move |settled: Settled| {
            freed.settled(&settled.camera, settled.seqs);
            if let Some(hub) = waiting.get() {
                hub.committed(&settled);
            }
        };
        let opened = state.recover(&found.cameras, told, |_| ()).unwrap();
        let ledgers = Ledgers::new(opened.cameras.into_iter().map(|camera| camera.ledger));
        let admission = Admission {
            name: DestinationName::default(),
            newest: Newest::default(),
            // Far less than a backlog.
            budget: Budget { bytes: 40 * FRAME as u64, frames: 100 },
            durability,
            template: KeyTemplate::parse("{camera}/{origin}-{seq}.jpg").unwrap(),
            origin: opened.origin.clone(),
        };
        let hub = Hub::new(admission, spool, opened.journal.clone(), ledgers, Metrics::new().unwrap());
        to_come.set(hub.clone()).unwrap();
        let spooler = spool::start(store, &opened.resolved, inbox, hub.sink());
        hub.recover(found.cameras.keys());
        Self { hub, journal: opened.journal, writer: opened.writer, spooler }
    }

    /// As a shutdown does it.
    async fn end(self) {
        self.hub.0.spool.barrier().await;
        self.hub.close();
        self.hub.returned().await;
        self.journal.barrier().await;
        self.journal.close();
        self.writer.join().unwrap();
        self.hub.0.spool.close();
        self.spooler.join().unwrap();
    }

    fn frame(&self, camera: &str, size: usize) -> Frame {
        let camera: CameraId = camera.parse().unwrap();
        let ledger = self.hub.ledger(&camera);
        let seqs = match self.hub.durability() {
            Durability::Disk => ledger.number(1, None),
            Durability::Memory => ledger.issue(1, None).unwrap(),
        };
        let jpeg: Vec<u8> = seqs.first.to_le_bytes().into_iter().cycle().take(size).collect();
        let crc32c = crc32c::crc32c(&jpeg);
        let captured_at = UnixMicros(seqs.first as i64);
        Frame {
            camera,
            seq: seqs.first,
            session: 1,
            captured_at,
            width: 4,
            height: 3,
            damaged: false,
            jpeg: jpeg.into(),
            crc32c,
        }
    }
}

fn dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    drop(StateDir::open(dir.path()).unwrap());
    let database = rusqlite::Connection::open(dir.path().join("journal.sqlite")).unwrap();
    for camera in CAMERAS {
        database.execute("INSERT INTO camera (id) VALUES (?1)", [camera]).unwrap();
    }
    dir
}

/// What the bucket and its workers have seen.
#[derive(Default)]
struct Seen {
    on_their_way: HashSet<(CameraId, Seq)>,
    stored: HashSet<(CameraId, Seq)>,
    unreadable: HashSet<(CameraId, Seq)>,
    lost: u64,
    read: u64,
    attempts: u64,
}

/// Uploads frames until the hub is closed: most are stored, some fail, are refused or take their worker with them.
async fn work(hub: Hub, seen: Arc<Mutex<Seen>>, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    while let Some(lease) = hub.next().await {
        let (id, cached) = ((lease.job().camera.clone(), lease.job().seq), lease.job().body.is_some());
        {
            let mut seen = seen.lock().unwrap();
            assert!(seen.on_their_way.insert(id.clone()), "{id:?} is on its way twice");
            assert!(!seen.stored.contains(&id), "{id:?} comes again");
            seen.attempts += 1;
            seen.read += u64::from(!cached);
        }
        let Some((lease, record)) = lease.read().await else {
            let mut seen = seen.lock().unwrap();
            seen.on_their_way.remove(&id);
            seen.unreadable.insert(id);
            continue;
        };
        let frame = &record.frame;
        assert_eq!((&frame.camera, frame.seq, crc32c::crc32c(&frame.jpeg)), (&id.0, id.1, frame.crc32c));
        tokio::time::sleep(Duration::from_micros(rng.u64(0..2_000))).await;
        // Before it ends: at once afterwards another may have it.
        let mut seen = seen.lock().unwrap();
        seen.on_their_way.remove(&id);
        match rng.u8(0..100) {
            0 => drop(lease),
            1..=10 => lease.retry(Instant::now() + Duration::from_millis(rng.u64(0..20)), rng.bool()),
            11..=13 => {
                seen.lost += 1;
                lease.lost(LostReason::Conflict, false);
            }
            _ => {
                seen.stored.insert(id);
                lease.stored(Stored {
                    destination: DestinationName::default(),
                    key: record.key.clone(),
                    captured_at: frame.captured_at,
                    stored_at: UnixMicros::now(),
                    bytes: frame.jpeg.len() as u64,
                    crc32c: frame.crc32c,
                    width: frame.width,
                    height: frame.height,
                    damaged: frame.damaged,
                });
            }
        }
    }
}

/// Waits until nothing is left, for as long as it gets less: how fast that goes is for others to say.
async fn wait_until_none(what: &str, left: impl Fn() -> u64) {
    let mut seen = (left(), Instant::now());
    while seen.0 > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let now = left();
        if now != seen.0 {
            seen = (now, Instant::now());
        }
        assert!(seen.1.elapsed() < Duration::from_secs(30), "{now} {what}, and no fewer for half a minute");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_frame_ends_once_over_two_runs_whatever_becomes_of_its_uploads() {
    const EACH: u64 = 1_500;
    let dir = dir();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut issued: BTreeMap<&str, u64> = BTreeMap::new();
    for round in 0..2 {
        let run = Run::start(dir.path(), Durability::Disk);
        let hub = run.hub.clone();
        let in_flight: u64 = CAMERAS.iter().map(|camera| hub.ledger(&camera.parse().unwrap()).totals().in_flight).sum();
        assert_eq!(in_flight > 600, round == 1, "a backlog is left by the first run: {in_flight}");
        let mut workers = Vec::new();
        let start_workers = |workers: &mut Vec<tokio::task::JoinHandle<()>>| {
            workers.extend((0..8).map(|seed| tokio::spawn(work(hub.clone(), seen.clone(), seed))));
        };
        if round == 1 {
            start_workers(&mut workers);
        }
        let mut rng = fastrand::Rng::with_seed(round);
        for n in 0..EACH {
            for camera in CAMERAS {
                hub.admit(run.frame(camera, FRAME + rng.usize(0..100)));
                *issued.entry(camera).or_default() += 1;
            }
            if n % 8 == 0 {
                hub.0.spool.barrier().await;
            }
            // The first run begins to upload when there is a backlog.
            if round == 0 && n == EACH / 2 {
                start_workers(&mut workers);
            }
        }
        if round == 1 {
            let left = || hub.0.ledgers.all().iter().map(|ledger| ledger.totals().in_flight).sum::<u64>();
            hub.0.spool.barrier().await;
            wait_until_none("frames in flight", left).await;
            wait_until_none("frames in the spool", || hub.0.spool.status().frames).await;
            assert_eq!(hub.load(), (0, 0));
        }
        run.end().await;
        for worker in workers {
            worker.await.unwrap();
        }
    }

    let run = Run::start(dir.path(), Durability::Disk);
    let (mut stored, mut lost) = (0, 0);
    for camera in CAMERAS {
        let accounts = run.hub.ledger(&camera.parse().unwrap()).accounts();
        let totals = accounts.totals;
        assert_eq!(
            (totals.captured, totals.stored + totals.lost, totals.in_flight),
            (issued[camera], issued[camera], 0)
        );
        stored += totals.stored;
        // What found memory full of what was on its way to the disk is lost as well, and nothing else is.
        lost += accounts.lost_by[LostReason::Conflict as usize];
        assert_eq!(totals.lost, lost_only(&accounts.lost_by), "{camera}: {accounts:?}");
    }
    run.end().await;
    let seen = seen.lock().unwrap();
    assert_eq!((stored, lost), (seen.stored.len() as u64, seen.lost));
    assert_eq!(seen.unreadable.len(), 0);
    assert!(seen.read > 1_000 && seen.attempts > stored, "{} read, {} attempts", seen.read, seen.attempts);
}

fn lost_only(lost_by: &crate::journal::LostBy) -> u64 {
    lost_by[LostReason::Conflict as usize] + lost_by[LostReason::MemoryFull as usize]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_of_a_run_with_a_spool_are_stored_by_one_without() {
    let dir = dir();
    let run = Run::start(dir.path(), Durability::Disk);
    for _ in 0..400 {
        run.hub.admit(run.frame("gate", 100));
        run.hub.0.spool.barrier().await;
    }
    assert_eq!(run.hub.ledger(&"gate".parse().unwrap()).totals().in_flight, 400);
    run.end().await;

    let run = Run::start(dir.path(), Durability::Memory);
    let (hub, ledger) = (run.hub.clone(), run.hub.ledger(&"gate".parse().unwrap()));
    run.journal.reserve(ledger.clone());
    ledger.refilled().await;
    for _ in 0..10 {
        hub.admit(run.frame("gate", 100));
    }
    assert_eq!((ledger.totals().captured, ledger.totals().in_flight), (410, 410));
    let seen = Arc::new(Mutex::new(Seen::default()));
    let worker = tokio::spawn(work(hub.clone(), seen.clone(), 1));
    wait_until_none("frames in flight", || ledger.totals().in_flight).await;
    run.end().await;
    worker.await.unwrap();
    let totals = ledger.totals();
    let seen = seen.lock().unwrap();
    assert_eq!((totals.stored, totals.lost), (seen.stored.len() as u64, seen.lost));
    assert_eq!((totals.captured, seen.read >= 400), (410, true));
}

/// Changes a byte in a frame's picture on disk.
fn damage(dir: &Path, seq: Seq) {
    let picture = seq.to_le_bytes().repeat(4);
    let segments = std::fs::read_dir(dir.join("spool/default")).unwrap();
    for path in segments.map(|entry| entry.unwrap().path()) {
        let mut bytes = std::fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(picture.len()).position(|window| window == picture) {
            bytes[at + 9] ^= 0x40;
            return std::fs::write(&path, bytes).unwrap();
        }
    }
    panic!("seq {seq} lies nowhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_the_disk_has_changed_is_lost_alone_and_says_whether_it_may_be_stored() {
    let dir = dir();
    let run = Run::start(dir.path(), Durability::Disk);
    for _ in 0..300 {
        run.hub.admit(run.frame("gate", FRAME));
        run.hub.0.spool.barrier().await;
    }
    run.end().await;
    // Of these one is among the oldest, which the first run may have sent.
    damage(dir.path(), 10);
    damage(dir.path(), 290);

    let run = Run::start(dir.path(), Durability::Disk);
    let ledger = run.hub.ledger(&"gate".parse().unwrap());
    let seen = Arc::new(Mutex::new(Seen::default()));
    let worker = tokio::spawn(work(run.hub.clone(), seen.clone(), 1));
    wait_until_none("frames in flight", || ledger.totals().in_flight).await;
    run.end().await;
    worker.await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!((seen.unreadable.len(), seen.stored.len() as u64 + seen.lost), (2, 298));
    let database = rusqlite::Connection::open(dir.path().join("journal.sqlite")).unwrap();
    let mut damaged =
        database.prepare("SELECT seq, maybe_stored FROM frame WHERE lost = 'damaged' ORDER BY seq").unwrap();
    let damaged: Vec<(i64, bool)> =
        damaged.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(damaged, [(10, true), (290, false)]);
}

#[tokio::test]
async fn a_place_that_is_free_only_after_its_commit_is_given_to_the_next() {
    let dir = dir();
    let run = Run::start(dir.path(), Durability::Disk);
    let (hub, gate) = (&run.hub, "gate".parse().unwrap());
    for _ in 0..400 {
        hub.admit(run.frame("gate", 100));
        hub.0.spool.barrier().await;
    }
    let half = (delivery::WINDOW / 2) as Seq;
    for seq in 1..=half {
        let Pulled::Job(job) = hub.dispatcher().pull(Instant::now(), 0) else { panic!("seq {seq} does not come") };
        hub.dispatcher().ends(&job);
        hub.record(&job, Outcome::Lost { reason: LostReason::Conflict, maybe_stored: false });
        // The journal is faster than the worker.
        run.journal.barrier().await;
        hub.0.spool.barrier().await;
        assert_eq!((job.seq, hub.dispatcher().taken_up_to(&gate)), (seq, 2 * half));
        hub.settled(&job);
    }
    hub.0.spool.barrier().await;
    assert_eq!(hub.dispatcher().taken_up_to(&gate), 3 * half);
    run.end().await;
}

#[tokio::test]
async fn a_frame_that_was_missed_where_it_never_lay_keeps_no_place() {
    let dir = dir();
    let run = Run::start(dir.path(), Durability::Disk);
    let (hub, gate) = (&run.hub, "gate".parse::<CameraId>().unwrap());
    hub.admit(run.frame("hall", FRAME));
    hub.0.spool.barrier().await;
    let hall = hub.next().await.unwrap();
    // The journal has its outcome, and says nothing more.
    (0..2).for_each(|_| hub.never_durable(&run.frame("gate", FRAME), LostReason::SpoolFull));
    run.journal.barrier().await;
    let place = spool::Place { segment: hall.job().place.unwrap().segment, offset: 0, length: 0 };
    let jobs = [1, 2].map(|seq| Job::new(gate.clone(), seq, 0, None, Some(place)));
    hub.dispatcher().loaded(&gate, jobs, false);
    assert_eq!(hub.dispatcher().held_by(&gate), 2);
    assert!(hub.next().await.unwrap().read().await.is_none());
    run.journal.barrier().await;
    assert_eq!(hub.dispatcher().held_by(&gate), 1);
    assert_eq!(spool::Sink::drop_oldest(&mut hub.sink(), &gate, 1), [2]);
    run.journal.barrier().await;
    assert_eq!(hub.dispatcher().held_by(&gate), 0);
    let totals = hub.ledger(&gate).totals();
    assert_eq!((totals.captured, totals.lost, totals.in_flight), (2, 2, 0));
    drop(hall);
    run.end().await;
}

#[tokio::test]
async fn a_refusal_is_measured_by_what_was_stored_since_the_first() {
    let dir = dir();
    let run = Run::start(dir.path(), Durability::Memory);
    let ledger = run.hub.ledger(&"gate".parse().unwrap());
    run.journal.reserve(ledger.clone());
    ledger.refilled().await;
    for _ in 0..4 {
        run.hub.admit(run.frame("gate", 100));
    }
    let stored = Stored {
        destination: DestinationName::default(),
        key: "k".into(),
        captured_at: UnixMicros(0),
        stored_at: UnixMicros(0),
        bytes: 1,
        crc32c: 0,
        width: 1,
        height: 1,
        damaged: false,
    };
    run.hub.next().await.unwrap().stored(stored.clone());
    let mut refused = run.hub.next().await.unwrap();
    assert_eq!((refused.job().seq, refused.refused()), (2, (1, 0)));
    refused.retry(Instant::now() + Duration::from_millis(200), false);
    for seq in 3..=4 {
        let lease = run.hub.next().await.unwrap();
        assert_eq!(lease.job().seq, seq);
        lease.stored(stored.clone());
    }
    let mut again = run.hub.next().await.unwrap();
    assert_eq!((again.job().seq, again.refused()), (2, (2, 2)));
    again.lost(LostReason::Rejected, false);
    run.end().await;
    assert_eq!(ledger.accounts().lost_by[LostReason::Rejected as usize], 1);
}

fn failure(message: &str) -> BucketError {
    let kind = BucketErrorKind::Transient;
    BucketError { kind, maybe_stored: false, retry_after: None, message: message.to_owned() }
}

/// Whether no frame and no other object may go now.
async fn is_held_back(hub: &Hub) -> bool {
    let moment = Duration::from_millis(50);
    let frame = tokio::time::timeout(moment, hub.next()).await;
    let object = tokio::time::timeout(moment, hub.permit()).await;
    frame.is_err() && object.is_err()
}

#[tokio::test]
async fn a_destination_that_lets_nobody_in_is_paused_and_its_frames_wait() {
    let dir = dir();
    let run = Run::start(dir.path(), Durability::Disk);
    let hub = &run.hub;
    for _ in 0..4 {
        CAMERAS.iter().for_each(|camera| hub.admit(run.frame(camera, 100)));
    }
    hub.0.spool.barrier().await;
    assert_eq!(hub.destination_status().state, DestinationState::Open);
    let mut on_its_way = hub.next().await.unwrap();
    for n in 1..=3 {
        let mut lease = hub.next().await.unwrap();
        let shut = lease.tell(Verdict::Refused, Some(&failure("the account may not")));
        assert_eq!(shut, n == 3, "{n} refusals");
        lease.again(false);
    }
    assert!(
        on_its_way.tell(Verdict::Failed, Some(&failure("cut"))),
        "one that was on its way ends, and changes nothing"
    );
    on_its_way.again(true);
    assert!(is_held_back(hub).await);
    let status = hub.destination_status();
    assert_eq!((status.state, status.in_flight, status.waiting), (DestinationState::Paused, 0, 12));
    assert_eq!(status.error.as_deref(), Some("cut"));
    assert!(status.since.0 > 0 && status.since <= UnixMicros::now());
    hub.show_destination();
    let metrics = String::from_utf8(hub.metrics().encode().unwrap()).unwrap();
    let paused = r#"framehaul_destination_state{destination="default",state="paused"} 1"#;
    assert!(metrics.contains(paused), "{metrics}");
    run.end().await;
}

#[tokio::test]
async fn a_destination_that_is_down_is_tried_with_one_frame_a_second_of_each_camera_in_turn() {
    let dir = dir();
    let run = Run::start(dir.path(), Durability::Memory);
    let hub = &run.hub;
    for camera in CAMERAS {
        let ledger = hub.ledger(&camera.parse().unwrap());
        run.journal.reserve(ledger.clone());
        ledger.refilled().await;
        (0..4).for_each(|_| hub.admit(run.frame(camera, 100)));
    }
    let mut failing = Vec::new();
    for _ in 0..5 {
        failing.push(hub.next().await.unwrap());
    }
    // As long as it has to fail before that is believed.
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    for mut lease in failing {
        let shut = lease.tell(Verdict::Failed, Some(&failure("connection refused")));
        // Far later than the destination will be back.
        if shut { lease.again(false) } else { lease.retry(Instant::now() + Duration::from_secs(600), false) }
    }
    let down = Instant::now();
    assert_eq!(hub.destination_status().state, DestinationState::Down);
    let mut seen = Vec::new();
    for n in 1..=2 {
        let mut probe = hub.next().await.unwrap();
        assert!(down.elapsed() >= n * Duration::from_millis(990), "probe {n} after {:?}", down.elapsed());
        seen.push((probe.job().camera.clone(), probe.job().seq));
        assert!(probe.tell(Verdict::Failed, None));
        probe.again(false);
    }
    assert!(seen[0].0 != seen[1].0 && seen.iter().all(|(_, seq)| *seq == 1), "{seen:?}");
    // Another object may be the probe as well.
    let permit = hub.permit().await;
    assert!(!permit.ended(None, Verdict::Answered, None));
    assert_eq!(hub.destination_status().state, DestinationState::Limited);
    let again = Instant::now();
    for _ in 0..8 {
        hub.next().await.unwrap().lost(LostReason::Conflict, false);
    }
    assert!(again.elapsed() < Duration::from_secs(5), "{:?}", again.elapsed());
    hub.close();
    // What is written at the end comes after the frames.
    drop(hub.permit().await);
    hub.give_up();
    run.end().await;
}

#[tokio::test]
async fn one_frame_that_always_fails_does_not_keep_its_destination_shut() {
    let dir = dir();
    let run = Run::start(dir.path(), Durability::Memory);
    let hub = &run.hub;
    let ledger = hub.ledger(&"gate".parse().unwrap());
    run.journal.reserve(ledger.clone());
    ledger.refilled().await;
    (0..2).for_each(|_| hub.admit(run.frame("gate", 100)));
    // The second comes late, as where there is a frame a minute.
    let [first, second] = [1, 2].map(|seq| match hub.dispatcher().pull(Instant::now(), 0) {
        Pulled::Job(job) if job.seq == seq => job,
        other => panic!("seq {seq} does not come: {other:?}"),
    });
    hub.put_back(first, Instant::now());
    while !hub.is_shut() {
        let mut lease = hub.next().await.unwrap();
        assert_eq!(lease.job().seq, 1);
        let shut = lease.tell(Verdict::Failed, Some(&failure("500 for this one")));
        let wait = Duration::from_millis(if shut { 0 } else { 250 });
        lease.retry(Instant::now() + wait, false);
    }
    hub.put_back(second, Instant::now());
    let mut probe = hub.next().await.unwrap();
    assert_eq!(probe.job().seq, 1);
    assert!(probe.tell(Verdict::Failed, Some(&failure("500 for this one"))));
    probe.again(false);
    let mut probe = hub.next().await.unwrap();
    assert_eq!(probe.job().seq, 2);
    assert!(!probe.tell(Verdict::Answered, None));
    probe.lost(LostReason::Conflict, false);
    run.hub.close();
    run.hub.give_up();
    run.end().await;
}

fn picture(size: u32) -> CapturedFrame {
    let jpeg = vec![7; 100].into();
    CapturedFrame { monotonic_ns: 1, pts_micros: 1, wall_micros: None, damaged: false, width: size, height: size, jpeg }
}

#[tokio::test]
async fn a_session_has_one_clock_and_a_mark_of_damage_goes_with_its_frame() {
    let gate: CameraId = "gate".parse().unwrap();
    let dir = dir();
    let run = Run::start(dir.path(), Durability::Disk);
    let ledger = run.hub.ledger(&gate);
    let mut intake = Intake::new(ledger.clone(), run.hub.clone(), run.journal.clone())
        .with_clock(CameraClock::new(Duration::from_secs(5)));
    // The camera is a second behind, and then a day; for a minute it is not believed, whatever it says.
    let (now, monotonic_ns) = (UnixMicros::now().0, crate::process::child::monotonic_ns());
    let walls = [now - 1_000_000, now - 960_000, now - 86_400_000_000, now - 120_000];
    for (n, wall) in (0..).zip(walls) {
        let (monotonic_ns, pts_micros, wall_micros) = (monotonic_ns + n as u64 * 40_000_000, n * 40_000, Some(wall));
        intake.picture(CapturedFrame { monotonic_ns, pts_micros, wall_micros, damaged: n == 1, ..picture(4) });
        intake.settle().await;
    }
    assert!(intake.clock_offset_micros().unwrap() > -60_000_000);
    intake.end("stopped");
    run.hub.0.spool.barrier().await;
    run.journal.barrier().await;
    let (mut marks, mut leases) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let (lease, record) = run.hub.next().await.unwrap().read().await.unwrap();
        let frame = &record.frame;
        marks.push((frame.session, frame.damaged, frame.captured_at.0 < now - 900_000));
        leases.push(lease);
    }
    drop(leases);
    assert_eq!(marks, [(1, false, true), (1, true, true), (2, false, false), (2, false, false)]);
    run.hub.close();
    run.hub.give_up();
    run.end().await;
    let database = rusqlite::Connection::open(dir.path().join("journal.sqlite")).unwrap();
    let mut sessions = database.prepare("SELECT time_source, why FROM session ORDER BY session").unwrap();
    let sessions: Vec<(Option<String>, String)> =
        sessions.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap();
    let whys = [(Some("rtcp"), "the camera's clock is not believed"), (None, "stopped")];
    assert_eq!(sessions, whys.map(|(source, why)| (source.map(str::to_owned), why.to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_that_wait_for_the_journal_to_the_end_of_their_generation_are_told() {
    let gate: CameraId = "gate".parse().unwrap();
    for durability in [Durability::Disk, Durability::Memory] {
        let dir = dir();
        let run = Run::start(dir.path(), durability);
        let ledger = run.hub.ledger(&gate);
        // As on a full disk: it takes orders and does not answer.
        run.journal.hang(Duration::from_secs(1));
        let mut intake = Intake::new(ledger.clone(), run.hub.clone(), run.journal.clone());
        for _ in 0..5 {
            intake.picture(picture(4));
        }
        intake.missed(3, LostReason::Corrupt);
        intake.picture(picture(8));
        assert!(intake.is_waiting());
        if durability == Durability::Disk {
            intake.end("stall");
        }
        drop(intake);
        let told = ledger.totals();
        assert_eq!(told, crate::journal::Totals::default(), "nothing counts before the journal has it");

        let mut next = Intake::new(ledger.clone(), run.hub.clone(), run.journal.clone());
        next.picture(picture(4));
        next.settle().await;
        next.end("stopped");
        run.hub.0.spool.barrier().await;
        run.journal.barrier().await;
        let accounts = ledger.accounts();
        let of = |reason: LostReason| accounts.lost_by[reason as usize];
        assert_eq!((of(LostReason::Overrun), of(LostReason::Corrupt)), (6, 3), "{accounts:?}");
        assert_eq!((accounts.totals.captured, accounts.totals.in_flight), (10, 1), "{accounts:?}");
        let lease = run.hub.next().await.unwrap();
        assert_eq!(lease.job().seq, 10, "it comes after what was lost before it");
        drop(lease);
        run.hub.close();
        run.hub.give_up();
        run.end().await;
        let database = rusqlite::Connection::open(dir.path().join("journal.sqlite")).unwrap();
        let mut sessions = database.prepare("SELECT first_seq, why FROM session ORDER BY session").unwrap();
        let sessions: Vec<(i64, String)> =
            sessions.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap();
        match durability {
            Durability::Disk => assert_eq!(sessions, [(1, "stall".to_owned()), (10, "stopped".to_owned())]),
            Durability::Memory => assert_eq!(sessions, [(10, "stopped".to_owned())]),
        }
    }
}
