//! Which task is next, when a lease ends, and what a late word gets.
//!
//! Plain state without I/O; the clock is passed in. Every change of a task comes back as a [`TaskChange`], which whoever
//! holds the queue makes durable in the order in which it was given.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::endings::LOCKOUT;
use super::recorders::Recorders;
use super::said::Said;
use crate::model::{
    Hold, JobNo, LastWord, LeaseNo, OpenTask, Standing, TaskChange, TaskFault, TaskNo, TaskProgress, TaskResult,
    TaskState, UnixMicros,
};

/// A worker that stops in good order gives back what it has in this word; that is no failed attempt.
pub const GIVEN_BACK: &str = "interrupted";

/// The longest time that a worker may ask a task to wait.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3_600);

/// How long whoever has a line of text is waited for before its login is tried by somebody else: it says nothing of how it
/// is getting on, and may be gone.
pub(super) const TEXT_TRY: Duration = Duration::from_secs(5 * 60);

/// What the queue goes by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// How long a lease lives from its last heartbeat.
    pub lives: Duration,
    /// How long a lease lives that was given as text, to somebody who sends no heartbeats.
    pub text_lives: Duration,
    /// How often a task is taken before it counts as failed.
    pub attempts: u32,
    /// How long a task waits after its first failed attempt; twice as long after each further one.
    pub wait_min: Duration,
    /// The longest of these waits.
    pub wait_max: Duration,
}

/// This moment, by both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// By the one that leases go by.
    pub at: Instant,
    /// By the one that people go by.
    pub wall: UnixMicros,
}

impl Now {
    /// What the machine's clocks show.
    pub fn read() -> Self {
        Self { at: Instant::now(), wall: UnixMicros::now() }
    }
}

/// A lease that was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taken {
    /// Its fencing number.
    pub number: LeaseNo,
    /// How long it lives without a heartbeat.
    pub lives: Duration,
    /// The task, as it stands by this.
    pub change: TaskChange,
}

/// What a heartbeat is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Beat {
    /// How long the lease lives from now on.
    pub lives: Duration,
    /// Whether the task is called off.
    pub cancel: bool,
    /// Whether that is because its login was refused to another task.
    pub refused: bool,
    /// The first one is written down.
    pub change: Option<TaskChange>,
}

/// Why a task came to nothing, as its holder says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// In a word and a sentence.
    pub fault: TaskFault,
    /// Whether another attempt has a chance.
    pub retry: bool,
    /// How long it should wait; `None` where the queue decides.
    pub after: Option<Duration>,
    /// What was done all the same.
    pub result: Option<TaskResult>,
}

/// A word on a lease that is over, or that is another's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "the lease is over, or its number is another's: stop what you do for it; the task is or will be in other hands"
)]
pub struct LeaseLost;

/// How a task in hands is getting on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GettingOn {
    /// What its holder last said.
    pub progress: TaskProgress,
    /// For how long it has had it.
    pub elapsed: Duration,
}

#[derive(Debug)]
pub(super) struct Lease {
    pub(super) task: TaskNo,
    id: String,
    as_text: bool,
    began: Instant,
    expires: Instant,
    progress: TaskProgress,
    handing: Handing,
    /// Whether its login was refused meanwhile, so that it is better not tried on.
    pub(super) stop: bool,
    /// Until when it is waited for before its login is tried by somebody else, where that is not as long as it lives.
    tries_until: Option<Instant>,
    /// Whether it is waited for no more.
    pub(super) let_be: bool,
}

/// How far a lease is on its way to its holder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Handing {
    /// An earlier run gave it, and whether it has come is not known.
    Unknown,
    /// It is being written.
    UnderWay,
    /// It was written.
    Over(Instant),
}

/// What a caller who asks for a line of text was given before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TextBefore {
    /// Nothing.
    Nothing,
    /// A line that has come to it: it is through with that.
    Done(TaskChange),
    /// A line of an earlier run, of which nobody knows whether it has come: the same once more.
    Again(Taken),
    /// A line that another request of the same caller is about to get, or has got since this one came.
    Elsewhere,
}

