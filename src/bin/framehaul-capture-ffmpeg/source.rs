//! The FFmpeg engine: packets, decoded on one thread, and JPEGs made of the decoder's own planes.

use std::collections::VecDeque;

use ffmpeg_next::format::Pixel;
use ffmpeg_next::util::frame;
use ffmpeg_next::{Error, Packet, codec, packet};

use framehaul::capture::wire::{ChildSettings, Kind, StreamInfo};
use framehaul::capture::{FrameSource, Grabbed, Picture, SourceError};
use framehaul::model::Damaged;

use crate::beginning::open_before;
use crate::decoder::{Decoded, Decoder, Taken};
use crate::holes::{Hole, Loss};
use crate::input::{Input, Opening, Times};
use crate::keys::{Choice, Keys};
use crate::log::{Heard, Log};
use crate::mjpeg;
use crate::pictures::{Assembled, Pictures, Piece};
use framehaul_pictures::colour::Converter;
use framehaul_pictures::jpeg::JpegEncoder;
use framehaul_pictures::pixels::{Pixels, Shape};

/// What may be kept for a key frame that stays away, bytes: some seconds of a stream.
const MOST_KEPT: usize = 8 << 20;

/// A stream may have no key frame for so many packets; then it may have none at all, and its decoder says what it can make
/// of the others.
const MOST_BEFORE_BEGIN: u32 = 600;

/// Pictures a second of a recording that does not say.
const USUAL_FPS: f64 = 25.0;

/// A picture's rows that its fingerprint is made of: every so many.
const FINGERPRINT_ROWS: usize = 8;

/// What was grabbed last.
#[derive(Clone, Copy, Debug)]
enum Current {
    /// Nothing can be made of it.
    Nothing,
    /// The decoder's picture.
    Decoded {
        /// Whether it is not what the camera saw.
        damaged: bool,
    },
    /// A JPEG of the camera's own, in the packet read last.
    Jpeg,
}

/// A packet that the decoder may get, or get once more.
struct Kept {
    packet: Packet,
    times: Times,
    hole: Hole,
}

/// What reading came to: a packet's times and what was lost before it, or `None` at the end of the stream.
type Read = Result<Option<(Times, Loss)>, SourceError>;

/// A stream opened by FFmpeg.
pub struct FfmpegSource {
    opening: Opening,
    input: Input,
    log: Log,
    info: StreamInfo,
    recorded: bool,
    /// Whether the pictures carry times of their own.
    timed: bool,
    repeat: bool,
    damaged: Damaged,
    max_width: Option<u32>,
    decoder: Decoder,
    packet: Packet,
    /// Where the stream comes in pieces.
    pictures: Option<Pictures>,
    /// What reading came to when there were no further pieces.
    no_more: Option<Result<(), SourceError>>,
    /// Whether the camera sends JPEGs, which are passed through where nothing speaks against it.
    sends_jpegs: bool,
    keys: Keys,
    /// Whether a key frame has come: nothing before the first can be decoded.
    begun: bool,
    /// Packets before that.
    before_begin: u32,
    /// The last key frame, where it was decoded alone, and what was passed by since.
    passed_by: Vec<Kept>,
    /// What the decoder gets before anything else.
    waiting: VecDeque<Kept>,
    /// Whether the decoder gives out what it holds and begins anew then.
    finishing: bool,
    /// Whether the decoder was told that a recording is over.
    drained: bool,
    /// What the decoder is given a second time is not given on again, up to this time.
    given_until: Option<i64>,
    shape: Option<Shape>,
    current: Current,
    pixels: Pixels,
    converter: Converter,
    encoder: JpegEncoder,
    /// Added to presentation times, microseconds: how far earlier rounds of a repeated file came.
    offset_micros: i64,
    last_pts_micros: i64,
    /// Of the packet read last.
    read_pts_micros: Option<i64>,
}

