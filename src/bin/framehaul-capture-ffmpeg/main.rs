//! Captures one camera with FFmpeg. The daemon starts it; it is of no use by hand.
#![forbid(unsafe_code)]

mod beginning;
mod decoder;
mod evidence;
mod holes;
mod input;
mod keys;
mod log;
mod mjpeg;
mod nal;
mod pictures;
mod source;

use std::process::ExitCode;

use framehaul::capture::child;

fn main() -> ExitCode {
    child::run(source::FfmpegSource::open)
}
