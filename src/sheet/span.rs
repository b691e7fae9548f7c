//! From when to when: four columns that say it together.

use super::cell::Cell;
use super::column::Column;
use super::field::{choice, whole};
use super::moment::{moment, wall};
use super::row::Row;
use crate::export::{Moment, Wanted};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Range {
    Absolute,
    Today,
    Yesterday,
    Days,
    All,
}

const RANGES: [(&str, Range); 7] = [
    ("today", Range::Today),
    ("yesterday", Range::Yesterday),
    ("days", Range::Days),
    ("absolute", Range::Absolute),
    ("all", Range::All),
    // As lists of columns elsewhere call them.
    ("last_days", Range::Days),
    ("all_recordings", Range::All),
];

/// Reads them; what is wrong goes to the row.
pub(super) fn wanted(row: &mut Row<'_>) -> Wanted {
    let [has_start, has_end, has_days, has_range] =
        [Column::Start, Column::End, Column::Days, Column::Range].map(|column| row.has(column));
    let range = row.read(Column::Range, |text| choice(text, &RANGES));
    let start = at(row, Column::Start);
    let end = at(row, Column::End);
    let days = row.read(Column::Days, |text| whole(text, 1..=3_660));
    if has_range && range.is_none() {
        return Wanted::Today;
    }
    let range = match range {
        Some(range) => range,
        None if has_start || has_end => Range::Absolute,
        None if has_days => Range::Days,
        None => Range::Today,
    };
    if range != Range::Absolute {
        for (column, _) in [(Column::Start, has_start), (Column::End, has_end)].into_iter().filter(|(_, told)| *told) {
            row.fault(column, "has a meaning with the range `absolute` only: leave one of them empty");
        }
    }
    if range != Range::Days && has_days {
        row.fault(Column::Days, "has a meaning with the range `days` only: leave one of them empty");
    }
    match range {
        Range::Today => Wanted::Today,
        Range::Yesterday => Wanted::Yesterday,
        Range::All => Wanted::All,
        Range::Days => {
            if !has_days {
                row.fault(Column::Days, "is missing: the range `days` needs it");
            }
            Wanted::Days(days.and_then(|days| u32::try_from(days).ok()).unwrap_or(1))
        }
        Range::Absolute => {
            if !has_start && !has_end {
                row.fault(Column::Start, "is missing: the range `absolute` needs it");
            }
            let is_empty = match (start, end) {
                (Some(Moment::Wall(start)), Some(Moment::Wall(end))) => start >= end,
                (Some(Moment::Instant(start)), Some(Moment::Instant(end))) => start >= end,
                // One by the recorder's clock and one by the world's: its zone decides.
                _ => false,
            };
            if is_empty {
                row.fault(Column::End, "is not after the start; a day without a time is its first moment");
            }
            Wanted::Between(start, end)
        }
    }
}

/// A moment; nothing where nothing stands there, or no moment.
fn at(row: &mut Row<'_>, column: Column) -> Option<Moment> {
    let read = match row.take(column) {
        Cell::Empty => return None,
        Cell::Date(at) => wall(at),
        Cell::Number(_) => Err("is a number: format the cell as a date, or write 2026-11-19 08:00".to_owned()),
        cell => cell.into_text().and_then(|text| moment(&text)),
    };
    read.map_err(|why| row.fault(column, &why)).ok()
}
