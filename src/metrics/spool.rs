//! The series of the spool.

use std::time::Duration;

use prometheus::{GaugeVec, HistogramVec, IntCounterVec, IntGaugeVec, Registry};

use super::{duration, opts};
use crate::spool::SpoolStatus;

/// What the disk can refuse, so that each is exported before it does.
const OPS: [&str; 5] = ["allocate", "read", "remove", "sync", "write"];

/// What is exported of the spool.
pub(super) struct SpoolSeries {
    frames: GaugeVec,
    size: GaugeVec,
    max_size: GaugeVec,
    /// No series while no frame waits: its age would be that of 1970.
    oldest: GaugeVec,
    full: IntGaugeVec,
    fsync: HistogramVec,
    corrupt: IntCounterVec,
    io_errors: IntCounterVec,
}

impl SpoolSeries {
    /// Declares them in a registry.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| GaugeVec::new(opts(name, help), &["destination"]);
        let series = Self {
            frames: gauge("spool_frames", "Frames on disk whose outcome is not known yet.")?,
            size: gauge("spool_size_bytes", "Bytes that the files of a destination's spool take.")?,
            max_size: gauge("spool_max_size_bytes", "Bytes that the files of a destination's spool may take.")?,
            oldest: gauge(
                "spool_oldest_frame_timestamp_seconds",
                "When the oldest frame in the spool was captured, in Unix time; none while the spool is empty.",
            )?,
            full: IntGaugeVec::new(
                opts(
                    "spool_full",
                    "1 while the spool has no room for new frames: its cap is reached, or the disk is full.",
                ),
                &["destination"],
            )?,
            fsync: HistogramVec::new(
                duration("spool_fsync_duration_seconds", "Time until a group of frames was on disk (fdatasync)."),
                &["destination"],
            )?,
            corrupt: IntCounterVec::new(
                opts(
                    "spool_corrupt_records_total",
                    "Records, or stretches of them, that were found damaged at the start or when they were read.",
                ),
                &["destination"],
            )?,
            io_errors: IntCounterVec::new(
                opts("spool_io_errors_total", "Times the spool's disk refused, by what it was asked for."),
                &["destination", "op"],
            )?,
        };
        for gauge in [&series.frames, &series.size, &series.max_size, &series.oldest] {
            registry.register(Box::new(gauge.clone()))?;
        }
        registry.register(Box::new(series.full.clone()))?;
        registry.register(Box::new(series.fsync.clone()))?;
        registry.register(Box::new(series.corrupt.clone()))?;
        registry.register(Box::new(series.io_errors.clone()))?;
        Ok(series)
    }

    /// Exports what is counted of a destination's spool as zeros.
    pub(super) fn expect(&self, destination: &str) {
        for op in OPS {
            self.io_errors.with_label_values(&[destination, op]);
        }
        self.corrupt.with_label_values(&[destination]);
        self.fsync.with_label_values(&[destination]);
    }

    pub(super) fn set(&self, destination: &str, status: &SpoolStatus) {
        let labels = &[destination];
        self.frames.with_label_values(labels).set(status.frames as f64);
        self.size.with_label_values(labels).set(status.size as f64);
        self.max_size.with_label_values(labels).set(status.max_size as f64);
        self.full.with_label_values(labels).set(i64::from(status.full));
        match status.oldest {
            Some(at) => self.oldest.with_label_values(labels).set(at.as_secs_f64()),
            // An error means that there is no such series.
            None => drop(self.oldest.remove_label_values(labels)),
        }
    }

    pub(super) fn committed(&self, destination: &str, took: Duration) {
        self.fsync.with_label_values(&[destination]).observe(took.as_secs_f64());
    }

    pub(super) fn corrupt(&self, destination: &str, records: u64) {
        self.corrupt.with_label_values(&[destination]).inc_by(records);
    }

    pub(super) fn io_error(&self, destination: &str, op: &str) {
        self.io_errors.with_label_values(&[destination, op]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::model::{DestinationName, UnixMicros};

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
        let [nas, other] = [DestinationName::default(), "other".parse().unwrap()];
        metrics.set_spool(&nas, &status);
        metrics.set_spool(&other, &status);
        let line = |name: &str, destination: &DestinationName, value: &str| {
            format!("framehaul_spool_{name}{{destination=\"{destination}\"}} {value}")
        };
        for (name, value) in
            [("frames", "2"), ("oldest_frame_timestamp_seconds", "1.5"), ("full", "1"), ("size_bytes", "67108864")]
        {
            assert!(shown(&metrics, &line(name, &nas, value)), "{name}: {:#?}", spool_lines(&metrics));
        }
        metrics.set_spool(&nas, &SpoolStatus::default());
        assert!(shown(&metrics, &line("full", &nas, "0")));
        assert!(!spool_lines(&metrics).iter().any(|shown| shown.starts_with(&line(
            "oldest_frame_timestamp_seconds",
            &nas,
            ""
        ))));
        assert!(shown(&metrics, &line("oldest_frame_timestamp_seconds", &other, "1.5")));
    }

    #[test]
    fn every_kind_of_refusal_is_there_before_it_happens() {
        let metrics = Metrics::new().unwrap();
        let name = DestinationName::default();
        metrics.expect_destination(&name);
        metrics.spool_io_error(&name, "sync");
        metrics.spool_corrupt(&name, 3);
        let lines = spool_lines(&metrics);
        for op in OPS {
            let line = format!(
                "framehaul_spool_io_errors_total{{destination=\"default\",op=\"{op}\"}} {}",
                u64::from(op == "sync")
            );
            assert!(lines.contains(&line), "{line}: {lines:#?}");
        }
        assert!(
            lines.contains(&"framehaul_spool_corrupt_records_total{destination=\"default\"} 3".to_owned()),
            "{lines:#?}"
        );
    }
}
