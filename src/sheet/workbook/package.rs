//! The ZIP that a workbook is.
//!
//! What a ZIP says of itself is not believed: what is unpacked is counted while it is, over all parts together.

use std::io::{BufReader, Cursor};

use zip::ZipArchive;
use zip::read::ZipFile;
use zip::result::ZipError;

use super::super::fault::SheetError;
use super::xml::Events;

/// Bytes that all parts of a workbook may have together once they are unpacked. A hundred thousand rows with a value in
/// every column have about half of it.
pub(super) const MAX_UNPACKED: u64 = 256 << 20;
/// Files in a ZIP, at most: a workbook has a dozen, and a few for each sheet and picture.
const MAX_FILES: usize = 4_096;

/// How an entry begins in the list of files.
const ENTRY: &[u8] = b"PK\x01\x02";

/// A workbook's parts.
pub(super) struct Package<'a> {
    archive: ZipArchive<Cursor<&'a [u8]>>,
    /// Bytes that may still be unpacked.
    left: u64,
}

/// A part, as it is unpacked.
pub(super) type Part<'p, 'a> = Events<'p, BufReader<ZipFile<'p, Cursor<&'a [u8]>>>>;

impl<'a> Package<'a> {
    /// Opens a ZIP that is a workbook.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, SheetError> {
        // Whatever the list says of its length, it has no more entries than there are beginnings of some.
        if bytes.windows(ENTRY.len()).filter(|window| *window == ENTRY).count() > MAX_FILES {
            return Err(SheetError::refused(format!("it is a ZIP of more than {MAX_FILES} files, and no workbook")));
        }
        let archive = ZipArchive::new(Cursor::new(bytes)).map_err(|_| damaged())?;
        let has = |name: &str| archive.index_for_name(name).is_some();
        if has("xl/workbook.xml") && has("[Content_Types].xml") {
            return Ok(Self { archive, left: MAX_UNPACKED });
        }
        Err(SheetError::refused(if has("xl/workbook.bin") {
            "it is a binary workbook (.xlsb): save it as .xlsx"
        } else if has("content.xml") && has("mimetype") {
            "it is an OpenDocument file: save it as .xlsx, or as CSV UTF-8"
        } else {
            "it is a ZIP, and no workbook"
        }))
    }

    /// A part; `None` where there is none of this name.
    pub(super) fn part(&mut self, name: &str) -> Result<Option<Part<'_, 'a>>, SheetError> {
        let file = match self.archive.by_name(name) {
            Ok(file) => file,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(_) => return Err(damaged()),
        };
        if file.size() > self.left {
            return Err(too_large());
        }
        Ok(Some(Events::new(BufReader::with_capacity(64 << 10, file), &mut self.left)))
    }
}

pub(super) fn damaged() -> SheetError {
    SheetError::refused("the workbook is damaged: open it and save it anew")
}

pub(super) fn too_large() -> SheetError {
    SheetError::refused(format!("the workbook unpacks to more than {} MiB: part it", MAX_UNPACKED >> 20))
}
