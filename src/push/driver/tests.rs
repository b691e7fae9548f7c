use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::config::{Destination, UploadSettings};
use crate::storage::{After, BucketError, Created, Incoming, Page, StreamError, Streamed};

/// A bucket that is slow and fails by chance.
struct Moody {
    rng: Mutex<fastrand::Rng>,
    /// Of a hundred attempts so many fail, and of those half have stored.
    fails: u32,
    objects: Mutex<HashMap<String, ObjectInfo>>,
    /// Names of which it will have nothing, and how it says so.
    refused: HashMap<String, BucketErrorKind>,
    /// Attempts at the same time, and the most there were.
    busy: Mutex<(usize, usize)>,
}

impl Moody {
    fn new(seed: u64, fails: u32) -> Self {
        let rng = Mutex::new(fastrand::Rng::with_seed(seed));
        Self { rng, fails, objects: Mutex::default(), refused: HashMap::new(), busy: Mutex::default() }
    }
}

fn failure(kind: BucketErrorKind, maybe_stored: bool) -> BucketError {
    BucketError { kind, maybe_stored, retry_after: None, message: "moody".to_owned() }
}

#[async_trait::async_trait]
impl Bucket for Moody {
    async fn create(&self, key: &str, content: Bytes, crc32c: u32, _: ContentType) -> Result<Created, BucketError> {
        {
            let mut busy = self.busy.lock().unwrap();
            *busy = (busy.0 + 1, busy.1.max(busy.0 + 1));
        }
        let (wait, fails, lost) = {
            let mut rng = self.rng.lock().unwrap();
            (rng.u64(..5), rng.u32(..100) < self.fails, rng.bool())
        };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        self.busy.lock().unwrap().0 -= 1;
        if let Some(kind) = self.refused.get(key) {
            return Err(failure(*kind, false));
        }
        let mut objects = self.objects.lock().unwrap();
        let created = if objects.contains_key(key) { Created::Exists } else { Created::New };
        if !fails || lost {
            objects.entry(key.to_owned()).or_insert(ObjectInfo { bytes: content.len() as u64, crc32c });
        }
        if fails { Err(failure(BucketErrorKind::Transient, lost)) } else { Ok(created) }
    }

    async fn create_stream(&self, _: &str, _: Incoming) -> Result<Streamed, StreamError> {
        unreachable!("pictures are put whole")
    }

    async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, BucketError> {
        Ok(self.objects.lock().unwrap().get(key).copied())
    }

    async fn get(&self, _: &str, _: u64) -> Result<Option<Bytes>, BucketError> {
        unreachable!("a push reads no object")
    }

    async fn list(&self, _: &str, _: Option<&After>) -> Result<Page, BucketError> {
        unreachable!("it was listed before")
    }

    fn base_url(&self) -> &str {
        "moody://"
    }

    fn label(&self) -> &str {
        "moody"
    }
}

fn picture(number: u32) -> Picture {
    let jpeg = Bytes::from(number.to_be_bytes().repeat(10));
    Picture { jpeg, captured_at: UnixMicros(number.into()), position: None, width: 1, height: 1 }
}

fn options() -> Push {
    let (retry_min, retry_max) = (Duration::from_millis(1), Duration::from_millis(10));
    let upload = UploadSettings { retry_min, retry_max, ..UploadSettings::default() };
    Push::new(Destination::File { dir: "/nowhere".into() }).upload(upload).retries(50).concurrency(20)
}

/// Gives pictures, every seventh of which is missed, and returns the list.
async fn pushed(push: Push, bucket: Arc<Moody>, count: u32) -> (Vec<Entry>, Result<Summary, PushError>) {
    let (pictures, mut entries) = drive(push, bucket, HashMap::new(), async {});
    let giving = tokio::spawn(async move {
        for number in 1..=count {
            let given = match number % 7 {
                0 => pictures.missed(1, LostReason::Overrun).await,
                _ => pictures.send(picture(number)).await,
            };
            if given.is_err() {
                break;
            }
        }
    });
    let mut list = Vec::new();
    while let Some(entry) = entries.next().await {
        list.push(entry);
    }
    giving.await.unwrap();
    (list, entries.finish().await)
}

#[tokio::test]
async fn whatever_the_finishing_order_the_list_is_in_order_and_complete() {
    for seed in 0..20 {
        let bucket = Arc::new(Moody::new(seed, 20));
        let (list, summary) = pushed(options(), bucket.clone(), 500).await;
        let summary = summary.unwrap();
        assert_eq!(
            list.iter().map(|entry| entry.seq).collect::<Vec<_>>(),
            (1..=500).collect::<Vec<_>>(),
            "seed {seed}"
        );
        for entry in &list {
            match &entry.fate {
                Fate::Lost { lost, error } => assert!(entry.seq % 7 == 0 && *lost == "overrun" && error.is_none()),
                Fate::Stored { url, bytes, crc32c, .. } => {
                    let content = picture(u32::try_from(entry.seq).unwrap()).jpeg;
                    assert_eq!(
                        (*bytes, *crc32c),
                        (content.len() as u64, crc32c::crc32c(&content)),
                        "seed {seed}: {url}"
                    );
                }
            }
        }
        let Progress { given, stored, there, lost, .. } = summary.progress;
        assert_eq!((given, stored, there, lost), (500, 429, 0, 71), "seed {seed}");
        assert_eq!(bucket.objects.lock().unwrap().len(), 429);
        let (now, most) = *bucket.busy.lock().unwrap();
        assert!(now == 0 && most == 20, "{most} at the same time");
    }
}

#[tokio::test]
async fn what_is_refused_for_good_is_lost_and_told_and_keeps_nobody() {
    for (kind, word) in [(BucketErrorKind::Permanent, "rejected"), (BucketErrorKind::Transient, "unreachable")] {
        let mut bucket = Moody::new(1, 0);
        bucket.refused.insert(key(3), kind);
        let (list, summary) = pushed(options().retries(4), Arc::new(bucket), 2_000).await;
        assert_eq!(list.len(), 2_000);
        assert!(matches!(&list[2].fate, Fate::Lost { lost, error: Some(_) } if *lost == word), "{:?}", list[2]);
        let summary = summary.unwrap();
        assert!(!summary.is_complete() && summary.progress.lost == 1 + 2_000 / 7, "{summary:?}");
    }
}

#[tokio::test]
async fn memory_has_a_bound_however_long_the_first_one_takes() {
    let bucket = Arc::new(Moody::new(1, 0));
    let (pictures, entries) = drive(options().memory(400), bucket.clone(), HashMap::new(), async {});
    let mut most = 0;
    let mut progress = entries.progress();
    for number in 1..=200 {
        pictures.send(picture(number)).await.unwrap();
        let far = *progress.borrow_and_update();
        most = (far.given - far.stored).max(most);
    }
    drop(pictures);
    assert!(entries.finish().await.unwrap().is_complete());
    // Of 40 bytes each: ten, and one that comes while there is still room.
    assert!((5..=11).contains(&most), "{most} were held");
}
