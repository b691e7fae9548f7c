//! Leases: taken, kept, lost, and words that come too late.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testbed::daemon::wait;

use super::client::{Client, PATIENCE, metric, new_token, remove_token, row, set_up};

#[test]
fn a_task_goes_from_a_sheet_to_a_worker_and_back() -> anyhow::Result<()> {
    let (_stage, daemon, token) = set_up("")?;
    let (mut operator, mut worker) = (Client::operator(&daemon), Client::new(&daemon, &token));
    assert!(worker.take("0s")?.is_none());
    let rows = json!([
        { "host": "10.0.0.5", "user": "export", "password": "p%40:/#w", "channels": "1-2", "start": "2026-11-19 08:00",
          "end": "2026-11-19 18:00", "container": "mkv", "sessions": 2, "prefix": "shop 1" },
        { "host": "https://10.0.0.6:8443", "user": "export", "password": "other", "range": "yesterday", "stream": "sub",
          "tls": "unverified", "bucket": "gs://elsewhere/x" },
        { "host": "10.0.0.7", "user": "export", "password": "off", "enabled": "no" },
    ]);
    let refused = operator.post("/api/v1/exports", &rows)?.with(422);
    assert_eq!(refused["faults"][0]["name"], "prefix", "{refused}");
    let mut rows = rows;
    rows[0]["prefix"] = json!("shop-1");
    let made = operator.post("/api/v1/exports?to=s3://results/all/", &rows)?.with(201);
    assert_eq!(made["tasks"], 3, "{made}");
    let id = made["id"].as_str().unwrap();

    let first = worker.take("0s")?.expect("a task");
    let mut task = first.0["task"].clone();
    // What `today` goes by, however late it is done.
    assert_eq!(task.as_object_mut().unwrap().remove("asked_at"), Some(operator.job(id)?["created_at"].clone()));
    let expected = json!({
        "id": format!("{id}.1"), "job": id, "row": 1, "attempt": 1, "server": "http://10.0.0.5:80", "username": "export",
        "password": "p%40:/#w", "channel": "101", "from": "2026-11-19 08:00:00", "until": "2026-11-19 18:00:00",
        "to": "s3://results/all/shop-1",
        "options": { "host": "10.0.0.5", "scheme": "http", "user": "export", "tracks": "101", "range": "absolute",
            "start": "2026-11-19 08:00:00", "end": "2026-11-19 18:00:00", "container": "mkv", "sessions": "2" },
    });
    assert_eq!(task, expected, "{task:#}");
    assert_eq!((&first.0["lives"], &first.0["heartbeat"], first.number()), (&json!("20s"), &json!("5s"), 1));
    // Whether its login is good has to be shown before the recorder's second session is used.
    let third = worker.take("0s")?.expect("a task");
    let found = json!({ "progress": { "of": 12 } });
    worker.say(&first, "heartbeat", &found)?.with(200);
    let second = worker.take("0s")?.expect("a recorder with two sessions has room");
    assert_eq!((second.0["task"]["channel"].as_str(), third.0["task"]["channel"].as_str()), (Some("201"), Some("all")));
    assert_eq!(third.0["task"]["to"], "gs://elsewhere/x");
    assert_eq!(third.0["task"]["options"]["stream"], "sub");
    let nothing = worker.post("/api/v1/leases", &json!({ "worker": "tester" }))?;
    assert!(nothing.status == 204 && nothing.head.contains("framehaul-tasks: waiting"), "{nothing:?}");

    let job = operator.job(id)?;
    assert_eq!(
        (&job["state"], &job["counts"]["leased"], &job["ended_at"]),
        (&json!("running"), &json!(2), &Value::Null)
    );
    let progress = json!({ "files": 3, "of": 12, "bytes": 1_000_000, "of_bytes": 4_000_000 });
    let beat = worker.say(&first, "heartbeat", &json!({ "progress": progress }))?.with(200);
    assert!(beat["cancel"] == false && beat["expires_at"].is_string(), "{beat}");
    let job = operator.job(id)?;
    assert_eq!((&job["counts"]["running"], &job["running"]["bytes"]), (&json!(1), &json!(1_000_000)), "{job:#}");
    let listed = operator.get(&format!("/api/v1/exports/{id}/tasks?limit=2"))?.with(200);
    assert_eq!(
        (&listed["more"], &listed["next"], listed["tasks"].as_array().unwrap().len()),
        (&json!(true), &json!(2), 2)
    );
    let shown = &listed["tasks"][0];
    assert_eq!((&shown["state"], &shown["worker"]), (&json!("running"), &json!("tester")), "{shown:#}");
    assert_eq!((&shown["progress"]["files"], &shown["progress"]["of"]), (&json!(3), &json!(12)), "{shown:#}");
    assert!(shown["progress"]["bytes_per_second"].as_u64() > Some(0), "{shown:#}");
    let rest = operator.get(&format!("/api/v1/exports/{id}/tasks?after=2"))?.with(200);
    assert_eq!((&rest["more"], rest["tasks"][0]["row"].as_u64()), (&json!(false), Some(2)), "{rest}");

    worker.complete(&first)?.with(200);
    // The answer may get lost.
    worker.complete(&first)?.with(200);
    worker.complete(&second)?.with(200);
    let failure = json!({ "kind": "auth", "message": "refused\nby it", "retry": false, "result": { "found": 4 } });
    worker.say(&third, "fail", &failure)?.with(200);
    worker.say(&third, "fail", &failure)?.with(200);
    let job = operator.job(id)?;
    assert_eq!(
        (&job["state"], &job["counts"]["done"], &job["counts"]["failed"]),
        (&json!("failed"), &json!(2), &json!(1))
    );
    assert_eq!((&job["found"], &job["downloaded"], &job["bytes"]), (&json!(10), &json!(4), &json!(2_000)), "{job:#}");
    assert!(job["ended_at"].is_string(), "{job:#}");
    let nothing = worker.post("/api/v1/leases", &json!({ "worker": "tester" }))?;
    assert!(nothing.status == 204 && nothing.head.contains("framehaul-tasks: none"), "{nothing:?}");

    // What has failed is tried again, with its password, and nothing else is.
    let again = operator.post(&format!("/api/v1/exports/{id}/retry"), &json!({}))?.with(200);
    assert_eq!(
        (&again["state"], &again["counts"]["queued"], &again["found"]),
        (&json!("running"), &json!(1), &json!(6))
    );
    let third = worker.take("0s")?.expect("the task that has failed");
    let task = &third.0["task"];
    assert_eq!((task["attempt"].as_u64(), task["password"].as_str()), (Some(1), Some("other")), "{task}");
    // Whoever has not counted says no result, and what the one before it came to is none of it.
    worker.say(&third, "complete", &json!({}))?.with(200);
    let tasks = operator.get(&format!("/api/v1/exports/{id}/tasks"))?.with(200);
    let task = tasks["tasks"].as_array().and_then(|tasks| tasks.iter().find(|one| one["id"] == task["id"]));
    assert_eq!(task.map(|task| (&task["state"], &task["result"])), Some((&json!("done"), &Value::Null)), "{tasks:#}");
    let job = operator.job(id)?;
    assert_eq!((&job["state"], &job["found"]), (&json!("done"), &json!(6)), "{job:#}");
    let exports = operator.get("/api/v1/exports")?.with(200);
    assert_eq!((exports["exports"][0]["id"].as_str(), &exports["next"]), (Some(id), &json!(id)), "{exports}");
    let after = operator.get(&format!("/api/v1/exports?after={id}"))?.with(200);
    assert_eq!(after["exports"], json!([]), "{after}");

    let path = format!("/api/v1/exports/{id}");
    operator.send("DELETE", &path, "", &[])?.with(204);
    operator.get(&path)?.with(404);
    operator.get(&format!("{path}/tasks"))?.with(404);
    assert_eq!(operator.get("/api/v1/exports")?.with(200)["exports"], json!([]));
    for name in ["framehaul_tasks{state=\"done\"}", "framehaul_task_fenced_writes_total"] {
        assert_eq!(metric(&daemon, name)?, 0.0, "{name}");
    }
    assert_eq!(metric(&daemon, "framehaul_task_leases_total")?, 4.0);
    Ok(())
}

