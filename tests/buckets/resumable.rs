//! Objects of any size in Cloud Storage, while it fails.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use framehaul::config::Credentials;
use framehaul::storage::{Bucket as _, BucketErrorKind, GcsBucket, Incoming, Patience, StreamError, Streamed};
use futures_util::{StreamExt as _, stream};
use testbed::gcs::{GcsServer, Knobs, Options};

use super::conformance::noise;
use super::responder::{Reply, Responder};
use super::streams::{PIECE, conforms, cut, incoming, info, of, parts, stalled, until};

const KEY: &str = "gate/clip.mp4";

fn server_with(knobs: Knobs) -> Arc<GcsServer> {
    Arc::new(GcsServer::start(Options { buckets: vec!["frames".to_owned()], knobs, ..Options::default() }).unwrap())
}

fn server() -> Arc<GcsServer> {
    server_with(Knobs::default())
}

async fn open(server: &GcsServer) -> GcsBucket {
    GcsBucket::open("frames", "", Some(&server.endpoint()), &Credentials::Anonymous).await.unwrap()
}

/// What comes, and what is done when so many bytes of it have come.
fn midway(content: &Bytes, at: usize, act: impl FnOnce() + Send + 'static) -> Incoming {
    let (before, after) = (content.slice(..at), content.slice(at..));
    let act = stream::once(async move {
        act();
        Ok(Bytes::new())
    });
    incoming(stream::iter(parts(&before)).chain(act).chain(stream::iter(parts(&after))).boxed())
}

