//! Answers that make no sense, come late, or refuse: what workers have in hand outlives all that is not the server's word.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use testbed::nvr::Knobs;

use crate::gateway::{Gateway, PAGE, Way};
use crate::stage::{Running, SHORT, Stage, expected, recorder, rows, run, until};

/// The server's own refusal of a token.
const REFUSAL: &str = "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/problem+json\r\ncontent-length: 51\r\n\
                       connection: close\r\n\r\n{\"title\":\"Unauthorized\",\"detail\":\"no such token\"}\r\n";

/// Whether a request takes a task.
fn takes(request: &str) -> bool {
    request.starts_with("POST /api/v1/leases HTTP")
}

#[test]
fn a_gateways_page_in_place_of_an_answer_costs_nothing_that_is_in_hand() {
    let slow = Knobs { bytes_per_s: Some(60_000), ..Knobs::default() };
    let (stage, server) = (Stage::new("[tasks]\nlease = \"30s\"\n"), recorder(2, 3, slow));
    let job = stage.job(&rows(&server, 2, 2));
    let gateway = Gateway::start(stage.daemon.address());
    let pages = Arc::<AtomicU32>::default();
    let page = {
        let pages = pages.clone();
        move |request: &str| {
            pages.fetch_add(u32::from(!takes(request)), Ordering::SeqCst);
            Way::Answered(PAGE.to_owned())
        }
    };
    gateway.set(page.clone());
    let worker = Running::start(stage.worker_of(gateway.address(), "w", &["--once", "--parallel", "3"]));
    until("it says so", || worker.said().contains("answers 404 Not Found, and not as a server of tasks does"));
    gateway.set(|_| Way::On);
    until("it fetches", || server.stats().downloads.sessions > 0);
    // Two slots have a task, the third one asks for one: all of them get a page.
    gateway.set(page);
    until("what is said of tasks is answered oddly", || pages.load(Ordering::SeqCst) >= 2);
    gateway.set(|_| Way::On);
    server.change_knobs(|knobs| knobs.bytes_per_s = None).unwrap();
    let (status, summary, said) = worker.end();
    assert_eq!((status.code(), &summary["done"], &summary["lost"]), (Some(0), &json!(2), &json!(0)), "{said}");
    assert!(stage.tasks(&job).iter().all(|task| task["attempts"] == 1), "{said}");
    assert_eq!(stage.stored(), expected(&server));
    assert_eq!(server.stats().downloads.again, 0, "nothing was dropped");
}

#[test]
fn a_token_that_is_refused_ends_the_worker_when_what_its_other_slots_have_is_done() {
    let (stage, server) = (Stage::new(""), recorder(1, 4, Knobs { bytes_per_s: Some(60_000), ..Knobs::default() }));
    let job = stage.job(&rows(&server, 1, 1));
    let gateway = Gateway::start(stage.daemon.address());
    let worker = Running::start(stage.worker_of(gateway.address(), "w", &["--parallel", "2"]));
    until("it fetches", || server.stats().downloads.sessions > 0);
    // Somebody else's 401 is no word of the server's.
    let login = PAGE.replace("404 Not Found", "401 Unauthorized");
    gateway.set(move |request| if takes(request) { Way::Answered(login.clone()) } else { Way::On });
    until("it is waited for", || worker.said().contains("answers 401 Unauthorized, and not as"));
    gateway.set(|request| if takes(request) { Way::Answered(REFUSAL.to_owned()) } else { Way::On });
    let (status, summary, said) = worker.end();
    assert_eq!((status.code(), &summary["done"], &summary["lost"]), (Some(77), &json!(1), &json!(0)), "{said}");
    assert!(said.contains("no such token"), "{said}");
    assert_eq!(stage.state(&job)["state"], "done");
    assert_eq!(stage.stored(), expected(&server));
}

