//! The queue without HTTP: tasks in SQLite, taken by many at once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use framehaul::journal::{Opened, StateDir};
use framehaul::metrics::Metrics;
use framehaul::model::TaskForm;
use framehaul::tasks::{Desk, Rules};
use secrecy::SecretString;

use super::takes::{CLIENTS, TAKES, TASKS, judge};

/// A task of a recorder of its own.
fn task(n: usize) -> (TaskForm, Option<SecretString>) {
    let (high, middle, low) = (n >> 16, n >> 8 & 255, n & 255);
    let form = TaskForm {
        row: u32::try_from(n + 2).expect("it is small"),
        recorder: Arc::from(format!("http://10.{high}.{middle}.{low}:80")),
        user: "export".into(),
        channel: "101".to_owned(),
        from: Some("2026-11-19T08:00:00".into()),
        until: Some("2026-11-19T18:00:00".into()),
        to: None,
        options: "{}".into(),
        sessions: 1,
        secret: None,
    };
    (form, Some(SecretString::from(format!("secret-{n}"))))
}

#[test]
fn a_thousand_tasks_a_second_are_taken_of_the_queue_alone() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let opened = StateDir::open(&dir.path().join("state"))?.recover(&BTreeMap::new(), |_| {}, |_| {})?;
    let Opened { journal, writer, reader, tasks, task_secrets, lock, .. } = opened;
    let lives = Duration::from_secs(600);
    let rules = Rules { lives, text_lives: lives, attempts: 5, wait_min: lives, wait_max: lives };
    let taken = actix_rt::System::new().block_on(async {
        let desk = Desk::new(rules, tasks, task_secrets, journal.clone(), reader, Metrics::new()?);
        let job = desk.add(None, (0..TASKS).map(task).collect(), ()).await?;
        anyhow::ensure!(job.tasks == TASKS as u64, "{job:?}");
        let (left, takes) = (Rc::new(Cell::new(TAKES)), Rc::new(RefCell::new(Vec::with_capacity(TAKES))));
        let begun = Instant::now();
        let takers = (0..CLIENTS).map(|_| {
            let (desk, left, takes) = (desk.clone(), left.clone(), takes.clone());
            actix_rt::spawn(async move {
                while left.get() > 0 {
                    left.set(left.get() - 1);
                    let begun = Instant::now();
                    let lease = desk.take("tester").await?;
                    let (lease, handed) = lease.ok_or_else(|| anyhow::anyhow!("there are enough"))?;
                    handed.arrived();
                    takes.borrow_mut().push((begun.elapsed(), lease.number, lease.task));
                }
                anyhow::Ok(())
            })
        });
        for taker in takers.collect::<Vec<_>>() {
            taker.await??;
        }
        anyhow::Ok((takes.take(), begun.elapsed()))
    });
    journal.close();
    drop(journal);
    writer.join().expect("the journal does not panic");
    drop(lock);
    let (takes, took) = taken?;
    judge("the queue alone", takes, took);
    Ok(())
}
