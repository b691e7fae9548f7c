//! `/api/v1/cameras`

use actix_web::http::StatusCode;
use actix_web::http::header::ETAG;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::Api;
use super::dto::CameraDto;
use super::problem::Problem;
use super::spec::read_spec;
use crate::actors::{CameraView, DeleteCamera, GetCamera, ListCameras, Precondition, PutCamera};
use crate::model::CameraId;

/// Reads a camera id from the path.
pub fn read_id(text: &str) -> Result<CameraId, Problem> {
    text.parse().map_err(|error: crate::model::InvalidCameraId| Problem::bad_request(error.to_string()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    #[serde(default)]
    deleted: bool,
}

/// `GET /cameras`
pub async fn list(api: web::Data<Api>, query: web::Query<ListQuery>) -> Result<HttpResponse, Problem> {
    let cameras = api.supervisor.send(ListCameras { deleted: query.deleted }).await?;
    let cameras: Vec<CameraDto> = cameras.into_iter().map(CameraDto::from).collect();
    Ok(HttpResponse::Ok().json(serde_json::json!({ "cameras": cameras })))
}

/// `GET /cameras/{id}`
pub async fn get(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let view = api.supervisor.send(GetCamera(read_id(&id)?)).await??;
    Ok(answer(StatusCode::OK, view))
}

/// `PUT /cameras/{id}`
pub async fn put(
    api: web::Data<Api>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Result<web::Bytes, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    let camera = read_id(&id)?;
    let spec = read_spec(&request, &body.map_err(|error| too_large(&error))?)?;
    let put = api.supervisor.send(PutCamera { camera, spec, when: Precondition::None }).await??;
    Ok(answer(if put.created { StatusCode::CREATED } else { StatusCode::OK }, put.camera))
}

/// `DELETE /cameras/{id}`
pub async fn delete(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    api.supervisor.send(DeleteCamera(read_id(&id)?, Precondition::None)).await??;
    Ok(HttpResponse::NoContent().finish())
}

fn answer(status: StatusCode, view: CameraView) -> HttpResponse {
    let etag = format!("\"{}\"", view.revision);
    HttpResponse::build(status).insert_header((ETAG, etag)).json(CameraDto::from(view))
}

fn too_large(error: &actix_web::Error) -> Problem {
    match error.as_response_error().status_code() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is longer than {} bytes", super::MAX_BODY_BYTES),
        ),
        _ => Problem::bad_request("the body could not be read to its end"),
    }
}
