//! Requests, and the login before each of them.
//!
//! Every request shakes hands anew: recorders refuse most of what comes with a nonce that was used before. The first
//! request carries the whole body, because some look at the body before they look at who sends it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use reqwest::redirect::Policy;
use reqwest::{Response, Url};
use secrecy::ExposeSecret as _;
use tokio::time::timeout;
use url::{Host, Position};

use super::digest::Offer;
use super::refusal::{self, ResponseStatus};
use super::xml::Element;
use crate::model::{Login, Tls, fingerprint};
use crate::nvr::lockout::Credentials;
use crate::nvr::{Common, RecorderError, RecorderErrorKind, RecorderSettings, Scheme};

/// Bytes of an answer in XML, at most: a page of 500 matches has half a MiB.
const LARGEST_XML: usize = 8 << 20;
/// Bytes of a refusal that are looked at.
const LARGEST_REFUSAL: usize = 64 << 10;
/// A challenge older than this when its answer is refused may have been too old: the password need not be wrong.
const FRESH: Duration = Duration::from_secs(5);
/// How long a connection that nobody uses is kept, well below the minute that recorders keep theirs.
const IDLE: Duration = Duration::from_secs(10);

/// One recorder's HTTP.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    settings: RecorderSettings,
    credentials: Credentials,
    common: Arc<Common>,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Its verb, which goes into its signature.
    pub(super) verb: Method,
    /// Its path, as the recorder knows it.
    pub(super) path: String,
    /// What stands behind the question mark.
    pub(super) query: Option<String>,
    /// Its body, in XML; empty for none.
    pub(super) body: Bytes,
    /// Whether a segment is asked for.
    pub(super) media: bool,
}

impl Call {
    /// Asks for a page below `/ISAPI/`.
    pub(super) fn get(page: &str) -> Self {
        Self::of(Method::GET, page, Bytes::new())
    }

    /// Sends a document to a page below `/ISAPI/`.
    pub(super) fn post(page: &str, body: String) -> Self {
        Self::of(Method::POST, page, body.into())
    }

    fn of(verb: Method, page: &str, body: Bytes) -> Self {
        Self { verb, path: format!("/ISAPI/{page}"), query: None, body, media: false }
    }
}

/// What is found in a 401.
struct Denied {
    offer: Offer,
    /// For how long we are locked out, if we are.
    locked: Option<Duration>,
    /// How many more wrong passwords it allows.
    left: Option<u32>,
}

impl Client {
    pub(super) fn new(settings: RecorderSettings, common: Arc<Common>) -> Result<Self, RecorderError> {
        let bare = settings.host.trim_start_matches('[').trim_end_matches(']');
        let host = match bare.parse() {
            Ok(address) => Ok(Host::Ipv6(address)),
            Err(_) => Host::parse(bare),
        };
        let wrong = |what: String| RecorderError::new(RecorderErrorKind::Protocol, what);
        let host = host.map_err(|error| wrong(format!("`{}` is no host: {error}", settings.host)))?;
        let scheme = if matches!(settings.scheme, Scheme::Http) { "http" } else { "https" };
        let base = Url::parse(&format!("{scheme}://{host}:{}/", settings.port()));
        let base = base.map_err(|error| wrong(format!("`{}` makes no URL: {error}", settings.host)))?;
        let login = Login::at(host, settings.port(), &settings.user);
        let fingerprint = fingerprint(&common.salt, &login, Some(&settings.password));
        let http = http(&settings).map_err(|error| wrong(format!("cannot build a client: {}", chain(&error))))?;
        Ok(Self { http, base, settings, credentials: Credentials { login, fingerprint }, common })
    }

    pub(super) fn settings(&self) -> &RecorderSettings {
        &self.settings
    }

    pub(super) fn common(&self) -> &Arc<Common> {
        &self.common
    }

    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The recorder's URL, without a path.
    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// An error of this recorder's.
    pub(super) fn error(&self, kind: RecorderErrorKind, what: impl std::fmt::Display) -> RecorderError {
        RecorderError::new(kind, format!("{}: {what}", self.place()))
    }

    fn place(&self) -> &str {
        &self.base[Position::BeforeHost..Position::AfterPort]
    }

    /// Asks, and reads the document that answers.
    ///
    /// # Errors
    ///
    /// When it does not come whole in time, or is a refusal, whatever its status is.
    pub(super) async fn xml(&self, call: &Call) -> Result<Element, RecorderError> {
        let response = self.send(call).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let read = timeout(self.settings.timeouts.answer, self.read(response, LARGEST_XML));
        let body = read.await.map_err(|_| self.late(call))??;
        if status.is_success() {
            match Element::read(&body) {
                Ok(root) if ResponseStatus::of(&root).is_none_or(|said| said.is_good()) => return Ok(root),
                Ok(_) => {}
                Err(_) if ResponseStatus::read(&body).is_some_and(|said| !said.is_good()) => {}
                Err(error) => {
                    let what = format!("its answer to {} cannot be read: {error}", call.path);
                    return Err(self.error(RecorderErrorKind::Protocol, what));
                }
            }
        }
        Err(self.refusal(call, status, &headers, &body))
    }