impl FfmpegSource {
    /// Opens a camera's stream.
    ///
    /// # Errors
    ///
    /// [`SourceError::NotOpened`]; FFmpeg's reasons stand on standard error.
    pub fn open(settings: &ChildSettings) -> Result<Self, SourceError> {
        let mut log = Log::take().map_err(|error| {
            eprintln!("cannot read FFmpeg's messages: {error}");
            SourceError::NotOpened(error.to_string())
        })?;
        let opening = Opening::new(settings);
        let recorded = settings.kind == Kind::File;
        let input = match settings.extent.from_micros {
            Some(from_micros) if recorded => open_before(&opening, from_micros),
            _ => opening.open(),
        };
        let opened = input.and_then(|input| Ok((Decoder::open(&input)?, input)));
        log.opened();
        let (decoder, input) = opened.map_err(|error| {
            log.say(&error.to_string());
            SourceError::NotOpened(error.to_string())
        })?;
        let encoder =
            JpegEncoder::new(settings.jpeg_quality).map_err(|error| SourceError::NotOpened(error.to_string()))?;
        let (width, height) = decoder.size();
        Ok(Self {
            info: StreamInfo {
                fps: if settings.kind == Kind::Http { 0.0 } else { input.fps() },
                width,
                height,
                codec: input.codec().name().to_owned(),
            },
            sends_jpegs: input.codec() == codec::Id::MJPEG,
            pictures: input.pieces_of().map(Pictures::new),
            opening,
            input,
            log,
            recorded,
            timed: settings.kind != Kind::Http,
            repeat: settings.repeat && recorded,
            damaged: settings.damaged,
            max_width: settings.max_width,
            decoder,
            packet: Packet::empty(),
            no_more: None,
            keys: Keys::new(settings.sampling),
            begun: false,
            before_begin: 0,
            passed_by: Vec::new(),
            waiting: VecDeque::new(),
            finishing: false,
            drained: false,
            given_until: None,
            shape: None,
            current: Current::Nothing,
            pixels: Pixels::new(settings.max_width),
            converter: Converter::default(),
            encoder,
            offset_micros: 0,
            last_pts_micros: 0,
            read_pts_micros: None,
        })
    }

    /// The next picture's times, and what losses have damaged. `None` at the end.
    fn read(&mut self) -> Result<Option<(Times, Hole)>, SourceError> {
        self.input.expect_next();
        loop {
            if let Some(assembled) = self.pictures.as_mut().and_then(Pictures::next) {
                let Assembled { bytes, pts, times, is_key, hole } = assembled;
                self.packet = Packet::copy(&bytes);
                self.packet.set_pts(pts);
                self.packet.set_flags(if is_key { packet::Flags::KEY } else { packet::Flags::empty() });
                return Ok(Some((self.timed(times), hole)));
            }
            if let Some(read) = self.no_more.take() {
                return read.map(|()| None);
            }
            let read = self.read_packet();
            let Some(pictures) = &mut self.pictures else {
                let Some((times, loss)) = read? else { return Ok(None) };
                let hole = if loss.any() { Hole::ANYWHERE } else { Hole::default() };
                return Ok(Some((self.timed(times), hole)));
            };
            match read {
                Ok(Some((times, mut loss))) => {
                    loss.uncounted |= self.packet.is_corrupt();
                    let bytes = self.packet.data().unwrap_or_default();
                    pictures.take(&Piece { bytes, pts: self.packet.pts(), times, loss });
                }
                ended => {
                    pictures.finish();
                    self.no_more = Some(ended.map(|_| ()));
                }
            }
        }
    }

    fn read_packet(&mut self) -> Read {
        let read = self.input.read(&mut self.packet);
        let Heard { loss, .. } = self.log.heard();
        match read {
            Ok(()) => Ok(Some((self.input.times(&self.packet), loss))),
            Err(Error::Eof) => Ok(None),
            Err(error) => {
                self.log.say(&error.to_string());
                Err(SourceError::Ended(error.to_string()))
            }
        }
    }

    /// The times of the picture that is next.
    fn timed(&mut self, mut times: Times) -> Times {
        times.pts_micros = times.pts_micros.map(|pts| pts + self.offset_micros).or(self.next_by_rate());
        self.read_pts_micros = times.pts_micros;
        times
    }

    /// When the next picture is due by the rate that the stream declares. A file may hold pictures without times, and
    /// an RTSP stream's first packet comes without one out of FFmpeg, whose count begins with it.
    fn next_by_rate(&self) -> Option<i64> {
        self.timed.then(|| self.read_pts_micros.map_or(0, |last| last + self.interval_micros()))
    }

    fn interval_micros(&self) -> i64 {
        let fps = if self.info.fps > 0.0 { self.info.fps } else { USUAL_FPS };
        (1e6 / fps) as i64
    }

