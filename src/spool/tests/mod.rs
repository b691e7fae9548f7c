//! The store against a model of a disk, and against damage.

mod damage;
mod disk;
mod model;

use std::io;

use super::disk::Disk;
use super::format::{RecordHeader, Salt, lengths};
use super::store::Store;
use super::{Place, Record};
use crate::model::{CameraId, Frame, Seq};

/// Reads a record back and believes nothing of it: `None` where it is not the one that is asked for, as it was written.
fn read<D: Disk>(store: &Store<D>, camera: &CameraId, seq: Seq, place: Place) -> io::Result<Option<Record>> {
    let mut bytes = vec![0; place.length as usize];
    store.files.read_at(place.segment, &mut bytes, place.offset.into())?;
    let salt = Salt::new(store.origin(), place.segment);
    let header = lengths(&bytes).and_then(|_| RecordHeader::parse(&bytes, salt, place.offset.into()));
    let Some(header) = header.filter(|header| header.camera == *camera && header.seq == seq) else { return Ok(None) };
    let begin = header.length() as usize;
    let Some(jpeg) = bytes.get(begin..begin + header.jpeg_length as usize) else { return Ok(None) };
    if crc32c::crc32c(jpeg) != header.jpeg_crc32c {
        return Ok(None);
    }
    let frame = Frame {
        camera: header.camera,
        seq,
        session: header.session,
        captured_at: header.captured_at,
        width: header.width,
        height: header.height,
        jpeg: jpeg.to_vec().into(),
        crc32c: header.jpeg_crc32c,
    };
    Ok(Some(Record { frame, key: header.key }))
}
