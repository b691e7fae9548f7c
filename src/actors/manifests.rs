//! Writes the lists into the bucket: for each camera a manifest every so often, one on its way at a time.
//!
//! What a manifest says is read from the journal, and committed there as bytes before it is put: so a crash at any
//! moment is followed by the same bytes under the same key, and every seq is in exactly one manifest. It belongs to no
//! camera's actor: the rest of a deleted camera's list is written like any other. Should it panic it begins anew from
//! the journal, which has all that it needs.

mod places;

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, error, info, warn};

pub use self::places::{Place, Places};
use crate::config::{ManifestSettings, UploadSettings};
use crate::delivery::{Backoff, attempt_deadline};
use crate::journal::{Entry, Journal, Ledgers, Manifested, Part, PendingManifest, ReadError, Reader};
use crate::manifest::{self, Due, Header, Line, Manifest, Schedule};
use crate::metrics::Metrics;
use crate::model::{CameraId, DestinationName, Origin, Outcome, Seq, UnixMicros};
use crate::storage::{self, Attempt, BucketErrorKind, ContentType, Object};

/// Manifests on their way to one destination: at 200 ms a put, more than a thousand cameras' a minute. They bound the
/// journal's bytes of them, some 400 KB each.
const ON_THEIR_WAY: usize = 16;

/// How many begin at a look. A list that was never told before, of years, may be told back to back: it must leave the
/// journal time for what happens now.
const AT_A_LOOK: usize = 8;

/// How often watermarks are looked at. It costs a few microseconds a hundred cameras, and no query.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The same at the end, when somebody waits for it.
const LOOK_AT_THE_END: Duration = Duration::from_millis(50);

/// When a journal that could not be read, or a task that panicked, is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What the writing of manifests needs.
#[derive(Clone)]
pub struct ManifestRecipe {
    /// Where they are committed.
    pub journal: Journal,
    /// Where the lists are read.
    pub reader: Reader,
    /// How far the lists go.
    pub ledgers: Ledgers,
    /// This state directory's origin.
    pub origin: Origin,
    /// Where they go.
    pub places: Places,
    /// How often, and how large.
    pub settings: ManifestSettings,
    /// How long a put may take, and how long it waits for the next one.
    pub upload: UploadSettings,
    /// The daemon's metrics.
    pub metrics: Metrics,
}

impl ManifestRecipe {
    /// Where a camera's frames go now.
    fn own(&self, camera: &CameraId) -> Option<DestinationName> {
        self.ledgers.find(camera)?.destination()
    }

    /// When the first entry after a seq was listed; what cannot be read is taken for new.
    async fn listed_at(&self, camera: &CameraId, through: Seq) -> Option<UnixMicros> {
        let key = camera.clone();
        blocking(&self.reader, move |reader| reader.listed_at(&key, through)).await.ok().flatten()
    }
}

/// The writing of manifests, at work. It goes on until [`Manifests::finish`].
#[derive(Debug)]
pub struct Manifests {
    ending: watch::Sender<bool>,
    task: AbortOnDropHandle<()>,
}

impl Manifests {
    /// Starts it on the runtime of whoever calls.
    pub fn start(recipe: ManifestRecipe) -> Self {
        let (ending, end) = watch::channel(false);
        let task = tokio::spawn(async move {
            loop {
                match AbortOnDropHandle::new(tokio::spawn(work(recipe.clone(), end.clone()))).await {
                    Err(failure) if failure.is_panic() => {
                        error!("the writing of manifests panicked: it begins anew from the journal");
                        sleep(AGAIN).await;
                    }
                    _ => return,
                }
            }
        });
        Self { ending, task: AbortOnDropHandle::new(task) }
    }

    /// Writes what is in no manifest yet, each camera's as far as it goes at the first try, and ends; `false` where
    /// that takes longer than `deadline`. What is committed then is put at the next start.
    pub async fn finish(self, deadline: Duration) -> bool {
        self.ending.send_replace(true);
        timeout(deadline, self.task).await.is_ok()
    }
}

