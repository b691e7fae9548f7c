//! The configuration: [`raw::RawConfig`] is what was written, [`Settings`] is what the daemon runs on.

mod cameras;
mod check;
mod destination;
mod load;
mod raw;
mod settings;

pub use cameras::load_cameras;
pub use load::load;
pub use raw::{RawConfig, RawDestination};
pub use settings::{
    CaptureSettings, Credentials, Destination, Durability, LogFormat, LogSettings, ManifestSettings, MemorySettings,
    Problem, Settings, SpoolSettings, TaskSettings, UploadSettings, WhenFull,
};
