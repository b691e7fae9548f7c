//! Broken sheets: each is refused with the row and the cell, and no message repeats a password.

use serde_json::{Value, json};

use super::made::{check, openpyxl, parts, workbook, zip};
use super::{accepted, refused};

const CANARY: &str = "canary-7d1";

/// What a sheet says when its third row has this in this column.
#[track_caller]
fn cell(column: &str, value: &str) -> String {
    let sheet = format!("host,user,password,{column}\nnvr-1,u,{CANARY},\nnvr-2,u,{CANARY},\"{value}\"\n");
    refused(&format!("{column}={value}"), sheet.as_bytes()).to_string()
}

#[test]
fn a_broken_cell_is_told_by_row_and_column() {
    for (column, value, word) in [
        ("id", "a/b", "characters beside"),
        ("enabled", "perhaps", "neither yes nor no"),
        ("port", "0", "no whole number from 1 to 65535"),
        ("port", "http", "no whole number"),
        ("scheme", "rtsp", "use http, https"),
        ("tls", "unverified", "https only"),
        ("tls", "sometimes", "neither verified nor unverified"),
        ("password_file", "/etc/p", "one or the other"),
        ("channels", "gate", "no number"),
        ("channels", "16-1", "range"),
        ("channels", "1,101", "one or the other"),
        ("tracks", "101;gate", "no number"),
        ("stream", "third", "use main, sub, photo"),
        ("content", "sound", "use video, photo"),
        ("range", "last month", "use today"),
        ("range", "days", "needs it"),
        ("range", "absolute", "needs it"),
        ("start", "03/04/2026", "may be the 2026-04-03 or the 2026-03-04"),
        ("start", "19.11.26", "two digits"),
        ("start", "tomorrow", "no date"),
        ("start", "1999-12-31", "2000 to 2037"),
        ("end", "2026-02-30", "no date"),
        ("days", "0", "no whole number"),
        ("days", "2.5", "no whole number"),
        ("time_basis", "local", "use auto, device_local, utc"),
        ("zone", "Moon/Crater", "no time zone"),
        ("event", "motion or alarm", "one reason"),
        ("transport", "carrier pigeon", "use auto, files, rtsp"),
        ("container", "avi", "use original, mp4, mkv"),
        ("trim", "yes", "with concat only"),
        ("skip_seconds", "-5", "no time from"),
        ("max_seconds", "0", "no time from"),
        ("frame_every", "often", "no time from"),
        ("name_template", "{camera}", "no pattern"),
        ("name_prefix", "a\nb", "line break"),
        ("layout", "week", "use flat"),
        ("bucket", "recordings", "no place"),
        ("bucket", "gs://user:pass@b", "no place"),
        ("prefix", "../x", "no prefix"),
        ("sessions", "17", "no whole number from 1 to 16"),
        ("bandwidth", "fast", "no size"),
        ("hours", "22-6", "no span of a day"),
        ("settle", "2 days", "no time from"),
        ("retries", "-1", "no whole number"),
        ("timeout", "0", "no time from"),
        ("dry_run", "hm", "neither yes nor no"),
        ("args", "--yesterday --canary-7d1", "cannot be read"),
        ("args", "--server nvr-3", "says --server, as the column `host` does"),
    ] {
        let told = cell(column, value);
        // What is missing is told where it is missing.
        let place = match (column, value) {
            ("range", "days") => "row 3 (`days`): ".to_owned(),
            ("range", "absolute") => "row 3 (`start`): ".to_owned(),
            _ => format!("row 3, column D (`{column}`): "),
        };
        assert!(told.starts_with(&place) && told.contains(word), "{column}={value}: {told}");
        assert!(!told.contains(CANARY) && !told.contains('\n'), "{column}={value}: {told}");
    }
}

