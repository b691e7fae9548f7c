//! From a request to its answer.

use std::io::SeekFrom;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::time::{Instant, sleep_until};

use super::call::{Call, Query};
use super::knobs::{Dice, Fault, Knobs};
use super::pieces::Pieces;
use super::refusal::{Answer, Refusal};
use super::resource::{bucket_json, list_json, media_headers, object_json};
use super::stats::Stats;
use super::store::{Body, Content, Object, Preconditions, Refused, Store};
use super::upload::{Sums, Upload};

/// The longest request body, in bytes. Bodies are held in memory until they have arrived, and larger objects go up in
/// pieces anyway.
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
    pub(super) state: Mutex<State>,
}

/// What the dice say about a call.
#[derive(Debug, Default)]
struct Admission {
    /// The answer, instead of doing what was asked.
    refusal: Option<Refusal>,
    /// Whether it is done and the client is told otherwise.
    lose_answer: bool,
    latency: Duration,
}

/// What changes. Its lock is never held across an await, nor while bytes are copied or summed.
#[derive(Debug)]
pub(super) struct State {
    pub(super) knobs: Knobs,
    pub(super) dice: Dice,
    pub(super) stats: Stats,
    pub(super) store: Store,
    /// The number of the next file below the root directory.
    pub(super) next_file: u64,
}

impl State {
    /// Puts new knobs in place, once they are known to be valid.
    pub(super) fn set_knobs(&mut self, knobs: Knobs) {
        if knobs.seed != self.knobs.seed {
            self.dice = Dice::new(knobs.seed);
        }
        self.knobs = knobs;
    }
}

