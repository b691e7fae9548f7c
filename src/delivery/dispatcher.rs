//! What waits to be uploaded, and which frame goes next.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use crate::model::{CameraId, Frame, Seq};

/// Bytes a camera may send each time its turn comes. Larger than nearly every JPEG, so that a turn is one visit.
const QUANTUM: u64 = 512 * 1024;

/// What may be in memory at once, waiting or on its way.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// JPEG bytes.
    pub bytes: u64,
    /// Frames.
    pub frames: usize,
}

/// A frame on its way, and what is known of its earlier attempts.
#[derive(Clone, Debug)]
pub struct Job {
    /// The frame.
    pub frame: Frame,
    /// How many attempts have failed so far.
    pub failures: u32,
    /// Whether an attempt may have carried it to the bucket without our knowing.
    pub carried: bool,
}

/// The answer to [`Dispatcher::pull`].
#[derive(Debug)]
pub enum Pulled {
    /// Upload this; tell [`Dispatcher::settled`] or [`Dispatcher::put_back`] how it went.
    Job(Job),
    /// Nothing may go before this instant, unless a frame is admitted first.
    NotBefore(Instant),
    /// Nothing waits.
    Empty,
}

/// A queue per camera, served by deficit round robin over bytes (Shreedhar and Varghese, 1995), under one memory budget.
///
/// A frame that is on its way still counts against the budget, until its outcome is known. Over the budget, the camera
/// that holds most beyond its share loses its oldest frame that no attempt has carried.
#[derive(Debug)]
pub struct Dispatcher {
    budget: Budget,
    cameras: HashMap<CameraId, Queue>,
    /// Cameras with something waiting, in the order of their turns.
    turns: VecDeque<CameraId>,
    bytes: u64,
    frames: usize,
}

#[derive(Debug, Default)]
struct Queue {
    fresh: VecDeque<Job>,
    /// By the instant before which they must not go.
    retries: BTreeMap<(Instant, Seq), Job>,
    deficit: u64,
    /// Whether it has had its quantum in this turn.
    granted: bool,
    /// Of this camera's waiting frames and those on their way.
    bytes: u64,
    on_their_way: usize,
    in_turns: bool,
}

impl Queue {
    fn is_waiting(&self) -> bool {
        !self.fresh.is_empty() || !self.retries.is_empty()
    }

    /// Takes the frame that would go now, if it is no larger than `deficit`: a retry whose time has come before anything
    /// new, as it is older.
    fn take_next(&mut self, now: Instant) -> Taken {
        let retry = self.retries.first_entry().filter(|entry| entry.key().0 <= now);
        let Some(next) = retry.as_ref().map(|entry| entry.get()).or(self.fresh.front()) else { return Taken::NotYet };
        let needed = size(next);
        let Some(left) = self.deficit.checked_sub(needed) else { return Taken::TooLarge };
        self.deficit = left;
        let job = retry.map(|entry| entry.remove()).or_else(|| self.fresh.pop_front());
        job.map_or(Taken::NotYet, Taken::Job)
    }

    /// Takes the oldest waiting frame that no attempt has carried.
    fn take_oldest_droppable(&mut self) -> Option<Job> {
        let retries = self.retries.iter().filter(|(_, job)| !job.carried);
        let retry = retries.map(|(key, _)| *key).min_by_key(|(_, seq)| *seq);
        match (retry, self.fresh.front()) {
            (Some(key), Some(fresh)) if key.1 < fresh.frame.seq => self.retries.remove(&key),
            (Some(key), None) => self.retries.remove(&key),
            _ => self.fresh.pop_front(),
        }
    }

    fn is_droppable(&self) -> bool {
        !self.fresh.is_empty() || self.retries.values().any(|job| !job.carried)
    }
}

enum Taken {
    Job(Job),
    TooLarge,
    NotYet,
}

fn size(job: &Job) -> u64 {
    job.frame.jpeg.len() as u64
}

