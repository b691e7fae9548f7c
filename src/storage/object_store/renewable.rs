//! Clients that can be had anew.
//!
//! The crate keeps a token until it expires by its own clock, and a key for ever. Neither may end our uploads: a token
//! can be revoked, a key replaced. So a client whose credentials are refused is replaced by one that is made from the
//! same configuration, which reads the key file again; attempts under way keep the one they have.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tracing::{info, warn};

use crate::config::Credentials;
use crate::storage::pace::{Pace, Verdict};
use crate::storage::{BucketError, BucketErrorKind};

use super::Client;

/// Makes a client. Its error is shown, and repeats nothing that a key file holds.
type Make = Box<dyn Fn() -> Result<Client, String> + Send + Sync>;

/// A client, of which there may be another one at any time.
pub(super) struct Renewable {
    label: String,
    source: Credentials,
    make: Make,
    state: Mutex<State>,
}

struct State {
    current: Client,
    pace: Pace,
}

impl Renewable {
    /// Makes the first one.
    pub(super) fn new(label: String, source: &Credentials, make: Make) -> Result<Self, BucketError> {
        let current = make().map_err(|why| unauthorized(&label, &why))?;
        let state = Mutex::new(State { current, pace: Pace::new(Instant::now()) });
        Ok(Self { label, source: source.clone(), make, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // There is no half-done change that a panic could leave behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client for an attempt that begins now, and its number.
    pub(super) fn current(&self) -> (u64, Client) {
        let state = self.state();
        (state.pace.number, state.current.clone())
    }

    /// Takes note that the server knew who sent the attempt.
    pub(super) fn accepted(&self, number: u64) {
        self.state().pace.accepted(number);
    }

    /// Replaces the one of this number, which was refused or had no credentials, unless somebody has done so meanwhile,
    /// or it was done a moment ago and did not help. True when there is another now.
    ///
    /// Reads a small file and the system's certificates, at most once a second, under the lock: whoever waits for it
    /// wants the same.
    pub(super) fn renew(&self, refused: u64) -> Result<bool, BucketError> {
        if matches!(self.source, Credentials::Anonymous) {
            return Ok(false);
        }
        let mut state = self.state();
        match state.pace.verdict(refused, Instant::now()) {
            Verdict::Done => Ok(true),
            Verdict::TooSoon => Ok(false),
            Verdict::Renew { first } => {
                state.current = (self.make)().map_err(|why| unauthorized(&self.label, &why))?;
                if first {
                    info!(bucket = self.label, "the credentials were refused, or none could be had: took them anew");
                } else {
                    let wait = state.pace.wait;
                    warn!(bucket = self.label, ?wait, "new credentials did not help: took them anew");
                }
                Ok(true)
            }
        }
    }

    /// What to look at when they are of no use.
    pub(super) fn remedy(&self) -> &'static str {
        match self.source {
            Credentials::KeyFile(_) => "check the destination's `key_file`",
            Credentials::Default | Credentials::Anonymous => "check the destination's `credentials`",
        }
    }
}

/// Without the client, whose own would show its keys.
impl fmt::Debug for Renewable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewable").field("label", &self.label).field("source", &self.source).finish_non_exhaustive()
    }
}

fn unauthorized(label: &str, what: &str) -> BucketError {
    BucketError {
        kind: BucketErrorKind::Auth,
        maybe_stored: false,
        retry_after: None,
        message: format!("{label}: {what}"),
    }
}
