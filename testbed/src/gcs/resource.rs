//! Objects and buckets as Cloud Storage shows them: JSON resources and response headers.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::store::{METAGENERATION, Object, Page};

/// What an object's name keeps in a URL path.
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The checksum as it is written everywhere: base64 of the big-endian bytes.
pub(super) fn crc32c_text(crc32c: u32) -> String {
    BASE64_STANDARD.encode(crc32c.to_be_bytes())
}

/// The checksum written in `text`, if it is one.
pub(super) fn crc32c_value(text: &str) -> Option<u32> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// An object's metadata. `endpoint` is where this server listens: `http://127.0.0.1:PORT`.
pub(super) fn object_json(endpoint: &str, bucket: &str, name: &str, object: &Object) -> Value {
    let encoded = utf8_percent_encode(name, NAME);
    let generation = object.generation;
    let created = timestamp(object.created_us);
    let content = &object.content;
    let mut json = json!({
        "kind": "storage#object",
        "id": format!("{bucket}/{name}/{generation}"),
        "selfLink": format!("{endpoint}/storage/v1/b/{bucket}/o/{encoded}"),
        "mediaLink": format!(
            "{endpoint}/download/storage/v1/b/{bucket}/o/{encoded}?generation={generation}&alt=media"
        ),
        "name": name,
        "bucket": bucket,
        "generation": generation.to_string(),
        "metageneration": METAGENERATION.to_string(),
        "contentType": content.content_type,
        "storageClass": "STANDARD",
        "size": content.size.to_string(),
        "crc32c": crc32c_text(content.crc32c),
        "etag": etag(object),
        "timeCreated": created,
        "updated": created,
        "timeStorageClassUpdated": created,
        "timeFinalized": created,
    });
    if let Some(md5) = content.md5 {
        json["md5Hash"] = BASE64_STANDARD.encode(md5).into();
    }
    if let (Some(json), Some(extra)) = (json.as_object_mut(), &content.extra) {
        json.extend(extra.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    json
}

/// A bucket's metadata.
pub(super) fn bucket_json(endpoint: &str, bucket: &str) -> Value {
    json!({
        "kind": "storage#bucket",
        "id": bucket,
        "selfLink": format!("{endpoint}/storage/v1/b/{bucket}"),
        "name": bucket,
        "location": "TESTBED",
        "locationType": "region",
        "storageClass": "STANDARD",
        "metageneration": METAGENERATION.to_string(),
        "etag": "CAE=",
    })
}

/// A page of a bucket's list.
pub(super) fn list_json(endpoint: &str, bucket: &str, page: &Page) -> Value {
    let mut json = Map::new();
    json.insert("kind".into(), "storage#objects".into());
    if let Some(next) = &page.next {
        json.insert("nextPageToken".into(), next.token().into());
    }
    if !page.prefixes.is_empty() {
        json.insert("prefixes".into(), page.prefixes.clone().into());
    }
    if !page.items.is_empty() {
        let items: Vec<_> =
            page.items.iter().map(|(name, object)| object_json(endpoint, bucket, name, object)).collect();
        json.insert("items".into(), items.into());
    }
    json.into()
}

/// The headers that go with an object's bytes. Those of the checksums speak of the whole object, also when only a
/// range of it is sent.
pub(super) fn media_headers(object: &Object) -> HeaderMap {
    let content = &object.content;
    let mut headers = HeaderMap::new();
    let mut put = |name: HeaderName, value: String| {
        // Metadata may hold what no header can carry, and then it is left out.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    let mut hash = format!("crc32c={}", crc32c_text(content.crc32c));
    if let Some(md5) = content.md5 {
        hash.push_str(",md5=");
        hash.push_str(&BASE64_STANDARD.encode(md5));
    }
    let extra = |key: &str| {
        let extra = content.extra.as_deref()?;
        Some(extra.get(key)?.as_str()?.to_owned())
    };
    let encoding = extra("contentEncoding");
    put(HeaderName::from_static("x-goog-hash"), hash);
    put(HeaderName::from_static("x-goog-generation"), object.generation.to_string());
    put(HeaderName::from_static("x-goog-metageneration"), METAGENERATION.to_string());
    put(HeaderName::from_static("x-goog-stored-content-length"), content.size.to_string());
    put(
        HeaderName::from_static("x-goog-stored-content-encoding"),
        encoding.clone().unwrap_or_else(|| "identity".into()),
    );
    put(HeaderName::from_static("x-goog-storage-class"), "STANDARD".into());
    put(header::ETAG, etag(object));
    put(header::CONTENT_TYPE, content.content_type.to_string());
    put(header::ACCEPT_RANGES, "bytes".into());
    for (key, name) in [
        ("cacheControl", header::CACHE_CONTROL),
        ("contentDisposition", header::CONTENT_DISPOSITION),
        ("contentLanguage", header::CONTENT_LANGUAGE),
        ("contentEncoding", header::CONTENT_ENCODING),
    ] {
        if let Some(value) = extra(key) {
            put(name, value);
        }
    }
    let custom = content.extra.as_deref().and_then(|extra| extra.get("metadata")?.as_object());
    for (key, value) in custom.into_iter().flatten() {
        if let (Ok(name), Some(value)) = (HeaderName::try_from(format!("x-goog-meta-{key}")), value.as_str()) {
            put(name, value.to_owned());
        }
    }
    headers
}

fn etag(object: &Object) -> String {
    BASE64_STANDARD.encode(format!("{}/{METAGENERATION}", object.generation))
}

/// RFC 3339 with milliseconds, as Cloud Storage writes it, of microseconds since 1970.
fn timestamp(us: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1000).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second(),
        at.millisecond()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_and_checksums_are_written_as_the_service_does() {
        assert_eq!(timestamp(1_709_210_096_007_123), "2024-02-29T12:34:56.007Z");
        assert_eq!(crc32c_text(1_234_567_890), "SZYC0g==");
        assert_eq!(crc32c_value("SZYC0g=="), Some(1_234_567_890));
        assert_eq!(crc32c_value("SZYC"), None);
        assert_eq!(crc32c_value("not base64"), None);
    }
}
