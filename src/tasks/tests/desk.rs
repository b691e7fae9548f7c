//! The desk, with a real journal behind it.

use secrecy::SecretString;
use tempfile::TempDir;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::timeout;

use super::*;
use crate::journal::tests::full::Disk;
use crate::journal::{Journal, JournalError, Opened, StateDir, TaskOrder};
use crate::metrics::Metrics;
use crate::model::{Job, NewJob, TaskForm};

/// How long the journal's writer stands still: far longer than a busy machine keeps the one who asks from asking.
const HANGS: Duration = Duration::from_secs(3);

/// A desk, what it stands on, and the directory of that.
struct Office {
    desk: Desk,
    journal: Journal,
    writer: std::thread::JoinHandle<()>,
    dir: TempDir,
}

impl Office {
    fn new() -> Self {
        Self::open(tempfile::tempdir().unwrap())
    }

    fn open(dir: TempDir) -> Self {
        let begun = Instant::now();
        let state = loop {
            // Until a program that another test starts has begun, it holds all our files.
            match StateDir::open(dir.path()) {
                Err(JournalError::InUse { .. }) if begun.elapsed() < Duration::from_secs(5) => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        let opened = state.recover(&std::collections::BTreeMap::new(), |_| (), |_| ()).unwrap();
        let Opened { journal, writer, reader, tasks, task_secrets, .. } = opened;
        let metrics = Metrics::new().unwrap();
        let desk = Desk::new(rules(), tasks, task_secrets, journal.clone(), reader, metrics);
        Self { desk, journal, writer, dir }
    }

    /// As after the end of the process, and the next start.
    fn again(self) -> Self {
        self.journal.close();
        self.writer.join().unwrap();
        Self::open(self.dir)
    }

    /// Asks for tasks of one recorder each.
    async fn add(&self, tasks: usize) -> Job {
        self.add_and_keep(tasks, ()).await
    }

    async fn add_and_keep(&self, tasks: usize, keep: impl Sized + 'static) -> Job {
        let form = |n: usize| TaskForm {
            row: 1,
            recorder: format!("http://10.0.0.{n}:80").into(),
            user: "export".into(),
            channel: "101".to_owned(),
            from: None,
            until: None,
            to: None,
            options: r#"{"host":"x","range":"today"}"#.into(),
            sessions: 1,
            secret: None,
        };
        let password = Some(SecretString::from("p%40:/#w"));
        self.desk.add(None, (0..tasks).map(|n| (form(n), password.clone())).collect(), keep).await.unwrap()
    }
}

#[actix::test]
async fn a_task_that_has_not_come_goes_back_and_costs_no_attempt() {
    let office = Office::new();
    office.add(1).await;
    let (lease, handed) = office.desk.take("w").await.unwrap().unwrap();
    assert!(office.desk.take("other").await.unwrap().is_none());
    drop(handed);
    // Its lease is over with that, and whoever asks has it at once.
    assert!(matches!(office.desk.complete(&lease.id, lease.number, None).await, Err(TasksError::LeaseLost(_))));
    // So it is where whoever asks is gone before the answer is there.
    office.journal.hang(HANGS);
    assert!(timeout(Duration::from_millis(30), office.desk.take("w")).await.is_err());
    let (second, handed) = office.desk.take("other").await.unwrap().unwrap();
    assert_eq!((second.attempt, second.number), (1, lease.number + 2));
    handed.arrived();
    office.desk.complete(&second.id, second.number, None).await.unwrap();
}

#[actix::test]
async fn a_line_is_done_when_it_has_come_and_its_caller_asks_again() {
    let office = Office::new();
    let job = office.add(2).await;
    let next = async |office: &Office| office.desk.next_as_text("c", Instant::now()).await.unwrap();
    let (first, handed) = next(&office).await.unwrap();
    assert_eq!(line(&first).unwrap(), "export p%40:/#w 10.0.0.0 101");
    drop(handed);
    let (again, handed) = next(&office).await.unwrap();
    assert_eq!((again.task, again.attempt), (first.task.clone(), 1));
    handed.arrived();
    let (second, handed) = next(&office).await.unwrap();
    assert_ne!(second.task, first.task);
    assert_eq!(office.desk.job(&job.id).unwrap().count(TaskState::Done), 1);
    handed.arrived();
    // Whether the last answer of a daemon that is gone has come is not known.
    let office = office.again();
    let (same, handed) = next(&office).await.unwrap();
    assert_eq!((same.task, same.id, same.number), (second.task, second.id, second.number));
    handed.arrived();
    assert!(next(&office).await.is_none());
    assert_eq!(office.desk.job(&job.id).unwrap().count(TaskState::Done), 2);
}

#[actix::test]
async fn what_is_kept_for_a_job_is_kept_until_the_job_is_there() {
    let office = Office::new();
    office.journal.hang(HANGS);
    let (keep, mut kept) = oneshot::channel::<()>();
    // Whoever asked is gone in the middle of it.
    assert!(timeout(Duration::from_millis(30), office.add_and_keep(2, keep)).await.is_err());
    assert!(kept.try_recv() == Err(TryRecvError::Empty) && office.desk.jobs(None, 9).is_empty());
    assert!(kept.await.is_err());
    assert_eq!(office.desk.jobs(None, 9).len(), 1);
}

#[actix::test]
async fn a_word_that_is_said_twice_is_not_answered_before_it_is_written_down() {
    let office = Office::new();
    office.add(1).await;
    let (lease, handed) = office.desk.take("w").await.unwrap().unwrap();
    handed.arrived();
    let complete = || office.desk.complete(&lease.id, lease.number, None);
    office.journal.hang(HANGS);
    assert!(timeout(Duration::from_millis(50), complete()).await.is_err());
    assert!(timeout(Duration::from_millis(50), complete()).await.is_err(), "answered before it was durable");
    complete().await.unwrap();
}

#[actix::test]
async fn a_job_that_is_taken_back_at_its_last_step_is_gone_for_good() {
    let office = Office::new();
    let Job { id, .. } = office.add(1).await;
    let job = NewJob { id: "refused".to_owned(), created: UnixMicros(9), to: None, tasks: 0 };
    let number = office.journal.tasks(TaskOrder::Begin { job, first: 2 }).await.unwrap();
    // That it is open is written, and its answer was not waited for.
    drop(office.journal.tasks(TaskOrder::Open(number)));
    office.desk.take_back(number);
    let office = office.again();
    let jobs: Vec<String> = office.desk.jobs(None, 9).into_iter().map(|job| job.id).collect();
    assert_eq!(jobs, [id]);
}

#[actix::test]
async fn a_removal_that_is_refused_for_want_of_room_has_not_been() {
    let disk = Disk::new(64);
    let office = Office::open(disk.state());
    let Job { id, .. } = office.add(1).await;
    office.desk.cancel(&id).await.unwrap();
    // What is kept for such a case is gone as well.
    std::fs::remove_file(office.dir.path().join("journal.reserve")).unwrap();
    disk.fill();
    assert!(matches!(office.desk.delete(&id).await, Err(TasksError::NoRoom)));
    disk.empty();
    office.journal.stuck().wait_for(|stuck| !*stuck).await.unwrap();
    assert_eq!(office.desk.retry(&id).await.unwrap().count(TaskState::Queued), 1);
    let office = office.again();
    assert_eq!(office.desk.job(&id).unwrap().count(TaskState::Queued), 1);
    let (lease, handed) = office.desk.take("w").await.unwrap().unwrap();
    handed.arrived();
    office.desk.complete(&lease.id, lease.number, None).await.unwrap();
    office.desk.delete(&id).await.unwrap();
    let office = office.again();
    assert!(office.desk.jobs(None, 9).is_empty());
    office.journal.close();
    office.writer.join().unwrap();
}
