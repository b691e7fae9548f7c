//! Every metric framehaul exports, declared in one place: those of single cameras in `cameras`, those of destinations'
//! gates in `destinations`, those of the API in `requests`, those of the manifests in `manifests`, those of recorders in
//! `nvrs`, those of the spool in `spool`, those of export tasks in `tasks`, the rest here.

mod cameras;
mod destinations;
mod manifests;
mod nvrs;
mod requests;
mod spool;
mod tasks;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use self::cameras::{CameraCollector, Cameras};
use self::destinations::Destinations;
use self::manifests::ManifestSeries;
use self::nvrs::{NvrCollector, Nvrs};
use self::requests::Requests;
use self::spool::SpoolSeries;
use self::tasks::TaskSeries;
use crate::model::{CameraId, DestinationName, TaskState, UnixMicros};
use crate::spool::SpoolStatus;
use crate::storage::BucketErrorKind;

pub use self::cameras::ShownCamera;
pub use self::nvrs::ShownNvr;
pub use self::requests::AuthFailure;

/// Seconds, 5 ms to 60 s: per destination only, never per camera.
const BUCKETS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The kinds of error that a bucket can have, so that each is exported before it happens.
const BUCKET_ERRORS: [BucketErrorKind; 5] = [
    BucketErrorKind::Transient,
    BucketErrorKind::Throttled,
    BucketErrorKind::Auth,
    BucketErrorKind::NotFound,
    BucketErrorKind::Permanent,
];

/// The metrics of one daemon. Cloning is cheap; all clones are one.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

struct Inner {
    registry: Registry,
    cameras: Cameras,
    nvrs: Nvrs,
    states: IntGaugeVec,
    uploads: IntCounterVec,
    upload_attempts: IntCounterVec,
    upload_conflicts: IntCounterVec,
    upload_bytes: IntCounterVec,
    upload_duration: HistogramVec,
    uploads_in_flight: IntGaugeVec,
    frame_age: HistogramVec,
    memory_frames: GaugeVec,
    memory_bytes: GaugeVec,
    memory_max_frames: GaugeVec,
    memory_max_bytes: GaugeVec,
    journal_commit: Histogram,
    spool: SpoolSeries,
    destinations: Destinations,
    manifests: ManifestSeries,
    tasks: TaskSeries,
    requests: Requests,
    streams: IntGauge,
    reload_successful: IntGauge,
    reload_at: Gauge,
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("framehaul")
}

fn duration(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::new(name, help).namespace("framehaul").buckets(BUCKETS.to_vec())
}

fn unix_now() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Counts something for as long as it is held.
#[derive(Debug)]
pub struct Counted(IntGauge);

