//! Workers that are told to end, tasks that are cancelled, and servers that are away or refuse.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use http::Method;
use rustix::process::Signal;
use serde_json::json;
use testbed::nvr::Knobs;
use testbed::tls::TlsFront;

use crate::gateway::{Gateway, Way, answer};
use crate::stage::{PASSWORD, PROGRAM, Running, Stage, expected, recorder, rows, run, until};

#[test]
fn a_worker_that_is_told_to_end_gives_back_what_it_holds() {
    // A recording takes longer than it gets at the end.
    let (stage, server) = (Stage::new(""), recorder(1, 4, Knobs { bytes_per_s: Some(4_000), ..Knobs::default() }));
    let job = stage.job(&rows(&server, 1, 1));
    let worker = Running::start(stage.worker("w", &["--parallel", "2", "--verbose"]));
    until("it fetches", || server.stats().downloads.sessions > 0);
    let told = Instant::now();
    worker.signal(Signal::TERM);
    let (status, summary, said) = worker.end();
    assert!(told.elapsed().as_secs() < 15, "{:?}", told.elapsed());
    assert_eq!((status.code(), &summary["given_back"]), (Some(0), &json!(1)), "{said}");
    assert!(!stage.has_halves(&server));
    let task = &stage.tasks(&job)[0];
    assert_eq!((&task["state"], &task["attempts"]), (&json!("queued"), &json!(0)), "it is no failed attempt: {task}");

    // The next one has it at once, and not when a lease is over.
    server.change_knobs(|knobs| knobs.bytes_per_s = None).unwrap();
    let begun = Instant::now();
    run(&mut stage.worker("w", &["--once"]), 0);
    assert!(begun.elapsed().as_secs() < 15, "{:?}", begun.elapsed());
    assert_eq!(stage.stored(), expected(&server));
    assert!(!stage.has_halves(&server));
}

#[test]
fn a_cancelled_task_is_let_go_of() {
    let more = "[tasks]\nlease = \"4s\"\n";
    let (stage, server) = (Stage::new(more), recorder(2, 4, Knobs { bytes_per_s: Some(2_000), ..Knobs::default() }));
    let job = stage.job(&rows(&server, 2, 1));
    let worker = Running::start(stage.worker("w", &["--parallel", "1", "--once"]));
    until("it fetches", || server.stats().downloads.sessions > 0);
    stage.call(Method::POST, &format!("/api/v1/exports/{job}/cancel"), None);
    let (status, summary, said) = worker.end();
    assert_eq!((status.code(), &summary["cancelled"], &summary["done"]), (Some(0), &json!(1), &json!(0)), "{said}");
    assert!(!stage.has_halves(&server));
    let states: Vec<_> = stage.tasks(&job).iter().map(|task| task["state"].clone()).collect();
    assert_eq!(states, ["cancelled", "cancelled"]);
    until("the recorder is left alone", || server.stats().downloads.sessions == 0);
}

