//! What a capture process's standard error says about why it failed.

use std::borrow::Cow;

/// What kind of failure it was: this alone decides how soon to try again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// Nobody listens there.
    Refused,
    /// The host's name is not known.
    UnknownHost,
    /// No answer in time.
    Timeout,
    /// The camera does not accept user and password.
    Auth,
    /// The camera has no room for another client, or has accepted the same credentials a moment ago.
    Busy,
    /// The camera's certificate cannot be verified.
    Certificate,
    /// The configuration does not let cameras be there.
    Forbidden,
    /// The camera has no such stream.
    NotFound,
    /// Somebody answers, and offers no video by RTSP. Told by silence alone: see [`needs_a_person`](Self::needs_a_person).
    NoVideo,
    /// The camera answers what RTSP does not allow, or refuses for another reason.
    Protocol,
    /// No new picture for too long.
    Stall,
    /// The stream is over or was cut.
    Eof,
    /// The capture process crashed, was killed, or sent garbage.
    CaptureCrash,
    /// The capture process cannot be started.
    CaptureMissing,
    /// The camera's actor panicked.
    Panic,
}

impl ErrorKind {
    /// The kind as it stands in metrics and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::UnknownHost => "unknown_host",
            Self::Timeout => "timeout",
            Self::Auth => "auth",
            Self::Busy => "busy",
            Self::Certificate => "certificate",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::NoVideo => "no_video",
            Self::Protocol => "protocol",
            Self::Stall => "stall",
            Self::Eof => "eof",
            Self::CaptureCrash => "capture_crash",
            Self::CaptureMissing => "capture_missing",
            Self::Panic => "panic",
        }
    }

    /// Whether trying again soon is pointless, because a person has to change something first. Not so `NoVideo`: a camera
    /// that hangs up while it boots looks the same. Where `Auth` is about a
    /// user and a password, [`Logins`](super::Logins) says when they may be tried again.
    pub fn needs_a_person(self) -> bool {
        matches!(self, Self::Auth | Self::Certificate | Self::Forbidden | Self::NotFound | Self::CaptureMissing)
    }
}

/// A failure, with its cause and the way out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnosis {
    /// What kind it was.
    pub kind: ErrorKind,
    /// A sentence for the operator, without secrets.
    pub message: Cow<'static, str>,
}

/// Pieces of lines that FFmpeg 5.1 prints, as seen on real failures, with what they mean. The first match counts.
const TABLE: &[(&str, ErrorKind, &str)] = &[
    ("failed: 401 ", ErrorKind::Auth, "the camera does not accept user and password: check `user` and `password`"),
    ("failed: 403 ", ErrorKind::Auth, "the camera forbids this user the stream: check the user's rights"),
    ("failed: 404 ", ErrorKind::NotFound, "the camera has no stream at this path: check the path in `url`"),
    ("failed: 454 ", ErrorKind::Protocol, "the camera has dropped the session"),
    ("failed: 461 ", ErrorKind::Protocol, "the camera does not offer this `transport`: try the other one"),
    (
        "Connection refused",
        ErrorKind::Refused,
        "nobody listens there: check host and port in `url`, and that the camera is on",
    ),
    ("Failed to resolve hostname", ErrorKind::UnknownHost, "the host's name is not known: check the host in `url`"),
    ("No route to host", ErrorKind::Timeout, "there is no way to the host: check the network"),
    ("Network is unreachable", ErrorKind::Timeout, "there is no way to the host: check the network"),
    ("Connection timed out", ErrorKind::Timeout, "the camera does not answer"),
    ("Connection reset by peer", ErrorKind::Eof, "the camera has cut the connection"),
    (
        "Invalid data found",
        ErrorKind::Protocol,
        "what answers there does not speak RTSP: check host, port and path in `url`",
    ),
    ("failed: 5", ErrorKind::Protocol, "the camera reports an error of its own"),
    ("failed: 4", ErrorKind::Protocol, "the camera refuses the request"),
];

/// What a line means, if anything.
pub fn diagnose(line: &str) -> Option<Diagnosis> {
    let (_, kind, message) = TABLE.iter().find(|(piece, ..)| line.contains(piece))?;
    Some(Diagnosis { kind: *kind, message: Cow::Borrowed(message) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_seen_on_real_failures_are_told_apart() {
        for (line, kind) in [
            ("[rtsp @ 0x56518638c680] method DESCRIBE failed: 401 Unauthorized", ErrorKind::Auth),
            ("[rtsp @ 0x56404d60f6c0] method DESCRIBE failed: 404 Not Found", ErrorKind::NotFound),
            ("[rtsp @ 0x1] method SETUP failed: 461 Unsupported transport", ErrorKind::Protocol),
            ("[rtsp @ 0x1] method DESCRIBE failed: 503 Service Unavailable", ErrorKind::Protocol),
            (
                "[tcp @ 0x560ce5f31d00] Connection to tcp://127.0.0.1:1?timeout=1 failed: Connection refused",
                ErrorKind::Refused,
            ),
            (
                "[tcp @ 0x1] Failed to resolve hostname no.such.host.invalid: Name or service not known",
                ErrorKind::UnknownHost,
            ),
        ] {
            assert_eq!(diagnose(line).map(|d| d.kind), Some(kind), "{line}");
        }
        assert_eq!(diagnose("[h264 @ 0x1] error while decoding MB 1 2"), None);
    }
}
