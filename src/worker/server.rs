//! The server of tasks, as a worker asks it.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::{Host, Url};

use super::lease::{Beat, Far, Lease};
use super::outcome::Word;
use crate::http::Token;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// For an answer from its first byte to its last, beside what the server was asked to wait.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of an answer, at most.
const MAX_ANSWER: usize = 1 << 20;
/// The longest `Retry-After` that is believed.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Characters of a server's own words that are repeated.
const MAX_DETAIL: usize = 500;
/// What the server's own refusals are sent as. Those of whoever stands in front of it are not.
const PROBLEM: &str = "application/problem+json";

/// A server of tasks, and the right to ask it. No proxy and no redirect gets to see the token.
#[derive(Debug)]
pub struct Server {
    http: reqwest::Client,
    base: String,
    token: Token,
    /// Whether it was away when it was last asked.
    away: Mutex<bool>,
}

/// Why the server did not do what it was asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ServerError {
    /// It cannot be reached, or has no time, or somebody else answers in its place: later.
    #[error("{why}")]
    Away {
        /// Why.
        why: String,
        /// How long it asks us to wait.
        after: Option<Duration>,
    },
    /// The lease is over, or another's.
    #[error("the lease is over: {0}")]
    Lost(String),
    /// The server itself refuses the token.
    #[error("{0}")]
    Forbidden(String),
}

/// What a question for a task is answered.
#[derive(Debug)]
pub(super) enum Taken {
    /// A task.
    Lease(Box<Lease>),
    /// None now.
    Nothing {
        /// Whether there are any that are not over.
        left: bool,
    },
}

impl Server {
    /// A server at an address. The token goes over HTTPS, or stays on this machine, unless that is waived.
    ///
    /// # Errors
    ///
    /// A sentence for whoever wrote the address.
    pub fn new(address: &str, token: Token, insecure: bool) -> Result<Self, String> {
        let base = base(address, insecure)?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_WITHIN)
            .build()
            .map_err(|error| format!("cannot make an HTTP client: {}", chain(&error)))?;
        Ok(Self { http, base, token, away: Mutex::default() })
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        &self.base
    }

    /// Takes a task; without one, the server may wait so long until there is one.
    ///
    /// # Errors
    ///
    /// When there is no answer, or a refusal.
    pub(super) async fn take(&self, worker: &str, wait: Duration) -> Result<Taken, ServerError> {
        let body = json!({ "worker": worker, "wait": humantime::format_duration(wait).to_string() });
        let (status, head, body) = self.post("", &body, wait + ANSWER_WITHIN).await?;
        if status == StatusCode::NO_CONTENT {
            let left = head.get("framehaul-tasks").is_none_or(|word| word != "none");
            return Ok(Taken::Nothing { left });
        }
        self.read(&body).map(|lease| Taken::Lease(Box::new(lease)))
    }

    /// Says that a task is being worked on, and how far it is.
    ///
    /// # Errors
    ///
    /// When the lease is over, or there is no answer.
    pub(super) async fn heartbeat(&self, lease: &Lease, far: Far) -> Result<Beat, ServerError> {
        let body = json!({ "number": lease.number, "progress": far });
        let (_, _, body) = self.post(&format!("/{}/heartbeat", lease.id), &body, ANSWER_WITHIN).await?;
        self.read(&body)
    }

    /// Says the last word for a task: that it is done, or why it is not and whether somebody may try again.
    ///
    /// # Errors
    ///
    /// When the lease is over, or there is no answer.
    pub(super) async fn end(&self, lease: &Lease, word: &Word) -> Result<(), ServerError> {
        let path = match word {
            Word::Done(_) => "complete",
            Word::Failed(_) => "fail",
        };
        let (_, _, body) = self.post(&format!("/{}/{path}", lease.id), &word.json(lease.number), ANSWER_WITHIN).await?;
        self.read::<Map<String, Value>>(&body).map(drop)
    }

    /// Remembers whether the server is there, and says whether that is news.
    pub(super) fn is_news(&self, away: bool) -> bool {
        let mut before = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *before, away) != away
    }

    async fn post(
        &self,
        path: &str,
        body: &Value,
        within: Duration,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), ServerError> {
        let away = |error: &reqwest::Error| ServerError::Away {
            why: format!("cannot ask {}: {}", self.base, chain(error)),
            after: None,
        };
        let request = self.http.post(format!("{}/api/v1/leases{path}", self.base)).json(body).timeout(within);
        let mut response =
            request.bearer_auth(self.token.expose()).send().await.map_err(|error| away(&error.without_url()))?;
        let (status, head) = (response.status(), response.headers().clone());
        let mut bytes = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| away(&error.without_url()))? {
            if bytes.len() + piece.len() > MAX_ANSWER {
                return Err(self.odd("with more than it should"));
            }
            bytes.extend_from_slice(&piece);
        }
        if status.is_success() { Ok((status, head, bytes)) } else { Err(self.refusal(&response, &bytes)) }
    }

    fn read<'de, T: Deserialize<'de>>(&self, body: &'de [u8]) -> Result<T, ServerError> {
        // Its own words may repeat a value, and one of them is a password.
        serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            self.odd(&format!("not as a server of tasks does (line {line}, column {column})"))
        })
    }

    /// An answer that makes no sense. It need not be the server's: gateways have pages of their own while it is away.
    fn odd(&self, how: &str) -> ServerError {
        ServerError::Away { why: format!("{} answers {how}", self.base), after: None }
    }

    /// What an answer means that is no success.
    fn refusal(&self, response: &Response, body: &[u8]) -> ServerError {
        let status = response.status();
        let is_problem = |kind: &str| kind.starts_with(PROBLEM);
        let is_its_own =
            response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(is_problem);
        let problem = serde_json::from_slice::<Value>(body).ok().filter(|_| is_its_own);
        let detail = problem.as_ref().and_then(|problem| problem["detail"].as_str());
        let after = response.headers().get(RETRY_AFTER).and_then(|text| text.to_str().ok()?.trim().parse().ok());
        let after = after.map(Duration::from_secs).map(|wait| wait.min(LONGEST_PAUSE));
        let Some(detail) = detail else {
            let why = format!("{} answers {status}, and not as a server of tasks does", self.base);
            return ServerError::Away { why, after };
        };
        let detail: String = detail.chars().take(MAX_DETAIL).collect();
        match status.as_u16() {
            409 => ServerError::Lost(detail),
            401 | 403 => ServerError::Forbidden(detail),
            _ => ServerError::Away { why: format!("{} answers {status}: {detail}", self.base), after },
        }
    }
}

