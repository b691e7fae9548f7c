//! Who takes part, each a process that is told what to do line by line.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use testbed::contest::Tree;

use crate::machine::{Machine, told};
use crate::own;
use crate::pictures::PicturesDir;
use crate::server::{BUCKET, Object, Server};
use crate::setting::Setting;

const REQUIREMENTS: &str = include_str!("peers/requirements.txt");
/// How long a contestant may take to end, once it is told to.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// A way to get pictures into a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contestant {
    /// The library.
    Ours,
    /// Prepared requests over raw connections.
    Floor,
    /// aiohttp and nothing else.
    Aiohttp,
    /// gcloud-aio-storage.
    GcloudAio,
    /// A pool of threads with google-cloud-storage.
    Threads,
    /// A Celery group on Redis.
    Celery(Celery),
}

/// How a worker of Celery is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Celery {
    pool: &'static str,
    places: usize,
    /// The client kept, bytes in place of text, no chatter; otherwise as the article has it.
    tuned: bool,
}

impl Contestant {
    /// All, in the order in which they stand in tables.
    pub const ALL: [Self; 10] = [
        Self::Floor,
        Self::Ours,
        Self::Aiohttp,
        Self::GcloudAio,
        Self::Threads,
        Self::Celery(Celery { pool: "prefork", places: 10, tuned: false }),
        Self::Celery(Celery { pool: "prefork", places: 50, tuned: false }),
        Self::Celery(Celery { pool: "prefork", places: 50, tuned: true }),
        Self::Celery(Celery { pool: "threads", places: 50, tuned: true }),
        Self::Celery(Celery { pool: "gevent", places: 50, tuned: true }),
    ];

    /// Its name in tables.
    pub fn name(self) -> String {
        match self {
            Self::Ours => "framehaul::push".to_owned(),
            Self::Floor => "floor".to_owned(),
            Self::Aiohttp => "aiohttp, bare".to_owned(),
            Self::GcloudAio => "gcloud-aio-storage".to_owned(),
            Self::Threads => "google-cloud-storage, threads".to_owned(),
            Self::Celery(Celery { pool, places, tuned }) => {
                format!("celery {pool} {places}, {}", if tuned { "tuned" } else { "as written" })
            }
        }
    }

    /// One word, for names and figures.
    pub fn key(self) -> String {
        match self {
            Self::Ours => "ours".to_owned(),
            Self::Floor => "floor".to_owned(),
            Self::Aiohttp => "aiohttp".to_owned(),
            Self::GcloudAio => "gcloud_aio".to_owned(),
            Self::Threads => "threads".to_owned(),
            Self::Celery(Celery { pool, places, tuned }) => {
                format!("celery_{pool}_{places}{}", if tuned { "_tuned" } else { "" })
            }
        }
    }

    /// Whether it is somebody else's.
    pub fn is_peer(self) -> bool {
        !matches!(self, Self::Ours | Self::Floor)
    }

    /// Whether others of its kind say most of what it says.
    fn is_left_out(self) -> bool {
        match self {
            Self::Celery(Celery { pool: "prefork", places, tuned }) => places == 50 && !tuned,
            Self::Celery(Celery { pool, .. }) => pool == "gevent",
            _ => false,
        }
    }

    /// Whether it is a Celery worker with its Redis, which take long to start.
    pub fn is_celery(self) -> bool {
        matches!(self, Self::Celery(_))
    }

    fn script(self) -> Option<&'static str> {
        match self {
            Self::Ours | Self::Floor => None,
            Self::Aiohttp => Some("aiohttp_bare.py"),
            Self::GcloudAio => Some("gcloud_aio.py"),
            Self::Threads => Some("threads.py"),
            Self::Celery(_) => Some("celery_group.py"),
        }
    }

    fn options(self) -> Value {
        match self {
            Self::Celery(Celery { pool, places, tuned }) => json!({ "pool": pool, "places": places, "tuned": tuned }),
            _ => json!({}),
        }
    }
}

/// What every contestant needs: programs, pictures, the bucket.
pub struct Arena<'a> {
    setting: &'a Setting,
    /// What they upload.
    pub pictures: PicturesDir,
    /// Where they upload it.
    pub server: Server,
    python: PathBuf,
    dir: tempfile::TempDir,
}

