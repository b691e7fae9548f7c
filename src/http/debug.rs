//! `/api/v1/debug`: faults on demand, where the configuration allows them. For tests.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Deserialize;

use super::Api;
use super::cameras::read_id;
use super::problem::Problem;
use crate::actors::{Hang, InjectPanic};

/// The longest hang.
const MAX_HANG_SECONDS: u64 = 600;
/// Time the answer gets to leave before its worker hangs.
const BEFORE_HANG: Duration = Duration::from_millis(50);

/// Which actor shall panic: `?actor=supervisor`, `?actor=camera&id=gate`, `?actor=sequencer&id=gate`,
/// `?actor=nvr&id=hall`, `?actor=upload&id=3`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PanicQuery {
    actor: String,
    #[serde(default)]
    id: String,
}

/// `POST /debug/panic`
pub async fn panic(api: web::Data<Api>, query: web::Query<PanicQuery>) -> Result<HttpResponse, Problem> {
    require_permission(&api)?;
    let target = match query.actor.as_str() {
        "supervisor" => InjectPanic::Supervisor,
        "camera" => InjectPanic::Camera(read_id(&query.id)?),
        "sequencer" => InjectPanic::Sequencer(read_id(&query.id)?),
        "nvr" => InjectPanic::Nvr(query.id.parse().map_err(|_| Problem::bad_request("`id` is no recorder's"))?),
        "upload" => InjectPanic::Upload(
            query.id.parse().map_err(|_| Problem::bad_request("`id` is no number of an upload worker"))?,
        ),
        _ => return Err(Problem::bad_request("`actor` is none of supervisor, camera, sequencer, nvr, upload")),
    };
    match target {
        // It cannot answer any more.
        InjectPanic::Supervisor => api.supervisor.do_send(target),
        _ => api.supervisor.send(target).await??,
    }
    Ok(HttpResponse::Accepted().finish())
}

/// What shall hang, and for how long: `?what=supervisor&seconds=5`, and so for `journal`,
/// `spool`, `http` and `upload`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HangQuery {
    what: String,
    seconds: u64,
}

/// `POST /debug/hang`: stops a thread by a sleep that nothing can wake.
pub async fn hang(api: web::Data<Api>, query: web::Query<HangQuery>) -> Result<HttpResponse, Problem> {
    require_permission(&api)?;
    if !(1..=MAX_HANG_SECONDS).contains(&query.seconds) {
        return Err(Problem::bad_request(format!("`seconds` is {}: use 1 to {MAX_HANG_SECONDS}", query.seconds)));
    }
    let time = Duration::from_secs(query.seconds);
    match query.what.as_str() {
        "supervisor" => api.supervisor.do_send(Hang(time)),
        "journal" => api.journal.hang(time),
        "spool" => api.hubs.all().iter().for_each(|way| way.spool.hang(time)),
        "upload" => api.pulse.hang_uploads(time),
        // The worker that answers this.
        "http" => drop(actix_rt::spawn(async move {
            tokio::time::sleep(BEFORE_HANG).await;
            std::thread::sleep(time);
        })),
        _ => return Err(Problem::bad_request("`what` is none of supervisor, journal, spool, http, upload")),
    }
    Ok(HttpResponse::Accepted().finish())
}

fn require_permission(api: &Api) -> Result<(), Problem> {
    if api.fault_injection {
        return Ok(());
    }
    let detail = "faults are not injected unless `debug.fault_injection = true` is configured";
    Err(Problem::new(StatusCode::FORBIDDEN, detail))
}
