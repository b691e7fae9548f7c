//! Fetching what a search has found: in the words that the recorder understands, and never taking an error for media.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use reqwest::Response;
use time::PrimitiveDateTime;
use tokio::time::{Instant, timeout};
use url::Url;

use super::client::{Call, Client};
use super::page::written_compact;
use super::stall::Stall;
use super::words::DOWNLOADS;
use super::{Hikvision, is_about_words, uri};
use crate::nvr::{Container, Fetch, Media, Playback, RecorderError, RecorderErrorKind, Segment, Span, Timeouts};

/// The bytes by which media are told from errors, and from each other.
const HEAD: usize = 16;
/// Bytes of an error in place of media that are read.
const LARGEST_ERROR: usize = 64 << 10;
/// A body that tells no length may have four times the size that the search told, and this much more.
const SLACK: u64 = 1 << 30;
/// The most bytes of a body of which nobody has told a length: the largest files of recorders have 2 GiB.
const LARGEST: u64 = 64 << 30;
/// Where recorders play back unless they say otherwise.
const RTSP_PORT: u16 = 554;
/// So often it is told that a body goes on.
const TELL: Duration = Duration::from_secs(10);
/// What makes a playback URI mean a recording, and not a span of time.
const NAME_AND_SIZE: [&str; 2] = ["name", "size"];

/// No way of asking has brought media.
struct Refused {
    /// What the first one was answered.
    error: RecorderError,
    /// Whether any of them was forbidden.
    forbidden: bool,
}

impl Hikvision {
    pub(super) async fn download(&self, fetch: Fetch<'_>) -> Result<Media, RecorderError> {
        // What a firmware has been found to understand is known by its name.
        let limits = self.known().await?.1.clone();
        match fetch {
            Fetch::Segment(segment) => self.fetch_segment(segment, limits.by_file, limits.by_time).await,
            Fetch::Window { track, span } => {
                let uri = self.window(track, span).await?;
                self.fetch(&uri, None, Some(span)).await.map_err(|refused| refused.error)
            }
        }
    }

    async fn fetch_segment(&self, segment: &Segment, by_file: bool, spans: bool) -> Result<Media, RecorderError> {
        let uri = segment.locator.0.as_str();
        if uri.starts_with("http://") || uri.starts_with("https://") {
            return self.fetch_page(uri, segment.size).await;
        }
        if !uri.starts_with("rtsp://") {
            let what = "a recording was listed without an address to fetch it from";
            return Err(self.client.error(RecorderErrorKind::Protocol, what));
        }
        let by_time = async {
            let span = Span { from: segment.start.utc, to: segment.end.utc };
            let uri = own_times(&uri::without(uri, &NAME_AND_SIZE), segment);
            self.fetch(&uri, segment.size, Some(span)).await.map_err(|refused| refused.error)
        };
        if self.habits().by_time {
            return by_time.await;
        }
        // Without a name it means a span as well, of which a search may have cut off a part.
        let named = uri::without(uri, &["name"]) != uri;
        let asked = if named { uri.to_owned() } else { own_times(uri, segment) };
        match self.fetch(&asked, segment.size, None).await {
            Err(Refused { error, forbidden }) if (spans || !by_file) && is_about_words(error.kind) => {
                let cannot = !by_file || error.kind == RecorderErrorKind::Unsupported && !forbidden;
                // The first error is the one that tells.
                let media = by_time.await.map_err(|_| error)?;
                // What is forbidden may be this one alone: the others have to be asked for by name.
                if cannot {
                    self.learn(|habits| habits.by_time = true);
                }
                Ok(media)
            }
            result => result.map_err(|refused| refused.error),
        }
    }

    /// Fetches what a playback URI means, in the words that this recorder understands.
    async fn fetch(&self, uri: &str, size: Option<u64>, covers: Option<Span>) -> Result<Media, Refused> {
        let first = self.habits().download;
        let (mut refused, mut forbidden) = (None, false);
        for turn in 0..DOWNLOADS.len() {
            let place = (first + turn) % DOWNLOADS.len();
            match self.begin(&DOWNLOADS[place].call(uri), size, covers).await {
                Ok(media) => {
                    self.learn(|habits| habits.download = place);
                    return Ok(media);
                }
                Err(error) if is_about_words(error.kind) => {
                    forbidden |= error.kind == RecorderErrorKind::Forbidden;
                    refused = refused.or(Some(error));
                }
                Err(error) => return Err(Refused { error, forbidden }),
            }
        }
        Err(Refused { error: refused.expect("there is more than one way to ask"), forbidden })
    }

