//! Pictures for tests, made by the same tools as real ones.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use crate::clip::{ClipSpec, Codec, Painter};
use crate::mark::Mark;

/// A JPEG of 320x240 for each mark, encoded by ffmpeg.
pub(crate) fn jpegs(marks: &[Mark]) -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw.yuv");
    let mut file = fs::File::create(&raw).unwrap();
    for &mark in marks {
        let codec = Codec::H264;
        let spec = ClipSpec { camera: mark.camera, width: 320, height: 240, fps: 25, gop: 25, codec, seconds: 1 };
        file.write_all(Painter::new(&spec).paint(mark)).unwrap();
    }
    drop(file);
    jpegs_of(&["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", "320x240", "-i", raw.to_str().unwrap()], 4)
}

/// All pictures of an input as JPEGs. `input` is ffmpeg's options up to `-i` and what follows; `quality` is
/// ffmpeg's scale from 2 (good) to 31 (bad).
pub(crate) fn jpegs_of(input: &[&str], quality: u32) -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().unwrap();
    let output = ffmpeg_to_jpegs(input, quality, dir.path());
    assert!(output.status.success(), "ffmpeg {input:?}: {}", String::from_utf8_lossy(&output.stderr));
    let mut paths: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Runs ffmpeg to its end; it writes the pictures into `dir` as numbered files, none doubled and none left out.
pub(crate) fn ffmpeg_to_jpegs(input: &[&str], quality: u32, dir: &Path) -> Output {
    Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin"])
        .args(input)
        // Time stamps are of no interest, and over UDP the first ones are missing: without new ones the encoder would
        // refuse.
        .args([
            "-vf",
            "setpts=N/TB",
            "-fps_mode",
            "passthrough",
            "-pix_fmt",
            "yuvj420p",
            "-c:v",
            "mjpeg",
            "-q:v",
            &quality.to_string(),
        ])
        .arg(dir.join("%06d.jpg"))
        .output()
        .expect("ffmpeg is installed")
}
