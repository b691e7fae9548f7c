//! The series of the spool.

use std::time::Duration;

use prometheus::{Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

use super::{duration, opts};
use crate::spool::SpoolStatus;

/// What the disk can refuse, so that each is exported before it does.
const OPS: [&str; 5] = ["allocate", "read", "remove", "sync", "write"];

/// What is exported of the spool.
pub(super) struct SpoolSeries {
    frames: Gauge,
    size: Gauge,
    max_size: Gauge,
    /// No series while no frame waits: its age would be that of 1970.
    oldest: GaugeVec,
    full: IntGauge,
    fsync: Histogram,
    corrupt: IntCounter,
    io_errors: IntCounterVec,
}

impl SpoolSeries {
    /// Declares them in a registry.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let series = Self {
            frames: Gauge::with_opts(opts("spool_frames", "Frames on disk whose outcome is not known yet."))?,
            size: Gauge::with_opts(opts("spool_size_bytes", "Bytes that the spool's files take."))?,
            max_size: Gauge::with_opts(opts("spool_max_size_bytes", "Bytes that the spool's files may take."))?,
            oldest: GaugeVec::new(
                opts(
                    "spool_oldest_frame_timestamp_seconds",
                    "When the oldest frame in the spool was captured, in Unix time; none while the spool is empty.",
                ),
                &[],
            )?,
            full: IntGauge::with_opts(opts(
                "spool_full",
                "1 while the spool has no room for new frames: its cap is reached, or the disk is full.",
            ))?,
            fsync: Histogram::with_opts(duration(
                "spool_fsync_duration_seconds",
                "Time until a group of frames was on disk (fdatasync).",
            ))?,
            corrupt: IntCounter::with_opts(opts(
                "spool_corrupt_records_total",
                "Records, or stretches of them, that were found damaged at the start or when they were read.",
            ))?,
            io_errors: IntCounterVec::new(
                opts("spool_io_errors_total", "Times the spool's disk refused, by what it was asked for."),
                &["op"],
            )?,
        };
        for op in OPS {
            series.io_errors.with_label_values(&[op]);
        }
        for gauge in [&series.frames, &series.size, &series.max_size] {
            registry.register(Box::new(gauge.clone()))?;
        }
        registry.register(Box::new(series.oldest.clone()))?;
        registry.register(Box::new(series.full.clone()))?;
        registry.register(Box::new(series.fsync.clone()))?;
        registry.register(Box::new(series.corrupt.clone()))?;
        registry.register(Box::new(series.io_errors.clone()))?;
        Ok(series)
    }

    pub(super) fn set(&self, status: &SpoolStatus) {
        self.frames.set(status.frames as f64);
        self.size.set(status.size as f64);
        self.max_size.set(status.max_size as f64);
        self.full.set(i64::from(status.full));
        match status.oldest {
            Some(at) => self.oldest.with_label_values::<&str>(&[]).set(at.as_secs_f64()),
            None => self.oldest.reset(),
        }
    }

    pub(super) fn committed(&self, took: Duration) {
        self.fsync.observe(took.as_secs_f64());
    }

    pub(super) fn corrupt(&self, records: u64) {
        self.corrupt.inc_by(records);
    }

    pub(super) fn io_error(&self, op: &str) {
        self.io_errors.with_label_values(&[op]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::model::UnixMicros;

    fn spool_lines(metrics: &Metrics) -> Vec<String> {
        let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
        text.lines().filter(|line| line.starts_with("framehaul_spool_")).map(str::to_owned).collect()
    }

    #[test]
    fn an_empty_spool_has_no_oldest_frame() {
        let metrics = Metrics::new().unwrap();
        let shown = |metrics: &Metrics, line: &str| spool_lines(metrics).iter().any(|found| found == line);
        let mut status = SpoolStatus { frames: 2, size: 1 << 26, max_size: 1 << 30, full: true, ..Default::default() };
        status.oldest = Some(UnixMicros(1_500_000));
        metrics.set_spool(&status);
        for line in ["frames 2", "oldest_frame_timestamp_seconds 1.5", "full 1", "size_bytes 67108864"] {
            assert!(shown(&metrics, &format!("framehaul_spool_{line}")), "{line}: {:#?}", spool_lines(&metrics));
        }
        metrics.set_spool(&SpoolStatus::default());
        assert!(shown(&metrics, "framehaul_spool_full 0"));
        assert!(!spool_lines(&metrics).iter().any(|line| line.contains("oldest")));
    }

    #[test]
    fn every_kind_of_refusal_is_there_before_it_happens() {
        let metrics = Metrics::new().unwrap();
        metrics.spool_io_error("sync");
        metrics.spool_corrupt(3);
        let lines = spool_lines(&metrics);
        for op in OPS {
            let line = format!("framehaul_spool_io_errors_total{{op=\"{op}\"}} {}", u64::from(op == "sync"));
            assert!(lines.contains(&line), "{line}: {lines:#?}");
        }
        assert!(lines.contains(&"framehaul_spool_corrupt_records_total 3".to_owned()), "{lines:#?}");
    }
}
