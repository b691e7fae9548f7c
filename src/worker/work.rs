//! The work on a task, whoever holds its lease.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use super::Equipment;
use super::lease::{Counts, Order};
use super::order::{self, Wanted};
use super::outcome::{self, Failed, Word};
use super::passwords::Passwords;
use crate::export::{Export, ExportError, Progress, Reason, Running, Summary};
use crate::model::UnixMicros;
use crate::nvr::Common;

/// What is on its way when the work is told to end may come to its end within this time.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// What a process works with: what it was given, and what it has learned of recorders and passwords.
pub(super) struct Tools {
    pub equipment: Equipment,
    pub common: Arc<Common>,
    pub passwords: Passwords,
}

impl Tools {
    pub(super) fn new(equipment: Equipment) -> Self {
        Self { equipment, common: Arc::default(), passwords: Passwords::default() }
    }
}

/// How work on a task has ended.
pub(super) enum Worked<T> {
    /// With a word for it.
    Ended(Word),
    /// It was not to go on.
    Over(T),
}

/// Does a task, until that is `over`. Told to end, it begins nothing more, and what is on its way has a while to come to its
/// end. However it ends, nothing half-done is left.
pub(super) async fn follow<T>(
    order: &Order,
    tools: &Tools,
    far: watch::Sender<Progress>,
    stopped: &watch::Receiver<bool>,
    over: impl Future<Output = T>,
) -> Worked<T> {
    let (mut told, mut late) = (stopped.clone(), stopped.clone());
    let (mut over, mut late) = (pin!(over), pin!(grace(&mut late)));
    let begun = tokio::select! {
        // What has slept for too long is not to say that it is done.
        biased;
        over = &mut over => return Worked::Over(over),
        begun = begun(order, tools) => begun,
        () = &mut late => Begun::Ended(Word::Failed(Failed::given_back(Counts::default()))),
    };
    let mut running = match begun {
        Begun::Running(running) => running,
        Begun::Ended(word) => return Worked::Ended(word),
    };
    let (mut progress, mut reasons) = (running.progress(), BTreeMap::new());
    let (mut is_told, mut cut) = (false, None);
    let ended = loop {
        tokio::select! {
            biased;
            over = &mut over, if cut.is_none() => {
                cut = Some(Some(over));
                running.cut();
            }
            () = &mut late, if cut.is_none() => {
                cut = Some(None);
                running.cut();
            }
            ended = ended(&mut running, &mut reasons) => break ended,
            Ok(()) = progress.changed() => drop(far.send(progress.borrow_and_update().clone())),
            () = said(&mut told), if !is_told => {
                is_told = true;
                running.stop();
            }
        }
    };
    match cut {
        None => Worked::Ended(outcome::word(ended, &reasons, UnixMicros::now())),
        Some(None) => Worked::Ended(Word::Failed(Failed::given_back(outcome::counts(&far.borrow())))),
        Some(Some(over)) => Worked::Over(over),
    }
}

/// A task that was begun.
enum Begun {
    Running(Running),
    /// It was over soon.
    Ended(Word),
}

async fn begun(order: &Order, tools: &Tools) -> Begun {
    match order::wanted(order, tools).await {
        Ok(Wanted { export, dry_run: false }) => Begun::Running(export.start()),
        Ok(Wanted { export, dry_run: true }) => {
            Begun::Ended(outcome::word(search(&export).await, &BTreeMap::new(), UnixMicros::now()))
        }
        Err(failed) => Begun::Ended(Word::Failed(failed)),
    }
}

/// Counts why recordings are missing until the export has ended. Loses nothing when it is dropped while it waits.
async fn ended(running: &mut Running, reasons: &mut BTreeMap<Reason, u64>) -> Result<Summary, ExportError> {
    while let Some(entry) = running.next().await {
        if let Some(reason) = entry.fate.reason() {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    running.finish().await
}

/// Searches, and fetches nothing.
async fn search(export: &Export) -> Result<Summary, ExportError> {
    let survey = export.survey().await?;
    let found = export.entries(&survey).len() as u64;
    // Nothing of it is missing, because nothing was wanted.
    let progress = Progress { found, ..Progress::default() };
    Ok(Summary { progress, survey: Some(survey), stopped: false, ended: None, manifest: None, beside: Vec::new() })
}

/// Comes back when that is so.
pub(super) async fn said(word: &mut watch::Receiver<bool>) {
    if word.wait_for(|word| *word).await.is_err() {
        // Whoever could tell it is gone.
        std::future::pending::<()>().await;
    }
}

/// Comes back some time after the work was told to end.
pub(super) async fn grace(stopped: &mut watch::Receiver<bool>) {
    said(stopped).await;
    sleep(LEAVE_WITHIN).await;
}
