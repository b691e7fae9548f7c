//! `/api/v1/nvrs`: recorders, whose channels are cameras.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::ETAG;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::cameras::read_body;
use super::nvr_dto::{ChannelDto, NvrDto, NvrStatusDto, RecordingsDto};
use super::problem::Problem;
use super::spec::read_object;
use super::{Api, condition};
use crate::actors::{DeleteNvr, FindRecordings, GetNvr, InvalidPlace, ListNvrs, NvrView, PutNvr, TimelinePlace};
use crate::model::{InvalidNvrId, NvrId, RawNvrSpec, UnixMicros, nvr_misfits};

/// Recordings on a page, where it is not said, and at most.
const DEFAULT_LIMIT: usize = 200;
const MAX_LIMIT: usize = 1_000;
/// What is searched where it is not said, back from now.
const DEFAULT_SPAN: Duration = Duration::from_secs(24 * 3_600);
/// The longest span that is searched.
const MAX_SPAN: Duration = Duration::from_secs(366 * 24 * 3_600);

fn read_id(text: &str) -> Result<NvrId, Problem> {
    text.parse().map_err(|error: InvalidNvrId| Problem::bad_request(error.to_string()))
}

/// `GET /nvrs`
pub async fn list(api: web::Data<Api>) -> Result<HttpResponse, Problem> {
    let nvrs: Vec<NvrDto> = api.supervisor.send(ListNvrs).await?.into_iter().map(NvrDto::from).collect();
    Ok(HttpResponse::Ok().json(json!({ "nvrs": nvrs })))
}

/// `GET /nvrs/{id}`
pub async fn get(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    Ok(answer(StatusCode::OK, api.supervisor.send(GetNvr(read_id(&id)?)).await??))
}

/// `PUT /nvrs/{id}`
pub async fn put(
    api: web::Data<Api>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Result<web::Bytes, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    let nvr = read_id(&id)?;
    let when = condition::of_camera(&request)?;
    let spec = read_spec(&request, &read_body(body)?)?;
    let put = api.supervisor.send(PutNvr { nvr, spec, when }).await??;
    Ok(answer(if put.created { StatusCode::CREATED } else { StatusCode::OK }, put.nvr))
}

/// Reads a recorder's spec: the shape alone.
fn read_spec(request: &HttpRequest, body: &[u8]) -> Result<RawNvrSpec, Problem> {
    let fields = read_object(request, body)?;
    let problems = nvr_misfits(&fields);
    if !problems.is_empty() {
        return Err(Problem::bad_fields("the recorder cannot be read as it is written", problems));
    }
    serde_json::from_value(Value::Object(fields)).map_err(|_| Problem::bad_request("the recorder cannot be read"))
}

/// `DELETE /nvrs/{id}`: its cameras go with it; what they have captured is still listed.
pub async fn delete(api: web::Data<Api>, id: web::Path<String>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let when = condition::of_camera(&request)?;
    api.supervisor.send(DeleteNvr(read_id(&id)?, when)).await??;
    Ok(HttpResponse::NoContent().finish())
}

/// `GET /nvrs/{id}/status`
pub async fn status(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let view = api.supervisor.send(GetNvr(read_id(&id)?)).await??;
    Ok(HttpResponse::Ok().json(NvrStatusDto::from(&view)))
}

