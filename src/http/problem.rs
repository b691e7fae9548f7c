//! Errors as answers: RFC 9457 problem details that name field, value and way out. Status codes are decided here only.

use std::fmt;

use actix_web::error::{PathError, QueryPayloadError};
use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER};
use actix_web::{HttpRequest, HttpResponse, ResponseError, Route, web};

use crate::actors::ControlError;
use crate::journal::ReadError;
use crate::model::FieldProblem;
use crate::nvr::{RecorderError, RecorderErrorKind};
use crate::tasks::TasksError;

/// A problem as it is answered.
#[derive(Debug, serde::Serialize)]
pub struct Problem {
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldProblem>,
    /// Seconds, rounded up.
    #[serde(skip)]
    retry_after: Option<u64>,
    /// Boxed: problems are handed on in results.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    more: Option<Box<More>>,
}

/// What some problems tell beside their sentence.
#[derive(Debug, serde::Serialize)]
#[serde(untagged)]
enum More {
    Gone(Gone),
    Sheet(SheetFaults),
    /// The word by which programs tell it from others.
    Kind {
        kind: &'static str,
    },
}

/// All that is wrong with a sheet of tasks.
#[derive(Debug, serde::Serialize)]
struct SheetFaults {
    faults: Vec<SheetFault>,
    /// Those beyond, which are only counted.
    more_faults: usize,
}

/// What is wrong in one cell, one column or one row.
#[derive(Debug, serde::Serialize)]
pub struct SheetFault {
    /// The row, from 1 on.
    pub row: u32,
    /// The column's letters.
    pub column: Option<String>,
    /// The column's name in ours.
    pub name: Option<String>,
    /// What is wrong, and the way out.
    pub detail: String,
}

/// What is left of a list.
#[derive(Debug, serde::Serialize)]
struct Gone {
    /// The first cursor from which it is complete.
    oldest: u64,
    /// Where the entries are that it does not have any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    manifests: Option<ManifestsDto>,
}

/// Where to read on in the bucket.
#[derive(Debug, serde::Serialize)]
pub struct ManifestsDto {
    /// What the URLs of the manifests beside it begin with; others may be elsewhere, and are asked for at their end.
    pub prefix: String,
    /// The first one that holds what follows the cursor.
    pub first: String,
}

