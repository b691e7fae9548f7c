//! `/api/v1/leases`: what workers ask and say. A lease is a worker's hold on an export task; nobody else gets to see what
//! it was given. `/api/v1/tasks/next` is the same for clients that read a line of text and say nothing.

use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, RETRY_AFTER};
use actix_web::{HttpMessage as _, HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::Api;
use super::cameras::read_body;
use super::export_dto::LeaseDto;
use super::handed::HandedBody;
use super::problem::Problem;
use super::tokens::Caller;
use crate::model::{LeaseNo, TaskFault, TaskProgress, TaskResult};
use crate::tasks::{Failure, Handed, Lease, TasksError, line};

/// The longest that a task may be waited for: shorter than the patience of most proxies.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Characters of a worker's name, at most.
const MAX_NAME: usize = 128;
/// The header that says whether it is worth while to ask again.
const TASKS_LEFT: &str = "framehaul-tasks";
/// What lines are.
const TEXT: &str = "text/plain; charset=utf-8";
/// What a client gets that asks for a line of text when there is no task more.
const THE_END: &str = "the end";
/// When such a client may ask again where no recorder has room for another task, seconds.
const AGAIN: u64 = 5;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TakeDto {
    worker: String,
    wait: Option<String>,
}

/// `POST /leases`: `{"worker": "north-1", "wait": "30s"}`, the next task. Without one there is no content, and a header says
/// whether any may still come.
pub async fn take(
    api: web::Data<Api>,
    request: HttpRequest,
    body: Result<web::Bytes, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    let TakeDto { worker, wait } = read(&read_body(body)?, "{\"worker\": \"NAME\", \"wait\": \"30s\"}")?;
    let worker = read_name(&worker)?;
    let wait = wait.as_deref().map_or(Ok(Duration::ZERO), read_wait)?;
    let ask =
        async || -> Result<Asked, TasksError> { Ok(api.desk.take(&worker).await?.map_or(Asked::Later, Asked::given)) };
    if let Asked::Given(given) = wait_for(&api, &caller(&request)?, wait, ask).await? {
        let (lease, handed) = *given;
        let json = serde_json::to_vec(&LeaseDto::new(&lease)).expect("a lease is plain data");
        return Ok(answer("application/json", HandedBody::new(json, handed)));
    }
    let left = if api.desk.is_waited_for().0 { "waiting" } else { "none" };
    Ok(HttpResponse::NoContent().insert_header((TASKS_LEFT, left)).finish())
}

/// Who asks.
fn caller(request: &HttpRequest) -> Result<Caller, Problem> {
    let known = request.extensions().get::<Caller>().cloned();
    known.ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, "nobody knows whose request this is"))
}

/// What came of asking for a task.
enum Asked {
    Given(Box<(Lease, Handed)>),
    /// There is none now.
    Later,
    /// There is none, and this is no time to wait for one.
    Over,
}

impl Asked {
    fn given(given: (Lease, Handed)) -> Self {
        Self::Given(Box::new(given))
    }
}