impl<'a> Arena<'a> {
    /// Installs what is missing and starts the server.
    ///
    /// # Errors
    ///
    /// When something cannot be had.
    pub fn new(setting: &'a Setting, machine: &mut Machine) -> anyhow::Result<Self> {
        let python = testbed::contest::python::environment(&setting.kept("peers"), REQUIREMENTS)?;
        let redis = told("redis-server", &["--version"]).context("is it installed (Debian: redis-server)?")?;
        machine.used("python", told(&python.to_string_lossy(), &["--version"])?.trim_start_matches("Python "));
        let version = |text: &str| text.split_once("v=").and_then(|(_, v)| v.split(' ').next().map(str::to_owned));
        machine.used("redis", version(&redis).context("redis-server tells no version")?);
        let told_by_pip =
            ["celery", "gevent", "google-cloud-storage", "aiohttp", "gcloud-aio-storage", "opencv-python-headless"];
        for package in told_by_pip {
            let pinned = REQUIREMENTS.lines().find_map(|line| line.strip_prefix(package)?.strip_prefix("=="));
            machine.used(package, pinned.with_context(|| format!("{package} is not pinned"))?);
        }
        let dir = setting.scratch()?;
        let server = Server::start(setting, dir.path())?;
        Ok(Self { setting, pictures: PicturesDir::prepare(setting)?, server, python, dir })
    }

    /// Who takes part, in the order of the tables. Not all of Celery's kinds where it has to be quick.
    pub fn contestants(&self) -> impl Iterator<Item = Contestant> {
        let quick = self.setting.quick && self.setting.only.is_empty();
        let takes_part = move |one: &Contestant| self.setting.takes_part(&one.key()) && !(quick && one.is_left_out());
        Contestant::ALL.into_iter().filter(takes_part)
    }

    /// Starts contestants, all at once, and waits until they are ready.
    ///
    /// # Errors
    ///
    /// When one is not.
    pub fn start_all(
        &self,
        contestants: impl IntoIterator<Item = Contestant>,
        tls: bool,
    ) -> anyhow::Result<Vec<Running<'_>>> {
        let mut running =
            contestants.into_iter().map(|one| self.begin(one, tls)).collect::<anyhow::Result<Vec<_>>>()?;
        running.iter_mut().try_for_each(Running::ready)?;
        Ok(running)
    }

    /// Starts a contestant.
    ///
    /// # Errors
    ///
    /// When it is not ready.
    pub fn start(&self, contestant: Contestant, tls: bool) -> anyhow::Result<Running<'_>> {
        let mut running = self.begin(contestant, tls)?;
        running.ready()?;
        Ok(running)
    }

    fn begin(&self, contestant: Contestant, tls: bool) -> anyhow::Result<Running<'_>> {
        let settings = json!({
            "endpoint": self.server.endpoint(tls),
            "bucket": BUCKET,
            "pictures": self.pictures.dir,
            "options": contestant.options(),
        });
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/push/peers");
        let mut command = match contestant.script() {
            None => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args([own::CALLED, &contestant.key()]);
                command
            }
            Some(script) => {
                let mut command = Command::new(&self.python);
                command.arg(peers.join(script));
                command
            }
        };
        let log = self.dir.path().join(format!("{}-{tls}.log", contestant.key()));
        command
            .arg(settings.to_string())
            .env("SSL_CERT_FILE", self.server.authority())
            .env("REQUESTS_CA_BUNDLE", self.server.authority())
            .env("PYTHONPATH", &peers)
            .env("PYTHONPYCACHEPREFIX", self.setting.kept("pycache"))
            // The environment's own programs, celery's among them.
            .env("PATH", path_with(self.python.parent().context("python lies in a directory")?)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", contestant.name()))?;
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().context("it is piped")?);
        Ok(Running {
            arena: self,
            contestant,
            child,
            stdin,
            stdout,
            log,
            prefix: None,
            expected: Vec::new(),
            opened: 0,
            tls,
        })
    }
}

fn path_with(dir: &Path) -> anyhow::Result<std::ffi::OsString> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::join_paths(std::iter::once(dir.to_owned()).chain(std::env::split_paths(&path)))?)
}

