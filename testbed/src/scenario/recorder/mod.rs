//! What `framehaul export` promises: every recording once, whole and verified, or told; the recorder spared; beside
//! hikload, which fetches the same.

mod broken;
mod channels;
mod killed;
mod locked;
mod many;
pub(super) mod place;
mod remux;
mod running;
mod side_by_side;
mod speed;
mod tools;

pub use broken::broken_recordings;
pub use channels::{LiveChannels, live_channels};
pub use killed::{ExportKills, export_kills};
pub use locked::{LockedOut, locked_out};
pub use many::{ManyRecordings, many_recordings};
pub use remux::{Remuxed, remuxed};
pub use side_by_side::side_by_side;
pub use speed::{ExportSpeed, export_speed};
pub use tools::Tools;
