//! What the API answers of recorders, for people.

use serde_json::Value;

use crate::cli::spool::size;
use crate::cli::table::{NONE, Table, plain};

fn word(value: &Value) -> String {
    match value {
        Value::Null => NONE.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A list of recorders, a row for each.
pub fn table(answer: &Value) -> Table<8> {
    let mut table = Table::new(["ID", "STATE", "URL", "MODEL", "CAMERAS>", "STREAMING>", "CLOCK OFF>", "ERROR"]);
    for nvr in answer["nvrs"].as_array().into_iter().flatten() {
        let status = &nvr["status"];
        let offset = status["clock"]["offset_seconds"].as_f64();
        table.row([
            word(&nvr["id"]),
            word(&status["state"]),
            word(&nvr["spec"]["url"]),
            word(&status["device"]["model"]),
            word(&status["channels"]["cameras"]),
            word(&status["sessions"]["streaming"]),
            offset.map_or_else(|| NONE.to_owned(), |seconds| format!("{seconds:+.0} s")),
            word(&status["last_error"]["message"]),
        ]);
    }
    table
}

/// A recorder's channels, a row for each.
pub fn channels(answer: &Value) -> Table<6> {
    let mut table = Table::new(["CHANNEL>", "NAME", "ONLINE", "CAMERA", "STATE", "PROBLEM"]);
    for channel in answer["channels"].as_array().into_iter().flatten() {
        let online = match channel["online"].as_bool() {
            Some(true) => "yes".to_owned(),
            Some(false) => "no".to_owned(),
            None => NONE.to_owned(),
        };
        table.row([
            word(&channel["channel"]),
            word(&channel["name"]),
            online,
            word(&channel["camera"]),
            word(&channel["state"]),
            word(&channel["problem"]),
        ]);
    }
    table
}

/// An entry of a timeline in one line.
pub fn entry(entry: &Value) -> String {
    let field = |name: &str| plain(&word(&entry[name]));
    let seconds = entry["seconds"].as_f64().unwrap_or_default();
    if entry["type"] == "gap" {
        return format!("gap        {}  {}  {seconds:>8.0} s", field("start"), field("end"));
    }
    let bytes = entry["bytes"].as_u64().map_or_else(|| NONE.to_owned(), size);
    let open = if entry["open"] == true { "  recording" } else { "" };
    format!("recording  {}  {}  {seconds:>8.0} s  {bytes:>10}  {}{open}", field("start"), field("end"), field("name"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cells(line: &str) -> Vec<&str> {
        line.split("  ").filter(|word| !word.is_empty()).map(str::trim).collect()
    }

    #[test]
    fn a_recorder_and_its_channels_are_rows() {
        let nvr = json!({
            "id": "hall",
            "spec": { "url": "http://10.0.0.5/" },
            "status": {
                "state": "online", "device": { "model": "DS-7616" }, "clock": { "offset_seconds": -3.2 },
                "channels": { "cameras": 16 }, "sessions": { "streaming": 15 }, "last_error": null,
            },
        });
        let text = table(&json!({ "nvrs": [nvr, { "id": "new" }] })).render(None);
        let lines: Vec<_> = text.lines().map(cells).collect();
        assert_eq!(lines[1], ["hall", "online", "http://10.0.0.5/", "DS-7616", "16", "15", "-3 s", "-"]);
        assert_eq!(lines[2], ["new", "-", "-", "-", "-", "-", "-", "-"]);
        let of =
            json!({ "channel": 3, "name": "Gate\u{1b}", "online": true, "camera": "hall-ch03", "state": "streaming" });
        let text = channels(&json!({ "channels": [of] })).render(None);
        assert_eq!(cells(text.lines().nth(1).unwrap()), ["3", "Gate\\u{1b}", "yes", "hall-ch03", "streaming", "-"]);
    }

    #[test]
    fn each_entry_of_a_timeline_is_a_line() {
        let gap = json!({ "type": "gap", "start": "A", "end": "B", "seconds": 90.0 });
        assert_eq!(entry(&gap), "gap        A  B        90 s");
        let recording = json!({
            "type": "recording", "start": "A", "end": "B", "seconds": 600.0, "bytes": 1_048_576, "name": "ch01_8", "open": true,
        });
        assert_eq!(entry(&recording), "recording  A  B       600 s     1.0 MiB  ch01_8  recording");
    }
}
