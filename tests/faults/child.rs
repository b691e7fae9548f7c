//! The program that is killed: this test binary once more, in a role that its environment names.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use framehaul::config::WhenFull;
use framehaul::model::CameraId;

use crate::engine::{Engine, Event};
use crate::manifests;

const ROLE: &str = "FRAMEHAUL_FAULTS_ROLE";
const DIR: &str = "FRAMEHAUL_FAULTS_DIR";
/// What a start, or a short workload, may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// Frames of each camera in the workload: enough to go round the segments twice, and to find the cap.
const FRAMES: u64 = 18;
/// Frames of a camera in the air while it works: fewer than it leaves, so that some lie beyond.
const WINDOW: usize = 4;
/// What the guarded camera's password is at first, and later.
pub const PASSWORDS: [&str; 2] = ["first", "second"];
/// Bytes of SQLite's log when the work begins: 960 pages, of the 1,000 at which it is moved into the database.
const LOG_AT_WORK: u64 = 960 * (4096 + 24);

/// What the program is to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Wait for a word, start, say so, wait for another, work, end in order. Where there is no room the oldest frames
    /// go.
    Work,
    /// The same, but where there is no room new frames are refused.
    WorkRefusing,
    /// As `Work`, with SQLite's log nearly full when the work begins.
    WorkLogged,
    /// Start, take frames and have each stored before the next one comes, end in order.
    Plain,
    /// Start, say what is there, end without a word to anybody.
    Look,
    /// Start, say what is there, take and store one more frame of each camera, end in order.
    Resume,
    /// Wait for a word, start, say so, wait for another, have frames listed and manifests written, end in order.
    Manifests,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Work => "work",
            Self::WorkRefusing => "work refusing",
            Self::WorkLogged => "work logged",
            Self::Plain => "plain",
            Self::Look => "look",
            Self::Resume => "resume",
            Self::Manifests => "manifests",
        }
    }
}

/// A command that plays the role in the directory.
pub fn command(role: Role, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a running program has a file"));
    command.args(["--exact", "child::plays_its_role", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role.word()).env(DIR, dir).env("RUST_BACKTRACE", "0");
    command
}

pub fn cameras() -> [CameraId; 2] {
    ["gate-1", "gate-2"].map(|id| id.parse().expect("a plain id"))
}

/// Not a test: see [`command`]. Without a role it has nothing to do.
#[test]
#[ignore = "the other tests start it"]
fn plays_its_role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    // The test harness has begun a line.
    say("");
    let dir = std::env::var_os(DIR).expect("a role is played somewhere");
    let played = match role.as_str() {
        "work" => work(Path::new(&dir), WhenFull::DropOldest, 0),
        "work refusing" => work(Path::new(&dir), WhenFull::DropNewest, 0),
        "work logged" => work(Path::new(&dir), WhenFull::DropOldest, LOG_AT_WORK),
        "plain" => plain(Path::new(&dir)),
        "look" => look(Path::new(&dir)).map(|_| std::process::exit(0)),
        "resume" => resume(Path::new(&dir)),
        "manifests" => manifests::play(Path::new(&dir)),
        other => panic!("there is no role `{other}`"),
    };
    if let Err(error) = played {
        say(&format!("failed {error:#}"));
        std::process::exit(1);
    }
    // Not by the test harness: its last word would be one write more.
    std::process::exit(0);
}

pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}

fn told(event: &Event) {
    match event {
        Event::Durable(camera, seq) => say(&format!("durable {camera} {seq} {seq}")),
        Event::Settled(camera, seqs, word) => say(&format!("settled {camera} {} {} {word}", seqs.first, seqs.last)),
        Event::Refused(..) | Event::Loaded(..) => {}
    }
}

fn work(dir: &Path, when_full: WhenFull, log_bytes: u64) -> anyhow::Result<()> {
    // Where only an ancestor may look into a process, strace, which is none, may as well.
    let _ = rustix::process::set_ptracer(rustix::process::PTracer::Any);
    say("waiting");
    await_word()?;
    let engine = Engine::start(dir, when_full, WINDOW)?;
    let [plain, guarded] = cameras();
    if engine.totals(&plain).captured == 0 {
        engine.add(&plain, None)?;
    }
    // SQLite moves its log into the database every thousand pages: the next time is while it works.
    let log = dir.join("state/journal.sqlite-wal");
    while std::fs::metadata(&log)?.len() < log_bytes {
        engine.overrun(&plain, 1, &mut told)?;
    }
    // Now both threads have their names.
    engine.barrier();
    say("ready");
    await_word()?;
    if engine.totals(&guarded).captured == 0 {
        guard(|| engine.add(&guarded, Some(PASSWORDS[0])), &guarded, PASSWORDS[0])?;
    }
    for round in 0..FRAMES {
        for (nth, camera) in cameras().iter().enumerate() {
            let (seq, _) = engine.append(camera, &mut told)?;
            // One in three stays: segments are nearly dead before they are dead.
            if !(round + nth as u64).is_multiple_of(3) {
                engine.store(camera, seq, &mut told)?;
            }
        }
        if round % 6 == 5 {
            engine.overrun(&plain, 3, &mut told)?;
        }
        if round == FRAMES / 2 {
            guard(|| engine.put(&guarded, Some(PASSWORDS[1])), &guarded, PASSWORDS[1])?;
        }
    }
    // What the journal gave up for want of room it takes again, with a commit, when there is some.
    let begun = Instant::now();
    while !dir.join("state/journal.reserve").exists() {
        ensure!(begun.elapsed() < PATIENCE, "the journal's reserve is not made again");
        engine.overrun(&plain, 1, &mut told)?;
        std::thread::sleep(Duration::from_millis(20));
    }
    say("done");
    engine.end(&mut told)
}

