//! A cell, from whichever file.

use std::fmt;

use time::PrimitiveDateTime;

/// What stands in a cell.
#[derive(Clone, PartialEq)]
pub(super) enum Cell {
    /// Nothing.
    Empty,
    /// A text, without blanks around it.
    Text(String),
    /// A number.
    Number(f64),
    /// True or false.
    Truth(bool),
    /// A date of a workbook, as a wall clock shows it.
    Date(PrimitiveDateTime),
    /// Texts or numbers of a list in JSON, with commas between them.
    List(String),
    /// What cannot be a value, in words that go on after "is" or "has".
    Unusable(&'static str),
}

/// Whole numbers above have gaps between them.
const WHOLE: f64 = 9_007_199_254_740_992.0;

impl Cell {
    /// A text without the blanks around it; nothing where nothing is left.
    pub(super) fn text(text: &str) -> Self {
        let odd = |c: char| c.is_whitespace() || matches!(c, '\u{200b}' | '\u{feff}');
        match text.trim_matches(odd) {
            "" => Self::Empty,
            text => Self::Text(text.to_owned()),
        }
    }

    /// Whether nothing stands there.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::Empty
    }

    /// As a text.
    ///
    /// # Errors
    ///
    /// When it is something else, in words.
    pub(super) fn into_text(self) -> Result<String, String> {
        match self {
            Self::Empty => Ok(String::new()),
            Self::Text(text) => Ok(text),
            Self::Number(number) if number.abs() >= WHOLE => {
                Err("is a number with more digits than a sheet keeps: format the cell as text and write it anew"
                    .to_owned())
            }
            // The shortest text that is this number: 101 for 101.0.
            Self::Number(number) => Ok(number.to_string()),
            Self::Truth(truth) => Ok(truth.to_string()),
            Self::Date(_) => Err("is a date: format the cell as text and write it anew".to_owned()),
            Self::List(_) => Err("is a list, which only channels and tracks may be".to_owned()),
            Self::Unusable(why) => Err(why.to_owned()),
        }
    }
}

/// Kinds alone: any cell may hold a password.
impl fmt::Debug for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Text(_) => "Text",
            Self::Number(_) => "Number",
            Self::Truth(_) => "Truth",
            Self::Date(_) => "Date",
            Self::List(_) => "List",
            Self::Unusable(_) => "Unusable",
        })
    }
}

/// The letters of a column: 0 is `A`, 26 is `AA`.
pub(super) fn letters(mut column: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(b'A' + u8::try_from(column % 26).expect("less than 26"));
        match column / 26 {
            0 => break,
            more => column = more - 1,
        }
    }
    letters.reverse();
    String::from_utf8(letters).expect("letters alone")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_texts_that_people_wrote() {
        for (number, text) in [(101.0, "101"), (0.0, "0"), (2.5, "2.5"), (123_456_789_012.0, "123456789012")] {
            assert_eq!(Cell::Number(number).into_text().unwrap(), text);
        }
        assert!(Cell::Number(1e17).into_text().is_err());
        assert_eq!(Cell::text(" \u{feff}a b\u{a0}"), Cell::Text("a b".to_owned()));
        assert!(Cell::text(" \t ").is_empty());
    }

    #[test]
    fn columns_have_letters() {
        for (column, expected) in [(0, "A"), (25, "Z"), (26, "AA"), (51, "AZ"), (52, "BA"), (255, "IV"), (702, "AAA")] {
            assert_eq!(letters(column), expected);
        }
    }
}
