//! The questions that are the same for all buckets.

use std::sync::Arc;

use bytes::Bytes;
use framehaul::storage::{After, Bucket, BucketErrorKind, ContentType, Created, Listed, ObjectInfo, PAGE};

pub const KEY: &str = "gate/2026/07/01/a.jpg";

pub fn content(text: &'static str) -> (Bytes, u32) {
    (Bytes::from_static(text.as_bytes()), crc32c::crc32c(text.as_bytes()))
}

pub fn info(text: &str) -> ObjectInfo {
    ObjectInfo { bytes: text.len() as u64, crc32c: crc32c::crc32c(text.as_bytes()) }
}

/// Bytes that follow from a seed.
pub fn noise(seed: u64, length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes.into()
}

/// Puts a picture.
pub async fn put(bucket: &dyn Bucket, key: &str, text: &'static str) -> Created {
    let (content, crc32c) = content(text);
    bucket.create(key, content, crc32c, ContentType::Jpeg).await.unwrap()
}

/// All of it, on an empty bucket.
pub async fn conforms(bucket: Arc<dyn Bucket>) {
    nothing_is_overwritten(&*bucket).await;
    odd_keys_are_told_apart(&*bucket).await;
    objects_are_read_back(&*bucket).await;
    urls_are_base_and_key(&*bucket);
    listings_are_complete_and_in_order(bucket.clone()).await;
    println!("{}", serde_json::json!({"conformance": bucket.base_url()}));
}

pub async fn nothing_is_overwritten(bucket: &dyn Bucket) {
    assert_eq!(bucket.head(KEY).await.unwrap(), None);
    assert_eq!(put(bucket, KEY, "the first content").await, Created::New);
    assert_eq!(bucket.head(KEY).await.unwrap(), Some(info("the first content")));
    assert_eq!(put(bucket, KEY, "the first content").await, Created::Exists);
    assert_eq!(put(bucket, KEY, "some other content").await, Created::Exists);
    assert_eq!(bucket.head(KEY).await.unwrap(), Some(info("the first content")), "nothing is ever overwritten");
    // A neighbour, and a key that goes on where another one ends.
    for key in ["gate/2026/07/01/b.jpg", "gate/2026/07/01/a.jpg.jpg"] {
        assert_eq!(bucket.head(key).await.unwrap(), None);
        assert_eq!(put(bucket, key, "some other content").await, Created::New);
        assert_eq!(bucket.head(key).await.unwrap(), Some(info("some other content")));
    }
}

async fn odd_keys_are_told_apart(bucket: &dyn Bucket) {
    let keys = ["odd/A", "odd/a", "odd/a.", "odd/-", "odd/_manifest/x=1/000000000001-000000000002.ndjson", "odd/..a/b"];
    for (i, key) in keys.iter().enumerate() {
        let content = Bytes::from(format!("{i}"));
        let crc32c = crc32c::crc32c(&content);
        let created = bucket.create(key, content, crc32c, ContentType::Ndjson).await.unwrap();
        assert_eq!(created, Created::New, "{key}");
    }
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(bucket.get(key, 1).await.unwrap().unwrap(), format!("{i}"), "{key}");
    }
}

async fn objects_are_read_back(bucket: &dyn Bucket) {
    assert_eq!(bucket.get("nothing.jpg", 100).await.unwrap(), None);
    assert_eq!(put(bucket, "empty.jpg", "").await, Created::New);
    assert_eq!(put(bucket, "empty.jpg", "not empty").await, Created::Exists);
    assert_eq!(bucket.head("empty.jpg").await.unwrap(), Some(info("")));
    assert_eq!(bucket.get("empty.jpg", 0).await.unwrap().unwrap(), "");
    let large = noise(1, 3 << 20);
    let crc32c = crc32c::crc32c(&large);
    assert_eq!(bucket.create("large.jpg", large.clone(), crc32c, ContentType::Jpeg).await.unwrap(), Created::New);
    assert_eq!(bucket.head("large.jpg").await.unwrap(), Some(ObjectInfo { bytes: 3 << 20, crc32c }));
    assert!(bucket.get("large.jpg", 3 << 20).await.unwrap().unwrap() == large);
    let error = bucket.get("large.jpg", (3 << 20) - 1).await.unwrap_err();
    assert_eq!(error.kind, BucketErrorKind::Permanent, "{error}");
    assert!(error.message.contains("large.jpg has more than 3145727 bytes"), "{error}");
}

