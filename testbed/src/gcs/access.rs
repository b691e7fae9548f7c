//! Who may call: bearer tokens, the endpoint that exchanges assertions for them, and the metadata server.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::account::{EMAIL, PROJECT, Use, Wrong};
use super::knobs::Knobs;
use super::refusal::{Answer, Refusal};
use super::service::{App, State, json_answer};
use super::tokens::Standing;

/// What clients and the metadata server show each other, so that neither takes a stranger for the other.
const FLAVOR: HeaderName = HeaderName::from_static("metadata-flavor");
/// How long a token claims to live unless the knobs say otherwise.
const LIFETIME: Duration = Duration::from_secs(3600);
/// What the account's tokens may be used for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

impl Knobs {
    fn lifetime(&self) -> Duration {
        self.token_lifetime_s.map_or(LIFETIME, Duration::from_secs)
    }

    fn oldest_token(&self) -> Option<Duration> {
        self.expire_tokens_after_s.map(Duration::from_secs_f64)
    }
}

impl App {
    /// Lets a storage call in, or refuses it as Cloud Storage would, if the knobs want tokens at all.
    pub(super) fn authorize(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let most = {
            let knobs = &self.state().knobs;
            if !knobs.require_auth {
                return Ok(());
            }
            knobs.oldest_token()
        };
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let Some(token) = bearer else {
            self.state().stats.auth.refused_missing += 1;
            return Err(Refusal::unauthorized("required", "Anonymous callers may not do this: send a bearer token."));
        };
        let now = Instant::now();
        let mut standing = self.state().tokens.standing(token, most, now);
        // One that is not known may be a JWT that was made without us.
        if standing == Standing::Unknown && token.contains('.') {
            // Verified without the lock. No account yet, no JWT of ours.
            match self.account.get().map(|account| account.verify(token, Use::Access, unix_now())) {
                Some(Ok(rest)) => {
                    let mut state = self.state();
                    state.stats.auth.jwts_met += 1;
                    state.tokens.meet(token, Duration::from_secs(rest.unsigned_abs()), now);
                    standing = state.tokens.standing(token, most, now);
                }
                Some(Err(Wrong::Expired)) => standing = Standing::Expired,
                Some(Err(Wrong::Invalid(_))) | None => {}
            }
        }
        let mut state = self.state();
        let auth = &mut state.stats.auth;
        let count = match standing {
            Standing::Good => {
                auth.accepted += 1;
                return Ok(());
            }
            Standing::Expired => &mut auth.refused_expired,
            Standing::Unknown => &mut auth.refused_invalid,
        };
        *count += 1;
        Err(Refusal::unauthorized("authError", "Invalid Credentials"))
    }

    /// Exchanges a signed assertion for an access token, RFC 7523.
    pub(super) fn exchange(&self, form: &[u8]) -> Result<Answer, Refusal> {
        if let Some(refused) = self.refuse_tokens() {
            return Ok(refused);
        }
        let field = |name: &str| {
            url::form_urlencoded::parse(form).find_map(|(key, value)| (key == name).then(|| value.into_owned()))
        };
        if field("grant_type").as_deref() != Some("urn:ietf:params:oauth:grant-type:jwt-bearer") {
            return Ok(oauth_error("unsupported_grant_type", "grant_type must be jwt-bearer"));
        }
        let assertion = field("assertion").unwrap_or_default();
        let why = match self.account.get().map(|account| account.verify(&assertion, Use::Assertion, unix_now())) {
            Some(Ok(_)) => {
                let mut state = self.state();
                let lives = state.knobs.lifetime();
                let token = state.tokens.issue(lives, Instant::now());
                state.stats.auth.tokens_issued += 1;
                return Ok(token_answer(&token, lives));
            }
            Some(Err(Wrong::Expired)) => "the assertion has expired".to_owned(),
            Some(Err(Wrong::Invalid(why))) => format!("the assertion is not accepted: {why}"),
            None => "the assertion is of no account here".to_owned(),
        };
        Ok(oauth_error("invalid_grant", &why))
    }

    /// Answers as the metadata server of a virtual machine does.
    pub(super) fn metadata(&self, path: &str, headers: &HeaderMap) -> Result<Answer, Refusal> {
        const ACCOUNTS: &str = "/computeMetadata/v1/instance/service-accounts/";
        if headers.get(FLAVOR).is_none_or(|flavor| flavor != "Google") {
            let mut answer = text("Missing Metadata-Flavor:Google header.");
            *answer.status_mut() = StatusCode::FORBIDDEN;
            return Ok(answer);
        }
        let of_account = path
            .strip_prefix(ACCOUNTS)
            .and_then(|rest| rest.strip_prefix("default/").or_else(|| rest.strip_prefix(EMAIL)?.strip_prefix('/')));
        let mut answer = match (path, of_account) {
            (_, Some("token")) => match self.refuse_tokens() {
                Some(refused) => refused,
                None => self.metadata_token(),
            },
            (_, Some("email")) => text(EMAIL),
            (_, Some("scopes")) => text(SCOPE),
            (_, Some("")) => json_answer(&json!({ "aliases": ["default"], "email": EMAIL, "scopes": [SCOPE] })),
            ("/computeMetadata/v1/universe/universe-domain" | "/computeMetadata/v1/universe/universe_domain", _) => {
                text("googleapis.com")
            }
            ("/computeMetadata/v1/project/project-id", _) => text(PROJECT),
            ("/" | "/computeMetadata/" | "/computeMetadata/v1/", _) => text("computeMetadata/\n"),
            _ => {
                let mut answer = text("There is nothing of that name.");
                *answer.status_mut() = StatusCode::NOT_FOUND;
                answer
            }
        };
        answer.headers_mut().insert(FLAVOR, HeaderValue::from_static("Google"));
        Ok(answer)
    }

    fn metadata_token(&self) -> Answer {
        let mut state = self.state();
        let State { knobs, stats, tokens, .. } = &mut *state;
        let (token, lives, new) = tokens.of_metadata(knobs.lifetime(), knobs.oldest_token(), Instant::now());
        stats.auth.tokens_issued += u64::from(new);
        token_answer(&token, lives)
    }

    /// The refusal that the knobs want for those who ask for tokens.
    fn refuse_tokens(&self) -> Option<Answer> {
        let mut state = self.state();
        let status = state.knobs.refuse_tokens_status?;
        state.stats.injected.tokens_refused += 1;
        let mut answer = text("This answer was asked for with the knob `refuse_tokens_status`.");
        *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        Some(answer)
    }
}

fn token_answer(token: &str, lives: Duration) -> Answer {
    json_answer(&json!({ "access_token": token, "expires_in": lives.as_secs(), "token_type": "Bearer" }))
}

fn oauth_error(error: &str, description: &str) -> Answer {
    let mut answer = json_answer(&json!({ "error": error, "error_description": description }));
    *answer.status_mut() = StatusCode::BAD_REQUEST;
    answer
}

fn text(text: &'static str) -> Answer {
    let mut answer = Response::new(Bytes::from_static(text.as_bytes()));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/text"));
    answer
}

fn unix_now() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}
