//! What the tests are written in.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use testbed::daemon::{Daemon, Storage};
use testbed::scenario::Stage;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");
/// How long anything may take that is waited for here.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";

/// A daemon on a stage of its own, with a token for workers. `more` goes into its configuration.
pub fn set_up(more: &str) -> anyhow::Result<(Stage, Daemon, String)> {
    let stage = Stage::new(Path::new(PROGRAM))?;
    let daemon = stage.daemon(&Storage::Directory, more)?;
    let token = new_token(&stage, "worker", "worker")?;
    Ok((stage, daemon, token))
}

/// Makes a token.
pub fn new_token(stage: &Stage, name: &str, scope: &str) -> anyhow::Result<String> {
    let config = stage.dir().join("framehaul.toml");
    let mut command = Command::new(PROGRAM);
    let output = command.args(["token", "new", name, "--scope", scope, "--config"]).arg(config).output()?;
    ensure!(output.status.success(), "no token: {output:?}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Removes a token.
pub fn remove_token(stage: &Stage, name: &str) -> anyhow::Result<()> {
    let config = stage.dir().join("framehaul.toml");
    let output = Command::new(PROGRAM).args(["token", "rm", name, "--config"]).arg(config).output()?;
    ensure!(output.status.success(), "not removed: {output:?}");
    Ok(())
}

/// What the daemon answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {} {}", self.head, self.text()))
    }

    /// The body of an answer that has this status.
    #[track_caller]
    pub fn with(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{} {}", self.head, self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }
}

/// Who asks, with one token.
pub struct Client {
    address: String,
    /// Whether a connection serves for more than one request.
    keeps: bool,
    token: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    pub fn new(daemon: &Daemon, token: &str) -> Self {
        Self::at(daemon.address(), token)
    }

    /// The same where the daemon was last.
    pub fn at(address: &str, token: &str) -> Self {
        let address = address.trim_start_matches("http://").to_owned();
        Self { address, keeps: false, token: token.to_owned(), stream: None }
    }

    /// One that asks again at once, over the same connection.
    pub fn kept(self) -> Self {
        Self { keeps: true, ..self }
    }

    /// One of an operator.
    pub fn operator(daemon: &Daemon) -> Self {
        Self::new(daemon, daemon.token())
    }

    pub fn send(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> anyhow::Result<Answer> {
        let answer = self.ask(method, path, kind, body).and_then(|()| self.hear());
        if answer.is_err() {
            self.stream = None;
        }
        answer.with_context(|| format!("{method} {path}"))
    }

    /// Sends a question, and waits for nothing.
    pub fn ask(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> anyhow::Result<()> {
        let Self { address, token, stream, .. } = self;
        let stream = match stream {
            Some(stream) => stream,
            None => {
                let opened = TcpStream::connect(address.as_str())?;
                opened.set_read_timeout(Some(PATIENCE))?;
                opened.set_nodelay(true)?;
                stream.insert(BufReader::new(opened))
            }
        };
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n").into_bytes();
        if !kind.is_empty() {
            request.extend(format!("Content-Type: {kind}\r\n").bytes());
        }
        request.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
        request.extend(body);
        // A body may be refused before it is read.
        let _ = stream.get_mut().write_all(&request);
        Ok(())
    }

    /// The answer to it.
    pub fn hear(&mut self) -> anyhow::Result<Answer> {
        let stream = self.stream.as_mut().context("nothing was asked")?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            ensure!(stream.read_line(&mut head)? > 0, "no answer");
        }
        let status = head.split(' ').nth(1).context("no status")?.parse()?;
        let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or_default()];
        stream.read_exact(&mut body)?;
        if !self.keeps {
            self.stream = None;
        }
        Ok(Answer { status, head, body })
    }

    pub fn get(&mut self, path: &str) -> anyhow::Result<Answer> {
        self.send("GET", path, "", &[])
    }

    pub fn post(&mut self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send("POST", path, "application/json", body.to_string().as_bytes())
    }

    /// Asks for exports, which must be accepted; the id of the job.
    #[track_caller]
    pub fn export(&mut self, rows: &Value) -> anyhow::Result<String> {
        let made = self.post("/api/v1/exports", rows)?.with(201);
        Ok(made["id"].as_str().context("an id")?.to_owned())
    }

    #[track_caller]
    pub fn job(&mut self, id: &str) -> anyhow::Result<Value> {
        Ok(self.get(&format!("/api/v1/exports/{id}"))?.with(200))
    }

    /// Takes the next task; `None` where there is none within the time.
    #[track_caller]
    pub fn take(&mut self, wait: &str) -> anyhow::Result<Option<Lease>> {
        let taken = self.ask_for_task(wait).and_then(|()| self.hear_of_task());
        if taken.is_err() {
            self.stream = None;
        }
        taken
    }

    /// Asks for the next task, and waits for nothing.
    pub fn ask_for_task(&mut self, wait: &str) -> anyhow::Result<()> {
        let body = json!({ "worker": "tester", "wait": wait }).to_string();
        self.ask("POST", "/api/v1/leases", "application/json", body.as_bytes())
    }

    /// The answer to that.
    #[track_caller]
    pub fn hear_of_task(&mut self) -> anyhow::Result<Option<Lease>> {
        let answer = self.hear()?;
        if answer.status == 204 {
            return Ok(None);
        }
        Ok(Some(Lease(answer.with(200))))
    }

    pub fn say(&mut self, lease: &Lease, word: &str, more: &Value) -> anyhow::Result<Answer> {
        let mut body = more.clone();
        body["number"] = lease.0["number"].clone();
        self.post(&format!("/api/v1/leases/{}/{word}", lease.id()), &body)
    }

    pub fn complete(&mut self, lease: &Lease) -> anyhow::Result<Answer> {
        let result = json!({ "found": 3, "downloaded": 2, "there": 1, "failed": 0, "bytes": 1_000 });
        self.say(lease, "complete", &json!({ "result": result }))
    }
}

/// A lease as a worker gets it.
#[derive(Clone, Debug)]
pub struct Lease(pub Value);

impl Lease {
    pub fn id(&self) -> &str {
        self.0["id"].as_str().expect("a lease has an id")
    }

    pub fn number(&self) -> u64 {
        self.0["number"].as_u64().expect("a lease has a number")
    }

    pub fn task(&self) -> &str {
        self.0["task"]["id"].as_str().expect("a task has an id")
    }
}

/// A row of a sheet.
pub fn row(host: &str, channels: &str, password: &str) -> Value {
    json!({ "host": host, "user": "export", "password": password, "channels": channels })
}

/// A metric's value.
pub fn metric(daemon: &Daemon, name: &str) -> anyhow::Result<f64> {
    let text = daemon.get("/metrics")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {name} in {text}"))?.parse()?)
}
