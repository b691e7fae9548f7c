//! One of the workers that carry frames into the bucket: pulls a frame, tries, reports, pulls the next.
//!
//! It holds nothing of its own: when it dies, the lease it held puts the frame back and the Supervisor starts another.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, warn};

use super::messages::{Panic, StopUpload, UploadExited, UploadTrouble};
use super::{Hub, Supervisor};
use crate::config::UploadSettings;
use crate::delivery::{Backoff, attempt_deadline};
use crate::metrics::Metrics;
use crate::model::{Frame, LostReason, Origin, Stored, UnixMicros};
use crate::spool::{Quarantine, Record};
use crate::storage::{self, Attempt, Bucket, BucketError, BucketErrorKind, ContentType, Object};

/// What all UploadActors of a destination share.
#[derive(Clone)]
pub struct UploadRecipe {
    /// Where frames wait.
    pub hub: Hub,
    /// Where they go.
    pub bucket: Arc<dyn Bucket>,
    /// The runtime on which the bucket's client was made, and on which they work; it lives as long as the process.
    pub runtime: Handle,
    /// How they go.
    pub settings: UploadSettings,
    /// Where frames are kept that the bucket will not have.
    pub quarantine: Arc<Quarantine>,
    /// This state directory's origin.
    pub origin: Origin,
    /// The daemon's metrics.
    pub metrics: Metrics,
}

/// One upload worker.
pub struct UploadActor {
    place: usize,
    recipe: UploadRecipe,
    supervisor: Addr<Supervisor>,
    _guard: ExitGuard,
}

struct ExitGuard {
    supervisor: Addr<Supervisor>,
    place: usize,
}

impl Drop for ExitGuard {
    fn drop(&mut self) {
        self.supervisor.do_send(UploadExited { place: self.place });
    }
}

impl UploadActor {
    /// A worker for one place.
    pub fn new(place: usize, recipe: UploadRecipe, supervisor: Addr<Supervisor>) -> Self {
        let guard = ExitGuard { supervisor: supervisor.clone(), place };
        Self { place, recipe, supervisor, _guard: guard }
    }
}

impl Actor for UploadActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // There, and not on the actors' thread: an attempt and what follows on it would cost a wake-up of each for the other.
        // Dropped with the actor it is broken off.
        let work = work(self.recipe.clone(), Handle::current(), self.supervisor.clone());
        let work = self.recipe.runtime.spawn(work);
        // An error is a panic, after which another worker is started as after the end.
        ctx.spawn(AbortOnDropHandle::new(work).into_actor(self).map(|_, _, ctx| ctx.stop()));
    }
}

impl Handler<StopUpload> for UploadActor {
    type Result = ();

    fn handle(&mut self, _: StopUpload, ctx: &mut Self::Context) {
        // Drops the work with its lease, which puts the frame back.
        ctx.stop();
    }
}

impl Handler<Panic> for UploadActor {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Self::Context) {
        panic!("injected into upload worker {}", self.place);
    }
}

/// So many other frames a destination must have taken since it first refused one for good, before that is believed.
const REFUSED_AMONG: u64 = 20;

