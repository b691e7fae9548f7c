//! Who is there: identity, limits, tracks, days. Each page of a recorder may be refused, and then another one may do.

use std::collections::HashMap;

use super::Hikvision;
use super::client::Call;
use super::xml::{Element, around, leaf};
use crate::nvr::{Abilities, Channel, Days, Identity, Month, RecorderError, RecorderErrorKind, StreamKind, Track};

/// Tracks of a recorder, at most: ten times what the largest have.
const MOST_TRACKS: usize = 10_000;

/// What a recorder says of its searches and downloads, or what is usual.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Limits {
    pub(super) page: u32,
    searches: u32,
    by_file: bool,
    by_time: bool,
}

impl Hikvision {
    /// Who the recorder is and what it can do, asked once.
    pub(super) async fn known(&self) -> Result<&(Identity, Abilities), RecorderError> {
        let ask = || async {
            let identity = self.identity.get_or_try_init(|| self.ask_identity()).await?;
            let limits = self.limits.get_or_try_init(|| self.ask_limits()).await?;
            let abilities = Abilities {
                search_page: limits.page,
                searches: limits.searches,
                by_file: limits.by_file,
                by_time: limits.by_time,
                clock: self.ask_clock().await?,
            };
            Ok((identity.clone(), abilities))
        };
        self.known.get_or_try_init(ask).await
    }

    async fn ask_identity(&self) -> Result<Identity, RecorderError> {
        let root = match self.client.xml(&Call::get("System/deviceInfo")).await {
            Ok(root) => root,
            // Users without the right to see it may have the right to play back.
            Err(error) if matches!(error.kind, RecorderErrorKind::Forbidden | RecorderErrorKind::Unsupported) => {
                Element::default()
            }
            Err(error) => return Err(error),
        };
        let text = |name| root.text(&[name]).map(shown).unwrap_or_default();
        Ok(Identity {
            name: text("deviceName"),
            model: text("model"),
            firmware: text("firmwareVersion"),
            serial: text("serialNumber"),
        })
    }

    async fn ask_limits(&self) -> Result<Limits, RecorderError> {
        let profile = self.optional("ContentMgmt/search/profile").await?.unwrap_or_default();
        let ability = self.optional("ContentMgmt/download/capabilities").await?.unwrap_or_default();
        let yes = |name: &str| ability.text(&[name]).map(|text| text.eq_ignore_ascii_case("true"));
        Ok(Limits {
            page: profile.number(&["maxSearchMatchResults"]).filter(|page| *page > 0).unwrap_or(64),
            searches: profile.number(&["maxConcurrentSearches"]).filter(|searches| *searches > 0).unwrap_or(1),
            by_file: yes("isSupportDownloadbyFileName").unwrap_or(true),
            by_time: yes("isSupportDownloadbyTime").unwrap_or(false),
        })
    }

