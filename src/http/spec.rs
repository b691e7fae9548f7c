//! A camera's spec as the body of a request.
//!
//! No message repeats a password, whatever was written in its place and wherever it was written by mistake.

use std::collections::BTreeMap;

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::model::{CameraId, FieldProblem, InvalidCameraId, RawCameraSpec, is_plain, misfits};

/// Reads a camera's spec: the shape alone; what the values may be is for [`RawCameraSpec::validate`].
pub fn read_spec(request: &HttpRequest, body: &[u8]) -> Result<RawCameraSpec, Problem> {
    read_fields(read_object(request, body)?, Vec::new())
}

/// Reads the fields of a body.
pub fn read_object(request: &HttpRequest, body: &[u8]) -> Result<Map<String, Value>, Problem> {
    match read_json(request, body)? {
        Value::Object(fields) => Ok(fields),
        _ => {
            let detail = "the body must be a JSON object, for example {\"url\": \"rtsp://host/path\"}";
            Err(Problem::bad_request(detail))
        }
    }
}

/// Makes a camera's spec of its fields, unless there are problems with others beside them.
pub fn read_fields(fields: Map<String, Value>, mut problems: Vec<FieldProblem>) -> Result<RawCameraSpec, Problem> {
    problems.extend(misfits(&fields));
    if !problems.is_empty() {
        return Err(Problem::bad_fields("the camera cannot be read as it is written", problems));
    }
    serde_json::from_value(Value::Object(fields)).map_err(|_| Problem::bad_request("the camera cannot be read"))
}

/// Reads a whole set of cameras, `{"cameras": {"gate-3": {"url": ...}, ...}}`.
pub fn read_set(request: &HttpRequest, body: &[u8]) -> Result<BTreeMap<CameraId, RawCameraSpec>, Problem> {
    let shape =
        || Problem::bad_request("the body must be {\"cameras\": {\"gate-3\": {\"url\": \"rtsp://host/path\"}, ...}}");
    let Value::Object(mut outer) = read_json(request, body)? else { return Err(shape()) };
    let Some(Value::Object(cameras)) = outer.remove("cameras") else { return Err(shape()) };
    if !outer.is_empty() {
        return Err(shape());
    }
    let mut set = BTreeMap::new();
    let mut problems = Vec::new();
    for (name, value) in cameras {
        let id: CameraId = match name.parse() {
            Ok(id) => id,
            Err(error) => {
                let error: InvalidCameraId = error;
                let detail =
                    if is_plain(&name) { error.to_string() } else { "holds a name that is no camera id".to_owned() };
                problems.push(FieldProblem { field: "cameras".into(), value: None, detail });
                continue;
            }
        };
        let place = format!("cameras.{id}");
        match &value {
            Value::Object(fields) => problems.extend(misfits(fields).into_iter().map(|problem| problem.within(&place))),
            _ => {
                let detail = "must be an object, for example {\"url\": \"rtsp://host/path\"}".to_owned();
                problems.push(FieldProblem { field: place.into(), value: None, detail });
            }
        }
        if problems.is_empty() {
            let spec = serde_json::from_value(value).map_err(|_| Problem::bad_request("a camera cannot be read"))?;
            set.insert(id, spec);
        }
    }
    if problems.is_empty() {
        Ok(set)
    } else {
        Err(Problem::bad_fields("the cameras cannot be read as they are written", problems))
    }
}

fn read_json(request: &HttpRequest, body: &[u8]) -> Result<Value, Problem> {
    let content_type = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        let detail = "send the camera as JSON, with `Content-Type: application/json`";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    }
    serde_json::from_slice(body).map_err(|error| {
        let detail = format!("the body is not JSON, at line {} column {}", error.line(), error.column());
        Problem::bad_request(detail)
    })
}
