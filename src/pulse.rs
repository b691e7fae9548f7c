//! Whether every part of the daemon makes progress: asked in one way by `/livez` and by the watchdog.
//!
//! The watchdog has a thread and a small runtime of its own, so that it can tell of any part that hangs. It speaks to
//! the service manager only while all parts answer; a daemon that hangs is silent, and is killed and started again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::prelude::*;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info};

use crate::actors::{Ping, Supervisor};
use crate::journal::Journal;
use crate::model::DestinationName;
use crate::service;
use crate::spool::Spool;

/// Questions that may wait for a worker. It answers all of them at once, so more of them tell nothing new.
const QUESTIONS: usize = 16;

/// For how long what was found for one request is told to others.
const ASKED_LATELY: Duration = Duration::from_secs(1);

/// Asks every part for a sign of life. Cloning is cheap; all clones are one.
#[derive(Clone)]
pub struct Pulse(Arc<Inner>);

struct Inner {
    supervisor: Addr<Supervisor>,
    actors: ArbiterHandle,
    journal: Journal,
    destinations: Vec<Destination>,
    /// One for each HTTP worker; empty until it has started.
    workers: Mutex<Vec<Option<Questions>>>,
    /// What requests were told last, and when.
    told: tokio::sync::Mutex<Option<(Instant, Vec<String>)>>,
}

/// What a destination has of its own.
#[derive(Clone, Debug)]
pub struct Destination {
    /// What it is called.
    pub name: DestinationName,
    /// Where its frames lie on disk.
    pub spool: Spool,
    /// The runtime of its uploads; none where nobody carries its frames.
    pub uploads: Option<Handle>,
}

type Questions = mpsc::Sender<oneshot::Sender<()>>;

impl Pulse {
    /// The pulse of a daemon whose actors live on this thread, and whose HTTP server has so many workers.
    pub fn new(supervisor: Addr<Supervisor>, journal: Journal, destinations: Vec<Destination>, workers: usize) -> Self {
        let workers = Mutex::new(vec![None; workers]);
        let told = tokio::sync::Mutex::new(None);
        Self(Arc::new(Inner { supervisor, actors: Arbiter::current(), journal, destinations, workers, told }))
    }

    fn workers(&self) -> MutexGuard<'_, Vec<Option<Questions>>> {
        self.0.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers for the HTTP worker on whose thread this is called, from its own event loop.
    pub fn beat_here(&self) {
        let (questions, mut asked) = mpsc::channel::<oneshot::Sender<()>>(QUESTIONS);
        let mut workers = self.workers();
        // A worker that died is replaced.
        let free = workers.iter().position(|worker| worker.as_ref().is_none_or(mpsc::Sender::is_closed));
        let Some(free) = free else { return };
        workers[free] = Some(questions);
        actix_rt::spawn(async move {
            while let Some(answer) = asked.recv().await {
                let _ = answer.send(());
            }
        });
    }

    /// The parts that give no sign of life within `patience`.
    pub async fn silent(&self, patience: Duration) -> Vec<String> {
        let questions = self.questions().into_iter().map(|(part, answer)| async move {
            let alive = timeout(patience, answer).await.unwrap_or(false);
            (!alive).then_some(part)
        });
        join_all(questions).await.into_iter().flatten().collect()
    }

    /// The same for requests, which anybody can make: asked once a second at most, however many they are.
    pub async fn silent_lately(&self, patience: Duration) -> Vec<String> {
        let mut told = self.0.told.lock().await;
        if let Some((at, silent)) = &*told
            && at.elapsed() < ASKED_LATELY
        {
            return silent.clone();
        }
        let silent = self.silent(patience).await;
        *told = Some((Instant::now(), silent.clone()));
        silent
    }

    fn questions(&self) -> Vec<(String, BoxFuture<'static, bool>)> {
        let Inner { supervisor, actors, journal, destinations, .. } = &*self.0;
        let (beat, beaten) = oneshot::channel();
        // Where its loop has ended, the sender is dropped, which is an answer as well.
        actors.spawn(async move {
            let _ = beat.send(());
        });
        let (ping, journal) = (supervisor.send(Ping), journal.clone());
        let mut questions = vec![
            ("the actors' event loop".to_owned(), async { beaten.await.is_ok() }.boxed()),
            ("the supervisor".to_owned(), async { ping.await.is_ok() }.boxed()),
            ("the journal".to_owned(), async move { journal.answers().await }.map(|()| true).boxed()),
        ];
        for Destination { name, spool, uploads } in destinations {
            let spool = spool.clone();
            let answers = async move { spool.answers().await }.map(|()| true).boxed();
            questions.push((format!("the spool of {name}"), answers));
            if let Some(uploads) = uploads {
                let task = uploads.spawn(async {});
                questions.push((format!("the upload runtime of {name}"), async { task.await.is_ok() }.boxed()));
            }
        }
        for (place, worker) in self.workers().iter().enumerate() {
            let (beat, beaten) = oneshot::channel();
            let asked = worker.as_ref().is_some_and(|worker| worker.try_send(beat).is_ok());
            questions.push((format!("HTTP worker {place}"), async move { asked && beaten.await.is_ok() }.boxed()));
        }
        questions
    }

    /// Stops all threads of the upload runtimes for a while, to prove that it is noticed.
    pub fn hang_uploads(&self, time: Duration) {
        for uploads in self.0.destinations.iter().filter_map(|destination| destination.uploads.as_ref()) {
            // Each holds a thread, so that the next one takes another.
            for _ in 0..uploads.metrics().num_workers() {
                uploads.spawn(async move { std::thread::sleep(time) });
            }
        }
    }
}

/// Tells the service manager that all parts make progress, for as long as it is held.
pub struct Watchdog {
    _stop: oneshot::Sender<()>,
}

impl Watchdog {
    /// Starts the watchdog's thread for a service manager that wants to hear from it once in `period`; `all_well` is
    /// the line for people while all parts answer.
    ///
    /// # Errors
    ///
    /// When the system has no thread for it.
    pub fn start(pulse: Pulse, period: Duration, all_well: String) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (stop, stopped) = oneshot::channel();
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = watch(&pulse, period, &all_well) => {}
                }
            });
        })?;
        Ok(Self { _stop: stop })
    }
}

async fn watch(pulse: &Pulse, period: Duration, all_well: &str) {
    // Both together are less than the period: a part that is late, on a busy machine, is not yet one that hangs.
    let (pause, patience) = (period / 4, period / 2);
    let mut hanging = Vec::new();
    loop {
        // A part that was late is asked again soon: what it says in the rest of the period still counts.
        sleep(if hanging.is_empty() { pause } else { pause / 8 }).await;
        let silent = pulse.silent(patience).await;
        if silent.is_empty() {
            service::alive();
        }
        if silent != hanging {
            if silent.is_empty() {
                info!("all parts make progress again");
                service::status(all_well);
            } else {
                let who = silent.join(", ");
                error!("no progress within {patience:?}: {who}; the service manager is not told that all is well");
                service::status(&format!("no progress: {who}"));
            }
            hanging = silent;
        }
    }
}
