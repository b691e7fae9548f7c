//! Sheets as a daemon gets them: of every program alike, broken ones told by row and cell, and large ones.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use rust_xlsxwriter::{ExcelDateTime, Format, Workbook, XlsxError};
use serde_json::{Value, json};

use super::broken::broken;
use super::programs::Programs;
use crate::contest::{most_resident, round};
use crate::daemon::{Daemon, Storage};
use crate::scenario::{Outcome, Problems, Stage};

const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
const CSV: &str = "text/csv";
/// Stands where a password has to be told by nobody.
pub(super) const CANARY: &str = "canary-7d1";

/// Sheets, and what a large one may take.
#[derive(Debug, Clone)]
pub struct Sheets {
    /// Where Python gets its environment.
    pub environment: PathBuf,
    /// Broken sheets, at least.
    pub broken: usize,
    /// Rows of a large one.
    pub rows: u32,
    /// How long the daemon may take to accept it.
    pub within: Duration,
    /// The most memory that it may have meanwhile, bytes.
    pub memory: u64,
}

/// Sends sheets, and looks at what workers would get of each.
///
/// # Errors
///
/// When a part does not start or does not answer, or a program that makes sheets is missing.
pub fn sheets(stage: &Stage, plan: &Sheets) -> anyhow::Result<Outcome> {
    let mut problems = Problems::default();
    let programs = Programs::install(&plan.environment, stage.program(), stage.dir().join("sheets"))?;
    let mut daemon = stage.daemon(&Storage::Directory, "")?;
    let alike = alike(&daemon, &programs, &mut problems)?;
    let refused = refused(&daemon, &programs, &mut problems)?;
    problems.check(refused >= plan.broken, || format!("{refused} broken sheets"));
    daemon.stop()?;
    let csv = large(stage, "csv", CSV, large_csv(plan.rows), plan, &mut problems)?;
    let workbook = large_workbook(plan.rows).context("cannot make a large workbook")?;
    let xlsx = large(stage, "xlsx", XLSX, workbook, plan, &mut problems)?;
    let bound = format!(
        "the article's bare sheet, our template, workbooks of LibreOffice and openpyxl, CSV with commas, semicolons and a BOM: \
         the same tasks of each; {} broken ones refused by row and cell, and nothing of them accepted; {} rows in less than \
         {:?} and {} MB of the daemon",
        plan.broken,
        plan.rows,
        plan.within,
        plan.memory / 1_000_000
    );
    let figure = json!({ "alike": alike, "refused_by_row_and_cell": refused, "large": { "csv": csv, "xlsx": xlsx } });
    Ok(problems.outcome(bound, figure, refused as u64))
}

/// Sends a sheet.
fn post(daemon: &Daemon, kind: &str, sheet: Vec<u8>) -> anyhow::Result<(StatusCode, Value)> {
    let url = format!("{}/api/v1/exports", daemon.address());
    let body = Some((kind, Bytes::from(sheet)));
    let (status, _, answer) = daemon.http().send_body(Method::POST, &url, Some(daemon.token()), body, &[])?;
    Ok((status, serde_json::from_slice(&answer).context("the answer to a sheet is no JSON")?))
}

/// The same sheets of several programs: how many of each were taken for the same.
fn alike(daemon: &Daemon, programs: &Programs, problems: &mut Problems) -> anyhow::Result<Value> {
    let worker = daemon.new_token("sheets", "worker")?;
    let mut told = Vec::new();
    for (what, forms) in [("bare", bare(programs)?), ("with dates", dated(programs)?)] {
        let mut first: Option<(&str, Vec<Value>)> = None;
        let mut same = Vec::new();
        for Sent { by, kind, sheet } in forms {
            let (status, answer) = post(daemon, kind, sheet)?;
            problems.check(status == StatusCode::CREATED, || format!("{what}, {by}: {status}: {answer}"));
            let tasks = taken(daemon, &worker, answer["tasks"].as_u64().unwrap_or_default())?;
            let (of, others) = first.get_or_insert_with(|| (by, tasks.clone()));
            problems.check(!tasks.is_empty() && *others == tasks, || {
                format!("{what}: {by} asks for {}, and {of} for {}", json!(tasks), json!(others))
            });
            same.push(by);
        }
        let tasks = first.map_or(0, |(_, tasks)| tasks.len());
        problems.check(tasks == 3, || format!("{what}: {tasks} tasks"));
        told.push(json!({ "sheet": what, "tasks": tasks, "of": same }));
    }
    Ok(told.into())
}

