//! The list of an export.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Serialize, Serializer};

use crate::model::UnixMicros;
use crate::nvr::{DeviceTime, SegmentKind};

/// What became of a recording.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Entry {
    /// Its number in the list of what was found, by track and time: 1, 2, 3 ...
    pub number: u64,
    /// What it is.
    #[serde(flatten)]
    pub recording: Recording,
    /// What became of it.
    #[serde(flatten)]
    pub fate: Fate,
}

/// A recording as its recorder tells of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Recording {
    /// Its track.
    pub track: String,
    /// The channel of that.
    pub channel: u32,
    /// What the camera is called.
    pub camera: String,
    /// The recorder's name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// What it holds.
    pub kind: SegmentKind,
    /// When it begins, as the recorder writes it.
    #[serde(serialize_with = "as_text")]
    pub start: DeviceTime,
    /// When it ends, as the recorder writes it.
    #[serde(serialize_with = "as_text")]
    pub end: DeviceTime,
    /// When it begins.
    pub start_utc: UnixMicros,
    /// When it ends.
    pub end_utc: UnixMicros,
    /// Its size as the recorder's list tells it, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listed_bytes: Option<u64>,
}

/// What became of a recording.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Fate {
    /// It was found; nobody asked for it yet.
    Found {
        /// Its key, if it is exported with these options.
        key: String,
    },
    /// It was fetched, is in the bucket, and was verified.
    Stored {
        /// Where.
        #[serde(flatten)]
        object: Stored,
        /// What is to be known of it: that it is not in the form which was asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// It was in the bucket before.
    There {
        /// Its key.
        key: String,
        /// Where.
        url: String,
        /// Size, bytes.
        bytes: u64,
    },
    /// It is a part of one object with others of its track.
    Joined {
        /// The object's key.
        key: String,
        /// CRC32C of the recording as it came.
        #[serde(serialize_with = "as_base64")]
        crc32c: u32,
        /// Its size as it came, bytes.
        bytes: u64,
    },
    /// A part of it is in the bucket: more was not to be had.
    Part {
        /// Where.
        #[serde(flatten)]
        object: Stored,
        /// Why not all of it, in a word.
        reason: Reason,
        /// What is missing.
        error: String,
    },
    /// It is not in the bucket.
    Failed {
        /// Why, in a word.
        reason: Reason,
        /// Why, and what to do.
        error: String,
    },
}

/// An object that was stored.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Stored {
    /// Its key, below the destination's prefix.
    pub key: String,
    /// Where it is.
    pub url: String,
    /// Size, bytes.
    pub bytes: u64,
    /// CRC32C; written as Cloud Storage does: base64 of the big-endian bytes.
    #[serde(serialize_with = "as_base64")]
    pub crc32c: u32,
    /// JPEGs, where it is the list of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pictures: Option<u64>,
}

/// Why a recording is not in the bucket, or a track was not searched.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// It was listed and is not there any more.
    Gone,
    /// The recorder sent something else: an error, a page.
    NotMedia,
    /// It broke off each time.
    Cut,
    /// It was of another size than the list tells.
    WrongSize,
    /// The recorder fell silent, or did not answer.
    Silent,
    /// The recorder had no room.
    Busy,
    /// User and password are refused.
    Auth,
    /// The recorder has locked us out.
    Locked,
    /// The user may not.
    Forbidden,
    /// The recorder cannot.
    Unsupported,
    /// There is no secure connection.
    Tls,
    /// The recorder cannot be reached, or says that it has failed.
    Recorder,
    /// There is no such track.
    NotFound,
    /// It still grew when nobody wanted to wait any longer.
    Growing,
    /// The bucket did not take it.
    Bucket,
    /// Something else has its name.
    Conflict,
    /// It could not be brought into the form that was asked for, and was not stored as it is either.
    Media,
    /// This machine has no room, or cannot write.
    Machine,
    /// Others that belong to the same object are missing.
    Incomplete,
    /// The export was told to end, or ended because of something else.
    Interrupted,
}

impl Reason {
    /// The reason as it stands in lists.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::NotMedia => "not_media",
            Self::Cut => "cut",
            Self::WrongSize => "wrong_size",
            Self::Silent => "silent",
            Self::Busy => "busy",
            Self::Auth => "auth",
            Self::Locked => "locked",
            Self::Forbidden => "forbidden",
            Self::Unsupported => "unsupported",
            Self::Tls => "tls",
            Self::Recorder => "recorder",
            Self::NotFound => "not_found",
            Self::Growing => "growing",
            Self::Bucket => "bucket",
            Self::Conflict => "conflict",
            Self::Media => "media",
            Self::Machine => "machine",
            Self::Incomplete => "incomplete",
            Self::Interrupted => "interrupted",
        }
    }
}

impl Fate {
    /// Why the bucket has not all of it, where it has not.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Part { reason, .. } | Self::Failed { reason, .. } => Some(*reason),
            Self::Found { .. } | Self::Stored { .. } | Self::There { .. } | Self::Joined { .. } => None,
        }
    }

    /// The outcome in a word, as lists have it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Found { .. } => "found",
            Self::Stored { .. } => "stored",
            Self::There { .. } => "there",
            Self::Joined { .. } => "joined",
            Self::Part { .. } => "part",
            Self::Failed { .. } => "failed",
        }
    }
}

/// A CRC32C as Cloud Storage writes it.
pub(super) fn base64(crc32c: u32) -> String {
    BASE64_STANDARD.encode(crc32c.to_be_bytes())
}

impl Stored {
    /// The checksum as text.
    pub fn checksum(&self) -> String {
        base64(self.crc32c)
    }
}

fn as_base64<S: Serializer>(crc32c: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&base64(*crc32c))
}

fn as_text<S: Serializer>(at: &DeviceTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_the_same_word_everywhere() {
        for reason in [Reason::Gone, Reason::NotMedia, Reason::WrongSize, Reason::NotFound, Reason::Interrupted] {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
