//! The sheet of the demo, as a person would write it: an Excel workbook, with dates as the recorders' walls show them.

use anyhow::Context as _;
use rust_xlsxwriter::{ExcelDateTime, Format, Workbook, XlsxError};
use time::PrimitiveDateTime;

use super::recorders::{CHANNELS, LOGIN, PARTS, Recorders, SESSIONS};

const COLUMNS: [&str; 8] = ["id", "host", "user", "password", "channels", "start", "end", "sessions"];

/// The workbook's bytes: a row for each part of each channel.
pub(super) fn workbook(recorders: &Recorders) -> anyhow::Result<Vec<u8>> {
    write(recorders).context("cannot make the sheet")
}

fn write(recorders: &Recorders) -> Result<Vec<u8>, XlsxError> {
    let mut workbook = Workbook::new();
    let (bold, date) = (Format::new().set_bold(), Format::new().set_num_format("yyyy-mm-dd hh:mm"));
    let tasks = workbook.add_worksheet().set_name("tasks")?;
    for (column, name) in (0..).zip(COLUMNS) {
        tasks.set_column_width(column, 18)?.write_string_with_format(0, column, name, &bold)?;
    }
    let mut row = 0;
    for recorder in &recorders.all {
        for channel in 1..=CHANNELS {
            for part in 0..PARTS {
                row += 1;
                let texts = [format!("{}-{channel}-{}", recorder.name, part + 1), recorder.server.host().to_owned()];
                let texts = texts.into_iter().chain([LOGIN.0.to_owned(), LOGIN.1.to_owned()]);
                for (column, text) in (0..).zip(texts) {
                    tasks.write_string(row, column, text)?;
                }
                tasks.write_number(row, 4, channel)?;
                for (column, at) in [(5, part), (6, part + 1)] {
                    let at = excel(recorders.wall(recorder, at))?;
                    tasks.write_datetime_with_format(row, column, &at, &date)?;
                }
                tasks.write_number(row, 7, SESSIONS)?;
            }
        }
    }
    workbook.save_to_buffer()
}

fn excel(at: PrimitiveDateTime) -> Result<ExcelDateTime, XlsxError> {
    let (year, month, day) = (u16::try_from(at.year()).unwrap_or(0), u8::from(at.month()), at.day());
    ExcelDateTime::from_ymd(year, month, day)?.and_hms(at.hour().into(), at.minute(), f64::from(at.second()))
}
