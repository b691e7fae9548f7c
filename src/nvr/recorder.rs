//! What every recorder can do.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use url::Url;

use super::{Abilities, Admission, Channel, Health, Identity, Media, RecorderError, Segment, SegmentKind, Span, Track};

/// A device with recordings. Each call is made once, under its own deadline: whether and when it is made again is for
/// the caller to say, by [`RecorderErrorKind`](super::RecorderErrorKind).
#[async_trait]
pub trait Recorder: Send + Sync {
    /// Who it is, what it can do, and how its clock is read. Asked once; later calls repeat the answer.
    ///
    /// # Errors
    ///
    /// When it does not say who it is. What else it does not say has a default.
    async fn identify(&self) -> Result<(Identity, Abilities), RecorderError>;

    /// All its tracks, in their order.
    ///
    /// # Errors
    ///
    /// When no way of asking for them is understood.
    async fn tracks(&self) -> Result<Vec<Track>, RecorderError>;

    /// All its channels, in their order, each once.
    ///
    /// # Errors
    ///
    /// When no way of asking for them is understood.
    async fn channels(&self) -> Result<Vec<Channel>, RecorderError>;

    /// The port of its streams, never 0; the usual one where it does not tell.
    ///
    /// # Errors
    ///
    /// When it does not answer. That it does not tell is none.
    async fn rtsp_port(&self) -> Result<u16, RecorderError>;

    /// How it is now: asked anew each time.
    ///
    /// # Errors
    ///
    /// When it does not answer. What it does not tell is left out.
    async fn health(&self) -> Result<Health, RecorderError>;

    /// The days of a month, by the recorder's clock, on which a track has recordings; `None` where it cannot tell.
    ///
    /// # Errors
    ///
    /// When it does not answer. That it cannot tell is none.
    async fn days(&self, track: &str, month: Month) -> Result<Option<Days>, RecorderError>;

    /// What a track has that overlaps a span, in the order of its begin, each segment once. Pages are asked for as the
    /// stream is read.
    ///
    /// An error that [may pass](super::RecorderErrorKind::may_pass) does not end the stream: read on, it asks for the
    /// same page again, eight times in a row at most. How long to wait before that is for the caller to say. Every
    /// other error is the last item.
    fn search(&self, query: Query) -> BoxStream<'_, Result<Segment, RecorderError>>;

    /// Begins to send.
    ///
    /// # Errors
    ///
    /// When it does not, or sends what cannot be media.
    async fn open(&self, fetch: Fetch<'_>) -> Result<Media, RecorderError>;

    /// Where the same can be played over RTSP, for programs that do.
    ///
    /// # Errors
    ///
    /// When it cannot be played.
    async fn playback(&self, fetch: Fetch<'_>) -> Result<Playback, RecorderError>;

    /// Waits until such a program may log in with the settings' user and password: whether it is let in counts with all
    /// other logins.
    ///
    /// # Errors
    ///
    /// When nobody may for a while: locked out, refused, or busy.
    async fn admit(&self) -> Result<Admission<'_>, RecorderError>;
}

/// What is searched for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// The [track](Track::id).
    pub track: String,
    /// From when to when. A [`DeviceClock`](super::DeviceClock) makes it from what a wall shows.
    pub span: Span,
    /// What it has to hold.
    pub kind: SegmentKind,
    /// The recorder's word for why it was recorded: `MOTION`; `None` for whatever reason.
    pub event: Option<String>,
}

/// What is to be sent.
#[derive(Clone, Copy, Debug)]
pub enum Fetch<'a> {
    /// A segment as it was recorded.
    Segment(&'a Segment),
    /// Whatever was recorded on a track from when to when, cut out of its segments by the recorder.
    Window {
        /// The [track](Track::id).
        track: &'a str,
        /// From when to when.
        span: Span,
    },
}

/// A stream that plays what was recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Playback {
    /// Its URL, with the recorder's own host and without user and password: those of the settings are asked for.
    pub url: Url,
    /// The track.
    pub track: String,
}

/// A month.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Month {
    /// The year.
    pub year: i32,
    /// The month, from 1 to 12.
    pub month: u8,
}

/// Days of a month.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Days(u32);

impl Days {
    /// Whether this day of the month, from 1 to 31, is one of them.
    pub fn contains(self, day: u8) -> bool {
        (1..=31).contains(&day) && self.0 & (1 << day) != 0
    }

    /// These days and one more; other numbers than 1 to 31 are no days.
    #[must_use]
    pub fn with(self, day: u8) -> Self {
        if (1..=31).contains(&day) { Self(self.0 | 1 << day) } else { self }
    }
}
