//! Signals that end a command.

use std::pin::pin;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

use super::failure::{Failure, Kind, note};
use super::progress;

/// What is said of the first signal where nothing else fits.
pub const COMES_TO_ITS_END: &str = "interrupted: what is on its way comes to its end; once more to end at once";

/// Tells `stop` of the first signal, and people what follows from it; the second one ends the work wherever it is.
pub async fn until_interrupted_twice(
    stop: &Notify,
    what_follows: &str,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::new(Kind::Other, format!("cannot listen for signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let (mut work, mut asked) = (pin!(work), false);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if asked {
            return Err(Failure::new(Kind::NotNow, "interrupted twice: what was on its way may be stored or not"));
        }
        asked = true;
        stop.notify_one();
        progress::clear();
        note(what_follows);
    }
}