#[test]
fn broken_rows_and_heads_are_told() {
    let user = format!("u,{CANARY}");
    for (what, sheet, told) in [
        ("no host", format!("host,user,password\n,{user}\n"), "row 2, column A (`host`): is missing"),
        ("no user", format!("host,user,password\nnvr,,{CANARY}\n"), "row 2, column B (`user`): is missing"),
        ("no password", "host,user,password\nnvr,u,\n".into(), "row 2, column C (`password`): is missing"),
        (
            "a password with a line break",
            format!("host,user,password\nnvr,u,\"a\n{CANARY}\"\n"),
            "row 2, column C (`password`): has a line break",
        ),
        (
            "a login in the host",
            format!("host,user,password\nu:{CANARY}@nvr,{user}\n"),
            "row 2, column A (`host`): has a login in it",
        ),
        (
            "a number for a host",
            format!("host,user,password\n101,{user}\n"),
            "row 2, column A (`host`): is no recorder",
        ),
        (
            "two ports",
            format!("host,user,password,port\nnvr:81,{user},82\n"),
            "row 2, column D (`port`): is another one",
        ),
        (
            "two schemes",
            format!("host,user,password,scheme\nhttps://nvr,{user},http\n"),
            "row 2, column D (`scheme`): is another one",
        ),
        (
            "an end before the start",
            format!("host,user,password,start,end\nnvr,{user},2026-11-19,2026-11-19\n"),
            "row 2, column E (`end`): is not after the start",
        ),
        (
            "a start and today",
            format!("host,user,password,range,start\nnvr,{user},today,2026-11-19\n"),
            "row 2, column E (`start`): has a meaning with",
        ),
        (
            "days and a start",
            format!("host,user,password,start,days\nnvr,{user},2026-11-19,3\n"),
            "row 2, column E (`days`): has a meaning with",
        ),
        (
            "channels and tracks",
            format!("host,user,password,channels,tracks\nnvr,{user},1,101\n"),
            "row 2, column E (`tracks`): stands beside channels",
        ),
        (
            "a sub stream of a main track",
            format!("host,user,password,channels,stream\nnvr,{user},101,sub\n"),
            "row 2, column D (`channels`): has track ids",
        ),
        (
            "photos in MP4",
            format!("host,user,password,stream,container\nnvr,{user},photo,mp4\n"),
            "row 2, column E (`container`): has a meaning for video only",
        ),
        (
            "JPEGs in one",
            format!("host,user,password,frame_every,concat\nnvr,{user},5,yes\n"),
            "row 2, column E (`concat`): does not go with frame_every",
        ),
        (
            "a part of the original",
            format!("host,user,password,container,max_seconds\nnvr,{user},original,5\n"),
            "row 2, column D (`container`): cannot be original",
        ),
        (
            "a template and a layout",
            format!("host,user,password,name_template,layout\nnvr,{user},{{start}}-{{track}},day\n"),
            "row 2, column E (`layout`): stands beside",
        ),
        (
            "an unknown name",
            format!("host,user,password,strat\nnvr,{user},x\n"),
            "row 1, column D: `strat` is not known",
        ),
        ("a name twice", format!("host,user,password,login\nnvr,{user},x\n"), "row 1, column D: stands there twice"),
        (
            "a column that is missing",
            format!("user,password,start\n{user},2026-11-19\n"),
            "row 1: there is no column `host`",
        ),
        (
            "a value without a name",
            format!("host,user,password,,start\nnvr,{user},x,2026-11-19\n"),
            "row 2, column D: stands in a column without a name",
        ),
        (
            "too many values",
            format!("host;user;password\nnvr;u;{CANARY};p\n"),
            "row 2, column D: has more values than there are columns: put a value with `;`",
        ),
        (
            "an open quotation mark",
            format!("host,user,password\nnvr,u,\"{CANARY}\n"),
            "row 2, column C (`password`): has a quotation mark that is not closed",
        ),
        (
            "more behind a quotation mark",
            format!("host,user,password\nnvr,\"u\"x,{CANARY}\n"),
            "row 2, column B (`user`): goes on behind",
        ),
        (
            "the same row twice",
            format!("host,user,password,notes\nnvr,{user},a\n\nNVR,{user},b\n"),
            "row 4: asks for the same as row 2",
        ),
        (
            "the same id twice",
            format!("host,user,password,id\nnvr,{user},a\nnvr-2,{user},a\n"),
            "row 3, column D (`id`): is also the one of row 2",
        ),
        (
            "a bare row with a wrong channel",
            format!("{user},10.0.0.5,gate\n"),
            "row 1, column D (`channels`): has something that is no number",
        ),
        (
            "a second bare row without an address",
            format!("{user},10.0.0.5,101\n{user},,101\n"),
            "row 2, column C (`host`): is missing",
        ),
        (
            "JSON with a list in a list",
            json!([{ "host": "nvr", "user": "u", "password": [[CANARY]] }]).to_string(),
            "row 1 (`password`): is neither a text",
        ),
        (
            "JSON with a list for a password",
            json!([{ "host": "nvr", "user": "u", "password": [CANARY] }]).to_string(),
            "row 1 (`password`): is a list",
        ),
        (
            "JSON with an unknown name",
            json!([{ "host": "nvr", "user": "u", "password": CANARY, "strat": 1 }]).to_string(),
            "row 1: `strat` is not known",
        ),
        (
            "JSON with a name twice",
            format!("[{{\"host\":\"a\",\"ip\":\"b\",\"user\":\"u\",\"password\":\"{CANARY}\"}}]"),
            "row 1 (`host`): stands there twice",
        ),
    ] {
        let error = refused(what, sheet.as_bytes()).to_string();
        assert!(error.starts_with(told) && !error.contains(CANARY) && !error.contains('\n'), "{what}: {error}");
    }
}

