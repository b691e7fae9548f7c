//! Excel workbooks (`.xlsx`): a ZIP of XML parts, of which a sheet is read row by row as it is unpacked.

mod cells;
mod package;
mod parts;
mod strings;
mod styles;
mod xml;

use self::cells::Cells;
use self::package::Package;
use self::parts::{SheetPart, workbook};
use self::strings::Strings;
use self::styles::Styles;
use super::fault::SheetError;
use super::reading::Reading;

/// Reads the sheet that holds the tasks: the one called `tasks`, or the first that is not hidden.
pub(super) fn read(bytes: &[u8], reading: &mut Reading<'_>) -> Result<(), SheetError> {
    let mut package = Package::open(bytes)?;
    let workbook = workbook(&mut package)?;
    let sheet = chosen(&workbook.sheets).ok_or_else(|| SheetError::refused("the workbook has no sheet"))?;
    if workbook.sheets.len() > 1 {
        let name: String = sheet.name.chars().take(64).collect();
        reading.remark(format!("the sheet `{}` is read, and no other one", name.escape_debug()));
    }
    let strings = match &workbook.strings {
        Some(part) => Strings::read(&mut package, part)?,
        None => Strings::default(),
    };
    let styles = match &workbook.styles {
        Some(part) => Styles::read(&mut package, part)?,
        None => Styles::default(),
    };
    Cells { strings: &strings, styles: &styles, calendar: workbook.calendar }.read(&mut package, &sheet.part, reading)
}

fn chosen(sheets: &[SheetPart]) -> Option<&SheetPart> {
    let named = |sheet: &&SheetPart| sheet.name.trim().eq_ignore_ascii_case(super::template::SHEET);
    sheets.iter().find(named).or_else(|| sheets.iter().find(|sheet| !sheet.is_hidden)).or(sheets.first())
}
