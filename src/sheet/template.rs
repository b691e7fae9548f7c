//! An empty sheet to begin with.

use rust_xlsxwriter::{Color, DataValidation, ExcelDateTime, Format, FormatAlign, Note, Workbook, XlsxError};

use super::column::{COLUMNS, Column, Description};

/// What the sheet of tasks is called.
pub(super) const SHEET: &str = "tasks";

/// Rows that the lists to choose from are made for.
const LISTED_ROWS: u32 = 10_000;

/// What is said of CSV, beside its columns.
const EXPLAINED: &str = "columns";

/// The template as an Excel workbook: names with a note on each, an example that is switched off, lists to choose from, and
/// a second sheet that explains the columns.
///
/// # Errors
///
/// When it cannot be made.
pub fn template_xlsx() -> Result<Vec<u8>, XlsxError> {
    let mut workbook = Workbook::new();
    let head = Format::new().set_bold().set_background_color(Color::RGB(0x00dd_e8f0));
    let date = Format::new().set_num_format("yyyy-mm-dd hh:mm");
    // What programs would take for a number or a date, and should not.
    let text = Format::new().set_num_format("@");
    let wrapped = Format::new().set_text_wrap().set_align(FormatAlign::Top);

    let tasks = workbook.add_worksheet().set_name(SHEET)?;
    tasks.set_freeze_panes(1, 0)?;
    for (place, described) in (0..).zip(&COLUMNS) {
        let width = described.name.len().max(described.example.len()).clamp(9, 40);
        tasks.set_column_width(place, u16::try_from(width).expect("at most 40") + 2)?;
        match described.column {
            Column::Start | Column::End => tasks.set_column_format(place, &date)?,
            Column::Channels | Column::Tracks | Column::Password | Column::Id | Column::Hours => {
                tasks.set_column_format(place, &text)?
            }
            _ => tasks,
        };
        tasks.write_string_with_format(0, place, described.name, &head)?;
        tasks.insert_note(0, place, &Note::new(described.takes).set_author("framehaul"))?;
        match described.column {
            _ if described.example.is_empty() => {}
            Column::Start | Column::End => {
                let at = ExcelDateTime::parse_from_str(described.example)?;
                tasks.write_datetime_with_format(1, place, &at, &date)?;
            }
            Column::Channels | Column::Id => {
                tasks.write_string_with_format(1, place, described.example, &text)?;
            }
            _ => {
                tasks.write_string(1, place, described.example)?;
            }
        }
        if !described.choices.is_empty() {
            let list = DataValidation::new().allow_list_strings(described.choices)?;
            tasks.add_data_validation(1, place, LISTED_ROWS, place, &list)?;
        }
    }

    let columns = workbook.add_worksheet().set_name(EXPLAINED)?;
    columns.set_freeze_panes(1, 0)?;
    for (place, (name, width)) in
        (0..).zip([("column", 16), ("what may stand there; what holds without it", 90), ("also called", 60)])
    {
        columns.set_column_width(place, width)?;
        columns.write_string_with_format(0, place, name, &head)?;
    }
    for (row, Description { name, takes, synonyms, .. }) in (1..).zip(&COLUMNS) {
        columns.write_string_with_format(row, 0, *name, &wrapped)?;
        columns.write_string_with_format(row, 1, *takes, &wrapped)?;
        columns.write_string_with_format(row, 2, synonyms.join(", "), &wrapped)?;
    }
    workbook.save_to_buffer()
}

/// The template as CSV: names, and an example that is switched off.
pub fn template_csv() -> String {
    let line = |values: [&str; COLUMNS.len()]| values.map(quoted).join(",");
    format!("{}\n{}\n", line(COLUMNS.map(|described| described.name)), line(COLUMNS.map(|described| described.example)))
}

/// A value of CSV, in quotes where it needs them.
pub(super) fn quoted(value: &str) -> String {
    if value.contains([',', ';', '\t', '"', '\n', '\r']) {
        format!("\"{}\"", value.replace('"', "\"\""))
    } else {
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use crate::sheet::read;

    use super::*;

    #[test]
    fn both_templates_are_read_as_one_task_that_is_off() {
        let sheets = [template_xlsx().unwrap(), template_csv().into_bytes()];
        let [one, other] = sheets.map(|bytes| read(&bytes).unwrap());
        let ([one], [other]) = (&one.tasks[..], &other.tasks[..]) else { panic!("each has one task") };
        assert_eq!(one.asks_for(), other.asks_for());
        assert!(!one.enabled && !other.enabled);
        assert_eq!((one.row, one.id.as_deref()), (2, Some("shop-north-1")));
    }
}
