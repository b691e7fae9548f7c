//! Objects of any size, by a session that takes them in pieces and knows how much it has.
//!
//! The crate can do that too, but shows neither the session, so that what breaks off could be cleared away, nor what a
//! piece waits for, and sends no checksum of the whole along. So the requests are our own: they are three.
//!
//! A session shows nothing under the object's name before its last byte; one that nobody ends goes after a week.
//!
//! <https://cloud.google.com/storage/docs/performing-resumable-uploads>

use bytes::Bytes;
use http::{HeaderMap, header};
use tracing::debug;
use url::Url;

use super::answer::{Unanswered, body, broken};
use super::{Failure, GcsBucket, list, put};
use crate::storage::attempt::looks;
use crate::storage::pieces::{Piece, Pieces};
use crate::storage::tries::{Tries, met};
use crate::storage::{
    Bucket as _, BucketError, BucketErrorKind, ContentType, ObjectInfo, Patience, StreamError, Streamed,
};

/// What an account must be allowed.
const PERMISSION: &str = "storage.objects.create";

/// What the server says of a session.
#[derive(Debug)]
enum Word {
    /// It has so many bytes, and wants more.
    Has(u64),
    /// The object is stored, and this is what it says of it, if it does.
    Stored(Option<ObjectInfo>),
    /// There is an object of that name.
    Exists,
    /// There is no such session, or not any more.
    Gone,
}

/// What became of a piece.
enum Sent {
    Taken,
    Ended(Streamed),
}

/// Puts an object of several pieces, of which the first is here.
pub(super) async fn put(
    bucket: &GcsBucket,
    key: &str,
    content_type: ContentType,
    first: Piece,
    mut pieces: Pieces,
    patience: Patience,
) -> Result<Streamed, StreamError> {
    let mut upload = Upload {
        bucket,
        key,
        content_type,
        patience,
        tries: Tries::new(patience),
        session: None,
        has: 0,
        maybe_ours: false,
    };
    if !upload.begin().await? {
        return Ok(upload.there(&first).await?);
    }
    let mut piece = first;
    loop {
        match upload.send(&piece).await {
            Ok(Sent::Taken) => {}
            Ok(Sent::Ended(streamed)) => {
                match (streamed, upload.session.take()) {
                    // The session has gone up in the object.
                    (Streamed::New(_), Some(mut session)) => session.over = true,
                    (Streamed::Exists { .. }, Some(session)) => session.cancel().await,
                    (_, None) => {}
                }
                return Ok(streamed);
            }
            Err(failure) => {
                upload.cancel().await;
                return Err(failure.into());
            }
        }
        piece = match pieces.next().await {
            Ok(piece) => piece,
            Err(error) => {
                upload.cancel().await;
                return Err(StreamError::Body(error));
            }
        };
    }
}

struct Upload<'a> {
    bucket: &'a GcsBucket,
    key: &'a str,
    content_type: ContentType,
    patience: Patience,
    tries: Tries,
    session: Option<Session>,
    /// The bytes that the server has said it has.
    has: u64,
    /// Whether all was sent and an answer lost.
    maybe_ours: bool,
}