/// Asks until there is a task or no sense in waiting, the time is over, or the daemon is stopping.
async fn wait_for(
    api: &Api,
    caller: &Caller,
    wait: Duration,
    ask: impl AsyncFn() -> Result<Asked, TasksError>,
) -> Result<Asked, Problem> {
    let mut news = api.desk.news();
    let until = Instant::now() + wait;
    let mut place = None;
    loop {
        news.mark_unchanged();
        // It may have been removed while this waited.
        if !api.door.still_knows(caller) {
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "the token was removed while this waited for a task"));
        }
        match ask().await? {
            Asked::Later if Instant::now() < until => {}
            asked => return Ok(asked),
        }
        if place.is_none() {
            place = Some(api.streams.begin_wait()?);
        }
        tokio::select! {
            // An error means that the desk is gone, and with it the daemon.
            _ = news.changed() => {}
            () = api.streams.ended() => return Ok(Asked::Later),
            () = sleep_until(until) => {}
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BeatDto {
    number: LeaseNo,
    progress: Option<TaskProgress>,
}

/// `POST /leases/{id}/heartbeat`: `{"number": 17, "progress": {"files": 3, "of": 12, "bytes": 123, "of_bytes": 999}}`.
pub async fn heartbeat(
    api: web::Data<Api>,
    id: web::Path<String>,
    body: Result<web::Bytes, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    let BeatDto { number, progress } = read(&read_body(body)?, "{\"number\": N, \"progress\": {...}}")?;
    let beat = api.desk.heartbeat(&id, number, progress).await?;
    let expires_at = crate::model::UnixMicros::now().after(beat.lives);
    let mut answer = json!({ "expires_at": expires_at, "cancel": beat.cancel });
    if beat.refused {
        answer["why"] = json!("auth");
    }
    Ok(HttpResponse::Ok().json(answer))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CompleteDto {
    number: LeaseNo,
    result: Option<TaskResult>,
}

/// `POST /leases/{id}/complete`: `{"number": 17, "result": {"found": 12, "downloaded": 10, "there": 2, "failed": 0, "bytes":
/// 123}}`, or no result where nobody has counted.
pub async fn complete(
    api: web::Data<Api>,
    id: web::Path<String>,
    body: Result<web::Bytes, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    let CompleteDto { number, result } = read(&read_body(body)?, "{\"number\": N, \"result\": {...}}")?;
    api.desk.complete(&id, number, result).await?;
    Ok(HttpResponse::Ok().json(json!({})))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FailDto {
    number: LeaseNo,
    kind: String,
    message: String,
    #[serde(default)]
    retry: bool,
    after: Option<String>,
    result: Option<TaskResult>,
}

/// `POST /leases/{id}/fail`: `{"number": 17, "kind": "unreachable", "message": "...", "retry": true, "after": "60s"}`.
pub async fn fail(
    api: web::Data<Api>,
    id: web::Path<String>,
    body: Result<web::Bytes, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    let form = "{\"number\": N, \"kind\": \"unreachable\", \"message\": \"...\", \"retry\": true, \"after\": \"60s\"}";
    let FailDto { number, kind, message, retry, after, result } = read(&read_body(body)?, form)?;
    let is_word = (1..=32).contains(&kind.len()) && kind.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if !is_word {
        return Err(Problem::bad_request("`kind` must be a word of a-z and _, at most 32 characters"));
    }
    let after = after.as_deref().map(humantime::parse_duration).transpose();
    let after = after.map_err(|_| Problem::bad_request("`after` must be a time like 60s"))?;
    // It is shown in terminals and sheets.
    let message = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let failure = Failure { fault: TaskFault { kind, message }, retry, after, result };
    api.desk.fail(&id, number, failure).await?;
    Ok(HttpResponse::Ok().json(json!({})))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NextQuery {
    worker: Option<String>,
    wait: Option<String>,
}

/// `GET /tasks/next`: the next task that a line can say as the line `USER PASSWORD ADDRESS CHANNEL`, or `the end`. Who asks
/// for the next one is through with the last; several clients of one machine tell each other apart by `?worker=NAME`.
pub async fn next_as_text(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let since = std::time::Instant::now();
    let query = web::Query::<NextQuery>::from_query(request.query_string()).map_err(|error| {
        Problem::bad_request(format!("the query cannot be read: {error}: use worker=NAME and wait=30s"))
    })?;
    let wait = query.wait.as_deref().map_or(Ok(MAX_WAIT), read_wait)?;
    let caller = caller(&request)?;
    let peer = request.peer_addr().map_or_else(String::new, |peer| peer.ip().to_string());
    let name = query.worker.as_deref().map_or_else(|| Ok("a client".to_owned()), read_name)?;
    // Behind a proxy all come from one address.
    let worker = format!("{name} at {peer} with token {}", caller.name);
    let ask = async || -> Result<Asked, TasksError> {
        Ok(match api.desk.next_as_text(&worker, since).await? {
            Some(given) => Asked::given(given),
            None if api.desk.is_waited_for().1 => Asked::Later,
            None => Asked::Over,
        })
    };
    match wait_for(&api, &caller, wait, ask).await? {
        Asked::Given(given) => {
            let (lease, handed) = *given;
            // Without one it goes back.
            let line =
                line(&lease).ok_or_else(|| Problem::unavailable("a task cannot be said in a line: ask again"))?;
            Ok(answer(TEXT, HandedBody::new(line.into_bytes(), handed)))
        }
        Asked::Over => Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, TEXT)).body(THE_END)),
        Asked::Later => {
            let body = "every recorder has as many tasks in hands as it may: ask again\n";
            Ok(HttpResponse::ServiceUnavailable().insert_header((RETRY_AFTER, AGAIN)).body(body))
        }
    }
}

fn answer(kind: &'static str, body: HandedBody) -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, kind)).body(BoxBody::new(body))
}

/// Reads a body; what it holds is not repeated.
fn read<T: DeserializeOwned>(body: &[u8], form: &str) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let what = if error.is_data() { "is not what is taken here" } else { "is not JSON" };
        Problem::new(StatusCode::BAD_REQUEST, format!("the body {what}, in line {line}, column {column}: send {form}"))
    })
}

fn read_name(text: &str) -> Result<String, Problem> {
    let fits = !text.trim().is_empty() && text.chars().count() <= MAX_NAME && !text.contains(char::is_control);
    if fits {
        return Ok(text.trim().to_owned());
    }
    Err(Problem::bad_request(format!("`worker` must be a name of 1 to {MAX_NAME} characters that can be seen")))
}

fn read_wait(text: &str) -> Result<Duration, Problem> {
    let wait = humantime::parse_duration(text).ok().filter(|wait| *wait <= MAX_WAIT);
    wait.ok_or_else(|| {
        Problem::bad_request(format!("`wait` must be a time like 30s, at most {} s", MAX_WAIT.as_secs()))
    })
}
