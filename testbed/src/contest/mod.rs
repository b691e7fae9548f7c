//! What JPEGs of a camera's pictures cost: several ways to get them, each a program of its own, measured alike.
//!
//! [`Contestant`] is a way, [`trial`] starts its program and measures it: processor time by the kernel's own accounts
//! of the whole process, with all its threads, and private memory. [`callgrind`] counts instructions, which do not
//! depend on what else the machine does. [`Alone`] is for programs of other kinds, [`Whole`] for those that start others.

mod alone;
pub mod callgrind;
pub mod capture;
mod contestant;
mod figures;
pub mod processors;
pub mod python;
mod tree;
pub mod trial;

pub(crate) use alone::most_resident;
pub use alone::{Alone, Started};
pub use contestant::{Contestant, Programs, Run};
pub(crate) use figures::round;
pub use figures::{Spread, Table};
pub use tree::{Tree, Watch, Whole};

/// JPEG quality of all contestants, or what comes nearest.
pub const QUALITY: u8 = 85;
