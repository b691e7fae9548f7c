//! Every camera's accounts, by camera.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::Ledger;
use crate::model::CameraId;

/// The accounts of all camera ids ever used. Cloning is cheap; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Ledgers(Arc<RwLock<BTreeMap<CameraId, Arc<Ledger>>>>);

impl Ledgers {
    /// The accounts that the journal knew when it was opened.
    pub fn new(known: impl IntoIterator<Item = Arc<Ledger>>) -> Self {
        let map = known.into_iter().map(|ledger| (ledger.camera().clone(), ledger)).collect();
        Self(Arc::new(RwLock::new(map)))
    }

    /// A camera's accounts; new ones where the id was never used.
    pub fn of(&self, camera: &CameraId) -> Arc<Ledger> {
        if let Some(ledger) = self.find(camera) {
            return ledger;
        }
        let mut map = self.0.write().unwrap_or_else(PoisonError::into_inner);
        map.entry(camera.clone()).or_insert_with(|| Arc::new(Ledger::new(camera.clone()))).clone()
    }

    /// A camera's accounts, if the id was ever used.
    pub fn find(&self, camera: &CameraId) -> Option<Arc<Ledger>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(camera).cloned()
    }

    /// All of them, by camera id.
    pub fn all(&self) -> Vec<Arc<Ledger>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
