//! Sheets in, in every form, and back.

use framehaul::sheet::{read, template_xlsx};
use serde_json::{Value, json};

use super::client::{Client, XLSX, row, set_up};

const ARTICLE: &str = "user1,pass1,10.0.0.5,101\nuser2,pass2,10.0.0.6,\"101,201\"\n";

#[test]
fn every_form_of_a_sheet_is_taken_and_given_back() -> anyhow::Result<()> {
    let (_stage, daemon, token) = set_up("")?;
    let (mut operator, mut worker) = (Client::operator(&daemon), Client::new(&daemon, &token));
    let semicolons = format!("\u{feff}{}", "user;password;host;channels\nu;p;10.1.0.1;1-2\n");
    let mut workbook = rust_xlsxwriter::Workbook::new();
    let sheet = workbook.add_worksheet();
    for (place, value) in (0..).zip(["u", "p", "10.2.0.1", "101"]) {
        sheet.write_string(0, place, value)?;
    }
    let workbook = workbook.save_to_buffer()?;
    for (kind, body, tasks) in [
        ("text/csv", ARTICLE.as_bytes(), 3),
        ("text/csv; charset=utf-8", semicolons.as_bytes(), 2),
        (XLSX, &workbook, 1),
        ("application/json", br#"{"tasks":[{"host":"10.3.0.1","user":"u","password":"p"}]}"#, 1),
    ] {
        let made = operator.send("POST", "/api/v1/exports?to=file:///recordings", kind, body)?.with(201);
        assert_eq!(made["tasks"], tasks, "{kind}: {made}");
    }
    let ids: Vec<String> = operator.get("/api/v1/exports?limit=3")?.with(200)["exports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["id"].as_str().unwrap().to_owned())
        .collect();
    assert!(ids.len() == 3 && ids.is_sorted(), "{ids:?}");
    let page = operator.get(&format!("/api/v1/exports?after={}", ids[2]))?.with(200);
    assert_eq!((page["exports"].as_array().unwrap().len(), &page["more"]), (1, &json!(false)), "{page}");

    let lease = worker.take("0s")?.expect("a task");
    assert_eq!(lease.0["task"]["username"], "user1");
    worker.complete(&lease)?.with(200);
    let lease = worker.take("0s")?.expect("a task");
    let failure = json!({ "kind": "unreachable", "message": "=cmd, it says", "retry": true, "after": "1h" });
    worker.say(&lease, "fail", &failure)?.with(200);
    let path = format!("/api/v1/exports/{}/tasks", ids[0]);
    let csv = operator.get(&format!("{path}?format=csv"))?;
    assert!(csv.status == 200 && csv.head.contains("text/csv") && csv.head.contains(&ids[0]), "{}", csv.head);
    let text = csv.text();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert!(names.contains(&"host") && names.contains(&"status") && !names.contains(&"password"), "{text}");
    let first: Vec<&str> = lines.next().unwrap().split(',').collect();
    let value = |name: &str| first[names.iter().position(|known| *known == name).unwrap()];
    assert_eq!(
        ["status", "found", "downloaded", "skipped", "failed", "bytes"].map(value),
        ["done", "3", "2", "1", "0", "1000"]
    );
    assert_eq!((value("bucket"), value("tracks"), value("last_error")), ("file:///recordings", "101", ""));
    assert!(text.contains("\"unreachable: =cmd, it says\"") && text.contains(",queued,"), "{text}");
    for secret in ["pass1", "pass2"] {
        assert!(!text.contains(secret), "{text}");
    }
    // With the passwords in it again, it asks for the same.
    let filled: Vec<String> =
        (0..).zip(text.lines()).map(|(n, line)| format!("{},{line}", if n == 0 { "password" } else { "p" })).collect();
    let tasks = read(filled.join("\n").as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}")).tasks;
    assert_eq!(tasks.iter().map(|task| task.channel()).collect::<Vec<_>>(), ["101", "101", "201"]);
    let workbook = operator.get(&format!("{path}?format=xlsx"))?;
    assert!(workbook.head.contains(XLSX) && workbook.body.starts_with(b"PK"), "{}", workbook.head);
    let fault = read(&workbook.body).unwrap_err().to_string();
    assert_eq!(fault, "row 1: there is no column `password`", "nothing else is missing");
    operator.get(&format!("{path}?format=pdf"))?.with(400);
    operator.get(&format!("{path}?format=csv&limit=1"))?.with(400);
    Ok(())
}

#[test]
fn of_a_wrong_sheet_nothing_is_accepted() -> anyhow::Result<()> {
    let (_stage, daemon, token) = set_up("")?;
    let (mut operator, mut worker) = (Client::operator(&daemon), Client::new(&daemon, &token));
    let csv = "host,user,password,channels,start\n10.0.0.5,u,s3cret,1,2026-11-19\n10.0.0.6,u,s3cret,gate,03/04/2026\n,u,s3cret,1,\n";
    let refused = operator.send("POST", "/api/v1/exports", "text/csv", csv.as_bytes())?.with(422);
    let mut places: Vec<(u64, &str, &str)> = refused["faults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| {
            (fault["row"].as_u64().unwrap(), fault["column"].as_str().unwrap(), fault["name"].as_str().unwrap())
        })
        .collect();
    places.sort_unstable();
    assert_eq!(places, [(3, "D", "channels"), (3, "E", "start"), (4, "A", "host")], "{refused:#}");
    assert!(refused["more_faults"] == 0 && !refused.to_string().contains("s3cret"), "{refused}");
    let rows: Vec<Value> = (0..1_500).map(|n| json!({ "host": format!("10.0.{}.{}", n / 250, n % 250) })).collect();
    let refused = operator.post("/api/v1/exports", &json!(rows))?.with(422);
    assert_eq!((refused["faults"].as_array().unwrap().len(), &refused["more_faults"]), (1_000, &json!(2_000)));

    let many: Vec<Value> = (0..1_100).map(|n| row(&format!("10.0.{}.{}", n / 250, n % 250), "1-99", "p")).collect();
    for (kind, body, told) in [
        ("application/json", b"[]".to_vec(), "no task in it"),
        ("application/json", json!(many).to_string().into_bytes(), "more than 100000 tasks"),
        ("application/json", b"{".to_vec(), "breaks in line 1"),
        ("text/csv", b"\xff\xfe".to_vec(), "UTF-16"),
        (XLSX, b"PK\x03\x04 and no more".to_vec(), ""),
        (XLSX, template_xlsx()?, "switched on"),
    ] {
        let refused = operator.send("POST", "/api/v1/exports", kind, &body)?.with(422);
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.starts_with("nothing of the sheet is accepted") && detail.contains(told), "{refused}");
        assert_eq!(refused["faults"], json!([]), "{refused}");
    }
    let good = row("10.0.0.5", "1", "p");
    for to in ["nowhere", "ftp://x", "gs://"] {
        operator.post(&format!("/api/v1/exports?to={to}"), &json!([good]))?.with(400);
    }
    operator.post("/api/v1/exports?two=gs://b", &json!([good]))?.with(400);
    let long = vec![b' '; (32 << 20) + 1];
    operator.send("POST", "/api/v1/exports", "application/json", &long)?.with(413);
    assert_eq!(operator.get("/api/v1/exports")?.with(200)["exports"], json!([]));
    assert!(worker.take("0s")?.is_none());
    Ok(())
}
