//! Amazon S3, as moto speaks it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use framehaul::config::Credentials;
use framehaul::storage::{Bucket as _, BucketErrorKind, ContentType, Created, ObjectStoreBucket, s3};

use super::conformance::{KEY, conforms, content, put};
use super::responder::{Reply, Responder};
use super::servers::Server;

pub const BUCKET: &str = "frames";

/// A key file, in a directory that goes when the test ends.
pub fn key_file(id: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("credentials");
    write_key(&path, id);
    (dir, path)
}

pub fn write_key(path: &std::path::Path, id: &str) {
    std::fs::write(path, format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = canary\n")).unwrap();
}

/// Makes a server's bucket.
pub async fn with_bucket(server: Server) -> Server {
    let made = reqwest::Client::new().put(format!("{}/{BUCKET}", server.endpoint)).send().await.unwrap();
    assert!(made.status().is_success(), "{made:?}");
    server
}

pub fn open(endpoint: &str, bucket: &str, key_file: PathBuf) -> ObjectStoreBucket {
    s3::open(bucket, "some/prefix/", Some(endpoint), None, &Credentials::KeyFile(key_file)).unwrap()
}

/// The same without credentials.
pub fn bare(endpoint: &str) -> ObjectStoreBucket {
    s3::open(BUCKET, "", Some(endpoint), None, &Credentials::Anonymous).unwrap()
}

#[tokio::test]
async fn s3_conforms() {
    let server = with_bucket(Server::moto()).await;
    let (_dir, key_file) = key_file("framehaul");
    let bucket = Arc::new(open(&server.endpoint, BUCKET, key_file));
    conforms(bucket.clone()).await;
    assert_eq!(bucket.url(KEY), format!("s3://frames/some/prefix/{KEY}"));
    let bare = bare(&server.endpoint);
    // The prefix is a part of the objects' names.
    let page = bare.list("some/prefix/gate/", None).await.unwrap();
    assert_eq!(page.objects.len(), 3);
    assert_eq!(page.objects[0].key, format!("some/prefix/{KEY}"));
}

#[tokio::test]
async fn an_s3_bucket_that_is_not_there_is_said_to_be_missing() {
    let server = with_bucket(Server::moto()).await;
    let (_dir, key_file) = key_file("framehaul");
    let bucket = open(&server.endpoint, "elsewhere", key_file);
    let (first, crc32c) = content("the first content");
    let created = bucket.create(KEY, first, crc32c, ContentType::Jpeg).await.map(|_| ());
    for asked in [created, bucket.head(KEY).await.map(|_| ()), bucket.list("", None).await.map(|_| ())] {
        let error = asked.unwrap_err();
        assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::NotFound, false), "{error}");
        assert!(error.message.starts_with("s3://elsewhere: the server answered 404 (NoSuchBucket): "), "{error}");
    }
}

#[tokio::test]
async fn a_key_that_s3_does_not_know_is_refused_and_stores_nothing() {
    let server = with_bucket(Server::moto_with_accounts()).await;
    let (_dir, key_file) = key_file("nobody");
    let bucket = open(&server.endpoint, BUCKET, key_file);
    let (first, crc32c) = content("the first content");
    let created = bucket.create(KEY, first, crc32c, ContentType::Jpeg).await.map(|_| ());
    for asked in [created, bucket.head(KEY).await.map(|_| ()), bucket.list("", None).await.map(|_| ())] {
        let error = asked.unwrap_err();
        assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::Auth, false), "{error}");
        assert!(error.message.contains("check the destination's `key_file`"), "{error}");
    }
}

#[test]
fn the_endpoint_of_the_environment_has_the_bucket_in_the_path() {
    let server = Responder::start(|_| Reply::Answer(200, vec![("ETag", "\"1\"".to_owned())], String::new()));
    // The environment of this process is that of all tests.
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "s3::a_put_to_where_the_environment_says"])
        .envs([("AWS_ENDPOINT_URL", server.endpoint().as_str()), ("AWS_ACCESS_KEY_ID", "id")])
        .envs([("AWS_SECRET_ACCESS_KEY", "canary")])
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    let lines: Vec<String> = server.requests().into_iter().map(|request| request.line).collect();
    assert_eq!(lines, [format!("PUT /frames/{KEY} HTTP/1.1\r\n")]);
}

#[tokio::test]
#[ignore = "run by the test before, with an environment of its own"]
async fn a_put_to_where_the_environment_says() {
    let bucket = s3::open(BUCKET, "", None, None, &Credentials::Default).unwrap();
    assert_eq!(put(&bucket, KEY, "the first content").await, Created::New);
}
