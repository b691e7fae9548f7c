//! What the server said, for the crate does not tell: its errors hold status and headers in private types.
//!
//! A request's extensions travel with it down to the HTTP client, so each attempt sends an empty note along, and the
//! client wrapped here fills it in. Requests for tokens carry none.
//!
//! What the crate would read to its end, however long that is, is read here, within bounds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::object_store::ClientOptions;
use ::object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use http::{Extensions, HeaderMap, HeaderValue, header};
use tokio::time::timeout;

use crate::storage::bucket::retry_after;
use crate::storage::client::client;

use super::azure::Signer;
use super::refusal::deepest;

/// How long a token may take. The crate sets no deadline when it asks a metadata server; a silent one would take the
/// attempt's own, and nobody would know why. Two of these fit in there.
const TOKEN_WITHIN: Duration = Duration::from_secs(4);

/// How long nobody is asked again who gave no token: the crate asks for one at a time while all others wait, and each of
/// them would wait for its own.
const TOKEN_AGAIN: Duration = Duration::from_secs(2);

/// What is read of an answer with a token at most.
const MAX_TOKEN: usize = 1 << 20;

/// What is read of a refusal at most: its code stands near its beginning.
const MAX_REFUSAL: usize = 64 << 10;

/// What is read of a list at most: a page of the longest names takes 2 MB.
const MAX_LIST: usize = 16 << 20;

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

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// To put or to get an object.
    Object,
    /// A page of names.
    List,
    /// To begin an object in parts, to put one of them, or to give them up.
    Part,
    /// To put its parts together, if there is no such object.
    Finish {
        /// What it is: Azure is told at the end.
        content_type: &'static str,
    },
}

/// Whether a request is about an object in parts. The crate sends no extensions along with most of them.
fn is_of_parts(request: &HttpRequest) -> bool {
    let mut query = request.uri().query().unwrap_or_default().split('&');
    query.any(|pair| matches!(pair.split('=').next(), Some("uploads" | "uploadId")) || is_azure_part(pair))
}

fn is_azure_part(pair: &str) -> bool {
    matches!(pair, "comp=block" | "comp=blocklist")
}

/// A note that goes along with a request.
#[derive(Clone, Debug)]
pub(super) struct Notes {
    asked: Asked,
    signer: Option<Arc<Signer>>,
    heard: Arc<Mutex<Heard>>,
}

impl Notes {
    /// An empty one.
    pub(super) fn of(asked: Asked, signer: Option<Arc<Signer>>) -> Self {
        Self { asked, signer, heard: Arc::default() }
    }

    /// Does what asks without extensions.
    pub(super) async fn along<T>(&self, asks: impl Future<Output = T>) -> T {
        ALONG.scope(self.clone(), asks).await
    }

    /// What to give to the crate.
    pub(super) fn extensions(&self) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(self.clone());
        extensions
    }

    /// What was heard.
    pub(super) fn heard(&self) -> Heard {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, heard: Heard) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = heard;
    }
}

tokio::task_local! {
    /// The note of what this task asks.
    static ALONG: Notes;
}

/// Makes clients that take notes.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> ::object_store::Result<HttpClient> {
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp);
        let client = client(allow_http.as_deref() == Some("true"))
            .map_err(|error| ::object_store::Error::Generic { store: "HTTP", source: Box::new(error) })?;
        Ok(HttpClient::new(Noting { client, no_token: Mutex::default() }))
    }
}

#[derive(Debug)]
struct Noting {
    client: reqwest::Client,
    /// When there was no answer with a token last, and why.
    no_token: Mutex<Option<(Instant, String)>>,
}

#[async_trait]
impl HttpService for Noting {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut notes = request.extensions().get::<Notes>().cloned();
        if is_of_parts(&request) {
            notes = ALONG.try_with(Notes::clone).ok().or(notes);
        }
        let Some(notes) = notes else { return self.token(request).await };
        if let Asked::Finish { content_type } = notes.asked {
            finish_create_only(&mut request, content_type, notes.signer.as_deref()).await?;
        }
        let response = match self.client.call(request).await {
            Ok(response) => response,
            Err(error) => {
                let connected = error.kind() != HttpErrorKind::Connect;
                notes.note(Heard::Silence { cause: deepest(&error), connected });
                return Err(error);
            }
        };
        let (parts, body) = response.into_parts();
        let mut status = parts.status.as_u16();
        let (body, text) = match status {
            300.. => {
                let text = beginning(body).await;
                (Ok(HttpResponseBody::from(text.clone())), text)
            }
            _ if matches!(notes.asked, Asked::Part | Asked::Finish { .. }) => {
                let content = whole(body, MAX_REFUSAL).await?;
                let text = String::from_utf8_lossy(&content).into_owned();
                // Of what it puts together S3 says 200 before it knows, so that nobody thinks it dead meanwhile.
                if text.contains("<Error>") {
                    status = 500;
                }
                (Ok(HttpResponseBody::from(content)), text)
            }
            _ if notes.asked == Asked::List => (list(body).await.map(HttpResponseBody::from), String::new()),
            _ => (Ok(body), String::new()),
        };
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        notes.note(Heard::Answer {
            status,
            code: code(&parts.headers, &text),
            retry_after: retry_after(&parts.headers),
            region: header("x-amz-bucket-region"),
        });
        Ok(HttpResponse::from_parts(parts, body?))
    }
}