#[test]
fn broken_workbooks_are_told_by_row_and_column() -> anyhow::Result<()> {
    let with = |name: &str, value: Value, more: Value| {
        let mut asked = json!({
            "rows": [["host", "user", "password", name], ["nvr-1", "u", CANARY], ["nvr-2", "u", CANARY, value]],
        });
        asked["merged"] = more;
        openpyxl(&asked)
    };
    let none = || json!([]);
    let date = json!({ "date": "2026-01-16T00:00:00", "shown": "dd-mmm" });
    for (what, bytes, told) in [
        (
            "a formula",
            with("start", json!("=TODAY()"), none())?,
            "row 3, column D (`start`): is a formula without a value",
        ),
        (
            "a channel as a date",
            with("channels", date.clone(), none())?,
            "row 3, column D (`channels`): is a date: a program took 1-16",
        ),
        (
            "channels as a number",
            with("channels", json!(101_201), none())?,
            "row 3, column D (`channels`): is a number of six digits",
        ),
        (
            "half a channel",
            with("channels", json!(101.5), none())?,
            "row 3, column D (`channels`): has something that is no number",
        ),
        ("a date as a number", with("start", json!(46345), none())?, "row 3, column D (`start`): is a number: format"),
        (
            "a time without a day",
            with("start", json!({ "number": 0.5, "shown": "hh:mm" }), none())?,
            "row 3, column D (`start`): is a time without a day",
        ),
        (
            "a date of 1905",
            with("end", json!({ "number": 2000, "shown": "yyyy-mm-dd" }), none())?,
            "row 3, column D (`end`): lies outside",
        ),
        ("a date for a user", with("id", date, none())?, "row 3, column D (`id`): is a date"),
        (
            "too many digits",
            with("id", json!(12_345_678_901_234_567_890.0), none())?,
            "row 3, column D (`id`): is a number with more digits",
        ),
        (
            "merged cells",
            with("channels", json!(1), json!(["B2:B3"]))?,
            "row 2, column B (`user`): is one with others, B2:B3",
        ),
        (
            "merged names",
            with("channels", json!(1), json!(["C1:D1"]))?,
            "row 1, column C (`password`): is one with others",
        ),
        (
            "an error",
            workbook(
                &format!(
                    "<row><c t=\"inlineStr\"><is><t>host</t></is></c><c t=\"inlineStr\"><is><t>user</t></is></c>\
                     <c t=\"inlineStr\"><is><t>password</t></is></c></row><row r=\"17\"><c t=\"e\"><f>1/0</f><v>#DIV/0!</v></c>\
                     <c t=\"inlineStr\"><is><t>u</t></is></c><c t=\"inlineStr\"><is><t>{CANARY}</t></is></c></row>"
                ),
                "",
                "",
            ),
            "row 17, column A (`host`): is an error of a formula",
        ),
    ] {
        let error = refused(what, &bytes).to_string();
        let first = error.lines().next().unwrap_or_default();
        assert!(first.starts_with(told) && !error.contains(CANARY), "{what}: {error}");
    }
    // Cells that are one outside the table are nobody's business.
    accepted("merged beside", &with("channels", json!(1), json!(["F1:H2", "A5:C9"]))?);
    Ok(())
}

