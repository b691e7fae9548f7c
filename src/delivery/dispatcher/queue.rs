//! One camera's frames in the air.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{Job, WINDOW};
use crate::model::Seq;

/// So many frames that live in memory alone go before one that is on disk.
const IN_MEMORY_FIRST: u8 = 3;
/// So many frames go as a probe before one that has been one in vain. Enough that no few frames that always fail keep a
/// destination shut; few, because one that went may have been carried, and is not dropped any more for want of room: the
/// n-th takes its turn after about n * n / 8 probes.
const OTHERS_FIRST: usize = 4;

/// Frames that wait.
#[derive(Debug)]
pub(super) struct Lane<B, P> {
    pub(super) fresh: BTreeMap<Seq, Job<B, P>>,
    /// By the instant before which they must not go.
    pub(super) retries: BTreeMap<(Instant, Seq), Job<B, P>>,
}

#[derive(Debug)]
pub(super) struct Queue<B, P> {
    /// Those with a place on disk.
    pub(super) disk: Lane<B, P>,
    /// Those that live in memory alone.
    pub(super) memory: Lane<B, P>,
    /// How many of those in memory have gone while others waited on disk, since the last one of these.
    passed: u8,
    pub(super) deficit: u64,
    /// Whether it has had its quantum in this turn.
    pub(super) granted: bool,
    pub(super) in_turns: bool,
    /// Of the bodies in memory, waiting or on their way.
    pub(super) bytes: u64,
    /// Of those that wait and can be read again.
    pub(super) cached: u64,
    pub(super) on_their_way: usize,
    /// Pictures that are on their way to the disk.
    pub(super) expected: usize,
    /// Their bytes.
    pub(super) expected_bytes: u64,
    /// Frames on disk, waiting or on their way: their places in the window.
    pub(super) spooled: usize,
    /// Frames on disk whose outcome is on its way to the journal; they keep their places until it is committed.
    pub(super) ending: BTreeSet<Seq>,
    /// The highest seq that ever had a place in the window. All loads begin after it, so none comes twice.
    pub(super) taken_up_to: Seq,
    /// Whether frames after that one lie on disk.
    pub(super) beyond: bool,
    /// Whether they were asked for.
    pub(super) loading: bool,
    /// How many of the next ones to be loaded may have been carried by an earlier run.
    pub(super) suspects: usize,
}

/// Not derived: that would ask the same of `B` and `P`.
impl<B, P> Default for Queue<B, P> {
    fn default() -> Self {
        Self {
            disk: Lane::default(),
            memory: Lane::default(),
            passed: 0,
            deficit: 0,
            granted: false,
            in_turns: false,
            bytes: 0,
            cached: 0,
            on_their_way: 0,
            expected: 0,
            expected_bytes: 0,
            spooled: 0,
            ending: BTreeSet::new(),
            taken_up_to: 0,
            beyond: false,
            loading: false,
            suspects: 0,
        }
    }
}

/// The frame of a camera with which its destination is tried next.
pub(super) struct Candidate {
    /// The least of those of both lanes goes.
    order: Order,
    on_disk: bool,
    /// Where it is a retry.
    retry_at: Option<Instant>,
    seq: Seq,
    pub(super) unread: Option<u64>,
}

/// Whether the disk did not give it: it would tell nothing of the destination. Then its place in the line, and its seq.
type Order = (bool, usize, Seq);

pub(super) enum Taken<B, P> {
    Job(Job<B, P>),
    TooLarge,
    NotYet,
}

/// Not derived either.
impl<B, P> Default for Lane<B, P> {
    fn default() -> Self {
        Self { fresh: BTreeMap::new(), retries: BTreeMap::new() }
    }
}

impl<B, P> Lane<B, P> {
    fn len(&self) -> usize {
        self.fresh.len() + self.retries.len()
    }

    /// The frame that would go now: a retry whose time has come before anything new, as it is older.
    fn next(&self, now: Instant) -> Option<&Job<B, P>> {
        let retry = self.retries.first_key_value().filter(|(key, _)| key.0 <= now);
        retry.map(|(_, job)| job).or_else(|| self.fresh.first_key_value().map(|(_, job)| job))
    }

    fn take_next(&mut self, now: Instant) -> Option<Job<B, P>> {
        let retry = self.retries.first_entry().filter(|entry| entry.key().0 <= now).map(|entry| entry.remove());
        retry.or_else(|| self.fresh.pop_first().map(|(_, job)| job))
    }

    /// The frame to try its destination with: the oldest, but each time that it was tried in vain, others go first.
    fn candidate(&self, on_disk: bool) -> Option<Candidate> {
        let fresh = self.fresh.values().map(|job| (None, job));
        let retries = self.retries.iter().map(|((at, _), job)| (Some(*at), job));
        let mut waiting: Vec<_> = retries.chain(fresh).collect();
        waiting.sort_unstable_by_key(|(_, job)| job.seq);
        let candidates = waiting.into_iter().enumerate().map(|(rank, (retry_at, job))| Candidate {
            order: (job.unreadable > 0, rank + OTHERS_FIRST * job.probed as usize, job.seq),
            on_disk,
            retry_at,
            seq: job.seq,
            unread: job.body.is_none().then_some(job.bytes),
        });
        candidates.min_by_key(|candidate| candidate.order)
    }

