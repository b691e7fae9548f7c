//! Errors in the words of Cloud Storage.

use bytes::Bytes;
use hyper::{Response, StatusCode, header};
use serde_json::json;

use super::store::Refused;

/// An answer.
pub(super) type Answer = Response<Bytes>;

/// A call that failed: what the client is told.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    reason: &'static str,
    message: String,
    retry_after_s: Option<u32>,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Refusal { status, reason, message: message.into(), retry_after_s: None }
    }

    /// 400: the request itself is wrong.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, "invalid", message)
    }

    /// What the store said no to, about `name` in `bucket`.
    pub(super) fn of_store(refused: &Refused, bucket: &str, name: &str) -> Self {
        match refused {
            Refused::NoBucket => {
                Refusal::new(StatusCode::NOT_FOUND, "notFound", "The specified bucket does not exist.")
            }
            Refused::NoObject => {
                Refusal::new(StatusCode::NOT_FOUND, "notFound", format!("No such object: {bucket}/{name}"))
            }
            Refused::Precondition(_) => Refusal::new(
                StatusCode::PRECONDITION_FAILED,
                "conditionNotMet",
                "At least one of the pre-conditions you specified did not hold.",
            ),
            Refused::NotModified => Refusal::new(StatusCode::NOT_MODIFIED, "notModified", ""),
        }
    }

    /// 401: who calls is not known, or no longer.
    pub(super) fn unauthorized(reason: &'static str, message: &str) -> Self {
        Refusal::new(StatusCode::UNAUTHORIZED, reason, message)
    }

    /// A fault out of the knobs, in the words the real thing would use.
    pub(super) fn injected(status: u16, retry_after_s: Option<u32>) -> Self {
        let (reason, message) = match status {
            401 => ("authError", "Invalid Credentials"),
            403 => ("forbidden", "The caller does not have the permission this call needs."),
            404 => ("notFound", "The specified bucket does not exist."),
            429 => ("rateLimitExceeded", "The rate of requests exceeds the limit. Reduce it and try again."),
            503 => ("backendError", "We encountered an internal error. Please try again."),
            _ => ("injected", "This answer was asked for with the knob `refuse_status`."),
        };
        Refusal {
            retry_after_s,
            ..Refusal::new(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), reason, message)
        }
    }

    /// The `Retry-After` that it tells.
    pub(super) fn retry_after_s(&self) -> Option<u32> {
        self.retry_after_s
    }

    /// The answer in JSON, or as bare text for a read of an object's bytes: Cloud Storage does the same, and a client
    /// that expects JSON there must learn so here.
    pub(super) fn answer(&self, media: bool) -> Answer {
        let (kind, body) = if self.status == StatusCode::NOT_MODIFIED {
            (None, Vec::new())
        } else if media {
            (Some("text/html; charset=UTF-8"), self.message.clone().into_bytes())
        } else {
            (Some("application/json; charset=UTF-8"), self.json())
        };
        let mut answer = Response::new(Bytes::from(body));
        *answer.status_mut() = self.status;
        if let Some(kind) = kind {
            answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = header::HeaderValue::from_static("Bearer realm=\"testbed\"");
            answer.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after_s {
            answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        answer
    }

    fn json(&self) -> Vec<u8> {
        let mut error = json!({
            "message": self.message,
            "domain": "global",
            "reason": self.reason,
        });
        let location = match self.status {
            StatusCode::PRECONDITION_FAILED => Some("If-Match"),
            StatusCode::UNAUTHORIZED => Some("Authorization"),
            _ => None,
        };
        if let Some(location) = location {
            error["locationType"] = json!("header");
            error["location"] = json!(location);
        }
        let body = json!({
            "error": {
                "code": self.status.as_u16(),
                "message": self.message,
                "errors": [error],
            }
        });
        body.to_string().into_bytes()
    }
}
