//! How alike two pictures are: the structural similarity index of Wang, Bovik, Sheikh and Simoncelli, "Image quality
//! assessment: from error visibility to structural similarity", IEEE Transactions on Image Processing 13(4), 2004,
//! equation 13.
//!
//! On luma of 8 bits (L = 255, K1 = 0.01, K2 = 0.03), over windows of 8x8 pixels that weigh all alike, 4 pixels apart,
//! variances with N - 1; the mean over all windows. That is the variant of x264 and of FFmpeg's filter `ssim`; the
//! paper's own windows are round, 11 pixels wide and one pixel apart, which costs fifty times as much.

use anyhow::ensure;

/// Pixels from one window to the next; a window is two of these wide.
const STEP: usize = 4;
const PIXELS: f64 = (4 * STEP * STEP) as f64;
const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);

/// Sums over a block of `STEP` x `STEP` pixels of two pictures.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    one: u32,
    other: u32,
    /// Of the squares of both.
    squares: u32,
    product: u32,
}

impl Sums {
    fn of(one: &[u8], other: &[u8], width: usize, left: usize, top: usize) -> Self {
        let mut sums = Self::default();
        for y in top..top + STEP {
            let row = y * width + left..y * width + left + STEP;
            for (&a, &b) in one[row.clone()].iter().zip(&other[row]) {
                let (a, b) = (u32::from(a), u32::from(b));
                sums.one += a;
                sums.other += b;
                sums.squares += a * a + b * b;
                sums.product += a * b;
            }
        }
        sums
    }

    fn plus(self, other: Self) -> Self {
        Self {
            one: self.one + other.one,
            other: self.other + other.other,
            squares: self.squares + other.squares,
            product: self.product + other.product,
        }
    }

    /// The index of one window.
    fn similarity(self) -> f64 {
        let [one, other, squares, product] = [self.one, self.other, self.squares, self.product].map(f64::from);
        let (mean_one, mean_other) = (one / PIXELS, other / PIXELS);
        let variances = (squares - (one * one + other * other) / PIXELS) / (PIXELS - 1.0);
        let covariance = (product - one * other / PIXELS) / (PIXELS - 1.0);
        (2.0 * mean_one * mean_other + C1) * (2.0 * covariance + C2)
            / ((mean_one * mean_one + mean_other * mean_other + C1) * (variances + C2))
    }
}

