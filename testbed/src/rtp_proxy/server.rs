//! The proxy as a library: start it, look into it, drop it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use tokio::runtime::Runtime;

use super::connection::{Stream, serve};
use super::ledger::{Sent, Stats};
use super::script::Script;

/// The proxy on 127.0.0.1, on a thread of its own. Dropping it closes every connection.
#[derive(Debug)]
pub struct RtpProxy {
    port: u16,
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

/// All connections' common part.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) target: String,
    pub(super) script: Script,
    stats: Mutex<Stats>,
    /// One for each connection, in their order.
    streams: Mutex<Vec<Arc<Stream>>>,
}

impl Shared {
    /// Looks at the counts, or changes them.
    pub(super) fn stats<T>(&self, look: impl FnOnce(&mut Stats) -> T) -> T {
        look(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn streams<T>(&self, look: impl FnOnce(&mut Vec<Arc<Stream>>) -> T) -> T {
        look(&mut self.streams.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl RtpProxy {
    /// Starts a proxy before the RTSP server on `port` of 127.0.0.1. It accepts connections when this returns.
    ///
    /// # Errors
    ///
    /// When the script means nothing, or there is no room for one more.
    pub fn start(port: u16, script: Script) -> anyhow::Result<Self> {
        script.validate()?;
        let shared = Arc::new(Shared {
            target: format!("127.0.0.1:{port}"),
            script,
            stats: Mutex::default(),
            streams: Mutex::default(),
        });
        // One thread: what it carries keeps its order.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("testbed-rtp-proxy")
            .enable_all()
            .build()
            .context("cannot build the RTP proxy's runtime")?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen on 127.0.0.1")?;
        listener.set_nonblocking(true).context("cannot make the listening socket non-blocking")?;
        let port = listener.local_addr().context("cannot read the listening socket's address")?.port();
        let context = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener).context("cannot hand over the socket")?;
        drop(context);
        runtime.spawn(accept(listener, shared.clone()));
        Ok(Self { port, shared, runtime: Some(runtime) })
    }

    /// Where a camera is to be had through it.
    pub fn url(&self, camera: &str) -> String {
        format!("rtsp://{}/{camera}", SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
    }

    /// The counts as they are now.
    pub fn stats(&self) -> Stats {
        self.shared.stats(|stats| stats.clone())
    }

    /// The pictures of each connection so far, in the order in which they were sent.
    pub fn sent(&self) -> Vec<Vec<Sent>> {
        self.shared.streams(|streams| streams.iter().map(|stream| stream.sent()).collect())
    }
}

impl Drop for RtpProxy {
    fn drop(&mut self) {
        // Not waiting: all it does is carry, and what it carries is of no use any more.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    for number in 0.. {
        let client = crate::proxy::next(&listener).await;
        shared.stats(|stats| stats.connections += 1);
        let stream = Arc::new(Stream::new(shared.clone(), number));
        shared.streams(|streams| streams.push(stream.clone()));
        tokio::spawn(async move {
            // That one side has gone is no news.
            if let Err(error) = serve(client, stream).await
                && !error.is::<std::io::Error>()
            {
                eprintln!("RTP proxy, connection {number}: {error:#}");
            }
        });
    }
}
