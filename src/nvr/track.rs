//! What a recorder records on.

/// One stream of one channel, which recordings are searched on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Track {
    /// The recorder's own name for it: `101` is the main stream of channel 1, as a rule and not always.
    pub id: String,
    /// The channel, from 1 on.
    pub channel: u32,
    /// Which of the channel's streams it is.
    pub stream: StreamKind,
    /// What people call the channel; empty where nothing tells.
    pub name: String,
    /// Whether the camera behind it is there; `None` where nothing tells.
    pub online: Option<bool>,
    /// Its compression as the recorder calls it: `H.264-BP`.
    pub codec: Option<String>,
}

/// Which of a channel's streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StreamKind {
    /// The one that recorders keep.
    Main,
    /// A smaller one.
    Sub,
    /// A third one; on cameras, their pictures.
    Third,
    /// Any other.
    Other,
}

impl StreamKind {
    /// The kind as it stands in lists and options.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Sub => "sub",
            Self::Third => "third",
            Self::Other => "other",
        }
    }
}
