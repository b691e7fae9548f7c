//! What each camera showed last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::{CameraId, Frame};

/// Each live camera's newest frame, for those who want to look: one JPEG a camera, wherever its frames go. Cloning is
/// cheap; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Newest(Arc<Mutex<HashMap<CameraId, Option<Frame>>>>);

impl Newest {
    fn lock(&self) -> MutexGuard<'_, HashMap<CameraId, Option<Frame>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A camera's newest frame, stored or not.
    pub fn of(&self, camera: &CameraId) -> Option<Frame> {
        self.lock().get(camera).cloned().flatten()
    }

    /// Keeps a camera's newest frame from now on.
    pub fn show(&self, camera: &CameraId) {
        self.lock().entry(camera.clone()).or_default();
    }

    /// Takes note of a frame. One that comes to its disk after later ones have come to another is not the newest, and
    /// those of a camera that was deleted are not shown.
    pub(super) fn set(&self, frame: &Frame) {
        if let Some(newest) = self.lock().get_mut(&frame.camera)
            && newest.as_ref().is_none_or(|newest| newest.seq < frame.seq)
        {
            *newest = Some(frame.clone());
        }
    }

    /// Forgets a camera's newest frame, and keeps none.
    pub fn forget(&self, camera: &CameraId) {
        self.lock().remove(camera);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UnixMicros;

    #[test]
    fn the_newest_is_the_highest_of_a_camera_that_is_shown() {
        let (newest, camera) = (Newest::default(), "gate".parse::<CameraId>().unwrap());
        let frame = |seq| Frame {
            camera: camera.clone(),
            seq,
            session: 1,
            captured_at: UnixMicros(1),
            width: 1,
            height: 1,
            damaged: false,
            jpeg: bytes::Bytes::new(),
            crc32c: 0,
        };
        newest.set(&frame(1));
        assert!(newest.of(&camera).is_none());
        newest.show(&camera);
        for seq in [2, 5, 4] {
            newest.set(&frame(seq));
        }
        assert_eq!(newest.of(&camera).unwrap().seq, 5);
        newest.forget(&camera);
        newest.set(&frame(6));
        assert!(newest.of(&camera).is_none());
    }
}
