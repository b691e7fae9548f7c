//! Requests to the API, with labels of which there are few whatever clients send.

use prometheus::{Histogram, IntCounterVec, Registry};

use super::{duration, opts};

/// What a request is for, and what a path that does not exist comes under. One word stands for all paths of its kind.
const OTHER: &str = "other";

/// Counts requests and times them.
pub(super) struct Requests {
    total: IntCounterVec,
    duration: Histogram,
    refused: IntCounterVec,
}

/// Why a request was not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AuthFailure {
    /// It carried no token.
    Missing,
    /// It carried a token that is none of ours.
    Wrong,
    /// Its token may not do this.
    Scope,
    /// It came by a host name or from a page that is not ours.
    Origin,
}

impl AuthFailure {
    const ALL: [Self; 4] = [Self::Missing, Self::Wrong, Self::Scope, Self::Origin];

    fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Wrong => "wrong",
            Self::Scope => "scope",
            Self::Origin => "origin",
        }
    }
}

impl Requests {
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let requests = Self {
            total: IntCounterVec::new(
                opts("http_requests_total", "Requests answered, by what they were for and how that went."),
                &["route", "method", "code_class"],
            )?,
            duration: Histogram::with_opts(duration(
                "http_request_duration_seconds",
                "Time from a request's arrival until its answer began.",
            ))?,
            refused: IntCounterVec::new(
                opts("auth_failures_total", "Requests that were not let in, by reason."),
                &["reason"],
            )?,
        };
        for reason in AuthFailure::ALL {
            requests.refused.with_label_values(&[reason.as_str()]);
        }
        registry.register(Box::new(requests.total.clone()))?;
        registry.register(Box::new(requests.duration.clone()))?;
        registry.register(Box::new(requests.refused.clone()))?;
        Ok(requests)
    }

    /// Counts a request that was answered. `pattern` is the route it met, if any.
    pub(super) fn answered(&self, pattern: Option<&str>, method: &str, status: u16, seconds: f64) {
        let route = pattern.map_or(OTHER, route);
        // A method that the route does not take is the client's word, of which there is no end; so is that of a client
        // that was not let in.
        let method = match method {
            _ if route == OTHER || matches!(status, 401 | 403 | 405 | 421) => OTHER,
            "GET" => "GET",
            "PUT" => "PUT",
            "POST" => "POST",
            "DELETE" => "DELETE",
            _ => OTHER,
        };
        let class = match status {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.total.with_label_values(&[route, method, class]).inc();
        self.duration.observe(seconds);
    }

    pub(super) fn refused(&self, reason: AuthFailure) {
        self.refused.with_label_values(&[reason.as_str()]).inc();
    }
}

/// The word for a route. Routes that are asked for by different programs have different ones.
fn route(pattern: &str) -> &'static str {
    let path = pattern.strip_prefix("/api/v1").unwrap_or(pattern);
    match path {
        "/livez" => "livez",
        "/readyz" => "readyz",
        "/metrics" => "metrics",
        _ if path.ends_with("/frames/stream") => "stream",
        _ if path.ends_with("/frames") => "frames",
        _ if path.ends_with("/snapshot.jpg") => "snapshot",
        _ if path.starts_with("/cameras") => "cameras",
        _ if path.starts_with("/destinations") => "destinations",
        _ if path.starts_with("/exports") => "exports",
        _ if path.starts_with("/leases") || path.starts_with("/tasks/") => "leases",
        _ if path.starts_with("/debug/") => "debug",
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_have_few_words() {
        for (pattern, word) in [
            ("/livez", "livez"),
            ("/metrics", "metrics"),
            ("/api/v1/cameras", "cameras"),
            ("/api/v1/cameras/{id}", "cameras"),
            ("/api/v1/cameras/{id}/pause", "cameras"),
            ("/api/v1/cameras/{id}/frames", "frames"),
            ("/api/v1/cameras/{id}/frames/stream", "stream"),
            ("/api/v1/frames/stream", "stream"),
            ("/api/v1/destinations/{name}", "destinations"),
            ("/api/v1/exports/{id}/tasks", "exports"),
            ("/api/v1/leases/{id}/heartbeat", "leases"),
            ("/api/v1/tasks/next", "leases"),
            ("/api/v1/debug/panic", "debug"),
            ("/api/v1/", "other"),
        ] {
            assert_eq!(route(pattern), word, "{pattern}");
        }
    }

    #[test]
    fn what_clients_make_up_costs_no_series() {
        let requests = Requests::new(&Registry::new()).unwrap();
        for method in ["GET", "PUT", "POST", "DELETE", "PATCH", "BREW", "\u{e9}"] {
            requests.answered(None, method, 404, 0.0);
            requests.answered(Some("/metrics"), method, 405, 0.0);
            requests.answered(Some("/metrics"), method, 401, 0.0);
            requests.answered(Some("/metrics"), method, 403, 0.0);
        }
        let found = prometheus::core::Collector::collect(&requests.total);
        assert_eq!(found[0].get_metric().len(), 2);
    }
}
