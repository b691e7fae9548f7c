//! `/api/v1/cameras:probe`: is there a picture at this URL?

use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use super::Api;
use super::cameras::read_body;
use super::problem::Problem;
use super::spec::read_spec;
use crate::actors::{Probe, Probed};

/// What a trial has found. Its status is 200 either way: the trial was made.
#[derive(Debug, Serialize)]
struct ProbeDto {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<StreamDto>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorDto>,
}

#[derive(Debug, Serialize)]
struct StreamDto {
    codec: Option<String>,
    width: u32,
    height: u32,
    /// As the stream declares them; `null` where it does not say.
    fps: Option<f64>,
    first_frame_ms: u64,
    /// The first picture: a JPEG file in base64.
    picture: String,
}

#[derive(Debug, Serialize)]
struct ErrorDto {
    kind: &'static str,
    message: String,
}

/// `POST /cameras:probe`, with a camera's spec as its body
pub async fn probe(
    api: web::Data<Api>,
    request: HttpRequest,
    body: Result<web::Bytes, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    let spec = read_spec(&request, &read_body(body)?)?;
    Ok(HttpResponse::Ok().json(match api.supervisor.send(Probe(spec)).await?? {
        Probed::Seen { info, picture, after } => ProbeDto {
            ok: true,
            stream: Some(StreamDto {
                codec: Some(info.codec).filter(|codec| !codec.is_empty()),
                width: picture.width,
                height: picture.height,
                fps: Some(info.fps).filter(|fps| *fps > 0.0),
                first_frame_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
                picture: BASE64_STANDARD.encode(&picture.jpeg),
            }),
            error: None,
        },
        Probed::Failed(diagnosis) => {
            let error = ErrorDto { kind: diagnosis.kind.as_str(), message: diagnosis.message.into_owned() };
            ProbeDto { ok: false, stream: None, error: Some(error) }
        }
    }))
}
