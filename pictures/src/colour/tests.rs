use std::time::Instant;

use super::*;

pub const MATRICES: [Matrix; 3] = [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020];
pub const RANGES: [Range; 2] = [Range::Limited, Range::Full];

/// Red, green and blue of code values, 0 to 1 and beyond, by the standards' own formulas: H.273, equations 23 to 40.
pub fn rgb(format: Format, [y, cb, cr]: [u16; 3]) -> [f64; 3] {
    let (low, unit) = ((1_u32 << (format.bits - 8)) as f64, ((1_u32 << format.bits) - 1) as f64);
    let middle = 128.0 * low;
    let (y, cb, cr) = (f64::from(y), f64::from(cb) - middle, f64::from(cr) - middle);
    let (y, cb, cr) = match format.range {
        Range::Limited => ((y - 16.0 * low) / (219.0 * low), cb / (224.0 * low), cr / (224.0 * low)),
        Range::Full => (y / unit, cb / unit, cr / unit),
    };
    let (red_share, blue_share) = shares(format.matrix);
    let red = y + 2.0 * (1.0 - red_share) * cr;
    let blue = y + 2.0 * (1.0 - blue_share) * cb;
    [red, (y - red_share * red - blue_share * blue) / (1.0 - red_share - blue_share), blue]
}

/// H.273, table 4.
fn shares(matrix: Matrix) -> (f64, f64) {
    match matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
        Matrix::Bt2020 => (0.2627, 0.0593),
    }
}

/// Y, Cb, Cr of a JPEG: T.871, section 7, before rounding and cutting.
fn jfif([red, green, blue]: [f64; 3]) -> [f64; 3] {
    let y = 0.299 * red + 0.587 * green + 0.114 * blue;
    [255.0 * y, 255.0 * (blue - y) / 1.772 + 128.0, 255.0 * (red - y) / 1.402 + 128.0]
}

/// The code values of a colour.
fn codes(format: Format, [red, green, blue]: [f64; 3]) -> [f64; 3] {
    let (low, unit) = ((1_u32 << (format.bits - 8)) as f64, ((1_u32 << format.bits) - 1) as f64);
    let (red_share, blue_share) = shares(format.matrix);
    let y = red_share * red + blue_share * blue + (1.0 - red_share - blue_share) * green;
    let (cb, cr) = ((blue - y) / (2.0 - 2.0 * blue_share), (red - y) / (2.0 - 2.0 * red_share));
    match format.range {
        Range::Limited => [(219.0 * y + 16.0) * low, (224.0 * cb + 128.0) * low, (224.0 * cr + 128.0) * low],
        Range::Full => [unit * y, unit * cb + 128.0 * low, unit * cr + 128.0 * low],
    }
}

/// A decoded picture that owns its planes.
pub struct Decoded {
    pub format: Format,
    pub width: usize,
    pub height: usize,
    samples: [Vec<u16>; 3],
    bytes: [Vec<u8>; 3],
    strides: [usize; 3],
}

impl Decoded {
    /// From samples without gaps. The planes get gaps between their rows, with something in them that would show.
    pub fn new(format: Format, (width, height): (usize, usize), samples: [Vec<u16>; 3]) -> Self {
        let (across, down) = format.subsampling.block();
        let chroma = (width.div_ceil(across), height.div_ceil(down));
        let mut strides = [0; 3];
        let mut bytes = [const { Vec::new() }; 3];
        for (index, samples) in samples.iter().enumerate() {
            let (width, height) = if index == 0 { (width, height) } else { chroma };
            if samples.is_empty() {
                continue;
            }
            assert_eq!(samples.len(), width * height);
            strides[index] = width * format.sample_bytes() + 6;
            for row in samples.chunks_exact(width) {
                match format.bits {
                    8 => bytes[index].extend(row.iter().map(|sample| *sample as u8)),
                    _ => bytes[index].extend(row.iter().flat_map(|sample| sample.to_le_bytes())),
                }
                bytes[index].extend([0xda; 6]);
            }
            let all = bytes[index].len() - 6;
            bytes[index].truncate(all);
        }
        Self { format, width, height, samples, bytes, strides }
    }

