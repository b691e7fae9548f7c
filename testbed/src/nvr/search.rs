//! Searches: what is asked for, in which words, and the page that answers it.

use super::clock;
use super::knobs::{ClockMode, Knobs, ListTag};
use super::library::{Library, Recording};
use super::pages::codec_type;
use super::refusal::Refusal;
use super::xml::{Document, Element, Writer};

/// What a search asks for. Times are in UTC.
#[derive(Debug)]
pub(super) struct Search {
    id: String,
    tracks: Vec<u32>,
    from: i64,
    to: i64,
    most: usize,
    position: usize,
    /// Whether its times are UTC by its own wish.
    standard: bool,
    /// Whether it asks for recordings of a kind that there are none of.
    other_kind: bool,
}

/// The kinds of recordings there are.
const CONTINUOUS: [&str; 4] = ["recordType.meta.std-cgi.com", "CMR", "timing", "AllEvent"];

impl Search {
    /// Reads a request's body and what stands behind its path, as this recorder understands it.
    pub(super) fn read(body: &[u8], query: &str, knobs: &Knobs, library: &Library) -> Result<Search, Refusal> {
        let document = Document::read(body).map_err(|_| Refusal::BAD_FORMAT)?;
        let root = &document.root;
        let bad = Refusal::BAD_CONTENT;
        if root.name != "CMSearchDescription" {
            return Err(bad);
        }
        let id = root.text(&["searchID"]).ok_or(bad)?;
        let bare = id.trim_matches(['{', '}']);
        // The correct spelling is refused by some: nobody may rely on it.
        if !is_guid(bare) || root.child("searchResultPosition").is_some() {
            return Err(bad);
        }
        let formal = document.declared || root.namespaced || root.child("metadataList").is_some() || bare == id;
        if knobs.bare_search && formal {
            return Err(bad);
        }
        let span = |end| {
            let text = root.text(&["timeSpanList", "timeSpan", end]).ok_or(bad)?;
            clock::read(text).map_err(|_| bad)
        };
        let (from, to) = (span("startTime")?, span("endTime")?);
        let standard = knobs.time_type && query.split('&').any(|field| field == "timeType=STD");
        let (from, to) = match knobs.clock {
            _ if standard => (from, to),
            ClockMode::Utc => (from, to),
            // An hour that comes twice is searched both times.
            ClockMode::Wall => (knobs.zone().moments(from).0, knobs.zone().moments(to).1),
        };
        let number = |name| match root.text(&[name]) {
            None => Ok(None),
            Some(text) => text.parse::<usize>().map(Some).map_err(|_| bad),
        };
        let kind = root.text(&["metadataList", "metadataDescriptor"]).unwrap_or_default();
        let kind = kind.rsplit('/').next().unwrap_or_default();
        let most = number("maxResults")?.unwrap_or(usize::MAX).clamp(1, knobs.page as usize);
        let position = number("searchResultPostion")?.filter(|_| !knobs.ignore_position).unwrap_or(0);
        let tracks = tracks(root, knobs, library)?;
        let other_kind = !kind.is_empty() && !CONTINUOUS.contains(&kind);
        Ok(Search { id: bare.to_lowercase(), tracks, from, to, most, position, standard, other_kind })
    }

    /// Writes the page of matches. `host` is where the recorder says that it is.
    pub(super) fn answer(&self, knobs: &Knobs, library: &Library, host: &str) -> String {
        let now = knobs.now();
        let found: Vec<&Recording> = self
            .tracks
            .iter()
            .flat_map(|&track| library.between(track, self.from, self.to.min(now)))
            .filter(|file| file.so_far(now).0 > self.from && !self.other_kind)
            .collect();
        let page = &found[self.position.min(found.len())..];
        let (page, rest) = page.split_at(self.most.min(page.len()));
        let word = match (page.is_empty(), rest.is_empty()) {
            _ if knobs.always_more && !found.is_empty() => "MORE",
            (true, _) => "NO MATCHES",
            (false, true) => "OK",
            (false, false) => "MORE",
        };
        Writer::document("CMSearchResult", &knobs.namespace, |out| {
            out.leaf("searchID", format!("{{{}}}", self.id));
            out.leaf("responseStatus", true);
            out.leaf("responseStatusStrg", word);
            out.leaf("numOfMatches", page.len());
            out.open("matchList", |list| {
                for file in page {
                    list.open("searchMatchItem", |item| self.item(item, file, now, knobs, library, host));
                }
            });
        })
    }

    fn item(&self, out: &mut Writer, file: &Recording, now: i64, knobs: &Knobs, library: &Library, host: &str) {
        let (end, size) = file.so_far(now);
        let (mut begin, mut end) = (file.begin, end);
        if !knobs.no_clip {
            (begin, end) = (begin.max(self.from), end.min(self.to));
        }
        let zone = knobs.zone();
        let [begin, end] = [begin, end].map(|moment| match knobs.clock {
            _ if self.standard => moment + zone.beyond_standard(moment),
            ClockMode::Wall => zone.wall(moment),
            ClockMode::Utc => moment,
        });
        let (track, name) = (file.track, &file.name);
        // Pictures are pages of their own.
        let (scheme, below) = if file.photo { ("http", "/ISAPI") } else { ("rtsp", "") };
        let mut uri = format!(
            "{scheme}://{host}{below}/Streaming/tracks/{track}/?starttime={}&endtime={}",
            clock::show_compact(begin),
            clock::show_compact(end)
        );
        if !knobs.nameless {
            uri += &format!("&name={name}&size={}", size.saturating_add_signed(knobs.size_off));
        }
        if knobs.loose_uris {
            uri = format!("\n      {uri}\n    ");
        }
        let channel = library.channel(track);
        out.leaf("sourceID", "{0000000000-0000-0000-0000-000000000000}");
        out.leaf("trackID", track);
        out.open("timeSpan", |span| {
            span.leaf("startTime", clock::show(begin) + "Z");
            span.leaf("endTime", clock::show(end) + "Z");
        });
        out.open("mediaSegmentDescriptor", |media| {
            media.leaf("contentType", if file.photo { "picture" } else { "video" });
            media.leaf("codecType", if file.photo { "jpeg" } else { codec_type(channel.codec) });
            media.leaf("playbackURI", uri);
            media.leaf("lockStatus", "unlock");
            if !knobs.nameless {
                media.leaf("name", name);
            }
        });
        out.open("metadataMatches", |matches| {
            matches.leaf("metadataDescriptor", "recordType.meta.hikvision.com/timing");
        });
    }
}

/// The tracks that a search names, in the words that this recorder knows.
fn tracks(root: &Element, knobs: &Knobs, library: &Library) -> Result<Vec<u32>, Refusal> {
    let known: &[&str] = match knobs.list_tag {
        ListTag::Any => &["trackIDList", "trackList"],
        ListTag::TrackIdList => &["trackIDList"],
        ListTag::TrackList => &["trackList"],
    };
    let list = known.iter().find_map(|name| root.child(name));
    let Some(list) = list.filter(|list| list.child("trackID").is_some()) else {
        let first = library.tracks().next().map(|(track, _)| track);
        return first.filter(|_| knobs.wrong_tag_is_first_track).map(|track| vec![track]).ok_or(Refusal::BAD_CONTENT);
    };
    list.children("trackID").map(|id| id.text.parse().map_err(|_| Refusal::BAD_CONTENT)).collect()
}

/// Whether this is 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12.
fn is_guid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && text.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}
