//! A client that takes a task, says nothing for as long as its lease lives, and then that the task is done.
//!
//! Workers of ours look first whether a task is still theirs, so that a late word of theirs is never this one.

use anyhow::{Context as _, ensure};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::falls::Falls;
use super::place::Place;

/// What it says that it is called.
const NAME: &str = "latecomer";

/// A lease that it sleeps over.
#[derive(Debug)]
struct Kept {
    task: String,
    lease: String,
    number: u64,
}

/// The client, with one task at a time.
#[derive(Debug)]
pub(super) struct Latecomer {
    token: String,
    kept: Option<Kept>,
    /// How often it had a task for too long.
    pub(super) times: usize,
    /// What came of its words, where they were not refused as late.
    pub(super) wrong: Vec<String>,
}

impl Latecomer {
    pub(super) fn new(place: &Place) -> anyhow::Result<Self> {
        let token = place.daemon.new_token(NAME, "worker")?;
        Ok(Self { token, kept: None, times: 0, wrong: Vec::new() })
    }

    pub(super) fn has_a_task(&self) -> bool {
        self.kept.is_some()
    }

    /// Takes a task, if there is one for it, and does nothing about it from now on.
    pub(super) fn take(&mut self, place: &Place, job: &str, falls: &mut Falls) -> anyhow::Result<()> {
        let (status, lease) = self.say(place, "", &json!({ "worker": NAME, "wait": "2s" }))?;
        if status == StatusCode::NO_CONTENT {
            return Ok(());
        }
        ensure!(status == StatusCode::OK, "no lease for {NAME}: {status}: {lease}");
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let task = text(&lease["task"]["id"]).context("a lease is of a task")?;
        let id = text(&lease["id"]).context("a lease has an id")?;
        let number = lease["number"].as_u64().context("a lease has a number")?;
        ensure!(falls.note(NAME, &place.tasks(job)?) == 1, "{NAME} has more than its one task");
        self.kept = Some(Kept { task, lease: id, number });
        self.times += 1;
        Ok(())
    }

    /// Says that its task is done once somebody else has it.
    pub(super) fn look(&mut self, place: &Place, falls: &Falls) -> anyhow::Result<()> {
        let Some(Kept { task, lease, number }) =
            self.kept.take_if(|kept| !falls.waits(std::slice::from_ref(&kept.task)))
        else {
            return Ok(());
        };
        let (status, answer) = self.say(place, &format!("/{lease}/complete"), &json!({ "number": number }))?;
        if status != StatusCode::CONFLICT {
            self.wrong.push(format!("that task {task} is done, said too late, got {status}: {answer}"));
        }
        Ok(())
    }

    fn say(&self, place: &Place, path: &str, body: &Value) -> anyhow::Result<(StatusCode, Value)> {
        let url = format!("{}/api/v1/leases{path}", place.daemon.address());
        let (status, answer) =
            place.daemon.http().send(Method::POST, &url, Some(&self.token), Some(body.to_string()))?;
        Ok((status, serde_json::from_slice(&answer).unwrap_or_default()))
    }
}
