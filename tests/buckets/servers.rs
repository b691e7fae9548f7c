//! The emulators of S3 and Azure: processes on ports of their own, ended with the test.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

const MOTO: &str = include_str!("servers/requirements.txt");
const AZURITE: &str = include_str!("servers/package-lock.json");

/// Azurite's account, and its key before base64.
pub const ACCOUNT: &str = "testaccount";
pub const ACCOUNT_KEY: &str = "the key of the tests' account";

/// Runs a command to its end.
#[track_caller]
fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let (printed, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{printed}{complaints}", output.status);
}

/// Installs below `target/`, anew when what is wanted has changed. Tests of this file may come here at the same time, as
/// threads or as processes: one installs, the others wait.
fn installed(name: &str, wanted: &str, install: impl FnOnce(&Path)) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let lock = File::create(root.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    let environment = root.join(name);
    // Written last, so that a broken installation is not taken for a whole one.
    let stamp = environment.join("installed.txt");
    if !fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        if environment.exists() {
            fs::remove_dir_all(&environment).unwrap();
        }
        fs::create_dir(&environment).unwrap();
        install(&environment);
        fs::write(&stamp, wanted).unwrap();
    }
    environment
}

/// A Python that has moto.
fn python() -> PathBuf {
    let environment = installed("moto", MOTO, |environment| {
        run(Command::new("python3").args(["-m", "venv"]).arg(environment));
        let requirements = environment.join("requirements.txt");
        fs::write(&requirements, MOTO).unwrap();
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "-r"];
        run(Command::new(environment.join("bin/python")).args(pip).arg(requirements));
    });
    environment.join("bin/python")
}

fn azurite() -> PathBuf {
    let environment = installed("azurite", AZURITE, |environment| {
        fs::write(environment.join("package.json"), include_str!("servers/package.json")).unwrap();
        fs::write(environment.join("package-lock.json"), AZURITE).unwrap();
        // None of its parts needs a script to be installed, and none gets to run one.
        let npm = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
        run(Command::new("npm").args(npm).current_dir(environment));
    });
    environment.join("node_modules/azurite/dist/src/blob/main.js")
}

/// A server, ended when it is dropped.
pub struct Server {
    child: Child,
    pub endpoint: String,
}

impl Server {
    /// moto, as it comes: a thread for each request.
    pub fn moto() -> Self {
        Self::start_moto(&["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"], &[])
    }

    /// moto, which looks at who asks, from the second request on: the first one makes the bucket.
    pub fn moto_with_accounts() -> Self {
        let count = ("INITIAL_NO_AUTH_ACTION_COUNT", "1".to_owned());
        Self::start_moto(&["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"], &[count])
    }

    /// moto, one request after the other: it looks whether there is an object, then writes it, and nothing keeps other
    /// threads out in between.
    pub fn moto_in_turn() -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/buckets/servers/in_turn.py");
        Self::start_moto(&[script], &[])
    }

    fn start_moto(arguments: &[&str], environment: &[(&str, String)]) -> Self {
        let mut command = Command::new(python());
        Self::start(command.args(arguments).env("PYTHONUNBUFFERED", "1"), environment)
    }

    pub fn azurite() -> Self {
        let mut command = Command::new("node");
        command.arg(azurite()).args(["--blobHost", "127.0.0.1", "--blobPort", "0"]);
        command.args(["--inMemoryPersistence", "--extentMemoryLimit", "512"]);
        // The crate speaks a newer version of the protocol than it has heard of.
        command.args(["--skipApiVersionCheck", "--silent"]);
        command.current_dir(env!("CARGO_TARGET_TMPDIR"));
        Self::start(&mut command, &[("AZURITE_ACCOUNTS", format!("{ACCOUNT}:{}", BASE64_STANDARD.encode(ACCOUNT_KEY)))])
    }

    /// Starts a server, and waits until it says where it listens: on standard output or standard error.
    fn start(command: &mut Command, environment: &[(&str, String)]) -> Self {
        // Nobody's own credentials or proxies may play a part.
        for (name, _) in std::env::vars_os() {
            let upper = name.to_string_lossy().to_uppercase();
            if upper.starts_with("AWS_") || upper.starts_with("AZURE_") || upper.ends_with("_PROXY") {
                command.env_remove(&name);
            }
        }
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let (said, lines) = mpsc::channel();
        let streams: [Box<dyn std::io::Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let said = said.clone();
            // Reads on to the end, so that the server never waits for somebody to listen.
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = said.send(line);
                }
            });
        }
        drop(said);
        let mut server = Self { child, endpoint: String::new() };
        let mut heard = Vec::new();
        while server.endpoint.is_empty() {
            match lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) => {
                    // Azurite first names the port that it was given.
                    let at = line.split_once("http://127.0.0.1:").map(|(_, rest)| rest);
                    let port: String = at.unwrap_or_default().chars().take_while(char::is_ascii_digit).collect();
                    if !port.is_empty() && port != "0" {
                        server.endpoint = format!("http://127.0.0.1:{port}");
                    }
                    heard.push(line);
                }
                Err(error) => panic!("{command:?} does not say where it listens: {error}: {heard:#?}"),
            }
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
