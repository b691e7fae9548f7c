//! What waits to be uploaded, and which frame goes next.

mod memory;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use self::queue::{Queue, Taken};
use crate::model::{CameraId, Seq, SeqRange};

/// Bytes a camera may send each time its turn comes. No larger than a small frame: many small ones in a turn would hold
/// all workers while others wait. Larger frames save up over several turns.
const QUANTUM: u64 = 16 * 1024;

/// Frames of one camera's backlog that are in the air at most: its oldest ones. What lies beyond is on disk and known
/// to the spool alone, so that a day's backlog costs no memory. After a crash only these can have been carried.
pub const WINDOW: usize = 256;

/// What may be in memory at once, waiting or on its way.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// JPEG bytes.
    pub bytes: u64,
    /// Frames.
    pub frames: usize,
}

/// A frame in the air, and what is known of its earlier attempts. `B` is its body, `P` the place on disk at which it
/// can be read; neither is looked into here.
#[derive(Clone, Debug)]
pub struct Job<B, P> {
    /// Whose frame it is.
    pub camera: CameraId,
    /// Its place in the camera's order.
    pub seq: Seq,
    /// Bytes that it takes in memory. They must not be changed while it is out of the dispatcher's hands.
    pub bytes: u64,
    /// The frame itself; `None` where it has to be read first.
    pub body: Option<B>,
    /// Where it lies on disk; `None` where memory holds the only copy.
    pub place: Option<P>,
    /// How many attempts have failed so far.
    pub failures: u32,
    /// How often it went to see whether its destination is back.
    pub probed: u32,
    /// How often the disk could not give it.
    pub unreadable: u32,
    /// Whether an attempt may have carried it to the bucket without our knowing.
    pub carried: bool,
    /// How often its destination has refused it for good.
    pub refusals: u32,
    /// How many frames of its destination had been stored when it was first refused for good.
    pub refused_at: Option<u64>,
}

impl<B, P> Job<B, P> {
    /// A frame that no attempt was made for.
    pub fn new(camera: CameraId, seq: Seq, bytes: u64, body: Option<B>, place: Option<P>) -> Self {
        Self {
            camera,
            seq,
            bytes,
            body,
            place,
            failures: 0,
            probed: 0,
            unreadable: 0,
            carried: false,
            refusals: 0,
            refused_at: None,
        }
    }

    /// Whether its body can be let go and read again.
    fn is_cached(&self) -> bool {
        self.body.is_some() && self.place.is_some()
    }
}

/// The answer to [`Dispatcher::pull`].
#[derive(Debug)]
pub enum Pulled<B, P> {
    /// Upload this; tell [`Dispatcher::ends`] or [`Dispatcher::put_back`] how it went.
    Job(Job<B, P>),
    /// Nothing may go before this instant, unless something is admitted first or comes back.
    NotBefore(Instant),
    /// Nothing waits that could go, unless something is admitted first or comes back.
    Empty,
}

/// A queue per camera, served by deficit round robin over bytes (Shreedhar and Varghese, 1995), under one memory
/// budget.
///
/// Frames come in two ways. Those that live in memory alone are [admitted](Dispatcher::admit): over the budget, the
/// camera that holds most beyond its share loses its oldest such frame that no attempt has carried. Those on disk take
/// a place in their camera's [window](WINDOW): [at once](Dispatcher::durable) while there is room and nothing lies
/// beyond, else [in order](Dispatcher::loaded) when asked [for](Dispatcher::load). Their bodies are a cache, which
/// gives way when memory is short. A place in the window is kept [until the outcome is
/// committed](Dispatcher::committed): what is not committed at a crash is unresolved after it, and nothing beyond the
/// oldest [`WINDOW`] of those may have been carried.
///
/// Of one camera's frames those that live in memory alone go first, save every fourth time: what is on disk can wait,
/// and yet the camera's list must go on.
///
/// A frame that is on its way counts against the budget until it has ended or is back. `pending` is what the spool
/// holds in memory beside: bytes on their way to the disk.
#[derive(Debug)]
pub struct Dispatcher<B, P> {
    budget: Budget,
    cameras: HashMap<CameraId, Queue<B, P>>,
    /// Cameras with something waiting, in the order of their turns.
    turns: VecDeque<CameraId>,
    /// Of the frames in memory and of those on their way.
    bytes: u64,
    frames: usize,
    on_their_way: usize,
    /// Cameras with pictures on their way to the disk.
    expecting: usize,
    /// Frames that live in memory alone.
    only_in_memory: usize,
    /// Frames whose body could be let go, and their bytes.
    cached: (usize, u64),
}