    /// What is to be done with the packet read last.
    fn choose(&mut self, times: Times) -> Choice {
        let is_key = self.packet.is_key();
        if !self.begun && !is_key && self.before_begin < MOST_BEFORE_BEGIN {
            self.before_begin += 1;
            return Choice::PassBy;
        }
        self.begun = true;
        self.keys.choose(is_key, times.pts_micros)
    }

    /// Gives the decoder a packet. A picture that was reached and is none, if that is what comes of it.
    fn send(&mut self, kept: &Kept) -> Option<Grabbed> {
        let taken = self.decoder.send(&kept.packet, kept.times, kept.hole);
        if self.log.heard().decode_error {
            self.decoder.wrong();
        }
        match taken {
            Taken::Yes => None,
            Taken::No(times) => {
                self.current = Current::Nothing;
                Some(self.grabbed(times, true))
            }
        }
    }

    /// The decoder's next picture, if it has one.
    fn decoded(&mut self) -> Result<Option<Grabbed>, SourceError> {
        while let Some(Decoded { times, damaged }) = self.decoder.next() {
            let damaged = self.log.heard().decode_error || damaged;
            let again = self.given_until.zip(times.pts_micros).is_some_and(|(until, pts)| pts <= until);
            if again {
                continue;
            }
            self.given_until = None;
            let shape = Shape::of(self.decoder.frame());
            if *self.shape.get_or_insert(shape) != shape {
                return Err(SourceError::Changed);
            }
            self.current = Current::Decoded { damaged };
            return Ok(Some(self.grabbed(times, true)));
        }
        if self.log.heard().decode_error {
            self.decoder.wrong();
        }
        Ok(None)
    }

    fn grabbed(&mut self, times: Times, decoded: bool) -> Grabbed {
        self.last_pts_micros = times.pts_micros.unwrap_or(self.last_pts_micros);
        Grabbed { pts_micros: times.pts_micros, wall_micros: times.wall_micros, decoded }
    }

    /// The packet read last.
    fn take(&mut self, times: Times, hole: Hole) -> Kept {
        Kept { packet: std::mem::replace(&mut self.packet, Packet::empty()), times, hole }
    }

    /// Keeps the packet read last for the case that the next key frame stays away.
    fn keep(&mut self, times: Times, hole: Hole) {
        if self.passed_by.is_empty() {
            return;
        }
        let kept: usize = self.passed_by.iter().map(|kept| kept.packet.size()).sum();
        if kept + self.packet.size() > MOST_KEPT {
            // Too much for what is to stay small: then the next key frame is waited for.
            self.passed_by.clear();
            return;
        }
        let kept = self.take(times, hole);
        self.passed_by.push(kept);
    }

    /// The end of what can be read.
    fn ended(&mut self) -> Result<(), SourceError> {
        if !self.repeat {
            return Err(SourceError::Ended("no further picture".to_owned()));
        }
        // As if the beginning followed on the end.
        let anew = |error: Error| SourceError::Ended(error.to_string());
        self.input = self.opening.open().map_err(anew)?;
        self.decoder = Decoder::open(&self.input).map_err(anew)?;
        self.offset_micros = self.last_pts_micros + self.interval_micros();
        self.keys.begin_anew();
        (self.begun, self.before_begin) = (false, 0);
        self.drained = false;
        Ok(())
    }

    /// A JPEG of the decoder's picture.
    fn convert(&mut self, damaged: bool) -> Result<Picture, SourceError> {
        let unusable = |error: &dyn std::fmt::Display| SourceError::Damaged(error.to_string());
        let frame = self.decoder.frame();
        let content = Some(fingerprint(frame));
        let planes = self.pixels.planes(frame).map_err(|error| unusable(&error))?;
        let planes = self.converter.convert(&planes);
        let (width, height) = (planes.width, planes.height);
        let jpeg = self.encoder.encode(&planes).map_err(|error| unusable(&error))?;
        Ok(Picture { width, height, jpeg, damaged, content })
    }

