//! The thread that writes: commands in, one transaction for all that are waiting, effects after the commit.
//!
//! A full disk ends nothing: the group is kept, gathers what else arrives, and is tried again until there is room. Any
//! other failure of the disk ends the process, since what it would go on with is not known.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::batches;
use super::catalog::{self, Applied};
use super::group::Group;
use super::handle::Command;
use super::ledger::BLOCK;
use super::manifests;
use super::outcome::{Destinations, Recorded, record};
use super::reserve::Reserve;
use super::retention::{Pruned, believe, prune};
use super::secrets::SecretsFile;
use super::tasks;
use super::{Journal, JournalError};
use crate::model::{CameraId, CommitNo, Seq, SeqRange, Settled, TimeSource};

/// How often a group is tried for which the disk had no room.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// What a command came to, before the commit.
enum Answer {
    Nothing,
    Catalog(Result<Applied, JournalError>),
    Reserved(SeqRange),
    Revision(u64),
    Tasks(u64),
    Pruned(Pruned),
    Manifest(bool),
    Recorded(Recorded),
}

/// Without its journal the daemon can keep no promise: better to end at once and be started again.
struct EndsProcessOnPanic;

impl Drop for EndsProcessOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!("the journal's thread panicked: the process ends, nothing that was shown is lost");
            std::process::exit(70);
        }
    }
}

/// The numbers of rows that were looked up.
#[derive(Debug)]
pub(super) struct Nums {
    /// It may hold fewer than there are.
    pub cameras: HashMap<CameraId, i64>,
    pub destinations: Destinations,
}

pub(super) struct Writer {
    connection: Connection,
    nums: Nums,
    secrets: SecretsFile,
    reserve: Reserve,
    next_commit: CommitNo,
    newest: watch::Sender<CommitNo>,
    stuck: watch::Sender<bool>,
    listener: Box<dyn Fn(Settled) + Send>,
    timer: Box<dyn Fn(Duration) + Send>,
}

