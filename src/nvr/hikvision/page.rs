//! A page of a search, as it comes.

use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::uri;
use super::xml::Element;
use crate::nvr::SegmentKind;

const SECONDS: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
const COMPACT: &[BorrowedFormatItem<'_>] = format_description!("[year][month][day]T[hour][minute][second]");

/// The longest texts of a match, bytes: an address has some two hundred, and what a recorder lists is kept by the hundred
/// thousand.
const LONGEST_URI: usize = 4 << 10;
const LONGEST_TEXT: usize = 512;

/// Matches, and whether there are more of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Page {
    pub(super) matches: Vec<Match>,
    pub(super) more: bool,
}

/// One match, in the recorder's own words and times.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Match {
    pub(super) track: Option<String>,
    pub(super) start: PrimitiveDateTime,
    pub(super) end: PrimitiveDateTime,
    pub(super) name: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) kind: SegmentKind,
    pub(super) codec: Option<String>,
    pub(super) locked: Option<bool>,
    /// Why it was recorded.
    pub(super) event: Option<String>,
    /// Empty where there is none.
    pub(super) uri: String,
}

/// What tells a match from the others on the same track. The borders of a search are in the times of a match, so that
/// its name is the better one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Key {
    Name(String),
    Unnamed(PrimitiveDateTime, PrimitiveDateTime, Option<u64>),
}

impl Match {
    pub(super) fn key(&self) -> Key {
        match &self.name {
            Some(name) => Key::Name(name.clone()),
            None => Key::Unnamed(self.start, self.end, self.size),
        }
    }

    /// What of it is longer than it may be, in words.
    fn excess(&self) -> Option<String> {
        let Self { track, name, codec, event, uri, .. } = self;
        let texts = [("a name", name), ("a track", track), ("a codec", codec), ("an event", event)];
        let texts = texts.into_iter().filter_map(|(what, text)| Some((what, text.as_ref()?.len(), LONGEST_TEXT)));
        let mut all = texts.chain([("an address", uri.len(), LONGEST_URI)]);
        let (what, length, most) = all.find(|(_, length, most)| length > most)?;
        Some(format!("{what} of {length} bytes, and {most} is the most that is taken"))
    }

    fn read(element: &Element) -> Option<Self> {
        let media = element.at(&["mediaSegmentDescriptor"]);
        let text = |name: &str| media.and_then(|media| media.text(&[name]));
        let uri = uri::joined(text("playbackURI").unwrap_or_default());
        let time = |name: &str, field| {
            let of_span = element.text(&["timeSpan", name]).and_then(|text| self::time(text, 19, SECONDS));
            of_span.or_else(|| self::time(uri::field(&uri, field)?, 15, COMPACT))
        };
        let picture = text("contentType").is_some_and(|kind| kind.eq_ignore_ascii_case("picture"));
        let event = element.text(&["metadataMatches", "metadataDescriptor"]);
        Some(Self {
            track: element.text(&["trackID"]).map(ToOwned::to_owned),
            start: time("startTime", "starttime")?,
            end: time("endTime", "endtime")?,
            name: text("name").or_else(|| uri::field(&uri, "name")).map(ToOwned::to_owned),
            size: uri::field(&uri, "size").and_then(|size| size.parse().ok()),
            kind: if picture { SegmentKind::Photo } else { SegmentKind::Video },
            codec: text("codecType").map(ToOwned::to_owned),
            locked: text("lockStatus").map(|status| status.eq_ignore_ascii_case("lock")),
            event: event.and_then(|event| event.rsplit('/').next()).map(ToOwned::to_owned),
            uri,
        })
    }
}

impl Page {
    /// What of its matches is longer than it may be, in words.
    pub(super) fn excess(&self) -> Option<String> {
        self.matches.iter().find_map(Match::excess)
    }

    /// Reads an answer; `None` where it is none to a search.
    pub(super) fn read(root: &Element) -> Option<Self> {
        if root.name != "CMSearchResult" {
            return None;
        }
        // Any other word is a failure, which must not pass for nothing found.
        let word = root.text(&["responseStatusStrg"])?.to_ascii_uppercase();
        let more = match word.as_str() {
            "MORE" => true,
            "OK" | "NO MATCHES" => false,
            _ => return None,
        };
        let items = root.all("matchList").flat_map(|list| list.all("searchMatchItem"));
        let matches = items.map(Match::read).collect::<Option<Vec<_>>>()?;
        Some(Self { matches, more })
    }
}

