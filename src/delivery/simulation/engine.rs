//! The daemon in the simulation: the real parts of the delivery engine, wired as the hub and its workers wire them.

mod checks;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use self::checks::Watched;
use super::books::{Book, End};
use super::server::{Server, Told, delay};
use crate::delivery::{Answer, Budget, Dispatcher, Errand, Gate, Job, Pulled, Reorder, Ticket, Verdict};
use crate::model::{CameraId, LostReason, Seq, SeqRange};

pub(super) type Frame = Job<u64, ()>;

/// In place of a camera's number, for the server.
const MANIFEST: usize = usize::MAX;

/// What a run is made with.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) workers: usize,
    pub(super) budget: Budget,
    /// Bytes of the spool.
    pub(super) cap: u64,
    /// What it does wrong on purpose.
    pub(super) flaw: Option<Flaw>,
    /// Until when manifests are written.
    pub(super) until: Instant,
}

/// What must be noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flaw {
    /// Attempts are made whatever the gate says.
    NoGate,
    /// The same while it is not shut, whatever its rate.
    NoLimit,
    /// A frame whose attempt has failed is forgotten.
    Forgets,
    /// An answer that was lost is taken for stored.
    Believes,
}

/// What will happen in the process.
#[derive(Debug)]
pub(super) enum Step {
    /// The spool's thread has synced what has gathered.
    Synced,
    /// It answers what was asked after this seq.
    Loaded { camera: usize, after: Seq, limit: usize },
    /// The journal has committed what has gathered.
    Committed,
    /// An attempt has ended; without a word where its worker has died.
    Ended { job: Box<Frame>, ticket: Ticket, told: Option<Told> },
    /// The disk did not give a frame.
    Unread { job: Box<Frame>, ticket: Ticket },
    /// A camera's manifest is due, which has failed so often.
    Due { failures: u32 },
    /// A put of it has ended.
    Put { failures: u32, ticket: Ticket, told: Told },
    /// Somebody waits for this time.
    Wake,
}

/// What lies outside of the process.
#[derive(Debug)]
pub(super) struct World {
    pub(super) rng: fastrand::Rng,
    pub(super) cameras: Vec<CameraId>,
    pub(super) books: Vec<Book>,
    pub(super) server: Server,
    /// Frames whose outcome came in time, too late, or twice: what must not be.
    pub(super) violations: Vec<String>,
    /// A sum over all that happens.
    pub(super) digest: u64,
    pub(super) attempts: u64,
    pub(super) answered: u64,
}

impl World {
    pub(super) fn note(&mut self, what: [u64; 3]) {
        for word in what {
            self.digest = (self.digest ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
        }
    }

    pub(super) fn violated(&mut self, what: String) {
        if self.violations.len() < 20 {
            self.violations.push(what);
        }
    }
}

/// One life of the process.
#[derive(Debug)]
pub(super) struct Engine {
    plan: Plan,
    dispatcher: Dispatcher<u64, ()>,
    pub(super) gate: Gate,
    orders: Vec<Reorder>,
    next_seq: Vec<Seq>,
    /// On their way to the disk.
    pending: VecDeque<(usize, Seq, u64, u64)>,
    pending_bytes: u64,
    syncing: bool,
    /// On their way to the journal.
    outcomes: Vec<(usize, Seq, End)>,
    committing: bool,
    /// Manifests that wait for leave, each with how often it has failed; one of each camera at most is on its way.
    manifests: VecDeque<u32>,
    /// So many have gone.
    put: Seq,
    wake_at: Option<Instant>,
    /// What is to happen, and when.
    pub(super) steps: Vec<(Instant, Step)>,
    /// When the last attempt was let through a shut gate, and since when that was shut.
    through: Option<(Instant, Instant)>,
    watched: Watched,
}

impl Engine {
    /// Starts over what lies there.
    pub(super) fn start(plan: Plan, world: &mut World, now: Instant) -> Self {
        let mut engine = Self {
            dispatcher: Dispatcher::new(plan.budget),
            plan,
            gate: Gate::new(now, fastrand::Rng::with_seed(world.rng.u64(..))),
            orders: Vec::new(),
            next_seq: Vec::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            syncing: false,
            outcomes: Vec::new(),
            committing: false,
            manifests: VecDeque::new(),
            // Under keys of their own in each life: what they hold is no matter of this model.
            put: world.attempts,
            wake_at: None,
            steps: Vec::new(),
            through: None,
            watched: Watched::default(),
        };
        for camera in 0..world.cameras.len() {
            for seq in world.books[camera].holes() {
                if world.books[camera].contents.contains_key(&seq) {
                    world.violated(format!("camera {camera}, seq {seq} was on disk and is gone"));
                }
                world.books[camera].commit(seq, End::Lost(LostReason::Crash, true));
            }
            let book = &world.books[camera];
            let mut order = Reorder::default();
            for seq in (1..=book.highest()).filter(|seq| book.end(*seq).is_some()) {
                order.resolve(SeqRange::one(seq));
            }
            engine.orders.push(order);
            engine.next_seq.push(book.highest() + 1);
            if !book.records.is_empty() {
                engine.dispatcher.recovered(&world.cameras[camera]);
                engine.load_more(world, camera, now);
            }
            engine.later(world, now, 0..60_000, Step::Due { failures: 0 });
        }
        engine
    }