impl<B, P> Dispatcher<B, P> {
    /// An empty dispatcher.
    pub fn new(budget: Budget) -> Self {
        let (cameras, turns) = (HashMap::new(), VecDeque::new());
        let cached = (0, 0);
        Self { budget, cameras, turns, bytes: 0, frames: 0, on_their_way: 0, expecting: 0, only_in_memory: 0, cached }
    }

    /// Takes in a frame that lives in memory alone, and returns those that have to go for it: usually none, and
    /// possibly the frame itself.
    #[must_use = "a frame that is dropped must be recorded as lost"]
    pub fn admit(&mut self, job: Job<B, P>) -> Vec<Job<B, P>> {
        let camera = job.camera.clone();
        self.hold(&camera, job.bytes);
        self.only_in_memory += 1;
        let queue = self.queue(&camera);
        queue.memory.fresh.insert(job.seq, job);
        self.give_turn(&camera);

        let mut dropped = Vec::new();
        while self.bytes > self.budget.bytes || self.frames > self.budget.frames {
            if self.let_a_body_go() {
                continue;
            }
            let Some(job) = self.drop_from_memory() else { break };
            dropped.push(job);
        }
        dropped
    }

    /// Whether a picture of so many bytes may be given to the spool now. One that may is expected: [`durable`] or
    /// [`refused`] must follow. A quarter of the budget is kept for what is read back, so that a disk that is slow to
    /// write does not stop the uploads that make room on it. The last sixteenth is for cameras below their share, so
    /// that a flood takes no other camera's room; a share is reckoned as though one more camera were about to come.
    ///
    /// [`durable`]: Dispatcher::durable
    /// [`refused`]: Dispatcher::refused
    pub fn expect(&mut self, camera: &CameraId, bytes: u64, pending: u64) -> bool {
        let most = self.budget.bytes - self.budget.bytes / 4;
        let (expected, is_new) =
            self.cameras.get(camera).map_or((0, true), |queue| (queue.expected_bytes, queue.expected == 0));
        let cameras = self.expecting + usize::from(is_new);
        let over_its_share = expected + bytes > most / (cameras as u64 + 1);
        let needed = pending + bytes + if over_its_share { self.budget.bytes / 16 } else { 0 };
        let fits = needed <= most && {
            while self.bytes + needed > self.budget.bytes && self.let_a_body_go() {}
            self.bytes + needed <= self.budget.bytes
        };
        // One may always, or a picture larger than the budget would never.
        let accepted = fits || (pending == 0 && self.bytes == 0);
        if accepted {
            self.expecting = cameras;
            let queue = self.queue(camera);
            queue.expected += 1;
            queue.expected_bytes += bytes;
        }
        accepted
    }

    /// Takes note that an expected picture of so many bytes will not come.
    pub fn refused(&mut self, camera: &CameraId, bytes: u64) {
        self.come(camera, bytes);
        self.forget_if_done(camera);
    }

    /// Takes note that a frame is on disk, and takes it in where the window has room and nothing older lies beyond it;
    /// its body only where memory has room.
    pub fn durable(&mut self, mut job: Job<B, P>, pending: u64) {
        debug_assert!(job.place.is_some(), "it is on disk");
        let camera = job.camera.clone();
        let fits = self.fits(job.bytes, pending);
        self.come(&camera, job.bytes);
        let queue = self.queue(&camera);
        if job.seq <= queue.taken_up_to {
            // A load was faster.
            return;
        }
        if queue.beyond || queue.in_window() >= WINDOW {
            queue.beyond = true;
            return;
        }
        if !fits {
            job.body = None;
        }
        self.take_in(job);
    }

