//! The capture program on FFmpeg and libjpeg-turbo: what it costs, and what it is worth.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::{both, holds};
use crate::accept::Plan;
use crate::accept::commands::{Wanted, telling, whole};
use crate::clip::{ClipSpec, Codec, Film};
use crate::scenario::{self, Cost, Counts, EndToEnd, KeyFrames, Load, Medium, Memory, PassThrough, Stage};

/// The engine of the capture program that all of this is about.
const ENGINE: &str = "ffmpeg";
/// Where Python gets its environment. `make clean` removes it.
const PYTHON: &str = "target/contest";

pub(in crate::accept) fn fast_capture() -> Vec<Plan> {
    let seconds = Duration::from_secs;
    // A second more than what is counted: the start goes off.
    let full_hd = ClipSpec { camera: 1, width: 1920, height: 1080, fps: 25, gop: 25, codec: Codec::H264, seconds: 41 };
    let film = Film { clip: full_hd, kbits: 4_000 };
    let hd = Film { clip: ClipSpec { width: 1280, height: 720, ..full_hd }, kbits: 2_000 };
    let h265 = Film { clip: ClipSpec { codec: Codec::H265, ..full_hd }, kbits: 4_000 };
    let uhd = Film { clip: ClipSpec { width: 3840, height: 2160, seconds: 13, ..full_hd }, kbits: 12_000 };
    let medium = |name, film, judged| Medium { name, film, judged };
    let cost = Cost {
        media: vec![
            medium("1080p H.264, 4 Mbit/s", film, true),
            medium("720p H.264, 2 Mbit/s", hd, false),
            medium("1080p H.265, 4 Mbit/s", h265, false),
            medium("2160p H.264, 12 Mbit/s", uhd, false),
        ],
        rounds: 5,
        python: Some(PathBuf::from(PYTHON)),
        counts: Counts::Callgrind,
        most_of_floor: 1.25,
        most_of_python: 0.8,
        most_of_command_line: 0.5,
    };
    let key_frames = KeyFrames { film, rounds: 5, most: 0.15 };
    let jpegs = ClipSpec { codec: Codec::Mjpeg, gop: 1, seconds: 21, ..full_hd };
    let pass_through = PassThrough { clip: jpegs, rounds: 5, most: 0.05 };
    let load = Load {
        engine: ENGINE,
        cameras: 8,
        size: (1920, 1080),
        fps: 25,
        kbits: 4_000,
        other_kbits: vec![1_000, 2_000],
        lasts: seconds(60),
        least_per_core: 50.0,
        memory: vec![
            Memory { size: (1920, 1080), kbits: 4_000, most_mb: 40.0 },
            Memory { size: (640, 480), kbits: 1_000, most_mb: 20.0 },
        ],
        memory_lasts: seconds(30),
    };
    let end_to_end = EndToEnd {
        engine: ENGINE,
        cameras: 4,
        size: (1280, 720),
        fps: 15,
        lasts: seconds(60),
        most_p50_ms: 30.0,
        most_p99_ms: 100.0,
    };
    let mut plans = vec![
        Plan::new(1, None, move |program| scenario::cost(&Stage::new(program)?, &cost)),
        Plan::new(2, None, |_| {
            let bound = "every subsampling, depth, range and matrix, bars and natural pictures, against a JPEG of the same quality \
                         from a full-precision RGB conversion: PSNR at least 40 dB, mean signed error at most 1 a channel";
            telling(
                bound,
                &[],
                &[
                    "test",
                    "--locked",
                    "-p",
                    "framehaul-pictures",
                    "--",
                    "--nocapture",
                    "--test-threads=1",
                    "colours_are",
                ],
                &[Wanted { field: "colours", figures: 1, judge: right_colours }],
            )
        }),
        Plan::new(3, None, move |program| {
            let keys = scenario::key_frames(&Stage::new(program)?, &key_frames)?;
            Ok(both(keys, scenario::pass_through(&Stage::new(program)?, &pass_through)?))
        }),
        Plan::new(4, None, move |program| scenario::load(&Stage::new(program)?, &load)),
        Plan::new(7, None, move |program| scenario::end_to_end(&Stage::new(program)?, &end_to_end)),
    ];
    plans.extend(super::damage::damage());
    plans
}

/// Three subsamplings, two depths, two ranges, two matrices, bars and a natural picture, at least.
const COLOURS: u64 = 3 * 2 * 2 * 2 * 2;

fn right_colours(figure: &Value) -> Result<(), String> {
    let number = |field: &str| figure[field].as_f64().ok_or_else(|| format!("no number `{field}`"));
    holds(whole(figure, "colours")? >= COLOURS, "not every combination was compared")?;
    holds(number("least_psnr_db")? >= 40.0, "less than 40 dB")?;
    holds(number("largest_mean_error")? <= 1.0, "a mean error above 1")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn colours_must_be_many_and_right() {
        let of = |compared: u64, psnr: f64, error: f64| {
            right_colours(&json!({ "colours": compared, "least_psnr_db": psnr, "largest_mean_error": error }))
        };
        assert_eq!(of(COLOURS, 40.0, 1.0), Ok(()));
        assert!(of(COLOURS - 1, 45.0, 0.1).is_err());
        assert!(of(COLOURS, 39.99, 0.1).is_err());
        assert!(of(COLOURS, 45.0, 1.01).is_err());
        assert!(right_colours(&json!({ "colours": COLOURS })).is_err());
    }
}
