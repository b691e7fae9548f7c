//! The thread that writes: frames in, one sync for all that have come, and the sink is told.
//!
//! A group is committed at once if the last commit began 10 ms ago or more, else when it did, and as soon as it has 4 MiB.
//! Where frames come faster than the disk takes them it is what has come meanwhile, up to 16 MiB.
//! What finds no room waits in memory, in its order, while older frames are dropped for it and until the journal has
//! confirmed that; where nothing may be dropped it is refused.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{error, info, warn};

use super::disk::Disk;
use super::handle::{Command, Shared};
use super::store::{AppendError, Store};
use super::{Inbox, Record, Sink};
use crate::config::WhenFull;
use crate::delivery::WINDOW;
use crate::model::{CameraId, LostReason, Resolved, Seq, SeqRange};

/// The least time between the beginnings of two commits: what a frame may wait so that others can join it.
const LINGER: Duration = Duration::from_millis(10);

/// JPEG bytes for which no commit waits any longer.
const GROUP: u64 = 4 << 20;

/// JPEG bytes that are committed together at most. Frames that have come already lose nothing by sharing a sync, and the
/// disk takes far more in fewer of them: on ext4 450 to 690 MB/s in groups of 4 MiB, 950 to 1,100 in groups of 16.
const LARGEST_GROUP: u64 = 16 << 20;

/// How soon a disk that refused, or was full, is tried again without being asked.
const RETRY: Duration = Duration::from_secs(1);

/// How old the age of the oldest frame may be that is told.
const LOOK: Duration = Duration::from_millis(250);

/// Frames that are looked at together when some must go.
const CHUNK: usize = 1024;

/// Without its spool the daemon can keep no promise: better to end at once and be started again.
struct EndsProcessOnPanic;

impl Drop for EndsProcessOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!("the spool's thread panicked: the process ends, nothing that was shown is lost");
            std::process::exit(70);
        }
    }
}

/// Drops from a store what the journal has outcomes of, and starts the thread that writes it. `sink` hears what becomes of
/// frames.
pub fn start<D: Disk>(
    mut store: Store<D>,
    resolved: &BTreeMap<CameraId, Resolved>,
    inbox: Inbox,
    sink: impl Sink,
) -> JoinHandle<()> {
    store.resolve(resolved);
    let Inbox { commands, shared } = inbox;
    let _ = shared.origin.set(store.origin().clone());
    let mut writer = Writer {
        store,
        sink,
        shared,
        waiting: VecDeque::new(),
        next: 0,
        barriers: Vec::new(),
        loads: Vec::new(),
        group: 0,
        last_commit: None,
        retry_at: None,
        look: true,
        failing: false,
        refusing: false,
        dropping: false,
        oldest_at: None,
        stale: false,
    };
    writer.retry_at = writer.store.wants_retry().then(|| Instant::now() + RETRY);
    writer.publish(Instant::now());
    let run = move || {
        let _guard = EndsProcessOnPanic;
        writer.run(&commands);
    };
    std::thread::Builder::new().name("spool".into()).spawn(run).expect("a thread can be started")
}

struct Writer<D: Disk, S> {
    store: Store<D>,
    sink: S,
    shared: Arc<Shared>,
    /// Frames that there is no room for, with the order in which they came.
    waiting: VecDeque<(u64, Record)>,
    /// The next frame's place in that order.
    next: u64,
    /// Who waits until everything before this place is on disk.
    barriers: Vec<(u64, oneshot::Sender<()>)>,
    /// What was asked for and could not be read.
    loads: Vec<(CameraId, Seq, usize)>,
    /// JPEG bytes that were appended since the last commit.
    group: u64,
    /// When the last commit began.
    last_commit: Option<Instant>,
    /// When to try again what the disk refused, or had no room for.
    retry_at: Option<Instant>,
    /// Whether something has happened that may have made room.
    look: bool,
    /// Whether the disk refused what was asked last.
    failing: bool,
    /// Whether frames are refused.
    refusing: bool,
    /// Whether frames are being dropped for others; it says so once.
    dropping: bool,
    /// When the oldest frame was looked up last.
    oldest_at: Option<Instant>,
    /// Whether that may have changed since.
    stale: bool,
}

/// What became of a frame that was offered to the store.
enum Offered {
    Taken,
    Waits,
    Refused,
}

