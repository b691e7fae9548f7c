//! The thread that writes: commands in, one transaction for all that are waiting, effects after the commit.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use tokio::sync::{oneshot, watch};
use tracing::error;

use super::catalog::{self, Applied, CatalogChange};
use super::ledger::BLOCK;
use super::retention::{Pruned, prune};
use super::secrets::SecretsFile;
use super::{JournalError, Ledger};
use crate::model::{CameraId, CommitNo, Login, Outcome, Refusal, Seq, SeqRange, SessionNo, Settled, UnixMicros};

/// How long outcomes nobody waits for may gather before they are committed together.
const LINGER: Duration = Duration::from_millis(5);

/// A session that is about to begin.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Whose session.
    pub camera: CameraId,
    /// Its number.
    pub session: SessionNo,
    /// The seq its first frame gets.
    pub first_seq: Seq,
    /// When its first frame was captured.
    pub opened: UnixMicros,
    /// The stream's codec, if it is known.
    pub codec: Option<String>,
    /// Its pictures' width and height, pixels.
    pub size: (u32, u32),
}

/// A session that is over.
#[derive(Clone, Debug)]
pub struct SessionEnd {
    /// Whose session.
    pub camera: CameraId,
    /// Its number.
    pub session: SessionNo,
    /// When its last frame was captured.
    pub closed: UnixMicros,
    /// What ended it, in a word or two: "stall", "removed".
    pub why: String,
}

enum Command {
    Catalog { change: CatalogChange, done: oneshot::Sender<Result<Vec<u64>, JournalError>> },
    Pause { camera: CameraId, paused: bool, done: oneshot::Sender<()> },
    LoginRefused(Refusal),
    LoginAccepted(Login, String),
    Reserve { ledger: Arc<Ledger> },
    OpenSession { session: NewSession, done: oneshot::Sender<()> },
    CloseSession(SessionEnd),
    Settle { ledger: Arc<Ledger>, settled: Settled },
    Watermark { camera: CameraId, seq: Seq },
    ReturnUnused { camera: CameraId, next_seq: Seq },
    Prune { ledger: Arc<Ledger>, before: UnixMicros, done: oneshot::Sender<Pruned> },
    Barrier { done: oneshot::Sender<()> },
    Hang(Duration),
    Close,
}

impl Command {
    /// Whether it changes anything.
    fn writes(&self) -> bool {
        !matches!(self, Self::Barrier { .. } | Self::Hang(_) | Self::Close)
    }

    /// Whether somebody's progress depends on it.
    fn is_urgent(&self) -> bool {
        !matches!(
            self,
            Self::Settle { .. }
                | Self::Watermark { .. }
                | Self::CloseSession(_)
                | Self::LoginRefused(_)
                | Self::LoginAccepted(..)
        )
    }
}

/// What follows a commit.
enum Effect {
    Catalog(oneshot::Sender<Result<Vec<u64>, JournalError>>, Result<Applied, JournalError>),
    Refill(Arc<Ledger>, SeqRange),
    Told(oneshot::Sender<()>),
    Pruned(oneshot::Sender<Pruned>, Pruned),
    Settled(Arc<Ledger>, Settled),
}

/// A handle on the writer. Cloning is cheap; commands of one handle are committed in the order they were given.
#[derive(Clone)]
pub struct Journal {
    commands: Sender<Command>,
    committed: watch::Receiver<CommitNo>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journal")
    }
}