/// A contestant at work. What it started ends with it.
pub struct Running<'a> {
    arena: &'a Arena<'a>,
    contestant: Contestant,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    log: PathBuf,
    prefix: Option<String>,
    expected: Vec<Object>,
    opened: usize,
    tls: bool,
}

impl Running<'_> {
    fn ready(&mut self) -> anyhow::Result<()> {
        let ready = self.read().context("it is not ready")?;
        ensure!(ready["ready"] == json!(true), "{} says {ready}", self.contestant.name());
        Ok(())
    }

    /// Who it is.
    pub fn contestant(&self) -> Contestant {
        self.contestant
    }

    /// Its processes.
    pub fn tree(&self) -> Tree {
        Tree::of(self.child.id())
    }

    /// Looks whether all is stored that was given so far, and has it take a new client, without connections.
    ///
    /// # Errors
    ///
    /// When something is not stored, or it fails.
    pub fn open(&mut self, at_once: usize) -> anyhow::Result<()> {
        self.verify()?;
        self.opened += 1;
        let tls = if self.tls { "tls" } else { "plain" };
        let prefix = format!("{}-{tls}-{}-{}", self.contestant.key(), self.child.id(), self.opened);
        self.order(&json!({ "do": "open", "prefix": prefix, "at_once": at_once }))?;
        self.prefix = Some(prefix);
        Ok(())
    }

    /// Has it store so many pictures out of memory; what that took by its own clock, milliseconds.
    ///
    /// # Errors
    ///
    /// When it fails.
    pub fn burst(&mut self, frames: usize) -> anyhow::Result<f64> {
        let told = self.order(&json!({ "do": "burst", "frames": frames }))?;
        self.expected.extend(self.arena.pictures.burst(frames));
        told["ms"].as_f64().with_context(|| format!("{} tells no time", self.contestant.name()))
    }

    /// Has it store the first pictures of a film, which `source` (opencv, ffmpeg) makes JPEGs of.
    ///
    /// # Errors
    ///
    /// When it fails, or not all are there in the end.
    pub fn film(&mut self, source: &str, film: &Path, frames: usize) -> anyhow::Result<f64> {
        let told = self.order(&json!({ "do": "film", "source": source, "film": film, "frames": frames }))?;
        let prefix = self.prefix.take().context("it is not open")?;
        let there = self.arena.server.objects(&prefix)?;
        let whole = there.iter().filter(|object| object.bytes > 10_000).count();
        ensure!(whole == frames, "{}: {whole} of {frames} pictures are there", self.contestant.name());
        told["ms"].as_f64().with_context(|| format!("{} tells no time", self.contestant.name()))
    }

    /// Looks whether all that was given is stored, with the right checksum and in its place.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub fn verify(&mut self) -> anyhow::Result<()> {
        let Some(prefix) = self.prefix.take() else { return Ok(()) };
        let (expected, there) = (std::mem::take(&mut self.expected), self.arena.server.objects(&prefix)?);
        let wrong = expected.iter().zip(&there).filter(|(expected, there)| expected != there).count();
        ensure!(
            wrong == 0 && expected.len() == there.len(),
            "{}: of {} objects {} are there, {wrong} of them wrong",
            self.contestant.name(),
            expected.len(),
            there.len()
        );
        Ok(())
    }

    fn order(&mut self, order: &Value) -> anyhow::Result<Value> {
        let stdin = self.stdin.as_mut().context("it has ended")?;
        // Where it has ended its log says why.
        let _ = writeln!(stdin, "{order}").and_then(|()| stdin.flush());
        self.read()
    }

    fn read(&mut self) -> anyhow::Result<Value> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        match serde_json::from_str(&line) {
            Ok(told) => Ok(told),
            Err(_) => {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                let tail = log.get(log.len().saturating_sub(3_000)..).unwrap_or(&log);
                bail!("{} says `{}`; its log ends with: {tail}", self.contestant.name(), line.trim())
            }
        }
    }

    /// Looks at what it has stored last, and ends it.
    ///
    /// # Errors
    ///
    /// When that is not all there, or it does not end.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.verify()?;
        self.stdin = None;
        let deadline = Instant::now() + ENDS_WITHIN;
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "{} does not end", self.contestant.name());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.stdin = None;
        let deadline = Instant::now() + ENDS_WITHIN;
        // Killed at once, it would leave behind what it has started.
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
