//! Where a recorder is, as people write it into one cell.

use url::{Host, Url};

/// What such a cell says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Address {
    /// A name or an address, one of version 6 without its brackets.
    pub(super) host: String,
    /// The port, where it is there.
    pub(super) port: Option<u16>,
    /// Whether `http://` or `https://` stands before it.
    pub(super) is_https: Option<bool>,
}

const HOW: &str = "is no recorder: write a name or an address, with :port and http:// or https:// if need be";

/// Reads a name, an address, or a URL without anything behind it.
///
/// # Errors
///
/// When it is none of these, or has a login in it.
pub(super) fn address(text: &str) -> Result<Address, String> {
    let lower = text.to_ascii_lowercase();
    let (is_https, rest) = match (lower.strip_prefix("http://"), lower.strip_prefix("https://")) {
        (Some(rest), _) => (Some(false), rest),
        (None, Some(rest)) => (Some(true), rest),
        (None, None) => (None, lower.as_str()),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Err("has a login in it: write user and password into columns of their own".to_owned());
    }
    // A bare address of version 6 is full of colons, none of which begins a port.
    let bracketed = if rest.parse::<std::net::Ipv6Addr>().is_ok() { format!("[{rest}]") } else { rest.to_owned() };
    if bracketed.is_empty() || bracketed.contains(|c: char| c.is_whitespace() || c.is_control() || "/?#\\%".contains(c))
    {
        return Err(HOW.to_owned());
    }
    // A port that is the scheme's own would be left out: no scheme here has one like these.
    let port = bracketed.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map(|(_, port)| port.parse::<u16>());
    let port = match port {
        Some(Ok(port @ 1..)) => Some(port),
        Some(_) => return Err(format!("{HOW}; a port is 1 to 65535")),
        None => None,
    };
    let url = Url::parse(&format!("http://{bracketed}/")).map_err(|_| HOW.to_owned())?;
    let host = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv6(address)) => address.to_string(),
        // URLs take any number for an address: 101 would be 0.0.0.101.
        Some(Host::Ipv4(address)) if bracketed.split(':').next() == Some(&address.to_string()) => address.to_string(),
        Some(Host::Ipv4(_)) | None => return Err(HOW.to_owned()),
    };
    Ok(Address { host, port, is_https })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorder_is_a_host_with_a_port_or_without() {
        let is = |text: &str, host: &str, port, is_https| {
            assert_eq!(address(text), Ok(Address { host: host.to_owned(), port, is_https }), "{text}");
        };
        is("10.0.0.5", "10.0.0.5", None, None);
        is("10.0.0.5:80", "10.0.0.5", Some(80), None);
        is("NVR-1.example:8080", "nvr-1.example", Some(8080), None);
        is("https://nvr/", "nvr", None, Some(true));
        is("http://[2001:DB8::1]:81", "2001:db8::1", Some(81), Some(false));
        is("2001:db8::1", "2001:db8::1", None, None);
        is("камера.example", "xn--80aaoslz.example", None, None);
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in [
            "",
            "101",
            "10.5",
            "10.0.0.5:",
            "10.0.0.5:0",
            "10.0.0.5:65536",
            "nvr/path",
            "nvr?x",
            "a b",
            "rtsp://nvr",
            "http://",
            "10.0.0.256",
            "[::1",
            "10.0.0.5,10.0.0.6",
        ] {
            assert!(address(text).is_err(), "{text}");
        }
        assert!(address("admin:canary@nvr").unwrap_err().contains("login"));
    }
}
