//! Reading a frame back, from wherever its record lies.

use std::io;

use bytes::Bytes;

use super::disk::Disk;
use super::format::{RecordHeader, Salt};
use super::{ReadError, Record, Spooled, Store};
use crate::model::{CameraId, Frame, Origin, Seq};

/// Takes the bytes of a whole record for what they say; both checksums must fit, and the camera and seq that are
/// expected.
pub(super) fn decode(
    bytes: Vec<u8>,
    origin: &Origin,
    camera: &CameraId,
    spooled: Spooled,
) -> Result<Record, ReadError> {
    let Spooled { seq, place } = spooled;
    let damaged = |detail: &str| {
        let detail = format!("{detail}, in segment {} at byte {}", place.segment, place.offset);
        ReadError::Damaged { camera: camera.clone(), seq, detail }
    };
    let salt = Salt::new(origin, place.segment);
    let header = RecordHeader::parse(&bytes, salt, place.offset.into())
        .ok_or_else(|| damaged("its header is not what was written"))?;
    if (&header.camera, header.seq) != (camera, seq) {
        return Err(damaged(&format!("it is seq {} of {}", header.seq, header.camera)));
    }
    let picture = header.length() as usize..header.length() as usize + header.jpeg_length as usize;
    if bytes.get(picture.clone()).map(crc32c::crc32c) != Some(header.jpeg_crc32c) {
        return Err(damaged("its picture is not what was written"));
    }
    let frame = Frame {
        camera: header.camera,
        seq: header.seq,
        session: header.session,
        captured_at: header.captured_at,
        width: header.width,
        height: header.height,
        damaged: header.damaged,
        jpeg: Bytes::from(bytes).slice(picture),
        crc32c: header.jpeg_crc32c,
    };
    Ok(Record { frame, key: header.key })
}

/// What an error says of a record that lies in `path`: one whose file is too short is damaged.
pub(super) fn failed(error: io::Error, path: std::path::PathBuf, camera: &CameraId, seq: Seq) -> ReadError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        let detail = format!("{} ends before it", path.display());
        return ReadError::Damaged { camera: camera.clone(), seq, detail };
    }
    ReadError::Io { path, error }
}

impl<D: Disk> Store<D> {
    /// Reads a frame back.
    ///
    /// # Errors
    ///
    /// By [`ReadError`].
    pub fn read(&mut self, camera: &CameraId, spooled: Spooled) -> Result<Record, ReadError> {
        let mut bytes = vec![0; spooled.place.length as usize];
        self.files.read_at(spooled.place.segment, &mut bytes, spooled.place.offset.into()).map_err(|error| {
            failed(error, super::format::segment_name(spooled.place.segment).into(), camera, spooled.seq)
        })?;
        decode(bytes, &self.settings.origin, camera, spooled)
    }
}
