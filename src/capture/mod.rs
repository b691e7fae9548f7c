//! Capture: one process per camera, because a read that blocks for ever can only be ended by killing a process.
//!
//! `child` is the program's side (the `framehaul-capture-*` binaries), `process` the daemon's; `wire` is what they say
//! to each other. No media library is named here: those belong to the binaries, one for each engine.

pub mod child;

mod diagnosis;
mod ffmpeg_options;
mod logins;
mod process;
mod reach;
mod restart;
mod scrub;
mod source;
mod usage;
pub mod wire;

pub use diagnosis::{Diagnosis, ErrorKind};
pub use logins::{Logins, Permit, TRIAL};
pub use process::{CaptureProcess, Deadlines, Ending, Launcher, ProcessEvent};
pub use reach::Reach;
pub use restart::{Exit, Outage, Verdict};
pub use scrub::{Scrubber, USERINFO};
pub use source::{FrameSource, Grabbed, Picture, SourceError};
pub use usage::Usage;