impl Writer {
    /// Starts the thread. `listener` is told of outcomes right after they are committed, `timer` how long each commit
    /// took, both on the thread.
    pub fn start(
        connection: Connection,
        nums: Nums,
        secrets: SecretsFile,
        reserve: Reserve,
        next_commit: CommitNo,
        listener: impl Fn(Settled) + Send + 'static,
        timer: impl Fn(Duration) + Send + 'static,
    ) -> (Journal, JoinHandle<()>) {
        let (sender, receiver) = channel();
        let (newest, committed) = watch::channel(next_commit - 1);
        let (stuck, is_stuck) = watch::channel(false);
        let (listener, timer) = (Box::new(listener), Box::new(timer));
        let writer = Self { connection, nums, secrets, reserve, next_commit, newest, stuck, listener, timer };
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                let _guard = EndsProcessOnPanic;
                writer.run(&receiver);
            })
            .expect("the system has a thread for the journal");
        (Journal::new(sender, thread.thread().clone(), committed, is_stuck), thread)
    }

    fn run(mut self, commands: &Receiver<Command>) {
        let mut committed = None;
        while let Some(mut group) = Group::gather(commands, committed) {
            group.hang();
            committed = Some(Instant::now());
            while !self.write(&mut group) {
                if group.is_last() {
                    error!(
                        "the journal ends with the disk full: what it could not record is settled at the next start"
                    );
                    return;
                }
                group.gather_more(commands, TRY_AGAIN);
            }
            self.reserve.make_again();
            if group.is_last() {
                return;
            }
        }
    }

    /// Commits a group and lets it take effect; `false` where the disk is full, and then nothing has happened.
    fn write(&mut self, group: &mut Group) -> bool {
        loop {
            let begun = Instant::now();
            match self.commit(group.commands()) {
                Ok(answers) => {
                    if group.commands().iter().any(Command::writes) {
                        (self.timer)(begun.elapsed());
                    }
                    if self.stuck.send_replace(false) {
                        info!("there is room for the journal again, and it has recorded what had gathered");
                    }
                    // First: whoever is told below that something is durable finds it counted.
                    let newest = self.next_commit - 1;
                    self.newest.send_if_modified(|known| std::mem::replace(known, newest) != newest);
                    for (command, answer) in group.take().into_iter().zip(answers) {
                        self.take_effect(command, answer);
                    }
                    return true;
                }
                Err(error) if self.reserve.is_for(&error) => {
                    if self.reserve.give_up() {
                        warn!(%error, "the disk is full: the journal goes on with the room that was kept for it");
                        continue;
                    }
                    if !self.stuck.send_replace(true) {
                        error!(%error, "the disk is full: nothing can be recorded until there is room on it");
                    }
                    return false;
                }
                Err(error) => {
                    error!(%error, "the journal cannot be written: the process ends, nothing that was shown is lost");
                    std::process::exit(74);
                }
            }
        }
    }

    fn commit(&mut self, group: &[Command]) -> Result<Vec<Answer>, JournalError> {
        let before = self.next_commit;
        let committed = self.apply(group);
        if committed.is_err() {
            // Rolled back, and so is what was made of it here: rows may get other numbers the next time.
            self.next_commit = before;
            self.nums.cameras.clear();
        }
        committed
    }

    fn apply(&mut self, group: &[Command]) -> Result<Vec<Answer>, JournalError> {
        let transaction = self.connection.transaction()?;
        let mut step = Step {
            transaction: &transaction,
            nums: &mut self.nums,
            secrets: &mut self.secrets,
            next_commit: &mut self.next_commit,
        };
        let answers = group.iter().map(|command| step.apply(command)).collect::<Result<_, _>>()?;
        transaction.commit()?;
        Ok(answers)
    }

    /// Forgets the passwords of these owners but for those of these revisions. To be done after the commit: a crash in
    /// between must not bring a camera back without its password. What cannot be forgotten now is at the next start.
    fn forget_passwords(&mut self, settled: &[(String, u64)]) {
        if let Err(error) = self.secrets.forget_all_but(settled) {
            error!(%error, "passwords that are no longer used are still in their file");
        }
    }

    fn take_effect(&mut self, command: Command, answer: Answer) {
        // A receiver that has gone away no longer wants to know.
        match (command, answer) {
            (Command::Catalog { done, .. }, Answer::Catalog(result)) => {
                let result = result.map(|applied| {
                    self.forget_passwords(&applied.settled);
                    applied.revisions
                });
                drop(done.send(result));
            }
            (
                Command::Pause { done, .. }
                | Command::OpenSession { done, .. }
                | Command::Barrier { done }
                | Command::Ping { done },
                _,
            ) => {
                let _ = done.send(());
            }
            (Command::EndBatch { camera, done, .. }, Answer::Revision(revision)) => {
                self.forget_passwords(&[(camera.to_string(), revision)]);
                // Who asked may have gone.
                let _ = done.send(revision);
            }
            (Command::Tasks { done, .. }, Answer::Tasks(answer)) => drop(done.send(answer)),
            (Command::Prune { done, .. }, Answer::Pruned(pruned)) => drop(done.send(pruned)),
            (Command::CommitManifest { done, .. } | Command::ManifestStored { done, .. }, Answer::Manifest(fits)) => {
                let _ = done.send(fits);
            }
            (Command::Reserve { ledger }, Answer::Reserved(block)) => ledger.refill(block),
            (Command::Settle { ledger, settled }, Answer::Recorded(recorded)) => {
                let news = match recorded {
                    Recorded::Nothing => vec![],
                    Recorded::Whole => vec![settled],
                    Recorded::Parts(parts) => parts,
                };
                for settled in news {
                    ledger.settle(&settled);
                    (self.listener)(settled);
                }
            }
            _ => {}
        }
    }
}

struct Step<'a> {
    transaction: &'a Transaction<'a>,
    nums: &'a mut Nums,
    secrets: &'a mut SecretsFile,
    next_commit: &'a mut CommitNo,
}

