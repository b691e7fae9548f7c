//! What a worker has done, in numbers.

use std::collections::HashMap;

use serde::Serialize;

use super::super::progress::grouped;
use super::super::spool::size;
use crate::worker::{Counts, Ending};

/// Tasks that are not done and whose last ending is remembered, at most. Those beyond count as often as they end.
const MOST_OPEN: usize = 100_000;

/// What became of the tasks that were taken: each counts once, by how it ended last.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Totals {
    /// All of it is stored.
    pub done: u64,
    /// Failed, and not done by this worker since.
    pub failed: u64,
    /// Given back.
    pub given_back: u64,
    /// Cancelled by somebody.
    pub cancelled: u64,
    /// Another's by now, or may be.
    pub lost: u64,
    /// Recordings of all of them.
    #[serde(flatten)]
    pub files: Files,
    /// How tasks have ended that are not done, by their ids.
    #[serde(skip)]
    open: HashMap<String, End>,
}

/// How a task has ended, as far as counting goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Done,
    Failed,
    GivenBack,
    Cancelled,
    Lost,
}

/// What became of recordings.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Files {
    /// Fetched and stored.
    pub downloaded: u64,
    /// Stored before.
    pub there: u64,
    /// Bytes fetched and verified.
    pub bytes: u64,
}

impl Totals {
    /// Counts how a task has ended; how it ended before counts no more.
    pub fn count(&mut self, task: &str, ending: &Ending, counts: Counts) {
        let end = match ending {
            Ending::Done => End::Done,
            Ending::Failed { .. } => End::Failed,
            Ending::GivenBack => End::GivenBack,
            Ending::Cancelled => End::Cancelled,
            Ending::Lost(_) => End::Lost,
        };
        if let Some(before) = self.open.remove(task) {
            *self.number(before) -= 1;
        }
        *self.number(end) += 1;
        if end != End::Done && self.open.len() < MOST_OPEN {
            self.open.insert(task.to_owned(), end);
        }
        self.files.downloaded += counts.downloaded;
        self.files.there += counts.there;
        self.files.bytes += counts.bytes;
    }

    fn number(&mut self, end: End) -> &mut u64 {
        match end {
            End::Done => &mut self.done,
            End::Failed => &mut self.failed,
            End::GivenBack => &mut self.given_back,
            End::Cancelled => &mut self.cancelled,
            End::Lost => &mut self.lost,
        }
    }

    /// For programs.
    pub fn json(&self, worker: &str) -> serde_json::Value {
        let mut all = serde_json::json!({ "worker": worker });
        let numbers = serde_json::to_value(self).expect("it is plain data");
        if let (Some(all), serde_json::Value::Object(numbers)) = (all.as_object_mut(), numbers) {
            all.extend(numbers);
        }
        all
    }

    /// For people.
    pub fn sentence(&self) -> String {
        let mut text = format!("{} tasks done", grouped(self.done));
        let others = [
            (self.failed, "failed"),
            (self.given_back, "given back"),
            (self.cancelled, "cancelled"),
            (self.lost, "left to others"),
        ];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            text.push_str(&format!(", {} {what}", grouped(count)));
        }
        let Files { downloaded, there, bytes } = self.files;
        format!("{text}: {} recordings stored, {} there already, {}", grouped(downloaded), grouped(there), size(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_programs_are_told_the_same() {
        let mut totals = Totals::default();
        let counts = Counts { found: 4, downloaded: 3, there: 1, failed: 0, bytes: 2_048 };
        totals.count("1", &Ending::Done, counts);
        totals.count("2", &Ending::GivenBack, Counts::default());
        let expected = serde_json::json!({
            "worker": "rack-7", "done": 1, "failed": 0, "given_back": 1, "cancelled": 0, "lost": 0, "downloaded": 3,
            "there": 1, "bytes": 2_048,
        });
        assert_eq!(totals.json("rack-7"), expected);
        let told = totals.sentence();
        assert!(told.starts_with("1 tasks done, 1 given back: 3 recordings stored, 1 there already, "), "{told}");
    }

    #[test]
    fn a_task_counts_once_by_how_it_ended_last() {
        let failed = |retry| Ending::Failed { kind: "busy", message: "no".into(), retry };
        let mut totals = Totals::default();
        for (task, ending) in [
            ("1", failed(true)),
            ("2", Ending::Lost("another's".into())),
            ("3", failed(true)),
            ("4", Ending::Lost("another's".into())),
            ("1", failed(true)),
            ("1", Ending::Done),
            ("2", Ending::Done),
            ("3", failed(false)),
        ] {
            totals.count(task, &ending, Counts::default());
        }
        assert_eq!((totals.done, totals.failed, totals.lost), (2, 1, 1));
        assert_eq!(totals.open.len(), 2, "what is done is not remembered");
    }
}
