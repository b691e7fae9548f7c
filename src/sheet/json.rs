//! Rows as JSON: a list of objects, or an object whose `tasks` is one.
//!
//! Each object is a row as soon as it is read, and never more of it is held than its texts: a document of nothing but
//! brackets costs nothing.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::cell::Cell;
use super::fault::SheetError;
use super::reading::Reading;
use super::{MAX_CELL, MAX_COLUMNS};

/// Reads all rows.
pub(super) fn read(text: &str, reading: &mut Reading<'_>) -> Result<(), SheetError> {
    let mut stopped = None;
    let mut json = serde_json::Deserializer::from_str(text);
    let rows = Rows { reading, stopped: &mut stopped };
    let read = json.deserialize_any(rows).and_then(|()| json.end());
    match (stopped, read) {
        (Some(refused), _) => Err(refused),
        (None, Ok(())) => Ok(()),
        // Its own words may repeat a value.
        (None, Err(error)) if error.is_data() => Err(SheetError::refused(format!(
            "it is JSON, and not a list of objects, up to line {}, column {}",
            error.line(),
            error.column()
        ))),
        (None, Err(error)) => {
            Err(SheetError::refused(format!("its JSON breaks in line {}, column {}", error.line(), error.column())))
        }
    }
}

struct Rows<'a, 'b> {
    reading: &'a mut Reading<'b>,
    /// Why nothing more is read; serde has no place for it.
    stopped: &'a mut Option<SheetError>,
}

impl<'de> Visitor<'de> for Rows<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        let mut number = 0;
        loop {
            number += 1;
            let Some(cells) = rows.next_element_seed(Object)? else { return Ok(()) };
            if let Err(refused) = self.reading.object(number, cells) {
                *self.stopped = Some(refused);
                return Err(A::Error::custom("stopped"));
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some("tasks") = map.next_key::<String>()?.as_deref() else {
            return Err(A::Error::custom("no tasks"));
        };
        map.next_value_seed(self)?;
        match map.next_key::<IgnoredAny>()? {
            Some(_) => Err(A::Error::custom("more than tasks")),
            None => Ok(()),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Rows<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

/// One row: names and what stands there.
struct Object;

impl<'de> DeserializeSeed<'de> for Object {
    type Value = Vec<(String, Cell)>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object {
    type Value = Vec<(String, Cell)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut cells = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if cells.len() == MAX_COLUMNS {
                return Err(A::Error::custom("too many"));
            }
            cells.push((name, map.next_value_seed(Value)?));
        }
        Ok(cells)
    }
}

/// What stands behind one name.
struct Value;

impl<'de> DeserializeSeed<'de> for Value {
    type Value = Cell;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Cell, D::Error> {
        json.deserialize_any(self)
    }
}

const NEITHER: Cell = Cell::Unusable("is neither a text nor a number, true or false, nor a list of texts or numbers");

impl<'de> Visitor<'de> for Value {
    type Value = Cell;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Cell, E> {
        Ok(Cell::Empty)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Cell, E> {
        Ok(Cell::Truth(truth))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Cell, E> {
        Ok(Cell::Text(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Cell, E> {
        Ok(Cell::Text(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Cell, E> {
        Ok(Cell::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cell, E> {
        Ok(if text.len() > MAX_CELL { Cell::Unusable("holds more than a cell may") } else { Cell::text(text) })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Cell, A::Error> {
        let (mut joined, mut odd) = (String::new(), false);
        while let Some(item) = items.next_element_seed(Value)? {
            match item.into_text() {
                Ok(text) if joined.len() + text.len() < MAX_CELL && !text.contains(',') => {
                    joined.push_str(if joined.is_empty() { "" } else { "," });
                    joined.push_str(&text);
                }
                _ => odd = true,
            }
        }
        Ok(if odd { NEITHER } else { Cell::List(joined) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cell, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(NEITHER)
    }
}
