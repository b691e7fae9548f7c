//! The queue by itself: cases by hand, and any order of events against a model of it.

mod desk;
mod logins;
mod model;
mod texts;

use std::time::{Duration, Instant};

use super::*;
use crate::model::{LastWord, LeaseNo, OpenTask, Standing, TaskFault, TaskNo, TaskProgress, TaskState, UnixMicros};

const LIVES: Duration = Duration::from_secs(20);
const SECOND: Duration = Duration::from_secs(1);

fn rules() -> Rules {
    let (wait_min, wait_max) = (15 * SECOND, 60 * SECOND);
    Rules { lives: LIVES, text_lives: 3_600 * SECOND, attempts: 3, wait_min, wait_max }
}

/// A clock that goes when it is told to, and a queue.
struct Stage {
    queue: Queue,
    now: Now,
}

impl Stage {
    fn new() -> Self {
        let now = Now { at: Instant::now(), wall: UnixMicros(1_767_323_045_000_000) };
        Self { queue: Queue::new(rules(), 1), now }
    }

    /// Tasks of one recorder and job.
    fn add(&mut self, tasks: std::ops::RangeInclusive<TaskNo>, job: u64, recorder: &str, sessions: u32) {
        tasks.for_each(|no| self.queue.add(self.task(no, job, recorder, sessions), self.now));
    }

    fn task(&self, task: TaskNo, job: u64, recorder: &str, sessions: u32) -> OpenTask {
        let (recorder, user, standing) = (recorder.into(), "u".into(), Standing::queued());
        let (secret, plain, since) = (Some(0), true, self.now.wall);
        OpenTask { task, job, recorder, user, secret, plain, sessions, since, standing }
    }

    /// Its holder has found something at the recorder.
    fn get_in(&mut self, number: LeaseNo) {
        let progress = Some(TaskProgress { of: Some(1), ..TaskProgress::default() });
        self.queue.heartbeat("id", number, progress, self.now).unwrap();
    }

    fn pass(&mut self, time: Duration) -> Vec<crate::model::TaskChange> {
        self.now = Now { at: self.now.at + time, wall: self.now.wall.after(time) };
        self.queue.expire(self.now)
    }

    fn take(&mut self) -> Option<(TaskNo, LeaseNo)> {
        let taken = self.queue.take("w".into(), "id".to_owned(), false, self.now)?;
        let hold = taken.change.standing.hold.as_ref().unwrap();
        assert_eq!((hold.number, taken.change.standing.state), (taken.number, TaskState::Leased));
        Some((taken.change.task, taken.number))
    }

    fn complete(&mut self, number: LeaseNo) -> Result<Option<TaskState>, LeaseLost> {
        let done = self.queue.complete("id", number, None, self.now)?;
        Ok(done.map(|change| change.standing.state))
    }

    fn fail(&mut self, number: LeaseNo, kind: &str, retry: bool, after: Option<Duration>) -> Option<TaskState> {
        let fault = TaskFault { kind: kind.to_owned(), message: "it is so".to_owned() };
        let failure = Failure { fault, retry, after, result: None };
        self.queue.fail("id", number, failure, self.now).unwrap().first().map(|change| change.standing.state)
    }
}

#[test]
fn the_oldest_task_whose_recorder_has_room_is_next() {
    let mut stage = Stage::new();
    stage.add(1..=3, 1, "a", 1);
    stage.add(4..=5, 1, "b", 2);
    stage.add(6..=6, 2, "c", 1);
    assert_eq!(stage.take(), Some((1, 1)));
    assert_eq!(stage.take(), Some((4, 2)));
    // Whether the login of the other is good is not known before somebody has got in with it.
    assert_eq!(stage.take(), Some((6, 3)));
    assert!(stage.take().is_none());
    stage.get_in(2);
    assert_eq!(stage.take(), Some((5, 4)));
    assert!(stage.take().is_none() && !stage.queue.is_ready() && stage.queue.has_queued(false));
    assert_eq!(stage.complete(1), Ok(Some(TaskState::Done)));
    assert_eq!(stage.take(), Some((2, 5)));
    assert!(stage.take().is_none());
}

