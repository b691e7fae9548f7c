//! Logins that recorders refuse: how often they get to see them.

use super::*;
use crate::model::TaskChange;

impl Stage {
    /// A recorder refuses the login of a lease, whatever the worker says of another try.
    fn refuse(&mut self, number: LeaseNo) -> Vec<TaskChange> {
        self.fault(number, "auth", None)
    }

    fn fault(&mut self, number: LeaseNo, kind: &str, after: Option<Duration>) -> Vec<TaskChange> {
        let fault = TaskFault { kind: kind.to_owned(), message: "it is so".to_owned() };
        let failure = Failure { fault, retry: true, after, result: None };
        self.queue.fail("id", number, failure, self.now).unwrap()
    }

    fn add_with(&mut self, no: TaskNo, job: u64, user: &str, secret: u32, sessions: u32) {
        let task = self.task(no, job, "a", sessions);
        self.queue.add(OpenTask { user: user.into(), secret: Some(secret), ..task }, self.now);
    }
}

#[test]
fn a_wrong_password_is_seen_once_however_many_tasks_and_workers_there_are() {
    let mut stage = Stage::new();
    stage.add(1..=500, 1, "a", 16);
    stage.add(501..=502, 1, "b", 1);
    let (task, number) = stage.take().unwrap();
    // Nobody else is let at it meanwhile.
    assert_eq!((task, stage.take().map(|(task, _)| task)), (1, Some(501)));
    assert!(stage.take().is_none());
    let changes = stage.refuse(number);
    assert_eq!(changes.len(), 500);
    for change in &changes {
        let fault = change.standing.fault.as_ref().unwrap();
        assert_eq!((change.standing.state, &*fault.kind), (TaskState::Failed, "auth"));
    }
    assert!(changes[1].standing.fault.as_ref().unwrap().message.contains("not tried"));
    assert_eq!((changes[0].standing.attempts, changes[1].standing.attempts), (1, 0));
    assert!(stage.take().is_none() && stage.queue.len() == 2);
    // Somebody retries them all: that is once more.
    stage.add(1..=500, 1, "a", 16);
    let number = stage.take().unwrap().1;
    assert_eq!(stage.refuse(number).len(), 500);
}

#[test]
fn many_wrong_passwords_of_one_user_are_seen_twice() {
    let mut stage = Stage::new();
    // As many jobs as passwords, and another user, whom nobody refuses.
    for no in 1..=90 {
        stage.add_with(no, no % 3, "u", (no % 10) as u32, 16);
    }
    stage.add_with(91, 1, "other", 0, 16);
    let mut refused = 0;
    while let Some((task, number)) = stage.take() {
        if task == 91 {
            stage.complete(number).unwrap();
            continue;
        }
        refused += 1;
        stage.refuse(number);
    }
    assert_eq!((refused, stage.queue.len()), (2, 0));
}

#[test]
fn a_good_password_is_tried_where_a_wrong_one_was_refused() {
    let mut stage = Stage::new();
    stage.add_with(1, 1, "u", 0, 4);
    stage.add_with(2, 1, "u", 0, 4);
    stage.add_with(3, 2, "u", 0, 4);
    stage.add_with(4, 2, "u", 0, 4);
    let (_, wrong) = stage.take().unwrap();
    assert_eq!(stage.refuse(wrong).len(), 2);
    let (task, right) = stage.take().unwrap();
    assert_eq!((task, stage.take()), (3, None));
    stage.get_in(right);
    assert_eq!(stage.take().map(|(task, _)| task), Some(4));
}

