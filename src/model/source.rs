//! Where a camera's pictures come from: the URL of its spec, checked.

use std::path::{Component, Path, PathBuf};

use url::{Host, Url};

const MAX_URL_BYTES: usize = 2_048;
/// The longest name of a host (RFC 1035, 3.1).
const MAX_HOST_BYTES: usize = 253;
const RTSP_PORT: u16 = 554;
const RTSPS_PORT: u16 = 322;

/// The kinds of sources. A URL's scheme says which.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum SourceKind {
    /// `rtsp://`: RFC 2326.
    Rtsp,
    /// `rtsps://`: the same over TLS.
    Rtsps,
    /// `http://`: JPEG pictures in a multipart answer that does not end.
    Http,
    /// `https://`: the same over TLS.
    Https,
    /// `file://`: a video file of this machine.
    File,
    /// `v4l2:/dev/videoN`: a video device of this machine.
    V4l2,
}

impl SourceKind {
    /// The kind that a scheme names.
    pub fn of_scheme(scheme: &str) -> Option<Self> {
        Some(match scheme {
            "rtsp" => Self::Rtsp,
            "rtsps" => Self::Rtsps,
            "http" => Self::Http,
            "https" => Self::Https,
            "file" => Self::File,
            "v4l2" => Self::V4l2,
            _ => return None,
        })
    }

    /// Whether it is reached over a network.
    pub fn is_network(self) -> bool {
        !matches!(self, Self::File | Self::V4l2)
    }

    /// Whether it speaks RTSP.
    pub fn is_rtsp(self) -> bool {
        matches!(self, Self::Rtsp | Self::Rtsps)
    }

    /// Whether it is reached over TLS.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Rtsps | Self::Https)
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Rtsp => RTSP_PORT,
            Self::Rtsps => RTSPS_PORT,
            Self::Http => 80,
            Self::Https => 443,
            Self::File | Self::V4l2 => 0,
        }
    }
}

/// What does not stand in a URL as it is.
fn is_odd(c: &char) -> bool {
    !c.is_ascii_graphic() || matches!(c, '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}')
}

/// A URL that names a source, in its normal form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceUrl {
    kind: SourceKind,
    url: Url,
}

impl SourceUrl {
    /// Reads a URL without credentials.
    ///
    /// # Errors
    ///
    /// What is wrong with it and what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains('@') {
            return Err(
                "must not hold credentials: put them into `user` and `password`, and write an `@` elsewhere as %40"
                    .to_owned(),
            );
        }
        if text.len() > MAX_URL_BYTES {
            return Err(format!("is longer than {MAX_URL_BYTES} bytes"));
        }
        if let Some(bad) = text.chars().find(is_odd) {
            return Err(format!("holds the character `{}`: percent-encode it", bad.escape_debug()));
        }
        let Ok(url) = Url::parse(text) else {
            return Err("is not a URL: write rtsp://host[:port]/path".to_owned());
        };
        let Some(kind) = SourceKind::of_scheme(url.scheme()) else {
            let known = "rtsp, rtsps, http, https, file or v4l2";
            return Err(format!("has the scheme `{}`: use {known}", url.scheme()));
        };
        match kind {
            SourceKind::File => {
                let path = url.to_file_path().ok().filter(|_| url.host_str().is_none_or(str::is_empty));
                // A slash can be written as %2F, and what is before it is then no step that was taken away.
                let usable = |path: &PathBuf| {
                    !path.as_os_str().as_encoded_bytes().contains(&0)
                        && path.is_absolute()
                        && !path.components().any(|part| part == Component::ParentDir)
                };
                if path.filter(usable).is_none() || url.query().is_some() || url.fragment().is_some() {
                    return Err("is no file of this machine: write file:///directory/clip.mp4".to_owned());
                }
            }
            SourceKind::V4l2 => {
                let number = url.path().strip_prefix("/dev/video").filter(|_| url.host_str().is_none_or(str::is_empty));
                let plain = number.is_some_and(|n| matches!(n.len(), 1..=3) && n.bytes().all(|b| b.is_ascii_digit()));
                if !plain || url.query().is_some() || url.fragment().is_some() {
                    return Err("is no video device: write v4l2:/dev/video0".to_owned());
                }
                let url = Url::parse(&format!("v4l2:{}", url.path())).expect("it was one");
                return Ok(Self { kind, url });
            }
            _ => {
                // Of some schemes it is decoded by now, and has to be a host in the URLs of others as well.
                let usable = |host: &str| {
                    host.len() <= MAX_HOST_BYTES && !host.chars().any(|c| is_odd(&c)) && Host::parse(host).is_ok()
                };
                if !url.host_str().is_some_and(usable) {
                    return Err("names no valid host: write rtsp://host[:port]/path".to_owned());
                }
                if url.port() == Some(0) {
                    return Err("has port 0: leave the port out for the usual one, or name the camera's".to_owned());
                }
            }
        }
        // The normal form is what is kept and read again; it can be longer than what was written (`'` is %27 in a
        // query).
        if url.as_str().len() > MAX_URL_BYTES {
            return Err(format!(
                "is longer than {MAX_URL_BYTES} bytes in its normal form, where more is percent-encoded"
            ));
        }
        Ok(Self { kind, url })
    }

    /// Its kind.
    pub fn kind(&self) -> SourceKind {
        self.kind
    }

    /// The URL as text.
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// The host, with an address read as whatever will connect to it reads it: `2130706433` is 127.0.0.1. `None` for
    /// what is not reached over a network.
    pub fn host(&self) -> Option<Host<String>> {
        self.url.host_str().filter(|_| self.kind.is_network()).and_then(|host| Host::parse(host).ok())
    }

    /// The port, named or usual.
    pub fn port(&self) -> u16 {
        self.url.port().unwrap_or_else(|| self.kind.default_port())
    }

    /// The file or device.
    pub fn path(&self) -> Option<PathBuf> {
        match self.kind {
            SourceKind::File => self.url.to_file_path().ok(),
            SourceKind::V4l2 => Some(Path::new(self.url.path()).to_owned()),
            _ => None,
        }
    }

    /// The same source by this address instead of its name.
    pub fn at_address(&self, address: std::net::IpAddr) -> String {
        let mut url = self.url.clone();
        match url.set_ip_host(address) {
            Ok(()) => url.into(),
            Err(()) => self.url.to_string(),
        }
    }
}

