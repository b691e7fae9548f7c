//! What the server has seen and done.

use serde::{Deserialize, Serialize};

/// Counts since the start. A call is counted when its body has arrived in full, whatever is then answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Calls by kind, those with injected faults included.
    pub requests: Requests,
    /// Calls whose body never ended, because the client went away.
    pub aborted: u64,
    /// What the knobs put in place of the real answers.
    pub injected: Injected,
    /// Who was let in and who was not, while `require_auth` was on, and what was handed out.
    pub auth: AuthStats,
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
    /// Starts of resumable uploads.
    pub upload_start: u64,
    /// Pieces of resumable uploads, and questions about how much has arrived.
    pub upload_piece: u64,
    /// Resumable uploads that were cancelled.
    pub upload_cancel: u64,
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
    /// Questions to the metadata server.
    pub metadata: u64,
    /// Signed assertions that came to be exchanged for a token.
    pub token_exchange: u64,
    /// Calls that this server does not know or cannot read.
    pub unsupported: u64,
}

impl Requests {
    /// Calls of all kinds.
    pub fn total(&self) -> u64 {
        let Self { upload_multipart, upload_media, upload_start, upload_piece, upload_cancel, .. } = self;
        let Self { get_metadata, get_media, list, delete, get_bucket, metadata, token_exchange, unsupported, .. } =
            self;
        let uploads = upload_multipart + upload_media + upload_start + upload_piece + upload_cancel;
        uploads + get_metadata + get_media + list + delete + get_bucket + metadata + token_exchange + unsupported
    }
}

/// What was injected, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injected {
    /// Calls answered with 503 by `rate_503`.
    pub status_503: u64,
    /// Calls answered with 429 by `rate_429`.
    pub status_429: u64,
    /// Uploads that were stored and answered with 503 by `rate_lost_answer`.
    pub lost_answers: u64,
    /// Uploads that were stored and whose connection was reset by `rate_reset`.
    pub resets: u64,
    /// Calls that were never answered by `rate_hang`.
    pub hangs: u64,
    /// Calls answered slowly by `rate_slow_answer`.
    pub slow_answers: u64,
    /// Pieces of which half was taken by `rate_part`.
    pub parts: u64,
    /// Calls answered with `refuse_status`.
    pub refused: u64,
    /// Uploads answered with 400 by `refuse_name`.
    pub names_refused: u64,
    /// Uploads that found somebody else's bytes in their place by `foreign_name`.
    pub foreign: u64,
    /// Wishes for a token answered with `refuse_tokens_status`.
    pub tokens_refused: u64,
}

/// Counts of tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthStats {
    /// Storage calls let in.
    pub accepted: u64,
    /// Storage calls without a token.
    pub refused_missing: u64,
    /// Storage calls with a token or JWT that was good once.
    pub refused_expired: u64,
    /// Storage calls with a token or JWT that never was.
    pub refused_invalid: u64,
    /// Access tokens made, by the metadata server and for assertions. The metadata server hands out the same one until
    /// it expires.
    pub tokens_issued: u64,
    /// Different JWTs that were good when they were first used.
    pub jwts_met: u64,
}
