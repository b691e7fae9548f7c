//! Who a recorder is and what it can do.

use super::DeviceClock;

/// Who a recorder is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Identity {
    /// What people call it.
    pub name: String,
    /// Its model: with the firmware, what its habits depend on.
    pub model: String,
    /// Its firmware.
    pub firmware: String,
    /// Its serial number.
    pub serial: String,
}

/// What a recorder can do, as far as it tells. Recorders err about themselves: where it says no, trying is allowed.
#[derive(Clone, Debug)]
pub struct Abilities {
    /// Segments on one page of a search, at most.
    pub search_page: u32,
    /// Searches at a time.
    pub searches: u32,
    /// Whether segments are sent by their names.
    pub by_file: bool,
    /// Whether spans are sent; `false` where it does not say.
    pub by_time: bool,
    /// How its clock is read.
    pub clock: DeviceClock,
}
