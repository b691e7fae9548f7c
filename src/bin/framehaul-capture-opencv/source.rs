//! The OpenCV engine: the only user of OpenCV. It is part of this program and not of the library, so that the daemon
//! cannot come to link OpenCV by accident.

use opencv::core::{Mat, Size, Vector};
use opencv::prelude::{MatTraitConst as _, VectorToVec as _, VideoCaptureTrait as _, VideoCaptureTraitConst as _};
use opencv::{imgcodecs, imgproc, videoio};
use percent_encoding::utf8_percent_encode;
use secrecy::ExposeSecret as _;

use framehaul::capture::wire::ChildSettings;
use framehaul::capture::{FrameSource, Grabbed, Picture, SourceError, USERINFO};

/// Presentation times beyond this (some 30 years) are none, milliseconds.
const MAX_PTS_MILLIS: f64 = 1e12;

/// A stream opened by OpenCV's FFmpeg backend.
pub struct OpenCvSource {
    capture: videoio::VideoCapture,
    quality: Vector<i32>,
    max_width: Option<i32>,
    decoded: Mat,
    scaled: Mat,
    encoded: Vector<u8>,
    fps: f64,
}

impl OpenCvSource {
    /// Opens a camera's stream.
    ///
    /// # Errors
    ///
    /// [`SourceError::NotOpened`]. OpenCV does not say why; FFmpeg does, on standard error.
    pub fn open(settings: &ChildSettings) -> Result<Self, SourceError> {
        let not_opened = |error: opencv::Error| SourceError::NotOpened(error.message);
        let timeout = |ms: u64| i32::try_from(ms).unwrap_or(i32::MAX);
        // The backend is named: without it OpenCV may ignore the timeouts (opencv/opencv#23207).
        let parameters = Vector::from_slice(&[
            videoio::CAP_PROP_OPEN_TIMEOUT_MSEC,
            timeout(settings.open_timeout_ms),
            videoio::CAP_PROP_READ_TIMEOUT_MSEC,
            timeout(settings.read_timeout_ms),
        ]);
        let capture = videoio::VideoCapture::from_file_with_params(
            url_with_credentials(settings).as_str(),
            videoio::CAP_FFMPEG,
            &parameters,
        )
        .map_err(not_opened)?;
        if !capture.is_opened().map_err(not_opened)? {
            return Err(SourceError::NotOpened("OpenCV found no video".to_owned()));
        }
        let fps = capture.get(videoio::CAP_PROP_FPS).unwrap_or(0.0);
        Ok(Self {
            capture,
            quality: Vector::from_slice(&[imgcodecs::IMWRITE_JPEG_QUALITY, i32::from(settings.jpeg_quality)]),
            max_width: settings.max_width.and_then(|width| i32::try_from(width).ok()),
            decoded: Mat::default(),
            scaled: Mat::default(),
            encoded: Vector::new(),
            fps: if fps.is_finite() && fps > 0.0 && fps < 1_000.0 { fps } else { 0.0 },
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
}

/// OpenCV knows credentials only as part of the URL, so they are put together here, in the child's memory.
fn url_with_credentials(settings: &ChildSettings) -> String {
    let Some(user) = &settings.user else { return settings.url.clone() };
    let mut userinfo = utf8_percent_encode(user, USERINFO).to_string();
    if let Some(password) = &settings.password {
        userinfo.push(':');
        userinfo.extend(utf8_percent_encode(password.expose_secret(), USERINFO));
    }
    settings.url.replacen("://", &format!("://{userinfo}@"), 1)
}

impl FrameSource for OpenCvSource {
    fn grab(&mut self) -> Result<Grabbed, SourceError> {
        match self.capture.grab() {
            Ok(true) => {
                let millis = self.capture.get(videoio::CAP_PROP_POS_MSEC).ok();
                // FFmpeg's "no time stamp" comes through as a number beyond all reason.
                let millis = millis.filter(|ms| ms.abs() < MAX_PTS_MILLIS);
                Ok(Grabbed { pts_micros: millis.map(|ms| (ms * 1_000.0) as i64) })
            }
            Ok(false) => Err(SourceError::Ended("no further picture".to_owned())),
            Err(error) => Err(SourceError::Ended(error.message)),
        }
    }

    fn encode(&mut self) -> Result<Picture, SourceError> {
        let damaged = |error: opencv::Error| SourceError::Damaged(error.message);
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
        Ok(Picture { width: pixels(width), height: pixels(height), jpeg })
    }

    fn fps(&self) -> f64 {
        self.fps
    }
}
