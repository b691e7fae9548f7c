//! What a worker does, on a terminal: a line for all of it, and one for each slot.

use std::time::Instant;

use tokio::sync::watch;

use super::super::progress::{bar, grouped};
use super::super::spool::size;
use super::super::table::plain;
use super::totals::Totals;
use crate::export::{Current as Coming, Progress};
use crate::worker::{Counts, Current, Task};

/// A task as it is named.
pub fn task(task: &Task) -> String {
    match task.attempt {
        0 | 1 => plain(&task.name),
        attempt => format!("{} (attempt {attempt})", plain(&task.name)),
    }
}

/// What came of a task.
pub fn counts(counts: Counts) -> String {
    let Counts { downloaded, there, bytes, .. } = counts;
    format!("{} stored, {} there already, {}", grouped(downloaded), grouped(there), size(bytes))
}

/// All slots.
pub fn show(name: &str, totals: &Totals, slots: &[watch::Receiver<Current>]) -> String {
    let mut text = format!("{name}: {}", totals.sentence());
    for (number, slot) in (1..).zip(slots) {
        text.push_str(&format!("\n  {number} {}", current(&slot.borrow())));
    }
    text
}

fn current(current: &Current) -> String {
    match current {
        Current::Asking => "asks for a task".to_owned(),
        Current::Idle => "waits for a task".to_owned(),
        Current::Away => "waits for the server".to_owned(),
        Current::Over => "has ended".to_owned(),
        Current::Working { task: what, since, progress } => far(&task(what), &progress.borrow(), *since),
    }
}

fn far(task: &str, far: &Progress, since: Instant) -> String {
    if far.searching {
        return format!("searches, {} found  {task}", grouped(far.found));
    }
    let coming: u64 = far.now.iter().map(Coming::came).sum();
    let done = far.stored + far.there + far.failed;
    let full = match far.found_bytes {
        0 => bar(done, far.found),
        of => bar(far.settled_bytes + coming, of),
    };
    let rate = (far.bytes + coming) as f64 / since.elapsed().as_secs_f64().max(0.001);
    let waiting = far.waiting.map(|what| format!(", waits {what}")).unwrap_or_default();
    format!("{full} {} of {}, {}/s{waiting}  {task}", grouped(done), grouped(far.found), size(rate as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_tells_how_far_its_task_is() {
        let progress = Progress { found: 4, stored: 2, found_bytes: 100, settled_bytes: 50, ..Progress::default() };
        let told = far("task 7", &progress, Instant::now());
        assert!(told.starts_with("[###############...............] 2 of 4, ") && told.ends_with("  task 7"), "{told}");
        let again = Task { id: "7".to_owned(), name: "task 7".to_owned(), attempt: 2 };
        assert_eq!(task(&again), "task 7 (attempt 2)");
    }
}
