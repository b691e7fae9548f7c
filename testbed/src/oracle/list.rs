//! The daemon's ordered list, as a client sees it.

use anyhow::{Context, ensure};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::Http;

/// One entry of a camera's list. Fields that are not named here are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Entry {
    /// A stored frame.
    Frame(Frame),
    /// Frames that were not kept: `seq` to `last`, both included.
    Tombstone {
        seq: u64,
        last: u64,
        /// Unknown after a crash.
        session: Option<u32>,
        reason: String,
        #[serde(default)]
        maybe_stored: bool,
    },
    /// A session's life, and what its stream is; the times are RFC 3339.
    Session {
        session: u32,
        opened: String,
        closed: Option<String>,
        why: Option<String>,
        #[serde(default)]
        codec: Option<String>,
        #[serde(default)]
        width: Option<u32>,
        #[serde(default)]
        height: Option<u32>,
    },
}

/// A stored frame as the list describes it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Frame {
    pub session: u32,
    pub seq: u64,
    /// When the picture was taken, RFC 3339.
    pub captured_at: String,
    /// When the bucket said that it has it, RFC 3339.
    pub stored_at: String,
    /// `file:///path` or `gs://bucket/name`.
    pub url: String,
    /// The object's size.
    pub bytes: u64,
    /// CRC32C of the object: base64 of its big-endian bytes, as Cloud Storage prints it.
    pub crc32c: String,
    /// Picture width in pixels.
    pub width: u32,
    /// Picture height in pixels.
    pub height: u32,
}

/// A camera's whole list up to its watermark.
#[derive(Debug, Clone)]
pub struct List {
    /// The last seq of the list when its last page was read: everything up to it is resolved.
    pub watermark: u64,
    pub entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Page {
    watermark: u64,
    entries: Vec<Entry>,
    next: u64,
    more: bool,
}

#[derive(Deserialize)]
struct Cameras {
    cameras: Vec<Camera>,
}

#[derive(Deserialize)]
struct Camera {
    id: String,
}

/// Reads a camera's list from its beginning, `limit` entries at a time. `api` is the daemon's address,
/// `http://host:port`.
pub fn fetch_list(http: &Http, api: &str, token: &str, camera: &str, limit: u32) -> anyhow::Result<List> {
    let id = utf8_percent_encode(camera, NON_ALPHANUMERIC);
    let mut list = List { watermark: 0, entries: Vec::new() };
    let mut after = 0;
    loop {
        let url = format!("{}/api/v1/cameras/{id}/frames?after={after}&limit={limit}", api.trim_end_matches('/'));
        let page: Page = parse(&http.get(&url, Some(token))?, &url)?;
        list.watermark = page.watermark;
        list.entries.extend(page.entries);
        if !page.more {
            return Ok(list);
        }
        ensure!(page.next > after, "`{url}` says that there is more, but its cursor {} does not move on", page.next);
        after = page.next;
    }
}

/// The ids of all cameras the daemon knows.
pub fn fetch_cameras(http: &Http, api: &str, token: &str) -> anyhow::Result<Vec<String>> {
    let url = format!("{}/api/v1/cameras", api.trim_end_matches('/'));
    let cameras: Cameras = parse(&http.get(&url, Some(token))?, &url)?;
    Ok(cameras.cameras.into_iter().map(|camera| camera.id).collect())
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8], url: &str) -> anyhow::Result<T> {
    serde_json::from_slice(body).with_context(|| format!("cannot understand the answer to `{url}`"))
}
