//! `/api/v1/batches`: so many frames of one source, in one request.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Api;
use super::cameras::{read_body, read_id};
use super::dto::BatchDto;
use super::frames::{self, MAX_LIMIT};
use super::problem::Problem;
use super::spec::{read_fields, read_object};
use crate::actors::{CancelBatch, CreateBatch, DeleteBatch, GetBatch, ListBatches};
use crate::model::{Batch, CameraId, FieldProblem, Seq, UnixMicros};

/// Most frames of a batch.
const MAX_FRAMES: u64 = 1_000_000_000;
/// For how long a source may fail, unless it is said.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
/// The longest time that it may be, and that a file may be begun at.
const MAX_SPAN: Duration = Duration::from_secs(7 * 24 * 3_600);
/// The longest that an answer may be waited for: shorter than the patience of most proxies.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// `POST /batches`: `{"url": ..., "frames": 50}`, with all that a camera may have.
pub async fn post(
    api: web::Data<Api>,
    request: HttpRequest,
    body: Result<web::Bytes, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    let mut fields = read_object(&request, &read_body(body)?)?;
    let mut problems = Vec::new();
    let batch = read_batch(&mut fields, &mut problems);
    // Nobody looks on: what is there is wanted at once.
    if fields.get("url").and_then(Value::as_str).is_some_and(|url| url.starts_with("file:")) {
        fields.entry("pace").or_insert_with(|| json!("unpaced"));
    }
    let spec = read_fields(fields, problems)?;
    let view = api.supervisor.send(CreateBatch { spec, batch }).await??;
    let location = format!("/api/v1/batches/{}", view.camera);
    Ok(HttpResponse::build(StatusCode::CREATED).insert_header((LOCATION, location)).json(BatchDto::new(view, None)))
}

/// Takes what is a batch's own out of a request.
fn read_batch(fields: &mut Map<String, Value>, problems: &mut Vec<FieldProblem>) -> Batch {
    let frames = fields.remove("frames");
    let wanted = frames.as_ref().and_then(Value::as_u64).filter(|frames| (1..=MAX_FRAMES).contains(frames));
    if wanted.is_none() {
        let detail = match frames {
            None => format!("is missing: write how many are wanted, 1 to {MAX_FRAMES}"),
            Some(_) => format!("must be a whole number from 1 to {MAX_FRAMES}"),
        };
        problems.push(FieldProblem::new("frames", None, detail));
    }
    let mut span = |field: &'static str, otherwise: Duration| match fields.remove(field) {
        None => otherwise,
        Some(value) => value.as_str().and_then(read_span).filter(|span| *span <= MAX_SPAN).unwrap_or_else(|| {
            problems.push(FieldProblem::new(field, None, "must be a time like \"90s\" or \"1m30s\", at most \"7d\""));
            otherwise
        }),
    };
    Batch {
        frames: wanted.unwrap_or_default(),
        from: span("from", Duration::ZERO),
        give_up_after: span("give_up_after", GIVE_UP_AFTER),
        created: UnixMicros::now(),
        end: None,
    }
}

fn read_span(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

/// `GET /batches`, without their lists.
pub async fn list(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let views = api.supervisor.send(ListBatches).await?;
    let batches: Vec<BatchDto> = views.into_iter().map(|view| BatchDto::new(view, None)).collect();
    Ok(HttpResponse::Ok().json(json!({ "batches": batches })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchQuery {
    after: Option<Seq>,
    limit: Option<usize>,
    wait: Option<String>,
}

/// `GET /batches/{id}?wait=30s&after=CURSOR&limit=N`: how it stands, with its ordered list. With `wait` the answer comes when
/// it is over, or after that time.
pub async fn get(api: web::Data<Api>, id: web::Path<String>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let id = read_id(&id)?;
    let query = web::Query::<BatchQuery>::from_query(request.query_string()).map_err(|error| {
        let way_out = "use wait=30s, after=CURSOR (0 is the beginning) and limit=N";
        Problem::bad_request(format!("the query cannot be read: {error}: {way_out}"))
    })?;
    let limit = query.limit.unwrap_or(MAX_LIMIT);
    if let Some(text) = &query.wait {
        let wait = read_span(text).filter(|wait| *wait <= MAX_WAIT).ok_or_else(|| {
            Problem::bad_request(format!("`wait` must be a time like 30s, at most {} s", MAX_WAIT.as_secs()))
        })?;
        await_end(&api, &id, wait).await?;
    }
    // Before the page: what it says is in the list by then.
    let (view, _) = api.supervisor.send(GetBatch(id.clone())).await??;
    let page = frames::read_what_is_left(&api, &id, query.after, limit).await?;
    Ok(HttpResponse::Ok().json(BatchDto::new(view, Some(page))))
}

/// Waits until nothing more will come of a batch, the time is over, or the daemon is stopping.
async fn await_end(api: &Api, id: &CameraId, wait: Duration) -> Result<(), Problem> {
    let (_, mut over) = api.supervisor.send(GetBatch(id.clone())).await??;
    if *over.borrow() {
        return Ok(());
    }
    let _place = api.streams.begin_wait()?;
    tokio::select! {
        // An error means that somebody has removed it, which is an end as well.
        _ = over.wait_for(|over| *over) => {}
        () = api.streams.ended() => {}
        () = tokio::time::sleep(wait) => {}
    }
    Ok(())
}

/// `POST /batches/{id}/cancel`: captures nothing more. What was captured is still stored and listed.
pub async fn cancel(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let view = api.supervisor.send(CancelBatch(read_id(&id)?)).await??;
    Ok(HttpResponse::Ok().json(BatchDto::new(view, None)))
}

/// `DELETE /batches/{id}`, of one that captures nothing more. Its list is still there, at `/cameras/{id}/frames`.
pub async fn delete(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    api.supervisor.send(DeleteBatch(read_id(&id)?)).await??;
    Ok(HttpResponse::NoContent().finish())
}
