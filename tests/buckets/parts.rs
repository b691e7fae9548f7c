//! Objects of any size in S3 and Azure: as emulators take them, and as servers refuse them that a test makes up.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use framehaul::storage::{Bucket, BucketErrorKind, Incoming, ObjectStoreBucket, Patience, StreamError, Streamed};

use super::conformance::noise;
use super::responder::{Reply, Request, Responder};
use super::servers::{ACCOUNT_KEY, Server};
use super::streams::{PIECE, conforms, cut, info, of, stalled, until};
use super::{azure, s3};

const KEY: &str = "gate/clip.mp4";

#[tokio::test(flavor = "multi_thread")]
async fn s3_takes_objects_of_any_size_and_keeps_no_parts() {
    // One request after the other: moto looks whether there is an object, then writes it.
    let server = s3::with_bucket(Server::moto_in_turn()).await;
    let (_dir, key_file) = s3::key_file("framehaul");
    let bucket = s3::open(&server.endpoint, s3::BUCKET, key_file);
    conforms(&bucket).await;
    let uploads = async || s3_get(&server, &format!("{}?uploads", s3::BUCKET)).await.1.contains("<Upload>");
    until("no parts are left", async || !uploads().await).await;
    bucket.create_stream(KEY, cut(&noise(2, 20 << 20))).await.unwrap_err();
    assert!(!uploads().await, "they are gone when the error is told");
    let (body, stalls) = stalled(&noise(2, 20 << 20));
    tokio::select! {
        ended = bucket.create_stream(KEY, body) => panic!("it does not end: {ended:?}"),
        () = async {
            stalls.acquire().await.unwrap().forget();
            until("there are parts", async || uploads().await).await;
        } => {}
    }
    until("no parts are left", async || !uploads().await).await;
    let (kind, _) = s3_get(&server, &format!("{}/some/prefix/streams/{}.mp4", s3::BUCKET, PIECE + 1)).await;
    assert_eq!(kind, "video/mp4");
}

