//! Sheets of export tasks: every program's form of the same sheet is read alike, and what is wrong is told by row and cell.

mod broken;
mod large;
mod made;
mod template;

use std::path::Path;

use framehaul::export::{Moment, Stream, Tracks, Wanted};
use framehaul::sheet::{Sheet, SheetError, Task, read};
use secrecy::ExposeSecret as _;
use serde_json::json;
use time::macros::datetime;

use self::made::{openpyxl, workbook};

const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");

#[track_caller]
fn accepted(what: &str, bytes: &[u8]) -> Sheet {
    read(bytes).unwrap_or_else(|error| panic!("{what}: {error}"))
}

#[track_caller]
fn refused(what: &str, bytes: &[u8]) -> SheetError {
    match read(bytes) {
        Ok(_) => panic!("{what}: it was accepted"),
        Err(error) => error,
    }
}

/// What tells the tasks of these sheets apart.
fn facts(task: &Task) -> (&str, &str, &str, &Tracks, Wanted) {
    let password = task.password.as_ref().map_or("", |password| password.expose_secret());
    (&task.user, password, &task.host, &task.tracks, task.wanted)
}

fn ids(ids: &[&str]) -> Tracks {
    Tracks::Ids(ids.iter().map(|id| (*id).to_owned()).collect(), Stream::Main)
}

#[test]
fn the_articles_bare_sheet_is_read_with_a_header_in_any_language_or_without() -> anyhow::Result<()> {
    let rows = json!([["admin", 12345, "10.0.0.5", 101], ["admin", "p,w", "10.0.0.6:8080", "101,201"]]);
    let with = |head: &[&str]| {
        let mut all = vec![json!(head)];
        all.extend(rows.as_array().into_iter().flatten().cloned());
        json!(all)
    };
    let text = "admin,12345,10.0.0.5,101\nadmin,\"p,w\",10.0.0.6:8080,\"101,201\"\n";
    let mut sheets = vec![
        ("openpyxl", openpyxl(&json!({ "rows": rows }))?),
        ("openpyxl, English", openpyxl(&json!({ "rows": with(&["user", "password", "address", "channels"]) }))?),
        ("openpyxl, Russian", openpyxl(&json!({ "rows": with(&["пользователь", "пароль", "адрес", "канал"]) }))?),
        ("openpyxl, Chinese", openpyxl(&json!({ "rows": with(&["用户名", "密码", "地址", "通道"]) }))?),
        ("openpyxl, Korean", openpyxl(&json!({ "rows": with(&["사용자", "비밀번호", "주소", "채널"]) }))?),
        ("commas", text.to_owned().into_bytes()),
        ("BOM", format!("\u{feff}{text}").into_bytes()),
        ("a header and empty rows", format!("\r\nuser,password,address,channels\r\n,,,\r\n{text}").into_bytes()),
        ("sep", format!("sep=,\n{text}").into_bytes()),
    ];
    let semicolons =
        "Utilisateur;Mot de passe;Adresse;Canal\nadmin;12345;10.0.0.5;101\nadmin;p,w;10.0.0.6:8080;101,201\n";
    sheets.push(("semicolons", semicolons.to_owned().into_bytes()));
    sheets.push(("tabs", semicolons.replace(';', "\t").into_bytes()));
    for (what, bytes) in &sheets {
        let sheet = accepted(what, bytes);
        let expected = [
            ("admin", "12345", "10.0.0.5", &ids(&["101"]), Wanted::Today),
            ("admin", "p,w", "10.0.0.6", &ids(&["101", "201"]), Wanted::Today),
        ];
        assert_eq!(sheet.tasks.iter().map(facts).collect::<Vec<_>>(), expected, "{what}");
        assert_eq!(sheet.tasks[1].port, Some(8080), "{what}");
        assert!(!format!("{sheet:?}").contains("12345"), "{what}: a password shows");
    }
    Ok(())
}

