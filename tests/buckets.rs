//! What every bucket must do, over each of them: a directory, and Cloud Storage as an emulator speaks it.

#![allow(clippy::unwrap_used, reason = "a test fails that way")]

use std::time::Duration;

use bytes::Bytes;
use framehaul::config::Credentials;
use framehaul::model::Origin;
use framehaul::storage::{Bucket, BucketErrorKind, Created, FileBucket, GcsBucket, ObjectInfo};
use testbed::gcs::{GcsServer, Knobs, Options};

const KEY: &str = "gate/2026/07/01/a.jpg";

fn content(text: &'static str) -> (Bytes, u32) {
    (Bytes::from_static(text.as_bytes()), crc32c::crc32c(text.as_bytes()))
}

fn info(text: &str) -> ObjectInfo {
    ObjectInfo { bytes: text.len() as u64, crc32c: crc32c::crc32c(text.as_bytes()) }
}

/// The part that is the same for all of them.
async fn conforms(bucket: &dyn Bucket) {
    let (first, first_crc32c) = content("the first content");
    let (other, other_crc32c) = content("some other content");
    assert_eq!(bucket.head(KEY).await.unwrap(), None);
    assert_eq!(bucket.create(KEY, first.clone(), first_crc32c).await.unwrap(), Created::New);
    assert_eq!(bucket.head(KEY).await.unwrap(), Some(info("the first content")));
    assert_eq!(bucket.create(KEY, first, first_crc32c).await.unwrap(), Created::Exists);
    assert_eq!(bucket.create(KEY, other.clone(), other_crc32c).await.unwrap(), Created::Exists);
    assert_eq!(bucket.head(KEY).await.unwrap(), Some(info("the first content")), "nothing is ever overwritten");
    // A neighbour, and a key that goes on where another one ends.
    for key in ["gate/2026/07/01/b.jpg", "gate/2026/07/01/a.jpg.jpg"] {
        assert_eq!(bucket.head(key).await.unwrap(), None);
        assert_eq!(bucket.create(key, other.clone(), other_crc32c).await.unwrap(), Created::New);
        assert_eq!(bucket.head(key).await.unwrap(), Some(info("some other content")));
    }
    assert_eq!(bucket.create("empty.jpg", Bytes::new(), 0).await.unwrap(), Created::New);
    assert_eq!(bucket.head("empty.jpg").await.unwrap(), Some(info("")));
}

#[tokio::test]
async fn a_directory_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let origin = Origin::from_random([0; 5]);
    let open = || FileBucket::open(dir.path().join("frames"), &origin).unwrap();
    conforms(&open()).await;
    let again = open();
    assert_eq!(again.head(KEY).await.unwrap(), Some(info("the first content")), "it is there after a restart");
    let (first, crc32c) = content("the first content");
    assert_eq!(again.create(KEY, first, crc32c).await.unwrap(), Created::Exists);
}

fn server() -> GcsServer {
    GcsServer::start(Options { buckets: vec!["frames".to_owned()], ..Options::default() }).unwrap()
}

async fn gcs(server: &GcsServer, bucket: &str) -> GcsBucket {
    GcsBucket::open(bucket, "some/prefix/", Some(&server.endpoint()), &Credentials::Anonymous).await.unwrap()
}

#[tokio::test]
async fn cloud_storage_conforms() {
    let server = server();
    conforms(&gcs(&server, "frames").await).await;
    assert!(server.objects("frames").iter().all(|object| object.name.starts_with("some/prefix/")));
    assert_eq!(server.stats().puts_stored, server.objects("frames").len() as u64);
}

#[tokio::test]
async fn bytes_damaged_on_the_way_to_cloud_storage_are_not_stored() {
    let server = server();
    let bucket = gcs(&server, "frames").await;
    let (first, crc32c) = content("the first content");
    let error = bucket.create(KEY, first.clone(), crc32c ^ 1).await.unwrap_err();
    assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::Transient, false), "{error}");
    assert_eq!(server.stats().checksum_failures, 1);
    assert_eq!(bucket.head(KEY).await.unwrap(), None);
    assert_eq!(bucket.create(KEY, first, crc32c).await.unwrap(), Created::New);
}

#[tokio::test]
async fn a_cloud_storage_bucket_that_is_not_there_is_said_to_be_missing() {
    let server = server();
    let (first, crc32c) = content("the first content");
    let error = gcs(&server, "elsewhere").await.create(KEY, first, crc32c).await.unwrap_err();
    assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::NotFound, false), "{error}");
    assert!(error.message.contains("gs://elsewhere"), "{error}");
}

#[tokio::test]
async fn refusals_of_cloud_storage_have_their_kind_and_store_nothing() {
    let server = server();
    let bucket = gcs(&server, "frames").await;
    let refused = |status| Knobs { refuse_status: Some(status), ..Knobs::default() };
    let throttled = Knobs { rate_429: 1.0, retry_after_s: Some(7), ..Knobs::default() };
    let wait = Some(Duration::from_secs(7));
    for (knobs, kind, retry_after) in [
        (refused(401), BucketErrorKind::Auth, None),
        (refused(403), BucketErrorKind::Auth, None),
        (refused(404), BucketErrorKind::NotFound, None),
        (throttled, BucketErrorKind::Throttled, wait),
    ] {
        server.change_knobs(|now| *now = knobs.clone()).unwrap();
        let (first, crc32c) = content("the first content");
        let error = bucket.create(KEY, first, crc32c).await.unwrap_err();
        let found = (error.kind, error.maybe_stored, error.retry_after);
        assert_eq!(found, (kind, false, retry_after), "{knobs:?}: {error}");
    }
    assert!(server.objects("frames").is_empty());
    server.change_knobs(|now| *now = Knobs::default()).unwrap();
    conforms(&bucket).await;
}

#[tokio::test]
async fn after_a_lost_answer_of_cloud_storage_the_object_may_be_there_and_is() {
    let server = server();
    let bucket = gcs(&server, "frames").await;
    server.change_knobs(|knobs| knobs.rate_lost_answer = 1.0).unwrap();
    let (first, crc32c) = content("the first content");
    let error = bucket.create(KEY, first.clone(), crc32c).await.unwrap_err();
    assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::Transient, true), "{error}");
    assert_eq!(server.stats().injected.lost_answers, 1);
    server.change_knobs(|knobs| knobs.rate_lost_answer = 0.0).unwrap();
    assert_eq!(bucket.create(KEY, first, crc32c).await.unwrap(), Created::Exists);
    assert_eq!(bucket.head(KEY).await.unwrap(), Some(info("the first content")));
}

#[tokio::test]
async fn where_nothing_listens_nothing_was_stored() {
    let server = server();
    let bucket = gcs(&server, "frames").await;
    drop(server);
    let (first, crc32c) = content("the first content");
    let error = bucket.create(KEY, first, crc32c).await.unwrap_err();
    assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::Transient, false), "{error}");
}
