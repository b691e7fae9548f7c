//! What the service manager is told (sd_notify(3)). Started by another than systemd, without `NOTIFY_SOCKET`, nothing
//! is.

use std::net::SocketAddr;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::warn;

/// What a phase of the start or the end takes beyond its own deadline, on a machine that is busy.
const SLACK: Duration = Duration::from_secs(5);

/// The daemon has recovered and answers at this address.
pub fn ready(address: SocketAddr) {
    tell(&[NotifyState::Ready, NotifyState::Status(&serving(address))]);
}

/// The configuration is being read again. [`reloaded`] must follow, whether it could be used or not.
pub fn reloading() {
    // From systemd 253 on a reload counts only with the time at which it began.
    let now = NotifyState::monotonic_usec_now();
    let mut states = vec![NotifyState::Reloading, NotifyState::Status("reading the configuration again")];
    states.extend(now.ok());
    tell(&states);
}

/// The reload is over.
pub fn reloaded(address: SocketAddr) {
    ready(address);
}

/// The daemon is on its way out.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// What the daemon is doing, in a line for people, and how long that may take at most: the service manager's own
/// time limit knows nothing of ours.
pub fn phase(what: &str, at_most: Duration) {
    let micros = u32::try_from((at_most + SLACK).as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Status(what), NotifyState::ExtendTimeoutUsec(micros)]);
}

/// What the daemon is doing, in a line for people.
pub fn status(what: &str) {
    tell(&[NotifyState::Status(what)]);
}

/// All parts make progress.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often the service manager wants to hear that all parts make progress, if at all.
pub fn watchdog() -> Option<Duration> {
    std::env::var_os("NOTIFY_SOCKET")?;
    sd_notify::watchdog_enabled().filter(|period| !period.is_zero())
}

/// The line for people while all is well.
pub fn serving(address: SocketAddr) -> String {
    format!("serving on {address}")
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "the service manager does not take our word");
    }
}
