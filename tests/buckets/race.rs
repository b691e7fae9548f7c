//! Of many puts of one key, one wins and the others learn it.

use std::sync::Arc;

use framehaul::config::Credentials;
use framehaul::model::Origin;
use framehaul::storage::{Bucket, ContentType, Created, FileBucket, GcsBucket};
use serde_json::{Value, json};
use testbed::gcs::{GcsServer, Options};

use super::conformance::noise;
use super::memory::MemoryBucket;
use super::servers::{ACCOUNT_KEY, Server};
use super::{azure, s3};

const PUTS: usize = 50;
/// Rounds that are run at the most to see several win.
const MOST_ROUNDS: usize = 200;

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
    let server = s3::with_bucket(Server::moto_in_turn()).await;
    let (_dir, key_file) = s3::key_file("framehaul");
    one_wins("moto, one request at a time", &race(Arc::new(s3::open(&server.endpoint, s3::BUCKET, key_file))).await);
}

/// moto as it comes is not atomic: it now and then tells two that they made an object, us and plain HTTP alike. Amazon
/// is (<https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>). What is asked of it here is
/// what [`race`] asserts: whoever did not win is told, and what lies there is whole and a winner's.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_emulator_that_is_not_atomic_says_is_passed_on() {
    let server = s3::with_bucket(Server::moto()).await;
    let (_dir, key_file) = s3::key_file("framehaul");
    let winners = race(Arc::new(s3::open(&server.endpoint, s3::BUCKET, key_file))).await;
    let atomic = |winners: &[usize]| winners.iter().all(|winners| *winners == 1);
    // Where several of ours have won, this has to be shown to be the emulator's doing.
    let plain = until_shown(!atomic(&winners), async |round| plain_round(&server.endpoint, round).await).await;
    let more = json!({
        "winners": winners, "plain_http_winners": plain,
        "emulator_is_atomic": atomic(&winners) && atomic(&plain),
    });
    report("moto", &winners, more);
}

/// How many have won in each of some rounds: in as many more as it takes to see several win, up to [`MOST_ROUNDS`], where
/// that is `wanted`.
async fn until_shown(wanted: bool, mut round: impl AsyncFnMut(usize) -> usize) -> Vec<usize> {
    let mut winners = Vec::new();
    while winners.len() < rounds()
        || (wanted && winners.len() < MOST_ROUNDS && winners.iter().all(|winners| *winners == 1))
    {
        winners.push(round(winners.len()).await);
    }
    winners
}

/// A round without any of our code or the crate's.
async fn plain_round(endpoint: &str, round: usize) -> usize {
    let client = reqwest::Client::new();
    let begin = Arc::new(tokio::sync::Barrier::new(PUTS));
    let puts = (0..PUTS).map(|number| {
        let begin = begin.clone();
        let request = client
            .put(format!("{endpoint}/{}/plain/{round}.jpg", s3::BUCKET))
            .header("if-none-match", "*")
            // Nobody looks at the signature, but who has none may not read what is there.
            .header("authorization", "AWS4-HMAC-SHA256 Credential=plain/20260101/us-east-1/s3/aws4_request")
            .body(noise(number as u64, 64 << 10));
        tokio::spawn(async move {
            begin.wait().await;
            request.send().await.unwrap().status()
        })
    });
    let mut won = 0;
    for put in puts.collect::<Vec<_>>() {
        match put.await.unwrap().as_u16() {
            200 => won += 1,
            status => assert_eq!(status, 412),
        }
    }
    won
}

#[tokio::test]
async fn a_race_that_several_win_is_run_until_it_is_shown_to_be_the_emulators() {
    let last = rounds() + 7;
    let several_at_last = async |round| if round == last { 2 } else { 1 };
    assert_eq!(until_shown(true, several_at_last).await.len(), last + 1);
    assert_eq!(until_shown(false, several_at_last).await.len(), rounds());
    assert_eq!(until_shown(true, async |_| 1).await.len(), MOST_ROUNDS.max(rounds()));
    assert_eq!(until_shown(true, async |_| 2).await.len(), rounds());
}