impl Dispatcher {
    /// An empty dispatcher.
    pub fn new(budget: Budget) -> Self {
        Self { budget, cameras: HashMap::new(), turns: VecDeque::new(), bytes: 0, frames: 0 }
    }

    /// Takes a frame in and returns the frames that have to go for it: usually none, and possibly the frame itself.
    #[must_use = "a frame that is dropped must be recorded as lost"]
    pub fn admit(&mut self, frame: Frame) -> Vec<Frame> {
        let job = Job { frame, failures: 0, carried: false };
        self.bytes += size(&job);
        self.frames += 1;
        let camera = job.frame.camera.clone();
        let queue = self.cameras.entry(camera.clone()).or_default();
        queue.bytes += size(&job);
        queue.fresh.push_back(job);
        self.give_turn(&camera);

        let mut dropped = Vec::new();
        while self.bytes > self.budget.bytes || self.frames > self.budget.frames {
            let Some(frame) = self.drop_oldest() else { break };
            dropped.push(frame);
        }
        dropped
    }

    /// Gives the next frame to upload.
    pub fn pull(&mut self, now: Instant) -> Pulled {
        let mut earliest: Option<Instant> = None;
        let mut passed_over = 0;
        while passed_over < self.turns.len() {
            let Some(camera) = self.turns.front().cloned() else { break };
            let queue = self.cameras.get_mut(&camera).expect("a camera with a turn has a queue");
            match queue.take_next(now) {
                Taken::Job(job) => {
                    queue.on_their_way += 1;
                    if !queue.is_waiting() {
                        queue.in_turns = false;
                        self.turns.pop_front();
                    }
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
                    let retry_at = queue.retries.first_key_value().map(|(key, _)| key.0);
                    earliest = earliest.into_iter().chain(retry_at).min();
                    queue.deficit = 0;
                    queue.granted = false;
                    self.turns.rotate_left(1);
                    passed_over += 1;
                }
            }
        }
        earliest.map_or(Pulled::Empty, Pulled::NotBefore)
    }

    /// Forgets a frame whose outcome is known: its place in the budget is free again.
    pub fn settled(&mut self, frame: &Frame) {
        self.release(&frame.camera, frame.jpeg.len() as u64, true);
    }

    /// Takes a frame back that has to be tried again at `not_before`.
    pub fn put_back(&mut self, job: Job, not_before: Instant) {
        let camera = job.frame.camera.clone();
        let queue = self.cameras.entry(camera.clone()).or_default();
        queue.on_their_way -= 1;
        queue.retries.insert((not_before, job.frame.seq), job);
        self.give_turn(&camera);
    }

