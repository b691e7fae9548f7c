//! `framehaul export`: recordings of a recorder into a bucket.

mod args;
mod hikload;
mod list;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tracing_subscriber::filter::LevelFilter;

pub use self::args::ExportArgs;
use self::list::List;
use super::failure::{Failure, Kind, finish, note};
use super::interrupt::{COMES_TO_ITS_END, until_interrupted_twice};
use super::printer::{List as _, ListFormat, Printer};
use super::progress::{Line, bar, grouped};
use super::spool::size;
use super::table::plain;
use crate::export::{Current, Export, ExportError, Progress, Reason, Summary, Survey};
use crate::nvr::{RecorderError, RecorderErrorKind};
use crate::storage::BucketErrorKind;

const EXAMPLES: &str = "Examples:
  framehaul export --server 10.0.0.5 --username admin --password-file nvr.password --yesterday --to gs://bucket/nvr
  framehaul export --server nvr.lan:8443 --https --username admin --password-file nvr.password --days 7 \\
    --channels 1,4 --container mp4 --layout day --to file:///srv/recordings
  framehaul export --server 10.0.0.5 --username admin --password-file nvr.password --tracks 101 \\
    --start 2026-11-19T08:00:00 --end 2026-11-19T09:00:00 --concat --trim --to s3://bucket/case-12
  framehaul export --server 10.0.0.5 --username admin --password-file nvr.password --all --dry-run --to file:///tmp/x
  framehaul export --hikload-args '--server 10.0.0.5 --username admin --yesterday --folders oneperday' \\
    --password-file nvr.password

A recording always has the same name, and what is stored is never fetched or written again: the same command twice, or after
a crash, fetches what is missing. Each is compared with the size that the recorder tells, and with the bucket's checksum. The
list has a line for each recording as soon as it is known what became of it; the same list is written into the bucket below
_export/. SIGINT lets what is on its way come to its end; a second one does not.";

const EXIT_CODES: &str = "Exit codes:
  0 all that was found is stored and verified   1 failed   2 wrong usage   65 some of it is not: the list says why
  66 nothing was found, or no such bucket   69 recorder or bucket unreachable
  75 interrupted, or still being recorded: the same command goes on   77 not let in, or locked out   78 configuration";

/// How often the terminal is told how far it is.
const TICK: Duration = Duration::from_millis(200);
/// Recordings on their way that are shown, at most.
const SHOWN: usize = 8;

pub fn run(args: ExportArgs) -> ExitCode {
    match hikload::translated(args) {
        Ok((args, password)) => with_options(&args, password),
        Err(failure) => finish(Err(failure)),
    }
}

fn with_options(args: &ExportArgs, password: Option<secrecy::SecretString>) -> ExitCode {
    if args.verbose {
        let say = tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(LevelFilter::INFO);
        // An error means that somebody else says it.
        let _ = say.with_target(false).try_init();
    }
    let Some(to) = args.to.clone() else {
        return finish(Err(Failure::new(Kind::Usage, "--to is missing")));
    };
    // One place says where a destination is and who we are there.
    let to = ("FRAMEHAUL__STORAGE__URL".to_owned(), to);
    let settings = match super::load_with(&args.config, Some(to)) {
        Ok(settings) => settings,
        Err(code) => return code,
    };
    let export = args::password(args, password).and_then(|password| args.export(&settings, password));
    finish(export.and_then(|export| go(export, args)))
}

fn go(export: Export, args: &ExportArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::Other, format!("cannot start a runtime: {error}")))?;
    let done = runtime.block_on(async {
        let stop = Notify::new();
        match args.dry_run {
            true => until_interrupted_twice(&stop, COMES_TO_ITS_END, search(&export, args.format)).await,
            false => until_interrupted_twice(&stop, COMES_TO_ITS_END, work(export, args.format, &stop)).await,
        }
    });
    // A disk that does not answer must not keep us.
    runtime.shutdown_background();
    done
}

