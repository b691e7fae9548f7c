//! A decoder's picture as planes: its format named, and changed where a JPEG knows none like it.

use ffmpeg_next::Error;
use ffmpeg_next::color::{Range as AvRange, Space};
use ffmpeg_next::format::Pixel;
use ffmpeg_next::software::scaling;
use ffmpeg_next::util::frame;

use crate::colour::{Format, Matrix, Plane, Planes, PlanesError, Range, Subsampling};

/// Why a picture has no planes.
#[derive(Debug, thiserror::Error)]
pub enum PixelsError {
    /// libswscale knows no way from its format.
    #[error("cannot convert pictures of the format {format:?}: {cause}")]
    Unknown {
        /// FFmpeg's name.
        format: Pixel,
        /// FFmpeg's reason.
        cause: Error,
    },
    /// The planes are no picture.
    #[error(transparent)]
    Planes(#[from] PlanesError),
}

/// A size and a format; pictures that are alike in them can be converted alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// How they lie in memory.
    pub pixel: Pixel,
}

impl Shape {
    /// The shape of a picture.
    pub fn of(frame: &frame::Video) -> Self {
        Self { width: frame.width(), height: frame.height(), pixel: frame.format() }
    }
}

/// Scales and changes formats, in a buffer that lasts from picture to picture.
pub struct Pixels {
    /// Wider pictures are scaled down to this.
    max_width: Option<u32>,
    scaler: Option<(Shape, scaling::Context)>,
    scaled: frame::Video,
}

impl Pixels {
    /// `max_width` as the camera asks for it, pixels.
    pub fn new(max_width: Option<u32>) -> Self {
        Self { max_width, scaler: None, scaled: frame::Video::empty() }
    }

    /// A picture's planes, in a size and a format of which a JPEG can be made.
    ///
    /// # Errors
    ///
    /// [`PixelsError`].
    pub fn planes<'a>(&'a mut self, frame: &'a frame::Video) -> Result<Planes<'a>, PixelsError> {
        let from = Shape::of(frame);
        let to = self.wanted(from);
        if to == from {
            return Ok(planes(frame, meaning(frame))?);
        }
        let meaning = Meaning { matrix: meaning(frame).matrix, ..meaning_of(to.pixel, meaning(frame)) };
        self.scale(frame, from, to).map_err(|cause| PixelsError::Unknown { format: from.pixel, cause })?;
        Ok(planes(&self.scaled, meaning)?)
    }

    /// The shape that a JPEG is made of.
    fn wanted(&self, from: Shape) -> Shape {
        let pixel = if layout(from.pixel).is_some() { from.pixel } else { similar(from.pixel) };
        let Some(width) = self.max_width.filter(|width| *width < from.width) else { return Shape { pixel, ..from } };
        let height = (f64::from(from.height) * f64::from(width) / f64::from(from.width)).round().max(1.0) as u32;
        Shape { width, height, pixel }
    }

    fn scale(&mut self, frame: &frame::Video, from: Shape, to: Shape) -> Result<(), Error> {
        if self.scaler.as_ref().is_none_or(|(made_for, _)| *made_for != from) {
            let flags = scaling::Flags::AREA | scaling::Flags::ACCURATE_RND | scaling::Flags::FULL_CHR_H_INP;
            let scaler =
                scaling::Context::get(from.pixel, from.width, from.height, to.pixel, to.width, to.height, flags)?;
            self.scaled = frame::Video::new(to.pixel, to.width, to.height);
            self.scaler = Some((from, scaler));
        }
        let (_, scaler) = self.scaler.as_mut().expect("it was made just now");
        scaler.run(frame, &mut self.scaled)
    }
}

/// What a picture's samples mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Meaning {
    range: Range,
    matrix: Matrix,
}

/// What a stream says of its pictures, and what is usual where it says nothing.
fn meaning(frame: &frame::Video) -> Meaning {
    let range = match frame.color_range() {
        _ if is_full(frame.format()) => Range::Full,
        AvRange::JPEG => Range::Full,
        AvRange::MPEG | AvRange::Unspecified => Range::Limited,
    };
    let matrix = match frame.color_space() {
        Space::BT709 => Matrix::Bt709,
        Space::BT2020NCL | Space::BT2020CL => Matrix::Bt2020,
        Space::BT470BG | Space::SMPTE170M | Space::FCC => Matrix::Bt601,
        // A JPEG (T.871).
        _ if is_full(frame.format()) => Matrix::Bt601,
        _ => Matrix::by_size(frame.width(), frame.height()),
    };
    Meaning { range, matrix }
}

/// What the samples mean after libswscale has changed the format: it keeps the range between formats of luma and
/// chroma, save those that are full by their name, and makes BT.601 of red, green and blue.
fn meaning_of(pixel: Pixel, before: Meaning) -> Meaning {
    if is_full(pixel) { Meaning { range: Range::Full, ..before } } else { before }
}

fn is_full(pixel: Pixel) -> bool {
    matches!(pixel, Pixel::YUVJ420P | Pixel::YUVJ422P | Pixel::YUVJ444P | Pixel::YUVJ440P | Pixel::YUVJ411P)
}

/// Subsampling and bits of the formats whose planes are taken as they are.
fn layout(pixel: Pixel) -> Option<(Subsampling, u8)> {
    Some(match pixel {
        Pixel::GRAY8 => (Subsampling::Gray, 8),
        Pixel::GRAY10LE => (Subsampling::Gray, 10),
        Pixel::YUV420P | Pixel::YUVJ420P => (Subsampling::Yuv420, 8),
        Pixel::YUV422P | Pixel::YUVJ422P => (Subsampling::Yuv422, 8),
        Pixel::YUV444P | Pixel::YUVJ444P => (Subsampling::Yuv444, 8),
        Pixel::YUV420P10LE => (Subsampling::Yuv420, 10),
        Pixel::YUV422P10LE => (Subsampling::Yuv422, 10),
        Pixel::YUV444P10LE => (Subsampling::Yuv444, 10),
        Pixel::YUV420P12LE => (Subsampling::Yuv420, 12),
        Pixel::YUV422P12LE => (Subsampling::Yuv422, 12),
        Pixel::YUV444P12LE => (Subsampling::Yuv444, 12),
        _ => return None,
    })
}

/// The format nearest to one whose planes cannot be taken. libswscale makes full-range BT.601 of red, green and blue.
fn similar(pixel: Pixel) -> Pixel {
    match pixel {
        Pixel::NV12 | Pixel::NV21 | Pixel::YUVA420P | Pixel::YUV410P => Pixel::YUV420P,
        Pixel::YUYV422 | Pixel::UYVY422 | Pixel::YUV411P => Pixel::YUV422P,
        Pixel::YUV440P => Pixel::YUV444P,
        Pixel::YUVJ411P => Pixel::YUVJ422P,
        _ => Pixel::YUVJ444P,
    }
}

fn planes(frame: &frame::Video, Meaning { range, matrix }: Meaning) -> Result<Planes<'_>, PlanesError> {
    let (subsampling, bits) = layout(frame.format()).expect("other formats were changed into one of these");
    let plane = |index| Plane { bytes: frame.data(index), stride: frame.stride(index) };
    let planes = match subsampling {
        Subsampling::Gray => [plane(0), Plane::default(), Plane::default()],
        _ => [plane(0), plane(1), plane(2)],
    };
    Planes::new(frame.width(), frame.height(), Format { subsampling, bits, range, matrix }, planes)
}