/// Takes so many tasks as a worker, and is through with them: what each asks for.
fn taken(daemon: &Daemon, worker: &str, count: u64) -> anyhow::Result<Vec<Value>> {
    let ask = |path: &str, body: Value| -> anyhow::Result<Value> {
        let url = format!("{}/api/v1/leases{path}", daemon.address());
        let (status, answer) = daemon.http().send(Method::POST, &url, Some(worker), Some(body.to_string()))?;
        ensure!(status == StatusCode::OK, "{path}: {status}");
        Ok(serde_json::from_slice(&answer)?)
    };
    let mut tasks = Vec::new();
    for _ in 0..count {
        let lease = ask("", json!({ "worker": "reader", "wait": "1s" }))?;
        let id = lease["id"].as_str().context("a lease has an id")?;
        ask(&format!("/{id}/complete"), json!({ "number": lease["number"] }))?;
        let mut task = lease["task"].clone();
        // These are of the job and the place in the sheet.
        for name in ["id", "job", "row", "asked_at"] {
            task.as_object_mut().context("a task is an object")?.remove(name);
        }
        tasks.push(task);
    }
    Ok(tasks)
}

/// A sheet that is sent.
struct Sent {
    by: &'static str,
    kind: &'static str,
    sheet: Vec<u8>,
}

fn texts(row: &[&str]) -> Vec<Value> {
    row.iter().map(|text| json!(text)).collect()
}

/// The article's: user, password, address and channels, without names or with any.
fn bare(programs: &Programs) -> anyhow::Result<Vec<Sent>> {
    let plain = [["admin", "12345", "10.0.0.5", "101"], ["admin", "p,w;x", "10.0.0.6:8080", "101,201"]];
    let rows = plain.map(|row| texts(&row));
    let named = |names: &[&str]| [&[texts(names)][..], &rows].concat();
    // As Excel has it where nobody has formatted anything.
    let numbers = [vec![json!("admin"), json!(12_345), json!("10.0.0.5"), json!(101)], rows[1].clone()];
    let article = ["user", "password", "address", "channels"];
    Ok(vec![
        Sent { by: "the article's", kind: XLSX, sheet: programs.openpyxl(&numbers, &[])? },
        Sent { by: "openpyxl", kind: XLSX, sheet: programs.openpyxl(&named(&article), &[])? },
        Sent {
            by: "openpyxl, in Russian",
            kind: XLSX,
            sheet: programs.openpyxl(&named(&["пользователь", "пароль", "адрес", "каналы"]), &[])?,
        },
        Sent {
            by: "our template",
            kind: XLSX,
            sheet: programs.template(&named(&["user", "password", "host", "channels"]))?,
        },
        Sent { by: "LibreOffice", kind: XLSX, sheet: programs.libreoffice(&rows)? },
        Sent { by: "commas", kind: CSV, sheet: csv(&plain, ",", "\n") },
        Sent { by: "semicolons", kind: CSV, sheet: csv(&plain, ";", "\r\n") },
        Sent { by: "a BOM", kind: CSV, sheet: with_bom(csv(&[&[article][..], &plain].concat(), ",", "\r\n")) },
    ])
}

/// One with names and dates.
fn dated(programs: &Programs) -> anyhow::Result<Vec<Sent>> {
    let names = ["host", "user", "password", "channels", "start", "end"];
    let plain = [
        ["10.0.1.5", "экспорт", "00123", "1-2", "2026-11-19 08:00", "2026-11-19 17:40"],
        ["10.0.1.6", "ворота 大门", "p,w;x", "101", "2026-11-19 00:00", "2026-11-20 00:00"],
    ];
    let date = |text: &str, shown: bool| {
        let at = format!("{}:00", text.replace(' ', "T"));
        if shown { json!({ "date": at, "shown": "dd.mm.yyyy hh:mm" }) } else { json!({ "date": at }) }
    };
    let dates = |shown: bool| {
        let mut rows = vec![texts(&names)];
        rows.extend(plain.map(|row| [texts(&row[..4]), vec![date(row[4], shown), date(row[5], shown)]].concat()));
        rows
    };
    let all = [&[names][..], &plain].concat();
    Ok(vec![
        Sent { by: "openpyxl", kind: XLSX, sheet: programs.openpyxl(&dates(true), &[])? },
        Sent { by: "our template", kind: XLSX, sheet: programs.template(&dates(false))? },
        Sent { by: "LibreOffice", kind: XLSX, sheet: programs.libreoffice(&dates(false))? },
        Sent { by: "commas", kind: CSV, sheet: csv(&all, ",", "\n") },
        Sent { by: "semicolons", kind: CSV, sheet: csv(&all, ";", "\n") },
        Sent { by: "a BOM", kind: CSV, sheet: with_bom(csv(&all, ";", "\r\n")) },
    ])
}

