//! The configuration: [`raw::RawConfig`] is what was written, [`Settings`] is what the daemon runs on.

mod cameras;
mod check;
mod load;
mod raw;
mod settings;

pub use cameras::load_cameras;
pub use load::load;
pub use raw::{RawConfig, RawDestination};
pub use settings::{
    CaptureSettings, Credentials, Destination, Durability, LogFormat, LogSettings, MemorySettings, Problem, Settings,
    SpoolSettings, UploadSettings, WhenFull,
};