#[test]
fn nothing_is_begun_under_a_lease_that_may_be_over_by_the_time_it_comes() {
    let (stage, server) = (Stage::new(SHORT), recorder(1, 2, Knobs::default()));
    let job = stage.job(&rows(&server, 1, 1));
    let gateway = Gateway::start(stage.daemon.address());
    // The answer takes longer than a lease lives, and no heartbeat is heard.
    gateway.set(|request| match takes(request) {
        true => Way::Late(Duration::from_secs(3)),
        false => Way::Answered(PAGE.to_owned()),
    });
    let worker = Running::start(stage.worker_of(gateway.address(), "w", &["--once", "--parallel", "1", "--verbose"]));
    until("it lets go of it", || worker.said().contains("left to others: "));
    assert_eq!(server.stats().requests, 0, "{}", worker.said());
    gateway.set(|_| Way::On);
    let (status, summary, said) = worker.end();
    assert_eq!((status.code(), &summary["done"], &summary["lost"]), (Some(0), &json!(1), &json!(0)), "{said}");
    let task = &stage.tasks(&job)[0];
    assert!(task["state"] == "done" && task["attempts"].as_u64() >= Some(2), "{task}");
}

#[test]
fn an_outage_longer_than_a_lease_costs_what_is_in_hand_and_nothing_that_is_stored() {
    let (stage, server) = (Stage::new(SHORT), recorder(1, 6, Knobs { bytes_per_s: Some(60_000), ..Knobs::default() }));
    let job = stage.job(&rows(&server, 1, 1));
    let gateway = Gateway::start(stage.daemon.address());
    let worker = Running::start(stage.worker_of(gateway.address(), "w", &["--once", "--parallel", "1"]));
    until("it is within a file", || {
        let downloads = server.stats().downloads;
        downloads.complete >= 2 && downloads.sessions > 0
    });
    gateway.set(|_| Way::Answered(PAGE.replace("404 Not Found", "503 Service Unavailable")));
    until("it lets go of it", || worker.said().contains("left to others: the server has not heard us"));
    until("the recorder is left alone", || server.stats().downloads.sessions == 0);
    server.change_knobs(|knobs| knobs.bytes_per_s = None).unwrap();
    gateway.set(|_| Way::On);
    let (status, summary, said) = worker.end();
    assert_eq!((status.code(), &summary["done"], &summary["lost"]), (Some(0), &json!(1), &json!(0)), "{said}");
    assert!(summary["there"].as_u64() >= Some(2), "what was stored is found: {summary}");
    assert!(server.stats().downloads.again <= 1, "{:?}", server.stats().downloads);
    assert_eq!((stage.stored(), &stage.state(&job)["state"]), (expected(&server), &json!("done")));
}

#[test]
fn what_failed_and_was_done_later_counts_as_done_and_what_another_has_as_left() {
    let (stage, server) = (Stage::new(SHORT), recorder(2, 2, Knobs::default()));
    let mut rows = rows(&server, 2, 1);
    let file = stage.path().join("recorder.password");
    for row in &mut rows {
        row.as_object_mut().unwrap().remove("password");
        row["password_file"] = json!(file);
    }
    // A pipe that nobody writes into keeps no slot.
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &file,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let job = stage.job(&rows);
    let worker = Running::start(stage.worker("w", &["--once", "--parallel", "2"]));
    until("both have failed", || worker.said().matches("failed (unusable").count() >= 2);
    assert!(worker.said().contains("is no plain file"), "{}", worker.said());
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, crate::stage::PASSWORD).unwrap();
    let (status, summary, said) = worker.end();
    assert_eq!((status.code(), &summary["done"], &summary["failed"]), (Some(0), &json!(2), &json!(0)), "{said}");
    assert_eq!(stage.state(&job)["state"], "done");
    assert_eq!(stage.stored(), expected(&server));

    // One that stands still for longer than its lease cannot say what became of its task.
    server.change_knobs(|knobs| knobs.bytes_per_s = Some(20_000)).unwrap();
    std::fs::remove_dir_all(stage.out()).unwrap();
    stage.job(&rows[..1]);
    let before = server.stats().downloads.begun;
    let sleeper = Running::start(stage.worker("sleeper", &["--once", "--parallel", "1"]));
    until("it fetches", || server.stats().downloads.begun > before);
    sleeper.signal(Signal::STOP);
    server.change_knobs(|knobs| knobs.bytes_per_s = None).unwrap();
    run(&mut stage.worker("heir", &["--once"]), 0);
    sleeper.signal(Signal::CONT);
    let (status, summary, said) = sleeper.end();
    assert_eq!((status.code(), &summary["done"], &summary["lost"]), (Some(75), &json!(0), &json!(1)), "{said}");
}