impl Upload<'_> {
    /// Opens a session; false when there is such an object already.
    async fn begin(&mut self) -> Result<bool, BucketError> {
        loop {
            let begin = || begin(self.bucket, self.key, self.content_type);
            let begun = self.patience.within(&self.bucket.label, 0, async {
                let begun = self.bucket.attempt(begin).await?;
                begun.map_err(|failure| self.bucket.error(failure, PERMISSION))
            });
            match begun.await {
                Ok(Some(url)) => {
                    let session = Session { bucket: self.bucket.clone(), url, patience: self.patience, over: false };
                    (self.session, self.has) = (Some(session), 0);
                    self.tries.begun();
                    return Ok(true);
                }
                Ok(None) => return Ok(false),
                Err(failure) => self.tries.again(failure).await?,
            }
        }
    }

    /// Sends a piece until the server has it, or says what became of the object.
    async fn send(&mut self, piece: &Piece) -> Result<Sent, BucketError> {
        let (start, end) = (piece.start(), piece.to_here.bytes);
        // After an answer that was lost nobody but the server knows how much it has.
        let mut asks = false;
        loop {
            let content = if asks { Bytes::new() } else { piece.content.slice((self.has - start) as usize..) };
            let failure = match self.tell(piece, content).await {
                Ok(Word::Has(has)) if has > end || has < self.has => {
                    return Err(self.bucket.untold("it has lost what had been sent"));
                }
                Ok(Word::Has(has)) => {
                    let (progressed, asked) = (has > self.has, asks);
                    (self.has, asks) = (has, false);
                    if progressed {
                        self.tries.progressed();
                    }
                    if has == end && !piece.last {
                        return Ok(Sent::Taken);
                    }
                    if progressed || asked {
                        continue;
                    }
                    self.bucket.untold("it takes nothing of what is sent")
                }
                Ok(Word::Stored(Some(info))) if info == piece.to_here && piece.last => {
                    return Ok(Sent::Ended(Streamed::New(info)));
                }
                Ok(Word::Stored(Some(info))) => {
                    let ours = piece.to_here;
                    return Err(self.bucket.untold(&format!(
                        "it has stored {} bytes with the CRC32C {:08x} of {} with {:08x} that were sent",
                        info.bytes, info.crc32c, ours.bytes, ours.crc32c
                    )));
                }
                // A gateway's 200 has a JSON object in it as well. The session will say it again.
                Ok(Word::Stored(None)) => self.bucket.untold("the answer does not say what is stored"),
                Ok(Word::Exists) => return self.there(piece).await.map(Sent::Ended),
                Ok(Word::Gone) => match self.gone(piece).await? {
                    Some(ended) => return Ok(ended),
                    None => continue,
                },
                Err(failure) if failure.kind == BucketErrorKind::Permanent => {
                    // The session has gone with it. Bytes that were damaged on the way are refused like this.
                    let message = format!("{}: put it again from its beginning", failure.message);
                    return Err(BucketError { kind: BucketErrorKind::Transient, message, ..failure });
                }
                Err(failure) => failure,
            };
            self.maybe_ours |= failure.maybe_stored && piece.last;
            debug!(bucket = self.bucket.label, key = self.key, start, has = self.has, %failure, "a piece failed");
            self.tries.again(failure).await?;
            asks = true;
        }
    }

    /// One request of the session.
    async fn tell(&self, piece: &Piece, content: Bytes) -> Result<Word, BucketError> {
        let session = self.session.as_ref().expect("a piece is sent to a session");
        let told = || session.tell(piece, self.has, content.clone());
        self.patience
            .within(&self.bucket.label, content.len() as u64, async {
                let told = self.bucket.attempt(told).await?;
                told.map_err(|failure| self.bucket.error(failure, PERMISSION))
            })
            .await
    }

    /// What to do where the session is gone: go on with another one while all that was sent is at hand.
    async fn gone(&mut self, piece: &Piece) -> Result<Option<Sent>, BucketError> {
        if self.maybe_ours && self.found().await? == Some(piece.to_here) {
            return Ok(Some(Sent::Ended(Streamed::New(piece.to_here))));
        }
        if let Some(mut session) = self.session.take() {
            session.over = true;
        }
        let failure = self.bucket.untold("the upload is gone: put it again from its beginning");
        if piece.start() > 0 {
            return Err(failure);
        }
        self.tries.again(failure).await?;
        if self.begin().await? { Ok(None) } else { self.there(piece).await.map(|met| Some(Sent::Ended(met))) }
    }

    /// What stands there after an answer was lost, if anything.
    async fn found(&mut self) -> Result<Option<ObjectInfo>, BucketError> {
        loop {
            match self.patience.within(&self.bucket.label, 0, self.bucket.head(self.key)).await {
                Ok(found) => return Ok(found),
                Err(failure) => self.tries.again(BucketError { maybe_stored: true, ..failure }).await?,
            }
        }
    }

    /// What to say where an object is there: all of it has come, or it is not known what comes.
    async fn there(&mut self, piece: &Piece) -> Result<Streamed, BucketError> {
        let ours = piece.to_here;
        loop {
            match self.patience.within(&self.bucket.label, 0, looks(self.bucket, self.key, ours)).await {
                Ok(there) if piece.last => return Ok(met(there, ours, self.maybe_ours)),
                Ok(there) => return Ok(Streamed::Exists { there, came: None }),
                Err(failure) => self.tries.again(failure).await?,
            }
        }
    }

    async fn cancel(&mut self) {
        if let Some(session) = self.session.take() {
            session.cancel().await;
        }
    }
}

/// An upload that the server knows. Whoever has its URL may write to it, so it is shown nowhere.
struct Session {
    bucket: GcsBucket,
    url: Url,
    patience: Patience,
    over: bool,
}