    /// A camera gives a picture.
    pub(super) fn admit(&mut self, world: &mut World, camera: usize, bytes: u64, now: Instant) {
        let seq = self.next_seq[camera];
        self.next_seq[camera] += 1;
        if self.dispatcher.expect(&world.cameras[camera], bytes, self.pending_bytes) {
            self.pending.push_back((camera, seq, bytes, world.rng.u64(1..u64::MAX)));
            self.pending_bytes += bytes;
            self.sync_soon(world, now);
        } else {
            self.ends(world, camera, seq, End::Lost(LostReason::MemoryFull, false), now);
        }
    }

    pub(super) fn happens(&mut self, world: &mut World, step: Step, now: Instant) {
        match step {
            Step::Synced => self.synced(world, now),
            Step::Loaded { camera, after, limit } => {
                let (found, more) = world.books[camera].load(after, limit);
                let id = &world.cameras[camera];
                let job = |(seq, bytes)| Frame::new(id.clone(), seq, bytes, None, Some(()));
                self.dispatcher.loaded(id, found.into_iter().map(job), more);
                self.load_more(world, camera, now);
            }
            Step::Committed => self.committed(world, now),
            Step::Ended { job, ticket, told } => self.ended(world, *job, ticket, told, now),
            Step::Unread { mut job, ticket } => {
                self.gate.unused(now, ticket);
                job.unreadable += 1;
                self.put_back(world, *job, now + Duration::from_secs(2), now);
            }
            Step::Due { failures } => {
                if now < self.plan.until {
                    self.manifests.push_back(failures);
                }
            }
            Step::Put { failures, ticket, told } => self.put_ended(world, failures, ticket, told, now),
            Step::Wake if self.wake_at == Some(now) => self.wake_at = None,
            // Another was earlier since, and has looked.
            Step::Wake => return,
        }
        self.gate.look(now);
        self.pull(world, now);
    }

    fn later(&mut self, world: &mut World, now: Instant, millis: std::ops::Range<u64>, step: Step) {
        let at = now + Duration::from_micros(1_000 * world.rng.u64(millis) + world.rng.u64(0..1_000));
        self.steps.push((at, step));
    }

    fn sync_soon(&mut self, world: &mut World, now: Instant) {
        if !std::mem::replace(&mut self.syncing, true) {
            self.later(world, now, 1..30, Step::Synced);
        }
    }

    fn synced(&mut self, world: &mut World, now: Instant) {
        self.syncing = false;
        while let Some((camera, seq, bytes, content)) = self.pending.front().copied() {
            if world.books.iter().map(|book| book.bytes).sum::<u64>() + bytes > self.plan.cap {
                if world.books.iter().any(Book::has_left) || self.drop_some(world, now) {
                    // What was dropped makes room when the journal knows of it.
                    self.sync_soon(world, now);
                    return;
                }
                self.dispatcher.refused(&world.cameras[camera], bytes);
                self.ends(world, camera, seq, End::Lost(LostReason::SpoolFull, false), now);
            } else {
                world.books[camera].write(seq, bytes, content);
                let job = Frame::new(world.cameras[camera].clone(), seq, bytes, Some(content), Some(()));
                self.dispatcher.durable(job, self.pending_bytes);
            }
            self.pending.pop_front();
            self.pending_bytes -= bytes;
        }
    }

