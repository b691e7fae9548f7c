//! What FFmpeg is told, by whichever engine uses it.

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
const CONTAINERS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,h264,hevc,mjpeg,mpjpeg,flv,live_flv,asf,ivf,m4v,nut,ogg,png_pipe,bmp_pipe,tiff_pipe,webp_pipe";

/// Packets that may wait for one before them. Over TCP nothing is out of order; but without a queue FFmpeg does not look
/// at the numbers at all, and tells nobody of what a camera or a relay has left out.
const REORDER_TCP: &str = "2";
/// FFmpeg's own figure.
const REORDER_UDP: &str = "500";

/// Nothing else is asked of a camera: what is lost of its sound would be charged to its pictures, as FFmpeg does not say
/// of which stream a packet is missing.
const VIDEO_ALONE: (&str, &str) = ("allowed_media_types", "video");

/// The environment of a capture process that uses OpenCV, all of it.
pub fn environment(options: &[(String, String)]) -> Vec<(&'static str, String)> {
    // OpenCV's notation.
    let options: Vec<String> = options.iter().map(|(name, value)| format!("{name};{value}")).collect();
    vec![(OPTIONS_VARIABLE, options.join("|")), (LEVEL_VARIABLE, DEBUG.to_owned())]
}

/// FFmpeg's options for a camera, by name.
///
/// Protocols and, outside of RTSP, formats are listed, so that no stream and no file can send FFmpeg to a file or
/// another server: a playlist in place of pictures is refused. The socket timeout of RTSP is called `timeout` since
/// FFmpeg 5.0, `stimeout` before. Without `fpsprobesize` FFmpeg waits for some twenty frames before it calls a stream
/// open: five seconds at 5 fps.
pub fn options(spec: &CameraSpec, read_timeout_ms: u64) -> Vec<(String, String)> {
    let timeout_us = read_timeout_ms.saturating_mul(1_000).to_string();
    let (transport, reorder) = match spec.transport {
        Transport::Tcp => ("tcp", REORDER_TCP),
        Transport::Udp => ("udp", REORDER_UDP),
    };
    let options: Vec<(&str, &str)> = match spec.url.kind() {
        SourceKind::Rtsp => vec![
            ("rtsp_transport", transport),
            ("timeout", &timeout_us),
            ("protocol_whitelist", "rtsp,rtp,rtcp,udp,tcp"),
            ("fpsprobesize", "0"),
            ("reorder_queue_size", reorder),
            VIDEO_ALONE,
        ],
        SourceKind::Rtsps => vec![
            ("rtsp_transport", "tcp"),
            ("timeout", &timeout_us),
            ("protocol_whitelist", "rtsps,rtp,tls,tcp"),
            ("fpsprobesize", "0"),
            ("reorder_queue_size", REORDER_TCP),
            VIDEO_ALONE,
        ],
        SourceKind::Http => vec![
            ("protocol_whitelist", "http,tcp"),
            ("rw_timeout", &timeout_us),
            ("format_whitelist", "mpjpeg,mjpeg"),
            ("fpsprobesize", "0"),
        ],
        SourceKind::Https => {
            let mut options = vec![("protocol_whitelist", "http,https,tls,tcp")];
            match spec.tls {
                Some(Tls::Unverified) => options.push(("tls_verify", "0")),
                None => options.extend([("tls_verify", "1"), ("ca_file", CERTIFICATES)]),
            }
            options.extend([("rw_timeout", &*timeout_us), ("format_whitelist", "mpjpeg,mjpeg"), ("fpsprobesize", "0")]);
            options
        }
        SourceKind::File | SourceKind::V4l2 => {
            vec![("protocol_whitelist", "file"), ("format_whitelist", CONTAINERS)]
        }
    };
    options.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RawCameraSpec;

    fn told(json: &str) -> String {
        let spec = serde_json::from_str::<RawCameraSpec>(json).unwrap().validate(None).unwrap();
        environment(&options(&spec, 15_000))[0].1.clone()
    }

    #[test]
    fn every_kind_of_source_has_its_options() {
        for (json, expected) in [
            (
                r#"{"url":"rtsp://h/a","transport":"udp"}"#,
                "rtsp_transport;udp|timeout;15000000|protocol_whitelist;rtsp,rtp,rtcp,udp,tcp|fpsprobesize;0|\
                 reorder_queue_size;500|allowed_media_types;video",
            ),
            (
                r#"{"url":"rtsps://h/a","tls":"unverified"}"#,
                "rtsp_transport;tcp|timeout;15000000|protocol_whitelist;rtsps,rtp,tls,tcp|fpsprobesize;0|\
                 reorder_queue_size;2|allowed_media_types;video",
            ),
            (
                r#"{"url":"http://h/a"}"#,
                "protocol_whitelist;http,tcp|rw_timeout;15000000|format_whitelist;mpjpeg,mjpeg|fpsprobesize;0",
            ),
            (
                r#"{"url":"https://h/a"}"#,
                "protocol_whitelist;http,https,tls,tcp|tls_verify;1|ca_file;/etc/ssl/certs/ca-certificates.crt|\
                 rw_timeout;15000000|format_whitelist;mpjpeg,mjpeg|fpsprobesize;0",
            ),
            (
                r#"{"url":"https://h/a","tls":"unverified"}"#,
                "protocol_whitelist;http,https,tls,tcp|tls_verify;0|rw_timeout;15000000|format_whitelist;mpjpeg,mjpeg|\
                 fpsprobesize;0",
            ),
        ] {
            assert_eq!(told(json), expected, "{json}");
        }
        for json in [r#"{"url":"file:///a.mp4"}"#, r#"{"url":"v4l2:/dev/video0"}"#] {
            assert_eq!(told(json), format!("protocol_whitelist;file|format_whitelist;{CONTAINERS}"));
        }
    }
}
