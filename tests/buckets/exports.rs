//! `framehaul export` into S3 and Azure, from the recorder to the object.

use std::path::Path;
use std::process::{Command, Stdio};

use framehaul::storage::{Bucket, ObjectInfo};
use serde_json::Value;
use testbed::nvr::{Channel, NvrServer, Options};

use super::servers::Server;
use super::{azure, s3};

const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");

#[tokio::test]
async fn recordings_go_into_s3() {
    let server = s3::with_bucket(Server::moto()).await;
    let (_dir, key_file) = s3::key_file("framehaul");
    let bucket = s3::open(&server.endpoint, s3::BUCKET, key_file.clone());
    exported("s3://frames/some/prefix", &server.endpoint, &key_file, &bucket).await;
}

#[tokio::test]
async fn recordings_go_into_azure() {
    let server = azure::server().await;
    let (_dir, key_file) = azure::key_file(&server.endpoint, super::servers::ACCOUNT_KEY);
    let bucket = azure::open(azure::CONTAINER, key_file.clone());
    exported("az://frames/some/prefix", "", &key_file, &bucket).await;
}

/// Exports twice: the second time there is nothing left to fetch.
async fn exported(to: &str, endpoint: &str, key_file: &Path, bucket: &dyn Bucket) {
    // Small ones go in one request, a large one in parts.
    let channel = |recordings, least_bytes| Channel { recordings, least_bytes, ..Channel::default() };
    let channels = vec![channel(2, 0), channel(1, 20 << 20)];
    let recorder = NvrServer::start(Options { channels, ..Options::default() }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("password"), "Passw0rd1").unwrap();
    for outcome in ["stored", "there"] {
        let output = Command::new(PROGRAM)
            .args(["export", "--server", recorder.host(), "--username", "admin", "--password-file", "password"])
            .args(["--start", "2026-11-19", "--end", "2026-11-20", "--to", to, "--format", "ndjson"])
            .env("FRAMEHAUL__STORAGE__ENDPOINT", endpoint)
            .env("FRAMEHAUL__STORAGE__CREDENTIALS", "key_file")
            .env("FRAMEHAUL__STORAGE__KEY_FILE", key_file)
            .env("NO_PROXY", "127.0.0.1")
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let entries: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(entries.len(), 3, "{said}");
        for entry in entries {
            assert_eq!(entry["outcome"], outcome, "{said}");
            let url = entry["url"].as_str().unwrap();
            assert_eq!(url, format!("{to}/{}", entry["key"].as_str().unwrap()));
        }
        assert_eq!(recorder.stats().downloads.begun, 3);
    }
    for recording in recorder.recordings() {
        let begin: String = recording.begin.chars().filter(char::is_ascii_digit).collect();
        let content = recorder.read(recording.track, &recording.name).unwrap();
        let wanted = ObjectInfo { bytes: content.len() as u64, crc32c: crc32c::crc32c(&content) };
        assert_eq!(bucket.head(&format!("{begin}-{}.mp4", recording.track)).await.unwrap(), Some(wanted));
    }
}
