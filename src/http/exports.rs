//! `/api/v1/exports`: jobs of export tasks, from a sheet and back into one. The tasks themselves are handed out by
//! [`leases`](super::leases).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION};
use actix_web::{HttpRequest, HttpResponse, web};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::Api;
use super::export_dto::{JobDto, TaskDto, channel};
use super::problem::{Problem, SheetFault};
use crate::config::Destination;
use crate::model::{TaskForm, TaskResult, TaskState, UnixMicros};
use crate::nvr::Scheme;
use crate::sheet::{self, MAX_BYTES, ResultRow, SheetError, Task, results_csv, results_xlsx};
use crate::tasks::{Desk, MOST_OF_A_JOB, TaskView};

/// What an Excel workbook is sent as.
pub const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";

/// Jobs or tasks of one page, at most.
const MAX_LIMIT: usize = 1_000;
/// And where nobody says how many.
const LIMIT: usize = 100;
/// How long a sheet may take to come: others wait for its place.
const MAX_UPLOAD: Duration = Duration::from_secs(120);
/// Tasks that are read at once where a sheet is made of all.
const PIECE: usize = 5_000;

/// A place for those that read or write sheets: a large one takes a hundred megabytes meanwhile. Cloning is cheap; all
/// clones are one.
#[derive(Clone, Debug)]
pub struct Sheets(Arc<Semaphore>);

/// The place, for one of them.
struct Place {
    _permit: OwnedSemaphorePermit,
}

impl Sheets {
    async fn enter(&self) -> Result<Place, Problem> {
        let place = self.0.clone().acquire_owned().await;
        place.map(|permit| Place { _permit: permit }).map_err(|_| Problem::unavailable("the daemon is stopping"))
    }
}

impl Place {
    /// Does such work, and gives the place back with what came of it. The work keeps it until it is through, also where
    /// nobody waits for it any more.
    async fn work<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Result<(Self, T), Problem> {
        let done = web::block(move || {
            let done = work();
            (self, done)
        });
        done.await.map_err(|_| Problem::unavailable("the sheet could not be read or made: try again"))
    }
}

impl Default for Sheets {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PostQuery {
    to: Option<String>,
}

/// `POST /exports?to=URL`: a sheet of tasks as JSON, CSV or an Excel workbook. All of them, or none.
pub async fn post(api: web::Data<Api>, request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, Problem> {
    let PostQuery { to } = query(&request, "to=URL")?;
    if let Some(to) = &to
        && Destination::at(to).is_err()
    {
        let detail =
            "`to` is no place: use gs://bucket/prefix, s3://bucket/prefix, az://container/prefix or file:///directory";
        return Err(Problem::bad_request(detail));
    }
    let place = api.sheets.enter().await?;
    let body = match timeout(MAX_UPLOAD, payload.to_bytes_limited(MAX_BYTES)).await {
        Ok(Ok(Ok(body))) => body,
        Ok(Ok(Err(_))) => return Err(Problem::bad_request("the sheet could not be read to its end")),
        Ok(Err(_)) => {
            let detail = format!("the sheet is longer than {} MiB: part it", MAX_BYTES >> 20);
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        Err(_) => {
            let detail = format!("the sheet did not come within {} s", MAX_UPLOAD.as_secs());
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail));
        }
    };
    let goes_to = to.clone();
    let (place, read) = place.work(move || read(&body, goes_to.as_deref())).await?;
    let (tasks, remarks) = read?;
    // They are as large as the sheet until they are written down.
    let job = api.desk.add(to, tasks, place).await?;
    let location = format!("/api/v1/exports/{}", job.id);
    let answer = json!({ "id": job.id, "tasks": job.tasks, "remarks": remarks });
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(answer))
}

type Asked = (Vec<(TaskForm, Option<SecretString>)>, Vec<String>);

