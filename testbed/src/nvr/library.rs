//! What has been recorded.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;

use super::clock;
use super::media::{Container, Media, Reel};
use super::program_stream;
use super::sound::Law;
use super::uri::Part;
use crate::clip::{ClipSpec, Codec};
use crate::mark::Mark;

/// The most pictures that a channel's clip has.
const CLIP_PICTURES: usize = u16::MAX as usize;

/// What a channel has recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// What its camera is called.
    pub name: String,
    /// Files on the track of its main stream, one after the other. Its sub stream has none.
    pub recordings: u32,
    /// When the first one begins, as `2026-11-19T00:00:00` in UTC.
    pub begin: String,
    /// From the begin of one to the begin of the next, in seconds.
    pub each_s: u32,
    /// Pictures in each: whole seconds of them. The mark's camera is the channel's number, and its counter goes on from
    /// one recording to the next, until the clip of 65,535 at most is over.
    pub pictures: u16,
    /// Pictures per second: with `each_s` times as many pictures a recording plays as long as it took.
    pub fps: u32,
    /// Their compression.
    pub codec: Codec,
    /// How they are packed.
    pub container: Container,
    /// The sound that program streams hold, if any; an MP4 holds none, and a playback has none.
    pub sound: Option<Law>,
    /// Pictures on the channel's third track, as far apart as recordings begin; their counters are those of their order.
    pub photos: u32,
    /// The least size of a file: what is missing is made up, see [`Container`].
    pub least_bytes: u64,
}

impl Default for Channel {
    /// A camera that has recorded nothing.
    fn default() -> Channel {
        Channel {
            name: "Camera".into(),
            recordings: 0,
            begin: "2026-11-19T00:00:00".into(),
            each_s: 600,
            pictures: 10,
            fps: 5,
            codec: Codec::H264,
            container: Container::Ps,
            sound: None,
            photos: 0,
            least_bytes: 0,
        }
    }
}

/// One file.
#[derive(Clone, Debug)]
pub(super) struct Recording {
    pub(super) track: u32,
    pub(super) name: String,
    /// In UTC, as is its end.
    pub(super) begin: i64,
    pub(super) end: i64,
    pub(super) media: Media,
    /// The pictures in it, as they were encoded.
    pub(super) pictures: Arc<[Bytes]>,
    /// Whether it is a single picture, in JPEG.
    pub(super) photo: bool,
}

impl Recording {
    /// The picture of that number.
    fn photo(channel: u16, number: u32, begin: i64, of: &Channel) -> anyhow::Result<Recording> {
        let begin = begin + i64::from(number) * i64::from(of.each_s);
        Ok(Recording {
            track: u32::from(channel) * 100 + 3,
            name: format!("pic{channel:02}_{:017}", 8_001_213 + u64::from(number)),
            begin,
            end: begin + 1,
            media: Media::photo(Mark { camera: channel, counter: number, clip_frames: u16::MAX })?,
            pictures: Arc::default(),
            photo: true,
        })
    }

    /// When it ends, and how large it is, as far as it has come at that moment.
    pub(super) fn so_far(&self, now: i64) -> (i64, u64) {
        if now >= self.end {
            return (self.end, self.media.size());
        }
        let done = (now - self.begin).max(0) as u128;
        let bytes = u128::from(self.media.size()) * done / (self.end - self.begin) as u128;
        (now.max(self.begin), bytes as u64)
    }
}

/// All recordings, in the order of their tracks and times.
#[derive(Debug)]
pub(super) struct Library {
    pub(super) channels: Vec<Channel>,
    pub(super) recordings: Vec<Recording>,
    /// What each channel shows live, again and again: the pictures of its recordings. None where there are none.
    pub(super) live: Vec<Vec<Bytes>>,
}

impl Library {
    /// Makes what is missing in `cache_dir`, which takes a second for a thousand pictures.
    pub(super) fn record(channels: Vec<Channel>, cache_dir: &Path) -> anyhow::Result<Library> {
        ensure!(!channels.is_empty(), "a recorder without channels records nothing");
        let mut recordings = Vec::new();
        let mut live = vec![Vec::new(); channels.len()];
        let has_any = |channel: &Channel| channel.recordings > 0 || channel.photos > 0;
        for (index, channel) in channels.iter().enumerate().filter(|(_, channel)| has_any(channel)) {
            let number = u16::try_from(index + 1).context("too many channels")?;
            let of = || format!("channel {number}");
            let begin = clock::read(&channel.begin).with_context(of)?;
            ensure!(channel.each_s > 0, "channel {number}: recordings of no length");
            for photo in 0..channel.photos {
                recordings.push(Recording::photo(number, photo, begin, channel).with_context(of)?);
            }
            if channel.recordings == 0 {
                continue;
            }
            ensure!(channel.pictures > 0, "channel {number}: recordings without pictures");
            let pieces = (CLIP_PICTURES / usize::from(channel.pictures)).min(channel.recordings as usize);
            let clip = ClipSpec {
                camera: number,
                width: 320,
                height: 240,
                fps: channel.fps,
                gop: channel.fps,
                codec: channel.codec,
                seconds: (pieces * usize::from(channel.pictures)) as u32 / channel.fps.max(1),
            };
            let reel = Reel::cut(&clip, pieces as u16, channel.pictures, channel.container, channel.sound, cache_dir);
            let reel = reel.with_context(of)?;
            live[index] = (0..pieces as u64).flat_map(|piece| reel.pictures(piece).to_vec()).collect();
            recordings.extend((0..channel.recordings).map(|file| Recording {
                track: u32::from(number) * 100 + 1,
                name: format!("ch{number:02}_{:017}", 8_001_213 + u64::from(file)),
                begin: begin + i64::from(file) * i64::from(channel.each_s),
                end: begin + (i64::from(file) + 1) * i64::from(channel.each_s),
                pictures: reel.pictures(u64::from(file)),
                media: reel.recording(u64::from(file), channel.least_bytes),
                photo: false,
            }));
        }
        Ok(Library { channels, recordings, live })
    }

    /// The tracks there are: a main and a sub stream for each channel.
    pub(super) fn tracks(&self) -> impl Iterator<Item = (u32, &Channel)> {
        (1..)
            .zip(&self.channels)
            .flat_map(|(number, channel)| [(number * 100 + 1, channel), (number * 100 + 2, channel)])
    }

    /// What a track has between two moments, in order.
    pub(super) fn between(&self, track: u32, from: i64, to: i64) -> impl Iterator<Item = &Recording> {
        self.recordings.iter().filter(move |file| file.track == track && file.begin < to && file.end > from)
    }

    /// The channel that a track belongs to, which must be one of ours.
    pub(super) fn channel(&self, track: u32) -> &Channel {
        &self.channels[track as usize / 100 - 1]
    }

    /// A part of a recording. An MP4 is whole: it cannot be cut without being packed anew.
    pub(super) fn cut(&self, part: &Part) -> Media {
        let file = &self.recordings[part.place];
        let channel = self.channel(file.track);
        if part.pictures == (0..file.pictures.len()) || channel.container == Container::Mp4 {
            return file.media.clone();
        }
        let pictures = file.pictures[part.pictures.clone()].iter().enumerate();
        let pictures = pictures.map(|(place, unit)| (&unit[..], place.is_multiple_of(channel.fps as usize)));
        file.media.behind_head(program_stream::mux(pictures, channel.codec, channel.fps, channel.sound))
    }

    pub(super) fn find(&self, track: u32, name: &str) -> Option<&Recording> {
        self.recordings.iter().find(|file| file.track == track && file.name == name)
    }
}
