//! The OpenCV engine: the only user of OpenCV. It is part of this program and not of the library, so that the daemon
//! cannot come to link OpenCV by accident.

use std::os::unix::fs::FileTypeExt as _;

use opencv::core::{Mat, Size, Vector};
use opencv::prelude::{MatTraitConst as _, VectorToVec as _, VideoCaptureTrait as _, VideoCaptureTraitConst as _};
use opencv::{imgcodecs, imgproc, videoio};

use framehaul::capture::wire::{ChildSettings, Kind, StreamInfo};
use framehaul::capture::{FrameSource, Grabbed, Picture, SourceError};

use crate::ffmpeg_log::FfmpegLog;

/// Presentation times beyond this (some 30 years) are none, milliseconds.
const MAX_PTS_MILLIS: f64 = 1e12;

/// Codecs whose decoders say when the pictures change, once and only then.
const WATCHED: [&str; 3] = ["h264", "hevc", "mjpeg"];

/// What is opened, and how.
struct Location {
    name: String,
    backend: i32,
    parameters: Vector<i32>,
    /// Whether the pictures carry times of their own.
    timed: bool,
    recorded: bool,
}

impl Location {
    fn new(settings: &ChildSettings) -> Self {
        let timeout = |ms: u64| i32::try_from(ms).unwrap_or(i32::MAX);
        let is_device = |path: &str| std::fs::metadata(path).is_ok_and(|found| found.file_type().is_char_device());
        // The backend is named: without it OpenCV may ignore the timeouts (opencv/opencv#23207).
        let timeouts = [
            videoio::CAP_PROP_OPEN_TIMEOUT_MSEC,
            timeout(settings.open_timeout_ms),
            videoio::CAP_PROP_READ_TIMEOUT_MSEC,
            timeout(settings.read_timeout_ms),
        ];
        let ffmpeg = |name, timed, recorded| {
            let parameters = Vector::from_slice(&timeouts);
            Self { name, backend: videoio::CAP_FFMPEG, parameters, timed, recorded }
        };
        match settings.kind {
            Kind::Rtsp => ffmpeg(settings.location_with_credentials(), true, false),
            // FFmpeg counts the parts of a multipart answer at 25 a second, however fast they come.
            Kind::Http => ffmpeg(settings.location_with_credentials(), false, false),
            Kind::V4l2 if is_device(&settings.location) => Self {
                name: settings.location.clone(),
                backend: videoio::CAP_V4L2,
                parameters: Vector::new(),
                timed: false,
                recorded: false,
            },
            // A file in the place of a device is what a machine without cameras can be tested with.
            Kind::File | Kind::V4l2 => ffmpeg(settings.location.clone(), true, true),
        }
    }

    fn open(&self) -> Result<videoio::VideoCapture, SourceError> {
        let not_opened = |error: opencv::Error| SourceError::NotOpened(error.message);
        let capture = videoio::VideoCapture::from_file_with_params(&self.name, self.backend, &self.parameters)
            .map_err(not_opened)?;
        if !capture.is_opened().map_err(not_opened)? {
            return Err(SourceError::NotOpened("OpenCV found no video".to_owned()));
        }
        Ok(capture)
    }
}

/// A stream opened by OpenCV.
pub struct OpenCvSource {
    location: Location,
    capture: videoio::VideoCapture,
    info: StreamInfo,
    log: FfmpegLog,
    /// How many starts of decoders are accounted for: those on the way to the open stream, and its own decoder's. One
    /// more means that the pictures have changed. `None` where the decoder is not known to say so.
    decoder_starts: Option<u64>,
    /// Whether to begin again at the end.
    repeat: bool,
    /// Added to presentation times, microseconds: how far earlier rounds of a repeated file came.
    offset_micros: i64,
    last_pts_micros: i64,
    quality: Vector<i32>,
    max_width: Option<i32>,
    decoded: Mat,
    scaled: Mat,
    encoded: Vector<u8>,
}

impl OpenCvSource {
    /// Opens a camera's stream.
    ///
    /// # Errors
    ///
    /// [`SourceError::NotOpened`]. OpenCV does not say why; FFmpeg does, on standard error.
    pub fn open(settings: &ChildSettings) -> Result<Self, SourceError> {
        let mut log = FfmpegLog::take().map_err(|error| {
            eprintln!("cannot read FFmpeg's messages: {error}");
            SourceError::NotOpened(error.to_string())
        })?;
        let location = Location::new(settings);
        let opened = location.open();
        // Whatever came of it: FFmpeg's reasons have to be told before our own end.
        let decoder_starts = log.catch_up().map_err(unheard)? + 1;
        let capture = opened?;
        let info = info(&capture, settings.kind);
        Ok(Self {
            decoder_starts: WATCHED.contains(&info.codec.as_str()).then_some(decoder_starts),
            info,
            log,
            repeat: settings.repeat && location.recorded,
            location,
            capture,
            offset_micros: 0,
            last_pts_micros: 0,
            quality: Vector::from_slice(&[imgcodecs::IMWRITE_JPEG_QUALITY, i32::from(settings.jpeg_quality)]),
            max_width: settings.max_width.and_then(|width| i32::try_from(width).ok()),
            decoded: Mat::default(),
            scaled: Mat::default(),
            encoded: Vector::new(),
        })
    }

    /// The picture to encode: the decoded one, or a smaller copy.
    fn scale(&mut self) -> opencv::Result<&Mat> {
        let (width, height) = (self.decoded.cols(), self.decoded.rows());
        let Some(wanted) = self.max_width.filter(|wanted| *wanted < width) else { return Ok(&self.decoded) };
        let scaled_height = (f64::from(height) * f64::from(wanted) / f64::from(width)).round().max(1.0) as i32;
        let size = Size::new(wanted, scaled_height);
        imgproc::resize(&self.decoded, &mut self.scaled, size, 0.0, 0.0, imgproc::INTER_AREA)?;
        Ok(&self.scaled)
    }

