//! Objects of any size, in parts that the store puts together at the end.
//!
//! What is created and what overwritten is decided when the parts are put together, and the crate asks for the latter
//! alone. So the condition is added where its request leaves (`notes`). Towards S3 nothing else has to be done: the
//! signature does not cover it. Azure's does, with an account's key, and is made again.
//!
//! A server of S3's API that does not know the condition there overwrites. A look before the first part keeps it from
//! doing so, save to what comes while the parts are on their way.
//!
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>,
//! <https://learn.microsoft.com/en-us/rest/api/storageservices/put-block-list>

use std::sync::Arc;

use ::object_store::multipart::PartId;
use ::object_store::path::Path;
use ::object_store::{Attribute, Attributes, GetOptions, MultipartId, PutMultipartOptions, PutPayload};
use http::Extensions;
use tokio::runtime::Handle;
use tracing::debug;

use super::notes::{Asked, Notes};
use super::refusal::{Failure, deepest};
use super::renewable::Renewable;
use super::{Cloud, ObjectStoreBucket, Store};
use crate::storage::pieces::{PIECE, Piece, Pieces};
use crate::storage::tries::{Tries, met};
use crate::storage::{BucketError, BucketErrorKind, ContentType, ObjectInfo, Patience, StreamError, Streamed};

impl Cloud {
    /// Of how many parts an object may consist.
    ///
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>,
    /// <https://learn.microsoft.com/en-us/rest/api/storageservices/put-block>
    fn most_parts(self) -> u64 {
        match self {
            Self::S3 => 10_000,
            Self::Azure => 50_000,
        }
    }
}

/// Puts an object of several parts, of which the first is here.
pub(super) async fn put(
    bucket: &ObjectStoreBucket,
    key: &str,
    content_type: ContentType,
    size_hint: Option<u64>,
    first: Piece,
    mut pieces: Pieces,
    patience: Patience,
) -> Result<Streamed, StreamError> {
    let path = bucket.path(key)?;
    let most = bucket.cloud.most_parts() * PIECE as u64;
    if size_hint.is_some_and(|size| size > most) {
        return Err(too_large(bucket, most).into());
    }
    let mut upload = Upload { bucket, key, content_type, patience, tries: Tries::new(patience), parts: Vec::new() };
    if let Some(there) = upload.there().await? {
        return Ok(Streamed::Exists { there, came: None });
    }
    let mut begun = Begun { stores: bucket.stores.clone(), path, id: upload.begin().await?, patience, over: false };
    let mut piece = first;
    loop {
        let sent = match piece.to_here.bytes > most {
            true => Err(too_large(bucket, most)),
            false => upload.part(&begun, &piece).await,
        };
        let put = match sent {
            Ok(()) if piece.last => upload.finish(&begun, piece.to_here).await.map(Some),
            Ok(()) => Ok(None),
            Err(failure) => Err(failure),
        };
        match put {
            Ok(Some(streamed @ Streamed::New(_))) => {
                // The parts have gone up in the object.
                begun.over = true;
                return Ok(streamed);
            }
            Ok(Some(streamed)) => {
                begun.abort().await;
                return Ok(streamed);
            }
            Ok(None) => {}
            Err(failure) => {
                begun.abort().await;
                return Err(failure.into());
            }
        }
        piece = match pieces.next().await {
            Ok(piece) => piece,
            Err(error) => {
                begun.abort().await;
                return Err(StreamError::Body(error));
            }
        };
    }
}

fn too_large(bucket: &ObjectStoreBucket, most: u64) -> BucketError {
    BucketError {
        kind: BucketErrorKind::Permanent,
        maybe_stored: false,
        retry_after: None,
        message: format!("{}: an object has {most} bytes at the most: store it in pieces", bucket.label),
    }
}

struct Upload<'a> {
    bucket: &'a ObjectStoreBucket,
    key: &'a str,
    content_type: ContentType,
    patience: Patience,
    tries: Tries,
    parts: Vec<PartId>,
}

