//! A recorder's password: with the holder of the lease, in the file that is made for it, and nowhere else.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::client::{Client, row, set_up};

const CANARY: &str = "p%40:/#w";

fn files_below(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(files_below(&path)?) } else { files.push(path) }
    }
    Ok(files)
}

fn holds(bytes: &[u8]) -> bool {
    // As it is, as JSON has it, and as a URL has it.
    [CANARY, "p%40:\\/#w", "p%2540%3A%2F%23w"]
        .iter()
        .any(|form| bytes.windows(form.len()).any(|part| part == form.as_bytes()))
}

#[test]
fn a_recorders_password_is_with_the_holder_of_the_lease_alone() -> anyhow::Result<()> {
    let (stage, mut daemon, token) = set_up("[log]\nfilter = \"info,framehaul=trace\"")?;
    let (mut operator, mut worker) = (Client::operator(&daemon), Client::new(&daemon, &token));
    let mut wrong = row("10.0.0.5", "1", CANARY);
    wrong["start"] = json!(CANARY);
    let refused = operator.post("/api/v1/exports", &json!([wrong]))?;
    assert!(refused.status == 422 && !holds(&refused.body), "{refused:?}");
    let csv = format!("host,user,password,notes\n10.0.0.6,export,{CANARY},shop\n");
    let id = operator.export(&json!([row("10.0.0.5", "1-2", CANARY), row("10.0.0.7", "1", "another")]))?;
    let other = operator.send("POST", "/api/v1/exports", "text/csv", csv.as_bytes())?.with(201);
    let other = other["id"].as_str().unwrap().to_owned();

    let lease = worker.take("0s")?.expect("a task");
    assert_eq!(lease.0["task"]["password"], CANARY);
    // Not even where a worker repeats it.
    let message = format!("cannot open rtsp://export:p%2540%3A%2F%23w@10.0.0.5/ with {CANARY}");
    let failure = json!({ "kind": "protocol", "message": message, "retry": true, "after": "0s" });
    let said = worker.say(&lease, "fail", &failure)?;
    assert!(said.status == 200 && !holds(&said.body), "{said:?}");
    // Nor a half of it, where the reason is cut.
    let half = worker.take("0s")?.expect("the task again");
    let message = format!("{}{CANARY}", "x".repeat(1_000 - 5));
    let failure = json!({ "kind": "protocol", "message": message, "retry": true, "after": "0s" });
    worker.say(&half, "fail", &failure)?.with(200);
    let told = operator.get(&format!("/api/v1/exports/{id}/tasks"))?.with(200)["tasks"][0]["error"]["message"].clone();
    let told = told.as_str().unwrap();
    assert!(told.len() == 1_000 - 5 + 3 || told.len() == 1_000, "{} characters", told.len());
    assert!(!told.contains(&CANARY[..3]), "{told}");
    let again = worker.take("0s")?.expect("the task again");
    for word in ["heartbeat", "complete"] {
        let answer = worker.say(&again, word, &json!({}))?;
        assert!(answer.status == 200 && !holds(&answer.body), "{answer:?}");
    }
    let seen = |operator: &mut Client| -> anyhow::Result<()> {
        for id in [&id, &other] {
            for path in [
                format!("/api/v1/exports/{id}"),
                format!("/api/v1/exports/{id}/tasks"),
                format!("/api/v1/exports/{id}/tasks?format=csv"),
                format!("/api/v1/exports/{id}/tasks?format=xlsx"),
            ] {
                let answer = operator.get(&path)?;
                assert_eq!(answer.status, 200, "{path}");
                assert!(!holds(&answer.body) && !holds(&unpacked(&answer.body)?), "{path} holds the password");
            }
        }
        for path in ["/api/v1/exports", "/metrics"] {
            assert!(!holds(&operator.get(path)?.body), "{path} holds the password");
        }
        Ok(())
    };
    seen(&mut operator)?;
    let errors = operator.get(&format!("/api/v1/exports/{id}/tasks"))?.with(200).to_string();
    assert!(!errors.contains("export:p%"), "{errors}");

    // Over a restart it is still there for whoever takes the next task.
    daemon.kill()?;
    daemon.run()?;
    let (mut operator, mut worker) = (Client::operator(&daemon), Client::new(&daemon, &token));
    seen(&mut operator)?;
    let next = worker.take("0s")?.expect("a task");
    assert_eq!(next.0["task"]["password"], CANARY);
    let secrets = stage.dir().join("state/export-secrets");
    let with_it: Vec<PathBuf> =
        files_below(stage.dir())?.into_iter().filter(|path| fs::read(path).is_ok_and(|bytes| holds(&bytes))).collect();
    assert!(with_it.len() == 2 && with_it.iter().all(|path| path.starts_with(&secrets)), "{with_it:?}");
    let arguments = fs::read(format!("/proc/{}/cmdline", daemon.pid()))?;
    let environment = fs::read(format!("/proc/{}/environ", daemon.pid()))?;
    assert!(!holds(&arguments) && !holds(&environment));

    for id in [&id, &other] {
        operator.post(&format!("/api/v1/exports/{id}/cancel"), &Value::Null)?.with(200);
    }
    worker.say(&next, "fail", &json!({ "kind": "cancelled", "message": "so", "retry": false }))?.with(200);
    for id in [&id, &other] {
        operator.send("DELETE", &format!("/api/v1/exports/{id}"), "", &[])?.with(204);
    }
    daemon.stop()?;
    for path in files_below(stage.dir())? {
        assert!(!fs::read(&path).is_ok_and(|bytes| holds(&bytes)), "{} holds the password", path.display());
    }
    Ok(())
}

/// The parts of a workbook; nothing of what is none.
fn unpacked(bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut all = Vec::new();
    if bytes.starts_with(b"PK") {
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes))?;
        for place in 0..archive.len() {
            std::io::copy(&mut archive.by_index(place)?, &mut all)?;
        }
    }
    Ok(all)
}
