//! The sheet back: what was asked for, a row for each task, and behind it what became of it. No password is in it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use rust_xlsxwriter::{Color, Format, Workbook, XlsxError};

use super::cell::Cell;
use super::column::COLUMNS;
use super::template::{SHEET, quoted};

/// What became of a task, by the names of columns that are passed over when the sheet is read again.
const RESULTS: [&str; 9] =
    ["status", "found", "downloaded", "skipped", "failed", "bytes", "last_error", "last_run", "next_run"];

/// A row of it.
#[derive(Clone, Debug, Default)]
pub struct ResultRow {
    /// What was asked for, by the names of columns: all tasks of a row share it.
    pub asked: Arc<HashMap<String, String>>,
    /// The column that says the task's own channel, and what stands there.
    pub channel: Option<(&'static str, String)>,
    /// What the task is doing.
    pub status: String,
    /// Recordings that were found, fetched, there before, and not to be had, and bytes that were fetched; where that was
    /// said.
    pub counts: Option<[u64; 5]>,
    /// Why the last attempt came to nothing.
    pub last_error: Option<String>,
    /// When it was last taken, and when it will be tried again.
    pub times: [Option<String>; 2],
}

impl ResultRow {
    /// What was asked for in this column.
    fn value(&self, name: &str) -> Option<&str> {
        let own = self.channel.as_ref().filter(|(column, _)| *column == name).map(|(_, channel)| channel.as_str());
        own.or_else(|| self.asked.get(name).map(String::as_str))
    }

    /// The values of [`RESULTS`], each with whether it is a number.
    fn results(&self) -> [(String, bool); RESULTS.len()] {
        let count = |place: usize| (self.counts.map_or(String::new(), |counts| counts[place].to_string()), true);
        let text = |text: Option<&String>| (text.cloned().unwrap_or_default(), false);
        let [last_run, next_run] = &self.times;
        [
            text(Some(&self.status)),
            count(0),
            count(1),
            count(2),
            count(3),
            count(4),
            text(self.last_error.as_ref()),
            text(last_run.as_ref()),
            text(next_run.as_ref()),
        ]
    }
}

/// The columns that any row says something in.
fn used(rows: &[ResultRow]) -> Vec<&'static str> {
    let names = COLUMNS.map(|described| described.name).into_iter();
    names.filter(|name| rows.iter().any(|row| row.value(name).is_some())).collect()
}

/// The sheet as CSV.
pub fn results_csv(rows: &[ResultRow]) -> String {
    let used = used(rows);
    let mut csv = used.iter().copied().chain(RESULTS).collect::<Vec<_>>().join(",");
    csv.push('\n');
    for row in rows {
        let asked = used.iter().map(|name| row.value(name).map_or(String::new(), harmless));
        let results = row.results().into_iter().map(|(text, _)| harmless(&text));
        csv.push_str(&asked.chain(results).collect::<Vec<_>>().join(","));
        csv.push('\n');
    }
    csv
}

/// What programs take for the beginning of a formula, and the mark before it that says it is none. A mark gets a mark.
const MARKED: [char; 7] = ['=', '+', '-', '@', '\t', '\r', '\''];

/// A value that no program takes for a formula: what stands there may come from a recorder.
fn harmless(text: &str) -> String {
    if text.starts_with(MARKED) { quoted(&format!("'{text}")) } else { quoted(text) }
}

/// A value as it was before [`harmless`].
pub(super) fn without_mark(cell: Cell) -> Cell {
    match cell {
        Cell::Text(text) => match text.strip_prefix('\'') {
            Some(rest) if rest.starts_with(MARKED) => Cell::Text(rest.to_owned()),
            _ => Cell::Text(text),
        },
        cell => cell,
    }
}

/// Whether this is the first row of a sheet that was made here.
pub(super) fn is_ours(head: &[Cell]) -> bool {
    let is_same = |(cell, name): (&Cell, &&str)| matches!(cell, Cell::Text(text) if text == name);
    head.windows(RESULTS.len()).any(|cells| cells.iter().zip(&RESULTS).all(is_same))
}

/// A text as long as a cell of a workbook may be, in the units that it counts; what is longer ends with an ellipsis.
fn fitting(text: &str) -> Cow<'_, str> {
    const MOST: usize = 32_767;
    if text.encode_utf16().count() <= MOST {
        return text.into();
    }
    let mut left = MOST - 1;
    let fits = |c: &char| left.checked_sub(c.len_utf16()).map(|less| left = less).is_some();
    let cut: String = text.chars().take_while(fits).collect();
    format!("{cut}\u{2026}").into()
}

