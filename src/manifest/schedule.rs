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
    /// Up to here all is in manifests that are stored, or gone.
    through: Seq,
    watermark: Seq,
    /// Since when there is something that is in no stored manifest.
    since: Option<Since>,
    state: State,
    failures: u32,
    /// Whether the last put met an object with other content.
    conflict: bool,
    /// Until when none is made, after one that could not be.
    rests: Option<Instant>,
}

/// A moment by how long ago it was at another: it may have been before this machine was started.
#[derive(Clone, Copy, Debug)]
struct Since {
    ago: Duration,
    at: Instant,
}

impl Since {
    fn age(self, now: Instant) -> Duration {
        self.ago + now.saturating_duration_since(self.at)
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    /// None is on its way; the next one is due at this time, if there is anything to write.
    Idle(Option<Instant>),
    /// One is being made or put.
    Working(String),
    /// One is in the journal, and is put again at this time.
    Waiting { destination: String, until: Instant },
}

/// A camera whose turn it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Due {
    /// Which.
    pub camera: CameraId,
    /// Where its manifest goes.
    pub destination: String,
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

    /// Takes note of where a camera's stored manifests end, and how long ago what follows was listed, if anything does;
    /// `pending` is the destination of one that is in the journal and may not be stored yet.
    pub fn know(
        &mut self,
        camera: CameraId,
        through: Seq,
        ago: Option<Duration>,
        pending: Option<String>,
        now: Instant,
    ) {
        let state = match pending {
            Some(destination) => State::Waiting { destination, until: now },
            None => State::Idle(None),
        };
        let since = ago.map(|ago| Since { ago, at: now });
        let track = Track { through, watermark: through, since, state, failures: 0, conflict: false, rests: None };
        self.tracks.insert(camera, track);
    }

    /// Takes note of how far a camera's list goes now.
    pub fn look(&mut self, camera: &CameraId, watermark: Seq, now: Instant) {
        if !self.tracks.contains_key(camera) {
            self.know(camera.clone(), 0, None, None, now);
        }
        // Not all in the same moment where all cameras begin in the same: but never later than it was said.
        let wait = self.every.mul_f64(0.75 + 0.25 * self.rng.f64());
        let Some(track) = self.tracks.get_mut(camera) else { return };
        track.watermark = track.watermark.max(watermark);
        let left = track.watermark.saturating_sub(track.through);
        if left == 0 {
            return;
        }
        track.since.get_or_insert(Since { ago: Duration::ZERO, at: now });
        if let State::Idle(due) = &mut track.state {
            let at = *due.get_or_insert(now + wait);
            if left >= self.entries {
                *due = Some(at.min(track.rests.map_or(now, |rests| rests.max(now))));
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
                State::Idle(Some(due)) if *due <= now => waiting.push((*due, camera.clone(), None)),
                State::Idle(_) => {}
                State::Working(destination) => {
                    *working.entry(destination.clone()).or_default() += 1;
                    *held.entry(destination.clone()).or_default() += 1;
                }
                State::Waiting { destination, until } => {
                    *held.entry(destination.clone()).or_default() += usize::from(!track.conflict);
                    if *until <= now {
                        waiting.push((*until, camera.clone(), Some(destination.clone())));
                    }
                }
            }
        }
        waiting.sort_unstable();
        let mut taken = Vec::new();
        for (_, camera, pending) in waiting {
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
            let Track { watermark, failures, conflict, .. } = *track;
            taken.push(Due { camera, destination, watermark, again, failures, conflict });
        }
        taken
    }

    /// A camera's manifest is stored; it ends with this seq, and what follows was listed so long ago.
    pub fn stored(&mut self, camera: &CameraId, last: Seq, ago: Option<Duration>, now: Instant) {
        let Some(track) = self.tracks.get_mut(camera) else { return };
        track.through = track.through.max(last);
        track.watermark = track.watermark.max(track.through);
        let left = track.watermark > track.through;
        track.since = left.then_some(Since { ago: ago.unwrap_or_default(), at: now });
        (track.state, track.failures, track.conflict) = (State::Idle(None), 0, false);
    }

    /// A camera's manifest is in the journal and not stored: it is tried again after a while.
    pub fn later(&mut self, camera: &CameraId, destination: String, wait: Duration, conflict: bool, now: Instant) {
        let Some(track) = self.tracks.get_mut(camera) else { return };
        (track.state, track.conflict) = (State::Waiting { destination, until: now + wait }, conflict);
        track.failures = track.failures.saturating_add(1);
    }

    /// A camera's manifest could not even be made, or there was nothing to put in one.
    pub fn nothing(&mut self, camera: &CameraId, now: Instant) {
        let rests = now + self.every;
        let Some(track) = self.tracks.get_mut(camera) else { return };
        track.state = State::Idle((track.watermark > track.through).then_some(rests));
        track.rests = Some(rests);
    }

    /// A camera's manifest was not written down, because it goes elsewhere than was thought: it takes a place there.
    pub fn elsewhere(&mut self, camera: &CameraId, now: Instant) {
        let Some(track) = self.tracks.get_mut(camera) else { return };
        track.state = State::Idle(Some(now));
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

    /// How long the oldest of them has been listed.
    pub fn oldest(&self, now: Instant) -> Option<Duration> {
        let left = self.tracks.values().filter(|track| track.watermark > track.through);
        left.filter_map(|track| track.since).map(|since| since.age(now)).max()
    }

    /// How many manifests cannot be stored because an object with other content stands under their keys.
    pub fn conflicts(&self) -> usize {
        self.tracks.values().filter(|track| track.conflict).count()
    }
}
