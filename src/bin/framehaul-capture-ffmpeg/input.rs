//! A camera's stream as packets of its first video.

use std::ffi::CStr;
use std::fs::File;
use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ffmpeg_next::codec::packet::side_data;
use ffmpeg_next::codec::{self, Parameters};
use ffmpeg_next::{Dictionary, Error, Packet, Rational, Rescale as _, format, media};

use framehaul::capture::wire::{ChildSettings, Kind};
use framehaul::process::child::monotonic_ns;
use framehaul_avopen::Opened;

use crate::nal::Nal;

const MICROSECONDS: Rational = Rational(1, 1_000_000);

/// Packets in a row that may be unreadable, or of other streams, before the next look at the clock.
const MOST_IN_A_ROW: u32 = 10_000;

/// What each JPEG begins with.
const START_OF_IMAGE: [u8; 3] = [0xff, 0xd8, 0xff];
/// FFmpeg's name of JPEGs that follow on each other.
const JPEGS: &CStr = c"mjpeg";

/// Until when FFmpeg may be at what it is at, `CLOCK_MONOTONIC` in nanoseconds. It asks by a callback, from within
/// whatever it waits for.
#[derive(Clone, Debug, Default)]
struct Deadline(Arc<AtomicU64>);

impl Deadline {
    fn put(&self, within: Duration) {
        let nanos = u64::try_from(within.as_nanos()).unwrap_or(u64::MAX);
        self.0.store(monotonic_ns().saturating_add(nanos), Relaxed);
    }

    fn is_over(&self) -> bool {
        monotonic_ns() > self.0.load(Relaxed)
    }
}

/// A packet's times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Presentation, microseconds: from the beginning of a recording, else from an arbitrary start.
    pub pts_micros: Option<i64>,
    /// By the camera's own clock, Unix microseconds.
    pub wall_micros: Option<i64>,
}

/// How a stream is opened. The location may hold a password.
pub struct Opening {
    location: String,
    options: Vec<(String, String)>,
    open_timeout: Duration,
    read_timeout: Duration,
    timed: bool,
    /// Whether pictures come in pieces.
    streamed: bool,
    /// Whether it is a file.
    file: bool,
}

impl Opening {
    /// As the daemon wants it.
    pub fn new(settings: &ChildSettings) -> Self {
        Self {
            location: settings.location_with_credentials(),
            options: settings.options.clone(),
            open_timeout: Duration::from_millis(settings.open_timeout_ms),
            read_timeout: Duration::from_millis(settings.read_timeout_ms),
            // FFmpeg counts the parts of a multipart answer at 25 a second, however fast they come.
            timed: settings.kind != Kind::Http,
            streamed: settings.kind == Kind::Rtsp,
            file: settings.kind == Kind::File,
        }
    }

    /// Opens the stream.
    ///
    /// # Errors
    ///
    /// FFmpeg's: [`Error::Exit`] where it took too long.
    pub fn open(&self) -> Result<Input, Error> {
        let deadline = Deadline::default();
        deadline.put(self.open_timeout);
        let mut options = Dictionary::new();
        for (name, value) in &self.options {
            options.set(name, value);
        }
        let asked = deadline.clone();
        // FFmpeg goes by the name of such a file, and takes it for one of a numbered sequence, whose others it reads, too.
        let format = (self.file && self.begins_as_jpeg()).then_some(JPEGS);
        let Opened { context, in_pieces, start_micros } =
            framehaul_avopen::open(&self.location, format, options, move || asked.is_over(), self.streamed)?;
        let best = context.streams().best(media::Type::Video).ok_or(Error::StreamNotFound)?;
        let (stream, time_base) = (best.index(), best.time_base());
        // JPEGs come whole. Of others only FFmpeg knows how to put them together.
        let pieces_of = Nal::of(best.parameters().id()).filter(|_| in_pieces);
        let read_timeout = self.read_timeout;
        // A recorder's may begin at any time of the day, or count since it was switched on.
        let start_micros = start_micros.filter(|_| self.file).unwrap_or_default();
        Ok(Input { context, deadline, read_timeout, stream, time_base, timed: self.timed, start_micros, pieces_of })
    }

