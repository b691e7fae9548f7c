//! Where each camera's manifests go.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::Handle;

use crate::actors::Hub;
use crate::journal::Entry;
use crate::model::{CameraId, DestinationName, Outcome};
use crate::storage::Bucket;

/// A destination of the configuration.
#[derive(Clone)]
pub struct Place {
    /// Its hub, whose gate is asked.
    pub hub: Hub,
    /// Its bucket.
    pub bucket: Arc<dyn Bucket>,
    /// The runtime on which the bucket's client was made.
    pub runtime: Handle,
}

/// Where manifests go: into the bucket of their last frame, so that who reads one finds the other. Where there is no
/// frame in it, or the configuration does not have that bucket any more, into the one where the camera's last manifest
/// went, unless its frames go elsewhere since then; at first where its frames go.
#[derive(Clone)]
pub struct Places {
    pub(super) by_name: Arc<BTreeMap<String, Place>>,
    /// What stands before the keys of frames of which the journal does not say where they are.
    pub(super) base_url: Arc<str>,
    /// Where each camera's last manifest went.
    last: Arc<Mutex<HashMap<CameraId, Went>>>,
}

/// Where a manifest went.
struct Went {
    to: String,
    /// Where its camera's frames went at that time.
    own: Option<DestinationName>,
}

impl Places {
    /// The destinations of the configuration, among which `default` is.
    pub fn new(places: impl IntoIterator<Item = (DestinationName, Place)>, base_url: Arc<str>) -> Self {
        let by_name = places.into_iter().map(|(name, place)| (name.to_string(), place)).collect();
        Self { by_name: Arc::new(by_name), base_url, last: Arc::default() }
    }

    fn last(&self) -> MutexGuard<'_, HashMap<CameraId, Went>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of where a camera's last manifest went.
    pub(super) fn went(&self, camera: CameraId, to: String, own: Option<DestinationName>) {
        self.last().insert(camera, Went { to, own });
    }

    /// Where a camera's next manifest goes, as far as that can be said without its entries; `own` is where its frames
    /// go now.
    pub(super) fn likely(&self, camera: &CameraId, own: Option<&DestinationName>) -> String {
        let last = self.last();
        let went = last.get(camera);
        let moved = went.is_none_or(|went| went.own.as_ref() != own);
        let (own, went) = (own.map(DestinationName::as_str), went.map(|went| went.to.as_str()));
        let known = |name: &&str| self.by_name.contains_key(*name);
        let order = if moved { [own, went] } else { [went, own] };
        let found = order.into_iter().flatten().find(known);
        found.map_or_else(|| DestinationName::default().to_string(), str::to_owned)
    }

    /// Where it goes, with these entries.
    pub(super) fn next_of(&self, camera: &CameraId, own: Option<DestinationName>, entries: &[Entry]) -> String {
        let stored = entries.iter().rev().find_map(|entry| match entry {
            Entry::Frames { outcome: Outcome::Stored(stored), .. } => Some(stored.destination.as_str()),
            _ => None,
        });
        let stored = stored.filter(|name| self.by_name.contains_key(*name));
        let to = stored.map_or_else(|| self.likely(camera, own.as_ref()), str::to_owned);
        self.went(camera.clone(), to.clone(), own);
        to
    }
}
