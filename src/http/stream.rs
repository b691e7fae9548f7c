//! The ordered lists as Server-Sent Events: `/api/v1/cameras/{id}/frames/stream` and `/api/v1/frames/stream`.
//!
//! A consumer is a cursor and nothing more: when the list has moved on and the socket takes it, the next small page is
//! read from the journal and written. So a consumer that never reads holds one page, whatever happens in the lists.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::StreamExt as _;
use futures_util::stream::unfold;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, warn};

use super::Api;
use super::cameras::read_id;
use super::dto::{CommitDto, EntryDto};
use super::frames::explain;
use super::problem::Problem;
use crate::actors::ControlError;
use crate::journal::{Entry, JournalError, ReadError, Reader};
use crate::metrics::Counted;
use crate::model::{CameraId, CommitNo, Cursor};

/// Streams at a time. Each costs a connection of the 1,024 and a page of memory.
const MOST: usize = 256;
/// Streams that read from the journal at a time; its pool keeps one connection more, for pages.
const READERS: usize = 3;
/// Entries that are read and written at a time, some 400 bytes each. Beside the kernel's, this is all that waits for a
/// consumer.
const PAGE: usize = 32;
/// Silence after which a comment is sent: shorter than the patience of any proxy, and it finds consumers that are gone.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Milliseconds after which a consumer that was cut off is asked to come back.
const RETRY: u32 = 2_000;

/// The streams of one daemon. Cloning is cheap; all clones are one.
#[derive(Clone, Debug)]
pub struct Streams {
    places: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    ending: watch::Sender<bool>,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MOST)),
            readers: Arc::new(Semaphore::new(READERS)),
            waits: Arc::new(Semaphore::new(MOST)),
            ending: watch::Sender::new(false),
        }
    }
}

impl Streams {
    /// Ends all streams, now and from now on; consumers come back to the next daemon with their cursors.
    pub fn end(&self) {
        self.ending.send_replace(true);
    }

    /// Waits for the end of all streams.
    pub async fn ended(&self) {
        // The sender is a part of this.
        let _ = self.ending.subscribe().wait_for(|ending| *ending).await;
    }

    /// Takes one of the places of those that wait for an answer, for as long as what is returned is kept.
    ///
    /// # Errors
    ///
    /// When all are taken.
    pub fn begin_wait(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let full =
            || Problem::unavailable(format!("{MOST} requests wait for something, which is the limit: ask later"));
        self.waits.clone().try_acquire_owned().map_err(|_| full())
    }

