//! The thread that writes: frames in, one sync for all that have come, and the sink is told.
//!
//! A group is committed at once if the last commit began 10 ms ago or more, else when it did, and as soon as it has 4
//! MiB. Where frames come faster than the disk takes them it is what has come meanwhile, up to 16 MiB. What finds no
//! room waits in memory, in its order, while older frames are dropped for it and until the journal has confirmed that;
//! where nothing may be dropped it is refused.

mod room;

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
use crate::model::{CameraId, LostReason, Resolved, Seq};

/// The least time between the beginnings of two commits: what a frame may wait so that others can join it.
const LINGER: Duration = Duration::from_millis(10);

/// JPEG bytes for which no commit waits any longer.
const GROUP: u64 = 4 << 20;

/// JPEG bytes that are committed together at most. Frames that have come already lose nothing by sharing a sync, and
/// the disk takes far more in fewer of them: on ext4 450 to 690 MB/s in groups of 4 MiB, 950 to 1,100 in groups of 16.
const LARGEST_GROUP: u64 = 16 << 20;

/// How soon a disk that refused, or was full, is tried again without being asked.
const RETRY: Duration = Duration::from_secs(1);

/// How old the age of the oldest frame may be that is told.
const LOOK: Duration = Duration::from_millis(250);

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

/// Drops from a store what the journal has outcomes of, and starts the thread that writes it. `sink` hears what becomes
/// of frames.
pub fn start<D: Disk>(
    mut store: Store<D>,
    resolved: &BTreeMap<CameraId, Resolved>,
    inbox: Inbox,
    sink: impl Sink,
) -> JoinHandle<()> {
    store.resolve(resolved);
    let Inbox { commands, shared } = inbox;
    let _ = shared.origin.set(store.origin().clone());
    let _ = store.directory().map(|directory| shared.directory.set(directory));
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
                // Behind those that wait, so that the order is kept; and a disk that fails is left in peace for a
                // while.
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
                    // Once more only where that has made the spool smaller: for a frame that nearly fills a segment the
                    // rest could be copied from one to the next for ever.
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
                self.dropping = self.dropping && self.store.waits_for_outcomes();
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

#[cfg(test)]
mod tests;
