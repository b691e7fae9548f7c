//! A hundred thousand tasks that wait.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use serde_json::json;

use super::client::{Client, set_up};
use super::takes::{CLIENTS, TAKES, TASKS, judge};

#[test]
fn a_thousand_tasks_a_second_are_taken_of_a_hundred_thousand() -> anyhow::Result<()> {
    // Long, so that none is over before the last is given.
    let (_stage, mut daemon, token) = set_up("[tasks]\nlease = \"10m\"")?;
    let mut csv = "host,user,password,channels,start,end\n".to_owned();
    for n in 0..TASKS {
        let (high, middle, low) = (n >> 16, n >> 8 & 255, n & 255);
        csv += &format!("10.{high}.{middle}.{low},export,secret-{n},101,2026-11-19 08:00,2026-11-19 18:00\n");
    }
    let mut operator = Client::operator(&daemon);
    let begun = Instant::now();
    let made = operator.send("POST", "/api/v1/exports", "text/csv", csv.as_bytes())?.with(201);
    let (accepted, resident) = (begun.elapsed(), daemon.resident_kib()?);
    assert_eq!(made["tasks"], TASKS, "{made}");
    let id = made["id"].as_str().unwrap().to_owned();

    let (times, left) = (Mutex::new(Vec::new()), AtomicUsize::new(TAKES));
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            let mut client = Client::new(&daemon, &token).kept();
            let (times, left) = (&times, &left);
            scope.spawn(move || {
                let mut own = Vec::new();
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
                    let begun = Instant::now();
                    let lease = client.take("0s").unwrap().expect("there are enough");
                    own.push((begun.elapsed(), lease.number(), lease.task().to_owned()));
                }
                times.lock().unwrap().extend(own);
            });
        }
    });
    let took = begun.elapsed();
    println!("{TASKS} tasks accepted in {accepted:.2?}, {} MiB resident", resident / 1024);
    judge("the daemon over HTTP", times.into_inner().unwrap(), took);

    // They are all there again after a kill, and each lease lives on in its holder's hands.
    daemon.kill()?;
    let begun = Instant::now();
    daemon.run()?;
    println!("ready again after {:.2?}", begun.elapsed());
    let mut operator = Client::operator(&daemon);
    let job = operator.job(&id)?;
    assert_eq!((&job["counts"]["leased"], &job["counts"]["queued"]), (&json!(TAKES), &json!(TASKS - TAKES)), "{job}");
    let begun = Instant::now();
    let csv = operator.get(&format!("/api/v1/exports/{id}/tasks?format=csv"))?;
    assert_eq!(csv.text().lines().count(), TASKS + 1);
    println!("the sheet back as CSV in {:.2?}, {} MiB resident", begun.elapsed(), daemon.resident_kib()? / 1024);
    let begun = Instant::now();
    operator.post(&format!("/api/v1/exports/{id}/cancel"), &json!({}))?.with(200);
    println!("called off in {:.2?}", begun.elapsed());
    Ok(())
}