    /// Sends a request: its answer's head, which is anything but a 401.
    ///
    /// # Errors
    ///
    /// When it may not be sent, is not answered in time, or is not let in.
    pub(super) async fn send(&self, call: &Call) -> Result<Response, RecorderError> {
        if let Some(response) = self.shake_hands(call, false).await? {
            return Ok(response);
        }
        let response = self.shake_hands(call, true).await?;
        response
            .ok_or_else(|| self.error(RecorderErrorKind::Protocol, "it does not accept answers to its own challenges"))
    }

    /// One handshake; nothing where another one may do, as it may unless it is the last.
    async fn shake_hands(&self, call: &Call, last: bool) -> Result<Option<Response>, RecorderError> {
        let mut entry = self.common.lockout.enter(&self.credentials).await?;
        let response = self.once(call, None).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(Some(response));
        }
        let Denied { offer, locked, .. } = self.denied(response).await;
        if let Some(wait) = locked {
            return Err(entry.locked(wait));
        }
        if !offer.any && !last {
            return Ok(None);
        }
        let answer = self.answer(&offer, call)?;
        let asked = Instant::now();
        entry.tries();
        let response = self.once(call, Some(answer)).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            entry.accepted();
            return Ok(Some(response));
        }
        let Denied { offer, locked, left } = self.denied(response).await;
        if let Some(wait) = locked {
            return Err(entry.locked(wait));
        }
        // The password need not be wrong where only the challenge may have been too old. That is believed once: a wrong one
        // must not be sent again and again.
        let stale = offer.digest.is_some_and(|challenge| challenge.stale);
        if !last && (stale || !offer.any || asked.elapsed() > FRESH) {
            if stale {
                entry.set_aside();
            }
            return Ok(None);
        }
        Err(entry.refused(left))
    }

    /// What a password becomes for this offer.
    fn answer(&self, offer: &Offer, call: &Call) -> Result<HeaderValue, RecorderError> {
        let (user, password) = (&self.settings.user, self.settings.password.expose_secret());
        let unknown = |what| self.error(RecorderErrorKind::Auth, what);
        if let Some(challenge) = &offer.digest {
            let own = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
            // The very bytes that go over the wire.
            let url = self.url(call);
            let target = &url[Position::BeforePath..Position::AfterQuery];
            let answer = challenge.answer(user, password, call.verb.as_str(), target, &own);
            return answer.ok_or_else(|| unknown("its challenge, or the user's name, fits into no header"));
        }
        if offer.basic && self.settings.basic {
            use base64::Engine as _;
            let text = base64::prelude::BASE64_STANDARD.encode(format!("{user}:{password}"));
            let mut value = HeaderValue::try_from(format!("Basic {text}")).expect("base64 is plain text");
            value.set_sensitive(true);
            return Ok(value);
        }
        Err(match (offer.basic, offer.any) {
            (true, _) => unknown(
                "it wants the password as it is, for everybody on the way to read: switch its authentication to digest, \
                 or allow this",
            ),
            (false, true) => unknown("it wants a login that we do not know: switch its authentication to digest"),
            (false, false) => {
                self.error(RecorderErrorKind::Protocol, "it wants a login and does not say which: is it a recorder?")
            }
        })
    }

    /// Always at this recorder, whatever a path of its making says.
    fn url(&self, call: &Call) -> Url {
        let mut url = self.base.clone();
        url.set_path(&call.path);
        url.set_query(call.query.as_deref());
        url
    }

    /// One request and the head of its answer.
    async fn once(&self, call: &Call, login: Option<HeaderValue>) -> Result<Response, RecorderError> {
        let mut request = self.http.request(call.verb.clone(), self.url(call));
        if !call.body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/xml; charset=\"UTF-8\"").body(call.body.clone());
        }
        if let Some(login) = login {
            request = request.header(AUTHORIZATION, login);
        }
        let sent = timeout(self.settings.timeouts.answer, request.send());
        sent.await.map_err(|_| self.late(call))?.map_err(|error| self.broken(error))
    }

    /// Reads a 401 to its end, so that the next request can follow on the same connection.
    async fn denied(&self, response: Response) -> Denied {
        let offer = Offer::read(response.headers());
        let read = timeout(self.settings.timeouts.answer, self.read(response, LARGEST_REFUSAL));
        // One that cannot be read says nothing; its head counts.
        let body = read.await.ok().and_then(Result::ok).unwrap_or_default();
        let check = Element::read(&body).unwrap_or_default();
        let locked = check.text(&["lockStatus"]).is_some_and(|status| status.eq_ignore_ascii_case("lock"));
        let wait = Duration::from_secs(check.number(&["unlockTime"]).unwrap_or(DEFAULT_LOCK));
        let left = check.number(&["retryLoginTime"]).or_else(|| check.number(&["retryTimes"]));
        Denied { offer, locked: locked.then_some(wait), left }
    }

    /// Reads a body of no more than `most` bytes.
    pub(super) async fn read(&self, mut response: Response, most: usize) -> Result<Bytes, RecorderError> {
        let mut body = BytesMut::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.broken(error))? {
            if body.len() + piece.len() > most {
                let what = format!("its answer has more than {most} bytes");
                return Err(self.error(RecorderErrorKind::Protocol, what));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body.freeze())
    }

    /// What an answer that is no success means.
    pub(super) fn refusal(
        &self,
        call: &Call,
        status: StatusCode,
        headers: &http::HeaderMap,
        body: &[u8],
    ) -> RecorderError {
        if status.is_redirection() {
            let what = "it leads elsewhere, as recorders do that want HTTPS only: try with HTTPS";
            return self.error(RecorderErrorKind::Protocol, what);
        }
        let said = ResponseStatus::read(body);
        let kind = refusal::kind(status.as_u16(), said.as_ref(), call.media, refusal::retry_after(headers));
        let words = refusal::words(status.as_u16(), said.as_ref());
        self.error(kind, format!("{} {} is answered with {words}{}", call.verb, call.path, way_out(kind)))
    }

    /// What no answer in time means.
    pub(super) fn late(&self, call: &Call) -> RecorderError {
        let seconds = self.settings.timeouts.answer.as_secs_f64();
        let what = format!(
            "no answer to {} {} within {seconds} s: is it a recorder, and does it speak {}?",
            call.verb,
            call.path,
            self.base.scheme()
        );
        self.error(RecorderErrorKind::Timeout, what)
    }

    /// What a connection that was not made, or broke off, means.
    pub(super) fn broken(&self, error: reqwest::Error) -> RecorderError {
        let error = error.without_url();
        let text = chain(&error);
        let is_tls = sources(&error).any(is_of_tls);
        if error.is_connect() && is_tls {
            let what = format!(
                "no secure connection: {text}; recorders sign their own certificates, which are accepted with TLS \
                 unverified, and a port of plain HTTP speaks no TLS"
            );
            return self.error(RecorderErrorKind::Tls, what);
        }
        if error.is_timeout() {
            return self.error(RecorderErrorKind::Timeout, format!("nobody answers there: {text}"));
        }
        self.error(RecorderErrorKind::Io, format!("the connection fails: {text}"))
    }
}