#[test]
fn the_task_of_a_silent_worker_is_taken_again_and_its_late_word_refused() -> anyhow::Result<()> {
    let (_stage, daemon, token) = set_up("[tasks]\nlease = \"2s\"\nattempts = 2")?;
    let (mut operator, mut worker) = (Client::operator(&daemon), Client::new(&daemon, &token));
    let id = operator.export(&json!([row("10.0.0.5", "1", "p")]))?;
    let first = worker.take("0s")?.expect("a task");
    let begun = Instant::now();
    // Whoever sends heartbeats keeps it, longer than a lease lives.
    while begun.elapsed() < Duration::from_secs(3) {
        worker.say(&first, "heartbeat", &json!({}))?.with(200);
        assert!(worker.take("500ms")?.is_none());
    }
    let silent = Instant::now();
    let second = worker.take("30s")?.expect("the same task again");
    let took = silent.elapsed();
    // Within the life of a lease, and some for a busy machine.
    assert!((Duration::from_secs(1)..Duration::from_secs(8)).contains(&took), "{took:?}");
    assert_eq!((second.task(), second.0["task"]["attempt"].as_u64()), (first.task(), Some(2)));
    assert!(second.number() > first.number() && second.id() != first.id());
    for word in ["heartbeat", "complete"] {
        let refused = worker.say(&first, word, &json!({}))?.with(409);
        assert_eq!(refused["kind"], "lease_lost", "{refused}");
    }
    let failure = json!({ "kind": "io", "message": "late", "retry": true });
    worker.say(&first, "fail", &failure)?.with(409);
    // Nor does the right lease with another's number, or a lease that never was.
    let mixed = json!({ "number": first.number() });
    worker.post(&format!("/api/v1/leases/{}/complete", second.id()), &mixed)?.with(409);
    worker.post("/api/v1/leases/none/complete", &mixed)?.with(409);
    assert_eq!(metric(&daemon, "framehaul_task_fenced_writes_total")?, 5.0);
    assert_eq!(metric(&daemon, "framehaul_task_lease_expirations_total")?, 1.0);
    let job = operator.job(&id)?;
    assert_eq!(job["counts"]["leased"], 1, "{job}");
    // The second of two attempts that nothing is heard of: it is not tried for ever.
    let job = wait(PATIENCE, || Ok(Some(operator.job(&id)?).filter(|job| job["state"] == "failed")))?;
    assert_eq!(job["counts"]["failed"], 1, "{job}");
    worker.complete(&second)?.with(409);
    let task = &operator.get(&format!("/api/v1/exports/{id}/tasks"))?.with(200)["tasks"][0];
    assert_eq!((&task["error"]["kind"], &task["attempts"]), (&json!("lease_lost"), &json!(2)), "{task:#}");
    Ok(())
}

