//! framehaul as a child process, for scenarios, tests and the demo: started with its own directory, asked over its API,
//! ended by its own id.

mod configuration;
mod process;

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use hyper::{Method, StatusCode};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::Value;

use self::configuration::configuration;
pub use self::configuration::{Credentials, Storage};
pub use self::process::Process;
use crate::oracle::{Http, List, fetch_list};

/// How long the daemon may take from its start until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long it may take from SIGTERM to its end; its own deadline for frames is 10 s.
const GONE_WITHIN: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Time that a frame may be on its way to the disk.
const QUIET: Duration = Duration::from_millis(300);
/// The file with the API's bearer token, in the daemon's directory.
pub const TOKEN_FILE: &str = "state/admin.token";

/// A daemon under test. Dropping it kills it.
#[derive(Debug)]
pub struct Daemon {
    program: PathBuf,
    dir: PathBuf,
    environment: Vec<(&'static str, OsString)>,
    own_group: bool,
    process: Process,
    http: Http,
    address: String,
    token: String,
}

/// What a camera is doing, as the API shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// The state's name.
    pub state: String,
    /// Counts its starts.
    pub generation: u64,
    /// The session that is open, or was last.
    pub session: Option<u32>,
    /// Its capture process.
    pub pid: Option<u32>,
    /// Frames a second.
    pub fps: f64,
    /// When it is tried again, RFC 3339.
    pub next_try_at: Option<String>,
    /// The four totals, one snapshot.
    pub totals: Totals,
    /// The last seq of its list.
    pub watermark: u64,
    /// What last went wrong.
    pub last_error: Option<Value>,
}

/// What became of a camera's frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct Totals {
    /// Seqs issued.
    pub captured: u64,
    /// Frames in the bucket.
    pub stored: u64,
    /// Frames that ended otherwise.
    pub lost: u64,
    /// Frames whose outcome is not known yet.
    pub in_flight: u64,
}

impl Totals {
    /// Whether the accounts add up.
    pub fn add_up(&self) -> bool {
        self.captured == self.stored + self.lost + self.in_flight
    }
}

impl Daemon {
    /// Writes a configuration into `dir` (an absolute path) and starts `program` with it. `more` is TOML that is added
    /// to the configuration, for sections other than `state`, `http` and `storage`.
    ///
    /// # Errors
    ///
    /// When it does not become ready; the message holds the end of its log.
    pub fn start(program: &Path, dir: &Path, storage: &Storage, more: &str) -> anyhow::Result<Self> {
        let mut daemon = Self::prepare(program, dir, storage, more)?;
        daemon.run()?;
        Ok(daemon)
    }

