//! Cloud Storage, as the test bed speaks it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use framehaul::config::Credentials;
use framehaul::storage::{Bucket, BucketErrorKind, ContentType, Created, GcsBucket};
use testbed::gcs::{GcsServer, Knobs, Options};

use super::conformance::{KEY, conforms, content, info, listed, nothing_is_overwritten};

fn server() -> GcsServer {
    GcsServer::start(Options { buckets: vec!["frames".to_owned()], ..Options::default() }).unwrap()
}

async fn gcs(server: &GcsServer, bucket: &str) -> GcsBucket {
    GcsBucket::open(bucket, "some/prefix/", Some(&server.endpoint()), &Credentials::Anonymous).await.unwrap()
}

#[tokio::test]
async fn cloud_storage_conforms() {
    let server = server();
    let bucket = Arc::new(gcs(&server, "frames").await);
    conforms(bucket.clone()).await;
    assert_eq!(bucket.url(KEY), format!("gs://frames/some/prefix/{KEY}"));
    // It keeps checksums, and tells them.
    assert!(listed(&*bucket, "list/", None).await.0.iter().all(|object| object.crc32c.is_some()));
    assert!(server.objects("frames").iter().all(|object| object.name.starts_with("some/prefix/")));
    assert_eq!(server.stats().puts_stored, server.objects("frames").len() as u64);
}

#[tokio::test]
async fn bytes_damaged_on_the_way_to_cloud_storage_are_not_stored() {
    let server = server();
    let bucket = gcs(&server, "frames").await;
    let (first, crc32c) = content("the first content");
    let error = bucket.create(KEY, first.clone(), crc32c ^ 1, ContentType::Jpeg).await.unwrap_err();
    // What will never be taken is answered like this as well: so nothing is lost by one refusal.
    assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::Permanent, false), "{error}");
    assert_eq!(server.stats().checksum_failures, 1);
    assert_eq!(bucket.head(KEY).await.unwrap(), None);
    assert_eq!(bucket.create(KEY, first, crc32c, ContentType::Jpeg).await.unwrap(), Created::New);
}

#[tokio::test]
async fn a_cloud_storage_bucket_that_is_not_there_is_said_to_be_missing() {
    let server = server();
    let (first, crc32c) = content("the first content");
    let bucket = gcs(&server, "elsewhere").await;
    let created = bucket.create(KEY, first, crc32c, ContentType::Jpeg).await.map(|_| ());
    for asked in [created, bucket.list("", None).await.map(|_| ())] {
        let error = asked.unwrap_err();
        assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::NotFound, false), "{error}");
        assert!(error.message.contains("gs://elsewhere"), "{error}");
    }
}

#[tokio::test]
async fn refusals_of_cloud_storage_have_their_kind_and_store_nothing() {
    let server = server();
    let bucket = gcs(&server, "frames").await;
    let refused = |status| Knobs { refuse_status: Some(status), ..Knobs::default() };
    let throttled = Knobs { rate_429: 1.0, retry_after_s: Some(7), ..Knobs::default() };
    let unavailable = Knobs { rate_503: 1.0, retry_after_s: Some(7), ..Knobs::default() };
    let wait = Some(Duration::from_secs(7));
    for (knobs, kind, retry_after) in [
        (refused(401), BucketErrorKind::Auth, None),
        (refused(403), BucketErrorKind::Auth, None),
        (refused(404), BucketErrorKind::NotFound, None),
        (throttled, BucketErrorKind::Throttled, wait),
        (unavailable, BucketErrorKind::Throttled, wait),
    ] {
        server.change_knobs(|now| *now = knobs.clone()).unwrap();
        let (first, crc32c) = content("the first content");
        let error = bucket.create(KEY, first, crc32c, ContentType::Jpeg).await.unwrap_err();
        let found = (error.kind, error.maybe_stored, error.retry_after);
        // After 503 Cloud Storage promises nothing.
        assert_eq!(found, (kind, knobs.rate_503 > 0.0, retry_after), "{knobs:?}: {error}");
    }
    assert!(server.objects("frames").is_empty());
    // Each permission is asked for by its name: writing needs one, the proof of what is there another.
    server.change_knobs(|now| *now = refused(403)).unwrap();
    let (first, crc32c) = content("the first content");
    for (error, missing) in [
        (bucket.create(KEY, first, crc32c, ContentType::Jpeg).await.unwrap_err(), "storage.objects.create"),
        (bucket.head(KEY).await.unwrap_err(), "storage.objects.get"),
    ] {
        assert_eq!(
            error.message,
            format!("gs://frames: the server answered 403: grant the account {missing} on the bucket")
        );
    }
    server.change_knobs(|now| *now = Knobs::default()).unwrap();
    nothing_is_overwritten(&bucket).await;
}

#[tokio::test]
async fn after_a_lost_answer_of_cloud_storage_the_object_may_be_there_and_is() {
    let server = server();
    let bucket = gcs(&server, "frames").await;
    server.change_knobs(|knobs| knobs.rate_lost_answer = 1.0).unwrap();
    let (first, crc32c) = content("the first content");
    let error = bucket.create(KEY, first.clone(), crc32c, ContentType::Jpeg).await.unwrap_err();
    assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::Throttled, true), "{error}");
    assert_eq!(server.stats().injected.lost_answers, 1);
    server.change_knobs(|knobs| knobs.rate_lost_answer = 0.0).unwrap();
    assert_eq!(bucket.create(KEY, first, crc32c, ContentType::Jpeg).await.unwrap(), Created::Exists);
    assert_eq!(bucket.head(KEY).await.unwrap(), Some(info("the first content")));
}