impl Upload<'_> {
    /// Makes an attempt under its deadline.
    async fn attempt<T, F>(
        &self,
        bytes: u64,
        asked: Asked,
        attempt: impl Fn(Arc<dyn Store>, Extensions) -> F + Send + Sync,
    ) -> Result<Result<T, Failure>, BucketError>
    where
        T: Send,
        F: Future<Output = ::object_store::Result<T>> + Send,
    {
        self.patience.within(&self.bucket.label, bytes, self.bucket.attempt(asked, attempt)).await
    }

    fn error(&self, failure: &Failure) -> BucketError {
        self.bucket.error(failure, self.bucket.permissions.create)
    }

    async fn there(&mut self) -> Result<Option<ObjectInfo>, BucketError> {
        loop {
            match self.bucket.sum(self.key, Some(self.patience)).await {
                Ok(there) => {
                    self.tries.begun();
                    return Ok(there);
                }
                Err(failure) => self.tries.again(failure).await?,
            }
        }
    }

    async fn begin(&mut self) -> Result<MultipartId, BucketError> {
        let path = &self.bucket.path(self.key)?;
        let begin = |store: Arc<dyn Store>, extensions| {
            let attributes = match self.bucket.cloud {
                Cloud::S3 => Attributes::from_iter([(Attribute::ContentType, self.content_type.as_str())]),
                // Nothing is sent before the first part, and its type at the end.
                Cloud::Azure => Attributes::new(),
            };
            let options = PutMultipartOptions { attributes, extensions, ..PutMultipartOptions::default() };
            async move { store.create_multipart_opts(path, options).await }
        };
        loop {
            let failure = match self.attempt(0, Asked::Part, begin).await {
                Ok(Ok(id)) => return Ok(id),
                Ok(Err(failure)) => self.error(&failure),
                Err(failure) => failure,
            };
            self.tries.again(failure).await?;
        }
    }

    async fn part(&mut self, begun: &Begun, piece: &Piece) -> Result<(), BucketError> {
        let number = self.parts.len();
        let put = |store: Arc<dyn Store>, _| {
            let content = PutPayload::from(piece.content.clone());
            async move { store.put_part(&begun.path, &begun.id, number, content).await }
        };
        loop {
            let failure = match self.attempt(piece.content.len() as u64, Asked::Part, put).await {
                Ok(Ok(part)) => {
                    self.parts.push(part);
                    self.tries.progressed();
                    return Ok(());
                }
                Ok(Err(failure)) if failure.is_no_upload() => return Err(self.gone()),
                Ok(Err(failure)) => self.error(&failure),
                Err(failure) => failure,
            };
            debug!(bucket = self.bucket.label, key = self.key, part = number, %failure, "a part failed");
            self.tries.again(failure).await?;
        }
    }

    /// Has the parts put together, if there is no such object, and looks at its size.
    async fn finish(&mut self, begun: &Begun, ours: ObjectInfo) -> Result<Streamed, BucketError> {
        let (mut maybe_ours, mut stood) = (false, false);
        loop {
            let finish = |store: Arc<dyn Store>, _| {
                let parts = self.parts.clone();
                async move { store.complete_multipart(&begun.path, &begun.id, parts).await }
            };
            let asked = Asked::Finish { content_type: self.content_type.as_str() };
            let failure = match self.attempt(0, asked, finish).await {
                Ok(Ok(_)) => return self.look(&begun.path, ours).await,
                // An answer may have been lost, and what is asked for have been done.
                Ok(Err(failure)) if failure.is_an_object() || failure.is_no_upload() => {
                    // What stood there before any answer was lost is not ours, whatever becomes of the look at it.
                    stood |= failure.is_an_object();
                    match self.bucket.sum(self.key, Some(self.patience)).await {
                        Ok(Some(there)) => return Ok(met(there, ours, maybe_ours)),
                        // No answer was lost: there is nothing to wait for.
                        Ok(None) if failure.is_no_upload() && !maybe_ours => return Err(self.gone()),
                        Ok(None) => BucketError { maybe_stored: maybe_ours, ..self.gone() },
                        Err(failure) => BucketError { maybe_stored: maybe_ours, ..failure },
                    }
                }
                Ok(Err(failure)) => self.error(&failure),
                Err(failure) => failure,
            };
            maybe_ours |= failure.maybe_stored && !stood;
            self.tries.again(failure).await?;
        }
    }

    async fn look(&mut self, path: &Path, ours: ObjectInfo) -> Result<Streamed, BucketError> {
        let head = |store: Arc<dyn Store>, extensions| async move {
            store.get_opts(path, GetOptions { extensions, head: true, ..GetOptions::default() }).await
        };
        loop {
            let failure = match self.attempt(0, Asked::Object, head).await {
                Ok(Ok(there)) if there.meta.size == ours.bytes => return Ok(Streamed::New(ours)),
                Ok(Ok(there)) => {
                    return Err(self
                        .untold(&format!("it has stored {} bytes of {} that were sent", there.meta.size, ours.bytes)));
                }
                Ok(Err(failure)) => self.bucket.error(&failure, self.bucket.permissions.get),
                Err(failure) => failure,
            };
            self.tries.again(BucketError { maybe_stored: true, ..failure }).await?;
        }
    }

    fn gone(&self) -> BucketError {
        self.untold("the upload is gone: put it again from its beginning")
    }

    fn untold(&self, what: &str) -> BucketError {
        BucketError {
            kind: BucketErrorKind::Transient,
            maybe_stored: true,
            retry_after: None,
            message: format!("{}: {what}", self.bucket.label),
        }
    }
}

/// Parts that the store keeps, and S3 charges for, until they are an object or are given up. Azure drops them after a
/// week, and there is no way to have it do so sooner.
struct Begun {
    stores: Arc<Renewable>,
    path: Path,
    id: MultipartId,
    patience: Patience,
    over: bool,
}

impl Begun {
    /// Gives them up.
    async fn abort(mut self) {
        self.over = true;
        self.give_up().await;
    }

    async fn give_up(&self) {
        let (_, client) = self.stores.current();
        // Somebody waits for the error that this follows.
        let mut tries = Tries::new(Patience { retries_within: self.patience.answer, ..self.patience });
        let notes = Notes::of(Asked::Part, None);
        loop {
            let abort = async {
                let aborted = notes.along(client.store.abort_multipart(&self.path, &self.id)).await;
                aborted.map_err(|error| BucketError {
                    kind: BucketErrorKind::Transient,
                    maybe_stored: false,
                    retry_after: None,
                    message: deepest(&error),
                })
            };
            let Err(failure) = self.patience.within("", 0, abort).await else { return };
            if let Err(failure) = tries.again(failure).await {
                debug!(path = %self.path, %failure, "the parts of an object that broke off are left to the store");
                return;
            }
        }
    }
}

/// Whoever waited for the object is gone, and its parts are to go too.
impl Drop for Begun {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if !self.over {
            let Self { stores, path, id, patience, .. } = self;
            let begun =
                Self { stores: stores.clone(), path: path.clone(), id: id.clone(), patience: *patience, over: true };
            runtime.spawn(async move { begun.give_up().await });
        }
    }
}
