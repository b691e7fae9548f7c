//! The server as a library: start it, look into it, drop it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::arrivals::{Arrival, Arrivals};
use super::knobs::{Dice, Knobs};
use super::line::Line;
use super::service::{App, State};
use super::stats::Stats;
use super::store::{Body, Store};
use super::tokens::Tokens;
use crate::tls::Identity;

/// How to start a [`GcsServer`]. The default has no buckets, so name one or say `any_bucket`.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// TCP port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// The buckets there are.
    pub buckets: Vec<String>,
    /// Whether a bucket comes into being when somebody names it.
    pub any_bucket: bool,
    /// Keeps the objects' bytes in files in this directory, which is made if it is missing. The names and everything
    /// else stay in memory: a new server does not find the objects of an earlier one.
    pub root: Option<PathBuf>,
    /// Keeps metadata and checksums, about 300 bytes per object, but throws the objects' bytes away: for measurements
    /// that store more than fits in memory.
    pub discard: bool,
    /// Whether there is a second port, which speaks TLS.
    pub tls: bool,
    /// The faults to start with.
    pub knobs: Knobs,
}

/// What is known of a stored object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Its name in the bucket.
    pub name: String,
    /// Its generation: unique, and larger for each later write.
    pub generation: i64,
    /// Its length in bytes.
    pub size: u64,
    /// The CRC32C of its bytes.
    pub crc32c: u32,
    /// Its content type.
    pub content_type: String,
    /// When it was stored.
    pub created: SystemTime,
}

/// Cloud Storage's JSON API on 127.0.0.1, on a thread of its own. Dropping it closes every connection and forgets every
/// object, as if the process had been killed.
#[derive(Debug)]
pub struct GcsServer {
    app: Arc<App>,
    /// Where it speaks TLS, and the certificate to be trusted there.
    tls: Option<(String, String)>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl GcsServer {
    /// Starts a server. It accepts connections when this returns.
    pub fn start(options: Options) -> anyhow::Result<GcsServer> {
        options.knobs.validate()?;
        if options.discard && options.root.is_some() {
            bail!("`discard` and `root` exclude each other: the bytes are thrown away, or kept in files");
        }
        if let Some(root) = &options.root {
            std::fs::create_dir_all(root)
                .with_context(|| format!("cannot make the directory for objects {}", root.display()))?;
        }
        let (listener, address) = listen(options.port)?;
        let identity = options.tls.then(Identity::new).transpose()?;
        let secured = identity.map(|identity| listen(0).map(|listening| (identity, listening))).transpose()?;
        let app = Arc::new(App {
            endpoint: format!("http://{address}"),
            root: options.root,
            discard: options.discard,
            account: OnceLock::new(),
            state: Mutex::new(State {
                dice: Dice::new(options.knobs.seed),
                knobs: options.knobs,
                stats: Stats::default(),
                store: Store::new(&options.buckets, options.any_bucket),
                tokens: Tokens::default(),
                sessions: HashMap::new(),
                next_file: first_file(),
                next_turn: tokio::time::Instant::now(),
                arrivals: None,
            }),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot build the server's runtime")?;
        let hand_over = |listener| {
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(listener).context("cannot hand the socket to the runtime")
        };
        let mut doors = vec![Door { listener: hand_over(listener)?, tls: None }];
        let mut tls = None;
        if let Some((identity, (listener, address))) = secured {
            doors.push(Door { listener: hand_over(listener)?, tls: Some(identity.acceptor) });
            tls = Some((format!("https://{address}"), identity.authority));
        }
        let (stop, stopped) = oneshot::channel();
        let serving = app.clone();
        let thread = std::thread::Builder::new()
            .name("testbed-gcs".into())
            .spawn(move || run(&runtime, doors, &serving, stopped))
            .context("cannot start the server's thread")?;
        Ok(GcsServer { app, tls, stop: Some(stop), thread: Some(thread) })
    }

    /// Where to send requests: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        self.app.endpoint.clone()
    }

    /// Where to send requests by TLS, if it speaks that: `https://127.0.0.1:PORT`.
    pub fn tls_endpoint(&self) -> Option<&str> {
        self.tls.as_ref().map(|(endpoint, _)| endpoint.as_str())
    }

    /// The certificate, as PEM, that whoever comes there has to trust.
    pub fn authority(&self) -> Option<&str> {
        self.tls.as_ref().map(|(_, authority)| authority.as_str())
    }

    /// Where its metadata server is, as the environment variable `GCE_METADATA_HOST` wants it: `127.0.0.1:PORT`.
    pub fn metadata_host(&self) -> String {
        self.app.endpoint.trim_start_matches("http://").to_owned()
    }

    /// The key file of its service account, as JSON. The account is made when this is first called.
    pub fn service_account_key(&self) -> String {
        self.app.account().key_file().to_string()
    }

    /// Makes every token and JWT that it has handed out or seen expire.
    pub fn expire_tokens(&self) {
        self.app.state().tokens.expire_all();
    }

    /// Makes every resumable upload expire that is not finished.
    pub fn expire_uploads(&self) {
        self.app.state().sessions.clear();
    }

    /// The knobs as they are now.
    pub fn knobs(&self) -> Knobs {
        self.app.state().knobs.clone()
    }

    /// Changes knobs for all calls whose body has not ended yet. Changes nothing if the result would be invalid.
    pub fn change_knobs(&self, change: impl FnOnce(&mut Knobs)) -> anyhow::Result<()> {
        let mut state = self.app.state();
        let mut knobs = state.knobs.clone();
        change(&mut knobs);
        knobs.validate()?;
        state.set_knobs(knobs);
        Ok(())
    }

    /// The counts as they are now.
    pub fn stats(&self) -> Stats {
        self.app.state().stats.clone()
    }

    /// Remembers from now on when each call of the storage API comes: some bytes for each, and each name.
    pub fn log_arrivals(&self) {
        self.app.state().arrivals = Some(Arrivals::default());
    }

    /// The calls that have come since [`log_arrivals`](Self::log_arrivals), in their order.
    pub fn arrivals(&self) -> Vec<Arrival> {
        self.app.state().arrivals.as_ref().map(|arrivals| arrivals.log().to_vec()).unwrap_or_default()
    }

    /// The objects of a bucket in the order of their names; none if there is no such bucket.
    pub fn objects(&self, bucket: &str) -> Vec<ObjectInfo> {
        let state = self.app.state();
        state
            .store
            .all(bucket)
            .map(|(name, object)| ObjectInfo {
                name: name.to_owned(),
                generation: object.generation,
                size: object.content.size,
                crc32c: object.content.crc32c,
                content_type: object.content.content_type.to_string(),
                created: SystemTime::UNIX_EPOCH + Duration::from_micros(object.created_us.unsigned_abs()),
            })
            .collect()
    }

    /// Whether there is such an object.
    pub fn has(&self, bucket: &str, name: &str) -> bool {
        self.app.state().store.find(bucket, name).is_some()
    }

    /// The bytes of an object. Fails if there is no such object, or if its bytes were discarded.
    pub fn read(&self, bucket: &str, name: &str) -> anyhow::Result<Bytes> {
        let body = self
            .app
            .state()
            .store
            .find(bucket, name)
            .map(|object| object.content.body.clone())
            .with_context(|| format!("no object `{name}` in bucket `{bucket}`"))?;
        match body {
            Body::Memory(bytes) => Ok(bytes),
            Body::File(number) => {
                let path = self.app.file(number);
                let bytes = std::fs::read(&path)
                    .with_context(|| format!("cannot read the object's file {}", path.display()))?;
                Ok(Bytes::from(bytes))
            }
            Body::Discarded => bail!("the bytes of `{name}` were discarded, as this server was told to"),
        }
    }
}

impl Drop for GcsServer {
    fn drop(&mut self) {
        // The thread may have ended by itself, and then there is nobody to tell.
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the Cloud Storage server's thread had panicked");
        }
    }
}

/// Connections that may wait to be accepted: as many as Linux lets them by itself.
const AT_THE_DOOR: i32 = 4096;

/// Listens on a port, 0 for a free one.
fn listen(port: u16) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
    // The 128 that come of that are fewer than a burst's first connections, and Linux resets some of those beyond.
    rustix::net::listen(&listener, AT_THE_DOOR).context("cannot lengthen the queue of connections")?;
    listener.set_nonblocking(true).context("cannot make the listening socket non-blocking")?;
    let address = listener.local_addr().context("cannot read the listening socket's address")?;
    Ok((listener, address))
}

