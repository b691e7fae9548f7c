//! A small blocking HTTP client that keeps its connections.

use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::runtime::Runtime;

/// How long a request may take, answer included.
const DEADLINE: Duration = Duration::from_secs(30);

/// Gets `http://` URLs. Can be shared by threads: each then has a connection of its own.
///
/// The caller waits; the requests themselves run on a thread of the client's own, so that it can be used and dropped
/// inside another runtime too.
#[derive(Debug)]
pub struct Http {
    /// Always there until `drop`.
    runtime: Option<Runtime>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Http {
    /// Starts the client's thread; connections are opened when needed.
    pub fn new() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("cannot start the HTTP client's runtime")?;
        Ok(Self { runtime: Some(runtime), client: Client::builder(TokioExecutor::new()).build_http() })
    }

    /// Gets `url`, with a bearer token if one is given, and returns the body of a 200 answer.
    ///
    /// # Errors
    ///
    /// When there is no complete answer within 30 s, or its status is not 200.
    pub fn get(&self, url: &str, bearer: Option<&str>) -> anyhow::Result<Bytes> {
        let (status, body) = self.send(Method::GET, url, bearer, None)?;
        if status != hyper::StatusCode::OK {
            let shown = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
            bail!("cannot get `{url}`: {status}: {}", shown.trim());
        }
        Ok(body)
    }

    /// Sends a request, with a body of JSON if one is given, and returns status and body of the answer, whatever it is.
    ///
    /// # Errors
    ///
    /// When there is no complete answer within 30 s.
    pub fn send(
        &self,
        method: Method,
        url: &str,
        bearer: Option<&str>,
        json: Option<String>,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let (status, _, body) = self.send_with(method, url, bearer, json, &[])?;
        Ok((status, body))
    }

    /// The same with further headers, and with the answer's.
    ///
    /// # Errors
    ///
    /// When there is no complete answer within 30 s.
    pub fn send_with(
        &self,
        method: Method,
        url: &str,
        bearer: Option<&str>,
        json: Option<String>,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<(StatusCode, HeaderMap, Bytes)> {
        let json = json.map(|json| ("application/json", json.into()));
        self.send_body(method, url, bearer, json, headers)
    }

    /// The same with a body of any type, told before it.
    ///
    /// # Errors
    ///
    /// When there is no complete answer within 30 s.
    pub fn send_body(
        &self,
        method: Method,
        url: &str,
        bearer: Option<&str>,
        body: Option<(&str, Bytes)>,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<(StatusCode, HeaderMap, Bytes)> {
        let mut request = Request::builder().method(&method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = bearer {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some((kind, _)) = &body {
            request = request.header(CONTENT_TYPE, *kind);
        }
        let body = Full::from(body.map(|(_, bytes)| bytes).unwrap_or_default());
        let request = request.body(body).with_context(|| format!("cannot ask for `{url}`"))?;
        let client = self.client.clone();
        let (answer, answered) = mpsc::channel();
        self.runtime.as_ref().expect("the runtime is there until drop").spawn(async move {
            let whole = async {
                let response = client.request(request).await?;
                let (head, body) = response.into_parts();
                anyhow::Ok((head.status, head.headers, body.collect().await?.to_bytes()))
            };
            let result = match tokio::time::timeout(DEADLINE, whole).await {
                Ok(result) => result,
                Err(_) => Err(anyhow::anyhow!("no complete answer within {DEADLINE:?}")),
            };
            // The asker waits below, unless it panicked.
            let _ = answer.send(result);
        });
        answered
            .recv()
            .context("the HTTP client's thread panicked")?
            .with_context(|| format!("cannot {method} `{url}`"))
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would panic inside another runtime.
            runtime.shutdown_background();
        }
    }
}