#[test]
fn one_sheet_is_read_alike_from_every_program() -> anyhow::Result<()> {
    let head = json!(["Notes", "Start time", "End", "Host", "User name", "Password", "Channels", "Concat", "Status"]);
    let row = |start, end| json!(["ворота 大门", start, end, "nvr.example", "экспорт", "00123", "1-3", true, "done"]);
    let date = |at: &str| json!({ "date": at, "shown": "dd.mm.yyyy hh:mm" });
    let dates = row(date("2026-11-19T08:00:00"), date("2026-11-19T17:40:00"));
    // A password in cells that show leading zeros is a number beneath.
    let mut zeros = dates.clone();
    zeros[5] = json!({ "number": 123, "shown": "00000" });
    let texts = row(json!("19.11.2026 8:00"), json!("2026-11-19T17:40:00"));
    let csv = |rows: &[[&str; 9]], separator: &str| {
        let lines: Vec<String> = rows.iter().map(|row| row.join(separator)).collect();
        lines.join("\r\n").into_bytes()
    };
    let english = ["Notes", "Start time", "End", "Host", "User name", "Password", "Channels", "Concat", "Status"];
    let plain = [
        "ворота 大门",
        "2026-11-19 08:00",
        "2026/11/19 5:40 PM",
        "nvr.example",
        "экспорт",
        "00123",
        "\"1,2,3\"",
        "yes",
        "done",
    ];
    let named = json!({
        "tasks": [{
            "notes": "ворота 大门", "start": "2026-11-19 08:00", "end": "2026-11-19 17:40", "host": "nvr.example",
            "user": "экспорт", "password": "00123", "channels": [1, 2, 3], "concat": true, "status": null,
        }]
    });
    let sheets = [
        ("openpyxl", openpyxl(&json!({ "rows": [head, dates] }))?),
        ("openpyxl, dates from 1904", openpyxl(&json!({ "rows": [head, dates], "macintosh": true }))?),
        ("openpyxl, a number with zeros", openpyxl(&json!({ "rows": [head, zeros] }))?),
        ("openpyxl, dates as texts, behind empty rows", openpyxl(&json!({ "rows": [[], head, [], texts] }))?),
        ("commas", csv(&[english, plain], ",")),
        ("semicolons", csv(&[english, plain], ";")),
        ("tabs and a BOM", [b"\xef\xbb\xbf".to_vec(), csv(&[english, plain], "\t")].concat()),
        ("JSON", named.to_string().into_bytes()),
        ("JSON, a bare list", named["tasks"].to_string().into_bytes()),
        ("as LibreOffice writes it", libreoffice()),
    ];
    let at = |at| Some(Moment::Wall(at));
    let wanted = Wanted::Between(at(datetime!(2026-11-19 08:00)), at(datetime!(2026-11-19 17:40)));
    let tracks = Tracks::Channels(vec![1, 2, 3], Stream::Main);
    for (what, bytes) in &sheets {
        let sheet = accepted(what, bytes);
        let [task] = &sheet.tasks[..] else { panic!("{what}: {} tasks", sheet.tasks.len()) };
        assert_eq!(facts(task), ("экспорт", "00123", "nvr.example", &tracks, wanted), "{what}");
        assert_eq!(task.notes.as_deref(), Some("ворота 大门"), "{what}");
        assert!(matches!(task.form, framehaul::export::Form::Joined { .. }), "{what}");
    }
    Ok(())
}

/// The same with what LibreOffice does otherwise: formulas with their values, runs of text, readings above characters, booleans,
/// a sheet before it that is hidden.
fn libreoffice() -> Vec<u8> {
    let shared = [
        "<t>Notes</t>",
        "<t>Start time</t>",
        "<t>End</t>",
        "<t>Host</t>",
        "<t>User name</t>",
        "<t>Password</t>",
        "<t>Channels</t>",
        "<t>Concat</t>",
        "<r><t xml:space=\"preserve\">ворота </t></r><r><rPr><b/></rPr><t>大门</t></r><rPh sb=\"0\" eb=\"1\"><t>だいもん</t></rPh>",
        "<t>nvr.example</t>",
        "<t>00123</t>",
        "<t>1&#45;3</t>",
    ];
    let shared: String = shared.iter().map(|text| format!("<si>{text}</si>")).collect();
    let heads: String =
        (0..8u8).map(|n| format!("<c r=\"{}1\" s=\"0\" t=\"s\"><v>{n}</v></c>", char::from(b'A' + n))).collect();
    let rows = format!(
        "<row r=\"1\">{heads}</row><row r=\"3\"><c r=\"A3\" t=\"s\"><v>8</v></c>\
         <c r=\"B3\" s=\"1\"><f aca=\"false\">DATE(2026,11,19)+1/3</f><v>46345.3333333333</v></c>\
         <c r=\"C3\" s=\"1\"><v>46345.7361111111</v></c><c r=\"D3\" t=\"s\"><v>9</v></c>\
         <c r=\"E3\" t=\"str\"><f aca=\"false\">\"экс\"&amp;\"порт\"</f><v>экспорт</v></c>\
         <c r=\"F3\" t=\"s\"><v>10</v></c><c r=\"G3\" t=\"s\"><v>11</v></c><c r=\"H3\" t=\"b\"><v>1</v></c></row>"
    );
    workbook(&rows, &shared, "")
}

