//! `framehaul push`: pictures into a bucket without a daemon.

mod list;
mod source;

use std::future::pending;
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::sync::{Notify, watch};
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use self::list::List;
use super::ConfigArgs;
use super::camera::spec::OpenArgs;
use super::failure::{Failure, Kind, finish, note};
use super::interrupt::{COMES_TO_ITS_END, until_interrupted_twice};
use super::printer::{ListFormat, Printer};
use super::progress::{bar, grouped};
use super::spool::size;
use crate::capture::ErrorKind;
use crate::config::Settings;
use crate::model::DestinationName;
use crate::push::{Fed, Progress, Push, PushError, Source, SourceError, Summary};
use crate::storage::BucketErrorKind;

#[derive(Debug, Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
pub struct PushArgs {
    /// What to store: a video file, a camera's URL, image files (their directory, or a pattern for them, in quotes), or
    /// `-` for JPEGs on standard input.
    #[arg(required = true)]
    source: Vec<String>,
    /// Where to: gs://bucket/prefix, s3://bucket/prefix, az://container/prefix or file:///directory. Endpoint and credentials
    /// are those of [storage] in the configuration or in FRAMEHAUL__STORAGE__ENDPOINT and so on.
    #[arg(long, value_name = "URL")]
    to: String,
    /// At most so many pictures; without it, all. A camera's never end.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    frames: Option<u64>,
    /// So many frames a second; without it, all.
    #[arg(long, value_name = "F", conflicts_with = "every")]
    fps: Option<f64>,
    /// Every n-th frame.
    #[arg(long, value_name = "K")]
    every: Option<NonZeroU32>,
    /// Key frames only: nothing else is decoded.
    #[arg(long, conflicts_with_all = ["fps", "every"])]
    keyframes: bool,
    /// Pass by what comes before this time of a video file, such as 90s or 1m30s.
    #[arg(long, value_name = "T", value_parser = humantime::parse_duration)]
    from: Option<Duration>,
    /// JPEG quality, 1 to 100.
    #[arg(long, value_name = "Q")]
    quality: Option<u8>,
    /// Scale wider pictures down to this width.
    #[arg(long, value_name = "PIXELS")]
    max_width: Option<u32>,
    /// Pictures on their way at the same time.
    #[arg(long, value_name = "C", default_value_t = 512)]
    concurrency: usize,
    /// How often each picture is tried again.
    #[arg(long, value_name = "R", default_value_t = 10)]
    retries: u32,
    /// How long the bucket may be away.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "60s")]
    patience: Duration,
    /// Go on where a push of the same source with the same options was cut off: what is there is not sent again.
    #[arg(long)]
    resume: bool,
    /// The form of the list.
    #[arg(long, value_enum, default_value_t)]
    format: ListFormat,
    #[command(flatten)]
    open: OpenArgs,
    #[command(flatten)]
    config: ConfigArgs,
}

const EXAMPLES: &str = "Examples:
  framehaul push clip.mp4 --every 25 --to gs://bucket/clip
  framehaul push clip.mp4 --every 25 --to gs://bucket/clip --resume
  framehaul push rtsp://10.0.0.9/main --user viewer --password-file gate.password --frames 50 --to s3://bucket/gate
  framehaul push 'shots/*.jpg' --to az://container/shots --format ndjson > list.ndjson
  ffmpeg -i clip.mp4 -f image2pipe -c:v mjpeg -q:v 2 - | framehaul push - --to file:///srv/frames

The n-th picture is the object PREFIX/00000000000n.jpg, so the same command twice stores nothing twice. The list has a line for
each picture, in their order, as soon as all before it are settled. SIGINT lets what is on its way come to its end; a second
one does not.";

const EXIT_CODES: &str = "Exit codes:
  0 every picture is stored   1 failed   2 wrong usage   65 pictures were lost, or others stand in their place
  66 no such source or bucket   69 source or bucket unreachable   75 interrupted: go on with --resume
  77 not let in   78 configuration";

pub fn run(args: &PushArgs) -> ExitCode {
    // One place says where a destination is and who we are there.
    let to = ("FRAMEHAUL__STORAGE__URL".to_owned(), args.to.clone());
    match super::load_with(&args.config, Some(to)) {
        Ok(settings) => finish(push(&settings, args)),
        Err(code) => code,
    }
}

fn push(settings: &Settings, args: &PushArgs) -> Result<(), Failure> {
    let source = source::source(settings, args)?;
    let storage = settings.destinations.get(&DestinationName::default()).expect("it is always there");
    let push = Push::new(storage.clone())
        .concurrency(args.concurrency)
        .upload(settings.upload.clone())
        .retries(args.retries)
        .patience(args.patience)
        .resume(args.resume);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::Other, format!("cannot start a runtime: {error}")))?;
    let done = runtime.block_on(async {
        let stop = Notify::new();
        until_interrupted_twice(&stop, COMES_TO_ITS_END, work(push, source, args, &stop)).await
    });
    // A disk, or standard input, that does not answer must not keep us.
    runtime.shutdown_background();
    done
}

