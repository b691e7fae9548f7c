//! A camera's stream as packets of its first video.

use std::ffi::CStr;
use std::fs::{self, File};
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

/// What image files hold at their beginning, from which byte on, and FFmpeg's name for such pictures one after another. It
/// goes by a file's name first, and takes one with digits for one of a numbered sequence, whose others it reads as well.
const IMAGES: [(usize, &[u8], &CStr); 6] = [
    (0, b"\xff\xd8\xff", c"mjpeg"),
    (0, b"\x89PNG\r\n\x1a\n", c"png_pipe"),
    (0, b"BM", c"bmp_pipe"),
    (0, b"II*\0", c"tiff_pipe"),
    (0, b"MM\0*", c"tiff_pipe"),
    (8, b"WEBP", c"webp_pipe"),
];

/// FFmpeg's names of containers with an index.
const INDEXED: [&str; 3] = ["mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"];

/// No picture was taken so many microseconds from another one: 36,000 years. Times may be added and subtracted below it.
const BEYOND_ALL_YEARS: u64 = 1 << 60;

/// FFmpeg's word for a time that nobody knows.
const NO_TIME: i64 = i64::MIN;

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
    /// Whether it is a recording.
    recorded: bool,
    /// Whether it is a file with a beginning, to which one can go back: no pipe that has a name.
    plain_file: bool,
}

impl Opening {
    /// As the daemon wants it.
    pub fn new(settings: &ChildSettings) -> Self {
        let location = settings.location_with_credentials();
        let recorded = settings.kind == Kind::File;
        Self {
            plain_file: recorded && fs::metadata(&location).is_ok_and(|metadata| metadata.is_file()),
            location,
            options: settings.options.clone(),
            open_timeout: Duration::from_millis(settings.open_timeout_ms),
            read_timeout: Duration::from_millis(settings.read_timeout_ms),
            // FFmpeg counts the parts of a multipart answer at 25 a second, however fast they come.
            timed: settings.kind != Kind::Http,
            streamed: settings.kind == Kind::Rtsp,
            recorded,
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
        let format = self.image();
        let Opened { context, in_pieces } =
            framehaul_avopen::open(&self.location, format, options, move || asked.is_over(), self.streamed)?;
        let best = context.streams().best(media::Type::Video).ok_or(Error::StreamNotFound)?;
        let (stream, time_base) = (best.index(), best.time_base());
        // JPEGs come whole. Of others only FFmpeg knows how to put them together.
        let pieces_of = Nal::of(best.parameters().id()).filter(|_| in_pieces);
        let read_timeout = self.read_timeout;
        // A recorder's may begin at any time of the day, or count since it was switched on.
        let start = Some(best.start_time()).filter(|start| self.recorded && *start != NO_TIME).unwrap_or_default();
        Ok(Input { context, deadline, read_timeout, stream, time_base, timed: self.timed, start, pieces_of })
    }

    /// How long it may take to open the stream.
    pub fn patience(&self) -> Duration {
        self.open_timeout
    }

    /// Whether one can go to any of its pictures by an index of the container's. Without one the search would take as long
    /// as reading all of it; and where times may jump, as in the streams of recorders and broadcasters, it might end
    /// behind a jump.
    pub fn has_index(&self, input: &Input) -> bool {
        self.plain_file && INDEXED.contains(&input.context.format().name())
    }

    /// FFmpeg's name for the file's pictures, if it is an image. What cannot be read is FFmpeg's to tell of.
    fn image(&self) -> Option<&'static CStr> {
        if !self.plain_file {
            return None;
        }
        let mut start = Vec::new();
        File::open(&self.location).and_then(|file| file.take(12).read_to_end(&mut start)).ok()?;
        let holds = |at: usize, magic: &[u8]| start.get(at..).is_some_and(|start| start.starts_with(magic));
        IMAGES.iter().find(|(at, magic, _)| holds(*at, magic)).map(|(.., name)| *name)
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
    /// What times count from, in the stream's unit.
    start: i64,
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
        let pts = pts.and_then(|pts| pts.checked_sub(self.start));
        Times {
            pts_micros: pts
                .map(|pts| pts.rescale(self.time_base, MICROSECONDS))
                .filter(|pts| pts.unsigned_abs() < BEYOND_ALL_YEARS),
            wall_micros: packet.side_data().find_map(|data| match data.kind() {
                side_data::Type::PRFT => reference_time(data.data()),
                _ => None,
            }),
        }
    }

    /// All that is read until [`Self::expect_next`] has to come within this time.
    pub fn expect_within(&mut self, time: Duration) {
        self.deadline.put(time);
    }

    /// Goes on where the container finds this presentation time or one before it, and returns whether it finds anything.
    /// If not, the stream stands anywhere.
    pub fn go_to(&mut self, pts_micros: i64) -> bool {
        let start = self.start.rescale(self.time_base, MICROSECONDS);
        let target = pts_micros.saturating_add(start);
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
