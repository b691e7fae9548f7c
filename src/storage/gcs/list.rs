//! Listing by the JSON API. The crate lists by gRPC alone, which emulators do not speak and which wants a connection of
//! its own.
//!
//! <https://cloud.google.com/storage/docs/json_api/v1/objects/list>

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;
use url::Url;

use super::super::{After, Listed, PAGE, Page};

/// What is read of an answer at most: a page of the longest names takes 2 MB.
const MAX_ANSWER: usize = 16 << 20;

/// Why there is no page.
pub(super) enum Unlisted {
    /// The server said so.
    Refused(StatusCode, HeaderMap),
    /// No answer, or no whole one.
    Broken { cause: String, connect: bool },
}

/// The request's address. `own` is what stands before every key.
pub(super) fn address(
    endpoint: &str,
    bucket: &str,
    own: &str,
    prefix: &str,
    after: Option<&After>,
) -> Result<Url, String> {
    let unusable = || format!("`{endpoint}` is no endpoint");
    let mut url = Url::parse(endpoint).map_err(|_| unusable())?;
    url.path_segments_mut().map_err(|()| unusable())?.pop_if_empty().extend(["storage", "v1", "b", bucket, "o"]);
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

/// One page. The names are looked at again: `startOffset` includes its own, and emulators may not know it.
pub(super) async fn page(
    client: &reqwest::Client,
    url: Result<Url, String>,
    headers: HeaderMap,
    own: &str,
    after: Option<&After>,
) -> Result<Page, Unlisted> {
    let url = url.map_err(|cause| Unlisted::Broken { cause, connect: true })?;
    let mut answer = client.get(url).headers(headers).send().await.map_err(broken)?;
    if !answer.status().is_success() {
        return Err(Unlisted::Refused(answer.status(), answer.headers().clone()));
    }
    let mut text = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(broken)? {
        text.extend_from_slice(&chunk);
        if text.len() > MAX_ANSWER {
            return Err(Unlisted::Broken { cause: "the list is too long".to_owned(), connect: false });
        }
    }
    let written: Written = serde_json::from_slice(&text)
        .map_err(|error| Unlisted::Broken { cause: format!("the list cannot be read: {error}"), connect: false })?;
    // Everything else in it may be left out.
    if written.error.is_some() {
        return Err(Unlisted::Broken { cause: "it is no list, but tells of an error".to_owned(), connect: false });
    }
    let objects = written.items.into_iter().filter_map(|item| {
        let key = item.name.strip_prefix(own).filter(|key| *key > After::behind(after))?.to_owned();
        Some(item.size.parse().map(|bytes| Listed { key, bytes, crc32c: item.crc32c.as_deref().and_then(crc32c) }))
    });
    let objects = objects
        .collect::<Result<_, _>>()
        .map_err(|_| Unlisted::Broken { cause: "the list tells a size that is none".to_owned(), connect: false })?;
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

/// Big-endian, in base64.
fn crc32c(text: &str) -> Option<u32> {
    let bytes = BASE64_STANDARD.decode(text).ok()?;
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

fn broken(error: reqwest::Error) -> Unlisted {
    let connect = error.is_connect();
    Unlisted::Broken { cause: super::deepest(&error.without_url()), connect }
}