    /// A painting as a camera would send it: chroma is the mean of its pixels.
    pub fn paint(format: Format, (width, height): (usize, usize), colour: impl Fn(usize, usize) -> [f64; 3]) -> Self {
        let most = f64::from((1_u32 << format.bits) - 1);
        let code = |value: f64| value.round().clamp(0.0, most) as u16;
        let (across, down) = format.subsampling.block();
        let mut samples = [const { Vec::new() }; 3];
        for y in 0..height {
            samples[0].extend((0..width).map(|x| code(codes(format, colour(x, y))[0])));
        }
        if format.subsampling != Subsampling::Gray {
            for (y, x) in (0..height).step_by(down).flat_map(|y| (0..width).step_by(across).map(move |x| (y, x))) {
                let block = (y..(y + down).min(height)).flat_map(|y| (x..(x + across).min(width)).map(move |x| (x, y)));
                let block: Vec<_> = block.map(|(x, y)| codes(format, colour(x, y))).collect();
                for component in [1, 2] {
                    let sum: f64 = block.iter().map(|codes| codes[component]).sum();
                    samples[component].push(code(sum / block.len() as f64));
                }
            }
        }
        Self::new(format, (width, height), samples)
    }

    pub fn planes(&self) -> Planes<'_> {
        let plane = |index: usize| Plane { bytes: &self.bytes[index], stride: self.strides[index] };
        Planes::new(self.width as u32, self.height as u32, self.format, [0, 1, 2].map(plane)).unwrap()
    }

    /// A pixel's colour. Chroma is that of its block: any smoother choice would compare two ways of filling in what the
    /// camera left out, and the encoder, which makes the mean of each block, gets back what was there.
    pub fn rgb(&self, x: usize, y: usize) -> [f64; 3] {
        let (across, down) = self.format.subsampling.block();
        let neutral = 128 << (self.format.bits - 8);
        let at = y / down * self.width.div_ceil(across) + x / across;
        let chroma = |component: usize| self.samples[component].get(at).copied().unwrap_or(neutral);
        rgb(self.format, [self.samples[0][y * self.width + x], chroma(1), chroma(2)])
    }
}

fn format(subsampling: Subsampling, bits: u8, range: Range, matrix: Matrix) -> Format {
    Format { subsampling, bits, range, matrix }
}

fn plane_rows<'a>(plane: Plane<'a>, width: usize) -> impl Iterator<Item = &'a [u8]> {
    plane.bytes.chunks(plane.stride).map(move |row| &row[..width])
}

/// The largest distance from the formula for these samples, each with each; what lies beyond a JPEG's values is cut.
fn largest_error(format: Format, luma: &[u16], cb: &[u16], cr: &[u16]) -> [f64; 3] {
    let (width, height) = (luma.len(), cr.len());
    let mut converter = Converter::default();
    let mut largest = [0.0_f64; 3];
    for cb in cb {
        let samples = [
            luma.repeat(height),
            vec![*cb; width * height],
            cr.iter().flat_map(|cr| vec![*cr; width]).collect::<Vec<_>>(),
        ];
        let decoded = Decoded::new(format, (width, height), samples);
        let converted = converter.convert(&decoded.planes());
        let mut rows = converted.planes().map(|plane| plane_rows(plane, width));
        for cr in cr {
            let rows = rows.each_mut().map(|rows| rows.next().unwrap());
            // Chroma has no part in luma's slope, nor luma in chroma.
            let black = jfif(rgb(format, [0, *cb, *cr]));
            let slope = jfif(rgb(format, [1, *cb, *cr]))[0] - black[0];
            for (found, y) in rows[0].iter().zip(luma) {
                let exact = (black[0] + slope * f64::from(*y)).clamp(0.0, 255.0);
                largest[0] = largest[0].max((f64::from(*found) - exact).abs());
            }
            for component in [1, 2] {
                let found = rows[component][0];
                assert!(rows[component].iter().all(|other| *other == found));
                let error = (f64::from(found) - black[component].clamp(0.0, 255.0)).abs();
                largest[component] = largest[component].max(error);
            }
        }
    }
    largest
}

/// A half is what rounding alone costs.
const TOLERANCE: f64 = 0.53;

#[test]
fn every_colour_of_8_bit_is_the_formulas() {
    let all: Vec<u16> = (0..256).collect();
    for (matrix, range) in MATRICES.iter().flat_map(|matrix| RANGES.map(|range| (*matrix, range))) {
        let largest = largest_error(format(Subsampling::Yuv444, 8, range, matrix), &all, &all, &all);
        println!("{matrix:?} {range:?}: {largest:.3?}");
        assert!(largest.iter().all(|error| *error <= TOLERANCE), "{matrix:?} {range:?}: {largest:?}");
    }
}

