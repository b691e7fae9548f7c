//! `/api/v1/cameras/{id}/snapshot.jpg`: what the camera showed last.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};

use super::Api;
use super::cameras::read_id;
use super::problem::Problem;
use crate::actors::GetCamera;

/// `GET /cameras/{id}/snapshot.jpg`: the newest frame as it is stored or about to be, with its place in the list.
pub async fn snapshot(api: web::Data<Api>, id: web::Path<String>) -> Result<HttpResponse, Problem> {
    let camera = read_id(&id)?;
    let view = api.supervisor.send(GetCamera(camera.clone())).await??;
    let Some(frame) = api.hubs.newest().of(&camera) else {
        let detail =
            format!("camera `{camera}` has shown no picture since the daemon started: it is {}", view.state.as_str());
        return Err(Problem::new(StatusCode::NOT_FOUND, detail));
    };
    let mut response = HttpResponse::Ok();
    if frame.damaged {
        response.insert_header(("framehaul-damaged", "true"));
    }
    Ok(response
        .content_type("image/jpeg")
        .insert_header(("framehaul-session", frame.session))
        .insert_header(("framehaul-seq", frame.seq))
        .insert_header(("framehaul-captured-at", frame.captured_at.to_string()))
        .body(frame.jpeg))
}
