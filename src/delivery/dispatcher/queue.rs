//! One camera's frames in the air.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{Job, WINDOW};
use crate::model::Seq;

#[derive(Debug)]
pub(super) struct Queue<B, P> {
    pub(super) fresh: BTreeMap<Seq, Job<B, P>>,
    /// By the instant before which they must not go.
    pub(super) retries: BTreeMap<(Instant, Seq), Job<B, P>>,
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
            fresh: BTreeMap::new(),
            retries: BTreeMap::new(),
            deficit: 0,
            granted: false,
            in_turns: false,
            bytes: 0,
            cached: 0,
            on_their_way: 0,
            expected: 0,
            spooled: 0,
            ending: BTreeSet::new(),
            taken_up_to: 0,
            beyond: false,
            loading: false,
            suspects: 0,
        }
    }
}

pub(super) enum Taken<B, P> {
    Job(Job<B, P>),
    TooLarge,
    NotYet,
}

impl<B, P> Queue<B, P> {
    pub(super) fn is_waiting(&self) -> bool {
        !self.fresh.is_empty() || !self.retries.is_empty()
    }

    /// Places of the window that are taken.
    pub(super) fn in_window(&self) -> usize {
        self.spooled + self.ending.len()
    }

    pub(super) fn held(&self) -> usize {
        let known = self.fresh.len() + self.retries.len() + self.on_their_way + self.expected + self.ending.len();
        known + if self.beyond { WINDOW } else { 0 }
    }

    /// Whether it can be forgotten. Not the highest seq it has taken from disk: the spool would give the same again.
    pub(super) fn is_done(&self) -> bool {
        self.held() == 0 && !self.loading && self.taken_up_to == 0
    }

    /// The frame that would go now: a retry whose time has come before anything new, as it is older.
    fn next(&self, now: Instant) -> Option<&Job<B, P>> {
        let retry = self.retries.first_key_value().filter(|(key, _)| key.0 <= now);
        retry.map(|(_, job)| job).or_else(|| self.fresh.first_key_value().map(|(_, job)| job))
    }

    /// The size of the frame that would go now, if it has to be read first.
    pub(super) fn next_unread(&self, now: Instant) -> Option<u64> {
        self.next(now).filter(|job| job.body.is_none()).map(|job| job.bytes)
    }

    /// When the first retry may go.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retries.first_key_value().map(|(key, _)| key.0)
    }

    /// Takes the frame that would go now, if it is no larger than `deficit`.
    pub(super) fn take_next(&mut self, now: Instant) -> Taken<B, P> {
        let Some(needed) = self.next(now).map(|job| job.bytes) else { return Taken::NotYet };
        let Some(left) = self.deficit.checked_sub(needed) else { return Taken::TooLarge };
        self.deficit = left;
        let retry = self.retries.first_entry().filter(|entry| entry.key().0 <= now).map(|entry| entry.remove());
        let job = retry.or_else(|| self.fresh.pop_first().map(|(_, job)| job));
        job.map_or(Taken::NotYet, Taken::Job)
    }

    /// Takes the oldest frame of a kind that waits and that no attempt has carried.
    pub(super) fn take_oldest(&mut self, wanted: impl Fn(&Job<B, P>) -> bool) -> Option<Job<B, P>> {
        let droppable = |job: &Job<B, P>| !job.carried && wanted(job);
        let retries = self.retries.iter().filter(|(_, job)| droppable(job));
        let retry = retries.map(|(key, _)| *key).min_by_key(|(_, seq)| *seq);
        let fresh = self.fresh.iter().find(|(_, job)| droppable(job)).map(|(seq, _)| *seq);
        match (retry, fresh) {
            (Some(key), fresh) if fresh.is_none_or(|seq| key.1 < seq) => self.retries.remove(&key),
            (_, fresh) => self.fresh.remove(&fresh?),
        }
    }

    /// Whether a frame could be dropped that lives in memory alone.
    pub(super) fn is_droppable(&self) -> bool {
        self.fresh.values().chain(self.retries.values()).any(|job| !job.carried && job.place.is_none())
    }

    /// Lets go of the body that will be needed last and can be read again; returns its size, which the caller
    /// books.
    pub(super) fn let_newest_body_go(&mut self) -> Option<u64> {
        let fresh = self.fresh.values_mut().rev().find(|job| job.is_cached());
        let job = fresh.or_else(|| self.retries.values_mut().rev().find(|job| job.is_cached()))?;
        job.body = None;
        Some(job.bytes)
    }

    /// Takes out what waits and lives in memory alone.
    pub(super) fn drain_memory(&mut self) -> Vec<Job<B, P>> {
        let fresh = self.fresh.extract_if(.., |_, job| job.place.is_none()).map(|(_, job)| job);
        let mut jobs: Vec<_> = fresh.collect();
        jobs.extend(self.retries.extract_if(.., |_, job| job.place.is_none()).map(|(_, job)| job));
        jobs
    }
}
