//! The texts of a workbook: most programs keep them apart from the cells, each once.

use super::super::MAX_CELL;
use super::super::fault::SheetError;
use super::package::{Package, damaged, too_large};
use super::xml::Item;

/// Bytes of all texts together, at most.
const MAX_TEXT: usize = 64 << 20;
/// Texts, at most: each costs a few bytes even where it is empty.
const MAX_STRINGS: usize = 4 << 20;

/// All texts, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Strings {
    text: String,
    ends: Vec<u32>,
}

impl Strings {
    /// Reads the part that holds them.
    pub(super) fn read(package: &mut Package<'_>, part: &str) -> Result<Self, SheetError> {
        let mut strings = Self::default();
        let mut text = Text::default();
        let mut events = package.part(part)?.ok_or_else(damaged)?;
        let mut is_open = false;
        while let Some(item) = events.next()? {
            match item {
                Item::Begin(element) if element.name() == b"si" => is_open = true,
                Item::End(end) if end.name() == b"si" => {
                    is_open = false;
                    strings.push(&text.finish())?;
                }
                item if is_open => text.take(&item),
                _ => {}
            }
        }
        Ok(strings)
    }

    /// One of them, by its number.
    pub(super) fn get(&self, number: usize) -> Option<&str> {
        let end = *self.ends.get(number)? as usize;
        let begin = number.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.text.get(begin..end)
    }

    fn push(&mut self, text: &str) -> Result<(), SheetError> {
        if self.text.len() + text.len() > MAX_TEXT || self.ends.len() == MAX_STRINGS {
            return Err(too_large());
        }
        self.text.push_str(text);
        self.ends.push(u32::try_from(self.text.len()).expect("no more than MAX_TEXT"));
        Ok(())
    }
}

/// Puts a text together of its runs, which differ in how they look.
#[derive(Debug, Default)]
pub(super) struct Text {
    text: String,
    in_text: bool,
    /// Within the readings that stand above Japanese characters, and are no part of the text.
    in_reading: bool,
}

impl Text {
    /// Takes what comes next.
    pub(super) fn take(&mut self, item: &Item<'_>) {
        match item {
            Item::Begin(element) => match element.name() {
                b"t" => self.in_text = true,
                b"rPh" => self.in_reading = true,
                _ => {}
            },
            Item::End(end) => match end.name() {
                b"t" => self.in_text = false,
                b"rPh" => self.in_reading = false,
                _ => {}
            },
            // What is longer than a cell may be is cut, and then longer than any value may be.
            Item::Text(piece) if self.in_text && !self.in_reading && self.text.len() <= MAX_CELL => {
                self.text.push_str(piece);
            }
            Item::Text(_) | Item::Nothing => {}
        }
    }

    /// The text that came, and from here on a new one.
    pub(super) fn finish(&mut self) -> String {
        self.in_text = false;
        self.in_reading = false;
        unescaped(std::mem::take(&mut self.text))
    }
}

/// A text without the form in which workbooks keep characters that XML cannot: `_x000D_` is a carriage return.
fn unescaped(text: String) -> String {
    if !text.contains("_x") {
        return text;
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("_x") {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        let code = from.get(2..6).filter(|_| from.as_bytes().get(6) == Some(&b'_'));
        let c = code.and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32);
        match c {
            Some(c) => {
                plain.push(c);
                rest = &from[7..];
            }
            None => {
                plain.push_str("_x");
                rest = &from[2..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_xml_cannot_keep_come_back() {
        for (kept, text) in [
            ("a_x000D_b", "a\rb"),
            ("_x005F_x0041_", "_x0041_"),
            ("_x004", "_x004"),
            ("_xZZZZ__x0041_", "_xZZZZ_A"),
            ("_xD800_", "_xD800_"),
            ("_xé12_", "_xé12_"),
        ] {
            assert_eq!(unescaped(kept.to_owned()), text, "{kept}");
        }
    }
}
