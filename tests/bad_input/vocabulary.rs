//! What the tests are written in.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use testbed::cameras::{CameraServer, CameraSpec, HttpCameraServer, default_cache_dir};
use testbed::clip::Codec;
use testbed::daemon::{Daemon, Status, wait};
use testbed::oracle::{Entry, Fetcher, Pattern, judge};
use testbed::scenario::Stage;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");

/// How long anything may take that is waited for here; most takes a second or two.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Who may see the camera `shut`.
pub const USER: &str = "viewer";

/// A stage for one test. Orphans of our processes become our children from here on, so that [`leave`] can see them.
pub fn stage() -> anyhow::Result<Stage> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("cannot become a subreaper")?;
    Stage::new(Path::new(PROGRAM))
}

/// Ends a daemon in good order, and asserts that nothing of it is left.
pub fn leave(mut daemon: Daemon) -> anyhow::Result<()> {
    let (pid, captures) = (daemon.pid(), children_of(daemon.pid())?);
    let status = daemon.stop()?;
    ensure!(status.success(), "framehaul ended with {status}");
    ensure!(!Path::new(&format!("/proc/{pid}")).exists(), "framehaul is still there");
    // Tests run side by side: a child of a daemon that a failed test has killed takes a moment to go.
    wait(Duration::from_secs(3), || {
        let left = captures.iter().any(|pid| is_alive(*pid));
        let orphans = children_of(std::process::id())?.into_iter().any(|pid| command_line(pid).contains("capture-"));
        Ok((!left && !orphans).then_some(()))
    })
    .with_context(|| format!("a capture process outlived framehaul; it had {captures:?}"))
}

/// The living processes whose parent is `parent`.
pub fn children_of(parent: u32) -> anyhow::Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse() else { continue };
        if stat(pid).is_some_and(|(state, of)| of == parent && state != 'Z') {
            children.push(pid);
        }
    }
    Ok(children)
}

fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

/// A process's state and its parent; none if it is gone.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

fn command_line(pid: u32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

/// One after the other, so that each clip is made once.
static MAKING_CLIPS: Mutex<()> = Mutex::new(());

/// A server with two small cameras: `open` for anybody, `shut` for [`USER`] with `password`.
pub fn cameras(password: &str) -> anyhow::Result<CameraServer> {
    cameras_at(0, password)
}

/// The same at a port.
pub fn cameras_at(port: u16, password: &str) -> anyhow::Result<CameraServer> {
    let _alone = MAKING_CLIPS.lock().unwrap_or_else(PoisonError::into_inner);
    let small = |name| CameraSpec::new(name).size(320, 240).rate(10, 10);
    CameraServer::start(&[small("open"), small("shut").login(USER, password)], port, default_cache_dir())
}

/// The same over HTTP: `basic` and `digest`, both for [`USER`] with `password`.
pub fn http_cameras(password: &str) -> anyhow::Result<HttpCameraServer> {
    let small = |name| CameraSpec::new(name).codec(Codec::Mjpeg).size(320, 240).rate(10, 10);
    let specs = [small("basic").basic_login(USER, password), small("digest").login(USER, password)];
    let _alone = MAKING_CLIPS.lock().unwrap_or_else(PoisonError::into_inner);
    HttpCameraServer::start(&specs, 0, default_cache_dir())
}

/// What the daemon answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub content_type: String,
    pub body: String,
}

impl Answer {
    /// Its body, which must be a problem as RFC 9457 has it.
    #[track_caller]
    pub fn problem(&self) -> Value {
        assert_eq!(self.content_type, "application/problem+json", "{self:?}");
        let problem: Value = serde_json::from_str(&self.body).expect("a problem is JSON");
        assert_eq!(problem["status"], self.status, "{self:?}");
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{self:?}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{self:?}");
        problem
    }

    /// Asserts that it is a problem with this status.
    #[track_caller]
    pub fn refuses_with(&self, status: u16, what: &str) -> Value {
        assert_eq!(self.status, status, "{what}: {self:?}");
        self.problem()
    }
}

/// A request, written byte by byte: no client library corrects what is wrong with it.
pub struct Request<'a> {
    method: &'a str,
    path: &'a str,
    headers: Vec<(&'a str, String)>,
    body: Vec<u8>,
}

impl<'a> Request<'a> {
    pub fn new(method: &'a str, path: &'a str) -> Self {
        Self { method, path, headers: Vec::new(), body: Vec::new() }
    }

    pub fn header(mut self, name: &'a str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.header("Content-Type", content_type)
    }

    /// Sends it with the daemon's token.
    pub fn send(self, daemon: &Daemon) -> anyhow::Result<Answer> {
        let token = format!("Bearer {}", daemon.token());
        self.header("Authorization", token).send_bare(daemon)
    }

