//! Tasks as lines of text.

use super::*;
use crate::model::Hold;

/// What a caller who asks is through with, and gets; what it gets comes to it.
fn ask(stage: &mut Stage, who: &str) -> (Option<TaskNo>, Option<TaskNo>) {
    let now = stage.now.at;
    let (over, taken) = begin(stage, who, now);
    if let Some((_, number)) = taken {
        stage.queue.handed(number, stage.now);
    }
    (over, taken.map(|(task, _)| task))
}

/// The same, of a request that came at `since`; whether it comes is not known yet.
fn begin(stage: &mut Stage, who: &str, since: Instant) -> (Option<TaskNo>, Option<(TaskNo, LeaseNo)>) {
    let over = match stage.queue.text_before(who, since, stage.now) {
        TextBefore::Nothing => None,
        TextBefore::Done(change) => {
            assert_eq!(change.standing.state, TaskState::Done);
            Some(change.task)
        }
        TextBefore::Again(taken) => return (None, Some((taken.change.task, taken.number))),
        TextBefore::Elsewhere => return (None, None),
    };
    let taken = stage.queue.take(who.into(), format!("of {who}"), true, stage.now);
    (over, taken.map(|taken| (taken.change.task, taken.number)))
}

#[test]
fn who_asks_for_the_next_line_is_through_with_the_last() {
    let mut stage = Stage::new();
    for (task, recorder) in [(1, "a"), (2, "b"), (3, "c")] {
        stage.add(task..=task, 1, recorder, 1);
    }
    assert_eq!(ask(&mut stage, "x"), (None, Some(1)));
    assert_eq!(ask(&mut stage, "y"), (None, Some(2)));
    // They live longer than the others.
    assert!(stage.pass(3_599 * SECOND).is_empty());
    assert_eq!(ask(&mut stage, "x"), (Some(1), Some(3)));
    assert_eq!(stage.pass(SECOND).len(), 1);
    // The second of them came too late: its task was taken from it.
    assert_eq!(ask(&mut stage, "y"), (None, Some(2)));
    assert_eq!(ask(&mut stage, "x"), (Some(3), None));
    assert_eq!(ask(&mut stage, "y"), (Some(2), None));
    assert_eq!(ask(&mut stage, "y"), (None, None));
}

#[test]
fn a_line_that_has_not_come_is_not_done() {
    let mut stage = Stage::new();
    stage.add(1..=1, 1, "a", 1);
    stage.add(2..=2, 1, "b", 1);
    let now = stage.now.at;
    let (_, taken) = begin(&mut stage, "x", now);
    let (task, number) = taken.unwrap();
    // While it is being written, another request of the same caller neither ends it nor gets more.
    stage.pass(SECOND);
    assert_eq!(ask(&mut stage, "x"), (None, None));
    // The caller was gone: it goes back, as if it had not been taken.
    let changes = {
        let fault = TaskFault { kind: GIVEN_BACK.to_owned(), message: "gone".to_owned() };
        let failure = Failure { fault, retry: true, after: Some(Duration::ZERO), result: None };
        stage.queue.fail("of x", number, failure, stage.now).unwrap()
    };
    assert_eq!((changes[0].standing.state, changes[0].standing.attempts), (TaskState::Queued, 0));
    assert_eq!((task, ask(&mut stage, "x")), (1, (None, Some(1))));
    // A request that waited before the line came to another one of the same caller does not end it either.
    let before = stage.now.at;
    stage.pass(SECOND);
    assert_eq!(ask(&mut stage, "x"), (Some(1), Some(2)));
    assert_eq!(begin(&mut stage, "x", before), (None, None));
}

#[test]
fn a_line_of_an_earlier_run_is_given_again() {
    let mut stage = Stage::new();
    let hold = Hold { number: 1, id: "of t".to_owned(), as_text: true };
    let standing = Standing { state: TaskState::Leased, attempts: 1, hold: Some(Box::new(hold)), ..Standing::queued() };
    let standing = Standing { worker: Some("t".into()), ..standing };
    stage.queue = Queue::new(rules(), 2);
    stage.queue.add(OpenTask { standing, ..stage.task(1, 1, "a", 1) }, stage.now);
    stage.add(2..=2, 1, "b", 1);
    stage.pass(3_000 * SECOND);
    assert_eq!(ask(&mut stage, "t"), (None, Some(1)));
    // It lives anew from there.
    assert!(stage.pass(3_000 * SECOND).is_empty());
    assert_eq!(ask(&mut stage, "t"), (Some(1), Some(2)));
    assert_eq!(ask(&mut stage, "t"), (Some(2), None));
    assert!(stage.queue.is_empty());
}

#[test]
fn what_a_line_cannot_say_waits_for_others() {
    let mut stage = Stage::new();
    stage.queue.add(OpenTask { plain: false, ..stage.task(1, 1, "a", 1) }, stage.now);
    stage.add(2..=2, 1, "a", 1);
    // Not even the older one of the same recorder is in the way.
    assert_eq!(ask(&mut stage, "x"), (None, Some(2)));
    assert!(stage.queue.has_queued(false) && !stage.queue.has_queued(true));
    assert_eq!(ask(&mut stage, "x"), (Some(2), None));
    assert_eq!(stage.take().map(|(task, _)| task), Some(1));
}

#[test]
fn who_asks_for_the_next_line_has_got_in_with_the_last() {
    let mut stage = Stage::new();
    stage.add(1..=4, 1, "a", 3);
    assert_eq!(ask(&mut stage, "x"), (None, Some(1)));
    assert_eq!(ask(&mut stage, "y"), (None, None));
    assert_eq!(ask(&mut stage, "x"), (Some(1), Some(2)));
    assert_eq!(ask(&mut stage, "y"), (None, Some(3)));
    assert_eq!(ask(&mut stage, "z"), (None, Some(4)));
}

#[test]
fn who_is_gone_with_a_line_keeps_others_from_its_login_for_minutes() {
    let mut stage = Stage::new();
    stage.add(1..=4, 1, "a", 3);
    assert_eq!(ask(&mut stage, "gone"), (None, Some(1)));
    assert!(stage.pass(299 * SECOND).is_empty());
    assert_eq!((ask(&mut stage, "x"), stage.queue.next_wake()), ((None, None), Some(stage.now.at + SECOND)));
    assert!(stage.pass(SECOND).is_empty());
    // And again one alone tries.
    let (task, number) = stage.take().unwrap();
    assert_eq!((task, stage.take()), (2, None));
    stage.get_in(number);
    assert_eq!(stage.take().map(|(task, _)| task), Some(3));
    // The recorder has no more room, until the hour is over.
    assert!(stage.take().is_none());
    stage.pass(LIVES);
    assert_eq!(stage.take().map(|(task, _)| task), Some(2));
    assert!(stage.take().map(|(task, _)| task) == Some(3) && stage.take().is_none());
    let over = stage.pass(3_280 * SECOND);
    assert!(over.iter().any(|change| change.task == 1 && change.standing.state == TaskState::Queued), "{over:?}");
    assert_eq!(stage.take().map(|(task, _)| task), Some(1));
}