/// Waits until the first piece of an object is there.
fn has_a_piece(server: &GcsServer) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while server.stats().requests.upload_piece == 0 {
        assert!(Instant::now() < deadline, "no piece comes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cloud_storage_takes_objects_of_any_size() {
    let server = server();
    let bucket = open(&server).await;
    conforms(&bucket).await;
    let objects = server.objects("frames");
    assert!(objects.iter().all(|object| object.content_type == "video/mp4"), "{objects:?}");
    assert_eq!(server.stats().puts_stored, objects.len() as u64);
    assert_eq!(server.stats().checksum_failures, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_goes_at_once_into_cloud_storage_than_a_piece_and_what_breaks_off_is_cancelled() {
    let server = server();
    let bucket = open(&server).await;
    let content = noise(1, 2 * PIECE + 5);
    assert_eq!(bucket.create_stream(KEY, of(&content)).await.unwrap(), Streamed::New(info(&content)));
    let requests = server.stats().requests;
    assert_eq!((requests.upload_start, requests.upload_piece, requests.upload_multipart), (1, 3, 0), "{requests:?}");
    assert_eq!(requests.upload_cancel, 0, "what is stored is left alone");
    let content = noise(1, PIECE);
    assert_eq!(bucket.create_stream("small", of(&content)).await.unwrap(), Streamed::New(info(&content)));
    let requests = server.stats().requests;
    assert_eq!((requests.upload_start, requests.upload_multipart), (1, 1), "{requests:?}");
    // An error of what comes is told when the upload has been cancelled.
    bucket.create_stream("cut", cut(&noise(2, 20 << 20))).await.unwrap_err();
    assert_eq!(server.stats().requests.upload_cancel, 1);
    // Where nobody waits any more it is cancelled all the same.
    let (body, stalls) = stalled(&noise(2, 20 << 20));
    tokio::select! {
        ended = bucket.create_stream("left", body) => panic!("it does not end: {ended:?}"),
        () = async {
            stalls.acquire().await.unwrap().forget();
            until("two pieces are there", async || server.stats().requests.upload_piece == 7).await;
        } => {}
    }
    until("it is cancelled", async || server.stats().requests.upload_cancel == 2).await;
    assert_eq!(server.objects("frames").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_that_fail_in_every_way_are_sent_again_and_no_object_is_lost_or_wrong() {
    const OBJECTS: u64 = 20;
    let rate = 0.09;
    let knobs = Knobs {
        rate_503: rate,
        rate_429: rate,
        rate_lost_answer: rate,
        rate_reset: rate,
        rate_hang: rate,
        rate_part: rate,
        seed: 8,
        ..Knobs::default()
    };
    let server = server_with(knobs);
    let bucket = open(&server).await;
    let patience = Patience { answer: Duration::from_secs(1), slowest: 16 << 20, ..Patience::default() };
    let puts = (0..OBJECTS).map(|seed| {
        let (bucket, content) = (&bucket, noise(seed, 3 * PIECE + seed as usize));
        async move {
            let put = bucket.create_stream(&format!("{seed}"), Incoming { patience, ..of(&content) }).await;
            assert_eq!(put.unwrap(), Streamed::New(info(&content)), "{seed}");
        }
    });
    stream::iter(puts).buffer_unordered(10).collect::<Vec<_>>().await;
    let stats = server.stats();
    println!(
        "faults {}",
        serde_json::json!({"objects": OBJECTS, "injected": stats.injected, "requests": stats.requests})
    );
    for (fault, count) in [
        ("503", stats.injected.status_503),
        ("429", stats.injected.status_429),
        ("lost answers", stats.injected.lost_answers),
        ("resets", stats.injected.resets),
        ("hangs", stats.injected.hangs),
        ("parts", stats.injected.parts),
    ] {
        assert!(count > 0, "no {fault}: {stats:?}");
    }
    assert_eq!((stats.puts_stored, stats.checksum_failures), (OBJECTS, 0));
    for seed in 0..OBJECTS {
        assert!(server.read("frames", &seed.to_string()).unwrap() == noise(seed, 3 * PIECE + seed as usize), "{seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_answers_nothing_more_is_given_up_when_patience_ends_and_nothing_is_there() {
    let server = server();
    let bucket = open(&server).await;
    let hangs = server.clone();
    let content = noise(1, 20 << 20);
    let body = midway(&content, 10 << 20, move || hangs.change_knobs(|knobs| knobs.rate_hang = 1.0).unwrap());
    let patience =
        Patience { answer: Duration::from_millis(200), slowest: 1 << 30, retries_within: Duration::from_secs(2) };
    let begun = Instant::now();
    match bucket.create_stream(KEY, Incoming { patience, ..body }).await.unwrap_err() {
        StreamError::Bucket(error) => {
            assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::Transient, true), "{error}");
            assert!(error.message.starts_with("gs://frames: no answer within "), "{error}");
        }
        StreamError::Body(error) => panic!("nothing is wrong with what comes: {error}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(server.stats().injected.hangs >= 2, "{:?}", server.stats());
    assert!(server.objects("frames").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_bucket_is_given_the_time_that_its_bytes_need_and_no_more() {
    let server = server_with(Knobs { bandwidth_bytes_per_s: Some(8 << 20), ..Knobs::default() });
    let bucket = open(&server).await;
    let content = noise(1, 20 << 20);
    let patience =
        Patience { answer: Duration::from_secs(1), slowest: 4 << 20, retries_within: Duration::from_millis(500) };
    let begun = Instant::now();
    let put = bucket.create_stream("patient", Incoming { patience, ..of(&content) }).await.unwrap();
    assert_eq!(put, Streamed::New(info(&content)));
    // All of it takes much longer than one answer may.
    assert!(begun.elapsed() > Duration::from_secs(2), "{:?}", begun.elapsed());
    let patience = Patience { answer: Duration::from_millis(300), slowest: 64 << 20, ..patience };
    let put = bucket.create_stream("impatient", Incoming { patience, ..of(&content) }).await;
    assert!(matches!(&put, Err(StreamError::Bucket(error)) if error.kind == BucketErrorKind::Transient), "{put:?}");
    assert!(!server.has("frames", "impatient"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_cloud_storage_has_forgotten_is_put_again_by_whoever_has_all_of_it() {
    let server = server();
    let bucket = open(&server).await;
    let content = noise(1, 30 << 20);
    let forgets = server.clone();
    let body = midway(&content, 20 << 20, move || {
        has_a_piece(&forgets);
        forgets.expire_uploads();
    });
    match bucket.create_stream(KEY, body).await.unwrap_err() {
        StreamError::Bucket(error) => {
            assert_eq!(error.kind, BucketErrorKind::Transient, "{error}");
            assert!(error.message.contains("put it again from its beginning"), "{error}");
        }
        StreamError::Body(error) => panic!("nothing is wrong with what comes: {error}"),
    }
    assert!(server.objects("frames").is_empty());
    assert_eq!(bucket.create_stream(KEY, of(&content)).await.unwrap(), Streamed::New(info(&content)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_an_upload_that_is_gone_is_asked_until_it_is_told() {
    let content = noise(1, PIECE + 100);
    let hash = BASE64_STANDARD.encode(crc32c::crc32c(&content).to_be_bytes());
    let looks = AtomicUsize::new(0);
    let server = Responder::start(move |request| {
        let range = request.header("content-range").unwrap_or_default();
        match request.line.split(' ').next().unwrap_or_default() {
            "POST" => {
                let session = format!("http://{}/session", request.header("host").unwrap());
                Reply::Answer(200, vec![("Location", session)], String::new())
            }
            "PUT" if range.ends_with("/*") => {
                Reply::Answer(308, vec![("Range", format!("bytes=0-{}", PIECE - 1))], String::new())
            }
            // The last piece has come, nobody hears of it, and the session has gone up in the object.
            "PUT" if range.starts_with(&format!("bytes {PIECE}-")) => Reply::Reset,
            "PUT" => Reply::Answer(410, Vec::new(), String::new()),
            _ => match looks.fetch_add(1, SeqCst) {
                0 => Reply::Answer(503, Vec::new(), String::new()),
                1 => Reply::Silence,
                _ => Reply::Raw(format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {0}\r\nx-goog-generation: 1\r\nx-goog-hash: crc32c={hash}\r\n\
                     x-goog-stored-content-length: {0}\r\nConnection: close\r\n\r\n",
                    PIECE + 100
                )),
            },
        }
    });
    let bucket = GcsBucket::open("frames", "", Some(&server.endpoint()), &Credentials::Anonymous).await.unwrap();
    let patience = Patience { answer: Duration::from_secs(2), slowest: 1 << 20, ..Patience::default() };
    let put = bucket.create_stream(KEY, Incoming { patience, ..of(&content) });
    let put = tokio::time::timeout(Duration::from_secs(60), put).await.expect("it ends").unwrap();
    assert_eq!(put, Streamed::New(info(&content)));
    let asked = server.requests();
    assert_eq!(asked.iter().filter(|request| request.line.starts_with("GET ")).count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_in_the_middle_of_an_object_costs_nothing() {
    let server = server_with(Knobs { require_auth: true, ..Knobs::default() });
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("key.json");
    std::fs::write(&key_file, server.service_account_key()).unwrap();
    let bucket = with_key(&server, &key_file).await;
    let content = noise(1, 30 << 20);
    let ends = server.clone();
    let body = midway(&content, 20 << 20, move || {
        has_a_piece(&ends);
        ends.expire_tokens();
    });
    assert_eq!(bucket.create_stream(KEY, body).await.unwrap(), Streamed::New(info(&content)));
    let auth = server.stats().auth;
    assert!(auth.refused_expired >= 1, "{auth:?}");
}

async fn with_key(server: &GcsServer, key_file: &Path) -> GcsBucket {
    let credentials = Credentials::KeyFile(key_file.to_owned());
    GcsBucket::open("frames", "", Some(&server.endpoint()), &credentials).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_for_good_are_told_before_much_is_sent() {
    let server = server();
    let content = noise(1, 40 << 20);
    for (status, kind) in [(403, BucketErrorKind::Auth), (404, BucketErrorKind::NotFound)] {
        server.change_knobs(|knobs| knobs.refuse_status = Some(status)).unwrap();
        match open(&server).await.create_stream(KEY, of(&content)).await.unwrap_err() {
            StreamError::Bucket(error) => assert_eq!((error.kind, error.maybe_stored), (kind, false), "{error}"),
            StreamError::Body(error) => panic!("nothing is wrong with what comes: {error}"),
        }
        assert_eq!(server.stats().requests.upload_piece, 0);
    }
    assert_eq!(server.stats().injected.refused, 2);
}