/// The sheet as an Excel workbook.
///
/// # Errors
///
/// When it cannot be made.
pub fn results_xlsx(rows: &[ResultRow]) -> Result<Vec<u8>, XlsxError> {
    let used = used(rows);
    let mut workbook = Workbook::new();
    let head = Format::new().set_bold().set_background_color(Color::RGB(0x00dd_e8f0));
    let sheet = workbook.add_worksheet().set_name(SHEET)?;
    sheet.set_freeze_panes(1, 0)?;
    for (place, name) in (0..).zip(used.iter().copied().chain(RESULTS)) {
        sheet.write_string_with_format(0, place, name, &head)?;
    }
    for (number, row) in (1..).zip(rows) {
        let asked = used.iter().map(|name| (row.value(name).unwrap_or_default().to_owned(), false));
        for (place, (text, is_number)) in (0..).zip(asked.chain(row.results())) {
            match text.parse::<u32>() {
                _ if text.is_empty() => {}
                Ok(count) if is_number => {
                    sheet.write_number(number, place, count)?;
                }
                _ if is_number => {
                    sheet.write_number(number, place, text.parse::<f64>().unwrap_or_default())?;
                }
                _ => {
                    sheet.write_string(number, place, fitting(&text))?;
                }
            }
        }
    }
    workbook.save_to_buffer()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::sheet::read;

    fn row(user: &str, notes: &str, track: &str, counts: Option<[u64; 5]>) -> ResultRow {
        let asked = [("host", "10.0.0.5"), ("user", user), ("password_file", "/p"), ("notes", notes)];
        ResultRow {
            asked: Arc::new(asked.map(|(name, text)| (name.to_owned(), text.to_owned())).into()),
            channel: Some(("tracks", track.to_owned())),
            status: if counts.is_some() { "done" } else { "failed" }.to_owned(),
            counts,
            last_error: counts.is_none().then(|| "auth: \"no\", it says".to_owned()),
            times: [Some("2026-11-19T08:00:00Z".to_owned()), None],
        }
    }

    #[test]
    fn both_forms_read_again_as_what_was_asked_for() {
        let done = Some([3, 2, 1, 0, 5_000_000_000]);
        let rows = [row("u", "=1+1", "101", done), row("u", "x", "201", None), row("-u", "'=1", "301", None)];
        let rows = [&rows[..], &[row("=u", "''x", "401", None), row("'u", "@", "501", None)]].concat();
        let csv = results_csv(&rows);
        assert!(csv.starts_with("host,user,password_file,tracks,notes,status,found,"), "{csv}");
        assert!(csv.contains("'=1+1,done,3,2,1,0,5000000000,,2026-11-19T08:00:00Z,\n"), "{csv}");
        assert!(csv.contains(r#",failed,,,,,,"auth: ""no"", it says","#), "{csv}");
        assert!(csv.contains(",'-u,") && csv.contains(",'=u,"), "{csv}");
        let workbook = results_xlsx(&rows).unwrap();
        for bytes in [csv.as_bytes(), &workbook] {
            let tasks = read(bytes).unwrap().tasks;
            let said: Vec<_> = tasks.iter().map(|task| (&*task.user, task.channel(), task.notes.clone())).collect();
            let expected = [
                ("u", "101", "=1+1"),
                ("u", "201", "x"),
                ("-u", "301", "'=1"),
                ("=u", "401", "''x"),
                ("'u", "501", "@"),
            ];
            let expected = expected.map(|(user, track, notes)| (user, track.to_owned(), Some(notes.to_owned())));
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn a_mark_is_taken_from_our_own_sheets_alone_and_from_no_password() {
        let plain = "host,user,password\n10.0.0.5,'-u,'=p\n";
        let ours = format!("host,user,password,{}\n10.0.0.5,'-u,'=p,queued\n", RESULTS.join(","));
        for (csv, user) in [(plain, "'-u"), (&ours, "-u")] {
            let task = read(csv.as_bytes()).unwrap().tasks.remove(0);
            assert_eq!((&*task.user, task.password.unwrap().expose_secret()), (user, "'=p"));
        }
    }

    #[test]
    fn what_no_cell_can_hold_is_cut() {
        // Letters of one unit and of two.
        for (text, kept) in [("x", 32_766), ("\u{1f4f7}", 16_383)] {
            let mut long = row("u", "", "101", None);
            long.last_error = Some(text.repeat(40_000));
            results_xlsx(&[long]).unwrap();
            assert_eq!(fitting(&text.repeat(40_000)), format!("{}\u{2026}", text.repeat(kept)));
        }
        assert_eq!(fitting(&"x".repeat(32_767)), "x".repeat(32_767));
    }
}
