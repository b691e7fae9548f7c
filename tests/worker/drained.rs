//! All of a queue, once.

use serde_json::json;
use testbed::nvr::Knobs;

use crate::stage::{PASSWORD, Running, Stage, expected, recorder, rows, run, until};

#[test]
fn two_workers_drain_a_queue_and_fetch_nothing_twice() {
    let (stage, servers) = (Stage::new(""), [recorder(6, 3, Knobs::default()), recorder(4, 3, Knobs::default())]);
    let all = [rows(&servers[0], 6, 2), rows(&servers[1], 4, 2)].concat();
    let job = stage.job(&all);
    let other = Running::start(stage.worker("south", &["--once", "--verbose"]));
    let (north, told) = run(&mut stage.worker("north", &["--once", "--parallel", "3"]), 0);
    let (status, south, said) = other.end();
    assert!(status.success(), "{said}");
    assert_eq!(told, "", "in a pipe it says what people have to know, and nothing else");
    let sum = |field: &str| north[field].as_u64().unwrap() + south[field].as_u64().unwrap();
    assert_eq!((sum("done"), sum("failed"), sum("lost"), sum("downloaded"), sum("there")), (10, 0, 0, 30, 0));
    assert_eq!((&north["worker"], &south["worker"]), (&json!("north"), &json!("south")));

    let mut wanted = expected(&servers[0]);
    wanted.extend(expected(&servers[1]));
    assert_eq!(stage.stored(), wanted);
    for server in &servers {
        let recordings = server.recordings();
        assert!(recordings.iter().all(|recording| recording.fetched == 1), "{recordings:?}");
        assert!(server.stats().downloads.most_sessions <= 2, "no more at once than the sheet allows");
    }
    let state = stage.state(&job);
    assert_eq!((&state["state"], &state["counts"]["done"]), (&json!("done"), &json!(10)), "{state}");
    assert_eq!((&state["found"], &state["downloaded"], &state["failed"]), (&json!(30), &json!(30), &json!(0)));
    assert_eq!(state["bytes"].as_u64(), Some(wanted.values().map(|(bytes, _)| *bytes as u64).sum()));
    stage.has_no_secret(&[&said, &told, &state.to_string()]);

    // The same once more: all of it is there, and found to be.
    let again = stage.job(&all);
    let (summary, _) = run(&mut stage.worker("north", &["--once"]), 0);
    assert_eq!((&summary["done"], &summary["downloaded"], &summary["there"]), (&json!(10), &json!(0), &json!(30)));
    assert_eq!(stage.state(&again)["there"], 30);
    assert_eq!(stage.stored(), wanted);
}

#[test]
fn a_second_task_of_a_login_is_given_as_soon_as_the_first_one_has_got_in() {
    // Heartbeats are minutes apart.
    let (stage, slow) =
        (Stage::new("[tasks]\nlease = \"10m\"\n"), Knobs { bytes_per_s: Some(15_000), ..Knobs::default() });
    let server = recorder(2, 3, slow);
    stage.job(&rows(&server, 2, 2));
    let worker = Running::start(stage.worker("w", &["--once"]));
    until("it fetches for both", || server.stats().downloads.most_sessions == 2);
    assert!(server.stats().downloads.complete < 3, "the first one is not through with its task");
    server.change_knobs(|knobs| knobs.bytes_per_s = None).unwrap();
    let (status, summary, said) = worker.end();
    assert_eq!((status.code(), &summary["done"]), (Some(0), &json!(2)), "{said}");
    assert_eq!(stage.stored(), expected(&server));
}

#[test]
fn a_task_says_what_becomes_of_its_recordings_and_where_they_go() {
    let (stage, server) = (Stage::new(""), recorder(3, 2, Knobs::default()));
    let mut rows = rows(&server, 3, 1);
    let elsewhere = stage.path().join("elsewhere");
    rows[0]["bucket"] = json!(format!("file://{}", elsewhere.display()));
    rows[1]["layout"] = json!("camera");
    rows[1]["prefix"] = json!("case-12");
    rows[2]["dry_run"] = json!("yes");
    let job = stage.job(&rows);
    run(&mut stage.worker("w", &["--once"]), 0);
    let dir = server.host().replace(':', "_");
    assert_eq!(std::fs::read_dir(elsewhere.join(&dir)).unwrap().count(), 3, "two recordings and their list");
    let names = |name: &str| name.split_once(&format!("case-12/{dir}/Camera 2/")).is_some();
    let stored = stage.stored();
    assert!(stored.len() == 2 && stored.keys().all(|name| names(name)), "{:?}", stored.keys());
    let tasks = stage.tasks(&job);
    let result = |task: usize| (tasks[task]["result"]["found"].as_u64(), tasks[task]["result"]["downloaded"].as_u64());
    assert_eq!([result(0), result(1), result(2)], [(Some(2), Some(2)), (Some(2), Some(2)), (Some(2), Some(0))]);
    assert!(tasks.iter().all(|task| task["state"] == "done"), "{tasks:?}");
}

#[test]
fn a_task_that_fails_says_why_and_a_wrong_password_is_not_tried_again() {
    let (stage, server) = (Stage::new(""), recorder(2, 2, Knobs::default()));
    let mut rows = rows(&server, 2, 1);
    rows[0]["password"] = json!(format!("wrong-{PASSWORD}"));
    rows[1]["channels"] = json!("7");
    let job = stage.job(&rows);
    let (summary, told) = run(&mut stage.worker("w", &["--once"]), 65);
    assert_eq!((&summary["done"], &summary["failed"]), (&json!(0), &json!(2)), "{told}");
    assert!(told.contains("failed (auth, for good)"), "{told}");
    let tasks = stage.tasks(&job);
    let kind = |task: usize| (tasks[task]["state"].as_str(), tasks[task]["error"]["kind"].as_str());
    assert_eq!(kind(0), (Some("failed"), Some("auth")));
    assert_eq!(kind(1).0, Some("failed"));
    assert_eq!((&tasks[0]["attempts"], &tasks[1]["attempts"]), (&json!(1), &json!(1)));
    assert!(server.stats().logins.wrong <= 3);
    stage.has_no_secret(&[&told, &json!(tasks).to_string()]);
}