/// Searches, and fetches nothing.
async fn search(export: &Export, format: ListFormat) -> Result<(), Failure> {
    let survey = export.survey().await.map_err(failed)?;
    let mut list = List::new(format);
    let entries = export.entries(&survey);
    for entry in &entries {
        list.entry(entry)?;
    }
    list.end()?;
    let bytes: u64 = entries.iter().filter_map(|entry| entry.recording.listed_bytes).sum();
    note(format_args!("{} found on {}, {}", grouped(entries.len() as u64), tracks(&survey), size(bytes)));
    searched(export, &survey, entries.is_empty()).await
}

/// What the search has to say for itself.
async fn searched(export: &Export, survey: &Survey, empty: bool) -> Result<(), Failure> {
    if empty {
        for sentence in export.explain(survey).await {
            note(plain(&sentence));
        }
    }
    if !survey.failed.is_empty() {
        let forbidden = survey.failed.iter().all(|(_, error)| error.kind == RecorderErrorKind::Forbidden);
        let kind = if forbidden && empty { Kind::Forbidden } else { Kind::Damaged };
        for (track, error) in survey.failed.iter().filter(|_| !empty) {
            note(format_args!("track {} could not be searched: {}", plain(&track.id), plain(&error.message)));
        }
        return Err(Failure::new(kind, format!("{} of the tracks could not be searched", survey.failed.len())));
    }
    match empty {
        true => Err(Failure::new(Kind::NotFound, "the recorder has no recording of those that were asked for")),
        false => Ok(()),
    }
}

fn tracks(survey: &Survey) -> String {
    match survey.tracks.as_slice() {
        [one] => format!("track {}", plain(&one.id)),
        many => format!("{} tracks", many.len()),
    }
}

async fn work(export: Export, format: ListFormat, stop: &Notify) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut running = export.clone().start();
    let far = running.progress();
    let mut printer = Printer::start(List::new(format))?;
    let mut reasons: BTreeMap<Reason, u64> = BTreeMap::new();
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            // Whoever reads the list slowly, or has read enough of it, wants the recordings stored all the same.
            entry = async { printer.room().await; running.next().await } => match entry {
                Some(entry) => {
                    if let Some(reason) = entry.fate.reason() {
                        *reasons.entry(reason).or_default() += 1;
                    }
                    printer.entry(entry);
                }
                None => break,
            },
            _ = tick.tick(), if Line::is_shown() => {
                let far = far.borrow().clone();
                printer.progress(|| show(&far, begun));
            }
            () = stop.notified() => running.stop(),
        }
    }
    let summary = running.finish().await;
    printer.end().await?;
    let summary = summary.map_err(failed)?;
    note(sentence(&summary.progress, begun, &reasons));
    if let Some(manifest) = &summary.manifest {
        note(format_args!("its list: {}", plain(manifest)));
    }
    if !summary.beside.is_empty() {
        let others: Vec<_> = summary.beside.iter().map(|name| plain(name)).collect();
        note(format_args!(
            "recordings of other recorders lie at the same place ({}), and names like these do not tell them apart: what is \
             there may be one of theirs. Export each recorder to a place of its own, or with --name-template and {{server}} \
             in it",
            others.join(", ")
        ));
    }
    conclude(&export, summary, &reasons).await
}

/// How far it is: a line for all, and one for each recording on its way.
fn show(far: &Progress, begun: Instant) -> String {
    if far.searching {
        return format!("searching: {} found", grouped(far.found));
    }
    let done = far.stored + far.there + far.failed;
    let coming: u64 = far.now.iter().map(Current::came).sum();
    let came = far.bytes + coming;
    let rate = came as f64 / begun.elapsed().as_secs_f64().max(0.001);
    let (settled, of) = (far.settled_bytes + coming, far.found_bytes);
    let full = if of > 0 { bar(settled, of) } else { bar(done, far.found) };
    let left = of.saturating_sub(settled) as f64 / rate;
    let left = if left.is_finite() && of > 0 { format!(", {left:.0} s left") } else { String::new() };
    let waiting = far.waiting.map(|what| format!(", waiting {what}")).unwrap_or_default();
    let mut text = format!(
        "{full} {} of {}, {}, {}/s{left}{waiting}",
        grouped(done),
        grouped(far.found),
        size(came),
        size(rate as u64)
    );
    for current in far.now.iter().take(SHOWN) {
        let came = current.came();
        text.push('\n');
        text.push_str(&match current.of {
            _ if current.making => format!("  {} is being made", plain(&current.name)),
            Some(of) => format!("  {} {} of {}  {}", bar(came, of), size(came), size(of), plain(&current.name)),
            None => format!("  {}  {}", size(came), plain(&current.name)),
        });
    }
    text
}

