//! The one place where things are wired.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::prelude::*;
use anyhow::Context as _;
use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::actors::{
    Admission, Changed, ControlError, Hub, Hubs, ManifestRecipe, Manifests, Newest, Place, Places, Sequencers,
    SetFileCameras, Supervisor, UploadRecipe, Way, Wiring, knock,
};
use crate::capture::{Deadlines, Launcher};
use crate::claim;
use crate::config::{Durability, Settings};
use crate::delivery::Budget;
use crate::http::{self, Api, Door, Sheets, Streams, Token};
use crate::journal::{self, Journal, Ledgers, StateDir};
use crate::metrics::Metrics;
use crate::model::{CameraId, DestinationName, SpooledCamera};
use crate::nvr::{Common, LoginNews};
use crate::pulse::{self, Pulse, Watchdog};
use crate::service;
use crate::shutdown::{self, Ending};
use crate::spool::{self, Quarantine, Stream};
use crate::storage::{self, Later};
use crate::tasks::{Desk, Rules};

/// Threads of a runtime that talks to a bucket. TLS is all it computes, of which one does gigabits a second, and two would
/// wake each other for every frame.
const UPLOAD_THREADS: usize = 1;

/// How long the start waits for the buckets. What takes longer is one destination's trouble.
const OPEN_WITHIN: Duration = Duration::from_secs(2);

/// How soon a change is tried again for which there was no room, once there is.
const ROOM_AGAIN: Duration = Duration::from_millis(200);

/// How long an export task waits after its first failed attempt, and the longest of these waits.
const TASK_WAIT_MIN: Duration = Duration::from_secs(15);
const TASK_WAIT_MAX: Duration = Duration::from_secs(900);

/// Exit codes, after `sysexits.h`.
const EXIT_SOFTWARE: u8 = 70;
const EXIT_INTERRUPTED: i32 = 130;

/// Runs the daemon until a signal ends it.
///
/// # Errors
///
/// When it cannot start: the state directory or the address cannot be used.
pub fn serve(settings: Settings) -> anyhow::Result<ExitCode> {
    // Memory holds passwords; a crash must not write them to a disk.
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none).context("cannot switch core dumps off")?;

    // They outlive the actors: bucket clients refresh their tokens on the runtime that made them. Each destination has
    // its own, since a directory that hangs takes all threads that may block.
    let mut uploads = BTreeMap::new();
    for name in settings.destinations.keys() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(UPLOAD_THREADS)
            .max_blocking_threads(settings.upload.workers.get().min(64))
            .thread_name("upload")
            .enable_all()
            .build()
            .context("cannot start the upload runtime")?;
        uploads.insert(name.clone(), runtime);
    }
    let handles = uploads.iter().map(|(name, runtime)| (name.clone(), runtime.handle().clone())).collect();
    let result = System::new().block_on(run(settings, handles));
    uploads.into_values().for_each(tokio::runtime::Runtime::shutdown_background);
    result
}

/// The directory of the capture programs: what the configuration says, or our own binary's.
///
/// # Errors
///
/// When our own binary's place is not known.
pub fn engines(settings: &Settings) -> anyhow::Result<PathBuf> {
    match &settings.capture.engine_dir {
        Some(dir) => Ok(dir.clone()),
        None => {
            let own = std::env::current_exe().context("cannot find our own binary: set `capture.engine_dir`")?;
            Ok(own.parent().context("our own binary lies nowhere: set `capture.engine_dir`")?.to_owned())
        }
    }
}

/// A destination of the configuration.
struct Open {
    bucket: Arc<Later>,
    runtime: Handle,
    base_url: String,
    /// Whether it is, by now.
    is_open: bool,
}

/// Opens the buckets of all destinations, each on its own runtime, as far as that is done soon. A directory that was
/// there in an earlier run must be there again.
async fn open_buckets(
    settings: &Settings,
    state: &StateDir,
    runtimes: BTreeMap<DestinationName, Handle>,
) -> anyhow::Result<BTreeMap<DestinationName, Open>> {
    let mut buckets = Vec::new();
    for (name, runtime) in runtimes {
        let destination = settings.destinations[&name].clone();
        let base_url = storage::base_url(&destination);
        let known = state.was_opened(&base_url)?;
        let bucket = Arc::new(Later::new(destination, state.origin().clone(), known, runtime.clone()));
        buckets.push((name, bucket, runtime, base_url));
    }
    let opened = buckets.into_iter().map(|(name, bucket, runtime, base_url)| async move {
        let is_open = matches!(timeout(OPEN_WITHIN, bucket.open()).await, Ok(Ok(_)));
        (name, Open { bucket, runtime, base_url, is_open })
    });
    let buckets: BTreeMap<_, _> = join_all(opened).await.into_iter().collect();
    state.set_opened(buckets.values().filter(|open| open.is_open).map(|open| open.base_url.as_str()))?;
    Ok(buckets)
}

