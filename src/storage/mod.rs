//! Buckets: where objects go. Create-only, so that repeating a put is harmless.

mod attempt;
mod bucket;
mod client;
mod file;
mod gcs;
mod later;
mod listing;
mod object_store;
mod pace;
mod pieces;
mod stream;
mod tries;

use std::path::PathBuf;
use std::sync::Arc;

pub use self::object_store::{ObjectStoreBucket, azure, s3};
pub use attempt::{Attempt, Object, REFUSED_TIMES, attempt, attempt_on, what_stands_there};
pub use bucket::{After, Bucket, BucketError, BucketErrorKind, ContentType, Created, Listed, ObjectInfo, PAGE, Page};
pub use file::{FileBucket, staging};
pub use gcs::GcsBucket;
pub use later::{Later, base_url};
pub use listing::{Persistence, page};
pub use stream::{Body, BodyError, Incoming, Patience, StreamError, Streamed};

use crate::config::Destination;
use crate::model::Origin;

/// Opens the bucket of a destination. Call it on the runtime that will do the uploads, and keep that one alive: clients
/// refresh their tokens there.
///
/// # Errors
///
/// When the directory cannot be used, or the credentials cannot be read. Whether a remote bucket answers is not asked.
pub async fn open(destination: &Destination, origin: &Origin) -> Result<Arc<dyn Bucket>, BucketError> {
    open_by(FileBucket::open, destination, origin).await
}

/// The same where an earlier run has opened it: a directory must be there.
///
/// # Errors
///
/// The same, and when there is no such directory.
pub async fn reopen(destination: &Destination, origin: &Origin) -> Result<Arc<dyn Bucket>, BucketError> {
    open_by(FileBucket::reopen, destination, origin).await
}

async fn open_by(
    open: fn(PathBuf, &Origin) -> Result<FileBucket, BucketError>,
    destination: &Destination,
    origin: &Origin,
) -> Result<Arc<dyn Bucket>, BucketError> {
    let Destination::File { dir } = destination else { return look(destination).await };
    let (dir, origin) = (dir.clone(), origin.clone());
    // A disk may hang.
    let opened = tokio::task::spawn_blocking(move || open(dir, &origin)).await;
    let broke_off = |error| BucketError {
        kind: BucketErrorKind::Transient,
        maybe_stored: false,
        retry_after: None,
        message: format!("opening the directory broke off: {error}"),
    };
    Ok(Arc::new(opened.map_err(broke_off)??))
}

/// Clears away what opening a destination has made for half-written objects, for whoever does not come back. Best effort.
pub async fn leave(destination: &Destination, origin: &Origin) {
    if let Destination::File { dir } = destination {
        let (dir, origin) = (dir.clone(), origin.clone());
        // A disk may hang.
        let _ = tokio::task::spawn_blocking(move || FileBucket::leave(&dir, &origin)).await;
    }
}

/// Opens the bucket of a destination for somebody who only reads. A directory is neither made nor cleared of what is
/// half-written: a daemon may be at work in it.
///
/// # Errors
///
/// When the credentials cannot be read. Whether there is such a bucket is not asked.
pub async fn look(destination: &Destination) -> Result<Arc<dyn Bucket>, BucketError> {
    Ok(match destination {
        Destination::File { dir } => Arc::new(FileBucket::look(dir.clone())),
        Destination::Gcs { bucket, prefix, endpoint, credentials } => {
            Arc::new(GcsBucket::open(bucket, prefix, endpoint.as_deref(), credentials).await?)
        }
        Destination::S3 { bucket, prefix, endpoint, region, credentials } => {
            Arc::new(s3::open(bucket, prefix, endpoint.as_deref(), region.as_deref(), credentials)?)
        }
        Destination::Azure { container, prefix, endpoint, credentials } => {
            Arc::new(azure::open(container, prefix, endpoint.as_deref(), credentials)?)
        }
    })
}
