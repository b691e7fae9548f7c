//! How far the tasks are, as the API tells it.

use anyhow::Context as _;
use serde::Deserialize;

use super::recorders::Recorders;
use crate::daemon::Daemon;

/// How wide a bar is.
const BAR: u64 = 20;

/// An export and its tasks.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) tasks: u64,
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) downloaded: u64,
    pub(super) there: u64,
    pub(super) bytes: u64,
    queued: u64,
    list: Vec<Task>,
}

#[derive(Debug, Deserialize)]
struct Job {
    tasks: u64,
    counts: Counts,
    downloaded: u64,
    there: u64,
    bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Counts {
    queued: u64,
    done: u64,
    failed: u64,
    cancelled: u64,
}

#[derive(Debug, Deserialize)]
struct Tasks {
    tasks: Vec<Task>,
}

#[derive(Debug, Deserialize)]
struct Task {
    row: u32,
    server: String,
    channel: String,
    state: String,
    attempts: u32,
    worker: Option<String>,
    error: Option<Fault>,
    progress: Option<Progress>,
}

#[derive(Debug, Deserialize)]
struct Fault {
    kind: String,
    message: String,
}

#[derive(Debug, Deserialize)]
struct Progress {
    files: u64,
    of: Option<u64>,
    bytes: u64,
    of_bytes: Option<u64>,
}

impl Board {
    /// Asks for it.
    pub(super) fn read(daemon: &Daemon, job: &str) -> anyhow::Result<Self> {
        let path = format!("/api/v1/exports/{job}");
        let Job { tasks, counts, downloaded, there, bytes } =
            serde_json::from_str(&daemon.get(&path)?).context("the export is told otherwise")?;
        let Counts { queued, done, failed, cancelled } = counts;
        let list: Tasks = serde_json::from_str(&daemon.get(&format!("{path}/tasks?limit=1000"))?)
            .context("its tasks are told otherwise")?;
        let failed = failed + cancelled;
        Ok(Self { tasks, done, failed, downloaded, there, bytes, queued, list: list.tasks })
    }

    /// Whether nothing more becomes of any task.
    pub(super) fn is_over(&self) -> bool {
        self.done + self.failed == self.tasks
    }

    /// What is wrong with tasks, in words.
    pub(super) fn faults(&self) -> Vec<String> {
        let failed = self.list.iter().filter(|task| task.state == "failed");
        let told = failed.map(|Task { row, error, .. }| match error {
            Some(Fault { kind, message }) => format!("row {row}: {kind}: {message}"),
            None => format!("row {row} failed"),
        });
        told.collect()
    }

    /// All of it in a line.
    pub(super) fn line(&self) -> String {
        let Self { tasks, done, failed, queued, .. } = self;
        let at_work = self.list.iter().filter(|task| task.progress.is_some());
        let (files, bytes) = at_work
            .filter_map(|task| task.progress.as_ref())
            .fold((0, 0), |(files, bytes), progress| (files + progress.files, bytes + progress.bytes));
        let files = self.downloaded + self.there + files;
        let mib = (self.bytes + bytes) as f64 / f64::from(1 << 20);
        let working = tasks - done - failed - queued;
        format!("{done} of {tasks} tasks done, {working} at work, {failed} failed; {files} recordings, {mib:.1} MiB")
    }

    /// The same with a line for each task that somebody has.
    pub(super) fn table(&self, recorders: &Recorders) -> String {
        let mut text = format!("{} {}\n", bar(self.done, self.tasks), self.line());
        for task in self.list.iter().filter(|task| matches!(task.state.as_str(), "leased" | "running")) {
            let name = recorders.all.iter().find(|recorder| task.server.ends_with(recorder.server.host()));
            let name = name.map_or("?", |recorder| recorder.name);
            let worker = task.worker.as_deref().unwrap_or("?");
            let far = match &task.progress {
                Some(Progress { files, of: Some(of), bytes, of_bytes: Some(of_bytes) }) if *of > 0 => {
                    format!("{} {files} of {of} recordings", bar(*bytes, *of_bytes))
                }
                _ => format!("{} searching", bar(0, 1)),
            };
            let again = if task.attempts > 1 { format!(", attempt {}", task.attempts) } else { String::new() };
            text += &format!("  {worker:<8} row {:>2}  {name:<5} {:>4}  {far}{again}\n", task.row, task.channel);
        }
        text
    }
}

fn bar(done: u64, of: u64) -> String {
    let filled = (BAR * done.min(of) / of.max(1)) as usize;
    format!("[{}{}]", "#".repeat(filled), ".".repeat(BAR as usize - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_when_nothing_more_becomes_of_any_task() {
        let text = r#"{"row":3,"server":"http://h:1","channel":"101","state":"failed","attempts":1,"worker":null,
                       "error":{"kind":"auth","message":"no"},"progress":null}"#;
        let list = vec![serde_json::from_str(text).unwrap()];
        let mut board =
            Board { tasks: 2, done: 0, failed: 1, downloaded: 5, there: 1, bytes: 3 << 20, queued: 1, list };
        assert!(!board.is_over());
        assert_eq!(board.line(), "0 of 2 tasks done, 0 at work, 1 failed; 6 recordings, 3.0 MiB");
        (board.done, board.queued) = (1, 0);
        assert!(board.is_over());
        assert_eq!(board.faults(), ["row 3: auth: no"]);
        assert_eq!(bar(1, 4), "[#####...............]");
    }
}
