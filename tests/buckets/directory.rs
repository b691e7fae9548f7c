//! A directory.

use std::sync::Arc;

use framehaul::model::Origin;
use framehaul::storage::{Bucket as _, BucketErrorKind, ContentType, Created, FileBucket};

use super::conformance::{KEY, conforms, content, info, put};

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
