//! An export from its begin to its end: the recorder, the bucket, what is worked on, and the list at the end.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::attempt::Context;
use super::bandwidth::Bandwidth;
use super::blocking::blocking;
use super::claimed::{self, Workshop};
use super::driver::{All, Driver, RETRY_MIN, asked};
use super::fault::{Next, Whose};
use super::make::{self, url};
use super::{
    Entry, Export, ExportError, Form, Progress, Running, Summary, Survey, Transport, manifest, neighbours, plan, survey,
};
use crate::config::Destination;
use crate::delivery::Backoff;
use crate::model::{Origin, UnixMicros};
use crate::storage::{self, ContentType, Object};

/// How often the manifest is put.
const MANIFEST_TRIES: u32 = 5;
/// How long it may take to look who else exports to the same place.
const BESIDE_WITHIN: Duration = Duration::from_secs(5);
/// How long clearing away may take.
const LEAVE_WITHIN: Duration = Duration::from_secs(10);

/// Starts an export.
pub(super) fn start(export: Export) -> Running {
    let (out, entries) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel();
    let (shown, progress) = watch::channel(Progress { searching: true, ..Progress::default() });
    let cut = CancellationToken::new();
    let driver = AbortOnDropHandle::new(tokio::spawn(run(export, out, stopped, cut.clone(), shown)));
    Running::new(entries, stop, cut, progress, driver)
}

async fn run(
    export: Export,
    out: mpsc::UnboundedSender<Entry>,
    mut stopped: oneshot::Receiver<()>,
    cut: CancellationToken,
    shown: watch::Sender<Progress>,
) -> Result<Summary, ExportError> {
    let begun = UnixMicros::now();
    let recorder = survey::connect(&export)?;
    let found = |found| shown.send_modify(|shown| shown.found = found);
    let survey = tokio::select! {
        survey = survey::of(&export, &*recorder, found) => survey?,
        () = asked(&mut stopped) => return Ok(broken_off(&shown.borrow())),
        () = cut.cancelled() => return Ok(broken_off(&shown.borrow())),
    };
    let server = export.server();
    let items = plan::items(survey.segments.clone(), &survey.known, &survey.tracks, &export.names, &server);
    let groups = plan::groups(&items, &export.form, survey.span);
    let destination = export.destination.clone();
    let (origin, held) = match &destination {
        Destination::File { dir } => {
            let (origin, held) = claim(dir.clone(), server.clone()).await?;
            (origin, Some(held))
        }
        _ => (Origin::from_random(std::array::from_fn(|_| fastrand::u8(..))), None),
    };
    let opened = match storage::open(&destination, &origin).await {
        Ok(bucket) => optional_workshop(&export).await.map(|workshop| (bucket, workshop)),
        Err(error) => Err(ExportError::Bucket(error)),
    };
    let (bucket, workshop) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            drop(timeout(LEAVE_WITHIN, storage::leave(&destination, &origin)).await);
            return Err(error);
        }
    };
    let bandwidth = Arc::new(Bandwidth::new(export.bandwidth, Instant::now()));
    let clock = survey.abilities.clock.clone();
    let (span, moved) = (survey.span, Arc::default());
    let (shop, files) = workshop.unzip();
    let workshop = shop.as_ref().map(|shop| shop.dir.clone()).zip(files);
    let context = Arc::new(Context { recorder, clock, span, bucket, bandwidth, moved, workshop, export });
    let far = shown.subscribe();
    let driver = Driver::new(context.clone(), items, groups, out, shown);
    let work = async { Ok(conclude(&context, survey, driver.drive(&mut stopped).await?, begun).await) };
    let summary = tokio::select! {
        biased;
        () = cut.cancelled() => Ok(broken_off(&far.borrow())),
        summary = work => summary,
    };
    // A disk may hang.
    if let Some(shop) = shop {
        drop(timeout(LEAVE_WITHIN, spawn_blocking(move || shop.leave())).await);
    }
    drop(timeout(LEAVE_WITHIN, storage::leave(&destination, &origin)).await);
    drop(held);
    summary
}

