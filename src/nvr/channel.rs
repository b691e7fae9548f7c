//! What a recorder shows live.

/// One camera behind a recorder, or one input of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Channel {
    /// Its number, from 1 on.
    pub number: u32,
    /// What people call it; empty where nothing tells.
    pub name: String,
    /// Whether the camera behind it is there; `None` where nothing tells.
    pub online: Option<bool>,
}
