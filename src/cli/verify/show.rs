//! What `framehaul verify` prints.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::super::Format;
use super::super::failure::{Failure, print};
use super::super::progress::{bar, grouped};
use super::super::table::{NONE, Table, plain, terminal};
use crate::journal::Mark;
use crate::verify::{Counts, Finding, Kind, Progress, Report, Request, VerifyError};

/// Findings shown to people, unless they ask for more.
pub const LIMIT: usize = 50;

/// How far it is, in a line.
pub fn progress(progress: Progress<'_>) -> String {
    let Progress { camera, what, done, of } = progress;
    match of {
        Some(of) => format!("{camera}: {what:<9} {} {} of {}", bar(done, of), grouped(done), grouped(of)),
        None => format!("{camera}: {what:<9} {}", grouped(done)),
    }
}

fn words(kind: Kind) -> String {
    kind.as_str().replace('_', " ")
}

/// What is wrong, in one line.
pub fn wrongs(total: &Counts) -> String {
    let of = |kind: Kind| match (kind, total.of(kind)) {
        (_, 0) => None,
        (Kind::Gap, count) => Some(format!("{} seqs without a row", grouped(count))),
        (Kind::Manifest, count) => Some(format!("{} wrong in manifests", grouped(count))),
        (kind, count) => Some(format!("{} {}", grouped(count), words(kind))),
    };
    Kind::ALL.into_iter().filter_map(of).collect::<Vec<_>>().join(", ")
}

pub fn report(report: &Report, request: &Request, limit: usize, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => programs(report, request, limit),
        Format::Table => people(report, limit),
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        super::failed(error)
    }
}

/// One object in one line, written piece by piece: there may be very many findings.
fn programs(report: &Report, request: &Request, limit: usize) -> Result<(), Failure> {
    let cameras = report.cameras.iter().map(|(Mark { camera, watermark, pruned_to, .. }, of)| {
        let mut value = counts(of);
        value.insert("camera".to_owned(), json!(camera));
        value.insert("watermark".to_owned(), json!(watermark));
        value.insert("pruned_to".to_owned(), json!(pruned_to));
        Value::Object(value)
    });
    let head = json!({
        "ok": report.findings.is_empty(),
        "origin": report.origin.as_str(),
        "began_at": report.began_at,
        "since": request.since,
        "quick": request.quick,
        "cameras": cameras.collect::<Value>(),
        "total": counts(&report.total()),
        "findings_total": report.findings.len(),
    });
    let head = head.to_string();
    print(format_args!("{},\"findings\":[", head.strip_suffix('}').expect("an object ends so")))?;
    let mut first = true;
    report.findings.each(limit, |finding| {
        let comma = if std::mem::take(&mut first) { "" } else { "," };
        let Finding { kind, camera, seqs, key, detail } = finding;
        let value = json!({
            "kind": kind.as_str(),
            "camera": camera,
            "seq": seqs.map(|seqs| seqs.first),
            "last": seqs.map(|seqs| seqs.last),
            "key": key,
            "detail": detail,
        });
        print(format_args!("{comma}{value}"))
    })?;
    print("]}\n")
}

fn counts(of: &Counts) -> Map<String, Value> {
    let mut value = Map::new();
    let plain = [
        ("frames", of.frames),
        ("sizes_only", of.sizes_only),
        ("lost", of.lost),
        ("manifests", of.manifests),
        ("other_origins", of.others),
        ("in_flight", of.in_flight),
        ("maybe_stored", of.maybe_stored),
        ("forgotten", of.forgotten),
        ("untold", of.untold),
    ];
    value.extend(plain.map(|(name, count)| (name.to_owned(), count.into())));
    let wrong = Kind::ALL.into_iter().map(|kind| (kind.as_str().to_owned(), of.of(kind).into()));
    value.insert("wrong".to_owned(), Value::Object(wrong.collect()));
    value
}

fn people(report: &Report, limit: usize) -> Result<(), Failure> {
    let width = terminal().map(|(width, _)| width);
    let mut table = Table::new([
        "CAMERA",
        "STORED>",
        "LOST>",
        "MANIFESTS>",
        "MISSING>",
        "CORRUPT>",
        "FOREIGN>",
        "UNLISTED>",
        "GAPS>",
        "MANIFESTS WRONG>",
        "NOT CHECKED>",
    ]);
    let mut row = |name: String, of: &Counts| {
        let mut cells = [const { String::new() }; 11];
        cells[0] = name;
        let wrong = Kind::ALL.map(|kind| of.of(kind));
        for (cell, count) in cells[1..].iter_mut().zip([of.frames, of.lost, of.manifests].into_iter().chain(wrong)) {
            *cell = grouped(count);
        }
        table.row(cells);
    };
    report.cameras.iter().for_each(|(mark, of)| row(mark.camera.to_string(), of));
    if report.shared != Counts::default() {
        row(NONE.to_owned(), &report.shared);
    }
    print(table.render(width))?;
    findings(report, limit)?;
    print(summary(report))
}

fn findings(report: &Report, limit: usize) -> Result<(), Failure> {
    if report.findings.is_empty() {
        return Ok(());
    }
    print("\n")?;
    report.findings.each(limit, |finding| {
        let Finding { kind, camera, seqs, key, detail } = finding;
        let mut line = words(kind);
        if let Some(camera) = camera {
            let _ = write!(line, "  {camera}");
        }
        match seqs {
            Some(seqs) if seqs.first == seqs.last => _ = write!(line, " {}", seqs.first),
            Some(seqs) => _ = write!(line, " {} to {}", seqs.first, seqs.last),
            None => {}
        }
        if let Some(key) = key {
            let _ = write!(line, "  {key}");
        }
        print(format_args!("{}: {}\n", plain(&line), plain(&detail)))
    })?;
    let more = report.findings.len().saturating_sub(limit as u64);
    if more > 0 {
        print(format_args!("and {} more: --limit {} shows all\n", grouped(more), report.findings.len()))?;
    }
    let total = report.total();
    print("\n")?;
    for kind in Kind::ALL.into_iter().filter(|kind| total.of(*kind) > 0) {
        print(format_args!("{}: {}.\n", words(kind), kind.advice()))?;
    }
    print("\n")
}

/// The last line: how much was looked at, and what else there is.
fn summary(report: &Report) -> String {
    let total = report.total();
    let verdict = if report.findings.is_empty() { "OK" } else { "NOT OK" };
    let mut line = format!("{verdict}: {} frames", grouped(total.frames));
    if total.sizes_only > 0 {
        let _ = write!(line, " ({} by their sizes only)", grouped(total.sizes_only));
    }
    let cameras = report.cameras.len();
    let s = if cameras == 1 { "" } else { "s" };
    let _ = write!(line, ", {} manifests, {cameras} camera{s}", grouped(total.manifests));
    for (count, what) in [
        (total.lost, "lost"),
        (total.in_flight, "on their way"),
        (total.maybe_stored, "lost and there all the same"),
        (total.others, "objects of other origins"),
        (total.forgotten, "objects older than the list"),
        (total.untold, "seqs older than the list and in no manifest"),
    ] {
        if count > 0 {
            let _ = write!(line, "; {} {what}", grouped(count));
        }
    }
    line.push('\n');
    line
}
