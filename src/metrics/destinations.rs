//! The series of a destination's gate.

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Registry};

use super::{Metrics, opts};
use crate::delivery::DestinationState;

/// What is exported of the gates.
pub(super) struct Destinations {
    state: IntGaugeVec,
    /// No series while there is no limit.
    rate_limit: GaugeVec,
    probes: IntCounterVec,
}

impl Destinations {
    /// Declares them in a registry.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let series = Self {
            state: IntGaugeVec::new(
                opts(
                    "destination_state",
                    "1 for the state that the destination is in (open, limited, down, paused), 0 for the others.",
                ),
                &["destination", "state"],
            )?,
            rate_limit: GaugeVec::new(
                opts(
                    "destination_rate_limit",
                    "Requests a second that may be made to the destination; none while nothing limits them.",
                ),
                &["destination"],
            )?,
            probes: IntCounterVec::new(
                opts("destination_probes_total", "Attempts that were made to see whether the destination is back."),
                &["destination"],
            )?,
        };
        registry.register(Box::new(series.state.clone()))?;
        registry.register(Box::new(series.rate_limit.clone()))?;
        registry.register(Box::new(series.probes.clone()))?;
        Ok(series)
    }
}

impl Metrics {
    /// How a destination stands.
    pub fn set_destination(&self, destination: &str, state: DestinationState, rate: Option<f64>) {
        let series = &self.0.destinations;
        for other in DestinationState::ALL {
            let gauge = series.state.with_label_values(&[destination, other.as_str()]);
            gauge.set(i64::from(other == state));
        }
        match rate {
            Some(rate) => series.rate_limit.with_label_values(&[destination]).set(rate),
            // An error says that there was none.
            None => drop(series.rate_limit.remove_label_values(&[destination])),
        }
        series.probes.with_label_values(&[destination]);
    }

    /// A destination is probed.
    pub fn destination_probe(&self, destination: &str) {
        self.0.destinations.probes.with_label_values(&[destination]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_state_is_the_present_one_and_a_limit_is_there_while_there_is_one() {
        let metrics = Metrics::new().unwrap();
        let lines = || {
            let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
            let lines = text.lines().filter_map(|line| line.strip_prefix("framehaul_destination_"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        metrics.set_destination("gs://a", DestinationState::Limited, Some(12.5));
        metrics.destination_probe("gs://a");
        assert_eq!(
            lines(),
            [
                r#"probes_total{destination="gs://a"} 1"#,
                r#"rate_limit{destination="gs://a"} 12.5"#,
                r#"state{destination="gs://a",state="down"} 0"#,
                r#"state{destination="gs://a",state="limited"} 1"#,
                r#"state{destination="gs://a",state="open"} 0"#,
                r#"state{destination="gs://a",state="paused"} 0"#,
            ]
        );
        metrics.set_destination("gs://a", DestinationState::Open, None);
        assert!(lines().contains(&r#"state{destination="gs://a",state="open"} 1"#.to_owned()), "{:?}", lines());
        assert!(!lines().iter().any(|line| line.starts_with("rate_limit")), "{:?}", lines());
    }
}
