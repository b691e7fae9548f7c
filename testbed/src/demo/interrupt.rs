//! SIGINT, SIGTERM and SIGHUP during the demo: the first ends the hauling and leads to the judgement, the second ends
//! everything at once. Before the hauling has begun there is nothing to judge, and the first ends everything too.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::daemon::Process;

/// What came from outside so far.
#[derive(Debug)]
pub(crate) struct Interrupt {
    hauling: Arc<AtomicBool>,
    first: Receiver<()>,
}

impl Interrupt {
    /// Listens from now on, on a thread of its own. These processes die with us when we end at once; what is in our own
    /// process does anyway.
    pub(crate) fn listen(first: Process, others: Vec<Process>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let runtime = runtime.context("cannot start the runtime for signals")?;
        let mut signals = {
            let _entered = runtime.enter();
            let listen = |kind| signal(kind).context("cannot listen for signals");
            [listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?, listen(SignalKind::hangup())?]
        };
        let hauling = Arc::new(AtomicBool::new(false));
        let (say, came) = mpsc::channel();
        let begun = hauling.clone();
        thread::spawn(move || {
            runtime.block_on(next(&mut signals));
            if !begun.load(Ordering::SeqCst) {
                end(&first, &others, "stopped by a signal before all of it was running");
            }
            // Nobody listens any more when the demo is about to end by itself.
            let _ = say.send(());
            runtime.block_on(next(&mut signals));
            end(&first, &others, "stopped by a second signal, without reading anything back");
        });
        Ok(Self { hauling, first: came })
    }

    /// From now on the first signal leaves time for a judgement.
    pub(crate) fn hauling(&self) {
        self.hauling.store(true, Ordering::SeqCst);
    }

    /// Waits for the first signal; false if it does not come within this time.
    pub(crate) fn came_within(&self, time: Duration) -> anyhow::Result<bool> {
        match self.first.recv_timeout(time) {
            Ok(()) => Ok(true),
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => bail!("the thread that listens for signals panicked"),
        }
    }
}

fn end(first: &Process, others: &[Process], why: &str) -> ! {
    // The terminal may be what has gone.
    let _ = writeln!(std::io::stderr(), "Error: {why}");
    others.iter().for_each(Process::kill);
    first.kill_and_exit(1)
}

async fn next([interrupt, terminate, hangup]: &mut [Signal; 3]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