    /// The camera's own JPEG, or one of its picture where that cannot go on as it is.
    fn pass_through(&mut self) -> Result<Picture, SourceError> {
        let bytes = self.packet.data().unwrap_or_default();
        match mjpeg::check(bytes) {
            Ok(jpeg) if self.max_width.is_none_or(|width| width >= jpeg.width) => {
                let shape = Shape { width: jpeg.width, height: jpeg.height, pixel: Pixel::None };
                if *self.shape.get_or_insert(shape) != shape {
                    return Err(SourceError::Changed);
                }
                let (width, height) = (jpeg.width, jpeg.height);
                let jpeg = jpeg.repaired().into_owned();
                let content = Some(u64::from(crc32c::crc32c(&jpeg)));
                Ok(Picture { width, height, jpeg, damaged: false, content })
            }
            Ok(_) | Err(mjpeg::Fault::Unusual(_)) => self.transcode(),
            Err(fault @ mjpeg::Fault::Damaged(_)) => Err(SourceError::Damaged(fault.to_string())),
        }
    }

    fn transcode(&mut self) -> Result<Picture, SourceError> {
        let kept = self.take(Times::default(), Hole::default());
        if self.send(&kept).is_some() || self.decoded()?.is_none() {
            return Err(SourceError::Damaged("the decoder could make nothing of it".to_owned()));
        }
        match self.current {
            Current::Decoded { damaged } => self.judged(damaged),
            _ => Err(SourceError::Damaged("the decoder could make nothing of it".to_owned())),
        }
    }

    fn judged(&mut self, damaged: bool) -> Result<Picture, SourceError> {
        if damaged && self.damaged == Damaged::Drop {
            return Err(SourceError::Damaged("a part of it, or of what it refers to, is missing".to_owned()));
        }
        self.convert(damaged)
    }
}

/// A number that changes with the picture: CRC-32C over some of its luma.
fn fingerprint(frame: &frame::Video) -> u64 {
    let rows = frame.data(0).chunks(frame.stride(0).max(1)).take(frame.height() as usize);
    let width = frame.width() as usize;
    let crc =
        rows.step_by(FINGERPRINT_ROWS).fold(0, |crc, row| crc32c::crc32c_append(crc, &row[..width.min(row.len())]));
    u64::from(crc)
}

impl FrameSource for FfmpegSource {
    fn grab(&mut self) -> Result<Grabbed, SourceError> {
        loop {
            if !self.sends_jpegs {
                if let Some(grabbed) = self.decoded()? {
                    return Ok(grabbed);
                }
                if std::mem::take(&mut self.finishing) {
                    self.decoder.restart();
                }
                if let Some(kept) = self.waiting.pop_front() {
                    if let Some(grabbed) = self.send(&kept) {
                        return Ok(grabbed);
                    }
                    continue;
                }
            }
            let Some((times, hole)) = self.read()? else {
                if self.recorded && !self.sends_jpegs && !self.drained {
                    self.drained = true;
                    self.decoder.finish();
                    continue;
                }
                self.ended()?;
                continue;
            };
            if self.sends_jpegs {
                self.current = Current::Jpeg;
                return Ok(self.grabbed(times, true));
            }
            match self.choose(times) {
                Choice::Decode => {
                    self.passed_by.clear();
                    let kept = self.take(times, hole);
                    self.waiting.push_back(kept);
                }
                Choice::Alone => {
                    self.passed_by.clear();
                    let kept = self.take(times, hole);
                    let failed = self.send(&kept);
                    if self.keys.may_catch_up() {
                        self.passed_by.push(kept);
                    }
                    self.decoder.finish();
                    self.finishing = true;
                    if let Some(grabbed) = failed {
                        return Ok(grabbed);
                    }
                }
                Choice::PassBy => {
                    self.keep(times, hole);
                    return Ok(self.grabbed(times, false));
                }
                Choice::CatchUp => {
                    if self.passed_by.is_empty() {
                        (self.begun, self.before_begin) = (false, 0);
                        return Ok(self.grabbed(times, false));
                    }
                    self.keep(times, hole);
                    self.waiting.extend(self.passed_by.drain(..));
                    self.given_until = self.waiting.front().and_then(|kept| kept.times.pts_micros);
                }
            }
        }
    }

    fn encode(&mut self) -> Result<Picture, SourceError> {
        match self.current {
            Current::Nothing => Err(SourceError::Damaged("the decoder could make nothing of it".to_owned())),
            Current::Decoded { damaged } => self.judged(damaged),
            Current::Jpeg => self.pass_through(),
        }
    }

    fn is_recorded(&self) -> bool {
        self.recorded
    }

    fn info(&self) -> StreamInfo {
        self.info.clone()
    }
}