    /// Takes the oldest frame that no attempt has carried.
    pub(super) fn take_oldest(&mut self) -> Option<Job<B, P>> {
        let retries = self.retries.iter().filter(|(_, job)| !job.carried);
        let retry = retries.map(|(key, _)| *key).min_by_key(|(_, seq)| *seq);
        let fresh = self.fresh.iter().find(|(_, job)| !job.carried).map(|(seq, _)| *seq);
        match (retry, fresh) {
            (Some(key), fresh) if fresh.is_none_or(|seq| key.1 < seq) => self.retries.remove(&key),
            (_, fresh) => self.fresh.remove(&fresh?),
        }
    }
}

impl<B, P> Queue<B, P> {
    pub(super) fn is_waiting(&self) -> bool {
        self.disk.len() + self.memory.len() > 0
    }

    /// Places of the window that are taken.
    pub(super) fn in_window(&self) -> usize {
        self.spooled + self.ending.len()
    }

    pub(super) fn held(&self) -> usize {
        let known = self.disk.len() + self.memory.len() + self.on_their_way + self.expected + self.ending.len();
        known + if self.beyond { WINDOW } else { 0 }
    }

    /// Whether it can be forgotten. Not the highest seq it has taken from disk: the spool would give the same again.
    pub(super) fn is_done(&self) -> bool {
        self.held() == 0 && !self.loading && self.taken_up_to == 0
    }

    /// Whether a frame could go now that lives in memory alone.
    pub(super) fn has_in_memory(&self, now: Instant) -> bool {
        self.memory.next(now).is_some()
    }

    /// Whether it is the turn of those on disk.
    fn is_turn_of_disk(&self, now: Instant) -> bool {
        !self.has_in_memory(now) || (self.passed >= IN_MEMORY_FIRST && self.disk.next(now).is_some())
    }

    /// The size of the frame that would go now, if it has to be read first.
    pub(super) fn next_unread(&self, now: Instant) -> Option<u64> {
        if !self.is_turn_of_disk(now) {
            return None;
        }
        self.disk.next(now).filter(|job| job.body.is_none()).map(|job| job.bytes)
    }

    /// When the first retry may go.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        let firsts = [&self.disk, &self.memory].into_iter().filter_map(|lane| lane.retries.first_key_value());
        firsts.map(|(key, _)| key.0).min()
    }

    /// Takes the frame that would go now, if it is no larger than `deficit`; without room in memory, one that is there.
    pub(super) fn take_next(&mut self, now: Instant, room: bool) -> Taken<B, P> {
        let of_disk = room && self.is_turn_of_disk(now);
        let passes = !of_disk && self.disk.next(now).is_some();
        let lane = if of_disk { &mut self.disk } else { &mut self.memory };
        let Some(needed) = lane.next(now).map(|job| job.bytes) else { return Taken::NotYet };
        let Some(left) = self.deficit.checked_sub(needed) else { return Taken::TooLarge };
        self.deficit = left;
        self.passed = if passes { self.passed.saturating_add(1) } else { 0 };
        lane.take_next(now).map_or(Taken::NotYet, Taken::Job)
    }

    /// The frame to try its destination with.
    pub(super) fn candidate(&self) -> Option<Candidate> {
        let both = [self.disk.candidate(true), self.memory.candidate(false)];
        both.into_iter().flatten().min_by_key(|candidate| candidate.order)
    }

    /// Takes that one; without room in memory, the best of those that are there.
    pub(super) fn take_candidate(&mut self, candidate: Candidate, room: bool) -> Option<Job<B, P>> {
        let Candidate { on_disk, retry_at, seq, .. } =
            if room || !candidate.on_disk { candidate } else { self.memory.candidate(false)? };
        let lane = if on_disk { &mut self.disk } else { &mut self.memory };
        let job = match retry_at {
            Some(at) => lane.retries.remove(&(at, seq)),
            None => lane.fresh.remove(&seq),
        };
        job.map(|job| Job { probed: job.probed + 1, ..job })
    }

    /// Whether a frame could be dropped that lives in memory alone.
    pub(super) fn is_droppable(&self) -> bool {
        self.memory.fresh.values().chain(self.memory.retries.values()).any(|job| !job.carried)
    }

    /// Lets go of the body that will be needed last and can be read again; returns its size, which the caller
    /// books.
    pub(super) fn let_newest_body_go(&mut self) -> Option<u64> {
        let Lane { fresh, retries } = &mut self.disk;
        let fresh = fresh.values_mut().rev().find(|job| job.is_cached());
        let job = fresh.or_else(|| retries.values_mut().rev().find(|job| job.is_cached()))?;
        job.body = None;
        Some(job.bytes)
    }

    /// Takes out what waits and lives in memory alone.
    pub(super) fn drain_memory(&mut self) -> Vec<Job<B, P>> {
        let Lane { fresh, retries } = std::mem::take(&mut self.memory);
        fresh.into_values().chain(retries.into_values()).collect()
    }
}