#[test]
fn a_password_that_is_changed_while_workers_are_at_it_is_tried_by_one_and_then_by_nobody() {
    let mut stage = Stage::new();
    stage.add(1..=100, 1, "a", 4);
    let (_, one) = stage.take().unwrap();
    stage.get_in(one);
    let (two, three, four) = (stage.take().unwrap().1, stage.take().unwrap().1, stage.take().unwrap().1);
    // One is refused: a recorder with too many guests does that as well.
    assert_eq!(stage.refuse(two).len(), 1);
    assert!(stage.take().is_none());
    // Who got in before says nothing of it now, but that it is at work still.
    stage.get_in(one);
    assert!(stage.take().is_none());
    assert_eq!(stage.complete(one), Ok(Some(TaskState::Done)));
    assert_eq!(stage.fail(three, "unreachable", true, Some(Duration::ZERO)), Some(TaskState::Queued));
    // Nor does another refusal under a lease that was given before the first: it may be one more guest too many.
    assert!(stage.take().is_none());
    assert_eq!(stage.refuse(four).len(), 1);
    let (task, alone) = stage.take().unwrap();
    assert_eq!((task, stage.take()), (3, None));
    // The one that was tried since is the end of all.
    assert_eq!(stage.refuse(alone).len(), 97);
    assert!(stage.take().is_none() && stage.queue.is_empty());
}

#[test]
fn guests_that_are_too_many_end_nothing_but_their_own() {
    let mut stage = Stage::new();
    stage.add(1..=20, 1, "a", 8);
    let (_, one) = stage.take().unwrap();
    stage.get_in(one);
    let more: Vec<_> = (0..7).map(|_| stage.take().unwrap().1).collect();
    // The recorder has room for three.
    for number in &more[2..] {
        assert_eq!(stage.refuse(*number).len(), 1);
    }
    for number in [one, more[0], more[1]] {
        assert!(stage.take().is_none());
        assert_eq!(stage.complete(number), Ok(Some(TaskState::Done)));
    }
    let (_, alone) = stage.take().unwrap();
    assert!(stage.take().is_none());
    stage.get_in(alone);
    assert!(stage.take().is_some() && stage.queue.len() == 12);
}

#[test]
fn a_wrong_password_goes_out_one_at_a_time_beside_one_that_is_good() {
    let mut stage = Stage::new();
    stage.add_with(1, 1, "u", 0, 8);
    stage.add_with(2, 1, "u", 0, 8);
    // Another job, and another password of the same one.
    for no in 3..=6 {
        stage.add_with(no, 2, "u", 0, 8);
    }
    stage.add_with(7, 1, "u", 1, 8);
    stage.add_with(8, 1, "u", 0, 8);
    let (_, right) = stage.take().unwrap();
    assert!(stage.take().is_none());
    stage.get_in(right);
    let taken: Vec<_> = std::iter::from_fn(|| stage.take()).collect();
    let tasks: Vec<_> = taken.iter().map(|(task, _)| *task).collect();
    assert_eq!(tasks, [2, 3, 8], "more than one of a password that nobody has got in with");
    // It is the end of its own, and of no other.
    assert_eq!(stage.refuse(taken[1].1).len(), 4);
    let (task, wrong) = stage.take().unwrap();
    assert_eq!((task, stage.take()), (7, None));
    // What is good goes on, also after the second.
    stage.add_with(9, 1, "u", 0, 8);
    assert_eq!(stage.take().map(|(task, _)| task), Some(9));
    assert_eq!(stage.refuse(wrong).len(), 1);
    stage.add_with(10, 1, "u", 0, 8);
    assert_eq!(stage.take().map(|(task, _)| task), Some(10));
    assert!(!stage.queue.heartbeat("id", right, None, stage.now).unwrap().cancel);
}

#[test]
fn wrong_passwords_between_right_ones_are_seen_twice_all_the_same() {
    let mut stage = Stage::new();
    // Every other row is wrong, each in its own way.
    for no in 1..=40 {
        stage.add_with(no, 1, "u", if no % 2 == 0 { no as u32 } else { 0 }, 1);
    }
    let (mut refused, mut done) = (0, 0);
    while let Some((task, number)) = stage.take() {
        if task % 2 == 0 {
            refused += 1;
            stage.refuse(number);
        } else {
            done += 1;
            stage.complete(number).unwrap();
        }
    }
    assert_eq!((refused, done, stage.queue.len()), (2, 20, 0));
}