/// Tells of the frames that wait for a destination that the configuration has no more.
fn tell_unconfigured(way: &Way) {
    let (name, frames) = (way.name(), way.spool.status().frames);
    if frames > 0 {
        error!(destination = %name, frames, "frames wait for a destination that the configuration does not have: they stay on \
            disk and in flight; put [destinations.{name}] back, and the next start delivers them");
    }
}

async fn run(settings: Settings, runtimes: BTreeMap<DestinationName, Handle>) -> anyhow::Result<ExitCode> {
    // Asked for before anything starts, so that no signal finds us half-way.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;

    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;

    let file_cameras = settings.file_cameras().map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the file of cameras cannot be used: {}", problems.join("; "))
    })?;
    let metrics = Metrics::new().context("cannot declare metrics")?;
    let mut state = StateDir::open(&settings.state_dir)?;
    service::status("looking through the spool");
    let former = state.destinations()?;
    let streams = spool::open_all(&settings.spool, state.origin(), settings.destinations.keys(), &former)?;
    let mut spooled = BTreeMap::<CameraId, SpooledCamera>::new();
    for stream in &streams {
        metrics.expect_destination(&stream.name);
        metrics.spool_corrupt(&stream.name, stream.found.damaged);
        for (camera, found) in &stream.found.cameras {
            spooled.entry(camera.clone()).or_default().join(found.clone());
        }
    }
    // With `durability = "memory"` there need not have been one, and seqs that are reserved look like frames that are
    // open.
    if settings.spool.durability == Durability::Disk || !spooled.is_empty() || state.spool()?.is_some() {
        claim::claim(&state, &settings.spool.dir, &spooled)?;
    }
    let mut buckets = open_buckets(&settings, &state, runtimes).await?;
    // Before any frame is on its way there: what is written down once is found again, also when it is configured no more.
    state.register(&buckets.iter().map(|(name, open)| (name.clone(), open.base_url.clone())).collect())?;
    state.register_template(&settings.key_template)?;
    service::status("recovering the journal");
    let sequencers = Sequencers::default();
    let (told, timed) = (sequencers.clone(), metrics.clone());
    let hubs_to_come = Arc::new(OnceLock::<Hubs>::new());
    let waiting = hubs_to_come.clone();
    let opened = state.recover(
        &spooled,
        move |settled| {
            // Nothing ends before they are there.
            if let Some(hubs) = waiting.get() {
                hubs.committed(&settled);
            }
            told.tell(&settled);
        },
        move |took| timed.journal_committed(took),
    )?;
    let _lock = opened.lock;
    let (token, made) = Token::open(&settings.token_file)?;
    if made {
        info!(file = %settings.token_file.display(), "made a bearer token for the API");
    }
    let door = Arc::new(Door::new(&token, &settings.state_dir, settings.hosts.clone()));

    let ledgers = Ledgers::new(opened.cameras.iter().map(|camera| camera.ledger.clone()));
    let shares = settings.destinations.len();
    let budget = Budget { bytes: settings.memory.bytes / shares as u64, frames: settings.memory.frames / shares };
    let newest = Newest::default();
    let quarantine = Arc::new(Quarantine::open(&settings.spool.dir.join("quarantine"))?);
    let default = buckets.get(&DestinationName::default()).context("there is always a default destination")?;
    let base_url: Arc<str> = default.base_url.as_str().into();
    let (mut ways, mut uploads, mut parts, mut to_start) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for Stream { name, store, found, dir } in streams {
        let (spool, inbox) = spool::channel(dir);
        let admission = Admission {
            name: name.clone(),
            newest: newest.clone(),
            budget,
            durability: settings.spool.durability,
            template: settings.key_template.clone(),
            origin: opened.origin.clone(),
        };
        let hub = Hub::new(admission, spool.clone(), opened.journal.clone(), ledgers.clone(), metrics.clone());
        metrics.set_memory_budget(&name, budget.frames, budget.bytes);
        let open = buckets.remove(&name);
        parts.push(pulse::Destination {
            name: name.clone(),
            spool: spool.clone(),
            uploads: open.as_ref().map(|open| open.runtime.clone()),
        });
        ways.push(Way { hub: hub.clone(), spool, base_url: open.as_ref().map(|open| open.base_url.clone()) });
        if let Some(open) = open.as_ref().filter(|open| !open.is_open) {
            actix_rt::spawn(knock(hub.clone(), open.bucket.clone(), settings.upload.deadline));
        }
        uploads.extend(open.map(|Open { bucket, runtime, .. }| UploadRecipe {
            hub: hub.clone(),
            bucket,
            runtime,
            settings: settings.upload.clone(),
            quarantine: quarantine.clone(),
            origin: opened.origin.clone(),
            metrics: metrics.clone(),
        }));
        to_start.push((hub, store, inbox, found));
    }
    let places = uploads.iter().map(|UploadRecipe { hub, bucket, runtime, .. }| {
        (hub.name().clone(), Place { hub: hub.clone(), bucket: bucket.clone(), runtime: runtime.clone() })
    });
    let places = Places::new(places, base_url.clone());
    let hubs = Hubs::new(ways, newest, settings.spool.durability);
    let _ = hubs_to_come.set(hubs.clone());
    let mut spoolers = Vec::new();
    for (hub, store, inbox, found) in to_start {
        spoolers.push(spool::start(store, &opened.resolved, inbox, hub.sink()));
        hub.recover(found.cameras.keys());
    }
    hubs.all().iter().filter(|way| way.base_url.is_none()).for_each(tell_unconfigured);
    let heard = opened.journal.clone();
    let recorders = Common::remembering(opened.origin.as_str(), opened.refusals.clone(), move |news| match news {
        LoginNews::Refused(refusal) => heard.login_refused(refusal),
        LoginNews::Accepted(login, credentials) => heard.login_accepted(login, credentials),
    });
    let wiring = Wiring {
        hubs: hubs.clone(),
        journal: opened.journal.clone(),
        reader: opened.reader.clone(),
        ledgers: ledgers.clone(),
        sequencers,
        uploads,
        workers: settings.upload.workers.get(),
        origin: opened.origin.clone(),
        launcher: Launcher {
            engines: engines(&settings)?,
            deadlines: Deadlines {
                open: settings.capture.open_timeout,
                read: settings.capture.read_timeout,
                stall: settings.capture.stall_after,
            },
            reach: settings.capture.reach(),
            starts: Launcher::starts(),
        },
        max_processes: settings.capture.max_processes,
        frozen_after: settings.capture.frozen_after,
        clock_within: settings.capture.clock_within,
        recorders: Arc::new(recorders),
        metrics: metrics.clone(),
    };
    let (death, died) = oneshot::channel();
    let supervisor = Supervisor::new(wiring, opened.cameras, opened.nvrs, opened.refusals, death).start();
    let changed = supervisor.send(SetFileCameras(file_cameras)).await.context("the supervisor")??;
    if changed != Changed::default() {
        info!(put = changed.put, deleted = changed.deleted, "the file of cameras has changed since the last run");
    }

    let (keep, manifested) = (settings.list_keep, settings.manifests.is_some());
    actix_rt::spawn(journal::retain(opened.journal.clone(), opened.reader.clone(), ledgers.clone(), keep, manifested));
    let manifests = settings.manifests.map(|manifests| {
        Manifests::start(ManifestRecipe {
            journal: opened.journal.clone(),
            reader: opened.reader.clone(),
            ledgers: ledgers.clone(),
            origin: opened.origin.clone(),
            places,
            settings: manifests,
            upload: settings.upload.clone(),
            metrics: metrics.clone(),
        })
    });
    let rules = Rules {
        lives: settings.tasks.lease,
        text_lives: settings.tasks.text_lease,
        attempts: settings.tasks.attempts.get(),
        wait_min: TASK_WAIT_MIN,
        wait_max: TASK_WAIT_MAX,
    };
    let (known, reader) = (opened.tasks, opened.reader.clone());
    let desk = Desk::new(rules, known, opened.task_secrets, opened.journal.clone(), reader, metrics.clone());
    actix_rt::spawn(desk.clone().run());
    let streams = Streams::default();
    let pulse = Pulse::new(supervisor.clone(), opened.journal.clone(), parts, http::WORKERS);
    let api = Api {
        supervisor: supervisor.clone(),
        pulse: pulse.clone(),
        journal: opened.journal.clone(),
        reader: opened.reader,
        streams: streams.clone(),
        desk,
        sheets: Sheets::default(),
        ledgers: ledgers.clone(),
        hubs: hubs.clone(),
        base_url,
        origin: opened.origin,
        metrics: metrics.clone(),
        door,
        fault_injection: settings.fault_injection,
    };
    let (server, handle, address) = http::start(api, settings.listen)?;
    actix_rt::spawn(server);
    // With port 0 nobody else knows where we listen.
    let address_file = settings.state_dir.join("http.addr");
    journal::write_private(&address_file, address.to_string().as_bytes())?;
    if settings.fault_injection {
        warn!("fault injection is on: whoever has the token can make actors panic");
    }
    let destinations: Vec<&str> = hubs.configured().map(|way| way.name().as_str()).collect();
    info!(%address, destinations = destinations.join(","), "framehaul is ready");
    let watchdog = service::watchdog()
        .map(|period| Watchdog::start(pulse, period, service::serving(address)))
        .transpose()
        .context("cannot start the watchdog")?;
    metrics.config_read(true);
    service::ready(address);

    tokio::pin!(died);
    let turn = Arc::new(tokio::sync::Mutex::new(()));
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                let (settings, supervisor, metrics) = (settings.clone(), supervisor.clone(), metrics.clone());
                let journal = opened.journal.clone();
                let turn = turn.clone();
                // Not here: a disk that hangs must not keep a signal to end from being heard.
                actix_rt::spawn(async move {
                    let _turn = turn.lock().await;
                    service::reloading();
                    metrics.config_read(reload(settings, &supervisor, &journal).await);
                    service::reloaded(address);
                });
            }
            _ = &mut died => {
                // Everything hangs on it and nothing is above it. What was shown is in the journal, and a start from
                // the catalog is what a service manager does best.
                error!("the supervisor panicked: the process ends, to be started again");
                return Ok(ExitCode::from(EXIT_SOFTWARE));
            }
        }
    }
    info!("signal received: a second one ends at once");
    service::stopping();
    let durability = hubs.durability();
    actix_rt::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        match durability {
            Durability::Disk => warn!("second signal: ending at once; what is not stored stays in the spool"),
            Durability::Memory => warn!("second signal: ending at once; what is not stored will stand as lost(crash)"),
        }
        std::process::exit(EXIT_INTERRUPTED);
    });
    let (journal, writer) = (opened.journal, opened.writer);
    let server = handle;
    let ending = Ending { supervisor, hubs, manifests, journal, ledgers, streams, server, writer, spoolers, watchdog };
    shutdown::run(ending, settings.shutdown_deadline).await;
    let _ = std::fs::remove_file(&address_file);
    info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Reads the file of cameras again and says whether it could be used. One that cannot changes nothing.