/// Uploads frame by frame. `disk` is where they are read: on the bucket's runtime a directory that hangs may have all threads
/// that may block.
async fn work(recipe: UploadRecipe, disk: Handle, supervisor: Addr<Supervisor>) {
    let mut rng = fastrand::Rng::new();
    let backoff = Backoff { min: recipe.settings.retry_min, max: recipe.settings.retry_max };
    while let Some(lease) = recipe.hub.next().await {
        let read = match lease.is_read() {
            true => lease.read().await,
            false => AbortOnDropHandle::new(disk.spawn(lease.read())).await.ok().flatten(),
        };
        let Some((mut lease, record)) = read else { continue };
        let (frame, key) = (&record.frame, &record.key);
        let ledger = recipe.hub.ledger(&frame.camera);
        let begun = Instant::now();
        let destination = recipe.hub.name();
        let in_flight = recipe.metrics.uploading(destination);
        let (shortest, is_shut) = (recipe.settings.deadline, || recipe.hub.is_shut());
        let attempt = in_time(lease.is_patient(), shortest, is_shut, attempt(&recipe, frame, key)).await;
        let attempt = attempt.unwrap_or_else(|| {
            Attempt::Late(BucketError {
                kind: BucketErrorKind::Transient,
                maybe_stored: true,
                retry_after: None,
                message: format!("{}: a probe is not answered within {shortest:?}", recipe.bucket.label()),
            })
        });
        drop(in_flight);
        let shut = lease.tell(attempt.verdict(), attempt.failure());
        match attempt {
            Attempt::Stored => {
                let stored = stored(&recipe, &record);
                let age = (stored.stored_at.0 - stored.captured_at.0).max(0) as f64 / 1e6;
                recipe.metrics.upload_stored(destination, begun.elapsed(), age, stored.bytes);
                if ledger.note_upload(false) {
                    supervisor.do_send(UploadTrouble { camera: frame.camera.clone(), error: None });
                }
                lease.stored(stored);
            }
            Attempt::Conflict => {
                ledger.note_upload(true);
                let message = format!("{}: an object with other content stands there", recipe.bucket.url(key));
                let kept = keep_aside(&recipe, &record, &message).await;
                let error = Some(("conflict", message));
                supervisor.do_send(UploadTrouble { camera: frame.camera.clone(), error });
                let Some(file) = kept else {
                    recipe.metrics.upload_failed(destination, BucketErrorKind::Permanent);
                    lease.retry(Instant::now() + backoff.max, false);
                    continue;
                };
                error!(camera = %frame.camera, seq = frame.seq, key, file = %file.display(),
                    "an object with other content stands under our key; the frame is kept in that file");
                recipe.metrics.upload_conflict(destination);
                lease.lost(LostReason::Conflict, false);
            }
            Attempt::Failed(failure) if failure.kind == BucketErrorKind::Permanent && is_final(lease.refused()) => {
                ledger.note_upload(true);
                let kept = keep_aside(&recipe, &record, &failure.message).await;
                let error = Some((failure.kind.as_str(), failure.message.clone()));
                supervisor.do_send(UploadTrouble { camera: frame.camera.clone(), error });
                let Some(file) = kept else {
                    recipe.metrics.upload_failed(destination, BucketErrorKind::Permanent);
                    lease.retry(Instant::now() + backoff.max, failure.maybe_stored);
                    continue;
                };
                error!(camera = %frame.camera, seq = frame.seq, key, error = %failure, file = %file.display(),
                    "refused while others are taken; the frame is kept in that file");
                recipe.metrics.upload_rejected(destination);
                let maybe_stored = lease.job().carried || failure.maybe_stored;
                lease.lost(LostReason::Rejected, maybe_stored);
            }
            Attempt::Failed(failure) | Attempt::Late(failure) if shut => {
                recipe.metrics.upload_failed(destination, failure.kind);
                ledger.note_upload(true);
                debug!(camera = %frame.camera, seq = frame.seq, error = %failure, "upload failed: the destination is shut");
                let error = Some((failure.kind.as_str(), failure.message));
                supervisor.do_send(UploadTrouble { camera: frame.camera.clone(), error });
                lease.again(failure.maybe_stored);
            }
            Attempt::Failed(failure) | Attempt::Late(failure) => {
                recipe.metrics.upload_failed(destination, failure.kind);
                ledger.note_upload(true);
                let failures = lease.job().failures + 1;
                // What only a person can mend is tried less often from the start.
                let weight = match failure.kind {
                    BucketErrorKind::Transient | BucketErrorKind::Throttled => failures,
                    BucketErrorKind::Auth | BucketErrorKind::NotFound | BucketErrorKind::Permanent => failures + 5,
                };
                let delay = backoff.delay(weight, failure.retry_after, &mut rng);
                debug!(camera = %frame.camera, seq = frame.seq, failures, ?delay, error = %failure, "upload failed");
                if failures == 3 {
                    warn!(camera = %frame.camera, seq = frame.seq, error = %failure, "uploads keep failing and are tried again");
                }
                let error = Some((failure.kind.as_str(), failure.message));
                supervisor.do_send(UploadTrouble { camera: frame.camera.clone(), error });
                lease.retry(Instant::now() + delay, failure.maybe_stored);
            }
        }
    }
}