/// How long a recorder that does not say it locks us out: what is usual.
const DEFAULT_LOCK: u64 = 1_800;

/// What a person can do about an error of that kind.
fn way_out(kind: RecorderErrorKind) -> &'static str {
    match kind {
        RecorderErrorKind::Forbidden => ": give the user the right to play back and download, or switch the service on",
        RecorderErrorKind::Busy { .. } => ": fewer sessions at a time, or later",
        RecorderErrorKind::Gone => ": it has been written over, as a rule",
        _ => "",
    }
}

/// Follows no redirect, because a password's digest goes to the recorder alone; takes no proxy, because recorders are
/// near; and asks for nothing compressed, because sizes are compared.
fn http(settings: &RecorderSettings) -> reqwest::Result<reqwest::Client> {
    let unverified = matches!(settings.scheme, Scheme::Https { tls: Some(Tls::Unverified) });
    reqwest::Client::builder()
        .user_agent(concat!("framehaul/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
        .http1_only()
        .https_only(settings.scheme != Scheme::Http)
        .tls_danger_accept_invalid_certs(unverified)
        .connect_timeout(settings.timeouts.connect)
        .pool_idle_timeout(IDLE)
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate()
        .build()
}

/// An error and what lies under it.
fn sources(error: &dyn std::error::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(error.source(), |error| error.source())
}

/// Whether this is TLS's own error, which comes as an error of I/O within others.
fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = error.downcast_ref::<std::io::Error>();
    while let Some(error) = next {
        if error.kind() == std::io::ErrorKind::InvalidData {
            return true;
        }
        next = error.get_ref().and_then(|within| within.downcast_ref());
    }
    false
}

fn chain(error: &reqwest::Error) -> String {
    sources(error).fold(error.to_string(), |text, source| format!("{text}: {source}"))
}
