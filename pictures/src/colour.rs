//! A decoder's planes as those of a JPEG: full range, BT.601, 8 bit (ITU-T T.871), with the same subsampling.
//!
//! From luma and chroma to red, green and blue, and from there to those of another matrix, is one linear map: chroma
//! becomes a mixture of both chromas, and luma gets a correction from the chroma of its place. No pixel is ever made red,
//! green and blue. Values beyond what a JPEG holds are cut off.
//!
//! What a matrix does not say stays as it is: transfer characteristics and primaries (a picture in BT.2020 looks paler
//! than it is, as in a player that knows no better), and where within its block a chroma sample lies (on the left edge in
//! most video, in the middle in JPEG: half a pixel that players of JPEG do not correct either).

use framehaul_rows::{self as rows, Row, Weights};

/// The most columns and lines that libjpeg-turbo encodes.
const MAX_SIDE: u32 = 65_500;

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

impl Subsampling {
    /// How many columns and lines of pixels share a chroma sample.
    fn block(self) -> (usize, usize) {
        match self {
            Self::Gray | Self::Yuv444 => (1, 1),
            Self::Yuv420 => (2, 2),
            Self::Yuv422 => (2, 1),
        }
    }
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
    /// The matrix of a stream that names none: BT.709 from 1280 columns or 720 lines upwards, else BT.601. Players do the
    /// same, so cameras that say nothing are looked at, and their makers satisfied, with these colours.
    pub fn by_size(width: u32, height: u32) -> Self {
        if width >= 1280 || height >= 720 { Self::Bt709 } else { Self::Bt601 }
    }

    /// The shares of red and blue in luma.
    fn red_and_blue(self) -> (f64, f64) {
        match self {
            Self::Bt601 => (0.299, 0.114),
            Self::Bt709 => (0.2126, 0.0722),
            Self::Bt2020 => (0.2627, 0.0593),
        }
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

impl Format {
    /// Whether these are a JPEG's samples already.
    fn is_jpeg(self) -> bool {
        let colours = self.subsampling == Subsampling::Gray || self.matrix == Matrix::Bt601;
        self.bits == 8 && self.range == Range::Full && colours
    }

    fn sample_bytes(self) -> usize {
        if self.bits == 8 { 1 } else { 2 }
    }
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
        if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
            return Err(PlanesError::Size { width, height });
        }
        if !(8..=16).contains(&format.bits) {
            return Err(PlanesError::Bits(format.bits));
        }
        let picture = Self { width, height, format, planes };
        let ((chroma_width, chroma_height), (width, height)) = (picture.chroma_size(), picture.size());
        let sizes = match format.subsampling {
            Subsampling::Gray => &[(width, height)][..],
            _ => &[(width, height), (chroma_width, chroma_height), (chroma_width, chroma_height)],
        };
        for (index, ((width, height), plane)) in sizes.iter().zip(&planes).enumerate() {
            let row = width * format.sample_bytes();
            let all = plane.stride.checked_mul(height - 1).and_then(|before| before.checked_add(row));
            if plane.stride < row || all.is_none_or(|all| plane.bytes.len() < all) {
                return Err(PlanesError::Short { index });
            }
        }
        Ok(picture)
    }

    fn size(&self) -> (usize, usize) {
        (self.width as usize, self.height as usize)
    }

    fn chroma_size(&self) -> (usize, usize) {
        let ((width, height), (across, down)) = (self.size(), self.format.subsampling.block());
        (width.div_ceil(across), height.div_ceil(down))
    }

    /// The first `width` samples of a component's row.
    fn row(&self, component: usize, row: usize, width: usize) -> Row<'a> {
        let Plane { bytes, stride } = self.planes[component];
        let bytes = &bytes[row * stride..][..width * self.format.sample_bytes()];
        if self.format.bits == 8 { Row::Bytes(bytes) } else { Row::Pairs(bytes.as_chunks().0) }
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

/// A picture's planes as those of a JPEG. Each holds whole blocks of pixels: with 4:2:0, luma of an odd size has a column
/// or a line more, which repeats the last.
#[derive(Clone, Copy, Debug)]
pub struct JpegPlanes<'a> {
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    subsampling: Subsampling,
    planes: [Plane<'a>; 3],
}

impl<'a> JpegPlanes<'a> {
    /// How many chroma samples there are.
    pub fn subsampling(&self) -> Subsampling {
        self.subsampling
    }