/// What became of a camera's turn.
enum Turn {
    /// Its manifests are in the bucket up to this seq; when what follows was listed.
    Stored(Seq, Option<UnixMicros>),
    /// It is not written down, because it goes elsewhere than was thought, where there may be no place for it.
    Elsewhere,
    /// There is none to put, or none could be made.
    Nothing,
    /// It is in the journal, to be put again.
    Later { destination: String, wait: Duration, conflict: bool },
    /// The journal has ended.
    Closed,
}

async fn work(recipe: ManifestRecipe, mut end: watch::Receiver<bool>) {
    let settings = recipe.settings;
    let seed = fastrand::u64(..);
    let mut schedule = Schedule::new(settings.every, settings.entries.get() as u64, ON_THEIR_WAY, seed);
    know(&recipe, &mut schedule).await;
    let mut turns = FuturesUnordered::new();
    let mut ticks = ticking(LOOK_EVERY);
    let (mut ending, mut rested) = (false, false);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            Some((due, turn)) = turns.next() => {
                if !note(&mut schedule, due, turn) {
                    return;
                }
                continue;
            }
            // Whoever held the other end is gone: nobody waits for the rest.
            changed = end.changed(), if !ending => {
                if changed.is_err() {
                    return;
                }
                (ending, ticks) = (true, ticking(LOOK_AT_THE_END));
                schedule.retry_now(Instant::now());
                continue;
            }
        }
        let now = Instant::now();
        for ledger in recipe.ledgers.all() {
            schedule.look(ledger.camera(), ledger.watermark(), now);
        }
        if ending {
            schedule.hurry(now);
        }
        for due in schedule.take(now, AT_A_LOOK, |camera| recipe.places.likely(camera, recipe.own(camera).as_ref())) {
            let recipe = recipe.clone();
            turns.push(async move {
                let turn = take_turn(&recipe, &due).await;
                (due, turn)
            });
        }
        show(&recipe.metrics, &schedule);
        if ending {
            // Twice in a row: the last outcomes are on their way to the watermark when the end begins.
            if rested && turns.is_empty() && schedule.is_resting() {
                return;
            }
            rested = turns.is_empty() && schedule.is_resting();
        }
    }
}