/// Where connections come in, and what they speak there.
struct Door {
    listener: tokio::net::TcpListener,
    tls: Option<TlsAcceptor>,
}

/// Accepts connections until told to stop. The connections end with the runtime, which is dropped on return.
fn run(runtime: &Runtime, doors: Vec<Door>, app: &Arc<App>, stopped: oneshot::Receiver<()>) {
    runtime.block_on(async {
        for door in doors {
            tokio::spawn(accept(door, app.clone()));
        }
        // An error means that nobody can tell any more.
        let _ = stopped.await;
    });
}

async fn accept(Door { listener, tls }: Door, app: Arc<App>) {
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of file descriptors, most likely: nothing tells us when there is one again.
                eprintln!("cannot accept a connection, trying again in 50 ms: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Without it a small answer may wait 40 ms for the client's acknowledgement of the one before.
        if let Err(error) = socket.set_nodelay(true) {
            eprintln!("cannot switch off Nagle's algorithm, answers may be late: {error}");
        }
        let line = match Line::of(&socket) {
            Ok(line) => line,
            Err(error) => {
                eprintln!("no descriptor for a connection, which is closed: {error}");
                continue;
            }
        };
        let (app, tls) = (app.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => serve(socket, &app, &line).await,
                Some(tls) => {
                    // Or it does not like the certificate: its own business.
                    if let Ok(socket) = tls.accept(socket).await {
                        serve(socket, &app, &line).await;
                    }
                }
            }
        });
    }
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin, app: &App, line: &Line) {
    let service = service_fn(|request| app.serve(request, line));
    // A connection that breaks is the client's business, and the broken request has been counted.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
}

/// Files are numbered from the clock, so that a server does not write over what an earlier one left in the directory.
fn first_file() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}
