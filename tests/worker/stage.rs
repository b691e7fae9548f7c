//! A daemon with tasks, recorders with recordings, and workers as processes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::daemon::{Daemon, Storage};
use testbed::nvr::{Channel, Knobs, NvrServer, Options};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");
pub const PASSWORD: &str = "canary-Passw0rd1";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Leases that end soon, so that nobody waits for it.
pub const SHORT: &str = "[tasks]\nlease = \"2s\"\n";

/// A recorder with so many channels of so many recordings, each of ten minutes.
pub fn recorder(channels: u32, recordings: u32, knobs: Knobs) -> NvrServer {
    let channel =
        |number| Channel { name: format!("Camera {number}"), recordings, least_bytes: 60_000, ..Channel::default() };
    let channels = (1..=channels).map(channel).collect();
    let password = PASSWORD.to_owned();
    NvrServer::start(Options { channels, knobs, password, ..Options::default() }).expect("a recorder")
}

/// A row for each channel of a recorder, over its whole day.
pub fn rows(server: &NvrServer, channels: u32, sessions: u32) -> Vec<Value> {
    let row = |channel: u32| {
        json!({
            "host": server.host(), "user": "admin", "password": PASSWORD, "channels": channel.to_string(),
            "start": "2026-11-19 00:00", "end": "2026-11-19 23:59", "sessions": sessions,
        })
    };
    (1..=channels).map(row).collect()
}

/// What is to be there of a recorder's recordings, by its path below the place for results, with size and checksum.
pub fn expected(server: &NvrServer) -> BTreeMap<String, (usize, u32)> {
    let dir = server.host().replace(':', "_");
    let file = |file: testbed::nvr::RecordingInfo| {
        let begin: String = file.begin.chars().filter(char::is_ascii_digit).collect();
        let bytes = server.read(file.track, &file.name).expect("it was recorded");
        (format!("{dir}/{begin}-{}.mp4", file.track), (bytes.len(), crc32c::crc32c(&bytes)))
    };
    server.recordings().into_iter().map(file).collect()
}

/// A daemon, a worker's token for it, and a place for results.
pub struct Stage {
    pub daemon: Daemon,
    /// Goes when the daemon has gone.
    dir: TempDir,
}

impl Stage {
    /// A daemon; `more` goes into its configuration.
    pub fn new(more: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let daemon = Daemon::start(Path::new(PROGRAM), &dir.path().join("daemon"), &Storage::Directory, more);
        let stage = Self { daemon: daemon.expect("a daemon"), dir };
        stage.make_token("worker");
        stage
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where results go.
    pub fn out(&self) -> PathBuf {
        self.path().join("out")
    }

    pub fn token_file(&self, scope: &str) -> PathBuf {
        self.path().join(format!("{scope}.token"))
    }

    /// Makes a token of a scope, and writes it into its file.
    pub fn make_token(&self, scope: &str) {
        let token = self.daemon.new_token(&format!("test-{scope}"), scope).expect("a token");
        self.write_token(scope, &token);
    }

    /// Writes a token into its file, for nobody else to read.
    pub fn write_token(&self, name: &str, token: &str) {
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(self.token_file(name));
        file.and_then(|mut file| file.write_all(token.as_bytes())).expect("a file with a token");
    }

    /// Makes a job of rows.
    #[track_caller]
    pub fn job(&self, rows: &[Value]) -> String {
        let answer = self.call(Method::POST, "/api/v1/exports", Some(&json!(rows)));
        assert_eq!(answer["tasks"], rows.len(), "{answer}");
        answer["id"].as_str().expect("it has an id").to_owned()
    }

    #[track_caller]
    pub fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Value {
        let (status, text) = self.daemon.call(method, path, body).expect("an answer");
        assert!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).expect("JSON")
    }

    pub fn state(&self, job: &str) -> Value {
        self.call(Method::GET, &format!("/api/v1/exports/{job}"), None)
    }

