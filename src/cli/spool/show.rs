//! What the commands of `framehaul spool` print.

use std::fmt::Write as _;
use std::path::Path;

use bytesize::ByteSize;
use serde_json::{Value, json};

use super::super::Format;
use super::super::table::{NONE, Table, plain, terminal};
use crate::model::SeqRange;
use crate::spool::inspect::{RecordReport, SegmentReport, Verified};

/// Which of each camera's seqs wait, as far as that is known.
pub type Waiting = Vec<Option<Vec<SeqRange>>>;

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

fn count(runs: &[SeqRange]) -> u64 {
    runs.iter().map(SeqRange::len).sum()
}

fn pairs(runs: &[SeqRange]) -> Value {
    runs.iter().map(|run| json!([run.first, run.last])).collect()
}

/// How many frames of a segment wait.
fn waits(waiting: &Waiting) -> Option<u64> {
    waiting.iter().map(|runs| runs.as_deref().map(count)).sum()
}

fn known(value: Option<impl ToString>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

fn name(segment: &SegmentReport) -> String {
    let file = || segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    segment.number.map_or_else(file, |number| number.to_string())
}

/// What all forms say of a segment.
fn summary(segment: &SegmentReport) -> Value {
    let captured = segment.captured_at();
    json!({
        "segment": segment.number,
        "path": segment.path,
        "state": segment.state.as_str(),
        "detail": segment.detail,
        "origin": segment.origin.as_ref().map(|origin| origin.as_str()),
        "size": segment.size,
        "frames": segment.records(),
        "damaged": segment.damaged,
        "first_captured_at": captured.map(|(first, _)| first),
        "last_captured_at": captured.map(|(_, last)| last),
    })
}

pub fn segments(dir: &Path, segments: &[(SegmentReport, Waiting)], format: Format) -> String {
    match format {
        Format::Json => {
            let shown = |(segment, waiting): &(SegmentReport, Waiting)| {
                let cameras = segment.cameras.iter().zip(waiting).map(|(part, waiting)| {
                    json!({
                        "camera": part.camera,
                        "frames": part.records,
                        "bytes": part.bytes,
                        "seqs": pairs(&part.runs),
                        "waiting": waiting.as_deref().map(pairs),
                    })
                });
                let mut value = summary(segment);
                value["waiting"] = json!(waits(waiting));
                value["cameras"] = cameras.collect();
                value
            };
            let segments: Vec<Value> = segments.iter().map(shown).collect();
            format!("{}\n", json!({ "dir": dir, "segments": segments }))
        }
        Format::Table => {
            let mut table =
                Table::new(["SEGMENT", "STATE", "SIZE>", "FRAMES>", "WAITING>", "CAMERAS>", "FIRST", "LAST", "NOTE"]);
            for (segment, waiting) in segments {
                let (first, last) = segment.captured_at().unzip();
                table.row([
                    name(segment),
                    segment.state.as_str().to_owned(),
                    size(segment.size),
                    segment.records().to_string(),
                    known(waits(waiting)),
                    segment.cameras.len().to_string(),
                    known(first),
                    known(last),
                    segment.detail.clone().unwrap_or_default(),
                ]);
            }
            let mut text = table.render(terminal().map(|(width, _)| width));
            let bytes = segments.iter().map(|(segment, _)| segment.size).sum();
            let frames: u64 = segments.iter().map(|(segment, _)| segment.records()).sum();
            let waiting: Option<u64> = segments.iter().map(|(_, waiting)| waits(waiting)).sum();
            let waiting = waiting.map(|count| format!(", {count} waiting")).unwrap_or_default();
            let _ = writeln!(text, "{} segments, {}, {frames} frames{waiting}", segments.len(), size(bytes));
            text
        }
    }
}

pub fn records(segment: &SegmentReport, records: &[(RecordReport, Option<bool>)], format: Format) -> String {
    match format {
        Format::Json => {
            let shown = |(record, waiting): &(RecordReport, Option<bool>)| {
                let mut value = json!({
                    "camera": record.camera,
                    "seq": record.seq,
                    "offset": record.offset,
                    "length": record.length,
                    "damaged": record.content.is_none(),
                    "waiting": waiting,
                });
                if let Some(content) = &record.content {
                    value["session"] = json!(content.session);
                    value["captured_at"] = json!(content.captured_at);
                    value["width"] = json!(content.width);
                    value["height"] = json!(content.height);
                    value["bytes"] = json!(content.bytes);
                    value["crc32c"] = json!(content.crc32c);
                    value["key"] = json!(content.key);
                }
                value
            };
            let mut value = summary(segment);
            value["records"] = records.iter().map(shown).collect();
            format!("{value}\n")
        }
        Format::Table => {
            let mut table =
                Table::new(["CAMERA", "SEQ>", "SESSION>", "CAPTURED", "PICTURE>", "SIZE>", "WAITING", "KEY"]);
            for (record, waiting) in records {
                let content = record.content.as_ref();
                table.row([
                    record.camera.to_string(),
                    record.seq.to_string(),
                    known(content.map(|content| content.session)),
                    known(content.map(|content| content.captured_at)),
                    known(content.map(|content| format!("{}x{}", content.width, content.height))),
                    known(content.map(|content| size(content.bytes.into()))),
                    waiting.map_or(NONE, |waiting| if waiting { "yes" } else { "no" }).to_owned(),
                    content.map_or("damaged", |content| &content.key).to_owned(),
                ]);
            }
            table.render(terminal().map(|(width, _)| width))
        }
    }
}

pub fn verified(dir: &Path, verified: &[Verified], format: Format) -> String {
    match format {
        Format::Json => {
            let shown = |verified: &Verified| {
                let lost = verified.lost.iter().map(|(camera, seq)| json!({ "camera": camera, "seq": seq }));
                let mut value = summary(&verified.segment);
                value["lost"] = lost.collect();
                value
            };
            let segments: Vec<Value> = verified.iter().map(shown).collect();
            format!("{}\n", json!({ "dir": dir, "segments": segments }))
        }
        Format::Table => {
            let mut table = Table::new(["SEGMENT", "STATE", "SIZE>", "FRAMES>", "DAMAGED>", "NOTE"]);
            for Verified { segment, .. } in verified {
                table.row([
                    name(segment),
                    segment.state.as_str().to_owned(),
                    size(segment.size),
                    segment.records().to_string(),
                    segment.damaged.to_string(),
                    segment.detail.clone().unwrap_or_default(),
                ]);
            }
            let mut text = table.render(terminal().map(|(width, _)| width));
            for Verified { segment, lost } in verified {
                for (camera, seq) in lost {
                    let _ = writeln!(text, "segment {}: seq {seq} of {camera} is damaged", plain(&name(segment)));
                }
            }
            text
        }
    }
}
