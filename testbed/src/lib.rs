//! Real parts to test framehaul against: RTSP cameras whose pictures say which they are, a Cloud Storage server, and
//! the oracle that judges a bucket by the pixels in it.
//!
//! [`cameras`] serves clips ([`clip`]) with a mark ([`mark`]) in every picture, [`synthetic`] cameras make theirs up,
//! [`gcs`] takes the objects, and [`oracle`] reads the marks back from what framehaul stored; [`nvr`] is a recorder with
//! recordings of such pictures; [`service_manager`] hears what framehaul says, [`tls`] stands before what has none,
//! [`proxy`] spoils what passes through it, and [`rtp_proxy`] the packets of a camera. [`captured`] is what a capture
//! program makes of them, and [`ssim`] how far that is from what it should be. Nothing here shares code with framehaul:
//! a common mistake could not be seen.

#![forbid(unsafe_code)]

pub mod accept;
pub mod cameras;
pub mod captured;
pub mod clip;
pub mod contest;
pub mod daemon;
pub mod demo;
pub mod demo_nvr;
pub mod events;
#[cfg(test)]
mod fixtures;
pub mod gcs;
pub mod load;
pub mod mark;
pub mod nvr;
pub mod oracle;
mod private;
pub mod proxy;
pub mod rtp_proxy;
pub mod scenario;
pub mod service_manager;
mod signals;
pub mod spooled;
pub mod ssim;
pub mod synthetic;
pub mod tls;
