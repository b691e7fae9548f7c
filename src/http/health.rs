//! `/livez`, `/readyz`, `/metrics`.

use std::time::Duration;

use actix_web::{HttpResponse, web};

use super::Api;
use super::problem::Problem;

/// Longer than any healthy loop takes, shorter than a prober's patience.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether every part makes progress. A dead camera or cloud does not fail it.
pub async fn livez(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    progress(&api).await?;
    Ok(HttpResponse::Ok().json(serde_json::json!({ "alive": true })))
}

/// Whether requests can be served: the configuration is loaded and the journal takes writes.
pub async fn readyz(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    progress(&api).await?;
    Ok(HttpResponse::Ok().json(serde_json::json!({ "ready": true })))
}

async fn progress(api: &Api) -> Result<(), Problem> {
    let silent = api.pulse.silent_lately(PATIENCE).await;
    if silent.is_empty() {
        return Ok(());
    }
    Err(Problem::unavailable(format!("no progress for {} s: {}", PATIENCE.as_secs(), silent.join(", "))))
}

/// Everything Prometheus wants to know.
pub async fn metrics(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let (frames, bytes) = api.hub.load();
    api.metrics.set_memory(frames, bytes);
    let text =
        api.metrics.encode().map_err(|error| Problem::unavailable(format!("metrics cannot be written: {error}")))?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text))
}
