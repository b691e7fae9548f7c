//! Who may ask: whoever has the token. There is no other rule, and none for local addresses.

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use actix_web::middleware::{self, Next};
use actix_web::{Error, Route, web};

use super::Api;
use super::problem::Problem;
use super::routes::Access;

/// Puts the door before a route. It is the only one, so every route goes through here.
pub fn guard(route: Route, access: Access) -> Route {
    route.wrap(middleware::from_fn(move |request, next| enter(access, request, next)))
}

async fn enter(
    access: Access,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if access != Access::Open
        && let Err(problem) = authenticate(&request)
    {
        let mut response = problem.into_response();
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return Ok(request.into_response(response));
    }
    next.call(request).await
}

/// Asks for the token (RFC 6750, section 2.1).
fn authenticate(request: &ServiceRequest) -> Result<(), Problem> {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    // The scheme's name is case-insensitive (RFC 9110, section 11.1).
    let given = given.and_then(|value| value.split_once(' '));
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    let api = request.app_data::<web::Data<Api>>();
    if api.zip(given).is_some_and(|(api, given)| api.token.matches(given)) {
        return Ok(());
    }
    let detail = match given {
        None => "send `Authorization: Bearer TOKEN`; the token is in the file that `http.token_file` names",
        Some(_) => "the token is not the one in the file that `http.token_file` names",
    };
    Err(Problem::new(StatusCode::UNAUTHORIZED, detail))
}