#[test]
fn what_each_column_says_arrives() -> anyhow::Result<()> {
    let args = "hikload --server 10.0.0.9:8080 --username u --password 'canary,1' --cameras 101,201 --yesterday --concat \
                --videoformat mkv --force --downloads /srv/clips";
    let sheet = accepted("args", &serde_json::to_vec(&json!([{ "args": args }]))?);
    let task = &sheet.tasks[0];
    assert_eq!(facts(task), ("u", "canary,1", "10.0.0.9", &ids(&["101", "201"]), Wanted::Yesterday));
    assert_eq!((task.port, task.bucket.as_deref()), (Some(8080), Some("file:///srv/clips")));
    assert_eq!(task.remarks.len(), 1, "{:?}", task.remarks);
    let shown =
        made::check(Path::new("args.json"), &serde_json::to_vec(&json!([{ "args": args }]))?, &["--format", "json"])?;
    assert!(
        shown.status == 0 && !shown.out.contains("canary") && !shown.err.contains("canary"),
        "{}{}",
        shown.out,
        shown.err
    );
    let table = made::check(Path::new("args.json"), &serde_json::to_vec(&json!([{ "args": args }]))?, &[])?;
    assert!(
        table.out.contains("101,201") && table.out.contains("one mkv") && table.out.contains("yesterday"),
        "{}",
        table.out
    );
    assert!(!table.out.contains("canary"), "{}", table.out);

    let all = json!([{
        "id": "Магазин 1", "enabled": "да", "host": "https://nvr", "port": 8443, "tls": "unverified", "user": "u",
        "password_file": "/etc/p", "tracks": "10001", "range": "days", "days": 3.0, "time_basis": "utc",
        "zone": "Europe/Berlin", "event": "MOTION", "transport": "rtsp", "frame_every": "5", "max_seconds": 60,
        "name_template": "{camera}/{start}-{track}", "bucket": "gs://b/c", "prefix": "/d/e/", "sessions": 2,
        "bandwidth": "2MiB", "hours": "22:00-06:00", "settle": "2m", "retries": 0, "timeout": 5, "dry_run": true,
        "notes": "n", "status": "done", "bytes": 12,
    }]);
    let shown = made::check(Path::new("all.json"), &serde_json::to_vec(&all)?, &["--format", "json"])?;
    let shown: serde_json::Value = serde_json::from_str(&shown.out)?;
    let expected = json!({
        "row": 1, "id": "Магазин 1", "enabled": true, "host": "nvr", "port": 8443, "scheme": "https", "tls": "unverified",
        "user": "u", "password_set": false, "password_file": "/etc/p", "channels": null, "tracks": ["10001"],
        "stream": "main", "range": "days", "start": null, "end": null, "days": 3, "time_basis": "utc",
        "zone": "Europe/Berlin", "event": "MOTION", "transport": "rtsp", "container": "jpeg", "concat": false, "trim": false,
        "skip_seconds": 0.0, "max_seconds": 60.0, "frame_every": 5.0, "layout": null, "name_prefix": null,
        "name_template": "{camera}/{start}-{track}", "bucket": "gs://b/c/d/e", "prefix": null, "sessions": 2,
        "bandwidth": 2_097_152, "hours": "22:00-06:00", "settle": 120.0, "retries": 0, "timeout": 5.0, "dry_run": true,
        "notes": "n", "remarks": [],
    });
    assert_eq!(shown["tasks"][0], expected);
    Ok(())
}

#[test]
fn every_option_of_hikload_has_a_place_in_a_sheet() {
    let base = "--server 10.0.0.9 --username u --password p";
    for option in [
        "--starttime 2026-11-19T00:00:00 --endtime 2026-11-19T23:59:59",
        "--days 3",
        "--yesterday",
        "--allrecordings",
        "--cameras 101",
        "--folders onepercamera",
        "--downloads /srv/x",
        "--videoformat mkv",
        "--forcetranscoding",
        "--seconds 10",
        "--skipseconds 5",
        "--ffmpeg",
        "--force",
        "--frames 25",
        "--photos",
        "--skipdownload",
        "--localtimefilenames",
        "--debug",
        "--videoname shop-",
        "--concat --trim",
        "--httptimeout 30",
        "--skipexisting",
    ] {
        let line = json!([{ "args": format!("{base} {option}") }]).to_string();
        let sheet = accepted(option, line.as_bytes());
        // Nobody has said where to, but in one of them.
        assert_eq!(sheet.tasks[0].bucket.is_some(), option.starts_with("--downloads"), "{option}");
    }
    for (option, word) in [("--ui", "--ui cannot be had"), ("--starttime yesterday", "--starttime is no date")] {
        let told = refused(option, json!([{ "args": format!("{base} {option}") }]).to_string().as_bytes()).to_string();
        assert!(told.starts_with("row 1 (`args`): ") && told.contains(word), "{told}");
    }
}