    /// Goes on from the beginning of the file, as if it followed on its end.
    fn rewind(&mut self) -> Result<(), SourceError> {
        self.capture = self.location.open()?;
        if let Some(decoder_starts) = &mut self.decoder_starts {
            *decoder_starts = self.log.catch_up().map_err(unheard)? + 1;
        }
        let interval = if self.info.fps > 0.0 { 1e6 / self.info.fps } else { 0.0 };
        self.offset_micros = self.last_pts_micros + interval as i64;
        Ok(())
    }
}

fn unheard(error: std::io::Error) -> SourceError {
    SourceError::Ended(format!("FFmpeg's messages cannot be read any more: {error}"))
}

/// What OpenCV knows of an open stream.
fn info(capture: &videoio::VideoCapture, kind: Kind) -> StreamInfo {
    let property = |property| capture.get(property).ok().filter(|value| value.is_finite() && *value > 0.0);
    let pixels = |property_id| property(property_id).map_or(0, |pixels| pixels as u32);
    StreamInfo {
        fps: match kind {
            Kind::Http => 0.0,
            _ => property(videoio::CAP_PROP_FPS).filter(|fps| *fps < 1_000.0).unwrap_or_default(),
        },
        width: pixels(videoio::CAP_PROP_FRAME_WIDTH),
        height: pixels(videoio::CAP_PROP_FRAME_HEIGHT),
        codec: match kind {
            // The only one there.
            Kind::Http => "mjpeg".to_owned(),
            _ => codec(property(videoio::CAP_PROP_FOURCC).unwrap_or_default() as u32),
        },
    }
}

/// A codec's name by its four characters. OpenCV has them from the container, or else takes the first four letters of
/// the codec's name.
fn codec(fourcc: u32) -> String {
    let text: String = fourcc.to_le_bytes().iter().map(|byte| char::from(*byte).to_ascii_lowercase()).collect();
    match text.as_str() {
        "avc1" | "avc3" | "x264" => "h264".to_owned(),
        "hvc1" | "hev1" | "h265" => "hevc".to_owned(),
        // The last is the beginning of the name, where OpenCV has cut it off.
        "mjpg" | "jpeg" | "mjpe" => "mjpeg".to_owned(),
        "mp4v" | "xvid" | "divx" | "fmp4" => "mpeg4".to_owned(),
        other => other.chars().filter(char::is_ascii_alphanumeric).collect(),
    }
}

impl FrameSource for OpenCvSource {
    fn grab(&mut self) -> Result<Grabbed, SourceError> {
        let ended = |error: opencv::Error| SourceError::Ended(error.message);
        if !self.capture.grab().map_err(ended)? {
            if !self.repeat {
                // FFmpeg's reasons have to be told before our own end.
                self.log.catch_up().map_err(unheard)?;
                return Err(SourceError::Ended("no further picture".to_owned()));
            }
            self.rewind()?;
            if !self.capture.grab().map_err(ended)? {
                return Err(SourceError::Ended("the file has no picture".to_owned()));
            }
        }
        // As good as known, for a picture that nobody wants.
        if self.decoder_starts.is_some_and(|known| self.log.decoder_starts() > known) {
            return Err(SourceError::Changed);
        }
        if !self.location.timed {
            return Ok(Grabbed { pts_micros: None, wall_micros: None, decoded: true });
        }
        let millis = self.capture.get(videoio::CAP_PROP_POS_MSEC).ok();
        // FFmpeg's "no time stamp" comes through as a number beyond all reason.
        let millis = millis.filter(|ms| ms.abs() < MAX_PTS_MILLIS);
        let pts_micros = millis.map(|ms| (ms * 1_000.0) as i64 + self.offset_micros);
        self.last_pts_micros = pts_micros.unwrap_or(self.last_pts_micros);
        Ok(Grabbed { pts_micros, wall_micros: None, decoded: true })
    }

    fn encode(&mut self) -> Result<Picture, SourceError> {
        let damaged = |error: opencv::Error| SourceError::Damaged(error.message);
        // The decoder has spoken before it gave the picture that was grabbed.
        if let Some(known) = self.decoder_starts
            && self.log.catch_up().map_err(unheard)? > known
        {
            return Err(SourceError::Changed);
        }
        if !self.capture.retrieve_def(&mut self.decoded).map_err(damaged)? || self.decoded.empty() {
            return Err(SourceError::Damaged("the decoder gave no picture".to_owned()));
        }
        let (quality, mut encoded) = (self.quality.clone(), std::mem::take(&mut self.encoded));
        let picture = self.scale().map_err(damaged)?;
        let (width, height) = (picture.cols(), picture.rows());
        let done = imgcodecs::imencode(".jpg", picture, &mut encoded, &quality).map_err(damaged)?;
        let jpeg = encoded.to_vec();
        self.encoded = encoded;
        if !done || jpeg.is_empty() {
            return Err(SourceError::Damaged("the encoder gave no JPEG".to_owned()));
        }
        let pixels = |n: i32| u32::try_from(n).unwrap_or_default();
        Ok(Picture { width: pixels(width), height: pixels(height), jpeg, damaged: false, content: None })
    }

    fn is_recorded(&self) -> bool {
        self.location.recorded
    }

    fn info(&self) -> StreamInfo {
        self.info.clone()
    }
}
