//! Captures one camera with OpenCV. The daemon starts it; it is of no use by hand.
#![forbid(unsafe_code)]

mod ffmpeg_log;
mod source;

use std::process::ExitCode;

use framehaul::capture::child;

fn main() -> ExitCode {
    child::run(source::OpenCvSource::open)
}