/// Puts a camera with a password, once more where the disk refuses, as a person would.
fn guard(mut put: impl FnMut() -> anyhow::Result<()>, camera: &CameraId, password: &str) -> anyhow::Result<()> {
    put().or_else(|_| put())?;
    say(&format!("guarded {camera} {password}"));
    Ok(())
}

fn plain(dir: &Path) -> anyhow::Result<()> {
    let engine = Engine::start(dir, WhenFull::DropOldest, WINDOW)?;
    let [camera, _] = cameras();
    engine.add(&camera, None)?;
    for _ in 0..2 * FRAMES {
        let (seq, _) = engine.append(&camera, &mut told)?;
        engine.store(&camera, seq, &mut told)?;
    }
    say("done");
    engine.end(&mut told)
}

pub fn await_word() -> std::io::Result<()> {
    std::io::stdin().read_line(&mut String::new()).map(drop)
}

fn look(dir: &Path) -> anyhow::Result<Engine> {
    let begun = Instant::now();
    let engine = Engine::start(dir, WhenFull::DropOldest, usize::MAX)?;
    say(&format!("started {} {}", begun.elapsed().as_millis(), engine.damaged));
    for (camera, password) in &engine.passwords {
        say(&format!("password {camera} {}", password.as_deref().unwrap_or_default()));
    }
    for ledger in engine.ledgers.all() {
        let camera = ledger.camera();
        let totals = engine.totals(camera);
        let (seqs, unreadable) = engine.unresolved(camera)?;
        for line in unreadable {
            say(&format!("unreadable {line}"));
        }
        let seqs: Vec<String> = seqs.iter().map(ToString::to_string).collect();
        let (captured, stored, lost, in_flight) = (totals.captured, totals.stored, totals.lost, totals.in_flight);
        say(&format!("account {camera} {captured} {stored} {lost} {in_flight} {}", seqs.join(",")));
    }
    say("done");
    Ok(engine)
}

fn resume(dir: &Path) -> anyhow::Result<()> {
    let engine = look(dir)?;
    for ledger in engine.ledgers.all() {
        let (seq, durable) = engine.append(ledger.camera(), &mut told)?;
        ensure!(durable, "a spool that gives up its oldest refuses a frame");
        engine.store(ledger.camera(), seq, &mut told)?;
    }
    engine.end(&mut told)
}

/// A program that plays a role, and its lines as they come. Dropping it ends it.
pub struct Player {
    pub child: Child,
    lines: Receiver<String>,
    pub said: Vec<String>,
}

impl Player {
    pub fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().context("it is piped")?);
        let stderr = BufReader::new(child.stderr.take().context("it is piped")?);
        let errors = sender.clone();
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| errors.send(format!("stderr {line}")))
        });
        Ok(Self { child, lines, said: Vec::new() })
    }

    /// Listens until it says `word`; false where it ends before.
    pub fn until(&mut self, word: &str) -> anyhow::Result<bool> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let found = line == word;
                    self.said.push(line);
                    if found {
                        return Ok(true);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
                Err(RecvTimeoutError::Timeout) => bail!("no `{word}` within {PATIENCE:?}: {:?}", self.said),
            }
        }
    }

    pub fn go(&mut self) {
        // One that has died meanwhile does not hear it.
        let _ = self.child.stdin.as_mut().map(|stdin| writeln!(stdin, "go"));
    }

    /// Listens to its end, and says no more to it.
    pub fn end(mut self) -> anyhow::Result<(ExitStatus, Vec<String>)> {
        drop(self.child.stdin.take());
        while self.until("")? {}
        Ok((self.child.wait()?, std::mem::take(&mut self.said)))
    }

    /// Its thread of this name, or the one that plays the role.
    pub fn thread(&self, name: Option<&str>) -> anyhow::Result<u32> {
        // As much of the test's name as a thread's takes.
        let name = name.unwrap_or("child::plays_it");
        let tasks = format!("/proc/{}/task", self.child.id());
        for task in std::fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
            let task = task?;
            if std::fs::read_to_string(task.path().join("comm"))?.trim() == name {
                return Ok(task.file_name().to_string_lossy().parse()?);
            }
        }
        bail!("it has no thread `{name}`")
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
