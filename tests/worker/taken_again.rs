//! Workers that die, or stand still: their tasks are taken again, and nothing is stored twice.

use rustix::process::Signal;
use serde_json::json;
use testbed::nvr::{Knobs, NvrServer};

use crate::stage::{Running, SHORT, Stage, expected, recorder, rows, run, until};

/// A recorder that is slow enough to be interrupted.
fn slow(channels: u32) -> NvrServer {
    recorder(channels, 6, Knobs { bytes_per_s: Some(60_000), ..Knobs::default() })
}

fn is_within_a_file(server: &NvrServer, done: u64) {
    until("it fetches", || server.stats().downloads.complete >= done);
    until("it is within a file", || server.stats().downloads.sessions > 0);
}

#[test]
fn what_a_killed_worker_held_is_done_by_another_and_nothing_is_there_twice() {
    let (stage, server) = (Stage::new(SHORT), slow(3));
    let job = stage.job(&rows(&server, 3, 2));
    let mut kills = 0;
    for done in [2, 6] {
        let worker = Running::start(stage.worker("victim", &["--parallel", "2"]));
        is_within_a_file(&server, done);
        worker.signal(Signal::KILL);
        drop(worker);
        kills += 1;
    }
    server.change_knobs(|knobs| knobs.bytes_per_s = None).unwrap();
    let (summary, told) = run(&mut stage.worker("heir", &["--once"]), 0);
    assert!(summary["there"].as_u64().unwrap() > 0, "what was stored is found: {summary} {told}");
    assert_eq!(stage.stored(), expected(&server));
    let state = stage.state(&job);
    assert_eq!((&state["state"], &state["counts"]["done"]), (&json!("done"), &json!(3)), "{state}");
    let attempts: u64 = stage.tasks(&job).iter().map(|task| task["attempts"].as_u64().unwrap()).sum();
    assert!(attempts > 3, "a task was taken again: {attempts}");
    assert!(stage.counter("framehaul_task_lease_expirations_total") >= 1.0);
    // Each of two slots may have had a file at hand, twice.
    assert!(server.stats().downloads.again <= 2 * kills, "{:?}", server.stats().downloads);
}

#[test]
fn a_worker_that_stood_still_for_too_long_says_nothing_more_of_its_task() {
    let (stage, server) = (Stage::new(SHORT), slow(1));
    let job = stage.job(&rows(&server, 1, 1));
    let sleeper = Running::start(stage.worker("sleeper", &["--parallel", "1", "--verbose"]));
    is_within_a_file(&server, 1);
    sleeper.signal(Signal::STOP);
    server.change_knobs(|knobs| knobs.bytes_per_s = None).unwrap();
    // Its lease is over, and another one has the task.
    let (summary, told) = run(&mut stage.worker("heir", &["--once"]), 0);
    assert_eq!(summary["done"], 1, "{told}");
    let stored = stage.stored();
    assert_eq!(stored, expected(&server));
    sleeper.signal(Signal::CONT);
    until("it notices", || sleeper.said().contains("left to others: this process stood still"));
    sleeper.signal(Signal::TERM);
    let (status, summary, said) = sleeper.end();
    assert_eq!((status.code(), &summary["lost"], &summary["done"]), (Some(0), &json!(1), &json!(0)), "{said}");
    assert_eq!(stage.counter("framehaul_task_fenced_writes_total"), 0.0, "it said nothing more");
    assert_eq!((stage.stored(), &stage.state(&job)["state"]), (stored, &json!("done")));
}

#[test]
fn a_task_lives_on_when_the_daemon_was_killed_and_is_back_soon() {
    let (mut stage, server) = (Stage::new("[tasks]\nlease = \"6s\"\n"), slow(2));
    let job = stage.job(&rows(&server, 2, 1));
    let address = stage.daemon.address().trim_start_matches("http://").to_owned();
    let worker = Running::start(stage.worker("w", &["--parallel", "1", "--once"]));
    is_within_a_file(&server, 1);
    stage.daemon.kill().unwrap();
    // It comes back where the worker looks for it.
    stage.daemon.env("FRAMEHAUL__HTTP__LISTEN", address);
    stage.daemon.run().unwrap();
    server.change_knobs(|knobs| knobs.bytes_per_s = None).unwrap();
    let (status, summary, said) = worker.end();
    assert_eq!((status.code(), &summary["done"]), (Some(0), &json!(2)), "{said}");
    assert_eq!((stage.stored(), &stage.state(&job)["state"]), (expected(&server), &json!("done")));
}
