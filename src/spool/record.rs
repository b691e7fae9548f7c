//! A frame as the spool keeps it.

use super::disk::is_unreadable;
use crate::model::{Frame, Seq};

/// A frame with the key it will have in its bucket: settled when it is captured, so that a changed template or origin
/// never gives the same frame a second key.
#[derive(Clone, Debug)]
pub struct Record {
    /// The frame.
    pub frame: Frame,
    /// Its object's key, below the bucket's prefix.
    pub key: String,
}

/// Where a record lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// The segment's number.
    pub segment: u64,
    /// Bytes from the segment's beginning.
    pub offset: u32,
    /// Bytes of the whole record.
    pub length: u32,
}

/// A frame on disk whose outcome is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spooled {
    /// Its place in its camera's order.
    pub seq: Seq,
    /// Where it lies. Copying forward may move it.
    pub place: Place,
}

/// Why a record cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What lies there is not what was written.
    #[error("spool: the record of {camera} seq {seq} is damaged: {detail}")]
    Damaged {
        /// Whose frame.
        camera: crate::model::CameraId,
        /// Which one.
        seq: Seq,
        /// What does not fit.
        detail: String,
    },
    /// The spool has no unresolved frame of this seq.
    #[error("spool: there is no frame {seq} of {camera}")]
    Gone {
        /// Whose frame.
        camera: crate::model::CameraId,
        /// Which one.
        seq: Seq,
    },
    /// The disk did not answer as it should.
    #[error("spool: cannot read {path}: {error}")]
    Io {
        /// The segment.
        path: std::path::PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

impl ReadError {
    /// Whether the disk says that this very place cannot be read, and not that nothing can be just now.
    pub fn is_bad_place(&self) -> bool {
        matches!(self, Self::Io { error, .. } if is_unreadable(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_media_and_file_systems_say_of_a_bad_place_is_known() {
        use rustix::io::Errno;
        let io = |errno: Errno| ReadError::Io { path: "x".into(), error: errno.into() };
        let bad = [Errno::IO, Errno::NODATA, Errno::ILSEQ, Errno::REMOTEIO, Errno::BADMSG, Errno::UCLEAN];
        assert!(bad.into_iter().all(|errno| io(errno).is_bad_place()));
        assert!(
            ![Errno::MFILE, Errno::NOMEM, Errno::STALE, Errno::ACCESS]
                .map(|errno| io(errno).is_bad_place())
                .contains(&true)
        );
    }
}
