//! The part of systemd that a service talks to: the socket of sd_notify(3).

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::daemon::wait;

/// Listens to a service from when it is made.
#[derive(Debug)]
pub struct ServiceManager {
    socket: PathBuf,
    said: Arc<Mutex<Vec<Said>>>,
}

/// A line that the service has said: `READY=1`.
#[derive(Debug, Clone)]
pub struct Said {
    /// When it arrived.
    pub at: Instant,
    /// What.
    pub line: String,
}

impl ServiceManager {
    /// Listens on a socket in `dir`. `heard` is called with each line as soon as it has arrived, before the next one is
    /// read.
    ///
    /// # Errors
    ///
    /// When there can be no socket.
    pub fn start(dir: &Path, heard: impl Fn(&str) + Send + 'static) -> anyhow::Result<Self> {
        let path = dir.join("notify");
        let socket = UnixDatagram::bind(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let book = said.clone();
        // It ends with the process: a datagram socket has no end that could be waited for.
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                let at = Instant::now();
                for line in String::from_utf8_lossy(&buffer[..length]).lines() {
                    heard(line);
                    book.lock().unwrap_or_else(PoisonError::into_inner).push(Said { at, line: line.to_owned() });
                }
            }
        });
        Ok(Self { socket: path, said })
    }

    /// What the service must have in `NOTIFY_SOCKET`.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything it has said so far.
    pub fn said(&self) -> Vec<Said> {
        self.lock().clone()
    }

    /// When the watchdog's pings arrived, from `since` on.
    pub fn pings(&self, since: Instant) -> Vec<Instant> {
        self.lock().iter().filter(|said| said.line == "WATCHDOG=1" && said.at >= since).map(|said| said.at).collect()
    }

    /// Waits for a line that begins with `begin`, said at `since` or later.
    ///
    /// # Errors
    ///
    /// When there is none within `patience`.
    pub fn wait_for(&self, begin: &str, since: Instant, patience: Duration) -> anyhow::Result<Said> {
        wait(patience, || Ok(self.lock().iter().find(|said| said.at >= since && said.line.starts_with(begin)).cloned()))
            .with_context(|| format!("the service did not say {begin}"))
    }
}