impl<D: Disk, S: Sink> Writer<D, S> {
    fn run(&mut self, commands: &Receiver<Command>) {
        loop {
            let next = match self.patience(Instant::now()) {
                Some(wait) => commands.recv_timeout(wait),
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let mut closing = matches!(next, Err(RecvTimeoutError::Disconnected) | Ok(Command::Close));
            next.into_iter().for_each(|command| self.take(command));
            while !closing && self.group < LARGEST_GROUP {
                let Ok(command) = commands.try_recv() else { break };
                closing = matches!(command, Command::Close);
                self.take(command);
            }
            self.turn(Instant::now());
            if closing {
                return self.close();
            }
        }
    }

    /// How long nothing needs to be done unless something comes; `None` for ever.
    fn patience(&self, now: Instant) -> Option<Duration> {
        let commit =
            (self.store.uncommitted() > 0 && !self.failing).then(|| self.last_commit.map_or(now, |last| last + LINGER));
        let look = self.stale.then(|| self.oldest_at.map_or(now, |last| last + LOOK));
        let next = [commit, self.retry_at, look].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(now))
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Append(record) => {
                let place = self.next;
                self.next += 1;
                // Behind those that wait, so that the order is kept; and a disk that fails is left in peace for a while.
                if self.waiting.is_empty() && !self.failing {
                    self.offer(place, *record);
                } else {
                    self.waiting.push_back((place, *record));
                    self.look = true;
                }
            }
            Command::Settled { camera, seqs } => {
                self.store.settle(&camera, seqs);
                self.look = true;
                self.stale = true;
            }
            Command::Load { camera, after, limit } => self.load(camera, after, limit),
            // A question that the disk lets nobody answer gets none.
            Command::Locate { camera, seq, answer } => {
                let _ = self.store.try_locate(&camera, seq).map(|place| answer.send(place));
            }
            Command::Barrier { done } => self.barriers.push((self.next, done)),
            Command::Hang(time) => std::thread::sleep(time),
            Command::Close => {}
        }
    }

    fn load(&mut self, camera: CameraId, after: Seq, limit: usize) {
        self.tell();
        match self.store.try_entries(&camera, after, limit) {
            Some((frames, more)) => self.sink.loaded(&camera, frames, more),
            // To say that there are none would be to forget them.
            None => self.loads.push((camera, after, limit)),
        }
    }

    /// What follows after commands were taken, or time has passed.
    fn turn(&mut self, now: Instant) {
        let again = self.retry_at.is_some_and(|at| now >= at);
        if again {
            self.retry_at = None;
            self.failing = false;
            self.store.retry();
            for (camera, after, limit) in std::mem::take(&mut self.loads) {
                self.load(camera, after, limit);
            }
            if self.refusing && self.waiting.is_empty() && self.has_room() {
                self.refusing = false;
            }
        }
        if (again || self.look) && !self.failing {
            self.offer_waiting();
        }
        self.look = false;
        let lingered = self.last_commit.is_none_or(|last| now >= last + LINGER);
        if (lingered || self.group >= GROUP || !self.barriers.is_empty())
            && self.store.uncommitted() > 0
            && !self.failing
        {
            self.commit();
        }
        if self.retry_at.is_none()
            && (self.failing
                || self.refusing
                || !self.waiting.is_empty()
                || !self.loads.is_empty()
                || self.store.wants_retry())
        {
            self.retry_at = Some(now + RETRY);
        }
        self.publish(now);
        self.fulfil_barriers();
    }

    /// Tells the sink of what a full segment has made last before its commit: nobody may be given a frame, or lose one,
    /// that the sink has not heard of.
    fn tell(&mut self) {
        if self.store.has_untold() {
            self.commit();
        }
    }

    fn commit(&mut self) {
        let begun = Instant::now();
        let group = std::mem::take(&mut self.group);
        self.last_commit = Some(begun);
        match self.store.commit() {
            Ok(frames) => {
                let bytes: u64 = frames.iter().map(|(record, _)| record.frame.jpeg.len() as u64).sum();
                self.shared.pending.fetch_sub(bytes, Relaxed);
                self.sink.committed(frames.len(), bytes, begun.elapsed());
                self.sink.durable(frames);
                self.stale = true;
            }
            Err(error) => {
                warn!(%error, frames = self.store.uncommitted(), "spool: frames stay in memory until they can be written");
                if matches!(error, AppendError::NoRoom) && !matches!(self.store.clean(), Ok(true)) {
                    self.tell();
                    self.without_room();
                }
                self.failing = true;
                self.group = group;
            }
        }
        // What a failed commit had made last before it failed comes with the next one.
        if self.store.uncommitted() > 0 {
            self.failing = true;
        }
    }

    fn offer_waiting(&mut self) {
        while let Some((place, record)) = self.waiting.pop_front() {
            if matches!(self.offer(place, record), Offered::Waits) {
                return;
            }
        }
    }

    /// Gives a frame to the store, makes room for it, has it wait at the head of those that do, or refuses it.
    fn offer(&mut self, place: u64, record: Record) -> Offered {
        let mut cleaned_at = u64::MAX;
        let offered = loop {
            let error = match self.store.append(&record) {
                Ok(()) => break Offered::Taken,
                Err(AppendError::TooLarge) => break Offered::Refused,
                Err(AppendError::NoRoom) => {
                    // Once more only where that has made the spool smaller: for a frame that nearly fills a segment the rest
                    // could be copied from one to the next for ever.
                    let size = self.store.size();
                    let cleaned = if size < cleaned_at { self.store.clean() } else { Ok(false) };
                    cleaned_at = size;
                    match cleaned {
                        Ok(true) => continue,
                        Ok(false) | Err(AppendError::NoRoom | AppendError::TooLarge) => {
                            self.tell();
                            break self.without_room();
                        }
                        Err(AppendError::Io(error)) => error,
                    }
                }
                Err(AppendError::Io(error)) => error,
            };
            warn!(%error, "spool: a frame waits in memory until it can be written");
            self.failing = true;
            break Offered::Waits;
        };
        match offered {
            Offered::Taken => {
                self.group += record.frame.jpeg.len() as u64;
                self.refusing = false;
                self.dropping = self.dropping && self.store.left() > 0;
            }
            Offered::Waits => self.waiting.push_front((place, record)),
            Offered::Refused => self.refuse(record),
        }
        offered
    }

    fn refuse(&mut self, record: Record) {
        let Record { frame, .. } = record;
        if !std::mem::replace(&mut self.refusing, true) {
            warn!(camera = %frame.camera, disk_full = self.store.disk_is_full(), "spool: no room, frames are refused");
        }
        self.shared.pending.fetch_sub(frame.jpeg.len() as u64, Relaxed);
        self.sink.refused(frame, LostReason::SpoolFull);
    }

    fn without_room(&mut self) -> Offered {
        // The segments of what was dropped go when the journal says that it knows.
        let oldest_go = self.store.when_full == WhenFull::DropOldest && (self.store.left() > 0 || self.drop_some());
        if oldest_go { Offered::Waits } else { Offered::Refused }
    }

    /// Drops the oldest frames of the camera that holds most, a quarter of a segment of them. False where nothing may go.
    fn drop_some(&mut self) -> bool {
        let wanted = self.store.segment_bytes() / 4;
        let mut cameras: Vec<_> = self.store.live().map(|(camera, _, bytes)| (bytes, camera.clone())).collect();
        cameras.sort_by(|one, other| other.cmp(one));
        for (held, camera) in cameras {
            // No room comes of those that lie in what has to be kept.
            let keeps = self.store.keeps_below() > 0;
            let mut seqs = if keeps { Vec::new() } else { self.sink.drop_oldest(&camera, wanted) };
            seqs.sort_unstable();
            in_ranges(&seqs).into_iter().for_each(|range| self.store.leave(&camera, range));
            let mut freed = held - self.store.live_bytes(&camera);
            if freed < wanted {
                freed += self.drop_beyond(&camera, wanted - freed);
            }
            if freed > 0 {
                if !std::mem::replace(&mut self.dropping, true) {
                    warn!(%camera, disk_full = self.store.disk_is_full(), "spool: no room, the oldest frames are dropped");
                }
                return true;
            }
        }
        false
    }

    /// Drops frames that the sink never took; returns their bytes.
    fn drop_beyond(&mut self, camera: &CameraId, wanted: u64) -> u64 {
        let mut after = self.sink.taken_up_to(camera);
        if after == 0 {
            // After a start its oldest frames may have been carried by an attempt, as many as a window holds: they stay.
            let (oldest, _) = self.store.entries(camera, 0, WINDOW);
            let Some(last) = oldest.last() else { return 0 };
            after = last.seq;
        }
        let (mut seqs, mut freed) = (Vec::new(), 0);
        loop {
            let (entries, more) = self.store.entries(camera, after, CHUNK);
            for spooled in entries {
                if freed >= wanted {
                    break;
                }
                after = spooled.seq;
                if spooled.place.segment < self.store.keeps_below() {
                    continue;
                }
                freed += u64::from(spooled.place.length);
                seqs.push(spooled.seq);
            }
            if freed >= wanted || !more {
                break;
            }
        }
        for range in in_ranges(&seqs) {
            self.store.leave(camera, range);
            self.sink.dropped(camera, range);
        }
        freed
    }

    /// Whether a segment could be had.
    fn has_room(&mut self) -> bool {
        self.store.make_ready().is_ok() || matches!(self.store.clean(), Ok(true))
    }

    fn fulfil_barriers(&mut self) {
        if self.store.uncommitted() > 0 {
            return;
        }
        let first_waiting = self.waiting.front().map_or(u64::MAX, |(place, _)| *place);
        let (done, waiting) = self.barriers.drain(..).partition(|(place, _)| *place <= first_waiting);
        self.barriers = waiting;
        let done: Vec<(u64, oneshot::Sender<()>)> = done;
        for (_, done) in done {
            let _ = done.send(());
        }
    }

    fn publish(&mut self, now: Instant) {
        self.store.take_io_errors().into_iter().for_each(|op| self.sink.io_error(op));
        let mut status = self.store.status();
        let before = *self.shared.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.full = self.refusing || (self.store.disk_is_full() && !self.waiting.is_empty());
        status.oldest = before.oldest;
        if before.full && !status.full {
            info!("spool: there is room again");
        }
        let due = self.oldest_at.is_none_or(|last| now >= last + LOOK);
        if status.frames == 0 {
            (status.oldest, self.stale) = (None, false);
        } else if due && (before.oldest.is_none() || self.stale) {
            status.oldest = self.store.oldest();
            (self.oldest_at, self.stale) = (Some(now), false);
        }
        *self.shared.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    fn close(&mut self) {
        self.failing = false;
        self.offer_waiting();
        if self.store.uncommitted() > 0 {
            self.commit();
        }
        let rest: Vec<Record> = self.waiting.drain(..).map(|(_, record)| record).collect();
        for record in self.store.give_up().into_iter().chain(rest) {
            self.refuse(record);
        }
        // Nothing is uncommitted any more: what remains is the footer.
        if let Err(error) = self.store.close() {
            warn!(%error, "spool: cannot close");
        }
        self.publish(Instant::now());
        self.fulfil_barriers();
    }
}