/// The similarity of two luma planes of `width` x `height` bytes without padding: 1 where they are equal, 0 where they
/// have nothing in common. Up to 3 pixels at the right and at the bottom do not count.
///
/// # Errors
///
/// When a plane is not as large as that, or has no room for a window.
pub fn ssim(one: &[u8], other: &[u8], width: usize, height: usize) -> anyhow::Result<f64> {
    ensure!(width >= 2 * STEP && height >= 2 * STEP, "pictures of {width}x{height} have no room for a window");
    for plane in [one, other] {
        ensure!(plane.len() == width * height, "a plane of {} bytes is not {width}x{height}", plane.len());
    }
    let columns = width / STEP;
    let row_of = |row: usize| -> Vec<Sums> {
        (0..columns).map(|column| Sums::of(one, other, width, column * STEP, row * STEP)).collect()
    };
    let mut above = row_of(0);
    let (mut total, mut windows) = (0.0, 0u32);
    for row in 1..height / STEP {
        let below = row_of(row);
        let both: Vec<Sums> = above.iter().zip(&below).map(|(above, below)| above.plus(*below)).collect();
        for pair in both.windows(2) {
            total += pair[0].plus(pair[1]).similarity();
            windows += 1;
        }
        above = below;
    }
    Ok(total / f64::from(windows))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::clip::{ClipSpec, Codec, Painter};
    use crate::mark::Mark;

    const SIZE: (usize, usize) = (320, 240);

    fn picture(counter: u32) -> Vec<u8> {
        let (width, height) = SIZE;
        let codec = Codec::H264;
        let spec =
            ClipSpec { camera: 5, width: width as u32, height: height as u32, fps: 25, gop: 25, codec, seconds: 1 };
        Painter::new(&spec).paint(Mark { camera: 5, counter, clip_frames: 25 })[..width * height].to_vec()
    }

    fn index(one: &[u8], other: &[u8]) -> f64 {
        ssim(one, other, SIZE.0, SIZE.1).unwrap()
    }

    /// Random numbers of -`most` to `most` on every pixel.
    fn noisy(plane: &[u8], most: i32) -> Vec<u8> {
        let mut rng = fastrand::Rng::with_seed(1);
        plane.iter().map(|&level| (i32::from(level) + rng.i32(-most..=most)).clamp(0, 255) as u8).collect()
    }

    #[test]
    fn equal_pictures_are_1_and_the_order_does_not_matter() {
        let (one, other) = (picture(0), noisy(&picture(0), 20));
        assert_eq!(index(&one, &one), 1.0);
        assert_eq!(index(&one, &other), index(&other, &one));
    }

    #[test]
    fn what_the_formula_gives_by_hand() {
        let plane = |level: u8| vec![level; SIZE.0 * SIZE.1];
        // Without structure only the means count: (2 x 100 x 150 + C1) / (100^2 + 150^2 + C1).
        assert!((index(&plane(100), &plane(150)) - 30_006.502_5 / 32_506.502_5).abs() < 1e-9);
        // Black and white: C1 / (255^2 + C1), next to nothing.
        assert!((index(&plane(0), &plane(255)) - 6.502_5 / 65_031.502_5).abs() < 1e-9);
        // A chessboard and its negative, one pixel a square: equal means, variance 64/63 x 50^2, covariance its
        // negative.
        let board = |first: u8, second: u8| -> Vec<u8> {
            (0..SIZE.0 * SIZE.1).map(|i| if (i + i / SIZE.0).is_multiple_of(2) { first } else { second }).collect()
        };
        let variance = 64.0 / 63.0 * 2_500.0;
        let expected = (C2 - 2.0 * variance) / (C2 + 2.0 * variance);
        assert!((index(&board(50, 150), &board(150, 50)) - expected).abs() < 1e-9);
    }

    #[test]
    fn the_more_a_picture_is_spoilt_the_less_it_is_like() {
        let whole = picture(0);
        let [slight, heavy] = [5, 60].map(|most| index(&whole, &noisy(&whole, most)));
        assert!(slight > 0.9 && heavy < 0.7 && heavy > 0.1, "{slight} {heavy}");
        // A picture a moment later, and one whose lower half stands still: both are damage that must show.
        let later = picture(5);
        let mut torn = later.clone();
        torn[SIZE.0 * SIZE.1 / 2..].copy_from_slice(&whole[SIZE.0 * SIZE.1 / 2..]);
        assert!(index(&later, &whole) < 0.9, "{}", index(&later, &whole));
        assert!(index(&later, &torn) < 0.95 && index(&later, &torn) > index(&later, &whole));
    }

    #[test]
    fn planes_that_do_not_fit_are_refused() {
        assert!(ssim(&[0; 64], &[0; 63], 8, 8).is_err());
        assert!(ssim(&[0; 49], &[0; 49], 7, 7).is_err());
    }

    #[test]
    fn ffmpegs_filter_says_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let whole = picture(0);
        for most in [10, 40] {
            let other = noisy(&whole, most);
            for (name, plane) in [("one", &whole), ("other", &other)] {
                std::fs::write(dir.path().join(name), plane).unwrap();
            }
            let input = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", "320x240", "-i"];
            let output = Command::new("ffmpeg")
                .args(["-hide_banner", "-nostdin"])
                .args(input)
                .arg(dir.path().join("one"))
                .args(input)
                .arg(dir.path().join("other"))
                .args(["-lavfi", "ssim", "-f", "null", "-"])
                .output()
                .expect("ffmpeg is installed");
            let said = String::from_utf8_lossy(&output.stderr);
            let value = said.split("All:").nth(1).and_then(|rest| rest.split([' ', '(']).next());
            let value: f64 = value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{said}"));
            assert!((index(&whole, &other) - value).abs() < 1e-3, "{most}: {} {value}", index(&whole, &other));
        }
    }
}
