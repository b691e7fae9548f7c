//! Those who are no worker of ours: the client of the original, and a shell script.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use http::Method;
use serde_json::{Value, json};
use testbed::contest::python;
use testbed::nvr::Knobs;

use crate::gateway::{Gateway, PAGE, Way, answer};
use crate::stage::{PASSWORD, PROGRAM, Stage, expected, recorder, rows, until};

const TASKS: u32 = 20;
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/worker.sh");
const ARTICLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testbed/clients/article.py");
const REQUIREMENTS: &str = include_str!("../../testbed/tests/recorder_clients/requirements.txt");

/// The path of programs, with a directory before all others.
fn path_with(first: &Path) -> std::ffi::OsString {
    let others = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths([first.to_owned()].into_iter().chain(std::env::split_paths(&others))).expect("they are paths")
}

/// hikload as it comes from PyPI, in an environment that the test bed's own tests have too.
fn hikload() -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let lock = File::create(root.join("recorder-clients.lock")).expect("a file");
    lock.lock().expect("it can be locked");
    let python = python::environment(&root.join("recorder-clients"), REQUIREMENTS).expect("hikload is installed");
    python.parent().expect("it lies in a directory").to_owned()
}

/// Runs the script to its end: what it said.
#[track_caller]
fn script(stage: &Stage, server: &str) -> String {
    let mut command = Command::new(SCRIPT);
    command.arg(server).arg(stage.token_file("worker"));
    command.arg(format!("file://{}", stage.out().display())).stdin(Stdio::null());
    // What it leaves behind would lie here.
    let dir = stage.path().join("temporary");
    fs::create_dir_all(&dir).expect("a directory");
    command.env("TMPDIR", &dir).env("NO_PROXY", "127.0.0.1");
    command.env("PATH", path_with(Path::new(PROGRAM).parent().expect("it lies in a directory")));
    let output = command.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let left = fs::read_dir(&dir).expect("it is there").map(|entry| entry.expect("it can be read").path());
    let left: Vec<_> = left.collect();
    assert!(left.is_empty(), "passwords are not left behind: {left:?}: {said}");
    stage.has_no_secret(&[&said]);
    said
}

#[test]
fn a_script_of_a_few_lines_drains_a_queue() {
    assert!(fs::read_to_string(SCRIPT).unwrap().lines().count() <= 15);
    let (stage, server) = (Stage::new(""), recorder(TASKS, 2, Knobs::default()));
    let job = stage.job(&rows(&server, TASKS, 1));
    let said = script(&stage, stage.daemon.address());
    let state = stage.state(&job);
    assert_eq!((&state["state"], &state["counts"]["done"]), (&json!("done"), &json!(TASKS)), "{state}: {said}");
    assert_eq!((&state["found"], &state["downloaded"], &state["failed"]), (&json!(40), &json!(40), &json!(0)));
    let stored = stage.stored();
    assert_eq!(stored, expected(&server), "{said}");
    println!(
        "\nfigure: {}",
        json!({ "client": "docs/worker.sh", "tasks_done": TASKS, "byte_identical": stored.len() })
    );
}

#[test]
fn the_script_does_what_a_row_says() {
    let (stage, server) = (Stage::new(""), recorder(7, 2, Knobs::default()));
    let mut rows = rows(&server, 7, 1);
    let elsewhere = stage.path().join("elsewhere");
    rows[0]["password"] = json!(format!("wrong-{PASSWORD}"));
    rows[1]["bucket"] = json!(format!("file://{}", elsewhere.display()));
    rows[1]["prefix"] = json!("case-12");
    rows[2]["prefix"] = json!("shop");
    rows[2]["layout"] = json!("camera");
    rows[2]["name_prefix"] = json!("x_");
    rows[3]["container"] = json!("mkv");
    rows[3]["concat"] = json!("yes");
    let file = stage.path().join("recorder.password");
    fs::write(&file, PASSWORD).unwrap();
    rows[4].as_object_mut().unwrap().remove("password");
    rows[4]["password_file"] = json!(file);
    rows[5]["end"] = json!("2026-11-19 00:10");
    for row in &mut rows[6..] {
        let row = row.as_object_mut().unwrap();
        row.retain(|name, _| !["start", "end"].contains(&name.as_str()));
        row.insert("range".to_owned(), json!("all"));
        row.insert("notes".to_owned(), json!("two\nlines"));
        row.insert("settle".to_owned(), json!("0"));
    }
    let job = stage.job(&rows);
    let said = script(&stage, stage.daemon.address());
    assert!(said.contains("failed (auth, for good)"), "{said}");
    let tasks = stage.tasks(&job);
    let state = |task: &Value| (task["state"].as_str().map(str::to_owned), task["attempts"].as_u64());
    assert_eq!(state(&tasks[0]), (Some("failed".to_owned()), Some(1)), "a wrong password is tried once: {}", tasks[0]);
    assert_eq!(tasks[0]["error"]["kind"], "auth", "{}", tasks[0]);
    assert!(server.stats().logins.wrong <= 2, "{:?}", server.stats().logins);
    for task in &tasks[1..7] {
        assert_eq!(state(task), (Some("done".to_owned()), Some(1)), "{task}: {said}");
    }
    let found = |task: usize| tasks[task]["result"]["downloaded"].as_u64();
    assert_eq!([1, 2, 4, 5, 6].map(found), [Some(2), Some(2), Some(2), Some(1), Some(2)], "{tasks:?}");
    let films: Vec<String> = stage.stored().into_keys().filter(|name| name.contains("/mkv/")).collect();
    assert!(films.len() == 1 && films[0].ends_with(".mkv"), "two recordings are one film: {films:?}");
    let dir = server.host().replace(':', "_");
    assert_eq!(fs::read_dir(elsewhere.join("case-12").join(&dir)).unwrap().count(), 3, "two recordings and their list");
    let shop: Vec<String> = stage.stored().into_keys().filter(|name| name.starts_with("shop/")).collect();
    assert_eq!(shop.len(), 2);
    assert!(shop.iter().all(|name| name.starts_with(&format!("shop/{dir}/Camera 3/x_"))), "{shop:?}");
}