impl Counted {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Declares all metrics in a registry of their own.
    ///
    /// # Errors
    ///
    /// When two of them share a name.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let by_destination = |name: &str, help: &str| HistogramVec::new(duration(name, help), &["destination"]);
        let gauge = |name: &str, help: &str| GaugeVec::new(opts(name, help), &["destination"]);
        let inner = Inner {
            cameras: Cameras::default(),
            nvrs: Nvrs::default(),
            states: IntGaugeVec::new(opts("cameras", "Cameras of the catalog, by what they are doing."), &["state"])?,
            uploads: IntCounterVec::new(
                opts("uploads_total", "Frames whose upload came to an end, by result (stored, conflict, rejected)."),
                &["destination", "result"],
            )?,
            upload_attempts: IntCounterVec::new(
                opts(
                    "upload_attempts_total",
                    "Upload attempts: stored, conflict, or the kind of error after which another is made.",
                ),
                &["destination", "result"],
            )?,
            upload_conflicts: IntCounterVec::new(
                opts("upload_conflicts_total", "Frames whose key was taken by an object with other content."),
                &["destination"],
            )?,
            upload_bytes: IntCounterVec::new(
                opts("upload_bytes_total", "Bytes of the frames stored."),
                &["destination"],
            )?,
            upload_duration: by_destination("upload_duration_seconds", "Duration of the attempt that stored a frame.")?,
            uploads_in_flight: IntGaugeVec::new(
                opts("uploads_in_flight", "Upload attempts that are being made."),
                &["destination"],
            )?,
            frame_age: by_destination(
                "frame_age_at_commit_seconds",
                "Age of a frame when the destination had confirmed it, from its capture.",
            )?,
            memory_frames: gauge(
                "memory_frames",
                "Frames in memory that are on their way to the bucket or lie nowhere else.",
            )?,
            memory_bytes: gauge(
                "memory_bytes",
                "JPEG bytes of the frames in memory that are on their way to the disk or the bucket or lie nowhere else.",
            )?,
            memory_max_frames: gauge("memory_max_frames", "Frames that memory may hold: a destination's share.")?,
            memory_max_bytes: gauge("memory_max_bytes", "JPEG bytes that memory may hold: a destination's share.")?,
            journal_commit: Histogram::with_opts(duration(
                "journal_commit_duration_seconds",
                "Time from the first write of a commit until it was on disk.",
            ))?,
            spool: SpoolSeries::new(&registry)?,
            destinations: Destinations::new(&registry)?,
            manifests: ManifestSeries::new(&registry)?,
            tasks: TaskSeries::new(&registry)?,
            requests: Requests::new(&registry)?,
            streams: IntGauge::with_opts(opts(
                "http_streams_open",
                "Clients that follow a list by server-sent events.",
            ))?,
            reload_successful: IntGauge::with_opts(opts(
                "config_last_reload_successful",
                "1 unless the configuration could not be used when it was last read.",
            ))?,
            reload_at: Gauge::with_opts(opts(
                "config_last_reload_success_timestamp_seconds",
                "When the configuration in use was read, in Unix time.",
            ))?,
            registry,
        };
        inner.register()?;
        let metrics = Self(Arc::new(inner));
        metrics.config_read(true);
        Ok(metrics)
    }

    /// Exports the metrics of a destination as zeros before the first frame goes there.
    pub fn expect_destination(&self, destination: &DestinationName) {
        let (inner, destination) = (&self.0, destination.as_str());
        inner.spool.expect(destination);
        inner.uploads.with_label_values(&[destination, "rejected"]);
        for result in ["stored", "conflict"] {
            inner.uploads.with_label_values(&[destination, result]);
            inner.upload_attempts.with_label_values(&[destination, result]);
        }
        for kind in BUCKET_ERRORS {
            inner.upload_attempts.with_label_values(&[destination, kind.as_str()]);
        }
        inner.upload_conflicts.with_label_values(&[destination]);
        inner.upload_bytes.with_label_values(&[destination]);
        inner.uploads_in_flight.with_label_values(&[destination]);
        let _: [Histogram; 2] =
            [&inner.upload_duration, &inner.frame_age].map(|vec| vec.with_label_values(&[destination]));
    }

    /// An attempt begins; it counts as in flight until the answer is dropped.
    pub fn uploading(&self, destination: &DestinationName) -> Counted {
        Counted::new(self.0.uploads_in_flight.with_label_values(&[destination.as_str()]))
    }

    /// A frame was stored: how long its last attempt took, how old it was, how large.
    pub fn upload_stored(&self, destination: &DestinationName, duration: Duration, age_seconds: f64, bytes: u64) {
        self.0.uploads.with_label_values(&[destination.as_str(), "stored"]).inc();
        self.0.upload_attempts.with_label_values(&[destination.as_str(), "stored"]).inc();
        self.0.upload_bytes.with_label_values(&[destination.as_str()]).inc_by(bytes);
        self.0.upload_duration.with_label_values(&[destination.as_str()]).observe(duration.as_secs_f64());
        self.0.frame_age.with_label_values(&[destination.as_str()]).observe(age_seconds);
    }

    /// A frame found its key taken.
    pub fn upload_conflict(&self, destination: &DestinationName) {
        self.0.uploads.with_label_values(&[destination.as_str(), "conflict"]).inc();
        self.0.upload_attempts.with_label_values(&[destination.as_str(), "conflict"]).inc();
        self.0.upload_conflicts.with_label_values(&[destination.as_str()]).inc();
    }

    /// A frame was refused for good while others were taken.
    pub fn upload_rejected(&self, destination: &DestinationName) {
        self.0.uploads.with_label_values(&[destination.as_str(), "rejected"]).inc();
        self.upload_failed(destination, BucketErrorKind::Permanent);
    }

    /// An attempt failed.
    pub fn upload_failed(&self, destination: &DestinationName, kind: BucketErrorKind) {
        self.0.upload_attempts.with_label_values(&[destination.as_str(), kind.as_str()]).inc();
    }

    /// A camera's capture ended and is scheduled again.
    pub fn reconnect(&self, camera: &CameraId, kind: &str) {
        self.0.cameras.reconnect(camera, kind);
    }

    /// Shows these cameras and forgets all others.
    pub fn show_cameras(&self, cameras: impl IntoIterator<Item = ShownCamera>) {
        self.0.cameras.show(cameras);
    }

    /// How many cameras are in a state.
    pub fn set_cameras(&self, state: &str, count: usize) {
        self.0.states.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// What is in memory.
    pub fn set_memory(&self, destination: &DestinationName, frames: usize, bytes: u64) {
        self.0.memory_frames.with_label_values(&[destination.as_str()]).set(frames as f64);
        self.0.memory_bytes.with_label_values(&[destination.as_str()]).set(bytes as f64);
    }

    /// What may be in memory.
    pub fn set_memory_budget(&self, destination: &DestinationName, frames: usize, bytes: u64) {
        self.0.memory_max_frames.with_label_values(&[destination.as_str()]).set(frames as f64);
        self.0.memory_max_bytes.with_label_values(&[destination.as_str()]).set(bytes as f64);
    }

    /// The journal has committed.
    pub fn journal_committed(&self, took: Duration) {
        self.0.journal_commit.observe(took.as_secs_f64());
    }

    /// A manifest was stored.
    pub fn manifest_stored(&self) {
        self.0.manifests.put("stored");
    }

    /// A manifest met an object with other content under its key.
    pub fn manifest_conflict(&self) {
        self.0.manifests.put("conflict");
    }

    /// A put of a manifest failed and is made again.
    pub fn manifest_failed(&self, kind: BucketErrorKind) {
        self.0.manifests.put(kind.as_str());
    }

    /// How many listed frames are in no stored manifest, since when, and how many manifests met other content.
    pub fn set_manifests(&self, frames: u64, oldest: Option<UnixMicros>, conflicts: usize) {
        self.0.manifests.set(frames, oldest, conflicts);
    }

    /// So many export tasks are in a state.
    pub fn set_tasks(&self, state: &str, count: u64) {
        self.0.tasks.set(state, count);
    }

    /// Since when the oldest export task waits that is in nobody's hands.
    pub fn set_oldest_task(&self, since: Option<UnixMicros>) {
        self.0.tasks.set_oldest(since);
    }

    /// An export task was given to a worker.
    pub fn lease_given(&self) {
        self.0.tasks.given();
    }

    /// So many leases were over without a word of their holders.
    pub fn leases_expired(&self, count: u64) {
        self.0.tasks.expired(count);
    }

    /// A word on a lease that was over, or another's, was refused.
    pub fn word_refused(&self) {
        self.0.tasks.refused();
    }

    /// An export task came to its end, so long after it was last taken.
    pub fn task_ended(&self, state: TaskState, took: Duration) {
        self.0.tasks.ended(state, took);
    }

    /// How the spool stands.
    pub fn set_spool(&self, destination: &DestinationName, status: &SpoolStatus) {
        self.0.spool.set(destination.as_str(), status);
    }

    /// The spool has committed a group of frames.
    pub fn spool_committed(&self, destination: &DestinationName, took: Duration) {
        self.0.spool.committed(destination.as_str(), took);
    }

    /// Records of the spool were found damaged.
    pub fn spool_corrupt(&self, destination: &DestinationName, records: u64) {
        self.0.spool.corrupt(destination.as_str(), records);
    }

    /// The spool's disk refused.
    pub fn spool_io_error(&self, destination: &DestinationName, op: &str) {
        self.0.spool.io_error(destination.as_str(), op);
    }

    /// A request was answered; `pattern` is the route it met, if any.
    pub fn request_answered(&self, pattern: Option<&str>, method: &str, status: u16, took: Duration) {
        self.0.requests.answered(pattern, method, status, took.as_secs_f64());
    }

    /// A request was not let in.
    pub fn auth_failed(&self, reason: AuthFailure) {
        self.0.requests.refused(reason);
    }

    /// A client follows a list, until the answer is dropped.
    pub fn streaming(&self) -> Counted {
        Counted::new(self.0.streams.clone())
    }

    /// The configuration was read, at the start or again, and could be used or not.
    pub fn config_read(&self, usable: bool) {
        self.0.reload_successful.set(i64::from(usable));
        if usable {
            self.0.reload_at.set(unix_now());
        }
    }

    /// Everything, in Prometheus's text format.
    ///
    /// # Errors
    ///
    /// When a metric cannot be written as text.
    pub fn encode(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.0.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl Inner {
    fn register(&self) -> prometheus::Result<()> {
        let build =
            GaugeVec::new(opts("build_info", "Always 1; its labels tell the program's version."), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        // The collector's own `process_start_time_seconds` is 0 where a sandbox hides /proc/stat.
        let started = Gauge::with_opts(opts("start_timestamp_seconds", "When the daemon was started, in Unix time."))?;
        started.set(unix_now());
        let registry = &self.registry;
        registry.register(Box::new(build))?;
        registry.register(Box::new(started))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        registry.register(Box::new(CameraCollector::new(self.cameras.clone())?))?;
        registry.register(Box::new(NvrCollector::new(self.nvrs.clone())?))?;
        registry.register(Box::new(self.states.clone()))?;
        registry.register(Box::new(self.uploads.clone()))?;
        registry.register(Box::new(self.upload_attempts.clone()))?;
        registry.register(Box::new(self.upload_conflicts.clone()))?;
        registry.register(Box::new(self.upload_bytes.clone()))?;
        registry.register(Box::new(self.upload_duration.clone()))?;
        registry.register(Box::new(self.uploads_in_flight.clone()))?;
        registry.register(Box::new(self.frame_age.clone()))?;
        for gauge in [&self.memory_frames, &self.memory_bytes, &self.memory_max_frames, &self.memory_max_bytes] {
            registry.register(Box::new(gauge.clone()))?;
        }
        registry.register(Box::new(self.journal_commit.clone()))?;
        registry.register(Box::new(self.streams.clone()))?;
        registry.register(Box::new(self.reload_successful.clone()))?;
        registry.register(Box::new(self.reload_at.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::CameraState;
    use crate::delivery::DestinationState;

    /// What a destination may cost a Prometheus.
    const MOST_OF_A_DESTINATION: usize = 90;
    /// What all the rest may that is not of a single camera.
    const MOST_OTHERS: usize = 155;

    #[test]
    fn everything_that_can_happen_stays_within_its_series() {
        let metrics = Metrics::new().unwrap();
        let name = DestinationName::default();
        metrics.expect_destination(&name);
        metrics.set_memory(&name, 1, 1);
        metrics.set_memory_budget(&name, 1, 1);
        for state in CameraState::ALL {
            metrics.set_cameras(state.as_str(), 1);
        }
        for kind in BUCKET_ERRORS {
            metrics.upload_failed(&name, kind);
        }
        metrics.set_destination(name.as_str(), DestinationState::Limited, Some(1.0));
        metrics.set_spool(&name, &SpoolStatus { oldest: Some(crate::model::UnixMicros(1)), ..SpoolStatus::default() });
        // Every route with the methods it takes, now or soon, and every class of answer they can give.
        let routes = [
            ("/livez", &["GET"] as &[&str]),
            ("/readyz", &["GET"]),
            ("/metrics", &["GET"]),
            ("/api/v1/cameras", &["GET", "PUT", "POST", "DELETE"]),
            ("/api/v1/cameras/{id}/frames", &["GET"]),
            ("/api/v1/frames/stream", &["GET"]),
            ("/api/v1/cameras/{id}/snapshot.jpg", &["GET"]),
            ("/api/v1/debug/panic", &["POST"]),
        ];
        for (route, methods) in routes {
            for method in methods {
                for status in [200, 304, 400, 401, 405, 500] {
                    metrics.request_answered(Some(route), method, status, Duration::ZERO);
                }
            }
        }
        for method in ["GET", "BREW"] {
            metrics.request_answered(None, method, 404, Duration::ZERO);
            metrics.request_answered(None, method, 500, Duration::ZERO);
        }
        let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
        let series = text.lines().filter(|line| !line.starts_with('#'));
        let (of_destination, others): (Vec<_>, Vec<_>) = series.partition(|line| line.contains("destination="));
        assert!((40..=MOST_OF_A_DESTINATION).contains(&of_destination.len()), "{}:\n{text}", of_destination.len());
        assert!((80..=MOST_OTHERS).contains(&others.len()), "{}:\n{text}", others.len());
    }

    #[test]
    fn what_is_held_is_counted_and_what_is_dropped_is_not() {
        let metrics = Metrics::new().unwrap();
        let gauge = || {
            let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
            text.lines().find_map(|line| line.strip_prefix("framehaul_http_streams_open ")).unwrap().to_owned()
        };
        let held = (metrics.streaming(), metrics.streaming());
        assert_eq!(gauge(), "2");
        drop(held);
        assert_eq!(gauge(), "0");
    }
}
