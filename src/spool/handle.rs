//! What the rest of the daemon holds of the spool: orders to its thread, and what the thread says.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::sync::oneshot;

use super::disk::open_regular;
use super::format::segment_name;
use super::read::{decode, failed};
use super::{Place, ReadError, Record, Spooled};
use crate::model::{CameraId, DestinationName, Frame, LostReason, Origin, Seq, SeqRange, UnixMicros};

/// What the spool's thread is asked. All of it is done in the order in which it was given.
pub(super) enum Command {
    /// Write a frame.
    Append(Box<Record>),
    /// The journal has these seqs' outcomes for good.
    Settled { camera: CameraId, seqs: SeqRange },
    /// Tell the sink of the next frames.
    Load { camera: CameraId, after: Seq, limit: usize },
    /// Say where a frame lies by now.
    Locate { camera: CameraId, seq: Seq, answer: oneshot::Sender<Option<Place>> },
    /// Say when all that was given before is on disk, or refused.
    Barrier { done: oneshot::Sender<()> },
    /// Stand still, to prove that it is noticed.
    Hang(Duration),
    /// End.
    Close,
}

/// Who hears what becomes of frames. All of it is called on the spool's thread, and must not block.
pub trait Sink: Send + 'static {
    /// These frames are on disk: they count from here on, and may leave. In the order in which they were appended.
    fn durable(&mut self, frames: Vec<(Record, Place)>);
    /// There is no room for this frame, and it was never on disk: it ends with `reason`.
    fn refused(&mut self, frame: Frame, reason: LostReason);
    /// The answer to [`Spool::load`]: the camera's next unresolved frames after the seq that was named, in order;
    /// `more` says whether there are any beyond them.
    fn loaded(&mut self, camera: &CameraId, frames: Vec<Spooled>, more: bool);
    /// Room is needed. Takes the camera's oldest frames that no attempt has carried and nobody is uploading from those
    /// that it took ([`Sink::taken_up_to`]), of `bytes` (of JPEG) or more together where there are so many, records
    /// them as `lost(spool_full)` and returns them; empty when it has none.
    fn drop_oldest(&mut self, camera: &CameraId, bytes: u64) -> Vec<Seq>;
    /// The highest seq of the camera that the sink ever took from [`Sink::durable`] or [`Sink::loaded`]; 0 where it
    /// took none. It leaves what it has no room for: what is above is the spool's alone, and comes by [`Spool::load`].
    fn taken_up_to(&mut self, camera: &CameraId) -> Seq;
    /// Room was needed, and these frames, all above [`Sink::taken_up_to`], have gone for it: no attempt has carried
    /// them, and they end as `lost(spool_full)`.
    fn dropped(&mut self, camera: &CameraId, seqs: SeqRange);
    /// A group of frames was committed; how long that took.
    fn committed(&mut self, frames: usize, bytes: u64, took: Duration);
    /// The disk refused to `op` ("write", "sync", "allocate", "read", "remove"). Nothing is lost by that alone.
    fn io_error(&mut self, op: &'static str);
}

/// How the spool stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SpoolStatus {
    /// Frames on disk whose outcome is not known.
    pub frames: u64,
    /// Bytes of their records.
    pub bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Bytes that the segments take.
    pub size: u64,
    /// The most that they may take.
    pub max_size: u64,
    /// When the oldest unresolved frame was captured.
    pub oldest: Option<UnixMicros>,
    /// Whether frames are being refused for want of room: the cap is reached, or the disk is full.
    pub full: bool,
}

#[derive(Debug, Default)]
pub(super) struct Shared {
    /// JPEG bytes that were appended and are not on disk yet.
    pub(super) pending: AtomicU64,
    pub(super) status: Mutex<SpoolStatus>,
    /// Whose frames these are, once the thread has been started.
    pub(super) origin: OnceLock<Origin>,
    /// Where they lie, whatever has become of the directory's name since.
    pub(super) directory: OnceLock<Arc<File>>,
}

/// A handle on a destination's part of the spool. Cloning is cheap; all clones are one.
#[derive(Clone, Debug)]
pub struct Spool {
    commands: Sender<Command>,
    shared: Arc<Shared>,
    /// Of its segments.
    dir: PathBuf,
}

/// The thread's end of a [`channel`].
#[derive(Debug)]
pub struct Inbox {
    pub(super) commands: Receiver<Command>,
    pub(super) shared: Arc<Shared>,
}

/// The directory of a destination's segments.
pub(super) fn stream(dir: &Path, name: &DestinationName) -> PathBuf {
    dir.join(name.as_str())
}

