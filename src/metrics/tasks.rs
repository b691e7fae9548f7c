//! The series of export tasks and of the leases on them.

use std::time::Duration;

use prometheus::{GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Registry};

use super::opts;
use crate::model::{TaskState, UnixMicros};

/// Seconds, from a task whose recordings were all there to a day of a slow recorder.
const BUCKETS: [f64; 8] = [1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 28_800.0];

/// What is exported of tasks.
pub(super) struct TaskSeries {
    states: IntGaugeVec,
    leases: IntCounter,
    expirations: IntCounter,
    fenced: IntCounter,
    ends: IntCounterVec,
    duration: Histogram,
    /// No series while nothing waits: its age would be that of 1970.
    oldest: GaugeVec,
}

impl TaskSeries {
    /// Declares them in a registry.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let duration =
            HistogramOpts::new("task_duration_seconds", "Time from when an export task was last taken until its end.")
                .namespace("framehaul")
                .buckets(BUCKETS.to_vec());
        let series = Self {
            states: IntGaugeVec::new(
                opts("tasks", "Export tasks of all exports that were not removed, by what they are doing."),
                &["state"],
            )?,
            leases: IntCounter::with_opts(opts("task_leases_total", "Export tasks that were given to workers."))?,
            expirations: IntCounter::with_opts(opts(
                "task_lease_expirations_total",
                "Leases on export tasks that ended because nothing was heard of the worker.",
            ))?,
            fenced: IntCounter::with_opts(opts(
                "task_fenced_writes_total",
                "Words of workers on leases that were over, or another's: refused, and nothing was changed by them.",
            ))?,
            ends: IntCounterVec::new(
                opts("task_ends_total", "Export tasks that came to an end in a worker's hands, by which."),
                &["state"],
            )?,
            duration: Histogram::with_opts(duration)?,
            oldest: GaugeVec::new(
                opts(
                    "task_oldest_pending_timestamp_seconds",
                    "Since when the oldest export task waits that is in nobody's hands, in Unix time; none while there is none.",
                ),
                &[],
            )?,
        };
        for state in TaskState::ALL {
            series.states.with_label_values(&[state.as_str()]);
        }
        for state in TaskState::ALL.into_iter().filter(|state| state.is_over()) {
            series.ends.with_label_values(&[state.as_str()]);
        }
        registry.register(Box::new(series.states.clone()))?;
        registry.register(Box::new(series.leases.clone()))?;
        registry.register(Box::new(series.expirations.clone()))?;
        registry.register(Box::new(series.fenced.clone()))?;
        registry.register(Box::new(series.ends.clone()))?;
        registry.register(Box::new(series.duration.clone()))?;
        registry.register(Box::new(series.oldest.clone()))?;
        Ok(series)
    }

    pub(super) fn set(&self, state: &str, count: u64) {
        self.states.with_label_values(&[state]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(super) fn set_oldest(&self, since: Option<UnixMicros>) {
        match since {
            Some(at) => self.oldest.with_label_values::<&str>(&[]).set(at.as_secs_f64()),
            None => self.oldest.reset(),
        }
    }

    pub(super) fn given(&self) {
        self.leases.inc();
    }

    pub(super) fn expired(&self, count: u64) {
        self.expirations.inc_by(count);
    }

    pub(super) fn refused(&self) {
        self.fenced.inc();
    }

    pub(super) fn ended(&self, state: TaskState, took: Duration) {
        self.ends.with_label_values(&[state.as_str()]).inc();
        // What is called off says nothing of how long tasks take.
        if state != TaskState::Cancelled {
            self.duration.observe(took.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::metrics::Metrics;
    use crate::model::{TaskState, UnixMicros};

    #[test]
    fn every_series_is_there_before_it_happens_and_nothing_that_waits_has_no_age() {
        let metrics = Metrics::new().unwrap();
        let shown = |line: &str| {
            let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
            text.lines().any(|found| found.strip_prefix("framehaul_task") == Some(line))
        };
        for line in ["s{state=\"queued\"} 0", "s{state=\"cancelled\"} 0", "_leases_total 0", "_fenced_writes_total 0"] {
            assert!(shown(line), "{line}");
        }
        metrics.set_tasks("queued", 7);
        metrics.lease_given();
        metrics.leases_expired(2);
        metrics.word_refused();
        metrics.task_ended(TaskState::Done, Duration::from_secs(3));
        metrics.task_ended(TaskState::Cancelled, Duration::from_secs(3));
        metrics.set_oldest_task(Some(UnixMicros(1_500_000)));
        for line in [
            "s{state=\"queued\"} 7",
            "_leases_total 1",
            "_lease_expirations_total 2",
            "_fenced_writes_total 1",
            "_ends_total{state=\"done\"} 1",
            "_ends_total{state=\"failed\"} 0",
            "_ends_total{state=\"cancelled\"} 1",
            "_duration_seconds_count 1",
            "_oldest_pending_timestamp_seconds 1.5",
        ] {
            assert!(shown(line), "{line}");
        }
        metrics.set_oldest_task(None);
        assert!(!shown("_oldest_pending_timestamp_seconds 1.5"));
    }
}