fn ticking(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Asks the journal how far all manifests go, until it answers.
async fn know(recipe: &ManifestRecipe, schedule: &mut Schedule) {
    loop {
        match blocking(&recipe.reader, |reader| reader.manifested()).await {
            Ok(all) => {
                for Manifested { camera, through, place, since, pending } in all {
                    // Where its frames went then is not known: where they go now may be elsewhere.
                    if let Some(to) = place {
                        recipe.places.went(camera.clone(), to, None);
                    }
                    schedule.know(camera, through, since.map(ago), pending, Instant::now());
                }
                return;
            }
            Err(error) => error!(error, "it cannot be read how far manifests go; asking again"),
        }
        sleep(AGAIN).await;
    }
}

/// Takes down what became of a camera's turn; `false` where there is no journal any more.
fn note(schedule: &mut Schedule, due: Due, turn: Turn) -> bool {
    let now = Instant::now();
    match turn {
        Turn::Stored(last, since) => schedule.stored(&due.camera, last, since.map(ago), now),
        Turn::Elsewhere => schedule.elsewhere(&due.camera, now),
        Turn::Nothing => schedule.nothing(&due.camera, now),
        Turn::Later { destination, wait, conflict } => {
            schedule.later(&due.camera, destination, wait, conflict, now);
        }
        Turn::Closed => return false,
    }
    true
}

fn show(metrics: &Metrics, schedule: &Schedule) {
    let oldest = schedule.oldest(Instant::now()).map(|age| UnixMicros::now().before(age));
    metrics.set_manifests(schedule.seqs_left(), oldest, schedule.conflicts());
}

/// How long ago that was.
fn ago(at: UnixMicros) -> Duration {
    UnixMicros::now().since(at)
}

/// Has the reader do something off the event loop.
async fn blocking<T: Send + 'static>(
    reader: &Reader,
    query: impl FnOnce(Reader) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, String> {
    let reader = reader.clone();
    let done = tokio::task::spawn_blocking(move || query(reader)).await;
    done.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
}

/// Makes a camera's next manifest, or takes the one that is in the journal, and tries once to put it.
async fn take_turn(recipe: &ManifestRecipe, due: &Due) -> Turn {
    let camera = &due.camera;
    let manifest = if due.again {
        let key = camera.clone();
        match blocking(&recipe.reader, move |reader| reader.pending_manifest(&key)).await {
            Ok(Some(manifest)) => manifest,
            // An earlier life of this task has come to its end after all.
            Ok(None) => {
                let key = camera.clone();
                let through = blocking(&recipe.reader, move |reader| reader.manifested_through(&key)).await;
                let Ok(through) = through else { return wait_or_nothing(due, AGAIN) };
                return Turn::Stored(through, recipe.listed_at(camera, through).await);
            }
            Err(error) => {
                error!(%camera, error, "a manifest cannot be read; trying again");
                return wait_or_nothing(due, recipe.upload.retry_max);
            }
        }
    } else {
        // What cannot be recorded must not take the room of what has to be.
        if *recipe.journal.stuck().borrow() {
            return Turn::Nothing;
        }
        match make(recipe, due).await {
            Ok(Some(manifest)) if manifest.destination != due.destination => return Turn::Elsewhere,
            Ok(Some(manifest)) => {
                match recipe.journal.commit_manifest(manifest.clone()).await {
                    Some(true) => manifest,
                    // An earlier life of this task, which panicked, had given one to the journal.
                    Some(false) => {
                        return Turn::Later { destination: due.destination.clone(), wait: AGAIN, conflict: false };
                    }
                    None => return Turn::Closed,
                }
            }
            Ok(None) => return Turn::Nothing,
            Err(error) => {
                error!(%camera, error, "the list cannot be read for a manifest; trying again");
                return Turn::Nothing;
            }
        }
    };
    let Some(place) = recipe.places.by_name.get(&manifest.destination) else {
        let destination = &manifest.destination;
        warn!(%camera, destination, "a manifest waits for a destination that the configuration does not have");
        return Turn::Later { destination: manifest.destination, wait: recipe.upload.retry_max, conflict: false };
    };
    deliver(recipe, due, place, manifest).await
}

/// Nothing is lost by waiting, whether it is in the journal or not made yet.
fn wait_or_nothing(due: &Due, wait: Duration) -> Turn {
    match due.again {
        true => Turn::Later { destination: due.destination.clone(), wait, conflict: due.conflict },
        false => Turn::Nothing,
    }
}

/// One attempt, and what follows from it.
async fn deliver(recipe: &ManifestRecipe, due: &Due, place: &Place, manifest: PendingManifest) -> Turn {
    let camera = &due.camera;
    let destination = manifest.destination.clone();
    let key = manifest::key(camera, &recipe.origin, manifest.seqs);
    let permit = place.hub.permit().await;
    let (content, crc32c) = (manifest.content.clone(), manifest.crc32c);
    let deadline = attempt_deadline(recipe.upload.deadline, recipe.upload.min_rate, content.len());
    let object = Object { key: key.clone(), content, crc32c, content_type: ContentType::Ndjson };
    let put = storage::attempt_on(&place.runtime, &place.bucket, object, deadline).await;
    permit.ended(None, put.verdict(), put.failure());
    let backoff = Backoff { min: recipe.upload.retry_min, max: recipe.upload.retry_max };
    match put {
        Attempt::Stored => {
            let Some(known) = recipe.journal.manifest_stored(camera.clone(), manifest.seqs.last).await else {
                return Turn::Closed;
            };
            if !known {
                error!(%camera, key, "a manifest was stored that the journal did not have");
            }
            recipe.metrics.manifest_stored();
            if due.failures > 0 {
                info!(%camera, key, failures = due.failures, "the manifest is stored");
            }
            Turn::Stored(manifest.seqs.last, recipe.listed_at(camera, manifest.seqs.last).await)
        }
        Attempt::Conflict => {
            recipe.metrics.manifest_conflict();
            if !due.conflict {
                error!(%camera, url = place.bucket.url(&key), "an object with other content stands under a manifest's key: \
                    move it away; until then the camera gets no manifests, and its list keeps what `list.keep` would \
                    remove");
            }
            Turn::Later { destination, wait: backoff.max, conflict: true }
        }
        Attempt::Failed(failure) | Attempt::Late(failure) => {
            recipe.metrics.manifest_failed(failure.kind);
            let failures = due.failures + 1;
            // What only a person can mend is tried less often from the start, as with frames.
            let weight = match failure.kind {
                BucketErrorKind::Transient | BucketErrorKind::Throttled => failures,
                BucketErrorKind::Auth | BucketErrorKind::NotFound | BucketErrorKind::Permanent => failures + 5,
            };
            let wait = backoff.delay(weight, failure.retry_after, &mut fastrand::Rng::new());
            debug!(%camera, key, failures, ?wait, error = %failure, "a manifest could not be put");
            if failures == 3 {
                warn!(%camera, key, error = %failure, "puts of a manifest keep failing and are tried again");
            }
            // What stood under its key stands there until a put shows that it does not.
            Turn::Later { destination, wait, conflict: due.conflict }
        }
    }
}

/// Makes a camera's next manifest: what its list has after the last one, as far as the watermark.
async fn make(recipe: &ManifestRecipe, due: &Due) -> Result<Option<PendingManifest>, String> {
    let (origin, places, limit) = (recipe.origin.clone(), recipe.places.clone(), recipe.settings.entries.get());
    let (Due { camera, watermark, .. }, own) = (due.clone(), recipe.own(&due.camera));
    blocking(&recipe.reader, move |reader| {
        let Some(part) = reader.part(&camera, limit, watermark)? else { return Ok(None) };
        let (seqs, destination) = (part.seqs, places.next_of(&camera, own, &part.entries));
        let manifest = manifest_of(part, camera.clone(), origin, UnixMicros::now(), &places.base_url);
        let (entries, content) = (manifest.header.entries, Bytes::from(manifest.to_bytes()));
        let crc32c = crc32c::crc32c(&content);
        Ok(Some(PendingManifest { camera, seqs, entries, destination, content, crc32c }))
    })
    .await
}

/// A part of a list as a manifest says it.
fn manifest_of(part: Part, camera: CameraId, origin: Origin, written_at: UnixMicros, base_url: &str) -> Manifest {
    let Part { seqs, missing_from, entries, mut ends } = part;
    let mut lines = Vec::with_capacity(entries.len() + ends.len());
    for entry in entries {
        let line = match entry {
            Entry::Session { session, opened, codec, width, height, time_source, .. } => {
                if let Some(end) = ends.remove(&session) {
                    lines.push(Line::SessionEnd { session: end.session, closed: end.closed, why: end.why });
                }
                Line::Session { session, opened, codec, width, height, time_source }
            }
            Entry::Frames { seqs, session, outcome: Outcome::Stored(stored), base_url: own } => Line::Frame {
                session,
                seq: seqs.first,
                captured_at: stored.captured_at,
                stored_at: stored.stored_at,
                destination: stored.destination,
                url: format!("{}{}", own.as_deref().unwrap_or(base_url), stored.key),
                key: stored.key,
                bytes: stored.bytes,
                crc32c: stored.crc32c,
                width: stored.width,
                height: stored.height,
                damaged: stored.damaged,
            },
            Entry::Frames { seqs, session, outcome: Outcome::Lost { reason, maybe_stored }, .. } => {
                Line::Tombstone { session, seqs, reason, maybe_stored }
            }
        };
        lines.push(line);
    }
    let entries = lines.iter().filter(|line| line.seqs().is_some()).count() as u64;
    Manifest { header: Header { camera, origin, seqs, entries, missing_from, written_at }, lines }
}
