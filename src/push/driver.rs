//! What carries a push: one task that owns all of it, and an attempt for each picture that is on its way.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::handle::{Given, broken};
use super::present::{self, Found, key};
use super::{Entries, Entry, Fate, Picture, Pictures, Progress, Push, PushError, Summary};
use crate::delivery::{self, Answer, Backoff, Budget, Errand, Gate, Pulled, Reorder, Ticket, attempt_deadline};
use crate::model::{CameraId, LostReason, Origin, Seq, SeqRange, UnixMicros};
use crate::storage::{self, Attempt, Bucket, BucketErrorKind, ContentType, Object, ObjectInfo, REFUSED_TIMES};

/// Entries that may wait for whoever reads the list, and those that may wait for an earlier one.
const UNREAD: usize = 1_024;
const OUT_OF_ORDER: usize = 65_536;
/// How long clearing away may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
/// As a weight of retries: what only a person can mend is tried less often from the start.
const HARD: u32 = 5;

type Job = delivery::Job<Held, Infallible>;

/// An attempt that was made.
struct Made {
    job: Job,
    ticket: Ticket,
    attempt: Attempt,
    /// Whether it had only to look.
    found: bool,
}

/// A picture that waits or is on its way.
#[derive(Clone, Debug)]
struct Held {
    picture: Picture,
    crc32c: u32,
    /// Whether something of the same size stands under its name, of which the store does not tell the checksum.
    look_first: bool,
}

/// Opens the bucket and starts the driver.
pub(super) async fn start(push: Push) -> Result<(Pictures, Entries), PushError> {
    // Half-written files are its own: another push may be at work in the same directory.
    let origin = Origin::from_random(std::array::from_fn(|_| fastrand::u8(..)));
    let bucket = storage::open(&push.destination, &origin).await.map_err(PushError::Bucket)?;
    let destination = push.destination.clone();
    // A disk may hang.
    let leave = async move { drop(timeout(LEAVE_WITHIN, storage::leave(&destination, &origin)).await) };
    let present = if push.resume { present::of(&push, &*bucket).await } else { Ok(HashMap::new()) };
    match present {
        Ok(present) => Ok(drive(push, bucket, present, leave)),
        Err(error) => {
            leave.await;
            Err(PushError::Bucket(error))
        }
    }
}

/// Begins, into a bucket that is open.
fn drive(
    push: Push,
    bucket: Arc<dyn Bucket>,
    present: HashMap<Seq, Found>,
    leave: impl Future<Output = ()> + Send + 'static,
) -> (Pictures, Entries) {
    let (given, input) = mpsc::channel(1);
    let (out, entries) = mpsc::channel(UNREAD);
    let (stop, stopped) = oneshot::channel();
    let (progress, shown) = watch::channel(Progress::default());
    let driver = Driver {
        bucket,
        camera: "push".parse().expect("it is an id"),
        gate: Gate::new(Instant::now(), fastrand::Rng::new()),
        dispatcher: delivery::Dispatcher::new(Budget { bytes: u64::MAX, frames: usize::MAX }),
        order: Reorder::new(0),
        resolved: BTreeMap::new(),
        ready: VecDeque::new(),
        attempts: JoinSet::new(),
        rng: fastrand::Rng::new(),
        failed: BucketErrorKind::Transient,
        present,
        progress: Progress::default(),
        shown: progress,
        push,
    };
    let driven = async move {
        let ended = driver.run(input, out, stopped).await;
        leave.await;
        ended
    };
    let driver = AbortOnDropHandle::new(tokio::spawn(driven));
    (Pictures::new(given), Entries::new(entries, stop, shown, driver))
}

struct Driver {
    push: Push,
    bucket: Arc<dyn Bucket>,
    /// What the dispatcher and the gate call whose pictures these are.
    camera: CameraId,
    gate: Gate,
    dispatcher: delivery::Dispatcher<Held, Infallible>,
    order: Reorder,
    /// Entries behind one that is not there yet.
    resolved: BTreeMap<Seq, Entry>,
    /// Entries for whoever reads the list.
    ready: VecDeque<Entry>,
    attempts: JoinSet<Made>,
    rng: fastrand::Rng,
    /// How the last attempt failed that did.
    failed: BucketErrorKind,
    present: HashMap<Seq, Found>,
    progress: Progress,
    shown: watch::Sender<Progress>,
}

