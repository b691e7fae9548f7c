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

/// Whether the daemon does its work: the configuration is loaded, the journal takes writes and the spool frames. A dead
/// camera or cloud does not fail it, until the spool is full because of it.
pub async fn readyz(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    progress(&api).await?;
    if *api.journal.stuck().borrow() {
        return Err(Problem::unavailable("the journal waits for room: the disk of `state.dir` is full"));
    }
    for way in api.hubs.configured() {
        let spool = way.spool.status();
        if spool.full {
            let name = way.name();
            return Err(Problem::unavailable(format!(
                "the spool of {name} takes no frames: it has {} of {} bytes, or its disk is full",
                spool.size, spool.max_size
            )));
        }
    }
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
    for way in api.hubs.all() {
        let (frames, bytes) = way.hub.load();
        api.metrics.set_memory(way.name(), frames, bytes);
        if way.base_url.is_some() {
            way.hub.show_destination();
        }
        api.metrics.set_spool(way.name(), &way.spool.status());
    }
    api.desk.show();
    let text =
        api.metrics.encode().map_err(|error| Problem::unavailable(format!("metrics cannot be written: {error}")))?;
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text))
}