/// The first `length` characters as a time. What follows, a `Z` or an offset, is no part of what the clock shows.
fn time(text: &str, length: usize, format: &[BorrowedFormatItem<'_>]) -> Option<PrimitiveDateTime> {
    PrimitiveDateTime::parse(text.get(..length)?, format).ok()
}

/// A time as the recorder reads it.
pub(super) fn written(time: PrimitiveDateTime) -> String {
    time.format(SECONDS).expect("a date has all of it")
}

/// The same as playback URIs have it, without the `Z`.
pub(super) fn written_compact(time: PrimitiveDateTime) -> String {
    time.format(COMPACT).expect("a date has all of it")
}

/// Reads a time that may have anything behind its seconds.
pub(super) fn literal(text: &str) -> Option<PrimitiveDateTime> {
    time(text, 19, SECONDS)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn page(text: &str) -> Option<Page> {
        Page::read(&Element::read(text.as_bytes()).unwrap())
    }

    #[test]
    fn quirk_16_one_match_and_many_are_read_alike() {
        let item = "<searchMatchItem size='14'><trackID> 101 </trackID><timeSpan>\
                    <startTime>2026-11-19T00:00:00Z</startTime><endTime>2026-11-19T00:10:00+08:00</endTime></timeSpan>\
                    <mediaSegmentDescriptor><contentType>video</contentType><codecType>H.265</codecType>\
                    <playbackURI>\n rtsp://h/Streaming/tracks/101/?starttime=1&amp;name=a%2Fb&amp;size=683\n</playbackURI>\
                    <lockStatus>lock</lockStatus></mediaSegmentDescriptor>\
                    <metadataMatches><metadataDescriptor>recordType.meta.hikvision.com/motion</metadataDescriptor>\
                    </metadataMatches></searchMatchItem>";
        let all = |items: &str, word: &str| {
            page(&format!(
                "<p:CMSearchResult xmlns:p='urn:psialliance-org'><responseStatusStrg>{word}</responseStatusStrg>\
                 <numOfMatches>9</numOfMatches><matchList>{items}</matchList></p:CMSearchResult>"
            ))
            .unwrap()
        };
        let one = all(item, "OK");
        assert_eq!(
            one.matches,
            [Match {
                track: Some("101".into()),
                start: datetime!(2026-11-19 00:00),
                end: datetime!(2026-11-19 00:10),
                name: Some("a%2Fb".into()),
                size: Some(683),
                kind: SegmentKind::Video,
                codec: Some("H.265".into()),
                locked: Some(true),
                event: Some("motion".into()),
                uri: "rtsp://h/Streaming/tracks/101/?starttime=1&name=a%2Fb&size=683".into(),
            }]
        );
        let two = all(&item.repeat(2), "MORE");
        assert_eq!((one.more, two.more, two.matches.len()), (false, true, 2));
        assert_eq!(all(" \n", "NO MATCHES"), Page::default());
        assert_eq!(all("", "NO MATCHES"), Page::default());
    }

    #[test]
    fn times_of_a_match_may_stand_in_its_uri_alone() {
        let text = "<CMSearchResult><responseStatusStrg>OK</responseStatusStrg><matchList><searchMatchItem>\
                    <mediaSegmentDescriptor><contentType>picture</contentType>\
                    <playbackURI>http://h/?starttime=20261119T000000Z&amp;endtime=20261119T000001Z</playbackURI>\
                    </mediaSegmentDescriptor></searchMatchItem></matchList></CMSearchResult>";
        let of = &page(text).unwrap().matches[0];
        assert_eq!((of.start, of.end), (datetime!(2026-11-19 00:00:00), datetime!(2026-11-19 00:00:01)));
        assert_eq!((of.kind, of.size), (SegmentKind::Photo, None));
        assert_eq!(of.key(), Key::Unnamed(of.start, of.end, None));
    }

    #[test]
    fn texts_that_are_too_long_are_told() {
        let with = |name: usize, uri: usize| {
            let text = format!(
                "<CMSearchResult><responseStatusStrg>OK</responseStatusStrg><matchList><searchMatchItem><timeSpan>\
                 <startTime>2026-11-19T00:00:00Z</startTime><endTime>2026-11-19T00:10:00Z</endTime></timeSpan>\
                 <mediaSegmentDescriptor><name>{}</name><playbackURI>{}</playbackURI></mediaSegmentDescriptor>\
                 </searchMatchItem></matchList></CMSearchResult>",
                "n".repeat(name),
                "u".repeat(uri)
            );
            page(&text).unwrap().excess()
        };
        assert_eq!(with(LONGEST_TEXT, LONGEST_URI), None);
        assert!(with(LONGEST_TEXT + 1, 1).unwrap().starts_with("a name of 513 bytes"));
        assert!(with(1, LONGEST_URI + 1).unwrap().starts_with("an address of 4097 bytes"));
    }

    #[test]
    fn what_is_no_page_is_none() {
        assert_eq!(page("<CMSearchResult/>"), None);
        assert_eq!(page("<CMSearchResult><responseStatusStrg>FAILED</responseStatusStrg></CMSearchResult>"), None);
        assert_eq!(page("<other><responseStatusStrg>OK</responseStatusStrg></other>"), None);
        let timeless = "<CMSearchResult><responseStatusStrg>OK</responseStatusStrg><matchList><searchMatchItem/>\
                        </matchList></CMSearchResult>";
        assert_eq!(page(timeless), None);
        assert_eq!(literal("2026-11-19T12:00:00+08:00"), Some(datetime!(2026-11-19 12:00)));
        assert_eq!(literal("é26-11-19T12:00:00"), None);
    }
}