/// What was done, in a sentence.
fn sentence(far: &Progress, begun: Instant, reasons: &BTreeMap<Reason, u64>) -> String {
    let mut text = format!("{} stored", grouped(far.stored));
    let counts = [
        (far.noted, "of them not as asked for"),
        (far.there, "there already"),
        (far.failed, "not stored, or not whole"),
    ];
    for (count, what) in counts {
        if count > 0 {
            text.push_str(&format!(", {} {what}", grouped(count)));
        }
    }
    if !reasons.is_empty() {
        let reasons: Vec<_> = reasons.iter().map(|(reason, count)| format!("{count} {}", reason.as_str())).collect();
        text.push_str(&format!(" ({})", reasons.join(", ")));
    }
    format!("{text}: {} in {:.2} s", size(far.bytes), begun.elapsed().as_secs_f64())
}

async fn conclude(export: &Export, summary: Summary, reasons: &BTreeMap<Reason, u64>) -> Result<(), Failure> {
    if let Some(error) = summary.ended {
        return Err(failed(error));
    }
    if summary.stopped {
        return Err(Failure::new(Kind::NotNow, "interrupted: the same command goes on"));
    }
    if let Some(survey) = &summary.survey {
        searched(export, survey, summary.progress.found == 0).await?;
    }
    match summary.progress.failed {
        0 => Ok(()),
        growing if reasons.get(&Reason::Growing) == Some(&growing) => {
            let what = format!("{} are still being recorded: the same command fetches them later", grouped(growing));
            Err(Failure::new(Kind::NotNow, what))
        }
        failed => Err(Failure::new(
            Kind::Damaged,
            format!("{} are not stored, or not whole: the list says why", grouped(failed)),
        )),
    }
}

fn failed(error: ExportError) -> Failure {
    let kind = match &error {
        ExportError::Recorder(RecorderError { kind, .. }) => match kind {
            RecorderErrorKind::Auth | RecorderErrorKind::Locked { .. } | RecorderErrorKind::Forbidden => {
                Kind::Forbidden
            }
            RecorderErrorKind::Busy { .. } | RecorderErrorKind::TooSoon { .. } => Kind::NotNow,
            RecorderErrorKind::Timeout | RecorderErrorKind::Tls | RecorderErrorKind::Device | RecorderErrorKind::Io => {
                Kind::Unreachable
            }
            RecorderErrorKind::NotFound | RecorderErrorKind::Gone => Kind::NotFound,
            RecorderErrorKind::Unsupported | RecorderErrorKind::Dialect | RecorderErrorKind::Protocol => Kind::Refused,
        },
        ExportError::Refused { reason, .. } => match reason {
            Reason::Auth | Reason::Locked | Reason::Forbidden => Kind::Forbidden,
            _ => Kind::Unreachable,
        },
        ExportError::Bucket(error) => of_bucket(error.kind),
        ExportError::Away { bucket: Some(kind), .. } => of_bucket(*kind),
        ExportError::Away { bucket: None, .. } => Kind::Unreachable,
        ExportError::Usage(_) => Kind::Usage,
        ExportError::Machine(_) | ExportError::Broken(_) => Kind::Other,
    };
    Failure::new(kind, plain(&error.to_string()))
}

fn of_bucket(kind: BucketErrorKind) -> Kind {
    match kind {
        BucketErrorKind::Auth => Kind::Forbidden,
        BucketErrorKind::NotFound => Kind::NotFound,
        BucketErrorKind::Transient | BucketErrorKind::Throttled => Kind::Unreachable,
        BucketErrorKind::Permanent => Kind::Refused,
    }
}
