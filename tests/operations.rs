//! The daemon in the hands of its operators: under a service manager, and watched by a Prometheus. Short forms of
//! scenarios that `make accept NAME=live-path-2` runs in full.

use std::path::Path;
use std::time::Duration;

use testbed::scenario::testing::{self, assert_passed};
use testbed::scenario::{self, NoRoom, Prometheus, Service, Stage};

const PROGRAM: &str = env!("CARGO_BIN_EXE_framehaul");

fn stage() -> Stage {
    testing::stage(PROGRAM)
}

#[test]
fn a_part_that_hangs_silences_the_watchdog_until_it_goes_on() {
    let plan = Service { period: Duration::from_secs(3), hang: Duration::from_secs(7) };
    assert_passed(scenario::service(&stage(), Path::new(PROGRAM), &plan));
}

#[test]
fn a_prometheus_takes_the_metrics_and_knows_the_latency_of_uploads() {
    let plan = Prometheus { cameras: 2, fps: 10, latency_ms: 30 };
    assert_passed(scenario::prometheus(&stage(), &plan));
}

#[test]
fn a_full_disk_refuses_changes_and_answers_everything_else() {
    let plan = NoRoom { disk_mib: 48, lasts: Duration::from_secs(7), answered: Duration::from_secs(3) };
    assert_passed(scenario::no_room(&stage(), &plan));
}
