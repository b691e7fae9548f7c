//! The recorder as a library: start it, look into it, drop it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::clock;
use super::knobs::Knobs;
use super::library::{Channel, Library};
use super::login::Door;
use super::rtsp;
use super::service::{App, Exchange, State};
use super::stats::Stats;
use crate::cameras::default_cache_dir;

/// How to start a [`NvrServer`].
#[derive(Clone, Debug)]
pub struct Options {
    /// TCP port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// The only user.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The channels, the first one being channel 1 with the tracks 101 and 102.
    pub channels: Vec<Channel>,
    /// Where the clips are kept that recordings are made of.
    pub cache_dir: PathBuf,
    /// What it is like at the start.
    pub knobs: Knobs,
}

impl Default for Options {
    /// One channel without recordings; the user is `admin` and its password `Passw0rd1`.
    fn default() -> Options {
        Options {
            port: 0,
            user: "admin".into(),
            password: "Passw0rd1".into(),
            channels: vec![Channel::default()],
            cache_dir: default_cache_dir(),
            knobs: Knobs::default(),
        }
    }
}

/// What is known of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingInfo {
    /// The track it is on: channel and stream, as in 101.
    pub track: u32,
    /// Its name, which no other has.
    pub name: String,
    /// When it begins, as `2026-11-19T00:00:00` in UTC.
    pub begin: String,
    /// When it ends.
    pub end: String,
    /// Its length in bytes, once it is over.
    pub size: u64,
    /// How often it was sent to its last byte.
    pub fetched: u64,
}

/// A recorder on 127.0.0.1, on a thread of its own. Dropping it closes every connection.
#[derive(Debug)]
pub struct NvrServer {
    app: Arc<App>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl NvrServer {
    /// Makes the recordings that are missing and starts a recorder. It accepts connections when this returns.
    pub fn start(options: Options) -> anyhow::Result<NvrServer> {
        options.knobs.validate()?;
        let library = Library::record(options.channels, &options.cache_dir)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
        let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        listener.set_nonblocking(true).context("cannot make the listening socket non-blocking")?;
        let address = listener.local_addr().context("cannot read the listening socket's address")?;
        let door = Door::new(&options.user, &options.password);
        let state = Mutex::new(State::new(options.knobs, door));
        let app = Arc::new(App { host: address.to_string(), port: address.port(), library, state });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot build the recorder's runtime")?;
        let listener = {
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(listener).context("cannot hand the socket to the runtime")?
        };
        let (stop, stopped) = oneshot::channel();
        let serving = app.clone();
        let thread = std::thread::Builder::new()
            .name("testbed-nvr".into())
            .spawn(move || run(&runtime, listener, &serving, stopped))
            .context("cannot start the recorder's thread")?;
        Ok(NvrServer { app, stop: Some(stop), thread: Some(thread) })
    }

    /// Where to send requests: `http://127.0.0.1:PORT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.app.host)
    }

    /// The same without `http://`.
    pub fn host(&self) -> &str {
        &self.app.host
    }

    /// The knobs as they are now.
    pub fn knobs(&self) -> Knobs {
        self.app.state().knobs.clone()
    }

    /// Changes knobs for all calls that are still to come. Changes nothing if the result would be invalid.
    pub fn change_knobs(&self, change: impl FnOnce(&mut Knobs)) -> anyhow::Result<()> {
        let mut state = self.app.state();
        let mut knobs = state.knobs.clone();
        change(&mut knobs);
        knobs.validate()?;
        state.set_knobs(knobs);
        Ok(())
    }

    /// Takes another password from now on. What is being sent goes on.
    pub fn change_password(&self, password: &str) {
        self.app.state().door.change_password(password);
    }

    /// The counts as they are now.
    pub fn stats(&self) -> Stats {
        self.app.state().stats.clone()
    }

    /// When connections came that were hung up on, because the recorder was [`off`](Knobs::off).
    pub fn hung_up(&self) -> Vec<Instant> {
        self.app.state().hung_up.clone()
    }

    /// Remembers from now on what comes and how it is answered, with all of its bodies.
    pub fn log_exchanges(&self) {
        self.app.state().log = Some(Vec::new());
    }

    /// What has come since [`log_exchanges`](Self::log_exchanges), in the order of the answers.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.app.state().log.clone().unwrap_or_default()
    }

    /// All recordings, those that the clock has not come to among them.
    pub fn recordings(&self) -> Vec<RecordingInfo> {
        let state = self.app.state();
        let files = self.app.library.recordings.iter().enumerate();
        files
            .map(|(place, file)| RecordingInfo {
                track: file.track,
                name: file.name.clone(),
                begin: clock::show(file.begin),
                end: clock::show(file.end),
                size: file.media.size(),
                fetched: state.fetched.get(&place).copied().unwrap_or(0),
            })
            .collect()
    }

    /// The bytes of a recording. Fails if there is none of that name.
    pub fn read(&self, track: u32, name: &str) -> anyhow::Result<Vec<u8>> {
        let file = self.app.library.find(track, name);
        Ok(file.with_context(|| format!("no recording `{name}` on track {track}"))?.media.to_vec())
    }
}

impl Drop for NvrServer {
    fn drop(&mut self) {
        // The thread may have ended by itself, and then there is nobody to tell.
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the recorder's thread had panicked");
        }
    }
}

/// How long whoever connects to a recorder that is off may take to say that it is the test bed.
const SPEAK_WITHIN: Duration = Duration::from_millis(100);

/// Whether a connection is for the test bed and not for the recorder.
async fn is_control(socket: &tokio::net::TcpStream) -> bool {
    let mut head = [0; 16];
    let peeked = tokio::time::timeout(SPEAK_WITHIN, socket.peek(&mut head)).await;
    matches!(peeked, Ok(Ok(length)) if head[..length].windows(11).any(|part| part == b" /_testbed/"))
}

/// Accepts connections until told to stop. The connections end with the runtime, which is dropped on return.
fn run(runtime: &Runtime, listener: tokio::net::TcpListener, app: &Arc<App>, stopped: oneshot::Receiver<()>) {
    runtime.block_on(async {
        tokio::select! {
            () = accept(listener, app) => {}
            _ = stopped => {}
        }
    });
}

async fn accept(listener: tokio::net::TcpListener, app: &Arc<App>) {
    loop {
        let (socket, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
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
        app.state().stats.connections += 1;
        let (app, came) = (app.clone(), Instant::now());
        tokio::spawn(async move {
            if app.state().knobs.off && !is_control(&socket).await {
                return app.hang_up(came);
            }
            // HTTP and RTSP come on one port, as some clients want it. An error shows again when it is read.
            let mut first = [0];
            if socket.peek(&mut first).await.is_ok_and(|length| length > 0) && rtsp::is_rtsp(first[0]) {
                return rtsp::serve(app, socket, peer.ip()).await;
            }
            let service = service_fn(|request| app.serve(request, peer.ip()));
            // A connection that breaks is the client's business, or one of the knobs'.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}
