//! The proxy as a library: start it, change its script, look into it, drop it.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, oneshot, watch};

use super::script::Script;
use super::stats::{Stats, Unanswered};
use super::{connection, control};

/// Connections at the same time; others wait to be accepted. A descriptor each to either side, and two slices of bytes.
const CONNECTIONS: usize = 4_096;
/// Clients of which it is remembered how long they waited.
const REMEMBERED: usize = 100_000;

/// How to start a [`Proxy`].
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// TCP port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Where connections go on to, `host:port`.
    pub target: String,
    /// The faults to start with.
    pub script: Script,
}

/// The proxy on 127.0.0.1, on a thread of its own. Dropping it closes every connection.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    control: u16,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// All connections' common part.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) target: String,
    pub(super) script: watch::Sender<Arc<Script>>,
    stats: Mutex<Stats>,
    unanswered: Mutex<VecDeque<Unanswered>>,
}

impl Shared {
    /// Looks at the counts, or changes them.
    pub(super) fn stats<T>(&self, look: impl FnOnce(&mut Stats) -> T) -> T {
        look(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes note of a client that has gone without an answer.
    pub(super) fn unanswered(&self, since: Instant) {
        self.stats(|stats| stats.unanswered += 1);
        let mut all = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            all.pop_front();
        }
        all.push_back(Unanswered { since, waited: since.elapsed() });
    }

    /// Puts another script in place, for new connections and for those that stand.
    pub(super) fn set_script(&self, script: Script) -> anyhow::Result<()> {
        script.validate()?;
        self.script.send_replace(Arc::new(script));
        Ok(())
    }
}

impl Proxy {
    /// Starts a proxy. It accepts connections when this returns.
    ///
    /// # Errors
    ///
    /// When the script means nothing, or the port is taken.
    pub fn start(options: Options) -> anyhow::Result<Proxy> {
        options.script.validate()?;
        let shared = Arc::new(Shared {
            target: options.target,
            script: watch::Sender::new(Arc::new(options.script)),
            stats: Mutex::default(),
            unanswered: Mutex::default(),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot build the proxy's runtime")?;
        let (listener, port) = listen(&runtime, options.port)?;
        let (control_listener, control) = listen(&runtime, 0)?;
        let (stop, stopped) = oneshot::channel();
        let serving = shared.clone();
        let thread = std::thread::Builder::new()
            .name("testbed-proxy".into())
            .spawn(move || run(&runtime, &listener, &control_listener, &serving, stopped))
            .context("cannot start the proxy's thread")?;
        Ok(Proxy { port, control, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// The TCP port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its script and counts are to be had: `http://127.0.0.1:PORT`.
    pub fn control(&self) -> String {
        format!("http://127.0.0.1:{}", self.control)
    }

    /// The script as it is now.
    pub fn script(&self) -> Script {
        Script::clone(&self.shared.script.borrow())
    }

    /// Puts another script in place, also for connections that stand already. Changes nothing when it means nothing.
    ///
    /// # Errors
    ///
    /// When a value of it means nothing.
    pub fn set_script(&self, script: Script) -> anyhow::Result<()> {
        self.shared.set_script(script)
    }

    /// The counts as they are now.
    pub fn stats(&self) -> Stats {
        self.shared.stats(|stats| stats.clone())
    }

    /// The clients that went away without an answer, the last 100,000, in the order in which they went.
    pub fn unanswered(&self) -> Vec<Unanswered> {
        self.shared.unanswered.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The thread may have ended by itself, and then there is nobody to tell.
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the proxy's thread had panicked");
        }
    }
}

fn listen(runtime: &Runtime, port: u16) -> anyhow::Result<(tokio::net::TcpListener, u16)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    listener.set_nonblocking(true).context("cannot make the listening socket non-blocking")?;
    let port = listener.local_addr().context("cannot read the listening socket's address")?.port();
    let _context = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener).context("cannot hand the socket to the runtime")?;
    Ok((listener, port))
}

/// Accepts connections until told to stop. The connections end with the runtime, which is dropped on return.
fn run(
    runtime: &Runtime,
    listener: &tokio::net::TcpListener,
    control: &tokio::net::TcpListener,
    shared: &Arc<Shared>,
    stopped: oneshot::Receiver<()>,
) {
    runtime.block_on(async {
        tokio::select! {
            () = accept(listener, shared) => {}
            () = control::accept(control, shared) => {}
            _ = stopped => {}
        }
    });
}

async fn accept(listener: &tokio::net::TcpListener, shared: &Arc<Shared>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    for number in 0.. {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let client = next(listener).await;
        let shared = shared.clone();
        shared.stats(|stats| (stats.connections += 1, stats.open += 1));
        tokio::spawn(async move {
            connection::serve(client, &shared, number).await;
            shared.stats(|stats| stats.open -= 1);
            drop(place);
        });
    }
}

/// The next connection.
pub(crate) async fn next(listener: &tokio::net::TcpListener) -> tokio::net::TcpStream {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => return socket,
            Err(error) => {
                // Out of file descriptors, most likely: nothing tells us when there is one again.
                eprintln!("cannot accept a connection, trying again in 50 ms: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}
