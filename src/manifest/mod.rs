//! Manifests: a camera's list as objects in the bucket, so that the bucket alone tells what is in it.
//!
//! Pure: what a manifest says (`line`), how it is written (`write`) and read (`read`), and when which camera's next one
//! is due (`schedule`). `docs/manifest.md` is the format's contract.

mod line;
mod read;
mod schedule;
#[cfg(test)]
mod tests;
mod write;

pub use line::{Header, Line, Manifest};
pub use read::{ManifestError, read};
pub use schedule::{Due, Schedule};

use crate::model::{CameraId, Origin, Seq, SeqRange};

/// What stands in the first line of every manifest.
pub const FORMAT: &str = "framehaul-manifest";

/// The version that this program writes, and the only one that it reads.
pub const VERSION: u32 = 1;

/// What all keys of a camera's manifests begin with. No camera's id begins with `_`, and so no frame's key does where
/// it begins with the camera.
pub fn prefix(camera: &CameraId, origin: &Origin) -> String {
    format!("_manifest/{camera}/{}/", origin.as_str())
}

/// The key of the manifest that holds these seqs: keys sort as their seqs do.
pub fn key(camera: &CameraId, origin: &Origin, seqs: SeqRange) -> String {
    format!("{}{}", prefix(camera, origin), file_name(seqs))
}

/// What stands in its key after the last `/`.
pub fn file_name(seqs: SeqRange) -> String {
    format!("{:012}-{:012}.ndjson", seqs.first, seqs.last)
}

/// The seqs that a manifest holds, by what stands in its key after the last `/`. `None` where that is none of ours: seqs
/// are no larger than what the journal can keep.
pub fn parse_file_name(name: &str) -> Option<SeqRange> {
    let (first, last) = name.strip_suffix(".ndjson")?.split_once('-')?;
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<Seq>().ok()).flatten();
    let seqs = SeqRange { first: number(first)?, last: number(last)? };
    let possible = seqs.first >= 1 && seqs.first <= seqs.last && i64::try_from(seqs.last).is_ok();
    (possible && file_name(seqs) == name).then_some(seqs)
}
