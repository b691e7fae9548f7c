//! Recorders: devices that have recorded what their cameras saw, and can be asked for it.
//!
//! [`Recorder`] is what each of them can do, whatever its make: tell who it is and which tracks it has, search a track
//! for segments, and send one of them. [`open`] makes one from its [`RecorderSettings`]. What is left to the caller:
//! how many sessions go on at a time, what is tried again and when, whether a segment has come to rest, and whether
//! what came is whole.

mod channel;
mod clock;
mod common;
mod error;
mod health;
mod hikvision;
mod identity;
mod knock;
mod lockout;
mod media;
mod recorder;
mod segment;
mod settings;
mod track;
mod zone;

use std::sync::Arc;

pub use channel::Channel;
pub use clock::{DeviceClock, DeviceTime, Span};
pub use common::Common;
pub use error::{RecorderError, RecorderErrorKind};
pub use health::{Disk, Health};
pub use identity::{Abilities, Identity};
pub use knock::knock;
pub use lockout::{Admission, LoginNews};
pub use media::{Container, Media};
pub use recorder::{Days, Fetch, Month, Playback, Query, Recorder};
pub use segment::{Locator, Segment, SegmentKind};
pub use settings::{RecorderSettings, Scheme, Timeouts};
pub use track::{StreamKind, Track};
pub use zone::{InvalidZone, Zone};

pub use crate::model::ClockMode;

/// A recorder's client. Nothing is sent yet.
///
/// # Errors
///
/// When the settings name no host, or no client can be built.
pub fn open(settings: RecorderSettings, common: &Arc<Common>) -> Result<Arc<dyn Recorder>, RecorderError> {
    Ok(Arc::new(hikvision::Hikvision::new(settings, common.clone())?))
}
