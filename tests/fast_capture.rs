//! What capturing costs, in short: `make accept NAME=fast-capture` runs the same in full.
//!
//! Counts are asserted, and that pictures are the same byte for byte; timings and memory at three times their bound or
//! more: other tests run beside these.

use std::time::Duration;

use testbed::clip::{ClipSpec, Codec, Film};
use testbed::scenario::testing::{self, assert_passed};
use testbed::scenario::{self, Cost, Counts, EndToEnd, KeyFrames, Load, Medium, Memory, PassThrough, Stage};

fn stage() -> Stage {
    testing::stage(env!("CARGO_BIN_EXE_framehaul"))
}

const CLIP: ClipSpec =
    ClipSpec { camera: 1, width: 640, height: 480, fps: 25, gop: 25, codec: Codec::H264, seconds: 9 };
const FILM: Film = Film { clip: CLIP, kbits: 1_000 };

#[test]
fn every_contestant_makes_a_jpeg_of_each_picture() {
    let plan = Cost {
        media: vec![Medium { name: "480p H.264", film: FILM, judged: true }],
        rounds: 1,
        // Installing it and counting instructions are left to the acceptance.
        python: None,
        counts: Counts::None,
        most_of_floor: 3.75,
        most_of_python: 2.4,
        most_of_command_line: 1.5,
    };
    assert_passed(scenario::cost(&stage(), &plan));
}

#[test]
fn key_frames_alone_are_the_pictures_they_are_among_all() {
    assert_passed(scenario::key_frames(&stage(), &KeyFrames { film: FILM, rounds: 1, most: 0.45 }));
}

#[test]
fn jpegs_pass_through_as_they_are() {
    // Long enough to be measured in hundredths of a second.
    let clip = ClipSpec { codec: Codec::Mjpeg, gop: 1, seconds: 25, ..CLIP };
    assert_passed(scenario::pass_through(&stage(), &PassThrough { clip, rounds: 1, most: 0.15 }));
}

#[test]
fn a_frame_a_second_costs_little_and_a_camera_holds_little_memory() {
    let plan = Load {
        engine: "ffmpeg",
        cameras: 2,
        size: (640, 480),
        fps: 25,
        kbits: 1_000,
        other_kbits: Vec::new(),
        lasts: Duration::from_secs(8),
        least_per_core: 50.0 / 3.0,
        memory: vec![Memory { size: (640, 480), kbits: 1_000, most_mb: 60.0 }],
        memory_lasts: Duration::from_secs(3),
    };
    assert_passed(scenario::load(&stage(), &plan));
}

#[test]
fn frames_are_stored_soon_after_their_capture() {
    let plan = EndToEnd {
        engine: "ffmpeg",
        cameras: 2,
        size: (640, 480),
        fps: 15,
        lasts: Duration::from_secs(8),
        most_p50_ms: 90.0,
        // The slowest of a hundred says more about the other tests than about us.
        most_p99_ms: 1_000.0,
    };
    assert_passed(scenario::end_to_end(&stage(), &plan));
}
