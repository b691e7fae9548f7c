//! Tasks as lines of text, for clients like the original's.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Client, new_token, row, set_up};

#[test]
fn a_client_that_only_asks_for_lines_drains_the_queue() -> anyhow::Result<()> {
    let (_stage, daemon, token) = set_up("")?;
    let (mut operator, mut client) = (Client::operator(&daemon), Client::new(&daemon, &token));
    let mut next = |query: &str| -> anyhow::Result<String> {
        let answer = client.get(&format!("/api/v1/tasks/next{query}"))?;
        assert!(answer.status == 200 && answer.head.contains("text/plain"), "{answer:?}");
        Ok(answer.text())
    };
    assert_eq!(next("")?, "the end");
    let rows: Vec<Value> = (1..=10).map(|n| row(&format!("10.0.0.{n}"), "1-2", &format!("p%40-{n}"))).collect();
    let id = operator.export(&json!(rows))?;
    let (mut lines, mut turn) = (Vec::new(), 0);
    loop {
        // Two clients at one machine.
        let line = next(["?worker=one", "?worker=two"][turn % 2])?;
        turn += 1;
        if line == "the end" {
            break;
        }
        lines.push(line);
    }
    assert_eq!((lines.len(), &lines[0] as &str), (20, "export p%40-1 10.0.0.1 101"), "{lines:?}");
    assert_eq!(lines.iter().collect::<std::collections::BTreeSet<_>>().len(), 20);
    // The other one is at its last task still, which is over when it asks again.
    assert_eq!(operator.job(&id)?["counts"]["done"], 19);
    assert_eq!(next(["?worker=one", "?worker=two"][turn % 2])?, "the end");
    let job = operator.job(&id)?;
    assert_eq!((&job["state"], &job["counts"]["done"]), (&json!("done"), &json!(20)), "{job}");
    Ok(())
}

#[test]
fn what_a_line_cannot_say_waits_for_workers() -> anyhow::Result<()> {
    let (stage, daemon, token) = set_up("")?;
    let (mut operator, mut client) = (Client::operator(&daemon), Client::new(&daemon, &token));
    let with = |name: &str, value: &str| {
        let mut row = row(&format!("10.0.0.{}", name.len()), "1", "p");
        row[name] = json!(value);
        row
    };
    let rows = json!([
        row("10.0.0.1", "1", "two words"),
        { "host": "10.0.0.2", "user": "u", "password_file": "/etc/p" },
        with("start", "2026-11-19"),
        with("bucket", "gs://b/p"),
        with("container", "mkv"),
        { "host": "https://[2001:db8::1]:8443", "user": "u", "password": "p", "notes": "a shop", "sessions": 2 },
    ]);
    let id = operator.export(&rows)?;
    assert_eq!(client.get("/api/v1/tasks/next")?.text(), "u p https://[2001:db8::1]:8443 all");
    assert_eq!(client.get("/api/v1/tasks/next")?.text(), "the end");
    let job = operator.job(&id)?;
    assert_eq!((&job["counts"]["queued"], &job["counts"]["done"]), (&json!(5), &json!(1)), "{job}");
    // Also after a restart, where others of them go to a worker.
    let mut daemon = daemon;
    daemon.kill()?;
    daemon.run()?;
    let (mut operator, mut client) = (Client::operator(&daemon), Client::new(&daemon, &token));
    assert_eq!(client.get("/api/v1/tasks/next")?.text(), "the end");
    for _ in 0..5 {
        let lease = client.take("0s")?.expect("a task");
        client.complete(&lease)?.with(200);
    }
    assert_eq!(operator.job(&id)?["state"], "done");

    // Who has another token is another caller, wherever he sits.
    let mut other = Client::new(&daemon, &new_token(&stage, "other", "worker")?);
    let id = operator.export(&json!([row("10.0.1.1", "1", "p"), row("10.0.1.2", "1", "p")]))?;
    assert_eq!(client.get("/api/v1/tasks/next")?.text(), "export p 10.0.1.1 101");
    assert_eq!(other.get("/api/v1/tasks/next")?.text(), "export p 10.0.1.2 101");
    assert_eq!(operator.job(&id)?["counts"]["leased"], 2);
    for client in [&mut client, &mut other] {
        assert_eq!(client.get("/api/v1/tasks/next")?.text(), "the end");
    }
    assert_eq!(operator.job(&id)?["state"], "done");

    // Where the recorder has no room, nobody is told that it is the end.
    operator.export(&json!([row("10.0.0.9", "1-2", "p")]))?;
    let line = client.get("/api/v1/tasks/next?worker=one")?.text();
    assert_eq!(line, "export p 10.0.0.9 101");
    let begun = Instant::now();
    let answer = client.get("/api/v1/tasks/next?worker=two&wait=1s")?;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(begun.elapsed() >= Duration::from_secs(1) && answer.head.to_lowercase().contains("retry-after: 5"));
    assert_eq!(client.get("/api/v1/tasks/next?worker=one")?.text(), "export p 10.0.0.9 201");
    Ok(())
}
