//! An upload: what it says about itself, and whether its bytes bear that out.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{self, HeaderMap};
use serde_json::{Map, Value};

use super::call::Query;
use super::multipart;
use super::pieces::Pieces;
use super::refusal::Refusal;
use super::resource::{crc32c_text, crc32c_value};

/// The longest object name, in bytes.
const NAME_LIMIT: usize = 1024;

/// Metadata that is kept as it came and handed back with the object.
const EXTRA: [&str; 6] =
    ["cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "customTime", "metadata"];

/// An upload whose form is right.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) name: String,
    pub(super) content_type: Box<str>,
    pub(super) extra: Option<Box<Map<String, Value>>>,
    pub(super) media: Pieces,
    claims: Claims,
}

/// The checksums that came along. There may be several, and then all must hold.
#[derive(Debug, Default)]
struct Claims {
    crc32c: Vec<u32>,
    md5: Vec<[u8; 16]>,
}

/// The checksums of the bytes that arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sums {
    pub(super) crc32c: u32,
    pub(super) md5: Option<[u8; 16]>,
}

impl Upload {
    /// Reads an `uploadType=multipart` request.
    pub(super) fn multipart(query: &Query, headers: &HeaderMap, body: &Pieces) -> Result<Upload, Refusal> {
        let kind = text(headers, header::CONTENT_TYPE).unwrap_or_default();
        let parts = multipart::boundary(kind)
            .and_then(|boundary| multipart::parse(body, boundary))
            .map_err(|wrong| Refusal::invalid(format!("Malformed multipart body: {wrong}")))?;
        let metadata = json(&parts.metadata)?;
        let mut claims = Claims::default();
        claims.add_headers(headers)?;
        claims.add_json(&metadata)?;
        if let Some(trailer) = &parts.trailer {
            claims.add_json(&json(trailer)?)?;
        }
        Upload::described(query, metadata, parts.media_type, parts.media, claims)
    }

    /// Reads the start of an `uploadType=resumable` upload, whose bytes are still to come: the body is its metadata.
    pub(super) fn resumable(query: &Query, headers: &HeaderMap, body: &Pieces) -> Result<Upload, Refusal> {
        let metadata = json(&body.to_bytes())?;
        let mut claims = Claims::default();
        claims.add_headers(headers)?;
        claims.add_json(&metadata)?;
        let media_type = headers.get("x-upload-content-type").and_then(|value| value.to_str().ok());
        Upload::described(query, metadata, media_type.map(str::to_owned), Pieces::default(), claims)
    }

    /// Takes note of the checksums that come with the last bytes.
    pub(super) fn add_claims(&mut self, headers: &HeaderMap) -> Result<(), Refusal> {
        self.claims.add_headers(headers)
    }

    /// An upload of which `metadata` tells the name, unless the query does, and more.
    fn described(
        query: &Query,
        mut metadata: Map<String, Value>,
        media_type: Option<String>,
        media: Pieces,
        claims: Claims,
    ) -> Result<Upload, Refusal> {
        let string = |key: &str| Some(metadata.get(key)?.as_str()?.to_owned());
        let name = query.get("name").map(str::to_owned).or_else(|| string("name"));
        let content_type = string("contentType").or(media_type);
        metadata.retain(|key, _| EXTRA.contains(&key.as_str()));
        Ok(Upload {
            name: checked_name(name)?,
            content_type: content_type.as_deref().unwrap_or("application/octet-stream").into(),
            extra: (!metadata.is_empty()).then(|| Box::new(metadata)),
            media,
            claims,
        })
    }

    /// Reads an `uploadType=media` request: the body is the object.
    pub(super) fn media(query: &Query, headers: &HeaderMap, body: Pieces) -> Result<Upload, Refusal> {
        let mut claims = Claims::default();
        claims.add_headers(headers)?;
        Ok(Upload {
            name: checked_name(query.get("name").map(str::to_owned))?,
            content_type: text(headers, header::CONTENT_TYPE).unwrap_or("application/octet-stream").into(),
            extra: None,
            media: body,
            claims,
        })
    }

    /// Computes the checksums and refuses the upload if one that came with it does not fit. The MD5 costs many times
    /// what the CRC32C does, so it is computed only if `md5` or if there is one to check.
    pub(super) fn verify(&self, md5: bool) -> Result<Sums, Refusal> {
        let crc32c = self.media.crc32c();
        if let Some(claim) = self.claims.crc32c.iter().find(|claim| **claim != crc32c) {
            return Err(Refusal::invalid(format!(
                "Provided CRC32C \"{}\" doesn't match calculated CRC32C \"{}\".",
                crc32c_text(*claim),
                crc32c_text(crc32c)
            )));
        }
        let md5 = match md5 || !self.claims.md5.is_empty() {
            true => Some(self.media.md5().ok_or_else(|| {
                Refusal::invalid(
                    "this testbed discards large objects as they come, and can tell no MD5 of them".to_owned(),
                )
            })?),
            false => None,
        };
        if let Some(claim) = self.claims.md5.iter().find(|claim| Some(**claim) != md5) {
            return Err(Refusal::invalid(format!(
                "Provided MD5 hash \"{}\" doesn't match calculated MD5 hash \"{}\".",
                BASE64_STANDARD.encode(claim),
                BASE64_STANDARD.encode(md5.unwrap_or_default())
            )));
        }
        Ok(Sums { crc32c, md5 })
    }
}

impl Claims {
    fn add_json(&mut self, json: &Map<String, Value>) -> Result<(), Refusal> {
        for (key, kind) in [("crc32c", "crc32c"), ("md5Hash", "md5")] {
            if let Some(value) = json.get(key) {
                self.add(kind, value.as_str().unwrap_or_default())?;
            }
        }
        Ok(())
    }

    /// `x-goog-hash: crc32c=..,md5=..`, which may also be two headers.
    fn add_headers(&mut self, headers: &HeaderMap) -> Result<(), Refusal> {
        for value in headers.get_all("x-goog-hash") {
            for hash in value.to_str().unwrap_or_default().split(',') {
                let (kind, value) = hash.trim().split_once('=').unwrap_or_default();
                self.add(kind, value)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, kind: &str, value: &str) -> Result<(), Refusal> {
        let added = match kind {
            "crc32c" => crc32c_value(value).map(|crc32c| self.crc32c.push(crc32c)),
            "md5" => {
                BASE64_STANDARD.decode(value).ok().and_then(|bytes| bytes.try_into().ok()).map(|md5| self.md5.push(md5))
            }
            _ => None,
        };
        added.ok_or_else(|| Refusal::invalid(format!("`{kind}={value}` is no checksum in base64")))
    }
}

fn json(text: &[u8]) -> Result<Map<String, Value>, Refusal> {
    if text.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_slice(text).map_err(|error| Refusal::invalid(format!("Metadata part is no JSON object: {error}")))
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn checked_name(name: Option<String>) -> Result<String, Refusal> {
    let name = name
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Refusal::new(hyper::StatusCode::BAD_REQUEST, "required", "Required parameter: name"))?;
    if name.len() > NAME_LIMIT {
        return Err(Refusal::invalid(format!(
            "The maximum object length is {NAME_LIMIT} bytes, but got a name with {} bytes: '{}'...",
            name.len(),
            name.chars().take(100).collect::<String>()
        )));
    }
    if name == "." || name == ".." || name.contains(['\r', '\n']) {
        return Err(Refusal::invalid(format!("Invalid object name: {name:?}")));
    }
    Ok(name)
}
