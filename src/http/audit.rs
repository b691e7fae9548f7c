//! What is written down about callers, all under the log target `framehaul::audit`: each call that may change
//! something, once, with whose token it carried; and who was turned away, as far as that does not fill a disk.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::dev::ServiceRequest;
use actix_web::http::{Method, StatusCode};
use tracing::{info, warn};

const TARGET: &str = "framehaul::audit";

/// A path as a log may repeat it.
fn shown(path: &str) -> String {
    path.chars().take(200).flat_map(char::escape_debug).collect()
}

/// A call that may change something. It is written down when it is over, also when its caller has gone before that.
#[derive(Debug)]
pub struct Call {
    token: Arc<str>,
    method: Method,
    route: String,
    peer: Option<SocketAddr>,
    /// What was answered, once that is known.
    pub status: Option<StatusCode>,
    /// Whether it is not to be written down.
    routine: bool,
}

impl Call {
    /// Begins the record of a call.
    pub fn new(token: Arc<str>, request: &ServiceRequest) -> Self {
        let (method, route) = (request.method().clone(), shown(request.path()));
        Self { token, method, route, peer: request.peer_addr(), status: None, routine: false }
    }

    /// Leaves the call out of what is written down: it has changed nothing that anybody could see.
    pub fn forget(mut self) {
        self.routine = true;
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let Self { token, method, route, peer, status, routine } = self;
        if *routine {
            return;
        }
        let peer = peer.map(tracing::field::display);
        match status.map(|status| status.as_u16()) {
            Some(status) => info!(target: TARGET, %token, %method, %route, status, peer, "call"),
            None => {
                info!(target: TARGET, %token, %method, %route, peer, "call whose caller did not wait for the answer")
            }
        }
    }
}

/// Lines about refusals that are written in one [`WINDOW`].
const LINES: u32 = 20;
const WINDOW: Duration = Duration::from_secs(60);

/// Writes down who was turned away, and no more of that than a scanner may cost.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Quota>);

impl Refusals {
    /// Writes down that a request was turned away, and why. What it carried as a token is not repeated.
    pub fn record(&self, request: &ServiceRequest, reason: &'static str, token: Option<&str>) {
        // A panic leaves no half-done change behind.
        let Some(left_out) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) else { return };
        let (method, route) = (shown(request.method().as_str()), shown(request.path()));
        let peer = request.peer_addr().map(tracing::field::display);
        warn!(target: TARGET, reason, token, peer, %method, %route, left_out, "request turned away");
    }
}

/// So many lines in so much time; what is beyond is counted.
#[derive(Debug, Default)]
struct Quota {
    began: Option<Instant>,
    written: u32,
    left_out: u64,
}

impl Quota {
    /// Whether a line may be written now, and how many were not since the last one.
    fn take(&mut self, now: Instant) -> Option<u64> {
        if self.began.is_none_or(|began| now.saturating_duration_since(began) >= WINDOW) {
            self.began = Some(now);
            self.written = 0;
        }
        if self.written == LINES {
            self.left_out += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scanner_gets_twenty_lines_a_minute() {
        let (mut quota, start) = (Quota::default(), Instant::now());
        let mut written = |seconds: u64, requests: usize| {
            let now = start + Duration::from_secs(seconds);
            (0..requests).filter_map(|_| quota.take(now)).collect::<Vec<_>>()
        };
        assert_eq!(written(0, 1_000), [0; 20]);
        assert!(written(59, 1_000).is_empty());
        assert_eq!(written(60, 2), [1_980, 0]);
        assert_eq!(written(61, 1_000).len(), 18);
        assert_eq!(written(1_000, 1), [982]);
    }

    #[test]
    fn a_path_cannot_forge_a_line() {
        assert_eq!(shown("/a\n\u{202e}b"), "/a\\n\\u{202e}b");
        assert_eq!(shown(&"x".repeat(5_000)).len(), 200);
    }
}