impl Journal {
    /// Starts the writer. `listener` is told of outcomes right after they are committed, `timer` how long each commit
    /// took, both on the writer's thread.
    pub(super) fn start(
        connection: Connection,
        cameras: HashMap<CameraId, i64>,
        secrets: SecretsFile,
        next_commit: CommitNo,
        listener: impl Fn(Settled) + Send + 'static,
        timer: impl Fn(Duration) + Send + 'static,
    ) -> (Self, JoinHandle<()>) {
        let (sender, receiver) = channel();
        let (newest, committed) = watch::channel(next_commit - 1);
        let (listener, timer) = (Box::new(listener), Box::new(timer));
        let writer = Writer { connection, cameras, secrets, next_commit, newest, listener, timer };
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                let _guard = EndsProcessOnPanic;
                writer.run(&receiver);
            })
            .expect("the system has a thread for the journal");
        (Self { commands: sender, committed }, thread)
    }

    fn send(&self, command: Command) {
        // The writer ends last, and a writer that fails takes the process with it.
        let _ = self.commands.send(command);
    }

    /// Changes the catalog, all or nothing; answers the new revisions of the cameras that were put, in their order, once
    /// that is durable.
    ///
    /// # Errors
    ///
    /// When the file of passwords cannot be written; then nothing has changed.
    pub async fn change_catalog(&self, change: CatalogChange) -> Result<Vec<u64>, JournalError> {
        let (done, answer) = oneshot::channel();
        self.send(Command::Catalog { change, done });
        answer.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Writes down whether a camera is paused; returns once that is durable.
    pub async fn pause(&self, camera: CameraId, paused: bool) {
        let (done, answer) = oneshot::channel();
        self.send(Command::Pause { camera, paused, done });
        let _ = answer.await;
    }

    /// Remembers that a camera refused a login.
    pub fn login_refused(&self, refusal: Refusal) {
        self.send(Command::LoginRefused(refusal));
    }

    /// Forgets the refusals of credentials that were accepted.
    pub fn login_accepted(&self, login: Login, credentials: String) {
        self.send(Command::LoginAccepted(login, credentials));
    }

    /// Reserves the next block of seqs and hands it to the ledger once it is durable.
    pub fn reserve(&self, ledger: Arc<Ledger>) {
        self.send(Command::Reserve { ledger });
    }

    /// Opens a session; the receiver is told once that is durable.
    pub fn open_session(&self, session: NewSession) -> oneshot::Receiver<()> {
        let (done, answer) = oneshot::channel();
        self.send(Command::OpenSession { session, done });
        answer
    }

    /// Closes a session.
    pub fn close_session(&self, end: SessionEnd) {
        self.send(Command::CloseSession(end));
    }

    /// Records how frames ended. The first word on a seq counts; a second one changes nothing.
    pub fn settle(&self, ledger: Arc<Ledger>, settled: Settled) {
        self.send(Command::Settle { ledger, settled });
    }

    /// Leaves word of a camera's watermark, from which a later recovery begins to look.
    pub fn watermark(&self, camera: CameraId, seq: Seq) {
        self.send(Command::Watermark { camera, seq });
    }

    /// Gives back seqs that were reserved and never issued.
    pub fn return_unused(&self, camera: CameraId, next_seq: Seq) {
        self.send(Command::ReturnUnused { camera, next_seq });
    }

    /// Removes entries from the beginning of a camera's list, as long as they were recorded earlier than `before`: a bounded
    /// number of them. `None` where the writer has ended.
    pub(super) async fn prune(&self, ledger: Arc<Ledger>, before: UnixMicros) -> Option<Pruned> {
        let (done, answer) = oneshot::channel();
        self.send(Command::Prune { ledger, before, done });
        answer.await.ok()
    }

    /// The newest commit number, and every later one. All up to it can be read.
    pub fn committed(&self) -> watch::Receiver<CommitNo> {
        self.committed.clone()
    }

    /// Waits until everything given to this handle before is durable.
    pub async fn barrier(&self) {
        let (done, answer) = oneshot::channel();
        self.send(Command::Barrier { done });
        let _ = answer.await;
    }

    /// Stops the writer's thread for a while, to prove that it is noticed.
    pub fn hang(&self, time: Duration) {
        self.send(Command::Hang(time));
    }

    /// Ends the writer after what was given before.
    pub fn close(&self) {
        self.send(Command::Close);
    }
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

struct Writer {
    connection: Connection,
    cameras: HashMap<CameraId, i64>,
    secrets: SecretsFile,
    next_commit: CommitNo,
    newest: watch::Sender<CommitNo>,
    listener: Box<dyn Fn(Settled) + Send>,
    timer: Box<dyn Fn(Duration) + Send>,
}

impl Writer {
    fn run(mut self, commands: &Receiver<Command>) {
        while let Ok(first) = commands.recv() {
            let (batch, closing) = gather(first, commands);
            let begun = Instant::now();
            let writes = batch.iter().any(Command::writes);
            match self.commit(batch) {
                Ok(effects) => {
                    if writes {
                        (self.timer)(begun.elapsed());
                    }
                    // First: whoever is told below that something is durable finds it counted.
                    let newest = self.next_commit - 1;
                    self.newest.send_if_modified(|known| std::mem::replace(known, newest) != newest);
                    for effect in effects {
                        self.take_effect(effect);
                    }
                }
                Err(error) => {
                    error!(%error, "the journal cannot be written: the process ends, nothing that was shown is lost");
                    std::process::exit(74);
                }
            }
            if closing {
                return;
            }
        }
    }

    fn commit(&mut self, batch: Vec<Command>) -> Result<Vec<Effect>, JournalError> {
        let transaction = self.connection.transaction()?;
        let mut effects = Vec::with_capacity(batch.len());
        for command in batch {
            let mut step = Step {
                transaction: &transaction,
                cameras: &mut self.cameras,
                secrets: &mut self.secrets,
                next_commit: &mut self.next_commit,
            };
            effects.extend(step.apply(command)?);
        }
        transaction.commit()?;
        Ok(effects)
    }

    fn take_effect(&mut self, effect: Effect) {
        // A receiver that has gone away no longer wants to know.
        match effect {
            Effect::Catalog(done, result) => {
                let result = result.map(|applied| {
                    // After the commit: a crash in between must not bring a camera back without its password. What cannot
                    // be forgotten now is at the next start.
                    if let Err(error) = self.secrets.forget_all_but(&applied.settled) {
                        error!(%error, "passwords that are no longer used are still in their file");
                    }
                    applied.revisions
                });
                drop(done.send(result));
            }
            Effect::Told(done) => drop(done.send(())),
            Effect::Pruned(done, pruned) => drop(done.send(pruned)),
            Effect::Refill(ledger, block) => ledger.refill(block),
            Effect::Settled(ledger, settled) => {
                ledger.settle(&settled);
                (self.listener)(settled);
            }
        }
    }
}

/// Takes what is waiting; where nobody waits for any of it, lets more gather for a moment.
fn gather(first: Command, commands: &Receiver<Command>) -> (Vec<Command>, bool) {
    const MOST: usize = 4_096;
    let deadline = Instant::now() + LINGER;
    let mut urgent = first.is_urgent();
    let mut closing = matches!(first, Command::Close);
    let mut batch = vec![first];
    while batch.len() < MOST && !closing {
        let wait = if urgent { Duration::ZERO } else { deadline.saturating_duration_since(Instant::now()) };
        match commands.recv_timeout(wait) {
            Ok(command) => {
                urgent |= command.is_urgent();
                closing = matches!(command, Command::Close);
                batch.push(command);
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
        }
    }
    (batch, closing)
}

struct Step<'a> {
    transaction: &'a Transaction<'a>,
    cameras: &'a mut HashMap<CameraId, i64>,
    secrets: &'a mut SecretsFile,
    next_commit: &'a mut CommitNo,
}

impl Step<'_> {
    fn apply(&mut self, command: Command) -> Result<Option<Effect>, JournalError> {
        Ok(match command {
            Command::Catalog { change, done } => {
                let applied = catalog::apply(self.transaction, self.cameras, self.secrets, &change)?;
                Some(Effect::Catalog(done, applied))
            }
            Command::Pause { camera, paused, done } => {
                catalog::set_paused(self.transaction, &camera, paused)?;
                Some(Effect::Told(done))
            }
            Command::LoginRefused(refusal) => {
                catalog::login_refused(self.transaction, &refusal)?;
                None
            }
            Command::LoginAccepted(login, credentials) => {
                catalog::login_accepted(self.transaction, &login, &credentials)?;
                None
            }
            Command::Reserve { ledger } => {
                let num = self.num(ledger.camera())?;
                let until: i64 = self.transaction.query_row(
                    "UPDATE camera SET reserved_until = reserved_until + ?2 WHERE num = ?1 RETURNING reserved_until",
                    params![num, BLOCK as i64],
                    |row| row.get(0),
                )?;
                let until = until as Seq;
                Some(Effect::Refill(ledger, SeqRange { first: until - BLOCK, last: until - 1 }))
            }
            Command::OpenSession { session, done } => {
                let num = self.num(&session.camera)?;
                self.transaction.execute(
                    "INSERT INTO session (camera, session, first_seq, opened, codec, width, height)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![
                        num,
                        session.session,
                        session.first_seq as i64,
                        session.opened.0,
                        session.codec,
                        session.size.0,
                        session.size.1
                    ],
                )?;
                self.transaction
                    .execute("UPDATE camera SET next_session = ?2 WHERE num = ?1", params![num, session.session + 1])?;
                Some(Effect::Told(done))
            }
            Command::CloseSession(end) => {
                let num = self.num(&end.camera)?;
                self.transaction.execute(
                    "UPDATE session SET closed = ?3, why = ?4 WHERE camera = ?1 AND session = ?2",
                    params![num, end.session, end.closed.0, end.why],
                )?;
                None
            }
            Command::Settle { ledger, settled } => {
                let num = self.num(&settled.camera)?;
                insert_outcome(self.transaction, num, &settled, self.next_commit)?
                    .then(|| Effect::Settled(ledger, settled))
            }
            Command::Watermark { camera, seq } => {
                let num = self.num(&camera)?;
                self.transaction.execute(
                    "UPDATE camera SET watermark = max(watermark, ?2) WHERE num = ?1",
                    params![num, seq as i64],
                )?;
                None
            }
            Command::ReturnUnused { camera, next_seq } => {
                let num = self.num(&camera)?;
                self.transaction.execute(
                    "UPDATE camera SET reserved_until = min(reserved_until, ?2) WHERE num = ?1",
                    params![num, next_seq as i64],
                )?;
                None
            }
            Command::Prune { ledger, before, done } => {
                Some(Effect::Pruned(done, prune(self.transaction, ledger.camera(), ledger.watermark(), before)?))
            }
            Command::Barrier { done } => Some(Effect::Told(done)),
            Command::Hang(time) => {
                std::thread::sleep(time);
                None
            }
            Command::Close => None,
        })
    }

    fn num(&mut self, camera: &CameraId) -> Result<i64, JournalError> {
        if let Some(num) = self.cameras.get(camera) {
            return Ok(*num);
        }
        let num = self
            .transaction
            .query_row("SELECT num FROM camera WHERE id = ?1", [camera.as_str()], |row| row.get(0))
            .optional()?
            .ok_or(rusqlite::Error::QueryReturnedNoRows)?;
        self.cameras.insert(camera.clone(), num);
        Ok(num)
    }
}