    /// Takes note that frames of an earlier run lie on disk. The first that are loaded may have been carried then.
    pub fn recovered(&mut self, camera: &CameraId) {
        let queue = self.queue(camera);
        queue.beyond = true;
        queue.suspects = WINDOW;
    }

    /// Whether a camera's next frames should be loaded: those after which seq, and how many at most. Each answer but
    /// `None` must be followed by [`Dispatcher::loaded`].
    ///
    /// Not one by one: only where half of the window is free. Frames that wait to be tried again are left out of that
    /// reckoning, because they may do so for long, and what lies beyond them must not: the window that they leave is
    /// the window.
    pub fn load(&mut self, camera: &CameraId) -> Option<(Seq, usize)> {
        let queue = self.cameras.get_mut(camera)?;
        let (taken, parked) = (queue.in_window(), queue.disk.retries.len());
        if !queue.beyond || queue.loading || taken >= WINDOW || 2 * (taken - parked) > WINDOW - parked {
            return None;
        }
        queue.loading = true;
        Some((queue.taken_up_to, WINDOW - taken))
    }

    /// Takes in the frames that a load has found; `more` says whether there are any after them.
    pub fn loaded(&mut self, camera: &CameraId, jobs: impl IntoIterator<Item = Job<B, P>>, more: bool) {
        let queue = self.queue(camera);
        queue.loading = false;
        // Nothing is forgotten here: what became durable before the load was answered is in the answer or after it.
        queue.beyond = more;
        for mut job in jobs {
            let queue = self.queue(camera);
            if job.seq <= queue.taken_up_to {
                continue;
            }
            job.carried |= queue.suspects > 0;
            queue.suspects = queue.suspects.saturating_sub(1);
            self.take_in(job);
        }
        let queue = self.queue(camera);
        if !more {
            queue.suspects = 0;
        }
        self.forget_if_done(camera);
    }

    /// The highest seq that was ever taken in from disk. Whatever lies beyond is not known here.
    pub fn taken_up_to(&self, camera: &CameraId) -> Seq {
        self.cameras.get(camera).map_or(0, |queue| queue.taken_up_to)
    }

    /// Gives the next frame to upload.
    pub fn pull(&mut self, now: Instant, pending: u64) -> Pulled<B, P> {
        let mut earliest: Option<Instant> = None;
        let mut passed_over = 0;
        while passed_over < self.turns.len() {
            let Some(camera) = self.turns.front().cloned() else { break };
            let room = match self.queue(&camera).next_unread(now) {
                Some(bytes) => self.make_room(bytes, pending),
                None => true,
            };
            let queue = self.cameras.get_mut(&camera).expect("a camera with a turn has a queue");
            if !room && !queue.has_in_memory(now) {
                // What is on its way comes back, or ends, and is followed by another look.
                self.turns.rotate_left(1);
                passed_over += 1;
                continue;
            }
            match queue.take_next(now, room) {
                Taken::Job(job) => {
                    if !queue.is_waiting() {
                        queue.in_turns = false;
                        self.turns.pop_front();
                    }
                    self.send_off(&job);
                    return Pulled::Job(job);
                }
                Taken::TooLarge if !queue.granted => {
                    queue.granted = true;
                    queue.deficit += QUANTUM;
                }
                Taken::TooLarge => {
                    // Its turn is used up; what is left of it counts at the next.
                    queue.granted = false;
                    self.turns.rotate_left(1);
                    passed_over = 0;
                }
                Taken::NotYet => {
                    earliest = earliest.into_iter().chain(queue.retry_at()).min();
                    queue.deficit = 0;
                    queue.granted = false;
                    self.turns.rotate_left(1);
                    passed_over += 1;
                }
            }
        }
        earliest.map_or(Pulled::Empty, Pulled::NotBefore)
    }