impl Session {
    /// Sends what follows on the bytes that the server has, or asks for their number.
    async fn tell(&self, piece: &Piece, has: u64, content: Bytes) -> Result<Word, Failure> {
        let all = piece.to_here;
        let total = if piece.last { all.bytes.to_string() } else { "*".to_owned() };
        let range = match content.len() as u64 {
            0 => format!("bytes */{total}"),
            bytes => format!("bytes {has}-{}/{total}", has + bytes - 1),
        };
        let mut request = self.bucket.http.put(self.url.clone()).headers(self.headers().await?);
        request = request.header(header::CONTENT_RANGE, range).header(header::CONTENT_LENGTH, content.len());
        if piece.last {
            request = request.header("x-goog-hash", format!("crc32c={}", list::crc32c_text(all.crc32c)));
        }
        let answer = request.body(content).send().await.map_err(broken)?;
        match answer.status().as_u16() {
            200 | 201 => Ok(Word::Stored(put::stored(&body(answer, put::MAX_ANSWER).await?))),
            308 => Ok(Word::Has(has_of(answer.headers())?)),
            412 => Ok(Word::Exists),
            404 | 410 => Ok(Word::Gone),
            _ => Err(Unanswered::Refused(answer.status(), answer.headers().clone()).into()),
        }
    }

    /// A token goes where the endpoint is, and to nobody else. Cloud Storage needs none here.
    async fn headers(&self) -> Result<HeaderMap, Failure> {
        let endpoint = Url::parse(&self.bucket.endpoint().await).ok();
        if endpoint.is_some_and(|endpoint| endpoint.origin() == self.url.origin()) {
            self.bucket.headers().await
        } else {
            Ok(HeaderMap::new())
        }
    }

    /// Has the server forget it: one try, since what is left shows nowhere and goes by itself.
    async fn cancel(mut self) {
        self.over = true;
        self.forget().await;
    }

    async fn forget(&self) {
        let forget = async {
            let headers = self.headers().await.unwrap_or_default();
            let request = self.bucket.http.delete(self.url.clone()).headers(headers);
            let asked = request.header(header::CONTENT_LENGTH, 0).send().await;
            asked.map_err(|error| self.bucket.error(broken(error).into(), PERMISSION))
        };
        if let Err(failure) = self.patience.within(&self.bucket.label, 0, forget).await {
            debug!(bucket = self.bucket.label, %failure, "an upload that has ended is left to the server");
        }
    }
}

/// Whoever waited for the upload is gone, and the upload is to go too.
impl Drop for Session {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if !self.over {
            let Self { bucket, url, patience, .. } = self;
            let session = Self { bucket: bucket.clone(), url: url.clone(), patience: *patience, over: true };
            runtime.spawn(async move { session.forget().await });
        }
    }
}

/// Asks for a session: its address, or nothing when there is such an object.
async fn begin(bucket: &GcsBucket, key: &str, content_type: ContentType) -> Result<Option<Url>, Failure> {
    let unusable = |cause: &str| Failure { cause: cause.to_owned(), ..Failure::default() };
    let url = list::objects(&bucket.endpoint().await, &["upload"], &bucket.bucket);
    let mut url = url.map_err(|cause| Failure { connect: true, ..unusable(&cause) })?;
    url.query_pairs_mut()
        .append_pair("uploadType", "resumable")
        .append_pair("name", &bucket.name(key))
        .append_pair("ifGenerationMatch", "0");
    let described = serde_json::json!({ "contentType": content_type.as_str() });
    let request = bucket.http.post(url).headers(bucket.headers().await?).json(&described);
    let answer = request.header("x-upload-content-type", content_type.as_str()).send().await.map_err(broken)?;
    match answer.status().as_u16() {
        200 | 201 => {
            let place = answer.headers().get(header::LOCATION).and_then(|place| place.to_str().ok());
            let place = place.and_then(|place| Url::parse(place).ok());
            place.map(Some).ok_or_else(|| unusable("the answer does not say where to send an upload"))
        }
        412 => Ok(None),
        _ => Err(Unanswered::Refused(answer.status(), answer.headers().clone()).into()),
    }
}

/// How much a session has: it names the last byte, or none.
fn has_of(headers: &HeaderMap) -> Result<u64, Failure> {
    let Some(range) = headers.get(header::RANGE) else { return Ok(0) };
    let last = range.to_str().ok().and_then(|range| range.strip_prefix("bytes=0-")?.parse::<u64>().ok());
    let unreadable =
        || Failure { cause: "the answer says nothing of what has arrived".to_owned(), ..Failure::default() };
    last.and_then(|last| last.checked_add(1)).ok_or_else(unreadable)
}
