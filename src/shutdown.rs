//! The end, in phases, each with a deadline and a line that says what is left.

use std::thread::JoinHandle;
use std::time::Duration;

use actix::Addr;
use actix_web::dev::ServerHandle;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::actors::{Hubs, Manifests, StopCapture, StopUploads, Supervisor};
use crate::config::Durability;
use crate::http::{self, Streams};
use crate::journal::{Journal, Ledgers};
use crate::pulse::Watchdog;
use crate::service;

/// Time the capture processes get to take leave of their cameras.
const CAPTURE_DEADLINE: Duration = Duration::from_secs(5);
/// Time aborted uploads get to put their frames back.
const RETURN_DEADLINE: Duration = Duration::from_secs(2);

/// Time the last manifests get, where the deadline for frames is not shorter.
const MANIFEST_DEADLINE: Duration = Duration::from_secs(5);

/// Time the spool gets to write the last pictures.
const SPOOL_DEADLINE: Duration = Duration::from_secs(5);
/// Time the journal gets for its last commit.
const JOURNAL_DEADLINE: Duration = Duration::from_secs(5);
/// Time beyond its own deadline in which the HTTP server should have stopped.
const HTTP_GRACE: Duration = Duration::from_secs(1);

/// What has to be ended.
pub struct Ending {
    /// The root of the actors.
    pub supervisor: Addr<Supervisor>,
    /// Where frames wait.
    pub hubs: Hubs,
    /// The writing of manifests, where it is wanted.
    pub manifests: Option<Manifests>,
    /// The journal.
    pub journal: Journal,
    /// All cameras' accounts.
    pub ledgers: Ledgers,
    /// The consumers of the lists.
    pub streams: Streams,
    /// The HTTP server.
    pub server: ServerHandle,
    /// The journal's thread.
    pub writer: JoinHandle<()>,
    /// The spools' threads, in the order of [`Hubs::all`].
    pub spoolers: Vec<JoinHandle<()>>,
    /// Watches all of them, where the service manager asked for it.
    pub watchdog: Option<Watchdog>,
}

/// Ends everything: no new frames, then uploads end as far as `deadline` allows and the books are closed. What is not
/// stored stays in the spool; without one it gets the deadline to be stored, and the rest is recorded as lost. HTTP
/// goes last, so that all of it can be watched.
pub async fn run(ending: Ending, deadline: Duration) {
    let Ending { supervisor, hubs, manifests, journal, ledgers, streams, server, writer, spoolers, watchdog } = ending;
    info!("stopping capture");
    service::phase("stopping capture", CAPTURE_DEADLINE);
    let captured = matches!(timeout(CAPTURE_DEADLINE, supervisor.send(StopCapture)).await, Ok(Ok(true)));
    if !captured {
        warn!("some capture processes are still running");
    }
    match hubs.durability() {
        Durability::Disk => leave_in_spool(&supervisor, &hubs, deadline).await,
        Durability::Memory => empty_memory(&supervisor, &hubs, deadline).await,
    }

    if let Some(manifests) = manifests {
        let deadline = deadline.min(MANIFEST_DEADLINE);
        service::phase("writing the last manifests", deadline);
        // What has ended just now is on its way to the lists.
        let committed = timeout(deadline, journal.barrier()).await.is_ok();
        if !committed || !manifests.finish(deadline).await {
            info!("some of the lists are in no manifest yet: they will be after the next start");
        }
    }
    // From here a later check, or recovery, knows that nothing is open before it.
    for ledger in ledgers.all() {
        journal.watermark(ledger.camera().clone(), ledger.watermark());
    }
    // With a capture still running, seqs may still be issued; then the rest of its block stays for the next start.
    if captured {
        for ledger in ledgers.all() {
            journal.return_unused(ledger.camera().clone(), ledger.next_seq());
        }
    }
    service::phase("closing the journal", JOURNAL_DEADLINE);
    let complete = timeout(JOURNAL_DEADLINE, journal.barrier()).await.is_ok();
    info!(complete, "the journal is closed; stopping HTTP");
    streams.end();
    // From here on HTTP's workers are silent, and rightly so.
    drop(watchdog);
    service::phase("stopping HTTP", http::SHUTDOWN_TIMEOUT);
    // It waits for its workers without an end, and one may hang.
    if timeout(http::SHUTDOWN_TIMEOUT + HTTP_GRACE, server.stop(true)).await.is_err() {
        warn!("an HTTP worker hangs and is left behind");
    }
    journal.close();
    service::phase("ending the journal and the spool", JOURNAL_DEADLINE + 2 * SPOOL_DEADLINE);
    if !complete {
        warn!("the journal did not end in time: what it had not committed is settled at the next start");
    } else {
        end("the journal's thread", writer, JOURNAL_DEADLINE).await;
    }
    // After the journal, whose last outcomes make room on its disk.
    let ends = hubs.all().iter().zip(spoolers).map(|(way, spooler)| async move {
        let thread = format!("the thread of the spool of {}", way.name());
        if timeout(SPOOL_DEADLINE, way.spool.answers()).await.is_err() {
            warn!("{thread} hangs and is left behind");
        } else {
            way.spool.close();
            end(&thread, spooler, SPOOL_DEADLINE).await;
        }
    });
    join_all(ends).await;
}

