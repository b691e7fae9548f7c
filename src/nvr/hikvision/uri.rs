//! Playback URIs, as recorders make them: to be handed back as they are, but for the host that they name.

use url::{Host, Url};

/// What stands behind `?` in a URI under this name; nothing where it is empty.
pub(super) fn field<'a>(uri: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = uri.split_once('?')?;
    let mut fields = query.split('&').filter_map(|field| field.split_once('='));
    fields.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).filter(|value| !value.is_empty())
}

/// The same without these fields.
pub(super) fn without(uri: &str, names: &[&str]) -> String {
    let Some((path, query)) = uri.split_once('?') else { return uri.to_owned() };
    let kept = query.split('&').filter(|field| {
        let key = field.split('=').next().unwrap_or_default();
        !names.iter().any(|name| key.eq_ignore_ascii_case(name))
    });
    format!("{path}?{}", kept.collect::<Vec<_>>().join("&"))
}

/// The same with these values in the fields of these names, where it has them.
pub(super) fn with(uri: &str, values: [(&str, &str); 2]) -> String {
    let Some((path, query)) = uri.split_once('?') else { return uri.to_owned() };
    let changed = query.split('&').map(|field| {
        let key = field.split('=').next().unwrap_or_default();
        let value = values.iter().find(|(name, _)| key.eq_ignore_ascii_case(name));
        value.map_or_else(|| field.to_owned(), |(_, value)| format!("{key}={value}"))
    });
    format!("{path}?{}", changed.collect::<Vec<_>>().join("&"))
}

/// The text of an element that may stand on several lines.
pub(super) fn joined(text: &str) -> String {
    text.lines().map(str::trim).collect()
}

/// The URI at the recorder's own host, and this port: its own may be an address of its network behind which nobody
/// reaches it, or the port of another protocol. Nothing where it is no such URI.
pub(super) fn at(uri: &str, host: Host<&str>, port: u16) -> Option<Url> {
    let url = Url::parse(uri).ok().filter(|url| url.scheme() == "rtsp" && url.has_host())?;
    let mut own = Url::parse(&format!("rtsp://{host}:{port}")).ok()?;
    own.set_path(url.path());
    own.set_query(url.query());
    Some(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    const URI: &str = "rtsp://u:p@192.0.2.5:90/Streaming/tracks/101/?starttime=20261119T000000Z&name=ch01_8&size=683";

    #[test]
    fn fields_are_read_and_left_out() {
        assert_eq!((field(URI, "name"), field(URI, "Size"), field(URI, "x")), (Some("ch01_8"), Some("683"), None));
        assert_eq!((field("rtsp://h/", "name"), field("rtsp://h/?name=", "name")), (None, None));
        let bare = without(URI, &["name", "size"]);
        assert_eq!(bare, "rtsp://u:p@192.0.2.5:90/Streaming/tracks/101/?starttime=20261119T000000Z");
        assert_eq!(without("rtsp://h/a", &["name"]), "rtsp://h/a");
        let times = [("starttime", "1"), ("endtime", "2")];
        assert_eq!(
            with("rtsp://h/a?StartTime=9Z&b&endtime=&name=x", times),
            "rtsp://h/a?StartTime=1&b&endtime=2&name=x"
        );
        assert_eq!(
            (with("rtsp://h/a", times).as_str(), with("rtsp://h/?b=3", times).as_str()),
            ("rtsp://h/a", "rtsp://h/?b=3")
        );
        assert_eq!(joined("\n   rtsp://h/?a=1\n  &b=2 \r\n"), "rtsp://h/?a=1&b=2");
    }

    #[test]
    fn quirk_18_the_host_is_ours_and_nobody_is_named() {
        let host = Host::Domain("nvr.example");
        let expected = "rtsp://nvr.example:554/Streaming/tracks/101/?starttime=20261119T000000Z&name=ch01_8&size=683";
        assert_eq!(at(URI, host.clone(), 554).unwrap().as_str(), expected);
        for none in ["", "x", "http://192.0.2.5/a", "file:///etc/passwd", "rtsp:/x"] {
            assert_eq!(at(none, host.clone(), 554), None, "{none}");
        }
    }
}
