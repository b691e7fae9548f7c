//! The thread, with what it tells and what it is told.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::*;
use crate::config::WhenFull;
use crate::delivery::WINDOW;
use crate::model::{DestinationName, Frame, SeqRange};
use crate::spool::testing::*;
use crate::spool::{AppendError, Place, RealDisk, Spool, Spooled, Store};

#[derive(Debug)]
enum Told {
    Durable(Vec<(Record, Place)>),
    Refused(Frame),
    Loaded(Vec<Spooled>, bool),
    Dropped(SeqRange),
    IoError(&'static str),
}

/// Tells what it hears, and has taken all frames up to a seq.
struct Ear(Sender<Told>, Arc<Mutex<(Seq, Vec<Seq>)>>);

impl Sink for Ear {
    fn durable(&mut self, frames: Vec<(Record, Place)>) {
        self.0.send(Told::Durable(frames)).unwrap();
    }
    fn refused(&mut self, frame: Frame, reason: LostReason) {
        assert_eq!(reason, LostReason::SpoolFull);
        self.0.send(Told::Refused(frame)).unwrap();
    }
    fn loaded(&mut self, _: &CameraId, frames: Vec<Spooled>, more: bool) {
        self.0.send(Told::Loaded(frames, more)).unwrap();
    }
    fn drop_oldest(&mut self, _: &CameraId, _: u64) -> Vec<Seq> {
        std::mem::take(&mut self.1.lock().unwrap().1)
    }
    fn taken_up_to(&mut self, _: &CameraId) -> Seq {
        self.1.lock().unwrap().0
    }
    fn dropped(&mut self, _: &CameraId, seqs: SeqRange) {
        self.0.send(Told::Dropped(seqs)).unwrap();
    }
    fn committed(&mut self, _: usize, _: u64, _: Duration) {}
    fn io_error(&mut self, op: &'static str) {
        self.0.send(Told::IoError(op)).unwrap();
    }
}

struct Bench {
    spool: Spool,
    told: Receiver<Told>,
    taken: Arc<Mutex<(Seq, Vec<Seq>)>>,
    thread: Option<JoinHandle<()>>,
}

impl Bench {
    fn new<D: Disk>(dir: &std::path::Path, store: Store<D>) -> Self {
        let (spool, inbox) = crate::spool::channel(crate::spool::handle::stream(dir, &DestinationName::default()));
        let (teller, told) = channel();
        let taken = Arc::default();
        let ear = Ear(teller, Arc::clone(&taken));
        let thread = Some(start(store, &BTreeMap::new(), inbox, ear));
        Self { spool, told, taken, thread }
    }

    fn real(dir: &std::path::Path, segments: u64, when_full: WhenFull) -> Self {
        let disk = RealDisk::open(&crate::spool::handle::stream(dir, &DestinationName::default())).unwrap();
        let (mut store, _) = Store::open(disk, settings(segments)).unwrap();
        store.when_full = when_full;
        Self::new(dir, store)
    }