impl Problem {
    /// A problem with a sentence on its cause and the way out.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self {
            title,
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
            more: None,
        }
    }

    /// The same, with the manifests in which the rest is.
    pub fn read_on_in(self, manifests: ManifestsDto) -> Self {
        let detail =
            format!("{}; what is gone from the list is in manifests, from {} on", self.detail, manifests.first);
        let more = self.more.map(|more| match *more {
            More::Gone(gone) => Box::new(More::Gone(Gone { manifests: Some(manifests), ..gone })),
            more => Box::new(more),
        });
        Self { detail, more, ..self }
    }

    /// A request that cannot be understood or used.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// The same, with what is wrong in each field.
    pub fn bad_fields(detail: impl Into<String>, errors: Vec<FieldProblem>) -> Self {
        Self { errors, ..Self::bad_request(detail) }
    }

    /// A sheet of which nothing is accepted.
    pub fn of_sheet(detail: impl Into<String>, faults: Vec<SheetFault>, more_faults: usize) -> Self {
        let more = Some(Box::new(More::Sheet(SheetFaults { faults, more_faults })));
        Self { more, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    /// A recorder that was asked for this request has refused, or did not answer.
    fn of_recorder(error: &RecorderError) -> Self {
        let (status, retry_after) = match error.kind {
            RecorderErrorKind::Timeout => (StatusCode::GATEWAY_TIMEOUT, None),
            RecorderErrorKind::Busy { retry_after } => {
                let wait = retry_after.map_or(1, |wait| wait.as_secs_f64().ceil() as u64);
                (StatusCode::SERVICE_UNAVAILABLE, Some(wait))
            }
            _ => (StatusCode::BAD_GATEWAY, None),
        };
        Self { retry_after, ..Self::new(status, error.message.clone()) }
    }

    /// An actor or the journal did not answer in time.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// The problem as a response.
    pub fn into_response(self) -> HttpResponse {
        self.error_response()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if let Some(seconds) = self.retry_after {
            response.insert_header((RETRY_AFTER, seconds));
        }
        response.content_type("application/problem+json").json(self)
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let detail = error.to_string();
        match error {
            ControlError::NoSuchCamera(_) | ControlError::NoSuchBatch(_) | ControlError::NoSuchNvr(_) => {
                Self::new(StatusCode::NOT_FOUND, detail)
            }
            ControlError::Invalid(errors) | ControlError::InvalidNvr(errors) => {
                Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
            }
            ControlError::Stale(_) => Self::new(StatusCode::PRECONDITION_FAILED, detail),
            ControlError::Conflict(_) => Self::new(StatusCode::CONFLICT, detail),
            ControlError::TooMany { retry_after, .. } => {
                let seconds = retry_after.as_secs_f64().ceil() as u64;
                Self { retry_after: Some(seconds), ..Self::new(StatusCode::TOO_MANY_REQUESTS, detail) }
            }
            ControlError::NoRoom(_) | ControlError::Stopping | ControlError::Unavailable(_) => {
                Self::unavailable(detail)
            }
            ControlError::Recorder(error) => Self::of_recorder(&error),
            ControlError::Internal(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Gone { oldest } => {
                let detail = format!("{error}: go on after {oldest}, from where on all is there");
                let more = Some(Box::new(More::Gone(Gone { oldest, manifests: None })));
                Self { more, ..Self::new(StatusCode::GONE, detail) }
            }
            ReadError::NoSuchPlace(_) => {
                Self::bad_request(format!("{error}: send an event's id as it came, or 0 for the beginning"))
            }
            ReadError::Journal(error) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }
}

impl From<TasksError> for Problem {
    fn from(error: TasksError) -> Self {
        let detail = error.to_string();
        match error {
            TasksError::NoSuchJob(_) => Self::new(StatusCode::NOT_FOUND, detail),
            TasksError::NotOver(_) | TasksError::TooMany(_) => Self::new(StatusCode::CONFLICT, detail),
            TasksError::LeaseLost(_) => {
                let more = Some(Box::new(More::Kind { kind: "lease_lost" }));
                Self { more, ..Self::new(StatusCode::CONFLICT, detail) }
            }
            TasksError::NoRoom | TasksError::Stopping => Self::unavailable(detail),
            TasksError::Journal(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail),
        }
    }
}

impl From<actix::MailboxError> for Problem {
    fn from(_: actix::MailboxError) -> Self {
        Self::unavailable("the supervisor does not answer: try again, and see /livez")
    }
}

/// Answers a query that cannot be read.
pub fn bad_query(error: QueryPayloadError, _: &HttpRequest) -> actix_web::Error {
    Problem::bad_request(format!("the query cannot be read: {error}")).into()
}

/// Answers a path that cannot be read.
pub fn bad_path(error: PathError, _: &HttpRequest) -> actix_web::Error {
    Problem::bad_request(format!("the path cannot be read: {error}")).into()
}

/// Answers a path that does not exist.
pub fn no_such_route() -> Route {
    web::to(|request: HttpRequest| async move {
        let path: String = request.path().chars().take(120).collect();
        Err::<HttpResponse, _>(Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {path}")))
    })
}

/// Answers a method that a path does not take, and says which it does (RFC 9110, section 15.5.6).
pub fn no_such_method(allow: String) -> Route {
    web::to(move |request: HttpRequest| {
        let detail = format!("{} is not possible here: use {allow}", request.method());
        let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail).into_response();
        response.headers_mut().insert(ALLOW, allow.parse().expect("methods hold nothing that a header does not"));
        async move { response }
    })
}