/// Rising seqs as ranges.
fn in_ranges(seqs: &[Seq]) -> Vec<SeqRange> {
    let runs = seqs.chunk_by(|one, next| one + 1 == *next);
    runs.map(|run| SeqRange { first: run[0], last: run[run.len() - 1] }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;
    use std::sync::atomic::Ordering::Relaxed;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::super::testing::*;
    use super::super::{AppendError, Place, RealDisk, Spool, Spooled, Store};
    use super::*;
    use crate::model::Frame;

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
            let (spool, inbox) = super::super::channel(dir.to_owned());
            let (teller, told) = channel();
            let taken = Arc::default();
            let ear = Ear(teller, Arc::clone(&taken));
            let thread = Some(start(store, &BTreeMap::new(), inbox, ear));
            Self { spool, told, taken, thread }
        }

        fn real(dir: &std::path::Path, segments: u64, when_full: WhenFull) -> Self {
            let disk = RealDisk::open(&super::super::handle::stream(dir)).unwrap();
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
        assert!(matches!(gone.await, Err(super::super::ReadError::Gone { seq: 1, .. })));
        assert!(bench.end().is_empty());
        assert_eq!(std::fs::read_dir(dir.path().join("default")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_frame_that_was_copied_forward_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let stream = super::super::handle::stream(dir.path());
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
        let disk = || RealDisk::open(&super::super::handle::stream(dir.path())).unwrap();
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
        let disk = Moody::open(&super::super::handle::stream(dir.path()));
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

    #[tokio::test]
    async fn a_segment_that_is_gone_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Moody::open(&super::super::handle::stream(dir.path()));
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
            let damaged = matches!(read, Err(super::super::ReadError::Damaged { .. }));
            assert!(if spooled.place.segment == 2 { damaged } else { read.is_ok() }, "{spooled:?}");
        }
        bench.spool.settled(&camera("a"), range(1, 40));
        bench.spool.barrier().await;
        assert_eq!((bench.spool.status().frames, bench.spool.status().segments), (0, 1));
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
}
