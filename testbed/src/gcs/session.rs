//! Resumable uploads: a session takes an object in pieces and knows how much it has.

use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::pieces::Pieces;
use super::refusal::{Answer, Refusal};
use super::service::{App, json_answer};
use super::store::Preconditions;
use super::upload::Upload;

/// All pieces but the last are a multiple of this long.
const QUANTUM: u64 = 256 * 1024;

/// A resumable upload.
#[derive(Debug)]
pub(super) enum Session {
    /// It takes pieces.
    Open(Box<Open>),
    /// All of it has arrived and is being stored.
    Storing,
    /// It is stored: the object's resource, for whoever lost the answer.
    Stored(Value),
}

/// A resumable upload that takes pieces.
#[derive(Debug)]
pub(super) struct Open {
    bucket: String,
    when: Preconditions,
    /// Its media is what has arrived.
    upload: Upload,
    /// The object's length, once somebody has told it.
    total: Option<u64>,
}

impl App {
    /// Opens a session and tells where its pieces go.
    pub(super) fn start_session(
        &self,
        bucket: &str,
        upload: Upload,
        when: Preconditions,
        headers: &HeaderMap,
    ) -> Result<Answer, Refusal> {
        let length = headers.get("x-upload-content-length").and_then(|value| value.to_str().ok());
        let total = length
            .map(|text| {
                text.parse().map_err(|_| Refusal::invalid(format!("X-Upload-Content-Length `{text}` is no length")))
            })
            .transpose()?;
        let mut state = self.state();
        let early = state.store.may_put(bucket, &upload.name, &when);
        if let Err(refused) = early {
            drop(state);
            return Err(self.refuse(&refused, bucket, &upload.name));
        }
        let id = format!("{:032x}", fastrand::u128(..));
        let place = utf8_percent_encode(bucket, NON_ALPHANUMERIC);
        let url = format!("{}/upload/storage/v1/b/{place}/o?uploadType=resumable&upload_id={id}", self.endpoint);
        let open = Open { bucket: bucket.to_owned(), when, upload, total };
        state.sessions.insert(id, Session::Open(Box::new(open)));
        let mut answer = Response::new(Bytes::new());
        let url = HeaderValue::try_from(url).expect("an encoded URL fits in a header");
        answer.headers_mut().insert(header::LOCATION, url);
        Ok(answer)
    }

    /// Takes a piece, or a question about what has arrived, and stores the object when it is whole.
    pub(super) async fn piece(
        &self,
        id: &str,
        headers: &HeaderMap,
        mut body: Pieces,
        half: bool,
    ) -> Result<Answer, Refusal> {
        let mut range = Range::of(headers, body.len() as u64)?;
        let less = if half { range.halve() } else { None };
        if let Some(less) = less {
            body = body.slice(0..less as usize);
            self.state().stats.injected.parts += 1;
        }
        let mut open = {
            let mut state = self.state();
            let session = state.sessions.get_mut(id).ok_or_else(gone)?;
            match session {
                Session::Stored(object) => return Ok(json_answer(object)),
                Session::Storing => return Err(Refusal::injected(503, None)),
                Session::Open(open) => {
                    let is_whole = open.take(&range, &body)?;
                    if self.discard {
                        open.upload.media.let_go();
                    }
                    if !is_whole {
                        return Ok(open.incomplete());
                    }
                }
            }
            match std::mem::replace(session, Session::Storing) {
                Session::Open(open) => open,
                other => unreachable!("it was open a moment ago: {other:?}"),
            }
        };
        let stored = match open.upload.add_claims(headers) {
            Ok(()) => self.store(&open.bucket, open.upload, &open.when).await,
            Err(refusal) => Err(refusal),
        };
        let mut state = self.state();
        match stored {
            Ok(object) => {
                let answer = json_answer(&object);
                state.sessions.insert(id.to_owned(), Session::Stored(object));
                Ok(answer)
            }
            Err(refusal) => {
                state.sessions.remove(id);
                Err(refusal)
            }
        }
    }

    /// Forgets a session. Cloud Storage answers so when that went well.
    pub(super) fn cancel_session(&self, id: &str) -> Result<Answer, Refusal> {
        self.state().sessions.remove(id).ok_or_else(gone)?;
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = StatusCode::from_u16(499).expect("499 is a status");
        Ok(answer)
    }
}

/// 410: the client has to start again.
fn gone() -> Refusal {
    Refusal::new(StatusCode::GONE, "uploadGone", "There is no such upload, or not any more.")
}

