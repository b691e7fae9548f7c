//! How a recorder says no.

use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};

use super::flow::Flow;
use super::knobs::Knobs;
use super::login::Verdict;
use super::xml::Writer;

/// Why something is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: u16,
    code: u8,
    string: &'static str,
    sub: &'static str,
}

impl Refusal {
    pub(super) const BAD_FORMAT: Refusal =
        Refusal { status: 400, code: 5, string: "Invalid XML Format", sub: "badXmlFormat" };
    pub(super) const BAD_CONTENT: Refusal =
        Refusal { status: 400, code: 6, string: "Invalid XML Content", sub: "badXmlContent" };
    pub(super) const NOT_SUPPORTED: Refusal =
        Refusal { status: 403, code: 4, string: "Invalid Operation", sub: "notSupport" };
    pub(super) const METHOD: Refusal =
        Refusal { status: 403, code: 4, string: "Invalid Operation", sub: "methodNotAllowed" };
    pub(super) const FORBIDDEN: Refusal =
        Refusal { status: 403, code: 4, string: "Invalid Operation", sub: "invalidOperation" };
    pub(super) const GONE: Refusal = Refusal { status: 404, code: 3, string: "Device Error", sub: "notFound" };
    pub(super) const UNKNOWN: Refusal = Refusal { status: 404, code: 4, string: "Invalid Operation", sub: "notFound" };
    /// An error that arrives as a success.
    pub(super) const DISGUISED: Refusal = Refusal { status: 200, code: 3, string: "Device Error", sub: "deviceError" };

    pub(super) fn busy(status: u16) -> Refusal {
        Refusal { status, code: 2, string: "Device Busy", sub: "deviceBusy" }
    }

    pub(super) fn answer(self, target: &str, knobs: &Knobs) -> Response<Flow> {
        if self == Refusal::UNKNOWN && knobs.html_errors {
            let page = "<!DOCTYPE html>\n<html><head><title>Document Error: Not Found</title></head>\n\
                        <body><h2>Access Error: 404 -- Not Found</h2></body></html>\n";
            return answer(self.status, "text/html", page.into());
        }
        let text = Writer::document("ResponseStatus", &knobs.namespace, |status| {
            status.leaf("requestURL", target);
            status.leaf("statusCode", self.code);
            status.leaf("statusString", self.string);
            status.leaf("subStatusCode", self.sub);
        });
        xml(self.status, text)
    }
}

/// What one who is not let in is told.
pub(super) fn keep_out(verdict: Verdict, challenges: Vec<String>, knobs: &Knobs) -> Response<Flow> {
    if challenges.is_empty() {
        return answer(401, "text/html", Bytes::new());
    }
    let text = Writer::document("userCheck", &knobs.namespace, |check| {
        check.leaf("statusValue", 401);
        check.leaf("statusString", "Unauthorized");
        match verdict {
            Verdict::Locked(left) | Verdict::Wrong { locked: Some(left), .. } => {
                check.leaf("lockStatus", "lock");
                check.leaf("unlockTime", left.as_secs_f64().ceil());
                check.leaf("retryLoginTime", 0);
            }
            Verdict::Wrong { left: Some(left), .. } => {
                check.leaf("lockStatus", "unlock");
                check.leaf("retryLoginTime", left);
            }
            _ => {}
        }
    });
    let mut answer = xml(401, text);
    for challenge in challenges {
        let value = HeaderValue::try_from(challenge).expect("a challenge is plain text");
        answer.headers_mut().append(header::WWW_AUTHENTICATE, value);
    }
    answer
}

pub(super) fn xml(status: u16, text: String) -> Response<Flow> {
    answer(status, "application/xml; charset=\"UTF-8\"", text.into())
}

pub(super) fn answer(status: u16, content_type: &'static str, body: Bytes) -> Response<Flow> {
    let mut answer = Response::new(Flow::text(body));
    *answer.status_mut() = StatusCode::from_u16(status).expect("knobs name HTTP's statuses only");
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