    pub fn tasks(&self, job: &str) -> Vec<Value> {
        let answer = self.call(Method::GET, &format!("/api/v1/exports/{job}/tasks?limit=1000"), None);
        answer["tasks"].as_array().expect("a list").clone()
    }

    /// A counter of the daemon's.
    #[track_caller]
    pub fn counter(&self, name: &str) -> f64 {
        let text = self.daemon.get("/metrics").expect("metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
    }

    /// A worker of this daemon.
    pub fn worker(&self, name: &str, more: &[&str]) -> Command {
        self.worker_of(self.daemon.address(), name, more)
    }

    /// A worker that finds this daemon at another address.
    pub fn worker_of(&self, server: &str, name: &str, more: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["worker", "--server", server, "--name", name, "--format", "json", "--token-file"]);
        command.arg(self.token_file("worker")).args(["--to", &format!("file://{}", self.out().display())]);
        command.args(more).stdin(Stdio::null()).env("NO_PROXY", "127.0.0.1");
        command
    }

    /// Whether anything half-written of a recorder's lies beside what was stored.
    pub fn has_halves(&self, server: &NvrServer) -> bool {
        self.out().join(format!("{}/.framehaul-staging", server.host().replace(':', "_"))).exists()
    }

    /// What was stored, by its path below the place for results; lists of exports are not.
    pub fn stored(&self) -> BTreeMap<String, (usize, u32)> {
        let mut files = BTreeMap::new();
        below(&self.out(), "", &mut files);
        files.retain(|name: &String, _| !name.contains("/_export/"));
        files
    }

    /// Nobody but the holder of a task gets to see a password.
    #[track_caller]
    pub fn has_no_secret(&self, texts: &[&str]) {
        assert!(!self.daemon.log_text().contains(PASSWORD), "the daemon's log has a password in it");
        for text in texts {
            assert!(!text.contains(PASSWORD), "{text}");
        }
    }
}

fn below(dir: &Path, inside: &str, files: &mut BTreeMap<String, (usize, u32)>) {
    for entry in fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
        let name = format!("{inside}{}", entry.file_name().to_str().expect("names are UTF-8"));
        match entry.path().is_dir() {
            true => below(&entry.path(), &format!("{name}/"), files),
            false => {
                let bytes = fs::read(entry.path()).expect("it can be read");
                files.insert(name, (bytes.len(), crc32c::crc32c(&bytes)));
            }
        }
    }
}

/// Waits until it is so.
#[track_caller]
pub fn until(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a worker to its end: its summary, and what it said.
#[track_caller]
pub fn run(command: &mut Command, code: i32) -> (Value, String) {
    let Output { status, stdout, stderr } = command.output().expect("framehaul starts");
    let [out, err] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert_eq!(status.code(), Some(code), "{out}{err}");
    assert!(!format!("{out}{err}").contains(PASSWORD) && !err.contains(['\r', '\x1b']), "{err:?}");
    (serde_json::from_str(&out).unwrap_or_default(), err)
}

/// A worker that runs. Dropped, it is killed.
pub struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("framehaul starts");
        let said = Arc::new(Mutex::new(String::new()));
        let (lines, into) = (BufReader::new(child.stderr.take().expect("it is a pipe")).lines(), said.clone());
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                into.lock().expect("nobody panics with it").push_str(&format!("{line}\n"));
            }
        });
        Self { child, said, reader: Some(reader) }
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        self.said.lock().expect("nobody panics with it").clone()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("it is small")).expect("it is not 0");
        kill_process(pid, signal).expect("it runs");
    }

    /// Waits for its end: its status, its summary, and what it said.
    #[track_caller]
    pub fn end(mut self) -> (ExitStatus, Value, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end: {}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut out = String::new();
        let mut pipe = self.child.stdout.take().expect("it is a pipe");
        std::io::Read::read_to_string(&mut pipe, &mut out).expect("it is text");
        self.reader.take().expect("it ends once").join().expect("it does not panic");
        (status, serde_json::from_str(&out).unwrap_or_default(), self.said())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // An error means that it is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
