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
    /// The camera knows the user, who may not see this stream.
    Denied,
    /// The camera has no room for another client, or has accepted the same credentials a moment ago.
    Busy,
    /// The camera's certificate cannot be verified.
    Certificate,
    /// The configuration does not let cameras be there.
    Forbidden,
    /// The camera has no such stream.
    NotFound,
    /// Somebody answers, and offers no video by RTSP. Told by silence alone: see
    /// [`needs_a_person`](Self::needs_a_person).
    NoVideo,
    /// The camera answers what RTSP does not allow, or refuses for another reason.
    Protocol,
    /// No new picture for too long.
    Stall,
    /// The stream is over or was cut.
    Eof,
    /// The size or the format of the pictures changed within the stream.
    StreamChanged,
    /// The capture process crashed, was killed, or sent garbage.
    CaptureCrash,
    /// The capture process cannot be started.
    CaptureMissing,
    /// The camera's actor panicked. Stays the last one, by which [`ALL`](Self::ALL) is counted.
    Panic,
}

impl ErrorKind {
    /// Every kind, in the order of their declaration.
    pub const ALL: [Self; Self::Panic as usize + 1] = [
        Self::Refused,
        Self::UnknownHost,
        Self::Timeout,
        Self::Auth,
        Self::Denied,
        Self::Busy,
        Self::Certificate,
        Self::Forbidden,
        Self::NotFound,
        Self::NoVideo,
        Self::Protocol,
        Self::Stall,
        Self::Eof,
        Self::StreamChanged,
        Self::CaptureCrash,
        Self::CaptureMissing,
        Self::Panic,
    ];

    /// The kind as it stands in metrics and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::UnknownHost => "unknown_host",
            Self::Timeout => "timeout",
            Self::Auth => "auth",
            Self::Denied => "denied",
            Self::Busy => "busy",
            Self::Certificate => "certificate",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::NoVideo => "no_video",
            Self::Protocol => "protocol",
            Self::Stall => "stall",
            Self::Eof => "eof",
            Self::StreamChanged => "stream_changed",
            Self::CaptureCrash => "capture_crash",
            Self::CaptureMissing => "capture_missing",
            Self::Panic => "panic",
        }
    }

    /// Whether the camera may have refused user and password all the same, and nobody heard it: the attempt was cut
    /// short.
    pub fn may_hide_a_refusal(self) -> bool {
        matches!(self, Self::Timeout | Self::NoVideo | Self::Stall | Self::Eof | Self::CaptureCrash | Self::Panic)
    }

    /// Whether trying again soon is pointless, because a person has to change something first. Not so `NoVideo`: a
    /// camera that hangs up while it boots looks the same. Where `Auth` is about a user and a password,
    /// [`Logins`](crate::model::Logins) says when they may be tried again.
    pub fn needs_a_person(self) -> bool {
        matches!(
            self,
            Self::Auth | Self::Denied | Self::Certificate | Self::Forbidden | Self::NotFound | Self::CaptureMissing
        )
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

/// Pieces of lines that FFmpeg 5.1 and OpenCV 4.6 print, with what they mean. The first match counts.
const TABLE: &[(&str, ErrorKind, &str)] = &[
    ("failed: 401 ", ErrorKind::Auth, WRONG_PASSWORD),
    ("HTTP error 401", ErrorKind::Auth, WRONG_PASSWORD),
    ("failed: 403 ", ErrorKind::Denied, FORBIDDEN_USER),
    ("HTTP error 403", ErrorKind::Denied, FORBIDDEN_USER),
    ("failed: 404 ", ErrorKind::NotFound, WRONG_PATH),
    ("HTTP error 404", ErrorKind::NotFound, WRONG_PATH),
    ("failed: 453 ", ErrorKind::Busy, "the camera has no room for another client: end one, or raise its limit"),
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
        "certificate failed verification",
        ErrorKind::Certificate,
        "the camera's certificate cannot be verified: install its issuer's, or write \"tls\": \"unverified\"",
    ),
    (
        "does not match hostname",
        ErrorKind::Certificate,
        "the camera's certificate is for another name: use that one in `url`, or write \"tls\": \"unverified\"",
    ),
    (
        "Format not on whitelist",
        ErrorKind::NoVideo,
        "what is there is no video of a kind that is read: over HTTP that is MJPEG only, and no playlist is followed",
    ),
    (
        "cannot read FFmpeg's messages",
        ErrorKind::CaptureMissing,
        "the capture program gets no pseudo-terminal: let the daemon use /dev/ptmx and mount /dev/pts",
    ),
    ("moov atom not found", ErrorKind::NoVideo, "the file is no video, or was not written to its end"),
    (
        "can't open camera",
        ErrorKind::Busy,
        "the device cannot be opened: another program has it, or the daemon's user may not",
    ),
    (
        "Invalid data found",
        ErrorKind::Protocol,
        "what answers there does not speak this protocol: check host, port and path in `url`",
    ),
    ("failed: 5", ErrorKind::Protocol, "the camera reports an error of its own"),
    ("HTTP error 5", ErrorKind::Protocol, "the camera reports an error of its own"),
    ("failed: 4", ErrorKind::Protocol, "the camera refuses the request"),
    ("HTTP error 4", ErrorKind::Protocol, "the camera refuses the request"),
];

