//! The recorders of the demo: one an hour ahead of Greenwich, with a clock that is fast, and one five hours behind it, with
//! a clock that is slow.

use anyhow::Context as _;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, PrimitiveDateTime};

use crate::demo::screen::Screen;
use crate::nvr::{Channel, Knobs, NvrServer, Options, RecordingInfo};

/// Channels of each.
pub(super) const CHANNELS: u32 = 5;
/// Recordings of each channel, and minutes of each of them.
const RECORDINGS: u32 = 12;
const MINUTES: u32 = 10;
/// Tasks for each channel: the recordings are parted among them.
pub(super) const PARTS: u32 = 2;
/// The least size of each, bytes.
const LEAST_BYTES: u64 = 256 << 10;
/// Downloads from each at a time.
pub(super) const SESSIONS: u32 = 2;
/// The only user of both, and its password.
pub(super) const LOGIN: (&str, &str) = ("export", "demo pass/%40");

/// A recorder.
#[derive(Debug)]
pub(super) struct Recorder {
    pub(super) server: NvrServer,
    /// What it is called.
    pub(super) name: &'static str,
    /// What its wall shows beyond UTC.
    offset: Duration,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Recorders {
    pub(super) all: [Recorder; 2],
    /// When the first recording of each channel begins, in UTC.
    begin: PrimitiveDateTime,
}

impl Recorders {
    /// Starts them, so slow that all of it takes about half of `seconds`.
    pub(super) fn start(seconds: u64, screen: &mut Screen) -> anyhow::Result<Self> {
        let today = OffsetDateTime::now_utc().date();
        let begin = PrimitiveDateTime::new(today, time::Time::MIDNIGHT) - Duration::days(1);
        screen.say("two recorders record what their cameras show");
        let mut start = |name, zone: &str, hours, clock_ahead_s: i64| {
            let per_recorder = u64::from(CHANNELS * RECORDINGS) * LEAST_BYTES;
            let bytes_per_s = per_recorder * 2 / seconds / u64::from(SESSIONS);
            let knobs = Knobs {
                zone: zone.to_owned(),
                clock_ahead_s,
                sessions: Some(SESSIONS),
                bytes_per_s: Some(bytes_per_s.max(1)),
                ..Knobs::default()
            };
            let text = begin.format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]"));
            let text = text.context("cannot write a date")?;
            let channel = |number| Channel {
                name: format!("{name} {number}"),
                recordings: RECORDINGS,
                begin: text.clone(),
                each_s: MINUTES * 60,
                least_bytes: LEAST_BYTES,
                ..Channel::default()
            };
            let (user, password) = (LOGIN.0.to_owned(), LOGIN.1.to_owned());
            let channels = (1..=CHANNELS).map(channel).collect();
            let server = NvrServer::start(Options { user, password, channels, knobs, ..Options::default() })?;
            let offset = Duration::hours(hours);
            let (sign, by) = if clock_ahead_s < 0 { ("slow", -clock_ahead_s) } else { ("fast", clock_ahead_s) };
            screen.say(&format!("recorder {name} is {}, UTC{hours:+}, its clock {by} s {sign}", server.host()));
            anyhow::Ok(Recorder { server, name, offset })
        };
        let all = [start("gate", "CST-1:00:00", 1, 95)?, start("yard", "EST5:00:00", -5, -40)?];
        Ok(Self { all, begin })
    }

    /// What the wall of a recorder shows when a part of its recordings begins; the last one ends where another would begin.
    pub(super) fn wall(&self, recorder: &Recorder, part: u32) -> PrimitiveDateTime {
        self.begin + recorder.offset + Duration::minutes(i64::from(part * RECORDINGS / PARTS * MINUTES))
    }
}

impl Recorder {
    /// Where a recording is to lie, below the place for all.
    pub(super) fn path(&self, recording: &RecordingInfo) -> anyhow::Result<String> {
        let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
        let begin = PrimitiveDateTime::parse(&recording.begin, form).context("a recording begins at no time")?;
        let digits = (begin + self.offset).format(format_description!("[year][month][day][hour][minute][second]"));
        let digits = digits.context("cannot write a date")?;
        Ok(format!("{}/{digits}-{}.mp4", self.server.host().replace(':', "_"), recording.track))
    }
}
