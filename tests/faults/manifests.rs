//! The writing of manifests is killed in place of every call by which the journal or the bucket changes, one call a
//! run, and started again: manifests follow on one another, hold what was committed, and say what the journal says.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use framehaul::actors::{Admission, Hub, ManifestRecipe, Manifests, Newest, Place, Places};
use framehaul::config::{Durability, ManifestSettings, UploadSettings};
use framehaul::delivery::Budget;
use framehaul::journal::{CatalogChange, Journal, Ledger, Ledgers, Opened, Reader, SessionEnd, StateDir};
use framehaul::manifest;
use framehaul::metrics::Metrics;
use framehaul::model::{
    CameraId, DestinationName, KeyTemplate, LostReason, ManagedBy, Outcome, RawCameraSpec, Seq, SeqRange, Settled,
    Stored, UnixMicros,
};
use framehaul::spool;
use framehaul::storage::{Bucket, FileBucket};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::boundaries::{every, some};
use crate::child::{Player, Role, await_word, command, say};
use crate::extent::{Extent, scratch};
use crate::reader;
use crate::strace::{self, Call, Fault};

const PATIENCE: Duration = Duration::from_secs(30);
/// Entries of a manifest.
const ENTRIES: usize = 5;
/// How many of them a run fills.
const MANIFESTS: usize = 6;
/// How often a boundary is tried, as not all of a run's calls come in each.
const TRIES: usize = 6;
/// The threads whose calls are cut.
const THREADS: [&str; 2] = ["journal", "bucket"];

fn camera() -> CameraId {
    "gate-1".parse().expect("a plain id")
}