    /// Y, Cb, Cr.
    pub fn planes(&self) -> [Plane<'a>; 3] {
        self.planes
    }
}

/// The linear map, as the row loops take it.
#[derive(Clone, Copy, Debug)]
struct Map {
    up: u32,
    gain: u16,
    black: i16,
    /// To luma from chroma; `None` where it stays without.
    luma: Option<Weights>,
    chroma: [Weights; 2],
}

impl Map {
    fn new(format: Format) -> Self {
        let bits = i32::from(format.bits);
        // From what is left of 8 bits by the range to all 256 values.
        let full = 255.0 * 2_f64.powi(bits - 8) / (2_f64.powi(bits) - 1.0);
        let (luma, chroma, black) = match format.range {
            Range::Limited => (255.0 / 219.0, 255.0 / 224.0, 16.0),
            Range::Full => (full, full, 0.0),
        };
        let (red, blue) = format.matrix.red_and_blue();
        let (jpeg_red, jpeg_blue) = Matrix::Bt601.red_and_blue();
        let (from_cr, from_cb) = (2.0 * (1.0 - red), 2.0 * (1.0 - blue));
        let green = (1.0 - jpeg_red - jpeg_blue) / (1.0 - red - blue);
        // Red = Y + from_cr Cr, blue = Y + from_cb Cb, and Y is the sum of the three shares: the new Y follows, and of it
        // the new Cb = (blue - Y) / 2 (1 - share of blue), Cr likewise.
        let luma_of = [from_cb * (jpeg_blue - green * blue), from_cr * (jpeg_red - green * red)];
        let to_cb = [from_cb - luma_of[0], -luma_of[1]].map(|part| part / (2.0 * (1.0 - jpeg_blue)));
        let to_cr = [-luma_of[0], from_cr - luma_of[1]].map(|part| part / (2.0 * (1.0 - jpeg_red)));
        let weights = |parts: [f64; 2], unit: f64| {
            let [cb, cr] = parts.map(|part| (part * chroma * unit).round() as i16);
            Weights { cb, cr }
        };
        Self {
            up: u32::from(16 - format.bits),
            gain: (luma * f64::from(1 << 15)).round() as u16,
            black: (-black * luma * f64::from(1 << rows::OFFSET_BITS)).round() as i16,
            luma: (format.matrix != Matrix::Bt601 && format.subsampling != Subsampling::Gray)
                .then(|| weights(luma_of, rows::OFFSET_UNIT)),
            chroma: [weights(to_cb, rows::CHROMA_UNIT), weights(to_cr, rows::CHROMA_UNIT)],
        }
    }
}

/// Makes JPEG planes of decoded ones, in buffers that last from picture to picture.
#[derive(Debug, Default)]
pub struct Converter {
    planes: [Vec<u8>; 3],
    /// What is added to a row of luma.
    offsets: Vec<u16>,
    /// The same for each chroma sample.
    narrow: Vec<u16>,
}

impl Converter {
    /// The planes of a JPEG. A plane in which nothing has to change is the decoder's own.
    pub fn convert<'a>(&'a mut self, source: &Planes<'a>) -> JpegPlanes<'a> {
        let ((width, height), (chroma_width, _)) = (source.size(), source.chroma_size());
        let (across, down) = source.format.subsampling.block();
        let is_jpeg = source.format.is_jpeg();
        let luma = !is_jpeg || !width.is_multiple_of(across) || !height.is_multiple_of(down);
        let chroma = !is_jpeg && source.format.subsampling != Subsampling::Gray;
        let map = Map::new(source.format);
        if luma {
            self.convert_luma(source, &map);
        }
        if chroma {
            self.convert_chroma(source, &map);
        }
        let mut planes = source.planes;
        let [y, cb, cr] = &self.planes;
        if luma {
            planes[0] = Plane { bytes: y, stride: chroma_width * across };
        }
        if chroma {
            planes[1] = Plane { bytes: cb, stride: chroma_width };
            planes[2] = Plane { bytes: cr, stride: chroma_width };
        }
        let Planes { width, height, .. } = *source;
        JpegPlanes { width, height, subsampling: source.format.subsampling, planes }
    }

    fn convert_luma(&mut self, source: &Planes<'_>, map: &Map) {
        let (width, height) = source.size();
        let (chroma_width, chroma_height) = source.chroma_size();
        let (across, down) = source.format.subsampling.block();
        let stride = chroma_width * across;
        self.planes[0].resize(stride * chroma_height * down, 0);
        let base = rows::offset(map.black);
        self.narrow.resize(chroma_width, 0);
        self.offsets.clear();
        self.offsets.resize(stride, base);
        for (block, out) in self.planes[0].chunks_exact_mut(stride * down).enumerate() {
            if let Some(weights) = map.luma {
                let chroma = [1, 2].map(|component| source.row(component, block, chroma_width));
                if across == 1 {
                    rows::offsets(&mut self.offsets, chroma, map.up, weights, base);
                } else {
                    rows::offsets(&mut self.narrow, chroma, map.up, weights, base);
                    rows::twice(&mut self.offsets, &self.narrow);
                }
            }
            for (line, out) in out.chunks_exact_mut(stride).enumerate() {
                let row = source.row(0, (block * down + line).min(height - 1), width);
                rows::luma(out, row, map.up, map.gain, &self.offsets);
                let last = out[width - 1];
                out[width..].fill(last);
            }
        }
    }

    fn convert_chroma(&mut self, source: &Planes<'_>, map: &Map) {
        let (width, height) = source.chroma_size();
        for (plane, weights) in self.planes[1..].iter_mut().zip(map.chroma) {
            plane.resize(width * height, 0);
            for (row, out) in plane.chunks_exact_mut(width).enumerate() {
                let chroma = [1, 2].map(|component| source.row(component, row, width));
                rows::chroma(out, chroma, map.up, weights);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
