//! When which camera's next manifest is due. Pure: the clock is passed in.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use crate::model::{CameraId, Seq};

/// Which cameras wait for a manifest, who comes first, and how many are on their way.
///
/// A camera has one manifest on its way at most, and a destination `most` of them: so what lies in the journal until it
/// is stored is bounded, however many cameras there are and however long a bucket is away. Who has waited longest comes
/// first. One that met an object with other content waits for a person, and takes nobody's place.
#[derive(Debug)]
pub struct Schedule {
    every: Duration,
    entries: u64,
    most: usize,
    rng: fastrand::Rng,
    tracks: BTreeMap<CameraId, Track>,
}

/// How far one camera is.
#[derive(Debug)]
struct Track {
    /// Up to here all is in manifests that are stored.
    through: Seq,
    watermark: Seq,
    /// Since when there is something that is in no stored manifest.
    since: Option<Instant>,
    state: State,
    failures: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    /// None is on its way; the next one is due at this time, if there is anything to write.
    Idle(Option<Instant>),
    /// One is being made or put.
    Working(String),
    /// One is in the journal, and is put again at this time.
    Waiting { destination: String, until: Instant, conflict: bool },
}

/// A camera whose turn it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Due {
    /// Which.
    pub camera: CameraId,
    /// Where its manifest goes.
    pub destination: String,
    /// Up to here all is in manifests that are stored.
    pub through: Seq,
    /// The last seq that the next one may hold.
    pub watermark: Seq,
    /// Whether one is in the journal already, to be put again.
    pub again: bool,
    /// How often putting it has failed.
    pub failures: u32,
    /// Whether the last put met an object with other content.
    pub conflict: bool,
}

impl Schedule {
    /// A manifest for each camera every so often, or as soon as it has so many seqs to tell; `most` on their way to a
    /// destination.
    pub fn new(every: Duration, entries: u64, most: usize, seed: u64) -> Self {
        Self { every, entries, most, rng: fastrand::Rng::with_seed(seed), tracks: BTreeMap::new() }
    }

    /// Takes note of where a camera's stored manifests end; `pending` is the destination of one that is in the journal
    /// and may not be stored yet.
    pub fn know(&mut self, camera: CameraId, through: Seq, pending: Option<String>, now: Instant) {
        let state = match pending {
            Some(destination) => State::Waiting { destination, until: now, conflict: false },
            None => State::Idle(None),
        };
        self.tracks.insert(camera, Track { through, watermark: through, since: None, state, failures: 0 });
    }

    /// Takes note of how far a camera's list goes now.
    pub fn look(&mut self, camera: &CameraId, watermark: Seq, now: Instant) {
        if !self.tracks.contains_key(camera) {
            self.know(camera.clone(), 0, None, now);
        }
        // Not all in the same moment where all cameras begin in the same: but never later than it was said.
        let wait = self.every.mul_f64(0.75 + 0.25 * self.rng.f64());
        let Some(track) = self.tracks.get_mut(camera) else { return };
        track.watermark = track.watermark.max(watermark);
        let left = track.watermark.saturating_sub(track.through);
        if left == 0 {
            return;
        }
        track.since.get_or_insert(now);
        if let State::Idle(due) = &mut track.state {
            let at = *due.get_or_insert(now + wait);
            if left >= self.entries {
                *due = Some(at.min(now));
            }
        }
    }