    /// As the spool's writer does it where there is no room.
    fn drop_some(&mut self, world: &mut World, now: Instant) -> bool {
        let wanted = self.plan.cap / 8;
        let mut cameras: Vec<usize> = (0..world.cameras.len()).collect();
        cameras.sort_by_key(|camera| std::cmp::Reverse(world.books[*camera].bytes));
        for camera in cameras {
            let dropped = self.dispatcher.drop_oldest(&world.cameras[camera], wanted);
            if let Some(job) = dropped.iter().find(|job| job.carried) {
                world.violated(format!("seq {} was carried and is dropped", job.seq));
            }
            let freed: u64 = dropped.iter().map(|job| job.bytes).sum();
            let mut seqs: Vec<Seq> = dropped.iter().map(|job| job.seq).collect();
            if freed < wanted {
                let taken = self.dispatcher.taken_up_to(&world.cameras[camera]);
                seqs.extend(world.books[camera].leave_beyond(taken, wanted - freed));
            }
            for seq in &seqs {
                world.books[camera].leave(*seq);
                self.ends(world, camera, *seq, End::Lost(LostReason::SpoolFull, false), now);
            }
            if !seqs.is_empty() {
                return true;
            }
        }
        false
    }

    fn load_more(&mut self, world: &mut World, camera: usize, now: Instant) {
        if let Some((after, limit)) = self.dispatcher.load(&world.cameras[camera]) {
            self.later(world, now, 0..20, Step::Loaded { camera, after, limit });
        }
    }

    fn ends(&mut self, world: &mut World, camera: usize, seq: Seq, end: End, now: Instant) {
        self.outcomes.push((camera, seq, end));
        if !std::mem::replace(&mut self.committing, true) {
            self.later(world, now, 2..60, Step::Committed);
        }
    }

    fn committed(&mut self, world: &mut World, now: Instant) {
        self.committing = false;
        for (camera, seq, end) in std::mem::take(&mut self.outcomes) {
            if !world.books[camera].commit(seq, end) {
                world.violated(format!("camera {camera}, seq {seq} ends twice"));
            }
            // A conflict is an answer as well.
            world.answered += u64::from(matches!(end, End::Stored | End::Lost(LostReason::Conflict, _)));
            world.note([camera as u64, seq, u64::from(end == End::Stored)]);
            self.check_end(world, camera, seq, end);
            self.dispatcher.committed(&world.cameras[camera], SeqRange::one(seq));
            self.load_more(world, camera, now);
            let before = self.orders[camera].watermark();
            let watermark = self.orders[camera].resolve(SeqRange::one(seq));
            let book = &world.books[camera];
            let moved_over = (before + 1..=watermark).all(|seq| book.end(seq).is_some());
            if watermark < before || !moved_over || book.end(watermark + 1).is_some() {
                world.violated(format!("camera {camera}: the watermark goes from {before} to {watermark}"));
            }
        }
    }

    /// As the writer of manifests does it: they do not wait for a worker, nor for the frames that wait for the rate.
    fn put_manifests(&mut self, world: &mut World, now: Instant) {
        while let Some(failures) = self.manifests.front().copied() {
            if let Answer::NotBefore(at) = self.gate.ask(now, Errand::Object) {
                return self.wake(at);
            }
            self.manifests.pop_front();
            let ticket = self.gate.begin(now);
            self.put += 1;
            world.attempts += 1;
            world.note([2 << 32, self.put, u64::from(failures)]);
            self.check_gate(world, now);
            self.watch(world, now);
            let (after, told) = world.server.attempt(now, (MANIFEST, self.put), self.put, &mut world.rng);
            self.steps.push((now + after, Step::Put { failures, ticket, told }));
        }
    }

    fn put_ended(&mut self, world: &mut World, failures: u32, ticket: Ticket, told: Told, now: Instant) {
        match told {
            Told::Failed { verdict, retry_after, .. } => {
                self.gate.ended(now, ticket, None, verdict, None);
                let wait = delay(failures + 1, verdict, retry_after, &mut world.rng);
                self.steps.push((now + wait, Step::Due { failures: failures + 1 }));
            }
            Told::Stored | Told::Conflict => {
                self.gate.ended(now, ticket, None, Verdict::Answered, None);
                self.later(world, now, 60_000..61_000, Step::Due { failures: 0 });
            }
        }
    }

    fn wake(&mut self, at: Instant) {
        if self.wake_at.is_none_or(|other| at < other) {
            self.wake_at = Some(at);
            self.steps.push((at, Step::Wake));
        }
    }

