//! `/api/v1/debug`: faults on demand, where the configuration allows them. For tests.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::Api;
use super::cameras::read_id;
use super::problem::Problem;
use crate::actors::InjectPanic;

/// Which actor shall panic: `?actor=supervisor`, `?actor=camera&id=gate`, `?actor=sequencer&id=gate`,
/// `?actor=upload&id=3`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PanicQuery {
    actor: String,
    #[serde(default)]
    id: String,
}

/// `POST /debug/panic`
pub async fn panic(api: web::Data<Api>, query: web::Query<PanicQuery>) -> Result<HttpResponse, Problem> {
    if !api.fault_injection {
        let detail = "faults are not injected unless `debug.fault_injection = true` is configured";
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    let target = match query.actor.as_str() {
        "supervisor" => InjectPanic::Supervisor,
        "camera" => InjectPanic::Camera(read_id(&query.id)?),
        "sequencer" => InjectPanic::Sequencer(read_id(&query.id)?),
        "upload" => InjectPanic::Upload(
            query.id.parse().map_err(|_| Problem::bad_request("`id` is no number of an upload worker"))?,
        ),
        _ => return Err(Problem::bad_request("`actor` is none of supervisor, camera, sequencer, upload")),
    };
    match target {
        // It cannot answer any more.
        InjectPanic::Supervisor => api.supervisor.do_send(target),
        _ => api.supervisor.send(target).await??,
    }
    Ok(HttpResponse::Accepted().finish())
}
