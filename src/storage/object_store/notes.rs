//! What the server said, for the crate does not tell: its errors hold status and headers in private types.
//!
//! A request's extensions travel with it down to the HTTP client, so each attempt sends an empty note along, and the
//! client wrapped here fills it in. Requests for tokens carry none.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::object_store::ClientOptions;
use ::object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    ReqwestConnector,
};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use http::{Extensions, HeaderMap};
use tokio::time::timeout;

use crate::storage::bucket::retry_after;

use super::refusal::deepest;

/// How long a token may take. The crate sets no deadline when it asks a metadata server; a silent one would take the
/// attempt's own, and nobody would know why. Two of these fit in there.
const TOKEN_WITHIN: Duration = Duration::from_secs(4);

/// What is read of a refusal at most: its code stands near its beginning.
const MAX_REFUSAL: usize = 64 << 10;

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Heard {
    /// None was sent: there were no credentials for it.
    #[default]
    Nothing,
    /// It was sent, and no answer came.
    Silence {
        /// The innermost cause.
        cause: String,
        /// Whether so much as a connection came about.
        connected: bool,
    },
    /// The server's word.
    Answer {
        /// The status code.
        status: u16,
        /// The store's own code for a refusal, or nothing.
        code: String,
        /// How long it asks us to wait.
        retry_after: Option<Duration>,
        /// Where the bucket is, if it is elsewhere.
        region: Option<String>,
    },
}

/// A note that goes along with a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes(Arc<Mutex<Heard>>);

impl Notes {
    /// What to give to the crate.
    pub(super) fn extensions(&self) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(self.clone());
        extensions
    }

    /// What was heard.
    pub(super) fn heard(&self) -> Heard {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, heard: Heard) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = heard;
    }
}

/// Makes clients that take notes.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> ::object_store::Result<HttpClient> {
        Ok(HttpClient::new(Noting(ReqwestConnector::default().connect(options)?)))
    }
}

#[derive(Debug)]
struct Noting(HttpClient);

#[async_trait]
impl HttpService for Noting {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Some(notes) = request.extensions().get::<Notes>().cloned() else {
            let token = timeout(TOKEN_WITHIN, self.0.execute(request)).await;
            return token.unwrap_or_else(|late| Err(HttpError::new(HttpErrorKind::Timeout, late)));
        };
        let response = match self.0.execute(request).await {
            Ok(response) => response,
            Err(error) => {
                let connected = error.kind() != HttpErrorKind::Connect;
                notes.note(Heard::Silence { cause: deepest(&error), connected });
                return Err(error);
            }
        };
        let (parts, body) = response.into_parts();
        let status = parts.status.as_u16();
        let (body, text) = match status {
            300.. => {
                let text = beginning(body).await;
                (HttpResponseBody::from(text.clone()), text)
            }
            _ => (body, String::new()),
        };
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        notes.note(Heard::Answer {
            status,
            code: code(&parts.headers, &text),
            retry_after: retry_after(&parts.headers),
            region: header("x-amz-bucket-region"),
        });
        Ok(HttpResponse::from_parts(parts, body))
    }
}

async fn beginning(body: HttpResponseBody) -> String {
    let mut parts = body.bytes_stream();
    let mut text = Vec::new();
    while let Some(Ok(part)) = parts.next().await {
        text.extend_from_slice(&part);
        if text.len() >= MAX_REFUSAL {
            break;
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// The store's code of a refusal: Azure has it in a header, S3 in the XML.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>,
/// <https://learn.microsoft.com/en-us/rest/api/storageservices/status-and-error-codes2>
fn code(headers: &HeaderMap, text: &str) -> String {
    let in_header = headers.get("x-ms-error-code").and_then(|value| value.to_str().ok());
    let in_text = || text.split_once("<Code>")?.1.split_once("</Code>").map(|(code, _)| code);
    let code = in_header.or_else(in_text).unwrap_or_default();
    let sound = code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric());
    if sound { code.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_found_in_header_or_text_and_is_a_word() {
        let mut headers = HeaderMap::new();
        let xml = "<?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>Please</Message></Error>";
        assert_eq!(code(&headers, xml), "SlowDown");
        assert_eq!(code(&headers, "<Code>no word, with a <b>"), "");
        assert_eq!(code(&headers, "<Code>a&#x41;</Code>"), "");
        assert_eq!(code(&headers, ""), "");
        headers.insert("x-ms-error-code", "ServerBusy".parse().unwrap());
        assert_eq!(code(&headers, xml), "ServerBusy");
    }
}
