//! Export tasks from a sheet: bytes in, tasks or all that is wrong with them out.
//!
//! [`read`] takes CSV, an Excel workbook or JSON, and tells by the content which it is. A row is a [`Task`]; which columns
//! there are says [`Column`]. Nothing of a sheet with an error in it is accepted. No message repeats what stands in a cell,
//! because a password may have slipped there; row and cell say where to look.
//!
//! A sheet comes from anywhere: its size, what a workbook unpacks to, its rows, its cells and the errors told of it have
//! bounds. Workbooks are read here, with `zip` and `quick-xml`, and not with calamine: that one holds all strings and cells
//! of a sheet, however many, and does not tell an empty cell from a formula without a value.

mod arguments;
mod cell;
mod channels;
mod column;
mod csv;
mod fault;
mod field;
mod head;
mod host;
mod json;
mod moment;
mod reading;
mod results;
mod row;
mod span;
mod task;
mod template;
mod workbook;
mod written;

pub use column::{COLUMNS, Column, Description};
pub use fault::{CellFault, SheetError};
pub use reading::Sheet;
pub use results::{ResultRow, results_csv, results_xlsx};
pub use task::Task;
pub use template::{template_csv, template_xlsx};

use self::reading::Reading;

/// Bytes of a file, at most.
pub const MAX_BYTES: usize = 32 << 20;
/// Tasks in a sheet, at most.
pub const MAX_TASKS: usize = 100_000;
/// Columns of a sheet, at most.
const MAX_COLUMNS: usize = 256;
/// Bytes of what stands in one cell, at most; Excel takes 32,767 characters.
const MAX_CELL: usize = 128 << 10;

/// How an old workbook of Excel begins, and one with a password: both are compound files.
const COMPOUND: &[u8] = &[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];

/// Reads a sheet: CSV, an Excel workbook (`.xlsx`) or JSON.
///
/// # Errors
///
/// When it cannot be read at all, or with all that is wrong in its cells.
pub fn read(bytes: &[u8]) -> Result<Sheet, SheetError> {
    let mut tasks = Vec::new();
    let remarks = read_each(bytes, &mut |task| tasks.push(task))?;
    Ok(Sheet { tasks, remarks })
}

/// Reads a sheet like [`read`], and gives its tasks away one by one: so many of them take more memory than what is made of
/// them. They count for nothing where it ends with an error. Gives what whoever wrote it should know of how it was read.
///
/// # Errors
///
/// When it cannot be read at all, or with all that is wrong in its cells.
pub fn read_each(bytes: &[u8], give: &mut dyn FnMut(Task)) -> Result<Vec<String>, SheetError> {
    if bytes.len() > MAX_BYTES {
        return Err(SheetError::refused(format!("it has more than {} MiB: part it", MAX_BYTES >> 20)));
    }
    if bytes.starts_with(COMPOUND) {
        return Err(SheetError::refused(
            "it is an old .xls workbook, or one with a password: save it as .xlsx without one, or as CSV UTF-8",
        ));
    }
    let mut reading = Reading::new(give);
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        workbook::read(bytes, &mut reading)?;
        return reading.finish();
    }
    let text = text(bytes)?;
    if text.trim_start().starts_with(['[', '{']) {
        json::read(text, &mut reading)?;
    } else {
        csv::read(text, &mut reading)?;
    }
    reading.finish()
}

/// What is no workbook has to be text.
fn text(bytes: &[u8]) -> Result<&str, SheetError> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(SheetError::refused("it is text in UTF-16: save it as CSV UTF-8"));
    }
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    if bytes.contains(&0) {
        return Err(SheetError::refused("it is neither CSV nor an Excel workbook (.xlsx) nor JSON"));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        SheetError::refused(format!("it is not UTF-8, first in line {line}: save it as CSV UTF-8"))
    })
}