/// Whether a password may stand in a URL that cannot be used, so that no message may repeat it: before an `@`, before
/// one that was percent-encoded, or where the port belongs.
pub fn may_hold_credentials(url: &str) -> bool {
    let rest = url.split_once("://").map(|(_, rest)| rest);
    let authority = rest.unwrap_or(url).split(['/', '?', '#']).next().unwrap_or_default();
    let port = authority.rsplit_once(':').filter(|_| rest.is_some() && !authority.starts_with('['));
    url.contains('@') || authority.contains('%') || port.is_some_and(|(_, port)| port.contains(char::is_alphabetic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_form() {
        for (text, kind, port) in [
            ("rtsp://10.0.0.9/main", SourceKind::Rtsp, 554),
            ("rtsps://cam.example/main", SourceKind::Rtsps, 322),
            ("http://cam.example/video.mjpg?size=1", SourceKind::Http, 80),
            ("https://cam.example:8443/video.mjpg", SourceKind::Https, 8443),
            ("file:///srv/clips/a%20b.mp4", SourceKind::File, 0),
            ("v4l2:/dev/video12", SourceKind::V4l2, 0),
        ] {
            let url = SourceUrl::parse(text).unwrap();
            assert_eq!((url.kind(), url.port(), url.as_str()), (kind, port, text));
        }
        assert_eq!(SourceUrl::parse("v4l2:///dev/video0").unwrap().as_str(), "v4l2:/dev/video0");
        assert_eq!(SourceUrl::parse("file:///a/../b/c.mp4").unwrap().path().unwrap(), Path::new("/b/c.mp4"));
    }

    #[test]
    fn the_normal_form_is_read_again() {
        // What grows: quotes in a query, a path that is left out.
        let quotes = |count| format!("http://h/?{}", "'".repeat(count));
        let no_path = |count| format!("http://h?{}", "x".repeat(count));
        for (text, good) in [
            (quotes(600), true),
            (quotes(1_500), false),
            (no_path(MAX_URL_BYTES - 10), true),
            (no_path(MAX_URL_BYTES - 9), false),
            (no_path(MAX_URL_BYTES), false),
        ] {
            let read = SourceUrl::parse(&text);
            assert_eq!(read.is_ok(), good, "{} bytes: {read:?}", text.len());
            if let Ok(url) = read {
                assert_eq!(SourceUrl::parse(url.as_str()).unwrap(), url);
            }
        }
    }

    #[test]
    fn hostile_urls_are_refused() {
        for url in [
            "exec:ls",
            "concat:a|b",
            "pipe:0",
            "data:video/mp4;base64,AAAA",
            "gopher://10.0.0.9/",
            "ftp://10.0.0.9/a",
            "rtsp:///nohost",
            "rtsp://",
            "rtsp:path",
            "http://h%7Bx/v",
            "rtsp://h o/",
            "rtsp://h/\u{202e}x",
            "rtsp://h/\0",
            "rtsp://h:0/",
            "rtsp://[::1/",
            "rtsp://u:p@h/",
            "file://host/etc/passwd",
            "file:///a%00b",
            "file:///a?b",
            "file:///a/..%2fb",
            "file:///a/%2e%2e%2fb",
            "v4l2:/dev/sda",
            "v4l2:/dev/video0/../sda",
            "v4l2:/dev/video",
            "v4l2:/dev/video1234",
            "v4l2://host/dev/video0",
            "",
            &format!("rtsp://h/{}", "x".repeat(3_000)),
            &format!("http://{}.example/", "x.".repeat(130)),
        ] {
            assert!(SourceUrl::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn an_address_is_read_as_who_connects_reads_it() {
        for text in ["rtsp://2130706433/", "rtsp://0x7f.1/", "rtsp://127.1/", "rtsp://0177.0.0.1/"] {
            assert_eq!(SourceUrl::parse(text).unwrap().host(), Some(Host::Ipv4([127, 0, 0, 1].into())), "{text}");
        }
        let named = SourceUrl::parse("rtsp://cam.example:8554/main?x=1").unwrap();
        assert_eq!(named.at_address([10, 0, 0, 9].into()), "rtsp://10.0.0.9:8554/main?x=1");
        assert_eq!(named.at_address("::9".parse().unwrap()), "rtsp://[::9]:8554/main?x=1");
    }
}
