//! Random work, faults and crashes, against a model of what must come of them.
//!
//! `PROPTEST_CASES=100000` tries so many; a case that fails is kept in `proptest-regressions` and tried first from then
//! on.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use rustix::io::Errno;

use super::disk::{Crash, ModelDisk, Op};
use crate::model::{CameraId, Frame, Origin, Resolved, Seq, SeqRange, UnixMicros};
use crate::spool::store::{Found, Store, StoreSettings};
use crate::spool::{ReadError, Record, Spooled};

/// What a case does, one after the other.
#[derive(Clone, Debug)]
enum Action {
    /// A camera's next frame, of so many bytes.
    Append {
        camera: usize,
        bytes: usize,
    },
    Commit,
    /// Outcomes are in the journal: of so many seqs, from one that is counted from the first unresolved one.
    Settle {
        camera: usize,
        skip: u64,
        count: u64,
    },
    /// Frames are given up, and the journal does not have that yet.
    Leave {
        camera: usize,
        skip: u64,
        count: u64,
    },
    /// The next unresolved frames are asked for and read.
    Load {
        camera: usize,
        skip: u64,
        limit: usize,
    },
    /// The segment with least in it is copied forward.
    Clean,
    /// The next operation of this kind is refused.
    Fail(Op, Errno),
    /// Others take the disk's room, or give it back.
    Room(Option<u64>),
    /// The process dies in the midst of what comes: before so many operations of the disk more.
    DieIn(u64),
    /// It dies now, and its start has this trouble.
    Crash {
        crash: Crash,
        trouble: Trouble,
    },
}

/// What befalls a start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    None,
    /// The process dies before so many operations of the disk more.
    Dies(u64),
    /// The first of these operations is refused.
    Refused(Op),
}

#[derive(Clone, Debug)]
struct Case {
    seed: u64,
    segment: u64,
    segments: u64,
    actions: Vec<Action>,
}

fn crash() -> impl Strategy<Value = Crash> {
    prop_oneof![Just(Crash::Killed), Just(Crash::PowerCut)]
}

