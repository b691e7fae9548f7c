//! Values separated by commas, semicolons or tabs.
//!
//! RFC 4180 to the letter where quotes are concerned, because a quotation mark out of place moves every value behind it.
//! Rows are counted as programs for sheets count them, empty ones too.

use super::cell::Cell;
use super::fault::SheetError;
use super::reading::Reading;
use super::{MAX_CELL, MAX_COLUMNS};

/// Reads all rows.
pub(super) fn read(text: &str, reading: &mut Reading<'_>) -> Result<(), SheetError> {
    let mut rest = text;
    let mut number = 0;
    let separator = match told(text) {
        Some((separator, behind)) => {
            rest = behind;
            number = 1;
            separator
        }
        None => guess(text)?,
    };
    reading.separated_by(char::from(separator));
    while !rest.is_empty() {
        number += 1;
        match record(&mut rest, separator) {
            Ok(cells) => reading.row(number, cells)?,
            Err((column, why)) => {
                // What is behind it could be anything.
                reading.fault(number, Some(column), why);
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Excel takes a first line `sep=;` for the separator. What it is, and what is behind it.
fn told(text: &str) -> Option<(u8, &str)> {
    let (line, rest) = text.split_once('\n')?;
    let [separator @ (b',' | b';' | b'\t')] = line.trim_end_matches('\r').strip_prefix("sep=")?.as_bytes() else {
        return None;
    };
    Some((*separator, rest))
}

/// The separator that the first row has most of, outside quotes.
fn guess(text: &str) -> Result<u8, SheetError> {
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0)];
    let mut quoted = false;
    for byte in text.trim_start_matches(['\r', '\n', ' ']).bytes() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted => break,
            _ if quoted => {}
            _ => {
                if let Some((_, count)) = counts.iter_mut().find(|(separator, _)| *separator == byte) {
                    *count += 1;
                }
            }
        }
    }
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0);
    let mut best = counts.iter().filter(|(_, count)| *count == most);
    match (best.next(), best.next()) {
        (Some((separator, _)), None) => Ok(*separator),
        // One column alone.
        _ if most == 0 => Ok(b','),
        _ => Err(SheetError::refused(
            "its first row has as many of one separator as of another: write `sep=;` (or `,`) in a line before it",
        )),
    }
}

/// The next record; or the column in which something is wrong, and what.
fn record(rest: &mut &str, separator: u8) -> Result<Vec<Cell>, (usize, &'static str)> {
    let mut cells = Vec::new();
    loop {
        let column = cells.len();
        let fail = |why| Err((column, why));
        if column == MAX_COLUMNS {
            return fail("there are more columns than 256");
        }
        let begin = rest.trim_start_matches(' ');
        let (value, behind) = match begin.strip_prefix('"') {
            Some(begin) => match quoted(begin) {
                Some((value, behind)) => (value, behind.trim_start_matches(' ')),
                None => return fail("has a quotation mark that is not closed"),
            },
            None => {
                let end = rest.bytes().position(|byte| byte == separator || byte == b'\n' || byte == b'\r');
                let (value, behind) = rest.split_at(end.unwrap_or(rest.len()));
                (value.to_owned(), behind)
            }
        };
        if value.len() > MAX_CELL {
            return fail("holds more than a cell may");
        }
        cells.push(Cell::text(&value));
        let mut bytes = behind.bytes();
        match bytes.next() {
            Some(byte) if byte == separator => *rest = &behind[1..],
            Some(b'\r') if bytes.next() == Some(b'\n') => {
                *rest = &behind[2..];
                return Ok(cells);
            }
            Some(b'\r' | b'\n') => {
                *rest = &behind[1..];
                return Ok(cells);
            }
            Some(_) => return fail("goes on behind a closing quotation mark: write each `\"` within quotes twice"),
            None => {
                *rest = "";
                return Ok(cells);
            }
        }
    }
}

/// What stands between quotes, and what behind them; `None` where they are not closed.
fn quoted(begin: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = begin;
    loop {
        let (piece, behind) = rest.split_once('"')?;
        value.push_str(piece);
        match behind.strip_prefix('"') {
            Some(behind) => {
                value.push('"');
                rest = behind;
            }
            None => return Some((value, behind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn records(mut text: &str, separator: u8) -> Vec<Vec<String>> {
        let mut records = Vec::new();
        while !text.is_empty() {
            let cells = record(&mut text, separator).unwrap();
            records.push(cells.into_iter().map(|cell| cell.into_text().unwrap()).collect());
        }
        records
    }

    #[test]
    fn records_are_read_to_the_letter() {
        assert_eq!(
            records("a, b ,\"c,\n\"\"d\"\"\" ,\r\n\r\"\",x\"y\n", b','),
            [vec!["a", "b", "c,\n\"d\"", ""], vec![""], vec!["", "x\"y"]]
        );
        assert_eq!(records("a;b,c", b';'), [["a", "b,c"]]);
        for (text, column) in [("a,\"b", 1), ("\"a\"b,c", 0), (&"x,".repeat(300) as &str, 256)] {
            assert_eq!(record(&mut { text }, b',').unwrap_err().0, column, "{text}");
        }
    }

    #[test]
    fn the_separator_is_found_in_the_first_row() {
        assert_eq!(guess("\r\nuser;\"a,b,c,d\";x\n,,,,,"), Ok(b';'));
        assert_eq!(guess("a\tb\n"), Ok(b'\t'));
        assert_eq!(guess("host\n10.0.0.5"), Ok(b','));
        assert!(guess("a,b;c\n").is_err());
        assert_eq!(told("sep=;\r\na"), Some((b';', "a")));
        assert_eq!(told("sep=|\na"), None);
    }
}
