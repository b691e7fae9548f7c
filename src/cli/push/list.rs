//! The list that `framehaul push` prints.

use crate::cli::failure::{Failure, print};
use crate::cli::printer::{self, ListFormat, quoted};
use crate::cli::table::{NONE, plain};
use crate::push::{Entry, Fate};

/// Prints entries as they come.
pub struct List {
    format: ListFormat,
    empty: bool,
}

impl List {
    pub fn new(format: ListFormat) -> Self {
        Self { format, empty: true }
    }
}

impl printer::List for List {
    type Entry = Entry;

    fn entry(&mut self, entry: &Entry) -> Result<(), Failure> {
        let first = std::mem::take(&mut self.empty);
        match self.format {
            ListFormat::Table => {
                if first {
                    print(format_args!(
                        "{:>8}  {:<27}  {:>10}  {:<8}  {}\n",
                        "SEQ", "CAPTURED AT", "BYTES", "CRC32C", "URL"
                    ))?;
                }
                print(row(entry))
            }
            ListFormat::Json => print(format_args!("{}{}", if first { "[\n" } else { ",\n" }, json(entry))),
            ListFormat::Ndjson => print(format_args!("{}\n", json(entry))),
            ListFormat::Csv => {
                if first {
                    print("seq,captured_at,position,url,bytes,crc32c,width,height,lost,error\r\n")?;
                }
                print(line(entry))
            }
        }
    }

    fn end(&self) -> Result<(), Failure> {
        match (self.format, self.empty) {
            (ListFormat::Json, true) => print("[]\n"),
            (ListFormat::Json, false) => print("\n]\n"),
            _ => Ok(()),
        }
    }
}

fn json(entry: &Entry) -> String {
    serde_json::to_string(entry).expect("it is plain data")
}

fn captured_at(entry: &Entry) -> Option<String> {
    entry.captured_at.map(|at| at.to_string())
}

fn row(entry: &Entry) -> String {
    let at = captured_at(entry).unwrap_or_else(|| NONE.to_owned());
    let (bytes, crc32c, place) = match &entry.fate {
        Fate::Stored { url, bytes, .. } => (bytes.to_string(), entry.crc32c().unwrap_or_default(), plain(url)),
        Fate::Lost { lost, error } => {
            let error = error.as_deref().map(|error| format!(": {}", plain(error))).unwrap_or_default();
            (NONE.to_owned(), NONE.to_owned(), format!("lost ({lost}){error}"))
        }
    };
    format!("{:>8}  {at:<27}  {bytes:>10}  {crc32c:<8}  {place}\n", entry.seq)
}

fn line(entry: &Entry) -> String {
    let mut fields = vec![
        entry.seq.to_string(),
        captured_at(entry).unwrap_or_default(),
        entry.position.map(|at| at.to_string()).unwrap_or_default(),
    ];
    match &entry.fate {
        Fate::Stored { url, bytes, width, height, .. } => {
            let crc32c = entry.crc32c().unwrap_or_default();
            fields.extend([url.clone(), bytes.to_string(), crc32c, width.to_string(), height.to_string()]);
            fields.extend([String::new(), String::new()]);
        }
        Fate::Lost { lost, error } => {
            fields.extend(std::iter::repeat_n(String::new(), 5));
            fields.extend([(*lost).to_owned(), error.clone().unwrap_or_default()]);
        }
    }
    let fields: Vec<String> = fields.iter().map(|field| quoted(field)).collect();
    fields.join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::UnixMicros;

    #[test]
    fn an_entry_is_a_line_in_every_form() {
        let stored = Fate::Stored { url: "file:///a,b/1.jpg".to_owned(), bytes: 9, crc32c: 1, width: 4, height: 3 };
        let stored = Entry { seq: 1, captured_at: Some(UnixMicros(0)), position: Some(0.04), fate: stored };
        let lost = Fate::Lost { lost: "rejected", error: Some("no \"room\"\u{1b}".to_owned()) };
        let lost = Entry { seq: 2, captured_at: None, position: None, fate: lost };
        assert_eq!(line(&stored), "1,1970-01-01T00:00:00.000000Z,0.04,\"file:///a,b/1.jpg\",9,AAAAAQ==,4,3,,\r\n");
        assert_eq!(line(&lost), "2,,,,,,,,rejected,\"no \"\"room\"\"\u{1b}\"\r\n");
        assert_eq!(
            json(&stored),
            r#"{"seq":1,"captured_at":"1970-01-01T00:00:00.000000Z","position":0.04,"url":"file:///a,b/1.jpg","bytes":9,"crc32c":"AAAAAQ==","width":4,"height":3}"#
        );
        assert_eq!(json(&lost), "{\"seq\":2,\"lost\":\"rejected\",\"error\":\"no \\\"room\\\"\\u001b\"}");
        assert_eq!(
            row(&lost),
            format!("       2  -{}           -  -         lost (rejected): no \"room\"\\u{{1b}}\n", " ".repeat(26))
        );
    }
}
