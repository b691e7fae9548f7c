//! Listing by the JSON API. The crate lists by gRPC alone, which emulators do not speak and which wants a connection of
//! its own.
//!
//! <https://cloud.google.com/storage/docs/json_api/v1/objects/list>

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderMap;
use serde::Deserialize;
use serde::de::IgnoredAny;
use url::Url;

use super::super::{After, Listed, PAGE, Page};
use super::answer::{Unanswered, answer};

/// What is read of an answer at most: a page of the longest names takes 2 MB.
const MAX_ANSWER: usize = 16 << 20;

/// The request's address. `own` is what stands before every key.
pub(super) fn address(
    endpoint: &str,
    bucket: &str,
    own: &str,
    prefix: &str,
    after: Option<&After>,
) -> Result<Url, String> {
    let mut url = objects(endpoint, &[], bucket)?;
    let mut query = url.query_pairs_mut();
    query.append_pair("prefix", &format!("{own}{prefix}")).append_pair("maxResults", &PAGE.to_string());
    query.append_pair("fields", "items(name,size,crc32c),nextPageToken");
    match After::behind(after) {
        "" => {}
        behind => _ = query.append_pair("startOffset", &format!("{own}{behind}")),
    }
    if let Some(token) = After::token(after) {
        query.append_pair("pageToken", token);
    }
    drop(query);
    Ok(url)
}

/// The address of all objects, and of what is to be one: there `before` stands before it.
pub(super) fn objects(endpoint: &str, before: &[&str], bucket: &str) -> Result<Url, String> {
    let unusable = || format!("`{endpoint}` is no endpoint");
    let mut url = Url::parse(endpoint).map_err(|_| unusable())?;
    let mut path = url.path_segments_mut().map_err(|()| unusable())?;
    path.pop_if_empty().extend(before).extend(["storage", "v1", "b", bucket, "o"]);
    drop(path);
    Ok(url)
}

/// One page. The names are looked at again: `startOffset` includes its own, and emulators may not know it.
pub(super) async fn page(
    client: &reqwest::Client,
    url: Result<Url, String>,
    headers: HeaderMap,
    own: &str,
    after: Option<&After>,
) -> Result<Page, Unanswered> {
    let url = url.map_err(|cause| Unanswered::Broken { cause, connect: true })?;
    let text = answer(client.get(url).headers(headers), MAX_ANSWER).await?;
    let written: Written = serde_json::from_slice(&text)
        .map_err(|error| Unanswered::Broken { cause: format!("the list cannot be read: {error}"), connect: false })?;
    // Everything else in it may be left out.
    if written.error.is_some() {
        return Err(Unanswered::Broken { cause: "it is no list, but tells of an error".to_owned(), connect: false });
    }
    let objects = written.items.into_iter().filter_map(|item| {
        let key = item.name.strip_prefix(own).filter(|key| *key > After::behind(after))?.to_owned();
        Some(item.size.parse().map(|bytes| Listed { key, bytes, crc32c: item.crc32c.as_deref().and_then(crc32c) }))
    });
    let objects = objects
        .collect::<Result<_, _>>()
        .map_err(|_| Unanswered::Broken { cause: "the list tells a size that is none".to_owned(), connect: false })?;
    let token = written.next_page_token.filter(|token| !token.is_empty());
    let next = token.map(|token| After::Page { token, behind: After::behind(after).to_owned() });
    Ok(Page { objects, next })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    items: Vec<Item>,
    next_page_token: Option<String>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Item {
    name: String,
    /// A number in quotes, because JSON's do not hold 64 bits.
    size: String,
    crc32c: Option<String>,
}

/// A checksum as the API writes it: big-endian, in base64.
pub(super) fn crc32c(text: &str) -> Option<u32> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// The same, the other way round.
pub(super) fn crc32c_text(crc32c: u32) -> String {
    BASE64_STANDARD.encode(crc32c.to_be_bytes())
}
