//! Media: recordings into another container, cut, joined, as single pictures, or recorded from a playback; never encoded
//! anew but for sound that a container cannot hold.
//!
//! Each job has a process of its own, `framehaul-media`, because what recorders hand out is as hostile as what cameras
//! send, and because no media library is linked into the daemon. `job` is what it is asked, `outcome` what came of it,
//! `wire` what the two say to each other, `process` the daemon's side and `child` the program's.

pub mod child;

mod job;
mod outcome;
mod process;
pub mod wire;

pub use job::{Container, Cut, Frames, Job, Record, Remux};
pub use outcome::{Count, MediaError, MediaErrorKind, Outcome, Progress, Sound, Span};
pub use process::{Launcher, Limits, part_of};