    fn pull(&mut self, world: &mut World, now: Instant) {
        self.put_manifests(world, now);
        while self.dispatcher.on_their_way() < self.plan.workers {
            let pulled = match self.gate.ask(now, Errand::Frame) {
                _ if self.plan.flaw == Some(Flaw::NoGate) => self.dispatcher.pull(now, self.pending_bytes),
                Answer::NotBefore(_) if self.plan.flaw == Some(Flaw::NoLimit) && !self.gate.is_shut() => {
                    self.dispatcher.pull(now, self.pending_bytes)
                }
                Answer::NotBefore(at) => Pulled::NotBefore(at),
                Answer::Go => self.dispatcher.pull(now, self.pending_bytes),
                Answer::Probe => self.dispatcher.pull_probe(self.pending_bytes).map_or(Pulled::Empty, Pulled::Job),
            };
            match pulled {
                Pulled::Empty => return,
                Pulled::NotBefore(at) => return self.wake(at),
                Pulled::Job(job) => {
                    let ticket = self.gate.begin(now);
                    self.attempt(world, job, ticket, now);
                }
            }
            self.check_memory(world);
        }
    }

    fn attempt(&mut self, world: &mut World, mut job: Frame, ticket: Ticket, now: Instant) {
        let camera = self.camera(world, &job);
        if job.body.is_none() {
            if world.rng.u16(0..2_000) == 0 {
                return self.later(world, now, 1..5, Step::Unread { job: Box::new(job), ticket });
            }
            let record = world.books[camera].records.get(&job.seq);
            job.body = record.map(|record| record.content);
        }
        let (Some(content), None) = (job.body, world.books[camera].end(job.seq)) else {
            world.violated(format!("camera {camera}, seq {} goes and is not on disk, or has ended", job.seq));
            return;
        };
        world.attempts += 1;
        world.note([1 << 32, camera as u64, job.seq]);
        // Not before: what could not be read was no attempt, and another frame may go in its place.
        self.check_gate(world, now);
        self.watch(world, now);
        let (after, told) = world.server.attempt(now, (camera, job.seq), content, &mut world.rng);
        let told = (world.rng.u16(0..5_000) > 0).then_some(told);
        self.steps.push((now + after, Step::Ended { job: Box::new(job), ticket, told }));
    }

    fn ended(&mut self, world: &mut World, mut job: Frame, ticket: Ticket, told: Option<Told>, now: Instant) {
        let end = match told {
            None => {
                self.gate.abandoned(ticket);
                (job.carried, job.failures) = (true, job.failures + 1);
                return self.put_back(world, job, now + Duration::from_millis(250), now);
            }
            Some(Told::Failed { verdict, maybe_stored, retry_after }) => {
                let says_nothing = self.gate.ended(now, ticket, Some(&job.camera), verdict, None);
                job.carried |= maybe_stored;
                match self.plan.flaw {
                    Some(Flaw::Forgets) => return,
                    Some(Flaw::Believes) if maybe_stored => return self.finish(world, &job, End::Stored, now),
                    _ => {}
                }
                let mut wait = Duration::ZERO;
                if !says_nothing {
                    job.failures += 1;
                    wait = delay(job.failures, verdict, retry_after, &mut world.rng);
                }
                return self.put_back(world, job, now + wait, now);
            }
            Some(Told::Stored) => End::Stored,
            Some(Told::Conflict) => End::Lost(LostReason::Conflict, false),
        };
        self.gate.ended(now, ticket, Some(&job.camera), Verdict::Answered, None);
        self.finish(world, &job, end, now);
    }

    fn finish(&mut self, world: &mut World, job: &Frame, end: End, now: Instant) {
        let camera = self.camera(world, job);
        self.dispatcher.ends(job);
        self.ends(world, camera, job.seq, end, now);
        self.dispatcher.settled(job);
        self.load_more(world, camera, now);
    }

    fn put_back(&mut self, world: &mut World, job: Frame, at: Instant, now: Instant) {
        let camera = self.camera(world, &job);
        self.dispatcher.put_back(job, at, self.pending_bytes);
        self.load_more(world, camera, now);
    }

    fn camera(&self, world: &World, job: &Frame) -> usize {
        world.cameras.iter().position(|id| *id == job.camera).expect("it is one of ours")
    }

    /// Frames that have a number and no outcome.
    pub(super) fn open(&self, world: &World) -> u64 {
        let open = |(book, next): (&Book, &Seq)| (1..*next).filter(|seq| book.end(*seq).is_none()).count() as u64;
        world.books.iter().zip(&self.next_seq).map(open).sum()
    }

    /// The highest seqs that were given.
    pub(super) fn highest(&self) -> Vec<Seq> {
        self.next_seq.iter().map(|next| next - 1).collect()
    }

    pub(super) fn watermarks(&self) -> Vec<Seq> {
        self.orders.iter().map(Reorder::watermark).collect()
    }
}
