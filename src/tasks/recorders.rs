//! Which task is next: the oldest whose recorder has room, and whose login is not in doubt.
//!
//! A recorder locks out whoever is wrong a handful of times, and it does not matter to it how many workers they were. So a
//! login, a user at a recorder, is in one hand alone until somebody has got in with it, and again once it was refused; and
//! so it is with each other password of that user.
//! Plain state without I/O; tasks that wait for their time are not in here but as members of their logins.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::login::{ALL, Login, PLAIN, Refused, Waiting};
use crate::model::{LeaseNo, OpenTask, TaskNo};

/// A recorder and a user.
type LoginName = (Arc<str>, Arc<str>);

/// What is known of one recorder.
#[derive(Debug, Default)]
struct Recorder {
    held: u32,
    /// The oldest task of each login that may be tried.
    firsts: [Waiting; 2],
    /// The tasks that stand for it in [`Recorders::ready`].
    ready: [Option<TaskNo>; 2],
}

/// All recorders of which there are tasks.
#[derive(Debug, Default)]
pub(super) struct Recorders {
    recorders: HashMap<Arc<str>, Recorder>,
    logins: HashMap<LoginName, Login>,
    /// The oldest task of each recorder that has room for it: the first of them is next.
    ready: [BTreeSet<TaskNo>; 2],
}

impl Recorders {
    /// Knows of a task, and of its login for as long as it has any.
    pub(super) fn join(&mut self, task: &OpenTask) {
        self.logins.entry(login_of(task)).or_default().join(task);
    }

    /// Forgets a task that has come to its end and is in nobody's hands.
    pub(super) fn leave(&mut self, task: &OpenTask) {
        self.dequeue(task);
        let name = login_of(task);
        if self.logins.get_mut(&name).is_some_and(|login| login.leave(task)) {
            self.logins.remove(&name);
        }
        let is_unused = |of: &Recorder| of.held == 0 && of.firsts[ALL].is_empty();
        if self.recorders.get(&task.recorder).is_some_and(is_unused) {
            self.recorders.remove(&task.recorder);
        }
    }

    /// Lets a task be taken.
    pub(super) fn enqueue(&mut self, task: &OpenTask) {
        self.change(task, |login, _| login.enqueue(task));
    }

    /// Lets a task not be taken any more; whether it could have been.
    pub(super) fn dequeue(&mut self, task: &OpenTask) -> bool {
        let mut was_queued = false;
        self.change(task, |login, _| was_queued = login.dequeue(task));
        was_queued
    }

    /// Somebody has a task in hands from now on.
    pub(super) fn hold(&mut self, task: &OpenTask) {
        self.dequeue(task);
        self.change(task, |login, recorder| {
            login.hold(task);
            recorder.held += 1;
        });
    }

    /// Whoever has it is not waited for any more before its login is tried by somebody else.
    pub(super) fn let_be(&mut self, task: &OpenTask) {
        self.change(task, |login, _| login.release(task));
    }

    /// Nobody has it any more; `let_be` where nobody has waited for that.
    pub(super) fn release(&mut self, task: &OpenTask, let_be: bool) {
        self.change(task, |login, recorder| {
            if !let_be {
                login.release(task);
            }
            recorder.held = recorder.held.saturating_sub(1);
        });
    }

    /// The oldest task that may be taken; of all, or of those that a line of text can say.
    pub(super) fn first(&self, plain: bool) -> Option<TaskNo> {
        self.ready[usize::from(plain)].first().copied()
    }

    /// Somebody got in with the login of this task and its password, under a lease of this number.
    pub(super) fn prove(&mut self, task: &OpenTask, number: LeaseNo) {
        if self.logins.get(&login_of(task)).is_some_and(|login| login.is_news(task, number)) {
            self.change(task, |login, _| login.prove(task));
        }
    }

    /// The login of this task was refused under a lease of this number; leases before `next` say nothing more of its
    /// password. Which of its tasks that is the end of: those that have the same password, where nobody has ever got in
    /// with it; all where it is not the first time, but for those whose password is good; none where its own was good a
    /// moment ago, because recorders refuse whoever is one too many as well.
    pub(super) fn refuse(&mut self, task: &OpenTask, number: LeaseNo, next: LeaseNo) -> Refused {
        let mut refused = Refused::Nothing;
        self.change(task, |login, _| refused = login.refuse(task, number, next));
        refused
    }

    /// Whether somebody has got in with the password of this task since it was refused last.
    pub(super) fn is_good(&self, task: &OpenTask) -> bool {
        self.logins.get(&login_of(task)).is_some_and(|login| login.is_good(task))
    }

    /// The recorder has locked the login of this task until then; leases before `next` say nothing more of it.
    pub(super) fn lock(&mut self, task: &OpenTask, until: Instant, next: LeaseNo) {
        self.change(task, |login, _| login.lock(until, next));
    }

    /// Until when the login of a task is locked.
    pub(super) fn locked(&self, task: &OpenTask) -> Option<Instant> {
        self.logins.get(&login_of(task))?.locked
    }

    /// All tasks of a task's login of which something may still become.
    pub(super) fn of_same_login(&self, task: &OpenTask) -> Vec<TaskNo> {
        let login = self.logins.get(&login_of(task));
        login.map(|login| login.members().collect()).unwrap_or_default()
    }

    /// The oldest task that could be taken of each login, were there room.
    pub(super) fn oldest(&self) -> impl Iterator<Item = TaskNo> {
        self.logins.values().filter_map(Login::oldest)
    }

    /// Changes what is known, and looks anew which task is next.
    fn change(&mut self, task: &OpenTask, change: impl FnOnce(&mut Login, &mut Recorder)) {
        // With its last task it is forgotten.
        let Some(login) = self.logins.get_mut(&login_of(task)) else { return };
        let recorder = self.recorders.entry(task.recorder.clone()).or_default();
        change(login, recorder);
        for kind in [ALL, PLAIN] {
            let first = login.next(kind);
            if first.map(|(no, _)| no) != login.first[kind] {
                if let Some(before) = login.first[kind] {
                    recorder.firsts[kind].remove(&before);
                }
                if let Some((no, most)) = first {
                    recorder.firsts[kind].insert(no, most);
                }
                login.first[kind] = first.map(|(no, _)| no);
            }
            let next = recorder.firsts[kind].first();
            let ready = next.filter(|(_, most)| recorder.held < (**most).max(1)).map(|(no, _)| *no);
            if ready != recorder.ready[kind] {
                if let Some(before) = recorder.ready[kind] {
                    self.ready[kind].remove(&before);
                }
                self.ready[kind].extend(ready);
                recorder.ready[kind] = ready;
            }
        }
    }
}

fn login_of(task: &OpenTask) -> LoginName {
    (task.recorder.clone(), task.user.clone())
}
