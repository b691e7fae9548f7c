//! The oracle: says whether what is in the bucket is what the cameras showed, judging by the pixels alone.
//!
//! [`fetch_list`] gets a camera's ordered list over HTTP, [`Fetcher`] the objects it names, and [`judge`] compares:
//! within a session the counters in the pictures rise by the sampling [`Pattern`], a tombstone explains exactly as many
//! missing steps as it has frames, sizes and checksums are those of the list, and the list has no holes. What it finds
//! is a [`Verdict`].
//!
//! Counters are compared modulo the clip's length, which each picture carries. An error of half a clip or more can
//! therefore be taken for one in the other direction; it never passes for none unless it is a whole number of clips.

mod command;
mod fetch;
mod http;
mod judge;
mod list;
mod pattern;
#[cfg(test)]
mod tests;

pub use command::{Args, run};
pub use fetch::Fetcher;
pub use http::Http;
pub use judge::{Between, Verdict, decode, judge};
pub use list::{Entry, Frame, List, fetch_cameras, fetch_list};
pub use pattern::Pattern;
