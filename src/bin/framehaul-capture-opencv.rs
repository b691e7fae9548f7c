//! Captures one camera with OpenCV. The daemon starts it; it is of no use by hand.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use framehaul::capture::child;
use framehaul::capture::opencv::OpenCvSource;

fn main() -> ExitCode {
    child::run(OpenCvSource::open)
}
