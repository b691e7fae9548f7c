//! How attempts end: well, badly, in silence, or because somebody calls them off; and what that is the end of.

use std::time::Duration;

use super::login::Refused;
use super::queue::{Failure, GIVEN_BACK, LONGEST_WAIT, LeaseLost, Now, Queue, changed};
use crate::model::{JobNo, LastWord, LeaseNo, OpenTask, TaskChange, TaskFault, TaskNo, TaskResult, TaskState};

/// A recorder has refused a user and a password: another try with them costs one of the few that it allows.
const AUTH: &str = "auth";

/// A recorder lets nobody in for some time, after too many wrong tries.
pub(super) const LOCKOUT: &str = "lockout";

/// The shortest time for which a recorder counts as locked.
const SHORTEST_LOCK: Duration = Duration::from_secs(1);

impl Queue {
    /// Takes a holder's word that its task is done. Said once more it changes nothing.
    ///
    /// # Errors
    ///
    /// When the lease is over otherwise, or the number is another's.
    pub fn complete(
        &mut self,
        id: &str,
        number: LeaseNo,
        result: Option<TaskResult>,
        now: Now,
    ) -> Result<Option<TaskChange>, LeaseLost> {
        if self.said.is(number, id, LastWord::Complete) {
            return Ok(None);
        }
        let stop = self.held(number, Some(id), now)?.stop;
        let task = self.release(number).ok_or(LeaseLost)?;
        if !stop {
            self.recorders.prove(&self.tasks[&task], number);
        }
        let said = Some((number, id.to_owned(), LastWord::Complete));
        Ok(Some(self.finish(task, TaskState::Done, result, None, said, now)))
    }

    /// Takes a holder's word that its task came to nothing. Said once more it changes nothing.
    ///
    /// Where the recorder has refused the login, or locked it, that is the end of other tasks with the same login as well, or
    /// they wait: they come behind the first.
    ///
    /// # Errors
    ///
    /// When the lease is over otherwise, or the number is another's.
    pub fn fail(
        &mut self,
        id: &str,
        number: LeaseNo,
        failure: Failure,
        now: Now,
    ) -> Result<Vec<TaskChange>, LeaseLost> {
        if self.said.is(number, id, LastWord::Fail) {
            return Ok(Vec::new());
        }
        let stop = self.held(number, Some(id), now)?.stop;
        let no = self.release(number).ok_or(LeaseLost)?;
        let said = Some((number, id.to_owned(), LastWord::Fail));
        let Failure { fault, retry, after, result } = failure;
        let (most, task) = (self.rules.attempts, self.tasks.get_mut(&no).ok_or(LeaseLost)?);
        let cancelling = task.standing.cancelling;
        let given_back = fault.kind == GIVEN_BACK;
        if given_back {
            task.standing.attempts = task.standing.attempts.saturating_sub(1);
        }
        let (attempts, kind) = (task.standing.attempts, fault.kind.clone());
        let wait = match after {
            Some(after) => after,
            None if kind == LOCKOUT => self.rules.wait_max,
            None => self.rules.wait(attempts),
        };
        let shortest = if kind == LOCKOUT { SHORTEST_LOCK } else { Duration::ZERO };
        let wait = wait.clamp(shortest, LONGEST_WAIT);
        let task = task.clone();
        // Before it leaves: with the last task of a password all is forgotten that is known of it.
        let refused = (kind == AUTH).then(|| self.recorders.refuse(&task, number, self.next));
        let own = match () {
            () if cancelling => self.finish(no, TaskState::Cancelled, result, None, said, now),
            () if kind == AUTH => self.finish(no, TaskState::Failed, result, Some(fault), said, now),
            () if stop => self.finish(no, TaskState::Failed, result, Some(not_tried()), said, now),
            () if !retry || attempts >= most => self.finish(no, TaskState::Failed, result, Some(fault), said, now),
            () => self.again(no, wait, result, Some(fault).filter(|_| !given_back), said, now),
        };
        let mut changes = vec![own];
        if let Some(refused) = refused {
            self.refuse(&task, refused, &mut changes, now);
        }
        if kind == LOCKOUT {
            self.lock(&task, wait, &mut changes, now);
        }
        Ok(changes)
    }

    /// Ends the tasks that the refusal of this one is the end of.
    fn refuse(&mut self, task: &OpenTask, refused: Refused, changes: &mut Vec<TaskChange>, now: Now) {
        if refused == Refused::Nothing {
            return;
        }
        let others = self.recorders.of_same_login(task);
        for other in others.into_iter().filter(|other| *other != task.task) {
            let of = &self.tasks[&other];
            let is_same = (of.job, of.secret) == (task.job, task.secret);
            let is_spared = if refused == Refused::All { self.recorders.is_good(of) } else { !is_same };
            if is_spared {
                continue;
            }
            match of.standing.hold.as_ref().map(|hold| hold.number) {
                // Its holder hears of it by its next heartbeat.
                Some(number) => self.leases.entry(number).and_modify(|lease| lease.stop = true),
                None => {
                    changes.push(self.finish(other, TaskState::Failed, None, Some(not_tried()), None, now));
                    continue;
                }
            };
        }
    }

    /// Lets all tasks of a login wait that the recorder has locked.
    fn lock(&mut self, task: &OpenTask, wait: Duration, changes: &mut Vec<TaskChange>, now: Now) {
        let until = now.at + wait;
        self.recorders.lock(task, until, self.next);
        for other in self.recorders.of_same_login(task).into_iter().filter(|other| *other != task.task) {
            let of = self.tasks.get_mut(&other).expect("a member of a login is there");
            let waits = self.until.get(&other).copied();
            if of.standing.hold.is_some() || waits.is_some_and(|at| at >= until) {
                continue;
            }
            of.standing.ready_at = Some(now.wall.after(wait));
            let message = "it waits: the recorder has locked its login, as another task was told".to_owned();
            of.standing.fault = Some(Box::new(TaskFault { kind: LOCKOUT.to_owned(), message }));
            changes.push(changed(of, of.standing.state, None));
            match waits {
                Some(at) => drop(self.waiting.remove(&(at, other))),
                None => drop(self.recorders.dequeue(of)),
            }
            self.waiting.insert((until, other));
            self.until.insert(other, until);
        }
    }