    /// A page; `None` where the recorder has none, or not for us.
    pub(super) async fn optional(&self, page: &str) -> Result<Option<Element>, RecorderError> {
        match self.client.xml(&Call::get(page)).await {
            Ok(root) => Ok(Some(root)),
            Err(error) if is_missing(error.kind) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What is shown live: the inputs that it lists or, where it lists none, those that its tracks are of.
    pub(super) async fn list_channels(&self) -> Result<Vec<Channel>, RecorderError> {
        let known = self.names().await?;
        let mut channels: Vec<Channel> =
            known.into_iter().map(|(number, Known { name, online })| Channel { number, name, online }).collect();
        if channels.is_empty() {
            let tracks = self.list_tracks().await?;
            channels.extend(tracks.into_iter().map(|of| Channel {
                number: of.channel,
                name: of.name,
                online: of.online,
            }));
        }
        channels.sort_by_key(|channel| channel.number);
        channels.dedup_by_key(|channel| channel.number);
        channels.retain(|channel| channel.number > 0);
        Ok(channels)
    }

    pub(super) async fn list_tracks(&self) -> Result<Vec<Track>, RecorderError> {
        let names = self.names().await?;
        let refused = match self.client.xml(&Call::get("ContentMgmt/record/tracks")).await {
            Ok(root) => {
                let tracks = of_tracks(&root, &names);
                if !tracks.is_empty() {
                    return Ok(tracks);
                }
                None
            }
            Err(error) if is_missing(error.kind) => Some(error),
            Err(error) => return Err(error),
        };
        if !names.is_empty() {
            return Ok(of_channels(&names));
        }
        match self.client.xml(&Call::get("Streaming/channels")).await {
            Ok(root) => Ok(of_streams(&root)),
            Err(error) if !is_missing(error.kind) => Err(error),
            Err(error) => {
                let first = refused.unwrap_or(error);
                let message = format!("{}; name the tracks yourself: 101 is the first channel's", first.message);
                Err(RecorderError { message, ..first })
            }
        }
    }

    /// What the channels are called and whether their cameras are there, as far as anybody tells.
    async fn names(&self) -> Result<HashMap<u32, Known>, RecorderError> {
        let mut channels = HashMap::new();
        for (page, of) in [
            ("System/Video/inputs/channels", "VideoInputChannel"),
            ("ContentMgmt/InputProxy/channels", "InputProxyChannel"),
        ] {
            for element in self.optional(page).await?.iter().flat_map(|root| root.all(of)).take(MOST_TRACKS) {
                if let Some(id) = element.number(&["id"]) {
                    let name = element.text(&["name"]).map(shown).unwrap_or_default();
                    channels.insert(id, Known { name, online: None });
                }
            }
        }
        let status = self.optional("ContentMgmt/InputProxy/channels/status").await?;
        for element in status.iter().flat_map(|root| root.all("InputProxyChannelStatus")) {
            if let Some(channel) = element.number(&["id"]).and_then(|id: u32| channels.get_mut(&id)) {
                channel.online = element.text(&["online"]).map(|online| online.eq_ignore_ascii_case("true"));
            }
        }
        Ok(channels)
    }

    pub(super) async fn list_days(&self, track: &str, month: Month) -> Result<Option<Days>, RecorderError> {
        // It goes into a path.
        if !track.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Ok(None);
        }
        let within = leaf("year", &month.year.to_string()) + &leaf("monthOfYear", &month.month.to_string());
        let page = format!("ContentMgmt/record/tracks/{track}/dailyDistribution");
        let call = Call::post(&page, around("trackDailyParam", &within));
        match self.client.xml(&call).await {
            Ok(root) => Ok(of_days(&root)),
            Err(error) if is_missing(error.kind) || error.kind == RecorderErrorKind::Dialect => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A channel, as its camera's list tells of it.
struct Known {
    name: String,
    online: Option<bool>,
}

/// Whether a recorder has no such page, or not for us.
fn is_missing(kind: RecorderErrorKind) -> bool {
    matches!(kind, RecorderErrorKind::Forbidden | RecorderErrorKind::Unsupported | RecorderErrorKind::NotFound)
}

/// A name as it may be shown: without what a terminal would obey, and not endless.
pub(super) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(128).collect()
}

fn stream(id: u32) -> StreamKind {
    match id % 100 {
        1 => StreamKind::Main,
        2 => StreamKind::Sub,
        3 => StreamKind::Third,
        _ => StreamKind::Other,
    }
}

fn track(id: &str, channel: Option<u32>, codec: Option<String>, names: &HashMap<u32, Known>) -> Option<Track> {
    let id = Some(id).filter(|id| id.len() <= 16 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()))?;
    let number = id.parse().unwrap_or(0);
    let channel = channel.unwrap_or(number / 100);
    let known = names.get(&channel);
    Some(Track {
        id: id.to_owned(),
        channel,
        stream: stream(number),
        name: known.map(|known| known.name.clone()).unwrap_or_default(),
        online: known.and_then(|known| known.online),
        codec,
    })
}

/// The list that counts: its ids follow no rule, its `Channel` may repeat them, and `Enable` means nothing.
fn of_tracks(root: &Element, names: &HashMap<u32, Known>) -> Vec<Track> {
    let tracks = root.all("Track").take(MOST_TRACKS).filter_map(|element| {
        let source = element.number(&["SrcDescriptor", "SrcChannel"]).filter(|channel| *channel > 0);
        let description = element.text(&["Description"]).unwrap_or_default();
        let codec = description.split(',').find_map(|part| part.trim().strip_prefix("codecType=").map(shown));
        track(element.text(&["id"])?, source, codec, names)
    });
    tracks.collect()
}

/// Without that list: the main stream of each channel.
fn of_channels(names: &HashMap<u32, Known>) -> Vec<Track> {
    let mut channels: Vec<u32> = names.keys().copied().collect();
    channels.sort_unstable();
    channels.iter().filter_map(|of| track(&format!("{of}01"), Some(*of), None, names)).collect()
}

fn of_streams(root: &Element) -> Vec<Track> {
    let none = HashMap::new();
    let streams = root.all("StreamingChannel").take(MOST_TRACKS).filter_map(|element| {
        let codec = element.text(&["Video", "videoCodecType"]).map(shown);
        let name = element.text(&["channelName"]).map(shown).unwrap_or_default();
        Some(Track { name, ..track(element.text(&["id"])?, None, codec, &none)? })
    });
    streams.collect()
}

fn of_days(root: &Element) -> Option<Days> {
    let list = root.at(&["dayList"])?;
    let recorded = |day: &&Element| day.text(&["record"]).is_some_and(|record| record.eq_ignore_ascii_case("true"));
    let days = list.all("day").filter(recorded).filter_map(|day| day.number(&["dayOfMonth"]).or(day.number(&["id"])));
    Some(days.fold(Days::default(), Days::with))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Element {
        Element::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn quirk_28_tracks_are_those_that_the_list_names() {
        let root = read(
            "<TrackList xmlns='http://www.isapi.org/ver20/XMLSchema'>\
             <Track><id>101</id><Channel>101</Channel><Enable>false</Enable><SrcDescriptor><SrcChannel>1</SrcChannel>\
             </SrcDescriptor><Description>trackType=standard,contentType=video,codecType=H.264-BP,resolution=1x1\
             </Description></Track>\
             <Track><id>3401</id><Channel>3401</Channel><SrcDescriptor><SrcChannel>2</SrcChannel></SrcDescriptor></Track>\
             <Track><id>../../x</id></Track><Track/><Track><id>203</id></Track></TrackList>",
        );
        let channel = |name: &str| Known { name: name.into(), online: Some(true) };
        let names = HashMap::from([(1, channel("Gate")), (2, channel("Yard"))]);
        let tracks = of_tracks(&root, &names);
        let seen: Vec<_> = tracks.iter().map(|of| (of.id.as_str(), of.channel, of.name.as_str(), of.stream)).collect();
        assert_eq!(
            seen,
            [
                ("101", 1, "Gate", StreamKind::Main),
                ("3401", 2, "Yard", StreamKind::Main),
                ("203", 2, "Yard", StreamKind::Third)
            ]
        );
        assert_eq!((tracks[0].codec.as_deref(), tracks[1].codec.as_deref()), (Some("H.264-BP"), None));
    }

    #[test]
    fn days_are_those_with_recordings() {
        let root = read(
            "<trackDailyDistribution><dayList><day><id>1</id><dayOfMonth>1</dayOfMonth><record>false</record></day>\
             <day><id>2</id><dayOfMonth>31</dayOfMonth><record>true</record></day>\
             <day><id>99</id><record>true</record></day></dayList></trackDailyDistribution>",
        );
        let days = of_days(&root).unwrap();
        let all: Vec<u8> = (0..=255).filter(|day| days.contains(*day)).collect();
        assert_eq!(all, [31]);
        assert_eq!(of_days(&read("<x/>")), None);
    }
}
