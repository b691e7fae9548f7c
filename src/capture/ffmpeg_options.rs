//! What the daemon tells FFmpeg, by way of OpenCV.

use crate::model::Transport;

/// OpenCV takes FFmpeg's options only from this variable of the environment. They hold no secret.
pub const OPTIONS_VARIABLE: &str = "OPENCV_FFMPEG_CAPTURE_OPTIONS";

/// FFmpeg's options for a camera, in OpenCV's notation.
///
/// The protocols are listed so that a stream cannot send FFmpeg to a file or another server. The socket timeout is
/// called `timeout` since FFmpeg 5.0, `stimeout` before. Without `fpsprobesize` FFmpeg waits for some twenty frames before
/// it calls a stream open: five seconds at 5 fps.
pub fn ffmpeg_options(transport: Transport, read_timeout_ms: u64) -> String {
    let transport = match transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    let timeout_us = read_timeout_ms.saturating_mul(1_000);
    format!("rtsp_transport;{transport}|timeout;{timeout_us}|protocol_whitelist;rtsp,rtp,rtcp,udp,tcp|fpsprobesize;0")
}
