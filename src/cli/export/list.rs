//! The list that `framehaul export` prints.

use crate::cli::failure::{Failure, print};
use crate::cli::printer::{self, ListFormat, quoted};
use crate::cli::table::{NONE, plain};
use crate::export::{Entry, Fate};

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

const COLUMNS: &str = "number,outcome,track,channel,camera,kind,start,end,start_utc,end_utc,source,listed_bytes,key,url,bytes,\
                       crc32c,pictures,note,reason,error\r\n";

impl printer::List for List {
    type Entry = Entry;

    fn entry(&mut self, entry: &Entry) -> Result<(), Failure> {
        let first = std::mem::take(&mut self.empty);
        match self.format {
            ListFormat::Table => {
                if first {
                    let (number, outcome, track, start, bytes) = ("NUMBER", "OUTCOME", "TRACK", "START", "BYTES");
                    print(format_args!(
                        "{number:>6}  {outcome:<7}  {track:<6}  {start:<19}  {bytes:>12}  WHERE, OR WHY\n"
                    ))?;
                }
                print(row(entry))
            }
            ListFormat::Json => print(format_args!("{}{}", if first { "[\n" } else { ",\n" }, json(entry))),
            ListFormat::Ndjson => print(format_args!("{}\n", json(entry))),
            ListFormat::Csv => {
                if first {
                    print(COLUMNS)?;
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

fn row(entry: &Entry) -> String {
    let Entry { number, recording, fate } = entry;
    let (bytes, text) = match fate {
        Fate::Found { key } => (recording.listed_bytes, plain(key)),
        Fate::Stored { object, note } => {
            let note = note.as_deref().map(|note| format!(" ({})", plain(note))).unwrap_or_default();
            (Some(object.bytes), format!("{}{note}", plain(&object.url)))
        }
        Fate::There { url, bytes, .. } => (Some(*bytes), plain(url)),
        Fate::Joined { key, bytes, .. } => (Some(*bytes), plain(key)),
        Fate::Part { object, error, .. } => (Some(object.bytes), format!("{} ({})", plain(&object.url), plain(error))),
        Fate::Failed { reason, error } => (None, format!("{}: {}", reason.as_str(), plain(error))),
    };
    let bytes = bytes.map_or_else(|| NONE.to_owned(), |bytes| bytes.to_string());
    let track = plain(&recording.track);
    format!("{number:>6}  {:<7}  {track:<6}  {:<19}  {bytes:>12}  {text}\n", fate.as_str(), recording.start.to_string())
}

/// The fields are those of the JSON, so that no two forms can tell it differently.
fn line(entry: &Entry) -> String {
    let object = serde_json::to_value(entry).expect("it is plain data");
    let field = |name: &str| match &object[name] {
        serde_json::Value::Null => String::new(),
        serde_json::Value::String(text) => quoted(text),
        other => other.to_string(),
    };
    COLUMNS.trim_end().split(',').map(field).collect::<Vec<_>>().join(",") + "\r\n"
}
