//! Capture: one process per camera, because a read that blocks for ever can only be ended by killing a process.
//!
//! `child` is the program's side (the `framehaul-capture-*` binaries), `process` the daemon's; `wire` is what they say to
//! each other. Only `opencv` names OpenCV, and only the child's binary calls it.

pub mod child;

pub mod opencv;

mod diagnosis;
mod process;
mod restart;
mod scrub;
mod source;
pub mod wire;

pub use diagnosis::{Diagnosis, ErrorKind};
pub use process::{CaptureProcess, Deadlines, ProcessEvent};
pub use restart::{Exit, Outage, Verdict};
pub use scrub::Scrubber;
pub use source::{FrameSource, Grabbed, Picture, SourceError};
