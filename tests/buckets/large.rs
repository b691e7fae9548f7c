//! The memory that a large object takes.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use framehaul::config::Credentials;
use framehaul::model::Origin;
use framehaul::storage::{Bucket, FileBucket, GcsBucket, ObjectInfo, Streamed};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use testbed::gcs::{GcsServer, Options};

use super::conformance::noise;
use super::s3;
use super::servers::Server;
use super::streams::incoming;

/// What comes at once, and how often.
const PART: usize = 64 << 10;
const PARTS: usize = 8 << 10;

/// So many bytes more may be in memory while an object of 512 MiB is put.
const MOST: u64 = 64 << 20;

/// Puts one in a process of its own, since what servers keep of it is not to be counted.
fn grows(kind: &str, place: &str, key_file: &Path) -> u64 {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "large::a_put_that_says_what_it_took"])
        .envs([("LARGE_KIND", kind), ("LARGE_PLACE", place), ("LARGE_KEY_FILE", key_file.to_str().unwrap())])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{kind}: {said}{}", String::from_utf8_lossy(&child.stderr));
    let report = said.lines().find_map(|line| line.split_once("large ")).unwrap().1;
    let report: Value = serde_json::from_str(report).unwrap();
    println!("large {report}");
    report["grew_by"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_an_object() {
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("key");
    s3::write_key(&key_file, "framehaul");
    let gcs = Options { buckets: vec!["frames".to_owned()], discard: true, ..Options::default() };
    let gcs = GcsServer::start(gcs).unwrap();
    let moto = s3::with_bucket(Server::moto()).await;
    let directory = dir.path().join("frames");
    let places =
        [("file", directory.to_str().unwrap().to_owned()), ("gcs", gcs.endpoint()), ("s3", moto.endpoint.clone())];
    for (kind, place) in places {
        let key_file = key_file.clone();
        let grew = tokio::task::spawn_blocking(move || (kind, grows(kind, &place, &key_file))).await.unwrap();
        assert!(grew.1 <= MOST, "{grew:?}");
    }
    assert_eq!(gcs.stats().bytes_stored, (PART * PARTS) as u64);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test before, in a process of its own"]
async fn a_put_that_says_what_it_took() {
    let of_environment = |name| std::env::var(name).unwrap();
    let (kind, place) = (of_environment("LARGE_KIND"), of_environment("LARGE_PLACE"));
    let bucket: Box<dyn Bucket> = match kind.as_str() {
        "file" => Box::new(FileBucket::open(place.into(), &Origin::from_random([0; 5])).unwrap()),
        "gcs" => Box::new(GcsBucket::open("frames", "", Some(&place), &Credentials::Anonymous).await.unwrap()),
        "s3" => Box::new(s3::open(&place, s3::BUCKET, of_environment("LARGE_KEY_FILE").into())),
        other => panic!("there is no {other}"),
    };
    let part = noise(1, PART);
    let crc32c = (0..PARTS).fold(0, |crc32c, _| crc32c::crc32c_append(crc32c, &part));
    // As from a socket: each part has memory of its own.
    let parts = stream::iter((0..PARTS).map(move |_| Ok(Bytes::copy_from_slice(&part))));
    // The kernel forgets the most that there ever was.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = status("VmRSS:");
    let put = bucket.create_stream("large.mp4", incoming(parts.boxed())).await.unwrap();
    assert_eq!(put, Streamed::New(ObjectInfo { bytes: (PART * PARTS) as u64, crc32c }));
    let grew_by = status("VmHWM:").saturating_sub(before);
    println!("large {}", json!({"backend": kind, "bytes": PART * PARTS, "grew_by": grew_by}));
}

/// A figure of this process, bytes.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}