    /// Gives a frame with which to try a destination that is down: an old one of the camera whose turn it is, whenever
    /// it should be tried again, and the turn is over: so that neither one camera's frames decide nor one frame does,
    /// which may fail for a reason of its own. `None` where nothing waits that could go.
    pub fn pull_probe(&mut self, pending: u64) -> Option<Job<B, P>> {
        for _ in 0..self.turns.len() {
            let camera = self.turns.front().cloned()?;
            self.turns.rotate_left(1);
            let Some(candidate) = self.queue(&camera).candidate() else { continue };
            let room = candidate.unread.is_none_or(|bytes| self.make_room(bytes, pending));
            let Some(job) = self.queue(&camera).take_candidate(candidate, room) else { continue };
            self.send_off(&job);
            self.end_turn_if_idle(&camera);
            return Some(job);
        }
        None
    }

    /// Takes note that a frame on its way has ended, before anything else hears of its outcome: from then on that may
    /// be [committed](Dispatcher::committed) at any moment, and until then the frame keeps its place in the window.
    pub fn ends(&mut self, job: &Job<B, P>) {
        if job.place.is_some() {
            self.queue(&job.camera).ending.insert(job.seq);
        }
    }

    /// Forgets a frame that [has ended](Dispatcher::ends), once its outcome was given to the journal.
    pub fn settled(&mut self, job: &Job<B, P>) {
        self.come_back(job);
        self.release(&job.camera, job.bytes);
        if job.place.is_some() {
            self.queue(&job.camera).spooled -= 1;
        } else {
            self.only_in_memory -= 1;
        }
        self.forget_if_done(&job.camera);
    }

    /// Takes note that these seqs' outcomes are committed.
    pub fn committed(&mut self, camera: &CameraId, seqs: SeqRange) {
        let Some(queue) = self.cameras.get_mut(camera) else { return };
        if seqs.first == seqs.last {
            queue.ending.remove(&seqs.first);
        } else {
            queue.ending.retain(|seq| *seq < seqs.first || *seq > seqs.last);
        }
        self.forget_if_done(camera);
    }

    /// Takes a frame back that has to be tried again at `not_before`.
    pub fn put_back(&mut self, mut job: Job<B, P>, not_before: Instant, pending: u64) {
        self.come_back(&job);
        if job.place.is_some() && self.bytes + pending > self.budget.bytes {
            job.body = None;
        }
        if job.body.is_none() {
            self.release(&job.camera, job.bytes);
        }
        let camera = job.camera.clone();
        if job.is_cached() {
            self.cache(&camera, job.bytes);
        }
        let queue = self.queue(&camera);
        let lane = if job.place.is_some() { &mut queue.disk } else { &mut queue.memory };
        lane.retries.insert((not_before, job.seq), job);
        self.give_turn(&camera);
    }

    /// Takes the camera's oldest frames on disk that wait and that no attempt has carried, of `bytes` or more together
    /// where there are so many: their outcome must be on its way to the journal.
    #[must_use = "a frame that is dropped must be recorded as lost"]
    pub fn drop_oldest(&mut self, camera: &CameraId, bytes: u64) -> Vec<Job<B, P>> {
        let mut dropped = Vec::new();
        let mut sum = 0;
        while sum < bytes {
            let Some(queue) = self.cameras.get_mut(camera) else { break };
            let Some(job) = queue.disk.take_oldest() else { break };
            queue.spooled -= 1;
            queue.ending.insert(job.seq);
            sum += job.bytes;
            if job.is_cached() {
                self.uncache(camera, job.bytes);
                self.release(camera, job.bytes);
            }
            dropped.push(job);
        }
        self.end_turn_if_idle(camera);
        dropped
    }

