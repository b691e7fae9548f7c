//! A recording as packets of its pictures and its sound.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ffmpeg_next::codec::{self, Parameters};
use ffmpeg_next::format::context::StreamIo;
use ffmpeg_next::{Dictionary, Error, Packet, Rational, Rescale as _, format, media};

use framehaul::media::child::Counters;
use framehaul::media::{MediaError, MediaErrorKind, Record};
use framehaul::process::child::monotonic_ns;
use framehaul_avopen::parameters::extradata;

use crate::io::{Meter, Metered, Trouble};
use crate::timeline::Times;

/// Microseconds, in which all times are counted here.
pub const MICROSECONDS: Rational = Rational(1, 1_000_000);

/// Containers in which a file may come. None of them names other files, as playlists do.
const CONTAINERS: &str = "mpeg,mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,h264,hevc,flv,mpegvideo";

/// Bytes that are handed to FFmpeg at once.
const CHUNK: usize = 256 << 10;

/// The packets of a file may have so many times its bytes, and so many bytes more: an index may name the same ones for every
/// picture, and a small file fill a disk.
const MOST_TIMES: u64 = 2;
const MOST_MORE: u64 = 64 << 20;

/// Pieces in a row that FFmpeg could not read and goes on after.
const MOST_UNREADABLE: u32 = 10_000;

/// Pictures at the begin whose time of decoding may be unknown: as many as H.264 and H.265 let a decoder hold back.
const MOST_UNTIMED: usize = 16;

/// Packets that are read to find the first such time.
const MOST_AHEAD: usize = 256;

/// Packets that may wait before one that comes over TCP: none comes out of order, but without a queue FFmpeg does not look
/// at the numbers, and tells nobody of what was left out.
const REORDER: &str = "2";

/// Whether a packet belongs to the pictures or to the sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A picture.
    Picture,
    /// A piece of sound.
    Sound,
}

/// What all inputs that are joined must have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    codec: codec::Id,
    size: (u32, u32),
    /// The codec's head, where the container has it once for all pictures (ISO 14496-15); elsewhere it stands before the
    /// key frames.
    head: Option<Vec<u8>>,
}

/// What the sound of all inputs that are joined must have in common: its codec, samples a second, and channels.
pub type SoundShape = (codec::Id, u32, u16);

/// What comes next.
pub enum Next {
    /// A packet.
    Packet(Kind, Packet),
    /// Nothing more.
    End,
    /// Nothing more, because the rest cannot be read.
    Broken(String),
}

/// An open recording.
pub struct Input {
    context: format::context::Input,
    trouble: Trouble,
    video: usize,
    sound: Option<usize>,
    /// What was read to find the first time of decoding; `None` before that.
    ahead: Option<VecDeque<Next>>,
    /// Until when the next picture must have come, and how long that is, where somebody else sends them.
    deadline: Option<(Deadline, Duration)>,
    /// Pieces that could not be read.
    unreadable: u64,
    /// Bytes that its packets may still have.
    left: u64,
}

impl Input {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// Where there is none, or it is no recording.
    pub fn file(path: &Path, counters: &Arc<Counters>) -> Result<Self, MediaError> {
        Self::metered(path, Meter::new(counters, |counters| &counters.read))
    }

    /// Opens a file, and moves this counter.
    ///
    /// # Errors
    ///
    /// Where there is none, or it is no recording.
    pub fn metered(path: &Path, meter: Meter) -> Result<Self, MediaError> {
        let unusable = |what: &dyn std::fmt::Display| {
            MediaError::new(MediaErrorKind::Input, format!("cannot read {}: {what}", path.display()))
        };
        let file = File::open(path).map_err(|error| unusable(&error))?;
        let size = file.metadata().map_err(|error| unusable(&error))?.len();
        let trouble = Trouble::default();
        let metered = Metered::new(file, meter, trouble.clone());
        let io = StreamIo::from_read_seek_with_capacity(metered, CHUNK).map_err(|error| unusable(&error))?;
        let mut options = Dictionary::new();
        // No file and no server: what FFmpeg reads is in its hands already.
        options.set("protocol_whitelist", "none");
        options.set("format_whitelist", CONTAINERS);
        let context = format::input_from_stream(io, None, Some(options))
            .map_err(|error| unusable(&trouble.take().map_or_else(|| error.to_string(), |error| error.to_string())))?;
        let opened = Self::of(context, trouble).ok_or_else(|| unusable(&"there are no pictures in it"))?;
        Ok(Self { left: size.saturating_mul(MOST_TIMES).saturating_add(MOST_MORE), ..opened })
    }

