//! Captures one camera with FFmpeg. The daemon starts it; it is of no use by hand.
#![forbid(unsafe_code)]

#[allow(dead_code, reason = "the engine that uses them follows")]
mod colour;
#[allow(dead_code, reason = "the engine that uses them follows")]
mod jpeg;
#[allow(dead_code, reason = "the engine that uses them follows")]
mod mjpeg;

fn main() {}