#[test]
fn colours_of_more_bits_are_the_formulas_rounded_to_8() {
    for bits in [9, 10, 12, 16] {
        let most = (1_u32 << bits) - 1;
        let some = |count: u32| -> Vec<u16> { (0..=count).map(|nth| (most * nth / count) as u16).collect() };
        let (luma, cb, cr) = (some(1023.min(most)), some(37), some(41));
        for (matrix, range) in MATRICES.iter().flat_map(|matrix| RANGES.map(|range| (*matrix, range))) {
            let largest = largest_error(format(Subsampling::Yuv444, bits, range, matrix), &luma, &cb, &cr);
            println!("{bits} bit {matrix:?} {range:?}: {largest:.3?}");
            assert!(largest.iter().all(|error| *error <= TOLERANCE), "{bits} {matrix:?} {range:?}: {largest:?}");
        }
    }
}

/// Every combination that a camera may send.
pub fn formats() -> impl Iterator<Item = Format> {
    [Subsampling::Yuv420, Subsampling::Yuv422, Subsampling::Yuv444, Subsampling::Gray].into_iter().flat_map(|s| {
        [8, 10].into_iter().flat_map(move |bits| {
            RANGES.into_iter().flat_map(move |range| MATRICES.map(|matrix| format(s, bits, range, matrix)))
        })
    })
}

#[test]
fn gray_stays_gray_from_black_to_white() {
    let mut converter = Converter::default();
    for format in formats() {
        let up = format.bits - 8;
        let (black, white) = match format.range {
            Range::Limited => (16 << up, 235 << up),
            Range::Full => (0, (1 << format.bits) - 1),
        };
        let (_, down) = format.subsampling.block();
        let width = usize::from(white - black) + 1;
        let chroma = if format.subsampling == Subsampling::Gray {
            vec![]
        } else {
            vec![128 << up; width.div_ceil(format.subsampling.block().0) * 2_usize.div_ceil(down)]
        };
        let samples = [(black..=white).collect::<Vec<u16>>().repeat(2), chroma.clone(), chroma];
        let decoded = Decoded::new(format, (width, 2), samples);
        let converted = converter.convert(&decoded.planes());
        for row in plane_rows(converted.planes()[0], width) {
            assert_eq!((row[0], row[width - 1]), (0, 255), "{format:?}");
            assert!(row.is_sorted(), "{format:?}");
        }
        if format.subsampling != Subsampling::Gray {
            let width = width.div_ceil(format.subsampling.block().0);
            for plane in &converted.planes()[1..] {
                assert!(plane_rows(*plane, width).flatten().all(|sample| *sample == 128), "{format:?}");
            }
        }
    }
}

#[test]
fn chroma_corrects_the_luma_of_its_own_block() {
    for format in formats().filter(|format| format.subsampling != Subsampling::Gray) {
        for size in [(16, 6), (15, 5), (1, 1), (2, 1), (1, 2), (37, 3)] {
            let colour = |x: usize, y: usize| {
                [0.2 + 0.6 * ((x * 7 + y * 3) % 11) as f64 / 10.0, 0.5, 0.2 + 0.6 * ((x * 5 + y) % 7) as f64 / 6.0]
            };
            let decoded = Decoded::paint(format, size, colour);
            let mut converter = Converter::default();
            let converted = converter.convert(&decoded.planes());
            let [luma, cb, cr] = converted.planes();
            let (across, down) = format.subsampling.block();
            for (y, x) in (0..size.1).flat_map(|y| (0..size.0).map(move |x| (y, x))) {
                let exact = jfif(decoded.rgb(x, y));
                let chroma = |plane: Plane<'_>| plane.bytes[y / down * plane.stride + x / across];
                let found = [luma.bytes[y * luma.stride + x], chroma(cb), chroma(cr)];
                for (found, exact) in found.into_iter().zip(exact) {
                    let error = (f64::from(found) - exact.clamp(0.0, 255.0)).abs();
                    assert!(error <= TOLERANCE, "{format:?} {size:?} at {x}, {y}: {found} for {exact}");
                }
            }
        }
    }
}

#[test]
fn an_odd_size_is_filled_up_with_its_last_column_and_line() {
    for range in RANGES {
        let format = format(Subsampling::Yuv420, 8, range, Matrix::Bt601);
        let decoded = Decoded::paint(format, (7, 5), |x, y| [(x + 8 * y) as f64 / 48.0; 3]);
        let mut converter = Converter::default();
        // What an earlier picture left must not show.
        converter.convert(&Decoded::paint(format, (9, 7), |_, _| [1.0; 3]).planes());
        let converted = converter.convert(&decoded.planes());
        let rows: Vec<&[u8]> = plane_rows(converted.planes()[0], 8).collect();
        assert_eq!((converted.width, converted.height, rows.len()), (7, 5, 6));
        assert!(rows.iter().all(|row| row[7] == row[6]));
        assert_eq!(rows[5], rows[4]);
        assert_eq!(converted.planes().map(|plane| plane.bytes.len() >= 4 * 3), [true; 3]);
    }
}