/// Values behind one another, in quotation marks where they need them.
fn csv<const N: usize>(rows: &[[&str; N]], separator: &str, end: &str) -> Vec<u8> {
    let value = |text: &&str| if text.contains([',', ';']) { format!("\"{text}\"") } else { (*text).to_owned() };
    let line = |row: &[&str; N]| row.iter().map(value).collect::<Vec<_>>().join(separator) + end;
    rows.iter().map(line).collect::<String>().into_bytes()
}

fn with_bom(text: Vec<u8>) -> Vec<u8> {
    [b"\xef\xbb\xbf".to_vec(), text].concat()
}

/// How many broken sheets are refused, each by its row and its cell.
fn refused(daemon: &Daemon, programs: &Programs, problems: &mut Problems) -> anyhow::Result<usize> {
    let exports = || -> anyhow::Result<usize> {
        let list: Value = serde_json::from_str(&daemon.get("/api/v1/exports?limit=1000")?)?;
        Ok(list["exports"].as_array().context("exports are a list")?.len())
    };
    let before = exports()?;
    let mut refused = 0;
    for sheet in broken(programs)? {
        let (status, answer) = post(daemon, if sheet.bytes.starts_with(b"PK") { XLSX } else { CSV }, sheet.bytes)?;
        let fault = &answer["faults"][0];
        let (row, column) = (fault["row"].as_u64(), fault["column"].as_str());
        let is_told = status == StatusCode::UNPROCESSABLE_ENTITY
            && (row, column) == (Some(sheet.row), Some(sheet.column))
            && fault["detail"].as_str().is_some_and(|detail| !detail.is_empty());
        problems.check(is_told, || {
            format!("{}: row {}, column {}: {status}: {answer}", sheet.what, sheet.row, sheet.column)
        });
        problems.check(!answer.to_string().contains(CANARY), || format!("{}: it tells a password", sheet.what));
        refused += usize::from(is_told);
    }
    let new = exports()? - before;
    problems.check(new == 0, || format!("{new} broken sheets were accepted"));
    Ok(refused)
}

/// Sends a large sheet to a daemon of its own: what that takes.
fn large(
    stage: &Stage,
    name: &str,
    kind: &str,
    sheet: Vec<u8>,
    plan: &Sheets,
    problems: &mut Problems,
) -> anyhow::Result<Value> {
    let mut daemon = stage.daemon_in(&format!("large-{name}"), &Storage::Directory, "")?;
    let idle = most_resident(daemon.pid()).context("the system does not say what it has")?;
    let size = sheet.len();
    let begun = Instant::now();
    let (status, answer) = post(&daemon, kind, sheet)?;
    let took = begun.elapsed();
    let most = most_resident(daemon.pid()).context("the system does not say what it has")?;
    problems.check(status == StatusCode::CREATED && answer["tasks"] == plan.rows, || {
        format!("{name}: {status}: {}", answer.to_string().chars().take(500).collect::<String>())
    });
    problems.check(took < plan.within, || format!("{name}: it took {took:?}"));
    problems.check(most < plan.memory, || format!("{name}: the daemon had {most} bytes"));
    daemon.stop()?;
    let mb = |bytes: u64| round(bytes as f64 / 1e6);
    Ok(json!({ "bytes": size, "seconds": round(took.as_secs_f64()), "peak_mb": mb(most), "idle_mb": mb(idle) }))
}

const LARGE: [&str; 9] = ["host", "user", "password", "channels", "container", "bucket", "notes", "start", "end"];

/// What stands in a row of a large sheet, but for its dates.
fn large_row(n: u32) -> [String; 7] {
    [
        format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255),
        "export".to_owned(),
        format!("s3cret-{n}"),
        "101".to_owned(),
        "mp4".to_owned(),
        format!("gs://recordings/shop-{n}"),
        format!("the recorder of shop {n}, at the back door"),
    ]
}

fn large_csv(rows: u32) -> Vec<u8> {
    let mut text = LARGE.join(";") + "\n";
    for n in 0..rows {
        text +=
            &format!("{};2026-11-{day:02} 08:00;2026-11-{day:02} 18:00\n", large_row(n).join(";"), day = 1 + n % 28);
    }
    text.into_bytes()
}

fn large_workbook(rows: u32) -> Result<Vec<u8>, XlsxError> {
    let mut workbook = Workbook::new();
    let date = Format::new().set_num_format("yyyy-mm-dd hh:mm");
    let sheet = workbook.add_worksheet();
    sheet.write_row(0, 0, LARGE)?;
    for n in 0..rows {
        sheet.write_row(n + 1, 0, large_row(n))?;
        let day = ExcelDateTime::from_ymd(2026, 11, u8::try_from(1 + n % 28).unwrap_or(1))?;
        for (column, hour) in [(7, 8), (8, 18)] {
            sheet.write_datetime_with_format(n + 1, column, day.clone().and_hms(hour, 0, 0)?, &date)?;
        }
    }
    workbook.save_to_buffer()
}
