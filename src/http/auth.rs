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
use actix_web::{Error, Route, web};

use super::Api;
use super::audit::{Call, Refusals};
use super::host;
use super::problem::Problem;
use super::routes::Access;
use super::token::Token;
use super::tokens::{Caller, Scope, Tokens};
use crate::metrics::AuthFailure;

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
pub fn guard(route: Route, access: Access) -> Route {
    route.wrap(middleware::from_fn(move |request, next| enter(access, request, next)))
}

async fn enter(
    access: Access,
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
    if access != Access::Operate {
        return Ok(next.call(request).await?.map_body(|_, body| match body.size() {
            BodySize::Stream => BoxBody::new(WhileKnown { body, api, caller }),
            _ => body,
        }));
    }
    if caller.scope < Scope::Operate {
        api.door.refuse(&request, "scope", Some(&caller.name));
        let detail = "the token's scope is `read`: this needs one of scope `operate` (`framehaul token new`)";
        return Ok(turn_away(request, StatusCode::FORBIDDEN, detail, "Bearer error=\"insufficient_scope\""));
    }
    let mut call = Call::new(caller.name, &request);
    let answer = match require_json(&request) {
        Ok(()) => next.call(request).await,
        Err(problem) => Ok(request.into_response(problem.into_response())),
    };
    call.status = Some(match &answer {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    });
    answer
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
        Poll::Ready(piece.filter(|_| this.api.door.tokens.still_know(&this.caller)))
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
fn require_json(request: &ServiceRequest) -> Result<(), Problem> {
    let headers = request.headers();
    let empty =
        headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0") && !headers.contains_key(TRANSFER_ENCODING);
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if empty || kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = "send the body as JSON, with `Content-Type: application/json`";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}
