//! What the rest of the daemon holds of the journal's writer: orders to its thread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::Thread;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::catalog::CatalogChange;
use super::manifests::PendingManifest;
use super::retention::{Age, Pruned};
use super::tasks::TaskOrder;
use super::{JournalError, Ledger};
use crate::model::{BatchEnd, CameraId, CommitNo, Login, Refusal, Seq, SessionNo, Settled, TimeSource, UnixMicros};

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
    /// What its frames' `captured_at` goes by.
    pub time_source: TimeSource,
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

/// What the writer is asked. All of it is done in the order in which it was given.
pub(super) enum Command {
    Catalog {
        change: CatalogChange,
        done: oneshot::Sender<Result<Vec<u64>, JournalError>>,
    },
    Pause {
        camera: CameraId,
        paused: bool,
        done: oneshot::Sender<()>,
    },
    /// A batch captures nothing more; the answer is the revision of its camera.
    EndBatch {
        camera: CameraId,
        end: BatchEnd,
        done: oneshot::Sender<u64>,
    },
    /// Something is to be done with export jobs and their tasks; the answer is a number.
    Tasks {
        order: TaskOrder,
        done: oneshot::Sender<u64>,
    },
    LoginRefused(Refusal),
    LoginAccepted(Login, String),
    Reserve {
        ledger: Arc<Ledger>,
    },
    OpenSession {
        session: NewSession,
        done: oneshot::Sender<()>,
    },
    CloseSession(SessionEnd),
    Settle {
        ledger: Arc<Ledger>,
        settled: Settled,
    },
    Watermark {
        camera: CameraId,
        seq: Seq,
    },
    Spooled(BTreeMap<CameraId, Seq>),
    ReturnUnused {
        camera: CameraId,
        next_seq: Seq,
    },
    Prune {
        ledger: Arc<Ledger>,
        age: Age,
        manifested: bool,
        done: oneshot::Sender<Pruned>,
    },
    Believe(UnixMicros),
    CommitManifest {
        manifest: PendingManifest,
        done: oneshot::Sender<bool>,
    },
    ManifestStored {
        camera: CameraId,
        last: Seq,
        done: oneshot::Sender<bool>,
    },
    Barrier {
        done: oneshot::Sender<()>,
    },
    Ping {
        done: oneshot::Sender<()>,
    },
    Hang(Duration),
    Close,
}

impl Command {
    /// Whether it changes anything.
    pub fn writes(&self) -> bool {
        !matches!(self, Self::Barrier { .. } | Self::Ping { .. } | Self::Hang(_) | Self::Close)
    }

    /// Whether somebody's progress depends on it.
    pub fn is_urgent(&self) -> bool {
        !matches!(
            self,
            Self::Settle { .. }
                | Self::Watermark { .. }
                | Self::Spooled(_)
                | Self::Believe(_)
                | Self::CloseSession(_)
                | Self::LoginRefused(_)
                | Self::LoginAccepted(..)
                | Self::CommitManifest { .. }
                | Self::ManifestStored { .. }
        )
    }
}

/// A handle on the writer. Cloning is cheap; commands of one handle are committed in the order they were given.
#[derive(Clone)]
pub struct Journal {
    commands: Sender<Command>,
    /// The writer's, which may be letting commands gather.
    thread: Thread,
    committed: watch::Receiver<CommitNo>,
    stuck: watch::Receiver<bool>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journal")
    }
}

impl Journal {
    pub(super) fn new(
        commands: Sender<Command>,
        thread: Thread,
        committed: watch::Receiver<CommitNo>,
        stuck: watch::Receiver<bool>,
    ) -> Self {
        Self { commands, thread, committed, stuck }
    }

    pub(super) fn send(&self, command: Command) {
        let urgent = command.is_urgent();
        // The writer ends last, and a writer that fails takes the process with it.
        let _ = self.commands.send(command);
        if urgent {
            self.thread.unpark();
        }
    }

    /// Changes the catalog, all or nothing; answers the new revisions of the cameras that were put, in their order, and
    /// behind them those of the recorders, once that is durable.
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

    /// Writes down how the capture of a batch has ended and forgets its password; returns the revision of its camera once
    /// that is durable, `None` where the journal has ended before.
    pub async fn end_batch(&self, camera: CameraId, end: BatchEnd) -> Option<u64> {
        let (done, answer) = oneshot::channel();
        self.send(Command::EndBatch { camera, end, done });
        answer.await.ok()
    }

    /// Does something with export jobs and their tasks; the receiver is told the answer once that is durable. Orders of all
    /// handles are done in the order in which they were given, so that who decides under a lock and gives them there is
    /// repeated here.
    pub fn tasks(&self, order: TaskOrder) -> oneshot::Receiver<u64> {
        let (done, answer) = oneshot::channel();
        self.send(Command::Tasks { order, done });
        answer
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

    /// Leaves word of the highest seqs that the spool has on disk. Should it be lost, or a part of it, their frames
    /// have been and are told as lost, and their numbers are not given again.
    pub fn spooled(&self, highest: BTreeMap<CameraId, Seq>) {
        self.send(Command::Spooled(highest));
    }

    /// Writes down a camera's next seq: what was reserved beyond it and never issued is given back, and what the spool
    /// alone knew of is not forgotten with it.
    pub fn return_unused(&self, camera: CameraId, next_seq: Seq) {
        self.send(Command::ReturnUnused { camera, next_seq });
    }

    /// Removes entries from the beginning of a camera's list, as long as they are too old and, if `manifested`, are in a
    /// stored manifest: a bounded number of them. `None` where the writer has ended.
    pub(super) async fn prune(&self, ledger: Arc<Ledger>, age: Age, manifested: bool) -> Option<Pruned> {
        let (done, answer) = oneshot::channel();
        self.send(Command::Prune { ledger, age, manifested, done });
        answer.await.ok()
    }

    /// Leaves word of the time, as far as the clock is believed.
    pub(super) fn believe(&self, at: UnixMicros) {
        self.send(Command::Believe(at));
    }

    /// The newest commit number, and every later one. All up to it can be read.
    pub fn committed(&self) -> watch::Receiver<CommitNo> {
        self.committed.clone()
    }

    /// Whether the disk is so full that nothing can be recorded at the moment. All that is given meanwhile is kept, and
    /// tried again until there is room; so whoever can wait should not give more.
    pub fn stuck(&self) -> watch::Receiver<bool> {
        self.stuck.clone()
    }

    /// Waits until everything given to this handle before is durable.
    pub async fn barrier(&self) {
        let (done, answer) = oneshot::channel();
        self.send(Command::Barrier { done });
        let _ = answer.await;
    }

    /// Waits until the writer's thread answers: after a commit, or at once while it has no room to make one.
    pub async fn answers(&self) {
        let (done, answer) = oneshot::channel();
        self.send(Command::Ping { done });
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
