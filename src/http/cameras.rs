//! `/api/v1/cameras`

use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, LOCATION};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::dto::{CameraDto, ProcessDto};
use super::problem::Problem;
use super::spec::{read_set, read_spec};
use super::{Api, condition};
use crate::actors::{
    CameraView, CreateCamera, DeleteCamera, GetCamera, ListCameras, Operate, Operation, PutCamera, PutCameras, set_tag,
};
use crate::model::CameraId;

/// The longest body of a request that holds many cameras, bytes: some thousands of them.
const MAX_SET_BYTES: usize = 4 * 1024 * 1024;

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

/// `GET /cameras`. Its ETag is that of the set which `PUT /cameras` replaces.
pub async fn list(api: web::Data<Api>, query: web::Query<ListQuery>) -> Result<HttpResponse, Problem> {
    let cameras = api.supervisor.send(ListCameras { deleted: query.deleted }).await?;
    Ok(answer_set(cameras))
}

/// `PUT /cameras`: all cameras that requests manage at once, `{"cameras": {"gate-3": {"url": ...}, ...}}`. All or
/// nothing.
pub async fn put_all(
    api: web::Data<Api>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let if_match = condition::of_set(&request)?;
    let body = match payload.to_bytes_limited(MAX_SET_BYTES).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => return Err(cut_off()),
        Err(_) => return Err(too_long(MAX_SET_BYTES)),
    };
    let cameras = read_set(&request, &body)?;
    Ok(answer_set(api.supervisor.send(PutCameras { cameras, if_match }).await??))
}

/// `POST /cameras`: the id is made from the name.
pub async fn post(
    api: web::Data<Api>,
    request: HttpRequest,
    body: Result<web::Bytes, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    let spec = read_spec(&request, &read_body(body)?)?;
    let put = api.supervisor.send(CreateCamera(spec)).await??;
    let location = format!("/api/v1/cameras/{}", put.camera.camera);
    let mut response = answer(StatusCode::CREATED, put.camera);
    let location = location.parse().expect("an id holds nothing that a header does not");
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// `GET /cameras/{id}`. What its capture process takes is read for each request, and shown here alone.
pub async fn get(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let view = api.supervisor.send(GetCamera(read_id(&id)?)).await??;
    let process = match view.pid.zip(view.program) {
        // It may take the kernel a millisecond or two to add up what a large process has.
        Some((pid, program)) => web::block(move || ProcessDto::read(pid, program)).await.ok().flatten(),
        None => None,
    };
    let etag = format!("\"{}\"", view.revision);
    let camera = CameraDto::from(view).with_process(process);
    Ok(HttpResponse::Ok().insert_header((ETAG, etag)).json(camera))
}

/// `PUT /cameras/{id}`
pub async fn put(
    api: web::Data<Api>,
    id: web::Path<String>,
    request: HttpRequest,
    body: Result<web::Bytes, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    let camera = read_id(&id)?;
    let when = condition::of_camera(&request)?;
    let spec = read_spec(&request, &read_body(body)?)?;
    let put = api.supervisor.send(PutCamera { camera, spec, when }).await??;
    Ok(answer(if put.created { StatusCode::CREATED } else { StatusCode::OK }, put.camera))
}

/// `DELETE /cameras/{id}`
pub async fn delete(api: web::Data<Api>, id: web::Path<String>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let when = condition::of_camera(&request)?;
    api.supervisor.send(DeleteCamera(read_id(&id)?, when)).await??;
    Ok(HttpResponse::NoContent().finish())
}

/// `POST /cameras/{id}/pause`
pub async fn pause(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    operate(&api, &id, Operation::Pause).await
}

/// `POST /cameras/{id}/resume`
pub async fn resume(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    operate(&api, &id, Operation::Resume).await
}

/// `POST /cameras/{id}/restart`
pub async fn restart(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    operate(&api, &id, Operation::Restart).await
}

async fn operate(api: &Api, id: &str, operation: Operation) -> Result<HttpResponse, Problem> {
    let view = api.supervisor.send(Operate { camera: read_id(id)?, operation }).await??;
    Ok(answer(StatusCode::OK, view))
}

fn answer(status: StatusCode, view: CameraView) -> HttpResponse {
    let etag = format!("\"{}\"", view.revision);
    HttpResponse::build(status).insert_header((ETAG, etag)).json(CameraDto::from(view))
}

fn answer_set(cameras: Vec<CameraView>) -> HttpResponse {
    let etag = format!("\"{}\"", set_tag(&cameras));
    let cameras: Vec<CameraDto> = cameras.into_iter().map(CameraDto::from).collect();
    HttpResponse::Ok().insert_header((ETAG, etag)).json(serde_json::json!({ "cameras": cameras }))
}

/// A body as it was received, or why it was not.
pub fn read_body(body: Result<web::Bytes, actix_web::Error>) -> Result<web::Bytes, Problem> {
    body.map_err(|error| match error.as_response_error().status_code() {
        StatusCode::PAYLOAD_TOO_LARGE => too_long(super::MAX_BODY_BYTES),
        _ => cut_off(),
    })
}

fn too_long(most: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {most} bytes"))
}

fn cut_off() -> Problem {
    Problem::bad_request("the body could not be read to its end")
}