/// One that was told to end before it is known what became of everything.
fn broken_off(far: &Progress) -> Summary {
    let progress = Progress { searching: false, now: Vec::new(), waiting: None, ..far.clone() };
    Summary { progress, survey: None, stopped: true, ended: None, manifest: None, beside: Vec::new() }
}

async fn claim(dir: PathBuf, server: String) -> Result<(Origin, fs::File), ExportError> {
    let shown = dir.display().to_string();
    let claimed = blocking(move || fs::create_dir_all(&dir).and_then(|()| claimed::origin(&dir, &server))).await;
    claimed.map_err(|error| ExportError::Machine(format!("cannot use directory {shown}: {error}")))
}

/// Where files are worked on; without one where it only would serve what the recorder does not send as files.
async fn optional_workshop(export: &Export) -> Result<Option<(Workshop, Arc<dyn storage::Bucket>)>, ExportError> {
    let is_needed = export.form != Form::Original || export.transport == Transport::Rtsp;
    match workshop(export).await {
        Ok(workshop) => Ok(Some(workshop)),
        Err(_) if !is_needed => Ok(None),
        Err(error) => Err(error),
    }
}

async fn workshop(export: &Export) -> Result<(Workshop, Arc<dyn storage::Bucket>), ExportError> {
    let failed = |error: &dyn std::fmt::Display| {
        ExportError::Machine(format!("cannot use {} for files that are worked on: {error}", export.workshop.display()))
    };
    let base = export.workshop.clone();
    let workshop = blocking(move || Workshop::open(&base)).await.map_err(|error| failed(&error))?;
    let origin = Origin::from_random([0; 5]);
    let bucket = storage::open(&Destination::File { dir: workshop.dir.clone() }, &origin).await;
    Ok((workshop, bucket.map_err(|error| failed(&error))?))
}

/// Writes the manifest and says how it ended.
async fn conclude(context: &Context, survey: Survey, all: All, begun: UnixMicros) -> Summary {
    let All { entries, progress, stopped, ended } = all;
    let mut summary = Summary { progress, survey: None, stopped, ended, manifest: None, beside: Vec::new() };
    summary.survey = Some(survey);
    let survey = summary.survey.as_ref().expect("it is there");
    if entries.is_empty() && survey.failed.is_empty() {
        return summary;
    }
    let run: String = (0..8).map(|_| fastrand::alphanumeric().to_ascii_lowercase()).collect();
    let key = manifest::key(&context.export.server(), begun, &run);
    let times = (begun, UnixMicros::now());
    let content = manifest::bytes(&context.export, survey, &summary.progress, &entries, times, summary.is_complete());
    let crc32c = crc32c::crc32c(&content);
    let object = Object { key: key.clone(), content: content.into(), crc32c, content_type: ContentType::Ndjson };
    let backoff = Backoff { min: RETRY_MIN, max: context.export.retry_max };
    let mut failures = 0;
    loop {
        match make::put(&*context.bucket, object.clone()).await {
            Ok(()) => {
                summary.manifest = Some(url(&*context.bucket, &key));
                // A word more than is needed is not worth waiting for.
                if !summary.stopped && summary.ended.is_none() {
                    let beside = timeout(BESIDE_WITHIN, neighbours::of(&context.export, &*context.bucket)).await;
                    summary.beside = beside.ok().and_then(Result::ok).unwrap_or_default();
                }
                return summary;
            }
            Err(fault) => {
                failures += 1;
                if fault.next != Next::Again || failures >= MANIFEST_TRIES {
                    let bucket = if let Whose::Buckets(kind) = fault.whose { Some(kind) } else { None };
                    let error = format!("the manifest is not stored: {}", fault.message);
                    let patience = context.export.patience;
                    summary.ended.get_or_insert(ExportError::Away { patience, error, bucket });
                    return summary;
                }
                tokio::time::sleep(backoff.delay(failures, fault.retry_after, &mut fastrand::Rng::new())).await;
            }
        }
    }
}
