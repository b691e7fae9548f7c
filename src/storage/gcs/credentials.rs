//! Credentials that can be had anew.
//!
//! The crate keeps a token until shortly before it expires by its own clock, for an hour in most cases, and after an
//! error that it takes for permanent it asks for no token ever again. Neither may end our uploads: a token can be
//! revoked, a key replaced, a metadata server can answer nonsense for a minute. So the crate's credentials are a part
//! that is replaced, while the client with its connections stays, and attempts that are under way notice nothing.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use google_cloud_auth::credentials::{self, CacheableResource, Credentials as GoogleCredentials, CredentialsProvider};
use google_cloud_auth::errors::CredentialsError;
use http::{Extensions, HeaderMap};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::config::Credentials;

use crate::storage::pace::{Pace, Verdict};

/// How long a token may take. The crate sets no deadline when it asks a metadata server; a silent one would take the
/// attempt's own, ten seconds by default, and nobody would know why. Two of these fit in there.
const TOKEN_WITHIN: Duration = Duration::from_secs(4);

/// Credentials for the crate's client, of which all clones are replaced at once.
#[derive(Clone, Debug)]
pub(super) struct Renewable(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    source: Credentials,
    label: String,
    /// Where the bucket was opened: the crate refreshes tokens in a task of the runtime on which credentials are made.
    runtime: Handle,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: GoogleCredentials,
    pace: Pace,
}

impl Renewable {
    /// Makes the first ones. Call it on the runtime that lives as long as they do.
    pub(super) fn new(source: &Credentials, label: &str) -> Result<Self, String> {
        let state = State { current: make(source)?, pace: Pace::new(Instant::now()) };
        let inner = Inner {
            source: source.clone(),
            label: label.to_owned(),
            runtime: Handle::current(),
            state: Mutex::new(state),
        };
        Ok(Self(Arc::new(inner)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // There is no half-done change that a panic could leave behind.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of those that an attempt which begins now will use.
    pub(super) fn number(&self) -> u64 {
        self.state().pace.number
    }

    /// Takes note that the server knew who sent the attempt.
    pub(super) fn accepted(&self, number: u64) {
        self.state().pace.accepted(number);
    }

    /// Replaces those of this number, which were refused or gave no token, unless somebody has done so meanwhile, or it
    /// was done a moment ago and did not help. True when there are others now.
    ///
    /// Reads a small file, at most once a second, under the lock: whoever waits for it wants the same.
    pub(super) fn renew(&self, refused: u64) -> Result<bool, String> {
        if matches!(self.0.source, Credentials::Anonymous) {
            return Ok(false);
        }
        let mut state = self.state();
        match state.pace.verdict(refused, Instant::now()) {
            Verdict::Done => Ok(true),
            Verdict::TooSoon => Ok(false),
            Verdict::Renew { first } => {
                let entered = self.0.runtime.enter();
                let made = make(&self.0.source);
                drop(entered);
                // The old ones end their task when they are next due to ask for a token.
                state.current = made?;
                if first {
                    info!(bucket = self.0.label, "the token was refused, or none could be had: made new credentials");
                } else {
                    let wait = state.pace.wait;
                    warn!(bucket = self.0.label, ?wait, "new credentials did not help: made others");
                }
                Ok(true)
            }
        }
    }

    /// What to look at when they are of no use.
    pub(super) fn remedy(&self) -> &'static str {
        match self.0.source {
            Credentials::KeyFile(_) => "check `storage.key_file`",
            Credentials::Default | Credentials::Anonymous => "check `storage.credentials`",
        }
    }
}

impl CredentialsProvider for Renewable {
    async fn headers(&self, extensions: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        let current = self.state().current.clone();
        match timeout(TOKEN_WITHIN, current.headers(extensions)).await {
            Ok(headers) => headers,
            Err(_) => Err(CredentialsError::from_msg(true, format!("no access token within {TOKEN_WITHIN:?}"))),
        }
    }

    async fn universe_domain(&self) -> Option<String> {
        let current = self.state().current.clone();
        timeout(TOKEN_WITHIN, current.universe_domain()).await.ok().flatten()
    }
}

fn make(source: &Credentials) -> Result<GoogleCredentials, String> {
    match source {
        Credentials::Anonymous => Ok(credentials::anonymous::Builder::new().build()),
        Credentials::Default => credentials::Builder::default()
            .build()
            .map_err(|error| format!("no application default credentials: {error}: set `storage.credentials`")),
        Credentials::KeyFile(path) => read_key(path)
            .map_err(|why| format!("cannot use key file {}: {why}: check `storage.key_file`", path.display())),
    }
}

/// Neither error's text is shown in full where it could repeat what the file holds.
fn read_key(path: &Path) -> Result<GoogleCredentials, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let json: serde_json::Value = serde_json::from_slice(&text).map_err(|_| "it is not JSON".to_owned())?;
    credentials::service_account::Builder::new(json).build().map_err(|_| "it is not a service account's key".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_metadata_server_that_is_silent_costs_seconds_and_not_for_ever() {
        // It is never asked for a connection, so the kernel makes it and nobody reads what comes.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", silent.local_addr().unwrap());
        let current = credentials::mds::Builder::default().with_endpoint(endpoint).build().unwrap();
        let renewable = Renewable(Arc::new(Inner {
            source: Credentials::Default,
            label: "gs://frames".to_owned(),
            runtime: Handle::current(),
            state: Mutex::new(State { current, pace: Pace::new(Instant::now()) }),
        }));
        let (headers, universe) = tokio::join!(renewable.headers(Extensions::new()), renewable.universe_domain());
        let error = headers.unwrap_err();
        assert!(error.to_string().contains("no access token within 4s"), "{error}");
        assert_eq!(universe, None);
    }
}
