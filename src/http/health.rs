//! `/livez`, `/readyz`, `/metrics`.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use tokio::time::timeout;

use super::Api;
use super::problem::Problem;
use crate::actors::Ping;

/// Longer than any healthy loop takes, shorter than a prober's patience.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the Supervisor and the journal make progress. A dead camera or cloud does not fail it.
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
    let slow = |part: &str| Problem::unavailable(format!("{part} made no progress for {} s", PATIENCE.as_secs()));
    timeout(PATIENCE, api.supervisor.send(Ping)).await.map_err(|_| slow("the supervisor"))??;
    timeout(PATIENCE, api.journal.barrier()).await.map_err(|_| slow("the journal"))
}

/// Everything Prometheus wants to know.
pub async fn metrics(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let (frames, bytes) = api.hub.load();
    api.metrics.set_memory(frames, bytes);
    let text =
        api.metrics.encode().map_err(|error| Problem::unavailable(format!("metrics cannot be written: {error}")))?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text))
}