const WRONG_PASSWORD: &str = "the camera does not accept user and password: check `user` and `password`";
const FORBIDDEN_USER: &str = "the camera forbids this user the stream: check the user's rights";
const WRONG_PATH: &str = "the camera has no stream at this path: check the path in `url`";

/// What a line means, if anything.
pub fn diagnose(line: &str) -> Option<Diagnosis> {
    let (_, kind, message) = TABLE.iter().find(|(piece, ..)| line.contains(piece))?;
    Some(Diagnosis { kind: *kind, message: Cow::Borrowed(message) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line for each of the table's: as it was printed, or, for the errors of a network that could not be provoked,
    /// as FFmpeg's source has it.
    const LINES: [(&str, ErrorKind); 26] = [
        ("[rtsp @ 0x56518638c680] method DESCRIBE failed: 401 Unauthorized", ErrorKind::Auth),
        ("[OPENCV:FFMPEG:24] HTTP error 401 Unauthorized", ErrorKind::Auth),
        ("[rtsp @ 0x5580ec944940] method OPTIONS failed: 403 Forbidden", ErrorKind::Denied),
        ("[OPENCV:FFMPEG:24] HTTP error 403 Forbidden", ErrorKind::Denied),
        ("[rtsp @ 0x56404d60f6c0] method DESCRIBE failed: 404 Not Found", ErrorKind::NotFound),
        ("[OPENCV:FFMPEG:24] HTTP error 404 Not Found", ErrorKind::NotFound),
        ("[rtsp @ 0x558d9ed94940] method OPTIONS failed: 453 Not Enough Bandwidth", ErrorKind::Busy),
        ("[rtsp @ 0x563944191940] method OPTIONS failed: 454 Session Not Found", ErrorKind::Protocol),
        ("[rtsp @ 0x55ae1c5df940] method OPTIONS failed: 461 Unsupported Transport", ErrorKind::Protocol),
        (
            "[tcp @ 0x560ce5f31d00] Connection to tcp://127.0.0.1:1?timeout=1 failed: Connection refused",
            ErrorKind::Refused,
        ),
        (
            "[tcp @ 0x1] Failed to resolve hostname no.such.host.invalid: Name or service not known",
            ErrorKind::UnknownHost,
        ),
        ("[tcp @ 0x1] Connection to tcp://10.255.0.1:554?timeout=1 failed: No route to host", ErrorKind::Timeout),
        ("[tcp @ 0x1] Connection to tcp://10.255.0.1:554?timeout=1 failed: Network is unreachable", ErrorKind::Timeout),
        ("[tcp @ 0x1] Connection to tcp://10.255.0.1:554?timeout=1 failed: Connection timed out", ErrorKind::Timeout),
        ("[rtsp @ 0x1] CSeq 7: Connection reset by peer", ErrorKind::Eof),
        ("[OPENCV:FFMPEG:16] Peer certificate failed verification", ErrorKind::Certificate),
        ("[OPENCV:FFMPEG:16] The certificate's owner does not match hostname 127.0.0.1", ErrorKind::Certificate),
        ("[hls @ 0x55b3bf24d940] Format not on whitelist 'mov,mp4,m4a,3gp,3g2,mj2'", ErrorKind::NoVideo),
        ("cannot read FFmpeg's messages: No such file or directory (os error 2)", ErrorKind::CaptureMissing),
        ("[mov,mp4,m4a,3gp,3g2,mj2 @ 0x564481919940] moov atom not found", ErrorKind::NoVideo),
        (
            "[ WARN:0@0.005] global cap_v4l.cpp (902) open VIDEOIO(V4L2:/dev/video0): can't open camera by index",
            ErrorKind::Busy,
        ),
        ("rtsp://h/a: Invalid data found when processing input", ErrorKind::Protocol),
        ("[rtsp @ 0x55e4e4a07940] method OPTIONS failed: 503 Service Unavailable", ErrorKind::Protocol),
        ("[OPENCV:FFMPEG:24] HTTP error 503 Service Unavailable", ErrorKind::Protocol),
        ("[rtsp @ 0x1] method PLAY failed: 400 Bad Request", ErrorKind::Protocol),
        ("[OPENCV:FFMPEG:24] HTTP error 418 Teapot", ErrorKind::Protocol),
    ];

    #[test]
    fn all_kinds_are_all() {
        for (place, kind) in ErrorKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place, "{kind:?}");
        }
    }

    #[test]
    fn each_line_of_the_table_tells_a_kind_apart() {
        assert_eq!(LINES.len(), TABLE.len());
        for ((line, kind), (piece, of_table, message)) in LINES.iter().zip(TABLE) {
            assert!(line.contains(piece) && kind == of_table, "{line}: {piece}");
            assert_eq!(diagnose(line), Some(Diagnosis { kind: *kind, message: (*message).into() }), "{line}");
        }
        assert_eq!(diagnose("[h264 @ 0x1] error while decoding MB 1 2"), None);
    }
}
