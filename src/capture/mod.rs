//! Capture: one process per camera, because a read that blocks for ever can only be ended by killing a process.
//!
//! `child` is the program's side (the `framehaul-capture-*` binaries), `process` the daemon's; `wire` is what they say
//! to each other. No media library is named here: those belong to the binaries, one for each engine.

pub mod child;

mod cutter;
mod diagnosis;
mod ffmpeg_options;
mod process;
mod reach;
mod restart;
mod source;
mod usage;
pub mod wire;

pub use diagnosis::{Diagnosis, ErrorKind, diagnose};
pub use process::{CaptureProcess, Deadlines, Ending, Launcher, ProcessEvent};
pub use reach::Reach;
pub use restart::{Exit, Outage, Verdict};
pub use source::{FrameSource, Grabbed, Picture, SourceError};
pub use usage::Usage;
