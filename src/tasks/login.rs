//! What is known of one user at one recorder, and of each password with which tasks would have it log in.
//!
//! One password that has got in says nothing of another: tasks of one that has not are in one hand alone at a time.

use std::time::Instant;

use super::few::Few;
use crate::model::{JobNo, LeaseNo, OpenTask, TaskNo};

/// Refusals of one login, whatever the passwords, after which none is tried any more that has not got in.
pub(super) const MOST_REFUSALS: u32 = 2;

/// Tasks are counted twice: all of them, and those that a line of text can say.
pub(super) const ALL: usize = 0;
pub(super) const PLAIN: usize = 1;

/// Tasks that may be taken, each with how many of its recorder may be in hands at once.
pub(super) type Waiting = Few<TaskNo, u32>;

/// A password as its job counts it: two jobs may have the same, which is not known here.
type PasswordName = (JobNo, Option<u32>);

/// What is known of one password.
#[derive(Debug, Default)]
struct Password {
    members: usize,
    queued: [Waiting; 2],
    /// Tasks in hands whose holders may be logging in with it.
    held: u32,
    /// The tasks that stand for it in the login's lists.
    first: [Option<TaskNo>; 2],
    /// Whether somebody has got in with it since it was refused last.
    good: bool,
    /// Whether it was good when it was refused last, or the login was locked.
    was_good: bool,
    /// Refusals since somebody has got in with it.
    refused: u32,
    /// Leases with a lower number say nothing of it: it was refused since.
    since: LeaseNo,
}

/// What is known of one user at one recorder.
#[derive(Debug, Default)]
pub(super) struct Login {
    /// All its tasks of which something may still become.
    members: Few<TaskNo, ()>,
    passwords: Few<PasswordName, Box<Password>>,
    /// The oldest task that waits of each password that is good, and of each other one.
    good: [Waiting; 2],
    others: [Waiting; 2],
    /// Tasks in hands whose password is not known to be good.
    in_doubt: u32,
    /// Refusals of all its passwords, but for those of one with which somebody has got in since.
    refused: u32,
    /// Leases with a lower number say nothing of it: it was locked since.
    since: LeaseNo,
    /// Nobody is let in before.
    pub(super) locked: Option<Instant>,
    /// The tasks that stand for it in the recorder's lists.
    pub(super) first: [Option<TaskNo>; 2],
}

impl Login {
    /// Knows of a task, and of its password for as long as it has any.
    pub(super) fn join(&mut self, task: &OpenTask) {
        if self.members.get(&task.task).is_some() {
            return;
        }
        self.members.insert(task.task, ());
        let name = password_of(task);
        match self.passwords.get_mut(&name) {
            Some(password) => password.members += 1,
            None => self.passwords.insert(name, Box::new(Password { members: 1, ..Password::default() })),
        }
    }

    /// Forgets a task that neither waits nor is in anybody's hands; whether that was the last one.
    pub(super) fn leave(&mut self, task: &OpenTask) -> bool {
        let name = password_of(task);
        if self.members.remove(&task.task).is_some()
            && let Some(password) = self.passwords.get_mut(&name)
        {
            password.members -= 1;
            if password.members == 0 {
                self.passwords.remove(&name);
            }
        }
        self.members.is_empty()
    }

    /// All its tasks of which something may still become.
    pub(super) fn members(&self) -> impl Iterator<Item = TaskNo> {
        self.members.iter().map(|(no, ())| *no)
    }

    /// Lets a task be taken.
    pub(super) fn enqueue(&mut self, task: &OpenTask) {
        self.change(task, |password| {
            password.queued[ALL].insert(task.task, task.sessions);
            if task.plain {
                password.queued[PLAIN].insert(task.task, task.sessions);
            }
        });
    }

    /// Lets a task not be taken any more; whether it could have been.
    pub(super) fn dequeue(&mut self, task: &OpenTask) -> bool {
        let mut was_queued = false;
        self.change(task, |password| {
            was_queued = password.queued[ALL].remove(&task.task).is_some();
            password.queued[PLAIN].remove(&task.task);
        });
        was_queued
    }

    /// Somebody may be logging in for this task from now on.
    pub(super) fn hold(&mut self, task: &OpenTask) {
        self.change(task, |password| password.held += 1);
    }

    /// Nobody does any more.
    pub(super) fn release(&mut self, task: &OpenTask) {
        self.change(task, |password| password.held = password.held.saturating_sub(1));
    }