    /// Fetches a picture, whose address is a page of its own.
    async fn fetch_page(&self, uri: &str, size: Option<u64>) -> Result<Media, RecorderError> {
        let url = Url::parse(uri).ok().filter(|url| url.path().starts_with("/ISAPI/"));
        let url = url.ok_or_else(|| {
            self.client.error(RecorderErrorKind::Protocol, "a picture was listed with an address that is no recorder's")
        })?;
        let query = url.query().map(ToOwned::to_owned);
        let call = Call { path: url.path().to_owned(), query, media: true, ..Call::get("") };
        self.begin(&call, size, None).await
    }

    /// Sends the request, and looks at the first bytes of what comes.
    async fn begin(&self, call: &Call, size: Option<u64>, covers: Option<Span>) -> Result<Media, RecorderError> {
        let response = self.client.send(call).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        // By time, some tell a length of nothing.
        let length = response.content_length().filter(|length| *length > 0);
        let mut body = Body::new(self.client.clone(), response, length, size);
        let mut head = BytesMut::new();
        if !status.is_success() {
            return Err(self.refused(call, status, &headers, body, head).await);
        }
        while head.len() < HEAD
            && let Some(piece) = body.next().await?
        {
            head.extend_from_slice(&piece);
        }
        if head.is_empty() {
            return Err(self.client.error(RecorderErrorKind::Device, "it sends an empty recording"));
        }
        let container = Container::sniff(&head);
        let is_text = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| {
            let kind = kind.to_ascii_lowercase();
            ["xml", "html", "json"].iter().any(|text| kind.contains(text))
        });
        if container == Container::Unknown && (is_text || begins_text(&head)) {
            return Err(self.refused(call, status, &headers, body, head).await);
        }
        body.unread = Some(head.freeze());
        let next = |mut body: Body| async move { body.next().await.transpose().map(|piece| (piece, body)) };
        Ok(Media { length, container, covers, body: stream::unfold(body, next).boxed() })
    }

    /// What stands in place of media.
    async fn refused(
        &self,
        call: &Call,
        status: StatusCode,
        headers: &HeaderMap,
        mut body: Body,
        mut head: BytesMut,
    ) -> RecorderError {
        // One that cannot be read says nothing; its status counts.
        while head.len() < LARGEST_ERROR
            && let Ok(Some(piece)) = body.next().await
        {
            head.extend_from_slice(&piece);
        }
        self.client.refusal(call, status, headers, &head)
    }

    pub(super) async fn locate(&self, fetch: Fetch<'_>) -> Result<Playback, RecorderError> {
        let (uri, track) = match fetch {
            Fetch::Segment(segment) => (own_times(&segment.locator.0, segment), segment.track.as_str()),
            Fetch::Window { track, span } => (self.window(track, span).await?, track),
        };
        let port = self.known_rtsp_port().await?;
        let host = self.client.base().host().expect("it was made with one");
        let url = uri::at(&uri, host, port).ok_or_else(|| {
            self.client.error(RecorderErrorKind::Protocol, "a recording was listed without an address to play it from")
        })?;
        Ok(Playback { url, track: track.to_owned() })
    }

    /// The port of its streams, asked once.
    pub(super) async fn known_rtsp_port(&self) -> Result<u16, RecorderError> {
        self.rtsp_port.get_or_try_init(|| self.ask_rtsp_port()).await.copied()
    }

    async fn ask_rtsp_port(&self) -> Result<u16, RecorderError> {
        let root = self.optional("Security/adminAccesses").await?.unwrap_or_default();
        let is_rtsp = |of: &&super::xml::Element| of.text(&["protocol"]).is_some_and(|name| name == "RTSP");
        let port = root.all("AdminAccessProtocol").find(is_rtsp).and_then(|of| of.number(&["portNo"]));
        Ok(port.filter(|port| *port > 0).unwrap_or(RTSP_PORT))
    }

    /// A playback URI that means a span.
    async fn window(&self, track: &str, span: Span) -> Result<String, RecorderError> {
        let clock = &self.known().await?.1.clock;
        let [from, to] = [span.from, span.to].map(|moment| clock.tell(moment).literal);
        if from >= to {
            let what = "the span cannot be said in the recorder's time, which is set back within it: ask for its parts";
            return Err(self.client.error(RecorderErrorKind::Unsupported, what));
        }
        if !track.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(self.client.error(RecorderErrorKind::NotFound, format!("`{track}` is no track")));
        }
        let compact = |time: PrimitiveDateTime| written_compact(time);
        let host = self.client.base().host_str().unwrap_or_default();
        Ok(format!("rtsp://{host}/Streaming/tracks/{track}/?starttime={}Z&endtime={}Z", compact(from), compact(to)))
    }
}