/// Makes tasks of a sheet, one for each channel.
fn read(body: &[u8], to: Option<&str>) -> Result<Asked, Problem> {
    let mut names = HashSet::<Arc<str>>::new();
    let (mut tasks, mut of_rows, mut are_too_many) = (Vec::new(), Vec::new(), false);
    let mut remarks = sheet::read_each(body, &mut |row| {
        if !row.enabled || are_too_many {
            return;
        }
        of_rows.extend(row.remarks.iter().map(|remark| format!("row {}: {remark}", row.row)));
        let (first, ids) = row.by_track();
        let form = form(&first, &mut names, to);
        for channel in ids {
            are_too_many |= tasks.len() == MOST_OF_A_JOB;
            if !are_too_many {
                tasks.push((TaskForm { channel, ..form.clone() }, row.password.clone()));
            }
        }
    })
    .map_err(refused)?;
    remarks.append(&mut of_rows);
    if are_too_many {
        let detail = format!("its rows and their channels are more than {MOST_OF_A_JOB} tasks: part it");
        return Err(refused(SheetError::Refused(detail)));
    }
    if tasks.is_empty() {
        return Err(refused(SheetError::Refused("no row of it is switched on: see the column `enabled`".to_owned())));
    }
    Ok((tasks, remarks))
}

/// The recorder as what its tasks share: `http://10.0.0.5:80`.
fn recorder(task: &Task) -> String {
    let (scheme, port) = match task.scheme {
        Scheme::Http => ("http", 80),
        Scheme::Https { .. } => ("https", 443),
    };
    let host = if task.host.contains(':') { format!("[{}]", task.host) } else { task.host.clone() };
    format!("{scheme}://{host}:{}", task.port.unwrap_or(port))
}

/// What a row asks for but for the channel: its tasks share it.
fn form(task: &Task, names: &mut HashSet<Arc<str>>, to: Option<&str>) -> TaskForm {
    let mut shared = |name: &str| match names.get(name) {
        Some(known) => known.clone(),
        None => {
            let name: Arc<str> = name.into();
            names.insert(name.clone());
            name
        }
    };
    let place = match (&task.bucket, to, &task.prefix) {
        (Some(bucket), ..) => Some(bucket.clone()),
        (None, Some(to), Some(prefix)) => Some(format!("{}/{prefix}", to.trim_end_matches('/'))),
        (None, Some(to), None) => Some(to.to_owned()),
        (None, None, _) => None,
    };
    let mut options = serde_json::Map::new();
    for (column, text) in task.columns() {
        // What is said by the place, or the channel, would be said twice.
        let is_said = match column {
            sheet::Column::Bucket | sheet::Column::Prefix => place.is_some(),
            sheet::Column::Channels | sheet::Column::Tracks => true,
            _ => false,
        };
        if !is_said {
            options.insert(column.name().to_owned(), text.into());
        }
    }
    let (from, until) = task.bounds();
    TaskForm {
        row: task.row,
        recorder: shared(&recorder(task)),
        user: shared(&task.user),
        channel: String::new(),
        from: from.map(|from| shared(&from)),
        until: until.map(|until| shared(&until)),
        to: place.map(|place| shared(&place)),
        options: serde_json::Value::Object(options).to_string().into(),
        sessions: task.sessions.and_then(|sessions| u32::try_from(sessions).ok()).unwrap_or(1),
        secret: None,
    }
}

fn refused(error: SheetError) -> Problem {
    let (detail, faults, more) = match error {
        SheetError::Refused(why) => (format!("nothing of the sheet is accepted: {why}"), Vec::new(), 0),
        SheetError::Cells { faults, more } => {
            let count = faults.len() + more;
            let detail = format!("nothing of the sheet is accepted: {count} of its cells are wrong, see `faults`");
            let faults = faults.into_iter().map(|fault| SheetFault {
                row: fault.row,
                column: fault.column,
                name: fault.name,
                detail: fault.detail,
            });
            (detail, faults.collect(), more)
        }
    };
    Problem::of_sheet(detail, faults, more)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    after: Option<String>,
    limit: Option<usize>,
}

/// `GET /exports?after=ID&limit=N`: jobs in the order in which they were asked for.
pub async fn list(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let ListQuery { after, limit } = query(&request, "after=ID and limit=N")?;
    let limit = read_limit(limit)?;
    let mut jobs = api.desk.jobs(after.as_deref(), limit + 1);
    let more = jobs.len() > limit;
    jobs.truncate(limit);
    let next = jobs.last().map(|job| job.id.clone()).or(after);
    let jobs: Vec<JobDto> = jobs.into_iter().map(|job| JobDto::new(job, None)).collect();
    Ok(HttpResponse::Ok().json(json!({ "exports": jobs, "next": next, "more": more })))
}

