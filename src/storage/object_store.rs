//! Buckets of Amazon S3 and Azure: the only user of the `object_store` crate.
//!
//! The crate is asked for one attempt at a time, without deadlines: retries and deadlines are ours. It hides an answer's
//! status and headers, so its HTTP client is wrapped in one that notes them.
//!
//! What protects an object on its way: towards S3 each request is signed together with the SHA-256 of its content, and
//! bytes that were damaged are refused. Azure's requests are signed without their content; there it is TLS alone, so
//! with an `http://` endpoint nothing.

pub mod azure;
mod multipart;
mod notes;
mod refusal;
mod renewable;
pub mod s3;

use std::sync::Arc;

use ::object_store::list::{PaginatedListOptions, PaginatedListStore};
use ::object_store::multipart::MultipartStore;
use ::object_store::path::Path;
use ::object_store::{
    Attribute, Attributes, ClientOptions, GetOptions, GetResult, ObjectStore, PutMode, PutOptions, PutPayload,
    RetryConfig,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::Extensions;

use self::azure::Signer;
use self::notes::{Asked, Notes};
use self::refusal::{Failure, deepest, is_of_the_line};
use self::renewable::Renewable;
use super::bucket::too_large;
use super::pieces::{PIECE, Pieces};
use super::tries::put_whole;
use super::{
    After, Bucket, BucketError, BucketErrorKind, ContentType, Created, Incoming, Listed, ObjectInfo, PAGE, Page,
    Patience, StreamError, Streamed,
};

/// A client of the crate.
trait Store: ObjectStore + PaginatedListStore + MultipartStore {}

impl<T: ObjectStore + PaginatedListStore + MultipartStore> Store for T {}

/// A client, and what it signs with where we change what it has signed.
#[derive(Clone)]
struct Client {
    store: Arc<dyn Store>,
    signer: Option<Arc<Signer>>,
}

/// Whose store it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cloud {
    S3,
    Azure,
}

/// What an account must be allowed, in its cloud's words.
#[derive(Clone, Copy, Debug)]
struct Permissions {
    create: &'static str,
    get: &'static str,
    list: &'static str,
}

/// A bucket of S3, or a container of Azure's.
#[derive(Debug)]
pub struct ObjectStoreBucket {
    cloud: Cloud,
    stores: Arc<Renewable>,
    prefix: String,
    permissions: Permissions,
    base_url: String,
    label: String,
}

impl ObjectStoreBucket {
    fn new(cloud: Cloud, bucket: &str, prefix: &str, permissions: Permissions, stores: Renewable) -> Self {
        let scheme = match cloud {
            Cloud::S3 => "s3",
            Cloud::Azure => "az",
        };
        Self {
            cloud,
            stores: Arc::new(stores),
            prefix: prefix.to_owned(),
            permissions,
            base_url: format!("{scheme}://{bucket}/{prefix}"),
            label: format!("{scheme}://{bucket}"),
        }
    }

    fn path(&self, key: &str) -> Result<Path, BucketError> {
        Path::parse(format!("{}{key}", self.prefix)).map_err(|error| BucketError {
            kind: BucketErrorKind::Permanent,
            maybe_stored: false,
            retry_after: None,
            message: format!("{}: cannot name an object `{key}`: {error}", self.label),
        })
    }

    /// Makes an attempt, and a second one at once where the first was refused for its credentials and there are others.
    async fn attempt<T, F>(
        &self,
        asked: Asked,
        attempt: impl Fn(Arc<dyn Store>, Extensions) -> F + Send + Sync,
    ) -> Result<Result<T, Failure>, BucketError>
    where
        T: Send,
        F: Future<Output = ::object_store::Result<T>> + Send,
    {
        let mut last = false;
        loop {
            let (number, Client { store, signer }) = self.stores.current();
            let notes = Notes::of(asked, signer);
            let result = notes.along(attempt(store, notes.extensions())).await;
            let failure = match result {
                Ok(done) => {
                    self.stores.accepted(number);
                    return Ok(Ok(done));
                }
                Err(error) => Failure { heard: notes.heard(), cause: deepest(&error), line: is_of_the_line(&error) },
            };
            if failure.tells_that_we_are_known() {
                self.stores.accepted(number);
            }
            let renewed = !last && failure.is_about_credentials() && self.stores.renew(number)?;
            if !renewed {
                return Ok(Err(failure));
            }
            last = true;
        }
    }

    async fn open(&self, key: &str) -> Result<Option<GetResult>, BucketError> {
        let path = &self.path(key)?;
        let open = |store: Arc<dyn Store>, extensions| async move {
            store.get_opts(path, GetOptions { extensions, ..GetOptions::default() }).await
        };
        match self.attempt(Asked::Object, open).await? {
            Ok(object) => Ok(Some(object)),
            Err(failure) if failure.is_no_object() => Ok(None),
            Err(failure) => Err(self.error(&failure, self.permissions.get)),
        }
    }

