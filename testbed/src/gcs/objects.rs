//! Objects in and out: uploads are verified and kept, reads come whole or in ranges.

use std::io::SeekFrom;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};

use super::call::Query;
use super::pieces::Pieces;
use super::refusal::{Answer, Refusal};
use super::resource::{media_headers, object_json};
use super::service::App;
use super::store::{Body, Content, Object, Preconditions, Refused};
use super::upload::{Sums, Upload};

/// What `foreign_name` puts in the place of an object of so many bytes: as many, so that their number does not tell them
/// apart.
pub fn foreign(bytes: usize) -> Bytes {
    b"somebody else's ".iter().copied().cycle().take(bytes).collect()
}

impl App {
    /// Verifies an upload and stores it; returns the object's resource.
    pub(super) async fn store(&self, bucket: &str, upload: Upload, when: &Preconditions) -> Result<Value, Refusal> {
        let md5 = self.state().knobs.md5;
        let sums = upload.verify(md5).inspect_err(|_| {
            self.state().stats.checksum_failures += 1;
        })?;
        let size = upload.media.len() as u64;

        // Asked twice, so that a create that must fail costs no copy and no file; the second answer is the one that
        // counts, as there may be another writer in between.
        let name = upload.name.as_str();
        {
            let mut state = self.state();
            if state.knobs.refuse_name.as_ref().is_some_and(|part| name.contains(part)) {
                state.stats.injected.names_refused += 1;
                return Err(Refusal::invalid("This answer was asked for with the knob `refuse_name`."));
            }
        }
        self.forestall(bucket, name, upload.media.len()).await?;
        let early = self.state().store.may_put(bucket, name, when);
        early.map_err(|refused| self.refuse_put(&refused, bucket, name, when, size, sums))?;
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
            let stored = state.store.put(bucket, name, content, when);
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
                Ok(object_json(&self.endpoint, bucket, name, &object))
            }
            Err(refused) => {
                self.forget(&body).await;
                Err(self.refuse_put(&refused, bucket, name, when, size, sums))
            }
        }
    }

    /// Puts somebody else's bytes where an upload wants to go, if it is to find them there, and fails it then.
    async fn forestall(&self, bucket: &str, name: &str, bytes: usize) -> Result<(), Refusal> {
        {
            let state = self.state();
            let wanted = state.knobs.foreign_name.as_ref().is_some_and(|start| name.starts_with(start));
            if !wanted || state.store.find(bucket, name).is_some() {
                return Ok(());
            }
        }
        let mut media = Pieces::default();
        media.push(foreign(bytes));
        let content = Content {
            size: bytes as u64,
            crc32c: media.crc32c(),
            md5: None,
            content_type: "text/plain".into(),
            extra: None,
            body: self.keep(&media).await?,
        };
        let mut state = self.state();
        state
            .store
            .put(bucket, name, content, &Preconditions::default())
            .map_err(|refused| Refusal::of_store(&refused, bucket, name))?;
        state.stats.injected.foreign += 1;
        Err(state.injected(503))
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
    pub(super) async fn forget(&self, body: &Body) {
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

    pub(super) fn find(&self, bucket: &str, name: &str, query: &Query) -> Result<Arc<Object>, Refusal> {
        let when = query.preconditions()?;
        let generation = query.number("generation")?;
        let found = self.state().store.get(bucket, name, generation, &when);
        found.map_err(|refused| self.refuse(&refused, bucket, name))
    }

    pub(super) async fn media(&self, object: &Object, headers: &HeaderMap) -> Result<Answer, Refusal> {
        let size = object.content.size;
        let wanted = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
        let range = wanted.map_or(Ok(None), |wanted| byte_range(wanted, size))?;
        let bytes = self.load(&object.content.body, range.clone().unwrap_or(0..size)).await?;
        self.state().stats.bytes_read += bytes.len() as u64;
        let mut answer = Response::new(bytes);
        *answer.headers_mut() = media_headers(object);
        if let Some(range) = range {
            *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
            let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            let value = HeaderValue::try_from(text).expect("digits and a few signs fit in a header");
            answer.headers_mut().insert(header::CONTENT_RANGE, value);
        }
        Ok(answer)
    }

    pub(super) fn refuse(&self, refused: &Refused, bucket: &str, name: &str) -> Refusal {
        if matches!(refused, Refused::Precondition(_)) {
            self.state().stats.precondition_failures += 1;
        }
        Refusal::of_store(refused, bucket, name)
    }

    pub(super) fn refuse_put(
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
