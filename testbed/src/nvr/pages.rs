//! What describes the recorder: its name, its clock, its channels and tracks, what it can do.

use std::collections::BTreeSet;

use super::call::Page;
use super::clock;
use super::knobs::{ClockMode, Knobs};
use super::library::{Channel, Library};
use super::refusal::Refusal;
use super::xml::{Document, Writer};
use crate::clip::Codec;

/// What a page is written from.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) knobs: &'a Knobs,
    pub(super) library: &'a Library,
    /// Where we listen.
    pub(super) port: u16,
}

impl About<'_> {
    /// Writes a page.
    pub(super) fn page(self, page: Page) -> Result<String, Refusal> {
        if page == Page::Channels && self.knobs.no_channels {
            return Err(Refusal::FORBIDDEN);
        }
        let (root, write): (_, fn(Self, &mut Writer)) = match page {
            Page::UserCheck => ("userCheck", Self::user_check),
            Page::DeviceInfo => ("DeviceInfo", Self::device_info),
            Page::Status => ("DeviceStatus", Self::status),
            Page::Capabilities => ("DeviceCap", Self::capabilities),
            Page::Time => ("Time", Self::time),
            Page::Ports => ("AdminAccessProtocolList", Self::ports),
            Page::Channels => ("StreamingChannelList", Self::channels),
            Page::Cameras => ("InputProxyChannelList", Self::cameras),
            Page::CamerasStatus => ("InputProxyChannelStatusList", Self::cameras_status),
            // It has no analog inputs.
            Page::Inputs => ("VideoInputChannelList", |_, _| ()),
            Page::Tracks => ("TrackList", Self::tracks),
            Page::SearchProfile => ("CMSearchProfile", Self::search_profile),
            Page::DownloadAbility => ("DownloadAbility", Self::download_ability),
            Page::Storage => ("storage", Self::storage),
        };
        Ok(Writer::document(root, &self.knobs.namespace, |document| write(self, document)))
    }

    fn user_check(self, out: &mut Writer) {
        out.leaf("statusValue", 200);
        out.leaf("statusString", "OK");
    }

    fn device_info(self, out: &mut Writer) {
        for (name, value) in [
            ("deviceName", "Testbed recorder"),
            ("deviceID", "48443030-3030-3030-3030-000000000001"),
            ("model", "DS-7616NI-K2"),
            ("serialNumber", "DS-7616NI-K21620200101CCRRE00000001WCVU"),
            ("macAddress", "00:00:5e:00:53:01"),
            ("firmwareVersion", "V4.84.101"),
            ("firmwareReleasedDate", "build 240105"),
            ("deviceType", "NVR"),
        ] {
            out.leaf(name, value);
        }
    }

    fn status(self, out: &mut Writer) {
        out.leaf("currentDeviceTime", self.local_time());
        out.leaf("deviceUpTime", 86_400);
    }

    fn capabilities(self, out: &mut Writer) {
        out.open("SysCap", |system| system.open("VideoCap", |video| video.leaf("videoInputPortNums", 0)));
        out.open("RacmCap", |recording| recording.leaf("inputProxyNums", self.library.channels.len()));
    }

    /// What the wall shows, and how far it says that it is from Greenwich.
    fn local_time(self) -> String {
        let (zone, now) = (self.knobs.zone(), self.knobs.now());
        let told = self.knobs.told_zone();
        let offset = if self.knobs.offset_lies { told.standard() } else { told.offset(now) };
        let sign = if offset < 0 { '-' } else { '+' };
        let (hours, minutes) = (offset.abs() / 3600, offset.abs() / 60 % 60);
        format!("{}{sign}{hours:02}:{minutes:02}", clock::show(zone.wall(now)))
    }

    fn time(self, out: &mut Writer) {
        out.leaf("timeMode", "manual");
        out.leaf("localTime", self.local_time());
        out.leaf("timeZone", self.knobs.told_zone());
    }

    fn ports(self, out: &mut Writer) {
        for (id, protocol) in [(1, "HTTP"), (2, "RTSP")] {
            out.open("AdminAccessProtocol", |port| {
                port.leaf("id", id);
                port.leaf("enabled", true);
                port.leaf("protocol", protocol);
                port.leaf("portNo", self.port);
            });
        }
    }

    fn channels(self, out: &mut Writer) {
        for (track, channel) in self.library.tracks().filter(|(track, _)| self.knobs.has_channel(track / 100)) {
            out.open("StreamingChannel", |stream| {
                stream.leaf("id", track);
                stream.leaf("channelName", &channel.name);
                stream.leaf("enabled", true);
                stream.open("Video", |video| {
                    video.leaf("enabled", true);
                    video.leaf("videoInputChannelID", track / 100);
                    video.leaf("videoCodecType", codec(channel));
                    video.leaf("videoResolutionWidth", 320);
                    video.leaf("videoResolutionHeight", 240);
                    video.leaf("maxFrameRate", channel.fps * 100);
                });
            });
        }
    }

    fn cameras(self, out: &mut Writer) {
        for (id, channel) in (1..).zip(&self.library.channels).filter(|(id, _)| self.knobs.has_channel(*id)) {
            out.open("InputProxyChannel", |camera| {
                camera.leaf("id", id);
                camera.leaf("name", &channel.name);
                camera.open("sourceInputPortDescriptor", |source| {
                    source.leaf("proxyProtocol", "HIKVISION");
                    source.leaf("addressingFormatType", "ipaddress");
                    source.leaf("ipAddress", format!("192.0.2.{}", 10 + id));
                    source.leaf("managePortNo", 8000);
                    source.leaf("srcInputPort", 1);
                    source.leaf("model", "DS-2CD2185FWD-I");
                    source.leaf("serialNumber", format!("DS-2CD2185FWD-I20200101AAWR{id:09}"));
                });
            });
        }
    }

    fn cameras_status(self, out: &mut Writer) {
        for id in (1..=self.library.channels.len() as u32).filter(|id| self.knobs.has_channel(*id)) {
            out.open("InputProxyChannelStatus", |camera| {
                camera.leaf("id", id);
                camera.leaf("online", true);
                camera.leaf("chanDetectResult", "connect");
            });
        }
    }

    fn tracks(self, out: &mut Writer) {
        for (id, channel) in self.library.tracks().filter(|(id, _)| self.knobs.has_channel(id / 100)) {
            out.open("Track", |track| {
                track.leaf("id", id);
                // It repeats the track, as firmware 4.84 does: `SrcChannel` is the input.
                track.leaf("Channel", id);
                track.leaf("Enable", true);
                track.leaf(
                    "Description",
                    format!(
                        "trackType=standard,contentType=video,codecType={},resolution=320x240,framerate={}.0 fps",
                        codec_type(channel.codec),
                        channel.fps
                    ),
                );
                track.open("SrcDescriptor", |source| source.leaf("SrcChannel", id / 100));
                track.leaf("DefaultRecordingMode", "CMR");
            });
        }
    }

    fn search_profile(self, out: &mut Writer) {
        out.leaf("searchProfile", "full");
        out.leaf("textSearch", false);
        out.leaf("maxSearchTimespans", 1);
        out.leaf("maxSearchTracks", 16);
        out.leaf("maxSearchMatchResults", self.knobs.page);
        out.leaf("maxConcurrentSearches", self.knobs.searches_at_once.unwrap_or(1));
    }

    fn download_ability(self, out: &mut Writer) {
        out.leaf("isSupportDownloadbyFileName", self.knobs.no_by_file == self.knobs.abilities_lie);
        out.leaf("isSupportDownloadbyTime", self.knobs.by_time != self.knobs.abilities_lie);
    }

    fn storage(self, out: &mut Writer) {
        out.open("hddList", |list| {
            list.open("hdd", |disk| {
                disk.leaf("id", 1);
                disk.leaf("hddName", "hdd1");
                disk.leaf("status", "ok");
                disk.leaf("capacity", 1_907_729);
                disk.leaf("freeSpace", 0);
            });
        });
    }

    /// The days of a month on which a track has recordings.
    pub(super) fn days(self, track: u32, body: &[u8]) -> Result<String, Refusal> {
        let document = Document::read(body).map_err(|_| Refusal::BAD_FORMAT)?;
        let number = |name| document.root.text(&[name]).and_then(|text| text.parse::<i32>().ok());
        let (Some(year), Some(month @ 1..=12)) = (number("year"), number("monthOfYear")) else {
            return Err(Refusal::BAD_CONTENT);
        };
        let (zone, now) = (self.knobs.zone(), self.knobs.now());
        let shown = |moment| match self.knobs.clock {
            ClockMode::Wall => zone.wall(moment),
            ClockMode::Utc => moment,
        };
        let mut days = BTreeSet::new();
        for file in self.library.between(track, i64::MIN, now) {
            let (first, last) = (shown(file.begin), shown(file.so_far(now).0 - 1));
            days.extend((first..=last).step_by(86_400).chain([last]).map(clock::day));
        }
        let in_month = days.into_iter().filter(|day| (day.0, i32::from(day.1)) == (year, month));
        Ok(Writer::document("trackDailyDistribution", &self.knobs.namespace, |out| {
            out.open("dayList", |list| {
                for (id, (_, _, day)) in (1..).zip(in_month) {
                    list.open("day", |entry| {
                        entry.leaf("id", id);
                        entry.leaf("dayOfMonth", day);
                        entry.leaf("record", true);
                        entry.leaf("recordType", "time");
                    });
                }
            });
        }))
    }
}

fn codec(channel: &Channel) -> &'static str {
    match channel.codec {
        Codec::H265 => "H.265",
        _ => "H.264",
    }
}

/// The same as searches and tracks say it.
pub(super) fn codec_type(codec: Codec) -> &'static str {
    match codec {
        Codec::H265 => "H.265-BP",
        _ => "H.264-BP",
    }
}