/// `GET /nvrs/{id}/channels`: those that it has, those that are asked for, and the cameras that they are.
pub async fn channels(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let view = api.supervisor.send(GetNvr(read_id(&id)?)).await??;
    let channels: Vec<ChannelDto> = view.channels.into_iter().map(ChannelDto::from).collect();
    Ok(HttpResponse::Ok().json(json!({ "nvr": view.nvr, "channels": channels })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordingsQuery {
    channel: Option<u32>,
    from: Option<String>,
    to: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// `GET /nvrs/{id}/recordings?channel=N&from=TIME&to=TIME&limit=N&after=CURSOR`: a channel's timeline, asked of the recorder
/// at the moment.
pub async fn recordings(
    api: web::Data<Api>,
    id: web::Path<String>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let nvr = read_id(&id)?;
    let query = web::Query::<RecordingsQuery>::from_query(request.query_string()).map_err(|error| {
        let way_out = "use channel=N, from=TIME and to=TIME, limit=N, and after=CURSOR for what follows";
        Problem::bad_request(format!("the query cannot be read: {error}: {way_out}"))
    })?;
    let wanted = read_query(nvr, query.into_inner(), UnixMicros::now())?;
    let (nvr, channel, from, to) = (wanted.nvr.clone(), wanted.channel, wanted.from, wanted.to);
    let found = api.supervisor.send(wanted).await??;
    Ok(HttpResponse::Ok().json(RecordingsDto::new(nvr, channel, (from, to), found)))
}

fn read_query(nvr: NvrId, query: RecordingsQuery, now: UnixMicros) -> Result<FindRecordings, Problem> {
    let channel = query.channel.filter(|channel| (1..=NvrId::HIGHEST_CHANNEL).contains(channel));
    let channel = channel.ok_or_else(|| {
        let highest = NvrId::HIGHEST_CHANNEL;
        Problem::bad_request(format!("`channel` is missing or none: name the one to be searched, 1 to {highest}"))
    })?;
    let time = |name: &str, text: Option<&String>| match text {
        None => Ok(None),
        Some(text) => read_time(text).map(Some).ok_or_else(|| {
            let how = "write 2026-11-19T08:00:00Z, or another offset in place of Z, with its + as %2B";
            Problem::bad_request(format!("`{name}` is no time: {how}"))
        }),
    };
    let to = time("to", query.to.as_ref())?.unwrap_or(now);
    let from = time("from", query.from.as_ref())?.unwrap_or_else(|| to.before(DEFAULT_SPAN));
    let after: Result<Option<TimelinePlace>, InvalidPlace> = query.after.as_deref().map(str::parse).transpose();
    let after = after.map_err(|error| Problem::bad_request(format!("`after` {error}")))?;
    if from >= to || to.since(from) > MAX_SPAN {
        let days = MAX_SPAN.as_secs() / 86_400;
        return Err(Problem::bad_request(format!("`from` must be before `to`, and not more than {days} days")));
    }
    if after.as_ref().is_some_and(|after| after.begin >= to) {
        return Err(Problem::bad_request("`after` is not before `to`: send `next` as it came, with the same span"));
    }
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::bad_request(format!("`limit` is {limit}: use 1 to {MAX_LIMIT}")));
    }
    Ok(FindRecordings { nvr, channel, from, to, after, limit })
}

fn read_time(text: &str) -> Option<UnixMicros> {
    let nanos = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    // What recorders cannot tell is nobody's time.
    i64::try_from(nanos / 1_000).ok().filter(|micros| *micros >= 0).map(UnixMicros)
}

fn answer(status: StatusCode, view: NvrView) -> HttpResponse {
    let etag = format!("\"{}\"", view.revision);
    HttpResponse::build(status).insert_header((ETAG, etag)).json(NvrDto::from(view))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Option<(u32, i64, i64, Option<i64>, usize)> {
        let query = web::Query::<RecordingsQuery>::from_query(query).ok()?.into_inner();
        let wanted = read_query("hall".parse().unwrap(), query, UnixMicros(100_000_000_000)).ok()?;
        let seconds = |at: UnixMicros| at.0 / 1_000_000;
        let after = wanted.after.map(|after| seconds(after.begin));
        Some((wanted.channel, seconds(wanted.from), seconds(wanted.to), after, wanted.limit))
    }

    #[test]
    fn a_timeline_is_asked_for_by_channel_and_span() {
        assert_eq!(read("channel=3"), Some((3, 100_000 - 86_400, 100_000, None, DEFAULT_LIMIT)));
        let query =
            "channel=1&from=1970-01-01T01:00:00%2B01:00&to=1970-01-01T00:01:00Z&after=1970-01-01T00:00:30Z&limit=7";
        assert_eq!(read(query), Some((1, 0, 60, Some(30), 7)));
        for bad in [
            "",
            "channel=0",
            "channel=10000",
            "channel=1&from=yesterday",
            "channel=1&from=1970-01-01T00:01:00Z&to=1970-01-01T00:01:00Z",
            "channel=1&from=1970-01-01T00:00:00Z&to=1972-01-01T00:00:00Z",
            "channel=1&to=1970-01-01T00:01:00Z&after=1970-01-01T00:01:00Z",
            "channel=1&after=1970-01-01T00:00:30Z~%25",
            "channel=1&limit=0",
            "channel=1&limit=1001",
            "channel=1&page=2",
            "channel=1&from=1969-12-31T23:59:59Z",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