#[test]
fn a_good_password_has_one_more_try_whatever_others_were_refused() {
    let mut stage = Stage::new();
    for no in 1..=4 {
        stage.add_with(no, 1, "u", 0, 8);
    }
    stage.add_with(5, 2, "u", 0, 8);
    stage.add_with(6, 2, "u", 0, 8);
    let (_, right) = stage.take().unwrap();
    stage.get_in(right);
    let (_, guest) = stage.take().unwrap();
    stage.take().unwrap();
    stage.take().unwrap();
    let (task, wrong) = stage.take().unwrap();
    assert_eq!((task, stage.refuse(wrong).len()), (5, 2));
    assert_eq!(stage.refuse(guest).len(), 1);
    assert_eq!(stage.queue.len(), 3);
}

#[test]
fn who_is_at_work_with_a_refused_login_lets_go_and_does_not_try_again() {
    for ending in ["cancelled", "interrupted", "silence", "auth"] {
        let mut stage = Stage::new();
        stage.add(1..=2, 1, "a", 3);
        stage.add(3..=3, 2, "a", 3);
        let (_, one) = stage.take().unwrap();
        stage.get_in(one);
        let (two, three) = (stage.take().unwrap().1, stage.take().unwrap().1);
        let beat = |stage: &mut Stage| {
            let progress = Some(TaskProgress { bytes: 1, ..TaskProgress::default() });
            let beat = stage.queue.heartbeat("id", one, progress, stage.now).unwrap();
            (beat.cancel, beat.refused)
        };
        // The password with which it got in, and then another one.
        stage.refuse(two);
        assert_eq!(beat(&mut stage), (false, false));
        stage.refuse(three);
        assert_eq!(beat(&mut stage), (true, true));
        let changes = if ending == "silence" { stage.pass(LIVES) } else { stage.fault(one, ending, None) };
        let fault = changes[0].standing.fault.as_ref().unwrap();
        assert_eq!((changes[0].standing.state, &*fault.kind), (TaskState::Failed, "auth"), "{ending}");
        assert!(stage.queue.is_empty() && stage.queue.next_wake().is_none());
    }
}

#[test]
fn all_tasks_of_a_locked_login_wait_and_one_tries_first() {
    let mut stage = Stage::new();
    stage.add(1..=5, 1, "a", 4);
    let (_, one) = stage.take().unwrap();
    stage.get_in(one);
    let (two, three) = (stage.take().unwrap().1, stage.take().unwrap().1);
    assert_eq!(stage.fail(three, "unreachable", true, Some(10 * SECOND)), Some(TaskState::Queued));
    let changes = stage.fault(two, "lockout", Some(1_800 * SECOND));
    let waiting: Vec<_> = changes.iter().map(|change| (change.task, change.standing.ready_at)).collect();
    let until = Some(stage.now.wall.after(1_800 * SECOND));
    assert_eq!(waiting, [(2, until), (3, until), (4, until), (5, until)]);
    assert!(changes.iter().all(|change| change.standing.fault.as_ref().unwrap().kind == "lockout"));
    // Nor does a new one knock, here or in a later run.
    stage.add(6..=6, 2, "a", 4);
    assert!(stage.take().is_none());
    let mut again = Stage::new();
    let left =
        vec![again.task(1, 1, "a", 4), OpenTask { standing: changes[1].standing.clone(), ..again.task(3, 1, "a", 4) }];
    again.queue.restore(left, again.now);
    again.add(6..=6, 2, "a", 4);
    for stage in [&mut stage, &mut again] {
        stage.queue.expire(stage.now);
        stage.now = Now { at: stage.now.at + 1_799 * SECOND, wall: stage.now.wall.after(1_799 * SECOND) };
        stage.queue.expire(stage.now);
        assert!(stage.take().is_none());
        stage.pass(SECOND);
        let (_, first) = stage.take().unwrap();
        assert!(stage.take().is_none(), "one alone tries");
        stage.get_in(first);
        assert!(stage.take().is_some());
    }
}
