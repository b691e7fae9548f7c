//! A task whose lease somebody else holds: whoever speaks to the server in a program of their own has it done here.

use std::convert::Infallible;
use std::future::pending;

use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::lease::Lease;
use super::news::{Current, Ending, News, Task};
use super::work::{self, Tools, Worked};
use super::{Equipment, Working};
use crate::export::Progress;

/// A task as a server has handed it out.
#[derive(Debug)]
pub struct Single(Lease);

/// The last word for a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LastWord {
    /// For people.
    pub ending: Ending,
    /// For the server: what `/complete` takes of a task that is done, and `/fail` of any other.
    pub json: Value,
}

impl Single {
    /// Reads a lease: the answer to `POST /api/v1/leases`.
    ///
    /// # Errors
    ///
    /// Where it is none, by line and column: it holds a password.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(text).map(Self).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("is no lease as POST /api/v1/leases hands it out (line {line}, column {column})")
        })
    }

    /// Begins. The future is the work; told to end, it lets what is on its way come to its end, for a while. What is told
    /// besides goes the way of a worker's news.
    pub fn start(self, equipment: Equipment) -> (Working, impl Future<Output = LastWord>) {
        let Self(lease) = self;
        let (tell, news) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(false);
        let (far, progress) = watch::channel(Progress { searching: true, ..Progress::default() });
        let task = Task { id: lease.task.id.clone(), name: lease.task.shown(), attempt: lease.task.attempt };
        let since = Instant::now().into_std();
        let (show, current) =
            watch::channel(Current::Working { task: task.clone(), since, progress: progress.clone() });
        let work = async move {
            // Nobody may listen.
            let _ = tell.send(News::Taken(task.clone()));
            let tools = Tools::new(equipment);
            let worked = work::follow(&lease.task, &tools, far, &stopped, pending::<Infallible>()).await;
            let word = match worked {
                Worked::Ended(word) => word,
                Worked::Over(never) => match never {},
            };
            let (json, counts, ending) = (word.json(lease.number), word.counts(), word.ending());
            let _ = tell.send(News::Ended { task, ending: ending.clone(), counts });
            let _ = show.send(Current::Over);
            LastWord { ending, json }
        };
        (Working { news, slots: vec![current], stop }, work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_lease_is_refused_without_a_word_of_it() {
        for text in [
            r#"{"id":"a","number":"canary"}"#,
            r#"{"id":"a","number":1,"lives":"20s","heartbeat":"5s","task":{"id":"1","password":["canary"]}}"#,
            "canary",
            "",
        ] {
            let told = Single::read(text.as_bytes()).unwrap_err();
            assert!(told.contains("line 1") && !told.contains("canary") || text.is_empty(), "{told}");
        }
    }
}