    /// The same without starting it: [`run`](Self::run) does.
    ///
    /// # Errors
    ///
    /// When the configuration cannot be written.
    pub fn prepare(program: &Path, dir: &Path, storage: &Storage, more: &str) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let config = configuration(dir, storage, more)?;
        fs::write(dir.join("framehaul.toml"), config).context("cannot write the configuration")?;
        Ok(Self {
            program: program.to_owned(),
            dir: dir.to_owned(),
            environment: storage.environment(dir),
            own_group: false,
            process: Process::default(),
            http: Http::new()?,
            address: String::new(),
            token: String::new(),
        })
    }

    /// With this in its environment, from the next [`run`](Self::run) on.
    pub fn env(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.environment.push((name, value.into()));
    }

    /// With a process group of its own, so that Ctrl-C reaches only us.
    pub fn in_own_group(mut self) -> Self {
        self.own_group = true;
        self
    }

    /// Starts it, for the first time or again after its end, with the same directory.
    ///
    /// # Errors
    ///
    /// When it still runs, or does not become ready.
    pub fn run(&mut self) -> anyhow::Result<()> {
        self.launch()?;
        let address_file = self.address_file();
        let ready = wait(READY_WITHIN, || {
            if let Some(status) = self.process.ended()? {
                bail!("framehaul ended: {status}");
            }
            let Ok(address) = fs::read_to_string(&address_file) else { return Ok(None) };
            self.address = format!("http://{}", address.trim());
            self.token = fs::read_to_string(self.dir.join(TOKEN_FILE))?.trim().to_owned();
            Ok(self.get("/readyz").is_ok().then_some(()))
        });
        ready.with_context(|| format!("framehaul is not ready; {}", self.log_end()))
    }

    fn address_file(&self) -> PathBuf {
        self.dir.join("state/http.addr")
    }

    /// The same without waiting for it to be ready.
    ///
    /// # Errors
    ///
    /// When it still runs, or cannot be started.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log()).context("cannot open the log")?;
        let mut command = Command::new(&self.program);
        command
            .args(["serve", "--config"])
            .arg(self.dir.join("framehaul.toml"))
            // All cameras of the test bed are here.
            .env("FRAMEHAUL__CAPTURE__LOOPBACK", "true")
            .env_remove("GOOGLE_APPLICATION_CREDENTIALS")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot share the log")?)
            .stderr(log);
        if self.own_group {
            command.process_group(0);
        }
        // What is there names the port of the last run.
        let address_file = self.address_file();
        self.process.start(&mut command, || drop(fs::remove_file(&address_file)))
    }

    /// Its process, for a thread that has to end it while this one is busy with it.
    pub fn process(&self) -> Process {
        self.process.clone()
    }

    /// Its log file.
    pub fn log(&self) -> PathBuf {
        self.dir.join("framehaul.log")
    }

    /// Everything it has logged so far.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log()).unwrap_or_default()).into_owned()
    }

    fn log_end(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(15)..].join("\n");
        format!("its log, {}, ends with\n{last}", self.log().display())
    }

    /// Adds to an error that the daemon has ended, if it has, and the end of its log.
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        match self.process.ended() {
            Ok(Some(status)) => error.context(format!("framehaul has ended ({status}); {}", self.log_end())),
            _ => error,
        }
    }

    /// The directory it was started with.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `http://host:port`
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The API's bearer token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The client with which it is asked.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// Its process id.
    ///
    /// # Panics
    ///
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.process.id().expect("framehaul runs")
    }

    /// Its resident memory, KiB.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn resident_kib(&self) -> anyhow::Result<u64> {
        self.status_kib("VmRSS:")
    }

    /// Of its resident memory what is its own, KiB: not the files that are mapped, as its program is. Of these the kernel
    /// maps around each page that is touched what it has at hand, which differs by more than a megabyte for the same bytes.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn own_kib(&self) -> anyhow::Result<u64> {
        self.status_kib("RssAnon:")
    }

    fn status_kib(&self, key: &str) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let line = line.with_context(|| format!("no {key} in its status"))?;
        line.trim().trim_end_matches(" kB").parse().with_context(|| format!("{key} {line:?} is no number"))
    }

    /// Sends it SIGTERM and waits for its end.
    ///
    /// # Errors
    ///
    /// When it does not end in time; it is killed then.
    pub fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        self.process.signal(Signal::TERM)?;
        self.wait_for_end()
    }

    /// Sends it SIGKILL and waits for its end.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        self.process.signal(Signal::KILL)?;
        self.wait_for_end()
    }

    /// Waits until it has ended by itself.
    ///
    /// # Errors
    ///
    /// When it does not end in time; it is killed then.
    pub fn wait_for_end(&mut self) -> anyhow::Result<ExitStatus> {
        self.process.wait_for_end(GONE_WITHIN)
    }

    /// Sends a request to its API.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<(StatusCode, String)> {
        let url = format!("{}{path}", self.address);
        let (status, body) = self.http.send(method, &url, Some(&self.token), body.map(Value::to_string))?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }

    fn expect(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<String> {
        let what = format!("{method} {path}");
        let (status, answer) = self.call(method, path, body)?;
        ensure!(status.is_success(), "{what}: {status}: {answer}");
        Ok(answer)
    }

    /// Gets a text that must be there.
    ///
    /// # Errors
    ///
    /// When the answer's status is no success.
    pub fn get(&self, path: &str) -> anyhow::Result<String> {
        self.expect(Method::GET, path, None)
    }

    /// Makes a token of a scope.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub fn new_token(&self, name: &str, scope: &str) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        command.args(["token", "new", name, "--scope", scope, "--config"]).arg(self.dir.join("framehaul.toml"));
        let output = command.stdin(Stdio::null()).output().context("cannot make a token")?;
        let complaints = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "cannot make a token: {}", complaints.trim());
        Ok(String::from_utf8(output.stdout).context("a token is text")?.trim().to_owned())
    }

    /// Adds or changes a camera.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub fn put_camera(&self, id: &str, spec: &Value) -> anyhow::Result<()> {
        self.expect(Method::PUT, &format!("/api/v1/cameras/{id}"), Some(spec)).map(drop)
    }

    /// Removes a camera.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub fn delete_camera(&self, id: &str) -> anyhow::Result<()> {
        self.expect(Method::DELETE, &format!("/api/v1/cameras/{id}"), None).map(drop)
    }

    /// Makes an actor panic; `query` is for example `actor=camera&id=gate`.
    ///
    /// # Errors
    ///
    /// When that is refused.
    pub fn inject_panic(&self, query: &str) -> anyhow::Result<()> {
        self.expect(Method::POST, &format!("/api/v1/debug/panic?{query}"), None).map(drop)
    }

    /// What a camera is doing, also after it was deleted.
    ///
    /// # Errors
    ///
    /// When there never was one of this id.
    pub fn status(&self, id: &str) -> anyhow::Result<Status> {
        let all = self.statuses()?;
        all.into_iter()
            .find(|(name, _)| name == id)
            .map(|(_, status)| status)
            .with_context(|| format!("no camera `{id}`"))
    }

    /// What all cameras are doing, deleted ones as well.
    ///
    /// # Errors
    ///
    /// When the API does not answer.
    pub fn statuses(&self) -> anyhow::Result<Vec<(String, Status)>> {
        self.cameras("/api/v1/cameras?deleted=true")
    }

    fn cameras(&self, path: &str) -> anyhow::Result<Vec<(String, Status)>> {
        #[derive(Deserialize)]
        struct Answer {
            cameras: Vec<Camera>,
        }
        #[derive(Deserialize)]
        struct Camera {
            id: String,
            status: Status,
        }
        let answer: Answer = serde_json::from_str(&self.get(path)?)?;
        Ok(answer.cameras.into_iter().map(|camera| (camera.id, camera.status)).collect())
    }

    /// A camera's whole list so far, in pages of `limit`.
    ///
    /// # Errors
    ///
    /// When the API does not answer.
    pub fn list(&self, id: &str, limit: u32) -> anyhow::Result<List> {
        fetch_list(&self.http, &self.address, &self.token, id, limit)
    }

    /// Waits until a camera's status fulfils a condition.
    ///
    /// # Errors
    ///
    /// When it does not within `patience`; the message holds the last status.
    pub fn wait_for(
        &self,
        id: &str,
        patience: Duration,
        mut condition: impl FnMut(&Status) -> bool,
    ) -> anyhow::Result<Status> {
        let mut last = None;
        wait(patience, || {
            let status = self.status(id)?;
            let fulfilled = condition(&status);
            last = Some(status);
            Ok(last.clone().filter(|_| fulfilled))
        })
        .with_context(|| format!("camera `{id}` did not come to what was waited for; last: {last:?}"))
    }

    /// Sends it SIGHUP.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn hang_up(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::HUP)
    }

    /// Tells it to read its file of cameras again, and waits until it says that it has.
    ///
    /// # Errors
    ///
    /// When it does not within `patience`.
    pub fn reload(&self, patience: Duration) -> anyhow::Result<()> {
        const DONE: &str = "the file of cameras was read again";
        let before = self.log_text().matches(DONE).count();
        self.hang_up()?;
        wait(patience, || Ok((self.log_text().matches(DONE).count() > before).then_some(())))
            .with_context(|| format!("it did not read its file of cameras; {}", self.log_end()))
    }

    /// Removes all cameras and waits until none of their frames is in flight and their lists are complete.
    ///
    /// # Errors
    ///
    /// When that takes longer than `patience`.
    pub fn quiesce(&self, patience: Duration) -> anyhow::Result<()> {
        // One that is deleted already may still be on its way out.
        for (id, _) in self.cameras("/api/v1/cameras")? {
            self.delete_camera(&id)?;
        }
        // A frame on its way to the disk counts only once it is there: that nothing is in flight must be seen twice.
        let mut before = None;
        wait(patience, || {
            let statuses = self.statuses()?;
            let quiet = statuses.iter().all(|(_, Status { state, totals, watermark, .. })| {
                state == "deleted" && totals.in_flight == 0 && *watermark == totals.captured
            });
            let totals = quiet.then(|| statuses.iter().map(|(_, status)| status.totals).collect::<Vec<_>>());
            if quiet && before == totals {
                return Ok(Some(()));
            }
            before = totals;
            std::thread::sleep(QUIET);
            Ok(None)
        })
        .context("the cameras were deleted, and their frames did not come to rest")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.kill();
    }
}

/// Looks again and again until there is a value.
///
/// # Errors
///
/// When looking fails, or there is none within `patience`.
pub fn wait<T>(patience: Duration, mut look: impl FnMut() -> anyhow::Result<Option<T>>) -> anyhow::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = look()? {
            return Ok(value);
        }
        ensure!(Instant::now() < deadline, "nothing within {patience:?}");
        std::thread::sleep(LOOK_EVERY);
    }
}
