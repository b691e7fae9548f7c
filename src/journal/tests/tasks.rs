//! Export jobs and their tasks.

use std::sync::Arc;

use super::*;
use crate::journal::{KnownTasks, TaskOrder};
use crate::model::{
    Hold, Job, JobNo, LastWord, NewJob, OpenTask, Standing, TaskChange, TaskFault, TaskForm, TaskNo, TaskResult,
    TaskState,
};

fn form(channel: &str, secret: Option<u32>) -> TaskForm {
    TaskForm {
        row: 7,
        recorder: "http://10.0.0.5:80".into(),
        user: "export".into(),
        channel: channel.to_owned(),
        from: Some("2026-11-19 08:00:00".into()),
        until: None,
        to: Some("gs://b".into()),
        options: "{}".into(),
        sessions: 2,
        secret,
    }
}

fn new_job(id: &str, tasks: u64) -> NewJob {
    NewJob { id: id.to_owned(), created: UnixMicros(9), to: Some("gs://b".to_owned()), tasks }
}

impl Bench {
    async fn order(&self, order: TaskOrder) -> u64 {
        self.opened.journal.tasks(order).await.unwrap()
    }

    /// A job with tasks from `first` on, which is not open yet.
    async fn job(&self, id: &str, first: TaskNo, channels: &[&str]) -> JobNo {
        let tasks: Vec<_> = channels.iter().map(|channel| form(channel, Some(0))).collect();
        let job = self.order(TaskOrder::Begin { job: new_job(id, tasks.len() as u64), first }).await;
        assert_eq!(self.order(TaskOrder::Add { job, first, tasks }).await, channels.len() as u64);
        job
    }
}

fn change(task: TaskNo, standing: Standing, said: Option<(u64, &str, LastWord)>) -> TaskChange {
    let said = said.map(|(number, id, word)| (number, id.to_owned(), word));
    TaskChange { task, job: 1, before: TaskState::Queued, standing, said }
}