#[test]
fn who_waits_gets_a_task_as_soon_as_there_is_one() -> anyhow::Result<()> {
    let (_stage, daemon, token) = set_up("")?;
    let (mut operator, mut worker) = (Client::operator(&daemon), Client::new(&daemon, &token));
    let mut other = Client::new(&daemon, &token);
    // It waits before there is one.
    other.ask_for_task("50s")?;
    let begun = Instant::now();
    operator.export(&json!([row("10.0.0.5", "1-2", "p")]))?;
    let lease = other.hear_of_task()?.expect("a task");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    // The recorder has room for one at a time; when that is over, who waits hears of it at once.
    assert!(worker.take("0s")?.is_none());
    worker.ask_for_task("50s")?;
    let begun = Instant::now();
    other.complete(&lease)?.with(200);
    let next = worker.hear_of_task()?.expect("the other channel");
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_ne!(next.task(), lease.task());
    // One that shall wait does.
    let failure = json!({ "kind": "busy", "message": "later", "retry": true, "after": "2s" });
    let begun = Instant::now();
    other.say(&next, "fail", &failure)?.with(200);
    assert!(other.take("0s")?.is_none());
    let again = other.take("30s")?.expect("the task once more");
    assert!((again.task() == next.task()) && begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    Ok(())
}

#[test]
fn an_export_is_called_off() -> anyhow::Result<()> {
    let (_stage, daemon, token) = set_up("")?;
    let (mut operator, mut worker) = (Client::operator(&daemon), Client::new(&daemon, &token));
    let id = operator.export(&json!([row("10.0.0.5", "1-3", "p"), row("10.0.0.6", "1", "p")]))?;
    let lease = worker.take("0s")?.expect("a task");
    let path = format!("/api/v1/exports/{id}");
    let told = operator.send("DELETE", &path, "", &[])?.with(409)["detail"].to_string();
    assert!(told.contains("cancel it first"), "{told}");
    let job = operator.post(&format!("{path}/cancel"), &json!({}))?.with(200);
    assert_eq!((&job["counts"]["cancelled"], &job["counts"]["leased"]), (&json!(3), &json!(1)), "{job}");
    assert!(worker.take("0s")?.is_none());
    let beat = worker.say(&lease, "heartbeat", &json!({}))?.with(200);
    assert_eq!((&beat["cancel"], beat.get("why")), (&json!(true), None), "{beat}");
    let failure = json!({ "kind": "cancelled", "message": "called off", "retry": false });
    worker.say(&lease, "fail", &failure)?.with(200);
    assert_eq!(operator.job(&id)?["state"], "cancelled");
    // And on again, all of it.
    let job = operator.post(&format!("{path}/retry"), &json!({}))?.with(200);
    assert_eq!(job["counts"]["queued"], 4, "{job}");
    let lease = worker.take("0s")?.expect("a task");
    worker.complete(&lease)?.with(200);
    for action in ["cancel", "retry"] {
        operator.post(&format!("/api/v1/exports/none/{action}"), &json!({}))?.with(404);
    }
    Ok(())
}

#[test]
fn a_refused_login_is_tried_once_and_its_tasks_say_why() -> anyhow::Result<()> {
    let (_stage, mut daemon, token) = set_up("")?;
    let (mut operator, mut worker) = (Client::operator(&daemon), Client::new(&daemon, &token));
    let mut wrong = row("10.0.0.5", "1-50", "wrong");
    wrong["sessions"] = json!(16);
    let id = operator.export(&json!([wrong, row("10.0.0.6", "1", "p")]))?;
    let first = worker.take("0s")?.expect("a task");
    let other = worker.take("0s")?.expect("the other recorder's");
    assert_eq!(other.0["task"]["server"], "http://10.0.0.6:80");
    assert!(worker.take("0s")?.is_none(), "two are let at a login that nobody knows");
    let failure = json!({ "kind": "auth", "message": "the recorder says no", "retry": true, "after": "0s" });
    worker.say(&first, "fail", &failure)?.with(200);
    let job = operator.job(&id)?;
    assert_eq!((&job["counts"]["failed"], &job["counts"]["leased"]), (&json!(50), &json!(1)), "{job}");
    let tasks = operator.get(&format!("/api/v1/exports/{id}/tasks"))?.with(200);
    let told = |place: usize| tasks["tasks"][place]["error"].clone();
    assert_eq!((&told(0)["kind"], &told(0)["message"]), (&json!("auth"), &json!("the recorder says no")));
    let reason = told(49)["message"].as_str().unwrap().to_owned();
    assert!(told(49)["kind"] == "auth" && reason.contains("not tried"), "{reason}");
    assert_eq!((&tasks["tasks"][0]["attempts"], &tasks["tasks"][49]["attempts"]), (&json!(1), &json!(0)));
    worker.complete(&other)?.with(200);
    // Nor does a restart let anybody try; an operator does, and that is one more.
    daemon.kill()?;
    daemon.run()?;
    let (mut operator, mut worker) = (Client::operator(&daemon), Client::new(&daemon, &token));
    assert!(worker.take("0s")?.is_none());
    operator.post(&format!("/api/v1/exports/{id}/retry"), &json!({}))?.with(200);
    let again = worker.take("0s")?.expect("one of them");
    assert!(worker.take("0s")?.is_none());
    worker.say(&again, "fail", &failure)?.with(200);
    assert_eq!(operator.job(&id)?["counts"]["failed"], 50);
    // A new password is a new try.
    let new = operator.export(&json!([row("10.0.0.5", "1-2", "right")]))?;
    let lease = worker.take("0s")?.expect("one with the new password");
    assert_eq!(lease.0["task"]["job"], new.as_str());
    Ok(())
}

#[test]
fn who_is_at_work_with_a_refused_login_is_told_why_to_stop() -> anyhow::Result<()> {
    let (_stage, daemon, token) = set_up("")?;
    let (mut operator, mut worker) = (Client::operator(&daemon), Client::new(&daemon, &token));
    let with = |channels: &str, password: &str| {
        let mut row = row("10.0.0.5", channels, password);
        row["sessions"] = json!(4);
        row
    };
    operator.export(&json!([with("1-2", "right"), with("3-4", "wrong")]))?;
    let first = worker.take("0s")?.expect("a task");
    let found = json!({ "progress": { "of": 12 } });
    worker.say(&first, "heartbeat", &found)?.with(200);
    let second = worker.take("0s")?.expect("one more with the same password");
    let third = worker.take("0s")?.expect("one with the other");
    assert!(worker.take("0s")?.is_none(), "two are let at a password that nobody knows");
    let failure = json!({ "kind": "auth", "message": "the recorder says no" });
    worker.say(&second, "fail", &failure)?.with(200);
    let beat = worker.say(&first, "heartbeat", &found)?.with(200);
    assert_eq!((&beat["cancel"], beat.get("why")), (&json!(false), None), "{beat}");
    worker.say(&third, "fail", &failure)?.with(200);
    let beat = worker.say(&first, "heartbeat", &found)?.with(200);
    assert_eq!((&beat["cancel"], &beat["why"]), (&json!(true), &json!("auth")), "{beat}");
    Ok(())
}

#[test]
fn a_token_that_is_removed_while_it_waits_gets_nothing() -> anyhow::Result<()> {
    let (stage, daemon, token) = set_up("")?;
    let other = new_token(&stage, "other", "worker")?;
    let mut operator = Client::operator(&daemon);
    let mut waiting = Client::new(&daemon, &token);
    waiting.ask_for_task("50s")?;
    remove_token(&stage, "worker")?;
    operator.export(&json!([row("10.0.0.5", "1", "p")]))?;
    let refused = waiting.hear()?;
    assert!(refused.status == 401 && !refused.text().contains("10.0.0.5"), "{refused:?}");
    let lease = Client::new(&daemon, &other).take("0s")?.expect("the task is left for others");
    assert_eq!(lease.number(), 1);
    Ok(())
}

#[test]
fn who_hangs_up_while_it_waits_takes_nothing() -> anyhow::Result<()> {
    let (_stage, daemon, token) = set_up("")?;
    let mut operator = Client::operator(&daemon);
    for _ in 0..20 {
        Client::new(&daemon, &token).ask_for_task("50s")?;
    }
    // All of them are gone, whether the daemon has heard of it or not.
    operator.export(&json!([row("10.0.0.5", "1", "p")]))?;
    let lease = Client::new(&daemon, &token).take("10s")?.expect("the task");
    assert_eq!(lease.0["task"]["attempt"], 1, "an attempt of somebody who was gone");
    Ok(())
}
