//! The words of requests. Devices disagree about them, so there are several ways to say the same, in the order in which
//! they are tried; what a firmware has understood once is tried first from then on.

use bytes::Bytes;
use http::Method;

use super::client::Call;
use super::xml::{around, leaf};

const DECLARATION: &str = r#"<?xml version="1.0" encoding="UTF-8"?>"#;
/// Behind it stands a type, where not all of them are wanted.
const ALL_TYPES: &str = "//recordType.meta.std-cgi.com";

/// One page of a search.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Asked<'a> {
    /// The search that it is a page of: a GUID.
    pub(super) id: &'a str,
    pub(super) track: &'a str,
    /// In the recorder's own time, as `2026-11-19T00:00:00`.
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    /// Matches on the page, at most.
    pub(super) most: u32,
    /// The first match's place among all.
    pub(super) position: usize,
    /// The type of recordings that is wanted; all where it is `None`.
    pub(super) event: Option<&'a str>,
}

/// How a search is worded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SearchWords {
    /// `trackIDList` or `trackList`. Where the wrong one is ignored, another track is served.
    list: &'static str,
    /// Whether it begins with a declaration.
    declared: bool,
    /// What the root element says of itself.
    attributes: &'static str,
    /// Whether the id stands in braces.
    braced: bool,
    /// Whether it can say from which match on, and of which type: without, the next page is the rest of the time.
    pub(super) positions: bool,
    /// Whether it can say which type.
    pub(super) types: bool,
}

/// In the order of ISAPI's own documents, its web pages, firmware 4.84, and clients that know nothing but time.
pub(super) const SEARCHES: [SearchWords; 4] = [
    SearchWords { list: "trackIDList", declared: true, attributes: "", braced: false, positions: true, types: true },
    SearchWords { list: "trackList", declared: true, attributes: "", braced: false, positions: true, types: true },
    SearchWords {
        list: "trackList",
        declared: false,
        attributes: " version=\"1.0\"",
        braced: true,
        positions: true,
        types: false,
    },
    SearchWords {
        list: "trackIDList",
        declared: true,
        attributes: " version=\"1.0\" xmlns=\"http://www.hikvision.com/ver20/XMLSchema\"",
        braced: false,
        positions: false,
        types: false,
    },
];

impl SearchWords {
    pub(super) fn call(&self, asked: &Asked<'_>) -> Call {
        let id = if self.braced { format!("{{{}}}", asked.id) } else { asked.id.to_owned() };
        let times = leaf("startTime", &format!("{}Z", asked.from)) + &leaf("endTime", &format!("{}Z", asked.to));
        let mut within = leaf("searchID", &id)
            + &around(self.list, &leaf("trackID", asked.track))
            + &around("timeSpanList", &around("timeSpan", &times))
            + &leaf("maxResults", &asked.most.to_string());
        if self.positions {
            // The recorders' own spelling: the right one is refused.
            within += &leaf("searchResultPostion", &asked.position.to_string());
        }
        if self.types {
            let wanted = asked.event.map(|event| format!("{ALL_TYPES}/{event}"));
            let wanted = leaf("metadataDescriptor", wanted.as_deref().unwrap_or(ALL_TYPES));
            within += &around("metadataList", &wanted);
        }
        let declaration = if self.declared { DECLARATION } else { "" };
        let Self { attributes, .. } = self;
        let body = format!("{declaration}<CMSearchDescription{attributes}>{within}</CMSearchDescription>");
        Call::post("ContentMgmt/search", body)
    }
}

/// How a download is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct DownloadWords {
    verb: &'static str,
    /// What the root element says of itself.
    attributes: &'static str,
}

const FORMAL: &str = " version=\"1.0\" xmlns=\"http://www.isapi.org/ver20/XMLSchema\"";

/// In the order of how many devices know them.
pub(super) const DOWNLOADS: [DownloadWords; 3] = [
    DownloadWords { verb: "GET", attributes: FORMAL },
    DownloadWords { verb: "POST", attributes: FORMAL },
    DownloadWords { verb: "POST", attributes: " version=\"1.0\"" },
];

impl DownloadWords {
    pub(super) fn call(&self, uri: &str) -> Call {
        let Self { verb, attributes } = self;
        let uri = leaf("playbackURI", uri);
        let body = format!("{DECLARATION}<downloadRequest{attributes}>{uri}</downloadRequest>");
        let verb = if *verb == "GET" { Method::GET } else { Method::POST };
        Call { verb, body: Bytes::from(body), media: true, ..Call::get("ContentMgmt/download") }
    }
}

#[cfg(test)]
mod tests {
    use super::super::xml::Element;
    use super::*;

    #[test]
    fn all_ways_say_the_same() {
        let asked = Asked {
            id: "0C5A0B6E-6E2B-4F0A-9C53-2B9B2F3C7D11",
            track: "101",
            from: "2026-11-19T00:00:00",
            to: "2026-11-19T23:59:59",
            most: 40,
            position: 39,
            event: Some("MOTION"),
        };
        for words in SEARCHES {
            let body = words.call(&asked).body;
            let root = Element::read(&body).unwrap();
            assert_eq!(root.text(&["searchID"]).unwrap().trim_matches(['{', '}']), asked.id);
            assert_eq!(root.text(&[words.list, "trackID"]), Some("101"));
            let from = root.text(&["timeSpanList", "timeSpan", "startTime"]);
            assert_eq!(from, Some("2026-11-19T00:00:00Z"));
            assert_eq!(root.text(&["searchResultPostion"]), words.positions.then_some("39"));
            let event = root.text(&["metadataList", "metadataDescriptor"]);
            assert_eq!(event, words.types.then_some("//recordType.meta.std-cgi.com/MOTION"));
            assert_eq!(body.starts_with(b"<?xml"), words.declared);
        }
        let uri = "rtsp://192.0.2.5/Streaming/tracks/101/?starttime=1&name=a&size=2";
        for words in DOWNLOADS {
            let call = words.call(uri);
            assert_eq!(Element::read(&call.body).unwrap().text(&["playbackURI"]), Some(uri));
            assert_eq!(String::from_utf8_lossy(&call.body).matches("&amp;").count(), 2);
        }
    }
}
