//! What the server has seen and done.

use serde::{Deserialize, Serialize};

/// Counts since the start. A call is counted when its body has arrived in full, whatever is then answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Calls by kind, those with injected faults included.
    pub requests: Requests,
    /// Calls whose body never ended, because the client went away.
    pub aborted: u64,
    /// Answers that the knobs put in place of the real ones.
    pub injected: Injected,
    /// Objects stored, overwrites included.
    pub puts_stored: u64,
    /// Uploads, reads and deletes answered with 412.
    pub precondition_failures: u64,
    /// Those of them that would have created an object which is there already with the same size and CRC32C: a client
    /// that put the same thing twice. The rest met somebody else's bytes.
    pub duplicates_refused: u64,
    /// Uploads refused because a checksum that came with them did not fit.
    pub checksum_failures: u64,
    /// Bytes of objects stored.
    pub bytes_stored: u64,
    /// Bytes of objects sent to readers.
    pub bytes_read: u64,
}

/// Calls by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Uploads in two or three parts.
    pub upload_multipart: u64,
    /// Uploads of the bare bytes.
    pub upload_media: u64,
    /// Reads of an object's metadata.
    pub get_metadata: u64,
    /// Reads of an object's bytes.
    pub get_media: u64,
    /// Pages of object lists.
    pub list: u64,
    /// Deletes.
    pub delete: u64,
    /// Reads of a bucket's metadata.
    pub get_bucket: u64,
    /// Calls that this server does not know or cannot read, resumable uploads among them.
    pub unsupported: u64,
}

impl Requests {
    /// Calls of all kinds.
    pub fn total(&self) -> u64 {
        let Self { upload_multipart, upload_media, get_metadata, get_media, list, delete, get_bucket, unsupported } =
            self;
        upload_multipart + upload_media + get_metadata + get_media + list + delete + get_bucket + unsupported
    }
}

/// Injected answers by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injected {
    /// Calls answered with 503 by `rate_503`.
    pub status_503: u64,
    /// Calls answered with 429 by `rate_429`.
    pub status_429: u64,
    /// Uploads that were stored and answered with 503 by `rate_lost_answer`.
    pub lost_answers: u64,
    /// Calls answered with `refuse_status`.
    pub refused: u64,
}
