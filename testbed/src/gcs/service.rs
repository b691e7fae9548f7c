//! From a request to its answer.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::account::Account;
use super::arrivals::Arrivals;
use super::call::{Call, Query};
use super::knobs::{Dice, Fault, Knobs};
use super::line::Line;
use super::paced::Paced;
use super::pieces::Pieces;
use super::refusal::{Answer, Refusal};
use super::resource::{bucket_json, list_json, object_json};
use super::session::Session;
use super::stats::Stats;
use super::store::{Preconditions, Store};
use super::tokens::Tokens;
use super::upload::Upload;

/// The longest request body, in bytes. Bodies are held in memory until they have arrived, but for objects that are
/// discarded.
const BODY_LIMIT: usize = 1 << 30;

/// All connections' common part.
#[derive(Debug)]
pub(super) struct App {
    /// Where we listen: `http://127.0.0.1:PORT`.
    pub(super) endpoint: String,
    /// Where bodies are kept, if not in memory.
    pub(super) root: Option<PathBuf>,
    /// Whether bodies are thrown away.
    pub(super) discard: bool,
    /// Made when it is first asked for: a key pair costs a tenth of a second.
    pub(super) account: OnceLock<Account>,
    pub(super) state: Mutex<State>,
}

/// What the dice say about a call.
#[derive(Debug, Default)]
struct Admission {
    /// The answer, instead of doing what was asked.
    refusal: Option<Refusal>,
    /// What spoils the real answer.
    fault: Option<Fault>,
    latency: Duration,
    /// When it is this upload's turn.
    turn: Option<Instant>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The request's body did not end, and there is nobody to answer.
    Broken(hyper::Error),
    /// It is lost on purpose.
    Reset,
}

/// What changes. Its lock is never held across an await, nor while bytes are copied or summed.
#[derive(Debug)]
pub(super) struct State {
    pub(super) knobs: Knobs,
    pub(super) dice: Dice,
    pub(super) stats: Stats,
    pub(super) store: Store,
    pub(super) tokens: Tokens,
    /// Resumable uploads by their id.
    pub(super) sessions: HashMap<String, Session>,
    /// The number of the next file below the root directory.
    pub(super) next_file: u64,
    /// When it is the next upload's turn, where there is a limit.
    pub(super) next_turn: Instant,
    /// When calls came, since somebody wants to know.
    pub(super) arrivals: Option<Arrivals>,
}

impl State {
    /// Puts new knobs in place, once they are known to be valid.
    pub(super) fn set_knobs(&mut self, knobs: Knobs) {
        if knobs.seed != self.knobs.seed {
            self.dice = Dice::new(knobs.seed);
        }
        self.knobs = knobs;
    }

    /// What a fault out of the knobs is answered with.
    pub(super) fn injected(&mut self, status: u16) -> Refusal {
        Refusal::injected(status, self.dice.retry_after_s(&self.knobs))
    }
}

impl App {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Each holder leaves the state as it should be at every step, so a panic in one spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The account whose JWTs are accepted.
    pub(super) fn account(&self) -> &Account {
        self.account.get_or_init(|| Account::generate(&self.endpoint))
    }