/// All tasks of which something may still become.
#[derive(Debug)]
pub struct Queue {
    pub(super) rules: Rules,
    pub(super) tasks: HashMap<TaskNo, OpenTask>,
    pub(super) jobs: HashMap<JobNo, BTreeSet<TaskNo>>,
    pub(super) recorders: Recorders,
    /// Tasks that wait until it is their time, and when that is of each.
    pub(super) waiting: BTreeSet<(Instant, TaskNo)>,
    pub(super) until: HashMap<TaskNo, Instant>,
    pub(super) leases: HashMap<LeaseNo, Lease>,
    /// The same by their ends.
    pub(super) ends: BTreeSet<(Instant, LeaseNo)>,
    /// Those given as text, by the times until which they are waited for.
    pub(super) tries: BTreeSet<(Instant, LeaseNo)>,
    /// What was given as text, by who has it.
    texts: HashMap<Arc<str>, LeaseNo>,
    pub(super) said: Said,
    pub(super) next: LeaseNo,
    /// Tasks that a line of text can say, and those of them that are in hands.
    pub(super) plain: usize,
    plain_held: usize,
}

impl Queue {
    /// An empty one, whose first lease has the number `next`.
    pub fn new(rules: Rules, next: LeaseNo) -> Self {
        Self {
            rules,
            tasks: HashMap::new(),
            jobs: HashMap::new(),
            recorders: Recorders::default(),
            waiting: BTreeSet::new(),
            until: HashMap::new(),
            leases: HashMap::new(),
            ends: BTreeSet::new(),
            tries: BTreeSet::new(),
            texts: HashMap::new(),
            said: Said::default(),
            next,
            plain: 0,
            plain_held: 0,
        }
    }

    /// What it goes by.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Adds a task, new or as an earlier run has left it: a lease in hand gets its whole life anew.
    pub fn add(&mut self, task: OpenTask, now: Now) {
        let no = task.task;
        self.jobs.entry(task.job).or_default().insert(no);
        let (hold, worker) = (task.standing.hold.clone(), task.standing.worker.clone());
        let wait = wait_of(&task, now);
        self.recorders.join(&task);
        self.plain += usize::from(task.plain);
        self.tasks.insert(no, task);
        match hold {
            Some(hold) => {
                self.recorders.hold(&self.tasks[&no]);
                self.lease(no, *hold, worker, Handing::Unknown, now);
            }
            None => self.enqueue(no, wait, now),
        }
    }

    /// Adds all that an earlier run has left. What is known of locked logins comes first: it holds for the others as well.
    pub fn restore(&mut self, tasks: Vec<OpenTask>, now: Now) {
        for task in &tasks {
            self.recorders.join(task);
            let wait = wait_of(task, now);
            if !wait.is_zero() && task.standing.fault.as_ref().is_some_and(|fault| fault.kind == LOCKOUT) {
                self.recorders.lock(task, now.at + wait, 0);
            }
        }
        tasks.into_iter().for_each(|task| self.add(task, now));
    }

    /// Remembers how a holder has ended a lease of an earlier run.
    pub fn remember(&mut self, number: LeaseNo, id: String, word: LastWord) {
        self.said.remember(number, id, word);
    }

    /// Gives the oldest task whose recorder has room, and whose login is not being tried by somebody else. `id` is what the
    /// lease shall be called.
    pub fn take(&mut self, worker: Arc<str>, id: String, as_text: bool, now: Now) -> Option<Taken> {
        let no = self.recorders.first(as_text)?;
        self.recorders.hold(&self.tasks[&no]);
        let number = self.next;
        self.next += 1;
        let hold = Hold { number, id, as_text };
        let task = self.tasks.get_mut(&no).expect("what is ready is there");
        let before = task.standing.state;
        task.standing = Standing {
            state: TaskState::Leased,
            attempts: task.standing.attempts + 1,
            ready_at: None,
            hold: Some(Box::new(hold.clone())),
            worker: Some(worker.clone()),
            cancelling: false,
            taken_at: Some(now.wall),
            ended_at: None,
            result: None,
            // Until this attempt has an end of its own.
            fault: task.standing.fault.take(),
        };
        let change = changed(task, before, None);
        let lives = self.lease(no, hold, Some(worker), Handing::UnderWay, now);
        Some(Taken { number, lives, change })
    }

    /// Remembers that a lease was written to its holder.
    pub fn handed(&mut self, number: LeaseNo, now: Now) {
        if let Some(lease) = self.leases.get_mut(&number) {
            lease.handing = Handing::Over(now.at);
        }
    }

