//! What the commands of `framehaul spool` print.

use std::fmt::Write as _;
use std::path::Path;

use bytesize::ByteSize;
use serde_json::{Value, json};

use super::super::Format;
use super::super::table::{NONE, Table, plain, terminal};
use crate::model::{DestinationName, SeqRange, UnixMicros};
use crate::spool::inspect::{Damage, RecordView, SegmentView, Verdict};

/// Which of each camera's seqs wait, as far as that is known.
pub type Waiting = Vec<Option<Vec<SeqRange>>>;

/// A segment: each destination numbers its own.
pub type Which<'a> = (&'a DestinationName, u64);

/// Bytes for people.
pub fn size(bytes: u64) -> String {
    ByteSize(bytes).display().iec().to_string()
}

fn count(ranges: &[SeqRange]) -> u64 {
    ranges.iter().map(SeqRange::len).sum()
}

fn pairs(ranges: &[SeqRange]) -> Value {
    ranges.iter().map(|range| json!([range.first, range.last])).collect()
}

/// How many frames of a segment wait.
fn waits(waiting: &Waiting) -> Option<u64> {
    waiting.iter().map(|seqs| seqs.as_deref().map(count)).sum()
}

pub fn segments(dir: &Path, segments: &[(&DestinationName, SegmentView, Waiting)], format: Format) -> String {
    match format {
        Format::Json => {
            let shown = |(name, segment, waiting): &(&DestinationName, SegmentView, Waiting)| {
                let cameras = segment.cameras.iter().zip(waiting).map(|((camera, seqs), waiting)| {
                    json!({
                        "camera": camera,
                        "frames": count(seqs),
                        "seqs": pairs(seqs),
                        "waiting": waiting.as_deref().map(pairs),
                    })
                });
                json!({
                    "destination": name,
                    "segment": segment.number,
                    "file": segment.name,
                    "state": segment.state.as_str(),
                    "detail": segment.detail,
                    "size": segment.size,
                    "frames": segment.frames(),
                    "waiting": waits(waiting),
                    "first_captured_at": segment.captured.map(|(first, _)| first),
                    "last_captured_at": segment.captured.map(|(_, last)| last),
                    "cameras": cameras.collect::<Value>(),
                })
            };
            let segments: Vec<Value> = segments.iter().map(shown).collect();
            format!("{}\n", json!({ "dir": dir, "segments": segments }))
        }
        Format::Table => {
            let mut table = Table::new([
                "DESTINATION",
                "SEGMENT",
                "STATE",
                "SIZE>",
                "FRAMES>",
                "WAITING>",
                "CAMERAS>",
                "FIRST",
                "LAST",
                "NOTE",
            ]);
            for (name, segment, waiting) in segments {
                let (first, last) = segment.captured.unzip();
                let at = |at: Option<UnixMicros>| at.map_or(NONE.to_owned(), |at| at.to_string());
                table.row([
                    name.to_string(),
                    segment.number.map_or_else(|| segment.name.clone(), |number| number.to_string()),
                    segment.state.as_str().to_owned(),
                    size(segment.size),
                    segment.frames().to_string(),
                    waits(waiting).map_or(NONE.to_owned(), |count| count.to_string()),
                    segment.cameras.len().to_string(),
                    at(first),
                    at(last),
                    segment.detail.clone().unwrap_or_default(),
                ]);
            }
            let mut text = table.render(terminal().map(|(width, _)| width));
            let bytes = segments.iter().map(|(_, segment, _)| segment.size).sum();
            let frames: u64 = segments.iter().map(|(_, segment, _)| segment.frames()).sum();
            let waiting: Option<u64> = segments.iter().map(|(.., waiting)| waits(waiting)).sum();
            let waiting = waiting.map(|count| format!(", {count} waiting")).unwrap_or_default();
            let _ = writeln!(text, "{} segments, {}, {frames} frames{waiting}", segments.len(), size(bytes));
            text
        }
    }
}