    /// Answers one request that came on `line`.
    pub(super) async fn serve(&self, request: Request<Incoming>, line: &Line) -> Result<Response<Paced>, NoAnswer> {
        let (head, body) = request.into_parts();
        let query = Query::of(&head.uri);
        let call = Call::of(&head.method, &head.uri, &query);
        let control = call.as_ref().is_ok_and(Call::is_control);
        let bandwidth = self.state().knobs.bandwidth_bytes_per_s.filter(|_| !control);
        let is_discarded = self.discard && matches!(call, Ok(Call::UploadMedia { .. }));
        let body = receive(body, bandwidth, is_discarded).await.map_err(|error| {
            self.state().stats.aborted += 1;
            NoAnswer::Broken(error)
        })?;
        let arrived = Instant::now();
        let (call, body) = match (call, body) {
            (Ok(call), Some(body)) => (call, body),
            (Err(refusal), _) => {
                self.state().stats.requests.unsupported += 1;
                return Ok(refusal.answer(false).map(Paced::at_once));
            }
            (Ok(call), None) => {
                call.count(&mut self.state().stats.requests);
                let message = format!("the body is longer than {BODY_LIMIT} bytes, which this testbed does not take");
                let refusal = Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "uploadTooLarge", message);
                return Ok(refusal.answer(false).map(Paced::at_once));
            }
        };
        let Admission { refusal, fault, latency, turn } = self.admit(&call, &query);
        if fault == Some(Fault::Hang) {
            // Dropped with the connection, when the client has had enough.
            std::future::pending::<()>().await;
        }
        let mut answer = match refusal {
            Some(refusal) => Err(refusal),
            None => self.perform(&call, &query, &head.headers, body, fault).await,
        };
        // One that was refused has stored nothing: that answer is not worth losing.
        let lost = match fault {
            Some(fault @ (Fault::LostAnswer | Fault::Reset)) if answer.is_ok() && call.is_upload() => Some(fault),
            _ => None,
        };
        if lost == Some(Fault::LostAnswer) {
            let mut state = self.state();
            state.stats.injected.lost_answers += 1;
            answer = Err(state.injected(503));
        }
        let due = turn.map_or(arrived + latency, |turn| turn.max(arrived + latency));
        if due > arrived {
            sleep_until(due).await;
        }
        if lost == Some(Fault::Reset) {
            self.state().stats.injected.resets += 1;
            line.reset_when_closed();
            return Err(NoAnswer::Reset);
        }
        let answer = answer.unwrap_or_else(|refusal| refusal.answer(call.is_media()));
        let slow = (fault == Some(Fault::SlowAnswer)).then(|| self.state().knobs.slow_answer_bytes_per_s.unwrap_or(1));
        Ok(answer.map(|body| Paced::new(body, slow)))
    }

    /// Counts a call and throws its dice.
    fn admit(&self, call: &Call, query: &Query) -> Admission {
        let mut admission = Admission::default();
        if call.is_control() {
            return admission;
        }
        let mut state = self.state();
        let State { knobs, dice, stats, next_turn, arrivals, .. } = &mut *state;
        call.count(&mut stats.requests);
        if call.is_about_tokens() {
            return admission;
        }
        if let Some(arrivals) = arrivals {
            arrivals.note(call.is_upload(), call.name().or_else(|| query.get("name")));
        }
        if call.has_latency() {
            admission.latency = dice.latency(knobs);
        }
        let thrown = dice.fault(knobs);
        let injected = &mut stats.injected;
        let (status, count) = match (knobs.refuse_status, thrown) {
            (Some(status), _) => (status, &mut injected.refused),
            (None, Some(Fault::Status(429))) => (429, &mut injected.status_429),
            (None, Some(Fault::Status(status))) => (status, &mut injected.status_503),
            (None, fault) => {
                match fault {
                    Some(Fault::Hang) => injected.hangs += 1,
                    Some(Fault::SlowAnswer) => injected.slow_answers += 1,
                    // These are counted when it is known that there is something to lose.
                    Some(Fault::LostAnswer | Fault::Reset | Fault::Part | Fault::Status(_)) | None => {}
                }
                admission.fault = fault;
                if let Some(per_s) = knobs.uploads_per_s.filter(|_| call.is_upload()) {
                    let turn = Instant::now().max(*next_turn);
                    *next_turn = turn + Duration::from_secs(1) / u32::try_from(per_s).unwrap_or(u32::MAX);
                    admission.turn = Some(turn);
                }
                return admission;
            }
        };
        *count += 1;
        let refusal = state.injected(status);
        if let (Some(arrivals), Some(seconds)) = (&mut state.arrivals, refusal.retry_after_s()) {
            let name = call.name().or_else(|| query.get("name"));
            arrivals.refuse(name, Duration::from_secs(seconds.into()));
        }
        admission.refusal = Some(refusal);
        admission
    }

    async fn perform(
        &self,
        call: &Call,
        query: &Query,
        headers: &HeaderMap,
        body: Pieces,
        fault: Option<Fault>,
    ) -> Result<Answer, Refusal> {
        if !call.is_control() && !call.is_about_tokens() {
            self.authorize(headers)?;
        }
        match call {
            Call::GetKnobs => Ok(json_answer(&self.state().knobs)),
            Call::ChangeKnobs => {
                let mut state = self.state();
                let knobs =
                    state.knobs.patched(&body.to_bytes()).map_err(|error| Refusal::invalid(format!("{error:#}")))?;
                state.set_knobs(knobs);
                Ok(json_answer(&state.knobs))
            }
            Call::GetStats => Ok(json_answer(&self.state().stats)),
            Call::GetKey => Ok(json_answer(&self.account().key_file())),
            Call::ExpireTokens => {
                self.state().tokens.expire_all();
                Ok(json_answer(&serde_json::json!({})))
            }
            Call::ExpireUploads => {
                self.state().sessions.clear();
                Ok(json_answer(&serde_json::json!({})))
            }
            Call::Token => self.exchange(&body.to_bytes()),
            Call::Metadata(path) => self.metadata(path, headers),
            Call::UploadMultipart { bucket } => {
                let (upload, when) = self.read(bucket, query, Upload::multipart(query, headers, &body))?;
                Ok(json_answer(&self.store(bucket, upload, &when).await?))
            }
            Call::UploadMedia { bucket } => {
                let (upload, when) = self.read(bucket, query, Upload::media(query, headers, body))?;
                Ok(json_answer(&self.store(bucket, upload, &when).await?))
            }
            Call::UploadStart { bucket } => {
                let (upload, when) = self.read(bucket, query, Upload::resumable(query, headers, &body))?;
                self.start_session(bucket, upload, when, headers)
            }
            Call::UploadPiece { id } => self.piece(id, headers, body, fault == Some(Fault::Part)).await,
            Call::UploadCancel { id } => self.cancel_session(id),
            Call::GetMetadata { bucket, name } => {
                let object = self.find(bucket, name, query)?;
                Ok(json_answer(&object_json(&self.endpoint, bucket, name, &object)))
            }
            Call::GetMedia { bucket, name } => {
                let object = self.find(bucket, name, query)?;
                self.media(&object, headers).await
            }
            Call::List { bucket } => {
                let page = self
                    .state()
                    .store
                    .list(bucket, &query.list()?)
                    .map_err(|refused| Refusal::of_store(&refused, bucket, ""))?;
                Ok(json_answer(&list_json(&self.endpoint, bucket, &page)))
            }
            Call::Delete { bucket, name } => {
                let when = query.preconditions()?;
                let generation = query.number("generation")?;
                let deleted = self.state().store.delete(bucket, name, generation, &when);
                let object = deleted.map_err(|refused| self.refuse(&refused, bucket, name))?;
                self.forget(&object.content.body).await;
                let mut answer = Response::new(Bytes::new());
                *answer.status_mut() = StatusCode::NO_CONTENT;
                Ok(answer)
            }
            Call::GetBucket { bucket } => {
                self.state().store.bucket(bucket).map_err(|refused| Refusal::of_store(&refused, bucket, ""))?;
                Ok(json_answer(&bucket_json(&self.endpoint, bucket)))
            }
            Call::Unsupported(message) => {
                Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "notImplemented", message.as_str()))
            }
        }
    }

    /// An upload and its conditions, if there is a bucket for it.
    fn read(
        &self,
        bucket: &str,
        query: &Query,
        upload: Result<Upload, Refusal>,
    ) -> Result<(Upload, Preconditions), Refusal> {
        self.state().store.bucket(bucket).map_err(|refused| Refusal::of_store(&refused, bucket, ""))?;
        Ok((upload?, query.preconditions()?))
    }
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoAnswer::Broken(error) => write!(f, "the request broke off: {error}"),
            NoAnswer::Reset => f.write_str("the connection is reset, as the knobs want it"),
        }
    }
}

impl std::error::Error for NoAnswer {}

/// Reads a body at no more than `bytes_per_s`. `None` stands for one that is longer than the limit, which is none for one
/// that is discarded.
async fn receive(
    mut body: Incoming,
    bytes_per_s: Option<u64>,
    is_discarded: bool,
) -> Result<Option<Pieces>, hyper::Error> {
    let started = Instant::now();
    let mut pieces = Pieces::default();
    while let Some(frame) = body.frame().await {
        if let Ok(slice) = frame?.into_data() {
            pieces.push(slice);
        }
        if is_discarded {
            pieces.let_go();
        } else if pieces.len() > BODY_LIMIT {
            return Ok(None);
        }
        if let Some(rate) = bytes_per_s {
            // While this sleeps nothing is read, and the sender's window fills up as it would on a slow line.
            sleep_until(started + Duration::from_secs_f64(pieces.len() as f64 / rate as f64)).await;
        }
    }
    Ok(Some(pieces))
}

pub(super) fn json_answer(value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).expect("maps with text keys always become JSON");
    let mut answer = Response::new(Bytes::from(body));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    answer
}
