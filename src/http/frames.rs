//! `/api/v1/cameras/{id}/frames`: the ordered list.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::Api;
use super::cameras::read_id;
use super::dto::{EntryDto, PageDto};
use super::problem::{ManifestsDto, Problem};
use crate::actors::ControlError;
use crate::journal::ReadError;
use crate::manifest;
use crate::model::{CameraId, Cursor, Seq};

/// Most entries of a page.
pub const MAX_LIMIT: usize = 1_000;
const DEFAULT_LIMIT: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PageQuery {
    #[serde(default)]
    after: Seq,
    limit: Option<usize>,
}

/// `GET /cameras/{id}/frames?after=CURSOR&limit=N`. The list of a deleted camera is still there.
pub async fn page(api: web::Data<Api>, id: web::Path<String>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let camera = read_id(&id)?;
    // Read here and not by an extractor, to add the way out: the error does not even name the field.
    let query = web::Query::<PageQuery>::from_query(request.query_string()).map_err(|error| {
        Problem::bad_request(format!(
            "the query cannot be read: {error}: use after=CURSOR (0 is the beginning) and limit=N"
        ))
    })?;
    let page = read(&api, &camera, query.after, query.limit.unwrap_or(DEFAULT_LIMIT)).await?;
    Ok(HttpResponse::Ok().json(page))
}

/// A piece of a camera's list.
async fn read(api: &Api, camera: &CameraId, after: Seq, limit: usize) -> Result<PageDto, Problem> {
    match read_as_far(api, camera, after, limit).await? {
        Ok(page) => Ok(page),
        Err(error) => Err(explain(api, camera, after, error).await),
    }
}

/// A piece of a camera's list from the cursor on, or from where it is complete where there is no cursor.
pub async fn read_what_is_left(
    api: &Api,
    camera: &CameraId,
    after: Option<Seq>,
    limit: usize,
) -> Result<PageDto, Problem> {
    match (after, read_as_far(api, camera, after.unwrap_or_default(), limit).await?) {
        (_, Ok(page)) => Ok(page),
        (None, Err(ReadError::Gone { oldest })) => read(api, camera, oldest, limit).await,
        (_, Err(error)) => Err(explain(api, camera, after.unwrap_or_default(), error).await),
    }
}

async fn read_as_far(
    api: &Api,
    camera: &CameraId,
    after: Seq,
    limit: usize,
) -> Result<Result<PageDto, ReadError>, Problem> {
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Problem::bad_request(format!("`limit` is {limit}: use 1 to {MAX_LIMIT}")));
    }
    let ledger = api.ledgers.find(camera).ok_or_else(|| ControlError::NoSuchCamera(camera.clone()))?;
    // Taken before the page is read: every seq up to it is committed, so the page has no hole.
    let watermark = ledger.watermark();
    let (reader, key, cursor) = (api.reader.clone(), camera.clone(), Cursor::after(after));
    let page = web::block(move || reader.page(&key, cursor, limit, watermark))
        .await
        .map_err(|_| Problem::unavailable("the reader was cut off: try again"))?;
    Ok(page.map(|page| PageDto {
        camera: camera.clone(),
        origin: api.origin.as_str().to_owned(),
        watermark,
        entries: page.entries.into_iter().map(|entry| EntryDto::new(entry, &api.base_url)).collect(),
        next: page.next,
        more: page.more,
    }))
}

/// The problem of a list that cannot be read after a cursor. Where entries are gone, it names the manifests that hold
/// them.
pub async fn explain(api: &Api, camera: &CameraId, after: Seq, error: ReadError) -> Problem {
    let oldest = if let ReadError::Gone { oldest } = &error { *oldest } else { return error.into() };
    let (reader, key) = (api.reader.clone(), camera.clone());
    let found = web::block(move || reader.manifest_of(&key, after.saturating_add(1))).await;
    let problem = Problem::from(error);
    // One that begins after what is gone holds nothing of it.
    let Some(manifest) = found.ok().and_then(Result::ok).flatten().filter(|found| found.seqs.first <= oldest) else {
        return problem;
    };
    // Where it was put, whatever the configuration says of that destination by now.
    let way = || api.hubs.configured().find(|way| way.name().as_str() == manifest.destination);
    let Some(base_url) = manifest.base_url.clone().or_else(|| way()?.base_url.clone()) else { return problem };
    let first = format!("{base_url}{}", manifest::key(camera, &api.origin, manifest.seqs));
    let prefix = first.strip_suffix(&manifest::file_name(manifest.seqs)).unwrap_or(&first).to_owned();
    problem.read_on_in(ManifestsDto { prefix, first })
}