/// `GET /exports/{id}`
pub async fn get(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let job = api.desk.job(&id)?;
    let running = api.desk.getting_on(job.job);
    Ok(HttpResponse::Ok().json(JobDto::new(job, Some(&running))))
}

/// `POST /exports/{id}/cancel`: what waits is called off at once, what a worker has when the worker hears of it.
pub async fn cancel(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(JobDto::new(api.desk.cancel(&id).await?, None)))
}

/// `POST /exports/{id}/retry`: tasks that have failed or were called off are queued again.
pub async fn retry(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(JobDto::new(api.desk.retry(&id).await?, None)))
}

/// `DELETE /exports/{id}`, of one that is over, with the recorders' passwords. What it has exported stays.
pub async fn delete(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    api.desk.delete(&id).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TasksQuery {
    after: Option<u64>,
    limit: Option<usize>,
    format: Option<String>,
}

/// What a list of tasks is answered as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Csv,
    Xlsx,
}

/// `GET /exports/{id}/tasks?after=N&limit=N`: the tasks in their order; or, with `format=csv` or `xlsx`, the sheet back with
/// what became of each.
pub async fn tasks(api: web::Data<Api>, id: web::Path<String>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let TasksQuery { after, limit, format } = query(&request, "after=N, limit=N and format=json, csv or xlsx")?;
    let form = read_form(format.as_deref(), &request)?;
    // Whether it is there at all, before anything is waited for.
    let job = api.desk.job(&id)?;
    let (desk, id) = (api.desk.clone(), job.id);
    let broken = |_| Problem::unavailable("the tasks could not be read: try again");
    if form == Form::Json {
        let (after, limit) = (after.unwrap_or_default(), read_limit(limit)?);
        let mut views = web::block(move || desk.tasks(&id, after, limit + 1)).await.map_err(broken)??;
        let more = views.len() > limit;
        views.truncate(limit);
        let next = views.last().map_or(after, |view| view.place);
        let tasks: Vec<TaskDto> = views.into_iter().map(TaskDto::new).collect();
        return Ok(HttpResponse::Ok().json(json!({ "tasks": tasks, "next": next, "more": more })));
    }
    if after.is_some() || limit.is_some() {
        return Err(Problem::bad_request("a sheet has all tasks: leave `after` and `limit` out"));
    }
    let (place, name) = (api.sheets.enter().await?, id.clone());
    let (place, made) = place.work(move || make(&desk, &id, form)).await?;
    // Others need not wait until it is sent.
    drop(place);
    let made = made?;
    let (kind, ending) = if form == Form::Csv { ("text/csv; charset=utf-8", "csv") } else { (XLSX, "xlsx") };
    let disposition = format!("attachment; filename=\"{name}.{ending}\"");
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, kind))
        .insert_header((CONTENT_DISPOSITION, disposition))
        .body(made))
}

/// Makes the sheet back.
fn make(desk: &Desk, id: &str, form: Form) -> Result<Vec<u8>, Problem> {
    let mut rows = Vec::new();
    let (mut after, mut rows_of) = (0, Rows::default());
    loop {
        let views = desk.tasks(id, after, PIECE)?;
        let Some(last) = views.last() else { break };
        after = last.place;
        rows.extend(views.into_iter().map(|view| row(view, &mut rows_of)));
    }
    if form == Form::Csv {
        return Ok(results_csv(&rows).into_bytes());
    }
    results_xlsx(&rows)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the sheet cannot be made: {error}")))
}

/// What the row that was read last asks for, which its tasks share.
#[derive(Default)]
struct Rows {
    options: Arc<str>,
    to: Option<Arc<str>>,
    asked: Arc<HashMap<String, String>>,
}

impl Rows {
    fn asked(&mut self, form: &TaskForm) -> Arc<HashMap<String, String>> {
        if (&self.options, &self.to) != (&form.options, &form.to) {
            let mut asked: HashMap<String, String> = serde_json::from_str(&form.options).unwrap_or_default();
            if let Some(to) = &form.to {
                asked.insert(sheet::Column::Bucket.name().to_owned(), to.to_string());
            }
            *self = Self { options: form.options.clone(), to: form.to.clone(), asked: asked.into() };
        }
        self.asked.clone()
    }
}

