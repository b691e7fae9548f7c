//! Under which names the API may be asked, and from which pages: the operator's browser must not become somebody else's
//! tool.
//!
//! A page that was lured here under a name of its own (DNS rebinding) says that name in `Host`; a page of another site
//! says its own in `Origin`. Both are turned away before anybody asks for a token. There are no CORS headers at all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{HOST, HeaderName, ORIGIN};
use actix_web::http::{StatusCode, Version};

use super::problem::Problem;

/// What a URL names between `//` and the path.
#[derive(PartialEq, Eq, Debug)]
struct Authority {
    host: Host,
    port: Option<u16>,
}

#[derive(PartialEq, Eq, Debug)]
enum Host {
    Ip(IpAddr),
    /// In lower case.
    Name(String),
}

impl Authority {
    /// Strict: an address is one only as a whole, so `127.0.0.1.evil.example` is a name like any other.
    fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']')?;
                (Host::Ip(address.parse::<Ipv6Addr>().ok()?.into()), port)
            }
            None => {
                let end = text.find(':').unwrap_or(text.len());
                let (host, port) = text.split_at(end);
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
                if host.is_empty() || !host.bytes().all(plain) {
                    return None;
                }
                let host = match host.parse::<Ipv4Addr>() {
                    Ok(address) => Host::Ip(address.into()),
                    Err(_) => Host::Name(host.to_ascii_lowercase()),
                };
                (host, port)
            }
        };
        let port = match port {
            "" | ":" => None,
            _ => {
                let digits =
                    port.strip_prefix(':').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
                Some(digits.parse().ok()?)
            }
        };
        Some(Self { host, port })
    }

    fn is_allowed(&self, hosts: &[String]) -> bool {
        match &self.host {
            Host::Ip(_) => true,
            Host::Name(name) => name == "localhost" || hosts.contains(name),
        }
    }

    /// Whether a page of this origin came from here.
    fn is_origin(&self, origin: &str) -> bool {
        let (page, port) = match origin.split_once("://") {
            Some(("http", page)) => (page, 80),
            Some(("https", page)) => (page, 443),
            _ => return false,
        };
        let same = |page: Self| page.host == self.host && page.port.unwrap_or(port) == self.port.unwrap_or(port);
        Self::parse(page).is_some_and(same)
    }
}

/// Lets a request pass that was sent to a name of ours, by a page of ours if it was a page. Otherwise says for the log
/// what was wrong, and the answer.
pub fn check(request: &ServiceRequest, hosts: &[String]) -> Result<(), (&'static str, Problem)> {
    let asked = match header(request, &HOST) {
        Ok(Some(host)) => host,
        // No browser speaks HTTP/1.0; simple probes do, and without the header.
        Ok(None) if request.version() == Version::HTTP_10 => return Ok(()),
        Ok(None) => return Err(("host", Problem::bad_request("send a `Host` header"))),
        Err(()) => return Err(("host", Problem::bad_request("send one `Host` header, of plain characters"))),
    };
    // A request may also name the host in its first line.
    let named = request.uri().authority().map(|authority| authority.as_str());
    let allowed = |text: &str| Authority::parse(text).filter(|host| host.is_allowed(hosts));
    let Some(host) = allowed(asked).filter(|_| named.is_none_or(|named| allowed(named).is_some())) else {
        let asked: String = asked.chars().take(120).collect();
        let detail = format!(
            "the API does not answer as `{asked}`: ask for it by IP address or as localhost, or add the name to `http.hosts`"
        );
        return Err(("host", Problem::new(StatusCode::MISDIRECTED_REQUEST, detail)));
    };
    match header(request, &ORIGIN) {
        Ok(None) => Ok(()),
        Ok(Some(origin)) if host.is_origin(origin) => Ok(()),
        _ => {
            let detail = "the request comes from a page of another site; a proxy in front must pass `Host` on as it is";
            Err(("origin", Problem::new(StatusCode::FORBIDDEN, detail)))
        }
    }
}

