//! The spool's promises: no frame whose seq was on disk is lost by a crash, an outage or a full disk, and the accounts
//! are exact all along.

mod backlog;
mod cap;
mod damaged;
mod disk_full;
mod durability;
mod fairness;
mod journal;
mod kills;
mod no_room;
mod outage;
mod refusal;
mod signals;
mod sync_errors;
mod tmpfs;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use backlog::{Backlog, backlog};
pub use cap::{Cap, cap};
pub use damaged::{Damaged, damaged};
pub use disk_full::{DiskFull, disk_full};
pub use durability::{Durability, durability};
pub use fairness::{Fairness, fairness};
pub use kills::{Kills, kills};
pub use no_room::{NoRoom, no_room};
pub use outage::{Outage, outage};
pub use refusal::{Refusal, refusal};
pub use signals::{Signals, signals};
pub use sync_errors::{SyncErrors, sync_errors};

use super::Problems;
use super::stage::BUCKET;
use crate::daemon::{Daemon, Status, Totals, wait};
use crate::gcs::GcsServer;
use crate::oracle::Entry;

/// Looks at all cameras' accounts, again and again: they must be exact each time, and `captured` never falls.
#[derive(Debug, Default)]
pub(super) struct Watch {
    captured: BTreeMap<String, u64>,
    /// The same at the last look at which no frame of any camera was lost.
    without_loss: BTreeMap<String, u64>,
    pub(super) looks: u64,
}

impl Watch {
    /// The sum over all cameras.
    pub(super) fn look(&mut self, daemon: &Daemon, problems: &mut Problems) -> anyhow::Result<Totals> {
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
        if statuses.iter().all(|(_, status)| status.totals.lost == 0) {
            self.without_loss.clone_from(&self.captured);
        }
        let gone = self.captured.keys().find(|id| !statuses.iter().any(|(found, _)| found == *id));
        problems.check(gone.is_none(), || format!("look {}: camera {gone:?} is gone", self.looks));
    }

    /// Looks until the sum fulfils a condition.
    pub(super) fn until(
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
    pub(super) fn during(
        &mut self,
        daemon: &Daemon,
        time: Duration,
        problems: &mut Problems,
    ) -> anyhow::Result<Totals> {
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

/// The value of a metric that each destination has, of the one destination there is.
fn gauge(daemon: &Daemon, name: &str) -> anyhow::Result<f64> {
    let text = daemon.get("/metrics")?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("{destination=\"default\"} "));
    value.with_context(|| format!("no metric `{name}`"))?.trim().parse().with_context(|| format!("`{name}`"))
}

pub(super) fn time_of(text: &str) -> anyhow::Result<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).with_context(|| format!("`{text}` is no RFC 3339 time"))
}

/// From capture to stored, milliseconds, of the frames captured at `from` or later and before `to`.
pub(super) fn delays_ms(entries: &[Entry], from: OffsetDateTime, to: OffsetDateTime) -> anyhow::Result<Vec<f64>> {
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

/// Captured must be what these cameras give in a time. Synthetic ones wait for a daemon that does not take their
/// frames, so that nothing else would show it. One frame of each may be on its way at either end. Returns the share.
pub(super) fn kept_up(
    problems: &mut Problems,
    what: &str,
    captured: u64,
    cameras: usize,
    fps: f64,
    seconds: f64,
) -> f64 {
    let expected = cameras as f64 * fps * seconds;
    problems.check(captured as f64 >= 0.98 * expected - cameras as f64, || {
        format!("{what}: {captured} frames of {cameras} cameras in {seconds:.1} s, {expected:.0} were given")
    });
    (captured as f64 / expected * 1e3).round() / 1e3
}

/// When the bucket has got each of its objects, by its own clock.
fn created(gcs: &GcsServer) -> BTreeMap<String, SystemTime> {
    gcs.objects(BUCKET).into_iter().map(|object| (format!("gs://{BUCKET}/{}", object.name), object.created)).collect()
}

/// Compares `stored_at` of the frames captured at `from` or later and before `to` with the bucket's own record: not
/// before the object was there, and at most a second later than the bucket took to say so. Returns how far apart they
/// are at most, milliseconds.
fn compare_stored_at(
    id: &str,
    entries: &[Entry],
    created: &BTreeMap<String, SystemTime>,
    (from, to): (OffsetDateTime, OffsetDateTime),
    latency_ms: u64,
    problems: &mut Problems,
) -> anyhow::Result<f64> {
    let (mut off, mut furthest) = (Vec::new(), 0.0_f64);
    for entry in entries {
        let Entry::Frame(frame) = entry else { continue };
        if !(from..to).contains(&time_of(&frame.captured_at)?) {
            continue;
        }
        let created = *created.get(&frame.url).with_context(|| format!("{} is not in the bucket", frame.url))?;
        let apart = (time_of(&frame.stored_at)? - OffsetDateTime::from(created)).as_seconds_f64() * 1e3;
        furthest = furthest.max(apart);
        if !(0.0..=latency_ms as f64 + 1e3).contains(&apart) {
            off.push((frame.seq, round(apart)));
        }
    }
    problems.check(off.is_empty(), || {
        format!(
            "camera {id}: `stored_at` of {} frames is not the bucket's, by (seq, ms): {:?} ...",
            off.len(),
            &off[..off.len().min(5)]
        )
    });
    Ok(furthest)
}

/// The value below which this share of all lies.
pub(super) fn percentile(values: &mut [f64], share: f64) -> anyhow::Result<f64> {
    values.sort_by(f64::total_cmp);
    let place = (values.len() as f64 * share).ceil() as usize;
    values.get(place.saturating_sub(1)).copied().context("nothing was measured")
}

/// One digit after the point is enough for people.
pub(super) fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cameras_that_were_held_up_are_seen() {
        let mut problems = Problems::default();
        assert_eq!(kept_up(&mut problems, "all of it", 98, 2, 5.0, 10.0), 0.98);
        assert!(problems.0.is_empty(), "{:?}", problems.0);
        assert_eq!(kept_up(&mut problems, "some of it", 95, 2, 5.0, 10.0), 0.95);
        assert_eq!(problems.0.len(), 1, "{:?}", problems.0);
    }

    #[test]
    fn a_stored_at_that_is_not_the_buckets_is_seen() {
        let at = |millis: u64| OffsetDateTime::UNIX_EPOCH + Duration::from_millis(millis);
        let frame = |stored: u64| {
            Entry::Frame(crate::oracle::Frame {
                session: 1,
                seq: 7,
                captured_at: at(1_000).format(&Rfc3339).unwrap(),
                stored_at: at(stored).format(&Rfc3339).unwrap(),
                url: "gs://frames/a".to_owned(),
                bytes: 1,
                crc32c: String::new(),
                width: 1,
                height: 1,
            })
        };
        let created = BTreeMap::from([("gs://frames/a".to_owned(), SystemTime::from(at(2_000)))]);
        for (stored, sound) in [(2_000, true), (3_100, true), (1_999, false), (3_101, false)] {
            let mut problems = Problems::default();
            let window = (at(0), at(1_001));
            compare_stored_at("a", &[frame(stored)], &created, window, 100, &mut problems).unwrap();
            assert_eq!(problems.0.is_empty(), sound, "{stored}: {:?}", problems.0);
        }
    }

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let mut values: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        for (share, expected) in [(0.0, 1.0), (0.5, 100.0), (0.99, 198.0), (1.0, 200.0)] {
            assert_eq!(percentile(&mut values, share).unwrap(), expected);
        }
        assert!(percentile(&mut [], 0.5).is_err());
    }
}