async fn read(
    (dir, directory): (PathBuf, Arc<File>),
    origin: Origin,
    camera: CameraId,
    spooled: Spooled,
) -> Result<Record, ReadError> {
    let read = move || {
        let name = segment_name(spooled.place.segment);
        let mut bytes = vec![0; spooled.place.length as usize];
        match open_regular(&*directory, name.as_str(), OFlags::RDONLY)
            .and_then(|file| file.read_exact_at(&mut bytes, spooled.place.offset.into()))
        {
            Ok(()) => decode(bytes, &origin, &camera, spooled),
            Err(error) => Err(failed(error, dir.join(name), &camera, spooled.seq)),
        }
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => read,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// A handle on a destination's part of the spool, which lies in `dir` and whose thread is not started yet: what hears of
/// its frames needs the handle.
pub fn channel(dir: PathBuf) -> (Spool, Inbox) {
    let (commands, inbox) = std::sync::mpsc::channel();
    let shared = Arc::new(Shared::default());
    (Spool { commands, shared: shared.clone(), dir }, Inbox { commands: inbox, shared })
}

impl Spool {
    fn send(&self, command: Command) {
        // The spool's thread ends last, and one that panics takes the process with it.
        let _ = self.commands.send(command);
    }

    /// Writes a frame; the sink hears when it is on disk. Frames of one camera must come in the order of their seqs.
    pub fn append(&self, record: Record) {
        self.shared.pending.fetch_add(record.frame.jpeg.len() as u64, Relaxed);
        self.send(Command::Append(Box::new(record)));
    }

    /// JPEG bytes that are on their way to the disk, and in memory for so long.
    pub fn pending(&self) -> u64 {
        self.shared.pending.load(Relaxed)
    }

    /// Takes note that the journal has outcomes for good; the room of these frames can be used again.
    pub fn settled(&self, camera: &CameraId, seqs: SeqRange) {
        self.send(Command::Settled { camera: camera.clone(), seqs });
    }

    /// Asks for a camera's next unresolved frames after `after`, `limit` at most; the sink is told.
    pub fn load(&self, camera: &CameraId, after: Seq, limit: usize) {
        self.send(Command::Load { camera: camera.clone(), after, limit });
    }

    /// Reads a frame back.
    ///
    /// # Errors
    ///
    /// By [`ReadError`].
    pub async fn read(&self, camera: &CameraId, spooled: Spooled) -> Result<Record, ReadError> {
        let Spooled { seq, mut place } = spooled;
        let (Some(origin), Some(directory)) = (self.shared.origin.get(), self.shared.directory.get()) else {
            return Err(ReadError::Gone { camera: camera.clone(), seq });
        };
        loop {
            let lies = (self.dir.clone(), Arc::clone(directory));
            let error = match read(lies, origin.clone(), camera.clone(), Spooled { seq, place }).await {
                // What stands in its place may be no segment.
                Err(ReadError::Io { path, error })
                    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::IsADirectory) =>
                {
                    ReadError::Io { path, error }
                }
                read => return read,
            };
            // Copied forward since, most likely.
            let (answer, found) = oneshot::channel();
            self.send(Command::Locate { camera: camera.clone(), seq, answer });
            match found.await {
                Ok(Some(now)) if now.segment != place.segment => place = now,
                Ok(Some(_)) => {
                    let detail = format!("segment {} is missing", place.segment);
                    return Err(ReadError::Damaged { camera: camera.clone(), seq, detail });
                }
                Ok(None) => return Err(ReadError::Gone { camera: camera.clone(), seq }),
                Err(_) => return Err(error),
            }
        }
    }

    /// Waits until everything given to this handle before is on disk, or refused.
    pub async fn barrier(&self) {
        let (done, answer) = oneshot::channel();
        self.send(Command::Barrier { done });
        let _ = answer.await;
    }

    /// Waits until the thread answers. Unlike [`Spool::barrier`] it does not wait for the disk, nor for room on it.
    pub async fn answers(&self) {
        // What it is asked does not matter: no frame has this seq.
        let camera = CameraId::from_name("").next().expect("there is always one more");
        let (answer, answered) = oneshot::channel();
        self.send(Command::Locate { camera, seq: 0, answer });
        let _ = answered.await;
    }

    /// How it stands.
    pub fn status(&self) -> SpoolStatus {
        *self.shared.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the thread for a while, to prove that it is noticed.
    pub fn hang(&self, time: Duration) {
        self.send(Command::Hang(time));
    }

    /// Ends the thread after what was given before.
    pub fn close(&self) {
        self.send(Command::Close);
    }
}