    fn enter(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let full =
            || Problem::unavailable(format!("{MOST} streams are open, which is the limit: close some, or try later"));
        self.places.clone().try_acquire_owned().map_err(|_| full())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamQuery {
    after: Option<String>,
}

/// Where a consumer wants to begin.
enum Begin<C> {
    After(C),
    Latest,
}

/// Reads it from `Last-Event-ID`, which a browser sends when it comes back, or from `after`; without either it is the
/// beginning.
fn read_begin<C: FromStr + Default>(request: &HttpRequest) -> Result<Begin<C>, Problem> {
    const WAY_OUT: &str = "send an event's `id` as it came, in `Last-Event-ID` or `after`, or after=0 for the beginning, after=latest for now";
    let query = web::Query::<StreamQuery>::from_query(request.query_string())
        .map_err(|error| Problem::bad_request(format!("the query cannot be read: {error}: {WAY_OUT}")))?;
    let refused = |name: &str, text: &[u8]| {
        let shown: String = text.iter().take(80).flat_map(|b| b.escape_ascii()).map(char::from).collect();
        Problem::bad_request(format!("`{name}` is `{shown}`: {WAY_OUT}"))
    };
    let mut headers = request.headers().get_all("last-event-id");
    if let Some(header) = headers.next() {
        if headers.next().is_some() {
            return Err(Problem::bad_request(format!("`Last-Event-ID` is there twice: {WAY_OUT}")));
        }
        let cursor = header.to_str().ok().and_then(|text| text.parse().ok());
        return cursor.map(Begin::After).ok_or_else(|| refused("Last-Event-ID", header.as_bytes()));
    }
    match query.after.as_deref() {
        None => Ok(Begin::After(C::default())),
        Some("latest") => Ok(Begin::Latest),
        Some(text) => text.parse().map(Begin::After).map_err(|_| refused("after", text.as_bytes())),
    }
}

/// A cursor that this daemon cannot have given out. Waiting until the list has come so far would skip what comes
/// before.
fn too_far(cursor: impl std::fmt::Display, end: u64) -> Problem {
    Problem::bad_request(format!(
        "`{cursor}` is past the end of the list, which is {end}: it is from another state directory; use after=0 for the \
         beginning, after=latest for now"
    ))
}

/// `GET /cameras/{id}/frames/stream`: frames, tombstones and sessions in the camera's order. It goes on when the camera
/// is deleted: the list stays, and grows again when the id is added again.
pub async fn camera(api: web::Data<Api>, id: web::Path<String>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let camera = read_id(&id)?;
    let ledger = api.ledgers.find(&camera).ok_or_else(|| ControlError::NoSuchCamera(camera.clone()))?;
    let moves = ledger.watermark_moves();
    let end = *moves.borrow();
    let cursor = match read_begin(&request)? {
        Begin::After(cursor) => cursor,
        Begin::Latest => Cursor::after(end),
    };
    if cursor.seq > end {
        return Err(too_far(cursor, end));
    }
    answer(&api, Place::List { camera, cursor }, moves).await
}

/// `GET /frames/stream`: frames and tombstones of all cameras in the order of their commits. Those of one camera may be
/// out of its order by as much as its uploads overlap.
pub async fn all(api: web::Data<Api>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let moves = api.journal.committed();
    let end = *moves.borrow();
    let number = match read_begin(&request)? {
        Begin::After(number) => number,
        Begin::Latest => end,
    };
    if number > end {
        return Err(too_far(number, end));
    }
    answer(&api, Place::Commits(number), moves).await
}

async fn answer(api: &Api, place: Place, moves: watch::Receiver<u64>) -> Result<HttpResponse, Problem> {
    let permit = api.streams.enter()?;
    // Named before the first event, so that a consumer cut before it knows where it began: a blank event sets the id
    // alone.
    let hello = format!("retry: {RETRY}\nid: {place}\n\n");
    let mut consumer = Consumer {
        place,
        moves,
        behind: true,
        ending: api.streams.ending.subscribe(),
        readers: api.streams.readers.clone(),
        reader: api.reader.clone(),
        base_url: api.base_url.clone(),
        _permit: permit,
        _counted: api.metrics.streaming(),
    };
    // Now it can still be answered with a status that the place is gone.
    if let Err(error) = consumer.read(0).await {
        return Err(match &consumer.place {
            Place::List { camera, cursor } => explain(api, camera, cursor.seq, error).await,
            Place::Commits(_) => error.into(),
        });
    }
    let first = futures_util::stream::once(async { Bytes::from(hello) });
    let rest = unfold(consumer, |mut consumer| async move { Some((consumer.next().await?, consumer)) });
    Ok(HttpResponse::Ok()
        .content_type("text/event-stream")
        // nginx would collect events until its buffer is full.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(first.chain(rest).map(Ok::<_, Infallible>)))
}

/// How far a consumer has come, in one of the two orders.
#[derive(Clone, Debug)]
enum Place {
    List { camera: CameraId, cursor: Cursor },
    Commits(CommitNo),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::List { cursor, .. } => cursor.fmt(f),
            Self::Commits(number) => number.fmt(f),
        }
    }
}

struct Consumer {
    place: Place,
    /// The end of what it follows: a watermark, or the newest commit number.
    moves: watch::Receiver<u64>,
    /// Whether there may be more to read before `moves` moves.
    behind: bool,
    ending: watch::Receiver<bool>,
    readers: Arc<Semaphore>,
    reader: Reader,
    base_url: Arc<str>,
    _permit: OwnedSemaphorePermit,
    _counted: Counted,
}

impl Consumer {
    /// What is to be written next, once there is something. `None` is the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if *self.ending.borrow() {
                return None;
            }
            if self.behind {
                match self.read(PAGE).await {
                    Ok(events) if events.is_empty() => {}
                    Ok(events) => return Some(events),
                    // It comes back with its cursor and is told by the answer's status.
                    Err(ReadError::Gone { .. }) => {
                        debug!(place = %self.place, "a consumer was too slow: what it has not read is gone");
                        return None;
                    }
                    Err(error) => {
                        warn!(%error, "a stream ends: the list cannot be read");
                        return None;
                    }
                }
                continue;
            }
            tokio::select! {
                moved = self.moves.changed() => {
                    // The other end goes at the end of the process only.
                    moved.ok()?;
                    self.behind = true;
                }
                _ = self.ending.wait_for(|ending| *ending) => {}
                () = tokio::time::sleep(HEARTBEAT) => return Some(Bytes::from_static(b":\n\n")),
            }
        }
    }

    /// Reads at most `limit` entries from where it is, off the event loop, and moves on behind them.
    async fn read(&mut self, limit: usize) -> Result<Bytes, ReadError> {
        let permit = self.readers.clone().acquire_owned().await.expect("the semaphore is never closed");
        let end = *self.moves.borrow_and_update();
        let (place, reader, base_url) = (self.place.clone(), self.reader.clone(), self.base_url.clone());
        let read = web::block(move || {
            // It goes with the work, also where the consumer has gone meanwhile.
            let _permit = permit;
            read_events(&reader, &base_url, place, limit, end)
        });
        // Blocking work is refused at the very end of the process.
        let events = read.await.map_err(|_| JournalError::Closed)??;
        self.place = events.place;
        self.behind = events.more;
        Ok(Bytes::from(events.text))
    }
}

/// Entries as events.
struct Events {
    text: String,
    /// Behind the last of them.
    place: Place,
    more: bool,
}

fn read_events(reader: &Reader, base_url: &str, place: Place, limit: usize, end: u64) -> Result<Events, ReadError> {
    let mut text = String::new();
    match place {
        Place::List { camera, mut cursor } => {
            let page = reader.page(&camera, cursor, limit, end)?;
            for entry in page.entries {
                match &entry {
                    Entry::Session { session, .. } => cursor.session = *session,
                    Entry::Frames { seqs, .. } => cursor = Cursor::after(seqs.last),
                }
                let entry = EntryDto::new(entry, base_url);
                write_event(&mut text, entry.kind(), cursor, &entry);
            }
            Ok(Events { text, place: Place::List { camera, cursor }, more: page.more })
        }
        Place::Commits(mut number) => {
            let commits = reader.commits(number, limit)?;
            for (commit, camera, entry) in commits.entries {
                number = commit;
                let entry = EntryDto::new(entry, base_url);
                write_event(&mut text, entry.kind(), number, &CommitDto { camera, entry });
            }
            Ok(Events { text, place: Place::Commits(number), more: commits.more })
        }
    }
}

/// One event. JSON has no line break outside of what it escapes, so it is one `data` line.
fn write_event(text: &mut String, kind: &str, id: impl std::fmt::Display, data: &impl Serialize) {
    let data = serde_json::to_string(data).expect("an entry is plain data");
    write!(text, "event: {kind}\nid: {id}\ndata: {data}\n\n").expect("a String takes everything");
}