/// The program that is killed: lists frames, and has them written into a directory as manifests.
pub fn play(dir: &Path) -> anyhow::Result<()> {
    // Where only an ancestor may look into a process, strace, which is none, may as well.
    let _ = rustix::process::set_ptracer(rustix::process::PTracer::Any);
    say("waiting");
    await_word()?;
    let listed = Arc::new(OnceLock::<Ledgers>::new());
    let ledgers = listed.clone();
    let listener = move |settled: Settled| {
        if let Some(ledgers) = ledgers.get() {
            // They end in their order here.
            ledgers.of(&settled.camera).advance_watermark(settled.seqs.last);
        }
    };
    let opened = StateDir::open(&dir.join("state"))?.recover(&BTreeMap::new(), listener, |_| {})?;
    let ledgers = Ledgers::new(opened.cameras.iter().map(|camera| camera.ledger.clone()));
    let _ = listed.set(ledgers.clone());

    // The first of its threads carries what waits, the other one alone writes files.
    let threads = AtomicUsize::new(0);
    let name = move || if threads.fetch_add(1, Relaxed) == 0 { "carrier" } else { "bucket" }.to_owned();
    let uploads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(1)
        .thread_name_fn(name)
        .enable_all()
        .build()?;
    let bucket: Arc<dyn Bucket> = Arc::new(FileBucket::open(dir.join("bucket"), &opened.origin)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(work(dir, opened, ledgers, bucket, uploads.handle().clone()))
}

async fn work(
    dir: &Path,
    opened: Opened,
    ledgers: Ledgers,
    bucket: Arc<dyn Bucket>,
    uploads: tokio::runtime::Handle,
) -> anyhow::Result<()> {
    let (journal, reader) = (opened.journal.clone(), opened.reader.clone());
    let ledger = ledgers.of(&camera());
    let raw: RawCameraSpec = serde_json::from_value(json!({ "url": "rtsp://192.0.2.1/main" }))?;
    let spec = raw.validate(None).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    let puts = vec![(camera(), spec, ManagedBy::Api)];
    journal.change_catalog(CatalogChange { puts, ..CatalogChange::default() }).await?;
    let warm = bucket.clone();
    uploads.spawn(async move { warm.head("nothing").await }).await??;
    let metrics = Metrics::new()?;
    // Of all that a hub is, its gate alone is wanted here.
    let (spool, _inbox) = spool::channel(dir.join("spool"));
    let admission = Admission {
        name: DestinationName::default(),
        newest: Newest::default(),
        budget: Budget { bytes: 1, frames: 1 },
        durability: Durability::Disk,
        template: KeyTemplate::parse("{camera}/{origin}-{seq}.jpg").map_err(anyhow::Error::msg)?,
        origin: opened.origin.clone(),
    };
    let hub = Hub::new(admission, spool, journal.clone(), ledgers.clone(), metrics.clone());
    let base_url = bucket.base_url().into();
    let place = (DestinationName::default(), Place { hub, bucket, runtime: uploads });
    let manifests = Manifests::start(ManifestRecipe {
        journal: journal.clone(),
        reader: reader.clone(),
        ledgers: ledgers.clone(),
        origin: opened.origin.clone(),
        places: Places::new([place], base_url),
        settings: ManifestSettings {
            every: Duration::from_secs(3_600),
            entries: NonZeroUsize::new(ENTRIES).context("some")?,
        },
        upload: UploadSettings {
            workers: NonZeroUsize::MIN,
            retry_min: Duration::from_millis(20),
            retry_max: Duration::from_millis(100),
            deadline: Duration::from_secs(10),
            min_rate: NonZeroU32::MIN,
        },
        metrics,
    });
    say("ready");
    await_word()?;
    for round in 0..MANIFESTS {
        if round % 3 == 0 {
            open_session(&journal, &ledger).await?;
        }
        for nth in 0..ENTRIES {
            // One in five is a run of lost ones.
            list(&journal, &ledger, if nth == 3 { 3 } else { 1 }).await;
        }
        until_written(&reader, &ledger).await?;
    }
    list(&journal, &ledger, 1).await;
    ensure!(manifests.finish(PATIENCE).await, "the last manifest is not written");
    journal.close();
    opened.writer.join().ok().context("the journal's thread panicked")?;
    say("done");
    Ok(())
}

async fn open_session(journal: &Journal, ledger: &Arc<Ledger>) -> anyhow::Result<()> {
    let session = ledger.next_session(UnixMicros::now(), Some("h264".to_owned()), (640, 480));
    if session.session > 1 {
        let (session, closed, why) = (session.session - 1, UnixMicros::now(), "stall".to_owned());
        journal.close_session(SessionEnd { camera: camera(), session, closed, why });
    }
    journal.open_session(session).await.context("the journal has ended")
}

/// Has the next frame stored, or the next few lost.
async fn list(journal: &Journal, ledger: &Arc<Ledger>, count: u64) {
    let seqs = ledger.number(count, None);
    let now = UnixMicros::now();
    let outcome = match count {
        1 => Outcome::Stored(Stored {
            destination: DestinationName::default(),
            key: format!("gate-1/{:012}.jpg", seqs.first),
            captured_at: now,
            stored_at: now,
            bytes: seqs.first,
            crc32c: seqs.first as u32,
            width: 640,
            height: 480,
            damaged: false,
        }),
        _ => Outcome::Lost { reason: LostReason::Overrun, maybe_stored: false },
    };
    journal.settle(ledger.clone(), Settled { camera: camera(), seqs, session: Some(1), outcome, counted: false });
    journal.barrier().await;
}

/// Waits until no more is left than would be due.
async fn until_written(reader: &Reader, ledger: &Arc<Ledger>) -> anyhow::Result<()> {
    let begun = Instant::now();
    while ledger.watermark() - reader.manifested_through(&camera())? >= ENTRIES as u64 {
        ensure!(begun.elapsed() < PATIENCE, "no manifest is written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Has the program start, work and end with a fault in one of its threads.
fn run(thread: &str, fault: &Fault, dir: &Path) -> anyhow::Result<(ExitStatus, Vec<String>)> {
    let mut player = Player::start(command(Role::Manifests, dir))?;
    ensure!(player.until("waiting")?, "it says nothing: {:?}", player.said);
    player.go();
    ensure!(player.until("ready")?, "it does not start: {:?}", player.said);
    let mut strace = strace::attach(player.thread(Some(thread))?, fault, &strace::log(dir))?;
    player.go();
    let ended = player.end();
    strace.wait()?;
    ended
}

/// The same without one.
fn run_well(dir: &Path) -> anyhow::Result<()> {
    let mut player = Player::start(command(Role::Manifests, dir))?;
    player.go();
    player.go();
    let (status, said) = player.end()?;
    ensure!(status.success() && said.iter().any(|line| line == "done"), "it ends with {status}: {said:#?}");
    Ok(())
}

/// Before which step of a manifest a run was cut.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Step {
    /// None was on its way: it was being made or committed, or all were stored.
    Commit,
    /// It was committed, and no object was there.
    Put,
    /// Its object was there, and the journal did not know.
    Confirmation,
}

/// The manifest that the journal has committed and does not know to be stored: its key and its bytes.
fn pending(dir: &Path) -> anyhow::Result<Option<(String, Vec<u8>)>> {
    // A copy: what the next start has to mend is left to it.
    let copy = scratch(Some(&dir.join("state")))?;
    let journal = Connection::open(copy.path().join("journal.sqlite"))?;
    let mut statement = journal.prepare(
        "SELECT '_manifest/gate-1/' || value || printf('/%012d-%012d.ndjson', first, last), content
         FROM manifest_pending, meta WHERE meta.key = 'origin'",
    )?;
    let mut rows = statement.query([])?;
    Ok(rows.next()?.map(|row| Ok::<_, rusqlite::Error>((row.get(0)?, row.get(1)?))).transpose()?)
}

fn step(dir: &Path, pending: Option<&(String, Vec<u8>)>) -> Step {
    match pending {
        None => Step::Commit,
        Some((key, _)) if dir.join("bucket").join(key).exists() => Step::Confirmation,
        Some(_) => Step::Put,
    }
}

/// Looks at the manifests of a run that has come to its end, and returns how many there are.
fn judge(dir: &Path, pending: Option<(String, Vec<u8>)>) -> anyhow::Result<usize> {
    let bucket = dir.join("bucket");
    if let Some((key, content)) = pending {
        let found = std::fs::read(bucket.join(&key)).with_context(|| format!("{key} was committed"))?;
        ensure!(found == content, "{key} has other bytes than were committed");
    }
    let journal = Connection::open(dir.join("state/journal.sqlite"))?;
    let origin: String = journal.query_row("SELECT value FROM meta WHERE key = 'origin'", [], |row| row.get(0))?;
    let mut names: Vec<_> = std::fs::read_dir(bucket.join("_manifest/gate-1").join(&origin))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    names.sort();
    let mut next = 1;
    for path in &names {
        let manifest = manifest::read(&std::fs::read(path)?).with_context(|| path.display().to_string())?;
        let name = path.file_name().and_then(|name| name.to_str()).context("a plain name")?;
        let seqs = manifest.header.seqs;
        ensure!(manifest::parse_file_name(name) == Some(seqs) && seqs.first == next, "{name}: {next} is next");
        next = seqs.last + 1;
    }
    let read = reader::in_directory(&bucket, "gate-1", &origin)?;
    let entries: Vec<_> = read.iter().filter_map(told).collect();
    let mut statement = journal.prepare("SELECT seq, last, coalesce(lost, key) FROM frame ORDER BY seq")?;
    let rows = statement.query_map([], |row| {
        Ok((SeqRange { first: row.get::<_, i64>(0)? as Seq, last: row.get::<_, i64>(1)? as Seq }, row.get(2)?))
    })?;
    let listed: Vec<(SeqRange, String)> = rows.collect::<Result<_, _>>()?;
    ensure!(entries == listed, "the reader finds {entries:?}, the journal has {listed:?}");
    let sessions = read.iter().filter_map(|entry| (entry["type"] == "session").then(|| entry["session"].as_u64())?);
    let sessions: Vec<u64> = sessions.collect();
    let known: u32 = journal.query_row("SELECT count(*) FROM session", [], |row| row.get(0))?;
    ensure!(sessions.iter().copied().eq(1..=u64::from(known)), "the reader finds the sessions {sessions:?} of {known}");
    Ok(names.len())
}

/// A frame's or a tombstone's seqs, and its key or reason.
fn told(entry: &Value) -> Option<(SeqRange, String)> {
    let first = entry["seq"].as_u64()?;
    let last = entry["last"].as_u64().unwrap_or(first);
    Some((SeqRange { first, last }, entry["key"].as_str().or(entry["reason"].as_str())?.to_owned()))
}

#[test]
fn manifests_may_be_cut_anywhere() -> anyhow::Result<()> {
    Extent::each(|extent| THREADS.into_iter().try_for_each(|thread| cut(extent, thread)))
}

fn cut(extent: &Extent, thread: &str) -> anyhow::Result<()> {
    let whole = scratch(None)?;
    let (status, said) = run(thread, &Fault::default(), whole.path())?;
    ensure!(status.success(), "without a kill it ends with {status}: {said:#?}");
    ensure!(judge(whole.path(), None)? > MANIFESTS, "too little is written");
    let all = strace::calls(&strace::log(whole.path()), whole.path())?;
    let boundaries = all.len();
    ensure!(boundaries > 20, "strace saw no more than {all:?}");
    let faults: Vec<Fault> = some(all, extent, 3).into_iter().map(Fault::kill).collect();
    let (steps, unreached) = (Mutex::new(BTreeMap::<Step, usize>::new()), Mutex::new(Vec::new()));
    let manifests = AtomicUsize::new(0);
    every(&faults, |fault| {
        let Call { name, nth, file } = fault.kill.as_ref().context("each has one")?;
        for _ in 0..TRIES {
            let dir = scratch(None)?;
            let (status, said) = run(thread, fault, dir.path())?;
            let reached = status.signal() == Some(9);
            ensure!(reached || status.success(), "it ends with {status}: {said:#?}");
            let pending = pending(dir.path())?;
            let step = step(dir.path(), pending.as_ref());
            run_well(dir.path())?;
            manifests.fetch_add(judge(dir.path(), pending)?, Relaxed);
            if reached {
                *steps.lock().expect("no holder panics").entry(step).or_default() += 1;
                return Ok(());
            }
        }
        unreached.lock().expect("no holder panics").push(format!("{name} {nth} ({file})"));
        Ok(())
    })?;
    let (steps, unreached) = (steps.into_inner()?, unreached.into_inner()?);
    let killed: usize = steps.values().sum();
    let at = |step| steps.get(&step).copied().unwrap_or_default();
    let figures = json!({
        "manifests": manifests.into_inner(), "of": thread, "seed": extent.seed, "boundaries": boundaries,
        "tried": faults.len(), "faults": killed, "before_the_commit": at(Step::Commit),
        "before_the_put": at(Step::Put), "before_the_confirmation": at(Step::Confirmation),
        "unreached": unreached,
    });
    println!("\n{figures}");
    if thread == "bucket" {
        ensure!(at(Step::Put) > 0 && at(Step::Confirmation) > 0, "not every step was cut: {figures}");
    } else {
        ensure!(at(Step::Commit) > 0, "not every step was cut: {figures}");
    }
    ensure!(unreached.len() * 20 <= faults.len().max(20), "{figures}");
    Ok(())
}
