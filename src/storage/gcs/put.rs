//! Putting by the JSON API, in one request that tells its length.
//!
//! The crate can do that too. But it sends a body that lies in memory as a stream of unknown length, and puts its own
//! layers around each attempt, of which we ask it for one: together that is more processor time than sending 150 KB.
//!
//! <https://cloud.google.com/storage/docs/uploading-objects#json-api-multipart-upload>

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use reqwest::{Body, Client};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::super::{ContentType, ObjectInfo};
use super::answer::{Unanswered, answer};
use super::list;

/// What is read of an answer at most: an object's description has some hundred bytes, and metadata at most 8 KiB.
pub(super) const MAX_ANSWER: usize = 1 << 20;

/// What parts an object's description from its content. Content comes from cameras, so nobody may guess it.
#[derive(Clone, Debug)]
pub(super) struct Boundary {
    text: String,
    content_type: HeaderValue,
    end: Bytes,
}

/// A request's body, and its headers.
pub(super) struct Content {
    content_type: HeaderValue,
    parts: [Bytes; 3],
}

impl Boundary {
    /// One of 128 random bits.
    pub(super) fn new() -> Self {
        let mut random = [0; 16];
        getrandom::fill(&mut random).expect("the system has random bytes");
        let text = format!("{:032x}", u128::from_ne_bytes(random));
        let content_type = HeaderValue::try_from(format!("multipart/related; boundary={text}"));
        let content_type = content_type.expect("a header may hold hexadecimal digits");
        let end = format!("\r\n--{text}--\r\n").into();
        Self { text, content_type, end }
    }

    /// The body by which an object is put. The server refuses content that has another CRC32C.
    pub(super) fn body(&self, content: Bytes, crc32c: u32, content_type: ContentType) -> Content {
        let (boundary, content_type) = (&self.text, content_type.as_str());
        let object = json!({ "contentType": content_type, "crc32c": list::crc32c_text(crc32c) });
        let begin = format!(
            "--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{object}\r\n\
             --{boundary}\r\nContent-Type: {content_type}\r\n\r\n"
        );
        Content { content_type: self.content_type.clone(), parts: [begin.into(), content, self.end.clone()] }
    }
}

/// The request's address, but for the [name](named).
pub(super) fn address(endpoint: &str, bucket: &str) -> Result<Url, String> {
    let mut url = list::objects(endpoint, &["upload"], bucket)?;
    url.set_query(Some("uploadType=multipart&ifGenerationMatch=0&fields=size,crc32c"));
    Ok(url)
}

/// The same for one object. The name could stand in the body; here whoever sees the request alone knows what it was for.
pub(super) fn named(mut url: Url, name: &str) -> Url {
    url.query_pairs_mut().append_pair("name", name);
    url
}

/// Makes one attempt, and returns what the server says that it has stored; `None` where it does not say enough.
pub(super) async fn put(
    client: &Client,
    url: Result<Url, String>,
    headers: HeaderMap,
    body: Content,
) -> Result<Option<ObjectInfo>, Unanswered> {
    let url = url.map_err(|cause| Unanswered::Broken { cause, connect: true })?;
    let Content { content_type, parts } = body;
    let length: usize = parts.iter().map(Bytes::len).sum();
    let request = client.post(url).headers(headers).header(CONTENT_TYPE, content_type).header(CONTENT_LENGTH, length);
    // Not joined: that would be a copy of the picture.
    let body = Body::wrap_stream(stream::iter(parts.map(Ok::<_, Infallible>)));
    Ok(stored(&answer(request.body(body), MAX_ANSWER).await?))
}

/// What an answer says that there is now; `None` where it does not say enough.
pub(super) fn stored(answer: &[u8]) -> Option<ObjectInfo> {
    let Described { size, crc32c } = serde_json::from_slice(answer).ok()?;
    Some(ObjectInfo { bytes: size.parse().ok()?, crc32c: list::crc32c(&crc32c)? })
}

/// An object, as an answer describes it.
#[derive(Deserialize)]
struct Described {
    /// A number in quotes, because JSON's do not hold 64 bits.
    size: String,
    crc32c: String,
}