#[tokio::test]
async fn where_nothing_listens_nothing_was_stored() {
    let server = server();
    let bucket = gcs(&server, "frames").await;
    drop(server);
    let (first, crc32c) = content("the first content");
    let error = bucket.create(KEY, first, crc32c, ContentType::Jpeg).await.unwrap_err();
    assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::Transient, false), "{error}");
}

/// A server that wants tokens.
fn strict_server() -> GcsServer {
    let knobs = Knobs { require_auth: true, ..Knobs::default() };
    GcsServer::start(Options { buckets: vec!["frames".to_owned()], knobs, ..Options::default() }).unwrap()
}

async fn with_key(server: &GcsServer, key_file: &Path) -> Arc<GcsBucket> {
    let credentials = Credentials::KeyFile(key_file.to_owned());
    Arc::new(GcsBucket::open("frames", "", Some(&server.endpoint()), &credentials).await.unwrap())
}

/// Creates objects, all at the same time.
async fn create_many(bucket: &Arc<GcsBucket>, names: impl Iterator<Item = String>) -> Vec<Created> {
    let tasks: Vec<_> = names
        .map(|name| {
            let bucket = bucket.clone();
            let (first, crc32c) = content("the first content");
            tokio::spawn(async move { bucket.create(&name, first, crc32c, ContentType::Jpeg).await })
        })
        .collect();
    let mut created = Vec::new();
    for task in tasks {
        created.push(task.await.unwrap().unwrap());
    }
    created
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_refused_before_their_time_cost_one_renewal_and_no_attempt() {
    let server = strict_server();
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("key.json");
    std::fs::write(&key_file, server.service_account_key()).unwrap();
    let opened = Instant::now();
    let bucket = with_key(&server, &key_file).await;
    nothing_is_overwritten(&*bucket).await;
    assert_eq!(server.stats().auth.jwts_met, 1);

    // One is under way, stored and not answered yet, when the token ends.
    server.change_knobs(|knobs| knobs.latency_ms = 500).unwrap();
    let stored = server.stats().puts_stored;
    let under_way = tokio::spawn({
        let bucket = bucket.clone();
        async move { create_many(&bucket, std::iter::once("under way".to_owned())).await }
    });
    while server.stats().puts_stored == stored {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Two JWTs of the same second are the same.
    tokio::time::sleep_until((opened + Duration::from_millis(1_100)).into()).await;
    server.expire_tokens();
    let created = create_many(&bucket, (0..64).map(|i| format!("{i}.jpg"))).await;
    assert_eq!(created, [Created::New; 64]);
    assert_eq!(under_way.await.unwrap(), [Created::New]);
    let auth = server.stats().auth;
    assert!((2..=64).contains(&auth.refused_expired), "{auth:?}");
    assert_eq!(auth.jwts_met, 2, "{auth:?}");

    // Reads and listings renew as well.
    server.change_knobs(|knobs| knobs.latency_ms = 0).unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    server.expire_tokens();
    assert_eq!(bucket.head(KEY).await.unwrap(), Some(info("the first content")));
    assert_eq!(server.stats().auth.jwts_met, 3);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    server.expire_tokens();
    assert_eq!(bucket.list(KEY, None).await.unwrap().objects.len(), 2);
    assert_eq!(server.stats().auth.jwts_met, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_said_to_be_one_and_a_right_one_is_taken_up_when_it_comes() {
    let (server, other) = (strict_server(), strict_server());
    server.service_account_key();
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("key.json");
    std::fs::write(&key_file, other.service_account_key()).unwrap();
    let bucket = with_key(&server, &key_file).await;
    let try_for = async |seconds: u64| {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            let (first, crc32c) = content("the first content");
            match bucket.create(KEY, first, crc32c, ContentType::Jpeg).await {
                Err(error) if Instant::now() < deadline => {
                    assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::Auth, false), "{error}");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                ended => break ended,
            }
        }
    };
    let error = try_for(2).await.unwrap_err();
    assert_eq!(error.message, "gs://frames: the server answered 401: check `storage.key_file`");
    std::fs::write(&key_file, "half a file").unwrap();
    let begun = Instant::now();
    let mut said = String::new();
    while !said.contains("it is not JSON") && begun.elapsed() < Duration::from_secs(10) {
        said = try_for(0).await.unwrap_err().message;
    }
    let named = format!("cannot use key file {}: it is not JSON: check `storage.key_file`", key_file.display());
    assert_eq!(said, format!("gs://frames: {named}"));
    std::fs::write(&key_file, server.service_account_key()).unwrap();
    assert_eq!(try_for(20).await.unwrap(), Created::New);
}

#[tokio::test]
async fn after_a_reset_by_cloud_storage_the_object_may_be_there_and_is() {
    let server = server();
    let bucket = gcs(&server, "frames").await;
    server.change_knobs(|knobs| knobs.rate_reset = 1.0).unwrap();
    let (first, crc32c) = content("the first content");
    let error = bucket.create(KEY, first.clone(), crc32c, ContentType::Jpeg).await.unwrap_err();
    assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::Transient, true), "{error}");
    assert_eq!(server.stats().injected.resets, 1);
    server.change_knobs(|knobs| knobs.rate_reset = 0.0).unwrap();
    assert_eq!(bucket.create(KEY, first, crc32c, ContentType::Jpeg).await.unwrap(), Created::Exists);
    assert_eq!(bucket.head(KEY).await.unwrap(), Some(info("the first content")));
}
