//! Who may ask: whoever has a token whose scope covers the route. There is no other rule, and none for local addresses.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use actix_web::middleware::{self, Next};
use actix_web::web::Bytes;
use actix_web::{Error, HttpMessage as _, Route, web};

use super::Api;
use super::audit::{Call, Refusals};
use super::exports::XLSX;
use super::host;
use super::problem::Problem;
use super::routes::{Access, Takes};
use super::token::Token;
use super::tokens::{Caller, Scope, Tokens};
use crate::metrics::AuthFailure;

/// What a sheet of tasks may be sent as beside JSON.
const SHEETS: [&str; 2] = ["text/csv", XLSX];

/// What decides whom the API answers.
#[derive(Debug)]
pub struct Door {
    tokens: Tokens,
    hosts: Vec<String>,
    refusals: Refusals,
}

impl Door {
    /// Knows the named tokens beside the first one. `hosts` are names under which the API may be asked, in lower case.
    pub fn new(first: &Token, state_dir: &std::path::Path, hosts: Vec<String>) -> Self {
        Self { tokens: Tokens::new(first, state_dir), hosts, refusals: Refusals::default() }
    }

    /// Whether this caller's token has not been removed.
    pub(super) fn still_knows(&self, caller: &Caller) -> bool {
        self.tokens.still_know(caller)
    }

    fn refuse(&self, request: &ServiceRequest, reason: &'static str, token: Option<&str>) {
        api(request).metrics.auth_failed(match reason {
            "no_token" | "no_bearer_token" => AuthFailure::Missing,
            "scope" => AuthFailure::Scope,
            "host" | "origin" => AuthFailure::Origin,
            _ => AuthFailure::Wrong,
        });
        self.refusals.record(request, reason, token);
    }
}

/// The first check, before anybody looks where a request goes: was it sent to us, by a page of ours if by a page?
pub async fn check_host<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let api = api(&request);
    if let Err((reason, problem)) = host::check(&request, &api.door.hosts) {
        api.door.refuse(&request, reason, None);
        return Ok(request.into_response(problem.into_response()));
    }
    Ok(next.call(request).await?.map_into_boxed_body())
}

fn api(request: &ServiceRequest) -> web::Data<Api> {
    request.app_data::<web::Data<Api>>().expect("the server is started with it").clone()
}

/// Puts the door before a route. Every route of the table goes through here, and what is nowhere as well.
pub fn guard(route: Route, access: Access, takes: Takes) -> Route {
    route.wrap(middleware::from_fn(move |request, next| enter(access, takes, request, next)))
}