    /// Asks a recorder for a playback.
    ///
    /// # Errors
    ///
    /// Where it does not begin; the reasons stand on standard error.
    pub fn playback(job: &Record) -> Result<Self, MediaError> {
        let refused = |what: &str| {
            MediaError::new(MediaErrorKind::Unreachable, format!("the recorder does not play it back: {what}"))
        };
        let host = job.url.strip_prefix("rtsp://").and_then(|rest| rest.split('/').next());
        if host.is_none_or(|host| host.contains('@')) {
            let message = "a playback's URL begins with rtsp:// and has no user in it";
            return Err(MediaError::new(MediaErrorKind::Input, message));
        }
        let timeout = job.patience.as_micros().to_string();
        let mut options = Dictionary::new();
        for (name, value) in [
            ("rtsp_transport", "tcp"),
            ("timeout", &*timeout),
            ("protocol_whitelist", "rtsp,rtp,rtcp,udp,tcp"),
            ("fpsprobesize", "0"),
            ("reorder_queue_size", REORDER),
            ("allowed_media_types", "video+audio"),
        ] {
            options.set(name, value);
        }
        let deadline = Deadline::default();
        deadline.put(job.patience);
        let asked = deadline.clone();
        let location = job.location_with_credentials();
        let opened = format::input_with_interrupt_and_dictionary(
            secrecy::ExposeSecret::expose_secret(&location),
            move || asked.is_over(),
            options,
        );
        // FFmpeg's own sentence stands on standard error, where secrets are taken out of it.
        let context = opened.map_err(|error| refused(&error.to_string()))?;
        let opened = Self::of(context, Trouble::default()).ok_or_else(|| refused("there are no pictures in it"))?;
        deadline.put(job.patience);
        Ok(Self { deadline: Some((deadline, job.patience)), ..opened })
    }

    fn of(context: format::context::Input, trouble: Trouble) -> Option<Self> {
        let video = context.streams().best(media::Type::Video)?.index();
        let sound = context.streams().best(media::Type::Audio).map(|stream| stream.index());
        Some(Self { context, trouble, video, sound, ahead: None, deadline: None, unreadable: 0, left: u64::MAX })
    }

    fn index(&self, kind: Kind) -> Option<usize> {
        match kind {
            Kind::Picture => Some(self.video),
            Kind::Sound => self.sound,
        }
    }

