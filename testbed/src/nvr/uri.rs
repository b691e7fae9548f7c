//! Which recordings a playback URI means.

use std::ops::Range;

use url::Url;

use super::clock;
use super::knobs::{ClockMode, Knobs};
use super::library::Library;
use super::refusal::Refusal;

/// Recordings, by their places in the library.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// The one of that name.
    File(usize),
    /// What of them lies within the span, of those that are over: one at least.
    Span(Vec<Part>),
}

/// A part of a recording, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The recording's place in the library.
    pub(super) place: usize,
    /// Its pictures, from a key frame on.
    pub(super) pictures: Range<usize>,
}

/// Reads a URI, whatever host it names.
pub(super) fn read(uri: &str, knobs: &Knobs, library: &Library) -> Result<Meant, Refusal> {
    let bad = Refusal::BAD_CONTENT;
    let uri = Url::parse(uri).map_err(|_| bad)?;
    let track = uri.path().trim_end_matches('/').rsplit_once("/Streaming/tracks/").ok_or(bad)?.1;
    let track: u32 = track.parse().map_err(|_| bad)?;
    let field = |name| uri.query_pairs().find_map(|(key, value)| (key == name).then_some(value));
    let places = library.recordings.iter().enumerate().filter(|(_, file)| file.track == track);
    if let Some(name) = field("name") {
        let mut places = places.filter(|(_, file)| file.name == name);
        return places.next().map(|(place, _)| Meant::File(place)).ok_or(Refusal::GONE);
    }
    let span = |end| clock::read_compact(&field(end).ok_or(bad)?).map_err(|_| bad);
    let (from, to) = (span("starttime")?, span("endtime")?);
    let (from, to) = match knobs.clock {
        ClockMode::Utc => (from, to),
        ClockMode::Wall => (knobs.zone().moments(from).0, knobs.zone().moments(to).1),
    };
    let now = knobs.now();
    let places = places.filter(|(_, file)| file.begin < to && file.end > from && file.end <= now);
    let parts: Vec<Part> = places
        .map(|(place, file)| {
            let (count, takes) = (file.pictures.len() as i64, file.end - file.begin);
            let group = i64::from(library.channel(track).fps);
            let begin = (from.max(file.begin) - file.begin) * count / takes / group * group;
            let end = ((to.min(file.end) - file.begin) * count + takes - 1) / takes;
            Part { place, pictures: begin as usize..end as usize }
        })
        .collect();
    if parts.is_empty() { Err(Refusal::GONE) } else { Ok(Meant::Span(parts)) }
}