#[test]
fn the_script_holds_its_task_though_heartbeats_fail_and_lets_go_of_one_that_is_called_off() {
    let slow = Knobs { bytes_per_s: Some(15_000), ..Knobs::default() };
    let (stage, server) = (Stage::new("[tasks]\nlease = \"6s\"\n"), recorder(1, 3, slow));
    let job = stage.job(&rows(&server, 1, 1));
    let gateway = Gateway::start(stage.daemon.address());
    let (beats, words) = (AtomicU32::new(0), Arc::new(AtomicU32::new(0)));
    let counted = words.clone();
    gateway.set(move |request| match () {
        // All but every second one.
        () if request.contains("/heartbeat HTTP") && beats.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) => {
            Way::Answered(PAGE.to_owned())
        }
        // Later, both of them say; the last word is not lost by that.
        () if request.contains("/complete HTTP") => match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Way::Answered(PAGE.replace("404 Not Found", "408 Request Timeout")),
            1 => Way::Answered(PAGE.replace("404 Not Found", "429 Too Many Requests")),
            _ => Way::On,
        },
        () => Way::On,
    });
    let said = script(&stage, gateway.address());
    assert_eq!(words.load(Ordering::SeqCst), 3, "{said}");
    let task = &stage.tasks(&job)[0];
    assert_eq!((&task["state"], &task["attempts"]), (&json!("done"), &json!(1)), "{task}: {said}");
    assert_eq!(stage.stored(), expected(&server));

    server.change_knobs(|knobs| knobs.bytes_per_s = Some(3_000)).unwrap();
    fs::remove_dir_all(stage.out()).unwrap();
    let job = stage.job(&rows(&server, 1, 1));
    std::thread::scope(|scope| {
        let running = scope.spawn(|| script(&stage, stage.daemon.address()));
        until("it fetches", || server.stats().downloads.sessions > 0);
        stage.call(Method::POST, &format!("/api/v1/exports/{job}/cancel"), None);
        running.join().expect("it ends");
    });
    assert_eq!(stage.tasks(&job)[0]["state"], "cancelled");
    until("the recorder is left alone", || server.stats().downloads.sessions == 0);
}

