//! HTTP cameras: JPEGs one after the other as `multipart/x-mixed-replace`, as cheap network cameras send them.
//!
//! Each client gets a stream of its own that begins with the picture the wall clock has reached, and none is left out
//! for a slow client.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, ensure};
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::{CameraSpec, spec};
use crate::clip::{Codec, jpegs};

mod login;
mod play;

use self::login::{Gate, Refused};
use self::play::{BOUNDARY, Pictures, Play, Watching};

/// What an HTTP camera server has seen since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HttpCounts {
    /// Requests of any kind.
    pub requests: u64,
    /// Streams there are now.
    pub streams: u64,
    /// Requests with a login that was accepted.
    pub accepted_logins: u64,
    /// Requests with a login that was refused.
    pub refused_logins: u64,
}

/// A running HTTP camera server, on a thread of its own. Dropping it cuts all streams.
#[derive(Debug)]
pub struct HttpCameraServer {
    specs: Vec<CameraSpec>,
    port: u16,
    app: Arc<App>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl HttpCameraServer {
    /// Makes the clips that are missing in `cache_dir` and starts the server on `port` of 127.0.0.1 (0: any free one).
    /// The cameras' codec must be [`Codec::Mjpeg`].
    pub fn start(specs: &[CameraSpec], port: u16, cache_dir: impl AsRef<Path>) -> anyhow::Result<Self> {
        spec::validate(specs)?;
        let mut mounts = HashMap::new();
        for spec in specs {
            let CameraSpec { name, codec, .. } = spec;
            ensure!(*codec == Codec::Mjpeg, "camera `{name}` shows {codec}: an HTTP camera shows mjpeg");
            let mount = Mount::new(spec, cache_dir.as_ref()).with_context(|| format!("camera `{name}`"))?;
            mounts.insert(name.clone(), mount);
        }
        let app = Arc::new(App { mounts, counts: Mutex::default(), streams: Arc::default() });

        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        listener.set_nonblocking(true).context("cannot make the listening socket non-blocking")?;
        let port = listener.local_addr().context("cannot read the listening socket's address")?.port();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot build the server's runtime")?;
        let listener = {
            let _context = runtime.enter();
            tokio::net::TcpListener::from_std(listener).context("cannot hand the socket to the runtime")?
        };
        let (stop, stopped) = oneshot::channel();
        let serving = app.clone();
        let thread = std::thread::Builder::new()
            .name("testbed-http-cameras".into())
            .spawn(move || run(&runtime, listener, &serving, stopped))
            .context("cannot start the server's thread")?;
        Ok(Self { specs: specs.to_vec(), port, app, stop: Some(stop), thread: Some(thread) })
    }

    /// The cameras it was started with.
    pub fn specs(&self) -> &[CameraSpec] {
        &self.specs
    }

    /// The TCP port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a camera, without its login.
    ///
    /// # Panics
    /// If there is no camera of that name.
    pub fn url(&self, name: &str) -> String {
        assert!(self.specs.iter().any(|spec| spec.name == name), "no camera `{name}` on this server");
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    /// What a PUT says that adds a camera to framehaul.
    ///
    /// # Panics
    /// If there is no camera of that name.
    pub fn request(&self, spec: &CameraSpec) -> Value {
        spec.request(self.url(&spec.name))
    }

    /// What it has seen so far, of all cameras.
    pub fn counts(&self) -> HttpCounts {
        HttpCounts { streams: self.app.streams.load(Ordering::Relaxed), ..*self.app.counts() }
    }

    /// How many requests came with a login and were refused, of all cameras.
    pub fn refused_logins(&self) -> u64 {
        self.counts().refused_logins
    }
}

impl Drop for HttpCameraServer {
    fn drop(&mut self) {
        // The thread may have ended by itself, and then there is nobody to tell.
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the HTTP camera server's thread had panicked");
        }
    }
}

/// A camera as the server knows it.
#[derive(Debug)]
struct Mount {
    pictures: Pictures,
    gate: Option<Gate>,
}

impl Mount {
    fn new(spec: &CameraSpec, cache_dir: &Path) -> anyhow::Result<Self> {
        let (clip, frames) = (spec.clip().cached(cache_dir)?, spec.clip().frames()?);
        let stream = std::fs::read(&clip).with_context(|| format!("cannot read {}", clip.display()))?;
        let places = jpegs(&stream);
        ensure!(
            places.len() == usize::from(frames),
            "{} has {} pictures instead of {frames}: delete the file",
            clip.display(),
            places.len()
        );
        let gate = spec.login.as_ref().map(|(user, password)| Gate::new(spec.challenge, user, password));
        Ok(Self { pictures: Pictures::new(places.into_iter().map(|place| &stream[place]), spec.fps), gate })
    }
}

/// All connections' common part.
#[derive(Debug)]
struct App {
    mounts: HashMap<String, Mount>,
    /// All but the streams.
    counts: Mutex<HttpCounts>,
    streams: Arc<AtomicU64>,
}

type Answer = Response<Either<Play, Full<Bytes>>>;

impl App {
    fn counts(&self) -> MutexGuard<'_, HttpCounts> {
        // There is no half-done change that a panic could leave behind.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, request: &Request<Incoming>) -> Answer {
        self.counts().requests += 1;
        let path = request.uri().path();
        let Some(mount) = path.strip_prefix('/').and_then(|name| self.mounts.get(name)) else {
            return refusal(StatusCode::NOT_FOUND);
        };
        if request.method() != Method::GET {
            return refusal(StatusCode::METHOD_NOT_ALLOWED);
        }
        if let Some(gate) = &mount.gate {
            let login = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
            let target = request.uri().path_and_query().map_or(path, |target| target.as_str());
            let refused = login.map_or(Some(Refused::Missing), |login| gate.check(login, "GET", target).err());
            match refused {
                None => self.counts().accepted_logins += 1,
                Some(Refused::Wrong) => self.counts().refused_logins += 1,
                Some(Refused::Missing | Refused::Stale) => {}
            }
            if let Some(refused) = refused {
                let mut answer = refusal(StatusCode::UNAUTHORIZED);
                answer.headers_mut().insert(WWW_AUTHENTICATE, gate.challenge(refused));
                return answer;
            }
        }
        let play = Play::new(mount.pictures.clone(), Watching::new(self.streams.clone()));
        let mut answer = Response::new(Either::Left(play));
        let content_type = format!("multipart/x-mixed-replace; boundary={BOUNDARY}");
        let content_type = HeaderValue::from_str(&content_type).expect("a boundary of letters");
        answer.headers_mut().insert(CONTENT_TYPE, content_type);
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

fn refusal(status: StatusCode) -> Answer {
    let mut answer = Response::new(Either::Right(Full::default()));
    *answer.status_mut() = status;
    answer
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
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                // Out of file descriptors, most likely: nothing tells us when there is one again.
                eprintln!("cannot accept a connection, trying again in 50 ms: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let app = app.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(app.serve(&request))));
            // A connection that breaks is the client's business.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), service).await;
        });
    }
}
