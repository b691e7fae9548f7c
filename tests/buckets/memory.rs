//! A bucket in memory: what the questions ask for, in the fewest words.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use framehaul::storage::{
    After, Bucket, BucketError, BucketErrorKind, ContentType, Created, Incoming, Listed, ObjectInfo, PAGE, Page,
    StreamError, Streamed,
};
use futures_util::StreamExt as _;

use super::{conformance, streams};

#[derive(Default)]
pub struct MemoryBucket(Mutex<BTreeMap<String, Bytes>>);

#[async_trait]
impl Bucket for MemoryBucket {
    async fn create(&self, key: &str, content: Bytes, _: u32, _: ContentType) -> Result<Created, BucketError> {
        let mut objects = self.0.lock().unwrap();
        if objects.contains_key(key) {
            return Ok(Created::Exists);
        }
        objects.insert(key.to_owned(), content);
        Ok(Created::New)
    }

    async fn create_stream(&self, key: &str, mut incoming: Incoming) -> Result<Streamed, StreamError> {
        let mut content = Vec::new();
        while let Some(part) = incoming.body.next().await {
            content.extend_from_slice(&part.map_err(StreamError::Body)?);
        }
        let info = |content: &[u8]| ObjectInfo { bytes: content.len() as u64, crc32c: crc32c::crc32c(content) };
        let came = info(&content);
        Ok(match self.create(key, content.into(), came.crc32c, incoming.content_type).await? {
            Created::New => Streamed::New(came),
            Created::Exists => {
                let there = info(&self.0.lock().unwrap()[key]);
                Streamed::Exists { there, came: Some(came) }
            }
        })
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, BucketError> {
        let info = |content: &Bytes| ObjectInfo { bytes: content.len() as u64, crc32c: crc32c::crc32c(content) };
        Ok(self.0.lock().unwrap().get(key).map(info))
    }

    async fn get(&self, key: &str, limit: u64) -> Result<Option<Bytes>, BucketError> {
        match self.0.lock().unwrap().get(key) {
            Some(content) if content.len() as u64 > limit => Err(BucketError {
                kind: BucketErrorKind::Permanent,
                maybe_stored: true,
                retry_after: None,
                message: format!("{key} has more than {limit} bytes"),
            }),
            content => Ok(content.cloned()),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&After>) -> Result<Page, BucketError> {
        let after = match after {
            Some(After::Key(key) | After::Page { behind: key, .. }) => Excluded(key.as_str()),
            None => Unbounded,
        };
        let objects = self.0.lock().unwrap();
        let mut found = objects.range::<str, _>((after, Unbounded)).filter(|(key, _)| key.starts_with(prefix));
        let listed = |(key, content): (&String, &Bytes)| Listed {
            key: key.clone(),
            bytes: content.len() as u64,
            crc32c: Some(crc32c::crc32c(content)),
        };
        let objects: Vec<_> = found.by_ref().take(PAGE).map(listed).collect();
        let next = found.next().and_then(|_| Some(After::Key(objects.last()?.key.clone())));
        Ok(Page { objects, next })
    }

    fn base_url(&self) -> &str {
        "memory:///"
    }

    fn label(&self) -> &str {
        "memory"
    }
}

#[tokio::test]
async fn memory_conforms() {
    conformance::conforms(Arc::new(MemoryBucket::default())).await;
    streams::conforms(&MemoryBucket::default()).await;
}