#[test]
fn a_lease_lives_from_its_last_heartbeat_and_its_task_is_taken_again_at_once() {
    let mut stage = Stage::new();
    stage.add(1..=1, 1, "a", 1);
    let (_, first) = stage.take().unwrap();
    for _ in 0..10 {
        assert!(stage.pass(19 * SECOND).is_empty());
        let progress = Some(TaskProgress { files: 1, ..TaskProgress::default() });
        let beat = stage.queue.heartbeat("id", first, progress, stage.now).unwrap();
        assert_eq!((beat.lives, beat.cancel), (LIVES, false));
    }
    let getting_on = stage.queue.getting_on(1, stage.now).unwrap();
    assert_eq!((getting_on.progress.files, getting_on.elapsed), (1, 190 * SECOND));
    assert_eq!(stage.queue.next_wake(), Some(stage.now.at + LIVES));
    // In the moment of its end it is over, whether somebody has looked or not.
    stage.now.at += LIVES;
    assert_eq!(stage.complete(first), Err(LeaseLost));
    let over = stage.pass(Duration::ZERO);
    assert_eq!(over.len(), 1);
    assert_eq!((over[0].before, over[0].standing.state), (TaskState::Running, TaskState::Queued));
    assert_eq!(over[0].standing.fault.as_ref().unwrap().kind, "lease_lost");
    let (task, second) = stage.take().unwrap();
    assert!(task == 1 && second > first);
    // A late word, before the second is through and after.
    assert_eq!(stage.complete(first), Err(LeaseLost));
    assert_eq!(stage.queue.heartbeat("id", first, None, stage.now), Err(LeaseLost));
    assert_eq!(stage.complete(second), Ok(Some(TaskState::Done)));
    assert_eq!(stage.complete(first), Err(LeaseLost));
    assert!(stage.queue.is_empty() && stage.queue.next_wake().is_none());
}

#[test]
fn a_word_that_is_said_twice_is_heard_twice_and_counts_once() {
    let mut stage = Stage::new();
    stage.add(1..=2, 1, "a", 2);
    let one = stage.take().unwrap().1;
    stage.get_in(one);
    let two = stage.take().unwrap().1;
    assert_eq!(stage.complete(one), Ok(Some(TaskState::Done)));
    assert_eq!(stage.complete(one), Ok(None));
    assert_eq!(stage.fail(two, "auth", false, None), Some(TaskState::Failed));
    assert_eq!(stage.fail(two, "auth", false, None), None);
    // Another word, another name, another number.
    assert_eq!(stage.complete(two), Err(LeaseLost));
    assert_eq!(stage.queue.complete("other", one, None, stage.now), Err(LeaseLost));
    assert_eq!(stage.complete(99), Err(LeaseLost));
    // What another run has heard.
    let mut again = Stage::new();
    again.queue.remember(one, "id".to_owned(), LastWord::Complete);
    assert_eq!(again.complete(one), Ok(None));
}

#[test]
fn nobody_ends_a_lease_whose_name_he_does_not_know() {
    let mut stage = Stage::new();
    stage.add(1..=1, 1, "a", 1);
    let (_, number) = stage.take().unwrap();
    assert_eq!(stage.queue.complete("guess", number, None, stage.now), Err(LeaseLost));
    assert_eq!(stage.queue.heartbeat("guess", number, None, stage.now), Err(LeaseLost));
    assert_eq!(stage.complete(number + 1), Err(LeaseLost));
    assert_eq!(stage.complete(number), Ok(Some(TaskState::Done)));
}

#[test]
fn a_failed_task_waits_longer_each_time_and_fails_at_last() {
    let mut stage = Stage::new();
    stage.add(1..=1, 1, "a", 1);
    let (_, number) = stage.take().unwrap();
    assert_eq!(stage.fail(number, "unreachable", true, None), Some(TaskState::Queued));
    assert!(stage.take().is_none());
    assert!(stage.pass(14 * SECOND).is_empty() && stage.take().is_none());
    stage.pass(SECOND);
    let (_, number) = stage.take().unwrap();
    assert_eq!(stage.fail(number, "unreachable", true, Some(100 * SECOND)), Some(TaskState::Queued));
    stage.pass(99 * SECOND);
    assert!(stage.take().is_none());
    stage.pass(SECOND);
    let (_, number) = stage.take().unwrap();
    // The third of three.
    assert_eq!(stage.fail(number, "unreachable", true, None), Some(TaskState::Failed));
    assert!(stage.queue.is_empty());
    let rules = Rules { attempts: 100, ..rules() };
    let waits: Vec<u64> = [1, 2, 3, 4, 99].map(|attempts| rules.wait(attempts).as_secs()).into();
    assert_eq!(waits, [15, 30, 60, 60, 60]);
}