    /// Ends what this caller was given as text before it asked at `since`: who asks for the next line is through with the
    /// last one, if that has come.
    pub fn text_before(&mut self, caller: &str, since: Instant, now: Now) -> TextBefore {
        let Some(number) = self.texts.get(caller).copied() else { return TextBefore::Nothing };
        let Ok(Lease { id, task, handing, expires, stop, .. }) = self.held(number, None, now) else {
            return TextBefore::Nothing;
        };
        let (id, task, handing, before, stop) = (id.clone(), *task, *handing, *expires, *stop);
        match handing {
            Handing::Over(at) if at <= since => {
                self.release(number);
                if !stop {
                    self.recorders.prove(&self.tasks[&task], number);
                }
                let said = Some((number, id, LastWord::Complete));
                TextBefore::Done(self.finish(task, TaskState::Done, None, None, said, now))
            }
            Handing::Over(_) | Handing::UnderWay => TextBefore::Elsewhere,
            Handing::Unknown => {
                let lives = self.rules.text_lives;
                self.live_until(number, before, now.at + lives);
                if let Some(lease) = self.leases.get_mut(&number) {
                    lease.handing = Handing::UnderWay;
                }
                let task = &self.tasks[&task];
                TextBefore::Again(Taken { number, lives, change: changed(task, task.standing.state, None) })
            }
        }
    }

    /// Lets a lease live on.
    ///
    /// # Errors
    ///
    /// When it is over, or the number is another's.
    pub fn heartbeat(
        &mut self,
        id: &str,
        number: LeaseNo,
        progress: Option<TaskProgress>,
        now: Now,
    ) -> Result<Beat, LeaseLost> {
        let lease = self.held(number, Some(id), now)?;
        let (no, before, stop) = (lease.task, lease.expires, lease.stop);
        let lives = self.rules.lives_of(lease.as_text);
        self.live_until(number, before, now.at + lives);
        let task = self.tasks.get_mut(&no).ok_or(LeaseLost)?;
        let is_first = task.standing.state == TaskState::Leased;
        task.standing.state = TaskState::Running;
        let change = is_first.then(|| changed(task, TaskState::Leased, None));
        let refused = stop && !task.standing.cancelling;
        let cancel = task.standing.cancelling || stop;
        if let Some(progress) = progress {
            // A recorder that tells what it has, has let somebody in.
            if !stop && (progress.files > 0 || progress.bytes > 0 || progress.of.is_some_and(|of| of > 0)) {
                self.recorders.prove(&self.tasks[&no], number);
            }
            self.leases.get_mut(&number).ok_or(LeaseLost)?.progress = progress;
        }
        Ok(Beat { lives, cancel, refused, change })
    }

    /// When [`expire`](Self::expire) has something to do next.
    pub fn next_wake(&self) -> Option<Instant> {
        let end = self.ends.first().map(|(at, _)| *at);
        let wait = self.waiting.first().map(|(at, _)| *at);
        let tried = self.tries.first().map(|(at, _)| *at);
        end.into_iter().chain(wait).chain(tried).min()
    }

    /// How a task in hands is getting on; `None` where it is in nobody's, or nothing was said of it.
    pub fn getting_on(&self, task: TaskNo, now: Now) -> Option<GettingOn> {
        let number = self.tasks.get(&task)?.standing.hold.as_ref()?.number;
        let lease = self.leases.get(&number)?;
        Some(GettingOn { progress: lease.progress, elapsed: now.at.saturating_duration_since(lease.began) })
    }

    /// The tasks of a job that are in hands, and how they are getting on.
    pub fn all_getting_on(&self, job: JobNo, now: Now) -> Vec<GettingOn> {
        let held = self.leases.values().map(|lease| lease.task);
        held.filter(|no| self.tasks[no].job == job).filter_map(|no| self.getting_on(no, now)).collect()
    }

    /// The job and the task that a lease is on.
    pub fn of(&self, number: LeaseNo) -> Option<(JobNo, TaskNo)> {
        let task = self.leases.get(&number)?.task;
        Some((self.tasks.get(&task)?.job, task))
    }

    /// Whether a task is known as one of which something may still become.
    pub fn has(&self, task: TaskNo) -> bool {
        self.tasks.contains_key(&task)
    }