    /// Those whose turn it is, `at_once` of them at most; they count as on their way until [`Schedule::stored`],
    /// [`Schedule::later`] or [`Schedule::nothing`] is said of them. `destination_of` says where a camera's manifests
    /// go.
    pub fn take(&mut self, now: Instant, at_once: usize, destination_of: impl Fn(&CameraId) -> String) -> Vec<Due> {
        let (mut working, mut held) = (HashMap::<String, usize>::new(), HashMap::<String, usize>::new());
        let mut waiting = Vec::new();
        for (camera, track) in &self.tracks {
            match &track.state {
                State::Idle(Some(due)) if *due <= now => waiting.push((*due, camera.clone(), None, false)),
                State::Idle(_) => {}
                State::Working(destination) => {
                    *working.entry(destination.clone()).or_default() += 1;
                    *held.entry(destination.clone()).or_default() += 1;
                }
                State::Waiting { destination, until, conflict } => {
                    *held.entry(destination.clone()).or_default() += usize::from(!conflict);
                    if *until <= now {
                        waiting.push((*until, camera.clone(), Some(destination.clone()), *conflict));
                    }
                }
            }
        }
        waiting.sort_unstable();
        let mut taken = Vec::new();
        for (_, camera, pending, conflict) in waiting {
            if taken.len() >= at_once {
                break;
            }
            let again = pending.is_some();
            let destination = pending.unwrap_or_else(|| destination_of(&camera));
            let places = if again { &mut working } else { &mut held };
            if places.get(&destination).copied().unwrap_or_default() >= self.most {
                continue;
            }
            *working.entry(destination.clone()).or_default() += 1;
            if !again {
                *held.entry(destination.clone()).or_default() += 1;
            }
            let Some(track) = self.tracks.get_mut(&camera) else { continue };
            track.state = State::Working(destination.clone());
            let Track { through, watermark, failures, .. } = *track;
            taken.push(Due { camera, destination, through, watermark, again, failures, conflict });
        }
        taken
    }

    /// A camera's manifest is stored; it ends with this seq.
    pub fn stored(&mut self, camera: &CameraId, last: Seq, now: Instant) {
        let Some(track) = self.tracks.get_mut(camera) else { return };
        track.through = track.through.max(last);
        track.watermark = track.watermark.max(track.through);
        track.since = (track.watermark > track.through).then_some(now);
        (track.state, track.failures) = (State::Idle(None), 0);
    }

    /// A camera's manifest is in the journal and not stored: it is tried again after a while.
    pub fn later(&mut self, camera: &CameraId, destination: String, wait: Duration, conflict: bool, now: Instant) {
        let Some(track) = self.tracks.get_mut(camera) else { return };
        track.state = State::Waiting { destination, until: now + wait, conflict };
        track.failures = track.failures.saturating_add(1);
    }

    /// A camera's manifest could not even be made, or there was nothing to put in one.
    pub fn nothing(&mut self, camera: &CameraId, now: Instant) {
        let every = self.every;
        let Some(track) = self.tracks.get_mut(camera) else { return };
        track.state = State::Idle((track.watermark > track.through).then_some(now + every));
    }

    /// Makes all due at once that have something to tell and no manifest on its way.
    pub fn hurry(&mut self, now: Instant) {
        for track in self.tracks.values_mut() {
            if let State::Idle(due) = &mut track.state
                && track.watermark > track.through
            {
                *due = Some(now);
            }
        }
    }

    /// Makes all due at once that wait to be put again.
    pub fn retry_now(&mut self, now: Instant) {
        for track in self.tracks.values_mut() {
            if let State::Waiting { until, .. } = &mut track.state {
                *until = now;
            }
        }
    }

    /// Whether nothing is on its way, and all that was looked at is in stored manifests or behind one that could not be
    /// stored.
    pub fn is_resting(&self) -> bool {
        self.tracks.values().all(|track| match track.state {
            State::Idle(_) => track.watermark == track.through,
            State::Working(_) => false,
            State::Waiting { .. } => true,
        })
    }

    /// Seqs of all cameras' lists that are in no stored manifest.
    pub fn seqs_left(&self) -> u64 {
        self.tracks.values().map(|track| track.watermark - track.through).sum()
    }

    /// Since when the oldest of them has been waiting.
    pub fn oldest(&self) -> Option<Instant> {
        self.tracks.values().filter_map(|track| track.since).min()
    }

    /// How many manifests cannot be stored because an object with other content stands under their keys.
    pub fn conflicts(&self) -> usize {
        let conflicts = |track: &&Track| matches!(track.state, State::Waiting { conflict: true, .. });
        self.tracks.values().filter(conflicts).count()
    }
}
