//! The series of the manifests.

use prometheus::{Gauge, GaugeVec, IntCounterVec, IntGauge, Registry};

use super::{BUCKET_ERRORS, opts};
use crate::model::UnixMicros;

/// What is exported of the manifests.
pub(super) struct ManifestSeries {
    results: IntCounterVec,
    pending: Gauge,
    /// No series while nothing waits: its age would be that of 1970.
    oldest: GaugeVec,
    conflicts: IntGauge,
}

impl ManifestSeries {
    /// Declares them in a registry.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let series = Self {
            results: IntCounterVec::new(
                opts(
                    "manifests_total",
                    "Puts of manifests: stored, conflict, or the kind of error after which another is made.",
                ),
                &["result"],
            )?,
            pending: Gauge::with_opts(opts(
                "manifest_pending_frames",
                "Frames that are listed, as stored or lost, and in no manifest in the bucket yet.",
            ))?,
            oldest: GaugeVec::new(
                opts(
                    "manifest_oldest_pending_timestamp_seconds",
                    "Since when the oldest of them has been listed, in Unix time; none while there are none.",
                ),
                &[],
            )?,
            conflicts: IntGauge::with_opts(opts(
                "manifest_conflicts",
                "Manifests that wait for a person, because an object with other content stands under their keys.",
            ))?,
        };
        for result in ["stored", "conflict"].into_iter().chain(BUCKET_ERRORS.map(|kind| kind.as_str())) {
            series.results.with_label_values(&[result]);
        }
        registry.register(Box::new(series.results.clone()))?;
        registry.register(Box::new(series.pending.clone()))?;
        registry.register(Box::new(series.oldest.clone()))?;
        registry.register(Box::new(series.conflicts.clone()))?;
        Ok(series)
    }

    pub(super) fn put(&self, result: &str) {
        self.results.with_label_values(&[result]).inc();
    }

    pub(super) fn set(&self, frames: u64, oldest: Option<UnixMicros>, conflicts: usize) {
        self.pending.set(frames as f64);
        self.conflicts.set(i64::try_from(conflicts).unwrap_or(i64::MAX));
        match oldest {
            Some(at) => self.oldest.with_label_values::<&str>(&[]).set(at.as_secs_f64()),
            None => self.oldest.reset(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::metrics::Metrics;
    use crate::model::UnixMicros;
    use crate::storage::BucketErrorKind;

    #[test]
    fn every_result_is_there_before_it_happens_and_nothing_that_waits_has_no_age() {
        let metrics = Metrics::new().unwrap();
        let shown = |line: &str| {
            let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
            text.lines().any(|found| found.strip_prefix("framehaul_") == Some(line))
        };
        metrics.manifest_stored();
        metrics.manifest_failed(BucketErrorKind::Auth);
        for (result, count) in [("stored", 1), ("conflict", 0), ("transient", 0), ("throttled", 0), ("auth", 1)] {
            assert!(shown(&format!("manifests_total{{result=\"{result}\"}} {count}")), "{result}");
        }
        metrics.set_manifests(7, Some(UnixMicros(1_500_000)), 1);
        for line in ["pending_frames 7", "oldest_pending_timestamp_seconds 1.5", "conflicts 1"] {
            assert!(shown(&format!("manifest_{line}")), "{line}");
        }
        metrics.set_manifests(0, None, 0);
        assert!(shown("manifest_pending_frames 0") && !shown("manifest_oldest_pending_timestamp_seconds 1.5"));
    }
}
