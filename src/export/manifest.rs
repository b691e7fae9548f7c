//! The list of an export as an object in its bucket: what `docs/manifest.md` says of exports.

use serde::Serialize;

use super::entry::base64;
use super::{Entry, Export, Progress, Reason, Survey, fault::Fault};
use crate::model::UnixMicros;

/// The form's name.
const FORMAT: &str = "framehaul-export";
/// What the keys of all of them begin with.
pub(super) const PLACE: &str = "_export/";
/// Its version.
const VERSION: u32 = 1;

/// The first line.
#[derive(Serialize)]
struct Header<'a> {
    format: &'static str,
    version: u32,
    server: &'a str,
    device: &'a str,
    model: &'a str,
    serial: &'a str,
    from: UnixMicros,
    to: UnixMicros,
    tracks: Vec<&'a str>,
    begun_at: UnixMicros,
    ended_at: UnixMicros,
    found: u64,
    stored: u64,
    there: u64,
    failed: u64,
    complete: bool,
}

/// Any other line.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Recording(&'a Entry),
    Track { track: &'a str, reason: Reason, error: &'a str },
    End { crc32c: String },
}

/// Where the manifest of a run goes: beside those of other runs with the same recorder, in the order of their begins.
pub(super) fn key(server: &str, begun: UnixMicros, run: &str) -> String {
    let server = directory(server);
    let at: String = begun.to_string().chars().filter(char::is_ascii_alphanumeric).take(15).collect();
    format!("{PLACE}{server}/{at}Z-{run}.ndjson")
}

/// A recorder's name as the place of its lists has it.
pub(super) fn directory(server: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    server.chars().map(plain).collect()
}

/// Its bytes.
pub(super) fn bytes(
    export: &Export,
    survey: &Survey,
    progress: &Progress,
    entries: &[Entry],
    (begun_at, ended_at): (UnixMicros, UnixMicros),
    complete: bool,
) -> Vec<u8> {
    let mut text = Vec::with_capacity(512 * (entries.len() + 2));
    let server = export.server();
    let Progress { found, stored, there, failed, .. } = *progress;
    push(
        &mut text,
        &Header {
            format: FORMAT,
            version: VERSION,
            server: &server,
            device: &survey.identity.name,
            model: &survey.identity.model,
            serial: &survey.identity.serial,
            from: survey.span.from,
            to: survey.span.to,
            tracks: survey.tracks.iter().map(|track| track.id.as_str()).collect(),
            begun_at,
            ended_at,
            found,
            stored,
            there,
            failed,
            complete,
        },
    );
    for entry in entries {
        push(&mut text, &Line::Recording(entry));
    }
    for (track, error) in &survey.failed {
        let reason = Fault::from(error.clone()).reason;
        push(&mut text, &Line::Track { track: &track.id, reason, error: &error.message });
    }
    let crc32c = base64(crc32c::crc32c(&text));
    push(&mut text, &Line::End { crc32c });
    text
}

fn push(text: &mut Vec<u8>, line: &impl Serialize) {
    serde_json::to_writer(&mut *text, line).expect("a line is plain data");
    text.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_lies_beside_those_of_other_runs_in_their_order() {
        let at = UnixMicros::parse("2026-11-19T01:02:03.000004Z").unwrap();
        assert_eq!(key("10.0.0.5:8080", at, "0123abcd"), "_export/10.0.0.5_8080/20261119T010203Z-0123abcd.ndjson");
        assert_eq!(key("../[::1]", at, "x"), "_export/..____1_/20261119T010203Z-x.ndjson");
    }
}