#[tokio::test]
async fn jobs_and_tasks_come_back_as_they_stood() {
    let bench = Bench::new(&[]);
    assert_eq!((bench.opened.tasks.next_lease, bench.opened.tasks.next_task), (1, 1));
    let job = bench.job("one", 1, &["101", "201", "301", "401"]).await;
    assert_eq!(bench.order(TaskOrder::Open(job)).await, 1);
    let hold = Hold { number: 41, id: "abc".to_owned(), as_text: true };
    let held = Standing {
        state: TaskState::Running,
        attempts: 3,
        hold: Some(Box::new(hold)),
        worker: Some("north".into()),
        cancelling: true,
        taken_at: Some(UnixMicros(20)),
        ..Standing::queued()
    };
    let result = TaskResult { found: 5, downloaded: 4, there: 1, failed: 0, bytes: 6_000_000_000 };
    let done = Standing {
        state: TaskState::Done,
        attempts: 1,
        taken_at: Some(UnixMicros(10)),
        ended_at: Some(UnixMicros(30)),
        result: Some(Box::new(result)),
        ..Standing::queued()
    };
    let fault = TaskFault { kind: "busy".to_owned(), message: "it says so".to_owned() };
    let waits = Standing {
        attempts: 1,
        ready_at: Some(UnixMicros(99)),
        fault: Some(Box::new(fault)),
        result: Some(Box::new(TaskResult { found: 1, ..TaskResult::default() })),
        ..Standing::queued()
    };
    let changes = vec![
        change(2, held.clone(), None),
        change(1, done.clone(), Some((40, "def", LastWord::Complete))),
        change(3, waits.clone(), Some((39, "ghi", LastWord::Fail))),
    ];
    assert_eq!(bench.order(TaskOrder::Stand(changes)).await, 3);
    let listed = bench.opened.reader.tasks(1, 5, 9).unwrap();
    assert_eq!(listed.iter().map(|task| task.task).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!((&listed[0].standing, &listed[1].standing, &listed[2].standing), (&done, &held, &waits));
    assert_eq!(listed[3].form, form("401", Some(0)));
    assert_eq!(bench.opened.reader.tasks(2, 5, 2).unwrap().len(), 2);

    let bench = bench.reopen();
    let KnownTasks { jobs, open, words, next_lease, next_task } = &bench.opened.tasks;
    let expected = Job {
        counts: [2, 0, 1, 1, 0, 0],
        result,
        began: Some(UnixMicros(10)),
        ended: Some(UnixMicros(30)),
        ..Job::new(job, new_job("one", 4), 1)
    };
    assert_eq!(jobs, &[expected]);
    let task = |task, standing| OpenTask {
        task,
        job,
        recorder: Arc::from("http://10.0.0.5:80"),
        user: Arc::from("export"),
        secret: Some(0),
        plain: false,
        sessions: 2,
        since: UnixMicros(9),
        standing,
    };
    assert_eq!(open, &[task(2, held), task(3, waits), task(4, Standing::queued())]);
    let said = [(39, "ghi".to_owned(), LastWord::Fail), (40, "def".to_owned(), LastWord::Complete)];
    assert_eq!((&words[..], *next_lease, *next_task), (&said[..], 42, 5));
}

#[tokio::test]
async fn what_is_not_open_is_gone_and_no_number_comes_twice() {
    let bench = Bench::new(&[]);
    let one = bench.job("one", 1, &["101", "201"]).await;
    bench.order(TaskOrder::Open(one)).await;
    let hold = Hold { number: 7, id: "abc".to_owned(), as_text: false };
    let held = Standing { state: TaskState::Leased, hold: Some(Box::new(hold)), ..Standing::queued() };
    bench.order(TaskOrder::Stand(vec![change(1, held, None)])).await;
    // A crash in the middle of the second, and of the removal of the first.
    bench.job("two", 3, &["101", "201", "301"]).await;
    bench.order(TaskOrder::Shut(one)).await;
    assert_eq!(bench.order(TaskOrder::Remove(one, 1)).await, 1);

    let bench = bench.reopen();
    let known = &bench.opened.tasks;
    assert!(known.jobs.is_empty() && known.open.is_empty(), "{known:?}");
    assert_eq!((known.next_lease, known.next_task), (8, 6));
    assert!(bench.opened.reader.tasks(0, 99, 99).unwrap().is_empty());
    assert_eq!(bench.job("three", 6, &["101"]).await, 3, "a job's number is that of its passwords' file");

    // Piece by piece, and the job with the last of them.
    let four = bench.job("four", 7, &["101", "201", "301"]).await;
    assert_eq!(bench.order(TaskOrder::Remove(four, 2)).await, 2);
    assert_eq!(bench.order(TaskOrder::Remove(four, 2)).await, 1);
    assert_eq!(bench.order(TaskOrder::Remove(four, 2)).await, 0);
    // Nothing is taken of one that is open.
    let five = bench.job("five", 10, &["101"]).await;
    bench.order(TaskOrder::Open(five)).await;
    assert_eq!(bench.order(TaskOrder::Remove(five, 2)).await, 0);
}

#[tokio::test]
async fn old_words_are_forgotten() {
    let bench = Bench::new(&[]);
    let job = bench.job("one", 1, &["101"]).await;
    bench.order(TaskOrder::Open(job)).await;
    for number in [1, 2, 10_001, 10_002] {
        bench.order(TaskOrder::Stand(vec![change(1, Standing::queued(), Some((number, "x", LastWord::Fail)))])).await;
    }
    let bench = bench.reopen();
    let numbers: Vec<u64> = bench.opened.tasks.words.iter().map(|(number, ..)| *number).collect();
    assert_eq!(numbers, [10_001, 10_002]);
}

#[tokio::test]
async fn a_journal_of_version_5_gets_room_for_tasks() {
    let bench = Bench::new(&["a"]);
    let dir = bench.close();
    let sql = Connection::open(dir.path().join("journal.sqlite")).unwrap();
    sql.execute_batch(BACK_TO_5).unwrap();
    drop(sql);
    let bench = Bench::open(dir);
    let job = bench.job("one", bench.opened.tasks.next_task, &["101"]).await;
    assert_eq!(bench.order(TaskOrder::Open(job)).await, 1);
    assert_eq!(bench.reopen().opened.tasks.open.len(), 1);
}