impl Step<'_> {
    fn apply(&mut self, command: &Command) -> Result<Answer, JournalError> {
        Ok(match command {
            Command::Catalog { change, .. } => {
                Answer::Catalog(catalog::apply(self.transaction, &mut self.nums.cameras, self.secrets, change)?)
            }
            Command::Pause { camera, paused, .. } => {
                catalog::set_paused(self.transaction, camera, *paused)?;
                Answer::Nothing
            }
            Command::EndBatch { camera, end, .. } => {
                let num = self.num(camera)?;
                Answer::Revision(batches::end(self.transaction, num, end)?)
            }
            Command::Tasks { order, .. } => Answer::Tasks(tasks::apply(self.transaction, order)?),
            Command::LoginRefused(refusal) => {
                catalog::login_refused(self.transaction, refusal)?;
                Answer::Nothing
            }
            Command::LoginAccepted(login, credentials) => {
                catalog::login_accepted(self.transaction, login, credentials)?;
                Answer::Nothing
            }
            Command::Reserve { ledger } => {
                let num = self.num(ledger.camera())?;
                let until: i64 = self.transaction.query_row(
                    "UPDATE camera SET reserved_until = reserved_until + ?2 WHERE num = ?1 RETURNING reserved_until",
                    params![num, BLOCK as i64],
                    |row| row.get(0),
                )?;
                let until = until as Seq;
                Answer::Reserved(SeqRange { first: until - BLOCK, last: until - 1 })
            }
            Command::OpenSession { session, .. } => {
                let num = self.num(&session.camera)?;
                self.transaction.execute(
                    "INSERT INTO session (camera, session, first_seq, opened, codec, width, height, time_source)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    params![
                        num,
                        session.session,
                        session.first_seq as i64,
                        session.opened.0,
                        session.codec,
                        session.size.0,
                        session.size.1,
                        (session.time_source != TimeSource::default()).then(|| session.time_source.as_str())
                    ],
                )?;
                self.transaction
                    .execute("UPDATE camera SET next_session = ?2 WHERE num = ?1", params![num, session.session + 1])?;
                Answer::Nothing
            }
            Command::CloseSession(end) => {
                let num = self.num(&end.camera)?;
                self.transaction.execute(
                    "UPDATE session SET closed = ?3, why = ?4 WHERE camera = ?1 AND session = ?2",
                    params![num, end.session, end.closed.0, end.why],
                )?;
                Answer::Nothing
            }
            Command::Settle { settled, .. } => {
                let num = self.num(&settled.camera)?;
                let destinations = &self.nums.destinations;
                Answer::Recorded(record(self.transaction, num, settled, destinations, self.next_commit)?)
            }
            Command::Watermark { camera, seq } => {
                let num = self.num(camera)?;
                self.transaction.execute(
                    "UPDATE camera SET watermark = max(watermark, ?2) WHERE num = ?1",
                    params![num, *seq as i64],
                )?;
                Answer::Nothing
            }
            Command::Spooled(highest) => {
                // Once a second for each camera that has frames: what it says is read by SQLite once for all.
                let transaction = self.transaction;
                let mut mark = transaction
                    .prepare_cached("UPDATE camera SET reserved_until = max(reserved_until, ?2) WHERE num = ?1")?;
                for (camera, seq) in highest {
                    let num = self.num(camera)?;
                    mark.execute(params![num, *seq as i64 + 1])?;
                }
                Answer::Nothing
            }
            Command::ReturnUnused { camera, next_seq } => {
                let num = self.num(camera)?;
                self.transaction
                    .execute("UPDATE camera SET reserved_until = ?2 WHERE num = ?1", params![num, *next_seq as i64])?;
                Answer::Nothing
            }
            Command::Prune { ledger, age, manifested, .. } => {
                Answer::Pruned(prune(self.transaction, ledger.camera(), ledger.watermark(), *age, *manifested)?)
            }
            Command::Believe(at) => {
                believe(self.transaction, *at)?;
                Answer::Nothing
            }
            Command::CommitManifest { manifest, .. } => {
                let num = self.num(&manifest.camera)?;
                Answer::Manifest(manifests::commit(self.transaction, num, manifest)?)
            }
            Command::ManifestStored { camera, last, .. } => {
                let num = self.num(camera)?;
                Answer::Manifest(manifests::stored(self.transaction, num, *last, &self.nums.destinations)?)
            }
            Command::Barrier { .. } | Command::Ping { .. } | Command::Hang(_) | Command::Close => Answer::Nothing,
        })
    }

    fn num(&mut self, camera: &CameraId) -> Result<i64, JournalError> {
        if let Some(num) = self.nums.cameras.get(camera) {
            return Ok(*num);
        }
        let num = self
            .transaction
            .query_row("SELECT num FROM camera WHERE id = ?1", [camera.as_str()], |row| row.get(0))
            .optional()?
            .ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        self.nums.cameras.insert(camera.clone(), num);
        Ok(num)
    }
}
