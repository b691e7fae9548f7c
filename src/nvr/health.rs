//! How a recorder is, at the moment of being asked.

use serde::Serialize;

/// How a recorder is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Health {
    /// How far its clock is ahead of ours; negative where it is behind, `None` where it does not tell the time.
    pub ahead: Option<time::Duration>,
    /// Its disks; none where it does not tell.
    pub disks: Vec<Disk>,
}

/// One disk of a recorder.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Disk {
    /// The recorder's own name for it.
    pub name: String,
    /// The recorder's word for how it is: `ok` where all is well.
    pub status: String,
    /// Its size, MiB; `None` where nothing tells.
    pub capacity_mib: Option<u64>,
    /// What is free of it, MiB. On most recorders that is nothing: they write over the oldest.
    pub free_mib: Option<u64>,
}

impl Disk {
    /// Whether it does what it is for. One that sleeps does.
    pub fn is_well(&self) -> bool {
        ["ok", "idle", "sleeping"].contains(&self.status.as_str())
    }
}