impl App {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Each holder leaves the state as it should be at every step, so a panic in one spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request. Fails only if its body does not end, and then there is nobody to answer.
    pub(super) async fn serve(&self, request: Request<Incoming>) -> Result<Answer, hyper::Error> {
        let (head, body) = request.into_parts();
        let query = Query::of(&head.uri);
        let call = Call::of(&head.method, &head.uri, &query);
        let control = call.as_ref().is_ok_and(Call::is_control);
        let bandwidth = self.state().knobs.bandwidth_bytes_per_s.filter(|_| !control);
        let body = match receive(body, bandwidth).await {
            Ok(body) => body,
            Err(error) => {
                self.state().stats.aborted += 1;
                return Err(error);
            }
        };
        let arrived = Instant::now();
        let (call, body) = match (call, body) {
            (Ok(call), Some(body)) => (call, body),
            (Err(refusal), _) => {
                self.state().stats.requests.unsupported += 1;
                return Ok(refusal.answer(false));
            }
            (Ok(call), None) => {
                call.count(&mut self.state().stats.requests);
                let message = format!("the body is longer than {BODY_LIMIT} bytes, which this testbed does not take");
                let refusal = Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "uploadTooLarge", message);
                return Ok(refusal.answer(false));
            }
        };
        let Admission { refusal, lose_answer, latency } = self.admit(&call);
        let mut answer = match refusal {
            Some(refusal) => Err(refusal),
            None => self.perform(&call, &query, &head.headers, body).await,
        };
        // One that was refused has stored nothing: that answer is not worth losing.
        if lose_answer && answer.is_ok() {
            let mut state = self.state();
            state.stats.injected.lost_answers += 1;
            answer = Err(Refusal::injected(503, state.knobs.retry_after_s));
        }
        let answer = answer.unwrap_or_else(|refusal| refusal.answer(call.is_media()));
        if !latency.is_zero() {
            sleep_until(arrived + latency).await;
        }
        Ok(answer)
    }

    /// Counts a call and throws its dice.
    fn admit(&self, call: &Call) -> Admission {
        let mut admission = Admission::default();
        if call.is_control() {
            return admission;
        }
        let mut state = self.state();
        let State { knobs, dice, stats, .. } = &mut *state;
        call.count(&mut stats.requests);
        if call.has_latency() {
            admission.latency = dice.latency(knobs);
        }
        let thrown = dice.fault(knobs);
        let (status, count) = match (knobs.refuse_status, thrown) {
            (Some(status), _) => (status, &mut stats.injected.refused),
            (None, Some(Fault::Status(429))) => (429, &mut stats.injected.status_429),
            (None, Some(Fault::Status(status))) => (status, &mut stats.injected.status_503),
            (None, Some(Fault::LostAnswer)) => {
                admission.lose_answer = call.is_upload();
                return admission;
            }
            (None, None) => return admission,
        };
        *count += 1;
        admission.refusal = Some(Refusal::injected(status, knobs.retry_after_s));
        admission
    }

    async fn perform(&self, call: &Call, query: &Query, headers: &HeaderMap, body: Pieces) -> Result<Answer, Refusal> {
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
            Call::UploadMultipart { bucket } => {
                self.upload(bucket, query, Upload::multipart(query, headers, &body)).await
            }
            Call::UploadMedia { bucket } => self.upload(bucket, query, Upload::media(query, headers, body)).await,
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
                let mut answer = Response::new(Full::default());
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

    async fn upload(&self, bucket: &str, query: &Query, upload: Result<Upload, Refusal>) -> Result<Answer, Refusal> {
        self.state().store.bucket(bucket).map_err(|refused| Refusal::of_store(&refused, bucket, ""))?;
        let upload = upload?;
        let when = query.preconditions()?;
        let md5 = self.state().knobs.md5;
        let sums = upload.verify(md5).inspect_err(|_| {
            self.state().stats.checksum_failures += 1;
        })?;
        let size = upload.media.len() as u64;

        // Asked twice, so that a create that must fail costs no copy and no file; the second answer is the one that
        // counts, as there may be another writer in between.
        let name = upload.name.as_str();
        let early = self.state().store.may_put(bucket, name, &when);
        early.map_err(|refused| self.refuse_put(&refused, bucket, name, &when, size, sums))?;
        let body = self.keep(&upload.media).await?;
        let content = Content {
            size,
            crc32c: sums.crc32c,
            md5: sums.md5,
            content_type: upload.content_type,
            extra: upload.extra,
            body: body.clone(),
        };
        let stored = {
            let mut state = self.state();
            let stored = state.store.put(bucket, name, content, &when);
            if stored.is_ok() {
                state.stats.puts_stored += 1;
                state.stats.bytes_stored += size;
            }
            stored
        };
        match stored {
            Ok((object, replaced)) => {
                if let Some(replaced) = replaced {
                    self.forget(&replaced.content.body).await;
                }
                Ok(json_answer(&object_json(&self.endpoint, bucket, name, &object)))
            }
            Err(refused) => {
                self.forget(&body).await;
                Err(self.refuse_put(&refused, bucket, name, &when, size, sums))
            }
        }
    }

    /// Puts an upload's bytes where this server keeps them.
    async fn keep(&self, media: &Pieces) -> Result<Body, Refusal> {
        if self.discard {
            return Ok(Body::Discarded);
        }
        if self.root.is_none() {
            return Ok(Body::Memory(media.to_bytes()));
        }
        let number = {
            let mut state = self.state();
            state.next_file += 1;
            state.next_file
        };
        let path = self.file(number);
        tokio::fs::write(&path, media.to_bytes())
            .await
            .with_context(|| format!("cannot write the object's file {}", path.display()))
            .map_err(internal)?;
        Ok(Body::File(number))
    }

    /// Removes the file of a body that no object has any more.
    async fn forget(&self, body: &Body) {
        if let Body::File(number) = body {
            let path = self.file(*number);
            if let Err(error) = tokio::fs::remove_file(&path).await {
                eprintln!("cannot remove {}, which is no longer needed: {error}", path.display());
            }
        }
    }

    /// The file of a body.
    pub(super) fn file(&self, number: u64) -> PathBuf {
        self.root.clone().unwrap_or_default().join(format!("{number}.body"))
    }

    /// The bytes of `body` in `range`.
    async fn load(&self, body: &Body, range: Range<u64>) -> Result<Bytes, Refusal> {
        match body {
            Body::Memory(bytes) => Ok(bytes.slice(range.start as usize..range.end as usize)),
            Body::File(number) => {
                let path = self.file(*number);
                let mut bytes = vec![0; (range.end - range.start) as usize];
                let read = async {
                    let mut file = tokio::fs::File::open(&path).await?;
                    file.seek(SeekFrom::Start(range.start)).await?;
                    file.read_exact(&mut bytes).await
                };
                read.await
                    .with_context(|| format!("cannot read the object's file {}", path.display()))
                    .map_err(internal)?;
                Ok(Bytes::from(bytes))
            }
            Body::Discarded => Err(not_here("this server was told to discard the objects' bytes")),
        }
    }

    fn find(&self, bucket: &str, name: &str, query: &Query) -> Result<Arc<Object>, Refusal> {
        let when = query.preconditions()?;
        let generation = query.number("generation")?;
        let found = self.state().store.get(bucket, name, generation, &when);
        found.map_err(|refused| self.refuse(&refused, bucket, name))
    }

    async fn media(&self, object: &Object, headers: &HeaderMap) -> Result<Answer, Refusal> {
        let size = object.content.size;
        let wanted = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
        let range = wanted.map_or(Ok(None), |wanted| byte_range(wanted, size))?;
        let bytes = self.load(&object.content.body, range.clone().unwrap_or(0..size)).await?;
        self.state().stats.bytes_read += bytes.len() as u64;
        let mut answer = Response::new(Full::new(bytes));
        *answer.headers_mut() = media_headers(object);
        if let Some(range) = range {
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            let value = HeaderValue::try_from(text).expect("digits and a few signs fit in a header");
            answer.headers_mut().insert(header::CONTENT_RANGE, value);
        }
        Ok(answer)
    }

    fn refuse(&self, refused: &Refused, bucket: &str, name: &str) -> Refusal {
        if matches!(refused, Refused::Precondition(_)) {
            self.state().stats.precondition_failures += 1;
        }
        Refusal::of_store(refused, bucket, name)
    }

    fn refuse_put(
        &self,
        refused: &Refused,
        bucket: &str,
        name: &str,
        when: &Preconditions,
        size: u64,
        sums: Sums,
    ) -> Refusal {
        if let Refused::Precondition(Some(current)) = refused
            && when.generation == Some(0)
            && (current.content.size, current.content.crc32c) == (size, sums.crc32c)
        {
            self.state().stats.duplicates_refused += 1;
        }
        self.refuse(refused, bucket, name)
    }
}