fn base(address: &str, insecure: bool) -> Result<String, String> {
    let wrong = |detail: &str| format!("--server {detail}: write https://HOST[:PORT]");
    let url = Url::parse(address).map_err(|_| wrong("is no URL"))?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("holds more than an address"));
    }
    let stays_here = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Ipv6(ip)) => IpAddr::from(ip).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => return Err(wrong("names no host")),
    };
    match url.scheme() {
        "https" => {}
        "http" if stays_here || insecure => {}
        "http" => {
            return Err(
                "--server is no https:// URL, and token and passwords would go over the network for everybody to \
                        read: use https, or say --insecure where the network is as good"
                    .to_owned(),
            );
        }
        _ => return Err(wrong("is no URL of HTTP")),
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// The causes of an error without its URL, outermost first; each is said once.
fn chain(error: &reqwest::Error) -> String {
    let mut source = std::error::Error::source(error);
    let mut text = match (error.is_timeout(), source) {
        (true, _) => "no answer in time".to_owned(),
        (false, None) => "the request failed".to_owned(),
        (false, Some(_)) => String::new(),
    };
    while let Some(error) = source {
        let said = error.to_string();
        if !text.contains(&said) {
            text = if text.is_empty() { said } else { format!("{text}: {said}") };
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_over_https_or_stays_here() {
        for (address, insecure, expected) in [
            ("https://tasks.example/", false, "https://tasks.example"),
            ("https://proxy.example/framehaul", false, "https://proxy.example/framehaul"),
            ("http://127.0.0.1:8080", false, "http://127.0.0.1:8080"),
            ("http://[::1]:8080/", false, "http://[::1]:8080"),
            ("http://localhost:8080", false, "http://localhost:8080"),
            ("http://10.0.0.1:8080", true, "http://10.0.0.1:8080"),
        ] {
            assert_eq!(base(address, insecure).as_deref(), Ok(expected));
        }
        for (address, word) in [
            ("http://10.0.0.1:8080", "--insecure"),
            ("http://localhost.example", "--insecure"),
            ("http://127.0.0.1.example", "--insecure"),
            ("tasks.example", "no URL"),
            ("ftp://127.0.0.1", "no URL of HTTP"),
            ("https://user:s3cret@tasks.example", "more than an address"),
            ("https://tasks.example/?token=s3cret", "more than an address"),
        ] {
            let told = base(address, false).unwrap_err();
            assert!(told.contains(word) && !told.contains("s3cret"), "{address}: {told}");
        }
    }
}
