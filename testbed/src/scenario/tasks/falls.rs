//! Tasks whose workers fell, and how soon others had them.

use std::time::{Duration, Instant};

use super::place::Task;

/// How long a word that was on its way may take to be heard.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

/// A task that somebody held who fell.
#[derive(Debug)]
struct Fall {
    task: String,
    attempts: u32,
    since: Instant,
    /// Since when the time until it is taken again counts: a server that comes back gives every holder a whole lease.
    counts: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Falls {
    waiting: Vec<Fall>,
    /// How long each took until it was taken again.
    pub(super) taken: Vec<Duration>,
    /// The same where the server was killed in between, from its return.
    pub(super) taken_after_restart: Vec<Duration>,
    /// Tasks whose end was on its way when their holder fell, or came while its lease was alive again.
    pub(super) ended: usize,
    /// Tasks that came to their end with a lease that was over.
    pub(super) wrong: Vec<String>,
}

impl Falls {
    /// Notes what a worker held that has just fallen; how many tasks these are.
    pub(super) fn note(&mut self, name: &str, tasks: &[Task]) -> usize {
        let now = Instant::now();
        let held = tasks.iter().filter(|task| task.is_held_by(name));
        let held = held.map(|task| Fall { task: task.id.clone(), attempts: task.attempts, since: now, counts: now });
        let before = self.waiting.len();
        self.waiting.extend(held);
        self.waiting.len() - before
    }

    /// Whether a task of these still waits to be taken again.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether so many of the last noted still wait.
    pub(super) fn waits(&self, tasks: &[String]) -> bool {
        self.waiting.iter().any(|fall| tasks.contains(&fall.task))
    }

    /// The server is there again.
    pub(super) fn restarted(&mut self) {
        let now = Instant::now();
        self.waiting.iter_mut().for_each(|fall| fall.counts = now);
    }

    /// Looks which were taken again; a lease lives so long.
    pub(super) fn look(&mut self, tasks: &[Task], lease: Duration) {
        let now = Instant::now();
        let waiting = std::mem::take(&mut self.waiting);
        for fall in waiting {
            let Some(task) = tasks.iter().find(|task| task.id == fall.task) else {
                self.wrong.push(format!("task {} is gone", fall.task));
                continue;
            };
            let took = now - fall.counts;
            let has_restarted = fall.counts != fall.since;
            if task.attempts > fall.attempts {
                let times = if has_restarted { &mut self.taken_after_restart } else { &mut self.taken };
                times.push(took);
            } else if matches!(task.state.as_str(), "done" | "failed" | "cancelled") {
                match took < ON_ITS_WAY || has_restarted && took < lease {
                    true => self.ended += 1,
                    false => {
                        self.wrong.push(format!("task {} came to its end {took:?} after its holder fell", task.id))
                    }
                }
            } else {
                self.waiting.push(fall);
            }
        }
    }
}
