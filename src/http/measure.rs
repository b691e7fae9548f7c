//! Counts and times every request, whatever becomes of it.

use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::Next;
use actix_web::{Error, web};

use super::Api;

/// Passes a request on and takes note of how it was answered.
pub async fn measure<B: MessageBody>(request: ServiceRequest, next: Next<B>) -> Result<ServiceResponse<B>, Error> {
    let begun = Instant::now();
    let metrics = request.app_data::<web::Data<Api>>().map(|api| api.metrics.clone());
    let (pattern, method) = (request.match_pattern(), request.method().clone());
    let answer = next.call(request).await;
    let status = match &answer {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    if let Some(metrics) = metrics {
        metrics.request_answered(pattern.as_deref(), method.as_str(), status.as_u16(), begun.elapsed());
    }
    answer
}