    /// Whether anything waits, be it for its turn or for its time.
    pub fn is_waiting(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Frames of a camera, waiting or on their way.
    pub fn held_by(&self, camera: &CameraId) -> usize {
        self.cameras.get(camera).map_or(0, |queue| queue.fresh.len() + queue.retries.len() + queue.on_their_way)
    }

    /// Frames that are on their way.
    pub fn on_their_way(&self) -> usize {
        self.cameras.values().map(|queue| queue.on_their_way).sum()
    }

    /// Frames that are waiting or on their way.
    pub fn frames(&self) -> usize {
        self.frames
    }

    /// Their JPEG bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes everything out that is waiting, for a shutdown whose deadline has passed.
    pub fn drain_waiting(&mut self) -> Vec<Job> {
        self.turns.clear();
        let mut jobs = Vec::new();
        for queue in self.cameras.values_mut() {
            queue.in_turns = false;
            jobs.extend(queue.fresh.drain(..));
            jobs.extend(std::mem::take(&mut queue.retries).into_values());
        }
        for job in &jobs {
            self.release(&job.frame.camera, size(job), false);
        }
        jobs
    }

    fn give_turn(&mut self, camera: &CameraId) {
        let queue = self.cameras.get_mut(camera).expect("the caller has just made it");
        if !queue.in_turns {
            queue.in_turns = true;
            // What was left of an earlier turn is not saved up while there is nothing to send.
            queue.granted = false;
            queue.deficit = 0;
            self.turns.push_back(camera.clone());
        }
    }

    fn drop_oldest(&mut self) -> Option<Frame> {
        // Equal shares: the one furthest over its share is the one that holds most.
        let queues = self.cameras.iter().filter(|(_, queue)| queue.is_droppable());
        let (camera, _) = queues.max_by(|a, b| (a.1.bytes, b.0).cmp(&(b.1.bytes, a.0)))?;
        let camera = camera.clone();
        let queue = self.cameras.get_mut(&camera)?;
        let job = queue.take_oldest_droppable()?;
        if !queue.is_waiting() {
            queue.in_turns = false;
            self.turns.retain(|other| *other != camera);
        }
        self.release(&camera, size(&job), false);
        Some(job.frame)
    }

    fn release(&mut self, camera: &CameraId, bytes: u64, was_on_its_way: bool) {
        self.bytes -= bytes;
        self.frames -= 1;
        let Some(queue) = self.cameras.get_mut(camera) else { return };
        queue.bytes -= bytes;
        queue.on_their_way -= usize::from(was_on_its_way);
        if !queue.is_waiting() && queue.on_their_way == 0 {
            self.cameras.remove(camera);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::UnixMicros;

    fn frame(camera: &str, seq: Seq, bytes: usize) -> Frame {
        Frame {
            camera: camera.parse().unwrap(),
            seq,
            session: 1,
            captured_at: UnixMicros(0),
            width: 1,
            height: 1,
            jpeg: vec![0; bytes].into(),
            crc32c: 0,
        }
    }

    fn dispatcher(bytes: u64, frames: usize) -> Dispatcher {
        Dispatcher::new(Budget { bytes, frames })
    }

    fn job(pulled: Pulled) -> Job {
        match pulled {
            Pulled::Job(job) => job,
            other => panic!("expected a job, got {other:?}"),
        }
    }

    #[test]
    fn one_camera_goes_in_order() {
        let mut d = dispatcher(1_000, 10);
        let now = Instant::now();
        for seq in 1..=3 {
            assert!(d.admit(frame("a", seq, 10)).is_empty());
        }
        let seqs: Vec<Seq> = (0..3).map(|_| job(d.pull(now)).frame.seq).collect();
        assert_eq!(seqs, [1, 2, 3]);
        assert!(matches!(d.pull(now), Pulled::Empty));
        assert_eq!((d.frames(), d.bytes()), (3, 30));
    }

    #[test]
    fn bytes_not_frames_are_shared_evenly() {
        let mut d = dispatcher(u64::MAX, usize::MAX);
        let now = Instant::now();
        for seq in 1..=400 {
            assert!(d.admit(frame("big", seq, 200_000)).is_empty());
            assert!(d.admit(frame("small", seq, 50_000)).is_empty());
        }
        let mut sent: HashMap<String, u64> = HashMap::new();
        for _ in 0..200 {
            let frame = job(d.pull(now)).frame;
            *sent.entry(frame.camera.to_string()).or_default() += frame.jpeg.len() as u64;
        }
        let (big, small) = (sent["big"] as f64, sent["small"] as f64);
        assert!((big / small - 1.0).abs() < 0.1, "{big} to {small}");
    }

    #[test]
    fn over_the_budget_the_camera_that_holds_most_loses_its_oldest() {
        let mut d = dispatcher(100, 100);
        assert!(d.admit(frame("a", 1, 20)).is_empty());
        for seq in 1..=4 {
            assert!(d.admit(frame("flood", seq, 20)).is_empty());
        }
        let dropped = d.admit(frame("flood", 5, 20));
        assert_eq!(dropped.iter().map(|f| (f.camera.as_str(), f.seq)).collect::<Vec<_>>(), [("flood", 1)]);
        assert_eq!(d.bytes(), 100);
    }

    #[test]
    fn frames_that_an_attempt_may_have_carried_are_never_dropped() {
        let mut d = dispatcher(u64::MAX, 2);
        let now = Instant::now();
        assert!(d.admit(frame("a", 1, 1)).is_empty());
        assert!(d.admit(frame("a", 2, 1)).is_empty());
        let first = job(d.pull(now));
        let second = job(d.pull(now));
        d.put_back(Job { failures: 1, carried: true, ..second }, now);
        let dropped = d.admit(frame("a", 3, 1));
        assert_eq!(dropped.iter().map(|f| f.seq).collect::<Vec<_>>(), [3]);
        d.settled(&first.frame);
        assert!(d.admit(frame("a", 4, 1)).is_empty());
        assert_eq!(d.frames(), 2);
    }

    #[test]
    fn a_refused_frame_can_be_dropped_like_a_fresh_one() {
        let mut d = dispatcher(u64::MAX, 2);
        let now = Instant::now();
        assert!(d.admit(frame("a", 1, 1)).is_empty());
        assert!(d.admit(frame("a", 2, 1)).is_empty());
        let first = job(d.pull(now));
        d.put_back(Job { failures: 1, ..first }, now);
        assert_eq!(d.admit(frame("a", 3, 1)).iter().map(|f| f.seq).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_retry_waits_without_holding_up_what_comes_after() {
        let mut d = dispatcher(1_000, 10);
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        for seq in 1..=2 {
            assert!(d.admit(frame("a", seq, 1)).is_empty());
        }
        let first = job(d.pull(now));
        d.put_back(first, later);
        assert_eq!(job(d.pull(now)).frame.seq, 2);
        assert!(matches!(d.pull(now), Pulled::NotBefore(at) if at == later));
        assert_eq!(job(d.pull(later)).frame.seq, 1);
    }

    #[test]
    fn a_retry_that_is_due_goes_before_anything_new() {
        let mut d = dispatcher(1_000, 10);
        let now = Instant::now();
        assert!(d.admit(frame("a", 1, 1)).is_empty());
        let first = job(d.pull(now));
        assert!(d.admit(frame("a", 2, 1)).is_empty());
        d.put_back(first, now);
        assert_eq!(job(d.pull(now)).frame.seq, 1);
    }

    #[test]
    fn nothing_is_left_of_a_camera_that_is_done() {
        let mut d = dispatcher(1_000, 10);
        assert!(d.admit(frame("a", 1, 1)).is_empty());
        let first = job(d.pull(Instant::now()));
        d.settled(&first.frame);
        assert!(d.cameras.is_empty() && d.turns.is_empty());
        assert_eq!((d.frames(), d.bytes()), (0, 0));
    }

    #[test]
    fn random_use_keeps_the_accounts() {
        for seed in 0..100 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut d = dispatcher(5_000, 40);
            let now = Instant::now();
            let mut on_their_way = Vec::new();
            let (mut admitted, mut dropped, mut settled) = (0, 0, 0);
            for seq in 0..2_000 {
                match rng.u8(0..4) {
                    0 | 1 => {
                        admitted += 1;
                        let name = ["a", "b", "c"][rng.usize(0..3)];
                        dropped += d.admit(frame(name, seq, rng.usize(1..400))).len();
                    }
                    2 => {
                        if let Pulled::Job(job) = d.pull(now) {
                            on_their_way.push(job);
                        }
                    }
                    _ if !on_their_way.is_empty() => {
                        let job = on_their_way.swap_remove(rng.usize(0..on_their_way.len()));
                        if rng.bool() {
                            d.put_back(job, now);
                        } else {
                            settled += 1;
                            d.settled(&job.frame);
                        }
                    }
                    _ => {}
                }
                assert_eq!(d.frames(), admitted - dropped - settled, "seed {seed}");
                assert!(d.frames() <= 41 + on_their_way.len(), "seed {seed}");
            }
            let left = d.drain_waiting().len();
            assert_eq!(left + on_their_way.len(), admitted - dropped - settled, "seed {seed}");
            assert_eq!(d.frames(), on_their_way.len(), "seed {seed}");
        }
    }
}