    /// Reads an object to its end; with patience, no longer than something comes.
    async fn sum(&self, key: &str, patience: Option<Patience>) -> Result<Option<ObjectInfo>, BucketError> {
        let open = self.open(key);
        let object = match patience {
            Some(patience) => patience.within(&self.label, 0, open).await?,
            None => open.await?,
        };
        let Some(object) = object else { return Ok(None) };
        let mut content = object.into_stream();
        let mut info = ObjectInfo { bytes: 0, crc32c: 0 };
        loop {
            let next = async { content.try_next().await.map_err(|error| self.broken(&error)) };
            let part = match patience {
                Some(patience) => patience.within(&self.label, 0, next).await?,
                None => next.await?,
            };
            let Some(part) = part else { return Ok(Some(info)) };
            info.bytes += part.len() as u64;
            info.crc32c = crc32c::crc32c_append(info.crc32c, &part);
        }
    }

    fn error(&self, failure: &Failure, permission: &str) -> BucketError {
        refusal::map_error(&self.label, self.stores.remedy(), permission, failure)
    }

    fn broken(&self, error: &::object_store::Error) -> BucketError {
        BucketError {
            kind: BucketErrorKind::Transient,
            maybe_stored: true,
            retry_after: None,
            message: format!("{}: reading an object broke off: {}", self.label, deepest(error)),
        }
    }
}

#[async_trait]
impl Bucket for ObjectStoreBucket {
    async fn create(
        &self,
        key: &str,
        content: Bytes,
        _crc32c: u32,
        content_type: ContentType,
    ) -> Result<Created, BucketError> {
        let path = &self.path(key)?;
        let put = |store: Arc<dyn Store>, extensions| {
            let options = PutOptions {
                mode: PutMode::Create,
                attributes: Attributes::from_iter([(Attribute::ContentType, content_type.as_str())]),
                extensions,
                ..PutOptions::default()
            };
            let payload = PutPayload::from(content.clone());
            async move { store.put_opts(path, payload, options).await }
        };
        match self.attempt(Asked::Object, put).await? {
            Ok(_) => Ok(Created::New),
            Err(failure) if failure.is_an_object() => Ok(Created::Exists),
            Err(failure) => Err(self.error(&failure, self.permissions.create)),
        }
    }

    /// What the store is told to have is compared by its size: the checksum is that of what came. Towards S3 each part is
    /// signed together with the SHA-256 of its content, as an object is that is put at once.
    async fn create_stream(&self, key: &str, incoming: Incoming) -> Result<Streamed, StreamError> {
        let Incoming { content_type, size_hint, body, patience } = incoming;
        let mut pieces = Pieces::of(body, PIECE);
        let first = pieces.next().await.map_err(StreamError::Body)?;
        if first.last {
            return Ok(put_whole(self, key, first, content_type, patience).await?);
        }
        multipart::put(self, key, content_type, size_hint, first, pieces, patience).await
    }

    /// Reads the whole object: neither store keeps a CRC32C of what was put without one.
    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, BucketError> {
        self.sum(key, None).await
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Option<Bytes>, BucketError> {
        let Some(object) = self.open(key).await? else { return Ok(None) };
        if object.meta.size > limit {
            return Err(too_large(&self.url(key), limit));
        }
        let mut parts = object.into_stream();
        let mut content = Vec::new();
        while let Some(part) = parts.try_next().await.map_err(|error| self.broken(&error))? {
            content.extend_from_slice(&part);
            if content.len() as u64 > limit {
                return Err(too_large(&self.url(key), limit));
            }
        }
        Ok(Some(content.into()))
    }

    async fn list(&self, prefix: &str, after: Option<&After>) -> Result<Page, BucketError> {
        let prefix = &format!("{}{prefix}", self.prefix);
        let behind = After::behind(after);
        let offset = (!behind.is_empty()).then(|| format!("{}{behind}", self.prefix));
        let page_token = After::token(after).map(str::to_owned);
        let list = |store: Arc<dyn Store>, extensions| {
            let options = PaginatedListOptions {
                offset: offset.clone(),
                page_token: page_token.clone(),
                max_keys: Some(PAGE),
                extensions,
                ..PaginatedListOptions::default()
            };
            async move { store.list_paginated(Some(prefix), options).await }
        };
        let page = match self.attempt(Asked::List, list).await? {
            Ok(page) => page,
            Err(failure) => return Err(self.error(&failure, self.permissions.list)),
        };
        // Not every server knows an offset.
        let objects = page.result.objects.into_iter().filter_map(|object| {
            let key = object.location.as_ref().strip_prefix(&self.prefix).filter(|key| *key > behind)?.to_owned();
            Some(Listed { key, bytes: object.size, crc32c: None })
        });
        let next = page.page_token.map(|token| After::Page { token, behind: behind.to_owned() });
        Ok(Page { objects: objects.collect(), next })
    }

    fn base_url(&self) -> &str {
        &self.base_url
    }

    fn label(&self) -> &str {
        &self.label
    }
}

/// No retries: those are ours.
fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// No timeouts: an attempt's deadline is ours, and depends on its size. Plain HTTP where an endpoint asks for it.
fn client_options(endpoint: Option<&str>) -> ClientOptions {
    ClientOptions::new()
        .with_timeout_disabled()
        .with_connect_timeout_disabled()
        .with_allow_http(endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")))
}
