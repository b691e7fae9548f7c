//! What the daemon tells FFmpeg, by way of OpenCV.

use crate::model::{CameraSpec, SourceKind, Tls, Transport};

/// OpenCV takes FFmpeg's options only from this variable of the environment. They hold no secret.
const OPTIONS_VARIABLE: &str = "OPENCV_FFMPEG_CAPTURE_OPTIONS";
/// The last level of FFmpeg's messages that OpenCV prints.
const LEVEL_VARIABLE: &str = "OPENCV_FFMPEG_LOGLEVEL";
/// FFmpeg's number for what is of use in the search for errors. At this level its decoders say that they start anew, by
/// which alone the capture program knows that the pictures have changed. It lets nothing else of this level out.
const DEBUG: &str = "48";

/// Debian's collection of trusted certificates.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Containers in which a file may come. None of them names other files, as playlists do.
const CONTAINERS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,h264,hevc,mjpeg,mpjpeg,flv,live_flv,asf,ivf,m4v,nut,ogg";

/// The environment of a camera's capture process, all of it.
pub fn environment(spec: &CameraSpec, read_timeout_ms: u64) -> Vec<(&'static str, String)> {
    vec![(OPTIONS_VARIABLE, ffmpeg_options(spec, read_timeout_ms)), (LEVEL_VARIABLE, DEBUG.to_owned())]
}

/// FFmpeg's options for a camera, in OpenCV's notation.
///
/// Protocols and, outside of RTSP, formats are listed, so that no stream and no file can send FFmpeg to a file or
/// another server: a playlist in place of pictures is refused. The socket timeout of RTSP is called `timeout` since
/// FFmpeg 5.0, `stimeout` before. Without `fpsprobesize` FFmpeg waits for some twenty frames before it calls a stream
/// open: five seconds at 5 fps.
fn ffmpeg_options(spec: &CameraSpec, read_timeout_ms: u64) -> String {
    let timeout_us = read_timeout_ms.saturating_mul(1_000);
    let transport = match spec.transport {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    match spec.url.kind() {
        SourceKind::Rtsp => format!(
            "rtsp_transport;{transport}|timeout;{timeout_us}|protocol_whitelist;rtsp,rtp,rtcp,udp,tcp|fpsprobesize;0"
        ),
        SourceKind::Rtsps => {
            format!("rtsp_transport;tcp|timeout;{timeout_us}|protocol_whitelist;rtsps,rtp,tls,tcp|fpsprobesize;0")
        }
        SourceKind::Http | SourceKind::Https => {
            let verify = match spec.tls {
                Some(Tls::Unverified) => "tls_verify;0".to_owned(),
                None => format!("tls_verify;1|ca_file;{CERTIFICATES}"),
            };
            let tls = if spec.url.kind().is_tls() {
                format!("protocol_whitelist;http,https,tls,tcp|{verify}")
            } else {
                "protocol_whitelist;http,tcp".to_owned()
            };
            format!("{tls}|rw_timeout;{timeout_us}|format_whitelist;mpjpeg,mjpeg|fpsprobesize;0")
        }
        SourceKind::File | SourceKind::V4l2 => {
            format!("protocol_whitelist;file|format_whitelist;{CONTAINERS}")
        }
    }
}