    /// What cannot be read is FFmpeg's to tell of.
    fn begins_as_jpeg(&self) -> bool {
        let mut start = [0; START_OF_IMAGE.len()];
        File::open(&self.location).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == START_OF_IMAGE
    }
}

/// An open stream.
pub struct Input {
    context: format::context::Input,
    deadline: Deadline,
    read_timeout: Duration,
    stream: usize,
    time_base: Rational,
    /// Whether the pictures carry times of their own.
    timed: bool,
    /// What times count from.
    start_micros: i64,
    pieces_of: Option<Nal>,
}

impl Input {
    /// What the pictures consist of, if each packet is a piece of one only.
    pub fn pieces_of(&self) -> Option<Nal> {
        self.pieces_of
    }

    /// The codec's parameters.
    pub fn parameters(&self) -> Parameters {
        self.stream().parameters()
    }

    /// The codec.
    pub fn codec(&self) -> codec::Id {
        self.stream().parameters().id()
    }

    /// Pictures a second as the stream declares them; 0 where it does not say.
    pub fn fps(&self) -> f64 {
        let stream = self.stream();
        [stream.avg_frame_rate(), stream.rate()]
            .into_iter()
            .filter(|rate| rate.numerator() > 0 && rate.denominator() > 0)
            .map(f64::from)
            .find(|fps| *fps < 1_000.0)
            .unwrap_or_default()
    }

    fn stream(&self) -> format::stream::Stream<'_> {
        self.context.stream(self.stream).expect("a stream stays while its context is open")
    }

    /// A picture has been read: the time for the next one begins.
    pub fn expect_next(&mut self) {
        self.deadline.put(self.read_timeout);
    }

    /// Waits for the next packet of the video.
    ///
    /// # Errors
    ///
    /// FFmpeg's: [`Error::Eof`] at the end, [`Error::Exit`] where the next picture did not come in time.
    pub fn read(&mut self, packet: &mut Packet) -> Result<(), Error> {
        for _ in 0..MOST_IN_A_ROW {
            // FFmpeg writes over what it is given, and would leave a packet's bytes to nobody.
            *packet = Packet::empty();
            match packet.read(&mut self.context) {
                Ok(()) if packet.stream() == self.stream => return Ok(()),
                // Of another stream, or one that a demuxer cannot make sense of: it goes on after it.
                Ok(()) | Err(Error::InvalidData) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::InvalidData)
    }

    /// When the pictures in a packet were taken.
    pub fn times(&self, packet: &Packet) -> Times {
        let pts = packet.pts().or(packet.dts()).filter(|_| self.timed);
        Times {
            pts_micros: pts.map(|pts| pts.rescale(self.time_base, MICROSECONDS) - self.start_micros),
            wall_micros: packet.side_data().find_map(|data| match data.kind() {
                side_data::Type::PRFT => reference_time(data.data()),
                _ => None,
            }),
        }
    }

    /// Goes on where the container finds this presentation time or one before it, and returns whether it finds anything.
    /// If not, the stream stands anywhere.
    pub fn go_to(&mut self, pts_micros: i64) -> bool {
        self.expect_next();
        let target = pts_micros.saturating_add(self.start_micros);
        self.context.seek(target, ..target).is_ok()
    }

    /// The stream's unit of time.
    pub fn time_base(&self) -> Rational {
        self.time_base
    }
}

/// FFmpeg's `AVProducerReferenceTime`: microseconds since 1970 as an `int64_t`, and flags. From RTP it comes of the
/// camera's sender reports (RFC 3550, 6.4.1), once there was one.
fn reference_time(data: &[u8]) -> Option<i64> {
    data.first_chunk().map(|bytes| i64::from_ne_bytes(*bytes)).filter(|micros| *micros > 0)
}