/// Waits for the end of a thread and says how it was, if that is not well. A disk that hangs must hold up neither the
/// end nor the signal that wants it at once: so it is not joined here, nor by the runtime, which would wait for it at
/// its own end.
async fn end(what: &str, thread: JoinHandle<()>, deadline: Duration) -> bool {
    let (done, ended) = oneshot::channel();
    let waiting = std::thread::Builder::new().name("farewell".to_owned());
    // Where there is no thread to be had, the sender is dropped.
    let _ = waiting.spawn(move || done.send(thread.join().is_ok()));
    match timeout(deadline, ended).await {
        Ok(Ok(true)) => return true,
        Ok(Ok(false)) => warn!("{what} panicked at the end"),
        Ok(Err(_)) => warn!("{what} is left behind"),
        Err(_) => warn!("{what} hangs and is left behind"),
    }
    false
}

/// Writes the last pictures to the disk and lets uploads end. Nothing is lost by what is left.
async fn leave_in_spool(supervisor: &Addr<Supervisor>, hubs: &Hubs, deadline: Duration) {
    service::phase("writing the last frames to the spool", SPOOL_DEADLINE);
    if timeout(SPOOL_DEADLINE, hubs.written()).await.is_err() {
        warn!(
            "some frames did not reach the disk in time: what is not there at the next start will stand as lost(crash)"
        );
    }
    hubs.close();
    let (frames, uploads) = (hubs.spooled(), hubs.on_their_way());
    info!(frames, uploads, "letting uploads end, for {deadline:?} at most; what is not stored stays in the spool");
    service::phase(&format!("letting {uploads} uploads end"), deadline);
    if timeout(deadline, hubs.returned()).await.is_err() {
        break_off(supervisor, hubs).await;
    }
}

/// Stores what is there, and records as lost what is left at the deadline.
async fn empty_memory(supervisor: &Addr<Supervisor>, hubs: &Hubs, deadline: Duration) {
    let (frames, bytes) = hubs.load();
    info!(frames, bytes, "storing what is left, for {deadline:?} at most");
    service::phase(&format!("storing {frames} frames"), deadline);
    let drained = timeout(deadline, hubs.emptied()).await.is_ok();
    hubs.close();
    // Where all is stored, frames of an earlier run may still be on their way.
    if hubs.on_their_way() > 0 {
        break_off(supervisor, hubs).await;
    }
    if !drained {
        let lost = hubs.give_up();
        warn!(lost, "not stored within the deadline: recorded as lost(shutdown)");
    }
}

/// Ends uploads where they are; their frames go back.
async fn break_off(supervisor: &Addr<Supervisor>, hubs: &Hubs) {
    service::phase("breaking off uploads", RETURN_DEADLINE);
    supervisor.do_send(StopUploads);
    if timeout(RETURN_DEADLINE, hubs.returned()).await.is_err() {
        warn!("some uploads did not end");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_thread_that_hangs_holds_up_neither_the_loop_nor_the_end() {
        let (release, held) = channel::<()>();
        let begun = std::time::Instant::now();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let hangs = std::thread::spawn(move || {
                let _ = held.recv();
            });
            let signal = tokio::spawn(tokio::time::sleep(Duration::from_millis(10)));
            assert!(!end("a thread", hangs, Duration::from_millis(200)).await);
            assert!(signal.is_finished(), "the loop went on");
            assert!(end("a thread", std::thread::spawn(|| ()), Duration::from_secs(60)).await);
            let panics = std::thread::spawn(|| panic!("injected"));
            assert!(!end("a thread", panics, Duration::from_secs(60)).await);
        });
        drop(runtime);
        assert!(begun.elapsed() < Duration::from_secs(30));
        drop(release);
    }
}
