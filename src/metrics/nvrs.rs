//! The series of the recorders: those that the catalog has and no others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::Metrics;
use crate::model::{NvrId, UnixMicros};

/// A recorder as it is to be shown.
#[derive(Clone, Debug)]
pub struct ShownNvr {
    /// Which.
    pub nvr: NvrId,
    /// Whether it answers.
    pub up: bool,
    /// Whether it refuses user and password, or has locked us out.
    pub auth_failed: bool,
    /// The cameras that its channels are.
    pub cameras: usize,
    /// When it last answered all that it was asked.
    pub seen_at: Option<UnixMicros>,
    /// How far its clock is ahead, seconds.
    pub ahead: Option<f64>,
    /// Its disks that are not well; `None` where that is not known.
    pub disks_unwell: Option<usize>,
}

/// All recorders. Cloning is cheap; all clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Nvrs(Arc<Mutex<Shown>>);

#[derive(Debug, Default)]
struct Shown {
    nvrs: Vec<ShownNvr>,
    /// How many are in each state.
    states: Vec<(&'static str, usize)>,
}

impl Nvrs {
    fn lock(&self) -> MutexGuard<'_, Shown> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metrics {
    /// Shows these recorders and forgets all others; `states` is how many of them are in each state.
    pub fn show_nvrs(
        &self,
        nvrs: impl IntoIterator<Item = ShownNvr>,
        states: impl IntoIterator<Item = (&'static str, usize)>,
    ) {
        *self.0.nvrs.lock() = Shown { nvrs: nvrs.into_iter().collect(), states: states.into_iter().collect() };
    }
}

/// A metric family with a series for each recorder.
struct Family {
    name: &'static str,
    help: &'static str,
    read: fn(&ShownNvr) -> Option<f64>,
}

const FAMILIES: [Family; 6] = [
    Family {
        name: "framehaul_nvr_up",
        help: "1 while the recorder answers; while it does not, its cameras wait and are not wanted.",
        read: |nvr| Some(f64::from(nvr.up)),
    },
    Family {
        name: "framehaul_nvr_auth_failed",
        help: "1 while the recorder refuses user and password, or has locked us out.",
        read: |nvr| Some(f64::from(nvr.auth_failed)),
    },
    Family {
        name: "framehaul_nvr_cameras",
        help: "Cameras that the recorder's channels are.",
        read: |nvr| Some(nvr.cameras as f64),
    },
    Family {
        name: "framehaul_nvr_last_look_timestamp_seconds",
        help: "When the recorder last answered all that it was asked, in Unix time; none before the first time.",
        read: |nvr| nvr.seen_at.map(UnixMicros::as_secs_f64),
    },
    Family {
        name: "framehaul_nvr_clock_offset_seconds",
        help: "How far the recorder's clock is ahead of this machine's; none where it does not tell the time.",
        read: |nvr| nvr.ahead,
    },
    Family {
        name: "framehaul_nvr_disks_unwell",
        help: "Disks of the recorder that it does not say are well; none before they are known.",
        read: |nvr| nvr.disks_unwell.map(|count| count as f64),
    },
];

const STATES: &str = "framehaul_nvrs";
const STATES_HELP: &str = "Recorders of the catalog, by what they are doing.";

/// Reads all recorders at a scrape.
pub(super) struct NvrCollector {
    nvrs: Nvrs,
    descs: Vec<Desc>,
}

impl NvrCollector {
    /// A collector of these recorders.
    pub(super) fn new(nvrs: Nvrs) -> prometheus::Result<Self> {
        let desc = |name: &str, help: &str, label: &str| {
            Desc::new(name.to_owned(), help.to_owned(), vec![label.to_owned()], Default::default())
        };
        let mut descs = vec![desc(STATES, STATES_HELP, "state")?];
        for family in &FAMILIES {
            descs.push(desc(family.name, family.help, "nvr")?);
        }
        Ok(Self { nvrs, descs })
    }
}

impl Collector for NvrCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let shown = self.nvrs.lock();
        let counts = shown.states.iter().map(|(state, count)| gauge("state", state, *count as f64)).collect();
        let mut families = vec![family(STATES, STATES_HELP, counts)];
        for Family { name, help, read } in &FAMILIES {
            let metrics = shown.nvrs.iter().filter_map(|nvr| Some(gauge("nvr", nvr.nvr.as_str(), read(nvr)?)));
            families.push(family(name, help, metrics.collect()));
        }
        families
    }
}

fn family(name: &str, help: &str, metrics: Vec<Metric>) -> MetricFamily {
    let mut found = MetricFamily::default();
    found.set_name(name.to_owned());
    found.set_help(help.to_owned());
    found.set_field_type(MetricType::GAUGE);
    found.set_metric(metrics);
    found
}

fn gauge(label: &str, of: &str, value: f64) -> Metric {
    let mut pair = LabelPair::default();
    pair.set_name(label.to_owned());
    pair.set_value(of.to_owned());
    let mut metric = Metric::from_label(vec![pair]);
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    metric.set_gauge(gauge);
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorder_has_its_series_while_it_is_there_and_none_behind_it() {
        let metrics = Metrics::new().unwrap();
        let shown = ShownNvr {
            nvr: "hall".parse().unwrap(),
            up: true,
            auth_failed: false,
            cameras: 16,
            seen_at: Some(UnixMicros(1_500_000)),
            ahead: Some(-2.5),
            disks_unwell: Some(0),
        };
        let lines = |part: &str| {
            let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
            let lines = text.lines().filter_map(|line| line.strip_prefix("framehaul_"));
            lines.filter(|line| line.contains(part)).map(str::to_owned).collect::<Vec<_>>()
        };
        let yard = ShownNvr { nvr: "yard".parse().unwrap(), seen_at: None, ahead: None, ..shown.clone() };
        metrics.show_nvrs([shown, yard], [("online", 2), ("locked", 0)]);
        assert_eq!(
            lines("nvr=\"hall\""),
            [
                r#"nvr_auth_failed{nvr="hall"} 0"#,
                r#"nvr_cameras{nvr="hall"} 16"#,
                r#"nvr_clock_offset_seconds{nvr="hall"} -2.5"#,
                r#"nvr_disks_unwell{nvr="hall"} 0"#,
                r#"nvr_last_look_timestamp_seconds{nvr="hall"} 1.5"#,
                r#"nvr_up{nvr="hall"} 1"#,
            ]
        );
        assert_eq!(lines("nvr=\"yard\"").len(), 4);
        assert_eq!(lines("nvrs{state="), [r#"nvrs{state="locked"} 0"#, r#"nvrs{state="online"} 2"#]);
        metrics.show_nvrs([], []);
        assert_eq!(lines("nvr=\"").len(), 0);
    }
}