pub fn records(
    segment: Which<'_>,
    records: &[(RecordView, Option<bool>)],
    verdict: &Verdict,
    format: Format,
) -> String {
    match format {
        Format::Json => {
            let shown = |(record, waits): &(RecordView, Option<bool>)| {
                json!({
                    "camera": record.camera,
                    "seq": record.seq,
                    "session": record.session,
                    "captured_at": record.captured_at,
                    "width": record.size.0,
                    "height": record.size.1,
                    "bytes": record.bytes,
                    "key": record.key,
                    "offset": record.place.offset,
                    "length": record.place.length,
                    "waiting": waits,
                })
            };
            let mut value = judged(segment, verdict);
            value["records"] = records.iter().map(shown).collect();
            format!("{value}\n")
        }
        Format::Table => {
            let mut table =
                Table::new(["CAMERA", "SEQ>", "SESSION>", "CAPTURED", "PICTURE>", "SIZE>", "WAITING", "KEY"]);
            for (record, waits) in records {
                table.row([
                    record.camera.to_string(),
                    record.seq.to_string(),
                    record.session.to_string(),
                    record.captured_at.to_string(),
                    format!("{}x{}", record.size.0, record.size.1),
                    size(record.bytes.into()),
                    waits.map_or(NONE, |waits| if waits { "yes" } else { "no" }).to_owned(),
                    record.key.clone(),
                ]);
            }
            let mut text = table.render(terminal().map(|(width, _)| width));
            text.push_str(&faults(segment, verdict));
            text
        }
    }
}

pub fn verdicts(dir: &Path, verdicts: &[(Which<'_>, Verdict)], format: Format) -> String {
    match format {
        Format::Json => {
            let segments: Vec<Value> = verdicts.iter().map(|(segment, verdict)| judged(*segment, verdict)).collect();
            format!("{}\n", json!({ "dir": dir, "segments": segments }))
        }
        Format::Table => {
            let mut table = Table::new(["DESTINATION", "SEGMENT", "STATE", "FRAMES>", "PICTURES>", "DAMAGED>"]);
            for ((name, segment), verdict) in verdicts {
                table.row([
                    name.to_string(),
                    segment.to_string(),
                    verdict.state.as_str().to_owned(),
                    verdict.frames.to_string(),
                    size(verdict.bytes),
                    size(verdict.damage.iter().map(|damage| damage.length).sum()),
                ]);
            }
            let mut text = table.render(terminal().map(|(width, _)| width));
            verdicts.iter().for_each(|(segment, verdict)| text.push_str(&faults(*segment, verdict)));
            text
        }
    }
}

fn judged((name, segment): Which<'_>, verdict: &Verdict) -> Value {
    let damage = |damage: &Damage| {
        let frames = damage.frames.iter().map(|(camera, seq)| json!({ "camera": camera, "seq": seq }));
        json!({ "offset": damage.offset, "length": damage.length, "frames": frames.collect::<Value>() })
    };
    json!({
        "destination": name,
        "segment": segment,
        "state": verdict.state.as_str(),
        "detail": verdict.detail,
        "frames": verdict.frames,
        "bytes": verdict.bytes,
        "damage": verdict.damage.iter().map(damage).collect::<Value>(),
    })
}

/// What is wrong with a segment, a line each.
fn faults((name, number): Which<'_>, verdict: &Verdict) -> String {
    let of = if *name == DestinationName::default() { String::new() } else { format!(" of {name}") };
    let segment = format!("{number}{of}");
    let mut text = String::new();
    if let Some(detail) = &verdict.detail {
        let _ = writeln!(text, "segment {segment}: {}", plain(detail));
    }
    for Damage { offset, length, frames } in &verdict.damage {
        let frames: Vec<String> = frames.iter().map(|(camera, seq)| format!("seq {seq} of {camera}")).collect();
        let frames = if frames.is_empty() { String::new() } else { format!(": {}", frames.join(", ")) };
        let _ = writeln!(text, "segment {segment}: {length} bytes at {offset} are no record{frames}");
    }
    text
}