    fn stream(&self, kind: Kind) -> Option<format::stream::Stream<'_>> {
        self.index(kind).and_then(|index| self.context.stream(index))
    }

    /// The codec's parameters, as a copy.
    pub fn parameters(&self, kind: Kind) -> Option<Parameters> {
        self.stream(kind).map(|stream| stream.parameters().clone())
    }

    /// The unit of time.
    pub fn time_base(&self, kind: Kind) -> Rational {
        self.stream(kind).map_or(MICROSECONDS, |stream| stream.time_base())
    }

    /// When the pictures begin, if that is known before they are read, microseconds.
    pub fn begin(&self) -> Option<i64> {
        let stream = self.stream(Kind::Picture)?;
        // FFmpeg's word for a time that it does not know is the least there is.
        Some(stream.start_time())
            .filter(|time| *time != i64::MIN)
            .map(|time| time.rescale(stream.time_base(), MICROSECONDS))
    }

    /// How many packets the container says that there are; `None` where it does not.
    pub fn promised(&self, kind: Kind) -> Option<u64> {
        self.stream(kind).and_then(|stream| u64::try_from(stream.frames()).ok()).filter(|count| *count > 0)
    }

    /// What was passed over because it could not be read, if anything, as a sentence.
    pub fn unreadable(&self) -> Option<String> {
        (self.unreadable > 0).then(|| format!("{} pieces of it cannot be read", self.unreadable))
    }

    /// Whether it is a program stream, of which the container says nothing of its own.
    pub fn is_program_stream(&self) -> bool {
        self.context.format().name() == "mpeg"
    }

    /// What others that are joined to this one must have as well.
    ///
    /// # Errors
    ///
    /// FFmpeg's, for parameters that are none.
    pub fn shape(&self) -> Result<Shape, Error> {
        let parameters = self.parameters(Kind::Picture).ok_or(Error::StreamNotFound)?;
        let (codec, head) = (parameters.id(), extradata(&parameters));
        let in_container = matches!(codec, codec::Id::H264 | codec::Id::HEVC) && head.first() == Some(&1);
        let video = codec::Context::from_parameters(parameters)?.encoder().video()?;
        Ok(Shape { codec, size: (video.width(), video.height()), head: in_container.then_some(head) })
    }

    /// What the sound is, if there is any.
    pub fn sound_shape(&self) -> Option<SoundShape> {
        let parameters = self.parameters(Kind::Sound)?;
        let codec = parameters.id();
        let sound = codec::Context::from_parameters(parameters).ok()?.encoder().audio().ok()?;
        Some((codec, sound.rate(), sound.channels()))
    }

    /// The next packet that is a picture or sound.
    pub fn next(&mut self) -> Next {
        if self.ahead.is_none() {
            let ahead = self.look_ahead();
            self.ahead = Some(ahead);
        }
        self.ahead.as_mut().and_then(VecDeque::pop_front).unwrap_or_else(|| self.read())
    }

    /// Where pictures are shown in another order than they are decoded in, FFmpeg does not know when the first ones are
    /// decoded before it has seen as many as wait for one another. From there it is counted back.
    fn look_ahead(&mut self) -> VecDeque<Next> {
        let mut ahead = VecDeque::new();
        let mut untimed = 0;
        let known = loop {
            let next = self.read();
            let known = match &next {
                Next::Packet(Kind::Picture, packet) => packet.dts().map(|dts| (dts, packet.duration().max(1))),
                Next::Packet(Kind::Sound, _) => None,
                Next::End | Next::Broken(_) => {
                    ahead.push_back(next);
                    break None;
                }
            };
            untimed += usize::from(known.is_none() && matches!(next, Next::Packet(Kind::Picture, _)));
            ahead.push_back(next);
            if known.is_some() || untimed > MOST_UNTIMED || ahead.len() > MOST_AHEAD {
                break known;
            }
        };
        if let Some((mut dts, length)) = known {
            for next in ahead.iter_mut().rev().skip(1) {
                if let Next::Packet(Kind::Picture, packet) = next {
                    dts -= length;
                    packet.set_dts(Some(dts));
                }
            }
        }
        ahead
    }

    fn read(&mut self) -> Next {
        let mut in_a_row = 0;
        loop {
            let mut packet = Packet::empty();
            let read = packet.read(&mut self.context);
            match self.left.checked_sub(packet.size() as u64) {
                Some(left) => self.left = left,
                None => return Next::Broken("its packets have more bytes than it has itself".to_owned()),
            }
            match read {
                Ok(()) if packet.stream() == self.video => {
                    // Sound alone is no sign of life: it would go on for ever.
                    if let Some((deadline, patience)) = &self.deadline {
                        deadline.put(*patience);
                    }
                    return Next::Packet(Kind::Picture, packet);
                }
                Ok(()) if Some(packet.stream()) == self.sound => return Next::Packet(Kind::Sound, packet),
                Ok(()) => {}
                Err(Error::Eof) => {
                    return self.trouble.take().map_or(Next::End, |error| Next::Broken(error.to_string()));
                }
                Err(Error::Exit) => return Next::Broken("no picture came in time".to_owned()),
                Err(Error::InvalidData) if in_a_row < MOST_UNREADABLE => {
                    in_a_row += 1;
                    self.unreadable += 1;
                }
                Err(error) => {
                    return Next::Broken(
                        self.trouble.take().map_or_else(|| error.to_string(), |error| error.to_string()),
                    );
                }
            }
        }
    }

    /// A packet's times, microseconds.
    pub fn times(&self, kind: Kind, packet: &Packet) -> Times {
        let unit = self.time_base(kind);
        let micros = |time: i64| time.rescale(unit, MICROSECONDS);
        Times { pts: packet.pts().map(micros), dts: packet.dts().map(micros), length: micros(packet.duration()).max(0) }
    }
}

/// Until when FFmpeg may be at what it is at, `CLOCK_MONOTONIC` in nanoseconds.
#[derive(Clone, Debug, Default)]
struct Deadline(Arc<std::sync::atomic::AtomicU64>);

impl Deadline {
    /// So much time from now on.
    fn put(&self, within: Duration) {
        let nanos = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        self.0.store(monotonic_ns().saturating_add(nanos), std::sync::atomic::Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        monotonic_ns() > self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}