impl Driver {
    async fn run(
        mut self,
        mut input: mpsc::Receiver<Given>,
        out: mpsc::Sender<Entry>,
        mut stopped: oneshot::Receiver<()>,
    ) -> Result<Summary, PushError> {
        let (mut open, mut stop, mut failure) = (true, false, None);
        loop {
            if stop {
                // They are no part of what is done; the next push sends them.
                let _ = self.dispatcher.drain_memory();
            }
            let wake = if failure.is_none() { self.begin() } else { None };
            let wake = wake.into_iter().chain(self.given_up_at()).min();
            self.show();
            if failure.is_some() || (!open && self.dispatcher.only_in_memory() == 0) {
                break;
            }
            let room = self.has_room();
            let ended = tokio::select! {
                biased;
                Some(ended) = self.attempts.join_next() => match ended {
                    Ok(made) => self.ended(made),
                    Err(error) => Err(broken(&error)),
                },
                _ = &mut stopped, if !stop => {
                    (stop, open) = (true, false);
                    input.close();
                    Ok(())
                }
                place = out.reserve(), if !self.ready.is_empty() => {
                    match (place, self.ready.pop_front()) {
                        (Ok(place), Some(entry)) => place.send(entry),
                        // Nobody reads the list.
                        _ => self.ready.clear(),
                    }
                    Ok(())
                }
                given = input.recv(), if open && room => match given {
                    Some(Given::Picture(picture)) => self.admit(picture),
                    Some(Given::Missed(count, why)) => { self.missed(count, why); Ok(()) }
                    None => { open = false; Ok(()) }
                },
                () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now).into()), if wake.is_some() => Ok(()),
            };
            failure = ended.and_then(|()| self.may_come_back()).err();
        }
        drop(input);
        // What has come to its end behind something that has not is stored all the same.
        self.ready.extend(std::mem::take(&mut self.resolved).into_values());
        while let Some(entry) = self.ready.pop_front() {
            if out.send(entry).await.is_err() {
                break;
            }
        }
        match failure {
            Some(failure) => Err(failure),
            None => Ok(Summary { progress: self.progress, stopped: stop }),
        }
    }

    /// Whether another picture may come in.
    fn has_room(&self) -> bool {
        let waiting = self.dispatcher.only_in_memory();
        let fits =
            self.dispatcher.bytes() < self.push.memory && waiting < self.push.upload.workers.get().saturating_mul(2);
        (fits || waiting == 0) && self.ready.len() < UNREAD && self.resolved.len() < OUT_OF_ORDER
    }

    fn admit(&mut self, picture: Picture) -> Result<(), PushError> {
        self.progress.given += 1;
        let (seq, crc32c) = (self.progress.given, crc32c::crc32c(&picture.jpeg));
        let mut held = Held { picture, crc32c, look_first: false };
        let bytes = held.picture.jpeg.len() as u64;
        match self.present.remove(&seq) {
            None => {}
            Some((size, Some(found))) if (size, found) == (bytes, crc32c) => {
                self.progress.there += 1;
                self.resolve(seq, Ok(&held));
                return Ok(());
            }
            Some((size, None)) if size == bytes => held.look_first = true,
            Some(_) => return Err(PushError::Conflict { url: self.bucket.url(&key(seq)) }),
        }
        let dropped = self.dispatcher.admit(Job::new(self.camera.clone(), seq, bytes, Some(held), None));
        debug_assert!(dropped.is_empty(), "the budget has no end");
        Ok(())
    }

    fn missed(&mut self, count: u64, why: LostReason) {
        for _ in 0..count {
            self.progress.given += 1;
            self.progress.lost += 1;
            let (seq, fate) = (self.progress.given, Fate::Lost { lost: why.as_str(), error: None });
            self.enlist(Entry { seq, captured_at: None, position: None, fate });
        }
    }

    /// Begins what may go, and returns when there may be more, unless something ends before.
    fn begin(&mut self) -> Option<Instant> {
        while self.attempts.len() < self.push.upload.workers.get() && self.dispatcher.is_waiting() {
            let now = Instant::now();
            let pulled = match self.gate.ask(now, Errand::Frame) {
                Answer::NotBefore(at) => return Some(at),
                Answer::Go => self.dispatcher.pull(now, 0),
                Answer::Probe => self.dispatcher.pull_probe(0).map_or(Pulled::Empty, Pulled::Job),
            };
            match pulled {
                Pulled::Job(job) => {
                    let ticket = self.gate.begin(now);
                    self.attempt(job, ticket);
                }
                Pulled::NotBefore(at) => return Some(at),
                Pulled::Empty => return None,
            }
        }
        None
    }

    fn attempt(&mut self, job: Job, ticket: Ticket) {
        let Held { picture, crc32c, look_first } = job.body.clone().expect("what lives in memory has its body");
        let upload = &self.push.upload;
        // Of several probes only one may take as long as its size allows.
        let bytes = if ticket.is_patient() { picture.jpeg.len() } else { 0 };
        let deadline = attempt_deadline(upload.deadline, upload.min_rate, bytes);
        let (bucket, key) = (self.bucket.clone(), key(job.seq));
        self.attempts.spawn(async move {
            let ours = ObjectInfo { bytes: picture.jpeg.len() as u64, crc32c };
            let looked = async {
                match look_first {
                    true => storage::what_stands_there(&*bucket, &key, ours).await.ok(),
                    false => None,
                }
            };
            let looked = timeout(deadline, looked).await.ok().flatten();
            let found = looked.is_some();
            let attempt = match looked {
                Some(looked) => looked,
                None => {
                    let object = Object { key, content: picture.jpeg, crc32c, content_type: ContentType::Jpeg };
                    storage::attempt(&*bucket, object, deadline).await
                }
            };
            Made { job, ticket, attempt, found }
        });
    }

    fn ended(&mut self, made: Made) -> Result<(), PushError> {
        let Made { mut job, ticket, attempt, found } = made;
        let (now, failure) = (Instant::now(), attempt.failure());
        let message = failure.map(|failure| failure.message.as_str());
        let says_nothing = self.gate.ended(now, ticket, Some(&self.camera), attempt.verdict(), message);
        if let Some(wait) = failure.and_then(|failure| failure.retry_after) {
            self.gate.asks_to_wait(now, wait);
        }
        let failure = match attempt {
            Attempt::Stored => {
                let held = job.body.as_ref().expect("what lives in memory has its body");
                self.progress.there += u64::from(found);
                self.progress.stored += u64::from(!found);
                self.progress.bytes += if found { 0 } else { job.bytes };
                self.resolve(job.seq, Ok(held));
                self.dispatcher.settled(&job);
                return Ok(());
            }
            Attempt::Conflict => return Err(PushError::Conflict { url: self.bucket.url(&key(job.seq)) }),
            Attempt::Failed(failure) | Attempt::Late(failure) => failure,
        };
        let hard = matches!(failure.kind, BucketErrorKind::Auth | BucketErrorKind::NotFound);
        self.failed = failure.kind;
        if hard && self.progress.stored == 0 {
            // It is the command that is wrong, more likely than the destination.
            return Err(PushError::Bucket(failure));
        }
        job.refusals += u32::from(failure.kind == BucketErrorKind::Permanent);
        if job.refusals >= REFUSED_TIMES || (!says_nothing && job.failures >= self.push.retries) {
            let lost = if job.refusals >= REFUSED_TIMES { LostReason::Rejected.as_str() } else { "unreachable" };
            let held = job.body.as_ref().expect("what lives in memory has its body");
            self.progress.lost += 1;
            self.resolve(job.seq, Err((&held.picture, lost, failure.message)));
            self.dispatcher.settled(&job);
            return Ok(());
        }
        let mut at = now;
        if !says_nothing {
            job.failures += 1;
            let weight = job.failures + if hard { HARD } else { 0 };
            let backoff = Backoff { min: self.push.upload.retry_min, max: self.push.upload.retry_max };
            at += backoff.delay(weight, failure.retry_after, &mut self.rng);
        }
        self.dispatcher.put_back(job, at, 0);
        Ok(())
    }

    /// Until when the destination may still come back, if it is away.
    fn given_up_at(&mut self) -> Option<Instant> {
        self.gate.look(Instant::now());
        let (state, since) = self.gate.state();
        self.progress.state = Some(state);
        state.is_shut().then(|| since.checked_add(self.push.patience)).flatten()
    }

    /// Whether it may.
    fn may_come_back(&mut self) -> Result<(), PushError> {
        if self.given_up_at().is_none_or(|at| Instant::now() < at) {
            return Ok(());
        }
        let error = self.gate.error().unwrap_or_default().to_owned();
        Err(PushError::Away { patience: self.push.patience, kind: self.failed, error })
    }

    /// Puts what became of a picture into its place.
    fn resolve(&mut self, seq: Seq, how: Result<&Held, (&Picture, &'static str, String)>) {
        let (picture, fate) = match how {
            Ok(Held { picture, crc32c, .. }) => {
                let (bytes, url) = (picture.jpeg.len() as u64, self.bucket.url(&key(seq)));
                let Picture { width, height, .. } = *picture;
                (picture, Fate::Stored { url, bytes, crc32c: *crc32c, width, height })
            }
            Err((picture, lost, error)) => (picture, Fate::Lost { lost, error: Some(error) }),
        };
        let captured_at: Option<UnixMicros> = Some(picture.captured_at);
        self.enlist(Entry { seq, captured_at, position: picture.position.map(|at| at.as_secs_f64()), fate });
    }

    fn enlist(&mut self, entry: Entry) {
        let seq = entry.seq;
        self.resolved.insert(seq, entry);
        let watermark = self.order.resolve(SeqRange::one(seq));
        while let Some(first) = self.resolved.first_entry().filter(|first| *first.key() <= watermark) {
            self.ready.push_back(first.remove());
        }
    }

    fn show(&mut self) {
        self.progress.in_flight = self.attempts.len() as u64;
        let progress = self.progress;
        self.shown.send_if_modified(|shown| std::mem::replace(shown, progress) != progress);
    }
}