    /// How many tasks may still become something.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Whether a task is in nobody's hands; of all, or of those that a line of text can say.
    pub fn has_queued(&self, plain: bool) -> bool {
        if plain { self.plain > self.plain_held } else { self.tasks.len() > self.leases.len() }
    }

    /// Whether a task could be taken now.
    pub fn is_ready(&self) -> bool {
        self.recorders.first(false).is_some()
    }

    /// Since when the oldest task waits that could have been taken before now, were there workers and room.
    pub fn oldest_queued(&self) -> Option<UnixMicros> {
        self.recorders.oldest().map(|no| self.tasks[&no].since).min()
    }

    /// The lease of this number, if it is not over and is called so.
    pub(super) fn held(&self, number: LeaseNo, id: Option<&str>, now: Now) -> Result<&Lease, LeaseLost> {
        let lease = self.leases.get(&number).filter(|lease| lease.expires > now.at);
        lease.filter(|lease| id.is_none_or(|id| lease.id == id)).ok_or(LeaseLost)
    }

    fn lease(&mut self, task: TaskNo, hold: Hold, worker: Option<Arc<str>>, handing: Handing, now: Now) -> Duration {
        let Hold { number, id, as_text } = hold;
        let lives = self.rules.lives_of(as_text);
        let expires = now.at + lives;
        if let Some(worker) = worker.filter(|_| as_text) {
            self.texts.insert(worker, number);
        }
        let progress = TaskProgress::default();
        let began = now.at;
        let tries_until = as_text.then_some(began + TEXT_TRY).filter(|until| *until < expires);
        let (stop, let_be) = (false, false);
        let lease = Lease { task, id, as_text, began, expires, progress, handing, stop, tries_until, let_be };
        self.leases.insert(number, lease);
        self.ends.insert((expires, number));
        self.tries.extend(tries_until.map(|until| (until, number)));
        self.plain_held += usize::from(self.tasks[&task].plain);
        lives
    }

    fn live_until(&mut self, number: LeaseNo, before: Instant, expires: Instant) {
        self.ends.remove(&(before, number));
        self.ends.insert((expires, number));
        if let Some(lease) = self.leases.get_mut(&number) {
            lease.expires = expires;
        }
    }

    /// Takes a task out of its holder's hands.
    pub(super) fn release(&mut self, number: LeaseNo) -> Option<TaskNo> {
        let Lease { task, expires, tries_until, let_be, .. } = self.leases.remove(&number)?;
        self.ends.remove(&(expires, number));
        if let Some(until) = tries_until {
            self.tries.remove(&(until, number));
        }
        let of = self.tasks.get(&task)?;
        if let Some(worker) = &of.standing.worker
            && self.texts.get(worker) == Some(&number)
        {
            self.texts.remove(worker);
        }
        self.plain_held -= usize::from(of.plain);
        self.recorders.release(of, let_be);
        Some(task)
    }

    /// Lets a task wait, or come at once.
    pub(super) fn enqueue(&mut self, no: TaskNo, wait: Duration, now: Now) {
        let task = &self.tasks[&no];
        let locked = self.recorders.locked(task).map(|until| until.saturating_duration_since(now.at));
        let wait = wait.max(locked.unwrap_or_default());
        if !wait.is_zero() {
            self.waiting.insert((now.at + wait, no));
            self.until.insert(no, now.at + wait);
            return;
        }
        self.recorders.enqueue(task);
    }
}

impl Rules {
    fn lives_of(&self, as_text: bool) -> Duration {
        if as_text { self.text_lives } else { self.lives }
    }

    /// How long a task waits after so many failed attempts.
    pub(super) fn wait(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(30);
        self.wait_min.saturating_mul(1 << doublings).min(self.wait_max)
    }
}

pub(super) fn changed(task: &OpenTask, before: TaskState, said: Option<(LeaseNo, String, LastWord)>) -> TaskChange {
    TaskChange { task: task.task, job: task.job, before, standing: task.standing.clone(), said }
}

/// How long a task that an earlier run has left has to wait still.
fn wait_of(task: &OpenTask, now: Now) -> Duration {
    let Standing { ready_at, taken_at, .. } = &task.standing;
    // What it has waited is not known where the clock was set back since it was taken: no more than all of it.
    let wall = now.wall.max(taken_at.unwrap_or(now.wall));
    ready_at.map(|at| at.since(wall).min(LONGEST_WAIT)).unwrap_or_default()
}
