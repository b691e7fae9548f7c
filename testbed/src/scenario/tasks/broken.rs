//! Sheets with one thing wrong in each.

use serde_json::{Value, json};

use super::programs::Programs;
use super::sheets::CANARY;

/// A sheet, and where it is wrong.
pub(super) struct Broken {
    pub(super) what: String,
    pub(super) bytes: Vec<u8>,
    pub(super) row: u64,
    pub(super) column: &'static str,
}

/// What makes the third row wrong, in its fourth column.
const CELLS: [(&str, &str); 30] = [
    ("id", "a/b"),
    ("enabled", "perhaps"),
    ("port", "0"),
    ("port", "http"),
    ("scheme", "rtsp"),
    ("tls", "sometimes"),
    ("channels", "gate"),
    ("channels", "16-1"),
    ("channels", "1,101"),
    ("tracks", "101;gate"),
    ("stream", "third"),
    ("content", "sound"),
    ("range", "last month"),
    ("start", "03/04/2026"),
    ("start", "19.11.26"),
    ("start", "tomorrow"),
    ("start", "1999-12-31"),
    ("end", "2026-02-30"),
    ("days", "2.5"),
    ("time_basis", "local"),
    ("zone", "Moon/Crater"),
    ("transport", "carrier pigeon"),
    ("container", "avi"),
    ("frame_every", "often"),
    ("layout", "week"),
    ("bucket", "recordings"),
    ("prefix", "../x"),
    ("sessions", "17"),
    ("bandwidth", "fast"),
    ("args", "--yesterday --canary-7d1"),
];

/// All of them: CSV, and workbooks with what only workbooks can have.
pub(super) fn broken(programs: &Programs) -> anyhow::Result<Vec<Broken>> {
    let mut all: Vec<Broken> = CELLS.map(|(column, value)| cell(column, value)).into();
    all.extend(rows());
    let with = |what: &str, value: Value, merged: &[&str], (row, column)| -> anyhow::Result<Broken> {
        let texts = |row: [&str; 4]| row.map(|text| json!(text)).to_vec();
        let mut last = texts(["nvr-2", "u", CANARY, ""]);
        let name = what.split(' ').next().unwrap_or_default();
        last[3] = value;
        let rows = [texts(["host", "user", "password", name]), texts(["nvr-1", "u", CANARY, ""]), last];
        let rows = rows.map(|row| row.into_iter().map(|cell| if cell == "" { Value::Null } else { cell }).collect());
        Ok(Broken { what: what.to_owned(), bytes: programs.openpyxl(&rows, merged)?, row, column })
    };
    let date = || json!({ "date": "2026-01-16T00:00:00", "shown": "dd-mmm" });
    all.push(with("start is a formula", json!("=TODAY()"), &[], (3, "D"))?);
    all.push(with("start is a number", json!(46_345), &[], (3, "D"))?);
    all.push(with("start is a time without a day", json!({ "number": 0.5, "shown": "hh:mm" }), &[], (3, "D"))?);
    all.push(with("end is of 1905", json!({ "number": 2_000, "shown": "yyyy-mm-dd" }), &[], (3, "D"))?);
    all.push(with("channels are a date", date(), &[], (3, "D"))?);
    all.push(with("channels are a number of six digits", json!(101_201), &[], (3, "D"))?);
    all.push(with("channels are one with others", json!(1), &["B2:B3"], (2, "B"))?);
    Ok(all)
}

fn cell(column: &str, value: &str) -> Broken {
    let sheet = format!("host,user,password,{column}\nnvr-1,u,{CANARY},\nnvr-2,u,{CANARY},\"{value}\"\n");
    Broken { what: format!("{column}={value}"), bytes: sheet.into_bytes(), row: 3, column: "D" }
}

/// Rows that lack something, or have it twice.
fn rows() -> Vec<Broken> {
    [
        ("no host", format!("host,user,password\n,u,{CANARY}\n"), 2, "A"),
        ("no user", format!("host,user,password\nnvr,,{CANARY}\n"), 2, "B"),
        ("no password", "host,user,password\nnvr,u,\n".to_owned(), 2, "C"),
        ("a login in the host", format!("host,user,password\nu:{CANARY}@nvr,u,{CANARY}\n"), 2, "A"),
        ("two ports", format!("host,user,password,port\nnvr:81,u,{CANARY},82\n"), 2, "D"),
        ("no such column", format!("host,user,password,strat\nnvr,u,{CANARY},x\n"), 1, "D"),
        ("the same id twice", format!("host,user,password,id\na,u,{CANARY},a\nb,u,{CANARY},a\n"), 3, "D"),
        ("a bare row without an address", format!("u,{CANARY},10.0.0.5,101\nu,{CANARY},,101\n"), 2, "C"),
    ]
    .map(|(what, sheet, row, column)| Broken { what: what.to_owned(), bytes: sheet.into_bytes(), row, column })
    .into()
}