fn trouble() -> impl Strategy<Value = Trouble> {
    // Of what cannot be read nobody knows what it was, so no read is refused here.
    let op = prop_oneof![
        3 => Just(Op::Sync),
        1 => Just(Op::Write),
        1 => Just(Op::Truncate),
        1 => Just(Op::Remove),
        1 => Just(Op::SyncDir),
        1 => Just(Op::Create),
    ];
    prop_oneof![
        3 => Just(Trouble::None),
        2 => (0..25u64).prop_map(Trouble::Dies),
        1 => op.prop_map(Trouble::Refused),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let bytes = prop_oneof![12 => 0..400usize, 3 => 400..1500usize, 1 => 3000..6000usize];
    let error = prop_oneof![Just(Errno::IO), Just(Errno::NOSPC)];
    let refused = prop_oneof![
        4 => Just(Op::Sync),
        3 => Just(Op::Write),
        1 => Just(Op::Create),
        1 => Just(Op::Truncate),
        1 => Just(Op::SyncDir),
        1 => Just(Op::Remove),
        1 => Just(Op::Read),
        1 => Just(Op::Open),
    ];
    prop_oneof![
        24 => (0..3usize, bytes).prop_map(|(camera, bytes)| Action::Append { camera, bytes }),
        10 => Just(Action::Commit),
        9 => (0..3usize, 0..6u64, 1..8u64).prop_map(|(camera, skip, count)| Action::Settle { camera, skip, count }),
        2 => (0..3usize, 0..6u64, 1..5u64).prop_map(|(camera, skip, count)| Action::Leave { camera, skip, count }),
        3 => (0..3usize, 0..9u64, 1..9usize).prop_map(|(camera, skip, limit)| Action::Load { camera, skip, limit }),
        2 => Just(Action::Clean),
        2 => (refused, error).prop_map(|(op, error)| Action::Fail(op, error)),
        1 => prop_oneof![Just(None), (0..8u64).prop_map(Some)].prop_map(Action::Room),
        1 => (0..12u64).prop_map(Action::DieIn),
        2 => (crash(), trouble()).prop_map(|(crash, trouble)| Action::Crash { crash, trouble }),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    (any::<u64>(), prop_oneof![Just(2048u64), Just(4096)], 4..8u64, prop::collection::vec(action(), 1..70))
        .prop_map(|(seed, segment, segments, actions)| Case { seed, segment, segments, actions })
}

/// How far a frame is that has no outcome in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Appended: it may be on disk, and may not.
    Pending,
    /// Found by a start that could neither sync it nor copy it: it counts, and a second misfortune may take it.
    Doubtful,
    /// Committed, or found by a start: it is there whatever comes.
    Durable,
    /// Durable, and given up.
    Left,
}

impl State {
    fn is_live(self) -> bool {
        matches!(self, Self::Doubtful | Self::Durable)
    }
}

#[derive(Clone, Copy, Debug)]
struct Expected {
    state: State,
    bytes: usize,
    /// Tells it from another frame that had its seq before a crash took both back.
    stamp: i64,
}

#[derive(Debug, Default)]
struct Camera {
    next: Seq,
    frames: BTreeMap<Seq, Expected>,
    /// What the journal has outcomes of.
    settled: BTreeSet<Seq>,
}

impl Camera {
    /// So many seqs that were given, from the `skip`th after the first one without an outcome; in runs, without those
    /// for which `wanted` is false.
    fn some(&self, skip: u64, count: u64, wanted: impl Fn(&Self, Seq) -> bool) -> Vec<SeqRange> {
        let first = (1..).find(|seq| !self.settled.contains(seq)).expect("numbers do not end") + skip;
        let mut runs: Vec<SeqRange> = Vec::new();
        for seq in (first..first + count).filter(|seq| *seq < self.next && wanted(self, *seq)) {
            match runs.last_mut() {
                Some(run) if run.last + 1 == seq => run.last = seq,
                _ => runs.push(SeqRange::one(seq)),
            }
        }
        runs
    }

    fn resolved(&self) -> Resolved {
        let watermark = (1..).find(|seq| !self.settled.contains(seq)).expect("numbers do not end") - 1;
        let mut above: Vec<SeqRange> = Vec::new();
        for seq in self.settled.iter().copied().filter(|seq| *seq > watermark) {
            match above.last_mut() {
                Some(run) if run.last + 1 == seq => run.last = seq,
                _ => above.push(SeqRange::one(seq)),
            }
        }
        Resolved { watermark, above }
    }
}

fn id(camera: usize) -> CameraId {
    ["a", "gate-2", "a-camera-with-a-rather-long-name"][camera].parse().expect("a plain id")
}

fn record(camera: usize, seq: Seq, expected: Expected) -> Record {
    let jpeg: Bytes = format!("{camera}/{seq}/{};", expected.stamp).bytes().cycle().take(expected.bytes).collect();
    let frame = Frame {
        camera: id(camera),
        seq,
        session: 1 + (seq / 10) as u32,
        captured_at: UnixMicros(expected.stamp),
        width: 640,
        height: 480,
        damaged: seq.is_multiple_of(3),
        crc32c: crc32c::crc32c(&jpeg),
        jpeg,
    };
    Record { frame, key: format!("{camera}/{seq:012}.jpg") }
}

/// The store at work, and what must be in it.
struct Run {
    disk: ModelDisk,
    /// The model disk has a store of its own; `None` only while it is opened.
    store: Option<Store<ModelDisk>>,
    settings: StoreSettings,
    cameras: [Camera; 3],
    stamp: i64,
    starts: u64,
    /// A read was refused since the last start.
    blind: bool,
    /// A header was half written and its file not removed for good: no segment of anybody.
    strays: bool,
}

impl Run {
    fn new(case: &Case) -> Self {
        let settings = StoreSettings {
            origin: Origin::from_random([7; 5]),
            segment_bytes: case.segment,
            max_bytes: case.segment * case.segments,
        };
        let cameras = std::array::from_fn(|_| Camera { next: 1, ..Camera::default() });
        let mut run = Self {
            disk: ModelDisk::new(case.seed),
            store: None,
            settings,
            cameras,
            stamp: 0,
            starts: 0,
            blind: false,
            strays: false,
        };
        run.start(Trouble::None);
        run
    }

    fn store(&mut self) -> &mut Store<ModelDisk> {
        self.store.as_mut().expect("it is open")
    }

    /// Opens the store over what is on the disk, as a start does; the process may die in it.
    fn start(&mut self, trouble: Trouble) {
        self.store = None;
        match trouble {
            Trouble::None => {}
            Trouble::Dies(operations) => self.disk.die_in(operations),
            Trouble::Refused(op) => self.disk.fail(op, Errno::IO),
        }
        let opened = Store::open(self.disk.clone(), self.settings.clone());
        if self.disk.is_dead() {
            return;
        }
        self.blind = false;
        let (mut store, found) = opened.expect("whatever lies there does not stop a start");
        self.strays = found.foreign > 0 && self.disk.refused() > 0;
        assert!(self.strays || found.foreign == 0, "{found:?}");
        self.judge(&found);
        let resolved = (0..3).map(|camera| (id(camera), self.cameras[camera].resolved())).collect();
        store.resolve(&resolved);
        let sound = store.unsound.is_empty();
        self.store = Some(store);
        if !self.disk.is_dead() {
            if sound {
                let frames = self.cameras.iter_mut().flat_map(|camera| camera.frames.values_mut());
                frames.for_each(|frame| frame.state = State::Durable);
            }
            self.disk.live_on();
            self.disk.heal();
            self.look_at_all();
        }
    }

    /// What a start has found: all that was durable, nothing that was never there. What it has found is durable once
    /// the store has seen to it, and the journal settles the holes.
    fn judge(&mut self, found: &Found) {
        for (nth, camera) in self.cameras.iter_mut().enumerate() {
            let nothing = Vec::new();
            let ranges = found.cameras.get(&id(nth)).map_or(&nothing, |camera| &camera.seqs);
            assert!(ranges.windows(2).all(|two| two[0].last + 1 < two[1].first), "{nth}: {ranges:?}");
            let there: BTreeSet<Seq> = ranges.iter().flat_map(|range| range.first..=range.last).collect();
            for seq in &there {
                assert!(*seq < camera.next, "{nth} {seq} was never appended: {ranges:?}");
                let known = camera.frames.contains_key(seq) || camera.settled.contains(seq);
                assert!(known, "{nth} {seq} was never appended: {ranges:?}");
            }
            for (seq, frame) in &mut camera.frames {
                let is_there = there.contains(seq);
                let certain = matches!(frame.state, State::Durable | State::Left);
                assert!(is_there || !certain, "{nth} {seq} was durable and is gone: {ranges:?}");
                frame.state = if certain { State::Durable } else { State::Doubtful };
            }
            camera.frames.retain(|seq, _| there.contains(seq));
            let highest = there.last().max(camera.settled.last()).copied().unwrap_or_default();
            camera.next = highest + 1;
            let holes = (1..camera.next).filter(|seq| !camera.frames.contains_key(seq));
            camera.settled.extend(holes.collect::<Vec<_>>());
        }
    }

    fn crash(&mut self, crash: Crash, trouble: Trouble) {
        self.starts += 1;
        self.store = None;
        self.disk.crash(crash);
        self.start(trouble);
        if self.disk.is_dead() {
            self.crash(crash, Trouble::None);
        } else if self.store.is_none() {
            unreachable!("a start that did not die has opened the store");
        }
    }

    /// Does an action. What comes of it after the process has died is not heard by anybody.
    fn act(&mut self, action: &Action) {
        match *action {
            Action::Append { camera, bytes } => self.append(camera, bytes),
            Action::Commit => self.commit(),
            Action::Settle { camera, skip, count } => {
                let of = &mut self.cameras[camera];
                let pending = |of: &Camera, seq| of.frames.get(&seq).is_none_or(|frame| frame.state != State::Pending);
                for run in of.some(skip, count, pending) {
                    // First in the journal.
                    let of = &mut self.cameras[camera];
                    of.settled.extend(run.first..=run.last);
                    of.frames.retain(|seq, _| !(run.first..=run.last).contains(seq));
                    self.store().settle(&id(camera), run);
                }
            }
            Action::Leave { camera, skip, count } => {
                let durable = |of: &Camera, seq| of.frames.get(&seq).is_some_and(|frame| frame.state == State::Durable);
                for run in self.cameras[camera].some(skip, count, durable) {
                    let frames = self.cameras[camera].frames.range_mut(run.first..=run.last);
                    frames.for_each(|(_, frame)| frame.state = State::Left);
                    self.store().leave(&id(camera), run);
                }
            }
            Action::Load { camera, skip, limit } => {
                let after = self.cameras[camera].resolved().watermark + skip;
                self.load(camera, after, limit);
            }
            Action::Clean => drop(self.store().clean()),
            Action::Fail(op, error) => self.disk.fail(op, error),
            Action::Room(room) => {
                let room = room.map(|segments| self.disk.size() + segments * self.settings.segment_bytes / 2);
                self.disk.set_capacity(room.unwrap_or(u64::MAX));
            }
            Action::DieIn(operations) => self.disk.die_in(operations),
            Action::Crash { crash, trouble } => self.crash(crash, trouble),
        }
    }

    fn append(&mut self, camera: usize, bytes: usize) {
        self.stamp += 1;
        let of = &mut self.cameras[camera];
        let (seq, expected) = (of.next, Expected { state: State::Pending, bytes, stamp: self.stamp });
        of.next += 1;
        let appended = self.store().append(&record(camera, seq, expected));
        let of = &mut self.cameras[camera];
        match appended {
            // The process may have died after it wrote.
            _ if self.disk.is_dead() => drop(of.frames.insert(seq, expected)),
            Ok(()) => drop(of.frames.insert(seq, expected)),
            // It is refused, and has its outcome.
            Err(_) => drop(of.settled.insert(seq)),
        }
    }

    fn commit(&mut self) {
        let committed = self.store().commit();
        if self.disk.is_dead() {
            return;
        }
        let Ok(committed) = committed else { return };
        for (written, place) in committed {
            let camera = (0..3).find(|camera| id(*camera) == written.frame.camera).expect("one of three");
            let seq = written.frame.seq;
            let frame = self.cameras[camera].frames.get_mut(&seq).expect("only what was appended is committed");
            assert_eq!(frame.state, State::Pending, "{camera} {seq} is committed twice");
            frame.state = State::Durable;
            self.read(camera, Spooled { seq, place });
        }
    }

    /// Reads a record and compares it with what was appended.
    fn read(&mut self, camera: usize, spooled: Spooled) {
        let expected = record(camera, spooled.seq, self.cameras[camera].frames[&spooled.seq]);
        let read = match self.store().read(&id(camera), spooled) {
            Ok(read) => read,
            // A read that the disk refuses says nothing.
            Err(ReadError::Io { .. }) => return,
            Err(error) => panic!("{error}"),
        };
        let parts = |record: &Record| {
            let Frame { camera, seq, session, captured_at, width, height, damaged, crc32c, jpeg } =
                record.frame.clone();
            (camera, seq, session, captured_at, width, height, damaged, crc32c, jpeg, record.key.clone())
        };
        assert_eq!(parts(&read), parts(&expected));
    }

    /// Asks for a camera's unresolved frames: they are all there, in order, each whole, and there are no others.
    fn load(&mut self, camera: usize, after: Seq, limit: usize) {
        let (found, more) = self.store().entries(&id(camera), after, limit);
        if self.reads_fail() {
            return;
        }
        // What is on disk and was not returned by a commit yet is there as well.
        let all = self.store().entries(&id(camera), after, usize::MAX >> 1).0;
        if self.reads_fail() {
            return;
        }
        let early = |seq: &Seq, frame: &Expected| {
            frame.state == State::Pending && all.iter().any(|spooled| spooled.seq == *seq)
        };
        let frames = self.cameras[camera].frames.range(after + 1..);
        let live = frames.filter(|(seq, frame)| frame.state.is_live() || early(seq, frame));
        let expected: Vec<Seq> = live.map(|(seq, _)| *seq).collect();
        let seqs: Vec<Seq> = found.iter().map(|spooled| spooled.seq).collect();
        assert_eq!(seqs, expected.iter().copied().take(limit).collect::<Vec<_>>(), "{camera} after {after}");
        assert_eq!(more, expected.len() > limit, "{camera} after {after}: whether there are more than {limit}");
        for spooled in found {
            self.read(camera, spooled);
        }
    }

    fn look_at_all(&mut self) {
        for camera in 0..3 {
            self.load(camera, 0, usize::MAX >> 1);
        }
    }

    /// Whether the disk has refused a read since the start: then the store may not know all it should.
    fn reads_fail(&mut self) -> bool {
        let refused = self.store().take_io_errors().contains(&"read");
        self.blind |= refused;
        refused || self.disk.is_dead()
    }

    /// What holds at any time.
    fn look(&mut self) {
        self.reads_fail();
        let status = self.store().status();
        let count = |state| {
            let frames = self.cameras.iter().flat_map(|camera| camera.frames.values());
            frames.filter(|frame| frame.state == state).count() as u64
        };
        let live = count(State::Durable) + count(State::Doubtful);
        let pending = count(State::Pending);
        // Frames count when they are on disk, which a full segment may have brought about before the commit.
        let most = if self.blind { u64::MAX } else { live + pending };
        assert!((live..=most).contains(&status.frames), "{live} to {most} are live: {status:?}");
        assert_eq!(self.store().uncommitted() as u64, pending, "frames that are not committed");
        let (known, size) = (status.size, self.disk.size());
        // A segment whose sealing the disk refused may be shorter than is known.
        assert!(
            known == size || known > size && self.disk.refused() > 0 || self.strays,
            "{size} are taken: {status:?}"
        );
        assert!(status.size <= self.settings.max_bytes, "{} bytes are beyond the cap", status.size);
    }
}

fn run(case: &Case) -> Run {
    let mut run = Run::new(case);
    for action in &case.actions {
        run.act(action);
        if run.disk.is_dead() {
            let crash = if run.stamp % 2 == 0 { Crash::Killed } else { Crash::PowerCut };
            run.crash(crash, Trouble::None);
        }
        run.look();
    }
    // In the end all goes well: what is there is stored, and the spool is empty.
    run.disk.heal();
    run.disk.live_on();
    run.disk.set_capacity(u64::MAX);
    run.commit();
    run.look_at_all();
    run.crash(Crash::PowerCut, Trouble::None);
    run.look_at_all();
    run.look();
    for camera in 0..3 {
        let last = run.cameras[camera].next - 1;
        if last > 0 {
            run.cameras[camera].settled.extend(1..=last);
            run.cameras[camera].frames.clear();
            run.store().settle(&id(camera), SeqRange { first: 1, last });
        }
    }
    run.look();
    run
}

/// What all cases together went through.
#[derive(Default)]
struct Tally {
    cases: u64,
    starts: u64,
    operations: u64,
    refused: u64,
}

#[test]
fn what_was_committed_is_there_until_it_is_settled() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    println!("\nSEED={seed}");
    let mut config = ProptestConfig {
        rng_seed: RngSeed::Fixed(seed),
        source_file: Some(file!()),
        max_shrink_iters: 20_000,
        ..ProptestConfig::default()
    };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = 1_500;
    }
    let tally = RefCell::new(Tally::default());
    let tested = TestRunner::new(config).run(&case(), |case| {
        let run = run(&case);
        let mut tally = tally.borrow_mut();
        tally.cases += 1;
        tally.starts += run.starts;
        tally.operations += run.disk.operations();
        tally.refused += run.disk.refused();
        Ok(())
    });
    let Tally { cases, starts, operations, refused } = tally.into_inner();
    let figures = serde_json::json!({
        "model": "spool", "seed": seed, "cases": cases, "operations": operations, "refused": refused, "starts": starts,
        "violations": u8::from(tested.is_err()), "faults": refused + starts,
    });
    println!("\n{figures}");
    tested.unwrap_or_else(|error| panic!("SEED={seed}: {error}"));
    assert!(starts > cases && refused > 0, "there were no faults");
}

