//! A place in a channel's timeline, behind which its next page begins.
//!
//! The begin of a recording is none: two recordings may share it, where a recorder's clock is set or begins anew. So a place
//! is the begin, the track and the name of the last recording that was told, and recordings of one begin are told in the
//! order of track and name, whatever order the recorder has.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::model::UnixMicros;
use crate::nvr::Segment;

/// What stands between track and name, and in none of them.
const BETWEEN: char = '\0';

/// A place in a channel's timeline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimelinePlace {
    /// When the recording before it begins.
    pub begin: UnixMicros,
    /// The track of that recording, and its name there; `None` for behind all that begin then.
    of: Option<(String, String)>,
}

impl TimelinePlace {
    /// Right behind a recording.
    pub fn behind(segment: &Segment) -> Self {
        let (track, name) = segment.identity();
        Self { begin: segment.start.utc, of: Some((track.to_owned(), name)) }
    }

    /// Whether a recording follows, in the order in which they are told.
    pub fn is_before(&self, segment: &Segment) -> bool {
        let (track, name) = segment.identity();
        match &self.of {
            _ if segment.start.utc != self.begin => segment.start.utc > self.begin,
            Some((last_track, last_name)) => (track, name.as_str()) > (last_track.as_str(), last_name.as_str()),
            None => false,
        }
    }
}

/// As `after` takes it: `2026-11-19T08:00:00.000000Z~MTAxAGNoMDE`. What stands behind the time is nobody's to take apart.
impl fmt::Display for TimelinePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.begin)?;
        match &self.of {
            Some((track, name)) => {
                write!(f, "~{}", BASE64_URL_SAFE_NO_PAD.encode(format!("{track}{BETWEEN}{name}")))
            }
            None => Ok(()),
        }
    }
}

/// It is no place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("is no place in a timeline: send `next` as it came, or a time such as 2026-11-19T08:00:00Z")]
pub struct InvalidPlace;

impl FromStr for TimelinePlace {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let (begin, of) = text.split_once('~').map_or((text, None), |(begin, of)| (begin, Some(of)));
        let begin = OffsetDateTime::parse(begin, &Rfc3339).map_err(|_| InvalidPlace)?.unix_timestamp_nanos() / 1_000;
        let begin = i64::try_from(begin).ok().filter(|micros| *micros >= 0).map(UnixMicros).ok_or(InvalidPlace)?;
        let of = of.map(|of| {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(of).map_err(|_| InvalidPlace)?;
            let text = String::from_utf8(bytes).map_err(|_| InvalidPlace)?;
            let (track, name) = text.split_once(BETWEEN).ok_or(InvalidPlace)?;
            Ok((track.to_owned(), name.to_owned()))
        });
        Ok(Self { begin, of: of.transpose()? })
    }
}

impl serde::Serialize for TimelinePlace {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_and_a_time_alone_is_behind_all_that_begin_then() {
        let place = TimelinePlace {
            begin: UnixMicros(1_795_075_200_000_000),
            of: Some(("101".into(), "ch01 ~&%2B/ä".into())),
        };
        let text = place.to_string();
        assert_eq!(text.parse(), Ok(place));
        let sendable = |c: char| c.is_ascii_alphanumeric() || "-_.~:".contains(c);
        assert!(text.chars().all(sendable), "{text}");
        let bare: TimelinePlace = "2026-11-19T09:00:00+01:00".parse().unwrap();
        assert_eq!(bare.to_string(), "2026-11-19T08:00:00.000000Z");
        for wrong in
            ["", "~", "yesterday", "2026-11-19T08:00:00Z~", "2026-11-19T08:00:00Z~MTAx", "2026-11-19T08:00:00Z~%"]
        {
            assert_eq!(wrong.parse::<TimelinePlace>(), Err(InvalidPlace), "{wrong}");
        }
    }
}
