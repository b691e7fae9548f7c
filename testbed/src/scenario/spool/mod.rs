//! The spool's promises: no frame whose seq was on disk is lost by a crash, an outage or a full disk, and the accounts are
//! exact all along.

mod backlog;
mod cap;
mod disk_full;
mod durability;
mod fairness;
mod kills;
mod no_room;
mod outage;
mod refusal;
mod signals;
mod tmpfs;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use backlog::{Backlog, backlog};
pub use cap::{Cap, cap};
pub use disk_full::{DiskFull, disk_full};
pub use durability::{Durability, durability};
pub use fairness::{Fairness, fairness};
pub use kills::{Kills, kills};
pub use no_room::{NoRoom, no_room};
pub use outage::{Outage, outage};
pub use refusal::{Refusal, refusal};
pub use signals::{Signals, signals};

use super::Problems;
use crate::daemon::{Daemon, Status, Totals, wait};
use crate::oracle::Entry;

/// Looks at all cameras' accounts, again and again: they must be exact each time, and `captured` never falls.
#[derive(Debug, Default)]
struct Watch {
    captured: BTreeMap<String, u64>,
    looks: u64,
}

impl Watch {
    /// The sum over all cameras.
    fn look(&mut self, daemon: &Daemon, problems: &mut Problems) -> anyhow::Result<Totals> {
        let statuses = daemon.statuses()?;
        self.judge(&statuses, problems);
        Ok(sum(&statuses))
    }

    fn judge(&mut self, statuses: &[(String, Status)], problems: &mut Problems) {
        self.looks += 1;
        for (id, Status { totals, watermark, .. }) in statuses {
            problems.check(totals.add_up(), || format!("look {}: camera {id}: {totals:?}", self.looks));
            problems.check(*watermark <= totals.captured, || {
                format!("look {}: camera {id}: the watermark is {watermark}: {totals:?}", self.looks)
            });
            let before = self.captured.insert(id.clone(), totals.captured).unwrap_or(0);
            problems.check(totals.captured >= before, || {
                format!("look {}: camera {id}: {} captured, and {before} before", self.looks, totals.captured)
            });
        }
        let gone = self.captured.keys().find(|id| !statuses.iter().any(|(found, _)| found == *id));
        problems.check(gone.is_none(), || format!("look {}: camera {gone:?} is gone", self.looks));
    }

    /// Looks until the sum fulfils a condition.
    fn until(
        &mut self,
        daemon: &Daemon,
        patience: Duration,
        problems: &mut Problems,
        mut condition: impl FnMut(&Totals) -> bool,
    ) -> anyhow::Result<Totals> {
        let mut last = Totals::default();
        let found = wait(patience, || {
            last = self.look(daemon, problems)?;
            Ok(condition(&last).then_some(last))
        });
        found.map_err(|error| daemon.explain(error)).with_context(|| format!("what was waited for; last: {last:?}"))
    }

    /// Looks for a while.
    fn during(&mut self, daemon: &Daemon, time: Duration, problems: &mut Problems) -> anyhow::Result<Totals> {
        let end = std::time::Instant::now() + time;
        loop {
            let totals = self.look(daemon, problems).map_err(|error| daemon.explain(error))?;
            if std::time::Instant::now() >= end {
                return Ok(totals);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn sum(statuses: &[(String, Status)]) -> Totals {
    statuses.iter().fold(Totals::default(), |sum, (_, Status { totals, .. })| Totals {
        captured: sum.captured + totals.captured,
        stored: sum.stored + totals.stored,
        lost: sum.lost + totals.lost,
        in_flight: sum.in_flight + totals.in_flight,
    })
}

/// The value of a metric without labels.
fn gauge(daemon: &Daemon, name: &str) -> anyhow::Result<f64> {
    let text = daemon.get("/metrics")?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.with_context(|| format!("no metric `{name}`"))?.trim().parse().with_context(|| format!("`{name}`"))
}

fn time_of(text: &str) -> anyhow::Result<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).with_context(|| format!("`{text}` is no RFC 3339 time"))
}

/// From capture to stored, milliseconds, of the frames captured at `from` or later and before `to`.
fn delays_ms(entries: &[Entry], from: OffsetDateTime, to: OffsetDateTime) -> anyhow::Result<Vec<f64>> {
    let mut delays = Vec::new();
    for entry in entries {
        let Entry::Frame(frame) = entry else { continue };
        let captured_at = time_of(&frame.captured_at)?;
        if (from..to).contains(&captured_at) {
            delays.push((time_of(&frame.stored_at)? - captured_at).as_seconds_f64() * 1e3);
        }
    }
    Ok(delays)
}

/// The value below which this share of all lies.
fn percentile(values: &mut [f64], share: f64) -> anyhow::Result<f64> {
    values.sort_by(f64::total_cmp);
    let place = (values.len() as f64 * share).ceil() as usize;
    values.get(place.saturating_sub(1)).copied().context("nothing was measured")
}

/// One digit after the point is enough for people.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let mut values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        for (share, expected) in [(0.0, 1.0), (0.5, 100.0), (0.99, 198.0), (1.0, 200.0)] {
            assert_eq!(percentile(&mut values, share).unwrap(), expected);
        }
        assert!(percentile(&mut [], 0.5).is_err());
    }
}