#[test]
fn what_is_a_jpegs_already_is_not_copied() {
    let samples = |format: Format, size| Decoded::paint(format, size, |x, y| [x as f64 / 9.0, y as f64 / 9.0, 0.5]);
    let own = |decoded: &Decoded| {
        let mut converter = Converter::default();
        let converted = converter.convert(&decoded.planes());
        [0, 1, 2].map(|index| converted.planes()[index].bytes.as_ptr() == decoded.bytes[index].as_ptr())
    };
    let jpeg = |subsampling| format(subsampling, 8, Range::Full, Matrix::Bt601);
    for subsampling in [Subsampling::Yuv420, Subsampling::Yuv422, Subsampling::Yuv444] {
        assert_eq!(own(&samples(jpeg(subsampling), (8, 6))), [true; 3], "{subsampling:?}");
    }
    assert_eq!(own(&samples(jpeg(Subsampling::Yuv420), (7, 6))), [false, true, true]);
    assert_eq!(own(&samples(jpeg(Subsampling::Yuv422), (8, 5))), [true; 3]);
    assert_eq!(own(&samples(jpeg(Subsampling::Yuv444), (7, 5))), [true; 3]);
    let gray = Format { matrix: Matrix::Bt709, ..jpeg(Subsampling::Gray) };
    assert!(own(&samples(gray, (7, 5)))[0]);
    let limited = Format { range: Range::Limited, ..jpeg(Subsampling::Yuv420) };
    assert_eq!(own(&samples(limited, (8, 6))), [false; 3]);
}

#[test]
fn planes_that_hold_no_such_picture_are_refused() {
    let bytes = [0; 64];
    let plane = |length: usize, stride| Plane { bytes: &bytes[..length], stride };
    let yuv420 = format(Subsampling::Yuv420, 8, Range::Limited, Matrix::Bt709);
    let with = |format: Format, planes| Planes::new(7, 5, format, planes).map(|_| ());
    let short = |index| Err(PlanesError::Short { index });
    let fitting = [plane(8 * 4 + 7, 8), plane(4 * 2 + 4, 4), plane(4 * 2 + 4, 4)];
    assert_eq!(with(yuv420, fitting), Ok(()));
    for (index, length, stride) in
        [(0, 38, 8), (0, 64, 6), (0, 64, usize::MAX), (1, 11, 4), (1, 64, 3), (2, 11, 4), (2, 0, 0)]
    {
        let mut planes = fitting;
        planes[index] = plane(length, stride);
        assert_eq!(with(yuv420, planes), short(index), "{index} {length} {stride}");
    }
    assert_eq!(with(Format { bits: 10, ..yuv420 }, fitting), short(0));
    assert_eq!(with(Format { subsampling: Subsampling::Yuv444, ..yuv420 }, fitting), short(1));
    assert_eq!(
        with(Format { subsampling: Subsampling::Gray, ..yuv420 }, [fitting[0], plane(0, 0), plane(0, 0)]),
        Ok(())
    );
    for bits in [0, 7, 17, 255] {
        assert_eq!(with(Format { bits, ..yuv420 }, fitting), Err(PlanesError::Bits(bits)));
    }
    for (width, height) in [(0, 5), (7, 0), (65_501, 1), (1, u32::MAX)] {
        let refused = Planes::new(width, height, yuv420, fitting).map(|_| ());
        assert_eq!(refused, Err(PlanesError::Size { width, height }));
    }
}

#[test]
fn a_stream_that_names_no_matrix_is_taken_for_what_players_take_it_for() {
    let of = Matrix::by_size;
    assert_eq!([of(640, 480), of(720, 576), of(1279, 719)], [Matrix::Bt601; 3]);
    assert_eq!([of(1280, 480), of(960, 720), of(1920, 1080), of(3840, 2160)], [Matrix::Bt709; 4]);
}

#[test]
#[ignore = "a measurement"]
fn the_time_of_a_1080p_picture() {
    for format in formats() {
        let size = (1920, 1080);
        let decoded = Decoded::paint(format, size, |x, y| [x as f64 / 1920.0, y as f64 / 1080.0, 0.5]);
        let mut converter = Converter::default();
        let mut times: Vec<f64> = (0..50)
            .map(|_| {
                let begun = Instant::now();
                std::hint::black_box(converter.convert(&decoded.planes()));
                begun.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!("{format:?}: median {:.3} ms, least {:.3} ms", times[25], times[0]);
    }
}