fn row(view: TaskView, rows: &mut Rows) -> ResultRow {
    let (form, standing) = (view.listed.form, view.listed.standing);
    let (column, channel) = channel(&form);
    let counts = standing.result.map(|result| {
        let TaskResult { found, downloaded, there, failed, bytes } = *result;
        [found, downloaded, there, failed, bytes]
    });
    let shown = |at: Option<UnixMicros>| at.map(|at| at.to_string());
    let fault = standing.fault.filter(|_| standing.state != TaskState::Done);
    ResultRow {
        asked: rows.asked(&form),
        channel: Some((column.name(), channel.to_owned())),
        status: standing.state.as_str().to_owned(),
        counts,
        last_error: fault.map(|fault| format!("{}: {}", fault.kind, fault.message)),
        times: [shown(standing.taken_at), shown(standing.ready_at)],
    }
}

fn read_form(format: Option<&str>, request: &HttpRequest) -> Result<Form, Problem> {
    match format {
        Some("json") => return Ok(Form::Json),
        Some("csv") => return Ok(Form::Csv),
        Some("xlsx") => return Ok(Form::Xlsx),
        Some(_) => return Err(Problem::bad_request("`format` is none of json, csv and xlsx")),
        None => {}
    }
    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let kinds = accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
    let known = kinds.filter_map(|kind| match kind {
        "application/json" | "*/*" => Some(Form::Json),
        "text/csv" => Some(Form::Csv),
        XLSX => Some(Form::Xlsx),
        _ => None,
    });
    // The first that is known; who asks for nothing that is made here gets JSON.
    Ok(known.into_iter().next().unwrap_or(Form::Json))
}

fn query<T: serde::de::DeserializeOwned>(request: &HttpRequest, way_out: &str) -> Result<T, Problem> {
    web::Query::<T>::from_query(request.query_string())
        .map(web::Query::into_inner)
        .map_err(|error| Problem::bad_request(format!("the query cannot be read: {error}: use {way_out}")))
}

fn read_limit(limit: Option<usize>) -> Result<usize, Problem> {
    match limit.unwrap_or(LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(Problem::bad_request(format!("`limit` must be 1 to {MAX_LIMIT}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn work_on_a_sheet_keeps_its_place_when_nobody_waits_for_it() {
        let sheets = Sheets::default();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let work = sheets.enter().await.unwrap().work(move || wait.recv());
        let soon = Duration::from_millis(50);
        assert!(timeout(soon, work).await.is_err());
        assert!(timeout(soon, sheets.enter()).await.is_err(), "a second sheet beside the first");
        go.send(()).unwrap();
        timeout(Duration::from_secs(15), sheets.enter()).await.unwrap().unwrap();
    }

    #[test]
    fn tasks_of_a_row_share_what_it_says() {
        let note = "n".repeat(1_024);
        let row = |host: &str| json!({ "host": host, "user": "u", "password": "p", "channels": "1-99", "notes": note });
        let (tasks, _) = read(json!([row("a"), row("b")]).to_string().as_bytes(), Some("gs://b")).unwrap();
        assert_eq!(tasks.len(), 198);
        let same = |one: &TaskForm, other: &TaskForm| {
            let to = one.to.as_ref().zip(other.to.as_ref()).is_some_and(|(one, other)| Arc::ptr_eq(one, other));
            [to, Arc::ptr_eq(&one.options, &other.options), Arc::ptr_eq(&one.user, &other.user)]
        };
        assert!(tasks[..99].iter().all(|(form, _)| same(form, &tasks[0].0) == [true; 3]));
        assert_eq!(same(&tasks[0].0, &tasks[99].0), [true, false, true]);
        assert_eq!((&*tasks[0].0.channel, &*tasks[98].0.channel), ("101", "9901"));
        let long = read(
            json!([{ "host": "a", "user": "u", "password": "p", "notes": "n".repeat(1_025) }]).to_string().as_bytes(),
            None,
        );
        assert!(long.is_err());
    }
}
