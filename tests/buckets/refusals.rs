//! What is made of a server's refusals, for S3 and Azure: no emulator refuses on demand.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use framehaul::config::Credentials;
use framehaul::storage::{Bucket, BucketErrorKind, ContentType, Created, GcsBucket};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::conformance::{KEY, content};
use super::responder::{Reply, Request, Responder};
use super::{azure, s3};

use BucketErrorKind::{Auth, NotFound, Permanent, Throttled, Transient};

/// Opens a bucket on a server.
type Open = fn(&Responder) -> (tempfile::TempDir, Box<dyn Bucket>);

fn open_s3(server: &Responder) -> (tempfile::TempDir, Box<dyn Bucket>) {
    let (dir, key_file) = s3::key_file("framehaul");
    (dir, Box::new(s3::open(&server.endpoint(), s3::BUCKET, key_file)))
}

fn open_azure(server: &Responder) -> (tempfile::TempDir, Box<dyn Bucket>) {
    let (dir, key_file) = azure::key_file(&server.endpoint(), "key");
    (dir, Box::new(azure::open(azure::CONTAINER, key_file)))
}

async fn create(bucket: &dyn Bucket) -> Result<Created, framehaul::storage::BucketError> {
    let (first, crc32c) = content("the first content");
    bucket.create(KEY, first, crc32c, ContentType::Jpeg).await
}

#[tokio::test]
async fn refusals_have_their_kind_and_one_attempt_is_one_request() {
    type Answer = fn(u16, &str) -> Reply;
    let (as_s3, as_azure): (Answer, Answer) = (Reply::s3, Reply::azure);
    // After 5xx no store promises that nothing was stored.
    for (open, reply, status, code, kind, maybe_stored) in [
        (open_s3 as Open, as_s3, 503, "SlowDown", Throttled, true),
        (open_s3, as_s3, 503, "ServiceUnavailable", Throttled, true),
        (open_s3, as_s3, 429, "", Throttled, false),
        (open_s3, as_s3, 500, "InternalError", Transient, true),
        (open_s3, as_s3, 502, "", Transient, true),
        (open_s3, as_s3, 501, "NotImplemented", Permanent, true),
        (open_s3, as_s3, 409, "ConditionalRequestConflict", Transient, false),
        (open_s3, as_s3, 400, "BadDigest", Transient, false),
        (open_s3, as_s3, 400, "XAmzContentSHA256Mismatch", Transient, false),
        (open_s3, as_s3, 400, "RequestTimeout", Transient, false),
        (open_s3, as_s3, 400, "InvalidRequest", Permanent, false),
        (open_s3, as_s3, 400, "ExpiredToken", Auth, false),
        (open_s3, as_s3, 403, "InvalidAccessKeyId", Auth, false),
        (open_s3, as_s3, 403, "SignatureDoesNotMatch", Auth, false),
        (open_s3, as_s3, 403, "AccessDenied", Auth, false),
        (open_s3, as_s3, 403, "RequestTimeTooSkewed", Auth, false),
        (open_s3, as_s3, 400, "AuthorizationHeaderMalformed", NotFound, false),
        (open_s3, as_s3, 301, "PermanentRedirect", NotFound, false),
        (open_s3, as_s3, 404, "NoSuchBucket", NotFound, false),
        (open_azure, as_azure, 503, "ServerBusy", Throttled, true),
        (open_azure, as_azure, 429, "", Throttled, false),
        (open_azure, as_azure, 500, "OperationTimedOut", Transient, true),
        (open_azure, as_azure, 400, "Md5Mismatch", Transient, false),
        (open_azure, as_azure, 400, "InvalidHeaderValue", Permanent, false),
        (open_azure, as_azure, 401, "InvalidAuthenticationInfo", Auth, false),
        (open_azure, as_azure, 403, "AuthenticationFailed", Auth, false),
        (open_azure, as_azure, 403, "AuthorizationPermissionMismatch", Auth, false),
        (open_azure, as_azure, 404, "ContainerNotFound", NotFound, false),
        (open_azure, as_azure, 409, "ContainerBeingDeleted", NotFound, false),
        (open_azure, as_azure, 413, "RequestBodyTooLarge", Permanent, false),
    ] {
        let code_given = code.to_owned();
        let server = Responder::start(move |_| reply(status, &code_given).with("Retry-After", "7"));
        let (_dir, bucket) = open(&server);
        let error = create(&*bucket).await.unwrap_err();
        assert_eq!((error.kind, error.maybe_stored), (kind, maybe_stored), "{status} {code}: {error}");
        assert_eq!(error.retry_after, Some(Duration::from_secs(7)), "{status} {code}");
        let answered = if code.is_empty() { format!("{status}") } else { format!("{status} ({code})") };
        let begin = format!("{}: the server answered {answered}", bucket.label());
        assert!(error.message.starts_with(&begin), "{error}");
        assert!(!error.message.contains("canary"), "{error}");
        assert_eq!(server.requests().len(), 1, "{status} {code}");
    }
}

