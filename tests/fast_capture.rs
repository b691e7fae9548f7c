//! What capturing costs, in short: `make accept NAME=fast-capture` runs the same in full.
//!
//! Counts are asserted, and that pictures are the same byte for byte; timings and memory at three times their bound or
//! more: other tests run beside these.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;
use testbed::cameras::{CameraServer, CameraSpec, default_cache_dir};
use testbed::clip::{ClipSpec, Codec, Film};
use testbed::contest::trial;
use testbed::daemon::Storage;
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
fn a_capture_process_does_not_grow_with_what_it_reads() -> anyhow::Result<()> {
    const KBITS: u32 = 8_000;
    // Each is a second of the stream, of which all else is read and left out.
    const KEY_FRAMES: u64 = 8;
    let spec = CameraSpec::new("live").size(640, 480).rate(25, 25).film(KBITS, 9);
    let recording = Film { clip: CLIP, kbits: KBITS }.mp4(&default_cache_dir())?.canonicalize()?;
    let server = CameraServer::start(&[spec], 0, default_cache_dir())?;
    let stage = stage();
    let files = format!("[capture]\nfiles = {}", json!(recording.parent()));
    let daemon = stage.daemon(&Storage::Directory, &files)?;
    daemon.put_camera("live", &json!({ "url": server.url("live"), "sampling": "keyframes" }))?;
    let recording = format!("file://{}", recording.display());
    let recording = json!({ "url": recording, "loop": true, "pace": "unpaced", "sampling": "keyframes" });
    daemon.put_camera("recorded", &recording)?;
    for id in ["live", "recorded"] {
        let come_to = |frames: u64| -> anyhow::Result<(u32, u64)> {
            let far = |captured| captured >= frames;
            let status = daemon.wait_for(id, Duration::from_secs(60), |status| far(status.totals.captured))?;
            let pid = status.pid.with_context(|| format!("camera {id} has no capture process"))?;
            Ok((pid, trial::private_bytes(pid)?))
        };
        let (pid, before) = come_to(2)?;
        let (same, after) = come_to(2 + KEY_FRAMES)?;
        assert_eq!(pid, same, "camera {id}: another capture process");
        let (grown, read) = (after.saturating_sub(before), KEY_FRAMES * u64::from(KBITS) * 1_000 / 8);
        assert!(grown < read / 3, "camera {id}: {grown} more bytes after reading {read}, from {before} to {after}");
    }
    Ok(())
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