    fn next(&self) -> Told {
        self.told.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    fn end(mut self) -> Vec<Told> {
        self.spool.close();
        self.thread.take().unwrap().join().unwrap();
        self.told.try_iter().collect()
    }
}

#[tokio::test]
async fn frames_are_told_of_once_they_are_on_disk_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::real(dir.path(), 16, WhenFull::DropOldest);
    for seq in 1..=50 {
        bench.spool.append(record("a", seq, 1000));
    }
    bench.spool.barrier().await;
    assert_eq!(bench.spool.pending(), 0);
    let mut seqs = Vec::new();
    let mut last = None;
    while seqs.len() < 50 {
        let Told::Durable(frames) = bench.next() else { panic!("nothing else happens") };
        for (record, place) in frames {
            seqs.push(record.frame.seq);
            last = Some(Spooled { seq: record.frame.seq, place });
        }
    }
    assert_eq!(seqs, (1..=50).collect::<Vec<_>>());
    let read = bench.spool.read(&camera("a"), last.unwrap()).await.unwrap();
    assert_eq!((read.frame.jpeg, read.key), (record("a", 50, 1000).frame.jpeg, record("a", 50, 1000).key));
    bench.spool.load(&camera("a"), 10, 3);
    assert!(matches!(bench.next(), Told::Loaded(frames, true) if frames.iter().map(|s| s.seq).eq([11, 12, 13])));
    bench.spool.settled(&camera("a"), range(1, 49));
    bench.spool.barrier().await;
    let status = bench.spool.status();
    assert_eq!((status.frames, status.segments, status.full), (1, 1, false));
    bench.spool.settled(&camera("a"), range(50, 50));
    let other = camera("b");
    let gone = bench.spool.read(&other, Spooled { seq: 1, place: Place { segment: 99, offset: 64, length: 64 } });
    assert!(matches!(gone.await, Err(crate::spool::ReadError::Gone { seq: 1, .. })));
    assert!(bench.end().is_empty());
    assert_eq!(std::fs::read_dir(dir.path().join("default")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_frame_that_was_copied_forward_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let stream = crate::spool::handle::stream(dir.path(), &DestinationName::default());
    let (mut store, _) = open(&stream);
    fill(&mut store, "a", 1..=45, 1000);
    (1..=45).filter(|seq| seq % 10 != 5).for_each(|seq| store.settle(&camera("a"), range(seq, seq)));
    let before = store.entries(&camera("a"), 0, 1).0[0];
    assert!(store.clean().unwrap());
    assert_ne!(store.locate(&camera("a"), 5), Some(before.place));
    // The thread is not told again what the journal knows: the rest of it counts as live, and changes nothing here.
    let bench = Bench::new(dir.path(), store);
    let read = bench.spool.read(&camera("a"), before).await.unwrap();
    assert_eq!(read.frame.jpeg, record("a", 5, 1000).frame.jpeg);
    bench.end();
}

#[tokio::test]
async fn without_room_the_newest_frames_are_refused_where_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::real(dir.path(), 4, WhenFull::DropNewest);
    (1..=100).for_each(|seq| bench.spool.append(record("a", seq, 1000)));
    bench.spool.barrier().await;
    let status = bench.spool.status();
    assert!(status.full && status.size <= 4 * SEGMENT, "{status:?}");
    let kept = status.frames;
    bench.spool.settled(&camera("a"), range(1, kept));
    bench.spool.append(record("a", 101, 1000));
    bench.spool.barrier().await;
    assert!(!bench.spool.status().full);
    assert_eq!(bench.spool.pending(), 0);
    let (mut durable, mut refused) = (Vec::new(), Vec::new());
    for told in bench.end() {
        match told {
            Told::Durable(frames) => durable.extend(frames.iter().map(|(record, _)| record.frame.seq)),
            Told::Refused(frame) => refused.push(frame.seq),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(durable, (1..=kept).chain([101]).collect::<Vec<_>>());
    assert_eq!(refused, (kept + 1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn without_room_the_oldest_frames_go_and_what_comes_waits_for_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let bench = Bench::real(dir.path(), 5, WhenFull::DropOldest);
    bench.taken.lock().unwrap().0 = 4;
    // Of what the window holds, it gives two.
    bench.taken.lock().unwrap().1 = vec![3, 2];
    let total = 300;
    (1..=total).for_each(|seq| bench.spool.append(record("a", seq, 1000)));
    let (mut durable, mut dropped) = (Vec::new(), BTreeSet::new());
    while durable.len() < total as usize {
        match bench.next() {
            Told::Durable(frames) => durable.extend(frames.iter().map(|(record, _)| record.frame.seq)),
            Told::Dropped(seqs) => {
                assert!(seqs.first > 4);
                assert!((seqs.first..=seqs.last).all(|seq| dropped.insert(seq)), "{seqs:?} again");
                // Whatever the journal has confirmed, in whatever order.
                bench.spool.settled(&camera("a"), seqs);
                if seqs.first == 5 {
                    bench.spool.settled(&camera("a"), range(2, 3));
                }
            }
            other => panic!("{other:?}"),
        }
        assert!(bench.spool.status().size <= 5 * SEGMENT);
    }
    assert_eq!(durable, (1..=total).collect::<Vec<_>>());
    bench.spool.barrier().await;
    let status = bench.spool.status();
    assert!(!dropped.is_empty() && !status.full);
    // The oldest beyond the window, without a hole.
    assert!(dropped.iter().copied().eq(5..5 + dropped.len() as u64));
    assert_eq!(status.frames, total - dropped.len() as u64 - 2);
    assert!(status.size > 3 * SEGMENT, "not more than needed was dropped: {status:?}");
    bench.end();
}

#[test]
fn after_a_start_nothing_goes_that_may_be_on_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let disk = || RealDisk::open(&crate::spool::handle::stream(dir.path(), &DestinationName::default())).unwrap();
    let (mut store, _) = Store::open(disk(), settings(8)).unwrap();
    let mut last = 0;
    while store.append(&record("a", last + 1, 50)).is_ok() {
        last += 1;
    }
    store.commit().unwrap();
    drop(store);
    assert!(last > WINDOW as u64 + 50);
    let (store, _) = Store::open(disk(), settings(8)).unwrap();
    let bench = Bench::new(dir.path(), store);
    bench.spool.append(record("a", last + 1, SEGMENT as usize / 2));
    assert!(matches!(bench.next(), Told::Dropped(seqs) if seqs.first == WINDOW as u64 + 1));
    let told = bench.end();
    assert!(told.iter().any(|told| matches!(told, Told::Refused(_) | Told::Durable(_))), "{told:?}");
}

#[tokio::test]
async fn no_frame_goes_whose_room_would_not_be_free() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Moody::open(&crate::spool::handle::stream(dir.path(), &DestinationName::default()));
    let (mut store, _) = Store::open(disk.clone(), settings(5)).unwrap();
    let mut last = 0;
    while store.status().segments < 4 {
        last += 1;
        fill(&mut store, "a", last..=last, 1000);
    }
    fill(&mut store, "a", last + 1..=last + 10, 1000);
    last += 10;
    let place = store.locate(&camera("a"), last).unwrap();
    let kept =
        (1..=last).filter(|seq| store.locate(&camera("a"), *seq).unwrap().segment < place.segment).count() as u64;
    drop(store);
    // The newest segment was not confirmed, and not all of it can be copied.
    disk.syncs.store(1, Relaxed);
    let (store, _) = Store::open(disk.clone(), settings(5)).unwrap();
    let bad = place.offset.into()..u64::from(place.offset + place.length);
    disk.bad.lock().unwrap().insert(format!("{:012}.segment", place.segment), bad);
    let bench = Bench::new(dir.path(), store);
    *bench.taken.lock().unwrap() = (1, vec![1]);
    (last + 1..last + 30).for_each(|seq| bench.spool.append(record("a", seq, 1000)));
    bench.spool.answers().await;
    assert_eq!(bench.taken.lock().unwrap().1, [1], "nobody was asked for what lies below");
    let dropped: Vec<SeqRange> = bench
        .end()
        .into_iter()
        .filter_map(|told| match told {
            Told::Dropped(seqs) => Some(seqs),
            _ => None,
        })
        .collect();
    assert!(!dropped.is_empty() && dropped.iter().all(|seqs| seqs.first > kept), "{kept} {dropped:?}");
}

#[test]
fn what_goes_while_a_segment_cannot_be_read_goes_once() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Moody::open(&crate::spool::handle::stream(dir.path(), &DestinationName::default()));
    let (mut store, _) = Store::open(disk.clone(), settings(4)).unwrap();
    let mut last = 0;
    while store.append(&record("a", last + 1, 1000)).is_ok() {
        last += 1;
        store.commit().unwrap();
    }
    let second = (1..=last).find(|seq| store.locate(&camera("a"), *seq).unwrap().segment == 2).unwrap();
    store.files.forget(1);
    disk.shut.lock().unwrap().insert("000000000001.segment".to_owned(), 24);
    let bench = Bench::new(dir.path(), store);
    *bench.taken.lock().unwrap() = (2, vec![1, 2]);
    bench.spool.append(record("a", last + 1, 1000));
    assert!(matches!(bench.next(), Told::IoError("read")), "the frame waits");
    assert!(std::mem::replace(&mut bench.taken.lock().unwrap().1, vec![3, 4]).is_empty());
    bench.spool.append(record("a", last + 2, 1000));
    for _ in 0..2 {
        assert!(matches!(bench.next(), Told::IoError("read")), "a second later");
    }
    bench.spool.settled(&camera("a"), range(1, second - 1));
    let mut durable = Vec::new();
    while durable.len() < 2 {
        match bench.next() {
            Told::Durable(frames) => durable.extend(frames.iter().map(|(record, _)| record.frame.seq)),
            Told::IoError("read") => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((durable, &bench.taken.lock().unwrap().1[..]), (vec![last + 1, last + 2], &[3, 4][..]));
    bench.end();
}

#[test]
fn a_refused_frame_costs_no_look_at_what_has_to_be_kept() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Moody::open(&crate::spool::handle::stream(dir.path(), &DestinationName::default()));
    let (mut store, _) = Store::open(disk.clone(), settings(5)).unwrap();
    let mut last = 0;
    while store.status().segments < 4 {
        last += 1;
        fill(&mut store, "a", last..=last, 1000);
    }
    fill(&mut store, "b", 1..=1, 10);
    drop(store);
    disk.syncs.store(1, Relaxed);
    disk.creations.store(u32::MAX, Relaxed);
    let (mut store, _) = Store::open(disk.clone(), settings(5)).unwrap();
    store.settle(&camera("a"), range(last, last));
    assert_eq!(store.keeps_below(), 4);
    let bench = Bench::new(dir.path(), store);
    bench.taken.lock().unwrap().0 = 1;
    let refused = |seq| {
        bench.spool.append(record("a", seq, 1000));
        assert!(matches!(bench.next(), Told::Refused(frame) if frame.seq == seq));
        disk.reads_done.load(Relaxed)
    };
    let reads = refused(last + 1);
    (last + 2..last + 30).for_each(|seq| assert_eq!(refused(seq), reads));
    drop(bench.end());
}

#[tokio::test]
async fn a_segment_that_is_gone_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Moody::open(&crate::spool::handle::stream(dir.path(), &DestinationName::default()));
    let (mut store, _) = Store::open(disk.clone(), settings(16)).unwrap();
    fill(&mut store, "a", 1..=40, 1000);
    let bench = Bench::new(dir.path(), store);
    std::fs::remove_file(disk.disk.dir().join("000000000002.segment")).unwrap();
    bench.spool.load(&camera("a"), 0, 100);
    let frames = loop {
        match bench.next() {
            Told::Loaded(frames, false) => break frames,
            Told::IoError("read") => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(frames.iter().map(|spooled| spooled.seq).collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
    for spooled in frames {
        let read = bench.spool.read(&camera("a"), spooled).await;
        let damaged = matches!(read, Err(crate::spool::ReadError::Damaged { .. }));
        assert!(if spooled.place.segment == 2 { damaged } else { read.is_ok() }, "{spooled:?}");
    }
    bench.spool.settled(&camera("a"), range(1, 40));
    bench.spool.barrier().await;
    assert_eq!((bench.spool.status().frames, bench.spool.status().segments), (0, 1));
    bench.end();
}

#[tokio::test]
async fn a_directory_that_is_moved_away_costs_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, aside) = (parent.path().join("spool"), parent.path().join("aside"));
    let disk = RealDisk::open(&crate::spool::handle::stream(&dir, &DestinationName::default())).unwrap();
    let (mut store, _) = Store::open(disk, settings(16)).unwrap();
    fill(&mut store, "a", 1..=40, 1000);
    let bench = Bench::new(&dir, store);
    std::fs::rename(&dir, &aside).unwrap();
    // As a disk that is mounted no more leaves its place.
    std::fs::create_dir_all(crate::spool::handle::stream(&dir, &DestinationName::default())).unwrap();
    (41..=80).for_each(|seq| bench.spool.append(record("a", seq, 1000)));
    bench.spool.barrier().await;
    bench.spool.load(&camera("a"), 0, 100);
    let frames = loop {
        match bench.next() {
            Told::Loaded(frames, false) => break frames,
            Told::Durable(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(frames.iter().map(|spooled| spooled.seq).eq(1..=80));
    for spooled in frames {
        let read = bench.spool.read(&camera("a"), spooled).await.unwrap();
        assert_eq!(read.frame.jpeg, record("a", spooled.seq, 1000).frame.jpeg);
    }
    bench.spool.settled(&camera("a"), range(1, 40));
    bench.end();
    let (mut store, _) = open(&crate::spool::handle::stream(&aside, &DestinationName::default()));
    store.settle(&camera("a"), range(1, 40));
    assert_eq!(live(&mut store, "a", 1000), (41..=80).collect::<Vec<_>>());
    assert_eq!(std::fs::read_dir(crate::spool::handle::stream(&dir, &DestinationName::default())).unwrap().count(), 0);
}

#[tokio::test]
async fn a_segment_that_somebody_has_put_something_else_in_the_place_of_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let stream = crate::spool::handle::stream(dir.path(), &DestinationName::default());
    let (mut store, _) = open(&stream);
    fill(&mut store, "a", 1..=1, 1000);
    let spooled = store.entries(&camera("a"), 0, 1).0[0];
    let bench = Bench::new(dir.path(), store);
    let path = stream.join("000000000001.segment");
    for link in [false, true] {
        std::fs::rename(&path, dir.path().join("elsewhere")).unwrap();
        if link {
            std::os::unix::fs::symlink(dir.path().join("elsewhere"), &path).unwrap();
        } else {
            std::fs::create_dir(&path).unwrap();
        }
        let read = bench.spool.read(&camera("a"), spooled).await;
        assert!(matches!(&read, Err(crate::spool::ReadError::Damaged { seq: 1, .. })), "{read:?}");
        if !link {
            std::fs::remove_dir(&path).unwrap();
            std::fs::rename(dir.path().join("elsewhere"), &path).unwrap();
        }
    }
    bench.end();
}

#[tokio::test]
async fn a_disk_that_refuses_is_tried_again_and_nothing_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Moody::open(dir.path());
    let (store, _) = Store::open(disk.clone(), settings(16)).unwrap();
    let bench = Bench::new(dir.path(), store);
    bench.spool.append(record("a", 1, 1000));
    bench.spool.barrier().await;
    disk.syncs.store(2, Relaxed);
    (2..=20).for_each(|seq| bench.spool.append(record("a", seq, 1000)));
    bench.spool.barrier().await;
    let told = bench.end();
    let durable = told.iter().flat_map(|told| match told {
        Told::Durable(frames) => frames.iter().map(|(record, _)| record.frame.seq).collect(),
        _ => Vec::new(),
    });
    assert_eq!(durable.collect::<Vec<_>>(), (1..=20).collect::<Vec<_>>());
    assert_eq!(told.iter().filter(|told| matches!(told, Told::IoError("sync"))).count(), 2);
    let (mut store, _) = open(dir.path());
    assert_eq!(live(&mut store, "a", 1000), (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_disk_refuses_when_nothing_can_go_and_takes_again_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Moody::open(dir.path());
    disk.creations.store(2, Relaxed);
    let (store, _) = Store::open(disk.clone(), settings(16)).unwrap();
    let bench = Bench::new(dir.path(), store);
    bench.spool.append(record("a", 1, 1000));
    assert!(matches!(bench.next(), Told::Refused(frame) if frame.seq == 1));
    let deadline = Instant::now() + Duration::from_secs(10);
    for full in [true, false] {
        while bench.spool.status().full != full {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
    assert_eq!(disk.creations.load(Relaxed), 0);
    bench.spool.append(record("a", 2, 1000));
    assert!(matches!(bench.next(), Told::Durable(frames) if frames[0].0.frame.seq == 2));
    bench.end();
}

#[test]
fn what_cannot_be_read_when_it_is_asked_for_is_told_later() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Moody::open(dir.path());
    let (mut store, _) = Store::open(disk.clone(), settings(16)).unwrap();
    fill(&mut store, "a", 1..=20, 1000);
    let bench = Bench::new(dir.path(), store);
    disk.reads.store(1, Relaxed);
    disk.opens.store(24, Relaxed);
    bench.spool.load(&camera("a"), 0, 3);
    assert!(matches!(bench.next(), Told::IoError("read")));
    disk.opens.store(0, Relaxed);
    let loaded = loop {
        match bench.next() {
            Told::IoError("read") => {}
            told => break told,
        }
    };
    assert!(matches!(loaded, Told::Loaded(frames, true) if frames.len() == 3 && frames[0].seq == 1));
    assert!(bench.end().iter().all(|told| matches!(told, Told::IoError("read"))));
}

#[test]
fn what_cannot_be_written_at_the_end_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Moody::open(dir.path());
    let (mut store, _) = Store::open(disk.clone(), settings(16)).unwrap();
    store.append(&record("a", 1, 1000)).unwrap();
    disk.syncs.store(1000, Relaxed);
    assert!(matches!(store.commit(), Err(AppendError::Io(_))));
    let bench = Bench::new(dir.path(), store);
    bench.spool.append(record("a", 2, 1000));
    let told = bench.end();
    let refused = told.iter().filter_map(|told| match told {
        Told::Refused(frame) => Some(frame.seq),
        _ => None,
    });
    assert_eq!(refused.collect::<Vec<_>>(), [1, 2]);
}
