//! Processes of our own beside the daemon, for what may not be in it: media libraries, and what hostile streams and files
//! do to them.
//!
//! `parent` is the daemon's side of every such process, `child` the program's; what they say to each other is the business
//! of [`capture`](crate::capture) and [`media`](crate::media). `scrub` takes secrets out of what a child says.

pub mod child;

mod parent;
mod scrub;
mod secret;

pub use parent::{Started, lines};
pub use scrub::Scrubber;
pub use secret::{expose, with_credentials};
