//! The series of the cameras: those of the live ones and no others.
//!
//! A camera's totals come from one snapshot of its ledger, so that they agree at every scrape. The set of cameras is
//! replaced as a whole by the Supervisor, so that nothing is left of a camera that was deleted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::journal::{Accounts, Ledger};
use crate::model::{CameraId, LostReason};

/// Why a camera's capture ended, as it stands in metrics: the kinds of error that call for different hands, `other` for
/// the rest. Each is a series of every camera.
const REASONS: [&str; 9] =
    ["auth", "capture_crash", "eof", "other", "panic", "protocol", "refused", "stall", "timeout"];

/// A live camera as it is to be shown.
#[derive(Clone, Debug)]
pub struct ShownCamera {
    /// Its accounts.
    pub ledger: Arc<Ledger>,
    /// Whether its stream arrives.
    pub up: bool,
    /// Whether its pictures have shown the same for too long.
    pub frozen: bool,
    /// Whether its stream should arrive: not while it is paused, its source has ended, or its recorder is away.
    pub wanted: bool,
    /// Whether the camera has refused user and password and not accepted them since.
    pub auth_failed: bool,
}

#[derive(Debug)]
struct Series {
    shown: ShownCamera,
    reconnects: [u64; REASONS.len()],
}

/// All live cameras. Cloning is cheap; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Cameras(Arc<Mutex<BTreeMap<CameraId, Series>>>);

impl Cameras {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<CameraId, Series>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows these cameras; what was counted of others is forgotten.
    pub fn show(&self, cameras: impl IntoIterator<Item = ShownCamera>) {
        let mut map = self.lock();
        let mut before = std::mem::take(&mut *map);
        for shown in cameras {
            let id = shown.ledger.camera().clone();
            let reconnects = before.remove(&id).map_or_else(Default::default, |series| series.reconnects);
            map.insert(id, Series { shown, reconnects });
        }
    }

    /// Counts that a camera's capture ended and is scheduled again.
    pub fn reconnect(&self, camera: &CameraId, kind: &str) {
        let place = |reason: &str| REASONS.iter().position(|known| *known == reason);
        let place = place(kind).or_else(|| place("other")).expect("it is among them");
        if let Some(series) = self.lock().get_mut(camera) {
            series.reconnects[place] += 1;
        }
    }
}

/// A metric family with a series for each camera.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    /// Tells the series of one camera apart, where there is more than one.
    by: Option<&'static str>,
    read: fn(&Series, &Accounts) -> Vec<(&'static str, f64)>,
}

fn one(value: f64) -> Vec<(&'static str, f64)> {
    vec![("", value)]
}

const FAMILIES: [Family; 10] = [
    Family {
        name: "framehaul_camera_up",
        help: "1 while the camera's stream arrives.",
        kind: MetricType::GAUGE,
        by: None,
        read: |series, _| one(f64::from(series.shown.up)),
    },
    Family {
        name: "framehaul_camera_frozen",
        help: "1 while the stream arrives and has shown the same picture for longer than capture.frozen_after.",
        kind: MetricType::GAUGE,
        by: None,
        read: |series, _| one(f64::from(series.shown.frozen)),
    },
    Family {
        name: "framehaul_camera_wanted",
        help: "1 while the camera's stream should arrive, 0 while it is paused, its source has ended, or its recorder is away.",
        kind: MetricType::GAUGE,
        by: None,
        read: |series, _| one(f64::from(series.shown.wanted)),
    },
    Family {
        name: "framehaul_camera_auth_failed",
        help: "1 from when the camera refuses user and password until it streams again.",
        kind: MetricType::GAUGE,
        by: None,
        read: |series, _| one(f64::from(series.shown.auth_failed)),
    },
    Family {
        name: "framehaul_camera_reconnects_total",
        help: "Times a camera's capture ended and was scheduled again, by reason.",
        kind: MetricType::COUNTER,
        by: Some("reason"),
        read: |series, _| REASONS.into_iter().zip(series.reconnects.map(|count| count as f64)).collect(),
    },
    Family {
        name: "framehaul_camera_frames_captured_total",
        help: "Frames that were given a place in the camera's order.",
        kind: MetricType::COUNTER,
        by: None,
        read: |_, accounts| one(accounts.totals.captured as f64),
    },
    Family {
        name: "framehaul_camera_frames_stored_total",
        help: "Frames that are in the bucket.",
        kind: MetricType::COUNTER,
        by: None,
        read: |_, accounts| one(accounts.totals.stored as f64),
    },
    Family {
        name: "framehaul_camera_frames_lost_total",
        help: "Frames that could not be kept, by reason; the list names each of them.",
        kind: MetricType::COUNTER,
        by: Some("reason"),
        read: |_, accounts| {
            LostReason::ALL.into_iter().map(|why| (why.as_str(), accounts.lost_by[why as usize] as f64)).collect()
        },
    },
    Family {
        name: "framehaul_camera_frames_in_flight",
        help: "Frames whose outcome is not known yet.",
        kind: MetricType::GAUGE,
        by: None,
        read: |_, accounts| one(accounts.totals.in_flight as f64),
    },
    Family {
        name: "framehaul_camera_last_frame_timestamp_seconds",
        help: "When the camera's newest frame was captured, in Unix time.",
        kind: MetricType::GAUGE,
        by: None,
        read: |_, accounts| accounts.last_captured_at.map_or_else(Vec::new, |at| one(at.as_secs_f64())),
    },
];

/// Reads all cameras at a scrape.
pub struct CameraCollector {
    cameras: Cameras,
    descs: Vec<Desc>,
}