/// What failed once, as it was found.
#[test]
fn cases_that_failed_hold() {
    let append = |camera, bytes| Action::Append { camera, bytes };
    // A segment that was given up came back with a frame that no run had counted.
    let returned = Case {
        seed: 498_752_816_885_179_786,
        segment: 4096,
        segments: 4,
        actions: vec![
            Action::DieIn(0),
            append(0, 0),
            Action::Fail(Op::Sync, Errno::IO),
            append(0, 0),
            append(0, 95),
            Action::DieIn(1),
            append(0, 0),
            append(0, 0),
            append(0, 47),
            append(0, 239),
            Action::DieIn(5),
            append(0, 0),
            Action::Fail(Op::Sync, Errno::IO),
            Action::Commit,
            Action::Commit,
        ],
    };
    // A frame that was left went with its segment, because it could not be counted.
    let uncounted = Case {
        seed: 0,
        segment: 2048,
        segments: 4,
        actions: vec![
            append(0, 71),
            append(2, 192),
            append(0, 119),
            append(1, 114),
            append(0, 735),
            Action::Commit,
            Action::Fail(Op::Read, Errno::IO),
            Action::Leave { camera: 0, skip: 1, count: 1 },
            Action::Clean,
        ],
    };
    let cut = Case {
        seed: 2_669_122_158_205_274_786,
        segment: 2048,
        segments: 6,
        actions: vec![
            append(0, 255),
            append(1, 1202),
            append(0, 79),
            append(0, 79),
            append(2, 0),
            append(0, 0),
            append(0, 1383),
            append(1, 250),
            append(0, 159),
            append(2, 352),
            append(0, 359),
            append(0, 111),
            Action::Clean,
            append(0, 183),
            Action::Room(Some(0)),
            Action::Fail(Op::Sync, Errno::IO),
            Action::Commit,
            Action::Crash { crash: Crash::Killed, trouble: Trouble::Refused(Op::Sync) },
        ],
    };
    for case in [returned, uncounted, cut] {
        run(&case);
    }
}
