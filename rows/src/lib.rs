//! Loops over the samples of a picture's rows.
//!
//! A crate of their own, because the compiler makes vector instructions of loops at `opt-level = 2` only, at which the
//! workspace's manifest has this crate compiled, and 1080p takes a tenth of the time. Hence the rules of this file: no
//! generic or inlined function is public, because those are compiled where they are called; arithmetic is wrapping,
//! because a check of each sum forbids vectors; and products are of 16 bits by 16, of which SSE2 keeps the upper half.
#![forbid(unsafe_code)]

/// Fractional bits of the offsets of [`luma`].
pub const OFFSET_BITS: u32 = 7;
/// The weight that leaves a chroma sample of 8 bits as it is, for [`offsets`].
pub const OFFSET_UNIT: f64 = (1 << (8 + OFFSET_BITS)) as f64;
/// The weight that leaves a chroma sample of 8 bits as it is, for [`chroma`].
pub const CHROMA_UNIT: f64 = (1 << (8 + CHROMA_BITS)) as f64;
/// Fractional bits within [`chroma`].
const CHROMA_BITS: u32 = 6;
/// What luma offsets are raised by, so that no sum is below zero.
const RAISED: u16 = 128;

/// A row of samples.
#[derive(Clone, Copy, Debug)]
pub enum Row<'a> {
    /// 8 bit.
    Bytes(&'a [u8]),
    /// More, two bytes each, little-endian.
    Pairs(&'a [[u8; 2]]),
}

/// A weight for each of the two chroma samples of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Cb's.
    pub cb: i16,
    /// Cr's.
    pub cr: i16,
}

trait Sample: Copy {
    fn value(self) -> u16;
}

impl Sample for u8 {
    #[inline(always)]
    fn value(self) -> u16 {
        self.into()
    }
}

impl Sample for [u8; 2] {
    #[inline(always)]
    fn value(self) -> u16 {
        u16::from_le_bytes(self)
    }
}

/// The sample's bits shifted up to the top of 16. `up` is never a constant: with one the compiler shortens the product
/// that follows to something for which there is no vector instruction.
#[inline(always)]
fn top(sample: impl Sample, up: u32) -> u16 {
    sample.value() << (up & 15)
}

/// `a * b / 2^16`. Signed factors would do as well, but the compiler makes vectors of unsigned ones only.
#[inline(always)]
fn upper_half(a: u16, b: u16) -> u16 {
    (u32::from(a).wrapping_mul(u32::from(b)) >> 16) as u16
}

/// A weight of chroma, for unsigned products: where it is negative, the samples are turned over.
#[derive(Clone, Copy)]
struct Weight {
    size: u16,
    turn: u16,
    /// What comes of a chroma sample in the middle: no colour.
    middle: u16,
}

impl Weight {
    fn new(weight: i16) -> Self {
        let (size, turn) = (weight.unsigned_abs(), if weight < 0 { u16::MAX } else { 0 });
        Self { size, turn, middle: upper_half(0x8000 ^ turn, size) }
    }

    #[inline(always)]
    fn of(self, sample: impl Sample, up: u32) -> u16 {
        upper_half(top(sample, up) ^ self.turn, self.size)
    }
}

/// Sums of both weighted chroma samples of each place, and of `base`.
#[inline(always)]
fn mix<S: Sample, T>(out: &mut [T], chroma: [&[S]; 2], up: u32, weights: Weights, base: u16, cut: impl Fn(u16) -> T) {
    let (first, second) = (Weight::new(weights.cb), Weight::new(weights.cr));
    let base = base.wrapping_sub(first.middle).wrapping_sub(second.middle);
    for ((out, cb), cr) in out.iter_mut().zip(chroma[0]).zip(chroma[1]) {
        *out = cut(first.of(*cb, up).wrapping_add(second.of(*cr, up)).wrapping_add(base));
    }
}

/// A row of luma: `sample * 2^up * gain / 2^16 + offset`, of which the last seven bits are the fraction, cut to 8 bits.
#[inline(never)]
pub fn luma(out: &mut [u8], row: Row<'_>, up: u32, gain: u16, offsets: &[u16]) {
    #[inline(always)]
    fn each<S: Sample>(out: &mut [u8], row: &[S], up: u32, gain: u16, offsets: &[u16]) {
        for ((out, sample), offset) in out.iter_mut().zip(row).zip(offsets) {
            let sum = (upper_half(top(*sample, up), gain).wrapping_add(*offset) >> OFFSET_BITS) as i16;
            *out = sum.wrapping_sub(RAISED as i16).clamp(0, 255) as u8;
        }
    }
    match row {
        Row::Bytes(row) => each(out, row, up, gain, offsets),
        Row::Pairs(row) => each(out, row, up, gain, offsets),
    }
}

/// The offset of a [`luma`] row to which `black` is added (2^-7), rounding included.
pub fn offset(black: i16) -> u16 {
    ((RAISED << OFFSET_BITS) + (1 << (OFFSET_BITS - 1))).wrapping_add_signed(black)
}

/// A row of offsets: each `base`, and its place's chroma from the middle, weighted by shares of [`OFFSET_UNIT`].
#[inline(never)]
pub fn offsets(out: &mut [u16], chroma: [Row<'_>; 2], up: u32, weights: Weights, base: u16) {
    match chroma {
        [Row::Bytes(cb), Row::Bytes(cr)] => mix(out, [cb, cr], up, weights, base, |sum| sum),
        [Row::Pairs(cb), Row::Pairs(cr)] => mix(out, [cb, cr], up, weights, base, |sum| sum),
        _ => unreachable!("both rows are of one picture"),
    }
}

/// Each value twice: from a row of 4:2:0 or 4:2:2 chroma to one of luma.
#[inline(never)]
pub fn twice(out: &mut [u16], row: &[u16]) {
    for (out, value) in out.as_chunks_mut::<2>().0.iter_mut().zip(row) {
        *out = [*value, *value];
    }
}

/// A row of chroma: both chroma rows from their middle, weighted by shares of [`CHROMA_UNIT`], cut to 8 bits.
#[inline(never)]
pub fn chroma(out: &mut [u8], chroma: [Row<'_>; 2], up: u32, weights: Weights) {
    const BASE: u16 = (128 << CHROMA_BITS) + (1 << (CHROMA_BITS - 1));
    let cut = |sum: u16| (sum as i16 >> CHROMA_BITS).clamp(0, 255) as u8;
    match chroma {
        [Row::Bytes(cb), Row::Bytes(cr)] => mix(out, [cb, cr], up, weights, BASE, cut),
        [Row::Pairs(cb), Row::Pairs(cr)] => mix(out, [cb, cr], up, weights, BASE, cut),
        _ => unreachable!("both rows are of one picture"),
    }
}