/// Whether a refusal is believed, after so many of this frame while so many others were taken.
fn is_final((refusals, others): (u32, u64)) -> bool {
    refusals >= storage::REFUSED_TIMES && others >= REFUSED_AMONG
}

/// How an attempt ends; `None` where it is given up, after the time that the smallest frame has: where it is one of
/// several probes, and none was answered meanwhile.
async fn in_time<T>(
    patient: bool,
    deadline: Duration,
    is_shut: impl Fn() -> bool,
    attempt: impl Future<Output = T>,
) -> Option<T> {
    if patient {
        return Some(attempt.await);
    }
    let mut attempt = pin!(attempt);
    match timeout(deadline, &mut attempt).await {
        Ok(ended) => Some(ended),
        Err(_) if is_shut() => None,
        Err(_) => Some(attempt.await),
    }
}

async fn attempt(recipe: &UploadRecipe, frame: &Frame, key: &str) -> Attempt {
    let deadline = attempt_deadline(recipe.settings.deadline, recipe.settings.min_rate, frame.jpeg.len());
    let (content, crc32c) = (frame.jpeg.clone(), frame.crc32c);
    let object = Object { key: key.to_owned(), content, crc32c, content_type: ContentType::Jpeg };
    storage::attempt(&*recipe.bucket, object, deadline).await
}

/// Keeps a frame for a person to look at that will never be in the bucket, and answers in which file. Where that cannot
/// be done the frame is not lost: it has to be tried again.
async fn keep_aside(recipe: &UploadRecipe, record: &Record, why: &str) -> Option<PathBuf> {
    let (quarantine, kept, reason) = (recipe.quarantine.clone(), record.clone(), why.to_owned());
    let Frame { camera, seq, .. } = &record.frame;
    let failure = match recipe.runtime.spawn_blocking(move || quarantine.keep(&kept, &reason)).await {
        Ok(Ok(file)) => return Some(file),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    if recipe.quarantine.may_complain(Instant::now()) {
        let dir = recipe.quarantine.dir().display();
        error!(%camera, seq, why, "the bucket will not have a frame, which cannot be kept in {dir} either: {failure}; it stays \
            where it is and is tried again: make room there");
    }
    None
}

fn stored(recipe: &UploadRecipe, record: &Record) -> Stored {
    let frame = &record.frame;
    Stored {
        destination: recipe.hub.name().clone(),
        key: record.key.clone(),
        captured_at: frame.captured_at,
        stored_at: UnixMicros::now(),
        bytes: frame.jpeg.len() as u64,
        crc32c: frame.crc32c,
        width: frame.width,
        height: frame.height,
        damaged: frame.damaged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_believed_when_it_is_repeated_while_others_are_taken() {
        let told = [(1, 1_000), (3, 1_000), (4, 19), (1_000, 0), (4, 20)].map(is_final);
        assert_eq!(told, [false, false, false, false, true]);
    }

    #[tokio::test]
    async fn of_several_probes_one_has_all_its_time_and_the_others_have_it_when_the_destination_is_back() {
        let short = Duration::from_millis(20);
        let late = || async { tokio::time::sleep(short * 5).await };
        assert_eq!(in_time(true, short, || true, late()).await, Some(()));
        assert_eq!(in_time(false, short, || false, late()).await, Some(()));
        assert_eq!(in_time(false, short, || true, late()).await, None);
        assert_eq!(in_time(false, short * 10, || true, late()).await, Some(()));
    }
}
