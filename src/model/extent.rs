//! Which part of a stream is wanted.

use serde::{Deserialize, Serialize};

/// A part of the frames that a camera's sampling wants; without a word all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Extent {
    /// Pictures are passed by until one has this presentation time or a later one, and the sampling begins there,
    /// microseconds.
    pub from_micros: Option<i64>,
    /// So many wanted frames after that are passed by as well: they were had before.
    pub skip: u64,
    /// So many after those are wanted, the ones among them that are missed counted; then it is over.
    pub frames: Option<u64>,
}
