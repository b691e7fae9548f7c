//! The list that a push gives.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Serialize, Serializer};

use crate::model::{Seq, UnixMicros};

/// What became of a picture, in its place.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Entry {
    /// Its place: 1, 2, 3 ...
    pub seq: Seq,
    /// When it was captured: by the arrival of a stream's picture, by the last change of an image file, else when it was
    /// read. `None` where there was no picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub captured_at: Option<UnixMicros>,
    /// Its presentation time in a file, from the beginning of its pictures, seconds; none where times jump back behind that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<f64>,
    /// Whether it is stored.
    #[serde(flatten)]
    pub fate: Fate,
}

/// Whether a picture is stored.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(untagged)]
pub enum Fate {
    /// It is in the bucket.
    Stored {
        /// Where.
        url: String,
        /// Size, bytes.
        bytes: u64,
        /// CRC32C; written as Cloud Storage does: base64 of the big-endian bytes.
        #[serde(serialize_with = "as_base64")]
        crc32c: u32,
        /// Width, pixels.
        width: u32,
        /// Height, pixels.
        height: u32,
    },
    /// It is not, and will not be.
    Lost {
        /// Why, in a word: one of the daemon's reasons, or `unreachable` where it was tried as often as it may be.
        lost: &'static str,
        /// The last error; left out where there was no picture to store.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

impl Entry {
    /// Where it is, if it is stored.
    pub fn url(&self) -> Option<&str> {
        match &self.fate {
            Fate::Stored { url, .. } => Some(url),
            Fate::Lost { .. } => None,
        }
    }

    /// The checksum as text, if it is stored.
    pub fn crc32c(&self) -> Option<String> {
        match &self.fate {
            Fate::Stored { crc32c, .. } => Some(base64(*crc32c)),
            Fate::Lost { .. } => None,
        }
    }
}

fn base64(crc32c: u32) -> String {
    BASE64_STANDARD.encode(crc32c.to_be_bytes())
}

fn as_base64<S: Serializer>(crc32c: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&base64(*crc32c))
}