async fn work(push: Push, source: Source, args: &PushArgs, stop: &Notify) -> Result<(), Failure> {
    let (begun, limit) = (Instant::now(), args.frames.unwrap_or(u64::MAX));
    let (pictures, mut entries) = push.start().await.map_err(failed)?;
    let feeding = AbortOnDropHandle::new(tokio::spawn(source.feed(pictures, limit)));
    let mut far = entries.progress();
    let mut printer = Printer::start(List::new(args.format))?;
    loop {
        tokio::select! {
            // Whoever reads the list slowly, or has read enough of it, wants the pictures stored all the same.
            entry = async { printer.room().await; entries.next().await } => match entry {
                Some(entry) => printer.entry(entry),
                None => break,
            },
            () = changed(&mut far) => {
                let far = *far.borrow_and_update();
                printer.progress(|| show(&far, begun, args.frames));
            }
            () = stop.notified() => entries.stop(),
        }
    }
    let far = *far.borrow();
    let summary = entries.finish().await;
    printer.end().await?;
    let summary = summary.map_err(|error| {
        note(sentence(&far, begun));
        failed(error)
    })?;
    note(sentence(&summary.progress, begun));
    if summary.stopped {
        return Err(Failure::new(Kind::NotNow, "interrupted: the same command with --resume goes on"));
    }
    // It has said that there are no more, and is leaving its source.
    conclude(&summary, feeding.await)
}

/// Waits for a change; for ever where there will be none.
async fn changed(progress: &mut watch::Receiver<Progress>) {
    if progress.changed().await.is_err() {
        pending::<()>().await;
    }
}

/// How far it is, in a line: rate, in flight, time left.
fn show(far: &Progress, begun: Instant, of: Option<u64>) -> String {
    let done = far.stored + far.there + far.lost;
    let rate = far.stored as f64 / begun.elapsed().as_secs_f64().max(0.001);
    let state = far.state.map_or("", |state| state.as_str());
    let state = if matches!(state, "" | "open") { String::new() } else { format!(", bucket {state}") };
    let tail = format!("{rate:.0}/s, {} in flight, {}{state}", far.in_flight, size(far.bytes));
    match of {
        Some(of) => {
            let left = (of.saturating_sub(done)) as f64 / rate;
            let left = if left.is_finite() { format!(", {left:.0} s left") } else { String::new() };
            format!("{} {} of {}, {tail}{left}", bar(done, of), grouped(done), grouped(of))
        }
        None => format!("{} pictures, {tail}", grouped(done)),
    }
}

/// What was done, in a sentence.
fn sentence(far: &Progress, begun: Instant) -> String {
    let mut text = format!("{} stored", grouped(far.stored));
    for (count, what) in [(far.there, "there already"), (far.lost, "lost")] {
        if count > 0 {
            text.push_str(&format!(", {} {what}", grouped(count)));
        }
    }
    format!("{text}: {} in {:.2} s", size(far.bytes), begun.elapsed().as_secs_f64())
}

/// What the source has to say counts before what the list shows: it is why there are no more.
fn conclude(summary: &Summary, fed: Result<Result<Fed, SourceError>, JoinError>) -> Result<(), Failure> {
    match fed {
        Ok(Err(error)) => return Err(source_failed(&error)),
        Err(error) => return Err(Failure::new(Kind::Other, format!("reading the source broke off: {error}"))),
        Ok(Ok(_)) => {}
    }
    match summary.progress {
        Progress { given: 0, .. } => {
            Err(Failure::new(Kind::NotFound, "the source has no picture of those that were asked for"))
        }
        _ if summary.is_complete() => Ok(()),
        Progress { lost, .. } => {
            Err(Failure::new(Kind::Damaged, format!("{} are not stored: the list says why", grouped(lost))))
        }
    }
}

fn failed(error: PushError) -> Failure {
    let kind = match (&error, error.bucket_kind()) {
        (PushError::Destination(_), _) => Kind::Config,
        (PushError::Conflict { .. }, _) => Kind::Refused,
        (_, Some(BucketErrorKind::Auth)) => Kind::Forbidden,
        (_, Some(BucketErrorKind::NotFound)) => Kind::NotFound,
        (_, Some(BucketErrorKind::Transient | BucketErrorKind::Throttled)) => Kind::Unreachable,
        (_, Some(BucketErrorKind::Permanent)) => Kind::Refused,
        (_, None) => Kind::Other,
    };
    Failure::new(kind, error.to_string())
}

fn source_failed(error: &SourceError) -> Failure {
    let kind = match error {
        SourceError::Stream(diagnosis) => match diagnosis.kind {
            ErrorKind::Auth | ErrorKind::Denied | ErrorKind::Forbidden => Kind::Forbidden,
            ErrorKind::NotFound | ErrorKind::UnknownHost => Kind::NotFound,
            ErrorKind::CaptureMissing => Kind::Config,
            _ => Kind::Unreachable,
        },
        SourceError::File { .. } => Kind::NotFound,
        SourceError::Image { .. } | SourceError::NoJpeg { .. } | SourceError::StandardInput(_) => Kind::Refused,
    };
    Failure::new(kind, error.to_string())
}