impl Open {
    /// Takes what is new of a piece; true when the object is whole.
    fn take(&mut self, range: &Range, body: &Pieces) -> Result<bool, Refusal> {
        let arrived = self.upload.media.len() as u64;
        let total = match (self.total, range.total) {
            (Some(known), Some(told)) if known != told => {
                return Err(Refusal::invalid(format!("the object has {told} bytes now, it had {known} before")));
            }
            (known, told) => told.or(known),
        };
        if let Some((first, end)) = range.bytes {
            if first > arrived {
                return Err(Refusal::invalid(format!("the piece begins at {first}, only {arrived} bytes are here")));
            }
            if total.is_some_and(|total| end > total) {
                return Err(Refusal::invalid(format!("the piece ends at {end}, behind the object's end")));
            }
            if total != Some(end) && !(end - first).is_multiple_of(QUANTUM) {
                let len = end - first;
                return Err(Refusal::invalid(format!(
                    "a piece of {len} bytes: only the last may be no multiple of {QUANTUM}"
                )));
            }
            // What is here already is not taken again.
            let new = (arrived - first).min(end - first);
            self.upload.media.append(body.slice(new as usize..body.len()));
        }
        self.total = total;
        Ok(total == Some(self.upload.media.len() as u64))
    }

    /// 308: what has arrived, and that more is wanted.
    fn incomplete(&self) -> Answer {
        let mut answer = Response::new(Bytes::new());
        *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
        let arrived = self.upload.media.len();
        if arrived > 0 {
            let range = HeaderValue::try_from(format!("bytes=0-{}", arrived - 1)).expect("digits fit in a header");
            answer.headers_mut().insert(header::RANGE, range);
        }
        answer
    }
}

/// What a `Content-Range` says.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    /// First byte and the one behind the last; none when it is a question.
    bytes: Option<(u64, u64)>,
    /// The object's length, if it is known.
    total: Option<u64>,
}

impl Range {
    /// Of a request with a body of `len` bytes; without the header that is the whole object.
    fn of(headers: &HeaderMap, len: u64) -> Result<Range, Refusal> {
        let Some(value) = headers.get(header::CONTENT_RANGE) else {
            return Ok(Range { bytes: Some((0, len)), total: Some(len) });
        };
        let text = value.to_str().unwrap_or_default();
        let range =
            Range::parse(text).ok_or_else(|| Refusal::invalid(format!("Content-Range `{text}` cannot be read")))?;
        let wanted = range.bytes.map_or(0, |(first, end)| end - first);
        if wanted != len {
            return Err(Refusal::invalid(format!("`{text}` speaks of {wanted} bytes, the body has {len}")));
        }
        Ok(range)
    }

    /// Makes half of a piece of it, whole quanta of which there must be two, and says how long that is.
    fn halve(&mut self) -> Option<u64> {
        let (first, end) = self.bytes?;
        let less = (end - first) / 2 / QUANTUM * QUANTUM;
        self.bytes = Some((first, first + less)).filter(|_| less > 0).or(self.bytes);
        (less > 0).then_some(less)
    }

    fn parse(text: &str) -> Option<Range> {
        let (bytes, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let total = if total == "*" { None } else { Some(total.parse().ok()?) };
        if bytes == "*" {
            return Some(Range { bytes: None, total });
        }
        let (first, last) = bytes.split_once('-')?;
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        (first <= last).then_some(Range { bytes: Some((first, last.checked_add(1)?)), total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_piece_is_whole_quanta() {
        for (bytes, half) in [
            (Some((0, 4 * QUANTUM)), Some(2 * QUANTUM)),
            (Some((QUANTUM, 4 * QUANTUM)), Some(QUANTUM)),
            (Some((5, 5 + 2 * QUANTUM)), Some(QUANTUM)),
            (Some((0, 2 * QUANTUM - 1)), None),
            (None, None),
        ] {
            let mut range = Range { bytes, total: Some(9 * QUANTUM) };
            assert_eq!(range.halve(), half, "{bytes:?}");
            let expected = half.map_or(bytes, |half| bytes.map(|(first, _)| (first, first + half)));
            assert_eq!(range.bytes, expected);
        }
    }

    #[test]
    fn content_ranges_are_read() {
        for (text, bytes, total) in [
            ("bytes 0-0/1", Some((0, 1)), Some(1)),
            ("bytes 5-9/*", Some((5, 10)), None),
            ("bytes */10", None, Some(10)),
            ("bytes */*", None, None),
        ] {
            assert_eq!(Range::parse(text), Some(Range { bytes, total }), "{text}");
        }
        for text in ["bytes 5-4/10", "bytes 0-0", "0-0/1", "bytes a-b/1", "bytes 0-18446744073709551615/*", ""] {
            assert_eq!(Range::parse(text), None, "{text}");
        }
    }
}
