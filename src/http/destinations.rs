//! `/api/v1/destinations`: where frames go, and how that is.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Serialize;

use super::Api;
use super::problem::Problem;
use crate::actors::{DestinationStatus, Hubs, Way};
use crate::model::{DestinationName, InvalidDestinationName, UnixMicros};
use crate::spool::SpoolStatus;

#[derive(Debug, Serialize)]
struct DestinationDto {
    name: DestinationName,
    /// What stands before every key in the URLs of its objects; `null` where the configuration does not have it any more.
    url: Option<String>,
    /// Whether the configuration has it. Where it does not, its frames wait until it is put back.
    configured: bool,
    status: StatusDto,
    spool: SpoolDto,
}

#[derive(Debug, Serialize)]
struct StatusDto {
    /// `open`, `limited`, `down` or `paused`; `unconfigured` where nobody carries its frames.
    state: &'static str,
    /// Since when; `null` where it is not configured.
    since: Option<UnixMicros>,
    /// What it said last that was wrong, however long ago.
    last_error: Option<String>,
    /// Requests a second that may be made; `null` where nothing limits them.
    rate: Option<f64>,
    /// Attempts that are being made.
    in_flight: usize,
}

/// What lies on disk for it.
#[derive(Debug, Serialize)]
struct SpoolDto {
    /// Frames whose outcome is not known.
    frames: u64,
    /// Bytes of their records.
    bytes: u64,
    /// Bytes that its files take.
    size: u64,
    /// The most that they may take.
    max_size: u64,
    /// When the oldest of the frames was captured; `null` where there is none.
    oldest: Option<UnixMicros>,
    /// Whether frames are being refused for want of room.
    full: bool,
}

impl From<&Way> for StatusDto {
    fn from(way: &Way) -> Self {
        if way.base_url.is_none() {
            return Self { state: "unconfigured", since: None, last_error: None, rate: None, in_flight: 0 };
        }
        let DestinationStatus { state, since, error, rate, in_flight, .. } = way.hub.destination_status();
        Self { state: state.as_str(), since: Some(since), last_error: error, rate, in_flight }
    }
}

impl From<&Way> for DestinationDto {
    fn from(way: &Way) -> Self {
        let SpoolStatus { frames, bytes, size, max_size, oldest, full, .. } = way.spool.status();
        Self {
            name: way.name().clone(),
            url: way.base_url.clone(),
            configured: way.base_url.is_some(),
            status: StatusDto::from(way),
            spool: SpoolDto { frames, bytes, size, max_size, oldest, full },
        }
    }
}

/// The destinations that there is something to say of: those of the configuration, and those for which frames wait.
fn shown(hubs: &Hubs) -> impl Iterator<Item = DestinationDto> {
    let all = hubs.all().iter().map(DestinationDto::from);
    all.filter(|shown| shown.configured || shown.spool.frames > 0)
}

/// `GET /destinations`
pub async fn list(api: web::Data<Api>) -> HttpResponse {
    let destinations: Vec<DestinationDto> = shown(&api.hubs).collect();
    HttpResponse::Ok().json(serde_json::json!({ "destinations": destinations }))
}

/// `GET /destinations/{name}`
pub async fn get(api: web::Data<Api>, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    let name: DestinationName = name
        .parse()
        .map_err(|error: InvalidDestinationName| Problem::bad_request(format!("the path's last part {error}")))?;
    let found = shown(&api.hubs).find(|shown| shown.name == name);
    let missing = || Problem::new(StatusCode::NOT_FOUND, format!("`{name}` {}", api.hubs.unknown()));
    Ok(HttpResponse::Ok().json(found.ok_or_else(missing)?))
}
