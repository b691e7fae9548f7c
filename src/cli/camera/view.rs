//! What the API answers, for people.

use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::client::Answer;
use crate::cli::Format;
use crate::cli::failure::{Failure, Kind, print};
use crate::cli::table::{NONE, Table, plain};

/// The columns of a list of cameras.
pub const HEADS: [&str; 9] =
    ["ID", "STATE", "FPS>", "LAST FRAME>", "CAPTURED>", "STORED>", "LOST>", "IN FLIGHT>", "ERROR"];

/// A list of cameras, a row for each.
pub fn table(answer: &Value) -> Table<{ HEADS.len() }> {
    let mut table = Table::new(HEADS);
    for camera in answer["cameras"].as_array().into_iter().flatten() {
        table.row(row(camera));
    }
    table
}

/// A camera's row.
pub fn row(camera: &Value) -> [String; HEADS.len()] {
    let (status, totals) = (&camera["status"], &camera["status"]["totals"]);
    [
        word(&camera["id"]),
        word(&status["state"]),
        status["fps"].as_f64().map_or_else(|| NONE.to_owned(), |fps| format!("{fps:.1}")),
        status["last_frame_age_ms"].as_u64().map_or_else(|| NONE.to_owned(), ago),
        word(&totals["captured"]),
        word(&totals["stored"]),
        word(&totals["lost"]),
        word(&totals["in_flight"]),
        word(&status["last_error"]["message"]),
    ]
}

fn word(value: &Value) -> String {
    match value {
        Value::Null => NONE.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// How long ago, in the largest unit that says something.
fn ago(millis: u64) -> String {
    match millis / 1_000 {
        0 => format!("{millis} ms"),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// An object with everything in it, a line for each value.
pub fn tree(value: &Value) -> String {
    let mut text = String::new();
    branch(&mut text, value, 0);
    text
}

fn branch(text: &mut String, value: &Value, depth: usize) {
    let indent = "  ".repeat(depth);
    let fields = value.as_object().into_iter().flatten();
    let width = fields.clone().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    for (name, value) in fields {
        let name = plain(name);
        let _ = match value {
            Value::Object(fields) if !fields.is_empty() => {
                let _ = writeln!(text, "{indent}{name}");
                branch(text, value, depth + 1);
                Ok(())
            }
            _ => writeln!(text, "{indent}{name:<width$}  {}", plain(&word(value))),
        };
    }
}

/// What a probe found. That there is no picture is a failure.
pub fn probe(mut answer: Answer, picture: Option<&Path>, format: Format) -> Result<(), Failure> {
    let jpeg = answer.json["stream"]["picture"].as_str().map(|text| BASE64_STANDARD.decode(text));
    if let (Some(file), Some(Ok(jpeg))) = (picture, jpeg) {
        let failed =
            |error| Failure::new(Kind::Other, format!("cannot write the picture to {}: {error}", file.display()));
        std::fs::write(file, jpeg).map_err(failed)?;
    }
    if format == Format::Json {
        print(format_args!("{}\n", answer.text))?;
    }
    if answer.json["ok"] != true {
        let [kind, message] = ["kind", "message"].map(|name| plain(&word(&answer.json["error"][name])));
        return Err(Failure::new(Kind::Other, format!("no picture came: {kind}: {message}")));
    }
    match (format, answer.json["stream"].as_object_mut()) {
        (Format::Table, Some(stream)) => {
            stream.remove("picture");
            print(tree(&answer.json["stream"]))
        }
        _ => Ok(()),
    }
}

/// An event of a camera's list in one line.
pub fn entry(kind: &str, data: &str) -> String {
    let Ok(entry) = serde_json::from_str::<Value>(data) else { return format!("{} {}", plain(kind), plain(data)) };
    let field = |name: &str| plain(&word(&entry[name]));
    match kind {
        "frame" => format!(
            "frame    {:>8}  {}  {}x{}  {:>7} bytes  {}{}",
            field("seq"),
            field("captured_at"),
            field("width"),
            field("height"),
            field("bytes"),
            field("url"),
            if entry["damaged"] == true { "  damaged" } else { "" }
        ),
        "tombstone" => {
            let seqs = match (field("seq"), field("last")) {
                (first, last) if first == last => first,
                (first, last) => format!("{first}-{last}"),
            };
            let maybe = if entry["maybe_stored"] == true { ", maybe stored all the same" } else { "" };
            format!("lost     {seqs:>8}  {}{maybe}", field("reason"))
        }
        "session" => {
            let end = match &entry["closed"] {
                Value::Null => String::new(),
                _ => format!(", closed {}: {}", field("closed"), field("why")),
            };
            format!("session  {:>8}  opened {}{end}", field("session"), field("opened"))
        }
        _ => format!("{} {}", plain(kind), plain(data)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_camera_is_a_row_and_a_tree() {
        let camera = json!({
            "id": "gate",
            "spec": { "url": "rtsp://h/a", "sampling": { "fps": 2.5 } },
            "status": {
                "state": "backing_off", "fps": 0.0, "last_frame_age_ms": 61_500, "session": null,
                "totals": { "captured": 10, "stored": 7, "lost": 1, "in_flight": 2 },
                "last_error": { "message": "refused\u{1b}[2J" },
            },
        });
        let text = table(&json!({ "cameras": [camera, { "id": "new" }] })).render(None);
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split("  ").filter(|w| !w.is_empty()).map(str::trim).collect()).collect();
        assert_eq!(lines[1], ["gate", "backing_off", "0.0", "61 s", "10", "7", "1", "2", "refused\\u{1b}[2J"]);
        assert_eq!(lines[2], ["new", "-", "-", "-", "-", "-", "-", "-", "-"]);
        let text = tree(&camera);
        for line in ["id      gate", "    fps  2.5", "  url       rtsp://h/a", "    in_flight  2"] {
            assert!(text.lines().any(|l| l == line), "{line:?} in\n{text}");
        }
    }

    #[test]
    fn ages_have_one_unit() {
        let ages = [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1 s"),
            (119_999, "119 s"),
            (120_000, "2 min"),
            (7_200_000, "2 h"),
            (172_800_000, "2 d"),
        ];
        for (millis, shown) in ages {
            assert_eq!(ago(millis), shown);
        }
    }

    #[test]
    fn each_entry_is_a_line() {
        let lost = |last: u64, maybe: bool| {
            json!({ "seq": 5, "last": last, "reason": "crash", "maybe_stored": maybe }).to_string()
        };
        assert_eq!(entry("tombstone", &lost(5, false)), "lost            5  crash");
        assert_eq!(entry("tombstone", &lost(9, true)), "lost          5-9  crash, maybe stored all the same");
        let frame = r#"{"seq":7,"captured_at":"T","width":320,"height":240,"bytes":1000,"url":"file:///a\n"}"#;
        assert_eq!(entry("frame", frame), "frame           7  T  320x240     1000 bytes  file:///a\\n");
        let damaged = frame.replace("}", r#","damaged":true}"#);
        assert_eq!(entry("frame", &damaged), format!("{}  damaged", entry("frame", frame)));
        assert_eq!(entry("session", r#"{"session":2,"opened":"T","closed":null}"#), "session         2  opened T");
        assert_eq!(entry("later", "{}"), "later {}");
        assert_eq!(entry("frame", "\u{1b}"), "frame \\u{1b}");
    }
}