#[test]
fn a_task_whose_login_was_refused_to_another_is_let_go_of_and_has_failed() {
    let (stage, server) = (Stage::new(""), recorder(1, 4, Knobs { bytes_per_s: Some(2_000), ..Knobs::default() }));
    let job = stage.job(&rows(&server, 1, 1));
    let gateway = Gateway::start(stage.daemon.address());
    let worker = Running::start(stage.worker_of(gateway.address(), "w", &["--parallel", "1", "--once"]));
    until("it fetches", || server.stats().downloads.sessions > 0);
    gateway.set(|request| match request.contains("/heartbeat HTTP") {
        true => Way::Answered(answer("200 OK", r#"{"expires_at":"2026-11-19T08:00:20Z","cancel":true,"why":"auth"}"#)),
        false => Way::On,
    });
    let (status, summary, said) = worker.end();
    assert!(said.contains("failed (auth, for good): the recorder has refused its login to another task"), "{said}");
    assert_eq!((status.code(), &summary["failed"], &summary["cancelled"]), (Some(65), &json!(1), &json!(0)), "{said}");
    // The server is not told of a refusal that this one has not had.
    let task = &stage.tasks(&job)[0];
    assert_eq!((&task["state"], &task["error"]["kind"]), (&json!("failed"), &json!("not_tried")), "{task}");
    until("the recorder is left alone", || server.stats().downloads.sessions == 0);
}

#[test]
fn a_refused_login_that_is_not_tried_again_so_soon_is_no_second_refusal() {
    let (stage, server) = (Stage::new(""), recorder(1, 2, Knobs::default()));
    let mut wrong = rows(&server, 1, 1);
    wrong[0]["password"] = json!(format!("wrong-{PASSWORD}"));
    let refused = stage.job(&wrong);
    let worker = Running::start(stage.worker("w", &["--parallel", "1", "--verbose"]));
    until("it is refused", || stage.tasks(&refused)[0]["state"] == "failed");
    assert_eq!(stage.tasks(&refused)[0]["error"]["kind"], "auth");
    let again = stage.job(&wrong);
    until("it is not tried", || worker.said().contains("failed (busy, it may be handed out again)"));
    let task = &stage.tasks(&again)[0];
    assert_eq!((&task["state"], &task["error"]["kind"]), (&json!("queued"), &json!("busy")), "{task}");
    assert_eq!(server.stats().logins.wrong, 1, "{}", worker.said());
    // Another password is another matter.
    let right = stage.job(&rows(&server, 1, 1));
    until("it is done", || stage.state(&right)["state"] == "done");
    worker.signal(Signal::TERM);
    let (status, summary, said) = worker.end();
    assert_eq!((status.code(), &summary["done"], &summary["failed"]), (Some(0), &json!(1), &json!(2)), "{said}");
    assert_eq!(server.stats().logins.wrong, 1, "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
}

#[test]
fn a_server_that_is_away_is_waited_for_with_a_word_for_each_state() {
    let (mut stage, server) = (Stage::new(""), recorder(1, 2, Knobs::default()));
    let job = stage.job(&rows(&server, 1, 1));
    let address = stage.daemon.address().trim_start_matches("http://").to_owned();
    let worker = stage.worker("w", &["--once"]);
    assert!(stage.daemon.stop().unwrap().success());
    let worker = Running::start(worker);
    until("it says so", || worker.said().contains("the server is away"));
    stage.daemon.env("FRAMEHAUL__HTTP__LISTEN", address);
    stage.daemon.run().unwrap();
    let (status, summary, said) = worker.end();
    assert_eq!((status.code(), &summary["done"]), (Some(0), &json!(1)), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("away") && lines[1] == "the server is back", "{said}");
    assert_eq!(stage.state(&job)["state"], "done");
}

#[test]
fn a_server_whose_certificate_nobody_vouches_for_gets_no_token() {
    let stage = Stage::new("");
    let address = stage.daemon.address();
    let port: u16 = address.rsplit(':').next().unwrap().parse().unwrap();
    let front = TlsFront::start(port).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["worker", "--once", "--server", &format!("https://127.0.0.1:{}", front.port()), "--token-file"]);
    let worker = Running::start({
        command.arg(stage.token_file("worker")).stdin(Stdio::null());
        command
    });
    until("it says why", || worker.said().contains("the server is away"));
    worker.signal(Signal::INT);
    let (status, _, said) = worker.end();
    assert!(said.to_lowercase().contains("certificate"), "{said}");
    assert_eq!(status.code(), Some(75), "{said}");
}

#[test]
fn a_token_that_opens_nothing_ends_it_and_is_not_sent_in_the_open() {
    let stage = Stage::new("");
    stage.make_token("read");
    let worker = |server: &str, token: &str, more: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(["worker", "--once", "--server", server, "--token-file"]).arg(stage.token_file(token));
        command.args(more).stdin(Stdio::null());
        command
    };
    let address = stage.daemon.address();
    let (_, told) = run(&mut worker(address, "read", &[]), 77);
    assert!(told.contains("scope"), "{told}");
    stage.write_token("wrong", "fh_wrong");
    run(&mut worker(address, "wrong", &[]), 77);
    let (_, told) = run(&mut worker(address, "none", &[]), 78);
    assert!(told.contains("cannot read token file"), "{told}");
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(stage.token_file("wrong"), open).unwrap();
    let (_, told) = run(&mut worker(address, "wrong", &[]), 78);
    assert!(told.contains("others can read it"), "{told}");

    // Not even a connection is made.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (_, told) = run(&mut worker(&format!("http://localhost.example:{port}"), "worker", &[]), 2);
    assert!(told.contains("--insecure"), "{told}");
    assert!(listener.accept().is_err());
    let (_, told) = run(&mut worker(address, "worker", &["--to", "ftp://host"]), 2);
    assert!(told.contains("gs://"), "{told}");
}
