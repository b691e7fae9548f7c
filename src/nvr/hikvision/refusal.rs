//! How recorders say no: the kinds of their errors.
//!
//! An application's error may come with status 200, as XML or JSON, and a web server's as a page of HTML.

use std::time::Duration;

use serde::Deserialize;

use super::xml::Element;
use crate::nvr::RecorderErrorKind;

/// The longest wait that a recorder may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Characters of a recorder's own words in a message, at most.
const WORDS: usize = 120;

/// What a body says about a request.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResponseStatus {
    /// 0 and 1 are good.
    #[serde(default)]
    status_code: Option<u32>,
    #[serde(default)]
    status_string: Option<String>,
    #[serde(default)]
    sub_status_code: Option<String>,
    #[serde(default)]
    error_msg: Option<String>,
}

impl ResponseStatus {
    /// What an element says, if it is one of these.
    pub(super) fn of(root: &Element) -> Option<Self> {
        if root.name != "ResponseStatus" {
            return None;
        }
        let text = |name| root.text(&[name]).map(ToOwned::to_owned);
        Some(Self {
            status_code: root.number(&["statusCode"]),
            status_string: text("statusString"),
            sub_status_code: text("subStatusCode"),
            error_msg: text("errorMsg"),
        })
    }

    /// What a body says, in XML or JSON.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        if let Ok(root) = Element::read(body) {
            return Self::of(&root);
        }
        let status: Self = serde_json::from_slice(body).ok()?;
        status.status_code.is_some().then_some(status)
    }

    /// Whether it says that all is well.
    pub(super) fn is_good(&self) -> bool {
        matches!(self.status_code, Some(0 | 1))
    }

    fn sub(&self) -> &str {
        self.sub_status_code.as_deref().unwrap_or_default()
    }
}

/// The wait that an answer asks for, in seconds; a date is not understood.
pub(super) fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_WAIT))
}

/// What to do about an answer of this status with this body, which is no success; `media` is whether a segment was asked
/// for.
pub(super) fn kind(
    status: u16,
    said: Option<&ResponseStatus>,
    media: bool,
    wait: Option<Duration>,
) -> RecorderErrorKind {
    use RecorderErrorKind::{Busy, Device, Dialect, Forbidden, Gone, NotFound, Protocol, Unsupported};
    let busy = Busy { retry_after: wait };
    let code = said.and_then(|said| said.status_code);
    let sub = said.map(ResponseStatus::sub).unwrap_or_default();
    // A recorder that does not know the call says that the operation is invalid; one that knows it, what is missing.
    let gone = media && said.is_some() && code != Some(4);
    match (status, code, sub) {
        (_, Some(2), _) | (_, _, "deviceBusy") => busy,
        (_, _, "notSupport" | "methodNotAllowed") | (405 | 501, ..) => Unsupported,
        (404 | 410, ..) | (_, _, "notFound") => {
            if gone {
                Gone
            } else {
                NotFound
            }
        }
        (403, ..) | (_, Some(4), _) => Forbidden,
        (400, ..) | (_, Some(5 | 6), _) => Dialect,
        (429 | 500..=599, ..) => busy,
        (_, Some(3), _) => Device,
        _ => Protocol,
    }
}

/// What it says, in its own words, cut short and without what a terminal would obey.
pub(super) fn words(status: u16, said: Option<&ResponseStatus>) -> String {
    let parts = said.map(|said| [&said.status_string, &said.sub_status_code, &said.error_msg]);
    let parts = parts.into_iter().flatten().flatten().map(String::as_str).filter(|part| !part.is_empty());
    let all: Vec<&str> = parts.collect();
    let text: String = all.join(", ").chars().filter(|c| !c.is_control()).take(WORDS).collect();
    match text.as_str() {
        "" => format!("HTTP {status}"),
        text => format!("HTTP {status}, \"{text}\""),
    }
}

#[cfg(test)]
mod tests {
    use RecorderErrorKind::{Busy, Device, Dialect, Forbidden, Gone, NotFound, Protocol, Unsupported};

    use super::*;

    const BUSY: RecorderErrorKind = Busy { retry_after: None };

    fn said(code: u32, sub: &str) -> Vec<u8> {
        format!(
            "<ResponseStatus xmlns='u'><statusCode>{code}</statusCode><statusString>x</statusString>\
             <subStatusCode>{sub}</subStatusCode></ResponseStatus>"
        )
        .into_bytes()
    }

    #[test]
    fn errors_have_the_kinds_that_say_what_to_do() {
        for (status, code, sub, expected) in [
            (403, 4, "invalidOperation", Forbidden),
            (403, 4, "notSupport", Unsupported),
            (403, 4, "methodNotAllowed", Unsupported),
            (200, 4, "invalidOperation", Forbidden),
            (400, 5, "badXmlFormat", Dialect),
            (400, 6, "badXmlContent", Dialect),
            (200, 6, "badXmlContent", Dialect),
            (503, 2, "deviceBusy", BUSY),
            (200, 2, "deviceBusy", BUSY),
            (500, 3, "deviceError", BUSY),
            (200, 3, "deviceError", Device),
            (404, 3, "notFound", Gone),
            (404, 4, "notFound", NotFound),
            (200, 7, "rebootRequired", Protocol),
        ] {
            let said = ResponseStatus::read(&said(code, sub)).unwrap();
            assert!(!said.is_good());
            assert_eq!(kind(status, Some(&said), true, None), expected, "{status} {code} {sub}");
        }
        for (status, expected) in [(404, NotFound), (403, Forbidden), (400, Dialect), (500, BUSY), (302, Protocol)] {
            assert_eq!(ResponseStatus::read(b"<html><body>404</body></html>"), None);
            assert_eq!(kind(status, None, true, None), expected, "{status}");
        }
        let said = ResponseStatus::read(&said(3, "notFound")).unwrap();
        assert_eq!(kind(404, Some(&said), false, None), NotFound);
    }

    #[test]
    fn json_says_the_same_and_a_good_status_is_none() {
        let text = br#"{"requestURL": "/x", "statusCode": 2, "statusString": "Device Busy", "errorCode": 1}"#;
        let said = ResponseStatus::read(text).unwrap();
        assert_eq!(kind(200, Some(&said), false, None), BUSY);
        assert_eq!(words(200, Some(&said)), "HTTP 200, \"Device Busy\"");
        assert!(ResponseStatus::read(&super::tests::said(1, "ok")).unwrap().is_good());
        for text in ["{}", "[]", "", "<userCheck/>", "\u{0}\u{0}\u{1}\u{ba}"] {
            assert_eq!(ResponseStatus::read(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_recorders_words_are_cut_short() {
        let long = format!("\u{1b}[31m{}", "x".repeat(1_000));
        let text = words(400, ResponseStatus::read(&said(6, &long)).as_ref());
        assert!(text.len() < 200 && !text.contains('\u{1b}'), "{text}");
    }
}