    /// Whether anything waits, be it for its turn or for its time.
    pub fn is_waiting(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Frames of a camera that are not resolved, as far as they are known here; where more lie beyond the window, at
    /// least so many.
    pub fn held_by(&self, camera: &CameraId) -> usize {
        self.cameras.get(camera).map_or(0, Queue::held)
    }

    /// Frames that are on their way.
    pub fn on_their_way(&self) -> usize {
        self.on_their_way
    }

    /// Frames that live in memory alone, waiting or on their way.
    pub fn only_in_memory(&self) -> usize {
        self.only_in_memory
    }

    /// Frames whose body is in memory, waiting or on its way.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Their JPEG bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Of these, frames that could not be let go, and their bytes: they live in memory alone, or are on their way.
    pub fn needed(&self) -> (usize, u64) {
        (self.frames - self.cached.0, self.bytes - self.cached.1)
    }

    /// Takes out what waits and lives in memory alone, for a shutdown whose deadline has passed.
    pub fn drain_memory(&mut self) -> Vec<Job<B, P>> {
        let cameras: Vec<CameraId> = self.cameras.keys().cloned().collect();
        let mut jobs = Vec::new();
        for camera in cameras {
            let first = jobs.len();
            jobs.extend(self.queue(&camera).drain_memory());
            self.only_in_memory -= jobs.len() - first;
            for job in &jobs[first..] {
                self.release(&camera, job.bytes);
            }
            self.end_turn_if_idle(&camera);
            self.forget_if_done(&camera);
        }
        jobs
    }

    fn queue(&mut self, camera: &CameraId) -> &mut Queue<B, P> {
        self.cameras.entry(camera.clone()).or_default()
    }

    /// Gives a frame on disk its place in the window.
    fn take_in(&mut self, job: Job<B, P>) {
        let camera = job.camera.clone();
        if job.body.is_some() {
            self.hold(&camera, job.bytes);
            self.cache(&camera, job.bytes);
        }
        let queue = self.queue(&camera);
        queue.spooled += 1;
        queue.taken_up_to = job.seq;
        queue.disk.fresh.insert(job.seq, job);
        self.give_turn(&camera);
    }

    /// Books a picture that is no longer on its way to the disk.
    fn come(&mut self, camera: &CameraId, bytes: u64) {
        let queue = self.queue(camera);
        if queue.expected == 0 {
            return;
        }
        queue.expected -= 1;
        queue.expected_bytes = queue.expected_bytes.saturating_sub(bytes);
        if queue.expected == 0 {
            queue.expected_bytes = 0;
            self.expecting -= 1;
        }
    }

    /// Books a frame that goes on its way: from now on it is in memory, even if it has yet to be read.
    fn send_off(&mut self, job: &Job<B, P>) {
        self.on_their_way += 1;
        self.queue(&job.camera).on_their_way += 1;
        if job.body.is_none() {
            self.hold(&job.camera, job.bytes);
        } else if job.is_cached() {
            self.uncache(&job.camera, job.bytes);
        }
    }

    fn come_back(&mut self, job: &Job<B, P>) {
        self.on_their_way -= 1;
        self.queue(&job.camera).on_their_way -= 1;
    }

    fn give_turn(&mut self, camera: &CameraId) {
        let queue = self.cameras.get_mut(camera).expect("the caller has just used it");
        if !queue.in_turns {
            queue.in_turns = true;
            // What was left of an earlier turn is not saved up while there is nothing to send.
            queue.granted = false;
            queue.deficit = 0;
            self.turns.push_back(camera.clone());
        }
    }

    fn end_turn_if_idle(&mut self, camera: &CameraId) {
        let Some(queue) = self.cameras.get_mut(camera) else { return };
        if queue.in_turns && !queue.is_waiting() {
            queue.in_turns = false;
            self.turns.retain(|other| other != camera);
        }
    }

    fn drop_from_memory(&mut self) -> Option<Job<B, P>> {
        // Equal shares: the one furthest over its share is the one that holds most.
        let queues = self.cameras.iter().filter(|(_, queue)| queue.is_droppable());
        let (camera, _) = queues.max_by(|a, b| (a.1.bytes, b.0).cmp(&(b.1.bytes, a.0)))?;
        let camera = camera.clone();
        let job = self.cameras.get_mut(&camera)?.memory.take_oldest()?;
        self.only_in_memory -= 1;
        self.release(&camera, job.bytes);
        self.end_turn_if_idle(&camera);
        self.forget_if_done(&camera);
        Some(job)
    }

    fn forget_if_done(&mut self, camera: &CameraId) {
        if self.cameras.get(camera).is_some_and(Queue::is_done) {
            self.cameras.remove(camera);
        }
    }
}
