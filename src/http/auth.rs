//! Who may ask: whoever has the token. There is no other rule, and none for local addresses.

use actix_web::body::{EitherBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use actix_web::middleware::Next;
use actix_web::{Error, web};

use super::Api;
use super::problem::Problem;
use crate::metrics::AuthFailure;

/// Lets a request pass that carries the token (RFC 6750, section 2.1).
pub async fn require_token<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    // The scheme's name is case-insensitive (RFC 9110, section 11.1).
    let given = given.and_then(|value| value.split_once(' '));
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    let api = request.app_data::<web::Data<Api>>();
    let passes = api.zip(given).is_some_and(|(api, given)| api.token.matches(given));
    if passes {
        return Ok(next.call(request).await?.map_into_left_body());
    }
    let detail = match given {
        None => "send `Authorization: Bearer TOKEN`; the token is in the file that `http.token_file` names",
        Some(_) => "the token is not the one in the file that `http.token_file` names",
    };
    if let Some(api) = api {
        api.metrics.auth_failed(if given.is_none() { AuthFailure::Missing } else { AuthFailure::Wrong });
    }
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    Ok(request.into_response(response).map_into_right_body())
}