#[test]
fn the_script_goes_by_the_day_on_which_a_task_was_asked_for() {
    let (stage, server) = (Stage::new(""), recorder(1, 2, Knobs::default()));
    let gateway = Gateway::start(stage.daemon.address());
    // Nobody can wait here for midnight: a server that hands out a task of some days ago.
    let lease = json!({
        "id": "a-1", "number": 1, "expires_at": "2026-11-20T12:00:20Z", "lives": "20s", "heartbeat": "5s",
        "task": {
            "id": "1", "job": "1", "row": 1, "attempt": 1, "server": format!("http://{}", server.host()),
            "username": "admin", "password": PASSWORD, "channel": "101", "from": null, "until": null,
            "asked_at": "2026-11-20T12:00:00.000001Z", "to": null, "options": { "range": "yesterday" },
        },
    });
    let words = Arc::<Mutex<Vec<String>>>::default();
    let heard = words.clone();
    gateway.set(move |request| {
        let mut words = heard.lock().expect("nobody panics with it");
        if request.contains("/heartbeat HTTP") {
            return Way::Answered(answer("200 OK", r#"{"expires_at":"2026-11-20T12:00:40Z","cancel":false}"#));
        }
        words.push(request.to_owned());
        Way::Answered(match words.len() {
            1 => answer("200 OK", &lease.to_string()),
            2 => answer("200 OK", "{}"),
            _ => "HTTP/1.1 204 No Content\r\nframehaul-tasks: none\r\nconnection: close\r\n\r\n".to_owned(),
        })
    });
    let said = script(&stage, gateway.address());
    let words = words.lock().unwrap();
    assert!(words[1].starts_with("POST /api/v1/leases/a-1/complete HTTP") && words.len() == 3, "{words:?}: {said}");
    assert_eq!(stage.stored(), expected(&server), "{said}");
}

#[test]
fn the_client_of_the_original_drains_a_queue() {
    let (stage, server) = (Stage::new(""), recorder(TASKS, 2, Knobs::default()));
    // A line says no span: who asks for lines has one of his own.
    let mut rows = rows(&server, TASKS, 2);
    for row in rows.iter_mut().filter_map(Value::as_object_mut) {
        row.retain(|name, _| name != "start" && name != "end");
    }
    let job = stage.job(&rows);
    let dir = stage.path().join("article");
    fs::create_dir(&dir).unwrap();
    let mut command = Command::new("python3");
    command.arg(ARTICLE).arg(stage.daemon.address()).arg(stage.token_file("worker"));
    command.args(["--starttime", "2026-11-19T00:00:00", "--endtime", "2026-11-19T23:59:59"]);
    command.env("PATH", path_with(&hikload())).env("NO_PROXY", "127.0.0.1").env("HOME", &dir);
    let output = command.env_remove("RUNNING_IN_DOCKER").current_dir(&dir).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let state = stage.state(&job);
    assert_eq!((&state["state"], &state["counts"]["done"]), (&json!("done"), &json!(TASKS)), "{state}: {said}");

    let mut found = BTreeMap::new();
    for folder in fs::read_dir(&dir).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir()) {
        for file in fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
            let bytes = fs::read(file.path()).unwrap();
            let name = format!("{}/{}", server.host().replace(':', "_"), file.file_name().to_str().unwrap());
            found.insert(name, (bytes.len(), crc32c::crc32c(&bytes)));
        }
    }
    assert_eq!(found, expected(&server), "{said}");
    stage.has_no_secret(&[]);
    println!("\nfigure: {}", json!({ "client": "the article's", "tasks_done": TASKS, "byte_identical": found.len() }));
}

#[test]
fn a_task_that_somebody_else_holds_is_done_and_its_last_word_written() {
    let server = recorder(1, 2, Knobs::default());
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().join("out");
    let lease = |password: &str| {
        json!({
            "id": "a-1", "number": 17, "expires_at": "2026-11-20T12:00:20Z", "lives": "20s", "heartbeat": "5s",
            "task": {
                "id": "1", "job": "1", "row": 3, "attempt": 1, "server": format!("http://{}", server.host()),
                "username": "admin", "password": password, "channel": "101", "from": null, "until": null, "to": null,
                "options": { "range": "all" },
            },
        })
    };
    let run = |text: &str| {
        let file = dir.path().join("lease.json");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["worker", "--to", &format!("file://{}", place.display()), "--lease"]).arg(&file);
        let output = command.stdin(Stdio::null()).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!said.contains(PASSWORD), "{said}");
        (output.status.code(), serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default(), said)
    };
    let bytes: usize = expected(&server).values().map(|(bytes, _)| bytes).sum();
    let done = |downloaded: u32, there: u32, bytes: usize| {
        json!({
            "number": 17,
            "result": { "found": 2, "downloaded": downloaded, "there": there, "failed": 0, "bytes": bytes },
        })
    };
    let (code, word, said) = run(&lease(PASSWORD).to_string());
    assert_eq!((code, word), (Some(0), done(2, 0, bytes)), "{said}");
    let (code, word, said) = run(&lease(PASSWORD).to_string());
    assert_eq!((code, word), (Some(0), done(0, 2, 0)), "nothing is fetched twice: {said}");
    let (code, word, said) = run(&lease(&format!("wrong-{PASSWORD}")).to_string());
    assert_eq!((code, &word["kind"], &word["retry"]), (Some(65), &json!("auth"), &json!(false)), "{word}: {said}");
    assert_eq!(word["number"], 17);
    assert!(!word.to_string().contains(PASSWORD), "{word}");
    let (code, word, said) = run(&json!({ "id": PASSWORD, "task": PASSWORD }).to_string());
    assert_eq!((code, word), (Some(78), Value::Null), "{said}");
    assert!(said.contains("POST /api/v1/leases"), "{said}");
}