#[test]
fn what_a_worker_gives_back_is_no_failed_attempt() {
    let mut stage = Stage::new();
    stage.add(1..=1, 1, "a", 1);
    for _ in 0..20 {
        let (_, number) = stage.take().unwrap();
        assert_eq!(stage.fail(number, GIVEN_BACK, true, Some(Duration::ZERO)), Some(TaskState::Queued));
    }
    // Whoever takes it and is not heard of again does not do that for ever.
    for expected in [TaskState::Queued, TaskState::Queued, TaskState::Failed] {
        stage.take().unwrap();
        let over = stage.pass(LIVES);
        assert_eq!(over[0].standing.state, expected);
    }
}

#[test]
fn a_job_is_called_off_at_once_where_nobody_has_it_and_when_the_holder_hears_of_it() {
    let mut stage = Stage::new();
    stage.add(1..=4, 1, "a", 4);
    stage.add(5..=5, 2, "a", 4);
    let one = stage.take().unwrap().1;
    stage.get_in(one);
    let (two, three) = (stage.take().unwrap().1, stage.take().unwrap().1);
    assert_eq!(stage.fail(three, "busy", true, None), Some(TaskState::Queued));
    let changes = stage.queue.cancel(1, stage.now);
    let states: Vec<_> = changes.iter().map(|change| (change.task, change.standing.state)).collect();
    let (leased, running, cancelled) = (TaskState::Leased, TaskState::Running, TaskState::Cancelled);
    assert_eq!(states, [(1, running), (2, leased), (3, cancelled), (4, cancelled)]);
    // Asked once more there is nothing more to do.
    assert!(stage.queue.cancel(1, stage.now).is_empty());
    let beat = stage.queue.heartbeat("id", one, None, stage.now).unwrap();
    assert!(beat.cancel);
    assert_eq!(stage.fail(one, "cancelled", true, None), Some(cancelled));
    // The other comes to an end of its own before it hears of it; and one that says nothing is called off as well.
    assert_eq!(stage.complete(two), Ok(Some(TaskState::Done)));
    assert_eq!(stage.take().map(|(task, _)| task), Some(5));
    stage.queue.cancel(2, stage.now);
    assert_eq!(stage.pass(LIVES)[0].standing.state, cancelled);
    assert!(stage.queue.is_empty() && stage.queue.next_wake().is_none() && stage.queue.oldest_queued().is_none());
}

#[test]
fn what_an_earlier_run_has_left_goes_on() {
    let mut stage = Stage::new();
    stage.add(1..=4, 1, "a", 2);
    let first = stage.queue.take("w".into(), "id".to_owned(), false, stage.now).unwrap().change;
    stage.get_in(1);
    let left = [first, stage.queue.take("t".into(), "id".to_owned(), true, stage.now).unwrap().change];
    let mut again = Stage::new();
    again.queue = Queue::new(rules(), 3);
    for change in left {
        let task = OpenTask { standing: change.standing, ..again.task(change.task, 1, "a", 2) };
        again.queue.add(task, again.now);
    }
    let ready_at = Some(again.now.wall.after(30 * SECOND));
    let standing = Standing { ready_at, ..Standing::queued() };
    again.queue.add(OpenTask { standing, ..again.task(3, 1, "a", 2) }, again.now);
    // The recorder has no room, and both leases their whole lives.
    assert!(again.take().is_none());
    assert!(again.pass(19 * SECOND).is_empty());
    assert_eq!(again.complete(1), Ok(Some(TaskState::Done)));
    assert!(again.take().is_none());
    again.pass(11 * SECOND);
    assert_eq!(again.take(), Some((3, 3)));
}

#[test]
fn a_clock_that_was_set_back_makes_nobody_wait_longer() {
    let mut stage = Stage::new();
    // Taken, failed a second later, and to be tried again after half a minute.
    let ready_at = Some(stage.now.wall.after(31 * SECOND));
    let standing = Standing { taken_at: Some(stage.now.wall), ready_at, ..Standing::queued() };
    let task = OpenTask { standing, ..stage.task(1, 1, "a", 1) };
    stage.now.wall = stage.now.wall.before(3_600 * SECOND);
    stage.queue.add(task, stage.now);
    stage.pass(30 * SECOND);
    assert!(stage.take().is_none());
    stage.pass(SECOND);
    assert_eq!(stage.take(), Some((1, 1)));
}