    pub fn send_bare(self, daemon: &Daemon) -> anyhow::Result<Answer> {
        let what = format!("{} {}", self.method, &self.path[..self.path.len().min(80)]);
        self.talk(daemon).with_context(|| what)
    }

    /// The status alone: some answers never end.
    pub fn status(self, daemon: &Daemon) -> anyhow::Result<u16> {
        let what = format!("{} {}", self.method, self.path);
        let mut line = String::new();
        BufReader::new(self.open(daemon)?).read_line(&mut line)?;
        status_in(&line).with_context(|| what)
    }

    /// Sends it and leaves the answer to be read.
    pub fn open(self, daemon: &Daemon) -> anyhow::Result<TcpStream> {
        let address = daemon.address().trim_start_matches("http://");
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // Head and body are two writes; the second must not wait for an acknowledgement of the first.
        stream.set_nodelay(true)?;
        let mut request = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", self.method, self.path);
        if !self.headers.iter().any(|(name, _)| *name == "Host") {
            request += &format!("Host: {address}\r\n");
        }
        for (name, value) in &self.headers {
            request += &format!("{name}: {value}\r\n");
        }
        request += &format!("Content-Length: {}\r\n\r\n", self.body.len());
        stream.write_all(request.as_bytes())?;
        // A body that is too long may be refused before it is read.
        let _ = stream.write_all(&self.body);
        Ok(stream)
    }

    fn talk(self, daemon: &Daemon) -> anyhow::Result<Answer> {
        let mut stream = self.open(daemon)?;
        let (mut answer, mut piece) = (Vec::new(), [0; 4_096]);
        // A server that refuses before it has read the body keeps the connection for a while: its end says nothing.
        while !is_whole(&answer) {
            match stream.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => answer.extend(&piece[..n]),
                Err(error) => {
                    ensure!(!answer.is_empty(), "no answer: {error}");
                    break;
                }
            }
        }
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        let mut lines = head.lines();
        let status = status_in(lines.next().unwrap_or_default())?;
        let mut headers = lines.filter_map(|line| line.split_once(": "));
        let content_type = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        let content_type = content_type.map(|(_, value)| value.to_owned()).unwrap_or_default();
        Ok(Answer { status, head: head.to_owned(), content_type, body: body.to_owned() })
    }
}

/// Whether an answer is there up to the length that it says it has.
fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    length.is_some_and(|length| answer.len() >= end + 4 + length)
}

fn status_in(line: &str) -> anyhow::Result<u16> {
    line.split(' ').nth(1).context("no status line")?.parse().context("no status")
}

pub fn get(daemon: &Daemon, path: &str) -> anyhow::Result<Answer> {
    Request::new("GET", path).send(daemon)
}

pub fn put(daemon: &Daemon, id: &str, body: &Value) -> anyhow::Result<Answer> {
    Request::new("PUT", &format!("/api/v1/cameras/{id}")).body("application/json", body.to_string()).send(daemon)
}

/// Runs `framehaul token` for the state directory of a stage.
pub fn token_command(stage: &Stage, arguments: &[&str]) -> anyhow::Result<Output> {
    let config = stage.dir().join("framehaul.toml");
    let output = Command::new(PROGRAM).arg("token").args(arguments).arg("--config").arg(config).output();
    output.context("cannot start framehaul")
}

/// Makes a token.
pub fn new_token(stage: &Stage, name: &str, scope: &str) -> anyhow::Result<String> {
    let output = token_command(stage, &["new", name, "--scope", scope])?;
    ensure!(output.status.success(), "no token: {output:?}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Waits until a camera streams; asserts that nothing was ever wrong with its list.
pub fn until_streaming(daemon: &Daemon, id: &str) -> anyhow::Result<Status> {
    daemon.wait_for(id, PATIENCE, |status| status.state == "streaming" && status.totals.captured > 0)
}

/// Asserts that a camera's whole list is in order and complete by the pixels of its objects, `lost` aside.
pub fn assert_sound(daemon: &Daemon, id: &str, endpoint: Option<&str>) -> anyhow::Result<Vec<Entry>> {
    let entries = daemon.list(id, 1_000)?.entries;
    let fetcher = Fetcher::new(daemon.http(), endpoint);
    let verdict = judge(id, &entries, |url| fetcher.fetch(url), Pattern::Every(1));
    assert!(verdict.is_sound(), "camera {id}: {verdict:?}");
    let totals = daemon.status(id)?.totals;
    assert_eq!((verdict.frames, verdict.tombstoned), (totals.stored, totals.lost), "camera {id}");
    assert!(totals.add_up(), "camera {id}: {totals:?}");
    Ok(entries)
}

/// All files below a directory.
pub fn files_below(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { files.extend(files_below(&path)?) } else { files.push(path) }
    }
    Ok(files)
}
