//! Which parts a workbook has, and what it says of its sheets.

use std::collections::HashMap;

use super::super::fault::SheetError;
use super::super::moment::Calendar;
use super::package::{Package, damaged};
use super::xml::Item;

/// Sheets of a workbook, at most.
const MAX_SHEETS: usize = 1_024;

/// A workbook's own part.
#[derive(Debug, Default)]
pub(super) struct Workbook {
    /// Its sheets, in their order.
    pub(super) sheets: Vec<SheetPart>,
    /// Where the texts are.
    pub(super) strings: Option<String>,
    /// Where the formats are.
    pub(super) styles: Option<String>,
    /// What its dates count from.
    pub(super) calendar: Calendar,
}

/// One sheet.
#[derive(Debug)]
pub(super) struct SheetPart {
    /// What the tab says.
    pub(super) name: String,
    /// Whether it is not shown.
    pub(super) is_hidden: bool,
    /// Where it is.
    pub(super) part: String,
}

/// Reads what a workbook says of itself.
pub(super) fn workbook(package: &mut Package<'_>) -> Result<Workbook, SheetError> {
    let mut workbook = Workbook::default();
    let mut parts = HashMap::new();
    let mut events = package.part("xl/_rels/workbook.xml.rels")?.ok_or_else(damaged)?;
    while let Some(item) = events.next()? {
        let Item::Begin(element) = item else { continue };
        if element.name() != b"Relationship" || parts.len() > 2 * MAX_SHEETS {
            continue;
        }
        let (Some(id), Some(kind), Some(target)) = (element.get("Id"), element.get("Type"), element.get("Target"))
        else {
            continue;
        };
        let part = located(&target);
        // The beginning of these names depends on the edition of the standard.
        match kind.rsplit('/').next() {
            Some("sharedStrings") => workbook.strings = Some(part),
            Some("styles") => workbook.styles = Some(part),
            Some("worksheet") => {
                parts.insert(id, part);
            }
            _ => {}
        }
    }
    drop(events);
    let mut events = package.part("xl/workbook.xml")?.ok_or_else(damaged)?;
    while let Some(item) = events.next()? {
        let Item::Begin(element) = item else { continue };
        match element.name() {
            b"workbookPr" if matches!(element.get("date1904").as_deref(), Some("1" | "true" | "on")) => {
                workbook.calendar = Calendar::From1904;
            }
            b"sheet" if workbook.sheets.len() < MAX_SHEETS => {
                // Sheets of charts and macros are no worksheets.
                if let Some(part) = element.get("id").and_then(|id| parts.get(&id)) {
                    workbook.sheets.push(SheetPart {
                        name: element.get("name").unwrap_or_default(),
                        is_hidden: element.get("state").is_some_and(|state| state != "visible"),
                        part: part.clone(),
                    });
                }
            }
            _ => {}
        }
    }
    Ok(workbook)
}

/// Where a part is that the workbook refers to, from the root of the ZIP.
fn located(target: &str) -> String {
    match target.strip_prefix('/') {
        Some(from_root) => from_root.to_owned(),
        None => format!("xl/{}", target.strip_prefix("./").unwrap_or(target)),
    }
}