/// What there is, and of what type; unsigned, but for a name.
async fn s3_get(server: &Server, path: &str) -> (String, String) {
    let request = reqwest::Client::new()
        .get(format!("{}/{path}", server.endpoint))
        .header("authorization", "AWS4-HMAC-SHA256 Credential=plain/20260101/us-east-1/s3/aws4_request");
    let answer = request.send().await.unwrap().error_for_status().unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    (kind, String::from_utf8_lossy(&answer.bytes().await.unwrap()).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_takes_objects_of_any_size() {
    let server = azure::server().await;
    let (_dir, key_file) = azure::key_file(&server.endpoint, ACCOUNT_KEY);
    conforms(&azure::open(azure::CONTAINER, key_file)).await;
}

/// A made-up server that has taken parts, and what it was asked.
struct Made {
    server: Responder,
    _dir: tempfile::TempDir,
    bucket: ObjectStoreBucket,
}

impl Made {
    /// What was asked, by the first word and what tells what it is about.
    fn asked(&self) -> Vec<String> {
        self.server.requests().iter().map(step).collect()
    }
}

/// What a request is about.
fn step(request: &Request) -> String {
    let method = request.line.split(' ').next().unwrap_or_default();
    let step = ["uploads", "partNumber", "comp=blocklist", "comp=block", "uploadId"];
    let step = step.iter().find(|step| request.line.contains(*step)).unwrap_or(&"object");
    format!("{method} {step}")
}

/// A server that does all that it is asked, unless `other` says something else of the n-th request of its kind.
fn made_s3(size: usize, other: impl Fn(&str, usize) -> Option<Reply> + Send + 'static) -> Made {
    let counts = Mutex::new(std::collections::HashMap::<String, usize>::new());
    let server = Responder::start(move |request| {
        let step = step(request);
        let nth = {
            let mut counts = counts.lock().unwrap();
            let count = counts.entry(step.clone()).or_default();
            *count += 1;
            *count
        };
        let answer = |text: &str| Reply::Answer(200, vec![("ETag", "\"1\"".to_owned())], text.to_owned());
        other(&step, nth).unwrap_or_else(|| match step.as_str() {
            "POST uploads" => answer(
                "<InitiateMultipartUploadResult><Bucket>b</Bucket><Key>k</Key><UploadId>7</UploadId>\
                 </InitiateMultipartUploadResult>",
            ),
            "PUT partNumber" => answer(""),
            "POST uploadId" => {
                answer("<CompleteMultipartUploadResult><ETag>\"1\"</ETag></CompleteMultipartUploadResult>")
            }
            "DELETE uploadId" => Reply::Answer(204, Vec::new(), String::new()),
            "PUT comp=block" | "PUT comp=blocklist" => {
                Reply::Answer(201, vec![("ETag", "\"1\"".to_owned())], String::new())
            }
            "HEAD object" => head(size),
            _ => Reply::s3(404, "NoSuchKey"),
        })
    });
    let (dir, key_file) = s3::key_file("framehaul");
    let bucket = s3::open(&server.endpoint(), s3::BUCKET, key_file);
    Made { server, _dir: dir, bucket }
}

/// An object of so many bytes, as HEAD has it.
fn head(size: usize) -> Reply {
    Reply::Raw(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nETag: \"1\"\r\nConnection: close\r\n\
         Last-Modified: Wed, 01 Jul 2026 00:00:00 GMT\r\n\r\n"
    ))
}

fn with_patience(incoming: Incoming) -> Incoming {
    let patience = Patience { retries_within: Duration::from_secs(20), ..Patience::default() };
    Incoming { patience, ..incoming }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_s3_that_fail_are_sent_again_and_are_put_together_on_condition() {
    let content = noise(1, PIECE + 100);
    let made = made_s3(content.len(), |step, nth| match (step, nth) {
        ("POST uploads", 1) | ("PUT partNumber", 2) => Some(Reply::s3(503, "SlowDown")),
        ("PUT partNumber", 3) => Some(Reply::Reset),
        ("POST uploadId", 1) => Some(Reply::s3(500, "InternalError")),
        // S3 says 200 first, and then what was wrong.
        ("POST uploadId", 2) => Some(Reply::s3(200, "InternalError")),
        ("HEAD object", 1) => Some(Reply::s3(503, "SlowDown")),
        _ => None,
    });
    let put = made.bucket.create_stream(KEY, with_patience(of(&content))).await.unwrap();
    assert_eq!(put, Streamed::New(info(&content)));
    assert_eq!(
        made.asked(),
        [
            "GET object",
            "POST uploads",
            "POST uploads",
            "PUT partNumber",
            "PUT partNumber",
            "PUT partNumber",
            "PUT partNumber",
            "POST uploadId",
            "POST uploadId",
            "POST uploadId",
            "HEAD object",
            "HEAD object"
        ]
    );
    let requests = made.server.requests();
    let finishes = requests.iter().filter(|request| step(request) == "POST uploadId");
    assert!(finishes.clone().all(|request| request.header("if-none-match") == Some("*")));
    // Parts are signed together with what is in them.
    let parts = requests.iter().filter(|request| step(request) == "PUT partNumber");
    assert!(parts.clone().all(|part| part.header("x-amz-content-sha256").is_some_and(|sum| sum.len() == 64)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_s3_that_came_meanwhile_is_not_overwritten_and_the_parts_are_given_up() {
    let content = noise(1, PIECE + 100);
    let there = "somebody else's";
    let made = made_s3(content.len(), move |step, nth| match (step, nth) {
        ("POST uploadId", _) => Some(Reply::s3(412, "PreconditionFailed")),
        ("GET object", 2..) => Some(Reply::Bytes(Bytes::from(there))),
        _ => None,
    });
    let put = made.bucket.create_stream(KEY, with_patience(of(&content))).await.unwrap();
    let there = info(&Bytes::from(there));
    assert_eq!(put, Streamed::Exists { there, came: Some(info(&content)) });
    assert_eq!(made.asked().last().unwrap(), "DELETE uploadId");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_s3_that_came_meanwhile_is_not_called_new_when_a_look_at_it_fails() {
    let content = noise(1, PIECE + 100);
    let copy = content.clone();
    let made = made_s3(content.len(), move |step, nth| match (step, nth) {
        ("POST uploadId", _) => Some(Reply::s3(412, "PreconditionFailed")),
        ("GET object", 2) => Some(Reply::s3(503, "SlowDown")),
        ("GET object", 3..) => Some(Reply::Bytes(copy.clone())),
        _ => None,
    });
    let put = made.bucket.create_stream(KEY, with_patience(of(&content))).await.unwrap();
    assert_eq!(put, Streamed::Exists { there: info(&content), came: Some(info(&content)) });
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_s3_has_forgotten_are_told_at_once() {
    let content = noise(1, PIECE + 100);
    let made = made_s3(content.len(), |step, _| (step == "POST uploadId").then(|| Reply::s3(404, "NoSuchUpload")));
    let error = bucket_error(made.bucket.create_stream(KEY, with_patience(of(&content))).await);
    assert_eq!(error.kind, BucketErrorKind::Transient, "{error}");
    assert!(error.message.contains("put it again from its beginning"), "{error}");
    assert_eq!(made.asked()[4..], ["POST uploadId", "GET object", "DELETE uploadId"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_whose_last_answer_was_lost_is_known_again() {
    let content = noise(1, PIECE + 100);
    let copy = content.clone();
    // It was put together, nobody heard of it, and the upload is gone.
    let made = made_s3(content.len(), move |step, nth| match (step, nth) {
        ("POST uploadId", 1) => Some(Reply::Reset),
        ("POST uploadId", _) => Some(Reply::s3(404, "NoSuchUpload")),
        ("GET object", 2..) => Some(Reply::Bytes(copy.clone())),
        _ => None,
    });
    let put = made.bucket.create_stream(KEY, with_patience(of(&content))).await.unwrap();
    assert_eq!(put, Streamed::New(info(&content)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_another_size_than_was_sent_is_an_error() {
    let content = noise(1, PIECE + 100);
    let made = made_s3(PIECE, |_, _| None);
    let error = bucket_error(made.bucket.create_stream(KEY, with_patience(of(&content))).await);
    assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::Transient, true), "{error}");
    assert_eq!(error.message, format!("s3://frames: it has stored {PIECE} bytes of {} that were sent", content.len()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_store_takes_is_refused_before_anything_is_sent() {
    let made = made_s3(0, |_, _| None);
    let body = Incoming { size_hint: Some(10_000 * PIECE as u64 + 1), ..of(&noise(1, PIECE + 1)) };
    let error = bucket_error(made.bucket.create_stream(KEY, body).await);
    assert_eq!(error.kind, BucketErrorKind::Permanent, "{error}");
    assert_eq!(made.asked(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_are_refused_for_good_end_it_and_are_given_up() {
    let made = made_s3(0, |step, _| (step == "PUT partNumber").then(|| Reply::s3(404, "NoSuchBucket")));
    let error = bucket_error(made.bucket.create_stream(KEY, with_patience(of(&noise(1, PIECE + 1)))).await);
    assert_eq!(error.kind, BucketErrorKind::NotFound, "{error}");
    assert_eq!(made.asked(), ["GET object", "POST uploads", "PUT partNumber", "DELETE uploadId"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_azure_that_fail_are_sent_again_and_are_put_together_on_condition() {
    let content = noise(1, PIECE + 100);
    let (size, failed) = (content.len(), AtomicUsize::new(0));
    let server = Responder::start(move |request| match step(request).as_str() {
        "PUT comp=block" if failed.fetch_add(1, SeqCst) == 0 => Reply::azure(503, "ServerBusy"),
        "PUT comp=block" | "PUT comp=blocklist" => {
            Reply::Answer(201, vec![("ETag", "\"1\"".to_owned())], String::new())
        }
        "HEAD object" => head(size),
        _ => Reply::azure(404, "BlobNotFound"),
    });
    let bucket = azure::open(azure::CONTAINER, azure::key_file(&server.endpoint(), "key").1);
    // The key file is gone with its directory, but it was read.
    let put = bucket.create_stream(KEY, with_patience(of(&content))).await.unwrap();
    assert_eq!(put, Streamed::New(info(&content)));
    let requests = server.requests();
    let steps: Vec<String> = requests.iter().map(step).collect();
    let blocks = ["PUT comp=block"; 3];
    assert_eq!(steps, [&["GET object"][..], &blocks, &["PUT comp=blocklist", "HEAD object"]].concat());
    let finish = requests.iter().find(|request| step(request) == "PUT comp=blocklist").unwrap();
    assert_eq!(finish.header("if-none-match"), Some("*"));
    assert_eq!(finish.header("x-ms-blob-content-type"), Some("video/mp4"));
    assert_eq!(finish.headers.iter().filter(|(name, _)| name == "authorization").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credentials_the_condition_is_there_as_well() {
    let content = noise(1, PIECE + 100);
    let made = made_s3(content.len(), |_, _| None);
    let open = s3::bare(&made.server.endpoint());
    assert_eq!(open.create_stream(KEY, of(&content)).await.unwrap(), Streamed::New(info(&content)));
    let requests = made.server.requests();
    let finish = requests.iter().find(|request| step(request) == "POST uploadId").unwrap();
    assert_eq!((finish.header("if-none-match"), finish.header("authorization")), (Some("*"), None));
}

fn bucket_error(put: Result<Streamed, StreamError>) -> framehaul::storage::BucketError {
    match put.unwrap_err() {
        StreamError::Bucket(error) => error,
        StreamError::Body(error) => panic!("nothing is wrong with what comes: {error}"),
    }
}