fn urls_are_base_and_key(bucket: &dyn Bucket) {
    assert_eq!(bucket.url(KEY), format!("{}{KEY}", bucket.base_url()));
    assert!(url::Url::parse(bucket.base_url()).is_ok_and(|url| url.as_str().ends_with('/')), "{}", bucket.base_url());
}

/// Walks all pages.
pub async fn listed(bucket: &dyn Bucket, prefix: &str, after: Option<After>) -> (Vec<Listed>, usize) {
    let (mut all, mut pages, mut after) = (Vec::new(), 0, after);
    loop {
        let page = bucket.list(prefix, after.as_ref()).await.unwrap();
        assert!(page.objects.len() <= PAGE);
        all.extend(page.objects);
        pages += 1;
        match page.next {
            Some(next) => after = Some(next),
            None => return (all, pages),
        }
    }
}

async fn listings_are_complete_and_in_order(bucket: Arc<dyn Bucket>) {
    const LISTED: u64 = 2_100;
    // Written in any order.
    let mut numbers: Vec<u64> = (0..LISTED).collect();
    fastrand::Rng::with_seed(2).shuffle(&mut numbers);
    for some in numbers.chunks(16) {
        let puts = some.iter().map(|number| {
            let (bucket, number) = (bucket.clone(), *number);
            tokio::spawn(async move {
                let content = Bytes::from(number.to_string());
                let crc32c = crc32c::crc32c(&content);
                bucket.create(&listed_key(number), content, crc32c, ContentType::Jpeg).await
            })
        });
        for put in puts.collect::<Vec<_>>() {
            assert_eq!(put.await.unwrap().unwrap(), Created::New);
        }
    }
    put(&*bucket, "lists", "not below it").await;
    put(&*bucket, "list.jpg", "not below it").await;
    let mut expected: Vec<_> = (0..LISTED).map(|number| (listed_key(number), number.to_string())).collect();
    expected.sort_unstable();
    let check = |found: &[Listed], expected: &[(String, String)]| {
        assert_eq!(found.len(), expected.len());
        for (found, (key, content)) in found.iter().zip(expected) {
            assert_eq!((&found.key, found.bytes), (key, content.len() as u64));
            assert!(found.crc32c.is_none_or(|crc32c| crc32c == crc32c::crc32c(content.as_bytes())), "{key}");
        }
    };
    let (all, pages) = listed(&*bucket, "list/", None).await;
    check(&all, &expected);
    assert!(pages >= 3, "{pages}");
    // A prefix that ends within a name.
    let (some, _) = listed(&*bucket, "list/1/00", None).await;
    check(&some, &expected.iter().filter(|(key, _)| key.starts_with("list/1/00")).cloned().collect::<Vec<_>>());
    assert!(!some.is_empty());
    // Behind a key that is there, and one that is not.
    for from in [expected[1_234].0.clone(), format!("{}!", expected[1_234].0)] {
        let (rest, _) = listed(&*bucket, "list/", Some(After::Key(from))).await;
        check(&rest, &expected[1_235..]);
    }
    let (whole, _) = listed(&*bucket, "", None).await;
    assert!(whole.is_sorted_by(|a, b| a.key < b.key));
    assert!(whole.len() > all.len() && whole.iter().any(|object| object.key == KEY));
    assert_eq!(listed(&*bucket, "nothing/", None).await.0, []);
}

fn listed_key(number: u64) -> String {
    format!("list/{}/{number:04}.jpg", number % 3)
}
