//! Every metric framehaul exports, declared in one place.

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::journal::Ledgers;
use crate::storage::BucketErrorKind;

/// Seconds, 5 ms to 60 s: per destination only, never per camera.
const BUCKETS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The metrics of one daemon. Cloning is cheap; all clones are one.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    cameras: IntGaugeVec,
    reconnects: IntCounterVec,
    uploads: IntCounterVec,
    upload_attempts_failed: IntCounterVec,
    upload_conflicts: IntCounterVec,
    upload_bytes: IntCounterVec,
    upload_duration: HistogramVec,
    frame_age: HistogramVec,
    memory_frames: Gauge,
    memory_bytes: Gauge,
}

impl Metrics {
    /// Declares all metrics in a registry of their own.
    ///
    /// # Errors
    ///
    /// When two of them share a name.
    pub fn new(ledgers: Ledgers) -> prometheus::Result<Self> {
        let opts = |name: &str, help: &str| Opts::new(name, help).namespace("framehaul");
        let histogram = |name: &str, help: &str| {
            HistogramVec::new(
                HistogramOpts::new(name, help).namespace("framehaul").buckets(BUCKETS.to_vec()),
                &["destination"],
            )
        };
        let inner = Inner {
            registry: Registry::new(),
            cameras: IntGaugeVec::new(opts("cameras", "Cameras of the catalog, by what they are doing."), &["state"])?,
            reconnects: IntCounterVec::new(
                opts("camera_reconnects_total", "Times a camera's capture ended and was scheduled again, by reason."),
                &["camera", "reason"],
            )?,
            uploads: IntCounterVec::new(
                opts("uploads_total", "Frames whose upload came to an end, by result (stored, conflict)."),
                &["destination", "result"],
            )?,
            upload_attempts_failed: IntCounterVec::new(
                opts(
                    "upload_attempts_failed_total",
                    "Upload attempts that failed and are made again, by kind of error.",
                ),
                &["destination", "kind"],
            )?,
            upload_conflicts: IntCounterVec::new(
                opts("upload_conflicts_total", "Frames whose key was taken by an object with other content."),
                &["destination"],
            )?,
            upload_bytes: IntCounterVec::new(
                opts("upload_bytes_total", "Bytes of the frames stored."),
                &["destination"],
            )?,
            upload_duration: histogram("upload_duration_seconds", "Duration of the attempt that stored a frame.")?,
            frame_age: histogram(
                "frame_age_at_commit_seconds",
                "Age of a frame when the destination had confirmed it, from its capture.",
            )?,
            memory_frames: Gauge::with_opts(opts("memory_frames", "Frames in memory, waiting or on their way."))?,
            memory_bytes: Gauge::with_opts(opts("memory_bytes", "JPEG bytes of the frames in memory."))?,
        };
        let build =
            GaugeVec::new(opts("build_info", "Always 1; its labels tell the program's version."), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        inner.registry.register(Box::new(build))?;
        inner.registry.register(Box::new(inner.cameras.clone()))?;
        inner.registry.register(Box::new(inner.reconnects.clone()))?;
        inner.registry.register(Box::new(inner.uploads.clone()))?;
        inner.registry.register(Box::new(inner.upload_attempts_failed.clone()))?;
        inner.registry.register(Box::new(inner.upload_conflicts.clone()))?;
        inner.registry.register(Box::new(inner.upload_bytes.clone()))?;
        inner.registry.register(Box::new(inner.upload_duration.clone()))?;
        inner.registry.register(Box::new(inner.frame_age.clone()))?;
        inner.registry.register(Box::new(inner.memory_frames.clone()))?;
        inner.registry.register(Box::new(inner.memory_bytes.clone()))?;
        inner.registry.register(Box::new(LedgerCollector::new(ledgers)?))?;
        Ok(Self(Arc::new(inner)))
    }

    /// Exports the metrics of a destination as zeros before the first frame goes there.
    pub fn expect_destination(&self, destination: &str) {
        self.0.uploads.with_label_values(&[destination, "stored"]);
        self.0.uploads.with_label_values(&[destination, "conflict"]);
        self.0.upload_conflicts.with_label_values(&[destination]);
        self.0.upload_bytes.with_label_values(&[destination]);
        let _: [Histogram; 2] =
            [&self.0.upload_duration, &self.0.frame_age].map(|vec| vec.with_label_values(&[destination]));
    }

    /// A frame was stored: how long its last attempt took, how old it was, how large.
    pub fn upload_stored(&self, destination: &str, duration: Duration, age_seconds: f64, bytes: u64) {
        self.0.uploads.with_label_values(&[destination, "stored"]).inc();
        self.0.upload_bytes.with_label_values(&[destination]).inc_by(bytes);
        self.0.upload_duration.with_label_values(&[destination]).observe(duration.as_secs_f64());
        self.0.frame_age.with_label_values(&[destination]).observe(age_seconds);
    }

    /// A frame found its key taken.
    pub fn upload_conflict(&self, destination: &str) {
        self.0.uploads.with_label_values(&[destination, "conflict"]).inc();
        self.0.upload_conflicts.with_label_values(&[destination]).inc();
    }

    /// An attempt failed.
    pub fn upload_failed(&self, destination: &str, kind: BucketErrorKind) {
        self.0.upload_attempts_failed.with_label_values(&[destination, kind.as_str()]).inc();
    }

    /// A camera's capture ended and is scheduled again.
    pub fn reconnect(&self, camera: &str, reason: &str) {
        self.0.reconnects.with_label_values(&[camera, reason]).inc();
    }

    /// How many cameras are in a state.
    pub fn set_cameras(&self, state: &str, count: usize) {
        self.0.cameras.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// What is in memory.
    pub fn set_memory(&self, frames: usize, bytes: u64) {
        self.0.memory_frames.set(frames as f64);
        self.0.memory_bytes.set(bytes as f64);
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

/// Exports each camera's totals from one snapshot of its ledger, so that they agree at every scrape.
struct LedgerCollector {
    ledgers: Ledgers,
    descs: Vec<Desc>,
}

const PER_CAMERA: [(&str, &str); 3] = [
    ("camera_frames_captured_total", "Frames that were given a place in the camera's order."),
    ("camera_frames_stored_total", "Frames that are in the bucket."),
    ("camera_frames_lost_total", "Frames that could not be kept; the list tells each one's reason."),
];
const IN_FLIGHT: (&str, &str) = ("camera_frames_in_flight", "Frames whose outcome is not known yet.");
const LAST_FRAME: (&str, &str) =
    ("camera_last_frame_timestamp_seconds", "When the camera's newest frame was captured, in Unix time.");

impl LedgerCollector {
    fn new(ledgers: Ledgers) -> prometheus::Result<Self> {
        let named = PER_CAMERA.iter().chain([&IN_FLIGHT, &LAST_FRAME]);
        let descs = named
            .map(|(name, help)| {
                Desc::new(
                    format!("framehaul_{name}"),
                    (*help).to_owned(),
                    vec!["camera".to_owned()],
                    Default::default(),
                )
            })
            .collect::<prometheus::Result<_>>()?;
        Ok(Self { ledgers, descs })
    }

    fn families(&self) -> prometheus::Result<Vec<MetricFamily>> {
        let opts = |(name, help): (&str, &str)| Opts::new(name, help).namespace("framehaul");
        let counters = [0, 1, 2].map(|i| IntCounterVec::new(opts(PER_CAMERA[i]), &["camera"]));
        let [captured, stored, lost] = counters;
        let (captured, stored, lost) = (captured?, stored?, lost?);
        let in_flight = IntGaugeVec::new(opts(IN_FLIGHT), &["camera"])?;
        let last_frame = GaugeVec::new(opts(LAST_FRAME), &["camera"])?;
        for ledger in self.ledgers.all() {
            let totals = ledger.totals();
            let camera = &[ledger.camera().as_str()];
            captured.with_label_values(camera).inc_by(totals.captured);
            stored.with_label_values(camera).inc_by(totals.stored);
            lost.with_label_values(camera).inc_by(totals.lost);
            in_flight.with_label_values(camera).set(i64::try_from(totals.in_flight).unwrap_or(i64::MAX));
            if let Some(at) = ledger.last_captured_at() {
                last_frame.with_label_values(camera).set(at.as_secs_f64());
            }
        }
        let mut families = captured.collect();
        families.extend(stored.collect());
        families.extend(lost.collect());
        families.extend(in_flight.collect());
        families.extend(last_frame.collect());
        Ok(families)
    }
}

impl Collector for LedgerCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.families().expect("the names were accepted when the collector was made")
    }
}