/// Makes the request that puts an object's parts together one that creates, and overwrites nothing.
async fn finish_create_only(
    request: &mut HttpRequest,
    content_type: &'static str,
    signer: Option<&Signer>,
) -> Result<(), HttpError> {
    let to_azure = request.uri().query().is_some_and(|query| query.split('&').any(is_azure_part));
    let headers = request.headers_mut();
    headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
    if to_azure {
        headers.insert("x-ms-blob-content-type", HeaderValue::from_static(content_type));
    }
    match signer {
        Some(signer) => signer.sign_again(request).await.map_err(|error| unusable(deepest(&error))),
        None => Ok(()),
    }
}

impl Noting {
    /// Asks for a token, unless that was in vain a moment ago.
    async fn token(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let lately = self.no_token().clone().filter(|(at, _)| at.elapsed() < TOKEN_AGAIN);
        if let Some((_, why)) = lately {
            return Err(unusable(why));
        }
        let answer = async {
            let (parts, body) = self.client.call(request).await?.into_parts();
            Ok(HttpResponse::from_parts(parts, whole(body, MAX_TOKEN).await?.into()))
        };
        let why = match timeout(TOKEN_WITHIN, answer).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => deepest(&error as &HttpError),
            Err(_) => format!("no access token within {TOKEN_WITHIN:?}"),
        };
        *self.no_token() = Some((Instant::now(), why.clone()));
        Err(unusable(why))
    }

    fn no_token(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.no_token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that is of no use.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unusable(String);

fn unusable(why: impl Into<String>) -> HttpError {
    HttpError::new(HttpErrorKind::Decode, Unusable(why.into()))
}

async fn whole(body: HttpResponseBody, limit: usize) -> Result<Vec<u8>, HttpError> {
    let mut parts = body.bytes_stream();
    let mut content = Vec::new();
    while let Some(part) = parts.next().await {
        content.extend_from_slice(&part?);
        if content.len() > limit {
            return Err(unusable("the answer is too long"));
        }
    }
    Ok(content)
}

/// A page of names, if it is one and tells whether it is the last. The crate takes whatever is well-formed for an empty
/// one, and does not look at `IsTruncated`.
///
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html>,
/// <https://learn.microsoft.com/en-us/rest/api/storageservices/list-blobs>
async fn list(body: HttpResponseBody) -> Result<Vec<u8>, HttpError> {
    let content = whole(body, MAX_LIST).await?;
    let text = String::from_utf8_lossy(&content);
    if !text.contains("<ListBucketResult") && !text.contains("<EnumerationResults") {
        return Err(unusable("it is no list"));
    }
    if text.contains("<IsTruncated>true<") && !text.contains("<NextContinuationToken>") {
        return Err(unusable("the list is cut short and does not say how it goes on"));
    }
    drop(text);
    Ok(content)
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
    use ::object_store::client::HttpRequestBody;

    use super::*;

    #[tokio::test]
    async fn of_many_that_wait_for_a_silent_token_server_one_waits() {
        // It is never asked for a connection, so the kernel makes it and nobody reads what comes.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/token", silent.local_addr().unwrap());
        let client = Connector.connect(&ClientOptions::new().with_allow_http(true)).unwrap();
        let begun = Instant::now();
        // One after the other, as the crate lets them.
        for _ in 0..16 {
            let request = http::Request::get(&url).body(HttpRequestBody::empty()).unwrap();
            let error = client.execute(request).await.unwrap_err();
            assert_eq!(deepest(&error), "no access token within 4s");
        }
        assert!((TOKEN_WITHIN..TOKEN_WITHIN * 2).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn an_answer_is_read_as_far_as_its_limit() {
        let body = || HttpResponseBody::from(vec![b'x'; 100]);
        assert_eq!(whole(body(), 100).await.unwrap().len(), 100);
        assert_eq!(deepest(&whole(body(), 99).await.unwrap_err()), "the answer is too long");
    }

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
