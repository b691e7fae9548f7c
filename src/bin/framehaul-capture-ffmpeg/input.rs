//! A camera's stream as packets of its first video.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ffmpeg_next::codec::packet::side_data;
use ffmpeg_next::codec::{self, Parameters};
use ffmpeg_next::{Dictionary, Error, Packet, Rational, Rescale as _, format, media};

use framehaul::capture::child::monotonic_ns;
use framehaul::capture::wire::{ChildSettings, Kind};

const MICROSECONDS: Rational = Rational(1, 1_000_000);

/// Packets in a row that may be unreadable, or of other streams, before the next look at the clock.
const MOST_IN_A_ROW: u32 = 10_000;

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
    /// Presentation, microseconds from an arbitrary start.
    pub pts_micros: Option<i64>,
    /// By the camera's own clock, Unix microseconds.
    pub wall_micros: Option<i64>,
}

impl Times {
    /// The times of the last of some pictures that came as one: as many as there are `before` it come between these
    /// times, which are the first one's, and those of the `next` packet.
    pub fn behind(self, before: u32, next: Option<Self>) -> Self {
        let later = |first: Option<i64>, next: Option<i64>| match (first, next) {
            (Some(first), Some(next)) if next > first => {
                Some(first + (next - first) / (i64::from(before) + 1) * i64::from(before))
            }
            _ => first,
        };
        let next = next.unwrap_or_default();
        Self {
            pts_micros: later(self.pts_micros, next.pts_micros),
            wall_micros: later(self.wall_micros, next.wall_micros),
        }
    }
}

/// How a stream is opened. The location may hold a password.
pub struct Opening {
    location: String,
    options: Vec<(String, String)>,
    open_timeout: Duration,
    read_timeout: Duration,
    timed: bool,
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
        let context = format::input_with_interrupt_and_dictionary(&self.location, move || asked.is_over(), options)?;
        let best = context.streams().best(media::Type::Video).ok_or(Error::StreamNotFound)?;
        let (stream, time_base) = (best.index(), best.time_base());
        Ok(Input { context, deadline, read_timeout: self.read_timeout, stream, time_base, timed: self.timed })
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
}

impl Input {
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

    /// Waits for the next packet of the video.
    ///
    /// # Errors
    ///
    /// FFmpeg's: [`Error::Eof`] at the end, [`Error::Exit`] where none came in time.
    pub fn read(&mut self, packet: &mut Packet) -> Result<(), Error> {
        self.deadline.put(self.read_timeout);
        for _ in 0..MOST_IN_A_ROW {
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
            pts_micros: pts.map(|pts| pts.rescale(self.time_base, MICROSECONDS)),
            wall_micros: packet.side_data().find_map(|data| match data.kind() {
                side_data::Type::PRFT => reference_time(data.data()),
                _ => None,
            }),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_that_came_as_one_lie_evenly_before_the_next() {
        let times = |micros| Times { pts_micros: Some(micros), wall_micros: None };
        assert_eq!(times(40).behind(0, Some(times(120))), times(40));
        assert_eq!(times(40).behind(1, Some(times(120))), times(80));
        assert_eq!(times(40).behind(2, Some(times(160))), times(120));
        for next in [None, Some(Times::default()), Some(times(30))] {
            assert_eq!(times(40).behind(1, next), times(40));
        }
    }
}