    /// The oldest task that may be tried: of a password that is good, or of any while none is being tried that is not.
    pub(super) fn next(&self, kind: usize) -> Option<(TaskNo, u32)> {
        let others = self.others[kind].first().filter(|_| self.in_doubt == 0);
        self.good[kind].first().into_iter().chain(others).min().map(|(no, most)| (*no, *most))
    }

    /// The oldest task that waits.
    pub(super) fn oldest(&self) -> Option<TaskNo> {
        [&self.good, &self.others].into_iter().filter_map(|firsts| firsts[ALL].first()).map(|(no, _)| *no).min()
    }

    /// Whether somebody has got in with the password of this task since it was refused last.
    pub(super) fn is_good(&self, task: &OpenTask) -> bool {
        self.passwords.get(&password_of(task)).is_some_and(|password| password.good)
    }

    /// Whether it would change anything that somebody got in with the password of this task, under a lease of this number.
    pub(super) fn is_news(&self, task: &OpenTask, number: LeaseNo) -> bool {
        let password = self.passwords.get(&password_of(task));
        password.is_some_and(|password| number >= self.since.max(password.since) && !password.good)
    }

    /// Somebody got in with the password of this task.
    pub(super) fn prove(&mut self, task: &OpenTask) {
        let mut forgiven = 0;
        self.change(task, |password| {
            forgiven = password.refused;
            (password.good, password.refused) = (true, 0);
        });
        self.refused = self.refused.saturating_sub(forgiven);
        self.locked = None;
    }

    /// The password of this task was refused under a lease of this number; leases before `next` say nothing more of it.
    pub(super) fn refuse(&mut self, task: &OpenTask, number: LeaseNo, next: LeaseNo) -> Refused {
        let refused = self.refused + 1;
        let mut answer = Refused::Nothing;
        let mut counts = true;
        self.change(task, |password| {
            if password.was_good && number < password.since {
                // As many as were in hands may have been guests too many, or are the one try of each.
                counts = false;
                return;
            }
            answer = match () {
                () if password.good => Refused::Nothing,
                () if refused >= MOST_REFUSALS => Refused::All,
                () => Refused::Password,
            };
            password.refused += 1;
            (password.was_good, password.good, password.since) = (password.good, false, next);
        });
        self.refused += u32::from(counts);
        answer
    }

    /// The recorder lets nobody in until then; leases before `next` say nothing more of it.
    pub(super) fn lock(&mut self, until: Instant, next: LeaseNo) {
        (self.since, self.locked) = (self.since.max(next), self.locked.max(Some(until)));
        let good: Vec<_> = self.passwords.iter().filter(|(_, one)| one.good).map(|(name, _)| *name).collect();
        for name in good {
            self.change_of(name, |password| (password.was_good, password.good, password.since) = (true, false, next));
        }
    }

    fn change(&mut self, task: &OpenTask, change: impl FnOnce(&mut Password)) {
        self.change_of(password_of(task), change);
    }

    /// Changes what is known of a password, and looks anew which of its tasks is next.
    fn change_of(&mut self, name: PasswordName, change: impl FnOnce(&mut Password)) {
        let Some(password) = self.passwords.get_mut(&name) else { return };
        let in_doubt = |password: &Password| if password.good { 0 } else { password.held };
        self.in_doubt -= in_doubt(password);
        let was_good = password.good;
        change(password);
        self.in_doubt += in_doubt(password);
        for kind in [ALL, PLAIN] {
            let first = password.queued[kind].first().map(|(no, most)| (*no, *most));
            if was_good == password.good && first.map(|(no, _)| no) == password.first[kind] {
                continue;
            }
            if let Some(before) = password.first[kind] {
                let firsts = if was_good { &mut self.good } else { &mut self.others };
                firsts[kind].remove(&before);
            }
            let firsts = if password.good { &mut self.good } else { &mut self.others };
            if let Some((no, most)) = first {
                firsts[kind].insert(no, most);
            }
            password.first[kind] = first.map(|(no, _)| no);
        }
    }
}

/// Which tasks the refusal of a login is the end of, beside the one that was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refused {
    /// None yet.
    Nothing,
    /// Those of the same password.
    Password,
    /// All of that login but those of a password that is good.
    All,
}

fn password_of(task: &OpenTask) -> PasswordName {
    (task.job, task.secret)
}
