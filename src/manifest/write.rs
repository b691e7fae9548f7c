//! From lines to bytes. The same manifest always becomes the same bytes.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::line::{RawHeader, RawLine};
use super::{FORMAT, Line, Manifest, VERSION};
use crate::model::TimeSource;

/// About as long as a frame's line is: room is made for so much at once.
const USUAL_LINE: usize = 400;

impl Manifest {
    /// Its bytes, as they stand in the bucket.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity((self.lines.len() + 2) * USUAL_LINE);
        let header = &self.header;
        push(
            &mut text,
            &RawHeader {
                format: FORMAT.to_owned(),
                version: VERSION,
                camera: header.camera.to_string(),
                origin: header.origin.as_str().to_owned(),
                first: header.seqs.first,
                last: header.seqs.last,
                entries: header.entries,
                missing_from: header.missing_from,
                written_at: header.written_at.to_string(),
            },
        );
        for line in &self.lines {
            push(&mut text, &raw(line));
        }
        let crc32c = checksum(crc32c::crc32c(&text));
        push(&mut text, &RawLine::End { crc32c });
        text
    }
}

/// A CRC32C as Cloud Storage writes it: base64 of the big-endian bytes.
pub(super) fn checksum(crc32c: u32) -> String {
    BASE64_STANDARD.encode(crc32c.to_be_bytes())
}

fn push(text: &mut Vec<u8>, line: &impl serde::Serialize) {
    serde_json::to_writer(&mut *text, line).expect("a line is plain data");
    text.push(b'\n');
}

fn raw(line: &Line) -> RawLine {
    match line.clone() {
        Line::Session { session, opened, codec, width, height, time_source } => {
            let time_source = Some(time_source.as_str().to_owned()).filter(|_| time_source != TimeSource::Arrival);
            RawLine::Session { session, opened: opened.to_string(), codec, width, height, time_source }
        }
        Line::SessionEnd { session, closed, why } => {
            RawLine::SessionEnd { session, closed: closed.map(|at| at.to_string()), why }
        }
        Line::Frame {
            session,
            seq,
            captured_at,
            stored_at,
            destination,
            url,
            key,
            bytes,
            crc32c,
            width,
            height,
            damaged,
        } => RawLine::Frame {
            session,
            seq,
            captured_at: captured_at.to_string(),
            stored_at: stored_at.to_string(),
            destination: destination.to_string(),
            url,
            key,
            bytes,
            crc32c: checksum(crc32c),
            width,
            height,
            damaged,
        },
        Line::Tombstone { session, seqs, reason, maybe_stored } => RawLine::Tombstone {
            session,
            seq: seqs.first,
            last: seqs.last,
            reason: reason.as_str().to_owned(),
            maybe_stored,
        },
    }
}
