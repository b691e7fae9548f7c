//! A directory.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use framehaul::model::Origin;
use framehaul::storage::{Bucket as _, BucketErrorKind, ContentType, Created, FileBucket, StreamError};
use futures_util::StreamExt as _;

use super::conformance::{KEY, conforms, content, info, noise, put};
use super::streams::{self, until};

fn origin() -> Origin {
    Origin::from_random([0; 5])
}

#[tokio::test]
async fn a_directory_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let open = || FileBucket::open(dir.path().join("frames"), &origin()).unwrap();
    conforms(Arc::new(open())).await;
    let again = open();
    assert_eq!(again.head(KEY).await.unwrap(), Some(info("the first content")), "it is there after a restart");
    assert_eq!(put(&again, KEY, "the first content").await, Created::Exists);
    let url = url::Url::from_file_path(dir.path().join("frames").join(KEY)).unwrap();
    assert_eq!(again.url(KEY), url.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_takes_objects_of_any_size_and_keeps_nothing_of_what_breaks_off() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = FileBucket::open(dir.path().join("frames"), &origin()).unwrap();
    let staged = || std::fs::read_dir(dir.path().join("frames/.framehaul-staging").join(origin().as_str())).unwrap();
    streams::conforms(&bucket).await;
    // The last one was left by who had put it.
    until("nothing is staged", async || staged().next().is_none()).await;
    bucket.create_stream("cut", streams::cut(&noise(1, 20 << 20))).await.unwrap_err();
    assert_eq!(staged().count(), 0, "it is gone when the error is told");
    let halves = staged().count();
    let (body, stalls) = streams::stalled(&noise(1, 20 << 20));
    tokio::select! {
        ended = bucket.create_stream("left", body) => panic!("it does not end: {ended:?}"),
        permit = stalls.acquire() => permit.unwrap().forget(),
    }
    until("nothing is staged", async || staged().count() == halves).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_gone_in_the_middle_of_an_object_is_the_buckets_failure() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("frames");
    let bucket = FileBucket::open(root.clone(), &origin()).unwrap();
    let content = noise(1, 10 << 20);
    let goes = futures_util::stream::once(async move {
        std::fs::remove_dir_all(root).unwrap();
        Ok(Bytes::new())
    });
    let body = futures_util::stream::iter(streams::parts(&content)).chain(goes).boxed();
    match bucket.create_stream("a/b.mp4", streams::incoming(body)).await.unwrap_err() {
        StreamError::Bucket(error) => assert_eq!(error.kind, BucketErrorKind::NotFound, "{error}"),
        StreamError::Body(error) => panic!("nothing is wrong with what comes: {error}"),
    }
}

#[tokio::test]
async fn a_directory_that_is_gone_is_said_to_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("frames");
    let bucket = FileBucket::open(root.clone(), &origin()).unwrap();
    assert_eq!(put(&bucket, KEY, "the first content").await, Created::New);
    std::fs::remove_dir_all(root.join("gate")).unwrap();
    assert_eq!(bucket.head(KEY).await.unwrap(), None);
    // A camera's directory is made anew, at the second attempt at the latest.
    let (first, crc32c) = content("the first content");
    let created = bucket.create(KEY, first.clone(), crc32c, ContentType::Jpeg).await;
    if let Err(error) = &created {
        assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::Transient, false), "{error}");
        assert_eq!(put(&bucket, KEY, "the first content").await, Created::New);
    }
    std::fs::remove_dir_all(&root).unwrap();
    let error = bucket.create(KEY, first, crc32c, ContentType::Jpeg).await.unwrap_err();
    assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::NotFound, false), "{error}");
    assert_eq!(bucket.list("", None).await.unwrap_err().kind, BucketErrorKind::NotFound);
}

#[tokio::test]
async fn a_directory_that_was_there_before_is_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("disk/frames");
    let error = FileBucket::reopen(root.clone(), &origin()).unwrap_err();
    assert_eq!((error.kind, error.maybe_stored), (BucketErrorKind::NotFound, false), "{error}");
    assert!(error.message.contains("is its disk mounted?"), "{error}");
    assert!(!dir.path().join("disk").exists());
    let bucket = FileBucket::open(root.clone(), &origin()).unwrap();
    assert_eq!(put(&bucket, KEY, "the first content").await, Created::New);
    let again = FileBucket::reopen(root.clone(), &origin()).unwrap();
    assert_eq!(put(&again, KEY, "the first content").await, Created::Exists);
    // What a message asks a person to make is enough for both.
    std::fs::remove_dir_all(&root).unwrap();
    std::fs::create_dir_all(root.join(".framehaul-staging")).unwrap();
    let (first, crc32c) = content("the first content");
    bucket.create("a", first.clone(), crc32c, ContentType::Jpeg).await.unwrap_err();
    assert_eq!(put(&bucket, "a", "the first content").await, Created::New);
    assert_eq!(put(&FileBucket::reopen(root, &origin()).unwrap(), "a", "the first content").await, Created::Exists);
}

#[tokio::test]
async fn two_names_of_one_directory_do_not_touch_each_others_halves() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    std::fs::create_dir(dir.path().join("frames")).unwrap();
    std::os::unix::fs::symlink("frames", &link).unwrap();
    let one = Arc::new(FileBucket::open(dir.path().join("frames"), &origin()).unwrap());
    let other = Arc::new(FileBucket::open(link, &origin()).unwrap());
    let puts = (0..500).flat_map(|number| [(one.clone(), number, "one"), (other.clone(), number, "other")]);
    let puts = puts.map(|(bucket, number, name)| {
        tokio::spawn(async move {
            let (key, content) = (format!("{name}/{number}.jpg"), Bytes::from(format!("{number} of {name}")));
            let created = bucket.create(&key, content.clone(), 0, ContentType::Jpeg).await.unwrap();
            assert_eq!(created, Created::New, "{key}");
            assert_eq!(bucket.get(&key, 100).await.unwrap().unwrap(), content, "{key}");
        })
    });
    for put in puts.collect::<Vec<_>>() {
        put.await.unwrap();
    }
}

#[test]
fn of_a_directory_that_hangs_no_more_frames_are_kept_than_there_are_places() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = FileBucket::open(dir.path().join("frames"), &origin()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().max_blocking_threads(1).enable_all().build().unwrap();
    let (let_go, hangs) = std::sync::mpsc::channel::<()>();
    let stuck = runtime.spawn_blocking(move || hangs.recv());
    let contents: Vec<Bytes> = (0..200).map(|_| Bytes::from(vec![0; 100])).collect();
    runtime.block_on(async {
        let puts = contents.iter().enumerate().map(|(number, content)| {
            let (bucket, content) = (bucket.clone(), content.clone());
            async move {
                let key = format!("{number}.jpg");
                let put = bucket.create(&key, content, 0, ContentType::Jpeg);
                tokio::time::timeout(Duration::from_millis(50), put).await.unwrap_err();
            }
        });
        futures_util::future::join_all(puts).await;
    });
    let kept = contents.iter().filter(|content| !content.is_unique()).count();
    assert_eq!(kept, 64);
    drop(let_go);
    // Once it is back there is room for all.
    runtime.block_on(async {
        stuck.await.unwrap().unwrap_err();
        put(&bucket, "last.jpg", "the first content").await;
    });
    assert!(contents.iter().all(|content| content.is_unique()));
}