impl CameraCollector {
    /// A collector of these cameras.
    ///
    /// # Errors
    ///
    /// When a name is none.
    pub fn new(cameras: Cameras) -> prometheus::Result<Self> {
        let desc = |family: &Family| {
            let labels = ["camera"].into_iter().chain(family.by).map(str::to_owned).collect();
            Desc::new(family.name.to_owned(), family.help.to_owned(), labels, Default::default())
        };
        Ok(Self { cameras, descs: FAMILIES.iter().map(desc).collect::<prometheus::Result<_>>()? })
    }
}

impl Collector for CameraCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let cameras = self.cameras.lock();
        // One snapshot for all families, or the totals of a camera would not agree.
        let read: Vec<_> = cameras.iter().map(|(id, series)| (id, series, series.shown.ledger.accounts())).collect();
        let family = |family: &Family| {
            let metrics = read.iter().flat_map(|(id, series, accounts)| {
                (family.read)(series, accounts).into_iter().map(|(by, value)| metric(family, id, by, value))
            });
            let mut found = MetricFamily::default();
            found.set_name(family.name.to_owned());
            found.set_help(family.help.to_owned());
            found.set_field_type(family.kind);
            found.set_metric(metrics.collect());
            found
        };
        FAMILIES.iter().map(family).collect()
    }
}

fn metric(family: &Family, camera: &CameraId, by: &str, value: f64) -> Metric {
    let pair = |name: &str, value: &str| {
        let mut label = LabelPair::default();
        label.set_name(name.to_owned());
        label.set_value(value.to_owned());
        label
    };
    let more = family.by.map(|name| pair(name, by));
    let mut metric = Metric::from_label([pair("camera", camera.as_str())].into_iter().chain(more).collect());
    if family.kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::model::{Outcome, SeqRange, Settled, UnixMicros};

    /// What a camera may cost a Prometheus.
    const MOST_SERIES: usize = 30;

    fn shown(ledger: &Arc<Ledger>) -> ShownCamera {
        ShownCamera { ledger: ledger.clone(), up: true, frozen: false, wanted: true, auth_failed: false }
    }

    fn ledger(id: &str) -> Arc<Ledger> {
        Arc::new(Ledger::new(id.parse().unwrap()))
    }

    fn series(metrics: &Metrics, part: &str) -> Vec<(String, u64)> {
        let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#') && line.contains(part));
        lines
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                (name.to_owned(), value.parse::<f64>().unwrap() as u64)
            })
            .collect()
    }

    #[test]
    fn lost_reasons_stand_in_the_order_of_their_declaration() {
        for (place, reason) in LostReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }

    #[test]
    fn a_camera_with_every_reason_stays_within_its_series_and_its_totals_agree() {
        let metrics = Metrics::new().unwrap();
        let ledger = ledger("gate");
        metrics.show_cameras([shown(&ledger)]);
        ledger.refill(SeqRange { first: 1, last: 100 });
        for (nth, reason) in (1..).zip(LostReason::ALL) {
            let seqs = ledger.issue(nth, Some(UnixMicros(1_000_000))).unwrap();
            let outcome = Outcome::Lost { reason, maybe_stored: false };
            ledger.settle(&Settled { camera: ledger.camera().clone(), seqs, session: Some(1), outcome, counted: true });
        }
        ledger.issue(3, None).unwrap();
        for kind in REASONS.into_iter().chain(["not_found", "capture_missing"]) {
            metrics.reconnect(ledger.camera(), kind);
        }
        let all = series(&metrics, "camera=\"gate\"");
        assert!(all.len() <= MOST_SERIES, "{} series: {all:?}", all.len());

        let sum = |name: &str| all.iter().filter(|(series, _)| series.starts_with(name)).map(|(_, v)| v).sum::<u64>();
        let lost: u64 = (1..=LostReason::ALL.len() as u64).sum();
        assert_eq!(sum("framehaul_camera_frames_lost_total"), lost);
        assert_eq!(sum("framehaul_camera_frames_captured_total"), lost + 3);
        assert_eq!(sum("framehaul_camera_frames_in_flight"), 3);
        assert_eq!(sum("framehaul_camera_reconnects_total"), REASONS.len() as u64 + 2);
        assert_eq!(series(&metrics, "camera_reconnects_total{camera=\"gate\",reason=\"other\"}")[0].1, 3);
    }

    #[test]
    fn a_frozen_camera_shows_it() {
        let metrics = Metrics::new().unwrap();
        let (gate, yard) = (ledger("gate"), ledger("yard"));
        metrics.show_cameras([ShownCamera { frozen: true, ..shown(&gate) }, shown(&yard)]);
        let found: Vec<u64> =
            series(&metrics, "framehaul_camera_frozen{").into_iter().map(|(_, value)| value).collect();
        assert_eq!(found, [1, 0]);
    }

    #[test]
    fn nothing_is_left_of_a_camera_that_was_deleted() {
        let metrics = Metrics::new().unwrap();
        let (gate, yard) = (ledger("gate"), ledger("yard"));
        metrics.show_cameras([shown(&gate), shown(&yard)]);
        for camera in [&gate, &yard] {
            metrics.reconnect(camera.camera(), "stall");
        }
        assert_eq!(series(&metrics, "camera=\"gate\"").len(), series(&metrics, "camera=\"yard\"").len());

        metrics.show_cameras([shown(&yard)]);
        metrics.reconnect(gate.camera(), "stall");
        assert_eq!(series(&metrics, "gate"), []);
        let stalls = "camera_reconnects_total{camera=\"yard\",reason=\"stall\"}";
        assert_eq!(series(&metrics, stalls)[0].1, 1);
    }
}
