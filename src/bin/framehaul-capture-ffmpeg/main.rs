//! Captures one camera with FFmpeg. The daemon starts it; it is of no use by hand.
#![forbid(unsafe_code)]

mod colour;
mod jpeg;
mod mjpeg;

fn main() {}
