//! The cells of a sheet, row by row as they are unpacked.

use super::super::cell::Cell;
use super::super::fault::SheetError;
use super::super::moment::Calendar;
use super::super::reading::Reading;
use super::super::{MAX_CELL, MAX_COLUMNS};
use super::package::{Package, damaged};
use super::strings::{Strings, Text};
use super::styles::{Shown, Styles};
use super::xml::{Element, Item};

/// Ranges of merged cells that are looked at.
const MAX_MERGED: usize = 10_000;
/// Rows of a sheet, as Excel has them.
const MAX_ROWS: u32 = 1 << 20;

const NO_VALUE: Cell = Cell::Unusable(
    "is a formula without a value: open the sheet and save it in a program that calculates, or write the value",
);
const NO_DATE: Cell = Cell::Unusable("is a time without a day, or no date");
const AN_ERROR: Cell = Cell::Unusable("is an error of a formula");
const TOO_LONG: Cell = Cell::Unusable("holds more than a cell may");

/// What it takes to read cells.
pub(super) struct Cells<'a> {
    /// The workbook's texts.
    pub(super) strings: &'a Strings,
    /// And formats.
    pub(super) styles: &'a Styles,
    /// What its dates count from.
    pub(super) calendar: Calendar,
}

/// A cell that is open.
#[derive(Default)]
struct Open {
    column: usize,
    kind: String,
    style: usize,
    value: String,
    has_value: bool,
    has_formula: bool,
    text: Text,
}

/// Where in a cell the reader is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Value,
    Text,
    Nothing,
}

impl Cells<'_> {
    /// Reads all rows of a part.
    pub(super) fn read(
        &self,
        package: &mut Package<'_>,
        part: &str,
        reading: &mut Reading<'_>,
    ) -> Result<(), SheetError> {
        let mut events = package.part(part)?.ok_or_else(damaged)?;
        let (mut number, mut row): (u32, Vec<Cell>) = (0, Vec::new());
        let (mut merged, mut is_whole) = (0, false);
        let mut open: Option<Open> = None;
        let mut within = Within::Nothing;
        let mut next_column = 0;
        while let Some(item) = events.next()? {
            match (&item, open.as_mut()) {
                (Item::Begin(element), None) => match element.name() {
                    b"row" => {
                        let told = element.get("r").map(|told| told.parse().map_err(|_| damaged())).transpose()?;
                        let told: u32 = told.unwrap_or(number + 1);
                        if told <= number || told > MAX_ROWS {
                            return Err(damaged());
                        }
                        number = told;
                        next_column = 0;
                    }
                    b"c" => {
                        let cell = Open::new(element, next_column).ok_or_else(damaged)?;
                        next_column = cell.column + 1;
                        open = Some(cell);
                    }
                    b"mergeCell" if merged < MAX_MERGED => {
                        merged += 1;
                        let range = element.get("ref").unwrap_or_default();
                        let (first, last) = range.split_once(':').ok_or_else(damaged)?;
                        let (first, last) = (place(first).ok_or_else(damaged)?, place(last).ok_or_else(damaged)?);
                        reading.merged(first, last, &range);
                    }
                    _ => {}
                },
                (Item::Begin(element), Some(cell)) => match element.name() {
                    b"v" => {
                        cell.has_value = true;
                        within = Within::Value;
                    }
                    b"f" => cell.has_formula = true,
                    b"is" => within = Within::Text,
                    _ if within == Within::Text => cell.text.take(&item),
                    _ => {}
                },
                (Item::Text(piece), Some(cell)) => match within {
                    Within::Value if cell.value.len() <= MAX_CELL => cell.value.push_str(piece),
                    Within::Text => cell.text.take(&item),
                    Within::Value | Within::Nothing => {}
                },
                (Item::End(end), Some(cell)) => match end.name() {
                    b"c" => {
                        within = Within::Nothing;
                        let cell = open.take().expect("it is open");
                        let column = cell.column;
                        let cell = self.cell(cell)?;
                        if column < MAX_COLUMNS && !cell.is_empty() {
                            row.resize(row.len().max(column + 1), Cell::Empty);
                            row[column] = cell;
                        } else if !cell.is_empty() {
                            reading.fault(number, Some(column), "stands behind the last column that is read");
                        }
                    }
                    b"v" | b"is" => within = Within::Nothing,
                    _ if within == Within::Text => cell.text.take(&item),
                    _ => {}
                },
                (Item::End(end), None) => match end.name() {
                    b"row" => reading.row(number, std::mem::take(&mut row))?,
                    b"worksheet" => is_whole = true,
                    _ => {}
                },
                (Item::Text(_), None) | (Item::Nothing, _) => {}
            }
        }
        if is_whole { Ok(()) } else { Err(damaged()) }
    }

    /// What stands in a cell.
    fn cell(&self, mut cell: Open) -> Result<Cell, SheetError> {
        if cell.kind == "inlineStr" {
            return Ok(long(&cell.text.finish()));
        }
        if !cell.has_value || (cell.value.is_empty() && cell.kind != "str") {
            return Ok(if cell.has_formula { NO_VALUE } else { Cell::Empty });
        }
        let value = cell.value.as_str();
        Ok(match cell.kind.as_str() {
            "s" => {
                let number = value.trim().parse().map_err(|_| damaged())?;
                long(self.strings.get(number).ok_or_else(damaged)?)
            }
            "str" => long(value),
            "b" => Cell::Truth(value.trim() == "1" || value.trim() == "true"),
            "e" => AN_ERROR,
            // A date as ISO 8601 writes it.
            "d" => long(value),
            _ => {
                let number: f64 = value.trim().parse().ok().filter(|n: &f64| n.is_finite()).ok_or_else(damaged)?;
                match self.styles.get(cell.style) {
                    Shown::Date => self.calendar.date(number).map_or(NO_DATE, Cell::Date),
                    Shown::Padded(digits) if (0.0..1e15).contains(&number) => {
                        Cell::Text(format!("{number:0digits$.0}"))
                    }
                    Shown::Padded(_) | Shown::Number => Cell::Number(number),
                }
            }
        })
    }
}