async fn enter(
    access: Access,
    takes: Takes,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if access == Access::Open {
        return next.call(request).await;
    }
    let api = api(&request);
    let caller = match authenticate(&request, &api.door.tokens) {
        Ok(caller) => caller,
        Err((reason, detail)) => {
            api.door.refuse(&request, reason, None);
            let challenge = if reason == "no_token" { "Bearer" } else { "Bearer error=\"invalid_token\"" };
            return Ok(turn_away(request, StatusCode::UNAUTHORIZED, detail, challenge));
        }
    };
    if let Some(detail) = lacks(caller.scope, access) {
        api.door.refuse(&request, "scope", Some(&caller.name));
        return Ok(turn_away(request, StatusCode::FORBIDDEN, detail, "Bearer error=\"insufficient_scope\""));
    }
    if access == Access::Read {
        return Ok(next.call(request).await?.map_body(|_, body| match body.size() {
            BodySize::Stream => BoxBody::new(WhileKnown { body, api, caller }),
            _ => body,
        }));
    }
    let mut call = Call::new(caller.name.clone(), &request);
    // For whoever answers late, or has to tell callers apart.
    request.extensions_mut().insert(caller);
    let answer = match require_type(&request, takes) {
        Ok(()) => next.call(request).await,
        Err(problem) => Ok(request.into_response(problem.into_response())),
    };
    let status = match &answer {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    call.status = Some(status);
    // Many a second, of which nothing comes that anybody else could see.
    let is_routine = match access {
        Access::Beat => status.is_success(),
        Access::Work => status == StatusCode::NO_CONTENT,
        Access::Open | Access::Read | Access::Operate => false,
    };
    if is_routine {
        call.forget();
    }
    answer
}

/// Why a token of this scope does not open a route of that kind; nothing where it does.
fn lacks(scope: Scope, access: Access) -> Option<&'static str> {
    match (access, scope) {
        (Access::Open, _)
        | (Access::Read, Scope::Read | Scope::Operate)
        | (Access::Operate, Scope::Operate)
        | (Access::Work | Access::Beat, Scope::Worker) => None,
        (Access::Read, Scope::Worker) => Some(
            "the token's scope is `worker`, which opens export tasks and nothing else: this needs one of scope `read`",
        ),
        (Access::Operate, Scope::Read) => {
            Some("the token's scope is `read`: this needs one of scope `operate` (`framehaul token new`)")
        }
        (Access::Operate, Scope::Worker) => Some(
            "the token's scope is `worker`, which opens export tasks and nothing else: this needs one of scope `operate`",
        ),
        // Whoever takes a task gets the recorder's password, which nobody else does.
        (Access::Work | Access::Beat, Scope::Read | Scope::Operate) => {
            Some("this needs a token of scope `worker` (`framehaul token new NAME --scope worker`)")
        }
    }
}

/// A body without an end of its own: it ends when the token is removed that it was asked for with.
struct WhileKnown {
    body: BoxBody,
    api: web::Data<Api>,
    caller: Caller,
}

impl MessageBody for WhileKnown {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.get_mut();
        let piece = ready!(Pin::new(&mut this.body).poll_next(context));
        // Asked last, so that nothing is sent that has come after the removal.
        Poll::Ready(piece.filter(|_| this.api.door.still_knows(&this.caller)))
    }
}

/// An answer with a challenge (RFC 6750, section 3).
fn turn_away(
    request: ServiceRequest,
    status: StatusCode,
    detail: &str,
    challenge: &'static str,
) -> ServiceResponse<BoxBody> {
    let mut response = Problem::new(status, detail).into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    request.into_response(response)
}

/// Asks for a token (RFC 6750, section 2.1). Without one that is known, says for the log why, and for the caller the
/// way out.
fn authenticate(request: &ServiceRequest, tokens: &Tokens) -> Result<Caller, (&'static str, &'static str)> {
    let mut given = request.headers().get_all(AUTHORIZATION);
    let (Some(value), None) = (given.next(), given.next()) else {
        let detail = "send one `Authorization: Bearer TOKEN`; the first token is in the file that `http.token_file` names, \
                      `framehaul token new` makes more";
        return Err(("no_token", detail));
    };
    // The scheme's name is case-insensitive (RFC 9110, section 11.1).
    let token = value.to_str().ok().and_then(|value| value.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    let Some(token) = token else {
        return Err(("no_bearer_token", "send `Authorization: Bearer TOKEN`: this header holds something else"));
    };
    tokens.find(token).ok_or((
        "unknown_token",
        "the token is not known here: it was removed, or belongs to another daemon; the first token is in the file that \
         `http.token_file` names",
    ))
}

/// A form in a page of another site can send any body but one of this type.
fn require_type(request: &ServiceRequest, takes: Takes) -> Result<(), Problem> {
    let headers = request.headers();
    let empty =
        headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0") && !headers.contains_key(TRANSFER_ENCODING);
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is = |known: &str| kind.eq_ignore_ascii_case(known);
    if empty || is("application/json") || (takes == Takes::Sheet && SHEETS.iter().any(|sheet| is(sheet))) {
        return Ok(());
    }
    let detail = match takes {
        Takes::Json => "send the body as JSON, with `Content-Type: application/json`".to_owned(),
        Takes::Sheet => format!("send `Content-Type: application/json`, or {}", SHEETS.join(", or ")),
    };
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}