    /// Ends leases whose time is over, and lets tasks come whose time has come, or for whose login nobody is waited any more.
    pub fn expire(&mut self, now: Now) -> Vec<TaskChange> {
        let mut changes = Vec::new();
        while let Some((end, number)) = self.ends.first().copied()
            && end <= now.at
        {
            let stop = self.leases.get(&number).is_some_and(|lease| lease.stop);
            self.ends.pop_first();
            let Some(no) = self.release(number) else { continue };
            let (standing, most) = (&self.tasks[&no].standing, self.rules.attempts);
            let (cancelling, attempts) = (standing.cancelling, standing.attempts);
            let worker = standing.worker.as_deref().unwrap_or("the worker").to_owned();
            let message = format!("nothing was heard of {worker} for as long as a lease lives");
            let fault = TaskFault { kind: "lease_lost".to_owned(), message };
            changes.push(match () {
                () if cancelling => self.finish(no, TaskState::Cancelled, None, None, None, now),
                () if stop => self.finish(no, TaskState::Failed, None, Some(not_tried()), None, now),
                () if attempts >= most => self.finish(no, TaskState::Failed, None, Some(fault), None, now),
                () => self.again(no, Duration::ZERO, None, Some(fault), None, now),
            });
        }
        while let Some((until, number)) = self.tries.first().copied()
            && until <= now.at
        {
            self.tries.pop_first();
            if let Some(lease) = self.leases.get_mut(&number) {
                lease.let_be = true;
                self.recorders.let_be(&self.tasks[&lease.task]);
            }
        }
        while let Some((at, no)) = self.waiting.first().copied()
            && at <= now.at
        {
            self.waiting.pop_first();
            self.until.remove(&no);
            self.enqueue(no, Duration::ZERO, now);
        }
        changes
    }

    /// Calls a job's tasks off: those that wait at once, those in hands when their holders hear of it or their leases end.
    pub fn cancel(&mut self, job: JobNo, now: Now) -> Vec<TaskChange> {
        let tasks = self.jobs.get(&job).cloned().unwrap_or_default();
        let mut changes = Vec::new();
        for no in tasks {
            let Some(task) = self.tasks.get_mut(&no) else { continue };
            if task.standing.hold.is_none() {
                changes.push(self.finish(no, TaskState::Cancelled, None, None, None, now));
            } else if !task.standing.cancelling {
                task.standing.cancelling = true;
                changes.push(changed(task, task.standing.state, None));
            }
        }
        changes
    }

    /// Puts a task back in the queue.
    fn again(
        &mut self,
        no: TaskNo,
        wait: Duration,
        result: Option<TaskResult>,
        fault: Option<TaskFault>,
        said: Option<(LeaseNo, String, LastWord)>,
        now: Now,
    ) -> TaskChange {
        self.remember_word(said.as_ref());
        let task = self.tasks.get_mut(&no).expect("who asks has looked");
        let before = task.standing.state;
        task.since = now.wall;
        let standing = &mut task.standing;
        standing.state = TaskState::Queued;
        standing.hold = None;
        standing.ready_at = (!wait.is_zero()).then(|| now.wall.after(wait));
        standing.result = result.map(Box::new).or(standing.result.take());
        standing.fault = fault.map(Box::new).or(standing.fault.take());
        let change = changed(task, before, said);
        self.enqueue(no, wait, now);
        change
    }

    /// Lets a task come to its end.
    pub(super) fn finish(
        &mut self,
        no: TaskNo,
        state: TaskState,
        result: Option<TaskResult>,
        fault: Option<TaskFault>,
        said: Option<(LeaseNo, String, LastWord)>,
        now: Now,
    ) -> TaskChange {
        self.remember_word(said.as_ref());
        let mut task = self.tasks.remove(&no).expect("who asks has looked");
        if let Some(tasks) = self.jobs.get_mut(&task.job) {
            tasks.remove(&no);
            if tasks.is_empty() {
                self.jobs.remove(&task.job);
            }
        }
        self.plain -= usize::from(task.plain);
        if let Some(at) = self.until.remove(&no) {
            self.waiting.remove(&(at, no));
        }
        self.recorders.leave(&task);
        let before = task.standing.state;
        let standing = &mut task.standing;
        standing.state = state;
        standing.hold = None;
        standing.ready_at = None;
        standing.cancelling = false;
        standing.ended_at = Some(now.wall);
        // What an earlier attempt came to says nothing of one that is done.
        let earlier = standing.result.take().filter(|_| state != TaskState::Done);
        standing.result = result.map(Box::new).or(earlier);
        standing.fault = match state {
            TaskState::Done => None,
            _ => fault.map(Box::new).or(standing.fault.take()),
        };
        changed(&task, before, said)
    }

    fn remember_word(&mut self, said: Option<&(LeaseNo, String, LastWord)>) {
        if let Some((number, id, word)) = said {
            self.said.remember(*number, id.clone(), *word);
        }
    }
}

/// Why a task is not tried whose login was refused to another one.
fn not_tried() -> TaskFault {
    let message =
        "not tried: the recorder has refused its login to another task, and locks out whoever is wrong too often; \
                   see to the password, and retry"
            .to_owned();
    TaskFault { kind: AUTH.to_owned(), message }
}
