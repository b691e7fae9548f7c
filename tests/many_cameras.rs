//! Many cameras at once: those that come and go, those that share a login, those that a file manages. Each test is the
//! short form of a scenario that `make accept NAME=live-path-2` runs in full.

use std::time::Duration;

use testbed::scenario::testing::{self, assert_passed};
use testbed::scenario::{self, Churn, Logins, Reload, Stage};

fn stage() -> Stage {
    testing::stage(env!("CARGO_BIN_EXE_framehaul"))
}

#[test]
fn cameras_come_and_go_and_leave_nothing() {
    assert_passed(scenario::churn(&stage(), &Churn { bystanders: 2, fps: 10, cameras: 10, at_once: 5 }));
}

#[test]
fn cameras_of_one_host_do_not_lock_it() {
    assert_passed(scenario::logins(&stage(), &Logins { cameras: 4, wrong_for: Duration::from_secs(20), most: 1 }));
}

#[test]
fn a_file_of_cameras_and_a_whole_set_change_what_they_have_to() {
    assert_passed(scenario::reload(&stage(), &Reload { cameras: 6, changed: 2, fps: 5, frames: 10 }));
}