#[tokio::test]
async fn an_object_that_is_there_is_told_from_other_conflicts() {
    for (open, reply) in [(open_s3 as Open, Reply::s3 as fn(u16, &str) -> Reply), (open_azure, Reply::azure)] {
        let server = Responder::start(move |_| reply(412, "PreconditionFailed"));
        assert_eq!(create(&*open(&server).1).await.unwrap(), Created::Exists);
    }
    for (status, code) in [(409, "BlobAlreadyExists"), (403, "UnauthorizedBlobOverwrite")] {
        let server = Responder::start(move |_| Reply::azure(status, code));
        assert_eq!(create(&*open_azure(&server).1).await.unwrap(), Created::Exists, "{code}");
    }
    // No object is one thing, no bucket another.
    for (open, reply, no_object) in [
        (open_s3 as Open, Reply::s3 as fn(u16, &str) -> Reply, "NoSuchKey"),
        (open_azure, Reply::azure, "BlobNotFound"),
    ] {
        let server = Responder::start(move |_| reply(404, no_object));
        let (_dir, bucket) = open(&server);
        assert_eq!(bucket.head(KEY).await.unwrap(), None);
        assert_eq!(bucket.get(KEY, 1).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_bucket_of_another_region_names_it() {
    let server = Responder::start(|_| Reply::s3(301, "PermanentRedirect").with("x-amz-bucket-region", "eu-central-1"));
    let error = create(&*open_s3(&server).1).await.unwrap_err();
    assert_eq!(
        error.message,
        "s3://frames: the server answered 301 (PermanentRedirect): the bucket is in the eu-central-1 region: \
         set the destination's `region`"
    );
}

fn ok() -> Reply {
    Reply::Answer(200, vec![("ETag", "\"1\"".to_owned())], String::new())
}

#[tokio::test]
async fn a_put_to_s3_is_create_only_typed_and_signed_with_its_content() {
    let server = Responder::start(|_| ok());
    let (_dir, bucket) = open_s3(&server);
    assert_eq!(create(&*bucket).await.unwrap(), Created::New);
    let [request]: [Request; 1] = server.requests().try_into().unwrap();
    assert_eq!(request.line.trim_end(), format!("PUT /frames/some/prefix/{KEY} HTTP/1.1"));
    assert_eq!(request.header("if-none-match"), Some("*"));
    assert_eq!(request.header("content-type"), Some("image/jpeg"));
    assert_eq!(request.body, b"the first content");
    let digest: String = Sha256::digest(&request.body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(request.header("x-amz-content-sha256"), Some(digest.as_str()));
    let authorization = request.header("authorization").unwrap();
    assert!(authorization.contains("Credential=framehaul/") && authorization.contains("/us-east-1/s3/"));
    assert!(authorization.contains("x-amz-content-sha256"), "{authorization}");
}

#[tokio::test]
async fn a_put_to_azure_is_create_only_and_typed() {
    let server = Responder::start(|_| ok().with("Last-Modified", "Wed, 21 Oct 2026 07:28:00 GMT"));
    let (_dir, bucket) = open_azure(&server);
    assert_eq!(create(&*bucket).await.unwrap(), Created::New);
    let [request]: [Request; 1] = server.requests().try_into().unwrap();
    assert_eq!(request.header("if-none-match"), Some("*"));
    assert_eq!(request.header("x-ms-blob-content-type"), Some("image/jpeg"));
    assert_eq!(request.body, b"the first content");
}

#[tokio::test]
async fn a_put_to_cloud_storage_is_create_only_and_tells_length_type_and_checksum() {
    let hash = BASE64_STANDARD.encode(crc32c::crc32c(b"the first content").to_be_bytes());
    let answer = json!({ "size": "17", "crc32c": hash }).to_string();
    let server = Responder::start(move |_| Reply::Answer(200, Vec::new(), answer.clone()));
    let (_dir, bucket) = open_gcs(&server).await;
    assert_eq!(create(&*bucket).await.unwrap(), Created::New);
    let [request]: [Request; 1] = server.requests().try_into().unwrap();
    let path = "/upload/storage/v1/b/frames/o?uploadType=multipart&ifGenerationMatch=0&fields=size,crc32c";
    let name: String = url::form_urlencoded::byte_serialize(KEY.as_bytes()).collect();
    assert_eq!(request.line.trim_end(), format!("POST {path}&name={name} HTTP/1.1"));
    assert_eq!(request.header("transfer-encoding"), None);
    let boundary = request.header("content-type").unwrap().strip_prefix("multipart/related; boundary=").unwrap();
    let parts = String::from_utf8(request.body.clone()).unwrap();
    let [before, described, content, end]: [&str; 4] =
        parts.split(&format!("--{boundary}")).collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((before, end), ("", "--\r\n"));
    let json_part = "\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n";
    let described: serde_json::Value = serde_json::from_str(described.strip_prefix(json_part).unwrap()).unwrap();
    let hash = BASE64_STANDARD.encode(crc32c::crc32c(b"the first content").to_be_bytes());
    assert_eq!(described, json!({ "contentType": "image/jpeg", "crc32c": hash }));
    assert_eq!(content, "\r\nContent-Type: image/jpeg\r\n\r\nthe first content\r\n");
}

#[tokio::test]
async fn after_a_reset_the_object_may_be_there_and_where_nothing_listens_it_is_not() {
    for open in [open_s3 as Open, open_azure] {
        let server = Responder::start(|_| Reply::Reset);
        let (_dir, bucket) = open(&server);
        let error = create(&*bucket).await.unwrap_err();
        assert_eq!((error.kind, error.maybe_stored), (Transient, true), "{error}");
        assert_eq!(server.requests().len(), 1);
        drop(server);
        let error = create(&*bucket).await.unwrap_err();
        assert_eq!((error.kind, error.maybe_stored), (Transient, false), "{error}");
        assert!(error.message.contains("refused"), "{error}");
    }
}

#[tokio::test]
async fn a_key_of_s3_that_is_replaced_is_taken_up_when_the_old_one_is_refused() {
    let server = Responder::start(|request| match request.header("authorization") {
        Some(authorization) if authorization.contains("Credential=new/") => ok(),
        _ => Reply::s3(403, "InvalidAccessKeyId"),
    });
    let (_dir, key_file): (_, PathBuf) = s3::key_file("old");
    let bucket = s3::open(&server.endpoint(), s3::BUCKET, key_file.clone());
    assert_eq!(create(&bucket).await.unwrap_err().kind, Auth);
    let until = async |done: &dyn Fn(&Result<Created, String>) -> bool| {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let result = create(&bucket).await.map_err(|error| {
                assert_eq!((error.kind, error.maybe_stored), (Auth, false), "{error}");
                error.message
            });
            if done(&result) {
                return;
            }
            assert!(Instant::now() < deadline, "{result:?}");
            // A key is read anew a second after the last time at the earliest.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    std::fs::write(&key_file, "half a file: canary").unwrap();
    until(&|result| {
        result.as_ref().is_err_and(|message| {
            assert!(!message.contains("canary"), "{message}");
            message.contains("there is no aws_access_key_id below [default]")
        })
    })
    .await;
    s3::write_key(&key_file, "new");
    until(&|result| *result == Ok(Created::New)).await;
}

/// Everything that can be asked, each once.
async fn ask_all(bucket: &dyn Bucket) -> [Result<(), framehaul::storage::BucketError>; 4] {
    [
        create(bucket).await.map(|_| ()),
        bucket.head(KEY).await.map(|_| ()),
        bucket.get(KEY, 100).await.map(|_| ()),
        bucket.list("", None).await.map(|_| ()),
    ]
}

async fn open_gcs(server: &Responder) -> (tempfile::TempDir, Box<dyn Bucket>) {
    let bucket = GcsBucket::open("frames", "", Some(&server.endpoint()), &Credentials::Anonymous).await.unwrap();
    (tempfile::tempdir().unwrap(), Box::new(bucket))
}

#[tokio::test]
async fn no_redirect_is_followed() {
    for kind in ["s3", "azure", "gcs"] {
        for status in [301, 302, 303, 307] {
            // A gateway's login page is all that a put of S3 needs to be taken for stored.
            let server = Responder::start(move |request| match request.line.contains("/login") {
                true => ok(),
                false => Reply::Answer(status, vec![("Location", "/login".to_owned())], "<html></html>".to_owned()),
            });
            let (_dir, bucket) = match kind {
                "s3" => open_s3(&server),
                "azure" => open_azure(&server),
                _ => open_gcs(&server).await,
            };
            for asked in ask_all(&*bucket).await {
                let error = asked.unwrap_err();
                assert_eq!((error.kind, error.maybe_stored), (NotFound, false), "{kind} {status}: {error}");
                let told = format!("the server answered {status}: it sends requests elsewhere");
                assert!(error.message.contains(&told), "{kind}: {error}");
            }
            let requests = server.requests();
            assert_eq!(requests.len(), 4, "{kind} {status}");
            assert!(requests.iter().all(|request| request.header("referer").is_none()), "{kind} {status}");
        }
    }
}

#[tokio::test]
async fn cloud_storage_must_say_what_it_has_stored() {
    // CRC32C of "the first content", as Cloud Storage tells it.
    let hash = BASE64_STANDARD.encode(crc32c::crc32c(b"the first content").to_be_bytes());
    for (answer, expected) in [
        (json!({ "name": KEY, "size": "17", "crc32c": hash }), Ok(Created::New)),
        (json!({}), Err((Transient, true))),
        (json!({ "error": "session expired" }), Err((Transient, true))),
        (json!({ "name": KEY, "size": "16", "crc32c": hash }), Err((Transient, true))),
        (json!({ "name": KEY, "size": "17" }), Err((Transient, true))),
    ] {
        let body = answer.to_string();
        let server = Responder::start(move |_| {
            Reply::Answer(200, vec![("Content-Type", "application/json".to_owned())], body.clone())
        });
        let created = create(&*open_gcs(&server).await.1).await;
        assert_eq!(created.map_err(|error| (error.kind, error.maybe_stored)), expected, "{answer}");
        assert_eq!(server.requests().len(), 1, "{answer}");
    }
}

#[tokio::test]
async fn an_object_of_cloud_storage_whose_size_is_not_told_is_not_taken_for_empty() {
    let hash = BASE64_STANDARD.encode(crc32c::crc32c(b"the first content").to_be_bytes());
    let server = Responder::start(move |_| {
        let headers = vec![("x-goog-generation", "1".to_owned()), ("x-goog-hash", format!("crc32c={hash}"))];
        Reply::Answer(200, headers, "the first content".to_owned())
    });
    let error = open_gcs(&server).await.1.head(KEY).await.unwrap_err();
    assert_eq!((error.kind, error.maybe_stored), (Transient, true), "{error}");
    assert!(error.message.contains("does not tell size and checksum"), "{error}");
}

#[tokio::test]
async fn a_read_of_cloud_storage_that_breaks_off_is_one_request() {
    let server = Responder::start(|_| {
        Reply::Raw(
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nx-goog-generation: 1\r\nx-goog-hash: crc32c=AAAAAA==\r\n\
             x-goog-stored-content-length: 10\r\nConnection: close\r\n\r\n"
                .to_owned(),
        )
    });
    let error = open_gcs(&server).await.1.get(KEY, 100).await.unwrap_err();
    assert_eq!(error.kind, Transient, "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn what_is_no_list_is_not_taken_for_an_empty_one() {
    for (open, text, is_list) in [
        (open_s3 as Open, "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>", true),
        (open_s3, "<Error><Code>InternalError</Code><Message>No.</Message></Error>", false),
        (open_s3, "<html><body>Log in</body></html>", false),
        (open_s3, "<ListAllMyBucketsResult><Buckets></Buckets></ListAllMyBucketsResult>", false),
        (open_s3, "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", false),
        (open_azure, "<EnumerationResults><Blobs></Blobs><NextMarker /></EnumerationResults>", true),
        (open_azure, "<html><body>Log in</body></html>", false),
    ] {
        let server = Responder::start(move |_| Reply::Answer(200, Vec::new(), text.to_owned()));
        let listed = open(&server).1.list("", None).await;
        match listed {
            Ok(page) => assert!(is_list && page.objects.is_empty() && page.next.is_none(), "{text}"),
            Err(error) => {
                assert!(!is_list, "{text}: {error}");
                assert_eq!(error.kind, Transient, "{text}: {error}");
                assert!(error.message.contains("the answer cannot be read: "), "{text}: {error}");
            }
        }
    }
    let server = Responder::start(|_| Reply::Answer(200, Vec::new(), "{\"error\": {}}".to_owned()));
    let error = open_gcs(&server).await.1.list("", None).await.unwrap_err();
    assert_eq!(error.kind, Transient, "{error}");
}
