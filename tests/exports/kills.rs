//! A daemon that is killed again and again under workers that go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use testbed::daemon::wait;

use super::client::{Client, Lease, PATIENCE, row, set_up};

const TASKS: usize = 60;
const WORKERS: usize = 5;
const KILLS: usize = 4;

/// What workers have been told and have been believed.
#[derive(Default)]
struct Book {
    /// Every lease that came to a worker, by its number.
    given: BTreeMap<u64, String>,
    /// Leases whose completion was answered with 200.
    heard: BTreeMap<u64, String>,
    refused: usize,
}

#[test]
fn a_daemon_that_is_killed_loses_nothing_and_runs_nothing_twice() -> anyhow::Result<()> {
    let (_stage, mut daemon, token) = set_up("[tasks]\nlease = \"3s\"\nattempts = 100")?;
    let rows: Vec<Value> = (0..TASKS / 2).map(|n| row(&format!("10.0.0.{n}"), "1-2", "p")).collect();
    let id = Client::operator(&daemon).export(&json!(rows))?;
    let (book, address, over) =
        (Mutex::new(Book::default()), Mutex::new(daemon.address().to_owned()), AtomicBool::new(false));
    let (kills, stalls) = (AtomicUsize::new(0), AtomicUsize::new(0));

    std::thread::scope(|scope| {
        for n in 0..WORKERS {
            let (book, address, over, token, stalls) = (&book, &address, &over, &token, &stalls);
            scope.spawn(move || {
                let mut round = 0;
                while !over.load(Ordering::Relaxed) {
                    round += 1;
                    let mut client = Client::at(&address.lock().unwrap(), token);
                    let Ok(Some(lease)) = client.take("1s") else {
                        // The daemon is gone for a moment, or has nothing.
                        std::thread::sleep(Duration::from_millis(20));
                        continue;
                    };
                    let known = book.lock().unwrap().given.insert(lease.number(), lease.task().to_owned());
                    assert_eq!(known, None, "a number that was given twice");
                    // Some fall silent for longer than their lease lives, and speak then.
                    let stalled = round % 7 == n;
                    let work = if stalled { Duration::from_millis(3_500) } else { Duration::from_millis(60) };
                    stalls.fetch_add(usize::from(stalled), Ordering::Relaxed);
                    std::thread::sleep(work);
                    finish(&lease, token, address, book);
                }
            });
        }
        let killed = (|| {
            for _ in 0..KILLS {
                let before = book.lock().unwrap().heard.len();
                wait(PATIENCE, || {
                    Ok((book.lock().unwrap().heard.len() >= (before + TASKS / 10).min(TASKS)).then_some(()))
                })?;
                daemon.kill()?;
                kills.fetch_add(1, Ordering::Relaxed);
                daemon.run()?;
                *address.lock().unwrap() = daemon.address().to_owned();
            }
            wait(
                PATIENCE,
                || Ok(Some(Client::operator(&daemon).job(&id)?).filter(|job| job["counts"]["done"] == TASKS)),
            )
        })();
        over.store(true, Ordering::Relaxed);
        killed
    })?;

    let book = book.into_inner().unwrap();
    let job = Client::operator(&daemon).job(&id)?;
    assert_eq!(
        (&job["state"], &job["counts"]["done"], &job["downloaded"]),
        (&json!("done"), &json!(TASKS), &json!(2 * TASKS)),
        "{job:#}"
    );
    let tasks: BTreeSet<&String> = book.heard.values().collect();
    assert_eq!(book.heard.len(), tasks.len(), "a task was completed twice");
    ensure!(book.heard.len() == TASKS, "{} completions of {TASKS} tasks", book.heard.len());
    // Of a task's leases the newest that a worker knows of is the one that was heard.
    for (number, task) in &book.given {
        let heard = book.heard.iter().find(|(_, heard)| *heard == task).map(|(number, _)| *number);
        assert!(heard >= Some(*number), "{task} was given as {number} after it was done as {heard:?}");
    }
    let (kills, stalls) = (kills.into_inner(), stalls.into_inner());
    println!(
        "{TASKS} tasks, {kills} kills, {stalls} silences, {} leases, {} words refused",
        book.given.len(),
        book.refused
    );
    assert!(kills == KILLS && stalls > 0);
    Ok(())
}

/// Says it until somebody hears it, or it is too late.
fn finish(lease: &Lease, token: &str, address: &Mutex<String>, book: &Mutex<Book>) {
    for _ in 0..2_000 {
        let mut client = Client::at(&lock(address), token);
        match client.complete(lease) {
            Ok(answer) if answer.status == 200 => {
                lock(book).heard.insert(lease.number(), lease.task().to_owned());
                return;
            }
            Ok(answer) => {
                assert_eq!(answer.status, 409, "{answer:?}");
                lock(book).refused += 1;
                return;
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    panic!("nobody hears a word");
}

/// What a panic in another thread leaves is looked at no more: the test has failed.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().expect("no thread has panicked")
}