impl Open {
    fn new(element: &Element<'_>, next_column: usize) -> Option<Self> {
        let column = match element.get("r") {
            Some(told) => place(&told)?.1,
            None => next_column,
        };
        // Twice the same, or backwards, would take a value away.
        if column < next_column {
            return None;
        }
        let style = element.get("s").and_then(|style| style.parse().ok()).unwrap_or(0);
        Some(Self { column, style, kind: element.get("t").unwrap_or_default(), ..Self::default() })
    }
}

fn long(text: &str) -> Cell {
    if text.len() > MAX_CELL { TOO_LONG } else { Cell::text(text) }
}

/// Row and column of a cell's name: `F17` is row 17 and column 5.
fn place(name: &str) -> Option<(u32, usize)> {
    let name = name.replace('$', "");
    let split = name.find(|c: char| c.is_ascii_digit())?;
    let (letters, digits) = name.split_at(split);
    if letters.is_empty() || letters.len() > 3 || !letters.bytes().all(|b| b.is_ascii_alphabetic()) {
        return None;
    }
    let column = letters.bytes().fold(0, |column, b| column * 26 + usize::from(b.to_ascii_uppercase() - b'A') + 1);
    Some((digits.parse().ok().filter(|row| (1..=MAX_ROWS).contains(row))?, column - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_names() {
        for (name, expected) in
            [("A1", (1, 0)), ("$F$17", (17, 5)), ("AA2", (2, 26)), ("xfd1048576", (1 << 20, 16_383))]
        {
            assert_eq!(place(name), Some(expected), "{name}");
        }
        for name in ["", "A", "1", "A0", "AAAA1", "A1048577", "é1", "A1B"] {
            assert_eq!(place(name), None, "{name}");
        }
    }
}