/// A URI with the recording's own begin and end: what it came with may be the borders of the search that found it.
fn own_times(uri: &str, segment: &Segment) -> String {
    let [start, end] = [segment.start, segment.end].map(|time| format!("{}Z", written_compact(time.literal)));
    uri::with(uri, [("starttime", &start), ("endtime", &end)])
}

/// Whether these are the first bytes of XML, HTML or JSON.
fn begins_text(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    matches!(head.trim_ascii_start().first(), Some(b'<' | b'{'))
}

/// A body on its way. Dropped it closes the connection, unless it has come to its end.
struct Body {
    client: Arc<Client>,
    response: Response,
    /// What was read and is to be read again.
    unread: Option<Bytes>,
    came: u64,
    length: Option<u64>,
    most: u64,
    stall: Stall,
    /// When we said last that it goes on.
    told: Instant,
}

impl Body {
    fn new(client: Arc<Client>, response: Response, length: Option<u64>, size: Option<u64>) -> Self {
        let of_size = size.map(|size| size.saturating_mul(4).saturating_add(SLACK));
        let most = length.or(of_size).unwrap_or(LARGEST);
        let Timeouts { stall, stall_bytes, .. } = client.settings().timeouts;
        let stall = Stall::new(stall, stall_bytes);
        Self { client, response, unread: None, came: 0, length, most, stall, told: Instant::now() }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, RecorderError> {
        if let Some(unread) = self.unread.take() {
            return Ok(Some(unread));
        }
        loop {
            let begun = Instant::now();
            let piece = match timeout(self.stall.left(), self.response.chunk()).await {
                Ok(piece) => piece,
                Err(_) if self.stall.waited(begun.elapsed(), 0) => return Err(self.stalled()),
                Err(_) => continue,
            };
            let Some(piece) = piece.map_err(|error| self.cut(error))? else { return Ok(None) };
            let stalls = self.stall.waited(begun.elapsed(), piece.len() as u64);
            self.came += piece.len() as u64;
            if self.came > self.most {
                let what = format!("it sends more than {} bytes, and does not say how many there are", self.most);
                return Err(self.client.error(RecorderErrorKind::Protocol, what));
            }
            if stalls {
                return Err(self.stalled());
            }
            if self.told.elapsed() >= TELL {
                self.goes_on();
            }
            return Ok(Some(piece));
        }
    }

    /// Refused while this goes on, or right after it, a password is not wrong: the recorder is busy with us.
    fn goes_on(&mut self) {
        self.told = Instant::now();
        self.client.common().lockout.goes_on(self.client.credentials());
    }

    fn stalled(&self) -> RecorderError {
        let Timeouts { stall, stall_bytes, .. } = self.client.settings().timeouts;
        let what = format!(
            "the recording stalls after {}: fewer than {stall_bytes} bytes came within {} s",
            self.so_far(),
            stall.as_secs_f64()
        );
        self.client.error(RecorderErrorKind::Timeout, what)
    }

    fn cut(&self, error: reqwest::Error) -> RecorderError {
        let RecorderError { kind, message } = self.client.broken(error);
        RecorderError { kind, message: format!("{message}; {} had come", self.so_far()) }
    }

    fn so_far(&self) -> String {
        match self.length {
            Some(length) => format!("{} of {length} bytes", self.came),
            None => format!("{} bytes", self.came),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.goes_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quirk_17_what_comes_is_told_by_its_first_bytes() {
        for (head, container) in [
            (&b"IMKH\x01\x01\0\0\x01\0\0\0\0\0\0\0"[..], Container::ProgramStream),
            (b"4HKH\x01\x01\0\0", Container::ProgramStream),
            (b"\0\0\x01\xba\x44\0", Container::ProgramStream),
            (b"\0\0\0\x20ftypisom", Container::Mp4),
            (b"\xff\xd8\xff\xe0", Container::Jpeg),
            (b"DHAV", Container::Unknown),
            (b"\0\0\0\x20fty", Container::Unknown),
            (b"<?xml", Container::Unknown),
            (b"", Container::Unknown),
        ] {
            assert_eq!(Container::sniff(head), container, "{head:?}");
        }
        for (head, text) in [
            (&b"<?xml"[..], true),
            (b"\xef\xbb\xbf \r\n<html>", true),
            (b"  {\"statusCode\"", true),
            (b"DHAV<", false),
            (b"", false),
        ] {
            assert_eq!(begins_text(head), text, "{head:?}");
        }
    }
}
