//! How numbers are shown: the only thing that tells a date from a number.

use std::collections::HashMap;

use super::super::fault::SheetError;
use super::package::{Package, damaged};
use super::xml::Item;

/// Formats of a workbook, at most; Excel has 65,490.
const MAX_FORMATS: usize = 1 << 16;

/// How a number is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Shown {
    /// As it is, or nearly.
    #[default]
    Number,
    /// As a date, a time, or both.
    Date,
    /// As a whole number with at least so many digits.
    Padded(usize),
}

/// The formats of a workbook.
#[derive(Debug, Default)]
pub(super) struct Styles(Vec<Shown>);

impl Styles {
    /// Reads the part that holds them.
    pub(super) fn read(package: &mut Package<'_>, part: &str) -> Result<Self, SheetError> {
        let mut styles = Self::default();
        let mut own: HashMap<u32, Shown> = HashMap::new();
        let mut in_cells = false;
        let mut events = package.part(part)?.ok_or_else(damaged)?;
        while let Some(item) = events.next()? {
            match item {
                Item::Begin(element) => match element.name() {
                    b"numFmt" if own.len() < MAX_FORMATS => {
                        let id = element.get("numFmtId").and_then(|id| id.parse().ok());
                        if let (Some(id), Some(code)) = (id, element.get("formatCode")) {
                            own.insert(id, shown(&code));
                        }
                    }
                    b"cellXfs" => in_cells = true,
                    b"xf" if in_cells && styles.0.len() < MAX_FORMATS => {
                        let id = element.get("numFmtId").and_then(|id| id.parse().ok()).unwrap_or(0);
                        styles.0.push(own.get(&id).copied().unwrap_or_else(|| built_in(id)));
                    }
                    _ => {}
                },
                Item::End(end) if end.name() == b"cellXfs" => in_cells = false,
                Item::End(_) | Item::Text(_) | Item::Nothing => {}
            }
        }
        Ok(styles)
    }

    /// The format with this number.
    pub(super) fn get(&self, number: usize) -> Shown {
        self.0.get(number).copied().unwrap_or_default()
    }
}

/// The formats that no workbook writes down.
fn built_in(id: u32) -> Shown {
    match id {
        // The second group is that of the East Asian editions.
        14..=22 | 27..=36 | 45..=47 | 50..=58 => Shown::Date,
        _ => Shown::Number,
    }
}

/// What a format's code shows: letters of days and hours outside quotes and brackets make a date.
fn shown(code: &str) -> Shown {
    if !code.is_empty() && code.bytes().all(|b| b == b'0') {
        return Shown::Padded(code.len());
    }
    let mut chars = code.chars();
    let mut bracket: Option<String> = None;
    while let Some(c) = chars.next() {
        match (&mut bracket, c) {
            // Hours beyond a day stand in brackets; colours and languages do as well.
            (Some(inside), ']') => {
                let is_elapsed =
                    !inside.is_empty() && inside.chars().all(|c| matches!(c, 'h' | 'm' | 's' | 'H' | 'M' | 'S'));
                if is_elapsed {
                    return Shown::Date;
                }
                bracket = None;
            }
            (Some(inside), c) => inside.push(c),
            (None, '[') => bracket = Some(String::new()),
            (None, '"') => {
                // To the next quotation mark.
                let _ = chars.by_ref().find(|c| *c == '"');
            }
            // The next character stands for itself, or for a blank as wide.
            (None, '\\' | '_' | '*') => {
                let _ = chars.next();
            }
            (None, 'y' | 'm' | 'd' | 'h' | 's' | 'Y' | 'M' | 'D' | 'H' | 'S') => return Shown::Date,
            (None, _) => {}
        }
    }
    Shown::Number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_told_by_their_format() {
        for code in [
            "yyyy-mm-dd hh:mm:ss",
            "dd/mm/yyyy;@",
            "[$-409]m/d/yy h:mm AM/PM;@",
            "[h]:mm:ss",
            "yyyy\"年\"m\"月\"d\"日\"",
            "[Red]d.m.yyyy",
        ] {
            assert_eq!(shown(code), Shown::Date, "{code}");
        }
        for code in [
            "General",
            "0.00",
            "#,##0",
            "@",
            "[Red]0;[Blue]0",
            "0\" days\"",
            "0.00E+00",
            "\\d0",
            "0_d",
            "[$-409]0",
            "\"unclosed d",
        ] {
            assert_eq!(shown(code), Shown::Number, "{code}");
        }
        assert_eq!(shown("000000"), Shown::Padded(6));
        assert_eq!(
            (built_in(14), built_in(22), built_in(0), built_in(49)),
            (Shown::Date, Shown::Date, Shown::Number, Shown::Number)
        );
    }
}
