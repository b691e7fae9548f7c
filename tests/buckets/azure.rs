//! Azure Blob Storage, as Azurite speaks it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use framehaul::config::Credentials;
use framehaul::storage::{Bucket as _, BucketErrorKind, ContentType, Created, ObjectStoreBucket, azure};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::macros::format_description;

use super::conformance::{KEY, conforms, content};
use super::servers::{ACCOUNT, ACCOUNT_KEY, Server};

pub const CONTAINER: &str = "frames";

/// A key file, in a directory that goes when the test ends.
pub fn key_file(server: &str, key: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("connection");
    write_key(&path, server, key);
    (dir, path)
}

fn write_key(path: &Path, server: &str, key: &str) {
    let key = BASE64_STANDARD.encode(key);
    let text = format!(
        "DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={server}/{ACCOUNT};\n"
    );
    std::fs::write(path, text).unwrap();
}

/// A server with a container.
pub async fn server() -> Server {
    let server = Server::azurite();
    let made = signed_put(&server.endpoint, &format!("{ACCOUNT}/{CONTAINER}"), &[("restype", "container")]).await;
    assert!(made.status().is_success(), "{made:?}");
    server
}

/// A PUT without content, signed with the account's key, as the crate cannot make containers.
///
/// <https://learn.microsoft.com/en-us/rest/api/storageservices/authorize-with-shared-key>
async fn signed_put(endpoint: &str, path: &str, query: &[(&str, &str)]) -> reqwest::Response {
    let format =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    let date = OffsetDateTime::now_utc().format(format).unwrap();
    let headers = [("x-ms-date", date.as_str()), ("x-ms-version", "2021-12-02")];
    let mut text = format!("PUT{}", "\n".repeat(12));
    headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}:{value}\n")));
    text.push_str(&format!("/{ACCOUNT}/{path}"));
    query.iter().for_each(|(name, value)| text.push_str(&format!("\n{name}:{value}")));
    let signature = BASE64_STANDARD.encode(hmac_sha256(ACCOUNT_KEY.as_bytes(), text.as_bytes()));
    let mut url = url::Url::parse(&format!("{endpoint}/{path}")).unwrap();
    url.query_pairs_mut().extend_pairs(query);
    let request = reqwest::Client::new().put(url).header("content-length", "0");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.header("authorization", format!("SharedKey {ACCOUNT}:{signature}")).send().await.unwrap()
}

/// RFC 2104, for keys up to a block's length.
fn hmac_sha256(key: &[u8], text: &[u8]) -> Vec<u8> {
    let pad = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

pub fn open(container: &str, key_file: PathBuf) -> ObjectStoreBucket {
    azure::open(container, "some/prefix/", None, &Credentials::KeyFile(key_file)).unwrap()
}

#[tokio::test]
async fn azure_conforms() {
    let server = server().await;
    let (_dir, key_file) = key_file(&server.endpoint, ACCOUNT_KEY);
    let bucket = Arc::new(open(CONTAINER, key_file));
    conforms(bucket.clone()).await;
    assert_eq!(bucket.url(KEY), format!("az://frames/some/prefix/{KEY}"));
}

#[tokio::test]
async fn a_container_of_azure_that_is_not_there_is_said_to_be_missing() {
    let server = server().await;
    let (_dir, key_file) = key_file(&server.endpoint, ACCOUNT_KEY);
    let bucket = open("elsewhere", key_file);
    let (first, crc32c) = content("the first content");
    let created = bucket.create(KEY, first, crc32c, ContentType::Jpeg).await.map(|_| ());
    for asked in [created, bucket.head(KEY).await.map(|_| ()), bucket.list("", None).await.map(|_| ())] {
        let error = asked.unwrap_err();
        assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::NotFound, false), "{error}");
        assert!(error.message.starts_with("az://elsewhere: the server answered 404 (ContainerNotFound): "), "{error}");
    }
}

#[tokio::test]
async fn a_wrong_key_of_azure_is_said_to_be_one_and_a_right_one_is_taken_up_when_it_comes() {
    let server = server().await;
    let (_dir, path) = key_file(&server.endpoint, "another");
    let bucket = open(CONTAINER, path.clone());
    let (first, crc32c) = content("the first content");
    let error = bucket.create(KEY, first.clone(), crc32c, ContentType::Jpeg).await.unwrap_err();
    assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::Auth, false), "{error}");
    assert!(error.message.contains("check the destination's `key_file`"), "{error}");
    assert_eq!(bucket.list("", None).await.unwrap_err().kind, BucketErrorKind::Auth);

    write_key(&path, &server.endpoint, ACCOUNT_KEY);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match bucket.create(KEY, first.clone(), crc32c, ContentType::Jpeg).await {
            Ok(created) => break assert_eq!(created, Created::New),
            Err(error) => {
                assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::Auth, false), "{error}");
                assert!(Instant::now() < deadline, "{error}");
                // A key is read anew a second after the last time at the earliest.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