async fn reload(settings: Settings, supervisor: &Addr<Supervisor>, journal: &Journal) -> bool {
    let cameras = match tokio::task::spawn_blocking(move || settings.file_cameras()).await {
        Ok(Ok(cameras)) => cameras,
        Err(error) => {
            error!(%error, "reading the file of cameras broke off; nothing is changed");
            return false;
        }
        Ok(Err(problems)) => {
            for problem in problems {
                error!(%problem, "the file of cameras cannot be used; nothing is changed");
            }
            return false;
        }
    };
    let count = cameras.len();
    loop {
        match supervisor.send(SetFileCameras(cameras.clone())).await {
            Ok(Ok(Changed { put, deleted })) => {
                info!(count, put, deleted, "the file of cameras was read again");
                return true;
            }
            // Another change waits for room on the disk. Here is nobody who would ask again.
            Ok(Err(ControlError::NoRoom(_))) => {
                let _ = journal.stuck().wait_for(|stuck| !*stuck).await;
                tokio::time::sleep(ROOM_AGAIN).await;
            }
            Ok(Err(error)) => {
                error!(%error, "the file of cameras cannot be used; nothing is changed");
                return false;
            }
            Err(_) => {
                error!("the supervisor does not answer; nothing is changed");
                return false;
            }
        }
    }
}