/// Reads a body at no more than `bytes_per_s`. `None` stands for one that is longer than the limit.
async fn receive(mut body: Incoming, bytes_per_s: Option<u64>) -> Result<Option<Pieces>, hyper::Error> {
    let started = Instant::now();
    let mut pieces = Pieces::default();
    while let Some(frame) = body.frame().await {
        if let Ok(slice) = frame?.into_data() {
            pieces.push(slice);
        }
        if pieces.len() > BODY_LIMIT {
            return Ok(None);
        }
        if let Some(rate) = bytes_per_s {
            // While this sleeps nothing is read, and the sender's window fills up as it would on a slow line.
            sleep_until(started + Duration::from_secs_f64(pieces.len() as f64 / rate as f64)).await;
        }
    }
    Ok(Some(pieces))
}

/// The bytes that a `Range` header wants of an object of `size` bytes; `None` for all of them, which is also the answer
/// to a header that we do not understand.
fn byte_range(header: &str, size: u64) -> Result<Option<Range<u64>>, Refusal> {
    let Some((first, last)) = header.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Ok(None);
    };
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..size.min(last.saturating_add(1)),
        (Ok(first), Err(_)) if last.is_empty() => first..size,
        (Err(_), Ok(count)) if first.is_empty() => size.saturating_sub(count)..size,
        _ => return Ok(None),
    };
    if range.is_empty() {
        return Err(Refusal::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "requestedRangeNotSatisfiable",
            format!("the range `{header}` has nothing of the object's {size} bytes"),
        ));
    }
    Ok(Some(range))
}

fn json_answer(value: &impl Serialize) -> Answer {
    let body = serde_json::to_vec(value).expect("maps with text keys always become JSON");
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    answer
}

/// 501: a client has met the end of what this testbed can do, and must not try again.
fn not_here(message: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_IMPLEMENTED, "notImplemented", message)
}

fn internal(error: anyhow::Error) -> Refusal {
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "testbedError", format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_object() {
        for (header, size, expected) in [
            ("bytes=0-0", 10, Some(0..1)),
            ("bytes=0-99", 10, Some(0..10)),
            ("bytes=4-", 10, Some(4..10)),
            ("bytes=-3", 10, Some(7..10)),
            ("bytes=-30", 10, Some(0..10)),
            ("bytes=5-4", 10, None),
            ("bytes=0-1,4-5", 10, None),
            ("lines=0-1", 10, None),
        ] {
            assert_eq!(byte_range(header, size).unwrap(), expected, "{header}");
        }
        for (header, size) in [("bytes=0-0", 0), ("bytes=10-", 10), ("bytes=10-11", 10), ("bytes=-0", 10)] {
            assert!(byte_range(header, size).is_err(), "{header} of {size}");
        }
    }
}
