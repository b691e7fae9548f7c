//! What a search finds.

use serde::{Deserialize, Serialize};

use super::DeviceTime;

/// A recording, or a picture, that a recorder has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// The [track](super::Track::id) that it is on.
    pub track: String,
    /// When it begins, the border of the search left aside where [`clipped`](Self::clipped) does not say otherwise.
    pub start: DeviceTime,
    /// When it ends.
    pub end: DeviceTime,
    /// Whether `start`, and `end`, may be the search's borders and not its own. A segment is sent whole all the same.
    pub clipped: (bool, bool),
    /// The recorder's name for it. With the track it is what tells it from all others.
    pub key: Option<String>,
    /// Its size as the recorder tells it, bytes. Recorders lie: a difference is suspect, and not always a fault.
    pub size: Option<u64>,
    /// What it holds.
    pub kind: SegmentKind,
    /// Its compression as the recorder calls it: `H.264-BP`.
    pub codec: Option<String>,
    /// Whether the recorder keeps it from being written over; `None` where nothing tells.
    pub locked: Option<bool>,
    /// Whether it is being recorded: its end is where the recorder's clock is, and end and size will grow.
    pub open: bool,
    /// What it is fetched by.
    pub locator: Locator,
}

impl Segment {
    /// Bytes of its texts, which are the recorder's to choose.
    pub(crate) fn text_bytes(&self) -> usize {
        let of = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.track.len() + of(&self.key) + of(&self.codec) + self.locator.0.len()
    }

    /// What tells this segment from all others of the recorder, in every search: its track with its name or, where it
    /// has none, with its start, in UTC where the recorder's clock shows that twice.
    pub fn identity(&self) -> (&str, String) {
        let start = || if self.start.ambiguous { self.start.utc.to_string() } else { self.start.to_string() };
        (&self.track, self.key.clone().unwrap_or_else(start))
    }
}

/// What a segment holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SegmentKind {
    /// A recording.
    Video,
    /// One picture.
    Photo,
}

/// What a segment is fetched by: words of the recorder's maker, to be kept and handed back as they are.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Locator(pub(super) String);
