//! The actors: state machines and wiring. What they decide with lives in `delivery`, `capture` and `model`.
//!
//! Control travels in mailboxes: rare, small, never dropped. Frames do not: they wait in the [`Hub`], from which
//! UploadActors pull.

mod batches;
mod camera;
mod control;
mod hub;
mod hubs;
mod intake;
mod lease;
mod manifests;
pub mod messages;
mod newest;
mod notices;
mod nvrs;
mod opening;
mod permit;
mod probe;
mod record;
mod sequencer;
mod spooling;
mod supervisor;
mod upload;

pub use hub::{Admission, Hub};
pub use hubs::{Hubs, Way};
pub use lease::Lease;
pub use manifests::{ManifestRecipe, Manifests, Place, Places};
pub use messages::*;
pub use newest::Newest;
pub use nvrs::messages::*;
pub use nvrs::place::{InvalidPlace, TimelinePlace};
pub use opening::knock;
pub use permit::{DestinationStatus, Permit};
pub use sequencer::Sequencers;
pub use spooling::Spooling;
pub use supervisor::{Supervisor, Wiring};
pub use upload::UploadRecipe;
