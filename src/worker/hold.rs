//! A lease while it is held: heartbeats, and whether anything may still be said for it.

use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::lease::{Beat, Far, Lease};
use super::outcome::Word;
use super::server::{Server, ServerError};

/// The longest wait before a server that did not answer is asked again.
const AGAIN_WITHIN: Duration = Duration::from_secs(1);

/// A lease that is held. By our own clock it is over no later than by the server's: it counts from when a task was asked
/// for, or a heartbeat was sent, and not from when that was answered.
pub(super) struct Hold<'a> {
    server: &'a Server,
    lease: &'a Lease,
    /// Until then it is ours for sure.
    until: Instant,
    /// When the next heartbeat is due.
    next: Instant,
    /// Why the last heartbeat was not heard, if it was not.
    unheard: Option<String>,
}

/// Why a lease is not held any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Over {
    /// Somebody has cancelled the task.
    Cancelled,
    /// The recorder has refused the login of the task to another one.
    Refused,
    /// It is another's by now, or may be.
    Lost(String),
}

/// What became of a last word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// The server has it.
    Heard,
    /// The lease was over before.
    Late(String),
}

impl<'a> Hold<'a> {
    /// A lease on a task that was `asked` for then.
    pub(super) fn new(server: &'a Server, lease: &'a Lease, asked: Instant) -> Self {
        Self { server, lease, until: asked + lease.lives, next: Instant::now(), unheard: None }
    }

    /// Has the server confirm that the lease is ours, before anything is begun: a server waits before it gives a task, and
    /// its answer may have been on its way, or lain here unread, for longer than a lease lives.
    ///
    /// # Errors
    ///
    /// When it is not, or nobody says so in time.
    pub(super) async fn confirm(&mut self) -> Result<(), Over> {
        loop {
            let within = Instant::now() + self.lease.lives;
            match timeout_at(within, self.beat(Far::default())).await {
                Ok(Ok(true)) => return Ok(()),
                Ok(Err(over)) => return Err(over),
                Ok(Ok(false)) | Err(_) if self.is_over() => return Err(self.unheard()),
                Ok(Ok(false)) | Err(_) => sleep_until(self.next).await,
            }
        }
    }

    /// Keeps the lease for as long as that goes, and says why it does not any more. When there are `news` that others wait
    /// for, how far it is is said at once. Nothing is lost when it is dropped.
    pub(super) async fn keep(&mut self, far: impl Fn() -> Far, news: impl Future<Output = ()>) -> Over {
        let mut news = pin!(news.fuse());
        loop {
            tokio::select! {
                () = sleep_until(self.next.min(self.until)) => {}
                () = &mut news => {}
            }
            if self.is_over() {
                return self.unheard();
            }
            match timeout_at(self.until, self.beat(far())).await {
                Ok(Ok(_)) => {}
                Ok(Err(over)) => return over,
                Err(_) => self.unheard = Some("no answer in time".to_owned()),
            }
        }
    }

    /// Sends a heartbeat, and says whether it was heard. One that was not ends nothing as long as the lease lives, whatever
    /// was answered in the server's place.
    async fn beat(&mut self, far: Far) -> Result<bool, Over> {
        let sent = Instant::now();
        match self.server.heartbeat(self.lease, far).await {
            Ok(Beat { cancel: true, why: Some(why), .. }) if why == "auth" => return Err(Over::Refused),
            Ok(Beat { cancel: true, .. }) => return Err(Over::Cancelled),
            Ok(_) => {
                self.until = sent + self.lease.lives;
                self.next = sent + self.lease.heartbeat.min(self.lease.lives / 3);
                self.unheard = None;
            }
            Err(ServerError::Lost(why)) => return Err(Over::Lost(why)),
            Err(error @ (ServerError::Away { .. } | ServerError::Forbidden(_))) => {
                self.next = Instant::now() + self.soon();
                self.unheard = Some(error.to_string());
            }
        }
        Ok(self.unheard.is_none())
    }

    /// Says the last word of a task, again and again while the server does not hear it and the lease is held.
    pub(super) async fn say(&mut self, word: &Word) -> Said {
        let mut unheard = "no answer in time".to_owned();
        loop {
            if self.is_over() {
                return Said::Late(format!("the server could not be told in time: {unheard}"));
            }
            match timeout_at(self.until, self.server.end(self.lease, word)).await {
                Ok(Ok(())) => return Said::Heard,
                Ok(Err(ServerError::Lost(why))) => return Said::Late(why),
                Ok(Err(error)) => {
                    unheard = error.to_string();
                    sleep(self.soon()).await;
                }
                Err(_) => {}
            }
        }
    }

    /// Whether the lease may be another's by now.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Why it is over without a word of the server's.
    fn unheard(&self) -> Over {
        Over::Lost(match &self.unheard {
            Some(why) => format!("the server has not heard us for as long as a lease lives: {why}"),
            // We have slept too long, as stopped processes do: whatever is said now is said for another's task.
            None => "this process stood still for longer than it lives".to_owned(),
        })
    }

    /// A short wait, not the same for all.
    fn soon(&self) -> Duration {
        AGAIN_WITHIN.min(self.lease.heartbeat).mul_f64(0.5 + 0.5 * fastrand::f64())
    }
}