#[test]
fn what_is_no_sheet_is_refused_in_one_sentence() -> anyhow::Result<()> {
    let utf16: Vec<u8> = "\u{feff}host".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let whole = workbook("<row><c t=\"inlineStr\"><is><t>host</t></is></c></row>", "", "");
    let mut flipped = whole.clone();
    let middle = flipped.windows(19).position(|name| name == b"worksheets/sheet1.x").unwrap() + 60;
    flipped[middle] ^= 0xff;
    let typed = b"<!DOCTYPE x [<!ENTITY a \"aaaa\">]><worksheet><sheetData/></worksheet>";
    for (what, bytes, word) in [
        ("nothing", Vec::new(), "no task"),
        ("a header alone", b"host,user,password\n".to_vec(), "no task"),
        ("an empty list", b"[]".to_vec(), "no task"),
        ("an old workbook", [&[0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1][..], &[0; 512]].concat(), "old .xls"),
        ("UTF-16", utf16, "UTF-16"),
        ("Windows-1251", b"host,user\n\xe0\xe4\xec\xe8\xed,u\n".to_vec(), "not UTF-8, first in line 2"),
        ("a picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec(), "neither CSV nor"),
        ("a renamed ZIP", zip(&[("a.txt", b"a")]), "a ZIP, and no workbook"),
        ("half a ZIP", zip(&[("a.txt", b"a")])[..20].to_vec(), "damaged"),
        (
            "a document of text",
            zip(&[("[Content_Types].xml", b"<Types/>"), ("word/document.xml", b"<w/>")]),
            "a ZIP, and no workbook",
        ),
        ("an OpenDocument sheet", zip(&[("mimetype", b"x"), ("content.xml", b"<x/>")]), "OpenDocument"),
        ("a binary workbook", zip(&[("xl/workbook.bin", b"x")]), ".xlsb"),
        ("half a workbook", whole[..whole.len() / 2].to_vec(), "damaged"),
        ("a flipped bit", flipped, "damaged"),
        ("half a sheet", parts(b"<worksheet><sheetData><row><c><v>1</v></c>", b"<sst/>"), "damaged"),
        ("a document type", parts(typed, b"<sst/>"), "document type"),
        ("rows backwards", workbook("<row r=\"2\"/><row r=\"1\"/>", "", ""), "damaged"),
        ("a text that is not there", workbook("<row><c t=\"s\"><v>9</v></c></row>", "", ""), "damaged"),
        ("prose", b"Dear all,\nthese are the recordings".to_vec(), "neither names of columns nor"),
        (
            "a table of something else",
            format!("who,what,{CANARY},where,when\n1,2,3,4,5\n").into_bytes(),
            "neither names of columns nor",
        ),
        ("commas and semicolons alike", b"host,user;password\n".to_vec(), "sep=;"),
        ("half of JSON", b"[{\"host\": \"a\"".to_vec(), "JSON breaks in line 1"),
        ("JSON of something else", format!("{{\"a\": \"{CANARY}\"}}").into_bytes(), "not a list of objects"),
        ("JSON of texts", format!("[\"{CANARY}\"]").into_bytes(), "not a list of objects"),
        ("two of JSON", b"[] []".to_vec(), "JSON breaks"),
        ("too much", vec![b'a'; framehaul::sheet::MAX_BYTES + 1], "more than 32 MiB"),
    ] {
        let error = refused(what, &bytes).to_string();
        assert!(error.contains(word) && !error.contains(CANARY) && !error.contains('\n'), "{what}: {error}");
        assert!(!error.starts_with("row 1, "), "{what}: {error}");
    }
    Ok(())
}

#[test]
fn all_that_is_wrong_is_told_at_once() -> anyhow::Result<()> {
    let sheet = format!(
        "host,user,password,start,port\nnvr,u,{CANARY},2026-11-19,80\nnvr,,{CANARY},19.11.26,x\n\n101,u,,2026-11-19,\n"
    );
    let expected =
        [("3", "B", "user"), ("3", "E", "port"), ("3", "D", "start"), ("5", "A", "host"), ("5", "C", "password")];
    let lines = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let table = check(std::path::Path::new("tasks.csv"), sheet.as_bytes(), &[])?;
    assert_eq!((table.status, table.out.as_str()), (65, ""));
    let mut starts: Vec<String> =
        expected.map(|(row, column, name)| format!("error: row {row}, column {column} (`{name}`): ")).to_vec();
    starts.sort_unstable();
    let told = lines(&table.err);
    assert_eq!(told.len(), starts.len(), "{}", table.err);
    for (line, start) in told.iter().zip(&starts) {
        assert!(line.starts_with(start.as_str()), "{line} | {start}");
    }
    let programs = check(std::path::Path::new("tasks.csv"), sheet.as_bytes(), &["--format", "json"])?;
    assert_eq!(programs.status, 65);
    let programs: Value = serde_json::from_str(&programs.out)?;
    assert_eq!((programs["errors"].as_array().map(Vec::len), &programs["tasks"]), (Some(5), &json!([])), "{programs}");
    assert_eq!(programs["errors"][0]["row"], 3);
    assert!(!table.err.contains(CANARY) && !programs.to_string().contains(CANARY));
    Ok(())
}

#[test]
fn whatever_a_byte_becomes_nothing_panics_and_no_password_is_told() {
    let csv =
        format!("host;user;password;start;channels\nnvr;u;{CANARY};2026-11-19 08:00;1-4\n\"nvr;2\";u;{CANARY};;all\n");
    let json = json!([{ "host": "nvr", "user": "u", "password": CANARY, "channels": [1, 2], "args": "--yesterday" }])
        .to_string();
    let text = |text: &str| format!("<c t=\"inlineStr\"><is><t>{text}</t></is></c>");
    let heads: String = ["host", "user", "start"].map(text).concat();
    let sheet = format!(
        "<worksheet><sheetData><row r=\"1\">{heads}<c t=\"s\"><v>0</v></c></row><row r=\"2\">{}{}\
         <c r=\"C2\" s=\"1\"><f>A1</f><v>46345.5</v></c><c r=\"D2\" t=\"s\"><v>1</v></c></row></sheetData>\
         <mergeCells><mergeCell ref=\"F1:G2\"/></mergeCells></worksheet>",
        text("nvr"),
        text("u"),
    );
    let shared = format!("<sst><si><t>password</t></si><si><r><t>{CANARY}</t></r></si></sst>");
    let whole = parts(sheet.as_bytes(), shared.as_bytes());
    for (what, bytes) in [("CSV", csv.as_bytes()), ("JSON", json.as_bytes()), ("XLSX", &whole)] {
        accepted(what, bytes);
    }
    let mut dice = fastrand::Rng::with_seed(20_261_122);
    let mut mutate = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        for _ in 0..dice.usize(1..4) {
            let at = dice.usize(..bytes.len());
            match dice.u8(..4) {
                0 => bytes[at] ^= 1 << dice.u8(..8),
                1 => bytes[at] = *dice.choice(b"<>&;,\"'/=[]{}0_-:\n\r \t\xff").expect("there are some"),
                2 => drop(bytes.remove(at)),
                _ => bytes.insert(at, dice.u8(..)),
            }
        }
        bytes
    };
    let (mut refusals, rounds) = (0, 1_500);
    for round in 0..rounds {
        for (what, bytes) in [
            ("CSV", mutate(csv.as_bytes())),
            ("JSON", mutate(json.as_bytes())),
            ("XLSX", mutate(&whole)),
            ("its sheet", parts(&mutate(sheet.as_bytes()), shared.as_bytes())),
            ("its texts", parts(sheet.as_bytes(), &mutate(shared.as_bytes()))),
        ] {
            if let Err(error) = framehaul::sheet::read(&bytes) {
                refusals += 1;
                let error = error.to_string();
                assert!(!error.contains(CANARY), "{what}, round {round}: {error}");
            }
        }
    }
    assert!(refusals > rounds, "{refusals} refusals: nothing was broken");
}
