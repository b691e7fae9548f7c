//! Of many puts of one key, one wins and the others learn it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use framehaul::config::Credentials;
use framehaul::model::Origin;
use framehaul::storage::{Bucket, ContentType, Created, FileBucket, GcsBucket};
use serde_json::{Value, json};
use testbed::gcs::{GcsServer, Options};

use super::conformance::noise;
use super::memory::MemoryBucket;
use super::servers::{ACCOUNT_KEY, python, run};
use super::{azure, s3};

const PUTS: usize = 50;

fn rounds() -> usize {
    std::env::var("ROUNDS").map_or(3, |rounds| rounds.parse().unwrap())
}

/// Rounds of puts at the same time, each with other bytes. Returns how many won in each round; whatever their number,
/// the others were told, and the object is one of the winners', whole.
async fn race(bucket: Arc<dyn Bucket>) -> Vec<usize> {
    let mut winners = Vec::new();
    for round in 0..rounds() {
        let key = format!("race/{round}.jpg");
        let begin = Arc::new(tokio::sync::Barrier::new(PUTS));
        let puts = (0..PUTS).map(|number| {
            let (bucket, key, begin) = (bucket.clone(), key.clone(), begin.clone());
            tokio::spawn(async move {
                // Of one size, so that nothing but the bytes tells them apart.
                let content = noise(number as u64, 64 << 10);
                let crc32c = crc32c::crc32c(&content);
                begin.wait().await;
                // A conflict with a put that is under way is to be repeated, as the daemon does.
                loop {
                    match bucket.create(&key, content.clone(), crc32c, ContentType::Jpeg).await {
                        Ok(created) => return (created, content),
                        Err(error) => assert!(error.message.contains("409"), "{error}"),
                    }
                }
            })
        });
        let (mut won, mut told) = (Vec::new(), 0);
        for put in puts.collect::<Vec<_>>() {
            match put.await.unwrap() {
                (Created::New, content) => won.push(content),
                (Created::Exists, _) => told += 1,
            }
        }
        assert_eq!(won.len() + told, PUTS);
        let there = bucket.get(&key, 1 << 20).await.unwrap().unwrap();
        assert!(won.contains(&there), "{key} holds what nobody was told to have stored");
        winners.push(won.len());
    }
    winners
}

/// Says how it went, and that one won each time.
fn one_wins(backend: &str, winners: &[usize]) {
    report(backend, winners, json!({}));
    assert_eq!(winners, vec![1; rounds()], "{backend}");
}

fn report(backend: &str, winners: &[usize], more: Value) {
    let with_one = winners.iter().filter(|winners| **winners == 1).count();
    let mut report = json!({
        "backend": backend, "puts": PUTS, "rounds": winners.len(), "rounds_with_one_winner": with_one,
        "most_winners": winners.iter().max(),
    });
    report.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    println!("race {report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_put_wins_in_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = FileBucket::open(dir.path().join("frames"), &Origin::from_random([0; 5])).unwrap();
    one_wins("file", &race(Arc::new(bucket)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_put_wins_in_memory() {
    one_wins("memory", &race(Arc::new(MemoryBucket::default())).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_put_wins_in_cloud_storage() {
    let server = GcsServer::start(Options { buckets: vec!["frames".to_owned()], ..Options::default() }).unwrap();
    let bucket = GcsBucket::open("frames", "", Some(&server.endpoint()), &Credentials::Anonymous).await.unwrap();
    one_wins("testbed gcs", &race(Arc::new(bucket)).await);
    assert_eq!(server.stats().puts_stored, rounds() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_put_wins_in_azure() {
    let server = azure::server().await;
    let (_dir, key_file) = azure::key_file(&server.endpoint, ACCOUNT_KEY);
    one_wins("azurite", &race(Arc::new(azure::open(azure::CONTAINER, key_file))).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_put_wins_in_s3() {
    let server = s3::server(false).await;
    let (_dir, key_file) = s3::key_file("framehaul");
    let winners = race(Arc::new(s3::open(&server.endpoint, s3::BUCKET, key_file))).await;
    // The same by Amazon's own client.
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/buckets/servers/race.py");
    let arguments = [server.endpoint.as_str(), s3::BUCKET, &PUTS.to_string(), &rounds().to_string()].map(str::to_owned);
    let raw = tokio::task::spawn_blocking(|| run(Command::new(python()).arg(script).args(arguments))).await.unwrap();
    let raw: Vec<usize> = serde_json::from_str(&raw).unwrap();
    report("moto", &winners, json!({ "boto3": { "winners": raw }, "winners": winners }));
}