/// A header that may be there once.
fn header<'a>(request: &'a ServiceRequest, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = request.headers().get_all(name);
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn status(headers: &[(&str, &str)]) -> u16 {
        let mut request = TestRequest::default();
        for (name, value) in headers {
            request = request.append_header((*name, *value));
        }
        let hosts = ["framehaul.example.org".to_owned()];
        check(&request.to_srv_request(), &hosts)
            .map_or_else(|(_, problem)| problem.into_response().status().as_u16(), |()| 200)
    }

    #[test]
    fn addresses_and_known_names_are_answered() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:8080",
            "10.1.2.3:1",
            "[::1]",
            "[::1]:65535",
            "[2001:DB8::1]:8080",
            "localhost",
            "LocalHost:8080",
            "localhost:",
            "framehaul.example.org",
            "FrameHaul.Example.ORG:443",
        ] {
            assert_eq!(status(&[("Host", host)]), 200, "{host}");
        }
    }

    #[test]
    fn every_other_name_is_turned_away() {
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1evil.example:8080",
            "127.1",
            "0x7f000001",
            "2130706433",
            "0177.0.0.1",
            "127.0.0.01",
            "localhost.evil.example",
            "localhost.",
            "xlocalhost",
            "x.framehaul.example.org",
            "framehaul.example.org.evil.example",
            "framehaul.example.org@evil.example",
            "evil.example@127.0.0.1",
            "127.0.0.1/evil.example",
            "127.0.0.1:8080:9090",
            "127.0.0.1:+80",
            "127.0.0.1:99999",
            "127.0.0.1:x",
            "::1",
            "[::1",
            "[::1]x",
            "[127.0.0.1]",
            "[fe80::1%eth0]",
            "[]",
            ":8080",
            "",
            " ",
            "127.0.0.1, evil.example",
        ] {
            assert_eq!(status(&[("Host", host)]), 421, "{host}");
        }
        assert_eq!(status(&[]), 400);
        assert_eq!(status(&[("Host", "127.0.0.1"), ("Host", "evil.example")]), 400);
        let absolute = |uri: &str| {
            let request = TestRequest::with_uri(uri).append_header(("Host", "127.0.0.1")).to_srv_request();
            check(&request, &[]).is_ok()
        };
        assert!(absolute("http://127.0.0.1/livez") && !absolute("http://evil.example/livez"));
        assert!(!absolute("http://evil.example@127.0.0.1/livez"));
    }

    #[test]
    fn only_pages_from_here_may_ask() {
        for (host, origin) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("127.0.0.1:8080", "https://127.0.0.1:8080"),
            ("[::1]:8080", "http://[0:0:0:0:0:0:0:1]:8080"),
            ("localhost", "http://localhost"),
            ("localhost", "https://localhost"),
            ("localhost:80", "http://localhost"),
            ("LOCALHOST:8080", "http://localhost:8080"),
        ] {
            assert_eq!(status(&[("Host", host), ("Origin", origin)]), 200, "{host} {origin}");
        }
        for origin in [
            "null",
            "",
            "http://evil.example",
            "http://127.0.0.1",
            "http://127.0.0.1:8081",
            "http://localhost:8080",
            "http://127.0.0.1:8080.evil.example",
            "http://127.0.0.1:8080@evil.example",
            "http://evil.example:8080",
            "ftp://127.0.0.1:8080",
            "file://",
            "127.0.0.1:8080",
            "http://127.0.0.1:8080/",
            "http://127.0.0.1:8080 http://evil.example",
            "chrome-extension://abc",
        ] {
            assert_eq!(status(&[("Host", "127.0.0.1:8080"), ("Origin", origin)]), 403, "{origin}");
        }
        let twice = [("Host", "127.0.0.1"), ("Origin", "http://127.0.0.1"), ("Origin", "http://evil.example")];
        assert_eq!(status(&twice), 403);
    }
}