/// Writes an outcome under the next commit number and adds it to the camera's totals, unless the seq has one already.
pub(super) fn insert_outcome(
    transaction: &Transaction<'_>,
    num: i64,
    settled: &Settled,
    next_commit: &mut CommitNo,
) -> Result<bool, JournalError> {
    let commit = *next_commit as i64;
    let (first, last) = (settled.seqs.first as i64, settled.seqs.last as i64);
    let count = settled.seqs.len() as i64;
    let (inserted, stored, lost) = match &settled.outcome {
        Outcome::Stored(s) => {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO frame
                 (camera, seq, last, session, key, captured_at, stored_at, bytes, crc32c, width, height, commit_no)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
                 ON CONFLICT (camera, seq) DO NOTHING",
            )?;
            let row = params![
                num,
                first,
                last,
                settled.session,
                s.key,
                s.captured_at.0,
                s.stored_at.0,
                s.bytes as i64,
                s.crc32c,
                s.width,
                s.height,
                commit
            ];
            (statement.execute(row)?, count, 0)
        }
        Outcome::Lost { reason, maybe_stored } => {
            let mut statement = transaction.prepare_cached(
                "INSERT INTO frame (camera, seq, last, session, lost, maybe_stored, stored_at, commit_no)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (camera, seq) DO NOTHING",
            )?;
            let now = UnixMicros::now().0;
            let row = params![num, first, last, settled.session, reason.as_str(), maybe_stored, now, commit];
            (statement.execute(row)?, 0, count)
        }
    };
    if inserted == 0 {
        return Ok(false);
    }
    *next_commit += 1;
    transaction
        .prepare_cached("UPDATE camera SET stored = stored + ?2, lost = lost + ?3 WHERE num = ?1")?
        .execute(params![num, stored, lost])?;
    if let Outcome::Lost { reason, .. } = &settled.outcome {
        transaction
            .prepare_cached(
                "INSERT INTO lost (camera, reason, frames) VALUES (?1, ?2, ?3)
                 ON CONFLICT (camera, reason) DO UPDATE SET frames = frames + excluded.frames",
            )?
            .execute(params![num, reason.as_str(), lost])?;
    }
    Ok(true)
}

/// Where the journal's files lie in a state directory.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub database: PathBuf,
    pub secrets: PathBuf,
    pub lock: PathBuf,
}
